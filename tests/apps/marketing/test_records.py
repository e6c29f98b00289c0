"""What leaves the house: CSV no spreadsheet runs, HTML no browser runs, an audit that answers why."""

from __future__ import annotations

import csv
import html.parser
import json
import re

import pytest

from headwater_marketing import outputs, preview
from headwater_marketing.audience import Task
from headwater_marketing.channels import CHANNELS
from headwater_marketing.plan import Fact, Plan, Slot
from headwater_marketing.records import FORMULA, Record, body_html, cell, cells, columns, of

EVIL = '"><script>alert(1)</script><img src=x onerror=y>'


def _record(channel, text=EVIL, customer="=cmd|' /C calc'!A1"):
    plan = Plan("3", (Fact(Slot("brand", "name"), text, "b"), Fact(Slot("product", "name"), text, "t"),
                      Fact(Slot("url", "url"), "https://a.example/?x=1&y=2", "l")), {"name": EVIL})  # fmt: skip
    task = Task(
        3,
        customer,
        channel,
        1,
        plan,
        offer="=loyal",
        offer_rule="tenure >= 12",
        segment="s",
        segment_rule="everyone",
        fields=("tenure",),
    )
    least = {part.name: tuple(f"{text}{i}" for i in range(part.least)) for part in CHANNELS[channel].parts}
    return Record(task, CHANNELS[channel], least, least, "templates", 7, ("offer.1",))


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.marks, self.words = set(), set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.marks |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words += data


@pytest.mark.parametrize("channel", CHANNELS)
def test_previews_show_text_as_text(channel):
    made = _Tags()
    made.feed(preview.render(_record(channel)))
    assert made.tags <= {"figure", "figcaption", "div", "span", "b"} and made.marks <= {"style", "dir"}
    assert EVIL in made.words and "http" not in preview.render(_record(channel, "tea"))


def test_a_mail_as_html():
    record = _record("email")
    record.message["body"] = (f"{EVIL}\n\nSee: https://a.example/?x=1&y=2\nBye",)
    made = _Tags()
    made.feed(body_html(record))
    assert made.tags == {"p", "a", "br"} and made.marks == {"href"} and EVIL in made.words
    assert '<a href="https://a.example/?x=1&amp;y=2">' in body_html(record)


def test_an_address_that_begins_like_another_is_a_link_of_its_own():
    record = _record("email")
    record.message["body"] = ("See https://a.example/u. Or (https://a.example/u)!\n\nUnsubscribe: https://a.example/unsub?x=1&y",)
    links = re.findall(r'href="([^"]*)"', body_html(record))
    assert links == ["https://a.example/u", "https://a.example/u", "https://a.example/unsub?x=1&amp;y"]


def test_a_telephone_number_is_no_formula():
    assert cell("+4915112345678") == "+4915112345678" and cell("+1+1") == "'+1+1"


@pytest.mark.parametrize("start", [*FORMULA, " =", "\u00a0+"])
def test_no_cell_is_a_formula(start):
    assert cell(start + "1+1") == "'" + start + "1+1" and cell("tea" + start) == "tea" + start


@pytest.mark.parametrize("channel", CHANNELS)
def test_csv_reads_back(channel, tmp_path):
    texts = ["=1+1", 'a,"b"\r\nc', "tea"]
    plain = [{"row": 3, "draw": 0, **_record(channel, text).plain()} for text in texts]
    spare = plain[0] | {"assigned": False}
    assert [path.name for path in outputs.write([*plain, spare], tmp_path)] == ["audit.jsonl", f"{channel}.csv"]
    with open(tmp_path / f"{channel}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == columns(CHANNELS[channel]) and rows[1:] == [cells(_record(channel, text)) for text in texts]
    assert [cells(of(line)) for line in plain] == rows[1:]
    assert all(len(row) == len(rows[0]) and not any(c.startswith(FORMULA) for c in row) for row in rows)
    first = (tmp_path / f"{channel}.csv").read_bytes()
    outputs.write(plain, tmp_path)
    assert first == (tmp_path / f"{channel}.csv").read_bytes()


def test_the_audit_says_why(tmp_path):
    record = _record("sms", "tea", "C7")
    outputs.write([{"row": 2, "draw": 0, **record.plain()}], tmp_path)
    entry = json.loads((tmp_path / outputs.AUDIT).read_text("utf-8"))
    assert entry["facts"]["product"] == {"text": "tea", "from": "t", "kind": "name"}
    assert entry["left_out"] == {"name": EVIL} and entry["lines"] == "offer.1" and entry["fields"] == "tenure"
    for words in ("Row 3", "'C7'", "tenure >= 12", "product 'tea' from t", "templates", "seed 7", "variant 1"):
        assert words in entry["why"]

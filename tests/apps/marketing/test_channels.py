"""The counters against counts made by hand and by a second, slower way; each ad rule against the policy's own example."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_marketing.channels import CHANNELS, GSM_BASIC, GSM_EXTENSION, columns, sms

_TEXT = st.text(st.sampled_from("ab é€[]~\n`ç🎉é漢"), max_size=330)


def test_the_alphabet_is_the_standards():
    """127 characters and the escape make 128 codes; the extension table adds ten (one of them the page break)."""
    assert len(GSM_BASIC) == 127 and len(GSM_EXTENSION) == 10 and not GSM_BASIC & GSM_EXTENSION
    assert "Ç" in GSM_BASIC and "ç" not in GSM_BASIC and "`" not in GSM_BASIC and "\t" not in GSM_BASIC


@pytest.mark.parametrize(
    ("text", "encoding", "units", "parts"),
    [
        ("", "GSM-7", 0, 1),
        ("a" * 159, "GSM-7", 159, 1),
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("a" * 158 + "€", "GSM-7", 160, 1),
        ("a" * 159 + "€", "GSM-7", 161, 2),
        ("{" * 80, "GSM-7", 160, 1),
        ("{" * 81, "GSM-7", 162, 2),
        ("a" * 306, "GSM-7", 306, 2),
        ("a" * 307, "GSM-7", 307, 3),
        ("a" * 152 + "€" + "a" * 151, "GSM-7", 305, 2),  # the pair moves on: 152 + (2 + 151)
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3),  # 306 septets would fill two parts, but for the one that is lost
        ("é" * 160, "GSM-7", 160, 1),
        ("ê" * 70, "UCS-2", 70, 1),
        ("ê" * 71, "UCS-2", 71, 2),
        ("a" * 159 + "’", "UCS-2", 160, 3),  # a typographic apostrophe turns 160 characters into three parts
        ("a" * 68 + "🎉", "UCS-2", 70, 1),
        ("a" * 69 + "🎉", "UCS-2", 71, 2),
        ("ê" * 66 + "🎉" + "ê" * 66, "UCS-2", 134, 3),  # 134 units, but a surrogate pair is not divided
        ("ê" * 65 + "🎉" + "ê" * 67, "UCS-2", 134, 2),
        ("€" * 159 + "🎉", "UCS-2", 161, 3),
    ],
)
def test_sms_at_the_edges(text, encoding, units, parts):
    found = sms(text)
    assert (found.encoding, found.units, found.parts) == (encoding, units, parts)


@given(_TEXT)
def test_sms_as_bytes(text):
    """A second count: really encode, really cut."""
    extra = "\f^{}\\[~]|€"
    if all(c in GSM_BASIC or c in extra for c in text):
        cells, alone, each = [[0x1B, c] if c in extra else [c] for c in text], 160, 153
    else:
        cells, alone, each = (
            [[c.encode("utf-16-be")[i : i + 2] for i in range(0, len(c.encode("utf-16-be")), 2)] for c in text],
            70,
            67,
        )
    stream = list(chain(*cells))
    if len(stream) <= alone:
        expected = 1
    else:
        cut: list[list[object]] = [[]]
        for cell in cells:
            if len(cut[-1]) + len(cell) > each:
                cut.append([])
            cut[-1] += cell
        assert list(chain(*cut)) == stream
        expected = len(cut)
    assert (sms(text).units, sms(text).parts) == (len(stream), expected)


def test_wide_characters_count_twice_in_ads():
    headline = CHANNELS["ad"].part("headline")
    assert columns("ｶ") == 1 and columns("カ") == 2 and columns("Ａ") == 2 and columns("é") == 1
    assert (
        headline.fits("漢" * 15) and not headline.fits("漢" * 15 + "a") and headline.fits("a" * 30) and not headline.fits("a" * 31)
    )
    assert CHANNELS["ad"].part("description").fits("한" * 45) and not CHANNELS["ad"].part("description").fits("한" * 46)


def _ad(headline="Cheap laptops for sale", description="Find the right laptop"):
    return {"headline": [headline, "Second line", "Third line"], "description": [description, "Another"]}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (_ad("Big Sale On Now!"), "exclamation mark in a headline"),
        (_ad(description="flowers!!"), "gimmicky punctuation"),
        (_ad(description="Sale..."), "gimmicky punctuation"),
        (_ad("F.L.O.W.E.R.S."), "gimmicky punctuation"),
        (_ad("*flowers*"), "gimmicky punctuation"),
        (_ad("Flowers 🌹"), "unsupported character"),
        (_ad("ｶﾒﾗ"), "unsupported character"),
        (_ad("flowers²"), "unsupported character"),
        (_ad("FREE SHIPPING"), "capitals"),
        (_ad("FrEe shIpPing"), "capitals"),
        (_ad(description="Call 0171 123 4567"), "phone number"),
        (_ad(description="Click here"), "generic call"),
        (_ad("x" * 31), "31 columns; at most 30"),
        (_ad(description="x" * 91), "91 columns; at most 90"),
        (_ad("Second line"), "same line twice"),
        ({"headline": ["One", "Two"], "description": ["A", "B"]}, "2 texts; expected 3 to 15"),
        ({"headline": [f"Line {i}" for i in range(16)], "description": ["A", "B"]}, "16 texts"),
        ({"headline": ["a", "b", "c"], "description": ["One!", "Two!"]}, "more than one exclamation"),
        ({"headline": ["a", "b", "c"], "description": ["d", "e"], "title": ["f"]}, "no part of this channel"),
        ({"headline": ["a", "b", " "], "description": ["d", "e"]}, "empty"),
    ],
)
def test_ad_rules(message, words):
    found = CHANNELS["ad"].problems(message, message)
    assert any(words in said for _, _, said in found), found


@pytest.mark.parametrize(
    "description", ["Great value on 5* hotels?", "Prices from $10.99 - $20.99", "Tea® and Coffee™ at 20°", "USA and DVD"]
)
def test_what_ads_may_say(description):
    """Abbreviations, trademarks and prices stand; the star rating is the one standard use we refuse all the same."""
    found = CHANNELS["ad"].problems(_ad(description=description), _ad(description=description))
    assert [said for _, _, said in found if "'*'" not in said] == []


def test_a_line_break_never_reaches_a_subject():
    found = CHANNELS["email"].problems({"subject": ["Hi\r\nBcc: x"], "preheader": ["b"], "body": ["c\nd"]}, {})
    assert [(part, kind) for part, kind, _ in found] == [("subject", "rule")]


def test_limits_can_be_set():
    two = CHANNELS["sms"].limited({"text": 2})
    assert (
        two.part("text").fits("a" * 306)
        and not two.part("text").fits("a" * 307)
        and not CHANNELS["sms"].part("text").fits("a" * 161)
    )

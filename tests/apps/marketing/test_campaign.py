"""A campaign end to end with the templates and with stand-ins for a model, an honest and a lying one: what changes which copy, and
that nothing wrong gets out."""

from __future__ import annotations

import csv
import functools
import json
from itertools import combinations
from pathlib import Path

import pandas
import pytest

from headwater.errors import HeadwaterError
from headwater_marketing import asks, brief, tables
from headwater_marketing.audience import Seen, variant
from headwater_marketing.campaign import Campaign, Mailing
from headwater_marketing.channels import CHANNELS
from headwater_marketing.records import Record, of
from headwater_marketing.validator import judge
from headwater_marketing.writing import ATTEMPTS, TEMPLATES, Author, Writer, apart, number

EXAMPLES = Path(brief.__file__).parent / "examples"
BRIEF = brief.read(EXAMPLES / "brief.toml")
EVERYBODY = list(tables.rows(EXAMPLES / "customers.csv", BRIEF.reads))
CUSTOMERS = [row for i, row in enumerate(EVERYBODY) if i < 6 or i % 5 == 0 or row["customer"] in ("1022", "1024", "1028")]
PRODUCTS = tables.keyed(EXAMPLES / "products.csv", "sku", ["title", "price", "feature"])


SMALL = {"name": "tea", "channels": ["push"], "facts": {"product": "Assam"}, "columns": {"key": "id", "consent": "ok"}}
GOODS = {
    "facts": {},
    "products": {"key": "k", "facts": {"product": "t"}},
    "columns": {"key": "id", "consent": "ok", "product": "id"},
}


class Stand(Author):
    """A model in one function of (line, a number drawn for it, attempt)."""

    def __init__(self, say):
        self.say, self.name, self.asked = say, "stand-in", 0

    def rule(self, ask, plan, order, like):
        return None

    def write(self, lines, attempt):
        self.asked += len(lines)
        return [self.say(line, number(f"{draft.key}{line.part}{line.place}{attempt}"), attempt) for draft, line in lines]

    def doubts(self, lines, texts):
        for _, line in lines:
            line.score = -1.0
        return ["unlikely" if "doubtful" in text else None for text in texts]


WORDS = "calmly today here with care, for you and yours as it is said among friends of ours who like what they like".split()


def honest(line, drawn, attempt):
    """Plain words around the placeholders."""
    words = [WORDS[(drawn >> (5 * i)) % len(WORDS)] for i in range(2)]
    return " ".join([*words, *("{" + name + "}" for name in asks.PLACEHOLDER.findall(line.text)), "."])


def lying(line, drawn, attempt):
    text = honest(line, drawn, attempt)
    return [text + " 90% off!", text.replace("{", "", 1), text + " {made_up}", "the best ever", "", text + " " + text, text][
        drawn % 7
    ]


@functools.cache
def usual(say=None):
    return written(list(CUSTOMERS), say=say)


def written(values=CUSTOMERS, products=PRODUCTS, say=None, variants=None, plan=BRIEF, seed=0, floor=0.3):
    """{(customer, channel, variant): record} and what passed."""
    if values is CUSTOMERS and (products, variants, plan, seed, floor) == (PRODUCTS, None, BRIEF, 0, 0.3):
        return usual(say)
    mailing = Mailing(plan, products)
    writer = Writer(Stand(say) if say else None, seed, apart=floor)
    rows = [(i, row, decision) for i, (row, decision) in enumerate(zip(values, mailing.decide(iter(values)), strict=True))]
    made = [result for _, result in mailing.messages(rows, writer, variants)]
    records = [r for r in made if isinstance(r, Record)]
    return {(r.task.customer, r.task.channel, r.task.variant): r for r in records}, [r for r in made if not isinstance(r, Record)]


def texts(values=CUSTOMERS, **more):
    return {key: record.message for key, record in written(values, **more)[0].items()}


@pytest.mark.parametrize("say", [None, honest, lying])
def test_nothing_wrong_gets_out(say):
    records, passed = written(EVERYBODY if say is lying else CUSTOMERS, say=say)
    assert len(records) > (80 if say is lying else 40)
    for record in records.values():
        held = record.task.plan
        assert judge(record.message, held, record.channel, BRIEF.policy) == ()
        assert all(fact.slot.name in held.names for fact in held.facts if fact.slot.least)
        row = (EVERYBODY if say is lying else CUSTOMERS)[record.task.row]
        assert row[BRIEF.columns.consent[record.task.channel]].lower() in ("yes", "true")
    assert {p.reason for p in passed} >= {"consent", "duplicate", "cap", "malformed"}
    assert not {"1029", "1030", "1015"} & {customer for customer, *_ in records}


def test_an_honest_model_writes_and_a_liar_falls_back():
    fine, _ = written(say=honest)
    assert {r.source for r in fine.values()} <= {"stand-in", "stand-in and templates"}
    assert all(r.score == r.borrowed - r.texts for r in fine.values() if r.borrowed < r.texts)
    assert sum(r.borrowed for r in fine.values()) < 0.1 * sum(r.texts for r in fine.values())
    false, _ = written(say=lambda line, drawn, attempt: honest(line, drawn, attempt) + " 90% off, the best!")
    assert false.keys() and all(r.source == TEMPLATES and r.tries == ATTEMPTS and r.borrowed == r.texts for r in false.values())
    assert all(any(word.startswith(("added", "claim")) for word in r.rejected) for r in false.values())
    assert {k: r.message for k, r in false.items()} == texts()  # what is left is what templates would have sent
    odd, _ = written(say=lambda line, drawn, attempt: honest(line, drawn, attempt) + " doubtful")
    assert all(r.source == TEMPLATES and r.rejected == ("unlikely",) for r in odd.values())
    mixed, _ = written(say=lying)
    assert len({r.source for r in mixed.values()}) == 3


@pytest.mark.parametrize("say", [None, lying])
def test_rows_do_not_touch_each_other(say):
    whole = texts(say=say)
    first = [row for row in CUSTOMERS if row["customer"] != "1001"]  # a duplicate's other row is its own matter
    stranger = CUSTOMERS[3] | {"customer": "77", "contact": "new@mail.example"}
    for values in (first[::-1], first[5:], [*first[:9], stranger, *first[9:]]):
        found = texts(values, say=say)
        kept = {key: text for key, text in found.items() if key[0] not in ("77", "1021")}
        assert kept and all(whole[key] == text for key, text in kept.items())


CHANGES = {
    "first_name": ({"first_name": "Olivia"}, None),
    "a fact of the product": ({}, {"price": "51.00"}),
    "an unread column": ({"notes": "tell nobody"}, None),
    "consent of another channel": ({"ok_email": "no"}, None),
}


@pytest.mark.parametrize("say", [None, honest])
@pytest.mark.parametrize("change", CHANGES)
def test_a_field_changes_exactly_the_copy_that_uses_it(say, change):
    before, _ = written(say=say)
    row, product = CHANGES[change]
    named = next(key[0] for key, r in before.items() if "first_name" in r.task.plan.names and r.task.product == "K1")
    values = [values | row if values["customer"] == named else values for values in CUSTOMERS]
    goods = {key: item | (product if product and key == "K1" else {}) for key, item in PRODUCTS.items()}
    after, _ = written(values, goods, say=say)
    fields = {f"product.{name}" for name in product or ()} | row.keys()
    uses = {
        key
        for key, record in before.items()
        for fact in record.task.plan.facts
        if any(field in fact.field for field in fields)
        and (product is None or record.task.product == "K1")
        and (product or key[0] == named)
    }
    changed = {key for key in before.keys() & after.keys() if before[key].message != after[key].message}
    assert changed == uses and before.keys() == after.keys()
    assert bool(uses) == (change in ("first_name", "a fact of the product"))


def test_a_column_outside_the_list_never_changes_a_byte(tmp_path):
    """Not even where a reader gives it: the cells that rules, facts and policy see are those the brief names."""
    seen = texts([row | {"secret": i, "notes": "VIP!", "first_name2": "Eve"} for i, row in enumerate(CUSTOMERS)])
    assert seen == texts()


def test_variants_keep_their_distance_and_each_customer_has_one():
    records, _ = written(variants=3, say=honest)
    groups = {}
    for (customer, channel, _), record in records.items():
        groups.setdefault((customer, channel), []).append(record)
    full = [group for group in groups.values() if len(group) == 3]
    assert len(full) > 0.8 * len(groups)
    for group in groups.values():
        assert all(apart(a.copy, b.copy) >= 0.3 for a, b in combinations(group, 2))
        assert [r.assigned for r in group].count(True) == 1
    for group in full:
        assert next(r for r in group if r.assigned).task.variant == variant(BRIEF.name, group[0].task.customer, 3)
    first = {key: record.message for key, record in records.items() if key[2] == 0}
    assert first == texts(variants=1, say=honest)  # what more variants are asked for changes nothing in the first


def test_too_like_another_is_told_and_the_customer_still_gets_one():
    records, passed = written(variants=2, say=lambda line, drawn, attempt: honest(line, 5, attempt), floor=0.9)
    assert all(r.assigned for r in records.values() if r.task.variant == 0 and (r.task.customer, r.task.channel, 1) not in records)
    alike = [p for p in passed if p.reason == "alike"]
    assert alike and all((p.customer, p.channel, 0) in records for p in alike)


def test_wording_per_segment():
    plan = BRIEF.model_copy(update={"per": "segment", "channels": ["push"]})
    values = [row | {"likes": "T1", "first_name": ""} for row in EVERYBODY if row["orders"] in ("2", "4") and row["likes"] != "X9"]
    records, _ = written(values, plan=plan, say=honest)
    wordings = {}
    for (_, _, v), record in records.items():
        wordings.setdefault((record.task.segment, record.task.offer, v), set()).add(json.dumps(record.copy))
    assert len(records) > 3 * len(wordings) and all(len(group) == 1 for group in wordings.values())
    assert len(set.union(*wordings.values())) > 1
    own, _ = written(values, plan=BRIEF.model_copy(update={"channels": ["push"]}), say=honest)
    assert len({json.dumps(record.copy) for record in own.values()}) > 2 * len(wordings)


def test_another_seed_other_words_same_facts():
    here, there = written(say=honest)[0], written(say=honest, seed=1)[0]
    same = here.keys() & there.keys()
    assert sum(here[k].message != there[k].message for k in same) > 0.9 * len(same)
    assert all(
        {f.slot.name for f in here[k].task.plan.facts if f.slot.least}
        == {f.slot.name for f in there[k].task.plan.facts if f.slot.least}
        for k in same
    )


def test_a_frame_holds_messages_and_why_others_got_none():
    campaign = Campaign(EXAMPLES / "brief.toml", None)
    frame = campaign.write(EXAMPLES / "customers.csv", EXAMPLES / "products.csv")
    for name in "customer channel variant text facts fields score violations model seed".split():
        assert name in frame.columns
    assert set(frame["violations"]) == {""} and set(frame["model"]) == {"templates"}
    assert {p["status"] for p in frame.attrs["passed"]} == {"passed", "refused"}
    missing = next(p for p in frame.attrs["passed"] if p["customer"] == "1029")
    assert missing["why"] == "row 29, likes: the product table has no 'X9'"
    table = pandas.read_csv(EXAMPLES / "customers.csv", dtype=str)
    goods = pandas.read_csv(EXAMPLES / "products.csv", dtype=str)
    again = campaign.write(table, goods)
    assert again["text"].tolist() == frame["text"].tolist()
    first = campaign.write(EVERYBODY, PRODUCTS.values(), variants=1)
    assert len(first) == len(set(zip(frame.customer, frame.channel, strict=True)))


def test_variants_asked_for_are_shared_out_and_no_message_is_a_frame_too():
    rows = [{"id": i, "ok": "yes"} for i in range(40)]
    frame = Campaign(SMALL, None, apart=0).write(rows, variants=3)
    assert set(frame[frame.assigned].variant) == {0, 1, 2} and frame.assigned.sum() == 40
    empty = Campaign(SMALL, None).write([{"id": 1, "ok": "no"}])
    assert len(empty) == 0 and {"text", "customer", "why"} <= set(empty.columns)


def test_every_record_comes_back_from_its_columns():
    for row, made in Campaign(BRIEF, None).run(CUSTOMERS, PRODUCTS.values()):
        if isinstance(made, Record):
            back = of({"row": row, **made.plain()})
            assert (back.message, back.copy, back.source, back.assigned) == (made.message, made.copy, made.source, made.assigned)
            for words in (repr(made.task.customer), made.task.channel, made.task.offer, made.task.segment, f"seed {made.seed}"):
                assert words in made.why()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Campaign(BRIEF, None).write(CUSTOMERS), "expected a product table"),
        (
            lambda: Campaign(BRIEF, None).write(CUSTOMERS, PRODUCTS.values(), variants=0),
            "variants: expected a whole number from 1 to 20; got 0",
        ),
        (
            lambda: Campaign(BRIEF, None).write(pandas.DataFrame({"customer": ["1"]}), PRODUCTS.values()),
            "customers: has no column 'ok_sms'",
        ),
        (lambda: Campaign(BRIEF, None).write(None, PRODUCTS.values()), "customers: expected a DataFrame, a CSV or Parquet file"),
        (lambda: Campaign(BRIEF, None).write([5], PRODUCTS.values()), "rows as dictionaries; row 0 is int"),
        (lambda: Campaign(BRIEF, None).write([{"customer": "1"}], PRODUCTS.values()), "customers: has no column 'ok_sms'"),
        (lambda: Campaign(BRIEF, None).write(CUSTOMERS, PRODUCTS.values(), variants=2.5), "whole number from 1 to 20; got 2.5"),
        (lambda: Campaign(BRIEF, None).write(CUSTOMERS, PRODUCTS.values(), seed=1.5), "seed: expected a whole number; got 1.5"),
        (lambda: Campaign(BRIEF, None, boldness=9), "boldness: expected a number from 0.1 to 3; got 9"),
        (lambda: Campaign(BRIEF, 5), "model: expected"),
        (
            lambda: Campaign(SMALL, None).write(pandas.DataFrame([["1", "no", "yes"]], columns=["id", "ok", "ok"])),
            "customers: has two columns 'ok'",
        ),
        (
            lambda: Campaign(SMALL | {"offers": [{"name": "o", "product": "zz"}]} | GOODS, None).write([], [{"k": 1, "t": "Tea"}]),
            "'zz'",
        ),
        (lambda: Campaign(EXAMPLES / "none.toml"), "no such file"),
        (lambda: Campaign(BRIEF, None).write(EXAMPLES / "none.csv", PRODUCTS.values()), "no such file"),
        (lambda: Campaign(BRIEF, "marketing/nothing"), "nothing"),
    ],
)
def test_a_mistake_is_one_line(call, words):
    with pytest.raises(HeadwaterError, match=words):
        call()


def test_numbers_that_came_before():
    seen, kept = Seen(), set()
    for i in range(5000):
        value = number(str(i % 3000)) if i % 7 else i % 5
        assert (value in seen) == (value in kept), i
        seen.add(value)
        kept.add(value or 1)
        kept.add(value)
        if not value:
            kept.add(1)
    assert len(seen.table) <= 4 * len(kept) + 1024


def test_no_two_rows_of_the_example_are_alike_in_spirit():
    """The packaged sample has the nasty rows that a real table has, and every channel is tried."""
    with open(EXAMPLES / "customers.csv", encoding="utf-8", newline="") as file:
        names = [row["first_name"] for row in csv.DictReader(file)]
    assert any("{{" in n for n in names) and any("<script" in n for n in names) and any(n.startswith("=") for n in names)
    said = {channel for _, channel, _ in written()[0]}
    assert said == set(BRIEF.channels) and said < CHANNELS.keys()

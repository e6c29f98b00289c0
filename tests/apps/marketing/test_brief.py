"""Briefs and their rules: what is wrong is one line that names the key; a rule can compare and nothing else."""

from __future__ import annotations

import contextlib
import copy
import random

import pytest

from headwater.errors import HeadwaterError
from headwater_marketing import brief
from headwater_marketing.plan import Refused
from headwater_marketing.rules import parse

RAW = {
    "name": "winter",
    "channels": ["sms", "push"],
    "facts": {"brand": "Aurora"},
    "legal": {"sms": "Reply STOP  to opt out"},
    "columns": {"key": "id", "consent": "ok", "product": "likes", "allow": ["tenure"], "facts": {"first_name": "name"}},
    "products": {"key": "sku", "facts": {"product": "title", "price": "price"}},
    "offers": [{"name": "loyal", "when": "tenure >= 12", "facts": {"percent": 20}, "price_is": "before"}],
}


def _with(path, value):
    raw = copy.deepcopy(RAW)
    *way, last = path.split(".")
    place = raw
    for part in way:
        place = place[int(part) if part.isdigit() else part] if part in place or part.isdigit() else place.setdefault(part, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return raw


def test_a_good_brief():
    made = brief.parse(RAW)
    assert made.said == ("product", "brand", "price", "was", "percent", "first_name")
    assert made.reads == ("id", "ok", "likes", "tenure", "name")
    assert made.policy.legal == {"sms": "Reply STOP to opt out"} and "best" in made.policy.claims
    assert made.slot("first_name").least == 0 and made.slot("price").least == 1
    assert brief.parse(_with("limits.sms.text", 2)).channel("sms").part("text").limit == 2
    assert brief.parse(_with("slots.price.required", False)).slot("price").least == 0


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("columns.consent", None, "brief: columns.consent: is missing"),
        ("colums", {}, "brief: colums: is not a key of a brief; known: name, channels"),
        ("columns.keys", "id", "brief: columns.keys: is not a key of a brief; known: key, consent"),
        ("channels", ["fax"], "channels.0"),
        ("channels", [], "channels"),
        ("channels", ["email"], "legal.email is missing"),
        ("legal.sms", "  ", "legal.sms is missing"),
        ("legal.fax", "x", "legal: expected one of sms"),
        ("locale", "xx", "locale: expected one of en-GB"),
        ("currency", "BTC", "currency: expected one of GBP"),
        ("limits.sms.body", 3, "limits.sms: expected one of text; got 'body'"),
        ("columns.consent", {"sms": "ok"}, "columns.consent names no column for push"),
        ("offers.0.when", "secret > 1", "which columns.allow does not list"),
        ("offers.0.when", "tenure >", "cannot read the rule"),
        ("offers.0.price_is", None, 'say price_is = "before" or "after"'),
        ("facts.material", "oak", "slots.material: say its kind"),
        ("banned", ["*"], "banned and claims hold words"),
        ("banned", ["🎉"], "banned and claims hold words"),
        ("claims", ["*ssam"], "with a * at their end at most"),
        ("channels", ["sms", "sms"], "channels names one twice"),
        ("columns.yes", [" "], "an empty cell is no"),
        ("facts.Colour", "red", "named in small letters"),
        ("facts.percent", True, "facts, percent: expected a percentage; got True"),
        ("offers.0.facts.percent", 0.2, "offer 'loyal', percent: a percentage is 1 to 100"),
        ("slots.featur.required", False, "slots.featur: no facts, column or offer fills it"),
        ("legal.push", "Opt out in settings", "legal.push: no legal text is put there"),
        ("legal.sms", "Stop: {{unsubscribe}}", "legal.sms: a field that the sending system fills"),
        ("legal.email", "<a href='x'>out</a>", "legal.email: HTML is shown as it is written"),
        ("limits.sms.text", 160, "limits.sms.text: at most 10 SMS parts; got 160"),
        ("columns.product", None, "which product a customer is shown"),
        ("cap.recent", "sent", "go together"),
        ("variants", 0, "variants"),
    ],
)
def test_a_wrong_brief_is_one_line(path, value, words):
    with pytest.raises(HeadwaterError) as caught:
        brief.parse(_with(path, value))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "b.toml").write_bytes(b"name = \xff")
    for file in (tmp_path / "a.toml", tmp_path / "b.toml", tmp_path):
        with pytest.raises(HeadwaterError, match=r"no such file|not a brief"):
            brief.read(file)


@pytest.mark.parametrize(
    ("rule", "row", "holds"),
    [
        ("a >= 3", {"a": "3"}, True),
        ("a >= 3", {"a": "2.9"}, False),
        ("a == 'x' or b", {"a": "y", "b": "yes"}, True),
        ("not (a == 'x')", {"a": "x"}, False),
        ("a in ['x', 'y']", {"a": " y "}, True),
        ("a not in ('x', 'y')", {"a": "z"}, True),
        ("a in [1, 2]", {"a": "2.0"}, True),
        ("a != 'x'", {"a": None}, False),
        ("a < -1.5", {"a": -2}, True),
        ("a > 1 and b < 2 or c", {"a": 0, "b": 0, "c": True}, True),
        ("a", {}, False),
    ],
)
def test_rules(rule, row, holds):
    assert parse(rule, "abc").holds("1", row) is holds


@pytest.mark.parametrize(
    "rule",
    [
        *"""__import__('os')|a.b|a()|a[0]|lambda: 1|[x for x in a]|a + 1 > 2|1 < a|a < b|a < 'x'|1 < a < 3|a is 'x'|f'{a}'
        |a if b else c|(a := 1)|a == None|a == True|a in 'xyz'|a in []|a in [b]|a; b||a == 1j|*a
        |a == b'x'|a ** 9 > 1|await a|a == --1""".split("|"),
        *["a\n== 1\nb", "\x00", "(" * 90 + "a" + ")" * 90 + " and", "not " * 40 + "a", "a == '" + "x" * 600 + "'"],
    ],
)
def test_what_is_no_rule(rule):
    with pytest.raises(ValueError, match=r"rule|comparison"):
        parse(rule, ["a", "b", "c"])


def test_random_text_never_does_more_than_fail():
    dice, words = (
        random.Random(3),
        "a b and or not in ( ) [ ] , == < 1 'x' . __class__ lambda : = {} import eval * - \\ # \"".split(),
    )
    for _ in range(500):
        with contextlib.suppress(ValueError, Refused):
            parse(" ".join(dice.choices(words, k=dice.randint(1, 9))), "ab").holds("1", {"a": "1", "b": None})


def test_a_number_asked_of_words_is_refused_by_row_and_column():
    with pytest.raises(Refused, match="row 9, a: a rule compares it with a number; got 'many'"):
        parse("a > 1", "a").holds("9", {"a": "many"})

"""Values become text exactly, or are refused by row and field."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_marketing.channels import CHANNELS
from headwater_marketing.facts import Style, close, fill, gather, missing, shown
from headwater_marketing.plan import Fact, Plan, Policy, Refused, Slot
from headwater_marketing.validator import judge


@pytest.mark.parametrize(
    ("locale", "currency", "value", "text"),
    [
        ("en-GB", "GBP", 20, "£20"),
        ("en-GB", "GBP", 19.9, "£19.90"),
        ("en-GB", "GBP", "£1,299", "£1,299"),
        ("en-GB", "GBP", "GBP 1299.50", "£1,299.50"),
        ("en-US", "USD", Decimal("0.99"), "$0.99"),
        ("de-DE", "EUR", "1.299,50 €", "1.299,50 €"),
        ("de-DE", "EUR", "1299.5", "1.299,50 €"),
        ("de-DE", "EUR", "1.299", "1.299 €"),
        ("fr-FR", "EUR", "1 299,50", "1 299,50 €"),
        ("en-GB", "JPY", 1500, "¥1,500"),
    ],
)
def test_prices(locale, currency, value, text):
    assert Style(locale, currency).price(value) == text


@pytest.mark.parametrize(
    "value", [0, -1, "free", "19.999", "1,29", "12,50", "$5", "5 EUR", float("inf"), True, [5], "9" * 40, 1e300, "1e3", "²", "٣"]
)
def test_what_is_no_price(value):
    with pytest.raises(ValueError, match=r"price|expected"):
        Style().price(value)


def test_percentages_and_dates():
    assert [Style().percent(v) for v in (20, "20", "20%", "12.5 %", 100)] == ["20%", "20%", "20%", "12.5%", "100%"]
    assert Style("de-DE").percent("12,5") == "12,5 %"
    for bad in (0.2, 0, 101, "-5", "20 per cent", "12.55", None):
        with pytest.raises(ValueError):
            Style().percent(bad)
    day = dt.date(2026, 3, 1)
    assert [Style(loc).date(day) for loc in ("en-GB", "en-US", "de-DE", "fr-FR")] == ["1 March", "March 1", "1. März", "1er mars"]
    assert Style(year=True).date(dt.datetime(2026, 3, 1, 9)) == "1 March 2026" == Style(year=True).date("2026-03-01T09:00")
    for bad in ("01/03/2026", "2026-02-30", 20260301, "soon"):
        with pytest.raises(ValueError, match="2026-03-05"):
            Style().date(bad)


@given(st.decimals("0.01", "999999", places=2), st.sampled_from(["en-GB", "de-DE", "fr-FR"]))
def test_a_price_reads_back(amount, locale):
    style = Style(locale, "EUR")
    assert style.amount(style.price(amount)) == amount and style.price(style.price(amount)) == style.price(amount)


def test_missing_is_what_exports_write_for_nothing():
    assert all(missing(v) for v in (None, float("nan"), "", "  ", "NaN", "NULL", "#N/A", Decimal("nan")))
    assert not any(missing(v) for v in ("Null", "Nan", "None-such", 0, False))  # people are called Null


SLOTS = [
    Slot("product", "name"),
    Slot("price", "price"),
    Slot("was", "price", 0),
    Slot("percent", "percent", 0),
    Slot("first_name", "person", 0),
]


def _gather(**values):
    return gather("7", SLOTS, {"product": [("title", "Kettle")], "price": [("price", 40)], **values})


@pytest.mark.parametrize(
    ("values", "reason", "field"),
    [
        ({"price": [("price", None)]}, "missing", "price"),
        ({"price": [("price", float("nan")), ("offer.price", "")]}, "missing", "price, offer.price"),
        ({"price": [("price", "ten")]}, "malformed", "price"),
        ({"product": [("title", "x" * 81)]}, "malformed", "title"),
        ({"product": [("title", "Win at evil.com")]}, "malformed", "title"),
        ({"product": [("title", "\u200b\u200b")]}, "malformed", "title"),
        ({"price": [("price", 40), ("offer.price", "41")]}, "conflict", "price, offer.price"),
        ({"was": [("was", 50)], "percent": [("percent", 25)]}, "conflict", "percent"),
    ],
)
def test_refusals_name_row_and_field(values, reason, field):
    with pytest.raises(Refused) as caught:
        _gather(**values)
    assert (caught.value.reason, caught.value.row, caught.value.field) == (reason, "7", field)
    assert str(caught.value).startswith(f"row 7, {field}: ")


def test_an_earlier_price_that_is_no_higher_is_refused_or_left_out():
    plan = _gather(was=[("compare_at", 40)])
    assert "was" not in plan.names and "not above the price" in plan.left_out["compare_at"]
    with pytest.raises(Refused, match="not above the price"):
        gather("7", [Slot("price", "price"), Slot("was", "price")], {"price": [("price", 40)], "was": [("was", 40)]})


def test_what_a_coin_rounds_is_no_conflict():
    for style, was, price in ((Style(), "0.50", "0.43"), (Style("en-GB", "JPY"), 50, 43)):
        plan = gather("7", SLOTS[1:4], {"price": [("price", price)], "was": [("was", was)], "percent": [("p", 15)]}, style)
        assert plan.text("percent") == "15%"


def test_agreeing_sources_and_rounding_pass():
    plan = _gather(price=[("price", "40"), ("offer.price", 40.0)], was=[("was", 59)], percent=[("percent", 32)])
    assert plan.text("price") == "£40" and plan.text("percent") == "32%"  # 32.2 to the rounding


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1)", "<script>", "{{user}}", "Bob; DROP", "x" * 26, "12", "a@b.co", "Anna\nBcc", "🎉"]
)
def test_a_strange_name_is_left_out_and_said(name):
    plan = _gather(first_name=[("name", name)])
    assert "first_name" not in plan.names or plan.text("first_name") == "Anna Bcc"
    assert "first_name" in plan.names or "name" in plan.left_out


@pytest.mark.parametrize("name", "bit.ly|evil.io|DECEASED|unknown|First Name|TEST|Mr.|x|n.a.|Customer".split("|"))
def test_a_name_of_nobody_is_left_out(name):
    assert "first_name" not in _gather(first_name=[("name", name)]).names


@pytest.mark.parametrize("title", ["bit.ly/abc tea", "Visit evil.xyz now", "me@evil.app tea", "Tea at shop.co.uk"])
def test_what_a_phone_makes_a_link_of_is_no_name(title):
    with pytest.raises(Refused, match="an address inside a name"):
        _gather(product=[("title", title)])


@pytest.mark.parametrize("title", ["Dr. Martens 1460", "Node.js Mug", "St. Ives Soap", "e.l.f. Brush", "No.5 Candle"])
def test_names_with_dots_stay(title):
    assert _gather(product=[("title", title)]).text("product") == title


@pytest.mark.parametrize(
    "text",
    (
        "{!$User.Email}~%FIELD1%~<#assign x=1>~#set($x=1)~$!{x}~[firstname,fallback=you]~@FIRSTNAME@~{{x}}~{% if %}~[[x]]~*|X|*"
    ).split("~"),
)
def test_what_a_sending_system_would_run_is_broken_and_seen(text):
    broken = shown(f"Tea {text} cup")
    plan = Plan("1", (Fact(Slot("product", "name"), broken),), {})
    assert broken != f"Tea {text} cup" and not [
        v for v in judge({"text": [broken]}, plan, CHANNELS["sms"], Policy()) if v.kind == "active"
    ]
    raw = Plan("1", (Fact(Slot("product", "name"), text),), {})
    assert [v for v in judge({"text": [text]}, raw, CHANNELS["sms"], Policy()) if v.kind == "active"]


def test_scripts_that_are_written_with_joiners_keep_them():
    assert shown("ශ්\u200dරී") == "ශ්\u200dරී" and shown("Pay\u200dPal") == "PayPal" and shown("Pа\u200dу") == "Pау"


@pytest.mark.parametrize("name", ["Zoë", "O'Brien", "Jean-Luc", "María del Carmen", "李", "Åsa", "Nan", "J. R."])
def test_names_people_have(name):
    assert _gather(first_name=[("name", name)]).text("first_name") == name


@pytest.mark.parametrize(
    "url",
    """http://a.example|https://a|javascript:x|https://a.example/<b>|https://u:p@a.example|https://a.example/ b|https://[::1
    |https://а.example|https://a.example/{{x}}|https://a.example/%%x""".split("|"),
)
def test_addresses_that_are_none(url):
    with pytest.raises(Refused, match="expected an address"):
        gather("1", [Slot("url", "url")], {"url": [("link", url)]})


@pytest.mark.parametrize(
    "value", ["{{ x }}", "{% if %}", "${x}", "<%= x %>", "*|FNAME|*", "%%name%%", "[[x]]", "<b>x</b>", "{{{x}}}", "#{x}", "%FIRST%"]
)
def test_what_a_sending_system_would_run_is_broken(value):
    text = shown("Tea " + value)
    assert value not in text and text.replace(" ", "") == ("Tea" + value).replace(" ", "")
    assert shown(text) == text


def test_harmless_signs_stay():
    for text in (
        "100% Cotton",
        "$1 Pen",
        "Tea [green] {large}",
        "5 < 6 & 7 > 3",
        "Rock & Roll",
        "C#",
        "50% off 50%",
        "👩‍🍳 Apron",
        "back\\slash \\1 \\g<0>",
    ):
        assert shown(text) == text


@given(st.text(max_size=60), st.text(max_size=60))
def test_fill_reads_a_value_once(first, second):
    """Whatever the values hold, the copy around them and the other value are untouched."""
    plan = Plan("1", (Fact(Slot("a", "name"), first + "x"), Fact(Slot("b", "name"), second + "y")), {})
    assert fill("<{a}|{b}|{a}>", plan) == f"<{first}x|{second}y|{first}x>"


def test_fill_refuses_what_is_no_placeholder():
    plan = Plan("1", (Fact(Slot("a", "name"), "Yahoo!"),), {})
    assert fill("Join {a}. Now", plan) == "Join Yahoo! Now" and fill("{a}?", plan) == "Yahoo!?"
    for copy in ("{b}", "{a", "a}", "{{a}}", "{A}", "{ a }"):
        with pytest.raises(ValueError, match=r"brace|no fact"):
            fill(copy, plan)
    assert close("Hi", "STOP") == "Hi STOP" and close("Hi", "") == "Hi"

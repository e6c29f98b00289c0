"""The validator catches every planted fault, passes what is right, and shares no code with what makes copy."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import headwater_marketing.validator as validator
from headwater_marketing.channels import CHANNELS
from headwater_marketing.lookalikes import fold, hunt, readings
from headwater_marketing.plan import Fact, Plan, Policy, Refused, Slot
from headwater_marketing.validator import CLAIMS, admit, judge

PLAN = Plan(
    "7",
    (
        Fact(Slot("first_name", "person", 0), "Anna", "name"),
        Fact(Slot("product", "name"), "Kettle 100% [new]", "title"),
        Fact(Slot("price", "price"), "£20", "price"),
        Fact(Slot("percent", "percent"), "20%", "offer.percent"),
        Fact(Slot("code", "code"), "TEA-20", "offer.code"),
        Fact(Slot("url", "url"), "https://a.example/k?x=1", "link"),
    ),
    {},
)
POLICY = Policy(banned=("miracle", "risk free", "scam*"), claims=CLAIMS, legal={"sms": "Reply STOP to opt out"})
GOOD = "Hi Anna, Kettle 100% [new] for £20, 20% off with TEA-20: https://a.example/k?x=1 Reply STOP to opt out"


def _kinds(text, plan=PLAN, policy=POLICY, channel="sms"):
    return {v.kind for v in judge({"text": [text]}, plan, CHANNELS[channel].limited({"text": 3}), policy)}


def test_what_is_right_passes():
    assert _kinds(GOOD) == set()
    assert _kinds(GOOD.replace("Hi Anna, ", "")) == set()  # the name is optional


MUTANTS = {
    "dropped product": (GOOD.replace("Kettle 100% [new]", "Kettle"), "missing"),
    "dropped code": (GOOD.replace("TEA-20", "it"), "missing"),
    "another price": (GOOD.replace("£20", "£19"), "added"),
    "a longer price": (GOOD.replace("£20", "£20.50"), "missing"),
    "a price in front": (GOOD.replace("£20", "1£20"), "added"),
    "another currency": (GOOD.replace("£20", "$20"), "missing"),
    "another percentage": (GOOD.replace("20% off", "120% off"), "missing"),
    "decimals in front": (GOOD.replace("20% off", "1.20% off"), "missing"),
    "said twice": (GOOD.replace("Hi", "Kettle 100% [new]! Hi"), "repeated"),
    "code grown": (GOOD.replace("TEA-20", "TEA-200"), "missing"),
    "code grown by a hyphen": (GOOD.replace("TEA-20", "TEA-20-X"), "missing"),
    "code in small letters": (GOOD.replace("TEA-20", "tea-20"), "missing"),
    "another page": (GOOD.replace("k?x=1", "k?x=12"), "missing"),
    "another shop": (GOOD.replace("https://a.example", "https://b.example"), "added"),
    "a second address": (GOOD.replace("Hi", "www.evil.com Hi"), "added"),
    "a bare domain": (GOOD.replace("Hi", "See evil.shop. Hi"), "added"),
    "an e-mail address": (GOOD.replace("Hi", "me@evil Hi"), "added"),
    "a number": (GOOD.replace("Hi", "Only 3 here. Hi"), "added"),
    "a number in words": (GOOD.replace("Hi", "Two for you. Hi"), "added"),
    "a fraction": (GOOD.replace("Hi", "½ price. Hi"), "added"),
    "an Arabic digit": (GOOD.replace("Hi", "٣ Hi"), "added"),
    "a circled digit": (GOOD.replace("Hi", "③ Hi"), "added"),
    "half price": (GOOD.replace("Hi", "Half price. Hi"), "added"),
    "a weekday": (GOOD.replace("Hi", "On Friday. Hi"), "added"),
    "a currency sign": (GOOD.replace("Hi", "€ Hi"), "added"),
    "per cent": (GOOD.replace("Hi", "Many percent. Hi"), "added"),
    "a claim": (GOOD.replace("Hi", "The best. Hi"), "claim"),
    "a promise": (GOOD.replace("Hi", "Guaranteed. Hi"), "claim"),
    "free": (GOOD.replace("Hi", "It's FREE. Hi"), "claim"),
    "urgency": (GOOD.replace("Hi", "Last chance. Hi"), "claim"),
    "a deadline without a date": (GOOD.replace("Hi", "Offer ends soon. Hi"), "claim"),
    "banned": (GOOD.replace("Hi", "A miracle. Hi"), "banned"),
    "banned, capitals": (GOOD.replace("Hi", "A MIRACLE. Hi"), "banned"),
    "banned, spaced": (GOOD.replace("Hi", "A m i r a c l e. Hi"), "banned"),
    "banned, dotted": (GOOD.replace("Hi", "A m.i.r.a.c.l.e. Hi"), "banned"),
    "banned, hyphened": (GOOD.replace("Hi", "A mira-cle. Hi"), "banned"),
    "banned, starred": (GOOD.replace("Hi", "A mir*acle. Hi"), "banned"),
    "banned, zero width": (GOOD.replace("Hi", "A mir\u200bacle. Hi"), "banned"),
    "banned, soft hyphen": (GOOD.replace("Hi", "A mir\u00adacle. Hi"), "banned"),
    "banned, Cyrillic": (GOOD.replace("Hi", "A mіrаcle. Hi"), "banned"),
    "banned, Greek": (GOOD.replace("Hi", "A ΜΙRΑCLΕ. Hi"), "banned"),
    "banned, capital iota for l": (GOOD.replace("Hi", "A miracΙe. Hi"), "banned"),
    "banned, fullwidth": (GOOD.replace("Hi", "A ｍｉｒａｃｌｅ. Hi"), "banned"),
    "banned, mathematical": (GOOD.replace("Hi", "A 𝗺𝗶𝗿𝗮𝗰𝗹𝗲. Hi"), "banned"),
    "banned, accents": (GOOD.replace("Hi", "A mïrâclé. Hi"), "banned"),
    "banned, figures": (GOOD.replace("Hi", "A m1racl3. Hi"), "banned"),
    "banned, stretched": (GOOD.replace("Hi", "A miraaacle. Hi"), "banned"),
    "banned, I for l": (GOOD.replace("Hi", "A miracIe. Hi"), "banned"),
    "banned phrase joined": (GOOD.replace("Hi", "Riskfree. Hi"), "banned"),
    "banned phrase over a line": (GOOD.replace("Hi", "risk\nfree. Hi"), "banned"),
    "banned stem": (GOOD.replace("Hi", "Scammers. Hi"), "banned"),
    "legal text gone": (GOOD.removesuffix(" Reply STOP to opt out"), "legal"),
    "legal text changed": (GOOD.replace("STOP", "END"), "legal"),
    "legal text inside": (GOOD + " Bye", "legal"),
    "legal text glued on": (GOOD.replace("x=1 Reply", "x=1Reply"), "legal"),
    "legal text twice": (GOOD + " Reply STOP to opt out", "legal"),
    "placeholder": (GOOD.replace("Hi", "{brand} Hi"), "leftover"),
    "square placeholder": (GOOD.replace("Hi", "[NAME] Hi"), "leftover"),
    "null": (GOOD.replace("Hi", "Hi undefined. Hi"), "leftover"),
    "Liquid": (GOOD.replace("Hi", "{{ name }} Hi"), "active"),
    "Jinja": (GOOD.replace("Hi", "{% x %} Hi"), "active"),
    "merge tag": (GOOD.replace("Hi", "*|FNAME|* Hi"), "active"),
    "AMPscript": (GOOD.replace("Hi", "%%=v(@x)=%% Hi"), "active"),
    "percent tag": (GOOD.replace("Hi", "%FIRSTNAME% Hi"), "active"),
    "markup": (GOOD.replace("Hi", "<script>x</script> Hi"), "active"),
    "script address": (GOOD.replace("Hi", "javascript:x Hi"), "active"),
    "bidi override": (GOOD.replace("Hi", "\u202eHi"), "invisible"),
    "zero-width space": (GOOD.replace("Hi", "H\u200bi"), "invisible"),
    "bell": (GOOD.replace("Hi", "\x07Hi"), "invisible"),
    "combining mark on a fact": (GOOD.replace("TEA-20", "TEA-20\u0301"), "missing"),
    "too long": (GOOD.replace("Hi", "word " * 80 + "Hi"), "length"),
    "empty": ("", "missing"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_planted_fault_is_caught(name):
    text, kind = MUTANTS[name]
    assert text != GOOD and kind in _kinds(text)


def _plan(**texts):
    kinds = {
        "product": "name",
        "brand": "name",
        "full": "name",
        "price": "price",
        "was": "price",
        "x": "text",
        "first_name": "person",
    }
    return Plan("1", tuple(Fact(Slot(n, kinds[n]), t) for n, t in texts.items()), {})


def test_words_that_need_a_fact():
    bare, sale = _plan(product="Kettle", price="£20"), _plan(product="Kettle", price="£20", was="£30")
    assert "claim" in _kinds("Kettle for £20, reduced.", bare, Policy()) and not _kinds(
        "Kettle, was £30, reduced to £20.", sale, Policy()
    )
    assert "claim" in _kinds("Kettle for £20 with a code.", bare, Policy()) and "claim" in _kinds(
        "Kettle for £20 until then", bare, Policy()
    )


def test_facts_inside_facts_are_told_apart():
    nested = _plan(brand="Sony", product="X1", full="Sony X1")
    assert not _kinds("Sony X1 by Sony, the X1.", nested, Policy()) and "missing" in _kinds("Sony X1", nested, Policy())
    assert "repeated" in _kinds("Sony X1 by Sony, the X1, Sony.", nested, Policy())
    same = _plan(brand="Acme", product="Acme")
    assert not _kinds("Acme by Acme", same, Policy()) and "missing" in _kinds("Acme", same, Policy())
    prices = _plan(price="£20", was="£20.50")
    assert not _kinds("£20, was £20.50.", prices, Policy()) and "missing" in _kinds("was £20.50", prices, Policy())


def test_a_claim_inside_a_fact_is_a_fact_and_a_banned_word_is_not():
    best = _plan(product="Best Friend Bowl")
    assert not _kinds("Best Friend Bowl.", best, POLICY.__class__(claims=CLAIMS)) and "claim" in _kinds(
        "Best Friend Bowl, best.", best, Policy(claims=CLAIMS)
    )
    assert "banned" in _kinds("Best Friend Bowl.", best, Policy(banned=("best",)))
    with pytest.raises(Refused, match="row 1, product: 'Best Friend Bowl' holds 'best', which the brief bans"):
        admit(best, Policy(banned=("best",)))
    optional = Plan("1", (Fact(Slot("first_name", "person", 0), "Bést", "name"),), {})
    assert admit(optional, Policy(banned=("best",))).facts == () and "name" in admit(optional, Policy(banned=("best",))).left_out


@pytest.mark.parametrize(
    "text", ["asbestos bestow", "Scunthorpe", "classic assassin", "Seek out the rest, in peace", "What's even better?"]
)
def test_whole_words_only(text):
    plan, policy = Plan("1", (), {}), Policy(banned=("best", "cunt", "ass", "kout"), claims=CLAIMS)
    assert not {"banned", "claim", "added"} & _kinds(text, plan, policy)


def test_folding():
    assert fold("ĐØŁ") == "dol" and fold("Straße") == "strasse" and fold("Tea™") == "tea "
    assert (
        not hunt("").search("anything")
        and not hunt("...").search("a...b")
        and hunt("book").search("b o o k")
        and not hunt("bok").search("book")
    )
    assert hunt("good").search("goooood") and not hunt("god").search("good")
    assert readings("20% off now!") == ("20% off now!",)


def test_an_address_only_where_links_are():
    plan = Plan("1", (Fact(Slot("url", "url", 0), "https://a.example"),), {})
    message = {"subject": ["See https://a.example"], "preheader": ["Hello"], "body": ["https://a.example"]}
    assert [(v.part, v.kind) for v in judge(message, plan, CHANNELS["email"], Policy())] == [("subject", "rule")]


def test_counts_over_the_parts_of_an_ad():
    plan = _plan(product="Kettle", price="£20")
    message = {"headline": ["Kettle", "Kettle for £20", "Have a Look"], "description": ["Kettle.", "Order online."]}
    assert judge(message, plan, CHANNELS["ad"], Policy()) == ()
    message["headline"][1] = "Kettle, Kettle"
    assert {v.kind for v in judge(message, plan, CHANNELS["ad"], Policy())} == {"missing", "repeated"}


def test_many_occurrences_stay_cheap():
    assert "repeated" in _kinds("a " * 1500, _plan(product="a", brand="a", full="a a"), Policy(), "description")


def test_it_shares_no_code_with_what_makes_copy():
    """Imports: the plan and the endings of addresses (data), the channels (counters), the look-alikes (nobody else's)."""
    folder = Path(validator.__file__).parent

    def imported(name):
        tree = ast.parse((folder / f"{name}.py").read_text("utf-8"))
        return {
            n.module.split(".")[1]
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("headwater_marketing.")
        }

    assert imported("validator") == {"plan", "channels", "lookalikes", "addresses"}
    assert imported("lookalikes") == imported("addresses") == imported("channels") == imported("plan") == set()
    for maker in ("facts", "grammar"):
        assert not imported(maker) & {"validator", "lookalikes"}


def test_a_phrase_has_a_capital_only_where_a_sentence_begins():
    plan = Plan("1", (Fact(Slot("product", "name"), "Desk"), Fact(Slot("feature", "text"), "room for two")), {})
    right, wrong = {"text": ["Desk. Room for two."]}, {"text": ["Desk with Room for two."]}
    assert judge(right, plan, CHANNELS["sms"], Policy()) == ()
    assert [v.kind for v in judge(wrong, plan, CHANNELS["sms"], Policy())][:1] == ["missing"]
    named = Plan("1", (Fact(Slot("product", "name"), "desk"),), {})
    assert judge({"text": ["Desk for you."]}, named, CHANNELS["sms"], Policy())

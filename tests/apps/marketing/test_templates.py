"""The grammar is sound line by line, and whatever the fields hold a row gets a right text or a typed refusal."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hostile import HOSTILE

from headwater_marketing.channels import CHANNELS, GSM_BASIC, GSM_EXTENSION
from headwater_marketing.facts import Style, gather
from headwater_marketing.grammar import Dice, count, every, lines, parse, productions, shortest
from headwater_marketing.phrases import LEVELS, VOICES
from headwater_marketing.plan import Fact, Plan, Policy, Refused, Slot
from headwater_marketing.templates import write
from headwater_marketing.validator import CLAIMS, judge

_USUAL = """first_name person Anna; product name Copper Kettle; brand name Aurora; price price 40; was price 50; percent percent 20;
    code code TEA20; until date 2026-12-05; url url https://aurora.example/k; feature text a gooseneck spout;
    perk text a tin of Assam"""
KIND = {row.split()[0]: row.split()[1] for row in _USUAL.split(";")}
USUAL = {row.split()[0]: " ".join(row.split()[2:]) for row in _USUAL.split(";")}
POLICY = Policy(claims=CLAIMS, legal={"sms": "Reply STOP to opt out", "email": "Aurora Ltd. Unsubscribe here."})


def _gather(names, row="1", optional=("first_name",), **values):
    slots = [Slot(name, KIND[name], int(name not in optional)) for name in names]
    return gather(row, slots, {name: [(f"col_{name}", (USUAL | values)[name])] for name in names}, Style())


def test_the_notation():
    tree = parse("(Hi|Hello|Good (day|evening)) {x}(|!)")
    assert count(tree) == 8 == len(set(every(tree))) and shortest(tree, len) == "Hi {x}"
    for bad in ("(a|b", "a)", "a|b"):
        with pytest.raises(ValueError, match="bracket"):
            parse(bad)


def test_every_line_is_sound():
    """Each text of each line states the same facts, in GSM-7, and says nothing the validator would not pass."""
    plan = _gather(USUAL, optional=USUAL)
    seen, faults = Counter(), []
    for line in lines():
        for text in every(line.tree):
            seen[line.move] += 1
            assert sorted(re.findall(r"\{(\w+)\}", text)) == sorted(line.slots), line
            assert all(c in GSM_BASIC or c in GSM_EXTENSION for c in text), line
            held = plan.only(
                lambda fact, line=line: fact.slot.name in line.slots or (fact.slot.name == "code" and "deal" in line.tags)
            )
            filled = text
            for fact in plan.facts:
                filled = filled.replace("{" + fact.slot.name + "}", fact.text)
            channel = CHANNELS["description"] if "url" not in line.slots else CHANNELS["sms"].limited({"text": 9})
            faults += [(line.name, filled, v.words) for v in judge({"text": [filled]}, held, channel, Policy(claims=CLAIMS))]
    assert faults == []
    assert {move: texts for move, (_, texts) in productions().items()} == seen and min(seen.values()) >= 10


def test_every_voice_and_level_has_its_own_words_for_the_usual_facts():
    usual = "product|product price|product percent|product price was|percent code|feature|perk|code|until|url|price|percent"
    for voice in VOICES:
        for level in LEVELS:
            body = [line for line in lines() if line.move in ("offer", "detail", "code", "deadline", "call")]
            own = [line.slots for line in body if line.rank(voice, level) == 0]
            assert [names for names in usual.split("|") if set(names.split()) not in own] == [], (voice, level)


def test_same_key_same_text_and_another_key_another():
    plan, sms = _gather(["product", "price", "was", "url"]), CHANNELS["sms"]
    assert write(plan, sms, POLICY, key="7/anna") == write(plan, sms, POLICY, key="7/anna")
    assert len({write(plan, sms, POLICY, key=str(i)).message["text"] for i in range(40)}) > 15
    assert Dice("a").real() == Dice("a").real() != Dice("b").real()


def test_one_field_changes_only_what_uses_it():
    first, second = _gather(["product", "price", "url"]), _gather(["product", "price", "url"], price=41)
    for i in range(20):
        a, b = (write(p, CHANNELS["sms"], POLICY, key=str(i)) for p in (first, second))
        assert a.copy == b.copy and a.message["text"][0].replace("£40", "£41") == b.message["text"][0]


@pytest.mark.parametrize("channel", CHANNELS)
def test_usual_facts_never_need_the_shortest_text(channel):
    dice = random.Random(5)
    for i in range(60):
        names = ["product", *dice.sample([n for n in USUAL if n != "product"], dice.randint(0, 4))]
        names += ["was"] * ("was" in names)
        plan = _gather(dict.fromkeys(names + ["price"] * ("was" in names)))
        written = write(plan, CHANNELS[channel], POLICY, dice.choice(VOICES), dice.choice(LEVELS), str(i))
        assert written.draws > 0 or channel == "sms"


def test_the_shortest_fits_where_nothing_else_does():
    names = ["brand", "product", "price", "was", "percent", "code", "until", "url"]
    plan = _gather(names, product="Hand-beaten Copper Pour-over Kettle", url="https://aurora.example/kettles/copper?c=12")
    written = write(plan, CHANNELS["sms"], POLICY, "warm", key="1")
    assert written.draws == 0 and len(written.message["text"][0]) <= 160
    with pytest.raises(Refused) as caught:
        write(_gather(names, product="x" * 80, url="https://aurora.example/" + "k" * 60), CHANNELS["sms"], POLICY)
    assert caught.value.reason == "length" and caught.value.field == "col_url" and "SMS parts" in str(caught.value)


def test_a_banned_word_is_written_around():
    plan = _gather(["product", "price"])
    policy = Policy(banned=("treat*", "yours", "kettles"), claims=CLAIMS)
    texts = [
        " ".join(sum(write(plan, CHANNELS[c], policy, "warm", key=str(i)).message.values(), ()))
        for c in CHANNELS
        for i in range(15)
    ]
    assert not any(re.search(r"(?i)treat|yours", text) for text in texts)
    with pytest.raises(Refused) as caught:
        write(plan, CHANNELS["sms"], Policy(banned=("copper",)))
    assert (caught.value.reason, caught.value.field) == ("banned", "col_product")


def test_a_slot_the_grammar_does_not_know():
    own = Plan("1", (Fact(Slot("material", "text"), "solid oak"), Fact(Slot("product", "name"), "Desk")), {})
    assert "Solid oak." in write(own, CHANNELS["sms"], Policy(), key="1").message["text"][0]
    odd = Plan("3", (Fact(Slot("deposit", "price"), "£5", "dep"),), {})
    with pytest.raises(Refused, match="row 3, dep: no wording left for deposit"):
        write(odd, CHANNELS["sms"], Policy())


def test_hostile_fields_give_a_right_text_or_a_typed_refusal():
    """600 rows with hostile values anywhere; a text must hold each required value, and the refusals their row and field."""
    dice, reasons, done = random.Random(11), Counter(), 0
    policy = Policy(banned=("miracle",), claims=CLAIMS, legal=POLICY.legal)
    for i in range(600):
        names = dict.fromkeys(["product", *dice.sample(list(USUAL), dice.randint(1, 5))])
        bad = {name: dice.choice(HOSTILE) for name in dice.sample(list(names), dice.randint(1, len(names)))}
        channel = CHANNELS[dice.choice(list(CHANNELS))]
        try:
            plan = _gather(names, str(i), **bad)
            written = write(plan, channel, policy, dice.choice(VOICES), dice.choice(LEVELS), str(i))
        except Refused as refused:
            assert refused.row == str(i) and refused.field.startswith("col_"), refused
            reasons[refused.reason] += 1
            continue
        done += 1
        whole = "\n".join(text for texts in written.message.values() for text in texts)
        for fact in (f for f in plan.facts if f.slot.least and channel.takes(f.slot.kind)):  # a phrase may begin a sentence
            assert fact.text in whole or (fact.slot.kind == "text" and fact.text[0].upper() + fact.text[1:] in whole)
        assert not re.search(r"\{\{|\{%|<script|\*\||%%|\[\[|\$\{|[\u200b\u202e]", whole)
    assert done > 150 and set(reasons) <= {"missing", "malformed", "conflict", "banned", "length", "policy"}
    assert reasons["policy"] < 0.06 * 600, reasons

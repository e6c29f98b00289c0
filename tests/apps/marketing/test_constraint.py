"""The guarantee: whatever a model would like to write, what the constraint lets through is right."""

import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.constraints import broken
from headwater_marketing import data
from headwater_marketing.asks import PLACEHOLDER, Ask, Copy, asks, named
from headwater_marketing.channels import CHANNELS, Part, columns, sms
from headwater_marketing.codecs import COPY, E2E, VIGGO
from headwater_marketing.constraint import Wording, counting
from headwater_marketing.facts import close, fill
from headwater_marketing.games import GAMES
from headwater_marketing.lookalikes import fold, hunt
from headwater_marketing.metrics import meaning, rnnlg_errors, slot_errors
from headwater_marketing.plan import Fact, Plan, Policy, Slot
from headwater_marketing.reviews import e2e_meaning, rnnlg_meaning, viggo_meaning
from headwater_marketing.templates import write
from headwater_marketing.trie import CLEAR, Trie
from headwater_marketing.validator import CLAIMS, judge

POLICY = Policy(
    ("kettle corn", "free gift", "tea for"), CLAIMS, {"sms": "Reply STOP to opt out", "email": "Unsubscribe: https://x.example/u"}
)
PRODUCT, PRICE = Slot("product", "name"), Slot("price", "price")


def babble(constraint, codec, rng, end=0.1):
    """A text of random allowed tokens, and the tokens; fails where nothing is allowed or the end is not accepted."""
    state, tokens, length = constraint.start(), [], codec.space.length
    for k in range(length):
        allowed = np.flatnonzero(constraint.allowed(state, length - k))
        assert len(allowed), f"a dead end behind {''.join(codec.tokens[t] for t in tokens)!r}"
        token = 0 if allowed[0] == 0 and rng.random() < end else int(rng.choice(allowed))
        if token == 0:
            break
        state = constraint.step(state, token)
        tokens.append(token)
    assert constraint.accepts(state)
    return "".join(codec.tokens[t] for t in tokens), tokens


def filled(text, ask, facts):
    plan = Plan("1", tuple(Fact(slot, facts[slot.name]) for slot in ask.slots if slot.name in facts), {})
    return fill(named(text, ask), plan)


@pytest.mark.parametrize("channel", CHANNELS)
def test_random_words_under_the_constraint_pass_the_validator(channel):
    dice, rng, where = random.Random(channel), np.random.default_rng(1), CHANNELS[channel]
    for i in range(6):
        plan = data.invented(dice).only(lambda fact: where.takes(fact.slot.kind))
        copy = write(plan, where, POLICY, "warm", "easy", str(i)).copy
        facts = {fact.slot.name: fact.text for fact in plan.facts}
        held = frozenset(facts) | {fact.slot.kind for fact in plan.facts}
        message = {}
        for part, wanted in asks(copy, plan, channel, "warm", "easy").items():
            legal = POLICY.legal.get(channel, "") if part == where.legal else ""
            between = "\n\n" if channel == "email" else " "
            texts = []
            for ask in wanted:
                wording = Wording(COPY, ask, facts, where.part(part), POLICY, legal=legal, between=between, held=held)
                text, _ = babble(wording, COPY, rng)
                assert Counter(PLACEHOLDER.findall(named(text, ask))) == {s.name: s.least for s in ask.slots}
                texts.append(close(fill(named(text, ask), plan), legal, between))
            message[part] = texts
        found = [
            v for v in judge(message, plan, where, POLICY) if "more than one exclamation" not in v.words
        ]  # of the ad as a whole
        assert not found, (found, message)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text("ab €[.!tea19£K ", min_size=1, max_size=12).filter(lambda t: t.strip() == t), min_size=1, max_size=4),
    limit=st.integers(4, 60),
    most=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_never_a_dead_end_and_never_too_long(texts, limit, most, seed):
    slots = tuple(Slot(f"own_{i}", "text", i % 2 or 1, max(most, 1)) for i, _ in enumerate(texts))
    facts = {slot.name: text for slot, text in zip(slots, texts, strict=True)}
    part = Part("headline", limit, columns, "columns", rules=CHANNELS["ad"].part("headline").rules)
    ask = Ask(slots, channel="ad", part="headline")
    try:
        wording = Wording(COPY, ask, facts, part, POLICY)
    except ValueError:
        least = sum(map(columns, texts)) + len(texts) - 1
        assert least > limit - 1 or hunt(*POLICY.banned).search(fold(" ".join(texts)))
        return
    text, tokens = babble(wording, COPY, np.random.default_rng(seed), end=0.02)
    assert columns(filled(text, ask, facts)) <= limit
    assert broken(wording, np.array([[t] for t in tokens] + [[0]] * (COPY.space.length - len(tokens)))) is None


def test_few_positions_left_are_enough():
    ask = Ask((PRODUCT, PRICE, Slot("code", "code", 2, 2)))
    wording = Wording(COPY, ask, {"product": "Tea", "price": "£2", "code": "T2"})
    rng = np.random.default_rng(0)
    for _ in range(20):
        state, said = wording.start(), []
        for remaining in range(6, 0, -1):
            token = int(rng.choice(np.flatnonzero(wording.allowed(state, remaining))))
            if token == 0:
                break
            state = wording.step(state, token)
            said.append(COPY.tokens[token])
        assert wording.accepts(state), said


@pytest.mark.parametrize(
    ("fact", "limit"),
    [("a" * 138, 160), ("€" * 69, 160), ("ł" * 48, 70), ("a" * 139, None), ("€" * 70, None), ("ł" * 49, None)],
)
def test_an_sms_is_counted_to_the_last_septet(fact, limit):
    """With " Reply STOP to opt out", 22 septets, behind it."""
    ask = Ask((Slot("feature", "text"),), channel="sms", part="text")
    make = lambda: Wording(COPY, ask, {"feature": fact}, CHANNELS["sms"].part("text"), POLICY, legal=POLICY.legal["sms"])  # noqa: E731
    if limit is None:
        with pytest.raises(ValueError, match="the facts alone"):
            make()
        return
    text, _ = babble(make(), COPY, np.random.default_rng(0))
    final = close(filled(text, ask, {"feature": fact}), POLICY.legal["sms"])
    assert sms(final).parts == 1 and sms(final).units == limit


def test_two_parts_hold_no_pair_over_the_border():
    ask = Ask((Slot("feature", "text"), PRODUCT), channel="sms", part="text")
    facts, part = (
        {"feature": "€" * 60, "product": "K"},
        Part("text", 2, CHANNELS["sms"].part("text").count, "SMS parts", links=True, rules=()),
    )
    for seed in range(10):
        text, _ = babble(Wording(COPY, ask, facts, part, POLICY), COPY, np.random.default_rng(seed), end=0)
        assert sms(filled(text, ask, facts)).parts <= 2


def test_a_fact_with_a_stop_of_its_own_takes_the_next():
    ask = Ask((PRODUCT,))
    wording = Wording(COPY, ask, {"product": "Yes!"}, Part("title", 30))
    state = wording.step(wording.start(), COPY.number["{product}"])
    assert wording.step(state, COPY.number["."]).used == len(filled("{product}.", ask, {"product": "Yes!"})) == 4


def test_figures_and_foreign_facts_are_never_allowed():
    wording = Wording(COPY, Ask((PRODUCT,)), {"product": "Tea"})
    mask = wording.allowed(wording.step(wording.start(), COPY.number["{product}"]), 50)
    assert not any(mask[COPY.number[t]] for t in ("7", "£", "%", " {price}", "{product}", " {product}"))
    assert mask[COPY.number["!"]] and mask[0]


def test_words_that_say_a_fact_need_it():
    words = lambda slots: Wording(COPY, Ask(slots), {"product": "Tea", "percent": "20%"}, None, POLICY)  # noqa: E731
    off = COPY.number[" off"]
    without, having = words((PRODUCT,)), words((PRODUCT, Slot("percent", "percent")))
    start = COPY.number["{product}"]
    assert not without.allowed(without.step(without.start(), start), 50)[off]
    assert having.allowed(having.step(having.start(), start), 50)[off]


@settings(max_examples=300, deadline=None)
@given(st.text("best .-Bw", max_size=14))
def test_the_trie_finds_what_the_validators_pattern_finds(text):
    phrases = ("best", "see web*", "be tt")
    assert (Trie(phrases, ()).read(CLEAR, text) is None) == bool(hunt(*phrases).search(fold(text)))


def test_rows_over_the_vocabulary_are_what_reading_each_token_gives():
    trie = Trie(("free gift", "a"), CLAIMS)
    for state in (CLEAR, (frozenset(), True), trie.read(CLEAR, "no"), trie.read(CLEAR, "last")):
        row = trie.row(state, COPY.tokens)
        for n, token in enumerate(COPY.tokens):
            if "{" not in token and token:
                assert row.after[n] == trie.read(state, token), (state, token)
                assert row.good[n] == (row.after[n] is not None)


@settings(max_examples=100, deadline=None)
@given(st.text("best ", max_size=10), st.text("best ", max_size=10))
def test_the_trie_reads_on_over_tokens(first, second):
    trie = Trie(("best",), ())
    state = trie.read(CLEAR, first)
    if hunt("best").search(fold(first + second)) and not hunt("best").search(fold(first)):
        assert state is None or trie.read(state, second) is None


def test_a_phrase_banned_everywhere_is_seen_across_a_fact_and_one_for_words_is_not_inside():
    trie = Trie(("free gift",), ("best",))
    assert trie.fact(trie.read(CLEAR, "A free"), "Gift box") is None
    assert trie.fact(CLEAR, "Best tea") is not None
    assert trie.read(trie.fact(trie.read(CLEAR, "be"), "Tea"), "st") is None


def test_facts_that_would_complete_a_banned_phrase_never_follow_it():
    ask, facts = Ask((PRODUCT, Slot("feature", "text"))), {"product": "Gift box", "feature": "corn"}
    for seed in range(20):
        text, _ = babble(
            Wording(COPY, ask, facts, Part("title", 40), Policy(("free gift", "kettle corn", "corn gift"), ())),
            COPY,
            np.random.default_rng(seed),
        )
        assert not hunt("free gift", "kettle corn", "corn gift").search(fold(filled(text, ask, facts)))


def test_addresses_stand_alone():
    ask = Ask((Slot("url", "url"), PRODUCT))
    for seed in range(30):
        text, _ = babble(Wording(COPY, ask, {"url": "https://x.example", "product": "Tea"}), COPY, np.random.default_rng(seed))
        assert re.search(r"\{url\}(?:$|[\s.,!:;])", text)


def test_a_restaurants_facts_are_said_in_words_as_often_as_asked():
    ask, facts = e2e_meaning(
        "name[Zizzi], eatType[pub], food[French], priceRange[cheap], area[riverside], familyFriendly[no], near[Ranch]"
    )
    wording, rng = Wording(E2E, ask, facts), np.random.default_rng(0)
    for _ in range(4):
        _, tokens = babble(wording, E2E, rng)
        said = Counter(s.slot for t in tokens for s in E2E.said[t])
        assert all(said[slot] == 1 for slot, _ in ask.closed) and said["near"] == 1 and 1 <= said["name"] <= 2
    good = "{name} is a cheap French pub by the river near {near}. It is not family friendly."
    array = E2E.encode(Copy(good, ask))
    assert broken(wording, array) is None
    assert slot_errors([filled(good, ask, facts)], [meaning(ask, facts)]).right == 1
    assert broken(wording, E2E.encode(Copy(good.replace("French", "Italian")))) is not None


def test_a_pound_sign_stands_before_its_figure_and_nowhere_else():
    ask, facts = e2e_meaning("name[Zizzi], priceRange[£20-25]")
    wording = Wording(E2E, ask, facts)
    assert broken(wording, E2E.encode(Copy("{name} has a price range of £20-25."))) is None
    assert broken(wording, E2E.encode(Copy("{name} is 20-25 and £ more."))) is not None
    cheap = Wording(E2E, *e2e_meaning("name[Zizzi], priceRange[cheap]"))
    assert broken(cheap, E2E.encode(Copy("{name} is cheap at £20-25."))) is not None


def test_ordinary_words_make_up_no_fact():
    ask, facts = e2e_meaning("name[Zizzi], eatType[pub], familyFriendly[yes]")
    wording = Wording(E2E, ask, facts)

    def may_follow(text, token):
        state = wording.start()
        for number in E2E.encode(Copy(text))[:, 0]:
            state = wording.step(state, int(number)) if number else state
        return bool(wording.allowed(state, 50)[E2E.number[token]])

    assert not may_follow("{name} is a pub near the", " river") and may_follow("{name} is a pub", " that")
    assert not may_follow("{name} is not", " family friendly") and may_follow("{name} is a", " family friendly")
    rng = np.random.default_rng(0)
    texts = [filled(babble(wording, E2E, rng)[0], ask, facts) for _ in range(5)]
    assert slot_errors(texts, [meaning(ask, facts)] * 5).rate < 0.02


def test_two_values_of_a_slot_are_both_said_and_words_that_mean_either_are_not():
    ask, facts = e2e_meaning("name[Cotto], name[Zizzi], priceRange[cheap], priceRange[moderate], eatType[pub], eatType[restaurant]")
    wording, rng = Wording(E2E, ask, facts), np.random.default_rng(0)
    assert not wording.allowed(wording.step(wording.start(), E2E.number["{name}"]), 50)[E2E.number[" affordable"]]
    for _ in range(4):
        text, tokens = babble(wording, E2E, rng)
        assert {"name", "name_2"} == set(PLACEHOLDER.findall(text))
        assert Counter(s.slot for t in tokens for s in E2E.said[t] if s.values) == {"price_range": 2, "eat_type": 2}


def test_a_games_facts_are_said_in_words_and_what_is_denied_stays_denied():
    ask, facts = viggo_meaning(
        "inform(name[Nine Kites], developer[Fennel & Rook], rating[average], genres[indie, puzzle], platforms[PC],"
        " available_on_steam[yes], has_linux_release[no], has_mac_release[no])"
    )
    wording, rng = Wording(VIGGO, ask, facts), np.random.default_rng(0)
    texts = [filled(babble(wording, VIGGO, rng)[0], ask, facts) for _ in range(4)]
    assert slot_errors(texts, [meaning(ask, facts)] * 4, GAMES).rate < 0.03
    good = "{name} by {developer} is an average indie puzzle game for PC on Steam. There is no Linux or Mac release."
    assert broken(wording, VIGGO.encode(Copy(good, ask))) is None
    assert slot_errors([filled(good, ask, facts)], [meaning(ask, facts)], GAMES).right == 1
    for old, new in (
        (" no Linux or Mac", " no Linux"),
        ("average", "excellent"),
        ("PC on", "Xbox on"),
        ("There is", "I enjoy it. There is"),
    ):
        assert broken(wording, VIGGO.encode(Copy(good.replace(old, new), ask))) is not None


def test_words_in_passing_are_free_where_nothing_is_asked_and_a_denial_reaches_no_further():
    def may_follow(meaning_, text, token):
        wording = Wording(VIGGO, *viggo_meaning(meaning_))
        state = wording.start()
        for number in VIGGO.encode(Copy(text))[:, 0]:
            state = wording.step(state, int(number)) if number else state
        return bool(wording.allowed(state, 50)[VIGGO.number[token]])

    assert may_follow("recommend(name[Nine Kites], platforms[PC])", "I think you'd", " love")
    assert not may_follow("give_opinion(name[Nine Kites], rating[poor])", "I really", " love")
    asked = "inform(name[Nine Kites], platforms[PC], available_on_steam[yes])"
    assert may_follow(asked, "{name} is for PC and is on", " Steam") and not may_follow(
        asked, "{name} is for PC, but is not on", " Steam"
    )


def test_a_laptops_switches_are_said_as_often_as_asked():
    ask, facts = rnnlg_meaning("compare(name=a;hasusbport=true;name=b;hasusbport=false)")
    rng = np.random.default_rng(0)
    texts = [babble(Wording(COPY, ask, facts), COPY, rng)[0] for _ in range(10)]
    assert rnnlg_errors(texts, [ask] * 10).right == 10


def test_the_table_counts_facts():
    ask = Ask((PRODUCT, Slot("price", "price", 0, 2)))
    table, rng = counting(COPY, ask), np.random.default_rng(0)
    state, said = table.start(), Counter()
    for k in range(12):
        token = int(rng.choice(np.flatnonzero(table.allowed(state, 12 - k))))
        if token == 0:
            break
        said.update(PLACEHOLDER.findall(COPY.tokens[token]))
        state = table.step(state, token)
    assert table.accepts(state) and said["product"] == 1 and said["price"] <= 2 and set(said) <= {"product", "price"}
    with pytest.raises(ValueError, match="at most 512"):
        counting(COPY, Ask(tuple(Slot(f"own{i}", "text", 1, 3) for i in range(5))))

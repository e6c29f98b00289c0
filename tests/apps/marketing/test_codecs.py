"""Copy to tokens and back, and what a network is told of an ask."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater_marketing.asks import (
    GAME_CLOSED,
    GAME_PLACES,
    LENGTH,
    PLACES,
    Ask,
    Copy,
    asks,
    describe,
    named,
    own_length,
    spoken,
    times_told,
    told,
    wish,
)
from headwater_marketing.codecs import CHARACTERS, CODECS, COPY, E2E, HERE, VIGGO
from headwater_marketing.data import sample
from headwater_marketing.games import GAMES
from headwater_marketing.plan import Fact, Plan, Slot

PRODUCT, PRICE = Slot("product", "name"), Slot("price", "price")


def back(text: str) -> str:
    return COPY.decode(COPY.encode(Copy(text))).text


def test_our_own_copy_survives_exactly_and_mostly_in_words():
    spelled = 0
    for item in sample():
        array = COPY.encode(item)
        assert COPY.decode(array).text == item.text
        spelled += sum(int(t) in COPY.spelling and COPY.tokens[int(t)].isalnum() for t in array[:, 0] if t)
    assert spelled <= len(sample())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["{price}", " {url}", "Hi", " tea", "\n", "\n\n", " ", "’s", "'ll", "!", "€", "Ü", "é", " - ", "2"]),
        max_size=30,
    )
)
def test_any_text_of_the_alphabet_survives(pieces):
    text = "".join(pieces)
    assert back(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [("{colour}", "unknown placeholder"), ("红茶", "outside the alphabet"), ("a { b", "a brace"), ("x" * 500, "at most 128")],
)
def test_what_does_not_fit_is_said(text, says):
    with pytest.raises(ValueError, match=says):
        COPY.encode(Copy(text))


def test_any_array_is_a_text():
    rng = np.random.default_rng(0)
    for codec in CODECS.values():
        assert isinstance(codec.decode(rng.integers(0, len(codec.tokens), codec.space.shape)).text, str)
        assert codec.decode(np.zeros(codec.space.shape, np.int64)).text == ""


@pytest.mark.parametrize("name", CODECS)
def test_vocabularies_hold_every_token_once(name):
    codec = CODECS[name]
    pieces = json.loads((HERE / f"{name}.json").read_text("utf-8"))
    assert (
        len(set(codec.tokens))
        == len(codec.tokens)
        == codec.space.vocab
        == 1 + len(CHARACTERS) + 2 * len(codec.places) + len(pieces)
    )
    assert not [piece for piece in pieces if any(c.isdigit() for c in piece) and not codec.phrases]


def test_realisations_of_a_closed_fact_are_one_token():
    text = "{name} is a cheap, not family-friendly pub by the river."
    tokens = [E2E.tokens[t] for t in E2E.encode(Copy(text))[:, 0] if t]
    assert "".join(tokens) == text
    assert {" cheap", " not family-friendly", " pub"} <= set(tokens)
    said = {s.slot: s.values for s in E2E.said[E2E.number[" cheap"]]}
    assert said == {"price_range": frozenset({"cheap", "less than £20"})}


def test_a_denial_is_one_token_with_all_that_it_denies():
    text = (
        "{name} is rated M (for Mature). It is a first or third person game that is fun but not available on Steam, Linux, or Mac."
    )
    tokens = [VIGGO.tokens[t] for t in VIGGO.encode(Copy(text))[:, 0] if t]
    assert "".join(tokens) == text and " not available on Steam, Linux, or Mac" in tokens
    said = {s.slot: (s.values, s.loose) for token in tokens for s in VIGGO.said[VIGGO.number[token]] if s.values}
    assert said["available_on_steam"] == said["has_mac_release"] == (frozenset({"no"}), False)
    assert said["esrb"] == (frozenset({"M (for Mature)"}), False) and said["rating"] == (frozenset({"excellent", "good"}), True)
    both = VIGGO.said[VIGGO.number[" first or third person"]]
    assert [s.values for s in both] == [frozenset({"first person"}), frozenset({"third person"})]


def test_a_plan_is_told_and_read_again():
    ask = Ask((PRODUCT, Slot("price", "price", 2, 2), Slot("code", "code", 0, 1), Slot("colour", "text")), act="copy")
    array = told(ask)
    assert array.shape == (LENGTH,) and times_told(array) == {"product": (1, 1), "price": (2, 2), "code": (0, 1), "fact_1": (1, 1)}
    assert spoken(ask.slots)["colour"] == "fact_1" and named("{fact_1}", ask) == "{colour}"
    assert np.array_equal(wish(ask).plan, array)


def test_a_plan_that_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match="no name of ours"):
        told(Ask(tuple(Slot(f"own{i}", "text") for i in range(7))))
    with pytest.raises(ValueError, match="unknown to the vocabulary"):
        told(Ask(closed=(("food", "Martian"),)))


def test_placeholder_names_are_frozen():
    """A shipped model's embeddings stand for these numbers."""
    assert told(Ask((PRODUCT,)))[:3].tolist() == [1, 1 + 16 + PLACES.index("product"), 0]
    assert PLACES[:3] == ("first_name", "brand", "product") and len(PLACES) == 121
    assert told(Ask(act="give_opinion"))[0] == 314 and told(Ask(closed=(("developer", "?"),)))[1] == 380


def test_games_are_told_by_names_of_their_own_and_campaigns_keep_theirs():
    slots = tuple(Slot(name, "text") for name in GAME_PLACES)
    assert spoken(slots, "inform") == {name: name for name in GAME_PLACES}
    assert spoken(slots) == {name: f"fact_{i}" for i, name in enumerate(GAME_PLACES, 1)}
    array = told(Ask(slots, (("rating", "average"), ("rating", "good")), "inform"))
    assert times_told(array) == dict.fromkeys(GAME_PLACES, (1, 1)) and int((array != 0).sum()) == 7
    values = {(slot, value) for reading in GAMES.closed for slot, value in reading.facts} - {("rating", "average")}
    assert values <= {(slot, value) for slot, values in GAME_CLOSED.items() for value in values}


def test_every_text_of_a_message_is_asked_for_what_it_states():
    plan = Plan("1", (Fact(PRODUCT, "Kettle"), Fact(PRICE, "£25")), {})
    found = asks({"title": ["{product}!"], "body": ["{price} for {product}, {product}."]}, plan, "push", "warm", "easy")
    assert [s.name for s in found["title"][0].slots] == ["product"]
    assert found["body"][0].slots == (Slot("product", "name", 2, 2), Slot("price", "price", 1, 1))
    assert (found["body"][0].part, found["body"][0].voice) == ("body", "warm")


def test_room_is_the_length_of_its_own_words():
    assert describe(Copy("{product} for {price}!")).room == own_length("{product} for {price}!") == 6

"""Other people's pairs: values to placeholders."""

import os
import re

import pytest

from headwater.errors import HeadwaterError
from headwater_marketing import data
from headwater_marketing.codecs import COPY, VIGGO
from headwater_marketing.constraint import Wording
from headwater_marketing.games import GAMES
from headwater_marketing.metrics import meaning, slot_errors
from headwater_marketing.reviews import (
    asked,
    delexicalised,
    e2e_meaning,
    rnnlg_items,
    rnnlg_meaning,
    rnnlg_pairs,
    table_items,
    table_pairs,
    viggo_meaning,
    written,
)

here = pytest.mark.skipif(not os.environ.get("HEADWATER_DATA"), reason="the data sets are not here")


@pytest.mark.parametrize(
    ("text", "facts", "found"),
    [
        ("The Mill is near the mill pond", {"name": "The Mill"}, "{name} is near {name} pond"),
        ("windows 8.1 and windows 8", {"platform": "windows 8", "platform_2": "windows 8.1"}, "{platform_2} and {platform}"),
        ("costs 329 dollar -s", {"price": "329 dollars"}, "costs {price}"),
        ("there are 57 televisions", {"type": "television", "count": "57"}, "there are {count} {type}s"),
        ("a tv with a eco rating", {"ecorating": "a"}, "a tv with {ecorating} eco rating"),
        ("eco rating is a+", {"ecorating": "a"}, None),
        ("2 hdmi ports, 32 inch", {"hdmiport": "2"}, "{hdmiport} hdmi ports, 32 inch"),
        ("Cotto's food", {"name": "Cotto"}, "{name}'s food"),
        ("nothing here", {"name": "Cotto"}, None),
        ("a {brace}", {}, None),
    ],
)
def test_values_become_placeholders(text, facts, found):
    assert delexicalised(text, facts) == found


def test_the_same_value_twice_is_two_facts():
    assert (
        delexicalised("a has 4 gb and b has 4 gb", {"memory": "4 gb", "memory_2": "4 gb"}) == "a has {memory} and b has {memory_2}"
    )


def test_meanings():
    ask, facts = e2e_meaning("name[Zizzi], eatType[pub], customer rating[5 out of 5], familyFriendly[no], near[Ranch]")
    assert facts == {"name": "Zizzi", "near": "Ranch"}
    assert ask.closed == (("eat_type", "pub"), ("rating", "5 out of 5"), ("family_friendly", "no"))
    ask, facts = rnnlg_meaning("?compare(name=a b;driverange=dontcare;name='c';hasusbport=false)")
    assert (ask.act, facts, ask.closed) == (
        "compare",
        {"name": "a b", "name_2": "c"},
        (("driverange", "dontcare"), ("hasusbport", "no")),
    )


def test_a_games_meaning_has_an_act_lists_and_values_that_are_asked_about():
    ask, facts = viggo_meaning(
        "inform(name[Nine Kites: II], release_year[2013], developer[Fennel & Rook], esrb[E 10+ (for Everyone 10 and Older)],"
        " genres[driving/racing, sport], platforms[PC], has_mac_release[no])"
    )
    assert facts == {"name": "Nine Kites: II", "release_year": "2013", "developer": "Fennel & Rook"}
    assert ask.act == "inform" and ask.slots[0].most == 2 and [slot.most for slot in ask.slots[1:]] == [1, 1]
    assert ask.closed == (
        ("esrb", "E 10+ (for Everyone 10 and Older)"),
        ("genres", "driving/racing"),
        ("genres", "sport"),
        ("platforms", "PC"),
        ("has_mac_release", "no"),
    )
    for slot in ("developer", "genres"):
        ask, facts = viggo_meaning(f"request_attribute({slot}[])")
        assert (ask.act, ask.slots, ask.closed, facts) == ("request_attribute", (), ((slot, "?"),), {})


def test_bare_tokens_become_writing():
    assert written("it 's {price} -s . do you take card -s ?") == "It's {price}. Do you take cards?"
    assert asked("Which one.", rnnlg_meaning("?select()")[0]) == "Which one?"


def test_missing_data_say_where_to_get_them(monkeypatch):
    monkeypatch.setenv("HEADWATER_DATA", "/nowhere")
    table_pairs.cache_clear()
    with pytest.raises(HeadwaterError, match="HEADWATER_DATA"):
        table_pairs("viggo", "valid")
    with pytest.raises(HeadwaterError, match="no split 'test'"):
        table_pairs("e2e", "test")


def test_the_grammar_makes_the_same_corpus_from_a_seed():
    first, again, other = data.drawn(12, "a"), data.drawn(12, "a"), data.drawn(12, "b")
    assert [(i.text, i.ask) for i in first] == [(i.text, i.ask) for i in again] and first != other
    for item in first:
        assert COPY.decode(COPY.encode(item)).text == item.text
        assert {s.name for s in item.ask.slots if s.least} <= set(re.findall(r"\{(\w+)\}", item.text))
        assert not re.search(r"\d", re.sub(r"\{\w+\}", "", item.text))


def test_the_packaged_samples_can_be_held():
    for name, dataset in data.DATASETS.items():
        assert len(dataset.sample()) >= 8 and any(item.ask.slots for item in dataset.sample()), name


@here
def test_how_much_of_the_benchmarks_is_kept():
    valid = table_pairs("e2e", "valid")
    assert (len(valid), len({pair.meaning for pair in valid})) == (4299, 1484)
    assert sum(pair.copy() is None for pair in valid) < 10
    laptop = rnnlg_pairs("laptop", "valid")
    assert len(laptop) == 2649 and len(rnnlg_items(["laptop"], "valid")) > 2500


@here
def test_nearly_all_of_viggo_is_kept_and_says_what_it_should():
    for split, pairs, meanings, lost in (("train", 5103, 1675, 2), ("valid", 714, 238, 1)):
        every = table_pairs("viggo", split)
        assert (len(every), len({pair.meaning for pair in every})) == (pairs, meanings)
        assert len(table_items("viggo", split)) == pairs - lost
    assert len(data.table_items("viggo", "train")) == 5101
    found = slot_errors([pair.reference for pair in every], [meaning(pair.ask, pair.facts) for pair in every], GAMES)
    assert found.rate < 0.015 and found.right > 0.95 * found.texts


@here
def test_no_games_meaning_is_refused():
    every = {pair.meaning: pair for pair in table_pairs("viggo", "valid")}
    assert all(Wording(VIGGO, pair.ask, pair.facts).limit for pair in every.values())

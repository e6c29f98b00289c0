"""Other people's pairs: values to placeholders."""

import os
import re

import pytest

from headwater.errors import HeadwaterError
from headwater_marketing import data
from headwater_marketing.codecs import COPY
from headwater_marketing.reviews import (
    asked,
    delexicalised,
    e2e_meaning,
    e2e_pairs,
    rnnlg_items,
    rnnlg_meaning,
    rnnlg_pairs,
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


def test_bare_tokens_become_writing():
    assert written("it 's {price} -s . do you take card -s ?") == "It's {price}. Do you take cards?"
    assert asked("Which one.", rnnlg_meaning("?select()")[0]) == "Which one?"


def test_missing_data_say_where_to_get_them(monkeypatch):
    monkeypatch.setenv("HEADWATER_DATA", "/nowhere")
    e2e_pairs.cache_clear()
    with pytest.raises(HeadwaterError, match="HEADWATER_DATA"):
        e2e_pairs("e2e", "valid")
    with pytest.raises(HeadwaterError, match="no split 'test'"):
        e2e_pairs("e2e", "test")


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
    valid = e2e_pairs("e2e", "valid")
    assert (len(valid), len({pair.meaning for pair in valid})) == (4299, 1484)
    assert sum(pair.copy() is None for pair in valid) < 10
    laptop = rnnlg_pairs("laptop", "valid")
    assert len(laptop) == 2649 and len(rnnlg_items(["laptop"], "valid")) > 2500

"""The benchmarks' figures, against the tools that define them."""

import random
from dataclasses import replace

import pytest

from headwater.domain import Evaluation
from headwater_marketing.asks import Ask, Copy, wish
from headwater_marketing.games import GAMES
from headwater_marketing.metrics import (
    METRICS,
    SlotErrors,
    bleu,
    distinct,
    facts_kept,
    meaning,
    read_facts,
    rnnlg_errors,
    self_bleu,
    slot_errors,
)
from headwater_marketing.plan import Slot
from headwater_marketing.reviews import e2e_meaning, rnnlg_meaning, viggo_meaning

GOLD = meaning(
    Ask(closed=(("eat_type", "pub"), ("food", "French"), ("price_range", "cheap"), ("family_friendly", "no"))),
    {"name": "The Mill", "near": "Café Rouge"},
)


@pytest.mark.parametrize(
    ("text", "missed", "added", "wrong"),
    [
        ("The Mill is a cheap French pub near Café Rouge. It is not family friendly.", 0, 0, 0),
        ("The Mill, a cheap French pub near Café Rouge, is family friendly.", 0, 0, 1),
        ("The Mill is a cheap French pub near Café Rouge, by the river, not for families.", 0, 1, 0),
        ("The Mill is a French restaurant. The Mill is no place for kids.", 2, 0, 2),
        ("the mill serves French food, inexpensive, and is an adult only pub near CAFÉ ROUGE", 0, 0, 0),
    ],
)
def test_slot_errors_by_the_published_patterns(text, missed, added, wrong):
    found = slot_errors([text], [GOLD])
    assert (found.missed, found.added, found.wrong, found.slots) == (missed, added, wrong, 6)
    assert found.right == int(not (missed or added or wrong))


def test_of_two_readings_the_one_that_is_asked_for_counts():
    for value in ("cheap", "less than £20"):
        assert read_facts("an affordable place", {"price_range": frozenset({value})}) == {"price_range": {value}}
    assert read_facts("rated high", {"rating": frozenset({"5 out of 5"})}) == {"rating": {"5 out of 5"}}


def test_two_values_of_a_slot_are_two_facts():
    ask, facts = e2e_meaning("name[Cotto], name[Zizzi], eatType[pub], eatType[restaurant]")
    gold = meaning(ask, facts)
    assert gold == {"name": {"Cotto", "Zizzi"}, "eat_type": {"pub", "restaurant"}}
    assert slot_errors(["Cotto and Zizzi: a pub and a restaurant", "Cotto is a pub"], [gold] * 2) == SlotErrors(2, 0, 0, 8, 2, 1)


GAME = (
    "inform(name[Nine Kites], release_year[2013], rating[good], genres[role-playing, turn-based strategy], platforms[PC],"
    " has_multiplayer[no], available_on_steam[yes], has_linux_release[no], has_mac_release[no])"
)


@pytest.mark.parametrize(
    ("text", "missed", "added", "wrong"),
    [
        ("{0}, a turn-based RPG with good reviews. No multiplayer. Get it on Steam for PC, but not for Linux or Mac.", 0, 0, 0),
        ("{0}, a single-player turn-based strategy RPG, is fun. PC and Steam only: Linux and Mac are not supported.", 0, 0, 0),
        ("{0}, a turn-based RPG, is good. It isn't multiplayer and is on Steam for PC, Linux and Mac.", 0, 0, 2),
        ("{0} is a fun single-player turn-based strategy for PC on Steam, not Linux. It has no Mac release.", 1, 0, 0),
        ("{0} is an average single-player turn-based RPG for PC and Xbox on Steam, without Linux or Mac releases.", 0, 1, 1),
        (
            "It's a 2013 turn-based RPG that isn't good, PC and Steam only. It has no multiplayer and no Linux or Mac support.",
            2,
            0,
            0,
        ),
    ],
)
def test_slot_errors_of_games(text, missed, added, wrong):
    ask, facts = viggo_meaning(GAME)
    found = slot_errors([text.format("Nine Kites from 2013")], [meaning(ask, facts)], GAMES)
    assert (found.missed, found.added, found.wrong, found.slots) == (missed, added, wrong, 10)


def test_what_is_said_of_games_in_passing_counts_only_where_it_is_asked_for():
    read = lambda text, asked: read_facts(text, meaning(*viggo_meaning(asked)), GAMES)  # noqa: E731
    love, year = "I think you'd love Strategic Bus, which developer made it?", "Which year was best for games?"
    assert read(love, "recommend(name[Strategic Bus])") == {"name": {"Strategic Bus"}}  # nothing is read inside a name
    assert read(love, "give_opinion(name[Strategic Bus], rating[excellent])")["rating"] == {"excellent"}
    assert "rating" not in read(love, "give_opinion(name[Strategic Bus], rating[poor])")
    assert read(year, "request_attribute(release_year[])") == {"release_year": {"?"}} and not read(year, "request()")
    assert read("a massively multiplayer online role-playing game", "request(genres[MMORPG])") == {"genres": {"MMORPG"}}
    assert read("an FPS", "request()") == {"player_perspective": {"first person"}, "genres": {"shooter"}}


def test_errors_add_up():
    total = SlotErrors(1, 0, 2, 10, 4, 2) + SlotErrors(0, 1, 0, 10, 1, 0)
    assert total == SlotErrors(1, 1, 2, 20, 5, 2) and total.rate == 0.2


@pytest.mark.parametrize(
    ("text", "missed", "added"),
    [
        ("{name} has USB ports and {memory}, {name_2} has no USB port.", 0, 0),
        ("{name} has {memory}, {name_2} has no USB port.", 1, 0),
        ("{name} and {name} have USB, USB, USB and {memory}, {name_2} none; good for business.", 0, 3),
    ],
)
def test_rnnlg_is_counted_per_occurrence(text, missed, added):
    ask, _ = rnnlg_meaning("?compare(name=a;hasusbport=true;memory=4 gb;name=b;hasusbport=false;type=laptop)")
    found = rnnlg_errors([text], [ask])
    assert (found.missed, found.added, found.slots) == (missed, added, 5)
    assert rnnlg_errors([text], [replace(ask, act="select")]).texts == 0


def test_bleu_is_sacrebleus():
    """mteval-v13a's tokens, lower case, unsmoothed: sacrebleu calls it tok:13a, case:lc, smooth:none."""
    corpus = pytest.importorskip("sacrebleu").corpus_bleu
    dice = random.Random(0)
    words = (
        'The Mill is a cheap pub, near Café Rouge. It\'s rated 3.5 (out of 5) - £20-25 & family-friendly! 1,000 "ok" a/b'.split()
    )
    for several in (1, 3):
        references = [[" ".join(dice.sample(words, dice.randint(6, len(words)))) for _ in range(several)] for _ in range(30)]
        hypotheses = [
            " ".join(w for w in several_[0].split() if dice.random() < 0.9) + dice.choice(["", "."]) for several_ in references
        ]
        theirs = corpus(
            hypotheses, [list(r) for r in zip(*references, strict=True)], smooth_method="none", lowercase=True, tokenize="13a"
        )
        assert bleu(hypotheses, references) == pytest.approx(theirs.score, abs=1e-6)
        assert 20 < theirs.score < 95


def test_bleu_takes_the_closest_reference_and_is_zero_without_a_match():
    assert bleu(["a b c d"], [["a b c d e f g h", "a b c d"]]) == pytest.approx(100)
    assert bleu(["x y"], [["a b"]]) == 0


def test_variety():
    same, other = ["a fine cup of tea today"] * 4, ["a b c d e", "f g h i j", "k l m n o", "p q r s t"]
    assert distinct(other) == 1 and distinct(same) == pytest.approx(5 / 20)
    assert self_bleu(same) == pytest.approx(100) and self_bleu(other) == 0
    assert self_bleu(other * 60, most=20, seed=1) == self_bleu(other * 60, most=20, seed=1)


def test_a_models_figures_follow_what_was_asked():
    told = wish(Ask((Slot("product", "name"), Slot("price", "price", 0, 1))))
    made = [Copy("{product}"), Copy("{product} {price}"), Copy("{product} {product}"), Copy("{code}")]
    errors = [facts_kept(Evaluation([item], [told], [])) for item in made]
    assert errors == [0, 0, 1, 2]
    assert all(metric.score(Evaluation(made, [told] * 4, [])) >= 0 for metric in METRICS)

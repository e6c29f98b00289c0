"""Evaluation says what was measured, on what, and how to measure it again."""

from __future__ import annotations

import math
import statistics

import pytest
import toys

from headwater.domain import Evaluation, Metric
from headwater.errors import HeadwaterError
from headwater.evaluate import evaluate, held_out, obedience


def vowels(seen: Evaluation[str, toys.WordWish]) -> float:
    return sum(word.lower().count("a") for word in seen.made) / len(seen.made)


@pytest.fixture
def generator() -> toys.Generator:
    domain = toys.Words()
    domain.metrics = (  # type: ignore[misc]
        Metric("vowels", vowels, "higher", published={"someone": 1.5}, source="a paper, table 1"),
        Metric("silent", lambda seen: math.nan, "lower"),
    )
    return toys.generator(domain, toys.recipe("words", "recurrent"))


def test_figures_carry_their_number_seed_command_and_machine(generator: toys.Generator) -> None:
    found = evaluate(generator, n=40, seed=3)
    assert found["seed"] == 3 and "-n 40 --seed 3" in found["command"]
    assert found["fingerprint"]["tile"] == generator.tile
    made = generator.sample(40, seed=3)
    assert found["metrics"]["vowels"]["value"] == vowels(Evaluation(made.items, made.wishes, []))
    assert found["metrics"]["vowels"]["published"] == {"someone": 1.5}
    assert "silent" not in found["metrics"]  # a figure that says nothing is not printed


def test_the_likelihood_is_that_of_held_out_items(generator: toys.Generator) -> None:
    found = evaluate(generator, n=5)["metrics"]["log_likelihood"]
    held, where = held_out(generator, 10_000)
    assert where == "words, validation split" and sorted(held) == sorted(toys.words("valid"))
    value = generator.score(held[:256]).value
    assert found["value"] == pytest.approx(float(value.mean()))
    assert found["kind"] == "exact" and found["n"] == 256


def test_the_packaged_sample_stands_in_for_absent_data(generator: toys.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(split: str) -> list[str]:
        raise HeadwaterError("not here")

    domain = generator.domain
    dataset = toys.Dataset(toys.HERE, absent, lambda: ["abc", "cab"])
    monkeypatch.setattr(type(domain), "datasets", {"words": dataset})
    held, where = held_out(generator, 10)
    assert sorted(held) == ["abc", "cab"] and where == "words, packaged sample"


def test_the_first_held_out_items_are_like_all_of_them(generator: toys.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are sorted: what is cut off their beginning is not a sample of them."""
    rows = [f"{'a' * (i // 100)}" for i in range(600)]
    monkeypatch.setattr(type(generator.domain), "datasets", {"words": toys.Dataset(toys.HERE, lambda split: rows, lambda: rows)})
    held, _ = held_out(generator, 150)
    assert len(held) == 150 and abs(statistics.mean(map(len, held)) - 2.5) < 0.5 and held == held_out(generator, 150)[0]
    assert held_out(generator, 300)[0][:150] == held


def test_obedience_measures_the_distance_from_what_was_asked(generator: toys.Generator) -> None:
    rows = obedience(generator, n=30, quantiles=(0.5,))
    (row,) = rows
    made = [w.lower().count("a") for w in generator.sample(30, many=row["asked"])]
    assert row["knob"] == "many"
    assert row["median"] == statistics.median(made)
    assert row["off"] >= 0

"""The best items under a black-box objective: better than chance at the same price, never dearer than agreed, and resumable."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toys

from headwater.constraints import FiniteConstraint
from headwater.errors import HeadwaterError, MissingVerb
from headwater.generator import Generator
from headwater.noise import Noise
from headwater.optimise import CALLS, STATE, Optimum, auc_top
from headwater.optimise.latent import LatentSearch
from headwater.optimise.policy import PolicyGradient


def vowels(word: str) -> float:
    return (word.count("a") + 0.5 * word.count("A")) / 6


def near(point: Any) -> float:
    return -float(np.abs(np.asarray(point).ravel()[:2] - [0.7, -0.4]).sum())


#: domain, network, family, options of the family, of the search; the objective
CASES: dict[str, tuple[str, str, str, dict[str, Any], dict[str, Any], Callable[[Any], float]]] = {
    "policy gradient": ("words", "recurrent", "autoregressive", {}, {"rate": 5e-3, "rows": 32}, vowels),
    "re-mask search": ("words", "transformer", "masked_diffusion", {}, {}, vowels),
    "latent search": ("points", "mlp", "gan", {}, {}, near),
}
every_case = pytest.mark.parametrize("case", CASES)


def opened(case: str) -> tuple[Generator, Callable[[Any], float], dict[str, Any]]:
    name, network, family, options, search, objective = CASES[case]
    made = toys.generator(toys.DOMAINS[name](), toys.recipe(name, network, family=family, options=options, tile=32))
    return made, objective, search


class Counted:
    """The objective, with a count; a run dies before call ``dies``."""

    def __init__(self, objective: Callable[[Any], float], dies: int = 10**9) -> None:
        self.objective, self.dies, self.items = objective, dies, list[Any]()

    def __call__(self, item: Any) -> float:
        if len(self.items) == self.dies:
            raise KeyboardInterrupt
        self.items.append(item)
        return self.objective(item)


def facts(found: Optimum) -> Any:
    return [np.asarray(i).tolist() for i in found.items], found.scores, found.called, found.repeats, found.invalid


def weights(made: Generator) -> str:
    return hashlib.blake2b(b"".join(p.detach().numpy().tobytes() for p in made.model.parameters())).hexdigest()


@every_case
def test_it_beats_as_many_random_samples_and_leaves_the_model_alone(case: str) -> None:
    made, objective, options = opened(case)
    before, plain = weights(made), made.sample(20, seed=5).items
    counted = Counted(objective)
    found = made.optimise(counted, 300, seed=1, options=options)
    assert found.search == case == made.verbs["optimise"]
    random = {np.asarray(item).tobytes(): objective(item) for item in made.sample(900, seed=1)}
    top = sorted(list(random.values())[:300])[-10:]
    assert found.history[-1][2] > np.mean(top) + 0.05 and found.scores[0] > max(top)
    assert weights(made) == before
    assert all(np.array_equal(a, b) for a, b in zip(made.sample(20, seed=5), plain, strict=True))
    # what it says is so
    assert len(counted.items) == len(found.called) <= 300
    assert len({np.asarray(item).tobytes() for item in counted.items}) == len(counted.items), "an item was judged twice"
    assert [objective(item) for item in found.items] == found.scores == sorted(found.scores, reverse=True)
    assert found.scores == sorted(found.called, reverse=True)[:10]


@every_case
def test_the_seed_decides(case: str) -> None:
    made, objective, options = opened(case)
    runs = [made.optimise(objective, 80, seed=seed, options=options) for seed in (1, 1, 2)]
    assert facts(runs[0]) == facts(runs[1]) != facts(runs[2])


@every_case
def test_a_killed_search_resumed_is_as_if_unbroken(case: str, tmp_path: Path) -> None:
    made, objective, options = opened(case)
    how: dict[str, Any] = {"seed": 3, "options": options, "best": 5, "save_seconds": 0.0}
    unbroken = made.optimise(objective, 120, **how)
    told = 0
    for dies in (10, 45, 1, 30):
        counted = Counted(objective, dies)
        with pytest.raises(KeyboardInterrupt):
            made.optimise(counted, 120, folder=tmp_path, **how)
        told += len(counted.items)
    assert (tmp_path / STATE).is_file()
    with (tmp_path / CALLS).open("ab") as file:
        file.write(b'{"key": "torn')  # as a crash leaves it
    last = Counted(objective)
    found = made.optimise(last, 120, folder=tmp_path, **how)
    assert facts(found) == facts(unbroken)
    assert told + len(last.items) == len(unbroken.called)  # no call was made twice
    assert sorted(p.name for p in tmp_path.iterdir()) == [CALLS, STATE]
    # a finished search costs nothing to see again, and goes on with more money
    again = Counted(objective)
    assert facts(made.optimise(again, 120, folder=tmp_path, **how)) == facts(unbroken) and not again.items
    more = made.optimise(objective, 160, folder=tmp_path, **how)
    assert facts(more) == facts(made.optimise(objective, 160, **how))


def test_without_its_state_the_journal_alone_is_enough(tmp_path: Path) -> None:
    made, objective, options = opened("policy gradient")
    whole = made.optimise(objective, 90, folder=tmp_path, options=options, save_seconds=0.0)
    (tmp_path / STATE).unlink()
    counted = Counted(objective)
    assert facts(made.optimise(counted, 90, folder=tmp_path, options=options)) == facts(whole) and not counted.items


@pytest.mark.parametrize("change", [{"seed": 1}, {"options": {"sigma": 5.0}}, {"best": 3}, {"many": 2}, {"start": ["abc"]}])
def test_a_folder_belongs_to_one_search(change: dict[str, Any], tmp_path: Path) -> None:
    made, objective, _ = opened("policy gradient")
    made.optimise(objective, 5, folder=tmp_path)
    with pytest.raises(HeadwaterError, match=r"holds another search .* name an empty folder$"):
        made.optimise(objective, 5, folder=tmp_path, **change)


@every_case
@pytest.mark.parametrize("budget", [1, 2, 33])
def test_the_budget_is_never_exceeded_by_one(case: str, budget: int) -> None:
    made, objective, options = opened(case)
    counted = Counted(objective)
    found = made.optimise(counted, budget, options=options)
    assert len(counted.items) == budget == len(found.called)
    assert len(found.history) == budget and found.history[-1][0] == budget


def test_a_small_world_is_searched_once_and_then_left() -> None:
    """All items are one item: the search ends although budget is left."""

    class Mute(toys.Words):
        codecs = {"letters": type("Mute", (toys.Letters,), {"decode": lambda self, array: "a"})()}

    made = toys.generator(Mute(), toys.recipe("words", "recurrent"))
    found = made.optimise(vowels, 50, options={"rows": 4})
    assert found.called == [vowels("a")] and found.items == ["a"] and found.repeats == 4 * 51 - 1


@every_case
def test_a_black_box_may_fail(case: str) -> None:
    made, objective, options = opened(case)
    count = iter(range(10**6))

    def moody(item: Any) -> float:
        i = next(count)
        if i % 3 == 0:
            raise ZeroDivisionError("bad day")
        return (math.nan, math.inf)[i // 3 % 2] if i % 3 == 1 else objective(item)

    found = made.optimise(moody, 90, options=options)
    assert len(found.called) == 90 and sum(math.isinf(s) for s in found.called) == 60
    assert found.failures == {"ZeroDivisionError: bad day": 30, "the objective gave nan": 15, "the objective gave inf": 15}
    assert all(math.isfinite(s) for s in found.scores) and len(found.items) == 10
    assert not made.optimise(lambda item: math.nan, 40, options=options).items  # nothing to learn from, nothing found


def test_items_that_the_domain_rejects_cost_nothing() -> None:
    class Short(toys.Words):
        def problem(self, item: str, asked: Any = None) -> str | None:
            return "too long" if len(item) > 3 else None

    made = toys.generator(Short(), toys.recipe("words", "recurrent"))
    counted = Counted(vowels)
    found = made.optimise(counted, 60, options={"rate": 5e-3})
    assert len(counted.items) == len(found.called) and found.invalid > 0
    assert max(map(len, counted.items)) <= 3


@pytest.mark.parametrize(("case", "good"), [("policy gradient", "aaaaab"), ("re-mask search", "aaaaab")])
def test_it_may_begin_at_items(case: str, good: str) -> None:
    made, objective, options = opened(case)
    found = made.optimise(objective, 120, start=[good, "bcb"], options=options)
    assert found.called[:2] == [objective(good), objective("bcb")]
    assert found.auc() > made.optimise(objective, 120, options=options).auc()


def test_an_item_outside_the_constraint_is_judged_and_is_no_parent() -> None:
    """The best of all, and outside: the search goes on from the others, or from the model's samples."""
    made, objective, options = opened("re-mask search")
    small = FiniteConstraint([[[-1, 0, 0, 0, -1, -1, -1]]], [True])  # a, b and c alone
    made.codec = toys.Letters(language=small)
    for start in (["aaaaaA", "abc"], ["aaaaaA"]):
        found = made.optimise(objective, 100, start=start, options=options)
        assert found.called[0] == objective("aaaaaA") and len(found.called) > 20
        assert all(item == item.lower() for item in found.items if item != "aaaaaA") and len(found.items) == 10


def test_the_policy_tends_to_the_tempered_model() -> None:
    """Over all 43 words of at most two letters: p(x) exp(sigma u(x)), normalised."""

    class Brief(toys.Words):
        codecs = {"letters": toys.Letters(2)}

    made = toys.generator(Brief(), toys.recipe("words", "recurrent", tile=64))
    search = PolicyGradient(made, made.wish(), Noise(4), rows=64, sigma=2.0, rate=2e-2, replay=0)
    every = ["".join(letters) for n in range(3) for letters in itertools.product(toys.ALPHABET, repeat=n)]
    for turn in range(40):
        x = search.propose(turn)
        search.learn(x, np.array([vowels(made.codec.decode(row)) for row in x]))
    before, after = (g.score(every).value.numpy() for g in (made, search.policy))
    wanted = before + 2.0 * np.array([vowels(word) for word in every]) * 3
    wanted = np.exp(wanted) / np.exp(wanted).sum()

    def apart(log_probability: Any) -> float:
        return float((np.exp(log_probability) * (log_probability - np.log(wanted))).sum())

    assert len(every) == 43 and apart(after) < 0.1 * apart(before)


def test_latents_may_begin_at_items() -> None:
    made = toys.generator(toys.Points(), toys.recipe("points", "mlp", family="vae", options={"latent": 4}))
    start = [np.array([0.7, -0.4], np.float32), np.array([3.0, 3.0], np.float32)]
    found = made.optimise(near, 20, start=start)
    assert found.called[0] == pytest.approx(0, abs=1e-6) and np.array_equal(found.items[0], start[0])
    with pytest.raises(HeadwaterError, match=r"^start: this model has no encoder"):
        opened("latent search")[0].optimise(near, 20, start=start)


@pytest.mark.parametrize(("tile", "rows", "calls"), [(32, 16, [16]), (32, 40, [32, 32]), (8, 16, [8, 8])])
def test_latents_are_decoded_in_tiles_of_the_search(
    tile: int, rows: int, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = toys.generator(toys.Points(), toys.recipe("points", "mlp", family="gan", tile=tile))
    family, seen = type(made.model.family), []
    plain = family.decode
    monkeypatch.setattr(family, "decode", lambda self, z, *rest: (seen.append(len(z)), plain(self, z, *rest))[1])
    assert LatentSearch(made, made.wish(), Noise(0), rows=rows).propose(0).shape == (rows, 2)
    assert seen == calls and made.tile == tile


def test_the_evolution_strategy_finds_a_narrow_valley() -> None:
    """An ellipsoid of condition 10⁴ in ten dimensions, off the centre: per-dimension steps are needed."""
    made, _, _ = opened("latent search")
    search = LatentSearch(made, made.wish(), Noise(0), rows=16)
    search.size, search.shape = 10, (10,)
    search._begin()
    scale, best = np.logspace(0, 2, 10), -math.inf
    for turn in range(500):
        normal = Noise(1).fold(turn).normal(16, 10)[0].double().numpy()
        search.z = search.mean + search.step * np.sqrt(search.spread) * normal
        scores = -(((search.z - 0.5) * scale) ** 2).sum(axis=1)
        best = max(best, float(scores.max()))
        search.learn(search.z, scores)
    assert best > -1e-5


def test_other_knobs_than_none_are_kept_to() -> None:
    made, _, options = opened("policy gradient")
    plain, asked = (made.optimise(vowels, 64, options={**options, "rows": 64}, **knobs) for knobs in ({}, {"many": 5}))
    assert plain.called != asked.called


def test_mistakes_are_one_line() -> None:
    made, objective, _ = opened("policy gradient")
    with pytest.raises(HeadwaterError, match=r"^budget and best: expected at least 1; got 0 and 10$"):
        made.optimise(objective, 0)
    with pytest.raises(HeadwaterError, match=r"^options of the policy gradient: got an unexpected keyword argument 'speed'$"):
        made.optimise(objective, 5, options={"speed": 3})
    with pytest.raises(HeadwaterError, match=r"^options of the policy gradient: sigma and rate are above 0"):
        made.optimise(objective, 5, options={"sigma": 0.0})
    unable = toys.generator(toys.Points(), toys.recipe("points", "mlp"))
    with pytest.raises(MissingVerb, match=r"points/diffusion cannot optimise"):
        unable.optimise(near, 5)


def test_the_area_is_that_of_pmo() -> None:
    """By hand: 250 calls of a budget of 400; the two best after 100, 200 and 250 calls."""
    called = [0.1] * 99 + [0.5] + [0.3] * 50 + [-math.inf] * 50 + [0.9] * 50
    at = [0.0, (0.5 + 0.1) / 2, (0.5 + 0.3) / 2, 0.9]
    area = 100 * (at[0] + at[1]) / 2 + 100 * (at[1] + at[2]) / 2 + 50 * (at[2] + at[3]) / 2 + 150 * at[3]
    assert auc_top(called, 400, k=2) == pytest.approx(area / 400)
    assert auc_top(called + [1.0] * 500, 250, k=2) == pytest.approx((area - 150 * at[3]) / 250)
    assert auc_top([], 10) == 0.0 and auc_top([0.4], 1) == pytest.approx(0.2)


def test_the_history_is_of_the_best_so_far() -> None:
    found = Optimum([], [], [-math.inf, 0.2, 0.1, 0.4, *[0.3] * 12], {}, 0, 0, 20, "x")
    assert found.history[0] == (1, -math.inf, -math.inf)
    assert found.history[2] == (3, 0.2, pytest.approx(0.15)) and found.history[3][:2] == (4, 0.4)
    assert found.history[-1] == (16, 0.4, pytest.approx((0.4 + 9 * 0.3) / 10))

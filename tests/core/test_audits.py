"""The audits find what they look for, and nothing where there is nothing; and they are what their papers' formulas say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import toys
from torch import Tensor

from headwater.errors import HeadwaterError
from headwater.evaluate import evaluate, likelihood
from headwater.evaluate.audits import audits
from headwater.evaluate.coverage import coverage
from headwater.evaluate.distances import Table, distances, nearest, radii
from headwater.evaluate.memorisation import Memorisation, memorisation, spaced
from headwater.evaluate.two_sample import auc, two_sample
from headwater.noise import Noise
from headwater.spaces import Grid


def normal(seed: int, n: int, width: int = 2) -> np.ndarray[Any, Any]:
    return Noise(seed).fold("test").rows(range(n)).normal(width).numpy()


def bits(seed: int, n: int, width: int = 70, share: float = 0.3) -> np.ndarray[Any, Any]:
    return Noise(seed).fold("bits").rows(range(n)).uniform(width).numpy() < share


KINDS = pytest.mark.parametrize("draw", [normal, bits])


def plainly(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """All distances, pair by pair."""
    if a.dtype != bool:
        return np.array([[math.dist(x, y) for y in b] for x in a])

    def tanimoto(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
        return 1 - (x & y).sum() / (x | y).sum() if (x | y).any() else 0.0

    return np.array([[tanimoto(x, y) for y in b] for x in a])


# --- distances ----------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("blocks", [(1, 1), (3, 5), (7, 1000), (1000, 4)])
def test_distances_are_those_of_each_pair_in_any_blocks(draw: Any, blocks: tuple[int, int]) -> None:
    a, b = draw(1, 23), draw(2, 31)
    a[3] = b[4]
    if a.dtype == bool:
        a[5] = b[6] = False  # a pair without a bit
    want = plainly(a, b)
    found = distances(Table(a), Table(b), *blocks)
    assert np.allclose(found, want, atol=1e-6 if a.dtype != bool else 0)
    assert np.allclose(nearest(Table(a), Table(b), *blocks), want.min(axis=1), atol=1e-6)
    if a.dtype == bool:
        assert np.array_equal(found, distances(Table(a), Table(b))) and found[3, 4] == 0 == found[5, 6]
    else:
        assert found[3, 4] < 1e-6


def test_far_from_the_origin_no_digit_is_lost() -> None:
    a = normal(1, 20) + 1e4
    assert np.allclose(distances(Table(a), Table(a[5:])), plainly(a.astype(float), a[5:].astype(float)), atol=1e-5)


def test_features_that_cannot_be_compared_are_refused() -> None:
    for bad, why in (
        (np.zeros((3, 2), np.int64), "expected bool or float rows; got int64"),
        (np.zeros(3), r"shape \(3,\)"),
        (np.array([[np.nan, 1.0]]), "expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=why):
            Table(bad)
    with pytest.raises(ValueError, match="two kinds"):
        nearest(Table(normal(1, 4, 70)), Table(bits(1, 4)))


# --- density and coverage -----------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("blocks", [(128, 2048), (5, 7)])
def test_density_and_coverage_are_the_formulas(draw: Any, blocks: tuple[int, int]) -> None:
    real, made, k = draw(1, 40), draw(2, 33), 4
    within, across = plainly(real, real), plainly(real, made)
    reach = np.sort(within, axis=1)[:, k]  # the first is the item itself
    assert np.allclose(radii(Table(real), k, blocks[0]), reach, atol=1e-6)
    inside = across <= reach[:, None]
    found = coverage(real, made, k, *blocks)
    assert found.density == pytest.approx(inside.sum() / (k * len(made)))
    assert found.coverage == pytest.approx(inside.any(axis=1).mean())


def test_coverage_tells_what_is_missing_and_density_what_lies_outside() -> None:
    real, k, n = normal(1, 1000), 5, 1000
    same = coverage(real, normal(2, n), k)
    # what identical distributions give: Naeem et al., 2020, lemma 2
    expected = 1 - math.prod((n - 1 - i) / (2 * n - 1 - i) for i in range(k))
    assert abs(same.coverage - expected) < 4 * math.sqrt(expected * (1 - expected) / n) and abs(same.density - 1) < 0.08
    made = normal(3, n)
    half = coverage(real, np.where(made[:, :1] > 0, made, -made), k)
    assert abs(half.coverage - expected / 2) < 0.05
    assert coverage(real, 0.3 * made, k).coverage < 0.6 and coverage(real, 3 * made, k).density < 0.6
    away = coverage(real, made + 9, k)
    assert away == type(away)(0.0, 0.0)
    with pytest.raises(ValueError, match="expected more than 5 real items and a sample; got 5 and 9"):
        coverage(real[:5], made[:9], 5)


# --- two samples --------------------------------------------------------------------------------------------------------


@KINDS
def test_equal_distributions_are_not_told_apart(draw: Any) -> None:
    tests = [two_sample(draw(2 * i, 150), draw(2 * i + 1, 150), seed=i, steps=60) for i in range(6)]
    z = np.array([t.z for t in tests])
    assert np.abs(z).max() < 3 and abs(z.mean()) < 3 / math.sqrt(len(z))
    assert all(abs(t.auc - 0.5) < 3 * t.stderr and t.n == 150 for t in tests)


def test_the_error_of_the_auc_is_what_it_says() -> None:
    """Two folds that judge each other may agree: with independent ones' variance this would be 1.4."""
    z = [two_sample(normal(2 * i, 60), normal(2 * i + 1, 60), seed=i, steps=30).z for i in range(30)]
    assert 0.7 < np.std(z) < 1.25


@pytest.mark.parametrize(
    ("real", "made"),
    [
        (normal(1, 400), normal(2, 400) + np.array([0.6, 0])),
        (normal(1, 600), 1.6 * normal(2, 600)),  # no line tells these apart
        (bits(1, 400), bits(2, 400, share=0.36)),
        (normal(1, 400) * 1e-4, 1e-4 * (normal(2, 400) + np.array([0.6, 0]))),
    ],
)
def test_what_differs_is_found(real: Any, made: Any) -> None:
    found = two_sample(real, made, steps=80)
    assert found.z > 4 and found.p < 1e-4 and found.auc > 0.56 and 0.5 < found.accuracy < 1


def test_the_seed_decides_and_nothing_else() -> None:
    real, made = normal(1, 60), normal(2, 60)
    found = two_sample(real, made, steps=10)
    assert found == two_sample(real, made, steps=10) != two_sample(real, made, 1, steps=10)


def test_the_auc_is_that_of_all_pairs() -> None:
    a, b = (Noise(s).below(5, 30)[0].float() for s in (1, 2))  # with ties
    pairs: Tensor = (a[:, None] > b[None]).float() + 0.5 * (a[:, None] == b[None]).float()
    assert auc(a, b) == pytest.approx(float(pairs.mean()))
    with pytest.raises(ValueError, match="expected at least 10 items of each kind; got 9"):
        two_sample(normal(1, 9), normal(2, 50))


# --- memorisation -------------------------------------------------------------------------------------------------------


def memorised(made: Any, held: Any, train: Any, most: int = 0, block: int = 4096) -> Memorisation:
    return memorisation(made, held, spaced(train, most, block), np.stack)


@KINDS
def test_a_memoriser_is_caught_and_a_fresh_sample_is_not(draw: Any) -> None:
    train, held, fresh = (draw(seed, n, 12 if draw is normal else 60) for seed, n in ((1, 900), (2, 300), (3, 300)))
    clean = memorised(fresh, held, train)
    error = math.sqrt(2 * clean.near_held * (1 - clean.near_held) / 300)
    assert abs(clean.near - clean.near_held) < 4 * error and clean.near_held >= 0.05
    assert clean.copied_held == 0 and clean.copied == 0
    copies = memorised(train[:300], held, train)
    assert copies.near == copies.copied == 1.0 and copies.near_held == clean.near_held and copies.train == 900
    some = memorised(np.concatenate([train[:60], fresh[:240]]), held, train)
    assert some.near > clean.near + 0.1 and some.copied >= 0.2
    # half of the training items: half of the copies are seen, and the baseline moves along
    fewer = memorised(train[:300], held, train, most=450)
    assert fewer.train == 450 and 0.4 < fewer.copied < 0.75 and fewer.near > 0.4 > 4 * fewer.near_held


def test_nearly_copied_is_near_and_not_copied() -> None:
    train, held = normal(1, 500, 6), normal(2, 200, 6)
    found = memorised(train[:200] + 0.01 * normal(3, 200, 6), held, train)
    assert found.near == 1.0 and found.copied == 0.0


@KINDS
def test_blocks_change_nothing(draw: Any) -> None:
    train, held, made = draw(1, 100), draw(2, 50), draw(3, 60)
    assert memorised(made, held, train, block=7) == memorised(made, held, train)


def test_training_items_are_taken_evenly() -> None:
    assert [x for block in spaced(range(10), 5, 2) for x in block] == [0, 2, 4, 6, 8]
    assert [len(block) for block in spaced(range(10), 0, 4)] == [4, 4, 2]
    assert list(spaced(range(3), 8, 4)) == [[0, 1, 2]]


# --- as evaluate shows them ---------------------------------------------------------------------------------------------


def test_evaluate_audits_every_domain() -> None:
    made = toys.generator(toys.Points(), toys.recipe("points", "mlp", options={"steps": 2}, tile=256))
    found = evaluate(made, n=200, seed=1)
    figures = found["metrics"]
    assert figures["two_sample_auc"]["value"] > 0.9 > 0.5 == figures["two_sample_auc"]["real"]  # untrained
    assert figures["coverage"]["value"] < 0.5 < 0.9 < figures["coverage"]["real"]
    assert figures["density"]["better"] == "higher" and figures["density"]["n"] == 200
    assert figures["memorised"]["train"] == 500 and figures["copied"]["value"] == 0.0
    assert figures["coverage"]["on"] == "points, validation split"
    assert found["notes"] == ["memorisation: nearest of 500 of the 500 training items"]
    assert "--audit" not in found["command"]
    without = evaluate(made, n=9, seed=1, audit=0)
    assert "coverage" not in without["metrics"] and without["notes"] == [] and without["command"].endswith("--seed 1 --audit 0")
    fewer = evaluate(made, n=60, audit=100)
    assert fewer["metrics"]["memorised"]["train"] == 100 and fewer["command"].endswith("--audit 100")


def test_sets_that_are_empty_are_named() -> None:
    with pytest.raises(ValueError, match="expected samples and held-out items; got 0 and 3"):
        memorised(normal(1, 0), normal(1, 3), normal(1, 3))
    with pytest.raises(ValueError, match="expected training items; got none"):
        memorised(normal(1, 2), normal(1, 3), normal(1, 0))


def test_real_items_pass_every_audit_and_copies_do_not() -> None:
    made = toys.generator(toys.Points(), toys.recipe("points", "mlp"))
    valid, train, fresh = (toys.points(split) for split in ("valid", "train", "another"))
    good, _ = audits(made, fresh[:250], valid, "here", 0, 20_000)
    assert abs(good["two_sample_auc"]["z"]) < 3 and good["coverage"]["value"] > 0.9
    assert abs(good["memorised"]["value"] - good["memorised"]["real"]) < 4 * good["memorised"]["stderr"]
    bad, _ = audits(made, train[:250], valid, "here", 0, 20_000)
    assert bad["memorised"]["value"] == bad["copied"]["value"] == 1.0 and abs(bad["two_sample_auc"]["z"]) < 3


def test_what_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    made = toys.generator(toys.Points(), toys.recipe("points", "mlp"))
    items = toys.points("valid")
    assert audits(made, items[:20], items, "here", 0, 100) == (
        {},
        ["no audits: they need 50 samples and as many real items; here are 20 and 500"],
    )

    def absent(split: str) -> Any:
        raise HeadwaterError("points are not here; fetch them")

    monkeypatch.setattr(toys.Points, "datasets", {"points": toys.Dataset(toys.HERE, absent, lambda: items[:100])})
    found = evaluate(made, n=60)
    assert "memorised" not in found["metrics"] and "coverage" in found["metrics"]
    assert found["notes"] == ["memorisation not measured: points are not here; fetch them"]
    monkeypatch.setattr(toys.Points, "features", lambda self, items: np.full((len(items), 2), np.nan))
    assert evaluate(made, n=60)["notes"] == ["no audits: features: expected finite numbers"]


def test_bits_a_dimension_where_there_are_grey_levels() -> None:
    made = toys.generator(toys.Spots(), toys.recipe("spots", "unet", options={"steps": 2}))
    items = toys.spots("valid")[:20]
    assert "bits_per_dim" not in likelihood(made, items, 0, "here")
    made.model.family.space = Grid(1, (8, 8), levels=256)
    found = likelihood(made, items, 0, "here")
    nats, dims = found["log_likelihood"], found["bits_per_dim"]
    assert dims["value"] == pytest.approx(-nats["value"] / 64 / math.log(2)) and dims["better"] == "lower"
    assert dims["kind"] == nats["kind"] == "bound" and dims["stderr"] == pytest.approx(nats["stderr"] / 64 / math.log(2))

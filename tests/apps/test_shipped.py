"""The models that ship do what their cards say, on packaged data alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import headwater as hw
from headwater import registry, testing
from headwater.checkpoint import CARD, METRICS, WEIGHTS, read_config, read_metrics
from headwater.noise import Noise

LIMITS = {"medical": 10e6, "molecules": 15e6, "music": 30e6, "marketing": 20e6}  # all together 75 MB
BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "models"  # of data whose licence no package has
SHIPPED = [f"{name}/{model}" for name in LIMITS for model in registry.models(registry.find(name))]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((np.clip(a, 0, 1) - b) ** 2).mean()))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_whole(name: str) -> None:
    folder, _ = registry.find_model(name)
    config = read_config(folder)
    assert config["command"].startswith("headwater train ")  # one line trains it again
    assert (folder / CARD).read_text("utf-8").startswith("---")
    assert read_metrics(folder)["command"] and (folder / METRICS).is_file()
    assert (folder / WEIGHTS).stat().st_size <= 12e6


@pytest.mark.parametrize("folder", sorted(BENCHMARKS.iterdir()), ids=lambda folder: folder.name)
def test_a_model_of_a_benchmark_is_whole_and_says_its_licence(folder: Path) -> None:
    assert read_config(folder)["command"].startswith("headwater train ")
    assert read_config(folder)["name"] == folder.name and (folder / "LICENSE").is_file()
    assert hw.load(folder).recipe.data in ("e2e", "e2e_original", "viggo")
    assert (folder / CARD).read_text("utf-8").startswith("---\nlicense: cc-by-sa-4.0\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_the_kit_passes(name: str) -> None:
    assert [(o.check, o.note) for o in testing.run(registry.find(name)) if o.status == "fail"] == []


def test_the_domains_stay_within_their_budgets() -> None:
    for name, limit in LIMITS.items():
        weights = [folder / WEIGHTS for folder in registry.models(registry.find(name)).values()]
        assert 0 < sum(w.stat().st_size for w in weights) <= limit


def test_molecules_are_valid_and_obey() -> None:
    model = hw.load("molecules/autoregressive")
    plain = model.sample(256, seed=1)
    assert sum(problem is None for problem in plain.problems()) >= 0.9 * 256
    assert len(set(plain)) >= 250
    light, heavy = (
        np.median([w.mw for item in model.sample(128, seed=2, mw=mw) if (w := model.domain.describe(item)).mw]) for mw in (270, 340)
    )
    assert abs(light - 270) < 20 and abs(heavy - 340) < 20


def test_the_prior_removes_noise_from_real_slices() -> None:
    from headwater.restore.likelihoods import Gaussian
    from headwater_medical.data import sample
    from headwater_medical.pipelines.denoise import slices

    denoise = slices(hw.load("medical/diffusion"), Gaussian(0.2), 0)  # .1 of [0, 1]
    gains = []
    for i, clean in enumerate([sample()[4], sample()[10]]):
        noisy = clean + 0.1 * Noise(5).fold(i).normal(*clean.shape)[0].numpy()
        gains.append(psnr(denoise(noisy, Noise(0))[0], clean) - psnr(noisy, clean))
    assert min(gains) > 4

"""Denoising of magnetic resonance slices: our prior beside the classical methods, on two sets that training never saw.

The sets are evenly spaced slices of the validation split of `mri_slices` (split by near-duplicate cluster) and of five brain
volumes from other sources. Noise is added to intensities in [0, 1] and not clipped; every method's output is. Peers are told the
true level. Ours is the shipped pipeline's own function on whole slices. Parts: methods, estimated, rician, draws.

    HEADWATER_DATA=/path/to/data python benchmarks/denoise.py
    python benchmarks/denoise.py --checkpoint runs/medical-diffusion/checkpoint.safetensors --only methods
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import generator, publish, run

from headwater.domain import Array
from headwater.errors import HeadwaterError, MissingExtra
from headwater.noise import Noise

PARTS = ("methods", "estimated", "rician", "draws")
TISSUE = 0.1  # clean intensity above which a pixel is foreground

#: Parameters of the peers, each length in units of the noise level; the best on six slices of the train split (`--tune`). BM3D has
#: none: its authors' own profile, both stages.
TUNED: Mapping[str, Mapping[str, Any]] = {
    "wavelet": {"wavelet": "db2", "max_shifts": 3},
    "TV": {"weight": 0.8},
    "NLM": {"patch_size": 7, "patch_distance": 7, "h": 0.6},
    "BM3D": {},
}
GRID: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "wavelet": {"wavelet": ("db1", "db2", "sym4", "bior4.4"), "max_shifts": (0, 3)},
    "TV": {"weight": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)},
    "NLM": {"patch_size": (5, 7, 9), "patch_distance": (5, 7, 11), "h": (0.5, 0.6, 0.7, 0.8)},
}


@dataclass(frozen=True)
class Case:
    """One slice: ``clean`` and ``noisy`` float32 (H, W), and the noise key of whatever is drawn for it."""

    group: str
    clean: Array
    noisy: Array
    key: Noise


def spaced(rows: Any, n: int) -> list[int]:
    """``n`` indices evenly over ``rows``."""
    if len(rows) < n:
        raise HeadwaterError(f"-n: only {len(rows)} slices here; got {n}")
    return [int((i + 0.5) * len(rows) / n) for i in range(n)]


@functools.cache
def sets(n: int) -> dict[str, list[Array]]:
    from headwater_medical import data

    valid, volumes = data.rows("valid"), data.volume_slices()
    return {"mri_slices": [valid[i] for i in spaced(valid, n)], "brain_volumes": [volumes[i] for i in spaced(volumes, n)]}


def cases(n: int, sigma: float, seed: int, law: str = "gaussian") -> list[Case]:
    """Slices with noise of level ``sigma``: added (gaussian), or the modulus of a signal with complex noise (rician)."""
    out = []
    for group, pictures in sets(n).items():
        keys = Noise(seed).fold("benchmark", law, group).rows(range(n))
        for i, clean in enumerate(pictures):
            real, imaginary = sigma * keys[i : i + 1].fold("noise").normal(2, *clean.shape)[0].numpy()
            noisy = clean + real if law == "gaussian" else np.hypot(clean + real, imaginary)
            out.append(Case(group, clean, noisy.astype(np.float32), keys[i : i + 1]))
    return out


# --- methods ----------------------------------------------------------------------------------------------------------


def wavelet(noisy: Array, sigma: float, wavelet: str, max_shifts: int) -> Array:
    """BayesShrink (Chang et al. 2000), averaged over shifts (Coifman and Donoho 1995)."""
    from skimage.restoration import cycle_spin, denoise_wavelet

    how = {"sigma": sigma, "wavelet": wavelet, "method": "BayesShrink", "mode": "soft", "rescale_sigma": False}
    return np.asarray(cycle_spin(noisy, denoise_wavelet, max_shifts=max_shifts, func_kw=how, num_workers=1))


def total_variation(noisy: Array, sigma: float, weight: float) -> Array:
    """Rudin, Osher and Fatemi 1992, by Chambolle's algorithm."""
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(noisy, weight=weight * sigma))


def non_local_means(noisy: Array, sigma: float, patch_size: int, patch_distance: int, h: float) -> Array:
    """Buades, Coll and Morel 2005, with the noise level told."""
    from skimage.restoration import denoise_nl_means

    how = {"patch_size": patch_size, "patch_distance": patch_distance, "fast_mode": True}
    return np.asarray(denoise_nl_means(noisy, h=h * sigma, sigma=sigma, **how))


def block_matching(noisy: Array, sigma: float) -> Array:
    """BM3D: Dabov et al. 2007, in its authors' own package (not for commercial use: only here)."""
    import bm3d

    return np.asarray(bm3d.bm3d(noisy, sigma_psd=sigma))


PEERS: Mapping[str, Callable[..., Array]] = {
    "wavelet": wavelet,
    "TV": total_variation,
    "NLM": non_local_means,
    "BM3D": block_matching,
}


def peer(name: str, noisy: Array, sigma: float) -> tuple[Array, float]:
    """A peer's result, clipped to [0, 1], and its CPU seconds; kept on disk, as the same noise comes again in every run."""
    from record import versions

    from headwater.train.preparation import cache_folder

    made_by = (name, sorted(TUNED[name].items()), versions(("bm3d", "scikit-image", "PyWavelets")), sigma, noisy.shape)
    key = hashlib.sha256(repr(made_by).encode() + np.ascontiguousarray(noisy).tobytes()).hexdigest()[:32]
    path = cache_folder() / "benchmarks" / f"{name}-{key}.npz"
    if not path.is_file():
        began = time.process_time()
        result = np.clip(PEERS[name](noisy, sigma, **TUNED[name]), 0, 1).astype(np.float32)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part.npz")
        np.savez(part, result=result, seconds=time.process_time() - began)
        os.replace(part, path)
    with np.load(path) as stored:
        return stored["result"], float(stored["seconds"])


class Ours:
    """The shipped pipeline on one slice."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, case: Case, sigma: float, law: str = "gaussian", draws: int = 0) -> tuple[Array, Array | None]:
        """The posterior mean clipped to [0, 1] and, with draws, the standard deviation: the steps of ``Denoise`` for one slice."""
        from headwater.restore.likelihoods import Gaussian, Rician
        from headwater_medical.pipelines.denoise import inside, slices

        middle = inside(case.noisy, sigma)
        model = Rician(2 * sigma, zero=-1.0) if law == "rician" else Gaussian(2 * sigma)  # the grid's [-1, 1] is twice as wide
        mean, std = slices(self.model, model, draws)(middle, case.key)
        return np.clip(mean + (case.noisy - middle), 0, 1), std


def psnr(result: Array, clean: Array, where: Array | None = None) -> float:
    """Decibels, 1 the largest intensity. MONAI's ``PSNRMetric(max_val=1)`` for a whole slice; over a mask, the same formula."""
    if where is not None:
        return float(-10 * np.log10(np.square(result[where] - clean[where], dtype=np.float64).mean()))
    return float(_metrics()[0](*_pair(result, clean)))


def ssim(result: Array, clean: Array) -> float:
    """MONAI's ``SSIMMetric``: Gaussian window, σ = 1.5 (Wang et al. 2004)."""
    return float(_metrics()[1](*_pair(result, clean)))


@functools.cache
def _metrics() -> tuple[Any, Any]:
    from monai.metrics import PSNRMetric, SSIMMetric

    return PSNRMetric(max_val=1.0), SSIMMetric(
        spatial_dims=2, data_range=1.0, kernel_type="gaussian", win_size=11, kernel_sigma=1.5
    )


def _pair(result: Array, clean: Array) -> tuple[Any, Any]:
    import torch

    a, b = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))[None, None] for x in (result, clean))
    return a, b


# --- parts ------------------------------------------------------------------------------------------------------------


def methods(ours: Ours | None, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """PSNR and SSIM of every method, and the paired difference to BM3D with its standard error over slices."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for case in cases(options.n, options.sigma, options.seed):
        results = {"noisy": (np.clip(case.noisy, 0, 1), 0.0)} | {name: peer(name, case.noisy, options.sigma) for name in PEERS}
        if ours is not None:
            began = time.process_time()
            mean, _ = ours(case, options.sigma)
            results["ours"] = mean, time.process_time() - began
        for name, (result, seconds) in results.items():
            found.setdefault((case.group, name), []).append((psnr(result, case.clean), ssim(result, case.clean), seconds))
    for (group, name), rows in found.items():
        value, anchor = np.array(rows), np.array(found[group, "BM3D"])
        row = {"set": group, "method": name, "PSNR": value[:, 0].mean(), "SSIM": value[:, 1].mean()}
        row |= paired("dB to BM3D", value[:, 0] - anchor[:, 0]) | paired("SSIM to BM3D", value[:, 1] - anchor[:, 1])
        yield rounded({**row, "CPU s a slice": value[:, 2].mean()})


def paired(name: str, difference: Array) -> dict[str, float | None]:
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else None
    return {name: difference.mean(), f"± ({name})": error}


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(float(v), 4) if isinstance(v, float | np.floating) else v for k, v in row.items()}


def estimated(ours: Ours, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What it costs to estimate the level, from the one slice alone, instead of being told it."""
    import torch

    from headwater.restore.noise_level import gaussian_level

    for sigma in (0.03, 0.1, 0.2):
        found: dict[str, list[tuple[float, float, float]]] = {}
        for case in cases(options.n, sigma, options.seed):
            level = float(np.clip(gaussian_level(torch.from_numpy(case.noisy)[None])[0], 1e-3, 0.5))
            told, guessed = (psnr(ours(case, s)[0], case.clean) for s in (sigma, level))
            found.setdefault(case.group, []).append((level / sigma, told, guessed))
        for group, rows in found.items():
            ratio, told, guessed = np.array(rows).T
            lost = told - guessed
            row = {
                "set": group,
                "sigma": sigma,
                "estimated / true": ratio.mean(),
                "std of it": ratio.std(),
                "PSNR given": told.mean(),
            }
            yield rounded({**row, "PSNR estimated": guessed.mean(), **paired("dB lost", lost), "most lost": lost.max()})


def rician(ours: Ours, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Magnitude noise: restored under Rice's law, and as if it were Gaussian. Foreground: clean intensity above a tenth."""
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for case in cases(options.n, options.sigma, options.seed, "rician"):
        results = {"noisy": np.clip(case.noisy, 0, 1)}
        results |= {f"ours, {law}": ours(case, options.sigma, law)[0] for law in ("gaussian", "rician")}
        tissue = case.clean > TISSUE
        for name, result in results.items():
            row = (psnr(result, case.clean), psnr(result, case.clean, tissue), ssim(result, case.clean))
            found.setdefault((case.group, name), []).append(row)
    for (group, name), rows in found.items():
        value, plain = np.array(rows), np.array(found[group, "ours, gaussian"])
        row = {"set": group, "method": name, "PSNR": value[:, 0].mean(), "PSNR foreground": value[:, 1].mean()}
        gain = paired("dB to plain", value[:, 0] - plain[:, 0]) | paired("foreground dB to plain", value[:, 1] - plain[:, 1])
        yield rounded({**row, "SSIM": value[:, 2].mean(), **gain})


def draws(ours: Ours, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Is the standard deviation of posterior draws honest? Coverage of 90% intervals and its rank correlation with the error.

    Foreground pixels. An interval is mean ± t std, t of Student's law with a degree of freedom for each draw (the std is about the
    one-call mean): exact were the posterior Gaussian."""
    from scipy.stats import t as student

    wide = student.ppf(0.95, options.draws)
    found: dict[str, list[tuple[float, ...]]] = {}
    for case in cases(options.slices // 2, options.sigma, options.seed):
        began = time.process_time()
        mean, std = ours(case, options.sigma, draws=options.draws)
        seconds = time.process_time() - began
        assert std is not None
        error, tissue = np.abs(mean - case.clean), case.clean > TISSUE
        covered = [(error <= factor * std)[tissue].mean() for factor in (wide, 1.645)]
        ranks = [rank_correlation(error, std, tissue, side) for side in (1, 8)]
        spread = np.sqrt(np.square(error[tissue]).mean()), np.sqrt(np.square(std[tissue]).mean())
        found.setdefault(case.group, []).append((*covered, *ranks, *spread, seconds))
    names = (
        "coverage of 90%, t",
        "coverage, 1.645 std",
        "Spearman pixels",
        "Spearman 8x8 blocks",
        "RMS error",
        "RMS std",
        "CPU s a slice",
    )
    for group, rows in found.items():
        yield rounded(
            {"set": group, "slices": len(rows), "draws": options.draws, **dict(zip(names, np.mean(rows, axis=0), strict=True))}
        )


def rank_correlation(error: Array, std: Array, tissue: Array, side: int) -> float:
    """Spearman's, over foreground pixels or over means of blocks that are mostly foreground."""
    from scipy.stats import spearmanr

    h, w = (n // side for n in error.shape)

    def blocks(a: Array) -> Array:
        return np.asarray(a[: h * side, : w * side].reshape(h, side, w, side).mean(axis=(1, 3)))

    inside = blocks(tissue.astype(float)) > 0.5
    return float(spearmanr(blocks(error)[inside], blocks(std)[inside]).statistic)


def tune(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """PSNR of every setting of the grid on six slices of the train split, the best of each method first."""
    from headwater_medical import data

    train = data.rows("train")
    clean = [train[i] for i in spaced(train, 6)]
    keys = Noise(options.seed).fold("tune").rows(range(6))
    noisy = [c + options.sigma * keys[i : i + 1].normal(*c.shape)[0].numpy() for i, c in enumerate(clean)]
    for name, grid in GRID.items():
        rows = []
        for values in itertools.product(*grid.values()):
            setting = dict(zip(grid, values, strict=True))
            results = [np.clip(PEERS[name](y, options.sigma, **setting), 0, 1) for y in noisy]
            value = float(np.mean([psnr(r, c) for r, c in zip(results, clean, strict=True)]))
            rows.append(rounded({"method": name, "PSNR": value, **setting}))
        yield from sorted(rows, key=lambda row: -row["PSNR"])[:4]


def need_peers() -> None:
    from importlib.util import find_spec

    if lacking := [p for p, module in (("bm3d", "bm3d"), ("PyWavelets", "pywt")) if find_spec(module) is None]:
        raise MissingExtra(f"the peers need {' and '.join(lacking)}: pip install 'headwater[bench]' (`make bench` does)")


def arguments() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="medical/diffusion", help="a shipped model or a model folder")
    parser.add_argument(
        "--checkpoint", type=Path, help="a training's checkpoint.safetensors: its averaged weights under --model's recipe"
    )
    parser.add_argument("-n", type=int, default=24, help="slices of each set (24)")
    parser.add_argument("--sigma", type=float, default=0.1, help="noise level on [0, 1] (0.1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run (all)")
    parser.add_argument("--draws", type=int, default=16, help="posterior draws a slice (16)")
    parser.add_argument("--slices", type=int, default=8, help="slices with draws, half of each set (8)")
    parser.add_argument(
        "--peers-only", action="store_true", help="run the peers and keep their results on disk; no model is needed"
    )
    parser.add_argument("--tune", action="store_true", help="search the peers' parameters on the train split")
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/denoise.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.peers_only or options.tune or "methods" in options.only:
        need_peers()
    if options.tune:
        publish("tuning of the peers", list(tune(options)), n=6, seeds=[options.seed], to=options.to)
        return
    if options.peers_only:
        from record import print_table

        print_table("methods", list(methods(None, options)))
        return
    model = generator(options.model, options.checkpoint)
    model.need("restore")
    ours = Ours(model)
    parts: Mapping[str, Callable[..., Iterator[dict[str, Any]]]] = {
        "methods": methods,
        "estimated": estimated,
        "rician": rician,
        "draws": draws,
    }
    for part in options.only:
        each = options.slices // 2 if part == "draws" else options.n
        settings = {
            "sigma": [0.03, 0.1, 0.2] if part == "estimated" else options.sigma,
            "sets": ["mri_slices valid", "brain_volumes"],
        }
        settings |= {"peers": TUNED} if part == "methods" else {}
        publish(
            part, list(parts[part](ours, options)), n=each, seeds=[options.seed], generator=model, settings=settings, to=options.to
        )


if __name__ == "__main__":
    run(main)

"""Denoise scans: the posterior mean of each slice under the learnt prior, by one call of the network on whole slices.

y = x + noise is what the diffusion prior was trained to undo, so for Gaussian noise the mean is the denoiser itself at the
scan's own level; magnitude MR obeys Rice's law instead. Draws from the posterior, on request, say how sure the mean is.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from headwater.domain import Array, Pipeline
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_medical.codecs import SIDE
from headwater_medical.pipelines.result import Restored

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise
    from headwater.restore.likelihoods import NoiseModel
    from headwater_medical.files.volume import Volume

WINDOW, OVERLAP, TILE = 128, 16, 4  # the network is convolutional: a window twice the training patch wastes less on overlaps
LOOK = 9  # slices that the noise level is estimated from


@dataclass(frozen=True)
class DenoiseOptions:
    noise: Annotated[Literal["gaussian", "rician"] | None, Knob("law of the noise; rician is magnitude MR")] = "gaussian"
    sigma: Annotated[float | None, Knob("noise level, a share of the intensity range (default: estimated)", 0.001, 0.5)] = None
    draws: Annotated[int | None, Knob("posterior draws a slice, for a map of standard deviations", 0, 256)] = 0
    volume: Annotated[int | None, Knob("which volume of a 4-D file, from 0; each one apart where it is not given", 0, 100_000)] = (
        None
    )


class Denoise(Pipeline["Volume"]):
    """Noise level, then each slice on its own: a slice's result depends on that slice, the level and its noise key."""

    name = "denoise"
    summary = "remove Gaussian or Rician noise; level estimated or given"
    source = "a NIfTI, DICOM, NRRD, PNG or JPEG file, or a folder with one DICOM series"
    Options = DenoiseOptions
    verbs = ("restore",)
    model = "diffusion"

    def read(self, source: Path, options: DenoiseOptions) -> Iterator[Volume]:
        from headwater_medical.files import read

        yield from read(source, volume=options.volume)

    def example(self) -> Path:
        import nibabel

        return Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"

    def run(
        self, model: Generator, rows: Sequence[tuple[int, Volume]], noise: Noise, options: DenoiseOptions
    ) -> Iterator[Restored]:
        for row, volume in rows:
            yield self._volume(model, row, volume, noise.fold("denoise").rows([row]), options)

    def _volume(self, model: Generator, row: int, volume: Volume, noise: Noise, options: DenoiseOptions) -> Restored:
        level = options.sigma if options.sigma is not None else estimate(volume, options.noise or "gaussian")
        scratch = tempfile.TemporaryDirectory(prefix="headwater-")
        with contextlib.ExitStack() as clean:
            clean.callback(scratch.cleanup)
            mean = np.memmap(Path(scratch.name) / "mean", dtype=np.float32, mode="w+", shape=volume.shape)
            std = np.memmap(Path(scratch.name) / "std", dtype=np.float32, mode="w+", shape=volume.shape) if options.draws else None
            law = noise_law(volume, options.noise or "gaussian", level)
            denoise = slices(model, law, options.draws or 0)
            for z in range(volume.shape[0]):
                unit = volume.scale.to_unit(volume.slab(z, z + 1)[0])
                middle = inside(unit, level)
                found, spread = denoise(middle, noise.fold("slice", z))
                mean[z] = volume.scale.from_unit(found + (unit - middle))
                if std is not None and spread is not None:
                    std[z] = spread * (volume.scale.high - volume.scale.low)
            clean.pop_all()
        return Restored(row, volume, mean, std, level, law, options.sigma is None, options.draws or 0, scratch)


def inside(unit: Array, level: float) -> Array:
    """The part of a slice's values that the prior is asked about: [0, 1] and four standard deviations, at least a quarter, around
    it. Brighter or darker values (metal, padding) keep their distance from it through the denoising."""
    margin = max(0.25, 4 * level)
    return np.clip(unit, -margin, 1 + margin)


def noise_law(volume: Volume, name: str, level: float) -> NoiseModel:
    """The noise on the prior's grid: [0, 1] is half as wide as [-1, 1], and magnitude 0 lies where the scale puts it."""
    from headwater.restore.likelihoods import Gaussian, Rician

    if name == "gaussian":
        return Gaussian(2 * level)
    return Rician(2 * level, zero=2 * float(volume.scale.to_unit(np.zeros(1))[0]) - 1)


def slices(model: Generator, law: NoiseModel, draws: int) -> Callable[[Array, Noise], tuple[Array, Array | None]]:
    """A function from one slice (H, W) in [0, 1] and its noise key to its posterior mean and, with draws, standard deviation."""
    import torch

    from headwater.restore.operators import Identity

    def denoise(unit: Array, noise: Noise) -> tuple[Array, Array | None]:
        y = torch.from_numpy(np.ascontiguousarray(2 * unit - 1))[None, None]
        window, tile = windows(unit.shape)
        operator = Identity(tuple(y.shape[1:]))
        found = model.restore(y, operator, law, noise=noise, draws=draws, window=window, overlap=OVERLAP, tile=tile)
        mean = (found.mean[0, 0].cpu().numpy() + 1) / 2
        return mean, None if found.std is None else found.std[0, 0].cpu().numpy() / 2

    return denoise


def windows(shape: tuple[int, ...]) -> tuple[list[int], int]:
    """Windows for slices of a shape, no larger than ``WINDOW``, and how many at once, no more than such a slice has."""
    size = [min(WINDOW, max(SIDE, -(-n // 8) * 8)) for n in shape]
    count = [1 if n <= s else -(-(n - OVERLAP) // (s - OVERLAP)) for n, s in zip(shape, size, strict=True)]
    return size, min(TILE, count[0] * count[1])


def estimate(volume: Volume, law: str) -> float:
    """The noise level as a share of the intensity range: the median over up to ``LOOK`` slices that are not flat.

    Raises :class:`HeadwaterError` where every slice looked at is flat."""
    import torch

    from headwater.restore.noise_level import gaussian_level, rician_level

    count = volume.shape[0]
    chosen = sorted({min(count - 1, int((i + 0.5) * count / LOOK)) for i in range(LOOK)})
    zero = volume.scale.to_unit(np.zeros(1)) if law == "rician" else np.zeros(1, dtype=np.float32)
    found = []
    for z in chosen:
        unit = volume.scale.to_unit(volume.slab(z, z + 1)) - zero
        if float(unit.max() - unit.min()) > 1e-6:
            found.append(float((rician_level if law == "rician" else gaussian_level)(torch.from_numpy(unit))[0]))
    if not found:
        raise HeadwaterError(
            "the noise level cannot be estimated: the slices are flat; give --sigma, a share of the intensity range"
        )
    return float(np.clip(np.median(found), 1e-3, 0.5))

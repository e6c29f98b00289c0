"""The carrier of every medical file: slices that are read a slab at a time, and written back in the input's own format.

All formats store numbers that are affine in the physical value, so a format needs to say only how raw numbers are read and how
raw numbers are written. A voxel without a value (NaN, infinity, DICOM padding) is a *hole*: it reads as the smallest value of
the image and is written back exactly as it came.
"""

from __future__ import annotations

import functools
import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError, PromiseBroken
from headwater_medical.intensity import Scale, robust_scale

Kind = Literal["image", "std", "residual"]
MAX_PLANE = 2**26  # pixels of one slice: 8192 x 8192; more is a damaged or hostile header
SAMPLE = 2**22  # voxels from which percentiles are taken, spread evenly over the volume


@dataclass(frozen=True)
class Survey:
    """One pass over a volume: its smallest value, the number of holes, and the map to [0, 1]."""

    minimum: float
    holes: int
    scale: Scale


class Volume(ABC):
    """Slices of one image, ``shape`` (slices, rows, columns), in the order of the file (DICOM: along the slice normal).

    ``spacing`` is (slice, row, column) in mm, 1 where the file says nothing. ``dtype`` is what the file stores, of which only
    ``levels`` (smallest, largest) are used; the physical value of slice z is ``slope[z] * raw + intercept[z]``. ``padding`` is the
    closed range of raw numbers that mean "no value". ``name`` begins the names of outputs.
    """

    format: ClassVar[str]
    path: Path
    name: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    modality: str = ""  # MR, CT, …: DICOM's words; empty where the format does not say
    dtype: np.dtype
    levels: tuple[float, float] | None = None
    padding: tuple[int, int] | None = None
    slope: Array
    intercept: Array

    @abstractmethod
    def raw(self, low: int, high: int) -> Array:
        """Slices ``low`` to ``high``: (high - low, rows, columns) of ``dtype``, as stored."""

    @abstractmethod
    def write(self, folder: Path, suffix: str, slabs: Iterable[Array], kind: Kind = "image", run_hash: str = "") -> list[Path]:
        """Write slabs (in order, together ``shape``) into an existing folder; returns the files.

        ``"image"`` is written in the input's own number format and units; ``"std"`` and ``"residual"`` are real numbers on the
        same geometry. Names are ``name_suffix``. ``run_hash`` names the run where a format wants new identifiers. Memory stays
        within a slab, bytes depend on nothing but the input, the slabs and the arguments, and no file is ever half-written.
        Raises :class:`HeadwaterError` for a folder that cannot be written.
        """

    def slab(self, low: int, high: int) -> Array:
        """Slices ``low`` to ``high`` as float32 (high - low, rows, columns) in physical units; holes read as the minimum."""
        raw = self.raw(low, high)
        values = self._physical(low, raw)
        return np.where(self.holes(raw), np.float32(self.survey.minimum), values) if self.survey.holes else values

    def slabs(self, thickness: int = 8) -> Iterator[Array]:
        """The whole volume, ``thickness`` slices at a time."""
        for low in range(0, self.shape[0], thickness):
            yield self.slab(low, min(low + thickness, self.shape[0]))

    @property
    def scale(self) -> Scale:
        return self.survey.scale

    def holes(self, raw: Array) -> Array:
        """Where stored numbers mean no value: a boolean array of their shape."""
        if self.dtype.kind == "f":
            empty: Array = ~np.isfinite(raw)
            return empty
        if self.padding is None:
            return np.zeros(raw.shape, dtype=bool)
        return (raw >= self.padding[0]) & (raw <= self.padding[1])

    @functools.cached_property
    def survey(self) -> Survey:
        """Raises :class:`HeadwaterError` where no voxel has a value."""
        depth, plane = self.shape[0], self.shape[1] * self.shape[2]
        step = max(1, -(-depth * plane // SAMPLE))
        while step > 1 and math.gcd(step, plane) > 1:  # or the same columns would be sampled in every row
            step += 1
        minimum, holes, sample = math.inf, 0, []
        for z in range(depth):
            raw = self.raw(z, z + 1)
            empty = self.holes(raw).ravel()
            values = self._physical(z, raw).ravel()
            holes += int(empty.sum())
            if not empty.all():
                minimum = min(minimum, float(values[~empty].min()))
            chosen = slice(-z * plane % step, None, step)
            sample.append(values[chosen][~empty[chosen]])
        if holes == depth * plane:
            raise HeadwaterError(f"{self.path}: no voxel has a value (all {holes:,} are NaN or padding)")
        return Survey(minimum, holes, self._scale(np.concatenate(sample)))

    def _scale(self, sample: Array) -> Scale:
        return robust_scale(sample, hounsfield=self.modality == "CT")

    def _physical(self, low: int, raw: Array) -> Array:
        index = (slice(low, low + len(raw)), None, None)
        return (raw * self.slope[index] + self.intercept[index]).astype(np.float32)

    def stored(self, low: int, values: Array) -> Array:
        """The inverse of the affine map, for slices from ``low`` on: integers rounded to the nearest and clipped to ``levels``."""
        index = (slice(low, low + len(values)), None, None)
        numbers = (values.astype(np.float64) - self.intercept[index]) / self.slope[index]
        if self.dtype.kind == "f":
            return numbers.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        bottom, top = self.levels or (limits.min, limits.max)
        return np.clip(np.rint(numbers), bottom, top).astype(self.dtype)

    def encoded(self, slabs: Iterable[Array], kind: Kind) -> Iterator[tuple[int, Array]]:
        """(first slice, numbers to store) of each slab: ``dtype`` for the image, float32 for maps (0 in holes)."""
        low = 0
        for values in slabs:
            high = low + len(values)
            if values.shape[1:] != self.shape[1:] or high > self.shape[0]:
                raise ValueError(f"slab {values.shape} at slice {low} does not fit a volume of {self.shape}")
            if not np.isfinite(values).all():
                raise PromiseBroken(
                    f"{self.path}: the result holds NaN or infinity in slices {low} to {high - 1}; nothing was written"
                )
            numbers = self.stored(low, values) if kind == "image" else values.astype(np.float32)
            if self.survey.holes:
                raw = self.raw(low, high)
                numbers = np.where(self.holes(raw), raw if kind == "image" else np.float32(0), numbers)
            yield low, numbers
            low = high
        if low != self.shape[0]:
            raise ValueError(f"slabs end at slice {low} of {self.shape[0]}")

    def spooled(self, slabs: Iterable[Array], kind: Kind) -> tuple[Array, float]:
        """A map kept on disk, float32 of ``shape``, and its largest absolute value: for formats whose integers need one range."""
        with tempfile.TemporaryFile() as file:
            kept = np.memmap(file, np.float32, "w+", shape=self.shape)
        largest = 0.0
        for low, numbers in self.encoded(slabs, kind):
            kept[low : low + len(numbers)] = numbers
            largest = max(largest, float(np.abs(numbers).max()))
        return kept, largest


def check_size(path: Path, *sizes: int) -> None:
    """Raises :class:`HeadwaterError` for an empty image or a slice (the last two sizes) that no scanner makes."""
    if min(sizes) < 1:
        raise HeadwaterError(f"{path}: the header states a size of {' x '.join(map(str, sizes))}; an image has at least one pixel")
    if math.prod(sizes[-2:]) > MAX_PLANE:
        stated = f"{sizes[-2]:,} x {sizes[-1]:,}"
        raise HeadwaterError(f"{path}: the header states slices of {stated} pixels; at most {MAX_PLANE:,} are read")

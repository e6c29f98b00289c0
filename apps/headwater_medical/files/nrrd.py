"""NRRD (https://teem.sourceforge.net/nrrd/format.html), attached or detached, raw, gzip or bzip2.

The header's lines are copied to the output; a line changes only where it must (number format and encoding of a map, a data file
that is now attached, the axis of a sequence of which one volume is written). The slowest spatial axis counts the slices.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.writing import replacing
from headwater_medical.files.payload import Packing, payload
from headwater_medical.files.volume import Kind, Volume, check_size

_WORDS = {"i1": "signed char|int8|int8_t", "u1": "uchar|unsigned char|uint8|uint8_t", "f4": "float", "f8": "double"}
for _bits, _word in ((2, "short"), (4, "int"), (8, "longlong")):
    _long = f"|{_word} int" if _word == "short" else "|long long|long long int" if _bits == 8 else ""
    _WORDS[f"i{_bits}"] = (
        "|".join(f"{s}{w}" for s in ("", "signed ") for w in (_word + _long).split("|")) + f"|int{8 * _bits}|int{8 * _bits}_t"
    )
    _WORDS[f"u{_bits}"] = (
        "|".join(f"unsigned {w}" for w in (_word + _long).split("|")) + f"|u{_word}|uint{8 * _bits}|uint{8 * _bits}_t"
    )
TYPES = {word: code for code, words in _WORDS.items() for word in words.split("|")}
PACKINGS: dict[str, Packing] = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
# fmt: off
PER_AXIS = frozenset((
    "sizes", "kinds", "space directions", "spacings", "thicknesses", "axis mins", "axis maxs", "axismins", "axismaxs",
    "centers", "centerings", "labels", "units",
))
# fmt: on
SPATIAL = ("domain", "space", "???", "none")


@dataclass(frozen=True)
class _Layout:
    """How the file holds its volumes: ``sizes`` fastest first, ``sequence`` the axis that counts volumes (or None)."""

    path: Path
    lines: tuple[str, ...]
    packing: Packing
    dtype: np.dtype
    sizes: tuple[int, ...]
    sequence: int | None
    spacing: tuple[float, ...]


def _sequence_axis(path: Path, kinds: list[str], steps: list[float], dimension: int) -> int | None:
    other = [a for a in range(dimension) if kinds[a].lower() not in SPATIAL or math.isnan(steps[a])]
    if any(word in kinds[a].lower() for a in other for word in ("color", "complex", "matrix")):
        raise HeadwaterError(f"{path}: holds colours, complex numbers or matrices, not grey images")
    if dimension == 4 and not other:
        other = [3]
    if len(other) > 1 or not 2 <= dimension - len(other) <= 3:
        raise HeadwaterError(f"{path}: the header states {dimension} dimensions; images of 2 or 3, or a sequence of them, are read")
    return other[0] if other else None


def _parse(path: Path) -> tuple[_Layout, Path, int]:
    """The layout, the file with the voxels, and where in it they begin."""
    import nrrd

    try:
        with open(path, "rb") as file:
            header: dict[str, Any] = nrrd.read_header(file)
            start = file.tell()
            file.seek(0)
            text = file.read(start).decode("utf-8", "surrogateescape")
        sizes = tuple(int(s) for s in header["sizes"])
        dimension = len(sizes)
        word, encoding = str(header["type"]), str(header["encoding"]).lower()
        steps = header.get("space directions", header.get("spacings"))
        norms = [1.0] * dimension if steps is None else [float(np.linalg.norm(s)) for s in steps]
        kinds = [str(k) for k in header.get("kinds", ["domain"] * dimension)]
        if int(header["dimension"]) != dimension or len(kinds) != dimension or len(norms) != dimension:
            raise ValueError
    except Exception:  # pynrrd and numpy raise a dozen kinds, and their texts may quote the header
        raise HeadwaterError(f"{path}: truncated or corrupt: not a valid NRRD header") from None
    if word not in TYPES:
        raise HeadwaterError(f"{path}: the NRRD type is not a number format that is read (integers and floats of 8 to 64 bits)")
    if encoding not in PACKINGS or any(int(header.get(k, 0)) for k in ("byte skip", "byteskip", "line skip", "lineskip")):
        raise HeadwaterError(f"{path}: encodings raw, gzip and bzip2 without skips are read; save it as gzip")
    dtype = np.dtype(TYPES[word]).newbyteorder(">" if header.get("endian") == "big" else "<")
    sequence = _sequence_axis(path, kinds, norms, dimension)
    layout = _Layout(path, tuple(text.rstrip("\r\n").splitlines()), PACKINGS[encoding], dtype, sizes, sequence, tuple(norms))
    detached = header.get("data file", header.get("datafile"))
    if detached is None:
        return layout, path, start
    beside = path.parent / str(detached)
    if Path(str(detached)).name != str(detached) or not beside.is_file():
        raise HeadwaterError(f"{path}: its data file must be one file in the same folder, and is not there")
    return layout, beside, 0


def volumes(path: Path, volume: int | None = None) -> Iterator[Nrrd]:
    """The volumes of a file, or the one numbered ``volume`` from 0. Raises :class:`HeadwaterError`."""
    layout, holder, start = _parse(path)
    spatial = [s for a, s in enumerate(layout.sizes) if a != layout.sequence]
    count = layout.sizes[layout.sequence] if layout.sequence is not None else 1
    check_size(path, count, *reversed(spatial))
    data = payload(holder, layout.packing, math.prod(layout.sizes) * layout.dtype.itemsize, start)
    voxels = data.view(layout.dtype).reshape(layout.sizes[::-1])
    if volume is not None and not 0 <= volume < count:
        raise HeadwaterError(f"--volume: expected a whole number from 0 to {count - 1} ({path} holds {count}); got {volume}")
    for index in range(count) if volume is None else (volume,):
        one = voxels if layout.sequence is None else np.moveaxis(voxels, len(layout.sizes) - 1 - layout.sequence, 0)[index]
        yield Nrrd(layout, one if one.ndim == 3 else one[None], index if count > 1 else None)


class Nrrd(Volume):
    format = "NRRD"

    def __init__(self, layout: _Layout, voxels: Array, index: int | None) -> None:
        self.layout, self.voxels = layout, voxels
        self.path, self.name = layout.path, layout.path.stem if index is None else f"{layout.path.stem}_v{index:04d}"
        self.dtype, self.shape = layout.dtype, (voxels.shape[0], voxels.shape[1], voxels.shape[2])
        steps = [s if s > 0 else 1.0 for a, s in enumerate(layout.spacing) if a != layout.sequence]
        self.spacing = (steps[2] if len(steps) == 3 else 1.0, steps[1], steps[0])
        self.slope, self.intercept = np.ones(len(voxels)), np.zeros(len(voxels))

    def raw(self, low: int, high: int) -> Array:
        return np.asarray(self.voxels[low:high])

    def _header(self, kind: Kind) -> bytes:
        lines = []
        for line in self.layout.lines:
            field, colon, value = line.partition(": ")
            field = field.lower()
            if colon and not line.startswith("#"):
                if field in ("data file", "datafile"):
                    continue
                if kind != "image" and field in ("type", "old min", "old max", "oldmin", "oldmax", "min", "max", "endian"):
                    line = "type: float\nendian: little" if field == "type" else ""
                if self.layout.sequence is not None and field == "dimension":
                    line = f"dimension: {len(self.layout.sizes) - 1}"
                if self.layout.sequence is not None and field in PER_AXIS:
                    parts = re.findall(r'\([^)]*\)|"[^"]*"|\S+', value)
                    line = f"{field}: " + " ".join(p for a, p in enumerate(parts) if a != self.layout.sequence)
            if line:
                lines.append(line)
        return "\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def write(self, folder: Path, suffix: str, slabs: Iterable[Array], kind: Kind = "image", run_hash: str = "") -> list[Path]:
        path = folder / f"{self.name}_{suffix}.nrrd"
        order = self.dtype if kind == "image" else np.dtype("<f4")
        with replacing(path) as file:
            file.write(self._header(kind))
            packed: Any = file
            if self.layout.packing == "gzip":
                packed = gzip.GzipFile("", "wb", 6, file, mtime=0)
            elif self.layout.packing == "bzip2":
                packed = bz2.BZ2File(file, "wb")
            for _, numbers in self.encoded(slabs, kind):
                packed.write(np.ascontiguousarray(numbers, dtype=order).data)
            if packed is not file:
                packed.close()
        return [path]

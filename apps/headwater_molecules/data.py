"""MOSES, read from the files that ``headwater data get moses`` fetches, and the small packaged sample.

Splits: ``train`` and ``valid`` part the published train set by a hash of the SMILES (1 in 100 is held out), ``test`` and
``test_scaffolds`` are the published ones. Source: Polykovskiy et al. 2020, https://doi.org/10.3389/fphar.2020.565644.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import tomllib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from headwater.data import cache_folder
from headwater.domain import Array, Dataset
from headwater.errors import HeadwaterError
from headwater_datasets import card

CARD = card("moses")
_FILES = {"train": "train.csv.gz", "valid": "train.csv.gz", "test": "test.csv.gz", "test_scaffolds": "test_scaffolds.csv.gz"}


class Lines(Sequence[str]):
    """Lines of one block of ASCII text, cut out on demand: 1.6 million strings in 70 MB."""

    def __init__(self, text: bytes, starts: Array, ends: Array) -> None:
        self._text, self._starts, self._ends = text, starts, ends

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int, /) -> str: ...
    @overload
    def __getitem__(self, index: slice, /) -> Lines: ...
    def __getitem__(self, index: int | slice, /) -> str | Lines:
        if isinstance(index, slice):
            return Lines(self._text, self._starts[index], self._ends[index])
        return self._text[self._starts[index] : self._ends[index]].decode("ascii")


def folder() -> Path:
    """Where ``headwater data get moses`` puts the files."""
    return cache_folder() / "moses"


@functools.lru_cache(maxsize=2)
def _published(path: Path) -> Lines:
    """The SMILES column of a fetched file. Raises :class:`HeadwaterError` where it is missing or not the published one."""
    if not path.exists():
        raise HeadwaterError(f"MOSES is not here ({path} is missing); fetch it with: headwater data get moses")
    packed = path.read_bytes()
    with open(CARD / "card.toml", "rb") as f:
        expected = tomllib.load(f)["sha256"][path.name]
    if hashlib.sha256(packed).hexdigest() != expected:
        raise HeadwaterError(f"{path} is not the published file (its sha256 differs); delete it and run: headwater data get moses")
    text = gzip.decompress(packed)
    breaks = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n"))
    starts, ends = breaks[:-1] + 1, breaks[1:]  # after the header SMILES[,SPLIT]; every line ends in a line feed
    return Lines(text, starts, ends)


@functools.lru_cache(maxsize=4)
def _split(path: Path, split: str) -> Lines:
    lines = _published(path)
    if split.startswith("test"):
        return lines
    text, starts, ends = lines._text, lines._starts, lines._ends
    held_out = np.fromiter((zlib.crc32(text[a:b]) % 100 == 0 for a, b in zip(starts, ends, strict=True)), bool, len(starts))
    chosen = held_out if split == "valid" else ~held_out
    return Lines(text, starts[chosen], ends[chosen])


def rows(split: str) -> Lines:
    """The SMILES of ``train`` (1.57 million), ``valid`` (1 in 100 of the published train set), ``test`` or ``test_scaffolds``.

    Raises :class:`HeadwaterError` for another split, and where the files are missing or changed."""
    if split not in _FILES:
        raise HeadwaterError(f"MOSES has no split {split!r}; expected one of {', '.join(_FILES)}")
    return _split(folder() / _FILES[split], split)


@functools.cache
def sample() -> tuple[str, ...]:
    """The packaged sample: 1,000 molecules of the train split, those whose SMILES have the smallest SHA-256."""
    return tuple((CARD / "sample.smi").read_text("ascii").split())


#: MOSES as the domain lists it.
MOSES: Dataset[str] = Dataset(card=CARD, rows=rows, sample=sample)

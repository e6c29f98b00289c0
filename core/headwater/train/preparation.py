"""What training reads: items encoded and labelled once, kept in a cache named by the hash of all that made them."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from headwater.context import Conditions, _scalar
from headwater.data import cache_folder
from headwater.domain import Codec, Domain, Rows
from headwater.errors import HeadwaterError
from headwater.knobs import Field
from headwater.noise import Noise, permutation
from headwater.spaces import Tokens

Progress = Callable[[str, int, int], None]
#: What a codec's view is handed where it does not draw.
UNDRAWN = Noise(0).rows([0])
#: How many rows tell one codec from another of the same class and space (two vocabularies of one size).
TELLING = 64


def content_hash(rows: Rows[Any]) -> str:
    """A hash of every item: strings and arrays by their bytes, anything else by its ``repr``."""
    digest = hashlib.blake2b(digest_size=16)
    for i in range(len(rows)):
        item = rows[i]
        if isinstance(item, np.ndarray):
            digest.update(str((item.shape, item.dtype)).encode() + np.ascontiguousarray(item).tobytes())
        else:
            digest.update(str(item).encode() if isinstance(item, str) else repr(item).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def code_hash(domain: Domain[Any, Any]) -> str:
    """A hash of the domain's own source, its whole package where it is one: edited code must not find old labels."""
    try:
        file = Path(inspect.getfile(type(domain)))
    except (TypeError, OSError):  # written at a prompt
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(file.parent.rglob("*.py")) if (file.parent / "__init__.py").exists() else [file]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cached(kind: str, key: Sequence[Any], make: Callable[[], dict[str, np.ndarray[Any, Any]]]) -> dict[str, np.ndarray[Any, Any]]:
    name = hashlib.blake2b(repr(tuple(key)).encode(), digest_size=16).hexdigest()
    path = cache_folder() / kind / f"{name}.safetensors"
    if path.is_file():
        return load_file(path)
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    save_file(made, part)
    os.replace(part, path)
    return made


@dataclass
class Encoded:
    """Token sequences laid end to end: row r is ``cells[ends[r-1]:ends[r]]``, its end mark left out."""

    cells: np.ndarray[Any, Any]
    ends: np.ndarray[Any, Any]

    @property
    def sizes(self) -> np.ndarray[Any, Any]:
        return np.diff(self.ends, prepend=0)

    def batch(self, rows: Sequence[int], limit: int) -> np.ndarray[Any, Any]:
        """(rows, positions, streams) int64, as long as the longest row and its end need."""
        starts = [int(self.ends[r - 1]) if r else 0 for r in rows]
        longest = max(int(self.ends[r]) - s for r, s in zip(rows, starts, strict=True))
        out = np.zeros((len(rows), min(longest + 1, limit), self.cells.shape[1]), dtype=np.int64)
        for i, (r, s) in enumerate(zip(rows, starts, strict=True)):
            out[i, : int(self.ends[r]) - s] = self.cells[s : int(self.ends[r])]
        return out


def _size(array: np.ndarray[Any, Any]) -> int:
    """Positions before the first that is all zero."""
    return int((array != 0).any(axis=1).cumprod().sum())


def encode_rows(rows: Rows[Any], chosen: Sequence[int], codec: Codec[Any], progress: Progress) -> Encoded:
    """The ``chosen`` of ``rows`` encoded, as a codec that does not draw views them. Raises :class:`HeadwaterError` naming the
    first row that the codec cannot hold."""
    space = codec.space
    assert isinstance(space, Tokens)
    kind = np.uint8 if max(space.vocabs) <= 256 else np.int32
    pieces, ends, total = [], np.zeros(len(chosen), dtype=np.int64), 0
    for i, r in enumerate(chosen):
        try:
            array = codec.encode(codec.view(rows[r], UNDRAWN))
        except ValueError as error:
            raise HeadwaterError(f"training row {r}: {error}") from None
        size = _size(array)
        pieces.append(array[:size].astype(kind))
        total += size
        ends[i] = total
        if i % 20000 == 0:
            progress("encoding", i, len(chosen))
    return Encoded(np.concatenate(pieces) if pieces else np.zeros((0, space.streams), kind), ends)


def _label(domain: Domain[Any, Any], fields: Sequence[Field], items: Sequence[Any]) -> list[list[float]]:
    return [[_scalar(f, getattr(wish, f.name)) for f in fields] for wish in map(domain.describe, items)]


def label_rows(
    domain: Domain[Any, Any], rows: Rows[Any], chosen: Sequence[int], fields: Sequence[Field], workers: int, progress: Progress
) -> np.ndarray[Any, Any]:
    """(chosen, scalars) float32 by ``domain.describe``, NaN where absent."""
    chunks = [chosen[i : i + 500] for i in range(0, len(chosen), 500)]
    done: list[list[float]] = []
    if workers > 1 and len(chunks) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = pool.map(_label, *zip(*((domain, fields, [rows[r] for r in c]) for c in chunks), strict=True))
            for part in jobs:
                done += part
                progress("labelling", len(done), len(chosen))
    else:
        for c in chunks:
            done += _label(domain, fields, [rows[r] for r in c])
            progress("labelling", len(done), len(chosen))
    return np.array(done, dtype=np.float32).reshape(len(chosen), len(fields))


class TrainingData:
    """Batches of encoded items with their conditions, for a model's training or validation.

    ``labels``: how many rows are labelled, spread over the data by a fixed permutation (None: all). Items of a ``Tokens`` codec
    whose ``view`` does not draw are encoded once, and each batch holds items of about one length; anything else is viewed and
    encoded when its turn comes.
    """

    def __init__(
        self,
        domain: Domain[Any, Any],
        codec: Codec[Any],
        rows: Rows[Any],
        fields: Sequence[Field],
        labels: int | None,
        *,
        workers: int = 1,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        if len(rows) == 0:
            raise HeadwaterError("the training data are empty")
        self.domain, self.codec, self.rows = domain, codec, rows
        self.scalars = [f for f in fields if f.kind != "given"]
        self.given = [f for f in fields if f.kind == "given"]
        self.hash = content_hash(rows)
        made_by = (domain.name, self.hash, code_hash(domain))
        self.encoded: Encoded | None = None
        if isinstance(codec.space, Tokens) and (type(codec).view is Codec.view or not codec.draws):
            some = encode_rows(rows, range(0, len(rows), -(-len(rows) // TELLING)), codec, progress)
            told = hashlib.blake2b(some.cells.tobytes(), digest_size=16).hexdigest()
            made = (*made_by, told, codec.space)
            stored = _cached("encoded", made, lambda: vars(encode_rows(rows, range(len(rows)), codec, progress)))
            self.encoded = Encoded(**stored)
        self.values = np.full((len(rows), len(self.scalars)), np.nan, dtype=np.float32)
        count = len(rows) if labels is None else min(labels, len(rows))
        if self.scalars and count:
            chosen = permutation(torch.arange(count), len(rows), Noise(0).fold("labels")).tolist()
            key = (*made_by, count, [f.name for f in self.scalars])
            self.values[chosen] = _cached(
                "labels", key, lambda: {"values": label_rows(domain, rows, chosen, self.scalars, workers, progress)}
            )["values"]

    def __len__(self) -> int:
        return len(self.rows)

    def labelled(self) -> np.ndarray[Any, Any]:
        """The rows that carry at least one label, ascending."""
        return np.flatnonzero(~np.isnan(self.values).all(axis=1)) if self.scalars else np.zeros(0, dtype=np.int64)

    @property
    def sizes(self) -> np.ndarray[Any, Any] | None:
        return self.encoded.sizes if self.encoded is not None else None

    def _encode(self, row: int, item: Any) -> np.ndarray[Any, Any]:
        try:
            return self.codec.encode(item)
        except ValueError as error:
            raise HeadwaterError(f"training row {row}: {error}") from None

    def batch(self, index: Sequence[int], noise: Noise) -> tuple[Tensor, Conditions]:
        """The rows of ``index``; ``noise`` has one key for each, for views and degradations."""
        if self.encoded is not None:
            array = self.encoded.batch(index, self.codec.space.shape[0])
            items = [self.rows[r] for r in index] if self.given else []
        else:
            views = noise.fold("view")
            items = [self.codec.view(self.rows[r], views[i : i + 1]) for i, r in enumerate(index)]
            array = np.stack([self._encode(r, item) for r, item in zip(index, items, strict=True)])
            if isinstance(self.codec.space, Tokens):
                array = array[:, : max(map(_size, array)) + 1]
        values = torch.from_numpy(self.values[list(index)])
        given = {}
        for f in self.given:
            keys = noise.fold("given", f.name)
            made = [self.domain.given(f.name, item, keys[i : i + 1]) for i, item in enumerate(items)]
            given[f.name] = Conditions.of([f], made, self.codec.space).given[f.name]
        return torch.from_numpy(array), Conditions(values, given)

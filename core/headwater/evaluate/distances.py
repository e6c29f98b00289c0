"""Distances between the rows of two feature tables, in blocks: bool rows by Tanimoto, float rows by Euclid.

Tanimoto: 1 − |a ∧ b| / |a ∨ b|, with 0 between two rows without a bit. Bits are packed into 64-bit words and counted by the
processor's own popcount, 128 bytes for 1024 of them. Euclid: √(|a|² + |b|² − 2ab) in float64, around a common centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from headwater.domain import Array

#: Rows of a block on either side: its temporaries fit into the processor's cache.
ROWS, COLUMNS = 128, 2048


class Table:
    """Features (items, width), bool or float, ready for distances. Raises ``ValueError`` for another kind, and for numbers that
    are not finite.

    >>> a, b = (Table(np.array(bits, dtype=bool)) for bits in ([[1, 1, 0, 0]], [[1, 1, 0, 0], [0, 1, 1, 1]]))
    >>> distances(a, b).tolist()
    [[0.0, 0.75]]
    """

    def __init__(self, features: Array) -> None:
        if features.ndim != 2 or features.dtype.kind not in "bf":
            raise ValueError(f"features: expected bool or float rows; got {features.dtype} of shape {features.shape}")
        self.width, self.bits = features.shape[1], features.dtype.kind == "b"
        if self.bits:
            packed = np.packbits(features, axis=1)
            spare = -packed.shape[1] % 8
            words = np.pad(packed, ((0, 0), (0, spare))).view(np.uint64)
            self.rows: Array = words
            self.sizes = np.bitwise_count(words).sum(axis=1, dtype=np.int32)
        else:
            self.rows = features.astype(np.float64)
            if not np.isfinite(self.rows).all():
                raise ValueError("features: expected finite numbers")

    def __len__(self) -> int:
        return len(self.rows)


def block(a: Table, rows: slice, b: Table, columns: slice, centre: Array | None) -> Array:
    """Float64 distances of some rows of ``a`` to some of ``b``."""
    x, y = a.rows[rows], b.rows[columns]
    if a.bits:
        shared = np.zeros((len(x), len(y)), dtype=np.int32)
        for word in range(x.shape[1]):
            shared += np.bitwise_count(x[:, word, None] & y[None, :, word])
        union = a.sizes[rows, None] + b.sizes[None, columns] - shared
        apart: Array = 1.0 - np.divide(shared, union, out=np.ones(shared.shape), where=union > 0)
        return apart
    x, y = x - centre, y - centre  # subtracting large equal squares would cost digits
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * (x @ y.T)
    found: Array = np.sqrt(np.maximum(squares, 0.0))
    return found


def blocks(a: Table, b: Table, rows: int = ROWS, columns: int = COLUMNS) -> Iterator[tuple[slice, slice, Array]]:
    """``(rows of a, rows of b, distances between them)``, row blocks outermost. Raises ``ValueError`` for tables of two kinds."""
    if a.bits != b.bits or a.width != b.width:
        raise ValueError(f"features of two kinds: {a.width} columns and {b.width}, or bool and float")
    centre: Any = None if a.bits else b.rows.mean(axis=0) if len(b) else 0.0
    for low in range(0, len(a), rows):
        for left in range(0, len(b), columns):
            here, there = slice(low, min(low + rows, len(a))), slice(left, min(left + columns, len(b)))
            yield here, there, block(a, here, b, there, centre)


def distances(a: Table, b: Table, rows: int = ROWS, columns: int = COLUMNS) -> Array:
    """(rows of a, rows of b), all at once."""
    found = np.empty((len(a), len(b)))
    for here, there, part in blocks(a, b, rows, columns):
        found[here, there] = part
    return found


def nearest(a: Table, b: Table, rows: int = ROWS, columns: int = COLUMNS) -> Array:
    """The distance of each row of ``a`` to the nearest of ``b``; infinite where ``b`` is empty."""
    found = np.full(len(a), np.inf)
    for here, _, part in blocks(a, b, rows, columns):
        found[here] = np.minimum(found[here], part.min(axis=1))
    return found


def radii(a: Table, k: int, rows: int = ROWS) -> Array:
    """The distance of each row to its ``k``-th nearest other row of the same table."""
    found = np.empty(len(a))
    for here, _, part in blocks(a, a, rows, max(1, len(a))):
        at = np.arange(here.start, here.stop)
        part[at - here.start, at] = np.inf  # a row is no neighbour of its own
        found[here] = np.partition(part, k - 1, axis=1)[:, k - 1]
    return found

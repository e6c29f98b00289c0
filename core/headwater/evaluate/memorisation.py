"""Memorisation: are samples nearer to the training items than new real items are?

For each sample the distance to the nearest training item, and the same for held-out items, which nobody could have memorised. A
sample is ``near`` where that distance is at most a low percentile of the held-out ones. A model that has learnt the distribution
has as many near samples as there are near held-out items; one that replays its training data has no others. The baseline makes
the figure mean the same whatever the features, and however few training items are looked at (compare Meehan, Chaudhuri and
Dasgupta, 2020, "A non-parametric test to detect data-copying in generative models", https://arxiv.org/abs/2004.05675).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headwater.domain import Array, Rows
from headwater.evaluate.distances import Table, nearest

#: Training items whose features are held at a time.
BLOCK = 4096


@dataclass(frozen=True)
class Memorisation:
    """Shares of the samples and of the held-out items that are ``near`` (see the module), and that are ``copied``: equal to a
    training item in every feature. ``threshold`` is the distance that is near, ``train`` the number of training items looked at."""

    near: float
    near_held: float
    copied: float
    copied_held: float
    threshold: float
    train: int


def memorisation(
    made: Sequence[Any],
    held: Sequence[Any],
    train: Iterable[Sequence[Any]],
    features: Callable[[Sequence[Any]], Array],
    percentile: float = 5.0,
) -> Memorisation:
    """``train`` gives training items in blocks, one of which is held at a time. Raises ``ValueError`` where a set is empty."""
    if not len(made) or not len(held):
        raise ValueError(f"expected samples and held-out items; got {len(made)} and {len(held)}")
    sets = [Table(features(items)) for items in (made, held)]
    closest, count = [np.full(len(s), np.inf) for s in sets], 0
    for items in train:
        table = Table(features(items))
        closest = [np.minimum(c, nearest(s, table)) for c, s in zip(closest, sets, strict=True)]
        count += len(items)
    if not count:
        raise ValueError("expected training items; got none")
    threshold = float(np.percentile(closest[1], percentile, method="inverted_cdf"))
    # equal up to rounding: 1e-6 of how far held-out items spread
    none = 0.0 if sets[1].bits else 1e-6 * float(np.linalg.norm(sets[1].rows.std(axis=0)))
    near, copied = ([float((c <= limit).mean()) for c in closest] for limit in (max(threshold, none), none))
    return Memorisation(near[0], near[1], copied[0], copied[1], threshold, count)


def spaced(rows: Rows[Any], most: int, block: int = BLOCK) -> Iterator[list[Any]]:
    """At most ``most`` rows (0: all), evenly spaced from the first on, in blocks."""
    total = len(rows) if most <= 0 else min(most, len(rows))
    for low in range(0, total, block):
        yield [rows[i * len(rows) // total] for i in range(low, min(low + block, total))]

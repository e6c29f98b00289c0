"""Segments that nobody wrote a rule for: customers grouped by a few columns, the same groups whatever the order of the rows.

The groups are fitted once a campaign, on those customers whose hashes are smallest, so neither memory nor the result depends on
how many there are or how they are sorted. They are a property of the whole table: another customer may move a border, and only
rules promise that a row's segment depends on that row alone.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from headwater.errors import HeadwaterError
from headwater_marketing import brief as briefs
from headwater_marketing.facts import missing

#: Customers that the groups are fitted on at most.
SAMPLE = 20_000


class Clustering:
    """Groups of customers by k-means over standardised columns (Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489).

    :meth:`add` every row in order, :meth:`fit` once; then :meth:`segment` gives the segment of row i, None where a column has no
    number there. Groups are in the order of their centres, the first column first."""

    def __init__(self, wanted: briefs.Clusters) -> None:
        self.wanted = wanted
        self.values = array("f")  # all rows; NaN where there is no number
        self.sample: list[tuple[int, tuple[float, ...]]] = []  # a heap, the largest hash on top, negated
        self.centres: list[tuple[float, ...]] = []
        self.scale: tuple[float, ...] = ()

    def add(self, mark: int, values: Mapping[str, Any]) -> None:
        """A row; ``mark`` is a hash of its customer."""
        row = tuple(map(_number, (values.get(name) for name in self.wanted.columns)))
        self.values.extend(row)
        if not any(map(math.isnan, row)):
            change = heapq.heappush if len(self.sample) < SAMPLE else heapq.heappushpop
            change(self.sample, (-mark, row))

    def fit(self) -> None:
        """Raises :class:`HeadwaterError` where the columns hold fewer different rows than groups are asked for."""
        import numpy as np
        from sklearn.cluster import KMeans

        k = len(self.wanted.voices)
        rows = np.array([row for _, row in sorted(self.sample)], dtype=np.float64).reshape(-1, len(self.wanted.columns))
        if len(np.unique(rows, axis=0)) < k:
            found = f"{len(np.unique(rows, axis=0))} different rows of numbers"
            raise HeadwaterError(f"clusters: {k} voices; the columns {', '.join(self.wanted.columns)} hold only {found}")
        spread = rows.std(axis=0)
        self.scale = tuple(np.where(spread > 0, spread, 1.0).tolist())
        fitted = KMeans(n_clusters=k, n_init=10, random_state=0).fit(rows / self.scale)
        self.centres = sorted(tuple(float(f"{c:.6g}") for c in centre) for centre in fitted.cluster_centers_ * self.scale)

    def segment(self, row: int) -> briefs.Segment | None:
        """The segment of the row that was added as number ``row``."""
        wide = len(self.wanted.columns)
        return self.nearest(self.values[row * wide : (row + 1) * wide])

    def nearest(self, values: Sequence[float]) -> briefs.Segment | None:
        if any(map(math.isnan, values)):
            return None
        far = [sum(((v - c) / s) ** 2 for v, c, s in zip(values, centre, self.scale, strict=True)) for centre in self.centres]
        group = far.index(min(far))
        where = ", ".join(f"{name} {c:g}" for name, c in zip(self.wanted.columns, self.centres[group], strict=True))
        return briefs.Segment(
            name=f"cluster {group + 1} of {len(far)}",
            when=f"nearest to {where}",
            voice=self.wanted.voices[group],
            level=self.wanted.level,
        )


def _number(value: Any) -> float:
    if missing(value):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if abs(number) < 1e12 else math.nan

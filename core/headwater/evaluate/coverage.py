"""Density and coverage: do samples lie where real items lie, and do they reach everywhere? (Naeem et al., 2020,
https://arxiv.org/abs/2002.09797)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwater.domain import Array
from headwater.evaluate.distances import COLUMNS, ROWS, Table, blocks, radii


@dataclass(frozen=True)
class Coverage:
    """``density``: how many balls a sample lies in, over k: 1 for real items, less where samples lie outside. ``coverage``: the
    share of balls that hold a sample: nearly 1 − 2⁻ᵏ for as many real items, less where samples leave something out."""

    density: float
    coverage: float


def coverage(real: Array, made: Array, k: int = 5, rows: int = ROWS, columns: int = COLUMNS) -> Coverage:
    """Features (items, width) of real items and of samples. The ball of a real item reaches to its k-th nearest real neighbour:

    density = Σ_j Σ_i 1[made_j in ball_i] / (k m),  coverage = mean_i 1[some made_j in ball_i].

    Balls are closed, so that features that take few values (ties) are inside their own. Memory grows with the number of real items
    only. Raises ``ValueError`` for fewer than k + 1 real items or no sample."""
    if len(real) <= k or not len(made):
        raise ValueError(f"expected more than {k} real items and a sample; got {len(real)} and {len(made)}")
    table = Table(real)
    reach = radii(table, k, rows)
    reach = reach if table.bits else reach * (1 + 1e-9)  # closed in spite of rounding
    inside, covered = 0, np.zeros(len(real), dtype=bool)
    for here, _, part in blocks(table, Table(made), rows, columns):
        hit = part <= reach[here, None]
        inside += int(hit.sum())
        covered[here] |= hit.any(axis=1)
    return Coverage(inside / (k * len(made)), float(covered.mean()))

"""The change of log-density along the path of an ordinary differential equation: what a continuous flow's likelihood is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from headwater.noise import Noise
from headwater.spaces import Grid, Space, cells

#: dx/dt of rows (rows, *shape) at one time.
Field = Callable[[Tensor, float], Tensor]


def divergence(function: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """``function(x)``, and uᵀJu (directions, rows) for each u of ``directions`` (directions, rows, *shape), J the Jacobian at x:
    over unit vectors they sum to the divergence, over random signs each has it for its mean."""
    jvp: Any = torch.func.jvp
    vmap: Any = torch.func.vmap
    value, change = vmap(lambda u: jvp(function, (x,), (u,)), out_dims=(None, 0))(directions)  # the function itself runs once
    return value, (directions * change).flatten(2).sum(2).double()


def transport(
    field: Field, x: Tensor, times: Sequence[float], noise: Noise, exact: bool | None = None, probes: int = 1
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Where the path from ``x`` at the first of ``times`` is at the last, log |det| (rows,) of the map from here to there, and its
    standard error where it is an estimate.

    The determinant's logarithm is the integral of the field's divergence (Chen et al., 2018, "Neural ordinary differential
    equations", https://arxiv.org/abs/1806.07366); both are integrated by the classical Runge-Kutta method of fourth order, four
    calls a step. ``exact`` takes the whole trace (default: up to 64 cells a row); otherwise ``probes`` vectors of random signs for
    each row estimate it (Hutchinson's trace; Grathwohl et al., 2019, "FFJORD", https://arxiv.org/abs/1810.01367), and one probe
    alone has no standard error.
    """
    shape = x.shape[1:]
    n = math.prod(shape)
    exact = n <= 64 if exact is None else exact
    if exact:
        directions = torch.eye(n, dtype=x.dtype, device=x.device).reshape(n, 1, *shape).expand(n, *x.shape)
    else:
        directions = (noise.fold("probe").below(2, probes, *shape).movedim(1, 0) * 2 - 1).to(x)

    def slope(x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        return divergence(lambda x: field(x, time), x, directions)

    change = torch.zeros(len(directions), x.shape[0], dtype=torch.float64, device=x.device)
    for now, after in pairwise(times):
        h, middle = after - now, (now + after) / 2
        k1, d1 = slope(x, now)
        k2, d2 = slope(x + (h / 2) * k1, middle)
        k3, d3 = slope(x + (h / 2) * k2, middle)
        k4, d4 = slope(x + h * k3, after)
        x = x + (h / 6) * (k1 + 2 * k2 + 2 * k3 + k4)
        change += (h / 6) * (d1 + 2 * d2 + 2 * d3 + d4)
    if exact:
        return x, change.sum(0), None
    return x, change.mean(0), change.std(0) / math.sqrt(probes) if probes > 1 else None


def log_normal(x: Tensor) -> Tensor:
    """(rows,) float64: the log-density of the standard normal.

    >>> round(float(log_normal(torch.zeros(1, 2)).exp() * 2 * math.pi), 6)
    1.0
    """
    return -0.5 * (x.double().square() + math.log(2 * math.pi)).flatten(1).sum(1)


def dequantised(space: Space) -> float:
    """What turns the log-density of dequantised data into a log-probability: log(2/levels) a cell, each grey level being 2/levels
    wide on [-1, 1]; 0 without levels.

    >>> dequantised(Grid(1, (3,), levels=2)), dequantised(Grid(1, (3,)))
    (0.0, 0.0)
    """
    levels = space.levels if isinstance(space, Grid) else None
    return cells(space) * math.log(2 / levels) if levels else 0.0

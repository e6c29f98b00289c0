"""A patch network on images of any size: overlapping windows, blended at every denoiser call.

Blending the *denoised estimates* inside each sampler step keeps one noise field and one trajectory for the whole image. Blending
finished samples of independent windows would average their noise and halve the standard deviation in the overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.restore.denoiser import Denoiser


class Windows:
    """Lifts ``denoiser``, which knows windows of ``size``, to (rows, channels, *any size); itself a
    :class:`~headwater.restore.denoiser.Denoiser`.

    ``axes`` are the spatial axes that ``size`` refers to, 0 the first after channels; the default is the last ``len(size)``.
    The other spatial axes become rows: a 2-D network with ``axes=(0, 1)`` runs through a volume slice by slice. ``overlap``
    cells at least are shared by neighbours. Every call of ``denoiser`` gets exactly ``tile`` windows, the last call padded,
    and their positions depend on the image's size alone; so no result depends on how many images are in flight. Memory: three
    times the image, and one tile.

    >>> lifted = Windows(lambda x, sigma, context: 2 * x, size=(4,), overlap=2)
    >>> lifted(torch.ones(1, 1, 7), torch.ones(1), None).tolist()
    [[[2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]]]
    """

    def __init__(
        self,
        denoiser: Denoiser,
        size: Sequence[int],
        overlap: int | Sequence[int],
        axes: Sequence[int] | None = None,
        tile: int = 16,
    ) -> None:
        self.denoiser, self.size, self.axes, self.tile = denoiser, tuple(size), None if axes is None else tuple(axes), tile
        self.overlap = (overlap,) * len(self.size) if isinstance(overlap, int) else tuple(overlap)
        if len(self.overlap) != len(self.size) or any(not 0 <= o < s for o, s in zip(self.overlap, self.size, strict=True)):
            raise HeadwaterError(f"overlap: expected 0 <= overlap < size along each axis of size {self.size}; got {self.overlap}")
        if self.axes is not None and len(set(self.axes)) != len(self.size):
            raise HeadwaterError(f"axes: expected {len(self.size)} different axes for size {self.size}; got {self.axes}")

    def __call__(self, x: Tensor, sigma: Tensor, context: Context | None = None) -> Tensor:
        spatial = x.ndim - 2
        axes = tuple(range(spatial - len(self.size), spatial)) if self.axes is None else self.axes
        if spatial < len(self.size) or any(not 0 <= a < spatial for a in axes):
            raise HeadwaterError(f"axes: expected {len(self.size)} of an image's {spatial} spatial axes; got {axes}")
        rows = Rows(x.shape, axes)
        flat = rows.flatten(x)
        lengths = flat.shape[2:]
        flat = _at_least(flat, self.size)
        index = torch.arange(x.shape[0], device=x.device).repeat_interleave(rows.each)
        out = self._blend(flat, sigma[index], index, _cells(context, rows, self.size), context)
        for axis, n in enumerate(lengths):
            out = out.narrow(2 + axis, _before(n, self.size[axis]), n)
        return rows.restore(out)

    def _blend(self, x: Tensor, sigma: Tensor, index: Tensor, cells: Tensor | None, context: Context | None) -> Tensor:
        lines = [_line(n, s, o) for n, s, o in zip(x.shape[2:], self.size, self.overlap, strict=True)]
        corners = [(self._place(corner), _outer(corner).to(x)) for corner in product(*lines)]
        places = [(row, place, weight) for row in range(x.shape[0]) for place, weight in corners]
        out = torch.zeros_like(x)
        for first in range(0, len(places), self.tile):
            here = places[first : first + self.tile]
            full = here + [here[0]] * (self.tile - len(here))
            which = torch.tensor([row for row, _, _ in full], device=x.device)
            windows = torch.stack([x[row][place] for row, place, _ in full])
            told = None if context is None else replace(context, cells=None, null=None)[index[which]]
            if told is not None and cells is not None:
                told = replace(told, cells=torch.stack([cells[row][place] for row, place, _ in full]))
            estimate = self.denoiser(windows, sigma[which], told)
            for (row, place, weight), e in zip(here, estimate, strict=False):
                out[row][place] += e * weight
        return out

    def _place(self, corner: Sequence[tuple[int, Tensor]]) -> tuple[slice, ...]:
        """One window in (channels, *size)."""
        return (slice(None), *(slice(start, start + s) for (start, _), s in zip(corner, self.size, strict=True)))


class Rows:
    """(rows, channels, *size) as (rows · others, channels, *windowed axes) and back; ``each`` is how many others one row has."""

    def __init__(self, shape: torch.Size, axes: tuple[int, ...]) -> None:
        others = [a for a in range(len(shape) - 2) if a not in axes]
        self.order = [0, *(2 + a for a in others), 1, *(2 + a for a in axes)]
        self.others = [shape[2 + a] for a in others]
        self.each = math.prod(self.others)

    def flatten(self, x: Tensor) -> Tensor:
        y = x.permute(self.order)
        return y.reshape(-1, *y.shape[1 + len(self.others) :])

    def restore(self, y: Tensor) -> Tensor:
        wide = y.reshape(-1, *self.others, *y.shape[1:])
        return wide.permute([self.order.index(a) for a in range(len(self.order))]).contiguous()


def _cells(context: Context | None, rows: Rows, size: tuple[int, ...]) -> Tensor | None:
    """A context's cells cut as the image is."""
    return None if context is None or context.cells is None else _at_least(rows.flatten(context.cells), size)


def _before(length: int, size: int) -> int:
    """How many reflected cells stand before an axis shorter than its window."""
    return max(0, size - length) // 2


def _at_least(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Axes shorter than the window padded by reflection without repeating the edge, to and fro where once is not enough."""
    for axis, s in enumerate(size, start=2):
        n = x.shape[axis]
        if n < s:
            place = torch.arange(s, device=x.device) - _before(n, s)
            period = max(1, 2 * (n - 1))
            place = place % period
            x = x.index_select(axis, torch.minimum(place, period - place) if n > 1 else torch.zeros_like(place))
    return x


def _line(length: int, size: int, overlap: int) -> list[tuple[int, Tensor]]:
    """Starts of the windows along one axis, evenly spread, each with its share of every cell: shares sum to one."""
    count = 1 + math.ceil((length - size) / (size - overlap))
    starts = [round(i * (length - size) / max(1, count - 1)) for i in range(count)]
    edge = torch.arange(size, dtype=torch.float64)
    rise = torch.minimum(edge, size - 1 - edge) + 0.5
    raw = (rise / max(1, overlap)).clamp(max=1).mul(math.pi / 2).sin().square()
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + size] += raw
    return [(start, raw / total[start : start + size]) for start in starts]


def _outer(corner: Sequence[tuple[int, Tensor]]) -> Tensor:
    """The weights of one window: the product of its shares along each axis."""
    out = torch.ones((), dtype=torch.float64)
    for _, share in corner:
        out = out[..., None] * share
    return out

"""Convolutional readers and writers of grids: residual blocks without normalisation layers, so that nothing couples rows.

The blocks are those of R3GAN (Huang et al., 2024, https://arxiv.org/abs/2501.05441) made plain: what keeps them trainable
without norms is that each ends in a convolution that starts at zero (Fixup: Zhang et al., 2019, https://arxiv.org/abs/1901.09321).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.networks.unet import convolution, fold
from headwater.spaces import Grid


class Block(nn.Module):
    """x + conv(silu(conv(silu x))); the last convolution starts at zero."""

    def __init__(self, dimensions: int, width: int) -> None:
        super().__init__()
        self.first, self.last = convolution(dimensions, width, width), convolution(dimensions, width, width)
        for zero in (self.last.weight, self.last.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.last(F.silu(self.first(F.silu(x))))
        return out


def dimensions(space: Grid) -> int:
    if len(space.size) not in (1, 2, 3):
        raise ValueError(f"the convolutional network takes grids of 1 to 3 dimensions, got size {space.size}")
    return len(space.size)


def padded(x: Tensor, multiple: int) -> Tensor:
    """(rows, channels, *size) with each size grown by its last values to a multiple."""
    margin = [(-n) % multiple for n in x.shape[2:]]
    return F.pad(x, [p for m in reversed(margin) for p in (0, m)], mode="replicate") if any(margin) else x


class ConvolutionalReader(nn.Module):
    """A grid to ``features`` numbers: ``blocks`` residual blocks of each of the ``widths``, half the size at each next one, and a
    linear map of all that is left. Given cells enter as channels, the pooled context as a shift of the first map."""

    def __init__(
        self,
        space: Grid,
        *,
        features: int,
        widths: Sequence[int] = (32, 64, 96),
        blocks: int = 1,
        pooled: int = 0,
        cells: int = 0,
    ) -> None:
        super().__init__()
        d, self.multiple = dimensions(space), 2 ** (len(widths) - 1)
        self.stem = convolution(d, space.channels + cells, widths[0])
        self.pooled = nn.Linear(pooled, widths[0]) if pooled else None
        self.stages = nn.ModuleList([nn.Sequential(*[Block(d, width) for _ in range(blocks)]) for width in widths])
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.shrink = nn.ModuleList([convolution(d, here * 2**d, deeper, kernel=1) for here, deeper in pairs])
        self.out = nn.Linear(widths[-1] * math.prod(-(-n // self.multiple) for n in space.size), features)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        out: Tensor = self.out(self.map(x, context).flatten(1))
        return out

    def map(self, x: Tensor, context: Context) -> Tensor:
        """What is left of the grid: (rows, last width, *size / 2^(widths - 1)), rounded up."""
        if context.cells is not None:
            x = torch.cat([x, context.cells.to(x.dtype)], dim=1)
        hidden: Tensor = self.stem(padded(x, self.multiple))
        if self.pooled is not None and context.pooled is not None:
            hidden = hidden + self.pooled(context.pooled).reshape(*hidden.shape[:2], *[1] * (x.ndim - 2))
        for i, stage in enumerate(self.stages):
            hidden = stage(hidden if i == 0 else self.shrink[i - 1](fold(hidden, 2)))
        return F.silu(hidden)


class ConvolutionalWriter(nn.Module):
    """A latent to ``channels`` numbers in each cell of a grid: a linear map to a small map, then ``blocks`` residual blocks of each
    of the ``widths``, read from the last to the first, at twice the size each time; cropped to the grid. The pooled context is
    joined to the latent; given cells are added at every scale, averaged down to it."""

    def __init__(
        self,
        space: Grid,
        *,
        latent: int,
        channels: int,
        widths: Sequence[int] = (32, 64, 96),
        blocks: int = 1,
        pooled: int = 0,
        cells: int = 0,
    ) -> None:
        super().__init__()
        d, self.size, self.multiple = dimensions(space), space.size, 2 ** (len(widths) - 1)
        self.small = (widths[-1], *[-(-n // self.multiple) for n in space.size])
        self.stem = nn.Linear(latent + pooled, math.prod(self.small))
        self.stages = nn.ModuleList([nn.Sequential(*[Block(d, width) for _ in range(blocks)]) for width in widths])
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.grow = nn.ModuleList([convolution(d, deeper, here, kernel=1) for here, deeper in pairs])
        self.given = nn.ModuleList([convolution(d, cells, width, kernel=1) for width in widths]) if cells else None
        self.out = convolution(d, widths[0], channels)
        self.average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[d - 1]

    def forward(self, z: Tensor, context: Context) -> Tensor:
        read = z if context.pooled is None else torch.cat([z, context.pooled.to(z.dtype)], dim=1)
        hidden: Tensor = self.stem(read).reshape(-1, *self.small)
        for i in reversed(range(len(self.stages))):
            if i < len(self.stages) - 1:
                hidden = F.interpolate(self.grow[i](hidden), scale_factor=2.0, mode="nearest")
            if self.given is not None and context.cells is not None:
                cells = padded(context.cells.to(z.dtype), self.multiple)
                hidden = hidden + self.given[i](self.average(cells, 2**i))
            hidden = self.stages[i](hidden)
        hidden = self.out(F.silu(hidden))
        return hidden[(slice(None), slice(None), *[slice(n) for n in self.size])]

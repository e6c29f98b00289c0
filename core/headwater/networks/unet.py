"""A U-Net for grids: residual blocks modulated by the noise level, without normalisation layers.

Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597. Without group norms nothing couples distant cells or rows, so the
network behaves on a window of any size as it did on the patches it saw, and convolutions are all there is to pay for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.spaces import Grid


class NoiseEmbedding(nn.Module):
    """Sines and cosines of the noise coordinate, then two layers: (rows,) to (rows, width)."""

    def __init__(self, width: int, pooled: int = 0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, width), nn.Linear(width, width)
        self.pooled = nn.Linear(pooled, width) if pooled else None

    def forward(self, level: Tensor, context: Context) -> Tensor:
        angle = level[:, None] * torch.linspace(0.0, 3.0, 16, device=level.device).exp()
        hidden = self.first(torch.cat([angle.cos(), angle.sin()], dim=1))
        if self.pooled is not None and context.pooled is not None:
            hidden = hidden + self.pooled(context.pooled)
        return F.silu(self.second(F.silu(hidden)))


def convolution(dimensions: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    return kind(inputs, outputs, kernel, stride=stride, padding=kernel // 2 if stride == 1 else 0)


class Residual(nn.Module):
    """x + conv(silu(modulated conv(silu x))); the last convolution starts at zero."""

    def __init__(self, dimensions: int, width: int, embedding: int) -> None:
        super().__init__()
        self.first = convolution(dimensions, width, width)
        self.last = convolution(dimensions, width, width)
        self.modulate = nn.Linear(embedding, 2 * width)
        for zero in (self.last.weight, self.last.bias, self.modulate.weight, self.modulate.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulate(embedding).reshape(x.shape[0], -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        hidden = self.first(F.silu(x)) * (1 + scale) + shift
        out: Tensor = x + self.last(F.silu(hidden))
        return out


class UNet(nn.Module):
    """``widths`` channels at each scale, ``blocks`` residual blocks on each way; cells folded into channels ``fold`` x ``fold``
    first (space to depth), which makes every convolution cheaper by fold². Grids that a scale does not divide are padded by
    their edge and cropped."""

    def __init__(
        self,
        space: Grid,
        widths: Sequence[int] = (64, 96, 128),
        blocks: int = 2,
        fold: int = 2,
        embedding: int = 128,
        pooled: int = 0,
        cells: int = 0,
    ) -> None:
        super().__init__()
        d = self.dimensions = len(space.size)
        if d not in (1, 2, 3):
            raise ValueError(f"the U-Net takes grids of 1 to 3 dimensions, got size {space.size}")
        self.fold, self.multiple = fold, fold * 2 ** (len(widths) - 1)
        unit = fold**d
        self.embedding = NoiseEmbedding(embedding, pooled)
        self.stem = convolution(d, (space.channels + cells) * unit, widths[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for here, deeper in zip(widths[:-1], widths[1:], strict=True):
            self.down.append(nn.ModuleList([Residual(d, here, embedding) for _ in range(blocks)]))
            self.up.append(nn.ModuleList([Residual(d, here, embedding) for _ in range(blocks)]))
            self.shrink.append(convolution(d, here, deeper, kernel=2, stride=2))
            self.grow.append(convolution(d, deeper, here * 2**d, kernel=1))
            self.merge.append(convolution(d, 2 * here, here, kernel=1))
        self.middle = nn.ModuleList([Residual(d, widths[-1], embedding) for _ in range(blocks + 1)])
        self.out = convolution(d, widths[0], space.channels * unit)
        nn.init.zeros_(self.out.weight)  # type: ignore[arg-type]
        if d == 2:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, noise_level: Tensor, context: Context) -> Tensor:
        size, embedding = x.shape[2:], self.embedding(noise_level, context)
        if context.cells is not None:
            x = torch.cat([x, context.cells.to(x.dtype)], dim=1)
        margin = [(-n) % self.multiple for n in size]
        if any(margin):
            x = F.pad(x, [p for m in reversed(margin) for p in (0, m)], mode="replicate")
        x = self.stem(fold(x, self.fold))
        if self.dimensions == 2:
            x = x.contiguous(memory_format=torch.channels_last)
        skips = []
        down: Any = zip(self.down, self.shrink, strict=True)
        for blocks, shrink in down:
            for block in blocks:
                x = block(x, embedding)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, embedding)
        up: Any = zip(self.up[::-1], self.grow[::-1], self.merge[::-1], strict=True)
        for blocks, grow, merge in up:
            x = merge(torch.cat([unfold(grow(x), 2), skips.pop()], dim=1))
            for block in blocks:
                x = block(x, embedding)
        x = unfold(self.out(x), self.fold)
        return x[(slice(None), slice(None), *[slice(n) for n in size])]


def fold(x: Tensor, factor: int) -> Tensor:
    """Space to depth in any number of dimensions: (rows, c, *size) to (rows, c·factor^d, *size/factor)."""
    if factor == 1:
        return x
    if x.ndim == 4:
        return F.pixel_unshuffle(x, factor)
    d = x.ndim - 2
    x = x.reshape(*x.shape[:2], *[n for s in x.shape[2:] for n in (s // factor, factor)])
    return x.permute(0, 1, *range(3, 2 * d + 2, 2), *range(2, 2 * d + 2, 2)).flatten(1, 1 + d)


def unfold(x: Tensor, factor: int) -> Tensor:
    """Depth to space, the inverse of :func:`fold`."""
    if factor == 1:
        return x
    if x.ndim == 4:
        return F.pixel_shuffle(x, factor)
    d = x.ndim - 2
    size = x.shape[2:]
    x = x.reshape(x.shape[0], -1, *[factor] * d, *size)
    order = [axis for i in range(d) for axis in (2 + d + i, 2 + i)]
    return x.permute(0, 1, *order).reshape(x.shape[0], x.shape[1], *[s * factor for s in size])

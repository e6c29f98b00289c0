"""Residual multilayer perceptrons for vectors: as a field, modulated by the noise level and the pooled context; as a reader and a
writer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.networks.unet import NoiseEmbedding
from headwater.spaces import Vector


class MLP(nn.Module):
    """``layers`` residual layers of ``width``; given numbers are joined to the input features."""

    def __init__(self, space: Vector, width: int = 256, layers: int = 4, pooled: int = 0, cells: int = 0) -> None:
        super().__init__()
        self.embedding = NoiseEmbedding(width, pooled)
        self.stem = nn.Linear(space.features + cells, width)
        self.first = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.last = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.modulate = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(layers)])
        self.out = nn.Linear(width, space.features)
        for layer in (*self.last, self.out):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, noise_level: Tensor, context: Context) -> Tensor:
        embedding = self.embedding(noise_level, context)
        hidden = self.stem(x if context.cells is None else torch.cat([x, context.cells.to(x.dtype)], dim=1))
        for first, last, modulate in zip(self.first, self.last, self.modulate, strict=True):
            scale, shift = modulate(embedding).chunk(2, dim=1)
            hidden = hidden + last(F.silu(first(F.silu(hidden)) * (1 + scale) + shift))
        out: Tensor = self.out(F.silu(hidden))
        return out


class Residual(nn.Module):
    """``layers`` residual layers of ``width`` between two linear maps, h + last(silu(first(silu h))), each adding nothing at first;
    without layers a linear map."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width) if layers else None
        self.first = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.last = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.out = nn.Linear(width if layers else inputs, outputs)
        for layer in self.last:
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if self.stem is not None:
            x = self.stem(x)
            for first, last in zip(self.first, self.last, strict=True):
                x = x + last(F.silu(first(F.silu(x))))
            x = F.silu(x)
        out: Tensor = self.out(x)
        return out


class Waves(nn.Module):
    """A vector with ``count`` random cosines and sines of it behind, cos(b·x) and sin(b·x) with b normal of standard deviation
    ``pitch``, never trained: a network of them tells points apart that lie 1/``pitch`` apart (Tancik et al., 2020,
    https://arxiv.org/abs/2006.10739)."""

    directions: Tensor

    def __init__(self, features: int, count: int, pitch: float) -> None:
        super().__init__()
        self.register_buffer("directions", pitch * torch.randn(features, count))

    def forward(self, x: Tensor) -> Tensor:
        angle = x @ self.directions
        return torch.cat([x, angle.cos(), angle.sin()], dim=1)


class MLPReader(nn.Module):
    """A vector to ``features`` numbers; given numbers and the pooled context are joined to its own, and so are ``waves`` of it."""

    def __init__(
        self,
        space: Vector,
        *,
        features: int,
        width: int = 128,
        layers: int = 2,
        waves: int = 0,
        pitch: float = 4.0,
        pooled: int = 0,
        cells: int = 0,
    ) -> None:
        super().__init__()
        self.waves = Waves(space.features, waves, pitch) if waves else None
        self.body = Residual(space.features + 2 * waves + cells + pooled, features, width, layers)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        out: Tensor = self.body(joined(x if self.waves is None else self.waves(x), context))
        return out


class MLPWriter(nn.Module):
    """A latent, joined by given numbers and the pooled context, to ``channels`` numbers."""

    def __init__(
        self, space: Vector, *, latent: int, channels: int, width: int = 128, layers: int = 2, pooled: int = 0, cells: int = 0
    ) -> None:
        super().__init__()
        self.body = Residual(latent + cells + pooled, channels, width, layers)

    def forward(self, z: Tensor, context: Context) -> Tensor:
        out: Tensor = self.body(joined(z, context))
        return out


def joined(x: Tensor, context: Context) -> Tensor:
    """(rows, n) with the context's numbers behind it."""
    return torch.cat([x, *[t.to(x.dtype) for t in (context.cells, context.pooled) if t is not None]], dim=1)

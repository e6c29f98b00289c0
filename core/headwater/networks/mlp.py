"""A residual multilayer perceptron for vectors, modulated by the noise level and the pooled context."""

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

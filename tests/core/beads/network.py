"""The network that the domain brings: two layers over the whole line."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headwater.context import Context


class LineNet(nn.Module):
    def __init__(self, length: int, width: int, pooled: int) -> None:
        super().__init__()
        self.first, self.level = nn.Linear(length, width), nn.Linear(1, width)
        self.pooled = nn.Linear(pooled, width) if pooled else None
        self.last = nn.Linear(width, length)

    def forward(self, x: Tensor, noise_level: Tensor, context: Context) -> Tensor:
        hidden = self.first(x[:, 0]) + self.level(noise_level[:, None])
        if self.pooled is not None and context.pooled is not None:
            hidden = hidden + self.pooled(context.pooled)
        out: Tensor = self.last(torch.tanh(hidden))[:, None]
        return out

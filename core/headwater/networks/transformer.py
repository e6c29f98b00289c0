"""A pre-norm transformer with rotary positions, as a causal network with a key-value cache.

Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; RMSNorm (Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467);
rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context


def rotary(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (length, width // 2) each."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(…, positions, width) turned by its positions' angles."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


@dataclass
class Cache:
    """Keys and values of the positions so far: (layers, rows, heads, length, head width), filled up to ``at``."""

    keys: Tensor
    values: Tensor
    at: int = 0


class Block(nn.Module):
    """Self-attention, attention to the given sequence where there is one, and a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float, sequence: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)
        self.norm_cross = nn.RMSNorm(width) if sequence else None
        self.query = nn.Linear(width, width, bias=False) if sequence else None
        self.key_value = nn.Linear(sequence, 2 * width, bias=False) if sequence else None
        self.out_cross = nn.Linear(width, width, bias=False) if sequence else None

    def split(self, x: Tensor) -> Tensor:
        """(rows, positions, width) to (rows, heads, positions, head width)."""
        out: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return out

    def cross(self, x: Tensor, context: Context) -> Tensor:
        if self.query is None or context.sequence is None or context.mask is None:
            return x
        assert self.norm_cross is not None and self.key_value is not None and self.out_cross is not None
        key, value = self.key_value(context.sequence).chunk(2, dim=-1)
        # A row without tokens attends to its first, padded, one: its output is defined and learnt like any other.
        mask = context.mask.clone()
        mask[:, 0] |= ~context.mask.any(dim=1)
        read = F.scaled_dot_product_attention(
            self.split(self.query(self.norm_cross(x))), self.split(key), self.split(value), attn_mask=mask[:, None, None, :]
        )
        out: Tensor = x + self.out_cross(read.transpose(1, 2).flatten(2))
        return out

    def feed(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))
        return out

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, context: Context, causal: bool) -> Tensor:
        query, key, value = (self.split(t) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        read = F.scaled_dot_product_attention(rotate(query, cos, sin), rotate(key, cos, sin), value, is_causal=causal)
        x = x + self.dropout(self.out(read.transpose(1, 2).flatten(2)))
        return self.feed(self.cross(x, context))

    def step(self, x: Tensor, cos: Tensor, sin: Tensor, context: Context, keys: Tensor, values: Tensor, at: int) -> Tensor:
        """One position (rows, 1, width). Plain matrix products: at one query they beat the fused kernel twofold on a CPU."""
        query, key, value = (self.split(t) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        keys[:, :, at : at + 1], values[:, :, at : at + 1] = rotate(key, cos, sin), value
        weight = rotate(query, cos, sin) @ keys[:, :, : at + 1].transpose(-1, -2) * query.shape[-1] ** -0.5
        read = weight.softmax(dim=-1) @ values[:, :, : at + 1]
        x = x + self.out(read.transpose(1, 2).flatten(2))
        return self.feed(self.cross(x, context))


class Transformer(nn.Module):
    """``layers`` blocks of ``width`` with ``heads`` heads; causal, with a cache for generation. The pooled context reaches it
    through its inputs; a given sequence by cross-attention."""

    def __init__(
        self, width: int = 256, layers: int = 4, heads: int = 4, dropout: float = 0.0, pooled: int = 0, sequence: int = 0
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.blocks = nn.ModuleList([Block(width, heads, dropout, sequence) for _ in range(layers)])
        self.norm = nn.RMSNorm(width)

    def forward(self, inputs: Tensor, context: Context) -> Tensor:
        cos, sin = rotary(inputs.shape[1], self.width // self.heads, inputs.device)
        x = inputs
        for block in self.blocks:
            x = block(x, cos, sin, context, causal=True)
        out: Tensor = self.norm(x)
        return out

    def start(self, rows: int, inputs: Tensor, length: int) -> Cache:
        shape = (len(self.blocks), rows, self.heads, length, self.width // self.heads)
        return Cache(inputs.new_zeros(shape), inputs.new_zeros(shape))

    def step(self, inputs: Tensor, state: Cache, context: Context) -> tuple[Tensor, Cache]:
        cos, sin = rotary(state.at + 1, self.width // self.heads, inputs.device)
        x = inputs[:, None]
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = block.step(x, cos[-1:], sin[-1:], context, state.keys[i], state.values[i], state.at)
        state.at += 1
        return self.norm(x)[:, 0], state

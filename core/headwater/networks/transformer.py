"""A pre-norm transformer with rotary positions: causal with a key-value cache, and bidirectional.

Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; RMSNorm (Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467);
rotary positions (Su et al., 2021, https://arxiv.org/abs/2104.09864).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context


def rotary(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What :func:`rotate` multiplies by, (length, width) each: cosines twice, and sines, the first half negated."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(…, positions, width) turned by its positions' angles: coordinate i pairs with i + width / 2."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin).to(x.dtype)


def squared_relu(x: Tensor) -> Tensor:
    """A fifth of what gelu costs on a CPU, and no worse (So et al., 2021, https://arxiv.org/abs/2109.08668). It
    writes over ``x`` where no gradient is asked for."""
    return F.relu(x).square() if x.requires_grad else x.relu_().square_()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": partial(F.gelu, approximate="tanh"), "squared_relu": squared_relu}


class Block(nn.Module):
    """Self-attention, attention to the given sequence where there is one, and a feed-forward layer."""

    def __init__(self, width: int, heads: int, dropout: float, sequence: int, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: expected {' or '.join(ACTIVATIONS)}; got {activation!r}")
        self.heads, self.activation = heads, ACTIVATIONS[activation]
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

    def keys(self, context: Context) -> tuple[Tensor, Tensor, Tensor] | None:
        """Keys, values and mask of the given sequence, None where there is none to read: the same for every position."""
        if self.key_value is None or context.sequence is None or context.mask is None:
            return None
        key, value = self.key_value(context.sequence).chunk(2, dim=-1)
        # A row without tokens attends to its first, padded, one: its output is defined and learnt like any other.
        mask = context.mask.clone()
        mask[:, 0] |= ~context.mask.any(dim=1)
        return self.split(key), self.split(value), mask[:, None, None, :]

    def cross(self, x: Tensor, told: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
        if told is None:
            return x
        assert self.norm_cross is not None and self.query is not None and self.out_cross is not None
        key, value, mask = told
        read = F.scaled_dot_product_attention(self.split(self.query(self.norm_cross(x))), key, value, attn_mask=mask)
        out: Tensor = x + self.out_cross(read.transpose(1, 2).flatten(2))
        return out

    def feed(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.dropout(self.down(self.activation(self.up(self.norm2(x)))))
        return out

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, context: Context, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        """(rows, positions, width); ``mask`` says which positions are looked at, broadcast over (rows, heads, to, from)."""
        query, key, value = (self.split(t) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        x = x + self.dropout(self.out(read.transpose(1, 2).flatten(2)))
        return self.feed(self.cross(x, self.keys(context)))


def unit(x: Tensor, smallest: Tensor) -> Tensor:
    """x / √(|x|² + smallest²), (rows, width): RMSNorm but for a factor that the matrix behind it takes (:func:`laid`)."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), smallest)


def factor(norm: nn.RMSNorm) -> Tensor:
    """What makes :func:`unit` the whole norm."""
    out: Tensor = norm.weight * norm.weight.shape[0] ** 0.5
    return out


def laid(weight: Tensor, norm: nn.RMSNorm | None = None) -> Tensor:
    """A linear layer's matrix as a product reads it fastest, (inputs, outputs), the norm before it laid in."""
    return (weight if norm is None else weight * factor(norm)).t().contiguous()


class Drawing:
    """A block that is asked for one position after another: its matrices laid out for that, and the keys and values so far,
    (2, rows x heads, room, head width), zero where there is none yet.

    The products read all the room there is, which therefore grows with the positions: memory without gaps streams two to four
    times as fast as the filled part of a larger room. They are plain ones: at one query they beat the fused kernel fourfold on a
    CPU. What a product has just written is still in its nearest cache, so what follows writes over it where it can.
    """

    def __init__(self, block: Block, rows: int) -> None:
        self.block, width, heads = block, block.out.in_features, block.heads
        query, key, value = laid(block.qkv.weight, block.norm1).unflatten(1, (3, heads, 2, -1)).unbind(1)
        # Coordinates that turn together stand side by side, as complex numbers: a query's product with a key feels no order.
        turning = (part.transpose(-1, -2).reshape(width, width) for part in (query * (width // heads) ** -0.5, key))
        self.qkv = torch.stack([*turning, value.reshape(width, width)])
        self.out, self.up, self.down = laid(block.out.weight), laid(block.up.weight, block.norm2), laid(block.down.weight)
        self.past = self.qkv.new_zeros(2, rows * heads, 0, width // heads)
        self.query = self.out_cross = None
        if block.query is not None and block.norm_cross is not None and block.out_cross is not None:
            self.query = laid(block.query.weight * (width // heads) ** -0.5, block.norm_cross)
            self.out_cross = laid(block.out_cross.weight)
        self.told: tuple[Tensor, Tensor, Tensor] | None = None

    def widen(self, more: int) -> None:
        self.past = F.pad(self.past, (0, 0, 0, more))

    def step(self, x: Tensor, at: int, turn: Tensor, unseen: Tensor, smallest: Tensor, context: Context) -> Tensor:
        """Position ``at`` of (rows, width), written over; ``unseen`` is zero up to it and minus infinity behind."""
        (rows, width), (_, each, _, across) = x.shape, self.past.shape
        qkv = torch.bmm(unit(x, smallest).expand(3, rows, width), self.qkv).view(3, each, across)
        torch.view_as_complex(qkv[:2].view(2, each, -1, 2)).mul_(turn)
        self.past[:, :, at] = qkv[1:]
        keys, values = self.past.unbind()
        weight = torch.baddbmm(unseen, qkv[0, :, None], keys.transpose(1, 2)).softmax(dim=-1)
        x = x.addmm_(torch.bmm(weight, values).view(rows, width), self.out)
        if at == 0:
            self._tell(context)
        if self.told is not None and self.query is not None and self.out_cross is not None:
            keys, values, unheard = self.told
            weight = torch.baddbmm(unheard, torch.mm(unit(x, smallest), self.query).view(each, 1, across), keys).softmax(dim=-1)
            x = x.addmm_(torch.bmm(weight, values).view(rows, width), self.out_cross)
        hidden = self.block.activation(torch.addmm(self.block.up.bias, unit(x, smallest), self.up))
        return x.addmm_(hidden, self.down).add_(self.block.down.bias)

    def _tell(self, context: Context) -> None:
        """Lay out the keys and values of the given sequence, the same for all positions, as the past's are."""
        if (told := self.block.keys(context)) is not None:
            key, value, mask = told
            unheard = torch.where(mask, 0.0, -torch.inf).to(key.dtype).expand(-1, key.shape[1], -1, -1)
            self.told = key.transpose(2, 3).flatten(0, 1).contiguous(), value.flatten(0, 1).contiguous(), unheard.flatten(0, 1)


@dataclass
class Cache:
    """What position ``at`` needs of those before it, and what all blocks share: how every position is turned, which positions of
    the room are seen, and what keeps a norm from dividing by zero."""

    drawing: list[Drawing]
    turn: Tensor
    unseen: Tensor
    smallest: Tensor
    at: int = 0


class Stack(nn.Module):
    """``layers`` blocks of ``width`` with ``heads`` heads, and a norm behind them. The pooled context reaches them through their
    inputs; a given sequence by cross-attention."""

    #: Unless told: what a saved configuration that names none was trained with.
    usual = "gelu"

    def __init__(
        self,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        activation: str | None = None,
        pooled: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.blocks = nn.ModuleList([Block(width, heads, dropout, sequence, activation or self.usual) for _ in range(layers)])
        self.norm = nn.RMSNorm(width)


class Transformer(Stack):
    """Causal, with a cache for generation."""

    def forward(self, inputs: Tensor, context: Context) -> Tensor:
        cos, sin = rotary(inputs.shape[1], self.width // self.heads, inputs.device)
        x = inputs
        for block in self.blocks:
            x = block(x, cos, sin, context, causal=True)
        out: Tensor = self.norm(x)
        return out

    def start(self, rows: int, inputs: Tensor, length: int) -> Cache:
        cos, sin = (t.chunk(2, dim=1)[1] for t in rotary(length, self.width // self.heads, inputs.device))
        smallest = inputs.new_full((), (self.width * torch.finfo(inputs.dtype).eps) ** 0.5)
        drawing = [Drawing(block, rows) for block in self.blocks if isinstance(block, Block)]
        return Cache(drawing, torch.complex(cos, sin), inputs.new_zeros(0), smallest)

    def step(self, inputs: Tensor, state: Cache, context: Context) -> tuple[Tensor, Cache]:
        x, at, room = inputs.clone(), state.at, len(state.unseen)
        if at == room:
            more = min(max(16, room // 4), len(state.turn) - room)  # each time costs a copy
            state.unseen = F.pad(state.unseen, (0, more), value=-torch.inf)
            for drawing in state.drawing:
                drawing.widen(more)
        state.unseen[at] = 0
        turn = state.turn[at]
        for drawing in state.drawing:
            x = drawing.step(x, at, turn, state.unseen, state.smallest, context)
        state.at += 1
        return unit(x, state.smallest) * factor(self.norm), state


class Bidirectional(Stack):
    """Every position sees every other inside its item. With ``prefix``, a given sequence stands before the item as positions of its
    own, in place of cross-attention: so what is given can look whether the item has it already."""

    usual = "squared_relu"

    def __init__(
        self, width: int = 256, layers: int = 4, heads: int = 4, *, sequence: int = 0, prefix: bool = False, **options: Any
    ) -> None:
        super().__init__(width, layers, heads, sequence=0 if prefix else sequence, **options)
        self.prefix = nn.Linear(sequence, self.width) if prefix and sequence else None

    def forward(self, inputs: Tensor, inside: Tensor, context: Context) -> Tensor:
        cos, sin = rotary(inputs.shape[1], self.width // self.heads, inputs.device)
        first = torch.arange(inputs.shape[1], device=inputs.device) == 0  # an empty item looks at its first, unread, position
        x, seen = inputs, inside | first
        if self.prefix is not None and context.sequence is not None and context.mask is not None:
            # While it learns, as long as the longest of the batch; else as long as ever, so that no row changes another's shape.
            longest = int(context.mask.any(dim=0).nonzero().amax()) + 1 if self.training and context.mask.any() else None
            told, given = context.sequence[:, :longest], context.mask[:, :longest]
            x, seen = torch.cat([self.prefix(told).to(x.dtype), x], dim=1), torch.cat([given, seen], dim=1)
            turned = (told.shape[1], cos.shape[1])  # what is given has no place in the item: all of it stands at 0
            cos, sin = torch.cat([cos[:1].expand(turned), cos]), torch.cat([sin[:1].expand(turned), sin])
        for block in self.blocks:
            x = block(x, cos, sin, context, mask=seen[:, None, None, :])
        out: Tensor = self.norm(x[:, -inputs.shape[1] :])
        return out

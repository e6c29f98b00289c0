"""Networks with a clock: residual recurrent layers that are told where in a bar each position would fall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.spaces import Space

#: A bar of 4/4 and a bar of 3/4 in sixteenths: the beats and halves of beats of every common metre follow from the two.
PERIODS = (16, 12)


#: The last state, and keys and values of all positions so far: (rows, 1, width) and (rows, positions, width) twice.
Past = tuple[Tensor, Tensor, Tensor]


def ticking(clocks: nn.ModuleList, periods: Sequence[int], at: Tensor) -> Tensor:
    """What each clock shows at positions ``at``, summed: (positions, width)."""
    return torch.stack([clock(at % period) for clock, period in zip(clocks, periods, strict=True)]).sum(0)


@dataclass
class State:
    """Where a sequence stands: its next position, each layer's hidden state, and the past that a :class:`Recall` reads."""

    at: int
    hidden: list[Tensor]
    past: Past | None = None


class Recall(nn.Module):
    """What came next when it last was like this: attention of ``heads`` heads from a state to all earlier ones, reading what
    followed each, x ← x + O Σ_{s ≤ t} softmax_s(q(h_t) · k(h_{s-1})) v(i_s) with inputs i and normed states h. So a passage that
    comes again can be read off, as from the cache of Grave et al. (2017, https://arxiv.org/abs/1612.04426), here learnt. Before the
    first state stands a learnt key: nothing to recall."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.nothing = nn.Parameter(torch.zeros(1, 1, width))
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, states: Tensor, inputs: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """States and inputs (rows, positions, width), to what they recall, and the past from there on."""
        states = F.rms_norm(states, states.shape[-1:])
        before = self.nothing.expand(len(states), 1, -1).to(states.dtype) if past is None else self.key(past[0])
        key = torch.cat([before, self.key(states[:, :-1])], dim=1)
        value, query = self.value(inputs), self.query(states)
        if past is not None:
            key, value = torch.cat([past[1], key], dim=1), torch.cat([past[2], value], dim=1)
        query_, key_, value_ = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        read = F.scaled_dot_product_attention(query_, key_, value_, is_causal=past is None)
        return self.out(read.transpose(1, 2).flatten(2)), (states[:, -1:], key, value)


class Clocked(nn.Module):
    """``layers`` gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078) of ``width`` with residual connections:
    x ← x + dropout(GRU(norm(x))). Each input also gets a learnt embedding of its position modulo each of ``periods``. Positions
    count from the beginning of the item, so what is known at one is its own number and what came before: likelihoods stay causal.
    With ``recall`` heads, a :class:`Recall` stands before the last layer.

    (rows, positions, width) to the same. The pooled context sets the first hidden state; sequences are not read.
    """

    def __init__(
        self,
        space: Space,
        *,
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.1,
        periods: Sequence[int] = PERIODS,
        recall: int = 0,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        if sequence:
            raise ValueError("the clocked network cannot read a sequence of givens; use the transformer")
        self.width, self.periods = width, tuple(periods)
        self.recall = Recall(width, recall) if recall else None
        self.clocks = nn.ModuleList([nn.Embedding(period, width) for period in self.periods])
        self.layers = nn.ModuleList([nn.GRU(width, width, batch_first=True) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.RMSNorm(width) for _ in range(layers)])
        self.norm, self.dropout = nn.RMSNorm(width), nn.Dropout(dropout)
        self.first = nn.Linear(pooled, layers * width) if pooled else None

    def _hidden(self, rows: int, inputs: Tensor, context: Context) -> list[Tensor]:
        """(1, rows, width) for each layer."""
        if self.first is None or context.pooled is None:
            return [inputs.new_zeros(1, rows, self.width) for _ in self.layers]
        hidden = torch.tanh(self.first(context.pooled)).to(inputs.dtype)
        return [h[None].contiguous() for h in hidden.chunk(len(self.layers), dim=1)]

    def forward(self, inputs: Tensor, context: Context) -> Tensor:
        return self._run(inputs, State(0, self._hidden(inputs.shape[0], inputs, context)))[0]

    def _run(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        time = torch.arange(state.at, state.at + inputs.shape[1], device=inputs.device)
        inputs = self.dropout(inputs + ticking(self.clocks, self.periods, time))
        x, after = inputs, State(state.at + inputs.shape[1], [])
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if self.recall is not None and i == len(self.layers) - 1:
                out, after.past = self.recall(x, inputs, state.past)
                x = x + self.dropout(out)
            out, hidden = layer(norm(x), state.hidden[i])
            x = x + self.dropout(out)
            after.hidden.append(hidden)
        return self.norm(x), after

    def start(self, rows: int, inputs: Tensor, length: int) -> State:
        return State(0, [])

    def step(self, inputs: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        if not state.at:
            state = State(0, self._hidden(inputs.shape[0], inputs, context))
        out, state = self._run(inputs[:, None], state)
        return out[:, 0], state


class ClockedBoth(nn.Module):
    """The same in both directions, each position seeing its whole item: ``layers`` of x ← x + dropout(O [GRU→(norm(x)),
    GRU←(norm(x))]) with half of the width in each direction, and x ← x + dropout(D relu²(U norm(x))), in which the voices of a
    position meet.

    (rows, positions, width) and ``inside`` (rows, positions) to the same. What stands behind an item's end changes nothing inside:
    the backward units begin at each item's own end. The pooled context and given cells reach it through the inputs; sequences are
    not read.
    """

    def __init__(
        self,
        space: Space,
        *,
        width: int = 256,
        layers: int = 3,
        dropout: float = 0.1,
        periods: Sequence[int] = PERIODS,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        if sequence:
            raise ValueError("the clocked network cannot read a sequence of givens; use the transformer")
        self.width, self.periods, half = width, tuple(periods), width // 2
        self.clocks = nn.ModuleList([nn.Embedding(period, width) for period in self.periods])
        self.forwards = nn.ModuleList([nn.GRU(width, half, batch_first=True) for _ in range(layers)])
        self.backwards = nn.ModuleList([nn.GRU(width, half, batch_first=True) for _ in range(layers)])
        self.outs = nn.ModuleList([nn.Linear(2 * half, width) for _ in range(layers)])
        self.ups = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(layers)])
        self.downs = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.RMSNorm(width) for _ in range(2 * layers)])
        self.norm, self.dropout = nn.RMSNorm(width), nn.Dropout(dropout)

    def forward(self, inputs: Tensor, inside: Tensor, context: Context) -> Tensor:
        at = torch.arange(inputs.shape[1], device=inputs.device)
        x = self.dropout(inputs + ticking(self.clocks, self.periods, at))
        # Position t of an item of length L trades places with L - 1 - t; behind the end nobody looks.
        turn = (inside.sum(dim=1, keepdim=True) - 1 - at).clamp(min=0)[..., None]
        for i, (ahead, back, out, up, down) in enumerate(
            zip(self.forwards, self.backwards, self.outs, self.ups, self.downs, strict=True)
        ):
            seen = self.norms[2 * i](x)
            turned = back(seen.gather(1, turn.expand_as(seen)))[0]
            both = torch.cat([ahead(seen)[0], turned.gather(1, turn.expand_as(turned))], dim=-1)
            x = x + self.dropout(out(both))
            x = x + self.dropout(down(F.relu(up(self.norms[2 * i + 1](x))).square()))
        return self.norm(x)

"""Networks with a clock: residual recurrent layers that are told where in a bar each position would fall."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.spaces import Space

#: A bar of 4/4 and a bar of 3/4 in sixteenths: the beats and halves of beats of every common metre follow from the two.
PERIODS = (16, 12)


def ticking(clocks: nn.ModuleList, periods: Sequence[int], at: Tensor) -> Tensor:
    """What each clock shows at positions ``at``, summed: (positions, width)."""
    return torch.stack([clock(at % period) for clock, period in zip(clocks, periods, strict=True)]).sum(0)


class Clocked(nn.Module):
    """``layers`` gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078) of ``width`` with residual connections:
    x ← x + dropout(GRU(norm(x))). Each input also gets a learnt embedding of its position modulo each of ``periods``. Positions
    count from the beginning of the item, so what is known at one is its own number and what came before: likelihoods stay causal.

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
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        if sequence:
            raise ValueError("the clocked network cannot read a sequence of givens; use the transformer")
        self.width, self.periods = width, tuple(periods)
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
        return self._run(inputs, 0, self._hidden(inputs.shape[0], inputs, context))[0]

    def _run(self, inputs: Tensor, at: int, hidden: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        time = torch.arange(at, at + inputs.shape[1], device=inputs.device)
        x, after = self.dropout(inputs + ticking(self.clocks, self.periods, time)), []
        for layer, norm, state in zip(self.layers, self.norms, hidden, strict=True):
            out, state = layer(norm(x), state)
            x = x + self.dropout(out)
            after.append(state)
        return self.norm(x), after

    def start(self, rows: int, inputs: Tensor, length: int) -> tuple[int, list[Tensor]]:
        return 0, []

    def step(self, inputs: Tensor, state: tuple[int, list[Tensor]], context: Context) -> tuple[Tensor, tuple[int, list[Tensor]]]:
        at, hidden = state
        out, hidden = self._run(inputs[:, None], at, hidden if at else self._hidden(inputs.shape[0], inputs, context))
        return out[:, 0], (at + 1, hidden)


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

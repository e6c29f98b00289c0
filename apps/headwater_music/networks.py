"""Networks with a clock: residual recurrent layers that are told where in a bar each position would fall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.networks.recurrent import StreamEmbedding
from headwater.spaces import Space, Tokens

#: A bar of 4/4 and a bar of 3/4 in sixteenths: the beats and halves of beats of every common metre follow from the two.
PERIODS = (16, 12)


class Clocks(nn.ModuleList):
    """A clock for each period, a learnt embedding of where in it a position lies: positions (positions,) to what all show, summed,
    (positions, width)."""

    def __init__(self, periods: Sequence[int], width: int) -> None:
        super().__init__([nn.Embedding(period, width) for period in periods])

    def forward(self, at: Tensor) -> Tensor:
        return torch.stack([clock(at % clock.num_embeddings) for clock in self]).sum(0)  # type: ignore[operator]


class Past(NamedTuple):
    """What a :class:`Recall` keeps: the last state (rows, 1, width); keys and values of all positions so far (rows, positions,
    width); their :func:`codes` and the last row of their :func:`matches` (rows, positions)."""

    state: Tensor
    key: Tensor
    value: Tensor
    codes: Tensor
    alike: Tensor


@dataclass
class State:
    """Where a sequence stands: its next position, each layer's hidden state, the past that a :class:`Recall` reads, and what the
    pooled context says of each position."""

    at: int
    hidden: list[Tensor]
    past: Past | None = None
    laid: Tensor | None = None


class Recall(nn.Module):
    """What came next when the same had come before: attention of ``heads`` heads from each position t to all s before it, reading
    the input that followed there,

        r_t = O Σ_{s ≤ t} softmax_s(q(h_t) · k(h_{s-1}) + b[m(t, s)]) v(i_s) + e[max_s m(t, s)],

    of inputs i and normed states h, where m counts how many inputs up to i_t equal, one by one, those up to i_{s-1}: at most
    ``LONG``. So a passage that comes again can be read off, as from the cache of Grave et al. (2017,
    https://arxiv.org/abs/1612.04426), here with learnt weights. Before the first position stands a learnt key: nothing to recall.
    """

    #: A repetition that has gone on for so long is one.
    LONG = 32

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.nothing = nn.Parameter(torch.zeros(1, 1, width))
        self.bias = nn.Parameter(torch.linspace(0, 12, self.LONG + 1)[:, None].repeat(1, heads))
        self.longest = nn.Embedding(self.LONG + 1, width)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.longest.weight)

    def forward(self, states: Tensor, inputs: Tensor, known: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """States and inputs (rows, positions, width) and the inputs' codes (rows, positions), to what is recalled (rows, positions,
        width), and the past from there on. Behind a past, one position at a time."""
        states = F.rms_norm(states, states.shape[-1:])
        before = self.nothing.expand(len(states), 1, -1).to(states.dtype) if past is None else self.key(past.state)
        key = torch.cat([before, self.key(states[:, :-1])], dim=1)
        value = self.value(inputs)
        if past is not None:
            key, value = torch.cat([past.key, key], dim=1), torch.cat([past.value, value], dim=1)
            known = torch.cat([past.codes, known], dim=1)
            alike = longer(past.alike, known)[:, None]
        else:
            alike = matches(known)
        here = torch.arange(alike.shape[2] - alike.shape[1], alike.shape[2], device=alike.device)
        ahead = torch.arange(alike.shape[2], device=alike.device) > here[:, None]
        bias = self.bias[alike].permute(0, 3, 1, 2).masked_fill(ahead, -torch.inf).to(value.dtype)
        out = self.out(attended(self.query(states), key, value, bias)) + self.longest(alike.masked_fill(ahead, 0).amax(dim=2))
        return out, Past(states[:, -1:], key, value, known, alike[:, -1])


def attended(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """(rows, to, width) and twice (rows, from, width) to (rows, to, width), by as many heads as ``bias`` (rows, heads, to, from)
    has."""
    query, key, value = (t.unflatten(-1, (bias.shape[1], -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)


@torch.no_grad()
def codes(inputs: Tensor) -> Tensor:
    """(rows, positions, width) to (rows, positions): a number for each input, the same for equal ones and for no others that will
    be met. Sums of whole numbers, so the same in whatever order they are added."""
    bits = inputs.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[inputs.element_size()]).long()
    odd = torch.arange(1, inputs.shape[-1] + 1, device=inputs.device) * 0x5851F42D4C957F2D | 1
    return (bits * odd).sum(dim=-1)


@torch.no_grad()
def matches(known: Tensor) -> Tensor:
    """(rows, positions) to (rows, t, s): how many codes up to the one at t equal, one by one, those up to the one at s - 1; 0 where
    s is behind t or first.

    >>> matches(torch.tensor([[1, 2, 3, 1, 2, 3]]))[0, 5]
    tensor([0, 0, 0, 3, 0, 0])
    """
    rows, length = known.shape
    alike, out = known.new_zeros(rows, 0), []
    for t in range(length):
        alike = longer(alike, known[:, : t + 1])
        out.append(F.pad(alike, (0, length - t - 1)))
    return torch.stack(out, dim=1)


def longer(alike: Tensor, known: Tensor) -> Tensor:
    """Matches at one position more: those before it (rows, t), and the codes up to it (rows, t + 1)."""
    same = known[:, :-1] == known[:, -1:]  # for s from 1 to t, whether the input at s - 1 is that at t
    return F.pad(torch.where(same, alike + 1, 0).clamp(max=Recall.LONG), (1, 0))


class Clocked(nn.Module):
    """``layers`` gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078) of ``width`` with residual connections:
    x ← x + dropout(GRU(norm(x))). Each input also gets a learnt embedding of its position modulo each of ``periods``. Positions
    count from the beginning of the item, so what is known at one is its own number and what came before: likelihoods stay causal.
    With ``recall`` heads, a :class:`Recall` stands before the last layer. ``forget`` is the share of recurrent weights that
    training leaves out at a time (DropConnect as in AWD-LSTM, Merity et al., 2018, https://arxiv.org/abs/1708.02182).

    (rows, positions, width) to the same. The pooled context sets the first hidden state and, with ``along`` positions, is read by
    each of those through a map of its own, as a latent that says what is where wants to be; sequences are not read.
    """

    #: Numbers a position that the pooled context is mapped to.
    LAID_OUT = 64

    def __init__(
        self,
        space: Space,
        *,
        width: int = 256,
        layers: int = 1,
        dropout: float = 0.1,
        periods: Sequence[int] = PERIODS,
        recall: int = 0,
        forget: float = 0.0,
        along: int = 0,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        if sequence:
            raise ValueError("the clocked network cannot read a sequence of givens; use the transformer")
        if along and not pooled:
            raise ValueError("along: there is no pooled context to lay out")
        self.width, self.forget = width, forget
        self.laid = nn.Linear(pooled, along * self.LAID_OUT) if along else None
        self.raised = nn.Linear(self.LAID_OUT, width) if along else None
        self.recall = Recall(width, recall) if recall else None
        self.clocks = Clocks(periods, width)
        self.layers = nn.ModuleList([nn.GRU(width, width, batch_first=True) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.RMSNorm(width) for _ in range(layers)])
        self.norm, self.dropout = nn.RMSNorm(width), nn.Dropout(dropout)
        self.first = nn.Linear(pooled, layers * width) if pooled else None

    def _hidden(self, inputs: Tensor, context: Context) -> list[Tensor]:
        """(1, rows, width) for each layer."""
        if self.first is None or context.pooled is None:
            return [inputs.new_zeros(1, len(inputs), self.width) for _ in self.layers]
        hidden = torch.tanh(self.first(context.pooled)).to(inputs.dtype)
        return [h[None].contiguous() for h in hidden.chunk(len(self.layers), dim=1)]

    def _laid(self, context: Context) -> Tensor | None:
        """(rows, along, width): what the pooled context says of each position."""
        if self.laid is None or self.raised is None or context.pooled is None:
            return None
        out: Tensor = self.raised(F.silu(self.laid(context.pooled).unflatten(1, (-1, self.LAID_OUT))))
        return out

    def forward(self, inputs: Tensor, context: Context) -> Tensor:
        return self._run(inputs, State(0, self._hidden(inputs, context), laid=self._laid(context)))[0]

    def _run(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        time = torch.arange(state.at, state.at + inputs.shape[1], device=inputs.device)
        raw, inputs = inputs, self.dropout(inputs + self.clocks(time))
        if state.laid is not None and (told := state.laid[:, state.at : state.at + inputs.shape[1]]).shape[1]:
            inputs = inputs + F.pad(told, (0, 0, 0, inputs.shape[1] - told.shape[1])).to(inputs.dtype)
        x, after = inputs, State(state.at + inputs.shape[1], [], laid=state.laid)
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if self.recall is not None and i == len(self.layers) - 1:
                out, after.past = self.recall(x, inputs, codes(raw), state.past)
                x = x + self.dropout(out)
            out, hidden = self._recur(layer, norm(x), state.hidden[i])
            x = x + self.dropout(out)
            after.hidden.append(hidden)
        return self.norm(x), after

    def _recur(self, layer: nn.Module, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """A layer with some of its recurrent weights left out, the same for all positions."""
        assert isinstance(layer, nn.GRU)
        w_in, w_hidden, b_in, b_hidden = layer.all_weights[0]
        weights = [w_in, F.dropout(w_hidden, self.forget, self.training), b_in, b_hidden]
        out, last = torch.gru(x, hidden, weights, True, 1, 0.0, self.training, False, True)
        return out, last

    def start(self, rows: int, inputs: Tensor, length: int) -> State:
        return State(0, [])

    def step(self, inputs: Tensor, state: State, context: Context) -> tuple[Tensor, State]:
        if not state.at:
            state = State(0, self._hidden(inputs, context), laid=self._laid(context))
        out, state = self._run(inputs[:, None], state)
        return out[:, 0], state


class Parallels(nn.Module):
    """:class:`Recall` where cells are hidden anywhere: attention of ``heads`` heads from each position t to all others s of its
    item, and to a learnt "nowhere",

        r_t = O Σ_s softmax_s(q(x_t) · k(x_s) + b[m(t, s)]) v(x_s) + e[max_s m(t, s)],

    of normed states x, where m is on a scale of ``GRADES`` how much speaks for t and s lying in passages that are one
    (:func:`evidence`).
    """

    GRADES = 32

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.read = nn.RMSNorm(width), nn.Linear(width, 3 * width, bias=False)
        self.nowhere = nn.Parameter(torch.zeros(2, 1, 1, width))
        self.bias = nn.Parameter(torch.linspace(0, 8, self.GRADES + 1)[:, None].repeat(1, heads))
        self.most = nn.Embedding(self.GRADES + 1, width)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.most.weight)

    def forward(self, x: Tensor, inside: Tensor, cells: Tensor) -> Tensor:
        """(rows, positions, width), (rows, positions) and (rows, positions, streams) to (rows, positions, width)."""
        length = x.shape[1]
        grade = (
            (evidence(torch.where(inside[..., None], cells, -1)).float().log1p() * (self.GRADES / 6)).long().clamp(max=self.GRADES)
        )
        grade = torch.where(inside[:, None], grade, 0)
        query, key, value = self.read(self.norm(x)).chunk(3, dim=-1)
        key, value = (torch.cat([t, n.expand(len(x), 1, -1)], dim=1) for t, n in zip((key, value), self.nowhere, strict=True))
        others = inside[:, None] & ~torch.eye(length, dtype=torch.bool, device=x.device)
        bias = self.bias[grade].permute(0, 3, 1, 2).masked_fill(~others[:, None], -torch.inf)
        read = attended(query, key, value, F.pad(bias, (0, 1)).to(value.dtype))
        out: Tensor = self.out(read) + self.most(grade.masked_fill(~others, 0).amax(dim=2))
        return out


@torch.no_grad()
def evidence(cells: Tensor) -> Tensor:
    """(rows, positions, streams), -1 where hidden, to (rows, t, s): how many cells are known at both of t + d and s + d, and the
    same, over the unbroken run of d around 0 in which no cell known at both differs; 0 where one does at d = 0.

    >>> evidence(torch.tensor([[1, 2, -1, 4, 1, 2, 3, 5]])[..., None])[0, 2]
    tensor([0, 0, 7, 0, 0, 0, 2, 0])
    """
    length, streams = cells.shape[1:]
    same = torch.zeros(len(cells), length, length, dtype=torch.int32, device=cells.device)
    differ = torch.zeros(same.shape, dtype=torch.bool, device=cells.device)
    for s in range(streams):
        to, at = cells[:, :, None, s], cells[:, None, :, s]
        equal, known = to == at, (to >= 0) & (at >= 0)
        same += equal & known
        differ |= known & ~equal
    # A diagonal becomes a column: row t moves t places to the left, round a line of twice the length.
    ahead = _skewed(torch.where(differ, 0, same)).cumsum(dim=1)
    broken = _skewed(differ)
    before = torch.where(broken, ahead, 0).cummax(dim=1).values
    most = ahead[:, -1:]
    behind = torch.where(broken, ahead, most).flip(1).cummin(dim=1).values.flip(1)
    return torch.where(differ, 0, _straight(behind - before))


def _skewed(x: Tensor) -> Tensor:
    """(rows, t, s) to (rows, t, s - t + length), zeros elsewhere."""
    length = x.shape[1]
    padded = F.pad(x, (length, 0)).flatten(1)
    return F.pad(padded, (0, length)).unflatten(1, (length, 2 * length + 1))


def _straight(x: Tensor) -> Tensor:
    """Back."""
    length = x.shape[1]
    return x.flatten(1)[:, : 2 * length * length].unflatten(1, (length, 2 * length))[:, :, length:]


class ClockedBoth(nn.Module):
    """The same in both directions, each position seeing its whole item: ``layers`` of x ← x + dropout(O [GRU→(norm(x)),
    GRU←(norm(x))]) with half of the width in each direction, and x ← x + dropout(D relu²(U norm(x))), in which the voices of a
    position meet. With ``recall`` heads, :class:`Parallels` stand before the last layer.

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
        recall: int = 0,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        if sequence:
            raise ValueError("the clocked network cannot read a sequence of givens; use the transformer")
        if recall and width % recall:
            raise ValueError(f"recall: expected a divisor of the width {width}; got {recall}")
        self.width, self.reads_cells, half = width, recall > 0, width // 2
        self.clocks = Clocks(periods, width)
        self.forwards = nn.ModuleList([nn.GRU(width, half, batch_first=True) for _ in range(layers)])
        self.backwards = nn.ModuleList([nn.GRU(width, half, batch_first=True) for _ in range(layers)])
        self.outs = nn.ModuleList([nn.Linear(2 * half, width) for _ in range(layers)])
        self.ups = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(layers)])
        self.downs = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(layers)])
        self.norms = nn.ModuleList([nn.RMSNorm(width) for _ in range(2 * layers)])
        self.norm, self.dropout = nn.RMSNorm(width), nn.Dropout(dropout)
        self.recall = Parallels(width, recall) if recall else None

    def forward(self, inputs: Tensor, inside: Tensor, context: Context, cells: Tensor | None = None) -> Tensor:
        at = torch.arange(inputs.shape[1], device=inputs.device)
        x = self.dropout(inputs + self.clocks(at))
        # Position t of an item of length L trades places with L - 1 - t; behind the end nobody looks.
        turn = (inside.sum(dim=1, keepdim=True) - 1 - at).clamp(min=0)[..., None]
        for i, (ahead, back, out, up, down) in enumerate(
            zip(self.forwards, self.backwards, self.outs, self.ups, self.downs, strict=True)
        ):
            if self.recall is not None and i == len(self.outs) - 1:
                assert cells is not None  # it asks for them, see ``reads_cells``
                x = x + self.dropout(self.recall(x, inside, cells))
            seen = self.norms[2 * i](x)
            turned = back(seen.gather(1, turn.expand_as(seen)))[0]
            both = torch.cat([ahead(seen)[0], turned.gather(1, turn.expand_as(turned))], dim=-1)
            x = x + self.dropout(out(both))
            x = x + self.dropout(down(F.relu(up(self.norms[2 * i + 1](x))).square()))
        return self.norm(x)


class Whole(nn.Module):
    """A reader of short items that remembers what is where: one gated recurrent unit in each direction, ``narrow`` numbers of each
    position, and a linear map of all of them side by side. A position behind the end counts as the end.

    (rows, positions, streams) to (rows, features). The pooled context, given cells and sequences are not read.
    """

    def __init__(
        self,
        space: Tokens,
        *,
        features: int,
        width: int = 256,
        narrow: int = 64,
        dropout: float = 0.0,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        self.length = space.length
        self.embed = StreamEmbedding(space, width)
        self.both = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.norm, self.dropout = nn.RMSNorm(width), nn.Dropout(dropout)
        self.narrow, self.out = nn.Linear(width, narrow), nn.Linear(self.length * narrow, features)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = F.pad(x[:, : self.length], (0, 0, 0, self.length - min(x.shape[1], self.length)))
        h = self.embed(x)
        h = h + self.both(h)[0]
        out: Tensor = self.out(self.dropout(F.silu(self.narrow(self.norm(h)))).flatten(1))
        return out

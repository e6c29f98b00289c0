"""Autoregressive models: the chain rule, one token at a time.

log p(x) = Σ_t Σ_s log p(x[t, s] | x[<t], x[t, <s], context), exact, with streams s generated in order inside position t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.constraints import Constraint
from headwater.context import Context
from headwater.families.contract import CausalNet, Family, Kept, Likelihood, Maker, Steer, Told, Verb
from headwater.families.heads import OrdinalHead
from headwater.noise import Noise
from headwater.spaces import Space, Tokens

#: Ways to choose the kept cells that a recipe may train, besides a prefix, which every model can do.
PATTERNS = ("span", "streams", "cells")


class StreamHead(nn.Module):
    """Logits of each stream at one position from the position's hidden state and the streams before it.

    logits_s = W_s φ(A h + Σ_{r<s} E_r[x_r]); with one stream simply W h.
    """

    def __init__(self, width: int, vocabs: Sequence[int]) -> None:
        super().__init__()
        self.outputs = nn.ModuleList([nn.Linear(width, v) for v in vocabs])
        self.earlier = nn.ModuleList([nn.Embedding(v, width) for v in vocabs[:-1]])
        self.mix = nn.Linear(width, width) if len(vocabs) > 1 else None

    def logits(self, hidden: Tensor, stream: int, tokens: Tensor, before: Tensor) -> Tensor:
        """(…, width) and tokens (…, streams), of which those before ``stream`` are read, to (…, vocab of the stream); those of
        the position ``before`` are not."""
        if self.mix is not None:
            hidden = self.mix(hidden)
            for r in range(stream):
                hidden = hidden + self.earlier[r](tokens[..., r])
            hidden = F.gelu(hidden, approximate="tanh")
        out: Tensor = self.outputs[stream](hidden)
        return out


class KeptReader(nn.Module):
    """Kept cells as context: what is kept in the future matters now, so a bidirectional recurrence reads them all first.
    Clamping sampled tokens to kept values is not conditioning on them; this is."""

    def __init__(self, width: int, vocabs: Sequence[int]) -> None:
        super().__init__()
        self.values = nn.ModuleList([nn.Embedding(v + 1, width) for v in vocabs])  # the last index means "not kept"
        self.gru = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * (width // 2), width)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(rows, positions, streams) and its mask to (rows, positions, width). Rows that keep nothing read nothing, so that their
        likelihood does not depend on how much padding stands behind them."""
        marked = sum(
            e(torch.where(mask[..., s], values[..., s], e.num_embeddings - 1))  # type: ignore[operator]
            for s, e in enumerate(self.values)
        )
        out: Tensor = self.out(self.gru(marked)[0])
        return out * mask.any(dim=2).any(dim=1)[:, None, None]


class Autoregressive(Family):
    """Exact likelihood, ancestral sampling, prefix infill, and infill of the patterns in ``patterns``.

    Args: ``space`` a :class:`Tokens`; ``network`` a causal network; ``context`` the widths of pooled, cells and sequence
    (of which cells and pooled are added to the inputs); ``patterns`` a subset of ``("span", "streams", "cells")``; ``ordinal`` for
    tokens whose numbers are a scale, see :class:`~headwater.families.heads.OrdinalHead`, which takes ``head_dropout``;
    ``word_dropout`` the share of positions whose tokens training hides from those behind, so that a decoder has to read its
    latent (Bowman et al., 2016, https://arxiv.org/abs/1511.06349, section 3.1).
    """

    name = "autoregressive"
    guided = narrowed = True

    def __init__(
        self,
        space: Tokens,
        network: nn.Module,
        pooled: int = 0,
        cells: int = 0,
        patterns: Sequence[str] = (),
        ordinal: bool = False,
        head_dropout: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__(space)
        if unknown := set(patterns) - set(PATTERNS):
            raise ValueError(f"unknown infill patterns {sorted(unknown)}; known: {', '.join(PATTERNS)}")
        self.tokens = space
        self.patterns, self.word_dropout = tuple(patterns), word_dropout
        assert isinstance(network, CausalNet)
        self.network, width = network, network.width
        self.embed = nn.ModuleList([nn.Embedding(v, width) for v in space.vocabs])
        self.first = nn.Embedding(1, width)
        self.head = OrdinalHead(width, space.vocabs, head_dropout) if ordinal else StreamHead(width, space.vocabs)
        self.pooled = nn.Linear(pooled, width) if pooled else None
        self.cells = nn.Linear(cells, width) if cells else None
        self.kept = KeptReader(width, space.vocabs) if patterns else None

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Autoregressive:
        assert isinstance(space, Tokens)
        return cls(space, make("causal"), pooled=make.pooled, cells=make.cells, **options)

    def parts(self) -> Mapping[str, nn.Module]:
        named = {"network": self.network, "embed": self.embed, "first": self.first, "head": self.head}
        optional = {"pooled": self.pooled, "cells": self.cells, "kept": self.kept}
        return {**named, **{k: v for k, v in optional.items() if v is not None}}

    @property
    def verbs(self) -> Mapping[Verb, str]:
        infill = ", ".join(("prefix", *self.patterns))
        return {
            "sample": "new items, token by token",
            "infill": f"keeps a {infill}",
            "score": "exact log-likelihood",
            "optimise": "policy gradient",
        }

    # --- likelihood -----------------------------------------------------------------------------------------------

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        """Mean negative log-likelihood in nats a token, ends included. With ``patterns``, half of the rows show kept cells."""
        log_prob, counted = self._log_probs(batch, context, self._shown(batch, noise))
        return -log_prob.sum() / counted.sum().clamp(min=1)  # every cell of a small batch may be kept

    def weight(self, batch: Tensor, noise: Noise) -> Tensor:
        """The tokens that the loss is a mean over."""
        return self._counted(batch, self._shown(batch, noise)).sum()

    def _shown(self, batch: Tensor, noise: Noise) -> Kept | None:
        """What a training batch shows of itself."""
        if not self.patterns:
            return None
        mask = kept_mask(batch, self.patterns, noise.fold("pattern"))
        return Kept(batch, mask & (noise.fold("shown").uniform(1) < 0.5)[:, :, None].to(batch.device))

    def log_prob(self, x: Tensor, context: Context, kept: Kept | None = None) -> Tensor:
        """(rows, positions, streams) to (rows,): log-likelihood in nats, of the cells that are not kept where some are."""
        return self._log_probs(x, context, kept)[0].sum(dim=(1, 2))

    def _log_probs(self, x: Tensor, context: Context, kept: Kept | None) -> tuple[Tensor, Tensor]:
        inputs = self._start(x.shape[0], x.shape[1], context, kept)
        shifted = torch.cat([self.first.weight.expand(x.shape[0], 1, -1), self._embed(x[:, :-1])], dim=1)
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        if self.word_dropout and self.network.training:
            seen = torch.rand(x.shape[:2], device=x.device)[..., None] >= self.word_dropout
            shifted, before = shifted * seen, before * seen
        hidden = self.network(shifted + inputs, context)
        out = torch.stack(
            [
                F.cross_entropy(self.head.logits(hidden, s, x, before).flatten(0, 1).float(), x[..., s].flatten(), reduction="none")
                for s in range(self.tokens.streams)
            ],
            dim=-1,
        ).reshape(x.shape)
        counted = self._counted(x, kept)
        return -out * counted, counted

    def _counted(self, x: Tensor, kept: Kept | None) -> Tensor:
        """Whose likelihood is asked for: the item and its first end, without what is kept."""
        ended = (x == 0).all(dim=-1).long().cumsum(dim=1)
        counted = (ended - (x == 0).all(dim=-1).long() == 0)[..., None].expand(x.shape)
        return counted if kept is None else counted & ~kept.mask

    def _embed(self, x: Tensor) -> Tensor:
        out: Tensor = self.embed[0](x[..., 0])
        for s in range(1, self.tokens.streams):
            out = out + self.embed[s](x[..., s])
        return out

    def _start(self, rows: int, length: int, context: Context, kept: Kept | None) -> Tensor:
        """What is added to the inputs of every position: (rows, length or 1, width)."""
        out = self.first.weight.new_zeros(rows, 1, self.network.width)
        if self.pooled is not None and context.pooled is not None:
            out = out + self.pooled(context.pooled)[:, None]
        if self.cells is not None and context.cells is not None:
            out = out + self.cells(context.cells[:, :length])
        if self.kept is not None:
            if kept is None:
                blank = torch.zeros(rows, length, self.tokens.streams, dtype=torch.long, device=out.device)
                kept = Kept(blank, blank.bool())
            out = out + self.kept(kept.values[:, :length], kept.mask[:, :length])
        return out

    def score(self, x: Tensor, noise: Noise, context: Context) -> Likelihood:
        length = min(self.tokens.length, int(self.buckets(x).max()) if len(x) else 1)
        return Likelihood(self.log_prob(x[:, :length], context[:]), "exact")

    def buckets(self, x: Tensor) -> Tensor:
        """The row's length with its end, rounded up to 16."""
        lengths = (x != 0).any(dim=-1).long().cumprod(dim=1).sum(dim=1) + 1
        return (lengths + 15) // 16 * 16

    # --- sampling -------------------------------------------------------------------------------------------------

    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self._generate(noise, context, steer, None)[0].clone()

    def drawn(self, noise: Noise, context: Context, steer: Steer) -> Told:
        """Both cost nothing besides: they are of the tokens on the way, before temperature and constraints."""
        return Told(*(t.clone() for t in self._generate(noise, context, steer, None, scored=True)))

    def infill(self, kept: Kept, noise: Noise, context: Context, steer: Steer) -> Tensor:
        order = kept.mask.flatten(1).long()  # kept cells in the order of generation: ones, then zeros, where they are a prefix
        if not self.patterns and bool((order.diff(dim=1) > 0).any()):
            raise ValueError("this model continues a prefix; it was not trained to keep other cells")
        return self._generate(noise, context, steer, kept)[0].clone()

    @torch.inference_mode()  # without autograd's bookkeeping a step costs less; a copy made outside is an ordinary tensor again
    def _generate(
        self, noise: Noise, context: Context, steer: Steer, kept: Kept | None, *, scored: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Items; and where nothing is kept and it is asked for, their log-likelihood and that of their least likely token (else
        zeros)."""
        rows, (length, streams) = len(noise), self.tokens.shape
        device = self.first.weight.device
        uniforms = noise.fold("token").uniform(length, streams).to(device)
        guided = steer.guidance != 1.0 and context.null is not None
        read = context.doubled() if guided else context
        copies = 2 if guided else 1
        shown = None if kept is None else Kept(kept.values.repeat(copies, 1, 1), kept.mask.repeat(copies, 1, 1))
        added = self._start(copies * rows, length, read, shown)
        # Kept cells hold where they are tokens of the item; a kept cell still to come forbids the end, and so does a length.
        pending = None if kept is None else (kept.mask & (kept.values != 0)).any(dim=-1).flip(1).cumsum(1).flip(1) > 0
        ends = None if steer.lengths is None else steer.lengths.to(device)
        if ends is not None:
            before_end = torch.arange(length, device=device) < ends[:, None]
            pending = before_end if pending is None else pending | before_end
        walks = [Walk(c) for c in steer.constraints or ()]
        if kept is not None and steer.constraints is not None:
            check_beginnings(kept, steer.constraints)

        state = self.network.start(copies * rows, added, length)
        x = torch.zeros(rows, length, streams, dtype=torch.long, device=device)
        previous = self.first.weight.expand(copies * rows, -1)
        done, (log_prob, least) = torch.zeros(rows, dtype=torch.bool, device=device), torch.zeros(2, rows, device=device)
        for t in range(length):
            hidden, state = self.network.step(previous + added[:, t if added.shape[1] > 1 else 0], state, read)
            now, before = x[:, t], x[:, t - 1] if t else torch.zeros_like(x[:, 0])
            for s in range(streams):
                told = (now.repeat(2, 1), before.repeat(2, 1)) if guided else (now, before)
                own = logits = self.head.logits(hidden, s, *told).float()
                if guided:
                    conditional, free = logits.log_softmax(-1).chunk(2)
                    logits = free + steer.guidance * (conditional - free)
                if steer.temperature != 1.0:
                    logits = logits / max(steer.temperature, 1e-6)
                if pending is not None and s == streams - 1:
                    must = pending[:, t] & (x[:, t, :s] == 0).all(dim=-1)
                    logits[:, 0] = torch.where(must, -torch.inf, logits[:, 0])
                allowed = constraint_mask(walks, logits.shape, length - t, done) if walks else None
                token = draw(logits, uniforms[:, t, s], steer.top_p, allowed)
                if kept is not None:
                    token = torch.where(kept.mask[:, t, s], kept.values[:, t, s], token)
                if ends is not None:
                    token = token.masked_fill(ends <= t, 0)
                if scored:
                    each = -F.cross_entropy(own[:rows], token, reduction="none").masked_fill(done, 0)
                    log_prob, least = log_prob + each, torch.minimum(least, each)
                x[:, t, s] = token.masked_fill(done, 0)
                if walks:
                    follow(walks, x[:, t, s], done)
            done = done | (x[:, t] == 0).all(dim=-1)
            if finished(done, t):
                break
            previous = self._embed(x[:, t])
            previous = previous.repeat(copies, 1) if guided else previous
        return x, log_prob, least


def check_beginnings(kept: Kept, constraints: Sequence[Constraint | None]) -> None:
    """Raises ``ValueError`` where the cells that a row keeps at its beginning, in the order of generation, begin no item that its
    constraint accepts. Of cells kept farther on it is not known before they are reached."""
    length = kept.values.shape[1]
    for values, mask, constraint in zip(kept.values.tolist(), kept.mask.tolist(), constraints, strict=False):
        if constraint is None:
            continue
        walk = Walk(constraint)
        for t, (position, known) in enumerate(zip(values, mask, strict=True)):
            for token, told in zip(position, known, strict=True):
                if not told:
                    break
                if not constraint.allowed(walk.state, length - t)[token]:
                    raise ValueError("no item that the constraint accepts has the kept cells")
                walk.step(token)
            if not all(known) or not any(position):
                break


#: How often a device is asked whether all rows have ended: each answer waits until it has caught up, each question not asked may
#: cost as many positions of rows that have. A CPU answers at once.
ASK = 16


def finished(done: Tensor, t: int) -> bool:
    """Whether to stop after position ``t``. Rows that have ended stay as they are, so it changes no byte when this is noticed."""
    return (done.device.type == "cpu" or t % ASK == ASK - 1) and bool(done.all())


def draw(logits: Tensor, uniform: Tensor, top_p: float, allowed: Tensor | None) -> Tensor:
    """One token a row by inverting the cumulative distribution at ``uniform``: mask, renormalise, then the nucleus of mass
    ``top_p`` (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751)."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    probability = logits.softmax(dim=-1)
    if top_p < 1.0:
        ordered, order = probability.sort(dim=-1, descending=True, stable=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        probability = probability.masked_fill(outside.gather(-1, order.argsort(-1)), 0.0)
    total = probability.cumsum(-1)
    # Rounding must not reach the whole sum: a token is the first whose sum lies above. Nothing allowed: none does, so the end.
    below = torch.nextafter(total[:, -1:], total.new_zeros(()))
    above = torch.searchsorted(total, torch.minimum(uniform[:, None] * total[:, -1:], below), right=True)[:, 0]
    return above % total.shape[1]


class Walk:
    """A row's constraint and where it stands."""

    def __init__(self, constraint: Constraint | None) -> None:
        self.constraint = constraint
        self.state: Any = None if constraint is None else constraint.start()

    def step(self, token: int) -> None:
        if self.constraint is not None:
            self.state = self.constraint.step(self.state, token)


def follow(walks: Sequence[Walk], tokens: Tensor, done: Tensor) -> None:
    """Each row's walk one token on. Constraints are Python objects, so a device is waited for here, and only here."""
    for walk, value, over in zip(walks, tokens.tolist(), done.tolist(), strict=False):
        if not over:
            walk.step(value)


def constraint_mask(walks: Sequence[Walk], shape: torch.Size, remaining: int, done: Tensor) -> Tensor:
    """(rows, vocab): what each row's constraint allows; finished and unconstrained rows may do anything."""
    mask = np.ones(shape, np.bool_)
    for row, (walk, over) in enumerate(zip(walks, done.tolist(), strict=False)):
        if walk.constraint is not None and not over:
            mask[row] = walk.constraint.allowed(walk.state, remaining)
    return torch.from_numpy(mask).to(done.device)


def kept_mask(x: Tensor, patterns: Sequence[str], noise: Noise) -> Tensor:
    """A random mask of kept cells for each row of (rows, positions, streams), of a pattern drawn for the row."""
    _, length, streams = x.shape
    which = noise.fold("which").below(len(patterns), 1).to(x.device)
    ends = noise.fold("ends").uniform(2).to(x.device).sort(dim=1).values
    lengths = (x != 0).any(dim=-1).sum(dim=1, keepdim=True)
    at = torch.arange(length, device=x.device)
    masks = {
        # hide one span, keep the past and the future
        "span": ((at < ends[:, :1] * (lengths + 1)) | (at >= ends[:, 1:] * (lengths + 1)))[..., None].expand(x.shape),
        "streams": (noise.fold("streams").uniform(streams).to(x.device) < 0.5)[:, None].expand(x.shape),
        "cells": noise.fold("cells").uniform(length, streams).to(x.device) < ends[:, :1, None],
    }
    out = torch.zeros_like(x, dtype=torch.bool)
    for i, pattern in enumerate(patterns):
        out = torch.where((which == i)[..., None], masks[pattern], out)
    return out

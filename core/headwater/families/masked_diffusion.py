"""Masked diffusion: hide cells, learn to name what was there; make an item by unhiding it a few cells at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.constraints import FiniteConstraint, laid_out
from headwater.context import Context
from headwater.families.autoregressive import draw
from headwater.families.completions import Completions
from headwater.families.contract import BidirectionalNet, Family, Kept, Likelihood, Maker, Steer, Told, Verb
from headwater.noise import Noise
from headwater.spaces import Space, Tokens

#: Ways to choose which cells a step unhides.
ORDERS = ("random", "confidence")
#: Items are computed at lengths that are multiples of this.
BUCKET = 16
#: How much chance the confident order has at its start, unless said (``choice_temperature`` of MaskGIT's code).
JITTER = 4.5


class LengthHead(nn.Module):
    """Logits of the lengths 0 … ``length``: a free number for each, and a small network on the context where there is one."""

    def __init__(self, length: int, width: int, pooled: int, cells: int, sequence: int) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.zeros(length + 1))
        reads, out = pooled + cells + sequence, nn.Linear(width, length + 1, bias=False)
        nn.init.zeros_(out.weight)
        self.net = nn.Sequential(nn.Linear(reads, width), nn.SiLU(), out) if reads else None

    def forward(self, rows: int, context: Context) -> Tensor:
        """(rows, length + 1). Of cells and of the sequence it reads the mean."""
        out = self.free.expand(rows, -1)
        if self.net is not None:
            read = [] if context.pooled is None else [context.pooled]
            if context.cells is not None:
                read.append(context.cells.mean(dim=1))
            if context.sequence is not None and context.mask is not None:
                here = context.mask[..., None]
                read.append((context.sequence * here).sum(dim=1) / here.sum(dim=1).clamp(min=1))
            out = out + self.net(torch.cat(read, dim=1)).float()
        return out


class MaskedDiffusion(Family):
    """MDLM (Sahoo et al., 2024, https://arxiv.org/abs/2406.07524) over items of a length that is drawn first.

    log p(x) = log p(L | context) + log p(x | L, context), where L is the number of positions before the end. So padding is never
    modelled, and a batch costs what its items hold; L has a head of its own, since knobs (an item's size) move it. The n = L ·
    streams cells of the item are hidden one by one in random order; a network that sees the others predicts each hidden one, x_i ~
    p(x_i | shown), with no mass on "hidden" and shown cells carried over (SUBS). Its likelihood bound is

        log p(x | L) ≥ E_{k ~ U{1…n}} E_{k cells hidden} [ n/k Σ_{i hidden} log p(x_i | shown) ],

    the continuous-time NELBO of MDLM with the number of hidden cells in place of time (given k, time tells nothing more), and the
    mean over all orders of the autoregressive log-likelihood (Uria et al., 2014, https://arxiv.org/abs/1310.1757): equal to log p(x
    | L) where the conditionals are those of one distribution. A position inside an item is never all zero: 0 is forbidden in a cell
    whose position's other streams are shown as 0.

    ``sample`` unhides in ``steps`` steps (default: one cell at a time, which draws exactly from the mean over orders of the scored
    product; fewer steps draw several cells independently given what is shown). ``order`` "random", or "confidence": the likeliest
    of the drawn cells first, with Gumbel noise that fades from a scale of ``jitter`` (MaskGIT, Chang et al., 2022,
    https://arxiv.org/abs/2202.04200), whose law is not the scored one. Temperature and top-p act on the length as on every cell.
    With ``length_candidates`` an item is drawn several times, its length drawn anew each time, and the one stays whose length and
    cells are the likeliest a token, each as the network saw it when it was drawn, before temperature and constraints: a length that
    is too short or too long for what is to be said shows in the words. (After Mask-Predict, Ghazvininejad et al., 2019,
    https://arxiv.org/abs/1904.09324, which takes the likeliest lengths instead of drawing them, and does not count them.)

    ``infill`` conditions on any kept cells given L; L itself is told, or drawn from p(L | context) among those that leave the kept
    tokens inside and a kept end behind them, without asking what the kept tokens say about it. ``vary`` hides a share of the cells
    and draws them again, at the same length unless everything is hidden; exact conditionals leave their distribution as it is.

    Under constraints (:mod:`headwater.constraints`) a step draws all hidden cells jointly from the product of their predictions
    conditioned on acceptance, and unhides its share of them, so every item is accepted. With one step that is exact conditioning of
    the product. With one cell at a time, a cell is drawn from its prediction weighted by the mass of accepted completions under the
    product of the others' predictions: an estimate, without dependence among hidden cells, of the true weight. That is exact
    wherever cells are independent given L, and then as good as the estimate. L is drawn among the lengths that an accepted item
    has, without weighing their mass.

    Args: ``space`` a :class:`Tokens`; ``network`` a bidirectional network; ``pooled``, ``cells``, ``sequence`` the widths of the
    context; ``draws`` how many network calls ``score`` spends on an item; ``some_streams`` the share of rows that, in training,
    have cells of only some streams hidden, the others whole, which cells hidden among all streams hardly ever leave: for models
    whose streams are filled in one for another. Raises ``ValueError`` for an unknown order or numbers out of range.
    """

    name = "masked_diffusion"
    stepped = guided = narrowed = finite = length_first = True
    late = frozenset({"steps", "order", "jitter", "draws"})

    def __init__(
        self,
        space: Tokens,
        network: nn.Module,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
        steps: int | None = None,
        order: str = "random",
        jitter: float = JITTER,
        draws: int = 32,
        some_streams: float = 0.0,
    ) -> None:
        super().__init__(space)
        if order not in ORDERS:
            raise ValueError(f"order: expected {' or '.join(ORDERS)}; got {order!r}")
        if jitter < 0:
            raise ValueError(f"jitter: expected a number of at least 0; got {jitter}")
        if draws < 2 or (steps is not None and steps < 1):
            raise ValueError(f"expected steps of at least 1 and draws of at least 2; got {steps} and {draws}")
        if not 0 <= some_streams <= 1 or (some_streams and space.streams == 1):
            raise ValueError(f"some_streams: expected a share of 0 to 1 of items of several streams; got {some_streams}")
        self.tokens, self.steps, self.order, self.jitter = space, steps, order, jitter
        self.draws, self.some_streams = draws, some_streams
        assert isinstance(network, BidirectionalNet)
        self.network, width = network, network.width
        self.embed = nn.ModuleList([nn.Embedding(v + 1, width) for v in space.vocabs])  # the last index means "hidden"
        self.from_start, self.from_end = nn.Embedding(space.length, width), nn.Embedding(space.length, width)
        self.head = nn.Linear(width, sum(space.vocabs))
        self.lengths = LengthHead(space.length, width, pooled, cells, sequence)
        self.pooled = nn.Linear(pooled, width) if pooled else None
        self.cells = nn.Linear(cells, width) if cells else None

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> MaskedDiffusion:
        assert isinstance(space, Tokens)
        return cls(space, make("bidirectional"), pooled=make.pooled, cells=make.cells, sequence=make.sequence, **options)

    def parts(self) -> Mapping[str, nn.Module]:
        places = {"from_start": self.from_start, "from_end": self.from_end}
        named = {"network": self.network, "embed": self.embed, **places, "head": self.head, "lengths": self.lengths}
        optional = {"pooled": self.pooled, "cells": self.cells}
        return {**named, **{k: v for k, v in optional.items() if v is not None}}

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {
            "sample": f"new items, unhidden in {self.order} order",
            "infill": "keeps any cells",
            "vary": "hides a share of the cells and draws them again",
            "score": "any-order bound",
            "optimise": "re-mask search",
        }

    @torch.no_grad()
    def begin(self, x: Tensor, context: Context, noise: Noise) -> None:
        """Lengths start as frequent as they are in the rows, with one row's worth spread over all."""
        count = torch.bincount(item_lengths(x), minlength=self.tokens.length + 1).double() + 1 / (self.tokens.length + 1)
        self.lengths.free.copy_((count / count.sum()).log())

    # --- the network ----------------------------------------------------------------------------------------------

    def logits(self, x: Tensor, shown: Tensor, lengths: Tensor, context: Context) -> Tensor:
        """The network's word on every cell: (rows, positions, streams) tokens, of which those ``shown`` are read, to (rows,
        positions, streams, vocab), -inf beyond a stream's own vocabulary."""
        at = torch.arange(x.shape[1], device=x.device)
        inside, left = at < lengths[:, None], (lengths[:, None] - 1 - at).clamp(min=0)
        inputs = self.from_start(at) + self.from_end(left)
        for s, embed in enumerate(self.embed):
            inputs = inputs + embed(torch.where(shown[..., s], x[..., s], self.tokens.vocabs[s]))
        if self.pooled is not None and context.pooled is not None:
            inputs = inputs + self.pooled(context.pooled)[:, None]
        if self.cells is not None and context.cells is not None:
            inputs = inputs + self.cells(context.cells[:, : x.shape[1]])
        told = {"cells": torch.where(shown, x, -1)} if getattr(self.network, "reads_cells", False) else {}
        out, most = self.head(self.network(inputs, inside, context, **told)).float(), max(self.tokens.vocabs)
        parts = out.split(list(self.tokens.vocabs), dim=-1)
        return torch.stack([F.pad(p, (0, most - p.shape[-1]), value=-torch.inf) for p in parts], dim=2)

    def _log_probs(self, logits: Tensor, x: Tensor, shown: Tensor) -> Tensor:
        """Normalised, with 0 forbidden where a position would be all zero."""
        return _without_zero(logits, _others_rest(x, shown)).log_softmax(dim=-1)

    def _predict(self, x: Tensor, shown: Tensor, lengths: Tensor, context: Context, steer: Steer) -> Tensor:
        """Log-probabilities to draw from: guidance, temperature, then the rule on zeros."""
        if steer.guidance != 1.0 and context.null is not None:
            twice = self.logits(x.repeat(2, 1, 1), shown.repeat(2, 1, 1), lengths.repeat(2), context.doubled())
            conditional, free = twice.chunk(2)
            logits = _guided(conditional, free, steer.guidance)
        else:
            logits = self.logits(x, shown, lengths, context)
        return self._log_probs(logits / max(steer.temperature, 1e-6), x, shown)

    # --- likelihood -----------------------------------------------------------------------------------------------

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        """The negative bound in nats a token, ends included; the share of hidden cells is spread evenly over the batch. While it
        learns, rows with ``some_streams`` hidden count as much as others."""
        rows, lengths, streams = len(batch), item_lengths(batch), self.tokens.streams
        offset = noise.fold("share").uniform(1)[:1, 0] + torch.arange(rows, device=noise.key.device) / rows
        hideable = torch.ones(rows, streams, dtype=torch.bool, device=batch.device)
        if self.head.training and self.some_streams:
            drawn = noise.fold("streams").uniform(streams + 2).to(batch.device)
            some = drawn[:, 0] < self.some_streams
            many = torch.where(some, 1 + (drawn[:, 1] * (streams - 1)).long(), streams)
            hideable = drawn[:, 2:].argsort(dim=1).argsort(dim=1) < many[:, None]
        bound = self._bound(batch, lengths, (offset % 1).to(batch.device), context, noise.fold("hide"), hideable)
        total = bound * streams / hideable.sum(dim=1) + self._length_log_prob(lengths, context)
        return -total.sum() / (self.tokens.streams * lengths.sum() + rows)

    def weight(self, batch: Tensor, noise: Noise) -> Tensor:
        """The tokens that the loss is a mean over."""
        return self.tokens.streams * item_lengths(batch).sum() + len(batch)

    def _bound(
        self, x: Tensor, lengths: Tensor, share: Tensor, context: Context, noise: Noise, hideable: Tensor | None = None
    ) -> Tensor:
        """One draw of the bound on log p(x | L) for each row, ``share`` (rows,) in [0, 1) being where k falls among 1 … n; with
        ``hideable`` (rows, streams), on that of those streams given the others."""
        inside = _inside(x, lengths).expand(x.shape)
        among = inside if hideable is None else inside & hideable[:, None]
        cells = among.sum(dim=(1, 2))
        k = ((share * cells).long() + 1).minimum(cells)
        hidden = _ranks(noise.uniform(*x.shape[1:]).to(x.device), among) < k[:, None, None]
        log_probs = self._log_probs(self.logits(x, ~hidden & inside, lengths, context), x, ~hidden & inside)
        found = log_probs.gather(-1, x[..., None])[..., 0]
        bound: Tensor = torch.where(hidden, found, 0.0).sum(dim=(1, 2)) * cells / k.clamp(min=1)
        return bound

    def _length_log_prob(self, lengths: Tensor, context: Context) -> Tensor:
        logits: Tensor = self.lengths(len(lengths), context)
        return logits.log_softmax(-1).gather(1, lengths[:, None])[:, 0]

    def along(self, x: Tensor, noise: Noise, context: Context) -> Tensor:
        """(rows,): the bound's other draw, log p(L) + log p(x | L) along one random order of the cells, by a network call for each.
        It is the law of what ``sample`` makes in that order, and orders differ little in a well trained model."""
        lengths, length = item_lengths(x), self._longest(x)
        x = x[:, :length]
        inside = _inside(x, lengths).expand(x.shape)
        ranks = _ranks(noise.uniform(*x.shape[1:]).to(x.device), inside)
        out = self._length_log_prob(lengths, context)
        for k in range(length * self.tokens.streams):
            shown, now = inside & (ranks < k), inside & (ranks == k)
            log_probs = self._log_probs(self.logits(x, shown, lengths, context), x, shown)
            out = out + torch.where(now, log_probs.gather(-1, x[..., None])[..., 0], 0.0).sum(dim=(1, 2))
        return out

    def score(self, x: Tensor, noise: Noise, context: Context) -> Likelihood:
        """The bound, at about ``draws`` network calls: along as many whole orders as these allow where that is two or more, else by
        ``draws`` maskings with stratified numbers of hidden cells. ``stderr`` is the spread of the draws over the root of their
        number (on the safe side where they are stratified)."""
        lengths, length, bounds = item_lengths(x), self._longest(x), []
        if (orders := self.draws // (length * self.tokens.streams)) >= 2:
            bounds = [self.along(x, noise.fold("along", i), context) for i in range(orders)]
        else:
            free = self._length_log_prob(lengths, context)
            for i in range(self.draws):
                keys = noise.fold("masking", i)
                share = (keys.fold("share").uniform(1)[:, 0] + i) / self.draws
                bounds.append(free + self._bound(x[:, :length], lengths, share.to(x.device), context, keys.fold("hide")))
        found = torch.stack(bounds)
        return Likelihood(found.mean(dim=0), "bound", found.std(dim=0) / len(bounds) ** 0.5)

    def _longest(self, x: Tensor) -> int:
        """The bucket that a batch is computed at."""
        return min(x.shape[1], int(self.buckets(x).max())) if len(x) else 1

    def buckets(self, x: Tensor) -> Tensor:
        return _bucket(item_lengths(x), self.tokens.length)

    # --- sampling -------------------------------------------------------------------------------------------------

    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self.drawn(noise, context, steer).x

    def drawn(self, noise: Noise, context: Context, steer: Steer) -> Told:
        blank = torch.zeros(len(noise), *self.tokens.shape, dtype=torch.long, device=self.head.weight.device)
        return self.filled(Kept(blank, blank.bool()), noise, context, steer)._replace(score=None)  # score() has another value

    def infill(self, kept: Kept, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Raises ``ValueError`` for kept cells that no item, or no item that the constraint accepts, has."""
        return self.filled(kept, noise, context, steer).x

    @torch.no_grad()
    def filled(self, kept: Kept, noise: Noise, context: Context, steer: Steer) -> Told:
        steer = self._laid_out(steer)
        possible = self._possible_lengths(kept, self._rules(steer, kept.values.device), steer.lengths)
        logits = self.lengths(len(noise), context)
        if steer.guidance != 1.0 and context.null is not None:
            logits = _guided(logits, self.lengths(len(noise), context.null), steer.guidance)
        of_length = logits.masked_fill(~possible, -torch.inf).log_softmax(dim=1)
        made, rates = list[Told](), list[Tensor]()
        for keys in (noise, *(noise.fold("candidate", c) for c in range(1, steer.length_candidates))):
            uniforms = keys.fold("length").uniform(1)[:, 0].to(logits.device)
            lengths = draw(logits / max(steer.temperature, 1e-6), uniforms, steer.top_p, possible)
            made.append(told := self._fill(kept.values, kept.mask, lengths, keys, context, steer))
            drawn = ~kept.mask & _inside(kept.mask, lengths)
            log_prob = of_length.gather(1, lengths[:, None])[:, 0] + told.score
            rates.append(log_prob / (1 + drawn.sum(dim=(1, 2))))
        best, rows = torch.stack(rates).argmax(dim=0), torch.arange(len(noise), device=logits.device)
        x, score, least = (torch.stack(list(column))[best, rows] for column in zip(*made, strict=True))
        return Told(x, score, least)

    @torch.no_grad()
    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        if strength >= 1:
            return self.sample(noise, context, steer)
        steer, lengths, keys = self._laid_out(steer), item_lengths(x), noise.fold("vary")
        count = (strength * lengths * self.tokens.streams + keys.fold("count").uniform(1)[:, 0].to(x.device)).floor()
        inside = _inside(x, lengths).expand(x.shape)
        shown = _ranks(keys.uniform(*x.shape[1:]).to(x.device), inside) >= count[:, None, None]
        if steer.constraints is not None:
            possible = self._possible_lengths(Kept(x, shown & inside), self._rules(steer, x.device))
            if not bool(possible.gather(1, lengths[:, None]).all()):
                raise ValueError("no item of the same length that the constraint accepts has the shown cells")
        return self._fill(x, shown, lengths, noise, context, steer).x

    def _laid_out(self, steer: Steer) -> Steer:
        """The same with every constraint as tables."""
        if steer.constraints is None:
            return steer
        space, known = self.tokens, {id(c): c for c in steer.constraints if c is not None}
        tables = {i: laid_out(c, space.vocabs, space.length) for i, c in known.items()}
        return replace(steer, constraints=[tables.get(id(c)) for c in steer.constraints])

    def _rules(self, steer: Steer, device: torch.device) -> list[tuple[Tensor, Completions]]:
        """Constraints of one extent at a time, with the rows that they bind."""
        bound: dict[tuple[int, ...], list[tuple[int, FiniteConstraint]]] = {}
        for row, constraint in enumerate(steer.constraints or ()):
            if isinstance(constraint, FiniteConstraint):
                bound.setdefault(constraint.extent, []).append((row, constraint))
        return [
            (torch.tensor([row for row, _ in some], device=device), Completions([rule for _, rule in some], device))
            for some in bound.values()
        ]

    def _possible_lengths(self, kept: Kept, rules: list[tuple[Tensor, Completions]], told: Tensor | None = None) -> Tensor:
        """(rows, length + 1): beyond the last kept token, up to the first kept end, for which a constraint can be met, as told."""
        positions = torch.arange(1, self.tokens.length + 1, device=kept.mask.device)
        least = (positions * (kept.mask & (kept.values != 0)).any(dim=2)).amax(dim=1, keepdim=True)
        ends = (kept.mask & (kept.values == 0)).all(dim=2)
        most = torch.where(ends, positions - 1, self.tokens.length).amin(dim=1, keepdim=True)
        lengths = torch.arange(self.tokens.length + 1, device=kept.mask.device)
        out = (least <= lengths) & (lengths <= most)
        if told is not None:
            out &= lengths == told[:, None].to(lengths.device)
        for rows, completions in rules:
            values, mask = kept.values[rows, ..., None], kept.mask[rows, ..., None]
            vocabulary = torch.arange(max(self.tokens.vocabs), device=values.device)
            possible = ~mask | (values == vocabulary) if bool(mask.any()) else None
            out[rows] &= completions.lengths(possible, self.tokens.length)
        if not bool(out.any(dim=1).all()):
            raise ValueError("no item" + (" that the constraint accepts" if rules else "") + " has the kept cells")
        return out

    def _fill(self, x: Tensor, shown: Tensor, lengths: Tensor, noise: Noise, context: Context, steer: Steer) -> Told:
        """The first ``lengths`` positions of each row with their hidden cells drawn, zeros behind."""
        (score, least), out, constraints = torch.zeros(2, len(x), device=x.device), torch.zeros_like(x), steer.constraints
        for bucket, rows in groups(_bucket(lengths, self.tokens.length), self.tokens.length):
            index = torch.tensor(rows, device=x.device)
            chosen = None if constraints is None else [constraints[r] for r in rows]
            part = replace(steer, steps=steer.steps or self.steps, constraints=chosen)
            keys, known = noise[index.to(noise.key.device)], shown[index, :bucket]
            told = self._unhide(x[index, :bucket], known, lengths[index], keys, context[index], part)
            out[index, :bucket], score[index], least[index] = told
        return Told(out, score, least)

    def _unhide(
        self, x: Tensor, shown: Tensor, lengths: Tensor, noise: Noise, context: Context, steer: Steer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens, and the log-probability of those drawn, of all together and of the least likely, (rows,)."""
        inside = _inside(x, lengths)
        x, shown = torch.where(shown & inside, x, 0), shown | ~inside
        hidden, (score, least) = ~shown, torch.zeros(2, len(x), device=x.device)
        many = hidden.sum(dim=(1, 2), keepdim=True)
        steps = many if steer.steps is None else many.clamp(max=steer.steps)
        ranks = _ranks(noise.fold("order").uniform(*x.shape[1:]).to(x.device), hidden)
        turns = torch.where(hidden, ranks * steps // many.clamp(min=1), -1)
        rules = self._rules(steer, x.device)
        for k in range(int(steps.max())):
            before, keys = shown, noise.fold("step", k)
            x, shown, log_probs = self.step(k, x, shown, turns, lengths, keys, context, steer, rules)
            new = shown & ~before
            said = (log_probs[new] * max(steer.temperature, 1e-6)).log_softmax(dim=-1).gather(1, x[new][:, None])[:, 0]
            cells = torch.zeros(x.shape, device=x.device).masked_scatter(new, said)  # summed in one order on every device
            score, least = score + cells.sum(dim=(1, 2)), least.minimum(cells.amin(dim=(1, 2)))
        return x, score, least

    def step(
        self,
        k: int,
        x: Tensor,
        shown: Tensor,
        turns: Tensor,
        lengths: Tensor,
        noise: Noise,
        context: Context,
        steer: Steer,
        rules: list[tuple[Tensor, Completions]],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Step ``k`` of unhiding: in random order the cells whose turn it is, in confident order as many of the likeliest. The
        tokens, which are shown now, and the log-probabilities that the network drew from, before constraints."""
        log_probs = self._predict(x, shown, lengths, context, steer)
        uniforms = noise.uniform(*x.shape[1:]).to(x.device)
        tokens = draw(log_probs.flatten(0, 2), uniforms.flatten(), steer.top_p, None).reshape(x.shape)
        bound = torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
        for rows, completions in rules:
            predicted = log_probs[rows]
            certain = torch.full_like(predicted, -torch.inf).scatter_(-1, x[rows, ..., None], 0.0)
            factors = torch.where(shown[rows, ..., None], certain, predicted)
            tokens[rows] = completions.draw(factors, lengths[rows], uniforms[rows], steer.top_p)
            bound[rows] = True
        tokens, now = torch.where(shown, x, tokens), turns == k
        if self.order == "confidence":
            gumbel = -torch.log(-torch.log(noise.fold("confidence").uniform(*x.shape[1:]).to(x.device)))
            fading = self.jitter * (1 - (k + 1) / (turns.amax(dim=(1, 2), keepdim=True) + 1))
            confidence = log_probs.gather(-1, tokens[..., None])[..., 0] + fading * gumbel
            now = ~shown & (_ranks(-confidence, ~shown) < now.sum(dim=(1, 2), keepdim=True))
        if self.tokens.streams > 1:
            tokens = self._sounding(tokens, log_probs, uniforms, shown, now & ~bound[..., None], steer.top_p)
        return torch.where(now, tokens, x), shown | now, log_probs

    def _sounding(self, tokens: Tensor, log_probs: Tensor, uniforms: Tensor, shown: Tensor, now: Tensor, top_p: float) -> Tensor:
        """Cells of one position drawn in one step must not all be 0: the last of them is drawn after the others."""
        later = now.flip(2).cumsum(dim=2).flip(2) - now.long()
        last = now & (later == 0) & _others_rest(tokens, shown | now)
        again = draw(_without_zero(log_probs, last).flatten(0, 2), uniforms.flatten(), top_p, None).reshape(tokens.shape)
        return torch.where(last, again, tokens)


def item_lengths(x: Tensor) -> Tensor:
    """(rows,): positions before the first that is all zero."""
    return (x != 0).any(dim=-1).long().cumprod(dim=1).sum(dim=1)


def _inside(x: Tensor, lengths: Tensor) -> Tensor:
    """(rows, positions, 1): which positions of ``x`` (rows, positions, streams) stand before the end."""
    return (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]


def groups(buckets: Tensor, length: int) -> Iterator[tuple[int, list[int]]]:
    """Rows of one bucket at a time, always as many: a quarter of all (or as many as there are buckets at most), filled with the
    last one again. So the shape in which a row is computed does not depend on the other rows."""
    numbers: list[int] = buckets.tolist()
    size = -(-len(numbers) // min(4, -(-length // BUCKET))) if numbers else 1
    for bucket in sorted(set(numbers)):
        rows = [r for r, b in enumerate(numbers) if b == bucket]
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            yield bucket, part + part[-1:] * (size - len(part))


def _bucket(lengths: Tensor, most: int) -> Tensor:
    return ((lengths + BUCKET - 1) // BUCKET * BUCKET).clamp(min=min(BUCKET, most), max=most)


def _ranks(values: Tensor, among: Tensor) -> Tensor:
    """(rows, positions, streams): the place of each cell by its value, from 0, those outside ``among`` last."""
    order = torch.where(among, values, torch.inf).flatten(1).argsort(dim=1, stable=True)
    return order.argsort(dim=1).reshape(values.shape)


def _guided(conditional: Tensor, free: Tensor, weight: float) -> Tensor:
    a, b = conditional.log_softmax(-1), free.log_softmax(-1)
    return torch.where(a.isinf(), a, b + weight * (a - b))


def _others_rest(x: Tensor, shown: Tensor) -> Tensor:
    """Cells whose position's other streams are all shown as 0."""
    rests = shown & (x == 0)
    return rests.sum(dim=-1, keepdim=True) - rests.long() == x.shape[-1] - 1


def _without_zero(logits: Tensor, where: Tensor) -> Tensor:
    zero = torch.arange(logits.shape[-1], device=logits.device) == 0
    return logits.masked_fill(where[..., None] & zero, -torch.inf)

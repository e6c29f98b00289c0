"""Heads: from a position's hidden state to the logits of its streams, one stream after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OrdinalHead(nn.Module):
    """A head for tokens whose numbers are a scale (pitches, levels, counts): steps matter, wherever they begin.

    With y the tokens of the position before,

        φ_s = relu²(A_s h + Σ_{r<s} (E_sr[x_r] + M_sr[x_r − y_r]) + Σ_{r≠s} G_sr[y_r − y_s]),
        logits_s(v) = (W_s φ_s)(v) + (R_ss φ_s)(v − y_s) + Σ_{r<s} (R_sr φ_s)(v − x_r):

    it reads how the streams before s move now and how far apart all were, and what it says of v counts from where s was and from
    where the others are. A step learnt from one token is known from all; Huang et al., 2018, https://arxiv.org/abs/1809.04281, have
    relative pitch in the attention instead. M, G and R start at zero.
    """

    def __init__(self, width: int, vocabs: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        streams = range(len(vocabs))
        self.vocabs, self.dropout = tuple(vocabs), nn.Dropout(dropout)
        self.mix = nn.ModuleList([nn.Linear(width, width) for _ in streams])
        self.earlier = nn.ModuleList([nn.ModuleList([nn.Embedding(vocabs[r], width) for r in range(s)]) for s in streams])
        self.moves = nn.ModuleList([self._differences(s, range(s), width) for s in streams])
        self.gaps = nn.ModuleList([self._differences(s, [r for r in streams if r != s], width, own=True) for s in streams])
        self.outputs = nn.ModuleList([nn.Linear(width, v) for v in vocabs])
        self.steps = nn.ModuleList([nn.Linear(width, sum(self._spans(s)), bias=False) for s in streams])
        for layer in self.steps:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)

    def _differences(self, stream: int, others: Sequence[int], width: int, own: bool = False) -> nn.ModuleList:
        """Embeddings of how far other streams are from tokens of their own, or of ``stream``."""
        tables = []
        for r in others:
            tables.append(nn.Embedding(self.vocabs[r] + self.vocabs[stream if own else r] - 1, width))
            nn.init.zeros_(tables[-1].weight)
        return nn.ModuleList(tables)

    def _spans(self, stream: int) -> list[int]:
        """How many differences there are to each reference: the streams before, and the stream itself."""
        return [self.vocabs[stream] + self.vocabs[r] - 1 for r in range(stream + 1)]

    def logits(self, hidden: Tensor, stream: int, tokens: Tensor, before: Tensor) -> Tensor:
        """(…, width), this position's tokens (…, streams), of which those before ``stream`` are read, and those of the position
        before (zeros at the first) to (…, vocab of the stream)."""
        mixed = self.mix[stream](hidden)
        earlier, moves, gaps = self.earlier[stream], self.moves[stream], self.gaps[stream]
        assert isinstance(earlier, nn.ModuleList) and isinstance(moves, nn.ModuleList) and isinstance(gaps, nn.ModuleList)
        for r, (embedding, move) in enumerate(zip(earlier, moves, strict=True)):
            mixed = mixed + embedding(tokens[..., r]) + move(tokens[..., r] - before[..., r] + self.vocabs[r] - 1)
        others = [r for r in range(len(self.vocabs)) if r != stream]
        for r, gap in zip(others, gaps, strict=True):
            mixed = mixed + gap(before[..., r] - before[..., stream] + self.vocabs[stream] - 1)
        mixed = self.dropout(F.relu(mixed).square())
        out: Tensor = self.outputs[stream](mixed)
        scale = torch.arange(self.vocabs[stream], device=hidden.device)
        for r, steps in enumerate(self.steps[stream](mixed).split(self._spans(stream), dim=-1)):
            reference = before[..., stream] if r == stream else tokens[..., r]
            out = out + steps.gather(-1, scale - reference[..., None] + self.vocabs[r] - 1)
        return out


class OrdinalCells(nn.Module):
    """A head for cells of items seen whole, some hidden, whose tokens are a scale: :class:`OrdinalHead` where any order is asked.

    A cell of stream s has as its references the nearest tokens of its own stream that are shown before and behind it and those of
    the other streams shown at its position. With a the one before and ρ_r those that there are,

        φ_s = relu²(A_s h + Σ_r G_sr[ρ_r − a] + Σ_{r≠s} M_sr[ρ_r − a_r]),    logits_s(v) = (W_s φ_s)(v) + Σ_r (R_sr φ_s)(v − ρ_r),

    a_r being the nearest token of stream r shown before the position: how far the others are, how they moved, and what v is counted
    from each. What is not shown adds nothing. G, M and R start at zero.
    """

    def __init__(self, width: int, vocabs: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        streams, n = range(len(vocabs)), len(vocabs)
        self.vocabs, self.dropout = tuple(vocabs), nn.Dropout(dropout)
        #: The streams that a stream's references are of: its own before and behind, then the others.
        self.of = [[s, s, *(r for r in streams if r != s)] for s in streams]
        self.mix = nn.ModuleList([nn.Linear(width, width) for _ in streams])
        self.gaps = nn.ModuleList([self._differences([(r, s) for r in self.of[s][1:]], width) for s in streams])
        self.moves = nn.ModuleList([self._differences([(r, r) for r in self.of[s][2:]], width) for s in streams])
        self.outputs = nn.ModuleList([nn.Linear(width, v) for v in vocabs])
        self.steps = nn.ModuleList([nn.Linear(width, sum(self._spans(s)), bias=False) for s in range(n)])
        for layer in self.steps:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)

    def _spans(self, stream: int) -> list[int]:
        """How many differences there are to each reference."""
        return [self.vocabs[stream] + self.vocabs[r] - 1 for r in self.of[stream]]

    def _differences(self, pairs: Sequence[tuple[int, int]], width: int) -> nn.ModuleList:
        """Embeddings of how far a token of one stream is from one of another; the last index says that one of them is not there."""
        tables = [nn.Embedding(self.vocabs[a] + self.vocabs[b], width) for a, b in pairs]
        for table in tables:
            nn.init.zeros_(table.weight)
        return nn.ModuleList(tables)

    def forward(self, hidden: Tensor, tokens: Tensor, shown: Tensor) -> Tensor:
        """(rows, positions, width), and (rows, positions, streams) tokens of which those ``shown`` are read, to (rows, positions,
        sum of vocabs)."""
        before, behind = _nearest(tokens, shown), _nearest(tokens.flip(1), shown.flip(1)).flip(1)
        here, out = torch.where(shown, tokens, ABSENT), []
        for s, vocab in enumerate(self.vocabs):
            references = [before[..., s], behind[..., s], *(here[..., r] for r in self.of[s][2:])]
            mixed = self.mix[s](hidden)
            gaps, moves = self.gaps[s], self.moves[s]
            assert isinstance(gaps, nn.ModuleList) and isinstance(moves, nn.ModuleList)
            for table, r, reference in zip(gaps, self.of[s][1:], references[1:], strict=True):
                mixed = mixed + table(_apart(reference, before[..., s], self.vocabs[r], vocab))
            for table, r in zip(moves, self.of[s][2:], strict=True):
                mixed = mixed + table(_apart(here[..., r], before[..., r], self.vocabs[r], self.vocabs[r]))
            mixed = self.dropout(F.relu(mixed).square())
            logits, scale = self.outputs[s](mixed), torch.arange(vocab, device=hidden.device)
            for r, reference, steps in zip(self.of[s], references, self.steps[s](mixed).split(self._spans(s), dim=-1), strict=True):
                there = (reference != ABSENT)[..., None]
                counted = steps.gather(-1, scale - reference.clamp(min=0)[..., None] + self.vocabs[r] - 1)
                logits = logits + torch.where(there, counted, 0.0)
            out.append(logits)
        return torch.cat(out, dim=-1)


#: In place of a token that there is not.
ABSENT = -1


def _nearest(tokens: Tensor, shown: Tensor) -> Tensor:
    """(rows, positions, streams): the nearest token shown before each position, or ``ABSENT``."""
    at = torch.arange(tokens.shape[1], device=tokens.device)[:, None].expand_as(tokens)
    last = F.pad(torch.where(shown, at, ABSENT).cummax(dim=1).values, (0, 0, 1, 0), value=ABSENT)[:, :-1]
    return torch.where(last == ABSENT, ABSENT, tokens.gather(1, last.clamp(min=0)))


def _apart(a: Tensor, b: Tensor, a_vocab: int, b_vocab: int) -> Tensor:
    """Where a table of differences has a − b."""
    return torch.where((a == ABSENT) | (b == ABSENT), a_vocab + b_vocab - 1, a - b + b_vocab - 1)

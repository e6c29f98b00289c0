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

"""Heads: from a position's hidden state to the logits of its streams, one stream after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OrdinalHead(nn.Module):
    """A head for tokens whose numbers are a scale (pitches, levels, counts): steps matter, wherever they begin.

    φ_s = relu²(A_s h + Σ_{r<s} E_sr[x_r]), logits_s(v) = (W_s φ_s)(v) + Σ_ρ (R_sρ φ_s)(v − x_ρ), with the references ρ: the streams
    before s at this position, and s itself at the position before. A step learnt from one token is known from all; this is the
    relative pitch of Huang et al., 2018, https://arxiv.org/abs/1809.04281, in the output. R starts at zero.
    """

    def __init__(self, width: int, vocabs: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        streams = range(len(vocabs))
        self.vocabs, self.dropout = tuple(vocabs), nn.Dropout(dropout)
        self.mix = nn.ModuleList([nn.Linear(width, width) for _ in streams])
        self.earlier = nn.ModuleList([nn.ModuleList([nn.Embedding(vocabs[r], width) for r in range(s)]) for s in streams])
        self.outputs = nn.ModuleList([nn.Linear(width, v) for v in vocabs])
        self.steps = nn.ModuleList([nn.Linear(width, sum(self._spans(s)), bias=False) for s in streams])
        for layer in self.steps:
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)

    def _spans(self, stream: int) -> list[int]:
        """How many differences there are to each reference: the streams before, and the stream itself."""
        return [self.vocabs[stream] + self.vocabs[r] - 1 for r in range(stream + 1)]

    def logits(self, hidden: Tensor, stream: int, tokens: Tensor, before: Tensor) -> Tensor:
        """(…, width), this position's tokens (…, streams), of which those before ``stream`` are read, and those of the position
        before (zeros at the first) to (…, vocab of the stream)."""
        mixed = self.mix[stream](hidden)
        embeddings = self.earlier[stream]
        assert isinstance(embeddings, nn.ModuleList)
        for r, embedding in enumerate(embeddings):
            mixed = mixed + embedding(tokens[..., r])
        mixed = self.dropout(F.relu(mixed).square())
        out: Tensor = self.outputs[stream](mixed)
        scale = torch.arange(self.vocabs[stream], device=hidden.device)
        for r, steps in enumerate(self.steps[stream](mixed).split(self._spans(stream), dim=-1)):
            reference = before[..., stream] if r == stream else tokens[..., r]
            out = out + steps.gather(-1, scale - reference[..., None] + self.vocabs[r] - 1)
        return out

"""A stack of gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078) as a causal network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headwater.context import Context


class Recurrent(nn.Module):
    """``layers`` GRUs of ``width`` units. The pooled context sets the first hidden state; sequences are not read."""

    def __init__(self, width: int = 384, layers: int = 2, dropout: float = 0.0, pooled: int = 0, sequence: int = 0) -> None:
        super().__init__()
        if sequence:
            raise ValueError("the recurrent network cannot read a sequence of givens; use the transformer")
        self.width, self.layers = width, layers
        self.gru = nn.GRU(width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.first = nn.Linear(pooled, layers * width) if pooled else None

    def _hidden(self, rows: int, inputs: Tensor, context: Context) -> Tensor:
        if self.first is None or context.pooled is None:
            return inputs.new_zeros(self.layers, rows, self.width)
        hidden: Tensor = torch.tanh(self.first(context.pooled)).to(inputs.dtype)
        return hidden.reshape(rows, self.layers, self.width).transpose(0, 1).contiguous()

    def forward(self, inputs: Tensor, context: Context) -> Tensor:
        out: Tensor = self.gru(inputs, self._hidden(inputs.shape[0], inputs, context))[0]
        return out

    def start(self, rows: int, inputs: Tensor, length: int) -> Tensor | None:
        return None

    def step(self, inputs: Tensor, state: Tensor | None, context: Context) -> tuple[Tensor, Tensor]:
        hidden = self._hidden(inputs.shape[0], inputs, context) if state is None else state
        out, hidden = self.gru(inputs[:, None], hidden)
        return out[:, 0], hidden

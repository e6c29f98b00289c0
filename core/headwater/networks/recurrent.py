"""Stacks of gated recurrent units (Cho et al., 2014, https://arxiv.org/abs/1406.1078) as a causal network and as a reader."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.spaces import Tokens


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


class StreamEmbedding(nn.ModuleList):
    """A learnt vector for each token of each stream, summed: (rows, positions, streams) to (rows, positions, width)."""

    def __init__(self, space: Tokens, width: int) -> None:
        super().__init__([nn.Embedding(v, width) for v in space.vocabs])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([embedding(x[..., s]) for s, embedding in enumerate(self)]).sum(0)


class RecurrentReader(nn.Module):
    """An item to ``features`` numbers: ``layers`` GRUs of ``width`` units over the item with its end, as many over it backwards,
    and a linear map of where both arrive. What stands behind the end changes nothing. The pooled context, given cells and the mean
    of a given sequence are added to the inputs."""

    def __init__(
        self,
        space: Tokens,
        *,
        features: int,
        width: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        pooled: int = 0,
        cells: int = 0,
        sequence: int = 0,
    ) -> None:
        super().__init__()
        self.embed = StreamEmbedding(space, width)
        self.pooled = nn.Linear(pooled, width) if pooled else None
        self.cells = nn.Linear(cells, width) if cells else None
        self.told = nn.Linear(sequence, width) if sequence else None
        within = dropout if layers > 1 else 0.0
        self.forwards = nn.GRU(width, width, layers, batch_first=True, dropout=within)
        self.backwards = nn.GRU(width, width, layers, batch_first=True, dropout=within)
        self.out = nn.Linear(2 * width, features)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(rows, positions, streams) to (rows, features)."""
        inputs = self.embed(x)
        if self.pooled is not None and context.pooled is not None:
            inputs = inputs + self.pooled(context.pooled)[:, None]
        if self.cells is not None and context.cells is not None:
            inputs = inputs + self.cells(context.cells[:, : x.shape[1]])
        if self.told is not None and context.sequence is not None and context.mask is not None:
            here = context.mask[..., None]
            mean = (context.sequence * here).sum(dim=1) / here.sum(dim=1).clamp(min=1)
            inputs = inputs + self.told(mean)[:, None]
        # The position of the end, or the last one of an item that fills its space.
        last = (x != 0).any(dim=2).long().cumprod(dim=1).sum(dim=1).clamp(max=x.shape[1] - 1)[:, None, None]
        at = torch.arange(x.shape[1], device=x.device)[:, None]
        turned = inputs.gather(1, (last - at).clamp(min=0).expand(-1, -1, inputs.shape[2]))
        arrive = last.expand(-1, 1, self.forwards.hidden_size)
        ends = [gru(way)[0].gather(1, arrive)[:, 0] for gru, way in ((self.forwards, inputs), (self.backwards, turned))]
        out: Tensor = self.out(torch.cat(ends, dim=1))
        return out

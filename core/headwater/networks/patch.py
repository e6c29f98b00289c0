"""A critic of places: a convolutional reader that scores every patch of a grid instead of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from headwater.context import Context
from headwater.networks.convolutional import ConvolutionalReader, dimensions
from headwater.networks.unet import convolution
from headwater.spaces import Grid


class PatchReader(ConvolutionalReader):
    """A grid of any size to one number at each place, a cell of the reader's last map: (rows, places). Each sees its own
    surroundings only (PatchGAN: Isola et al., 2017, https://arxiv.org/abs/1611.07004)."""

    def __init__(self, space: Grid, *, features: int, widths: Sequence[int] = (32, 64, 96), **options: Any) -> None:
        if features != 1:
            raise ValueError(f"the patch network gives one number a place; it cannot make {features} of the whole")
        super().__init__(space, features=1, widths=widths, **options)
        self.out = convolution(dimensions(space), widths[-1], 1, kernel=1)  # type: ignore[assignment]

    def forward(self, x: Tensor, context: Context) -> Tensor:
        scores: Tensor = self.out(self.map(x, context)).flatten(1)
        return scores

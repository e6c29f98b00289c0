"""The order of training data, as a function of the step alone: any step can be resumed without replaying those before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from headwater.noise import Noise, permutation

#: How many batches are sorted by length together, so that short items share a batch with short ones.
WINDOW = 50


class Order:
    """Which rows a step trains on: a permutation of the data for each epoch, cut into batches of ``batch``.

    With ``sizes`` (one number a row), each ``WINDOW`` batches are sorted by size and visited in random order.
    """

    def __init__(self, length: int, batch: int, noise: Noise, sizes: np.ndarray[Any, Any] | None = None) -> None:
        self.length, self.batch, self.noise, self.sizes = length, batch, noise, sizes
        self._sorted: tuple[int, list[int]] = (-1, [])

    def rows(self, step: int) -> list[int]:
        if self.sizes is None:
            return self._positions(step * self.batch, self.batch)
        window, place = divmod(step, WINDOW)
        if self._sorted[0] != window:
            rows = self._positions(window * WINDOW * self.batch, WINDOW * self.batch)
            self._sorted = window, sorted(rows, key=lambda r: (int(self.sizes[r]), r))  # type: ignore[index]
        turn = int(permutation(torch.tensor([place]), WINDOW, self.noise.fold("window", window))[0])
        return self._sorted[1][turn * self.batch : (turn + 1) * self.batch]

    def _positions(self, start: int, count: int) -> list[int]:
        """Where positions of an endless run of shuffled epochs fall in the data."""
        out: list[int] = []
        while len(out) < count:
            epoch, offset = divmod(start + len(out), self.length)
            take = min(self.length - offset, count - len(out))
            index = torch.arange(offset, offset + take)
            out += permutation(index, self.length, self.noise.fold("epoch", epoch)).tolist()
        return out

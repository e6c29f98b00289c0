"""Latent search: an evolution strategy over the latents that a family decodes."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headwater.context import Context
from headwater.domain import Array
from headwater.families.contract import Steer
from headwater.generator import take
from headwater.noise import Noise
from headwater.optimise.search import Search

if TYPE_CHECKING:
    from headwater.generator import Generator


class LatentSearch(Search):
    """CMA-ES with one step size for each dimension (Ros and Hansen, 2008, https://doi.org/10.1007/978-3-540-87700-4_30; constants
    of Hansen and Ostermeier, 2001, https://doi.org/10.1162/106365601750190398). A turn draws ``rows`` latents
    z = m + s d ε, ε ~ N(0, I), decodes them, and moves m to the weighted mean of the better half, d² to their spread; s grows while
    steps agree and shrinks while they cancel. Only the order of scores matters.

    It begins at m = 0, s d = 1, where the model's own samples are, or near the user's items. Latents stay inside the ball that
    holds nearly all of N(0, I), |z| ≤ √D + 3: what lies beyond it no model has learnt to decode. The decoder's noise is drawn anew
    for every row, so that a decoder which listens little to its latent still shows all it can make. Where all scores are equal
    the search widens; where it has shrunk to a point it begins again at the model's samples.
    """

    name = "latent search"

    def __init__(self, generator: Generator, wish: Any, noise: Noise, *, rows: int | None = None) -> None:
        latent = generator.model.family.latent
        assert latent is not None
        self.shape, self.size = latent.shape, math.prod(latent.shape)
        super().__init__(generator, wish, noise, max(16, 4 + int(3 * math.log(self.size))) if rows is None else rows)
        self.small = copy.copy(generator)  # whose tiles hold no more than the rows: the rest of one would be decoded for nothing
        self.small.tile = min(generator.tile, self.rows)
        self.z = np.zeros((0, self.size))
        self.adopted = False
        self._begin()

    def _begin(self) -> None:
        self.mean, self.spread = np.zeros(self.size), np.ones(self.size)  # m, d²
        self.path, self.path_s = np.zeros(self.size), np.zeros(self.size)
        self.step, self.count = 1.0, 0  # s, generations since the beginning

    def adopt(self, x: Array) -> Array:
        family = self.generator.model.family
        with torch.no_grad():
            context = self.generator.model.conditioner(self.generator.model.conditions([self.wish] * len(x)))
            try:
                z = family.encode(torch.from_numpy(x).to(self.generator.device), context)
            except NotImplementedError:
                raise ValueError("start: this model has no encoder to find the latents of items with") from None
        self.z, self.adopted = z.flatten(1).double().cpu().numpy(), True
        return x

    def propose(self, turn: int) -> Array:
        normal = self.noise.fold("step", turn).normal(self.rows, self.size)[0].double().numpy()
        self.z = inside(self.mean + self.step * np.sqrt(self.spread) * normal)
        z = torch.from_numpy(self.z).float().reshape(self.rows, *self.shape)
        family, device, noise = self.generator.model.family, self.generator.device, self.noise.fold("decode", turn)

        def decode(places: Tensor, context: Context, steer: Steer) -> Tensor:
            return family.decode(take(z, places).to(device), noise.rows(places), context, steer)

        return self.draw(decode, self.small)

    def learn(self, x: Array, scores: Array) -> None:
        if self.adopted:
            self.adopted = False
            if np.isfinite(scores).any():
                self.mean, self.step = inside(self.z[[int(scores.argmax())]])[0], 0.3
            return
        if scores.max() == scores.min():
            self.step = min(1.0, 1.5 * self.step)
            return
        self._update(self.z[np.argsort(-scores, kind="stable")])
        if self.step * math.sqrt(self.spread.max()) < 1e-4:
            self._begin()

    def _update(self, z: Array) -> None:
        """One generation of rows from best to worst."""
        n, half = self.size, max(1, len(z) // 2)
        weights = math.log(half + 0.5) - np.log(np.arange(1, half + 1))
        weights /= weights.sum()
        mass = 1 / float((weights**2).sum())
        c_s = (mass + 2) / (n + mass + 5)
        damp = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + c_s
        c_c = (4 + mass / n) / (n + 4 + 2 * mass / n)
        faster = (n + 2) / 3  # a diagonal has that many fewer numbers to learn
        c_1 = min(0.5, faster * 2 / ((n + 1.3) ** 2 + mass))
        c_mu = min(1 - c_1, faster * 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))  # of |N(0, I)|

        y = (z[:half] - self.mean) / self.step
        moved = weights @ y
        self.mean = self.mean + self.step * moved
        self.count += 1
        self.path_s = (1 - c_s) * self.path_s + math.sqrt(c_s * (2 - c_s) * mass) * moved / np.sqrt(self.spread)
        length = float(np.linalg.norm(self.path_s))
        steady = length / math.sqrt(1 - (1 - c_s) ** (2 * self.count)) < (1.4 + 2 / (n + 1)) * expected
        self.path = (1 - c_c) * self.path + steady * math.sqrt(c_c * (2 - c_c) * mass) * moved
        lost = (1 - steady) * c_c * (2 - c_c)
        self.spread = (
            (1 - c_1 - c_mu + c_1 * lost) * self.spread + c_1 * self.path**2 + c_mu * (weights[:, None] * y**2).sum(axis=0)
        )
        self.step *= math.exp(min(1.0, c_s / damp * (length / expected - 1)))

    def tensors(self) -> Mapping[str, Tensor]:
        arrays = {"mean": self.mean, "spread": self.spread, "path": self.path, "path_s": self.path_s}
        numbers = torch.tensor([self.step, self.count], dtype=torch.float64)
        return {**{name: torch.from_numpy(array) for name, array in arrays.items()}, "numbers": numbers}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.mean, self.spread, self.path, self.path_s = (tensors[k].numpy() for k in ("mean", "spread", "path", "path_s"))
        self.step, self.count = float(tensors["numbers"][0]), int(tensors["numbers"][1])


def inside(z: Array) -> Array:
    """Rows (rows, D) no longer than √D + 3.

    >>> inside(np.array([[0.0, 0.5], [60.0, 80.0]])).round(2).tolist()
    [[0.0, 0.5], [2.65, 3.53]]
    """
    length = np.linalg.norm(z, axis=1, keepdims=True)
    kept: Array = z * np.minimum(1.0, (math.sqrt(z.shape[1]) + 3) / np.maximum(length, 1e-12))
    return kept

"""Re-mask search: a population of the best items, whose children are made by hiding some cells of a parent and filling them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headwater.constraints import broken
from headwater.domain import Array
from headwater.generator import take
from headwater.noise import Noise
from headwater.optimise.search import Search

if TYPE_CHECKING:
    from headwater.generator import Generator


class RemaskSearch(Search):
    """A genetic search whose mutation is the family's ``vary``: what is filled in fits what stayed, as far as the model knows
    (compare Jensen, 2019, https://doi.org/10.1039/C8SC05372C, whose mutations know no distribution).

    The first turn samples. In every later one ``rows`` parents are drawn from the ``population`` best different items, the better
    the likelier (their rank is ``population`` u², u uniform), and varied by a strength drawn for the turn between ``low`` and
    ``high``; parents and children compete. Only the order of scores matters. An item of the user's that the codec's constraint
    rejects is judged, but is no parent: nothing can be filled into it.
    """

    name = "re-mask search"

    def __init__(
        self,
        generator: Generator,
        wish: Any,
        noise: Noise,
        *,
        rows: int = 32,
        population: int = 32,
        low: float = 0.1,
        high: float = 0.6,
    ) -> None:
        super().__init__(generator, wish, noise, rows)
        if population < 1 or not 0 < low <= high <= 1:
            raise ValueError("population is at least 1, and 0 < low <= high <= 1")
        self.population, self.low, self.high = population, low, high
        self.x = np.zeros((0, *generator.model.space.shape), dtype=np.int64)
        self.scores = np.zeros(0)
        self.foreign: Array | None = None  # which rows of the user's, being judged, can be no parent

    def adopt(self, x: Array) -> Array:
        constraint = self.generator.codec.constraint()
        self.foreign = np.array([constraint is not None and broken(constraint, row) is not None for row in x])
        return x

    def propose(self, turn: int) -> Array:
        noise = self.noise.fold("turn", turn)
        if not len(self.x):
            return self.sampled(noise)
        rank = (len(self.x) * noise.fold("parent").uniform(self.rows)[0].square()).long()
        parents = torch.from_numpy(self.x)[rank]
        strength = self.low + (self.high - self.low) * float(noise.fold("strength").uniform(1))
        family, device = self.generator.model.family, self.generator.device
        return self.draw(
            lambda places, context, steer: family.vary(
                take(parents, places).to(device), strength, noise.rows(places), context, steer
            )
        )

    def learn(self, x: Array, scores: Array) -> None:
        good = np.isfinite(scores) & (True if self.foreign is None else ~self.foreign)
        self.foreign = None
        x, scores = np.concatenate([self.x.astype(x.dtype), x[good]]), np.concatenate([self.scores, scores[good]])
        first: dict[bytes, int] = {}
        for place, row in enumerate(x):
            first.setdefault(row.tobytes(), place)
        order = sorted(first.values(), key=lambda place: -scores[place])[: self.population]  # the older first among equals
        self.x, self.scores = x[order], scores[order]

    def tensors(self) -> Mapping[str, Tensor]:
        return {"x": torch.from_numpy(self.x), "scores": torch.from_numpy(self.scores)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.x, self.scores = tensors["x"].numpy(), tensors["scores"].numpy()

"""What a search is: it proposes rows, is told their scores, and holds all it has learnt in tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor

from headwater.context import Context
from headwater.domain import Array
from headwater.families.contract import Steer
from headwater.knobs import asked
from headwater.noise import Noise

if TYPE_CHECKING:
    from headwater.generator import Generator


class Search(ABC):
    """A search with ``generator``, asked for ``wish`` all along. What :meth:`propose` gives depends on the turn, the noise and
    :meth:`tensors` alone, so that a search which was killed can be taken up at any turn whose tensors were saved."""

    name: ClassVar[str]

    def __init__(self, generator: Generator, wish: Any, noise: Noise, rows: int) -> None:
        if rows < 2:
            raise ValueError(f"rows: expected at least 2; got {rows}")
        self.generator, self.wish, self.noise, self.rows = generator, wish, noise, rows

    def adopt(self, x: Array) -> Array:
        """The user's own items as the first proposal. Raises ``ValueError`` where this search cannot begin at items."""
        return x

    @abstractmethod
    def propose(self, turn: int) -> Array:
        """(rows, *shape) of the model's space."""

    @abstractmethod
    def learn(self, x: Array, scores: Array) -> None:
        """Take in the scores of the rows proposed last, -inf where there is none."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """All that :meth:`learn` changes."""

    @abstractmethod
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Become the search that gave these :meth:`tensors`."""

    def draw(self, how: Callable[[Tensor, Context, Steer], Tensor], generator: Generator | None = None) -> Array:
        """``rows`` rows in the generator's tiles: ``how`` gets places, their context and how to draw."""
        generator = generator or self.generator
        constraint = generator.codec.constraint()
        guidance = generator.recipe.guidance if asked(self.wish) else 1.0

        def one(places: Tensor, context: Context) -> Tensor:
            bound = None if constraint is None else [constraint] * len(places)
            return how(places, context, Steer(guidance=guidance, constraints=bound))

        return np.stack(list(generator.tiles(range(self.rows), [self.wish] * self.rows, one)))

    def sampled(self, noise: Noise, generator: Generator | None = None) -> Array:
        """Plain samples."""
        family = (generator or self.generator).model.family
        return self.draw(lambda places, context, steer: family.sample(noise.rows(places), context, steer), generator)

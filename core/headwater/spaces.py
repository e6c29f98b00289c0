"""Spaces: what a tensor of one item looks like. Frozen data, no torch: a space can be printed, compared and stored.

A domain's codec names a space; a family is written once per space. Neither needs to know the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Grid:
    """Floats in [-1, 1] of shape ``(channels, *size)``.

    ``levels`` says how many grey levels were dequantised to make the floats; without it bits/dim is undefined.

    >>> Grid(1, (64, 64), levels=256).shape
    (1, 64, 64)
    """

    channels: int
    size: tuple[int, ...]
    levels: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if self.channels < 1 or not self.size or min(self.size) < 1:
            raise ValueError(f"Grid needs positive channels and size, got channels={self.channels}, size={self.size}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)


@dataclass(frozen=True)
class Tokens:
    """Integers of shape ``(length, streams)``; ``length`` is a maximum.

    Token 0 is padding: the first position whose streams are all zero ends the item. Streams are generated in order
    inside one position (four voices: ``streams=4``). ``vocab`` counts the padding token.

    >>> Tokens(vocab=40, length=128).shape
    (128, 1)
    >>> Tokens(vocab=(4, 9), length=16, streams=2).vocabs
    (4, 9)
    """

    vocab: int | tuple[int, ...]
    length: int
    streams: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.vocab, int):
            object.__setattr__(self, "vocab", tuple(self.vocab))
        if len(self.vocabs) != self.streams or min(self.vocabs) < 2 or self.length < 1:
            raise ValueError(f"Tokens needs a vocabulary of at least 2 for each of its {self.streams} streams, got {self.vocab}")

    @property
    def vocabs(self) -> tuple[int, ...]:
        """The vocabulary of each stream."""
        return (self.vocab,) * self.streams if isinstance(self.vocab, int) else self.vocab

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length, self.streams)


@dataclass(frozen=True)
class Vector:
    """Floats of shape ``(features,)``."""

    features: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.features,)


Space = Grid | Tokens | Vector


def cells(space: Space) -> int:
    """How many numbers one item holds at most."""
    return math.prod(space.shape)


def to_json(space: Space) -> dict[str, Any]:
    """A plain dictionary; :func:`from_json` reads it back.

    >>> from_json(to_json(Grid(1, (8, 8)))) == Grid(1, (8, 8))
    True
    """
    return {"kind": type(space).__name__.lower(), **asdict(space)}


def from_json(data: dict[str, Any]) -> Space:
    """The space that :func:`to_json` wrote. Raises ``ValueError`` for an unknown kind."""
    kinds: dict[str, Callable[..., Space]] = {"grid": Grid, "tokens": Tokens, "vector": Vector}
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in kinds:
        raise ValueError(f"unknown space {kind!r}; expected one of {', '.join(kinds)}")
    return kinds[kind](**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

"""What every family of generative models is to the rest of Headwater.

A family learns a distribution over a space and answers some verbs about it. It never mentions a domain: it sees tensors of its
space, a :class:`~headwater.context.Context`, and noise keys, one for each row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from headwater.constraints import Constraint
from headwater.context import Context
from headwater.noise import Noise
from headwater.spaces import Space

Verb = Literal["sample", "infill", "vary", "restore", "score", "optimise"]
#: What a network is asked to be: one for each protocol below.
Kind = Literal["causal", "bidirectional", "field", "reader", "writer"]


@dataclass(frozen=True)
class Steer:
    """How to draw. ``guidance`` w mixes w·conditional + (1-w)·unconditional (1 is plain; Ho and Salimans, 2022,
    https://arxiv.org/abs/2207.12598); ``temperature`` divides logits; ``top_p`` keeps the smallest set of tokens of that mass;
    ``steps`` is the number of solver steps (None: the family's own); ``constraints`` one a row, or None; ``lengths`` (rows,), of
    ``Tokens``, how many positions each item is to have before its end (None: as many as it likes); ``length_candidates`` how many
    draws of an item, its length anew each time, of which the likeliest a token stays (families that draw the length first)."""

    guidance: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    steps: int | None = None
    constraints: Sequence[Constraint | None] | None = None
    lengths: Tensor | None = None
    length_candidates: int = 1


@dataclass(frozen=True)
class Kept:
    """What infilling must not touch: ``values`` of the space's shape and a bool ``mask``, True where kept; both with rows first."""

    values: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of each row in nats. ``kind`` says what ``value`` (rows,) is: the ``exact`` number, a lower ``bound``, an
    ``estimate`` of neither side, or ``none``. ``stderr`` (rows,) is its Monte Carlo standard error where there is one."""

    value: Tensor
    kind: Literal["exact", "bound", "estimate", "none"]
    stderr: Tensor | None = None


def turned(z: Tensor, fresh: Tensor, strength: float) -> Tensor:
    """√(1 − s²) z + s ε for the strength s, at most 1, and ε as normal as the latent z: a step that leaves N(0, I) as it is, so
    that neighbours are as likely as items."""
    s = min(strength, 1.0)
    return math.sqrt(1 - s**2) * z + s * fresh


@runtime_checkable
class CausalNet(Protocol):
    """A sequence network whose output at position t sees inputs up to t only."""

    width: int

    def __call__(self, inputs: Tensor, context: Context) -> Tensor:
        """(rows, positions, width) to (rows, positions, width)."""
        ...

    def start(self, rows: int, inputs: Tensor, length: int) -> Any:
        """The state before the first position of a sequence of at most ``length``; ``inputs`` tells dtype and device."""
        ...

    def step(self, inputs: Tensor, state: Any, context: Context) -> tuple[Tensor, Any]:
        """(rows, width) of the next position to (rows, width), and the state after it."""
        ...


@runtime_checkable
class GridNet(Protocol):
    """A network from a noisy item (rows, *shape) and a noise coordinate (rows,) to an output of the item's shape."""

    def __call__(self, x: Tensor, noise_level: Tensor, context: Context) -> Tensor: ...


@runtime_checkable
class BidirectionalNet(Protocol):
    """A sequence network whose output at every position sees all inputs inside its item. One whose ``reads_cells`` is true is also
    told the tokens behind its inputs, ``cells`` (rows, positions, streams), -1 where they are hidden."""

    width: int

    def __call__(self, inputs: Tensor, inside: Tensor, context: Context) -> Tensor:
        """(rows, positions, width) to (rows, positions, width). What stands where ``inside`` (rows, positions) is False changes
        nothing that stands where it is True."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A network from an item (rows, *shape) to ``features`` numbers a row: an encoder, a critic. Over ``Tokens`` it embeds them
    itself, and what stands behind an item's end changes nothing."""

    def __call__(self, x: Tensor, context: Context) -> Tensor: ...


@runtime_checkable
class Writer(Protocol):
    """A network from a latent (rows, latent) to an array (rows, channels, *size) of a grid, or (rows, channels) of a vector, where
    ``channels`` is the space's own number of channels or features unless the family asks for more: a decoder, a generator."""

    def __call__(self, z: Tensor, context: Context) -> Tensor: ...


class Maker(Protocol):
    """What a family is built with: the widths of the context its networks will read, and the networks its recipe chose."""

    @property
    def pooled(self) -> int: ...
    @property
    def cells(self) -> int: ...
    @property
    def sequence(self) -> int: ...

    def __call__(
        self,
        kind: Kind,
        role: str = "network",
        *,
        space: Space | None = None,
        default: tuple[str, Mapping[str, Any]] | None = None,
        pooled: int | None = None,
        **sizes: int,
    ) -> nn.Module:
        """The network that the recipe names for ``role`` ("network" is its main one; ``default`` (name, options) stands in for
        another that it does not name), over ``space`` (the model's own unless another is given), reading a pooled context of
        ``pooled`` numbers (the model's unless given), with the ``sizes`` of its kind: ``features`` of a reader, ``latent`` and
        ``channels`` of a writer."""
        ...

    def choice(self, role: str = "network") -> tuple[str, Mapping[str, Any]]:
        """The name and options that the recipe gives for a role, for a family that builds the network itself."""
        ...


class Told(NamedTuple):
    """Items, and of each (rows,), in nats: the value that the family's ``score`` has for it, where it was asked for or is known on
    the way; the log-probability of its least likely token when it was drawn, before temperature and constraints, where items are
    made token after token."""

    x: Tensor
    score: Tensor | None = None
    least: Tensor | None = None


class Family(ABC):
    """A plain class that holds ``nn.Module`` parts: an ``nn.Module`` itself would let misspelt methods through the type checker."""

    name: ClassVar[str]
    players: tuple[str, ...] = ("model",)
    #: Players whose losses are computed in fp32 whatever the precision.
    precise: tuple[str, ...] = ()
    #: Players whose losses take derivatives of derivatives, which torch.compile cannot.
    uncompiled: tuple[str, ...] = ()
    #: Whether ``Steer.steps`` means anything to it.
    stepped: bool = False
    #: Whether ``Steer.guidance`` does: what it says with and without a condition can be mixed.
    guided: bool = False
    #: Whether ``Steer.top_p`` does: it draws tokens, or levels, from their probabilities.
    narrowed: bool = False
    #: Whether ``Steer.length_candidates`` does: it draws how long an item is before what it is.
    length_first: bool = False
    #: Whether it takes only constraints that can be laid out as tables, of few states.
    finite: bool = False
    #: Whether the arrays given to a row are the question itself, so that training never hides them.
    needs_given: bool = False
    #: Options that say how items are drawn or scored, not what is learnt: they may be chosen when a training is done.
    late: frozenset[str] = frozenset()

    def __init__(self, space: Space) -> None:
        self.space = space

    @classmethod
    @abstractmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Family:
        """An untrained model from a recipe's ``options``. Raises ``ValueError`` or ``TypeError`` for what does not fit."""

    @property
    @abstractmethod
    def verbs(self) -> Mapping[Verb, str]:
        """What this instance can do, each with a few words on how."""

    @abstractmethod
    def parts(self) -> Mapping[str, nn.Module]:
        """The trainable modules, by name: the keys of a model file begin with them."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(weight for part in self.parts().values() for weight in part.parameters()).device

    def team(self, player: str) -> Sequence[str]:
        """Which parts a player trains, each in its own turn of a step. What embeds the conditions is trained by the first player;
        the others read it as it is."""
        return list(self.parts())

    def begin(self, x: Tensor, context: Context, noise: Noise) -> None:  # noqa: B027 (most families need nothing of it)
        """Set what depends on data, such as scales, from some rows of them; called once, before a training's first step."""

    @abstractmethod
    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        """A scalar to minimise by ``player`` on rows (rows, *space.shape)."""

    def weight(self, batch: Tensor, noise: Noise) -> Tensor:
        """How much a batch counts beside others of one step, a scalar: what its losses are means over, rows unless said otherwise.
        ``noise`` is that of the loss."""
        return batch.new_tensor(len(batch))

    @abstractmethod
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """One row for each key of ``noise``: (rows, *space.shape)."""

    def drawn(self, noise: Noise, context: Context, steer: Steer) -> Told:
        """What :meth:`sample` makes of the same noise, and what is known of it on the way."""
        return Told(self.sample(noise, context, steer))

    def sample_told(self, noise: Noise, context: Context, steer: Steer, *, score: bool = True) -> Told:
        """The same, scored where it is asked for."""
        told = self.drawn(noise, context, steer)
        if score and told.score is None:
            return told._replace(score=self.score(told.x, noise.fold("score"), context).value)
        return told

    def infill(self, kept: Kept, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Rows that agree with ``kept`` where it is kept."""
        raise NotImplementedError

    def filled(self, kept: Kept, noise: Noise, context: Context, steer: Steer) -> Told:
        """What :meth:`infill` makes of the same noise, and what is known of the tokens that it made: their score is their
        log-probability given what is kept, in the order in which they were made."""
        return Told(self.infill(kept, noise, context, steer))

    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Neighbours of the rows of ``x``; ``strength`` from 0 (the item itself) to 1 (a new sample)."""
        raise NotImplementedError

    def score(self, x: Tensor, noise: Noise, context: Context) -> Likelihood:
        """The log-likelihood of each row."""
        raise NotImplementedError

    @property
    def latent(self) -> Space | None:
        """Where :meth:`encode` takes items, None for a family without one."""
        return None

    def encode(self, x: Tensor, context: Context) -> Tensor:
        """The latent of each row, (rows, *latent.shape): the mean where there is a distribution of them."""
        raise NotImplementedError

    def decode(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """A row for each latent; standard normal latents give samples."""
        raise NotImplementedError

    def monitor(self, x: Tensor, context: Context, noise: Noise) -> Mapping[str, float]:
        """Figures worth watching while training, from some held-out rows."""
        return {}

    def buckets(self, x: Tensor) -> Tensor:
        """(rows,) int64: rows with equal numbers may share a tile in ``score``; computed from each row alone."""
        return torch.zeros(x.shape[0], dtype=torch.int64)

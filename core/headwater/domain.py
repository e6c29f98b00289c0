"""The plug-in contract: what a domain tells the core about its things, and what it gets for it.

Subclass :class:`Domain` in a package of your own, name it in the entry-point group ``headwater.domains``, and the core gives it
training, sampling, evaluation, a model card, a command line and a test suite. This module imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np

from headwater.spaces import Space

if TYPE_CHECKING:
    from torch import nn

    from headwater.constraints import Constraint
    from headwater.generator import Generator
    from headwater.noise import Noise
    from headwater.recipe import Recipe

Array = np.ndarray[Any, np.dtype[Any]]
Item = TypeVar("Item")
Seen = TypeVar("Seen", covariant=True)
Condition = TypeVar("Condition")
Input = TypeVar("Input")


class Codec(ABC, Generic[Item]):
    """How an item becomes one array of a space, and back.

    ``encode`` raises ``ValueError`` (a message for the user) for an item the space cannot hold; ``decode`` is total: any array
    of the space gives an item, if need be one that :meth:`Domain.problem` calls invalid.
    """

    space: Space

    @abstractmethod
    def encode(self, item: Item) -> Array:
        """An array of ``space.shape``: float32 in [-1, 1] for ``Grid``, float32 for ``Vector``, int64 for ``Tokens``."""

    @abstractmethod
    def decode(self, array: Array) -> Item:
        """The item of any array of the space. Never raises."""

    #: Whether :meth:`view` draws; where it does not, training views and encodes each item once.
    draws: bool = True

    def view(self, item: Item, noise: Noise) -> Item:
        """Another way to show the same item to a network in training (a crop, a flip, a fragment order)."""
        return item

    def prefix(self, text: str) -> Array:
        """The first cells of an item from what a user types, ``Tokens`` only: ``(positions, streams)``, shorter than the space.
        Raises ``ValueError`` where the domain has no such notation."""
        raise ValueError("this codec has no notation for the beginning of an item")

    def constraint(self) -> Constraint | None:
        """What every sample must obey while it is made (see :mod:`headwater.constraints`), or None."""
        return None


@dataclass(frozen=True)
class Evaluation(Generic[Item, Condition]):
    """What a metric sees: items made, what was asked for each of them, and real items to compare with."""

    made: Sequence[Item]
    asked: Sequence[Condition]
    reference: Sequence[Item]


@dataclass(frozen=True)
class Metric:
    """A figure over many items. ``published`` holds other people's values by system, ``source`` says where they were read."""

    name: str
    score: Callable[[Evaluation[Any, Any]], float]
    better: Literal["higher", "lower"]
    summary: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


class Rows(Protocol[Seen]):
    """Indexable items."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Seen: ...


@dataclass(frozen=True)
class Dataset(Generic[Item]):
    """Real items. ``card`` is the folder with ``card.toml`` (source, licence, sha256, what it is not for); ``rows(split)`` reads
    ``"train"``, ``"valid"`` or ``"test"`` and raises :class:`headwater.errors.HeadwaterError` saying how to get data that is not
    here; ``sample()`` is the small packaged piece, always there."""

    card: Path
    rows: Callable[[str], Rows[Item]]
    sample: Callable[[], Rows[Item]]


class Result(ABC):
    """One result of a pipeline: the domain's carrier (a volume with its header, a whole score, a campaign row)."""

    row: int
    draw: int = 0

    @abstractmethod
    def write(self, folder: Path) -> list[Path]:
        """Write the field's own files into an existing folder; returns them."""

    @abstractmethod
    def render(self) -> str:
        """A self-contained HTML fragment; text from data is escaped."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Plain columns for ``items.parquet``."""

    def columns_shown(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a page tells beside the drawing: of :meth:`record` what a reader wants, unless said otherwise all."""
        return record

    def problem(self) -> str | None:
        """Why the result cannot be used, in words a user understands; None if it can."""
        return None

    def counted_as(self) -> str | None:
        """What a run counts it as, where its results are of several kinds ("message", "no consent"); None where they are not."""
        return None


class Pipeline(ABC, Generic[Input]):
    """A task on the user's own files: a thin composition of verbs.

    Row-pure: the results of a row depend on that row, what was planned for it, the options and the noise key alone, never on its
    neighbours.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]  # what the SOURCE argument is, for the help text
    Options: ClassVar[type]  # a frozen dataclass of Knobs
    verbs: ClassVar[tuple[str, ...]]  # what the model must be able to do
    model: ClassVar[str]  # the shipped model used unless another is named
    together: ClassVar[int] = 1  # rows that are best run at once; 1 where each is much work

    #: What :meth:`plan` said of the rows at hand, by row; whoever runs the pipeline sets it.
    planned: Mapping[int, Mapping[str, Any]] = {}

    @abstractmethod
    def read(self, source: Path, options: Any) -> Iterator[Input]:
        """The rows of a source, in a fixed order. Raises :class:`headwater.errors.HeadwaterError` for a source it cannot read."""

    def plan(self, inputs: Iterator[Input], options: Any) -> Iterable[Mapping[str, Any]] | None:
        """What only all inputs together can decide (caps, duplicates, segments): for each row in order one dictionary of plain
        values, which :meth:`run` finds in ``self.planned[row]``; None where rows need nothing of the kind. Called once a run."""
        return None

    @abstractmethod
    def run(self, model: Generator, rows: Sequence[tuple[int, Input]], noise: Noise, options: Any) -> Iterator[Result]:
        """The results of ``(row, input)`` pairs; ``noise`` is the run's key, folded by row inside."""

    def finish(self, records: Iterator[Mapping[str, Any]], folder: Path) -> None:
        """Write the files that hold many results, such as a table for another system, into an existing folder; most have none.
        Called when all results of a run, or of a job's shard, are made, with ``row``, ``draw``, ``valid``, ``why_not`` and the
        columns of :meth:`Result.record`; one that a result lacks is None or missing. A job may call it more than once for a shard
        and keep the last."""

    @abstractmethod
    def example(self) -> Path:
        """A packaged source, real and small: the demo, ``--example`` and the conformance kit use it."""


class Domain(ABC, Generic[Item, Condition]):
    """What a kind of thing *is*. The docstring of a subclass opens its model cards; class attributes name its parts."""

    name: ClassVar[str]
    summary: ClassVar[str]
    package: ClassVar[str] = ""  # what to install when an import fails, e.g. "headwater[molecules]"
    notice: ClassVar[str] = ""  # printed on every page and card, e.g. "for research, not for diagnosis"
    Wish: ClassVar[type]
    codecs: ClassVar[Mapping[str, Codec[Any]]]
    networks: ClassVar[Mapping[str, Callable[..., nn.Module]]] = {}
    recipes: ClassVar[Mapping[str, Recipe]] = {}
    datasets: ClassVar[Mapping[str, Dataset[Any]]]
    cards: ClassVar[Sequence[Path]] = ()  # folders of data cards besides those of its data sets: fetched, but not to train on
    metrics: ClassVar[Sequence[Metric]] = ()
    pipelines: ClassVar[Sequence[type[Pipeline[Any]]]] = ()
    commands: ClassVar[Mapping[str, str]] = {}  # what is no pipeline, by name: "module:function" with typer's annotations
    models: ClassVar[Path | None] = None  # the folder of shipped models

    def describe(self, item: Item) -> Condition:
        """The condition an item fulfils: labels training data and checks whether samples obey."""
        wish: Condition = self.Wish()
        return wish

    def given(self, name: str, item: Item, noise: Noise) -> Condition:
        """A training condition that holds the ``Given`` field ``name`` for this item (a degraded image, hidden voices)."""
        raise KeyError(name)

    @abstractmethod
    def features(self, items: Sequence[Item]) -> Array:
        """One row an item: bool (compared by Tanimoto) or float (Euclidean). Audits and two-sample tests use it."""

    def problem(self, item: Item, asked: Condition | None = None) -> str | None:
        """Why the item is invalid, in words a user understands; None if it is fine. Never raises."""
        return None

    @abstractmethod
    def render(self, item: Item) -> str:
        """A self-contained HTML fragment: no outside address, text escaped."""

    @abstractmethod
    def write(self, items: Iterable[Item], folder: Path) -> list[Path]:
        """Write items as the field's own files into an existing folder, deterministically; returns the files."""

    @abstractmethod
    def read(self, path: Path) -> list[Item]:
        """The items of a file of the field's own. Raises :class:`headwater.errors.HeadwaterError` for one it cannot read."""

    def record(self, item: Item) -> dict[str, Any]:
        """The item as plain columns of ``items.parquet``."""
        return {"item": str(item)}

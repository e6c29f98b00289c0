"""What a job does with some of its rows: new items by ``sample``, or a pipeline over inputs. Both give plain results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.batch import inputs
from headwater.batch.job import SETTINGS
from headwater.errors import HeadwaterError
from headwater.report.items import row_of

if TYPE_CHECKING:
    from headwater.batch.plan import Plan
    from headwater.generator import Generator


#: Columns that are the job's own.
TAKEN = {"row", "draw", "id", "valid", "why_not"}
NOTHING: tuple[int, int, Iterator[Any]] = (-1, 0, iter(()))


@dataclass(frozen=True)
class Made:
    """One result. ``columns`` are plain; ``problem`` is why it cannot be used."""

    row: int
    draw: int
    id: str
    problem: str | None
    columns: Mapping[str, Any]


class Refused(Exception):
    """Rows that nothing can be made of, each with its reason; the others were not tried."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(str(reasons))
        self.reasons = reasons


class Broken(Exception):
    """The job cannot go on, whatever the row."""


class Lost(Exception):
    """This process can make nothing more, but another may."""


class Sampling:
    """New items: for each row one of a count, or ``each`` with the properties that a table's row asks for.

    Item i of row r is row r * each + i of ``headwater DOMAIN sample`` with the job's seed."""

    def __init__(self, plan: Plan, generator: Generator) -> None:
        self.plan, self.generator, self.each = plan, generator, plan.job.inputs.each
        options = plan.job.options
        self.settings: dict[str, Any] = {k: v for k, v in options.items() if k in SETTINGS}
        self.knobs: dict[str, Any] = {k: v for k, v in options.items() if k not in SETTINGS}
        self.listing = inputs.Listing(plan.folder) if plan.job.inputs.table else None
        self.wish = generator.wish(**self.knobs)  # one that the model does not know stops the job before its first row
        if self.listing:
            generator.wish(**dict.fromkeys(plan.job.inputs.columns))
        #: Rows that one call makes: whole tiles. A part of a tile takes as much memory as all of it.
        self.together = max(1, generator.at_once // self.each)
        self.least = max(1, generator.tile // self.each)
        self.items: dict[tuple[int, int], Any] = {}

    def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
        """The results of some rows. Their files come with :meth:`finish`, a shard's together."""
        names, wishes = self._asked(rows)
        made: list[Made] = []
        place = 0
        for run in _runs(rows):
            n, wanted = len(run) * self.each, [w for w in wishes[place : place + len(run)] for _ in range(self.each)]
            asks = {"wishes": wanted} if self.listing else self.knobs
            try:
                samples = self.generator.sample(n, seed=self.plan.job.seed, first=run.start * self.each, **self.settings, **asks)
            except HeadwaterError as error:  # the wishes were checked, so it is a setting, and every row's
                raise Broken(str(error)) from None
            for i, record in enumerate(samples.records()):
                row, draw = run.start + i // self.each, i % self.each
                self.items[row, draw] = samples.items[i]
                columns = {k: v for k, v in record.items() if k not in ("row", "seed", "model", "valid", "why_not")}
                made.append(Made(row, draw, names[place + i // self.each], record["why_not"], columns))
            place += len(run)
        return made

    def _asked(self, rows: Sequence[int]) -> tuple[list[str], list[Any]]:
        if self.listing is None:
            return [str(row) for row in rows], [self.wish] * len(rows)
        names, wishes, refused = [], [], {}
        for row in rows:
            entry = self.listing.at(row)
            names.append(entry.id)
            try:
                wishes.append(self.generator.wish(**{**self.knobs, **entry.values}))
            except HeadwaterError as error:
                refused[row] = str(error)
        if refused:
            raise Refused(refused)
        return names, wishes

    def name(self, row: int) -> str:
        """The user's name for a row, else its number."""
        return str(row) if self.listing is None else self.listing.at(row).id

    def finish(self, made: Sequence[Made], folder: Path) -> list[str]:
        """The field's own files, over all items of a shard, and a fragment of the page for each."""
        items = [self.items[m.row, m.draw] for m in made]
        if self.plan.job.files:
            self.generator.domain.write(items, folder)
        return [self.generator.domain.render(x) if self.plan.shows(m.row) else "" for m, x in zip(made, items, strict=True)]

    def forget(self) -> None:
        self.items.clear()


class Piping:
    """A pipeline over the inputs of its rows, as the command line runs it: with one source, row r is row r of that."""

    def __init__(self, plan: Plan, generator: Generator) -> None:
        from headwater.noise import Noise

        kind = plan.pipeline
        assert kind is not None
        self.plan, self.generator, self.pipeline = plan, generator, kind()
        for verb in kind.verbs:
            generator.need(verb)  # type: ignore[arg-type]
        self.together, self.least, self.noise = kind.together, 0, Noise(plan.job.seed)
        self.listing = inputs.Listing(plan.folder)
        #: Whether all rows are of one source: then nothing keeps the files of several apart.
        self.single = self.listing.at(0).rows == plan.rows
        #: The source that is open: its first row, its next, and the inputs from there.
        self.reading = NOTHING
        #: Inputs of the flight in the air: one that fails is tried again in parts, and its source need not be.
        self.kept: dict[int, Any] = {}
        self.fragments: dict[tuple[int, int], str] = {}

    def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
        """The results of some rows, their files written below ``folder``."""
        given: list[tuple[int, Any, inputs.Entry]] = []
        self.kept = {row: item for row, item in self.kept.items() if row >= rows[0]}
        refused: dict[int, str] = {}
        decided = inputs.decisions(self.plan.folder, rows)
        for row in rows:
            try:
                entry = self.listing.at(row)
                given.append((row, self._input(row, entry), entry))
                if decided and decided[row] is None:
                    raise HeadwaterError("it could not be read when the job was planned; begin the job anew in another folder")
            except HeadwaterError as error:
                refused[row] = str(error)
        if refused:
            raise Refused(refused)
        self.pipeline.planned = {row: said for row, said in decided.items() if said is not None}
        made = []
        for _, group in groupby(given, key=lambda g: g[2].values):
            part = list(group)
            options, entries = self._options(part[0][2]), {row: entry for row, _, entry in part}
            seen: set[tuple[int, int]] = set()
            for result in self.pipeline.run(self.generator, [(row, x) for row, x, _ in part], self.noise, options):
                own, columns = entries.get(result.row), result.record()
                if own is None or (result.row, result.draw) in seen or TAKEN & columns.keys():
                    why = f"which it was not given, or twice, or with a column of {', '.join(sorted(TAKEN))}"
                    raise RuntimeError(f"pipeline {self.pipeline.name!r} gave a result for row {result.row}, {why}")
                seen.add((result.row, result.draw))
                if self.plan.job.files:
                    place = folder if self.single else folder / f"{own.first:07d}"
                    place.mkdir(exist_ok=True)
                    result.write(place)
                if self.plan.shows(result.row):  # the carrier does not stay
                    self.fragments[result.row, result.draw] = result.render()
                made.append(Made(result.row, result.draw, own.name(result.row), result.problem(), columns))
            if silent := entries.keys() - {row for row, _ in seen}:
                raise Refused(dict.fromkeys(sorted(silent), f"pipeline {self.pipeline.name!r} gave no result for it"))
        return made

    def _options(self, entry: inputs.Entry) -> Any:
        return inputs.options_of(self.pipeline.Options, self.plan.job, entry.values)

    def _input(self, row: int, entry: inputs.Entry) -> Any:
        """A row's input. A source stays open between rows, so that a long one is read once, not once a shard."""
        if row in self.kept:
            return self.kept[row]
        first, at, stream = self.reading
        self.reading = NOTHING  # until it is known that it goes on
        if first != entry.first or at > row:
            first, at = entry.first, entry.first
            stream = inputs.opened(self.pipeline, self.plan.job, entry)
        for item in itertools.islice(stream, row - at, row - at + 1):
            self.reading = (first, row + 1, stream)
            self.kept[row] = item
            return item
        raise HeadwaterError("nothing to work on was found in it")

    def name(self, row: int) -> str:
        """The user's name for a row."""
        return self.listing.at(row).name(row)

    def finish(self, made: Sequence[Made], folder: Path) -> list[str]:
        """The files that a shard's results make together, and fragments of the page; its other files every result wrote itself."""
        if made and self.plan.job.files:
            self.pipeline.finish((row_of(m.row, m.draw, m.problem, m.columns) for m in made), folder)
        return [self.fragments.get((m.row, m.draw), "") for m in made]

    def forget(self) -> None:
        self.fragments.clear()
        self.kept.clear()


Work = Sampling | Piping


def work_of(plan: Plan, generator: Generator) -> Work:
    """What a plan's rows are."""
    return Sampling(plan, generator) if plan.pipeline is None else Piping(plan, generator)


def _runs(rows: Sequence[int]) -> Iterator[range]:
    """
    >>> list(_runs([3, 4, 5, 9]))
    [range(3, 6), range(9, 10)]
    """
    for _, group in groupby(enumerate(rows), key=lambda pair: pair[1] - pair[0]):
        part = [row for _, row in group]
        yield range(part[0], part[-1] + 1)

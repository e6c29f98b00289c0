"""Write a campaign: a row of the customer table in, its messages or the reason for none out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from headwater.domain import Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_marketing import authors, outputs, preview, records, tables
from headwater_marketing import brief as briefs
from headwater_marketing.audience import Passed
from headwater_marketing.campaign import TOGETHER, Mailing
from headwater_marketing.records import REFUSALS, Record
from headwater_marketing.writing import Writer

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise

_ASIDE = "opacity:.68;font-size:13px;line-height:1.5;overflow-wrap:anywhere"
EXAMPLES = Path(__file__).parent.parent / "examples"


@dataclass(frozen=True)
class WriteOptions:
    brief: Annotated[str | None, Knob("the campaign's TOML file (default: brief.toml beside the customers)")] = None
    products: Annotated[
        str | None, Knob("product table, CSV or Parquet (default: products.csv beside the customers, where the brief needs one)")
    ] = None
    variants: Annotated[int | None, Knob("texts for each message (default: the brief's)", 1, 20)] = None
    limit: Annotated[int | None, Knob("read at most so many customers, for a try", 1)] = None
    author: Annotated[
        str | None, Knob("who words the copy in place of the model: hf:FOLDER-OR-ID[+ADAPTER], https://HOST/v1#MODEL, author.toml")
    ] = None
    boldness: Annotated[float, Knob("the temperature of drawing: below 1 plays safe, above 1 is bolder", 0.1, 3)] = 0.8
    apart: Annotated[float, Knob("the share of word pairs in which variants of a message differ at least", 0, 1)] = 0.3


class Row(NamedTuple):
    """A customer's columns that the brief names, and the mailing that they are read for."""

    mailing: Mailing
    values: Mapping[str, Any]


#: Why a brief sends no message, as a run counts it.
REASONS = {
    "consent": "without consent",
    "duplicate": "duplicates",
    "cap": "over the cap",
    "offer": "without an offer",
    "alike": "too like another variant",
}


@dataclass(frozen=True, kw_only=True)
class Made(Result):
    """A message, or why a customer gets none."""

    row: int
    draw: int
    made: Record | Passed

    def write(self, folder: Path) -> list[Path]:
        """Nothing: messages go into tables by channel, see :meth:`Write.finish`."""
        return []

    def render(self) -> str:
        """The message as its channel shows it, and beside it why this customer gets it."""
        if isinstance(self.made, Record):
            why = f'<p style="{_ASIDE};max-width:46ch;margin:6px">{preview.escaped(self.made.why())}</p>'
            return f'<div style="display:flex;flex-wrap:wrap;gap:18px">{preview.render(self.made)}{why}</div>'
        told = f"no message: {self.made.reason} ({self.made.words})"
        return f'<p style="{_ASIDE};margin:6px">{preview.escaped(told)}</p>'

    def record(self) -> dict[str, Any]:
        return self.made.plain() if isinstance(self.made, Record) else records.passed(self.made)

    def columns_shown(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Who, which variant, by which rules, from which columns, by whom."""
        if isinstance(self.made, Passed):
            return {"customer": self.made.customer, "channel": self.made.channel or None}
        kept = "offer segment voice level fields model score rejected".split()
        variant = f"{record['variant']}{', sent' if record['assigned'] else ''}"
        return {"customer": record["customer"], "variant": variant, **{name: record[name] or None for name in kept}}

    def problem(self) -> str | None:
        """What is wrong with the row. Nothing is where it gets no message by the brief: no consent, a duplicate, a cap."""
        return self.made.words if isinstance(self.made, Passed) and self.made.reason in REFUSALS else None

    def counted_as(self) -> str:
        """Messages, those refused, and each reason of the brief to send none."""
        if isinstance(self.made, Record):
            return "written" if self.made.assigned else "other variants"
        return "refused" if self.made.reason in REFUSALS else REASONS.get(self.made.reason, self.made.reason)


class Write(Pipeline[Row]):
    """Facts, limits, consent and policy hold for every message, whatever the model writes; a customer's copy depends on that row
    alone, wherever it stands in the table."""

    name, summary = "write", "personalised copy for a customer table, by a brief: SMS, push, e-mail, search ads, descriptions"
    source = "a customer table, CSV or Parquet"
    Options, verbs, model, together = WriteOptions, ("sample",), "autoregressive", TOGETHER

    def __init__(self) -> None:
        self.opened: dict[tuple[Path, Path], Mailing] = {}
        self.author: tuple[str, authors.Source] | None = None

    def _mailing(self, source: Path, options: WriteOptions) -> Mailing:
        """The brief and products of a source, read once."""
        paths = (Path(options.brief or source.parent / "brief.toml"), Path(options.products or source.parent / "products.csv"))
        if paths not in self.opened:
            brief = briefs.read(paths[0])
            wanted = brief.products
            if wanted is None and options.products is not None:
                raise HeadwaterError("--products: the brief has no [products] table, so it would not be read; leave it out")
            goods = None if wanted is None else tables.keyed(paths[1], wanted.key, list(wanted.facts.values()))
            self.opened[paths] = Mailing(brief, goods)
        return self.opened[paths]

    def read(self, source: Path, options: WriteOptions) -> Iterator[Row]:
        mailing = self._mailing(source, options)
        for values in tables.rows(source, mailing.brief.reads, options.limit):
            yield Row(mailing, values)

    def plan(self, inputs: Iterator[Row], options: WriteOptions) -> Iterable[Mapping[str, Any]]:
        """Whose second row it is, and its cluster."""
        first = next(inputs, None)
        if first is None:
            return

        def values() -> Iterator[Mapping[str, Any]]:
            for row in itertools.chain([first], inputs):
                if row.mailing.mark != first.mailing.mark:
                    raise HeadwaterError("--brief: the tables of one job have different briefs; make it a job for each")
                yield row.values

        yield from first.mailing.decide(values())

    def example(self) -> Path:
        return EXAMPLES / "customers.csv"

    def _author(self, model: Generator, options: WriteOptions) -> Generator | authors.Source:
        """The model, or the author named instead of it, opened once."""
        if options.author is None:
            return model
        if self.author is None or self.author[0] != options.author:
            self.author = options.author, authors.opened(options.author, str(model.device))
        return self.author[1]

    def run(self, model: Generator, rows: Sequence[tuple[int, Row]], noise: Noise, options: WriteOptions) -> Iterator[Made]:
        seed = noise.fold(self.name).number()
        author = authors.author(self._author(model, options), seed, options.boldness)
        writer = Writer(author, seed, apart=options.apart, told=noise.seed)
        for _, group in itertools.groupby(rows, key=lambda row: id(row[1].mailing)):
            part = list(group)
            mailing = part[0][1].mailing
            decided = [(row, given.values, self.planned.get(row, {})) for row, given in part]
            if any(decision.get("brief", mailing.mark) != mailing.mark for _, _, decision in decided):
                raise HeadwaterError("the brief or the product table has changed since the job was planned; plan it anew")
            made = mailing.messages(decided, writer, options.variants)
            for row, results in itertools.groupby(made, key=lambda pair: pair[0]):
                for draw, (_, result) in enumerate(results):
                    yield Made(row=row, draw=draw, made=result)

    def finish(self, records: Iterator[Mapping[str, Any]], folder: Path) -> None:
        """``sms.csv`` and so on, ready for a sending system, and ``audit.jsonl``."""
        outputs.write(records, folder)

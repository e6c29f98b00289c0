"""A campaign: customers in, messages out, with the history of each.

>>> columns = {"key": "id", "consent": "ok"}
>>> campaign = Campaign({"name": "tea", "channels": ["push"], "facts": {"product": "Assam"}, "columns": columns}, model=None)
>>> frame = campaign.write([{"id": 1, "ok": "yes"}, {"id": 2, "ok": None}])
>>> len(frame), "Assam" in frame["text"][0], frame.attrs["passed"][0]["reason"]
(1, True, 'consent')
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError
from headwater_marketing import authors, records, tables
from headwater_marketing import brief as briefs
from headwater_marketing.audience import Audience, Passed
from headwater_marketing.records import Record
from headwater_marketing.segments import Clustering
from headwater_marketing.writing import Order, Writer, number

if TYPE_CHECKING:
    import pandas

    from headwater.generator import Generator
    from headwater_marketing.authors import Source

    Table = pandas.DataFrame | Path | str | Iterable[Mapping[str, Any]]

#: Customers that are written for at once: lines of many fill a model's tiles.
TOGETHER = 512
MODEL = "marketing/autoregressive"
Values = Mapping[str, Any]


class Mailing:
    """A brief with its products: who gets what, row by row, and the orders for a writer."""

    def __init__(self, brief: briefs.Brief, products: Mapping[str, Values] | None = None) -> None:
        if brief.products is not None and products is None:
            raise HeadwaterError("products: the brief has a [products] table of columns; expected a product table")
        self.brief, self.products = brief, products or {}
        self.rules = frozenset(column for rule in brief.rules.values() for column in rule.columns)
        self.rules |= frozenset(brief.clusters.columns if brief.clusters else ())

    @cached_property
    def mark(self) -> str:
        """A hash of all that it says."""
        told = json.dumps([self.brief.model_dump(mode="json"), self.products], default=str, sort_keys=True)
        return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:16]

    def decide(self, rows: Iterable[Values]) -> Iterator[dict[str, Any]]:
        """What only all rows together can say of each: whether its customer came before, and its cluster where the brief has any.
        Streams unless there are clusters; those take a few bytes a row."""
        audience = Audience(self.brief)
        if self.brief.clusters is None:
            for values in rows:
                yield {"brief": self.mark, "again": audience.again(values), "segment": None}
            return
        clustering, again = Clustering(self.brief.clusters), bytearray()
        for values in rows:
            again.append(audience.again(values))
            clustering.add(number(audience.customer(values)), values)
        clustering.fit()
        for i, came in enumerate(again):
            segment = clustering.segment(i)
            yield {"brief": self.mark, "again": bool(came), "segment": segment and segment.model_dump()}

    def messages(
        self, rows: Sequence[tuple[int, Values, Mapping[str, Any]]], writer: Writer, variants: int | None = None
    ) -> Iterator[tuple[int, Record | Passed]]:
        """What comes of rows with what was decided of them, in order; each depends on its own row alone."""
        brief = self.brief
        audience, orders, found = Audience(brief, self.products), [], []
        for row, values, decision in rows:
            again, segment = bool(decision.get("again")), decision.get("segment")
            for made in audience.row(row, values, again, segment and briefs.Segment(**segment)):
                if not isinstance(made, Passed):
                    who = f"{made.segment}\x1f{made.offer}" if brief.per == "segment" else made.customer
                    key = f"{brief.name}\x1f{brief.per}\x1f{who}"
                    orders.append(Order(made, brief.channel(made.channel), brief.policy, key, self.rules))
                found.append((row, made))
        written = iter(writer.write(orders, variants or brief.variants))
        for row, made in found:
            for result in [made] if isinstance(made, Passed) else next(written):
                yield row, result


class Campaign:
    """Personalised messages for a brief (a file, plain values or a :class:`~headwater_marketing.brief.Brief`).

    ``model`` writes the wording: the shipped one, a loaded :class:`~headwater.generator.Generator`, a name or folder; an author, as
    an object or as ``--author`` names it (:mod:`headwater_marketing.authors`); None leaves it to the templates. Facts, limits,
    consent and policy are the same either way. ``boldness`` is the temperature of drawing, ``apart`` the share of word pairs in
    which variants of a message differ at least."""

    def __init__(
        self,
        brief: briefs.Brief | Mapping[str, Any] | Path | str,
        model: Generator | Source | Path | str | None = MODEL,
        *,
        boldness: float = 0.8,
        apart: float = 0.3,
    ) -> None:
        if isinstance(brief, Path | str):
            brief = briefs.read(Path(brief))
        self.brief = brief if isinstance(brief, briefs.Brief) else briefs.parse(brief)
        if isinstance(model, Path | str) and authors.is_author(str(model)):
            model = authors.opened(str(model))
        elif isinstance(model, Path | str):
            from headwater.generator import load

            model = load(model)
        self.model, self.boldness, self.apart = model, boldness, apart

    def write(
        self, customers: Table, products: Table | None = None, variants: int | None = None, seed: int = 0
    ) -> pandas.DataFrame:
        """A row a message: customer, channel, variant, text, used facts and fields, score, model, seed and the rest of its history
        (:meth:`~headwater_marketing.records.Record.plain`). ``attrs["passed"]`` tells of the rows and channels without one.

        ``variants`` of each message (default: the brief's); ``assigned`` marks the one to send. Tables are DataFrames, CSV or
        Parquet files, or dictionaries. Raises :class:`HeadwaterError` for a table that cannot be read or lacks a column."""
        import pandas

        if variants is not None and not 1 <= variants <= 20:
            raise HeadwaterError(f"variants: expected a whole number from 1 to 20; got {variants}")
        found, passed = [], []
        for row, made in self.run(customers, products, variants, seed):
            if isinstance(made, Record):
                found.append({"row": row, **made.plain()})
            else:
                passed.append({"row": row, **records.passed(made)})
        frame = pandas.DataFrame(found)
        frame.attrs["passed"] = passed
        return frame

    def run(
        self, customers: Table, products: Table | None = None, variants: int | None = None, seed: int = 0
    ) -> Iterator[tuple[int, Record | Passed]]:
        """The same as it is made, with row numbers from 0; memory holds :data:`TOGETHER` customers of a file, however long."""
        mailing = Mailing(self.brief, None if products is None else self._products(products))
        drawn = seed_of(seed)
        writer = Writer(authors.author(self.model, drawn, self.boldness) if self.model else None, drawn, apart=self.apart)
        if not hasattr(customers, "columns") and not isinstance(customers, Path | str):
            customers = list(customers)
        decisions = mailing.decide(_rows(customers, self.brief.reads, "customers"))
        rows = ((i, values, next(decisions)) for i, values in enumerate(_rows(customers, self.brief.reads, "customers")))
        for group in grouped(rows, TOGETHER):
            yield from mailing.messages(group, writer, variants)

    def _products(self, table: Table) -> Mapping[str, Values]:
        wanted = self.brief.products
        if wanted is None:
            raise HeadwaterError("products: the brief has no [products] table, so it would not be read; leave it out")
        names = list(dict.fromkeys([wanted.key, *wanted.facts.values()]))
        return tables.by_key(_rows(table, names, "products"), wanted.key, "products")


def seed_of(seed: int) -> int:
    """What copy is drawn by under a run's seed, on every surface."""
    from headwater.noise import Noise

    return Noise(seed).fold("write").number()


def grouped(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    group = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _rows(table: Any, columns: Sequence[str], name: str) -> Iterator[Values]:
    if isinstance(table, Path | str):
        yield from tables.rows(Path(table), columns)
    elif hasattr(table, "columns"):
        absent = [column for column in columns if column not in table.columns]
        if absent:
            has = ", ".join(map(repr, table.columns))
            raise HeadwaterError(f"{name}: has no column {', '.join(map(repr, absent))}; it has {has}")
        for start in range(0, len(table), 1000):
            yield from table[list(columns)].iloc[start : start + 1000].to_dict("records")
    else:
        yield from ({column: row.get(column) for column in columns} for row in table)

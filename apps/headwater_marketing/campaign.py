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
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Integral
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
        for offer in brief.offers:
            if offer.product is not None and offer.product not in self.products:
                raise HeadwaterError(f"offer {offer.name!r}: the product table has no {offer.product!r}")
        self.rules = frozenset(column for rule in brief.rules.values() for column in rule.columns)
        self.rules |= frozenset(brief.clusters.columns if brief.clusters else ())

    @cached_property
    def mark(self) -> str:
        """A hash of all that it says."""
        told = json.dumps([self.brief.model_dump(mode="json"), self.products], default=str, sort_keys=True)
        return hashlib.sha256(told.encode(errors="surrogatepass")).hexdigest()[:16]

    def decide(self, rows: Iterable[Values]) -> Iterator[dict[str, Any]]:
        """What only all rows together can say of each: whether its customer came before, where any row of the customer withholds
        consent, and its cluster where the brief has any. It takes some tens of bytes a row."""
        audience, again, marks = Audience(self.brief), bytearray(), array("Q")
        clustering = None if self.brief.clusters is None else Clustering(self.brief.clusters)
        for values in rows:
            again.append(audience.again(values))
            marks.extend(audience.marks(values))
            if clustering:
                clustering.add(number(audience.customer(values)), values)
        if clustering:
            clustering.fit()
        for i, came in enumerate(again):
            segment = clustering.segment(i) if clustering else None
            yield {
                "brief": self.mark,
                "again": bool(came),
                "withheld": audience.withheld(marks[2 * i : 2 * i + 2]),
                "segment": segment and segment.model_dump(),
            }

    def messages(
        self, rows: Sequence[tuple[int, Values, Mapping[str, Any]]], writer: Writer, variants: int | None = None
    ) -> Iterator[tuple[int, Record | Passed]]:
        """What comes of rows with what was decided of them, in order; each depends on its own row alone."""
        brief = self.brief
        audience, orders, found = Audience(brief, self.products, variants), [], []
        for row, values, decision in rows:
            again, segment = bool(decision.get("again")), decision.get("segment")
            otherwise = segment and briefs.Segment(**segment)
            for made in audience.row(row, values, again, otherwise, decision.get("withheld", ())):
                if not isinstance(made, Passed):
                    who = f"{made.segment}\x1f{made.offer}" if brief.per == "segment" else made.customer
                    key = f"{brief.name}\x1f{brief.per}\x1f{who}"
                    orders.append(Order(made, brief.channel(made.channel), brief.policy, key, self.rules))
                found.append((row, made))
        written = iter(writer.write(orders, audience.variants))
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
        elif model is not None and not hasattr(model, "sample") and not hasattr(model, "author"):
            raise HeadwaterError(f"model: expected a name, a folder, a model, an author or None; got {type(model).__name__}")
        for name, value, least, most in (("boldness", boldness, 0.1, 3), ("apart", apart, 0, 1)):
            if not least <= value <= most:
                raise HeadwaterError(f"{name}: expected a number from {least:g} to {most:g}; got {value!r}")
        self.model, self.boldness, self.apart = model, boldness, apart

    def write(
        self, customers: Table, products: Table | None = None, variants: int | None = None, seed: int = 0
    ) -> pandas.DataFrame:
        """A row a message: customer, channel, variant, text, used facts and fields, score, model, seed and the rest of its history
        (:meth:`~headwater_marketing.records.Record.plain`). ``attrs["passed"]`` tells of the rows and channels without one.

        ``variants`` of each message (default: the brief's); ``assigned`` marks the one to send. Tables are DataFrames, CSV or
        Parquet files, or dictionaries. Raises :class:`HeadwaterError` for a table that cannot be read or lacks a column."""
        import pandas

        if variants is not None and not (_whole(variants) and 1 <= variants <= 20):
            raise HeadwaterError(f"variants: expected a whole number from 1 to 20; got {variants!r}")
        if not _whole(seed):
            raise HeadwaterError(f"seed: expected a whole number; got {seed!r}")
        found, passed = [], []
        for row, made in self.run(customers, products, variants, seed):
            if isinstance(made, Record):
                found.append({"row": row, **made.plain()})
            else:
                passed.append({"row": row, **records.passed(made)})
        frame = pandas.DataFrame(found, columns=None if found else ["row", *records.PLAIN])
        frame.attrs["passed"] = passed
        return frame

    def run(
        self, customers: Table, products: Table | None = None, variants: int | None = None, seed: int = 0
    ) -> Iterator[tuple[int, Record | Passed]]:
        """The same as it is made, with row numbers from 0; memory holds :data:`TOGETHER` customers of a file, however long."""
        mailing = Mailing(self.brief, None if products is None else self._products(products))
        drawn = seed_of(seed)
        author = authors.author(self.model, drawn, self.boldness) if self.model else None
        writer = Writer(author, drawn, apart=self.apart, told=seed)
        if not hasattr(customers, "columns") and not isinstance(customers, Path | str):
            customers = list(customers) if isinstance(customers, Iterable) else customers
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


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _rows(table: Any, columns: Sequence[str], name: str) -> Iterator[Values]:
    if isinstance(table, Path | str):
        yield from tables.rows(Path(table), columns)
    elif hasattr(table, "columns"):
        tables.need(name, columns, list(table.columns))
        some = table[list(columns)]
        for start in range(0, len(some), 1000):
            yield from some.iloc[start : start + 1000].to_dict("records")
    elif isinstance(table, Iterable):
        for i, row in enumerate(table):
            if not isinstance(row, Mapping):
                raise HeadwaterError(f"{name}: expected rows as dictionaries; row {i} is {type(row).__name__}")
            if i == 0:
                tables.need(name, columns[:2], list(row))  # who, and the first thing asked about them
            yield {column: row.get(column) for column in columns}
    else:
        raise HeadwaterError(f"{name}: expected a DataFrame, a CSV or Parquet file, or dictionaries; got {type(table).__name__}")

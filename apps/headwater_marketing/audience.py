"""The audience: who of a customer table gets which message about what, row by row, and why the others get none.

A row decides for itself: consent, offer, segment, variant and facts come from it, the product table and the brief alone. Only
duplicates look at rows before it, and only cells of columns that the brief names are read.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP
from typing import Any

from headwater_marketing.brief import Brief, Offer, Segment
from headwater_marketing.facts import gather, missing, plain
from headwater_marketing.plan import Plan, Refused


@dataclass(frozen=True)
class Task:
    """One message to write: row, customer, channel, variant (0, 1, …), the plan and how it is to sound; ``fields`` are
    the columns read for it that had a value, ``offer`` and ``segment`` the rules that fired."""

    row: int
    customer: str
    channel: str
    variant: int
    plan: Plan
    voice: str = "warm"
    level: str = "standard"
    offer: str = ""
    offer_rule: str = ""
    segment: str = ""
    segment_rule: str = ""
    product: str = ""
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passed:
    """A row, or one of its channels, that gets no message, and why: consent, duplicate, cap, offer (none holds), or a
    :class:`Refused`'s reason."""

    row: int
    customer: str
    channel: str
    reason: str
    words: str


def consents(value: Any, yes: Iterable[str] = ("yes", "true")) -> bool:
    """Whether a cell says yes: True, or one of the words ``yes`` (of numbers, as they are written). Missing, NaN and everything
    else is no.

    >>> [consents(v) for v in (True, "Yes", "true", False, None, float("nan"), "", "y", "no", 1, "unknown")]
    [True, True, True, False, False, False, False, False, False, False, False]
    """
    if isinstance(value, bool):
        return value
    return plain(value).casefold() in {word.strip().casefold() for word in yes} - {""}


def variant(campaign: str, customer: str, variants: int) -> int:
    """The variant of a customer: a hash of campaign and key, so neither order nor neighbours matter.

    >>> [variant("winter", key, 3) for key in ("anna", "bo", "cy", "anna")]
    [1, 2, 1, 1]
    """
    return _hash(f"{campaign}\x1f{customer}") % variants


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _in_column(mark: int, column: str) -> int:
    return _hash(f"{mark}\x1f{column}")


class Seen:
    """Numbers of 64 bits that came before: a table with open addressing, 16 to 32 bytes each."""

    def __init__(self) -> None:
        self.table, self.count = array("Q", bytes(8 << 10)), 0

    def __contains__(self, number: int) -> bool:
        return self.table[self._place(number or 1)] != 0

    def add(self, number: int) -> None:
        place = self._place(number or 1)
        self.count += self.table[place] == 0
        self.table[place] = number or 1
        if 2 * self.count > len(self.table):
            full, self.table = self.table, array("Q", bytes(16 * len(self.table)))
            for known in full:
                if known:
                    self.table[self._place(known)] = known

    def _place(self, number: int) -> int:
        """Where a number stands, or would."""
        place = number % len(self.table)
        while self.table[place] not in (0, number):
            place = (place + 1) % len(self.table)
        return place


class Audience:
    """The tasks of a brief over customer rows."""

    def __init__(self, brief: Brief, products: Mapping[str, Mapping[str, Any]] | None = None, variants: int | None = None) -> None:
        self.brief, self.products, self.variants = brief, products or {}, variants or brief.variants
        self._seen, self._withheld = Seen(), Seen()

    def customer(self, values: Mapping[str, Any]) -> str:
        """The customer's key, empty where it is missing."""
        return plain(values.get(self.brief.columns.key))

    def marks(self, values: Mapping[str, Any]) -> tuple[int, int]:
        """What a customer is known again by, 0 where it is missing: the key, and the column ``same``."""
        key, same = self.customer(values), plain(values.get(self.brief.columns.same or "")).casefold()
        return (_hash(f"key\x1f{key}") if key else 0), (_hash(f"same\x1f{same}") if key and same else 0)

    def again(self, values: Mapping[str, Any]) -> bool:
        """Whether this customer came before, and note whether this row withholds consent: the only things kept of a row."""
        marks, brief = list(filter(None, self.marks(values))), self.brief
        for column in brief.consent:
            if not consents(values.get(column), brief.columns.yes):
                for mark in marks:
                    self._withheld.add(_in_column(mark, column))
        if any(mark in self._seen for mark in marks):
            return True
        for mark in marks:
            self._seen.add(mark)
        return False

    def withheld(self, marks: Iterable[int]) -> list[str]:
        """The consent columns in which some row of this customer did not say yes."""
        known = list(filter(None, marks))
        return [c for c in self.brief.consent if any(_in_column(mark, c) in self._withheld for mark in known)]

    def row(
        self,
        number: int,
        values: Mapping[str, Any],
        again: bool = False,
        otherwise: Segment | None = None,
        withheld: Collection[str] = (),
    ) -> Iterator[Task | Passed]:
        """A row's tasks, or why it has none. ``again``: the customer came before. ``otherwise`` is the segment where no rule's
        holds; ``withheld`` are consent columns in which another row of the customer says no."""
        brief, customer = self.brief, self.customer(values)
        if not customer:
            yield Passed(number, "", "", "missing", f"row {number}, {brief.columns.key}: the customer's key is missing")
            return
        if again:
            yield Passed(number, customer, "", "duplicate", "the same customer came before")
            return
        try:
            if self._tired(number, values):
                yield Passed(number, customer, "", "cap", f"{brief.cap.recent} is at {brief.cap.most} or more")
                return
            yield from self._messages(number, customer, values, otherwise or Segment(name=""), withheld)
        except Refused as refused:
            yield Passed(number, customer, "", refused.reason, str(refused))

    def _tired(self, number: int, values: Mapping[str, Any]) -> bool:
        """Whether enough messages went to this customer lately; a missing count is none."""
        cap = self.brief.cap
        value = values.get(cap.recent) if cap.recent else None
        if cap.most is None or missing(value):
            return False
        try:
            return float(str(value)) >= cap.most
        except ValueError:
            raise Refused("malformed", str(number), str(cap.recent), f"expected a number of messages; got {value!r}") from None

    def _messages(
        self, number: int, customer: str, values: Mapping[str, Any], otherwise: Segment, withheld: Collection[str]
    ) -> Iterator[Task | Passed]:
        brief, columns = self.brief, self.brief.columns
        sent = 0
        plan: Plan | None = None
        for channel in brief.channels:
            column = columns.consent if isinstance(columns.consent, str) else columns.consent[channel]
            if not consents(values.get(column), columns.yes):
                yield Passed(number, customer, channel, "consent", f"{column} is not yes")
                continue
            if column in withheld:
                yield Passed(number, customer, channel, "consent", f"{column} is not yes in another row of this customer")
                continue
            if brief.cap.messages is not None and sent >= brief.cap.messages:
                yield Passed(number, customer, channel, "cap", f"{brief.cap.messages} in this campaign")
                continue
            if plan is None:
                offer = self._first(brief.offers, number, values)
                if brief.offers and offer is None:
                    yield Passed(number, customer, "", "offer", "no offer's rule holds")
                    return
                segment = self._first(brief.segments, number, values) or otherwise
                plan, product = self._plan(number, values, offer)
                read = {fact.field for fact in plan.facts} | self._rule_columns()
                fields = tuple(name for name in brief.reads if name in read and not missing(values.get(name)))
            sent += 1
            yield Task(
                number,
                customer,
                channel,
                variant(brief.name, customer, self.variants),
                plan,
                segment.voice,
                segment.level,
                offer.name if offer else "",
                (offer.when or "everyone") if offer else "",
                segment.name,
                segment.when or ("everyone" if segment.name else ""),
                product,
                fields,
            )

    def _rule_columns(self) -> set[str]:
        clustered = self.brief.clusters.columns if self.brief.clusters else ()
        return {column for rule in self.brief.rules.values() for column in rule.columns}.union(clustered)

    def _first(self, parts: Iterable[Any], number: int, values: Mapping[str, Any]) -> Any:
        """The first offer or segment without a rule or with one that holds."""
        rules = self.brief.rules
        return next((p for p in parts if p.when is None or rules[p.when].holds(str(number), values)), None)

    def _plan(self, number: int, values: Mapping[str, Any], offer: Offer | None) -> tuple[Plan, str]:
        """The facts of a row: the brief's, the customer's, the product's, the offer's. They must agree where they meet."""
        brief, row = self.brief, str(number)
        sources: dict[str, list[tuple[str, Any]]] = {}

        def add(facts: Mapping[str, tuple[str, Any]]) -> None:
            for slot, given in facts.items():
                sources.setdefault(slot, []).append(given)

        add({slot: (f"brief.{slot}", value) for slot, value in brief.facts.items()})
        add({slot: (column, values.get(column)) for slot, column in brief.columns.facts.items()})
        key = ""
        if brief.products is not None:
            key = (offer.product if offer else None) or plain(values.get(brief.columns.product or ""))
            if not key:
                raise Refused("missing", row, brief.columns.product or "product", "says no product")
            if key not in self.products:
                raise Refused("missing", row, brief.columns.product or "product", f"the product table has no {key!r}")
            product = self.products[key]
            add({slot: (f"product.{column}", product.get(column)) for slot, column in brief.products.facts.items()})
        if offer:
            add({slot: (f"offer.{slot}", value) for slot, value in offer.facts.items()})
            if offer.price_is == "before":
                self._take_off(row, sources)
        held = {slot for slot, given in sources.items()}
        slots = [brief.slot(name) for name in brief.said if name in held]
        return gather(row, slots, sources, brief.style), key

    def _take_off(self, row: str, sources: dict[str, list[tuple[str, Any]]]) -> None:
        """The percentage taken off the price, to the smallest coin, half up; the price before becomes the earlier price. Both are
        judged as facts first; where an optional one is missing or bad, the price stays as it is."""
        style, slots = self.brief.style, [self.brief.slot(name) for name in ("price", "percent") if sources.get(name)]
        fields = {fact.slot.name: fact.field for fact in gather(row, slots, sources, style).facts}
        if len(fields) < 2:
            return
        before, share = (dict(sources[name])[fields[name]] for name in ("price", "percent"))
        paid = (style.amount(before) * (100 - style.amount(share)) / 100).quantize(style.coin, ROUND_HALF_UP)
        sources["was"] = [*sources.get("was", ()), (fields["price"], before)]
        sources["price"] = [(f"{fields['price']}, {fields['percent']}", paid)]

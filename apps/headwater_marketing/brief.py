"""A brief: what a campaign says, to whom and how, as a small TOML file that a person writes and keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Bound

from headwater import settings
from headwater_marketing.channels import CHANNELS, Channel
from headwater_marketing.facts import CURRENCIES, LOCALES, Style, read_fact
from headwater_marketing.plan import Kind, Policy, Slot
from headwater_marketing.rules import Rule
from headwater_marketing.rules import parse as parse_rule
from headwater_marketing.validator import CLAIMS

#: The slots that our own copy has words for; a brief may add names and phrases of its own.
KNOWN: Mapping[str, Kind] = {
    "product": "name",
    "brand": "name",
    "price": "price",
    "was": "price",
    "percent": "percent",
    "code": "code",
    "until": "date",
    "url": "url",
    "feature": "text",
    "perk": "text",
    "first_name": "person",
}
#: More parts than this no network joins (3GPP TS 23.040 knows 255; senders stop far below).
MOST_PARTS = 10
Value = bool | str | int | float | date | datetime  # bool: so that it is not read as a number


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SlotWish(_Part):
    """How a fact is said, where it differs from the usual: its kind, whether it must be, at most how often in one text."""

    kind: Kind | None = None
    required: bool = True
    most: Annotated[int, Bound(ge=1, le=3)] = 1


class Columns(_Part):
    """Which column of the customer table is what. No other column is read."""

    key: str
    consent: str | dict[str, str]
    yes: list[str] = ["yes", "true"]
    same: str | None = None
    product: str | None = None
    allow: list[str] = []
    facts: dict[str, str] = {}

    @model_validator(mode="after")
    def _words(self) -> Columns:
        if not all(word.strip() for word in self.yes):
            raise ValueError("yes holds words that say yes; an empty cell is no")
        return self


class Products(_Part):
    """Which column of the product table is what."""

    key: str
    facts: dict[str, str]


class Offer(_Part):
    """Facts for those a rule holds for; the first that fires is taken. ``price_is`` says whether the product's price is what is
    paid ("after") or what the percentage is taken off ("before")."""

    name: str
    when: str | None = None
    product: str | None = None
    facts: dict[str, Value] = {}
    price_is: Literal["before", "after"] | None = None


class Segment(_Part):
    """Voice and level for those a rule holds for; the first that fires is taken."""

    name: str
    when: str | None = None
    voice: Literal["warm", "lively", "crisp", "refined"] = "warm"
    level: Literal["easy", "standard"] = "standard"


class Clusters(_Part):
    """Segments found by clustering ``columns`` (numbers, of columns.allow), as many as ``voices``; the first voice is for the
    cluster that is lowest in the first column."""

    columns: Annotated[list[str], Bound(min_length=1, max_length=12)]
    voices: Annotated[list[Literal["warm", "lively", "crisp", "refined"]], Bound(min_length=2, max_length=12)]
    level: Literal["easy", "standard"] = "standard"


class Cap(_Part):
    """At most ``messages`` to one customer in this campaign, in the order of ``channels``; nothing to whom ``most`` messages
    went out lately, as the column ``recent`` says."""

    messages: Annotated[int | None, Bound(ge=1)] = None
    recent: str | None = None
    most: Annotated[int | None, Bound(ge=1)] = None

    @model_validator(mode="after")
    def _both(self) -> Cap:
        if (self.recent is None) != (self.most is None):
            raise ValueError("recent (a column) and most (a number) go together")
        return self


class Brief(_Part):
    """A campaign as its file says it. ``per`` says whose wording it is: each customer's own, or one for all of a segment with the
    same offer, as far as their facts fit."""

    name: str
    channels: Annotated[list[Literal["sms", "push", "email", "ad", "description"]], Bound(min_length=1)]
    variants: Annotated[int, Bound(ge=1, le=20)] = 1
    locale: str = "en-GB"
    currency: str = "GBP"
    year: bool = False
    facts: dict[str, Value] = {}
    slots: dict[str, SlotWish] = {}
    banned: list[str] = []
    claims: list[str] = []
    usual_claims: bool = True
    legal: dict[str, str] = {}
    limits: dict[str, dict[str, Annotated[int, Bound(ge=1)]]] = {}
    columns: Columns
    products: Products | None = None
    offers: list[Offer] = []
    segments: list[Segment] = []
    clusters: Clusters | None = None
    per: Literal["customer", "segment"] = "customer"
    cap: Cap = Cap()

    @model_validator(mode="after")
    def _fits(self) -> Brief:
        _one_of("locale", self.locale, LOCALES)
        _one_of("currency", self.currency, CURRENCIES)
        self._sent()
        self._stated()
        if self.clusters and (foreign := sorted(set(self.clusters.columns) - set(self.columns.allow))):
            raise ValueError(f"clusters.columns reads {', '.join(foreign)}, which columns.allow does not list")
        self._sold()
        list(self.rules)  # raises where one cannot be read
        return self

    def _sent(self) -> None:
        """Channels, their consent, limits and legal texts."""
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("channels names one twice")
        if isinstance(self.columns.consent, dict) and (unsaid := sorted(set(self.channels) - set(self.columns.consent))):
            raise ValueError(f"columns.consent names no column for {', '.join(unsaid)}")
        for name, limits in self.limits.items():
            _one_of("limits", name, CHANNELS)
            for part, most in limits.items():
                _one_of(f"limits.{name}", part, [p.name for p in CHANNELS[name].parts])
                highest = {"ad": CHANNELS[name].part(part).limit, "sms": MOST_PARTS}.get(name, most)
                if most > highest:
                    raise ValueError(f"limits.{name}.{part}: at most {highest} {CHANNELS[name].part(part).unit}; got {most}")
        for name, text in self.legal.items():
            _one_of("legal", name, CHANNELS)
            if CHANNELS[name].legal is None:
                takes = " or ".join(n for n in CHANNELS if CHANNELS[n].legal)
                raise ValueError(f"legal.{name}: no legal text is put there; expected {takes}")
            if re.search(r"<[A-Za-z/!]", text):
                raise ValueError(f"legal.{name}: HTML is shown as it is written; give the bare words and addresses")
            if name == "sms" and re.search(r"\{\{|\{%|\*\||%%|\[\[", text):
                raise ValueError("legal.sms: a field that the sending system fills has no length to count; write the text out")
        for name in self.channels:
            if CHANNELS[name].legal and not self.legal.get(name, "").strip():
                raise ValueError(f"legal.{name} is missing: the text every {name} message must end with, such as how to opt out")

    def _stated(self) -> None:
        """Facts and slots, and the words that may not stand."""
        for phrase in (*self.banned, *self.claims):
            if not any(c.isalnum() for c in phrase) or "*" in phrase.rstrip()[:-1]:
                raise ValueError(f"banned and claims hold words, with a * at their end at most; got {phrase!r}")
        if not self.said:
            raise ValueError("no facts to say: give facts, columns.facts, products.facts or an offer's facts")
        for slot in self.said:
            kind = self.slots[slot].kind if slot in self.slots else None
            if not re.fullmatch(r"[a-z][a-z0-9_]*", slot):
                raise ValueError(f"a fact is named in small letters, figures and _; got {slot!r}")
            if slot not in KNOWN and kind not in ("name", "text"):
                raise ValueError(f'slots.{slot}: say its kind, "name" or "text" (slots known without: {", ".join(KNOWN)})')
        if unfilled := sorted(set(self.slots) - set(self.said)):
            raise ValueError(f"slots.{unfilled[0]}: no facts, column or offer fills it")
        for where, given in (("facts", self.facts), *((f"offer {offer.name!r}", offer.facts) for offer in self.offers)):
            for slot, value in given.items():
                try:
                    read_fact(self.slot(slot).kind, value, self.style)
                except ValueError as error:
                    raise ValueError(f"{where}, {slot}: {error}") from None

    def _sold(self) -> None:
        linked = self.columns.product is not None
        for offer in self.offers:
            if self.products is None and offer.product is not None:
                raise ValueError(f"offer {offer.name!r} names a product; there is no [products] table")
            priced = "price" in self.said and "was" not in self.said
            if priced and "percent" in offer.facts and "price" not in offer.facts and offer.price_is is None:
                raise ValueError(
                    f'offer {offer.name!r}: is the price before or after the percentage? say price_is = "before" or "after"'
                )
        if self.products is not None and not linked and not all(offer.product for offer in self.offers or [Offer(name="")]):
            raise ValueError("columns.product or every offer's product must say which product a customer is shown")

    @cached_property
    def said(self) -> tuple[str, ...]:
        """Every slot that some source fills, in a fixed order."""
        sources: list[Mapping[str, Any]] = [self.facts, self.columns.facts, self.products.facts if self.products else {}]
        sources += [offer.facts for offer in self.offers]
        if any(offer.price_is == "before" for offer in self.offers):
            sources.append({"was": None})
        names = dict.fromkeys(name for source in sources for name in source)
        return tuple(sorted(names, key=lambda name: ([*KNOWN, name].index(name), name)))

    @cached_property
    def consent(self) -> tuple[str, ...]:
        """The columns that say whether a customer may be written to."""
        told = self.columns.consent
        return (told,) if isinstance(told, str) else tuple(dict.fromkeys(told.values()))

    @cached_property
    def style(self) -> Style:
        return Style(self.locale, self.currency, self.year)

    @cached_property
    def policy(self) -> Policy:
        claims = (*(CLAIMS if self.usual_claims else ()), *self.claims)
        return Policy(tuple(self.banned), claims, {name: " ".join(text.split()) for name, text in self.legal.items()})

    @cached_property
    def rules(self) -> Mapping[str, Rule]:
        """The parsed rules by their text."""
        texts = [part.when for part in self.offers] + [part.when for part in self.segments]
        return {text: parse_rule(text, self.columns.allow) for text in texts if text is not None}

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The columns of the customer table that are read at all."""
        c = self.columns
        names = [c.key, *self.consent, c.same, c.product, *c.allow, *c.facts.values(), self.cap.recent]
        return tuple(dict.fromkeys(name for name in names if name))

    def channel(self, name: str) -> Channel:
        return CHANNELS[name].limited(self.limits.get(name, {}))

    def slot(self, name: str) -> Slot:
        wish = self.slots.get(name, SlotWish(required=KNOWN.get(name) != "person"))
        kind = wish.kind or KNOWN[name]
        return Slot(name, kind, int(wish.required), wish.most)


def _one_of(where: str, name: str, known: Any) -> None:
    if name not in known:
        raise ValueError(f"{where}: expected one of {', '.join(known)}; got {name!r}")


def read(file: Path) -> Brief:
    """The brief of a file. Raises :class:`HeadwaterError` naming the key that is wrong."""
    return parse(settings.read(file, "a brief", flag="--brief"), str(file))


def parse(raw: Mapping[str, Any], where: str = "brief") -> Brief:
    """The brief of plain values; see :func:`read`.

    >>> parse({"name": "x", "channels": ["sms"], "columns": {"key": "id"}})
    Traceback (most recent call last):
    headwater.errors.HeadwaterError: brief: columns.consent: is missing
    """
    return settings.checked(Brief, raw, "a brief", where)

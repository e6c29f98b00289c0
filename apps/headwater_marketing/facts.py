"""Facts: raw values become exactly what a reader will see, and take the place of placeholders in copy.

A value that is missing, is not what its slot says or contradicts another is refused by row and field, never guessed. Text from
data is shown as data: what a sending system would run (Liquid, Jinja, AMPscript, merge tags, HTML) is broken by a space.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from numbers import Real
from typing import Any
from urllib.parse import urlsplit

from headwater_marketing.addresses import ENDINGS
from headwater_marketing.plan import Fact, Plan, Refused, Slot

#: What exports write for "nothing". In these spellings only: Null and Nan are names people have.
_NOTHING = frozenset(["", "nan", "NaN", "null", "NULL", "none", "None", "N/A", "n/a", "NaT", "undefined", "#N/A", "<NA>"])


@dataclass(frozen=True)
class _Locale:
    thousands: str
    decimal: str
    price: str  # with {sign} and {amount}
    percent: str
    months: tuple[str, ...]
    day: str  # with {day} and {month}
    year: str  # with {date} and {year}


_ENGLISH = tuple("January February March April May June July August September October November December".split())
_GERMAN = tuple("Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split())
_FRENCH = tuple("janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split())

# As CLDR writes them, but with plain spaces: a no-break space is outside GSM-7 and would cut an SMS from 160 characters to 70.
LOCALES: Mapping[str, _Locale] = {
    "en-GB": _Locale(",", ".", "{sign}{amount}", "{amount}%", _ENGLISH, "{day} {month}", "{date} {year}"),
    "en-US": _Locale(",", ".", "{sign}{amount}", "{amount}%", _ENGLISH, "{month} {day}", "{date}, {year}"),
    "en-IE": _Locale(",", ".", "{sign}{amount}", "{amount}%", _ENGLISH, "{day} {month}", "{date} {year}"),
    "de-DE": _Locale(".", ",", "{amount} {sign}", "{amount} %", _GERMAN, "{day}. {month}", "{date} {year}"),
    "fr-FR": _Locale(" ", ",", "{amount} {sign}", "{amount} %", _FRENCH, "{day} {month}", "{date} {year}"),
}
#: Signs and decimals by ISO 4217 code.
CURRENCIES: Mapping[str, tuple[str, int]] = {"GBP": ("£", 2), "USD": ("$", 2), "EUR": ("€", 2), "JPY": ("¥", 0), "CHF": ("CHF", 2)}


@dataclass(frozen=True)
class Style:
    """How figures read: locale, currency, and whether dates name the year.

    >>> Style().price("1299.5"), Style("en-US", "USD").price(20), Style("de-DE", "EUR").price("1.299,50 €")
    ('£1,299.50', '$20', '1.299,50 €')
    >>> Style().percent("20%"), Style("fr-FR").percent(12.5), Style("en-US").date("2026-03-05"), Style(year=True).date("2026-03-05")
    ('20%', '12,5 %', 'March 5', '5 March 2026')
    """

    locale: str = "en-GB"
    currency: str = "GBP"
    year: bool = False

    def price(self, value: Any) -> str:
        """A positive amount; a number, its plain or local spelling, the campaign's own sign or code beside it. ``ValueError``."""
        local, (sign, places) = LOCALES[self.locale], CURRENCIES[self.currency]
        amount = self._number(value, (sign, self.currency), f"a price in {self.currency}", places)
        if not 0 < amount < 10**9:
            raise ValueError("a price is more than 0 and less than a billion; what costs nothing is no price")
        pattern = local.price.replace("{sign}{", "{sign} {") if sign.isalpha() else local.price
        return _template(pattern, sign=sign, amount=self._digits(amount, places))

    def percent(self, value: Any) -> str:
        """1 to 100, at most one decimal: 20, ``"20"`` or ``"20%"``. A share like 0.2 is refused: it could mean either."""
        amount = self._number(value, ("%",), "a percentage", 1)
        if not 1 <= amount <= 100:
            raise ValueError("a percentage is 1 to 100 (20 for 20%, not 0.2)")
        return _template(
            LOCALES[self.locale].percent, amount=self._digits(amount, 1).removesuffix(LOCALES[self.locale].decimal + "0")
        )

    def date(self, value: Any) -> str:
        """A date, or its ISO spelling ``2026-03-05`` (a time behind it is left out)."""
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                raise ValueError(f"expected a date like 2026-03-05; got {value!r}") from None
        if not isinstance(value, date):
            raise ValueError(f"expected a date like 2026-03-05; got {value!r}")
        local = LOCALES[self.locale]
        day = "1er" if self.locale == "fr-FR" and value.day == 1 else str(value.day)
        written = _template(local.day, day=day, month=local.months[value.month - 1])
        return _template(local.year, date=written, year=str(value.year)) if self.year else written

    @property
    def coin(self) -> Decimal:
        """The smallest one."""
        return Decimal(1).scaleb(-CURRENCIES[self.currency][1])

    def amount(self, value: Any) -> Decimal:
        """The number behind a price or percentage that :meth:`price` or :meth:`percent` accepts."""
        sign, _ = CURRENCIES[self.currency]
        return self._number(value, (sign, self.currency, "%"), "a number", 2)

    def _digits(self, amount: Decimal, places: int) -> str:
        local = LOCALES[self.locale]
        whole = f"{amount:,.0f}" if amount == int(amount) else f"{amount:,.{places}f}"
        return whole.translate({ord(","): local.thousands, ord("."): local.decimal})

    def _number(self, value: Any, marks: Sequence[str], what: str, places: int) -> Decimal:
        local = LOCALES[self.locale]
        text = str(value).strip().translate(_BLANKS)
        for mark in marks:
            text = text.removeprefix(mark).removesuffix(mark).strip()
        thousands, comma = re.escape(local.thousands), re.escape(local.decimal)
        if isinstance(value, bool) or not isinstance(value, str | Real | Decimal):
            raise ValueError(f"expected {what}; got {value!r}")
        if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]{1,2})?", text):
            if not re.fullmatch(rf"([0-9]+|[0-9]{{1,3}}({thousands}[0-9]{{3}})+)({comma}[0-9]{{1,2}})?", text):
                raise ValueError(f"expected {what} such as {self._digits(Decimal('1234.5'), 2)}; got {value!r}")
            text = text.replace(local.thousands, "").replace(local.decimal, ".")
        try:
            amount = Decimal(text)
        except InvalidOperation:
            raise ValueError(f"expected {what}; got {value!r}") from None
        if not amount.is_finite() or abs(amount) > 10**12 or amount != round(amount, places):
            raise ValueError(f"expected {what} with at most {places} decimals; got {value!r}")
        return amount


_BLANKS = str.maketrans("\u00a0\u202f\u2009", "   ")


def _template(pattern: str, **values: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], pattern)


# Between these, a space: {{ {% {# {! ${ $!{ #{ <% <# %> *| |* [[ %%, their closers, <tag, %NAME%, @NAME@, #set(, [x,fallback=.
_ACTIVE = re.compile(
    r"(?<=[{])(?=[{%#!])|(?<=[%#}])(?=[}])|(?<=[$#])(?=[{])|(?<=\$)(?=!\{)|(?<=<)(?=[%#@A-Za-z/!?])|(?<=%)(?=[>%])"
    r"|(?<=\*)(?=\|)|(?<=\|)(?=\*)|(?<=\[)(?=\[)|(?<=\])(?=\])|(?<=%)(?=[A-Za-z]\w*%)|(?<=@)(?=[A-Za-z]\w*@)"
    r"|(?<=#)(?=[a-z]+\()|(?<=\[)(?=[\w .]+,\s*fallback\b)"
)


def shown(value: str) -> str:
    """Text from data as data: composed (NFC), blanks collapsed, invisible and control characters gone, nothing a sending system
    would run. What a reader could see stays.

    >>> shown("Kettle  {{ user.name }} 100% [new]"), shown("<b>Tea</b> & $5"), shown("Pay\\u200bPal")
    ('Kettle { { user.name } } 100% [new]', '< b>Tea< /b> & $5', 'PayPal')
    """
    text = " ".join(unicodedata.normalize("NFC", value).split())
    kept = [c for i, c in enumerate(text) if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn") or _joins(text, i)]
    return _ACTIVE.sub(" ", " ".join("".join(kept).split()))


def _joins(text: str, i: int) -> bool:
    """Whether a zero-width joiner or its opposite stands in an emoji or in a script without capitals that is written with it."""
    around = text[i - 1 : i] + text[i + 1 : i + 2]
    shape = ("So", "Sk", "Mn", "Mc", "Lo")
    return text[i] in "\u200c\u200d" and len(around) == 2 and all(unicodedata.category(c) in shape for c in around)


_ADDRESS = re.compile(rf"(?i)\b(?:https?|ftp)\s*:|\bwww\.|[\w-]\.(?:{'|'.join(ENDINGS)})\b")
#: What systems put where they have no name.
_NOBODY = frozenset(
    "deceased unknown anonymous test tester customer client guest user member subscriber friend name firstname none nil null mr"
    " mrs ms miss mx dr sir madam tbc tba na".split()
)


def _person(value: Any, style: Style) -> str:
    text = shown(str(value))
    plain = all(unicodedata.category(c)[0] in "LM" or c in " '’-.\u200c\u200d" for c in text)
    if re.search(r"[a-z]{3}\.$", text):  # "Anna."
        text = text[:-1]
    nobody = text.casefold().translate({ord(c): None for c in " .-_"}) in _NOBODY or re.fullmatch(r"[A-Za-z]\.?", text)
    if not plain or not text[:1].isalpha() or len(text) > 25 or len(text.split()) > 4 or nobody or _ADDRESS.search(text):
        raise ValueError(f"does not look like a person's name: {str(value)[:40]!r}")
    return text


def _words(value: Any, style: Style, most: int = 80) -> str:
    text = shown(str(value))
    if not any(c.isalnum() for c in text):
        raise ValueError(f"expected words; got {str(value)[:40]!r}")
    if len(text) > most:
        raise ValueError(f"{len(text)} characters; at most {most}")
    if _ADDRESS.search(text):
        raise ValueError(f"an address inside a name or phrase: {text[:60]!r}")
    return text


def _phrase(value: Any, style: Style) -> str:
    return _words(value, style, 160)


def _code(value: Any, style: Style) -> str:
    text = str(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,31}", text):
        raise ValueError(f"expected a code of 2 to 32 letters, digits, - and _; got {text[:40]!r}")
    return text


def _url(value: Any, style: Style) -> str:
    text = str(value).strip()
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    named = re.fullmatch(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", host)
    if not named or not re.fullmatch(r"https://[A-Za-z0-9./?&=_~+%#:,-]+", text) or len(text) > 2000 or "%%" in text:
        raise ValueError(f"expected an address like https://shop.example/tea; got {text[:60]!r}")
    return text


_SEEN_AS: Mapping[str, Callable[[Any, Style], str]] = {
    "person": _person,
    "name": _words,
    "text": _phrase,
    "code": _code,
    "url": _url,
    "price": lambda value, style: style.price(value),
    "percent": lambda value, style: style.percent(value),
    "date": lambda value, style: style.date(value),
}


def read_fact(kind: str, value: Any, style: Style) -> str:
    """A value as readers will see it. ``ValueError`` where it is not what its slot's kind says."""
    return _SEEN_AS[kind](value, style)


def plain(value: Any) -> str:
    """A cell as text, empty where it is missing. A whole number is one whatever its type: a table turns 7 into 7.0 where a
    neighbour is missing.

    >>> plain(7.0), plain(" 007 "), plain(float("nan")), plain(7.5)
    ('7', '007', '', '7.5')
    """
    if missing(value):
        return ""
    whole = isinstance(value, float | Decimal) and value == value // 1
    return str(int(value)) if whole else str(value).strip()


def missing(value: Any) -> bool:
    """None, NaN, NaT, an empty cell, or what exports write for one."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, Decimal) and value.is_nan()):
        return True
    return str(value).strip() in _NOTHING


def gather(row: str, slots: Sequence[Slot], values: Mapping[str, Sequence[tuple[str, Any]]], style: Style | None = None) -> Plan:
    """The plan of a row. ``values`` holds, by slot, what each source says as ``(field, value)``.

    Raises :class:`Refused` where a required slot has no value or a bad one, two sources disagree, or price, earlier price and
    percentage contradict each other (slots ``price``, ``was``, ``percent``). An optional slot with a bad value is left out, and
    :attr:`Plan.left_out` says why.

    >>> slots = [Slot("product", "name"), Slot("price", "price"), Slot("first_name", "person", least=0)]
    >>> plan = gather("7", slots, {"product": [("title", "Kettle")], "price": [("price", 25)], "first_name": [("name", "=1+1")]})
    >>> [(f.slot.name, f.text) for f in plan.facts], dict(plan.left_out)
    ([('product', 'Kettle'), ('price', '£25')], {'name': "does not look like a person's name: '=1+1'"})
    """
    style, facts, left_out = style or Style(), [], {}
    raw: dict[str, Any] = {}
    for slot in slots:
        found = [(field, value) for field, value in values.get(slot.name, ()) if not missing(value)]
        if not found and slot.least:
            fields = ", ".join(field for field, _ in values.get(slot.name, ())) or slot.name
            raise Refused("missing", row, fields, f"no value for the {slot.kind} {slot.name!r}, which the copy must state")
        texts: dict[str, str] = {}
        for field, value in found:
            try:
                texts[field] = read_fact(slot.kind, value, style)
            except ValueError as error:
                if slot.least:
                    raise Refused("malformed", row, field, str(error)) from None
                left_out[field] = str(error)
        if len(set(texts.values())) > 1:
            said = ", ".join(f"{field} says {text!r}" for field, text in texts.items())
            raise Refused("conflict", row, ", ".join(texts), f"sources disagree on {slot.name}: {said}")
        for field, text in list(texts.items())[:1]:
            facts.append(Fact(slot, text, field))
            raw[slot.name] = dict(found)[field]
    kept = _agreed(row, facts, raw, style, left_out)
    return Plan(row, tuple(kept), left_out)


def _agreed(row: str, facts: Sequence[Fact], raw: Mapping[str, Any], style: Style, left_out: dict[str, str]) -> Sequence[Fact]:
    """The facts where an earlier price is higher than the price, and the percentage is their difference to the rounding. Of
    optional ones, an earlier price that is no higher is left out."""
    by_name = {fact.slot.name: fact for fact in facts}
    if not {"price", "was"} <= by_name.keys():
        return facts
    price, was, field = style.amount(raw["price"]), style.amount(raw["was"]), by_name["was"].field
    if was <= price:
        words = f"the earlier price {was} is not above the price {price} ({by_name['price'].field})"
        if by_name["was"].slot.least:
            raise Refused("conflict", row, field, words)
        left_out[field] = words
        return [fact for fact in facts if fact.slot.name != "was"]
    if "percent" in by_name:
        share, saved = style.amount(raw["percent"]), 100 * (was - price) / was
        if abs(saved - share) >= 1 and abs(was * (100 - share) / 100 - price) >= style.coin:
            words = f"{raw['percent']} contradicts {field} {was} and {by_name['price'].field} {price}, which make {saved:.1f}"
            raise Refused("conflict", row, by_name["percent"].field, words)
    return facts


_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}([.!?]?)")


def fill(copy: str, plan: Plan) -> str:
    """Copy with every placeholder replaced by its fact, in one pass: what a value holds is never read again. A full stop after a
    value that brings its own is left out, and a phrase that begins a sentence gets its capital. Raises ``ValueError`` for a
    placeholder without a fact, or a brace that is none.

    >>> fill("For you. {a}.", Plan("1", (Fact(Slot("a", "text"), "room for two"),), {}))
    'For you. Room for two.'
    >>> fill("{a} and {b}.", Plan("1", (Fact(Slot("a", "name"), "{b} \\\\1 %s"), Fact(Slot("b", "name"), "Tea & Co.")), {}))
    '{b} \\\\1 %s and Tea & Co.'
    """
    if re.search(r"[{}]", _PLACEHOLDER.sub("", copy)):
        raise ValueError(f"a brace that is no placeholder in {copy!r}")
    facts = {fact.slot.name: fact for fact in plan.facts}

    def value(found: re.Match[str]) -> str:
        if found[1] not in facts:
            raise ValueError(f"no fact for {{{found[1]}}}")
        fact = facts[found[1]]
        begins = fact.slot.kind == "text" and re.search(r"(?:^|[.!?]\s|\n)$", copy[: found.start()])
        text = re.sub(r"^[a-z]+(?![\w'’-])", lambda word: word[0].capitalize(), fact.text) if begins else fact.text
        return text if found[2] == "." and text[-1] in ".!?" else text + found[2]

    return _PLACEHOLDER.sub(value, copy)


def close(text: str, legal: str, between: str = " ") -> str:
    """A text with its legal text behind it."""
    return f"{text}{between}{legal}" if legal else text

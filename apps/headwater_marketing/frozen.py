"""A text of the user's own, and what in it is a fact: figures, prices, dates, codes, addresses, merge tags, names, and whatever
stands in double square brackets. Each becomes a placeholder, and comes back letter by letter.

This reads generously: what is kept without need costs a word that could have been another; what is not kept could be lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from headwater_marketing.addresses import ENDINGS
from headwater_marketing.asks import OWN, PLACEHOLDER, SPOKEN, Ask
from headwater_marketing.codecs import CHARACTERS, COPY
from headwater_marketing.data import stated

LONGEST = 1500  # characters
_MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?"
    r"|dec(?:ember)?)\b"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?\b"
_FIGURE = r"[^\s<>{}()\[\]]*\d(?:[^\s<>{}()\[\]]*[\w%])?(?: ?[ap]\.?m\b\.?)?"
_AMOUNT = r"\d[\d.,]*(?<=\d)"
_OURS = (*SPOKEN, *OWN)
#: What is a fact by its looks, the first that fits; the group's name is what kind.
_FACT = re.compile(
    rf"\[\[(?:(?P<as>{'|'.join(_OURS)}): *)?(?P<marked>[^\[\]]+)\]\]"
    r"|(?P<merge>\{\{.*?\}\}|\{%.*?%\}|\*\|.*?\|\*|%%.*?%%|\(\(.*?\)\)|\$\{[^}]*\}|<[^<>]+>|\{[^{}]*\}|\[[^\[\]]+\])"
    r"|(?P<url>(?i:https?://|www\.)\S*[\w/=}]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    rf"|\b(?:[\w-]+\.)+(?:{'|'.join(ENDINGS)})\b(?:/\S*[\w/=}}])?)"
    rf"|(?P<percent>{_AMOUNT} ?%)"
    rf"|(?P<price>(?:[£$€¥]|\b(?:CHF|EUR|USD|GBP) ){_AMOUNT}|{_AMOUNT} ?(?:[£$€¥]|(?:CHF|EUR|USD|GBP)\b))"
    rf"|(?P<until>(?i:\b{_DAY}(?: of)? {_MONTH}(?:,? \d{{4}}\b)?|\b{_MONTH} {_DAY}(?:,? \d{{4}}\b)?))"
    r"|(?P<code>\b(?=[A-Z0-9-]*[A-Z])(?=[A-Z0-9-]*\d)[A-Z0-9][A-Z0-9-]{2,}\b|(?:(?<=\b[Cc]ode )|(?<=\b[Cc]ode: ))[A-Z][\w-]+)"
    rf"|(?P<figure>{_FIGURE}(?: (?:(?:for|of|in|to|or|and|x|-|–) )?{_FIGURE})*|\b(?:[A-Za-z]\.){{2,}}|\b[A-Z]&[A-Z]\w*)"
    r"|(?P<name>\b[A-ZÀ-ÖØ-Þ][\w'’-]*(?: (?:& )?[A-ZÀ-ÖØ-Þ][\w'’-]*)*)"
    rf"|(?P<strange>[^{re.escape(''.join(CHARACTERS))}]+)"
)
_WEEKDAY = re.compile(r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?")
_BEFORE = re.compile(r"(?i)\b(?:was|were|before|instead of|rather than|usually|down from|previously) (?:just |only )?$")
#: Which placeholders a kind may take besides its own, the first that is free; then fact_1 and so on, and at last what stands for a
#: short phrase.
_PLACES = {
    "marked": ("product", "brand"),
    "phrase": ("feature", "perk"),
    "name": ("product", "brand"),
    "person": ("first_name",),
}
_LAST = (*OWN, "feature", "perk")
#: Kinds whose neighbours are one fact with them, where a dash, or a blank, is all there is between them.
_ALIKE = {"percent", "price", "was", "until", "figure"}
_PRONOUN = re.compile(r"I(?:['’]\w+)?|A")
_GREETING = re.compile(r"(?i)(?:^|[\s\W])(?:hi|hello|hey|dear)(?: again)?,? $")
_OPENERS = {"Hi", "Hello", "Hey", "Thanks", "Yes", "No", "So", "Well", "Now", "Today", "Please", "Welcome", "Psst"}


class Frozen(NamedTuple):
    """A text with placeholders, and what each stands for."""

    text: str
    facts: dict[str, str]

    def filled(self, text: str) -> str:
        """A text with the facts in it.

        >>> frozen("Hi Anna, use TEA20").filled("{first_name}: {code}")
        'Anna: TEA20'
        """
        return PLACEHOLDER.sub(lambda found: self.facts[found[1]], text)

    def ask(self, channel: str | None, part: str | None, voice: str | None, level: str | None) -> Ask:
        """An ask for another text of the same facts, as often each."""
        return Ask(stated(self.text), channel=channel, part=part, voice=voice, level=level)


def frozen(text: str) -> Frozen:
    """The text with placeholders. Raises ``ValueError`` for one of more than 1,500 characters, a mark that does not close, or more
    facts than there are placeholders for.

    >>> frozen("Hi Anna, the Aero Kettle is 20% off with TEA20: £39.50 until 3 May.").text
    'Hi {first_name}, the {product} is {percent} off with {code}: {price} until {until}.'
    >>> frozen("See [[feature:a quiet motor]], %%name%%!").facts
    {'feature': 'a quiet motor', 'fact_1': '%%name%%'}
    """
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters; at most {LONGEST}")
    every, pieces, facts, at = _facts(text), list[str](), dict[str, str](), 0
    known = set(PLACEHOLDER.findall(text))
    for start, end, kind, fact in every:
        own = PLACEHOLDER.fullmatch(fact)
        names = (own[1],) if own and own[1] in _OURS else (kind, *_PLACES.get(kind, ()), *_LAST)
        free = (n for n in names if n in _OURS and n not in facts and (n not in known or fact == f"{{{n}}}"))
        name = next((n for n, said in facts.items() if said == fact), None) or next(free, None)
        if name is None:
            different = len({fact for *_, fact in every})
            raise ValueError(
                f"{different} names, figures and other facts; {len(facts)} of them can be kept in one text, so split it"
            )
        facts[name] = fact
        pieces += [text[at:start], "{" + name + "}"]
        at = end
    pieces.append(text[at:])
    if any(sign in piece for piece in pieces for sign in ("[[", "]]")):
        raise ValueError("a [[mark]] that is empty, or does not close")
    return Frozen("".join(pieces), facts)


def _facts(text: str) -> list[tuple[int, int, str, str]]:
    """(start, end, kind, text) of each fact; "£5-£10" and "Sunday 3 May" are one."""
    found: list[tuple[int, int, str, str]] = []
    for start, end, kind, fact in _seen(text):
        if found:
            first, last, before, said = found[-1]
            marked = fact != text[start:end] or said != text[first:last]  # a mark's brackets are not of its text
            between = text[last:start]
            if not marked and (between in ("", "-", "–") or (between in (" ", " - ", " – ") and {kind, before} <= _ALIKE)):
                found[-1] = (first, end, before, text[first:end])
                continue
        found.append((start, end, kind, fact))
    return found


def _seen(text: str) -> Iterator[tuple[int, int, str, str]]:
    """The facts one by one."""
    words = re.findall(r"[^\W\d_]+", text)
    titled = len(words) > 2 and sum(word[0].islower() for word in words) < len(words) / 4  # A Text Written Like This
    for found in _FACT.finditer(text):
        kind, start = str(found.lastgroup), found.start()
        if kind == "marked":
            phrase = found["marked"][:1].islower()
            yield start, found.end(), found["as"] or ("phrase" if phrase else kind), found["marked"]
            continue
        if kind == "name":
            begins = None if titled else _name_start(text, found)
            if begins is None:
                continue
            start, kind = begins, _kind_of_name(text, begins, found.end())
        elif kind == "merge" and re.search("(?i)f(?:irst)?[_ -]?name", found[0]):
            kind = "person"
        elif kind == "price" and _BEFORE.search(text[:start]):
            kind = "was"
        yield start, found.end(), kind, text[start : found.end()]


def _kind_of_name(text: str, start: int, end: int) -> str:
    name = text[start:end]
    if _GREETING.search(text[:start]) or (start == 0 and text[end : end + 1] == ","):
        return "person"
    return "until" if _WEEKDAY.fullmatch(name) else "figure" if name.isupper() else "name"


def _name_start(text: str, found: re.Match[str]) -> int | None:
    """Where a name among capitals begins: behind what has a capital only because a sentence begins; None for no name. (One word
    that the vocabulary lacks needs no placeholder: it is never made anew.)"""
    words, start = [word for word in re.finditer(r"\S+", found[0]) if not _PRONOUN.fullmatch(word[0])], found.start()
    if start == 0 and text[found.end() : found.end() + 1] == "," and len(words) == 1 and words[0][0] not in _OPENERS:
        return start  # somebody is spoken to
    before = text[:start].rstrip(" \"'“‘(")[-1:]
    first = not (before.isalnum() or (before and before in ",&"))
    if first and words and words[0].start() == 0 and (len(words) == 1 or _ordinary(words[0][0])):
        words = words[1:]
    return start + words[0].start() if words else None


def _ordinary(word: str) -> bool:
    """Whether it is a word of the vocabulary, with or without a capital."""
    return any(form in COPY.number for form in (word, " " + word, word.lower(), " " + word.lower()) if len(form.strip()) > 1)

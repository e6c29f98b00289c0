"""How the facts of a benchmark are said in words, and those of the E2E restaurants by the patterns published with the cleaned data.

Dušek, Howcroft and Rieser, 2019, "Semantic noise matters for neural natural language generation",
https://aclanthology.org/W19-8652; the patterns are those of ``slot_error.py`` in https://github.com/tuetschek/e2e-cleaning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: Words for each value of each slot, as patterns.
Patterns = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Said:
    """What some words say of a fact: a slot, and which of its values (None: whichever, it is a placeholder or a keyword); ``loose``
    words say it only where it is asked for."""

    slot: str
    values: frozenset[str] | None = None
    loose: bool = False


#: What a text says of the closed slots: start, end, and the facts.
Span = tuple[int, int, tuple[Said, ...]]


class Reading(NamedTuple):
    """Words that say some facts, (slot, value) each; an ``open`` one is a value itself, in which nothing else is read."""

    facts: tuple[tuple[str, str], ...]
    pattern: re.Pattern[str]
    loose: bool = False
    open: bool = False


class Match(NamedTuple):
    start: int
    end: int
    reading: Reading


@dataclass(frozen=True, eq=False)
class Phrasing:
    """How a benchmark's facts are said: closed ones by ``patterns``; by ``loose`` ones, which are also said of other things, only
    where the fact is asked for; several at once by ``joint`` patterns. ``names`` are values of open slots that a text may have
    wrongly. With ``nested``, what says one slot may stand inside what says another ("not on Steam or Linux").

    The rest tells a constraint where words may add up to a realisation: behind words that match a key of ``joins``, an ordinary
    token that matches its value might be the end of one; behind a key of ``turns`` a token that is one by itself might be the end
    of another. ``reach`` is how many words it looks back."""

    patterns: Patterns
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    loose: Patterns = field(default_factory=dict)
    joint: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    nested: bool = False
    joins: Mapping[str, str] = field(default_factory=dict)
    turns: Mapping[str, str] = field(default_factory=dict)
    reach: int = 6

    @functools.cached_property
    def readings(self) -> tuple[Reading, ...]:
        """Every pattern, those of ``names`` last."""
        return (*self.closed, *(open_reading(slot, value) for slot, values in self.names.items() for value in values))

    @functools.cached_property
    def closed(self) -> tuple[Reading, ...]:
        """The readings of facts that are said in words."""
        return (
            *_readings(self.patterns),
            *(Reading(facts, whole((pattern,))) for pattern, facts in self.joint.items()),
            *_readings(self.loose, loose=True),
        )

    @functools.cached_property
    def told(self) -> frozenset[tuple[str, str]]:
        """The facts that are said in words."""
        return frozenset(fact for reading in self.closed for fact in reading.facts)

    def asked(self, facts: Mapping[str, Iterable[str]]) -> tuple[Reading, ...]:
        """Every pattern by which a text is read of which these facts are asked, their open values among them."""
        values = sorted(
            {(slot, value) for slot, several in facts.items() for value in several if slot not in self.names} - self.told
        )
        return (*self.readings, *(open_reading(slot, value) for slot, value in values))

    @functools.cached_property
    def at_end(self) -> re.Pattern[str]:
        """Any realisation of several words at the end of a text."""
        every = [p for values in (*self.patterns.values(), *self.loose.values()) for patterns in values.values() for p in patterns]
        several = dict.fromkeys(p for p in (*every, *self.joint) if " " in p)
        return re.compile(rf"\b(?:{'|'.join(several)})$", re.IGNORECASE)

    def outdone(self, match: Match, other: Match) -> bool:
        """Whether another match is longer and takes the words of this one for itself."""
        inside = other.start <= match.start and match.end <= other.end and other.end - other.start > match.end - match.start
        return inside and self.rivals(match.reading, other.reading)

    def rivals(self, reading: Reading, other: Reading) -> bool:
        """Whether the same words cannot say both."""
        return not self.nested or other.open or not {slot for slot, _ in reading.facts}.isdisjoint(slot for slot, _ in other.facts)


def whole(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for any of them, as whole words, whatever their case."""
    return re.compile("|".join(rf"\b{p}" + (r"\b" if p[-2:] not in (r"\)", r"\+") else "") for p in patterns), re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def open_reading(slot: str, value: str) -> Reading:
    """A value as it stands."""
    return Reading(((slot, value),), re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE), open=True)


def _readings(patterns: Patterns, loose: bool = False) -> Iterator[Reading]:
    for slot, values in patterns.items():
        for value, several in values.items():
            yield Reading(((slot, value),), whole(several), loose)


@functools.lru_cache(maxsize=1 << 16)
def spans(text: str, phrasing: Phrasing) -> tuple[Span, ...]:
    """Where a text with placeholders speaks of a closed slot: the longest matches, which hold no placeholder; those that overlap as
    one.

    >>> spans("{name} is a cheap, not family-friendly pub", RESTAURANTS)[1][2]
    (Said(slot='family_friendly', values=frozenset({'no'}), loose=False),)
    """
    found = [
        Match(m.start(), m.end(), reading) for reading in phrasing.closed for m in reading.pattern.finditer(text) if "{" not in m[0]
    ]
    outer = [a for a in found if not any(phrasing.outdone(a, b) for b in found)]
    merged: list[tuple[int, int, dict[str | tuple[str, str], Said]]] = []
    for start, end, reading in sorted(outer, key=lambda match: match[:2]):
        if merged and start < merged[-1][1]:
            begun, last, said = merged.pop()
            merged.append((begun, max(last, end), said))
        else:
            merged.append((start, end, {}))
        said = merged[-1][2]
        for fact in reading.facts:
            slot, value = fact
            key = slot if len(reading.facts) == 1 else fact  # of one fact alone, words may mean this or that value
            old = said.get(key, Said(slot, frozenset(), True))
            said[key] = Said(slot, (old.values or frozenset()) | {value}, old.loose and reading.loose)
    return tuple((start, end, tuple(said.values())) for start, end, said in merged)


# --- E2E -------------------------------------------------------------------------------------------------------------------------

_KIDS = "(?:kids?|child(?:ren)?|famil(?:y|ies)"
_GOOD = "(?:rat(?:ings?|ed)|reviews?|standards?|quality)"
_RATED = r"(?:rat(?:ings?|e[ds]?)|reviews?|standards?|quality)(?: \w+){0,2} (?:as )?"
_FEW = r"(?:ly)?(?:[ -]+\w+){0,2}[ -]+"
_RANGE = r"prices?(?: range)?(?: \w+){0,3} "
_MIDDLE = "(?:moderate|reasonable|ok|average)"
_PRICED = "(?:ly)?[- ]+price[ds]?"
_STARS = {
    n: (rf"(?:{n}|{word})[- ]+stars?", rf"(?:{n}|{word})(?: out)? of (?:5|five)")
    for n, word in ((1, "one"), (3, "three"), (5, "five"))
}

PATTERNS: Patterns = {
    "area": {
        "city centre": ("(?:city|town) cent(?:re|er)", "cent(?:re|er) of (?:the )?(?:city|town)", "in the cent(?:re|er)"),
        "riverside": ("riverside", "(?:near|by|at|close to|along|on|off|beside) the river"),
    },
    "eat_type": {"coffee shop": ("coffee[- ]+shop", "caf[eé]", "coffee"), "pub": ("pub",), "restaurant": ("restaurant",)},
    "family_friendly": {
        "no": (
            r"(?:isn't|not|non|no)[ -]+(?:\w+ ){0,2}(?:child|children|family|kids|kid)[ -]+(?:friendly|orien(?:ta)?ted)",
            "(?:child|children|family|kids|kid)[ -]+unfriendly",
            "adults?[ -]+only",
            "only for adults",
            "(?:no|not) (?:kids|children|famil(?:y|ies))",
            "(?:not|no)(?: good| suitable| friendly| orien(?:ta)?ted| open(?:ed))? (?:at|for|to|with)(?: the)?"
            " (?:kids|children|family|families|all age)",
            rf"{_KIDS}) (?:are|is)(?:n't| not) (?:welcome|allowed|accepted)",
            rf"(?:does not|doesn't) (?:welcome|allow|accept) (?:\w+ ){{0,2}}{_KIDS}|all age)",
            "adult (?:establishment|venue|place|establish)",
        ),
        "yes": (
            "for (?:kids|children|family|families)",
            "family place",
            "place to bring the(?: whole)? family",
            "(?:friendly|suitable|good|orien(?:ta)?ted|open(?:ed)) (?:at|with|to|for)(?: the)"
            "(?:kids?|child(?:ren)?|famil(?:y|ies)?|all age)",
            "(?:child|children|family|kids|kid)[ -]+(?:friendly|orien(?:ta)?ted)",
            f"{_KIDS}) (?:are|is) (?:welcome|allowed|accepted)",
            rf"(?:welcomes?|allows?|accepts?) (?:\w+ ){{0,2}}{_KIDS}|all age)",
        ),
    },
    "food": {
        "Chinese": ("Chinese", "Chines"),
        "English": ("English", "British"),
        **{food: (food,) for food in ("Fast food", "French", "Indian", "Italian", "Japanese")},
    },
    "price_range": {
        "cheap": ("(?:inexpensive|cheap)(?:ly)?", "low[- ]+price[ds]?", "affordabl[ey]", f"{_RANGE}low"),
        "less than £20": (
            "(?:inexpensive|cheap)(?:ly)?",
            "affordabl[ey]",
            "(?:less than|under) £? *20",
            "moderately priced",
            "low[- ]+price[ds]?",
            f"{_RANGE}low",
        ),
        "more than £30": ("(?:more than|over) £? *30", "high[- ]+price[ds]?", "expensive", "not cheap", f"{_RANGE}high"),
        "high": ("high[- ]+price[ds]?", "expensive", f"{_RANGE}high"),
        "moderate": (
            f"{_MIDDLE}{_PRICED}",
            "not cheap",
            "affordable",
            "mid[- ]+(?:range[- ]+)price[ds]?",
            f"{_RANGE}(?:ok|average|moderate|reasonable)",
        ),
        "£20-25": ("£? *20 *(?:[-–]*|to) *25", f"{_MIDDLE}{_PRICED}", f"{_RANGE}(?:ok|average|moderate|reasonable)", "affordable"),
    },
    "rating": {
        "1 out of 5": (*_STARS[1], f"{_RATED}(?:low|bad|poor)", f"(?:low|bad|poor){_FEW}{_GOOD}"),
        "3 out of 5": (*_STARS[3], f"{_RATED}average", f"average{_FEW}{_GOOD}"),
        "5 out of 5": (*_STARS[5], f"{_RATED}high", f"(?:high|excellent|very good|great){_FEW}{_GOOD}"),
        "high": (*_STARS[5], f"{_RATED}high", f"(?:high|excellent|very good|great|well){_FEW}{_GOOD}"),
        "average": (*_STARS[3], f"{_RATED}average", f"(?:average|(?<!very )(?:good|well)){_FEW}{_GOOD}"),
        "low": (
            *_STARS[1],
            f"{_RATED}(?:low|bad|poor)",
            rf"(?:low|bad|poor|does ?n['o]t have good|(?:is)?n['o]t (?:well|good)){_FEW}{_GOOD}",
        ),
    },
}
NAMES = (
    "Alimentum|Aromi|Bibimbap House|Blue Spice|Browns Cambridge|Clowns|Cocum|Cotto|Fitzbillies|Giraffe|Green Man|Loch Fyne"
    "|Midsummer House|Strada|Taste of Cambridge|The Cambridge Blue|The Cricketers|The Dumpling Tree|The Eagle|The Golden Curry"
    "|The Golden Palace|The Mill|The Olive Grove|The Phoenix|The Plough|The Punter|The Rice Boat|The Twenty Two|The Vaults"
    "|The Waterman|The Wrestlers|Travellers Rest Beefeater|Wildwood|Zizzi"
).split("|")
NEAR = (
    "All Bar One|Avalon|Burger King|Café Adriatic|Café Brazil|Café Rouge|Café Sicilia|Clare Hall|Crowne Plaza Hotel"
    "|Express by Holiday Inn|Rainbow Vegetarian Café|Raja Indian Cuisine|Ranch|The Bakers|The Portland Arms|The Rice Boat"
    "|The Six Bells|The Sorrento|Yippee Noodle Bar"
).split("|")
#: Words that realisations begin with, or go on with; those that they end in, besides those that are one word.
_LEADS = (
    r"(?i)\b(?:near|by|at|close|along|on|off|beside|in|cent(?:re|er)|city|town|coffee|isn't|not|non|no|doesn't|does|child(?:ren)?|famil(?:y|ies)"
    r"|kids?|adults?|only|for|place|friendly|suitable|good|orien(?:ta)?ted|open(?:ed)?|welcomes?|allows?|accepts?|fast|low|high|less|under|more"
    r"|over|mid|(?:moderate|reasonable|ok|average)(?:ly)?|prices?|rat(?:ings?|e[ds]?)|reviews?|standards?|quality|bad|poor|poorly|highly"
    r"|excellent|very|great|well|one|three|five|\d)\b"
)
_ENDS = (
    r"(?i)\b(?:food|rat(?:ings?|e[ds]?)|reviews?|standards?|quality|price[ds]?|average|low|high|bad|poor|ok|moderate|reasonable|river"
    r"|cent(?:re|er)|city|town|famil(?:y|ies)|child(?:ren)?|kids?|(?:un)?friendly|orien(?:ta)?ted|only|adults?|welcome|allowed|accepted"
    r"|shop|place|venue|establish(?:ment)?|age|stars?|five)$"
)
_TURNS = r"(?i)\b(?:not|no|non|isn't|doesn't|very|less|more|does)(?: \w+){0,2}$"
RESTAURANTS = Phrasing(PATTERNS, {"name": NAMES, "near": NEAR}, joins={_LEADS: _ENDS}, turns={_TURNS: ""})

"""How the facts of the E2E restaurants are said in words, by the patterns published with the cleaned data.

Dušek, Howcroft and Rieser, 2019, "Semantic noise matters for neural natural language generation",
https://aclanthology.org/W19-8652; the patterns are those of ``slot_error.py`` in https://github.com/tuetschek/e2e-cleaning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

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

PATTERNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
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
#: What a text says of the closed slots: (start, end, ((slot, its possible values), ...)).
Span = tuple[int, int, tuple[tuple[str, frozenset[str]], ...]]


def whole(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for any of them, as whole words, whatever their case."""
    return re.compile("|".join(rf"\b{pattern}\b" for pattern in patterns), re.IGNORECASE)


@functools.cache
def compiled() -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """(slot, value, pattern), the names' own values among them."""
    closed = [(slot, value, whole(patterns)) for slot, values in PATTERNS.items() for value, patterns in values.items()]
    return (
        *closed,
        *((slot, value, whole((re.escape(value),))) for slot, values in (("name", NAMES), ("near", NEAR)) for value in values),
    )


@functools.lru_cache(maxsize=1 << 16)
def spans(text: str) -> tuple[Span, ...]:
    """Where a text with placeholders speaks of a closed slot: the longest matches; those that overlap as one.

    >>> spans("{name} is a cheap, not family-friendly pub")[1][2]
    (('family_friendly', frozenset({'no'})),)
    """
    found = [
        (m.start(), m.end(), slot, value) for slot, value, pattern in compiled() if slot in PATTERNS for m in pattern.finditer(text)
    ]
    outer = [a for a in found if not any(b[0] <= a[0] and a[1] <= b[1] and b[1] - b[0] > a[1] - a[0] for b in found)]
    merged: list[tuple[int, int, dict[str, set[str]]]] = []
    for start, end, slot, value in sorted(outer):
        if merged and start < merged[-1][1]:
            begun, last, read = merged.pop()
            merged.append((begun, max(last, end), read))
        else:
            merged.append((start, end, {}))
        merged[-1][2].setdefault(slot, set()).add(value)
    return tuple((start, end, tuple((slot, frozenset(values)) for slot, values in read.items())) for start, end, read in merged)

"""Other people's pairs of facts and text, with the facts' values replaced by placeholders: E2E (restaurants), ViGGO (video games)
and RNNLG (laptops, televisions, hotels, restaurants).

A pair whose open values cannot all be found in its text, or whose text says a figure that is no fact, teaches nothing right and is
left out; :func:`kept` says how many stay.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater_datasets import card
from headwater_marketing.asks import ACTS, CLOSED, GAME_ACTS, GAME_PLACES, NUMBERED, Ask, Copy
from headwater_marketing.games import GAMES
from headwater_marketing.plan import Kind, Slot
from headwater_marketing.realisations import PATTERNS, RESTAURANTS, Phrasing

RNNLG_CARD = card("rnnlg")
DOMAINS = ("laptop", "tv", "hotel", "restaurant")
_RENAMED = {"eatType": "eat_type", "priceRange": "price_range", "customer rating": "rating", "familyFriendly": "family_friendly"}
_ACTS, _PLACES = frozenset((*ACTS, *GAME_ACTS)), frozenset((*NUMBERED, *GAME_PLACES))
_PROPER = {value.lower(): value for values in PATTERNS.values() for value in values}


@dataclass(frozen=True)
class Pair:
    """A meaning representation, its values and one text for it. ``facts`` are what placeholders stand for; ``phrasing`` how the
    rest is said in words, None where keywords tell it."""

    meaning: str
    ask: Ask
    facts: Mapping[str, str]
    reference: str
    phrasing: Phrasing | None = None

    def copy(self) -> Copy | None:
        """The text with placeholders, None where a value is not found in it."""
        text = delexicalised(self.reference, self.facts)
        return None if text is None else Copy(text, self.ask)


def contents(dataset: Path, name: str) -> bytes:
    """A file below ``HEADWATER_DATA``, as its card knows it. Raises :class:`HeadwaterError` where it is missing or another."""
    with open(dataset / "card.toml", "rb") as f:
        told = tomllib.load(f)
    root = os.environ.get("HEADWATER_DATA")
    path = Path(root or "") / told["fetch"]["local"] / name
    if not root or not path.is_file():
        raise HeadwaterError(
            f"{name} is not here: see {told['source']}, and set HEADWATER_DATA to the folder that holds {told['fetch']['local']}"
        )
    found = path.read_bytes()
    if hashlib.sha256(found).hexdigest() != told["sha256"][name]:
        raise HeadwaterError(f"{path} is not the file this was written for (its sha256 differs)")
    return found


# --- E2E and ViGGO ---------------------------------------------------------------------------------------------------------------


def _bracketed(meaning: str, act: str, places: Mapping[str, Kind]) -> tuple[Ask, dict[str, str]]:
    """``slot[value], slot[value]`` as an ask and the values of its open slots, which are ``places``. A name may be said twice, the
    rest once; a closed slot may have several values, and "?" where it has none."""
    slots, closed, facts = [], [], {}
    for slot, value in re.findall(r"([^,\[\]]+)\[([^\]]*)\]", meaning):
        name = _RENAMED.get(slot.strip(), slot.strip())
        if name in places and value:
            number = f"{name}_2" if name in facts else name
            slots.append(Slot(number, places[name], 1, 2 if number == "name" else 1))
            facts[number] = value
        else:
            closed += [(name, _PROPER.get(one.lower(), one) or "?") for one in value.split(", ")]
    return Ask(tuple(slots), tuple(closed), act), facts


def e2e_meaning(meaning: str) -> tuple[Ask, dict[str, str]]:
    """``name[Cotto], food[French], near[Ranch]`` as an ask and its open values. Where the cleaned data name two places, the
    second is ``name_2``.

    >>> e2e_meaning("name[Cotto], priceRange[cheap]")
    (Ask(slots=(Slot(name='name', kind='name', least=1, most=2),), closed=(('price_range', 'cheap'),), act='inform', ...),
     {'name': 'Cotto'})
    """
    return _bracketed(meaning, "inform", {"name": "name", "near": "name"})


def viggo_meaning(meaning: str) -> tuple[Ask, dict[str, str]]:
    """``suggest(name[Portal 2], genres[puzzle, shooter])`` as an ask and its open values.

    >>> viggo_meaning("request_attribute(esrb[])")
    (Ask(slots=(), closed=(('esrb', '?'),), act='request_attribute', ...), {})
    """
    act, _, rest = meaning.partition("(")
    return _bracketed(rest, act, {"name": "name", **dict.fromkeys(GAME_PLACES, "text")})


@dataclass(frozen=True)
class Table:
    """Two files of pairs, their card, how a meaning is read and phrased, and by which codec."""

    card: Path
    codec: str
    meaning: Callable[[str], tuple[Ask, dict[str, str]]]
    phrasing: Phrasing
    train: str
    valid: str


TABLES = {
    "e2e": Table(card("e2e_nlg"), "e2e", e2e_meaning, RESTAURANTS, "train-fixed_rebuilt.no-ol.csv.gz", "devel-fixed.no-ol.csv"),
    "e2e_original": Table(card("e2e_nlg"), "e2e", e2e_meaning, RESTAURANTS, "trainset_rebuilt.csv.gz", "devset.csv"),
    "viggo": Table(card("viggo"), "viggo", viggo_meaning, GAMES, "viggo-train.csv", "viggo-valid.csv"),
}


@functools.lru_cache(maxsize=4)
def table_pairs(name: str, split: str) -> tuple[Pair, ...]:
    """The pairs of ``e2e`` (cleaned), ``e2e_original`` or ``viggo``, in the order of the file."""
    if name not in TABLES or split not in ("train", "valid"):
        raise HeadwaterError(f"{name} has no split {split!r}; expected train or valid")
    table = TABLES[name]
    raw = contents(table.card, table.train if split == "train" else table.valid)
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    read = functools.cache(table.meaning)  # a meaning has several texts
    return tuple(
        Pair(row["mr"], *read(row["mr"]), " ".join(row["ref"].split()), table.phrasing) for row in csv.DictReader(io.StringIO(text))
    )


# --- RNNLG -----------------------------------------------------------------------------------------------------------------------

_SPECIAL = {"true": "yes", "false": "no", "dont_care": "dontcare", "": "?"}


def rnnlg_meaning(meaning: str) -> tuple[Ask, dict[str, str]]:
    """``inform(name=aspire 3;memory=4 gb)`` as an ask and its open values; a slot's second value is that of ``name_2``.

    >>> rnnlg_meaning("inform(name='tecra';hasusbport=true)")[0].closed
    (('hasusbport', 'yes'),)
    """
    act, _, rest = meaning.lstrip("?").partition("(")
    slots, closed, facts, times = [], [], {}, Counter[str]()
    for entry in filter(None, rest.rstrip(")").split(";")):
        slot, _, raw = entry.partition("=")
        value = raw.strip().strip("'").strip()
        value = _SPECIAL.get(value, value)
        if value in CLOSED.get(slot, ()):
            closed.append((slot, value))
            continue
        times[slot] += 1
        name = f"{slot}_{times[slot]}" if times[slot] > 1 else slot
        slots.append(Slot(name, "text"))
        facts[name] = value
    return Ask(tuple(slots), tuple(closed), act), facts


@functools.lru_cache(maxsize=8)
def rnnlg_pairs(domain: str, split: str) -> tuple[Pair, ...]:
    """The pairs of a domain in the order of the file."""
    if domain not in DOMAINS or split not in ("train", "valid"):
        raise HeadwaterError(f"rnnlg has no {domain!r}, {split!r}; expected one of {', '.join(DOMAINS)}, and train or valid")
    lines = contents(RNNLG_CARD, f"{domain}/{split}.json").decode("utf-8").splitlines()
    rows = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    return tuple(Pair(meaning, *rnnlg_meaning(meaning), reference) for meaning, reference, _ in rows)


_NAMES = {"usb": "USB", "hdmi": "HDMI", "i": "I", "i'm": "I'm", "i'll": "I'll", "i've": "I've", "wifi": "wifi", "ok": "OK"}


def written(text: str) -> str:
    """RNNLG's bare tokens as a person writes them: capitals, no blank before a stop, plurals joined, a full stop at the end.

    >>> written("the {name} is nice . it takes credit card -s , i think")
    'The {name} is nice. It takes credit cards, I think.'
    """
    text = re.sub(r"(?<=\}) -s\b", "", text)
    text = re.sub(r"(ss|sh|ch|x) -s\b", r"\1es", text)
    text = re.sub(r"(\w) -(s|ly)\b", r"\1\2", text)
    text = re.sub(r"\s+([.,!?;:])", r"\1", re.sub(r"\s+('s|n't)\b", r"\1", text))
    text = re.sub(r"\b[a-z']+\b(?!\})", lambda m: _NAMES.get(m[0], m[0]), " ".join(text.split()))
    text = re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)
    return text if text[-1:] in ".!?" else text + "."


def asked(text: str, ask: Ask) -> str:
    """A text whose act asks something ends in a question mark."""
    return text.removesuffix(".") + "?" if ask.act in ("confirm", "select", "request", "reqmore") and text.endswith(".") else text


# --- values to placeholders ------------------------------------------------------------------------------------------------------


def delexicalised(text: str, facts: Mapping[str, str]) -> str | None:
    """Each value's first mention (a name's every one) as its placeholder, longer values first; None where one is not found, or a
    figure or brace is left that is no fact."""
    if "{" in text or "}" in text:
        return None
    marks: dict[str, str] = {}
    for name in sorted(facts, key=lambda name: (-len(facts[name]), name)):
        mark = f"\ue000{chr(0xE100 + len(marks))}\ue001"
        text, found = _pattern(facts[name]).subn(mark, text, count=0 if name == "name" else 1)
        if not found:
            return None
        marks[mark] = name
    for mark, name in marks.items():
        text = text.replace(mark, "{" + name + "}")
    return " ".join(text.split())


@functools.lru_cache(maxsize=8192)
def _pattern(value: str) -> re.Pattern[str]:
    """A value as a text may have it: whatever its case, singular or plural, with or without the blanks between its words."""
    if len(value) == 1 and value.isalpha():  # the eco rating a is no article
        alone = re.escape(value) + r"(?![\w+])"
        return re.compile(
            "|".join([rf"(?<![\w'+]){alone}(?= eco| rating)", *(rf"(?<=rating{w}){alone}" for w in (" ", " of ", " is "))])
        )
    words = [
        re.escape(word[:-1]) + "(?: ?-?s)?" if re.fullmatch(r"[a-z]{3,}s", word) else re.escape(word) for word in value.split()
    ]
    more = "s?" if re.fullmatch(r"[a-z]{5,}", value) else ""  # left behind: {type}s
    return re.compile(r"(?<![\w.+])" + r"[ -]+".join(words) + rf"(?={more}(?![\w+]))", re.IGNORECASE)


def table_items(name: str, split: str) -> tuple[Copy, ...]:
    """The items of E2E or ViGGO that can be learnt from."""
    return _items(table_pairs(name, split), lambda copy: copy.text)


def rnnlg_items(domains: Sequence[str], split: str) -> tuple[Copy, ...]:
    """The items of RNNLG that can be learnt from."""
    pairs = [pair for domain in domains for pair in rnnlg_pairs(domain, split)]
    items = _items(pairs, lambda copy: asked(written(copy.text), copy.ask))
    return tuple(item for item in items if not re.search(r"[0-9]|^Name \{name\} type", item.text))


def _items(pairs: Sequence[Pair], text_of: Callable[[Copy], str]) -> tuple[Copy, ...]:
    found = []
    for pair in pairs:
        known = pair.ask.act in _ACTS and all(s.name in _PLACES for s in pair.ask.slots)
        copy = pair.copy() if known else None
        if copy is not None:
            found.append(Copy(text_of(copy), pair.ask))
    return tuple(found)


def kept(pairs: Sequence[Pair], items: Sequence[Copy]) -> str:
    """How many of some pairs became items.

    >>> kept([], [])
    '0 of 0'
    """
    return f"{len(items)} of {len(pairs)}"

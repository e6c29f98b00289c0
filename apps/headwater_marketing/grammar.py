"""A small grammar: lines with choices, drawn by a hash, counted, or taken at their shortest."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from headwater_marketing.phrases import LEVELS, LINES, VOICES

T = TypeVar("T")
_CHANNELS = ("sms", "push", "email", "ad", "description")
_SLOT = re.compile(r"\{(\w+)\}")


class Dice:
    """Draws from a key: the same key gives the same draws on any machine, whatever else is drawn elsewhere.

    >>> Dice("7/anna").pick("abcdef") == Dice("7/anna").pick("abcdef")
    True
    """

    def __init__(self, key: str) -> None:
        self.key, self.drawn = key, 0

    def real(self) -> float:
        """Uniform in [0, 1)."""
        self.drawn += 1
        digest = hashlib.blake2b(f"{self.key}\x1f{self.drawn}".encode(errors="surrogatepass"), digest_size=7).digest()
        return int.from_bytes(digest, "big") / 2**56

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.real() * len(options))]

    def order(self, options: Iterable[T], weight: Callable[[T], float] = lambda _: 1.0) -> list[T]:
        """Shuffled, heavier ones sooner (Efraimidis and Spirakis 2006, https://doi.org/10.1016/j.ipl.2005.11.003)."""
        keyed = [(math.log(self.real() + 1e-18) / weight(option), i, option) for i, option in enumerate(options)]
        return [option for _, _, option in sorted(keyed, key=lambda item: (-item[0], item[1]))]


#: Text with choices: pieces of plain text, and tuples of alternatives that are such texts again.
Tree = tuple["str | tuple[Tree, ...]", ...]


def parse(text: str) -> Tree:
    """``"(Hi|Hello) {x}"`` -> ``((("Hi",), ("Hello",)), " {x}")``. Raises ``ValueError`` for an unpaired bracket."""
    tree, rest = _sequence(text)
    if rest:
        raise ValueError(f"unpaired bracket in {text!r}")
    return tree


def _sequence(text: str) -> tuple[Tree, str]:
    pieces: list[str | tuple[Tree, ...]] = []
    while text and text[0] not in "|)":
        if text[0] == "(":
            options, text = [], "|" + text[1:]
            while text.startswith("|"):
                option, text = _sequence(text[1:])
                options.append(option)
            if not text.startswith(")"):
                raise ValueError("unpaired bracket")
            pieces.append(tuple(options))
            text = text[1:]
        else:
            plain = re.match(r"[^|()]+", text)
            assert plain is not None
            pieces.append(plain.group())
            text = text[plain.end() :]
    return tuple(pieces), text


def draw(tree: Tree, dice: Dice) -> str:
    """One text."""
    return "".join(piece if isinstance(piece, str) else draw(dice.pick(piece), dice) for piece in tree)


def count(tree: Tree) -> int:
    """How many texts.

    >>> count(parse("(Hi|Hello|Good (day|evening)) {first_name}(|!)"))
    8
    """
    return math.prod(sum(map(count, piece)) for piece in tree if not isinstance(piece, str))


def shortest(tree: Tree, width: Callable[[str], int]) -> str:
    """The text of least width (the sum of its pieces' widths)."""
    return "".join(p if isinstance(p, str) else min((shortest(o, width) for o in p), key=width) for p in tree)


def every(tree: Tree) -> list[str]:
    """All texts."""
    found = [""]
    for piece in tree:
        options = [piece] if isinstance(piece, str) else [text for option in piece for text in every(option)]
        found = [begun + option for begun in found for option in options]
    return found


@dataclass(frozen=True)
class Line:
    """One line: its move, whom and where it serves (empty: all), the slots it states, its text as a tree."""

    name: str
    move: str
    tags: frozenset[str]
    slots: frozenset[str]
    tree: Tree
    text: str

    def serves(self, kinds: Sequence[str], *wanted: str) -> bool:
        mine = self.tags.intersection(kinds)
        return not mine or bool(mine.intersection(wanted))

    def rank(self, voice: str, level: str) -> int:
        """How well it suits: 0 its own voice and level, 1 its voice, 2 it has none, 3 another's."""
        if not self.tags.intersection(VOICES):
            return 2
        if voice not in self.tags:
            return 3
        return 0 if self.serves(LEVELS, level) else 1


@functools.cache
def lines() -> tuple[Line, ...]:
    """Every line of :mod:`headwater_marketing.phrases`, named by move and number."""
    known, found, move = {*VOICES, *LEVELS, *_CHANNELS, "deal"}, [], ""
    for raw in filter(None, map(str.strip, LINES.splitlines())):
        if raw.startswith("= "):
            move, number = raw[2:], 0
            continue
        head, colon, text = raw.partition(": ")
        tags = head.split() if colon and set(head.split()) <= known else []
        text = (text if tags else raw).replace("\\n", "\n").strip()
        number += 1
        found.append(Line(f"{move}.{number}", move, frozenset(tags), frozenset(_SLOT.findall(text)), parse(text), text))
    return tuple(found)


def productions() -> dict[str, tuple[int, int]]:
    """The grammar's size: by move the lines, and the texts they can become."""
    found: dict[str, tuple[int, int]] = {}
    for line in lines():
        number, texts = found.get(line.move, (0, 0))
        found[line.move] = (number + 1, texts + count(line.tree))
    return found

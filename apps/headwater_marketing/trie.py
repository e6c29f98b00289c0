"""Words that may not be said, as an automaton over letters: it walks through tokens, blanks and facts alike, so a banned word is
found wherever its letters fall.

A phrase is found as whole words, whatever stands between its letters (b.e s-t), also stretched (beeest); a final ``*`` allows any
ending. The end of a token counts as the end of a word: that forbids too much rather than too little.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Mask = np.ndarray[Any, np.dtype[np.bool_]]

#: A place inside a phrase: phrase, group of equal letters, how many of them were read.
Place = tuple[int, int, int]
#: The places at once, and whether the last character was a letter or figure.
State = tuple[frozenset[Place], bool]
CLEAR: State = (frozenset(), False)


def plain(text: str) -> str:
    """Lower case without accents.

    >>> plain("Été!")
    'ete!'
    """
    if text.isascii():
        return text.casefold()
    return "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) not in ("Mn", "Me", "Cf")).casefold()


class Trie:
    """An automaton of phrases. ``everywhere`` may not stand even inside or across facts, ``outside`` only not in the words between
    them: to these a fact is a blank.

    >>> trie = Trie(("best",), ("free",))
    >>> [trie.read(CLEAR, t) is None for t in ("the be", "a b.e s t", "beeest", "bestow", "FREE!")]
    [False, True, True, False, True]
    >>> trie.read(trie.read(CLEAR, "be"), "st") is None, trie.fact(CLEAR, "Free") is None
    (True, False)
    """

    def __init__(self, everywhere: Sequence[str], outside: Sequence[str]) -> None:
        self.phrases: list[tuple[tuple[tuple[str, int], ...], bool, bool]] = []
        for phrases, inside in ((everywhere, True), (outside, False)):
            for phrase in phrases:
                letters = [c for c in plain(phrase) if c.isalnum()]
                groups = tuple((letter, len(list(run))) for letter, run in itertools.groupby(letters))
                if groups:
                    self.phrases.append((groups, phrase.rstrip().endswith("*"), inside))
        self.first: dict[str, list[int]] = {}
        for p, (groups, _, _) in enumerate(self.phrases):
            self.first.setdefault(groups[0][0], []).append(p)
        #: How the phrases begin, repeated letters once; words that begin otherwise, or are one letter long, leave no place.
        self.heads = {"".join(letter for letter, _ in groups)[:2] for groups, _, _ in self.phrases}
        self.heads |= {head + c for head in self.heads if len(head) == 1 for c in "abcdefghijklmnopqrstuvwxyz0123456789"}
        self.facts: dict[tuple[State, str], State | None] = {}
        self.rows: dict[int, tuple[tuple[str, ...], dict[State, Row]]] = {}

    def read(self, state: State, text: str) -> State | None:
        """The state after a text of our own, None where a phrase is complete."""
        return self._walk(state, plain(text), only_inside=False)

    def fact(self, state: State, text: str) -> State | None:
        """The state after a fact: phrases that may stand in facts wait until it is over."""
        if (state, text) not in self.facts:
            waiting = frozenset(place for place in state[0] if not self.phrases[place[0]][2])
            read = self._walk((state[0] - waiting, False), plain(text), only_inside=True)  # no letter stands right before a fact
            if len(self.facts) > 50_000:
                self.facts.clear()
            self.facts[state, text] = None if read is None else (read[0] | waiting, False)
        return self.facts[state, text]

    def _walk(self, state: State, text: str, only_inside: bool) -> State | None:
        places, letter = state
        for i, c in enumerate(text):
            if not c.isalnum():
                letter = False
                continue
            moved: set[Place] = set()
            for p, g, n in places:
                groups = self.phrases[p][0]
                least = groups[g][1]
                if c == groups[g][0]:
                    moved.add((p, g, min(n + 1, least + 2)))
                if n in (least, least + 2) and g + 1 < len(groups) and c == groups[g + 1][0]:
                    moved.add((p, g + 1, 1))
            if not letter:
                moved |= {(p, 0, 1) for p in self.first.get(c, ()) if not only_inside or self.phrases[p][2]}
            ends = i + 1 == len(text) or not text[i + 1].isalnum()
            for p, g, n in moved:
                groups, open_, _ = self.phrases[p]
                if g + 1 == len(groups) and n in (groups[g][1], groups[g][1] + 2) and (ends or open_):
                    return None
            places, letter = frozenset(moved), True
        return places, letter

    def row(self, state: State, tokens: tuple[str, ...]) -> Row:
        """What each token leads to from a state, placeholders left out; computed once a state. Only tokens that begin with a letter
        some place waits for, or have none, differ from those of the clear state."""
        _, known = self.rows.setdefault(id(tokens), (tokens, {}))  # a tuple's hash would be counted anew each time
        if state in known:
            return known[state]
        if not state[0]:
            plainly = [(frozenset[Place](), ends) for _, ends in _heads(tokens)]
            row = Row(np.ones(len(tokens), np.bool_), list(plainly), np.zeros(len(tokens), np.int16), [frozenset()])
            changed: Iterable[int] = [n for n, (head, _) in enumerate(_heads(tokens)) if len(head) < 2 or head in self.heads]
        else:
            bare = self.row((frozenset(), state[1]), tokens)
            row = Row(bare.good.copy(), list(bare.after), bare.waits.copy(), list(bare.kinds))
            wanted = {letter for p, g, _ in state[0] for letter, _ in self.phrases[p][0][g : g + 2]}
            changed = itertools.chain.from_iterable(_begins(tokens).get(letter, ()) for letter in (*wanted, ""))
        for n in changed:
            after = CLEAR if "{" in tokens[n] else self.read(state, tokens[n])
            row.good[n], row.after[n] = after is not None, after
            places = frozenset(place for place in after[0] if self.phrases[place[0]][2]) if after else frozenset()
            if places not in row.kinds:
                row.kinds.append(places)
            row.waits[n] = row.kinds.index(places)
        known[state] = row
        return row


@dataclass(frozen=True, eq=False)
class Row:
    """From one state, by token: whether it may follow, the state after it (None where not), and which of ``kinds``, the places
    inside phrases that facts may not go on with, it leaves."""

    good: Mask
    after: list[State | None]
    waits: np.ndarray[Any, np.dtype[np.int16]]
    kinds: list[frozenset[Place]]


@functools.lru_cache(maxsize=8)
def _heads(tokens: tuple[str, ...]) -> list[tuple[str, bool]]:
    """The first two letters of each token, repeated ones once ("" for one of several words or none, which is always read), and
    whether it ends in a letter."""
    found = []
    for token in tokens:
        text = plain(token).strip()
        single = text.isalnum() and text.isascii()
        head = "".join(letter for letter, _ in itertools.groupby(text))[:2] if single else ""
        found.append((head, text[-1:].isalnum() and token[-1:] != " "))
    return found


@functools.lru_cache(maxsize=8)
def _begins(tokens: tuple[str, ...]) -> dict[str, list[int]]:
    """Tokens by their first letter, "" for those without; placeholders left out."""
    found: dict[str, list[int]] = {}
    for n, token in enumerate(tokens):
        if "{" not in token:
            found.setdefault(next((c for c in plain(token) if c.isalnum()), ""), []).append(n)
    return found


@functools.lru_cache(maxsize=128)
def trie(everywhere: tuple[str, ...], outside: tuple[str, ...]) -> Trie:
    """One automaton for each list of phrases."""
    return Trie(everywhere, outside)

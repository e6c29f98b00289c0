"""Bracket atoms spelt in characters, ``[99Tc+5]``, as a finite automaton over the tokens between ``[`` and ``]``.

Isotope, element, chirality, hydrogens, charge and map number, in this order: OpenSMILES 1.0, section 3.1,
http://opensmiles.org/opensmiles.html.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

_ELEMENTS = """
    He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd
    Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac
    Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og * b c n o p s as se si te
""".split()
_CHIRAL = ["", "@", "@@", "@TH1", "@TH2", "@AL1", "@AL2", "@SP1", "@SP2", "@SP3"]
_CHIRAL += [*(f"@TB{n}" for n in range(1, 21)), *(f"@OH{n}" for n in range(1, 31))]

# In these words 1 stands for any digit but 0, and 0 for any digit; in those of elements and chirality a digit is itself.
_NUMBER = ["1", "10", "100"]
_CHARGE = ["", "+", "-", "++", "--", "+1", "-1"]
_MAP = ["", ":0", *(f":{n}" for n in _NUMBER)]
_PARTS = (["", *_NUMBER], [*_ELEMENTS, "H"], _CHIRAL, ["", "H", "H0"], _CHARGE, _MAP, ["]"])
_ELEMENT, _CHIRALITY = 1, 2
_BEGINNINGS = [{word[:end] for word in words for end in range(len(word) + 1)} for words in _PARTS]

Place = tuple[int, str]  # a part and how much of one of its words is written

CLOSED, LOST = 0, 1  # after the closing bracket; after something that begins no atom


class Spelling:
    """The automaton over a vocabulary whose tokens are one or more characters.

    ``start`` is the state after ``[``; ``masks[state]`` says which tokens may come, ``closing[state]`` which comes next on a
    shortest way to the closing bracket (at most three tokens). LOST can be closed at once."""

    start = 2

    def __init__(self, vocabulary: Sequence[str]) -> None:
        found = {frozenset({(len(_PARTS), "")}): CLOSED, frozenset(): LOST, _onward({(0, "")}): self.start}
        todo = list(found)
        self._next: list[dict[int, int]] = [{}, {vocabulary.index("]"): CLOSED}]
        while len(self._next) < len(todo):
            turns = {}
            for token, text in enumerate(vocabulary[1:], 1):
                places = functools.reduce(_read, text, todo[len(self._next)])
                if places and places not in found:
                    found[places] = len(todo)
                    todo.append(places)
                if places:
                    turns[token] = found[places]
            self._next.append(turns)
        self.masks = [np.isin(np.arange(len(vocabulary)), list(turns)) for turns in self._next]
        self.closing = self._shortest()

    def step(self, state: int, token: int) -> int:
        """The state after a token; LOST after one that does not fit."""
        return self._next[state].get(token, LOST)

    def _shortest(self) -> list[int]:
        """The next token of a shortest way to CLOSED, the first in the vocabulary where there are several; 0 at CLOSED itself."""
        closing: dict[int, int] = {CLOSED: 0}
        while len(closing) < len(self._next):
            known = dict(closing)
            for state, turns in enumerate(self._next):
                if state not in known and (way := next((t for t, reached in turns.items() if reached in known), None)):
                    closing[state] = way
        return [closing[state] for state in range(len(self._next))]


def _read(places: frozenset[Place], character: str) -> frozenset[Place]:
    """Where a character leads; nowhere, an empty set, if it fits no word."""
    reached = set()
    for part, written in places:
        if part == len(_PARTS):
            continue
        literal = part in (_ELEMENT, _CHIRALITY) or not character.isdigit()
        for symbol in character if literal else "0" if character == "0" else "01":
            if written + symbol in _BEGINNINGS[part]:
                reached.add((part, written + symbol))
    return _onward(reached)


def _onward(places: set[Place]) -> frozenset[Place]:
    """With the beginnings of the parts that may follow where a word is complete. A hydrogen has no chirality."""
    todo, reached = list(places), set(places)
    while todo:
        part, written = todo.pop()
        if part < len(_PARTS) and written in _PARTS[part]:
            following = (part + (2 if (part, written) == (_ELEMENT, "H") else 1), "")
            if following not in reached:
                reached.add(following)
                todo.append(following)
    done = (len(_PARTS), "")
    return frozenset({done}) if done in reached else frozenset(reached)

"""Aromatic atoms that can be given alternating double bonds, seen to while a SMILES is written: a constraint over the grammar's.

A *way* is one choice of double bonds so far: the set of atoms that have one, as bits of an integer, of which only those atoms are
remembered that may still get bonds. A new aromatic bond is double in some ways and single in others; when an atom can get no more
bonds, the ways that leave it without a double bond it needs, or gave it one it cannot have, are dropped. Tokens that leave no way
would spell what RDKit cannot kekulize, so they are barred; so are those that leave an aromatic atom without two aromatic
neighbours. This is dynamic programming over the frontier of a perfect matching.

It is no promise: where every token is barred (most often after a beginning that was kept) it lets go and only the grammar rules.
Atoms spelt in characters, boron and phosphorus are given the benefit of the doubt.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from headwater.constraints import Mask
from headwater_molecules.codecs import VOCABULARY
from headwater_molecules.grammar import ATOM, BOND, BONDS, DIGITS, LEFT, OPENED, OPENED_BOND, RANK, START, Grammar, State, grammar

# How an atom takes part. PI: it needs a double bond unless one outside of the ring took its p orbital. LONE: it needs one where it
# has two bonds, none where it has three (its lone pair serves). NEVER: its lone pair or charge serves. TIGHT: so it does, and only
# a double bond may lead out of the ring. EITHER: not decided here. UNKNOWN: it may not even be aromatic.
PLAIN, PI, LONE, NEVER, TIGHT, EITHER, UNKNOWN = range(7)

_INDEX = {token: i for i, token in enumerate(VOCABULARY)}
_KIND = dict.fromkeys(BONDS, PLAIN)
for _kind, _atoms in {
    PI: "c [n+] [nH+]",
    LONE: "n [o+]",
    NEVER: "o [nH] [n-] [c-]",
    TIGHT: "s [se]",
    EITHER: "b p",
    UNKNOWN: "* [*:1] [*:2] [*:3] [*:4]",
}.items():
    _KIND |= {_INDEX[atom]: _kind for atom in _atoms.split()}
_SINGLE, _AROMATIC_BOND, _DOUBLE = (RANK[_INDEX[bond]] for bond in "-:=")
_CLOSE, _DOT = _INDEX[")"], _INDEX["."]

# Aromatic atoms with no third bond, which must not hang on an atom outside of the ring.
_IN_RING = [atom for atom, kind in _KIND.items() if kind == TIGHT or (PLAIN < kind < UNKNOWN and BONDS[atom] % 16 < 3)]
_MOST_WAYS = 256  # far more than drugs need (about 20); beyond it lets go

Ways = frozenset[int]


class Written(NamedTuple):
    """A state of the grammar and what is known of the aromatic atoms in it; ``ways`` is empty once it has let go."""

    grammar: State
    kinds: tuple[int, ...] = ()  # of every atom
    ties: tuple[int, ...] = ()  # of every atom, its bonds to atoms that may be aromatic
    ways: Ways = frozenset({0})


class Alternation:
    """See the module. One instance serves any number of rows."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar

    def start(self) -> Written:
        return Written(self._grammar.start())

    def accepts(self, state: Written) -> bool:
        return self._grammar.accepts(state.grammar)

    def step(self, state: Written, token: int) -> Written:
        """Never raises."""
        old = state.grammar
        new = self._grammar.step(old, token)
        kinds, ties, ways = state.kinds, state.ties, state.ways
        atom = old.atom
        if len(new.room) > len(old.room):
            kinds, ties = (*kinds, _KIND.get(token, UNKNOWN)), (*ties, 0)
            if atom >= 0:
                ties, ways = _bonded(kinds, ties, ways, new, atom, new.atom, old.rank)
        other = -1
        if len(new.rings) < len(old.rings):
            _, other, named = next(ring for ring in old.rings if ring not in new.rings)
            if len(new.bonded) > len(old.bonded):
                ties, ways = _bonded(kinds, ties, ways, new, atom, other, max(old.rank, named))
        written = Written(new, kinds, ties, ways)
        for one in {atom, other, new.atom} if ways else ():
            if one >= 0 and kinds[one] != PLAIN and _is_settled(new, one):
                written = _settled(written, one)
            elif one >= 0 and kinds[one] == PI and new.room[one] < 16:
                written = _taken(written, one)
        return written

    def allowed(self, state: Written, remaining: int) -> Mask:
        """bool (117,): what the grammar allows, less what leaves no way, unless nothing else is left."""
        mask = self._grammar.allowed(state.grammar, remaining)
        if not state.ways or state.grammar.mode not in (START, ATOM, BOND, OPENED, OPENED_BOND):
            return mask
        kept = mask.copy()
        self._bar(kept, state)
        return kept if kept.any() else mask

    def _bar(self, mask: Mask, state: Written) -> None:
        now, kinds = state.grammar, state.kinds
        kind = kinds[now.atom] if now.atom >= 0 else UNKNOWN
        aromatic = PLAIN < kind < UNKNOWN
        if now.mode == ATOM or now.mode == BOND:
            for number, opener, _ in now.rings:
                if number < 10 and mask[DIGITS[number]] and (aromatic or PLAIN < kinds[opener] < UNKNOWN):
                    mask[DIGITS[number]] = bool(self.step(state, DIGITS[number]).ways)
        outside = kind == PLAIN or now.rank == _SINGLE
        if not aromatic:
            if outside:
                mask &= _let(outside=True)
            return
        plain, pairing, unpaired = (_suits(state, now.rank, partner) for partner in (PLAIN, PI, NEVER))
        if now.mode not in (ATOM, OPENED):
            mask &= _let(outside, plain, pairing, unpaired)
            return
        single = _suits(state, _SINGLE, digit=True)
        double = _suits(state, _DOUBLE, digit=True) or _suits(state, _DOUBLE, PI, digit=True)
        mask &= _let(outside, plain, pairing, unpaired, single, double, now.mode == OPENED or _suits(state))


@functools.cache
def _let(
    outside: bool,
    plain: bool = True,
    pairing: bool = True,
    unpaired: bool = True,
    single: bool = True,
    double: bool = True,
    leave: bool = True,
) -> Mask:
    """What may follow, as a mask: atoms by how they take part, bonds by order, and what leaves the current atom as it is."""
    mask = np.ones(len(VOCABULARY), dtype=bool)
    for fits, kinds in ((plain, (PLAIN,)), (pairing, (PI, LONE, EITHER, UNKNOWN)), (unpaired, (NEVER, TIGHT))):
        if not fits:
            mask[[atom for atom, kind in _KIND.items() if kind in kinds]] = False
    for bond, rank in RANK.items():
        mask[bond] = single if rank == _SINGLE else double or rank == _AROMATIC_BOND
    mask[[0, _CLOSE, _DOT]] = leave
    if outside:
        mask[_IN_RING] = False
    return mask


@functools.cache
def alternation() -> Alternation:
    """The one that is shared by all."""
    return Alternation(grammar())


def _bonded(
    kinds: tuple[int, ...], ties: tuple[int, ...], ways: Ways, now: State, atom: int, other: int, rank: int
) -> tuple[tuple[int, ...], Ways]:
    """After a bond between two atoms: their ties, and the ways."""
    if not kinds[atom] and not kinds[other]:
        return ties, ways
    pair = ((atom, kinds[other]), (other, kinds[atom]))
    for one, partner in pair:
        if rank != _SINGLE and partner != PLAIN:
            ties = (*ties[:one], ties[one] + 1, *ties[one + 1 :])
        if kinds[one] == TIGHT and (partner == PLAIN or ties[one] > 2) and rank < _DOUBLE:
            ways = frozenset()
    if rank in (0, _AROMATIC_BOND) and not {kinds[atom], kinds[other]} & {PLAIN, NEVER, TIGHT}:
        both = 1 << atom | 1 << other
        ways = ways | {way | both for way in ways if not way & both}
        if len(ways) > _MOST_WAYS:
            ways = frozenset()
    for one in (atom, other):
        bonds_to_come = now.room[one] % 16 + sum(ring[1] == one for ring in now.rings)
        if PLAIN < kinds[one] < UNKNOWN and ties[one] + bonds_to_come < 2:
            ways = frozenset()
    return ties, ways


def _suits(state: Written, rank: int | None = None, partner: int = PLAIN, digit: bool = False) -> bool:
    """Whether ways are left when the current atom, an aromatic one, is bonded to an atom of a kind, or left as it is (None).

    After a ring bond (``digit``) and from a branch it can be bonded once more."""
    now, kinds, ties, ways = state
    atom = now.atom
    kind, room, tied, bit = kinds[atom], now.room[atom], ties[atom], 1 << atom
    if rank is not None:
        room = max(LEFT[room][rank], 0)
        tied += partner != PLAIN and rank != _SINGLE
        if kind == TIGHT and (partner == PLAIN or tied > 2) and rank < _DOUBLE:
            return False
    if kind == PI and room < 16 and all(way & bit for way in ways):
        return False
    awaited = sum(ring[1] == atom for ring in now.rings)
    if awaited or (rank is not None and room % 16 and (digit or atom in now.stack)):
        return tied + room % 16 + awaited >= 2
    if tied < 2 or kind == EITHER:
        return tied >= 2
    if not _needs(kind, room):
        return any(not way & bit for way in ways)
    return (partner == PI and rank in (0, _AROMATIC_BOND)) or any(way & bit for way in ways)


def _needs(kind: int, room: int) -> bool:
    """Whether an atom that gets no more bonds needs a double one in the ring, by the room it has left."""
    return room >= 16 if kind == PI else kind == LONE and room == 1


def _is_settled(now: State, atom: int) -> bool:
    """Whether an atom can get no more bonds."""
    if any(ring[1] == atom for ring in now.rings):
        return False
    return now.room[atom] % 16 == 0 or (atom != now.atom and atom not in now.stack)


def _taken(state: Written, atom: int) -> Written:
    """With an atom whose p orbital is taken by a double bond out of the ring."""
    now, kinds, ties, ways = state
    kinds = (*kinds[:atom], NEVER, *kinds[atom + 1 :])
    return Written(now, kinds, ties, frozenset({way for way in ways if not way >> atom & 1}))


def _settled(state: Written, atom: int) -> Written:
    """Without an atom that can get no more bonds: the ways that suit it, and nothing else to be asked of it."""
    now, kinds, ties, ways = state
    kind, room, bit = kinds[atom], now.room[atom], 1 << atom
    kinds = (*kinds[:atom], PLAIN, *kinds[atom + 1 :])
    if kind != UNKNOWN and ties[atom] < 2:
        ways = frozenset()
    elif kind in (UNKNOWN, EITHER):
        ways = frozenset({way & ~bit for way in ways})
    elif _needs(kind, room):
        ways = frozenset({way ^ bit for way in ways if way & bit})
    else:
        ways = frozenset({way for way in ways if not way & bit})
    return Written(now, kinds, ties, ways)

"""The grammar of SMILES as a :class:`headwater.constraints.Constraint`: every string it lets through can be read as a structure.

It promises what the notation itself demands: brackets hold an atom, brackets, branches and ring bonds that are opened are closed, a
bond leads somewhere, no branch is empty, ``%`` has its two digits, no ring bond joins an atom to itself or to one it is bonded to
already, and the two ends of a ring bond agree. It also counts bonds, so that no atom written without a spelt bracket gets more than
RDKit allows (carbon 4, nitrogen 3, …; an aromatic carbon three, one of which may be double).

It does not promise a molecule: what a bracket atom spelt in characters (``[Pt+2]``) can bear is left to RDKit, and whether aromatic
rings work out to :mod:`headwater_molecules.alternation`. Nor does it promise one piece: ``.`` may come wherever the string could
end, as salts need it (not inside a branch or an open ring: there it only helps a model that has lost its way to write rubbish).
Spellings with too many bonds that RDKit repairs, ``N(=O)=O`` and ``Cl(=O)(=O)=O``, are not made. What a kept beginning breaks it
cannot mend, but it goes on without failing.
SMILES: OpenSMILES 1.0, http://opensmiles.org/opensmiles.html; bonds counted as RDKit's valence model does.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from headwater.constraints import Mask
from headwater_molecules.codecs import VOCABULARY
from headwater_molecules.spelling import CLOSED, Spelling

# What was written last; after ``.`` it is the START again.
START, ATOM, BOND, OPENED, OPENED_BOND, PERCENT, TENS, BRACKET = range(8)

_INDEX = {token: i for i, token in enumerate(VOCABULARY)}
_CARBON, _DOT, _OPEN, _CLOSE, _PERCENT = (_INDEX[t] for t in "C . ( ) %".split())
_BRACKET = _INDEX["["]
DIGITS = tuple(_INDEX[str(d)] for d in range(10))
_VALUE = {token: value for value, token in enumerate(DIGITS)}

# Bonds by rank: of a ring bond's two ends the one that says more counts. Directions are single bonds.
RANK = {_INDEX[b]: r for b, r in {"-": 1, "/": 1, "\\": 1, ":": 2, "=": 3, "#": 4, "$": 5}.items()}
_ORDER = (1, 1, 1, 2, 3, 4)
_QUADRUPLE = 5

# How many bonds an atom bears: their orders are added up, and for an aromatic atom with a free p orbital (+_PI) one double bond
# costs no more than a single one, since it takes the place of the ring's. _ANY is not counted.
_ANY, _PI = 15, 16
_BONDS = {
    **dict.fromkeys("F Cl Br [O-] [H] [2H] [NH3+]".split(), 1),
    **dict.fromkeys("O o [nH] [NH2+] [N-] [n-] [CH-]".split(), 2),
    **dict.fromkeys("N n B b [C@H] [C@@H] [NH+] [O+] [o+] [N@] [N@@] [C-] [c-]".split(), 3),
    **dict.fromkeys("C s [C@] [C@@] [N+] [P+] [B-] [Si] [se]".split(), 4),
    **dict.fromkeys("P p I [P@] [P@@] [S+] [S-]".split(), 5),
    **dict.fromkeys("S [S@] [S@@] [Se] [I-]".split(), 6),
    **dict.fromkeys("[Cl-] [Br-]".split(), 0),
    **dict.fromkeys("c [n+]".split(), 3 + _PI),
    "[nH+]": 2 + _PI,
    **dict.fromkeys("* [*:1] [*:2] [*:3] [*:4] [Na+] [K+]".split(), _ANY),
}
BONDS = {_INDEX[atom]: room for atom, room in _BONDS.items()}


def _spend(room: int, rank: int) -> int:
    """What an atom with ``room`` has left after a bond, -1 where it does not fit."""
    units, pi, order = room % _PI, room // _PI, _ORDER[rank]
    if units == _ANY:
        return room
    if pi and order > 1:
        pi, order = 0, order - 1
    return units - order + _PI * pi if units >= order else -1


LEFT = tuple(tuple(_spend(room, rank) for rank in range(len(_ORDER))) for room in range(2 * _PI))


def _units(room: int, rank: int) -> int:
    """How many single bonds still fit after a bond, -1 where it does not fit itself."""
    return -1 if LEFT[room][rank] < 0 else LEFT[room][rank] % _PI


Ring = tuple[int, int, int]  # number, the atom where it was opened, rank of the bond named there


class State(NamedTuple):
    """Where a string stands. Atoms are numbered as written; -1 is none."""

    mode: int = START
    rank: int = 0  # of the bond written last, which waits for its other end; 0: none is written
    atom: int = -1  # that the next bond starts from
    room: tuple[int, ...] = ()  # of every atom
    stack: tuple[int, ...] = ()  # the atoms that open branches hang on
    rings: tuple[Ring, ...] = ()  # open ring bonds
    bonded: frozenset[tuple[int, int]] = frozenset()  # (earlier, later) atom
    spot: int = 0  # in a bracket, where in its spelling; after %n, n


class Grammar:
    """See the module. One instance serves any number of rows; it holds tables, never a row's state.

    >>> grammar = Grammar()
    >>> state = grammar.start()
    >>> for token in ("C", "1", "C"):
    ...     state = grammar.step(state, VOCABULARY.index(token))
    >>> grammar.accepts(state), bool(grammar.allowed(state, 128)[VOCABULARY.index("1")])  # ring 1 is open; it cannot close here
    (False, False)
    """

    def __init__(self) -> None:
        self._spelling = Spelling(VOCABULARY)
        self._masks: dict[tuple[int, int, int, bool, bool, bool], Mask] = {}

    def start(self) -> State:
        return State()

    def accepts(self, state: State) -> bool:
        return state.mode == ATOM and not state.stack and not state.rings

    # --- which tokens may come ------------------------------------------------------------------------------------

    def allowed(self, state: State, remaining: int) -> Mask:
        """bool (117,), the caller's own. At least one is True, and while ``remaining`` was enough before, each leaves enough. The
        last position is the end's: the codec holds one token less than its space."""
        mask = self._fitting(state)
        # Cheap upper bounds first: one token adds at most 8 (% opens a ring: two digits, then . C % and two digits to close it).
        if remaining > _upper(state) + 9:
            return mask
        for token in np.flatnonzero(mask).tolist():
            if token and not self._closes_within(self.step(state, token), remaining - 2):
                mask[token] = False
        if not mask.any():  # only after a kept beginning too long to be closed: close what can be
            mask[self._closing(state)] = True
        return mask

    def _fitting(self, state: State) -> Mask:
        """What the grammar and the count of bonds allow, however many positions remain."""
        mode, rank, atom, room, stack, rings, _, spot = state
        if mode == BRACKET:
            return self._spelling.masks[spot].copy()
        if mode in (PERCENT, TENS):
            return self._second_digits(state)
        left = room[atom] if atom >= 0 else _ANY
        key = (mode, rank, left, bool(stack), bool(rings), bool(stack) and _roomy(state))
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = _base(*key)
        mask = mask.copy()
        if rings and (mode in (ATOM, BOND)):
            for ring in rings:
                if ring[0] < 10:
                    mask[DIGITS[ring[0]]] = _closes(state, ring)
                elif not mask[_PERCENT]:
                    mask[_PERCENT] = _closes(state, ring)
        if not mask.any():  # a kept beginning leaves no way on: another fragment, or an atom with too many bonds
            mask[_DOT if mode == ATOM else list(BONDS)] = True
        return mask

    def _second_digits(self, state: State) -> Mask:
        """The digits that make a ring number from 10 to 99 which can be opened or closed here."""
        tens = range(1, 10) if state.mode == PERCENT else (state.spot,)
        good = {n for t in tens for n in range(10 * t, 10 * t + 10)} if _opens(state) else set()
        good -= {ring[0] for ring in state.rings}
        good |= {ring[0] for ring in state.rings if ring[0] // 10 in tens and _closes(state, ring)}
        mask = np.zeros(len(VOCABULARY), dtype=bool)
        for number in good or {10 * tens[0]}:
            mask[DIGITS[number // 10 if state.mode == PERCENT else number % 10]] = True
        return mask

    # --- a token comes --------------------------------------------------------------------------------------------

    def step(self, state: State, token: int) -> State:
        """Never raises: a token that does not fit (of a kept beginning) counts for as much as can be made of it."""
        mode, rank, atom, room, stack, rings, bonded, spot = state
        if mode == BRACKET:
            spot = self._spelling.step(spot, token)
            return _attach(state, _ANY) if spot == CLOSED else State(mode, rank, atom, room, stack, rings, bonded, spot)
        if token in BONDS:
            return _attach(state, BONDS[token])
        if token in _VALUE:
            return _digit(state, _VALUE[token])
        if token in RANK:
            new = OPENED_BOND if mode in (OPENED, OPENED_BOND) else BOND
            return State(new, RANK[token], atom, room, stack, rings, bonded)
        if token == _OPEN:
            return State(OPENED, 0, atom, room, (*stack, atom), rings, bonded)
        if token == _CLOSE and stack:
            return State(ATOM if stack[-1] >= 0 else START, 0, stack[-1], room, stack[:-1], rings, bonded)
        if token == _DOT:
            return State(START, 0, -1, room, stack, rings, bonded)
        if token == _PERCENT:
            return State(PERCENT, rank, atom, room, stack, rings, bonded)
        if token == _BRACKET:
            return State(BRACKET, rank, atom, room, stack, rings, bonded, self._spelling.start)
        return state

    # --- the way to the end ---------------------------------------------------------------------------------------

    def _closing(self, state: State) -> int:
        """The next token of one short way to an accepted end: 0 where it is reached.

        Rings are closed where they can be, on carbons added for them where they cannot, then the branches."""
        mode = state.mode
        if mode == BRACKET:
            return self._spelling.closing[state.spot]
        if mode in (PERCENT, TENS):
            fits = self._second_digits(state)
            wanted = [n for n, *_ in state.rings if n > 9 and (mode == PERCENT or n // 10 == state.spot)]
            digits = (DIGITS[n // 10 if mode == PERCENT else n % 10] for n in wanted)
            return next((d for d in digits if fits[d]), int(fits.argmax()))
        if mode in (BOND, ATOM):
            units = state.room[state.atom] % _PI if state.atom >= 0 else 0
            for ring in state.rings if units > 1 or len(state.rings) == 1 else ():
                if _closes(state, ring):
                    return DIGITS[ring[0]] if ring[0] < 10 else _PERCENT
            if mode == ATOM and not (state.rings and units):
                return _CLOSE if state.stack else _DOT if state.rings else 0
        return _CARBON

    def _closes_within(self, state: State, positions: int) -> bool:
        """Whether :meth:`_closing` ends in that many tokens. Exact for what it does; another way may be a token or two shorter."""
        while positions >= _lower(state):
            if positions >= _upper(state):
                return True
            state, positions = self.step(state, self._closing(state)), positions - 1
        return False


@functools.cache
def grammar() -> Grammar:
    """The one that is shared by all."""
    return Grammar()


def _base(mode: int, rank: int, left: int, in_branch: bool, in_ring: bool, roomy: bool) -> Mask:
    """The mask of a kind of state, ring numbers as if none were open. ``left`` is the room of the atom bonds start from.

    An open ring needs atoms to come: while there is one, the current atom must keep room for a bond unless the branches do."""
    mask = np.zeros(len(VOCABULARY), dtype=bool)
    bond = LEFT[left][rank] >= 0
    if mode in (START, BOND, OPENED_BOND) or bond:
        kept = 1 if in_ring and not roomy else 0
        mask[[atom for atom, room in BONDS.items() if (room % _PI if mode == START else _units(room, rank)) >= kept]] = True
        mask[_BRACKET] = True
    if mode in (ATOM, OPENED):
        mask[[token for token, r in RANK.items() if LEFT[left][r] >= 0 and (r != _QUADRUPLE or roomy or not in_ring)]] = True
    if (mode in (ATOM, BOND)) and rank != _QUADRUPLE and _units(left, rank) >= (0 if roomy else 1):
        mask[[*DIGITS, _PERCENT]] = True
    if mode == ATOM:
        mask[_OPEN], mask[_CLOSE], mask[[0, _DOT]] = bond, in_branch, not in_branch and not in_ring
    return mask


def _roomy(state: State) -> bool:
    """Whether an atom that an open branch hangs on has room for a bond (once the branch itself is bonded to it)."""
    waits = state.mode == OPENED or state.mode == OPENED_BOND
    stems = state.stack[:-1] if waits else state.stack
    return any(state.room[a] % _PI for a in stems if a >= 0) or (
        waits and state.atom >= 0 and _units(state.room[state.atom], state.rank) > 0
    )


def _joins(state: State, ring: Ring) -> bool:
    """Whether an open ring bond can be closed on the current atom."""
    atom, (_, opener, named) = state.atom, ring
    if atom < 0 or atom == opener or (min(atom, opener), max(atom, opener)) in state.bonded:
        return False
    rank = max(state.rank, named)
    if min(state.rank, named) not in (0, rank) or LEFT[state.room[atom]][rank] < 0:
        return False
    return named > 0 or LEFT[_refund(state.room[opener])][rank] >= 0


def _opens(state: State) -> bool:
    """Whether a ring bond may start at the current atom."""
    return state.atom >= 0 and _units(state.room[state.atom], state.rank) >= (0 if _roomy(state) else 1)


def _closes(state: State, ring: Ring) -> bool:
    """Whether an open ring bond may end here and leave those still open a way on."""
    if not _joins(state, ring):
        return False
    return len(state.rings) == 1 or _units(state.room[state.atom], max(state.rank, ring[2])) > 0 or _roomy(state)


def _refund(room: int) -> int:
    """The room before a single bond was spent."""
    return room if room == _ANY else room + 1


def _attach(state: State, capacity: int) -> State:
    """A new atom, bonded to the current one where there is one."""
    _, rank, atom, room, stack, rings, bonded, _ = state
    new = len(room)
    if atom < 0:
        return State(ATOM, 0, new, (*room, capacity), stack, rings, bonded)
    left = max(LEFT[room[atom]][rank], 0)
    room = (*room[:atom], left, *room[atom + 1 :], max(LEFT[capacity][rank], 0))
    return State(ATOM, 0, new, room, stack, rings, bonded | {(atom, new)})


def _digit(state: State, value: int) -> State:
    mode, rank, atom, room, stack, rings, bonded, spot = state
    if mode == PERCENT:
        return State(TENS, rank, atom, room, stack, rings, bonded, value)
    if atom < 0:
        return state if mode != TENS else State(START, 0, atom, room, stack, rings, bonded)
    number = 10 * spot + value if mode == TENS else value
    for ring in rings:
        if ring[0] == number:
            return _join(state, ring)
    rank = min(rank, _QUADRUPLE - 1)
    return State(ATOM, 0, atom, _spent(room, atom, rank), stack, (*rings, (number, atom, rank)), bonded)


def _join(state: State, ring: Ring) -> State:
    """Closes a ring bond. One that :func:`_joins` forbids is dropped."""
    _, rank, atom, room, stack, rings, bonded, _ = state
    _, opener, named = ring
    if _joins(state, ring):
        rank = max(rank, named)
        if not named:
            room = (*room[:opener], _refund(room[opener]), *room[opener + 1 :])
            room = _spent(room, opener, rank)
        room, bonded = _spent(room, atom, rank), bonded | {(min(atom, opener), max(atom, opener))}
    return State(ATOM, 0, atom, room, stack, tuple(r for r in rings if r != ring), bonded)


def _spent(room: tuple[int, ...], atom: int, rank: int) -> tuple[int, ...]:
    return (*room[:atom], max(LEFT[room[atom]][rank], 0), *room[atom + 1 :])


# Tokens still needed in each mode beside those that close branches and rings, at least and at most.
_LEAST = (1, 0, 0, 1, 1, 0, 0, 1)
_MOST = (1, 0, 1, 1, 1, 7, 6, 3)


def _lower(state: State) -> int:
    """No end is nearer."""
    return _LEAST[state.mode] + len(state.stack) + len(state.rings)


def _upper(state: State) -> int:
    """An end this near there is: every ring takes at most two tokens beside its number."""
    return _MOST[state.mode] + len(state.stack) + sum(3 if ring[0] < 10 else 5 for ring in state.rings)

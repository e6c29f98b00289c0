"""Constraints: what one row may still become.

A :class:`Constraint` is asked token by token while an item is made from left to right. A :class:`FiniteConstraint` is a finite
automaton given by its tables; it answers those questions too, so one object serves every family over tokens.

What a family promises under a constraint, besides that every item is accepted:

* Autoregressive: each step draws from p(token | past) restricted to the tokens that keep an accepted end within reach. The law is
  the product of these renormalised steps. It is the model conditioned on acceptance, p(x | accepted), exactly where all tokens
  that a step allows are equally likely to end well under the model; in general it is not, since an autoregressive model does not
  know p(accepted | past, token). Exact draws from p(x | accepted) are those unconstrained draws that are accepted.
* Masked diffusion: a step's hidden cells are drawn jointly from the network's factorised prediction conditioned on acceptance, so
  one step is exact conditioning of that product. Over several steps see
  :class:`~headwater.families.masked_diffusion.MaskedDiffusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from headwater.errors import HeadwaterError

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Table = np.ndarray[Any, np.dtype[np.int64]]


class Constraint(Protocol):
    """A language over tokens. Families call it once for each token, in order of position and, inside a position, of stream.

    States are any hashable value. ``allowed`` must keep the end reachable: a token it admits leaves a way to an accepted end in
    the ``remaining`` positions (this one included). Token 0 ends the item (all streams zero at one position).
    """

    def start(self) -> Any: ...

    def allowed(self, state: Any, remaining: int) -> Mask:
        """Which tokens of this stream may come now: a bool array over its vocabulary, at least one True."""
        ...

    def step(self, state: Any, token: int) -> Any:
        """The state after a token."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether an item may end here (asked after its last token)."""
        ...


@dataclass(frozen=True, eq=False)
class FiniteConstraint:
    """A finite automaton over tokens, which is also a :class:`Constraint`.

    ``tables[s][q, v]`` is the state after token v of stream s in state q, or -1 where v is forbidden; one array (states, vocab of
    the stream) for each stream. An item is accepted if walking its cells, streams in order inside each position, ends in a state
    of ``final`` (bool, (states,)). In one stream, token 0 is the end and its column is not read; with more, 0 is a rest and steps
    like any token, unless all streams are 0, which ends the item and steps nothing. Raises ``ValueError`` for tables that do not
    fit together.

    A state of the protocol is (state before this position, state now, stream, whether the position has a token that is not 0).

    >>> even = FiniteConstraint([[[-1, 1, 0], [-1, 0, 1]]], final=[True, False])  # an even number of 1s
    >>> even.allowed(even.step(even.start(), 1), remaining=1).tolist()
    [False, True, False]
    """

    tables: Sequence[Any]
    final: Any
    first: int = 0
    _reach: list[Mask] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", tuple(np.asarray(t, dtype=np.int64) for t in self.tables))
        object.__setattr__(self, "final", np.asarray(self.final, dtype=np.bool_))
        states = len(self.final)
        if self.final.ndim != 1 or not 0 <= self.first < states:
            raise ValueError(f"final: expected one bool for each state, state {self.first} among them; got {self.final.shape}")
        for s, table in enumerate(self.tables):
            if table.ndim != 2 or len(table) != states or table.shape[1] < 2:
                raise ValueError(f"tables[{s}]: expected shape ({states}, vocab); got {table.shape}")
            if table.min() < -1 or table.max() >= states:
                raise ValueError(f"tables[{s}]: expected states from -1 to {states - 1}; got {table.min()} to {table.max()}")

    @property
    def vocabs(self) -> tuple[int, ...]:
        return tuple(t.shape[1] for t in self.tables)

    @cached_property
    def item(self) -> tuple[Table, ...]:
        """The tables with "no position inside an item is all zero" built in. With several streams, a state counts twice: q in a
        position that is silent so far, ``states`` + q in one that is not."""
        if len(self.tables) == 1:
            table = self.tables[0].copy()
            table[:, 0] = -1
            return (table,)
        states, out = len(self.final), []
        for s, table in enumerate(self.tables):
            silent, sounding = table.copy(), table.copy()
            last = s == len(self.tables) - 1
            if not last:
                silent[:, 1:][table[:, 1:] >= 0] += states
                sounding[table >= 0] += states
            else:
                silent[:, 0] = -1
            out.append(np.concatenate([silent, sounding]))
        return tuple(out)

    @cached_property
    def kinds(self) -> tuple[tuple[Table, Table], ...]:
        """Of each stream of ``item``: the state after each kind of token, (states, kinds), -1 where it is forbidden, and which kind
        each token is, (vocab,). Tokens of one kind lead to the same state from every state."""
        found = (np.unique(table, axis=1, return_inverse=True) for table in self.item)
        return tuple((moves, kind.reshape(-1).astype(np.int64)) for moves, kind in found)

    @property
    def extent(self) -> tuple[int, ...]:
        """States of ``item``, then kinds of each stream: what its computation costs."""
        return (len(self.item[0]), *(moves.shape[1] for moves, _ in self.kinds))

    def reach(self, positions: int) -> Mask:
        """(states,) from which an accepted end is at most so many positions away."""
        if not self._reach:
            self._reach.append(self.final)
        while len(self._reach) <= positions:
            if len(self._reach) > 1 and np.array_equal(self._reach[-1], self._reach[-2]):
                return self._reach[-1]
            self._reach.append(self.final | self._before(self._reach[-1], 0)[: len(self.final)])
        return self._reach[positions]

    def _before(self, boundary: Mask, stream: int) -> Mask:
        """States before ``stream`` from which the position's other cells lead to a state of ``boundary``."""
        good = boundary
        for table in reversed(self.item[stream:]):
            good = ((table >= 0) & good[table.clip(min=0)]).any(axis=1)
        return good

    def start(self) -> tuple[int, int, int, bool]:
        return (self.first, self.first, 0, False)

    def allowed(self, state: tuple[int, int, int, bool], remaining: int) -> Mask:
        begun, now, stream, sounding = state
        table = self.item[stream]
        mask = np.zeros(table.shape[1], dtype=np.bool_)
        if now >= 0:
            row = table[now + len(self.final) * sounding]
            mask = (row >= 0) & self._before(self.reach(remaining - 1), stream + 1)[row.clip(min=0)]
        mask[0] |= not sounding and bool(self.final[begun])  # on the way to the end
        return mask

    def step(self, state: tuple[int, int, int, bool], token: int) -> tuple[int, int, int, bool]:
        begun, now, stream, sounding = state
        sounding = sounding or token != 0
        after = int(self.tables[stream][now, token]) if now >= 0 else -1
        if stream < len(self.tables) - 1:
            return (begun, after, stream + 1, sounding)
        return (after, after, 0, False) if sounding else (begun, begun, 0, False)

    def accepts(self, state: tuple[int, int, int, bool]) -> bool:
        return state[0] >= 0 and bool(self.final[state[0]])


def laid_out(constraint: Constraint, vocabs: Sequence[int], length: int, most: int = 4096) -> FiniteConstraint:
    """A constraint as tables, by walking all states that items of at most ``length`` positions reach, breadth first, so that each
    is met where most positions remain. Raises :class:`HeadwaterError` where there are more than ``most``."""
    if isinstance(constraint, FiniteConstraint):
        if constraint.vocabs != tuple(vocabs):
            raise HeadwaterError(f"constraint: made for vocabularies {constraint.vocabs}; the model's are {tuple(vocabs)}")
        return constraint
    begin = (0, False, constraint.start())  # stream, whether the position has a token that is not 0, state
    known, front, moves = {begin: 0}, [begin], []
    for t in range(length):
        for s, vocab in enumerate(vocabs):
            last, met, front = s == len(vocabs) - 1, front, []
            for place in met:
                _, sounding, state = place
                for token in np.flatnonzero(constraint.allowed(state, length - t)[:vocab]).tolist():
                    heard = sounding or token != 0
                    if last and not heard:
                        continue  # that is the end
                    after = (0, False, constraint.step(state, token)) if last else (s + 1, heard, constraint.step(state, token))
                    if after not in known:
                        known[after] = len(known)
                        front.append(after)
                    moves.append((s, known[place], token, known[after]))
            if len(known) > most:
                raise HeadwaterError(f"constraint: more than {most} states; this family needs a constraint with few of them")
    tables = [np.full((len(known), v), -1, dtype=np.int64) for v in vocabs]
    for s, source, token, target in moves:
        tables[s][source, token] = target
    return FiniteConstraint(tables, [stream == 0 and constraint.accepts(state) for stream, _, state in known])


def broken(constraint: Constraint, array: Table) -> str | None:
    """Where tokens (length, streams) leave a constraint's language, None if they stay within."""
    state = constraint.start()
    for t, position in enumerate(array):
        ended = not position.any()
        if ended and not constraint.accepts(state):
            return f"it ends before position {t}, where no end is accepted"
        for s, token in enumerate(position.tolist()):
            allowed = constraint.allowed(state, len(array) - t)
            if not allowed.any():
                return f"nothing at all is allowed at position {t}, stream {s}: allowed() must keep an end reachable"
            if not allowed[token]:
                return f"token {token} at position {t}, stream {s} is not allowed there"
            state = constraint.step(state, token)
        if ended:
            return None
    return None if constraint.accepts(state) else "it is full, and no end is accepted there"

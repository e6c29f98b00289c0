"""A row's text in the making: which ids of a tokenizer may come now, so that what they spell keeps to the constraint.

The constraint speaks of pieces (a word, a fact, a stop); a tokenizer spells one in one id or in several. A walk holds the ids of
the piece that is being spelled. At every id the model itself chooses: to spell on, or to leave a piece that is whole for the next.
So also which fact comes next is the model's own choice among those that may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater_marketing.authors.vocabulary import Spelled, Way
from headwater_marketing.constraint import Stand, Wording
from headwater_marketing.lexicon import LINE, PLACE, START, STOPS

Ids = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
#: A word whose next letters the model is surer of than this is no whole word.
WHOLE = 0.95
_ENDS = frozenset(".!?")


class Walk:
    """One text under one constraint, of at most ``most`` pieces. ``text`` is None until it ends, and "" where it was given up."""

    def __init__(self, codec: Spelled, rule: Wording, most: int, whole: bool = False) -> None:
        self.codec, self.rule, self.most, self.whole = codec, rule, most, whole
        self.state, self.said, self.cut = rule.start(), list[int](), 0
        self.path: tuple[int, ...] = ()
        self.ways: Sequence[Way] = ()
        self.text: str | None = None
        self.length = 0  # in ids
        self.next = self._mask(self.state, most)

    # --- what may come ------------------------------------------------------------------------------------------------------------

    def options(self, letters: float = 0.0) -> Ids:
        """The ids that may come, sorted; none where the text is given up. ``letters`` is the mass on ids that go on a word."""
        depth = len(self.path)
        found = {way.ids[depth] for way in self.ways if len(way.ids) > depth and self._fits(way, depth)}
        done = self._done()
        if done is None and depth:
            return np.array(sorted(found), dtype=np.int64)
        if done is not None:
            after = self.rule.step(self.state, done.token)
            self.after = (after, self._mask(after, self.most - len(self.said) - 1))
            if self.whole and letters > WHOLE and self.codec.tokens[done.token][-1:].isalpha():
                return np.array(sorted(found), dtype=np.int64)
        else:
            self.after = (self.state, self.next)
        state, mask = self.after
        ids = self.codec.first[mask]
        more = [way.ids[0] for stop in STOPS for way in self._closing(state, mask, stop)]
        ends = self.codec.ends if mask[0] else self.codec.ends[:0]
        return np.unique(np.concatenate([ids[ids >= 0], ends, np.array([*found, *more], dtype=np.int64)]))

    @property
    def between(self) -> bool:
        """Whether the next id begins a piece, whatever it is."""
        return all(len(way.ids) == len(self.path) for way in self.ways)

    def _done(self) -> Way | None:
        """The piece that the path spells whole."""
        return next((way for way in self.ways if len(way.ids) == len(self.path)), None)

    def _fits(self, way: Way, depth: int) -> bool:
        """Whether what an id brings along may stand behind its piece."""
        if depth + 1 < len(way.ids) or not (way.stop or way.ends):
            return True
        state, left = self.rule.step(self.state, way.token), self.most - len(self.said) - 1
        if way.stop:
            stop = self.codec.number[way.stop]
            if left < 1 or not self.rule.allowed(state, left)[stop]:
                return False
            state, left = self.rule.step(state, stop), left - 1
        return not way.ends or self._may_end(state, left)

    def _closing(self, state: Stand, mask: Mask, stop: str) -> list[Way]:
        """Ids that are a stop and the end of the text at once."""
        n = self.codec.number[stop]
        if not mask[n] or len(self.codec.ways[n]) < 2:
            return []
        left = self.most - len(self.said) - (self._done() is not None) - 1
        return list(self.codec.ways[n][1:]) if self._may_end(self.rule.step(state, n), left) else []

    def _may_end(self, state: Stand, left: int) -> bool:
        return bool(self.rule.allowed(state, max(left, 1))[0])

    def _mask(self, state: Stand, left: int) -> Mask:
        """What the constraint allows and the tokenizer can spell; a capital only where a sentence begins, and there always."""
        if left < 1:
            mask = np.zeros(len(self.codec.tokens), dtype=np.bool_)
            mask[0] = True
            return mask
        mask = self.rule.allowed(state, left)
        mask[1:] &= self.codec.first[1:] >= 0
        if (
            self.codec.tokens[state.token] == ","
            and (self.rule.ask.channel, self.rule.ask.part) != ("email", "body")
            and mask[1:].any()
        ):
            mask[0] = False
        begins = state.last in (START, LINE) or (state.last != PLACE and self.codec.tokens[state.token] in _ENDS)
        if not state.stopped and (begins or self.rule.ask.part != "headline"):
            kept = mask & ~(self.codec.small if begins else self.codec.titled)
            mask = kept if kept.any() else mask
        if state.last == PLACE:  # two facts side by side are a list, not a sentence
            kept = mask & ~self.codec.facts
            mask = kept if kept.any() else mask
        return mask

    # --- what came ----------------------------------------------------------------------------------------------------------------

    def step(self, chosen: int) -> None:
        """One id on. It is one of :meth:`options`, which was asked just before."""
        depth, self.length = len(self.path), self.length + 1
        on = [way for way in self.ways if len(way.ids) > depth and way.ids[depth] == chosen and self._fits(way, depth)]
        if on:
            self.ways, self.path = on, (*self.path, chosen)
        else:
            state, mask = self.after
            merged = [way for stop in STOPS for way in self._closing(state, mask, stop)]
            done = self._done()
            if done is not None:
                self._commit(done.token)
            if self.text is not None:
                return
            if mask[0] and chosen in self.codec.ends:
                self._finish()
                return
            here = np.flatnonzero(mask & (self.codec.first == chosen)).tolist()
            alone = [way for n in here for way in self.codec.ways[n] if len(way.ids) > 1 or not (way.stop or way.ends)]
            self.ways = [way for way in (*alone, *merged) if way.ids[0] == chosen]
            self.path = (chosen,)
        self._settle()

    def _settle(self) -> None:
        """Take a piece that brings a stop or the end along, or that nothing can lengthen and that is the last there is room for."""
        done = self._done()
        if done is None:
            return
        if done.stop or done.ends:
            self._commit(done.token)
            if done.stop and self.text is None:
                self._commit(self.codec.number[done.stop])
            if done.ends and self.text is None:
                self._finish()
        elif len(self.said) + 1 >= self.most and all(len(way.ids) <= len(self.path) for way in self.ways):
            self._commit(done.token)

    def _commit(self, token: int) -> None:
        self.state = self.rule.step(self.state, token)
        self.said.append(token)
        self.path, self.ways = (), ()
        if self.codec.tokens[token] in _ENDS and self.rule.accepts(self.state):
            self.cut = len(self.said)
        left = self.most - len(self.said)
        if left > 0:
            self.next = self._mask(self.state, left)
        else:  # it has not come to an end: what there is up to the last whole sentence
            whole = self.rule.accepts(self.state) and self._may_end(self.state, 1)
            self.text = "".join(self.codec.tokens[n] for n in (self.said[: self.cut] if self.cut or not whole else self.said))

    def _finish(self) -> None:
        self.text = "".join(self.codec.tokens[n] for n in self.said)

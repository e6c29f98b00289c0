"""A text with gaps: what a model may write that keeps every other word of it where it stands."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headwater.constraints import Mask
from headwater_marketing.codecs import Words
from headwater_marketing.lexicon import LINE, START, STOP, lexicon
from headwater_marketing.validator import weighty

#: Words that make an offer what it is, or turn it into its contrary: they stay, and none comes in.
STAY = re.compile(
    r"(?i)\b(?:no|not|nor|never|without|neither|none|nothing|cannot|[a-z]+n['’]t|one|once|both|pairs?|second|each|every|per|only|except"
    r"|up|from|over|under|within|before|after|between|least|most|more|than|plus|weeks?|months?|years?|now|was|were|instead|usually)\b"
)


class Place(NamedTuple):
    """Where a text stands: at which of its parts, how many words it has of that gap, and its last token."""

    part: int
    words: int
    last: int


class Gaps:
    """A :class:`~headwater.constraints.Constraint`: ``parts`` are tokens that stay and, for a gap, the negative of the most words
    that come there; one at least does, and as many as the model likes before it goes on with what stays. They are words of the
    vocabulary and commas, joined as words are, with a capital only where a sentence begins with one (``capitals``, a gap each): no
    fact, no figure, no claim, and nothing of :data:`STAY`."""

    def __init__(self, codec: Words, parts: Sequence[int], capitals: Sequence[bool]) -> None:
        self.codec, self.parts, self.words = codec, tuple(parts), lexicon(codec)
        gaps = [i for i, part in enumerate(parts) if part < 0]
        self.capital = {gap for gap, capital in zip(gaps, capitals, strict=True) if capital}

    def start(self) -> Place:
        return Place(0, 0, 0)

    def accepts(self, state: Place) -> bool:
        return state.part == len(self.parts) or (state.part == len(self.parts) - 1 and state.words > 0)

    def allowed(self, state: Place, remaining: int) -> Mask:
        mask = np.zeros(len(self.codec.tokens), dtype=np.bool_)
        mask[0] = self.accepts(state) and not self.words.dangling[state.last] and not self.words.commas[state.last]
        if state.part < len(self.parts) and (part := self.parts[state.part]) >= 0:
            mask[part] = True
        elif state.part < len(self.parts):
            after = self.parts[state.part + 1] if state.part + 1 < len(self.parts) else 0
            if state.words < -part and remaining > len(self.parts) - state.part:  # each part takes a token at least
                mask |= self._word(state)
            if state.words and after:
                mask[after] = True
            if not mask.any():  # a first word, or the end of a gap that ends the text
                mask |= self._word(state) if not state.words else np.arange(len(mask)) == 0
        return mask

    def step(self, state: Place, token: int) -> Place:
        if token == 0:
            return state
        if self.parts[state.part] >= 0:
            return Place(state.part + 1, 0, token)
        goes_on = state.words > 0 and self.parts[state.part + 1 : state.part + 2] == (token,)
        return Place(state.part + 2, 0, token) if goes_on else Place(state.part, state.words + 1, token)

    def _word(self, state: Place) -> Mask:
        kind = START if not state.last else int(self.words.kind[state.last])
        first = state.words == 0 and state.part in self.capital
        found: Mask = self.words.after[kind] & _plain(self.codec)[first]
        return found & ~self.words.commas if kind in (START, STOP, LINE) else found


@functools.lru_cache(maxsize=4)
def _plain(codec: Words) -> tuple[Mask, Mask]:
    """The words that may come into a gap: inside a sentence, and at its beginning."""
    words, inside, begins = lexicon(codec), [], []
    for n, token in enumerate(codec.tokens):
        said = token.strip(" ")
        fine = bool(words.usable[n]) and "{" not in token and not weighty(said) and not STAY.search(said) and "\n" not in token
        inside.append(fine and (said == "," or (said[:1].isalpha() and (said[:1].islower() or said == "I"))))
        begins.append(fine and said[:1].isupper())
    return np.array(inside), np.array(begins)

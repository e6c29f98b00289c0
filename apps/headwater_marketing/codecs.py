"""Copy as tokens: words as they are written, each with the blank before it, and every placeholder a token of its own.

A text is the concatenation of its tokens, so nothing is lost; what the vocabulary does not have is spelled in characters.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headwater.domain import Array, Codec
from headwater.spaces import Tokens
from headwater_marketing.asks import GAME_PLACES, PLACEHOLDER, PLACES, Copy
from headwater_marketing.channels import GSM_BASIC
from headwater_marketing.games import GAMES
from headwater_marketing.realisations import RESTAURANTS, Phrasing, Said, spans

if TYPE_CHECKING:
    from headwater.noise import Noise

HERE = Path(__file__).parent / "vocabulary"

_WORD = r"[A-Za-zÀ-ÖØ-öø-ÿ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ÿ]+)*"
PIECE = re.compile(rf" ?\{{[a-z][a-z0-9_]*\}}|\n\n| ?{_WORD}|['’][a-z]+| ?[^\sA-Za-z{{}}]|\s")
# FROZEN: what unknown words are spelled in, in this order.
CHARACTERS = tuple(sorted({*map(chr, range(32, 127)), *GSM_BASIC, *"€–—‘’“”…áíóúêëîïçâôûœšž"} - set("{}\r")))


class Words(Codec[Copy]):
    """Texts as ``Tokens(vocab, length)``: 0 ends, then characters, placeholders with and without a blank before them, and the
    pieces of a vocabulary file in its order, :data:`PIECE` or, with ``phrases``, whole realisations of a closed fact ("less than
    £20") as one.

    ``encode`` raises ``ValueError`` for a character outside the alphabet, an unknown placeholder, or a text that is too long.

    >>> [COPY.tokens[t] for t in COPY.encode(Copy("Hi {first_name}, use {code}."))[:7, 0]]
    ['Hi', ' {first_name}', ',', ' use', ' {code}', '.', '']
    >>> COPY.decode(COPY.encode(Copy("Über-qualität in Ålesund!"))).text
    'Über-qualität in Ålesund!'
    """

    space: Tokens
    draws = False

    def __init__(self, file: Path, places: Sequence[str], length: int, phrases: Phrasing | None = None) -> None:
        self.places, self.phrases = tuple(places), phrases
        both = [blank + "{" + name + "}" for name in places for blank in ("", " ")]
        self.tokens: tuple[str, ...] = ("", *CHARACTERS, *both, *json.loads(file.read_text("utf-8")))
        self.number: Mapping[str, int] = {token: i for i, token in enumerate(self.tokens)}
        self.space = Tokens(vocab=len(self.tokens), length=length)

    @property
    def spelling(self) -> range:
        """The tokens that are single characters."""
        return range(1, 1 + len(CHARACTERS))

    def knows(self, text: str) -> bool:
        """Whether a text needs no word or phrase spelled."""
        return all(piece in self.number for piece in self.pieces(text))

    def _marked(self, text: str) -> list[tuple[int, int]]:
        found = [(start, end) for start, end, _ in spans(text, self.phrases)] if self.phrases else []
        return [(start - (text[start - 1 : start] == " "), end) for start, end in found]

    def pieces(self, text: str) -> list[str]:
        """A text as the pieces it would have in an endless vocabulary."""
        found, at = [], 0
        for start, end in self._marked(text):
            found += [*PIECE.findall(text[at:start]), text[start:end]]
            at = end
        return found + PIECE.findall(text[at:])

    def encode(self, item: Copy) -> Array:
        """int64 ``(length, 1)``."""
        numbers: list[int] = []
        pieces = self.pieces(item.text)
        if "".join(pieces) != item.text:
            raise ValueError(f"a brace that is no placeholder in {item.text[:60]!r}")
        for piece in pieces:
            if piece in self.number:
                numbers.append(self.number[piece])
                continue
            if "{" in piece:
                raise ValueError(f"unknown placeholder {piece.strip()}; known: {', '.join(self.places)}")
            strange = [c for c in piece if c not in self.number]
            if strange:
                raise ValueError(f"the character {strange[0]!r} is outside the alphabet of this codec")
            numbers += [self.number[c] for c in piece]
        if len(numbers) > self.space.length:
            raise ValueError(f"{len(numbers)} tokens; at most {self.space.length}")
        array = np.zeros(self.space.shape, dtype=np.int64)
        array[: len(numbers), 0] = numbers
        return array

    def decode(self, array: Array) -> Copy:
        """The text before the first 0."""
        numbers = np.asarray(array).reshape(-1)
        ends = np.flatnonzero(numbers == 0)
        return Copy("".join(self.tokens[n] for n in numbers[: ends[0] if len(ends) else None]))

    def view(self, item: Copy, noise: Noise) -> Copy:
        """A text of another vocabulary in this one's placeholders: those it does not know become its first, what is too long is
        cut. A text of its own stays as it is."""
        if all(name in self.places for name in PLACEHOLDER.findall(item.text)):
            return item
        text = PLACEHOLDER.sub(lambda found: found[0] if found[1] in self.places else "{" + self.places[0] + "}", item.text)
        return Copy("".join(self.pieces(text)[: self.space.length // 4]), item.ask)  # an unknown piece takes some characters

    def prefix(self, text: str) -> Array:
        array = self.encode(Copy(text))
        return array[: int((array != 0).sum())]

    @functools.cached_property
    def said(self) -> tuple[tuple[Said, ...], ...]:
        """What each token says of facts: a placeholder its own, a phrase what the published patterns read in it."""
        found: list[tuple[Said, ...]] = []
        for token in self.tokens:
            if "{" in token:
                found.append((Said(token.strip()[1:-1]),))
            else:
                found.append(tuple(said for _, _, read in spans(token, self.phrases) for said in read) if self.phrases else ())
        return tuple(found)


def learn(texts: Iterable[str], codec: Words, least: int) -> list[str]:
    """The pieces that stand at least so often in the texts, the most frequent first: the content of a vocabulary file."""
    times = Counter(piece for text in texts for piece in codec.pieces(text) if "{" not in piece)
    kept = [piece for piece, n in times.items() if n >= least and piece not in CHARACTERS]
    return sorted(kept, key=lambda piece: (-times[piece], piece))


COPY = Words(HERE / "copy.json", PLACES, 128)
E2E = Words(HERE / "e2e.json", ("name", "near", "name_2", "near_2"), 96, RESTAURANTS)
VIGGO = Words(HERE / "viggo.json", ("name", *GAME_PLACES), 96, GAMES)
CODECS: Mapping[str, Words] = {"copy": COPY, "e2e": E2E, "viggo": VIGGO}

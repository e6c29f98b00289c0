"""What every token of a codec is to a constraint: how it may join what stands before it, how wide it is, whether it may stand.

Arrays over the vocabulary, computed once for a codec, a way to count or a channel's rules.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headwater_marketing.channels import GSM_BASIC, Rule
from headwater_marketing.codecs import Words

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Widths = np.ndarray[Any, np.dtype[np.int32]]

#: What the last token was. A dash is any sign with a blank before it; behind a pound sign stands a benchmark's figure.
START, WORD, PLACE, STOP, DASH, LINE, POUND = range(7)
STOPS = ".,!?:;"
#: After these an end would cut a sentence.
_DANGLING = frozenset(
    "a an the and or but nor with without for of to at by from in on as than that this these those which who is are was were be has"
    " have had our your its their my just only plus until till via per if so because while when we i you it he she they not"
    " no".split()
)


def kind_of(token: str) -> int:
    """How a token ends; a pound sign counts as a dash.

    >>> [kind_of(t) for t in ("Hi", " {price}", ",", " -", "\\n\\n")] == [WORD, PLACE, STOP, DASH, LINE]
    True
    """
    if "{" in token:
        return PLACE
    if token.strip() == "":
        return LINE
    if token[-1] in STOPS:
        return STOP
    return WORD if token[-1].isalnum() else DASH


class Lexicon:
    """The vocabulary of a codec as arrays. ``kind`` is how a token ends; ``usable`` leaves out figures, signs of money, brackets,
    quotes, letters that only spell, and whatever begins with a blank that is none of a word's."""

    def __init__(self, codec: Words) -> None:
        self.codec, self.tokens = codec, codec.tokens
        self.kind = np.array([kind_of(t) for t in self.tokens], dtype=np.int8)
        self.place = {n: t.strip()[1:-1] for n, t in enumerate(self.tokens) if "{" in t}
        self.blank = np.array([t.startswith(" ") for t in self.tokens])
        phrases = np.array([bool(said) and "{" not in t for t, said in zip(self.tokens, codec.said, strict=True)])
        self.kind[phrases] = WORD  # also "rated M (for Mature)"
        self.usable = phrases | np.array([_usable(n, t, codec) for n, t in enumerate(self.tokens)])
        self.pounds = np.array([t == " £" and codec.phrases is not None for t in self.tokens])
        self.kind[self.pounds], self.usable = POUND, self.usable | self.pounds
        self.figures = phrases & np.array([t[:1].isdecimal() for t in self.tokens])
        self.dangling = np.array([t.strip().lower() in _DANGLING or t.endswith((":", ";")) for t in self.tokens])
        self.dangling |= np.isin(self.kind, (DASH, LINE, POUND))
        self.commas = np.array([t.endswith(",") for t in self.tokens])
        self.dots = np.array([t.startswith(".") for t in self.tokens])
        self.lines = self.kind == LINE
        self.joined = np.array([t == "s" for t in self.tokens])  # a benchmark's {type}s
        self.keywords = {n: k for n, t in enumerate(self.tokens) if (k := _KEYWORDS.get(t.strip().lower().split("-")[0]))}

    @functools.cached_property
    def after(self) -> Mask:
        """(7, vocab): which tokens may follow a token that ends so. A word follows without a blank only where a line begins; a stop
        follows a word or a fact, a figure a pound sign."""
        word = np.isin(self.kind, (WORD, PLACE)) & ~np.array([t[:1] in "'’" for t in self.tokens])
        tail = np.array([t[:1] in "'’" and len(t) > 1 for t in self.tokens])  # 's
        stop, bare, led = (self.kind == STOP) & ~self.blank, word & ~self.blank, self.blank
        after_word = led | stop | tail | self.lines
        rows = {START: bare, WORD: after_word, PLACE: after_word | self.joined, STOP: led | self.lines, DASH: led, LINE: bare}
        rows[POUND] = self.figures
        out: Mask = np.stack([rows[k] & self.usable for k in range(7)])
        return out

    def widths(self, width: Callable[[str], int]) -> Widths:
        """The width of each token's own characters; the placeholder itself counts for nothing."""
        return np.array([sum(map(width, t.split("{")[0])) for t in self.tokens], dtype=np.int32)


_KEYWORDS = {
    word: slot
    for slot, words in {
        "kidsallowed": "child kid kids children",
        "dogsallowed": "dog dogs puppy",
        "hasinternet": "internet wifi",
        "acceptscreditcards": "card cards",
        "isforbusinesscomputing": "business nonbusiness home personal general",
        "hasusbport": "usb",
    }.items()
    for word in words.split()
}  # what RNNLG's scorer counts (resource/detect.pair of https://github.com/shawnwun/RNNLG)


def _usable(number: int, token: str, codec: Words) -> bool:
    if not number or token in (" ", "\t", "\r"):
        return False
    if "{" in token or token.strip() == "":
        return True
    if any(unicodedata.numeric(c, None) is not None or unicodedata.category(c) in ("Sc", "Ps", "Pe", "Pi", "Pf") for c in token):
        return False
    if re.search(r"[%\"@#$*_^~|\\<>/…•`¡¿§¤]", token):
        return False
    return number not in codec.spelling or token in ("A", "I", "s", *STOPS)


@functools.lru_cache(maxsize=8)
def lexicon(codec: Words) -> Lexicon:
    """The lexicon of a codec."""
    return Lexicon(codec)


@functools.lru_cache(maxsize=64)
def widths(codec: Words, width: Callable[[str], int]) -> Widths:
    return lexicon(codec).widths(width)


@functools.lru_cache(maxsize=64)
def permitted(codec: Words, rules: Sequence[Rule], lines: bool, septets_only: bool) -> Mask:
    """Which tokens a part's rules let stand, each looked at alone."""
    words = lexicon(codec)
    good = [all(rule(t.strip(" "), t.strip(" ")) is None for rule in rules) if "{" not in t else True for t in words.tokens]
    mask = np.array(good) & (lines | ~words.lines)
    if septets_only:
        mask &= np.array([all(c in GSM_BASIC for c in t.split("{")[0]) for t in words.tokens])
    return mask

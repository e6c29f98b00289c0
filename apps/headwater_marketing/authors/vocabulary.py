"""The words a language model may say, as a codec for our constraint, and how its tokenizer spells each of them.

By default these are the words of our own grammar, a list of plain words that claim nothing of a product, and those of a brand's
own copy: a model cannot call a desk waterproof, or a reader Sarah. With ``words = "any"`` it may say every word that its tokenizer
holds whole and did not learn first with a capital, as it learns names.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headwater.spaces import Tokens
from headwater_marketing.asks import PLACES
from headwater_marketing.authors.prompt import PARAGRAPH
from headwater_marketing.codecs import HERE, PIECE, Words
from headwater_marketing.grammar import Tree, lines
from headwater_marketing.lexicon import STOPS

Which = Literal["plain", "any"]
LENGTH = 160  # pieces of a text
MOST = 16_384  # words of a tokenizer, the frequent ones first: tables of the constraint grow with them
#: How line ends are told to a model, which writes a text in one line.
LINES = {"\n\n": PARAGRAPH, "\n": PARAGRAPH[:-1]}
_SIGNS = ("\n\n", "\n", *STOPS, " -", " –", " &", "'s", "'ll", "'re", "'ve", "'d", "'t", "'m")
WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ÿ]+)*")
_SMALL = re.compile(r" (?:[a-zß-öø-ÿ]{2,}|a)")


def cased(words: Iterable[str]) -> list[str]:
    """Each word small and with a capital, with and without a blank before it; what has capitals of its own stays as it is."""
    found: dict[str, None] = {}
    for word in words:
        for one in (word, word[:1].upper() + word[1:]):
            found |= {" " + one: None, one: None}
    return list(found)


def covering(tree: Tree) -> list[str]:
    """Texts in which every alternative stands at least once, the others at their first.

    >>> from headwater_marketing.grammar import parse
    >>> covering(parse("(Hi|Hello) there(|!)"))
    ['Hi there', 'Hi there', 'Hello there', 'Hi there', 'Hi there!']
    """
    first = [piece if isinstance(piece, str) else covering(piece[0])[0] for piece in tree]
    found = ["".join(first)]
    for i, piece in enumerate(tree):
        for option in () if isinstance(piece, str) else piece:
            found += ["".join([*first[:i], text, *first[i + 1 :]]) for text in covering(option)]
    return found


@functools.cache
def plain_words() -> tuple[str, ...]:
    """The words of our own grammar and those that claim nothing."""
    ours = (word for line in lines() for text in covering(line.tree) for word in WORD.findall(re.sub(r"\{\w+\}", " ", text)))
    more = (HERE / "plain.txt").read_text("utf-8").split()
    return tuple(dict.fromkeys([*(w if w in ("I",) else w.lower() for w in ours), *more]))


def words_of(texts: Iterable[str]) -> list[str]:
    """The words of a brand's own texts that are written small at least once; so none of its names.

    >>> words_of(["Ask Sarah for {product}, handmade in Leeds."])
    ['for', 'handmade', 'in']
    """
    pieces = {piece.strip() for text in texts for piece in PIECE.findall(text)}
    return sorted(piece for piece in pieces if WORD.fullmatch(piece) and piece[:1].islower())


@dataclass(frozen=True)
class Way:
    """A way to spell a token: the ids; the stop that the last of them brings along ("" none), and whether it ends the text."""

    token: int
    ids: tuple[int, ...]
    stop: str = ""
    ends: bool = False


class Spelled(Words):
    """Pieces that a tokenizer can spell, with every placeholder, as :class:`~headwater_marketing.codecs.Words`.

    ``facts``, ``small`` and ``titled`` say of each token what it is, ``letters`` of each id whether it goes on a word;
    ``ways[token]`` are its spellings as they stand behind a word: those of a fact or a stop also with what the tokenizer merges
    with it. ``ends`` are the ids that end a text: a line end, or the model's own end."""

    def __init__(self, tokenizer: Any, which: Which = "plain", more: Sequence[str] = ()) -> None:
        self.places, self.phrases = PLACES, None
        strings = _strings(tokenizer)
        pieces = [*_SIGNS, *cased([*plain_words(), *more])]
        if which == "any":
            pieces += cased(_whole(strings))
        both = [blank + "{" + name + "}" for name in PLACES for blank in ("", " ")]
        self.tokens = ("", *both, *dict.fromkeys(pieces))
        self.number = {token: i for i, token in enumerate(self.tokens)}
        self.space = Tokens(vocab=len(self.tokens), length=LENGTH)
        self.ends = np.array(
            sorted({i for i, s in enumerate(strings) if s.startswith(("\n", "\r\n"))} | _ends(tokenizer)), dtype=np.int64
        )
        self.ways = self._spell(tokenizer, strings)
        self.first = self._first()
        self.titled = np.array([t.strip()[:1].isupper() and t.strip() not in _CAPITALS for t in self.tokens])
        self.small = np.array([t.strip()[:1].islower() for t in self.tokens])
        self.facts = np.array(["{" in t for t in self.tokens])
        self.letters = np.array([s[:1].isalpha() for s in strings])

    @property
    def spelling(self) -> range:
        """None of its tokens are mere characters."""
        return range(0)

    def _spell(self, tokenizer: Any, strings: Sequence[str]) -> tuple[tuple[Way, ...], ...]:
        words = ["a", *("a" + self._behind(token) for token in self.tokens[1:])]
        anchor, *spelt = tokenizer(words, add_special_tokens=False)["input_ids"]
        unknown = getattr(tokenizer, "unk_token_id", None)
        alone = {s: i for i, s in reversed(list(enumerate(strings)))}
        closers = _merged(strings, "}", STOPS)
        stopped = {stop: _merged(strings, stop, "") for stop in STOPS}
        found: list[tuple[Way, ...]] = [()]
        for n, ids in enumerate(spelt, 1):
            own = tuple(ids[len(anchor) :]) if ids[: len(anchor)] == anchor else ()
            if not own and (whole := self._behind(self.tokens[n])) in alone:  # the tokenizer merged it with what stood before
                own = (alone[whole],)
            if not own or unknown in own:
                found.append(())  # cannot be said
                continue
            ways = [Way(n, own)]
            if "{" in self.tokens[n] and strings[own[-1]] == "}":
                ways += [Way(n, (*own[:-1], i), stop, ends) for i, stop, ends in closers]
            if self.tokens[n] in stopped and len(own) == 1:
                ways += [Way(n, (i,), "", ends) for i, _, ends in stopped[self.tokens[n]]]
            found.append(tuple(ways))
        return tuple(found)

    def _behind(self, token: str) -> str:
        """A token as it is told: at the beginning of a line with the blank that the model sees there."""
        if token in LINES:
            return LINES[token]
        bare = WORD.match(token) or token.startswith("{")
        return " " + token if bare else token

    def _first(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(vocab,) the first id of each token's plain spelling, -1 where it has none."""
        return np.array([ways[0].ids[0] if ways else -1 for ways in self.ways], dtype=np.int64)


_CAPITALS = frozenset(["I", "I'm", "I'll", "I've", "I'd"])


def _strings(tokenizer: Any) -> list[str]:
    """What each id adds to a text."""
    before = tokenizer("a", add_special_tokens=False)["input_ids"]
    begun = len(tokenizer.decode(before))
    every = tokenizer.batch_decode([[*before, i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    special = set(tokenizer.all_special_ids)
    return ["" if i in special else text[begun:] for i, text in enumerate(every)]


def _ends(tokenizer: Any) -> set[int]:
    return {i for i in (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")) if i is not None}


def _merged(strings: Sequence[str], begin: str, stops: str) -> list[tuple[int, str, bool]]:
    """Ids that are more than ``begin``: with a stop behind it, a line end, or both."""
    pattern = re.compile(re.escape(begin) + (f"([{re.escape(stops)}]?)" if stops else "()") + r"((?:\r?\n)*)")
    matches = ((i, pattern.fullmatch(s)) for i, s in enumerate(strings) if s.startswith(begin) and s != begin)
    return [(i, m[1], bool(m[2])) for i, m in matches if m]


def _whole(strings: Sequence[str]) -> list[str]:
    """Small words that the tokenizer has as one, and did not learn first with a capital; the frequent ones first."""
    at = {s: i for i, s in reversed(list(enumerate(strings)))}
    found = [s for s in strings if _SMALL.fullmatch(s) and at[s] < at.get(s.title(), len(strings))]
    return [s.strip() for s in found[:MOST]]

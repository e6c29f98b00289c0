"""Drafts of a text with some words made anew, its facts kept: by a model that writes through gaps, or by one that fills them."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headwater.constraints import broken
from headwater_marketing import asks
from headwater_marketing.asks import PLACEHOLDER, Copy
from headwater_marketing.codecs import Words
from headwater_marketing.gaps import STAY, Gaps
from headwater_marketing.validator import weighty
from headwater_marketing.writing import LEAST, TWICE

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise
    from headwater_marketing.pipelines.rewrite import RewriteOptions, Row

#: Facts that the words beside them belong to ("was £60", "3 years", "until Monday").
_BOUND = {"price", "was", "percent", "until", "code", *asks.OWN}
#: So many words more than it had may come into a gap; and so many more or fewer do, where that is said beforehand.
_MORE, _ABOUT = 6, (0, -1, 0, 1, 2)
#: A word to stand in a gap until it is filled.
_ANY = " the"
_PART = 4  # of the share of words asked for, a quarter at least is new
#: A text whose log-likelihood a token is below this, in nats, is none of the kind that the model knows.
FAMILIAR = -4.5


class Asked(NamedTuple):
    """A draft to make: whose text, the runs of its pieces that are made anew, and what they are drawn by."""

    judge: Judge
    runs: Sequence[Sequence[int]]
    key: Noise


class Draft(NamedTuple):
    text: str
    nats: float  # its log-likelihood a token; where gaps were filled, that of the tokens there


def know(model: Generator, judges: Sequence[Judge], seed: int) -> None:
    """Tell the judges how likely the model finds the texts as they are, and which are unlike what it knows."""
    readable = [judge for judge in judges if judge.why_not is None]
    if not readable:
        return
    if model.exact:
        whole = [Asked(judge, [], judge.key) for judge in readable]
        for judge, (told, least) in zip(readable, _written(model, whole, seed, 1.0), strict=True):
            judge.nats, judge.lowest = told.nats, least
    else:
        items, ids = [Copy(judge.was) for judge in readable], [judge.key.fold("score").number() for judge in readable]
        found = model.score(items, seed=seed, ids=ids, wishes=[judge.row.wish for judge in readable])
        for judge, item, value in zip(readable, items, found.value.tolist(), strict=True):
            judge.nats = value / _size(model, item)
    for judge in readable:
        if judge.nats < FAMILIAR:
            judge.why_not = f"it is unlike the copy that the model knows ({-judge.nats:.1f} nats a word; {-FAMILIAR:g} at most)"


def drafts(model: Generator, asked: Sequence[Asked], seed: int, boldness: float) -> list[Draft | None]:
    """A draft for each that is asked for; None where it is not what its judge lets pass, or has a word that the model finds far
    fetched (where the text as it stands has none less likely)."""
    made: list[Draft | None]
    if model.exact:
        written = zip(asked, _written(model, asked, seed, boldness), strict=True)
        made = [draft if least >= min(LEAST, judge.lowest) else None for (judge, *_), (draft, least) in written]
    else:
        made = _filled(model, asked, seed, boldness)
    passed = zip(asked, made, strict=True)
    return [draft if draft is not None and judge.passes(draft.text) else None for (judge, *_), draft in passed]


def _written(model: Generator, asked: Sequence[Asked], seed: int, boldness: float) -> list[tuple[Draft, float]]:
    """By a model that writes token after token, under a constraint that leaves it the gaps; with the least likely token of each."""
    made = model.sample(
        len(asked),
        seed=seed,
        ids=[key.number() for *_, key in asked],
        wishes=[judge.row.wish for judge, *_ in asked],
        constraints=[judge.gapped(runs) for judge, runs, _ in asked],
        temperature=boldness,
        likelihood=True,
    )
    told = zip(made.items, made.extra["log_likelihood"], made.extra["least_likely"], strict=True)
    return [(Draft(item.text, score / _size(model, item)), least) for item, score, least in told]


def _filled(model: Generator, asked: Sequence[Asked], seed: int, boldness: float) -> list[Draft | None]:
    """By a model that fills gaps of told lengths, seeing what stands on both sides; None where a gap has what may not come there,
    or a word that the model finds far fetched."""
    blanked = [judge.blanked(runs, key) for judge, runs, key in asked]
    mask = np.ones((len(asked), *model.codec.space.shape), dtype=np.bool_)
    for i, (_, stay) in enumerate(blanked):
        mask[i, : len(stay), 0] = stay
    made = model.infill(
        [copy for copy, _ in blanked],
        mask,
        lengths=[len(stay) for _, stay in blanked],
        seed=seed,
        ids=[key.number() for *_, key in asked],
        wishes=[judge.row.wish for judge, *_ in asked],
        temperature=boldness,
    )
    told = zip(made.items, made.extra["log_likelihood"], made.extra["least_likely"], strict=True)
    return [
        Draft(item.text, score / stay.count(False))
        if least >= LEAST and broken(judge.gapped(runs), model.codec.encode(item)) is None
        else None
        for (judge, runs, _), (_, stay), (item, score, least) in zip(asked, blanked, told, strict=True)
    ]


def _size(model: Generator, copy: Copy) -> int:
    """Its tokens and its end."""
    return 1 + int((model.codec.encode(copy) != 0).sum())


class Judge:
    """What may become of one text. ``free`` says of each of its pieces whether it may change, ``why_not`` why none may, ``nats``
    and ``lowest`` how likely the text is as it stands, a token, and its least likely one; ``key`` is that of its row."""

    nats = lowest = 0.0

    def __init__(self, row: Row, codec: Words, options: RewriteOptions, key: Noise) -> None:
        self.row, self.was, self.held, self.key = row, row.held.text, row.held, key
        self.codec, self.least = codec, options.amount / _PART
        size = len(row.held.filled(self.was))
        self.longest = options.longest or max(size * 6 // 5, size + 10)
        self.pieces = [] if row.problem else codec.pieces(self.was)
        ends = np.cumsum([len(piece) for piece in self.pieces]).tolist()
        still = [*weighty(self.was), *(match.span() for match in STAY.finditer(self.was))]
        self.free = [
            self._may_change(i) and not any(a < end and b > end - len(piece.strip()) for a, b in still)
            for i, (piece, end) in enumerate(zip(self.pieces, ends, strict=True))
        ]
        facts = len(row.held.filled("".join("{" + name + "}" for name in PLACEHOLDER.findall(self.was))))
        self.why_not = row.problem
        if not row.problem and not any(self.free):
            self.why_not = (
                "no word of it may change: facts, claims, words beside a figure, and words that the vocabulary lacks stay"
            )
        elif not row.problem and facts > self.longest:
            self.why_not = f"its facts alone are {facts} characters; --longest is {self.longest}"

    def _may_change(self, i: int) -> bool:
        """Whether a piece is a word of the vocabulary, stands behind no opening sign and beside no fact that it belongs to."""
        piece, before, after = self.pieces[i], *(self.pieces[k] if 0 <= k < len(self.pieces) else "" for k in (i - 1, i + 1))
        word = piece.strip(" ")
        near = {name for name in PLACEHOLDER.findall(before + after) if name in _BOUND}
        return (
            piece in self.codec.number
            and word.isalpha()
            and (len(word) > 1 or word in "aAI")
            and not near
            and before[-1:] not in ("(", "[", '"', "“", "‘", "'", "¡", "¿")
        )

    def passes(self, text: str) -> bool:
        """Whether it says enough other words, no other facts, claims or negations, is written as texts are, and short enough."""
        return (
            text != self.was
            and new(self.was, text) >= self.least
            and PLACEHOLDER.findall(text) == PLACEHOLDER.findall(self.was)
            and _said(text) == _said(self.was)
            and _sentences(text) == _sentences(self.was)
            and set(TWICE.findall(text.lower())) <= set(TWICE.findall(self.was.lower()))
            and len(self.held.filled(text)) <= self.longest
        )

    def hide(self, key: Noise, amount: float) -> Asked:
        """Whole runs of words that may change, up to a share of those words, but one at least."""
        runs = [list(run) for free, run in itertools.groupby(range(len(self.free)), key=self.free.__getitem__) if free]
        most, hidden = max(1.0, amount * sum(self.free)), list[list[int]]()
        for r in np.argsort(key.uniform(len(runs))[0].numpy(), kind="stable").tolist():
            if not hidden or sum(map(len, hidden)) + len(runs[r]) <= most:
                hidden.append(runs[r])
        return Asked(self, hidden, key)

    def gapped(self, runs: Sequence[Sequence[int]]) -> Gaps:
        """The text with a gap in place of each run of pieces: as many words as there were, or some more or fewer."""
        gaps, hidden = {run[0]: len(run) for run in runs}, {i for run in runs for i in run}
        parts, capitals = list[int](), list[bool]()
        for i, piece in enumerate(self.pieces):
            if i in gaps:
                parts.append(-gaps[i] - _MORE)
                begins = i == 0 or self.pieces[i - 1].strip(" ")[-1:] in (".", "!", "?", "\n")
                capitals.append(begins and piece.strip(" ")[0].isupper())
            elif i not in hidden:
                parts += self._tokens(piece)
        return Gaps(self.codec, parts, capitals)

    def blanked(self, runs: Sequence[Sequence[int]], key: Noise) -> tuple[Copy, list[bool]]:
        """The text with some words or other in place of each run, and which tokens of it are to stay; about as many words as there
        were, by ``key``, as far as there is room for them."""
        gaps, hidden = {run[0]: len(run) for run in runs}, {i for run in runs for i in run}
        pieces, stay = list[str](), list[bool]()
        room = self.codec.space.length - sum(len(self._tokens(piece)) for piece in self.pieces)
        for i, piece in enumerate(self.pieces):
            if i in gaps:
                more = min(room, _ABOUT[int(key.fold("words").rows([i]).integers(1)[0, 0]) % len(_ABOUT)])
                words = max(1, gaps[i] + more)
                room -= words - gaps[i]
                pieces += [piece] + [_ANY] * (words - 1)
                stay += [False] * words
            elif i not in hidden:
                pieces.append(piece)
                stay += [True] * len(self._tokens(piece))
        return Copy("".join(pieces)), stay

    def _tokens(self, piece: str) -> list[int]:
        return [int(token) for token in self.codec.prefix(piece)[:, 0]]


def new(was: str, text: str) -> float:
    """The share of a text's words that are others than they were."""
    old, now = re.findall(r"[\w'’{}]+", was), re.findall(r"[\w'’{}]+", text)
    same = sum(block.size for block in difflib.SequenceMatcher(None, old, now, autojunk=False).get_matching_blocks())
    return 1 - same / max(1, len(now))


def _said(text: str) -> Counter[str]:
    """What a text claims, denies or limits, word by word."""
    return Counter([text[a:b].lower() for a, b in weighty(text)] + [match[0].lower() for match in STAY.finditer(text)])


def _sentences(text: str) -> tuple[list[str], list[str], list[bool]]:
    """A text's stops, its capitals inside sentences, and whether its sentences begin with one."""
    begins = [found[1].isupper() for found in re.finditer(r"(?:^|[.!?]\s+|\n)(\w)", text)]
    return re.findall(r"[.!?:;]", text), re.findall(r"[^.!?\s]\s+([^\W\d_a-z][\w'’]*)", text), begins

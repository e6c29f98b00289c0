"""The data sets: ``jsb``, the benchmark's 382 chorales on a grid without onsets; ``jsb_quarters``, its older
table of what sounds on each quarter; and ``bach``, the chorales of music21's corpus with onsets, metres and fermatas, from whose
training set every piece of the benchmark's validation and test splits is held out.

Training rows are transposed into every key that leaves each voice within the range it has in the training set.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np

from headwater.domain import Dataset
from headwater.errors import HeadwaterError
from headwater_datasets import card
from headwater_music import harmony
from headwater_music.codecs import HIGHEST, LOWEST
from headwater_music.score import Array, Note, Phrase

JSB_CARD, BACH_CARD = card("jsb_chorales"), card("bach_chorales")
SPLITS = ("train", "valid", "test")


class Transposed(Sequence[Phrase]):
    """Phrases in every key that leaves each voice within ``low`` to ``high`` (one number a voice), their own key first."""

    def __init__(self, phrases: Sequence[Phrase], low: Sequence[int], high: Sequence[int]) -> None:
        self.phrases = phrases
        self.rows = [(i, k) for i, phrase in enumerate(phrases) for k in [0, *shifts(phrase, low, high)]]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int, /) -> Phrase: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Phrase]: ...
    def __getitem__(self, index: int | slice, /) -> Phrase | list[Phrase]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        phrase, semitones = self.rows[index]
        return self.phrases[phrase].transposed(semitones) if semitones else self.phrases[phrase]


def shifts(phrase: Phrase, low: Sequence[int], high: Sequence[int]) -> list[int]:
    """By how many semitones, besides none, a phrase may be transposed within the ranges."""
    voices = [v[v > 0] for v in phrase.pitch.T]
    least = max((a - int(v.min()) for v, a in zip(voices, low, strict=True) if len(v)), default=0)
    most = min((b - int(v.max()) for v, b in zip(voices, high, strict=True) if len(v)), default=0)
    return [k for k in range(max(least, -12), min(most, 12) + 1) if k]


def ranges(phrases: Sequence[Phrase]) -> tuple[list[int], list[int]]:
    """The lowest and the highest pitch of each voice."""
    voices = [np.concatenate([p.pitch[:, v][p.pitch[:, v] > 0] for p in phrases]) for v in range(phrases[0].voices)]
    return [max(LOWEST, int(v.min())) for v in voices], [min(HIGHEST, int(v.max())) for v in voices]


# --- the benchmark ---------------------------------------------------------------------------------------------------------------


def jsb_folder() -> Path:
    """Where the benchmark's files are. Raises :class:`HeadwaterError` where nothing says."""
    root = os.environ.get("HEADWATER_DATA")
    folder = Path(root) / "music" / "jsb" if root else None
    if folder is None or not folder.is_dir():
        raise HeadwaterError(
            "the JSB chorales are not here: get them from https://github.com/czhuang/JSB-Chorales-dataset and set HEADWATER_DATA "
            "to the folder that holds music/jsb"
        )
    return folder


@functools.lru_cache(maxsize=4)
def jsb_file(path: Path) -> dict[str, list[list[list[int]]]]:
    """A file of the benchmark by split. Raises :class:`HeadwaterError` where it is missing or not the published one."""
    if not path.is_file():
        raise HeadwaterError(f"{path} is missing; get it from https://github.com/czhuang/JSB-Chorales-dataset")
    content = path.read_bytes()
    with open(JSB_CARD / "card.toml", "rb") as f:
        expected = tomllib.load(f)["sha256"][path.name]
    if hashlib.sha256(content).hexdigest() != expected:
        raise HeadwaterError(f"{path} is not the published file (its sha256 differs)")
    found: dict[str, list[list[list[int]]]] = json.loads(content)
    return found


def on_grid(frames: Array) -> Phrase:
    """A chorale of the benchmark, (frames, 4) with -1 for silence, as a phrase in 4/4 whose key is estimated; a length that is not
    whole bars speaks for a pickup."""
    pitch = np.maximum(np.asarray(frames, dtype=np.int16), 0)
    phrase = Phrase(pitch, np.zeros(pitch.shape, np.bool_), pickup=len(pitch) % 16)
    tonic, mode = harmony.estimate_key(phrase)
    return replace(phrase, tonic=tonic, mode=mode)


@functools.lru_cache(maxsize=4)
def jsb_phrases(split: str) -> tuple[Phrase, ...]:
    """The chorales of a split, untransposed: 229 train, 76 valid, 77 test."""
    if split not in SPLITS:
        raise HeadwaterError(f"jsb has no split {split!r}; expected one of {', '.join(SPLITS)}")
    return tuple(on_grid(np.asarray(frames)) for frames in jsb_file(jsb_folder() / "Jsb16thSeparated.json")[split])


@functools.lru_cache(maxsize=4)
def jsb_rows(split: str) -> Sequence[Phrase]:
    """The rows of a split; those of ``train`` in every key that fits (1,692)."""
    phrases = jsb_phrases(split)
    return Transposed(phrases, *ranges(phrases)) if split == "train" else phrases


def known_tunes(split: str) -> list[bool]:
    """Which chorales of a split set a tune that train knows: of the groups of six successive notes of the soprano (read on
    quarters, repeated notes as one, in the key of the file) at least half occur in one chorale of train. 21 of the 77 of test."""

    def groups(phrase: Phrase) -> list[tuple[int, ...]]:
        line = phrase.pitch[::4, 0][phrase.pitch[::4, 0] > 0].tolist()
        notes = [a for a, b in zip(line, [0, *line], strict=False) if a != b]
        return [tuple(notes[i : i + 6]) for i in range(len(notes) - 5)]

    train = [set(groups(phrase)) for phrase in jsb_phrases("train")]
    return [
        2 * max(sum(group in known for group in found) for known in train) >= max(1, len(found))
        for found in map(groups, jsb_phrases(split))
    ]


@functools.lru_cache(maxsize=4)
def quarter_rows(split: str) -> Sequence[Phrase]:
    """The pieces of the quarter table, in the keys of the file (most of them moved to C), each quarter held for four frames and its
    pitches from the highest down; those of ``train`` also in every other key that fits. They stand in another order than those of
    :func:`jsb_phrases`."""
    if split not in SPLITS:
        raise HeadwaterError(f"jsb_quarters has no split {split!r}; expected one of {', '.join(SPLITS)}")
    out = []
    for frames in jsb_file(jsb_folder() / "jsb-chorales-quarter.json")[split]:
        pitch = np.zeros((len(frames), 4), np.int16)
        for t, chord in enumerate(frames):
            pitch[t, : len(chord)] = sorted(chord, reverse=True)
        out.append(Phrase(pitch.repeat(4, axis=0), np.zeros((4 * len(pitch), 4), np.bool_)))
    return Transposed(out, *ranges(out)) if split == "train" else out


# --- music21's Bach --------------------------------------------------------------------------------------------------------------


@functools.cache
def bach_split() -> dict[str, tuple[tuple[str, Phrase], ...]]:
    """Names and chorales of each split: 209 train, 70 valid, 69 test. ``valid`` and ``test`` are the corpus's encodings of the
    benchmark's pieces, as far as it has them; ``train`` is every chorale that is none of them under any name, see
    :mod:`headwater_music.held_out`."""
    from headwater_music import corpus
    from headwater_music.held_out import HELD_OUT

    found: dict[str, list[tuple[str, Phrase]]] = {split: [] for split in SPLITS}
    for piece in corpus.pieces():
        split = HELD_OUT.get(piece.name, "train")
        if split in found and (piece.metres == 1 or split != "train"):  # a bar line that moves would be taught wrong
            found[split].append((piece.name, piece.phrase))
    return {split: tuple(rows) for split, rows in found.items()}


@functools.lru_cache(maxsize=4)
def bach_rows(split: str) -> Sequence[Phrase]:
    """The rows of a split; those of ``train`` in every key that fits: whole chorales, and passages from one fermata to another."""
    if split not in SPLITS:
        raise HeadwaterError(f"bach has no split {split!r}; expected one of {', '.join(SPLITS)}")
    phrases = [phrase for _, phrase in bach_split()[split]]
    if split != "train":
        return phrases
    return Transposed([*phrases, *(p for i, phrase in enumerate(phrases) for p in passages(phrase, i))], *ranges(phrases))


def passages(phrase: Phrase, turn: int = 0) -> list[Phrase]:
    """Parts of a chorale between fermatas, so that short phrases with an end are known too: both halves, and one line, the
    ``turn``-th. None where there are fewer than two lines."""
    marks = phrase.fermata.astype(int)
    ends = [int(t) + 1 for t in np.flatnonzero(np.diff(marks, append=0) < 0)]
    lines = list(zip([0, *ends], ends, strict=False))
    if len(lines) < 2:
        return []
    middle, one = lines[len(lines) // 2][0], lines[turn % len(lines)]
    spans = {(0, middle), (middle, ends[-1]), one}
    return [phrase.cut(a, b) for a, b in sorted(spans) if b - a >= 16 and b - a < phrase.frames]


# --- the packaged sample ---------------------------------------------------------------------------------------------------------


@functools.cache
def sample() -> tuple[Phrase, ...]:
    """Short four-part settings of our own making: see the card's CARD.md."""
    out = []
    for entry in json.loads((BACH_CARD / "sample.json").read_text("utf-8")):
        voices = [[Note(*note) for note in voice] for voice in entry["voices"]]
        about = {k: entry[k] for k in ("metre", "tonic", "mode", "pickup")}
        marks = np.zeros(entry["frames"], np.bool_)
        marks[entry["fermata"] :] = True
        out.append(Phrase.of_notes(voices, entry["frames"], fermata=marks, **about))
    return tuple(out)


def sample_on_grid() -> tuple[Phrase, ...]:
    """The same as the benchmark would hold them: without onsets."""
    return tuple(replace(p, onset=np.zeros(p.pitch.shape, np.bool_), fermata=None) for p in sample())


BACH: Dataset[Phrase] = Dataset(card=BACH_CARD, rows=bach_rows, sample=sample)
JSB_CHORALES: Dataset[Phrase] = Dataset(card=JSB_CARD, rows=jsb_rows, sample=sample_on_grid)
JSB_QUARTERS: Dataset[Phrase] = Dataset(card=JSB_CARD, rows=quarter_rows, sample=sample_on_grid)

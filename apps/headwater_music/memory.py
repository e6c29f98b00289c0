"""What of a phrase stands in the training set already: the longest run of frames, all voices, in any key, and in which chorale.

The index holds a 32-bit hash of each window of eight frames, its pitches taken relative to its first one. Runs are windows that hit
one chorale in step. Hashes say where known music recurs; they do not hold the music.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headwater_music.score import Array, Phrase

WINDOW = 8
#: Frames from which a run counts as a copy: two bars of 4/4.
LONG = 32
#: The training set of the shipped models: made by ``Memory.of`` from the chorales of ``bach``, split train, in their own key.
SHIPPED = Path(__file__).parent / "bach_train.memory"


@dataclass(frozen=True)
class Copy:
    """The longest run: its frames, where it begins in the phrase, the chorale and where it begins there."""

    frames: int = 0
    start: int = 0
    source: str = ""
    at: int = 0


def windows(pitch: Array) -> Array:
    """(frames - 7,) uint32: a hash of each window, the same in every key; 0 for one in which nothing sounds, which is no copy."""
    out = np.zeros(max(0, len(pitch) - WINDOW + 1), np.uint32)
    for t in range(len(out)):
        window = pitch[t : t + WINDOW].astype(np.int16)
        sounding = window[window > 0]
        if len(sounding):
            shape = np.where(window > 0, window - sounding[0], -128).astype(np.int8)
            out[t] = zlib.crc32(shape.tobytes()) or 1
    return out


class Memory:
    """Windows of known pieces, (pieces' windows end to end,) uint32, with the pieces' names and where each ends."""

    def __init__(self, hashes: Array, ends: Sequence[int], names: Sequence[str]) -> None:
        self.hashes, self.ends, self.names = hashes, np.asarray(ends, dtype=np.int64), list(names)
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    @classmethod
    def of(cls, phrases: Sequence[Phrase], names: Sequence[str]) -> Memory:
        found = [windows(phrase.pitch) for phrase in phrases]
        return cls(np.concatenate(found), np.cumsum([len(f) for f in found]).tolist(), names)

    def longest(self, phrase: Phrase) -> Copy:
        """The longest run that a phrase shares with one piece, the first of equals; none below eight frames."""
        best = Copy()
        running: dict[int, int] = {}  # where a run that has not broken stands in the index: how many windows it has
        for t, code in enumerate(windows(phrase.pitch)):
            low, high = np.searchsorted(self._sorted, code, "left"), np.searchsorted(self._sorted, code, "right")
            now = {}
            for place in self._order[low:high].tolist() if code else ():
                before = 0 if place in self._firsts else running.get(place - 1, 0)
                now[place] = before + 1
                if before + WINDOW > best.frames:
                    piece = int(np.searchsorted(self.ends, place, "right"))
                    begin = int(self.ends[piece - 1]) if piece else 0
                    best = Copy(before + WINDOW, t - before, self.names[piece], place - before - begin)
            running = now
        return best

    @functools.cached_property
    def _firsts(self) -> frozenset[int]:
        return frozenset([0, *self.ends.tolist()])

    def save(self, path: Path) -> None:
        """A line of JSON (names, ends), then the hashes, little-endian."""
        about = json.dumps({"names": self.names, "ends": self.ends.tolist()}, separators=(",", ":"))
        path.write_bytes(about.encode() + b"\n" + self.hashes.astype("<u4").tobytes())

    @classmethod
    def load(cls, path: Path) -> Memory:
        """The index that :meth:`save` wrote."""
        about, _, rest = path.read_bytes().partition(b"\n")
        told = json.loads(about)
        return cls(np.frombuffer(rest, "<u4").astype(np.uint32), told["ends"], told["names"])


@functools.cache
def shipped() -> Memory:
    """The index of the shipped models' training set."""
    return Memory.load(SHIPPED)


def longest_copy(phrase: Phrase) -> Copy:
    """The longest run that a phrase of four voices copies from the shipped models' training set; none for others."""
    return shipped().longest(phrase) if phrase.voices == 4 else Copy()

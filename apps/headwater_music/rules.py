"""The rules of four-part writing, counted; and what makes a phrase no music at all. The report is arithmetic on one phrase."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from headwater_music import harmony
from headwater_music.score import VOICES, Array, Phrase

#: Usual ranges of the voices, MIDI: the lowest and highest notes of Bach's chorales in the training set.
RANGES = {"soprano": (60, 81), "alto": (52, 74), "tenor": (46, 69), "bass": (36, 66)}


@dataclass(frozen=True)
class Report:
    """Counts over a phrase of ``frames``, ``moves`` from one to the next. ``fifths`` and ``octaves``: parallel motions, as (frame,
    upper voice, lower voice); ``crossed``, ``wide`` and ``outside``: frames in which a voice lies below a lower one, in which
    neighbouring upper voices are more than an octave apart, in which a voice is out of :data:`RANGES`; ``beats`` quarters in which
    anything sounds, ``chordal`` those whose notes are a triad or seventh chord or part of one; ``cadence`` see
    :func:`headwater_music.harmony.cadence`; ``final_tonic`` whether the last bass note is the tonic."""

    frames: int
    moves: int
    fifths: tuple[tuple[int, int, int], ...]
    octaves: tuple[tuple[int, int, int], ...]
    crossed: int
    wide: int
    outside: int
    beats: int
    chordal: int
    cadence: str
    final_tonic: bool

    @property
    def parallels(self) -> tuple[tuple[int, int, int], ...]:
        """Fifths and octaves together, in order."""
        return tuple(sorted(self.fifths + self.octaves))

    def record(self) -> dict[str, float | int | str | bool]:
        """Plain columns; shares of frames and beats, parallels as counts."""
        frames, beats = max(1, self.frames), max(1, self.beats)
        return {
            "parallel_fifths": len(self.fifths),
            "parallel_octaves": len(self.octaves),
            "crossing": self.crossed / frames,
            "wide_spacing": self.wide / frames,
            "out_of_range": self.outside / frames,
            "chordal": self.chordal / beats,
            "cadence": self.cadence,
            "final_tonic": self.final_tonic,
        }


def parallels(pitch: Array, interval: int) -> list[tuple[int, int, int]]:
    """Where two voices move in the same direction and keep ``interval`` semitones between their pitch classes (7 fifths, 0 octaves
    and unisons), from one frame to the next: (frame, upper voice, lower voice).

    >>> parallels(np.array([[67, 60], [69, 62], [69, 60]]), 7)
    [(1, 0, 1)]
    """
    found = []
    for a, b in combinations(range(pitch.shape[1]), 2):
        high, low = pitch[:, a].astype(int), pitch[:, b].astype(int)
        sounds = (high > 0) & (low > 0)
        fits = sounds & ((high - low) % 12 == interval)
        alike = np.sign(np.diff(high)) * np.sign(np.diff(low)) > 0
        found += [(int(t) + 1, a, b) for t in np.flatnonzero(fits[1:] & fits[:-1] & alike)]
    return sorted(found)


def crossings(pitch: Array) -> Array:
    """(frames,) whether any voice lies below a lower one."""
    crossed = np.zeros(len(pitch), np.bool_)
    for a, b in combinations(range(pitch.shape[1]), 2):
        crossed |= (pitch[:, a] > 0) & (pitch[:, b] > 0) & (pitch[:, a] < pitch[:, b])
    return crossed


def chordal(pitch: Array) -> tuple[int, int]:
    """(quarters whose notes are part of a triad or seventh chord, quarters in which anything sounds), read on the beat."""
    heard = [frozenset(int(p) % 12 for p in frame if p > 0) for frame in pitch[::4]]
    heard = [chord for chord in heard if chord]
    return sum(harmony.is_chord(chord) for chord in heard), len(heard)


@functools.lru_cache(maxsize=2048)
def report(phrase: Phrase) -> Report:
    """All of it for one phrase. Quarters are counted from the pickup on."""
    pitch = phrase.pitch
    good, beats = chordal(pitch[phrase.pickup % 4 :])
    tonic = harmony.estimate_key(phrase)[0]
    gaps = (pitch[:, :-1] - pitch[:, 1:])[:, :2] if phrase.voices == 4 else np.zeros((phrase.frames, 1), np.int16)
    both = (pitch[:, :2] > 0) & (pitch[:, 1:3] > 0) if phrase.voices == 4 else np.zeros((phrase.frames, 1), np.bool_)
    outside = np.zeros(phrase.frames, np.bool_)
    if phrase.voices == 4:
        for v, name in enumerate(VOICES):
            low, high = RANGES[name]
            outside |= (pitch[:, v] > 0) & ((pitch[:, v] < low) | (pitch[:, v] > high))
    return Report(
        frames=phrase.frames,
        moves=max(0, phrase.frames - 1),
        fifths=tuple(parallels(pitch, 7)),
        octaves=tuple(parallels(pitch, 0)),
        crossed=int(crossings(pitch).sum()),
        wide=int((both & (gaps > 12)).any(axis=1).sum()),
        outside=int(outside.sum()),
        beats=beats,
        chordal=good,
        cadence=harmony.cadence(phrase, tonic),
        final_tonic=harmony.last_bass(phrase) % 12 == tonic if phrase.onset.any() else False,
    )


def problem(phrase: Phrase) -> str | None:
    """Why a phrase cannot be used, None if it can."""
    if not phrase.onset.any():
        return "nothing sounds in it"
    if phrase.voices > 1:
        for v in range(phrase.voices):
            if not phrase.onset[:, v].any():
                return f"the {VOICES[v]} is silent throughout"
    return None

"""The item: a :class:`Phrase`, one to four voices on a grid of sixteenth notes. No torch, no music library."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

VOICES = ("soprano", "alto", "tenor", "bass")
#: Frames of a bar by metre; a frame is a sixteenth.
METRES = {"4/4": 16, "3/4": 12, "2/4": 8, "2/2": 16, "3/2": 24, "4/2": 32, "6/4": 24, "3/8": 6, "6/8": 12, "9/8": 18, "12/8": 24}
MODES = ("major", "minor")
#: Sharps of each key's signature by tonic pitch class (flats below zero), and how its tonic is written.
SHARPS = {"major": (0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5), "minor": (-3, 4, -1, -6, 1, -4, 3, -2, 5, 0, -5, 2)}
TONICS = {
    "major": ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"),
    "minor": ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"),
}
KEYS = tuple(f"{tonic} {mode}" for mode in MODES for tonic in TONICS[mode])


def key_name(tonic: int, mode: str) -> str:
    """The one of :data:`KEYS` with this tonic, whatever its octave.

    >>> key_name(15, "major")
    'Eb major'
    """
    return f"{TONICS[mode][tonic % 12]} {mode}"


def key_named(name: str) -> tuple[int, str]:
    """Tonic and mode of one of :data:`KEYS`.

    >>> key_named("Eb major")
    (3, 'major')
    """
    tonic, mode = name.split()
    return TONICS[mode].index(tonic), mode


class Note(NamedTuple):
    """One note of a voice: its first frame, how many frames it lasts, and its MIDI pitch."""

    start: int
    length: int
    pitch: int


@dataclass(frozen=True, eq=False, repr=False)
class Phrase:
    """A piece of music as frames, each a sixteenth note long.

    ``pitch`` (frames, voices) int16: MIDI pitch 1-127, 0 a rest; voices from the highest part down (soprano, alto, tenor, bass), or
    a single melody. ``onset`` (frames, voices) bool: a note begins in this frame; a frame that repeats the pitch before it without
    an onset holds the note. Onsets are normalised: never at a rest, always where the pitch differs from the frame before.
    ``metre`` is one of :data:`METRES`, one for the whole phrase; ``tonic`` (pitch class 0-11, C is 0) and ``mode`` ("major",
    "minor") its key; ``pickup`` the frames before the first full bar (0 if it begins on one), less than a bar; ``fermata``
    (frames,) bool, True while a note under a fermata sounds.

    Not in it, because the carrier of a pipeline keeps them: tempo, dynamics, lyrics, titles, instruments, repeats, changes of metre
    or key, anything shorter than a sixteenth. Phrases compare by value and hash. Raises ``ValueError`` for what does not fit.

    >>> p = Phrase.of_notes([[Note(0, 4, 60), Note(4, 4, 60), Note(8, 8, 67)]], frames=16)
    >>> p.frames, p.voices, p.bars, p.key, p.notes(0)[1]
    (16, 1, 1, 'C major', Note(start=4, length=4, pitch=60))
    """

    pitch: Array
    onset: Array
    metre: str = "4/4"
    tonic: int = 0
    mode: str = "major"
    pickup: int = 0
    fermata: Any = None  # an Array once made

    def __post_init__(self) -> None:
        pitch = np.array(self.pitch, dtype=np.int16)
        onset = np.array(self.onset, dtype=np.bool_)
        if pitch.ndim != 2 or pitch.shape != onset.shape or not 1 <= pitch.shape[1] <= 4:
            raise ValueError(f"pitch and onset: expected (frames, 1 to 4 voices) both; got {pitch.shape} and {onset.shape}")
        if pitch.size and (pitch.min() < 0 or pitch.max() > 127):
            raise ValueError(f"pitch: expected 0 (rest) or MIDI 1 to 127; got {pitch.min()} to {pitch.max()}")
        fermata = np.zeros(len(pitch), np.bool_) if self.fermata is None else np.array(self.fermata, dtype=np.bool_)
        if fermata.shape != pitch.shape[:1]:
            raise ValueError(f"fermata: expected ({len(pitch)},); got {fermata.shape}")
        if self.metre not in METRES:
            raise ValueError(f"metre: expected one of {', '.join(METRES)}; got {self.metre!r}")
        if self.mode not in MODES or not 0 <= self.tonic < 12:
            raise ValueError(f"key: expected a pitch class 0 to 11 and major or minor; got {self.tonic} {self.mode}")
        if not 0 <= self.pickup < METRES[self.metre]:
            raise ValueError(f"pickup: expected 0 to {METRES[self.metre] - 1} frames in {self.metre}; got {self.pickup}")
        before = np.vstack([np.zeros((1, pitch.shape[1]), np.int16), pitch[:-1]])
        onset = (onset | (pitch != before)) & (pitch > 0)
        for name, array in (("pitch", pitch), ("onset", onset), ("fermata", fermata)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "tonic", int(self.tonic))
        object.__setattr__(self, "pickup", int(self.pickup))

    @classmethod
    def of_notes(cls, voices: list[list[Note]], frames: int, **rest: Any) -> Phrase:
        """From each voice's notes; where two of a voice overlap, the later one cuts the earlier off."""
        pitch, onset = np.zeros((frames, len(voices)), np.int16), np.zeros((frames, len(voices)), np.bool_)
        for v, notes in enumerate(voices):
            for start, length, value in sorted(notes):
                if pitch[start:, v].any():  # an earlier note reaches farther than this one
                    pitch[start:, v] = 0
                pitch[start : start + length, v], onset[start : start + 1, v] = value, True
        return cls(pitch, onset, **rest)

    def notes(self, voice: int) -> list[Note]:
        """The notes of a voice in order."""
        pitch, onset = self.pitch[:, voice], self.onset[:, voice]
        starts = np.flatnonzero(onset)
        stops = np.flatnonzero(np.concatenate([onset[1:] | (pitch[1:] == 0), [True]])) + 1  # where a note may end
        ends = stops[np.searchsorted(stops, starts, side="right")]
        return [Note(int(a), int(b - a), int(pitch[a])) for a, b in zip(starts, ends, strict=True)]

    @property
    def frames(self) -> int:
        return len(self.pitch)

    @property
    def voices(self) -> int:
        return int(self.pitch.shape[1])

    @property
    def bar(self) -> int:
        """Frames of a full bar."""
        return METRES[self.metre]

    @property
    def bars(self) -> int:
        """Bars that it takes, the pickup not counted, a last one that is cut short counted."""
        return -(-(self.frames - self.pickup) // self.bar)

    @property
    def beat(self) -> Array:
        """(frames,) position in the bar in sixteenths, 0 on the downbeat."""
        return (np.arange(self.frames) - self.pickup) % self.bar

    @property
    def key(self) -> str:
        """The key in words, one of :data:`KEYS`: "F# minor"."""
        return key_name(self.tonic, self.mode)

    @property
    def sharps(self) -> int:
        """Sharps of the key's signature, flats below zero."""
        return SHARPS[self.mode][self.tonic]

    def bar_of(self, frame: int) -> int:
        """The bar that a frame lies in as a player counts: 1 is the first full one, 0 the pickup."""
        return (frame - self.pickup) // self.bar + 1

    def transposed(self, semitones: int) -> Phrase:
        """Every note and the key, so many semitones up. Raises ``ValueError`` where a pitch leaves 1-127."""
        pitch = np.where(self.pitch > 0, self.pitch + semitones, 0)
        if (pitch[self.pitch > 0] < 1).any():
            raise ValueError(f"transposed by {semitones}: a pitch leaves MIDI 1 to 127")
        return replace(self, pitch=pitch, tonic=(self.tonic + semitones) % 12)

    def cut(self, start: int, stop: int) -> Phrase:
        """Frames ``start`` to ``stop``; a note cut at its beginning begins there anew, and the pickup keeps the beat."""
        return replace(
            self,
            pitch=self.pitch[start:stop],
            onset=self.onset[start:stop],
            fermata=self.fermata[start:stop],
            pickup=(self.pickup - start) % self.bar,
        )

    def voice(self, *which: int) -> Phrase:
        """Some of the voices."""
        return replace(self, pitch=self.pitch[:, which], onset=self.onset[:, which])

    def _value(self) -> tuple[Any, ...]:
        return (
            self.pitch.shape, self.pitch.tobytes(), self.onset.tobytes(), self.fermata.tobytes(),
            self.metre, self.tonic, self.mode, self.pickup,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Phrase) and self._value() == other._value()

    def __repr__(self) -> str:
        """Short, but different for different phrases: it ends in a hash of the value."""
        digest = hashlib.blake2b(repr(self._value()).encode(), digest_size=8).hexdigest()
        return f"Phrase({self.voices} voices, {self.frames} frames, {self.metre}, {self.key}, {digest})"

    def __hash__(self) -> int:
        return hash(self._value())

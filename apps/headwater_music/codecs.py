"""Phrases as tokens on a grid of sixteenths: with onsets (chorales, melodies), and the benchmark's grid without them.

What a token array does not hold (metre, key, pickup, fermatas) stands at its default after ``decode``; pipelines that know it put
it back with ``dataclasses.replace``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwater.domain import Array, Codec
from headwater.spaces import Tokens
from headwater_music.score import VOICES, Phrase

if TYPE_CHECKING:
    from headwater.noise import Noise

# FROZEN: shipped models depend on these numbers.
LOWEST, HIGHEST = 34, 84
PITCHES = HIGHEST - LOWEST + 1
LENGTH = 656  # 41 bars of 4/4; the longest chorale of the benchmark has 640 frames
REST, STARTED, HELD = 1, 2, 2 + PITCHES


class Grid16(Codec[Phrase]):
    """A phrase of ``voices`` voices as ``Tokens(vocab, 656, streams=voices)``, one position a sixteenth, streams from the soprano
    down. Token 0 pads, 1 rests, 2 + (p - 34) is MIDI pitch p from 34 to 84: with ``onsets`` begun in this frame, and 53 + (p - 34)
    held from the frame before (vocabulary 104); without, sounding (vocabulary 53; repeated notes cannot be told from held ones).

    ``encode`` raises ``ValueError`` for another number of voices, a pitch out of range (naming voice and frame) or too many frames.
    ``decode`` reads 0 inside a phrase as a rest and a held pitch that nothing began as begun.

    >>> codec = Grid16(voices=1, onsets=True)
    >>> phrase = Phrase(np.array([[60], [60], [60], [0]]), np.array([[1], [0], [1], [0]]))
    >>> codec.encode(phrase)[:6, 0].tolist()
    [28, 79, 28, 1, 0, 0]
    >>> codec.decode(codec.encode(phrase)) == phrase
    True
    """

    space: Tokens

    def __init__(self, voices: int, onsets: bool, length: int = LENGTH) -> None:
        self.onsets = onsets
        sounding = np.arange(LOWEST, HIGHEST + 1)
        #: The MIDI pitch of each token, 0 for the end and a rest.
        self.pitches = np.concatenate([[0, 0], sounding, *([sounding] if onsets else [])])
        self.space = Tokens(vocab=2 + PITCHES * (1 + onsets), length=length, streams=voices)

    def encode(self, item: Phrase) -> Array:
        """int64 ``(656, voices)``."""
        if item.voices != self.space.streams:
            raise ValueError(f"expected {self.space.streams} voice{'s' * (self.space.streams > 1)}; the phrase has {item.voices}")
        if not 0 < item.frames <= self.space.length:
            raise ValueError(f"expected 1 to {self.space.length} sixteenths; the phrase has {item.frames}")
        outside = (item.pitch > 0) & ((item.pitch < LOWEST) | (item.pitch > HIGHEST))
        if outside.any():
            frame, voice = (int(i) for i in np.argwhere(outside)[0])
            raise ValueError(
                f"bar {item.bar_of(frame)}, {VOICES[voice]}: pitch {item.pitch[frame, voice]} is outside MIDI {LOWEST} to {HIGHEST}"
            )
        pitch = item.pitch.astype(np.int64)
        held = (pitch > 0) & ~item.onset if self.onsets else np.zeros(pitch.shape, np.bool_)
        array = np.zeros(self.space.shape, dtype=np.int64)
        array[: item.frames] = np.where(pitch > 0, pitch - LOWEST + np.where(held, HELD, STARTED), REST)
        return array

    def decode(self, array: Array) -> Phrase:
        """The frames before the first all-zero position; tokens outside the vocabulary rest."""
        tokens = np.asarray(array).reshape(-1, self.space.streams)
        ends = np.flatnonzero((tokens == 0).all(axis=1))
        tokens = tokens[: ends[0] if len(ends) else None]
        held = self.onsets & (tokens >= HELD) & (tokens < HELD + PITCHES)
        sounding = held | ((tokens >= STARTED) & (tokens < STARTED + PITCHES))
        pitch = np.where(sounding, tokens + LOWEST - np.where(held, HELD, STARTED), 0)
        return Phrase(pitch.astype(np.int16), sounding & ~held & self.onsets)


class Melody(Grid16):
    """The highest part alone, with onsets: of several voices the first."""

    def __init__(self) -> None:
        super().__init__(voices=1, onsets=True)

    def encode(self, item: Phrase) -> Array:
        return super().encode(item.voice(0))


class TwoBars(Grid16):
    """A passage of at most 32 sixteenths in four voices, with onsets: what a latent holds. ``view`` cuts two bars out of a longer
    phrase, from any bar line on, at random."""

    def __init__(self) -> None:
        super().__init__(voices=4, onsets=True, length=32)

    def view(self, item: Phrase, noise: Noise) -> Phrase:
        starts = range(item.pickup, max(item.pickup + 1, item.frames - 2 * item.bar + 1), item.bar)
        start = starts[int(noise.fold("bar").below(len(starts), 1))]
        return item.cut(start, start + min(2 * item.bar, self.space.length))


class Quarters(Codec[Phrase]):
    """The oldest benchmark's table: the set of keys that sound on each quarter, voices untold, as ``Tokens(90, 176, streams=4)``.

    A frame holds its distinct pitches from the highest down, token 2 + (p - 21) for MIDI pitch p from 21 to 108, then 1 where there
    are fewer than four. So each set of at most four of 88 keys has one array, and the probability of the array is a lower bound of
    that of the set (what falls on arrays out of order is lost): nats a frame compare with those of 88 binary keys.

    ``encode`` reads a phrase every fourth sixteenth; ``decode`` holds each frame for a quarter, its highest pitch first.
    """

    space = Tokens(vocab=90, length=176, streams=4)

    def encode(self, item: Phrase) -> Array:
        """int64 ``(176, 4)``. Raises ``ValueError`` for more than 176 quarters, or pitches outside MIDI 21 to 108."""
        frames = item.pitch[::4]
        if not 0 < len(frames) <= self.space.length:
            raise ValueError(f"expected 1 to {self.space.length} quarters; the phrase has {len(frames)}")
        if ((frames > 0) & ((frames < 21) | (frames > 108))).any():
            raise ValueError("a pitch is outside MIDI 21 to 108, the keys of a piano")
        array = np.zeros(self.space.shape, dtype=np.int64)
        array[: len(frames)] = REST
        for t, frame in enumerate(frames):
            heard = sorted({int(p) for p in frame if p}, reverse=True)
            array[t, : len(heard)] = np.array(heard, dtype=np.int64) - 21 + STARTED
        return array

    def decode(self, array: Array) -> Phrase:
        """The frames before the first all-zero position, each held for a quarter."""
        tokens = np.asarray(array).reshape(-1, self.space.streams)
        ends = np.flatnonzero((tokens == 0).all(axis=1))
        tokens = tokens[: ends[0] if len(ends) else None]
        pitch = np.where((tokens >= STARTED) & (tokens < 90), tokens - STARTED + 21, 0).repeat(4, axis=0)
        return Phrase(pitch, np.zeros(pitch.shape, np.bool_))


CHORALE = Grid16(voices=4, onsets=True)
JSB = Grid16(voices=4, onsets=False)
MELODY = Melody()
TWO_BARS = TwoBars()
QUARTERS = Quarters()

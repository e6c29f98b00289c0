"""Parallel fifths and octaves: forbidden while a model writes from left to right, so that none has to be thrown away afterwards; of
what a model wrote in another order, the notes to write again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headwater_music import rules
from headwater_music.codecs import Grid16
from headwater_music.score import Array, Phrase

if TYPE_CHECKING:
    from headwater.noise import Noise

#: The intervals that two voices may not keep while they move the same way: fifths, and octaves and unisons, as pitch classes.
FORBIDDEN = (7, 0)
#: Notes that sound so many sixteenths before or after a parallel motion are written again with it: half a quarter.
AROUND = 2


class Place(NamedTuple):
    """The voice to be written next in frame ``time``; the pitches of the frame before, 0 a rest, and those written in this one."""

    time: int
    before: tuple[int, ...]
    now: tuple[int, ...]


class NoParallels:
    """A :class:`~headwater.constraints.Constraint` on the tokens of ``codec``: no voice moves in parallel fifths or octaves with
    one above it or with one that is kept (:func:`headwater_music.rules.parallels` counts the same motions). What is kept may do
    anything: ``pitch`` (frames, voices), MIDI, 0 a rest, where ``keep`` (frames, voices) is True. To hold or repeat a note is never
    forbidden, so there is always a way on.

    >>> from headwater_music.codecs import JSB
    >>> rule = NoParallels(JSB, np.zeros((2, 4)), np.zeros((2, 4), bool))
    >>> place = rule.start()
    >>> for pitch in (67, 60, 52, 48, 69):  # fifth G over C; the soprano goes on to A
    ...     place = rule.step(place, pitch - 34 + 2)
    >>> [bool(rule.allowed(place, 1)[pitch - 34 + 2]) for pitch in (62, 60, 57)]  # not to D, as a parallel
    [False, True, True]
    """

    def __init__(self, codec: Grid16, pitch: Array, keep: Array) -> None:
        self.voices, self.keep = codec.space.streams, np.asarray(keep, dtype=np.bool_)
        self.pitch = np.where(self.keep, pitch, 0).astype(int)
        self.tokens = codec.pitches
        self.anything = np.ones(len(self.tokens), np.bool_)

    def start(self) -> Place:
        return Place(0, (), ())

    def allowed(self, state: Place, remaining: int) -> Array:
        voice, (time, before, now) = len(state.now), state
        if not before or not before[voice] or (time < len(self.keep) and self.keep[time, voice]):
            return self.anything
        mask = self.anything
        for other in range(self.voices):
            there = now[other] if other < voice else int(self.pitch[time, other]) if time < len(self.keep) else 0
            if other == voice or not there or not before[other] or there == before[other]:
                continue
            sign = 1 if other < voice else -1  # intervals count from the lower voice to the upper
            if (kept := sign * (before[other] - before[voice]) % 12) not in FORBIDDEN:
                continue
            same_way = (self.tokens > before[voice]) if there > before[other] else (self.tokens < before[voice])
            mask = mask & ~(same_way & (self.tokens > 0) & (sign * (there - self.tokens) % 12 == kept))
        return mask

    def step(self, state: Place, token: int) -> Place:
        now = (*state.now, int(self.tokens[token]))
        return Place(state.time + 1, now, ()) if len(now) == self.voices else Place(state.time, state.before, now)

    def accepts(self, state: Place) -> bool:
        return True


def loosened(phrase: Phrase, keep: Array, noise: Noise) -> Array:
    """(frames, voices) which cells of a phrase to keep when its parallels are written again: all but the notes around each of them
    in one of its two voices, the lower or the upper by chance, as far as ``keep`` lets them change."""
    faults, loose = rules.report(phrase).parallels, np.zeros(phrase.pitch.shape, np.bool_)
    for (frame, *pair), chance in zip(faults, noise.uniform(max(1, len(faults)))[0].tolist(), strict=False):
        free = [v for v in pair if not keep[frame - 1 : frame + 1, v].all()]
        if free:
            loose[max(0, frame - AROUND) : frame + AROUND + 1, free[int(chance * len(free))]] = True
    for v in range(phrase.voices):
        for start, length, _ in phrase.notes(v):
            loose[start : start + length, v] |= loose[start : start + length, v].any()
    return keep | ~loose

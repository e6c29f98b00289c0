"""The carrier of music: a :class:`Piece` is a phrase with what a file says around it, so that it can be written back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

from headwater.writing import replacing
from headwater_music.score import SHARPS, VOICES, Phrase

T = TypeVar("T")

TEMPO = 84.0  # quarters a minute where nothing states one
PROGRAM = 19  # General MIDI: church organ, where nothing states one


class Bar(NamedTuple):
    """Frames ``start`` to ``stop``, its number as a player counts (0 is the pickup), and the metre that rules it."""

    start: int
    stop: int
    number: int
    metre: str


def sixteenths(metre: str) -> int:
    """Frames of a bar. Raises ``ValueError`` for a metre that does not count whole notes, halves, quarters, eighths or sixteenths.

    >>> sixteenths("6/8"), sixteenths("5/4")
    (12, 20)
    """
    beats, unit = (int(n) for n in metre.split("/"))
    if beats < 1 or unit not in (1, 2, 4, 8, 16):
        raise ValueError(metre)
    return beats * 16 // unit


@dataclass(frozen=True)
class Piece:
    """A :class:`Phrase` and its surroundings; ``Piece(phrase)`` has the usual ones, ``replace(piece, phrase=...)`` keeps them.

    ``tempos`` (frame, quarters a minute), ``metres`` (frame, metre) and ``keys`` (frame, sharps, mode) are changes in order, the
    first at frame 0; without any, the phrase's own metre and key rule. ``barlines`` are the frames at which bars begin, where
    they are not what the metres say (a pickup, a bar cut by a repeat); behind the last the metre goes on. ``names`` and
    ``programs`` (General MIDI, 0-127) go with the voices, and are left out where their number differs. ``warnings`` say what
    reading changed. Raises ``ValueError`` for a phrase without a frame.
    """

    phrase: Phrase
    tempos: tuple[tuple[int, float], ...] = ((0, TEMPO),)
    metres: tuple[tuple[int, str], ...] = ()
    keys: tuple[tuple[int, int, str], ...] = ()
    barlines: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    programs: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.phrase.frames:
            raise ValueError("phrase: expected a frame at least; got none")

    @property
    def voice_names(self) -> tuple[str, ...]:
        if len(self.names) == self.phrase.voices:
            return self.names
        if self.phrase.voices == len(VOICES):
            return tuple(name.capitalize() for name in VOICES)
        return ("Melody",) if self.phrase.voices == 1 else tuple(f"Voice {v + 1}" for v in range(self.phrase.voices))

    @property
    def voice_programs(self) -> tuple[int, ...]:
        return self.programs if len(self.programs) == self.phrase.voices else (PROGRAM,) * self.phrase.voices

    @property
    def signatures(self) -> tuple[tuple[int, int, str], ...]:
        """The keys that rule: (frame, sharps, mode), the first at frame 0."""
        return self.keys or ((0, SHARPS[self.phrase.mode][self.phrase.tonic], self.phrase.mode),)

    @property
    def bars(self) -> list[Bar]:
        """Every bar in order; together they are the phrase, the last may be cut short."""
        if self.barlines or self.metres:
            return bars(self.phrase.frames, self.metres or ((0, self.phrase.metre),), self.barlines)
        pickup = (0, self.phrase.pickup) if 0 < self.phrase.pickup <= self.phrase.frames else ()
        return bars(self.phrase.frames, ((0, self.phrase.metre),), pickup)

    def seconds(self, frame: int) -> float:
        """When a frame begins, in seconds."""
        total = 0.0
        for (start, tempo), stop in zip(self.tempos, [*(f for f, _ in self.tempos[1:]), frame], strict=True):
            total += max(0, min(frame, stop) - start) * 15 / tempo
        return total


def bars(frames: int, metres: tuple[tuple[int, str], ...], barlines: tuple[int, ...] = ()) -> list[Bar]:
    """The bars of ``frames``: at ``barlines``, and behind the last of them as the metres say. A short first one is the pickup.

    >>> [(b.start, b.stop, b.number) for b in bars(24, ((0, "3/4"),), (0, 4))]
    [(0, 4, 0), (4, 16, 1), (16, 24, 2)]
    """
    starts = [b for b in barlines if b < frames] or [0]
    changes = dict(metres)
    metre = next((m for f, m in reversed(metres) if f <= starts[-1]), "4/4")
    while (after := starts[-1] + sixteenths(metre)) < frames:
        change = next((f for f in sorted(changes) if starts[-1] < f <= after), None)
        starts.append(after if change is None else change)
        metre = changes.get(starts[-1], metre)
    found: list[Bar] = []
    for start, stop in pairwise([*starts, frames]):
        metre = next((m for f, m in reversed(metres) if f <= start), "4/4")
        short = stop - start < sixteenths(metre) and (len(starts) > 1 or len(barlines) > 1)
        number = found[-1].number + 1 if found else int(not short)
        found.append(Bar(start, stop, number, metre))
    return found


def bar_at(found: list[Bar], frame: int) -> int:
    """The number of the bar that a frame lies in."""
    return next((b.number for b in reversed(found) if b.start <= frame), 1)


def ruling(changes: tuple[tuple[int, T], ...], frames: int) -> T:
    """The value that rules the most frames; of equals the first."""
    lengths: dict[T, int] = {}
    for (start, value), (stop, _) in pairwise([*changes, (frames, changes[0][1])]):
        lengths[value] = lengths.get(value, 0) + max(0, stop - start)
    return max(lengths, key=lambda value: lengths[value])


def save(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    with replacing(path) as file:
        file.write(content)
    return path

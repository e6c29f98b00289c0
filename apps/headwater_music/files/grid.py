"""From what a file holds, at any time and in any number of parts, to a :class:`Piece` on the grid of sixteenths.

Each reader fills a :class:`Found`, its times exact fractions of a sixteenth; here parts are chosen, checked and quantised once
for all formats, and what had to change is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headwater.errors import HeadwaterError
from headwater_music.files.piece import TEMPO, Bar, Piece, bar_at, bars, ruling, sixteenths
from headwater_music.files.spelling import MINOR, find, name, tonic
from headwater_music.score import METRES, Note, Phrase

MAX_FRAMES = 1 << 16  # over two hours at 120 quarters a minute
MAX_NOTES = 1 << 17
SLOWEST, FASTEST = 4, 1000  # quarters a minute: what MIDI can say, and what anyone plays
MAX_BYTES = 1 << 23
HEARD = Fraction(1, 24)  # of a sixteenth: 5 ms at 120 quarters a minute; what moves less is not counted as moved


class Sound(NamedTuple):
    """A note as a file states it: start and length in sixteenths."""

    start: Fraction
    length: Fraction
    pitch: int


@dataclass
class Part:
    """One line of a file: a MIDI track and channel, a voice of a MusicXML part."""

    name: str = ""
    notes: list[Sound] = field(default_factory=list)
    fermatas: list[tuple[Fraction, Fraction]] = field(default_factory=list)  # from, to
    percussion: bool = False
    program: int | None = None


@dataclass
class Found:
    """All that a file holds; the times of changes and bar lines in sixteenths. ``bars`` is empty where only the metres say."""

    parts: list[Part] = field(default_factory=list)
    metres: list[tuple[Fraction, str]] = field(default_factory=list)
    keys: list[tuple[Fraction, int, str | None]] = field(default_factory=list)
    tempos: list[tuple[Fraction, float]] = field(default_factory=list)
    bars: list[Fraction] = field(default_factory=list)
    length: Fraction = Fraction(0)
    pickup: bool = False  # the file itself says that the first bar is one
    left_out: dict[str, int] = field(default_factory=dict)  # what a phrase does not hold, and how often it was met


def nearest(time: Fraction) -> int:
    """The frame that begins nearest to a time, of two the later."""
    return math.floor(time + Fraction(1, 2))


def shown(text: str, most: int = 40) -> str:
    """A name from a file, fit to be printed on one line."""
    clean = "".join(c if c.isprintable() else " " for c in text).strip()
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def check_size(path: Path, most: int) -> None:
    """Raises :class:`HeadwaterError` for a file that is empty or larger than any such file is."""
    size = path.stat().st_size
    if size == 0:
        raise HeadwaterError(f"{path}: the file is empty")
    if size > most:
        raise HeadwaterError(f"{path}: {size:,} bytes; files of this kind are read up to {most:,}: cut out the part you need")


def piece(found: Found, path: Path, voices: int | None, track: str | int | None, lowest: int, highest: int) -> Piece:
    """Choose, check and quantise. Raises :class:`HeadwaterError` for what cannot be a phrase, naming the bar."""
    chosen, warnings = _chosen(found, path, voices, track), []
    frames = max([nearest(found.length), *(nearest(n.start + n.length) for p in chosen for n in p.notes)])
    if frames == 0:
        raise HeadwaterError(f"{path}: its notes have no length")
    if frames > MAX_FRAMES or sum(len(p.notes) for p in chosen) > MAX_NOTES:
        raise HeadwaterError(f"{path}: longer than {MAX_FRAMES:,} sixteenths ({frames:,}): cut out the part you need")
    metres, barlines = _metres(found, path, frames)
    ruler = bars(frames, metres, barlines)
    keys = _keys(found, chosen)
    lines = [_line(part, k, path, ruler, (lowest, highest), keys) for k, part in enumerate(chosen, 1)]
    warnings += _warnings(found, chosen, [line.changes for line in lines], metres, ruler)

    metre = ruling(metres, frames)
    if metre not in METRES:
        raise HeadwaterError(f"{path}: its metre is {metre}; expected one of {', '.join(METRES)}")
    signature = ruling(tuple((f, (s, m)) for f, s, m in keys), frames)
    fermata = np.zeros(frames, np.bool_)
    for part in chosen:
        for start, stop in part.fermatas:
            fermata[nearest(start) : nearest(stop)] = True
    phrase = Phrase.of_notes(
        [line.notes for line in lines],
        frames,
        metre=metre,
        tonic=7 * tonic(*signature) % 12,
        mode="minor" if signature[1] in MINOR else "major",
        pickup=_pickup(ruler, metre),
        fermata=fermata,
    )
    return Piece(
        phrase,
        tempos=_tempos(found),
        metres=metres,
        keys=keys,
        barlines=barlines,
        names=tuple(shown(p.name) for p in chosen) if all(shown(p.name) for p in chosen) else (),
        programs=tuple(p.program for p in chosen if p.program is not None),
        warnings=tuple(warnings),
    )


# Which parts


def _listed(parts: list[Part]) -> str:
    told = [
        f"{k} {repr(shown(p.name)) if shown(p.name) else 'unnamed'} ({len(p.notes)} notes)" for k, p in enumerate(parts[:12], 1)
    ]
    return ", ".join(told) + (f" and {len(parts) - 12} more" if len(parts) > 12 else "")


def _chosen(found: Found, path: Path, voices: int | None, track: str | int | None) -> list[Part]:
    parts = [p for p in found.parts if not p.percussion]
    sounding = [p for p in parts if p.notes]
    if not sounding:
        what = "only percussion, no pitched notes" if any(p.notes for p in found.parts) else "no notes"
        raise HeadwaterError(f"{path}: it holds {what}")
    if track is not None:
        return [_named(parts, path, track)]
    for group in (parts, sounding):
        if len(group) == voices or (voices is None and len(group) <= 4):
            return group
    if voices == 1:
        raise HeadwaterError(f"{path}: it holds {len(sounding)} parts; choose one by name or number: {_listed(parts)}")
    wanted = f"{voices} voices" if voices else "at most 4 voices"
    raise HeadwaterError(f"{path}: expected {wanted}, each a part of its own; it holds {_listed(parts)}")


def _named(parts: list[Part], path: Path, track: str | int) -> Part:
    wanted = str(track).strip().casefold()
    exact = [p for p in parts if shown(p.name).casefold() == wanted]
    close = [p for p in parts if wanted and wanted in shown(p.name).casefold()]
    numbered = parts[int(wanted) - 1 : int(wanted)] if wanted.isdecimal() and len(wanted) < 6 and int(wanted) else []
    for group in (exact, numbered, close):
        if len(group) == 1:
            if not group[0].notes:
                raise HeadwaterError(f"{path}: the part {track!r} holds no notes; choose from {_listed(parts)}")
            return group[0]
    raise HeadwaterError(f"{path}: no one part is {track!r}; choose by name or number: {_listed(parts)}")


# One line


class _Changes(NamedTuple):
    moved: int = 0
    farthest: Fraction = Fraction(0)
    resized: int = 0
    lost: int = 0


class _Line(NamedTuple):
    notes: list[Note]
    changes: _Changes


def _line(
    part: Part,
    number: int,
    path: Path,
    ruler: list[Bar],
    allowed: tuple[int, int],
    keys: tuple[tuple[int, int, str], ...],
) -> _Line:
    """The notes of a part on the grid; one at a time, each at least a frame long."""
    label = f"part {number}" + (f" ({shown(part.name)!r})" if shown(part.name) else "")
    unique = {(n.start, n.pitch): n for n in sorted(part.notes)}  # of two equal onsets the longer
    notes, moved, farthest, resized, lost = list[Note](), 0, Fraction(0), 0, 0
    ordered, last = sorted(unique.values()), ruler[-1].stop - 1
    for k, sound in enumerate(ordered):
        start, stop = min(nearest(sound.start), last), nearest(sound.start + sound.length)
        key = next((s, m) for f, s, m in reversed(keys) if f <= start)
        if not allowed[0] <= sound.pitch <= allowed[1]:
            span = f"{name(allowed[0], *key)} to {name(allowed[1], *key)}"
            raise HeadwaterError(
                f"{path}: bar {bar_at(ruler, start)}: {name(sound.pitch, *key)} (MIDI {sound.pitch}) in {label} is out of range; "
                f"expected {span}"
            )
        if k + 1 < len(ordered):
            after = ordered[k + 1]
            if after.start - sound.start <= HEARD or sound.start + sound.length - after.start >= 1:
                two = f"{name(sound.pitch, *key)} and {name(after.pitch, *key)}"
                where = bar_at(ruler, nearest(after.start))
                raise HeadwaterError(
                    f"{path}: bar {where}: {two} sound together in {label}; expected one note at a time: "
                    "give each voice its own part"
                )
            if min(nearest(after.start), last) == start:
                lost += 1
                continue
            stop = min(stop, nearest(after.start))
        shift = abs(sound.start - start)
        moved, farthest = moved + (shift > HEARD), max(farthest, shift)
        length = max(1, stop - start)
        resized += abs(sound.length - length) > HEARD and shift <= HEARD
        notes.append(Note(start, length, sound.pitch))
    return _Line(notes, _Changes(moved, farthest, resized, lost))


def _warnings(
    found: Found, chosen: list[Part], changes: list[_Changes], metres: tuple[tuple[int, str], ...], ruler: list[Bar]
) -> list[str]:
    told = []
    total = sum(len(p.notes) for p in chosen)
    moved, resized, lost = sum(c.moved for c in changes), sum(c.resized for c in changes), sum(c.lost for c in changes)
    if moved or resized or lost:
        far = float(max(c.farthest for c in changes))
        parts = [
            f"{moved} moved by up to {far:.2g} of a sixteenth" if moved else "",
            f"{resized} changed in length" if resized else "",
        ]
        parts.append(f"{lost} too short to keep left out" if lost else "")
        told.append(f"not on the grid of sixteenths: of {total} notes {', '.join(p for p in parts if p)}")
    drums = sum(p.percussion for p in found.parts)
    left_out = {**({"percussion parts": drums} if drums else {}), **found.left_out}
    if left_out:
        told.append("left out: " + ", ".join(f"{what} ({n})" for what, n in left_out.items()))
    if odd := sum(not SLOWEST <= tempo <= FASTEST for _, tempo in found.tempos):
        told.append(f"left out: tempos outside of {SLOWEST} to {FASTEST:,} quarters a minute ({odd})")
    if len(metres) > 1:
        change = ", ".join(f"{m} from bar {bar_at(ruler, f)}" for f, m in metres[:6]) + (", …" if len(metres) > 6 else "")
        told.append(f"the metre changes ({change}): the whole is understood in {ruling(metres, ruler[-1].stop)}")
    means = [np.mean([n.pitch for n in p.notes]) for p in chosen if p.notes]
    if len(means) > 1 and any(high < low for high, low in zip(means, means[1:], strict=False)):
        told.append("the parts are not in order from the highest down")
    return told


# What is around


def _changes(changes: list[tuple[Fraction, str]]) -> list[tuple[int, str]]:
    """By frame, in order, of one frame the last, and only those that change something."""
    found: list[tuple[int, str]] = []
    for frame, value in sorted({nearest(time): value for time, value in changes}.items()):
        if not found or found[-1][1] != value:
            found.append((max(frame, 0), value))
    return found


def _metres(found: Found, path: Path, frames: int) -> tuple[tuple[tuple[int, str], ...], tuple[int, ...]]:
    """The metres and those bar lines that they do not say."""
    for _, metre in found.metres:
        try:
            sixteenths(metre)
        except ValueError:
            raise HeadwaterError(
                f"{path}: the metre {shown(metre)} does not count whole notes to sixteenths; none such is read"
            ) from None
    metres = [(f, m) for f, m in _changes(found.metres) if f < frames or f == 0]
    if not metres or metres[0][0] > 0:
        metres.insert(0, (0, "4/4"))
    given = sorted({nearest(b) for b in found.bars if nearest(b) < frames} | {0}) if found.bars else []
    if given:
        if found.pickup and len(given) == 1:
            return tuple(metres), (0, frames)
        regular = [b.start for b in bars(frames, tuple(metres))] == given
        return tuple(metres), () if regular else tuple(given)
    # MIDI has no pickup: a first metre of one short bar, followed by another metre, is one.
    every = _changes(found.metres)
    if len(every) > 1 and every[0][0] == 0 and every[1][0] == sixteenths(every[0][1]) < sixteenths(every[1][1]):
        later = [(f, m) for f, m in every[2:] if f < frames]
        return ((0, every[1][1]), *later), (0, every[1][0])
    return tuple(metres), ()


def _pickup(ruler: list[Bar], metre: str) -> int:
    """Frames before the first full bar of the ruling metre, less whole bars."""
    first = ruler[0]
    if first.number == 0 and first.metre == metre:
        return first.stop % sixteenths(metre)
    full = next((b.start for b in ruler if b.metre == metre and b.stop - b.start == sixteenths(metre)), 0)
    return full % sixteenths(metre)


def _keys(found: Found, chosen: list[Part]) -> tuple[tuple[int, int, str], ...]:
    weights = np.zeros(12)
    for part in chosen:
        for sound in part.notes:
            weights[sound.pitch % 12] += float(sound.length)
    stated = [k for k in found.keys if -7 <= k[1] <= 7]
    if not stated:
        return ((0, *find(weights)),)
    keys: list[tuple[int, int, str]] = []
    for time, sharps, mode in sorted(stated, key=lambda k: k[0]):
        sharps, known = (sharps, mode) if mode else find(weights, sharps)
        if keys and keys[-1][0] == nearest(time):
            keys.pop()
        if not keys or keys[-1][1:] != (sharps, known):
            keys.append((max(nearest(time), 0), sharps, known))
    if keys[0][0] > 0:
        keys[0] = (0, *keys[0][1:])
    return tuple(keys)


def _tempos(found: Found) -> tuple[tuple[int, float], ...]:
    tempos: list[tuple[int, float]] = []
    for time, tempo in sorted(found.tempos, key=lambda t: t[0]):
        if not SLOWEST <= tempo <= FASTEST:
            continue
        if tempos and tempos[-1][0] == nearest(time):
            tempos.pop()
        if not tempos or tempos[-1][1] != tempo:
            tempos.append((max(nearest(time), 0), tempo))
    if not tempos or tempos[0][0] > 0:
        tempos.insert(0, (0, TEMPO))
    return tuple(tempos)

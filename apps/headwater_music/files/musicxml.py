"""Reading MusicXML (https://www.w3.org/2021/06/musicxml40/), plain or zipped (.mxl).

A MusicXML file states every duration as a number, so no theory is needed, only bookkeeping: a cursor that notes and ``forward``
move on and ``backup`` moves back. Untrusted: no entity may be declared, let alone resolved, and sizes are checked on the way.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from headwater.errors import HeadwaterError
from headwater_music.files.grid import MAX_BYTES, MAX_NOTES, Found, Part, Sound, check_size
from headwater_music.files.piece import sixteenths
from headwater_music.files.spelling import MODES

MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 64
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
UNITS = {"breve": 32, "whole": 16, "half": 8, "quarter": 4, "eighth": 2, "16th": 1}
GRACE, CUE, REPEATS = "grace notes", "cue notes", "repeats, which are played once"


def found(path: Path) -> Found:
    """What a MusicXML file holds. Raises :class:`HeadwaterError` for one that is empty, corrupt or unsafe."""
    check_size(path, MAX_BYTES)
    content = path.read_bytes()
    if content[:2] == b"PK":
        content = _unzipped(path, content)
    root = parsed(path, content)
    if root.tag == "score-timewise":
        raise HeadwaterError(f"{path}: a time-wise score; save it as part-wise MusicXML, as every notation program does")
    if root.tag != "score-partwise":
        raise HeadwaterError(f"{path}: not MusicXML: its root is <{root.tag[:40]}>; expected <score-partwise>")
    try:
        return _Score(root).found()
    except (ValueError, TypeError, AttributeError, IndexError, KeyError, ArithmeticError):
        raise HeadwaterError(f"{path}: corrupt: a note or a signature in it has no valid number") from None


def _unzipped(path: Path, content: bytes) -> bytes:
    """The score in a .mxl, which META-INF/container.xml names."""
    import io

    def member(archive: zipfile.ZipFile, name: str) -> bytes:
        with archive.open(name) as stream:
            taken = stream.read(MAX_BYTES + 1)
        if len(taken) > MAX_BYTES:
            raise HeadwaterError(f"{path}: it unpacks to over {MAX_BYTES:,} bytes; it was not unpacked further")
        return taken

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if len(names) > 1000:
                raise HeadwaterError(f"{path}: {len(names):,} files in it; a .mxl holds a score and a few more")
            named = [n for n in names if n.endswith((".xml", ".musicxml")) and not n.startswith("META-INF/")]
            if "META-INF/container.xml" in names:
                files = parsed(path, member(archive, "META-INF/container.xml")).iter("rootfile")
                named = [f.get("full-path", "") for f in files] + named
            if not named or named[0] not in names:
                raise HeadwaterError(f"{path}: no score in it: expected a .mxl file, with MusicXML inside")
            return member(archive, named[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError, KeyError):
        raise HeadwaterError(f"{path}: truncated or corrupt: not a valid .mxl (zip) file") from None


def parsed(path: Path, content: bytes) -> ElementTree.Element:
    """The root of an XML file. Raises :class:`HeadwaterError` at the first entity it declares, before that could be used."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > MAX_DEPTH or count > MAX_ELEMENTS:
            raise HeadwaterError(f"{path}: more than {MAX_ELEMENTS:,} elements, or {MAX_DEPTH} inside each other: not a score")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def entity(name: str, *_: Any) -> None:
        raise HeadwaterError(f"{path}: it declares an XML entity; none is resolved, and MusicXML needs none: save the score anew")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.EntityDeclHandler = entity
    parser.UnparsedEntityDeclHandler = entity
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError, AssertionError):
        raise HeadwaterError(f"{path}: truncated or corrupt: not valid XML") from None


@dataclass
class _Clock:
    """What holds from one measure of a part to the next."""

    step: Fraction = Fraction(4)  # sixteenths of a division
    semitones: int = 0
    bar: Fraction = Fraction(16)
    percussion: set[str] = field(default_factory=set)  # staves with a percussion clef


def _text(element: ElementTree.Element, path: str, otherwise: str = "") -> str:
    return (element.findtext(path) or otherwise).strip()


def _number(text: str) -> Fraction:
    """A plain decimal number; anything else, and what no score states, is a ``ValueError``."""
    value = Fraction(text) if len(text) <= 20 and "e" not in text.lower() else None
    if value is None or not -(1 << 31) < value < 1 << 31:
        raise ValueError(text)
    return value


class _Score:
    """One pass over the measures of all parts: a measure is as long as its longest part."""

    def __init__(self, root: ElementTree.Element) -> None:
        self.root = root
        self.known = Found()
        self.voices: dict[tuple[int, str], Part] = {}  # by part and voice, in the file's order
        self.held: list[tuple[Part, int]] = []  # notes under a fermata
        self.open: dict[tuple[int, str, int], int] = {}  # a tie begun: which of the voice's notes it goes on from

    def found(self) -> Found:
        parts = self.root.findall("part")
        names = {p.get("id"): _text(p, "part-name") for p in self.root.iterfind("part-list/score-part")}
        programs = {p.get("id"): _text(p, "midi-instrument/midi-program") for p in self.root.iterfind("part-list/score-part")}
        measures = [part.findall("measure") for part in parts]
        clocks = [_Clock() for _ in parts]
        at = Fraction(0)
        for m in range(max((len(column) for column in measures), default=0)):
            row = [(p, column[m]) for p, column in enumerate(measures) if m < len(column)]
            longest = max(self._measure(p, measure, clocks[p], at) for p, measure in row)
            if m == 0 and row[0][1].get("implicit") == "yes":
                self.known.pickup = True
            self.known.bars.append(at)
            at += longest or clocks[row[0][0]].bar
        self.known.length = at
        for voice, k in self.held:
            voice.fermatas.append((voice.notes[k].start, voice.notes[k].start + voice.notes[k].length))
        if self.known.left_out.get(REPEATS):
            self.known.left_out[REPEATS] = len({id(r) for r in measures[0] if r.find("barline/repeat") is not None})
        for p, part in enumerate(parts):
            self._named(p, names.get(part.get("id")) or "", programs.get(part.get("id")) or "")
        return self.known

    def _named(self, p: int, name: str, program: str) -> None:
        """Voices of a part in the order of their numbers; empty ones beside sounding ones are only a way of writing."""
        mine = [(v, part) for (q, v), part in self.voices.items() if q == p]
        mine.sort(key=lambda m: (len(m[0]), m[0]))
        sounding = [m for m in mine if m[1].notes] or mine[:1]
        for v, part in sounding:
            part.name = name if len(sounding) == 1 else f"{name} {v}".strip()
            part.program = int(program) - 1 if program.isdecimal() and 1 <= int(program) <= 128 else None
            self.known.parts.append(part)

    def _measure(self, p: int, measure: ElementTree.Element, clock: _Clock, at: Fraction) -> Fraction:
        """Read a measure that begins at a time; returns its length in sixteenths."""
        now = before = longest = Fraction(0)
        for element in measure:
            if element.tag == "attributes":
                self._attributes(p, element, clock, at + now)
            elif element.tag == "note":
                length = _number(_text(element, "duration", "0")) * clock.step
                if length < 0:
                    raise ValueError
                chord = element.find("chord") is not None
                start = before if chord else now
                self._note(p, element, clock, at + start, length)
                if not chord and element.find("grace") is None:
                    before, now = now, now + length
            elif element.tag in ("backup", "forward"):
                length = _number(_text(element, "duration")) * clock.step
                now = max(now - length, Fraction(0)) if element.tag == "backup" else now + length
            elif element.tag in ("direction", "sound"):
                self._tempo(element, at + now + _number(_text(element, "offset", "0")) * clock.step)
            elif element.tag == "barline" and element.find("repeat") is not None:
                self.known.left_out[REPEATS] = 1
            longest = max(longest, now)
        return longest

    def _attributes(self, p: int, element: ElementTree.Element, clock: _Clock, now: Fraction) -> None:
        if element.find("divisions") is not None:
            clock.step = Fraction(4) / _number(_text(element, "divisions"))
            if clock.step <= 0:
                raise ValueError
        for transpose in element.findall("transpose")[:1]:
            octaves = int(_text(transpose, "octave-change", "0"))
            clock.semitones = int(_number(_text(transpose, "chromatic", "0"))) + 12 * octaves
        for clef in element.findall("clef"):
            staff = clef.get("number", "1")
            (clock.percussion.add if _text(clef, "sign") == "percussion" else clock.percussion.discard)(staff)
        for time in element.findall("time")[:1]:
            beats, units = [int(b) for b in _text(time, "beats").split("+") if b], [_text(time, "beat-type")]
            if not beats or time.find("senza-misura") is not None:
                continue
            metre = f"{sum(beats)}/{int(units[0])}"
            try:
                clock.bar = Fraction(sixteenths(metre))
            except (ValueError, ZeroDivisionError):
                clock.bar = Fraction(16)
            if p == 0:
                self.known.metres.append((now, metre))
        for key in element.findall("key")[:1]:
            if p == 0 and key.find("fifths") is not None:
                sharps, mode = int(_text(key, "fifths")), _text(key, "mode").lower()
                sharps += _fifths(clock.semitones)  # a transposing part writes another key than sounds
                if -7 <= sharps <= 7:
                    self.known.keys.append((now, sharps, mode if mode in MODES else None))

    def _tempo(self, element: ElementTree.Element, now: Fraction) -> None:
        sound = element if element.tag == "sound" else element.find("sound")
        metronome = element.find("direction-type/metronome")
        if sound is not None and sound.get("tempo"):
            self.known.tempos.append((now, float(_number(sound.get("tempo", "")))))
        elif metronome is not None and _text(metronome, "beat-unit") in UNITS:
            minute = _text(metronome, "per-minute")
            if minute.replace(".", "", 1).isdecimal():
                dotted = Fraction(3, 2) if metronome.find("beat-unit-dot") is not None else 1
                self.known.tempos.append((now, float(_number(minute) * UNITS[_text(metronome, "beat-unit")] * dotted / 4)))

    def _note(self, p: int, element: ElementTree.Element, clock: _Clock, start: Fraction, length: Fraction) -> None:
        for tag, what in (("grace", GRACE), ("cue", CUE)):
            if element.find(tag) is not None:
                self.known.left_out[what] = self.known.left_out.get(what, 0) + 1
                return
        voice, staff = _text(element, "voice", "1"), _text(element, "staff", "1")
        percussion = element.find("unpitched") is not None or staff in clock.percussion
        part = self.voices.setdefault((p, voice + " percussion" * percussion), Part(percussion=percussion))
        if element.find("rest") is not None:
            return
        pitch = 60 if element.find("unpitched") is not None else self._pitch(element) + clock.semitones
        fermata = element.find("notations/fermata") is not None
        ties = {t.get("type") for t in element.findall("tie")}
        goes_on = self.open.pop((p, voice, pitch), None) if "stop" in ties else None
        if goes_on is not None and part.notes[goes_on].start + part.notes[goes_on].length == start:
            begun = part.notes[goes_on]
            part.notes[goes_on] = Sound(begun.start, begun.length + length, pitch)
        else:
            goes_on = len(part.notes)
            part.notes.append(Sound(start, length, pitch))
            if len(part.notes) > MAX_NOTES:
                raise ValueError
        if "start" in ties:
            self.open[p, voice, pitch] = goes_on
        if fermata:
            self.held.append((part, goes_on))

    def _pitch(self, element: ElementTree.Element) -> int:
        step, octave = STEPS[_text(element, "pitch/step")], int(_text(element, "pitch/octave"))
        return 12 * (octave + 1) + step + round(_number(_text(element, "pitch/alter", "0")))


def _fifths(semitones: int) -> int:
    """Sharps that a signature gains when what it stands for sounds so many semitones higher: the nearer way round the circle.

    >>> _fifths(-2), _fifths(7)  # a clarinet in B flat, a fifth up
    (-2, 1)
    """
    return (7 * semitones + 5) % 12 - 5

"""Writing MusicXML 4.0 (https://www.w3.org/2021/06/musicxml40/): pitches spelled in the key, notes cut at bar lines and tied.

Written directly rather than by music21, whose export carries a date and random ids: the same piece gives the same bytes.
A change of key inside a bar is written at the next bar line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np

from headwater_music.files.piece import Bar, Piece, save, sixteenths
from headwater_music.files.spelling import STEPS, spelled
from headwater_music.score import Phrase

Layout = Literal["parts", "closed"]

VALUES = {32: ("breve", 0), 24: ("whole", 1), 16: ("whole", 0), 12: ("half", 1), 8: ("half", 0), 6: ("quarter", 1)}
VALUES |= {4: ("quarter", 0), 3: ("eighth", 1), 2: ("eighth", 0), 1: ("16th", 0)}
ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
TREBLE, TENOR, BASS = ("G", 2, 0), ("G", 2, -1), ("F", 4, 0)  # sign, line, octaves
CLOSED_VOICES = ("1", "2", "5", "6")  # soprano and alto on one staff, tenor and bass on the other


@dataclass(frozen=True)
class Token:
    """A written note or rest (pitch 0) of a voice: one value, no bar line inside."""

    start: int
    length: int
    pitch: int
    tied_in: bool = False
    tied_out: bool = False
    fermata: bool = False
    accidental: str = ""
    beams: tuple[str, ...] = ()
    whole_bar: bool = False


# Values


def _beat(metre: str) -> int:
    """Sixteenths of a beat: three units of a compound metre, else one."""
    beats, unit = (int(n) for n in metre.split("/"))
    return 6 if unit == 8 and beats % 3 == 0 else 16 // unit


def values(offset: int, length: int, beat: int, rest: bool = False) -> list[int]:
    """A length as values that show the beat: one that begins off the beat ends by the next, short of a plain syncopation.

    >>> values(0, 6, 4), values(2, 4, 4), values(3, 4, 4), values(0, 8, 6), values(2, 8, 4, rest=True)
    ([6], [4], [1, 3], [6, 2], [2, 4, 2])
    """
    written = []
    while length:
        into = offset % beat
        room = length if into == 0 or (length == beat and 2 * into == beat and not rest) else min(length, beat - into)
        fitting = [v for v in VALUES if v <= room]
        if beat == 6:
            fitting = [v for v in fitting if v < 6 or v % 6 == 0]
        if rest:
            fitting = [v for v in fitting if v == 1 or (v in (2, 4, 8, 16) and offset % v == 0) or (beat == 6 == v and into == 0)]
            if beat == 6:
                fitting = [v for v in fitting if v <= 6]
        written.append(fitting[0])
        offset, length = offset + fitting[0], length - fitting[0]
    return written


def _fermatas(phrase: Phrase) -> set[tuple[int, int]]:
    """(voice, start) of the notes to mark: in each voice the last one of a held stretch, and more only where those leave a gap."""
    notes = [(v, n.start, n.start + n.length) for v in range(phrase.voices) for n in phrase.notes(v)]
    marked: set[tuple[int, int]] = set()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], phrase.fermata.astype(np.int8), [0]]))).reshape(-1, 2)
    for low, high in edges.tolist():
        inside = [n for n in notes if low <= n[1] and n[2] <= high]
        mine = [n for n in inside if n[2] == high]
        at = low
        while at < high:
            reach = max((n[2] for n in mine if n[1] <= at), default=at)
            if reach <= at:
                more = [n for n in inside if n[1] <= at < n[2] and n not in mine]
                if not more:
                    break
                mine.append(max(more, key=lambda n: n[2]))
                continue
            at = reach
        marked |= {(v, start) for v, start, _ in mine}
    return marked


def _tokens(phrase: Phrase, voice: int, measures: list[Bar]) -> list[list[Token]]:
    """What is written in each bar, rests included."""
    fermatas = _fermatas(phrase) if phrase.fermata.any() else set()
    notes = phrase.notes(voice)
    rows: list[list[Token]] = []
    k = 0
    for bar in measures:
        beat, row, now = _beat(bar.metre), list[Token](), bar.start
        shift = sixteenths(bar.metre) - (bar.stop - bar.start) if bar.number == 0 else 0  # a pickup ends where a bar does

        def fill(start: int, stop: int, bar: Bar = bar, beat: int = beat, shift: int = shift) -> Iterator[Token]:
            if (start, stop) == (bar.start, bar.stop) and stop - start == sixteenths(bar.metre):
                yield Token(start, stop - start, 0, whole_bar=True)
                return
            for value in values(start - bar.start + shift, stop - start, beat, rest=True):
                yield Token(start, value, 0)
                start += value

        while k < len(notes) and notes[k].start < bar.stop:
            start, end = max(notes[k].start, bar.start), notes[k].start + notes[k].length
            if start > now:
                row += fill(now, start)
            now = min(end, bar.stop)
            for value in values(start - bar.start + shift, now - start, beat):
                last = start + value == end
                held = last and (voice, notes[k].start) in fermatas
                row.append(Token(start, value, notes[k].pitch, start > notes[k].start, not last, held))
                start += value
            if end > bar.stop:
                break
            k += 1
        if now < bar.stop:
            row += fill(now, bar.stop)
        rows.append(_beamed(row, bar, shift))
    return rows


def _beamed(row: list[Token], bar: Bar, shift: int) -> list[Token]:
    """Beams over the short notes that share a beat (of a quarter, in simple metres)."""
    window = 6 if _beat(bar.metre) == 6 else 4
    groups: dict[tuple[int, int], list[int]] = {}
    gap = 0
    for k, token in enumerate(row):
        if not token.pitch or token.length > 3:
            gap += 1
            continue
        groups.setdefault((gap, (token.start - bar.start + shift) // window), []).append(k)
    for group in groups.values():
        if len(group) < 2:
            continue
        for place, k in enumerate(group):
            beams = [_beam(place > 0, place + 1 < len(group))]
            if row[k].length == 1:
                joins = [0 <= other < len(group) and row[group[other]].length == 1 for other in (place - 1, place + 1)]
                hook = "forward hook" if place == 0 else "backward hook"
                beams.append(_beam(*joins) if any(joins) else hook)
            row[k] = replace(row[k], beams=tuple(beams))
    return row


def _beam(left: bool, right: bool) -> str:
    return "continue" if left and right else "begin" if right else "end"


# Pitches


def _key(piece: Piece, frame: int) -> tuple[int, str]:
    return next((s, m) for f, s, m in reversed(piece.signatures) if f <= frame or f == 0)


def _signature(sharps: int, step: str) -> int:
    """What a key signature does to a step."""
    place = STEPS.index(step)
    return int(place < sharps) - int(place >= 7 + sharps)


def _with_accidentals(piece: Piece, bar: Bar, staff: list[list[Token]]) -> list[list[Token]]:
    """The voices of one staff in one bar, each note with the accidental that a reader needs."""
    signature, _ = _key(piece, bar.start)  # the one on the page
    shown: dict[tuple[str, int], int] = {}
    marks: dict[tuple[int, int], str] = {}
    for start, v, k in sorted(
        (t.start, v, k) for v, row in enumerate(staff) for k, t in enumerate(row) if t.pitch and not t.tied_in
    ):
        sharps, mode = _key(piece, start)
        step, alter, octave = spelled(staff[v][k].pitch, sharps, mode)
        if shown.get((step, octave), _signature(signature, step)) != alter:
            marks[v, k] = ACCIDENTALS[alter]
            shown[step, octave] = alter
    return [[replace(t, accidental=marks.get((v, k), "")) for k, t in enumerate(row)] for v, row in enumerate(staff)]


# Elements


def _note(piece: Piece, token: Token, voice: str, stem: str, staff: int) -> str:
    name, dots = VALUES.get(token.length, ("", 0))
    ties = [kind for kind, there in (("stop", token.tied_in), ("start", token.tied_out)) if there]
    out = ["<note>"]
    if token.pitch:
        step, alter, octave = spelled(token.pitch, *_key(piece, token.start))
        altered = f"<alter>{alter}</alter>" if alter else ""
        out.append(f"<pitch><step>{step}</step>{altered}<octave>{octave}</octave></pitch>")
    else:
        out.append('<rest measure="yes"/>' if token.whole_bar else "<rest/>")
    out.append(f"<duration>{token.length}</duration>")
    out += [f'<tie type="{kind}"/>' for kind in ties]
    out.append(f"<voice>{voice}</voice>")
    if not token.whole_bar:
        out.append(f"<type>{name}</type>" + "<dot/>" * dots)
    if token.accidental:
        out.append(f"<accidental>{token.accidental}</accidental>")
    if stem and token.pitch:
        out.append(f"<stem>{stem}</stem>")
    if staff:
        out.append(f"<staff>{staff}</staff>")
    out += [f'<beam number="{level}">{kind}</beam>' for level, kind in enumerate(token.beams, 1)]
    notations = [f'<tied type="{kind}"/>' for kind in ties]
    if token.fermata:
        notations.append('<fermata type="inverted"/>' if stem == "down" else '<fermata type="upright"/>')
    if notations:
        out.append(f"<notations>{''.join(notations)}</notations>")
    return "".join(out) + "</note>"


def _attributes(piece: Piece, measures: list[Bar], m: int, clefs: list[tuple[str, int, int]]) -> str:
    """What changes at the beginning of a bar."""
    bar, out = measures[m], []
    if m == 0:
        out.append("<divisions>4</divisions>")
    before, now = _key(piece, measures[m - 1].start) if m else None, _key(piece, bar.start)
    if before != now:
        out.append(f"<key><fifths>{now[0]}</fifths><mode>{now[1]}</mode></key>")
    if m == 0 or measures[m - 1].metre != bar.metre:
        beats, unit = bar.metre.split("/")
        out.append(f"<time><beats>{beats}</beats><beat-type>{unit}</beat-type></time>")
    if m == 0:
        if len(clefs) > 1:
            out.append(f"<staves>{len(clefs)}</staves>")
        for number, (sign, line, octaves) in enumerate(clefs, 1):
            which = f' number="{number}"' if len(clefs) > 1 else ""
            change = f"<clef-octave-change>{octaves}</clef-octave-change>" if octaves else ""
            out.append(f"<clef{which}><sign>{sign}</sign><line>{line}</line>{change}</clef>")
    return f"<attributes>{''.join(out)}</attributes>" if out else ""


def _tempos(piece: Piece, bar: Bar) -> str:
    out = []
    for frame, tempo in piece.tempos:
        if bar.start <= frame < bar.stop:
            offset = f"<offset>{frame - bar.start}</offset>" if frame > bar.start else ""
            mark = f"<metronome><beat-unit>quarter</beat-unit><per-minute>{tempo:.4g}</per-minute></metronome>"
            sound = f'<sound tempo="{tempo:.7g}"/>'
            out.append(f'<direction placement="above"><direction-type>{mark}</direction-type>{offset}{sound}</direction>')
    return "".join(out)


def _clef(phrase: Phrase, *voices: int) -> tuple[str, int, int]:
    pitches = phrase.pitch[:, voices]
    middle = float(np.mean(pitches[pitches > 0])) if (pitches > 0).any() else 67.0
    return TREBLE if middle >= 60 else TENOR if middle >= 53 and voices == (2,) and phrase.voices == 4 else BASS


def _part(piece: Piece, number: int, rows: dict[int, list[list[Token]]], staves: list[tuple[int, ...]]) -> str:
    """One part: its voices, two on a staff or one."""
    measures, paired = piece.bars, len(staves) > 1
    clefs = [_clef(piece.phrase, *staff) for staff in staves] if not paired else [TREBLE, BASS]
    out = [f'<part id="P{number}">']
    for m, bar in enumerate(measures):
        implicit = ' implicit="yes"' if bar.number == 0 else ""
        out.append(f'<measure number="{bar.number}"{implicit}>')
        out.append(_attributes(piece, measures, m, clefs))
        out.append(_tempos(piece, bar) if number == 1 else "")
        first = True
        for s, staff in enumerate(staves, 1):
            for place, row in enumerate(_with_accidentals(piece, bar, [rows[v][m] for v in staff])):
                if not first:
                    out.append(f"<backup><duration>{bar.stop - bar.start}</duration></backup>")
                first = False
                stem = ("up", "down")[place] if paired else ""
                voice = CLOSED_VOICES[staff[place]] if paired else "1"
                out += [_note(piece, token, voice, stem, s if paired else 0) for token in row]
        if m == len(measures) - 1:
            out.append('<barline location="right"><bar-style>light-heavy</bar-style></barline>')
        out.append("</measure>\n")
    return "".join(out) + "</part>\n"


def text(piece: Piece, layout: Layout = "parts") -> str:
    """The MusicXML of a piece: each voice a part with its own staff, or (four voices only) ``"closed"``: two voices a staff."""
    phrase = piece.phrase
    measures = piece.bars
    rows = {v: _tokens(phrase, v, measures) for v in range(phrase.voices)}
    closed = layout == "closed" and phrase.voices == 4
    parts: list[list[tuple[int, ...]]] = [[(0, 1), (2, 3)]] if closed else [[(v,)] for v in range(phrase.voices)]
    names = ("",) if closed else piece.voice_names
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n<score-partwise version="4.0">\n']
    out.append("<identification><encoding><software>Headwater</software></encoding></identification>\n<part-list>")
    bracket = len(parts) > 1
    if bracket:
        out.append('<part-group type="start" number="1"><group-symbol>bracket</group-symbol></part-group>')
    for k, (name, program) in enumerate(zip(names, piece.voice_programs, strict=False), 1):
        clean = escape("".join(c for c in name if c.isprintable()))
        sound = f'<midi-instrument id="P{k}-I1"><midi-channel>{k}</midi-channel><midi-program>{program + 1}</midi-program>'
        out.append(f'<score-part id="P{k}"><part-name>{clean}</part-name><score-instrument id="P{k}-I1"><instrument-name>')
        out.append(f"{clean}</instrument-name></score-instrument>{sound}</midi-instrument></score-part>")
    out.append('<part-group type="stop" number="1"/></part-list>\n' if bracket else "</part-list>\n")
    out += [_part(piece, k, rows, staves) for k, staves in enumerate(parts, 1)]
    return "".join(out) + "</score-partwise>\n"


def write(piece: Piece, path: Path, layout: Layout = "parts") -> Path:
    """Write MusicXML. Raises :class:`HeadwaterError` where it cannot be written."""
    return save(path, text(piece, layout).encode())

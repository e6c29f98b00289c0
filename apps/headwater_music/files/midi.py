"""MIDI files: read by symusic, written here byte by byte, so that a file ends exactly where the music does.

What MIDI has no word for is kept in its own ways: a pickup as a first bar of a shorter metre, the length as a marker where the
last frames are silent or the file is to loop (``loopStart`` and ``loopEnd``, which game engines look for), fermatas as markers.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater_music.files.grid import MAX_BYTES, MAX_FRAMES, Found, Part, Sound, check_size
from headwater_music.files.piece import Piece, save, sixteenths

DIVISION = 480  # ticks a quarter in what is written
FRAME = DIVISION // 4
VELOCITY = 80
END, LOOP_START, LOOP_END = "end", "loopStart", "loopEnd"
FERMATA, FERMATA_END = "fermata", "fermata end"


def found(path: Path) -> Found:
    """What a MIDI file holds. Raises :class:`HeadwaterError` for one that is empty, corrupt or in time code."""
    check_size(path, MAX_BYTES)
    score = _parsed(path, path.read_bytes())
    step = Fraction(4, score.ticks_per_quarter)
    if score.end() * step > MAX_FRAMES:
        raise HeadwaterError(f"{path}: longer than {MAX_FRAMES:,} sixteenths: cut out the part you need")
    known = Found(
        metres=[(t.time * step, f"{t.numerator}/{t.denominator}") for t in score.time_signatures],
        keys=[(k.time * step, k.key, "minor" if k.tonality else "major") for k in score.key_signatures],
        tempos=[(t.time * step, round(60e6 / t.mspq, 3)) for t in score.tempos if t.mspq > 0],
    )
    for track in score.tracks:
        part = Part(track.name, program=track.program, percussion=track.is_drum)
        part.notes = [Sound(n.time * step, n.duration * step, n.pitch) for n in track.notes]
        known.parts.append(part)
    known.length = max((m.time * step for m in score.markers if m.text in (END, LOOP_END)), default=Fraction(0))
    begun: Fraction | None = None
    for marker in score.markers:
        if marker.text == FERMATA:
            begun = marker.time * step
        elif marker.text == FERMATA_END and begun is not None:
            next((p for p in known.parts if not p.percussion), Part()).fermatas.append((begun, marker.time * step))
            begun = None
    return known


def _parsed(path: Path, content: bytes) -> Any:
    import symusic

    if content[:4] == b"RIFF" and content[8:12] == b"RMID":
        content = content[20:]
    if content[:4] != b"MThd":
        raise HeadwaterError(f"{path}: not a MIDI file: it does not begin with MThd")
    if len(content) < 14:
        raise HeadwaterError(f"{path}: truncated: a MIDI file has a header of 14 bytes; {len(content)} are here")
    size, kind, tracks, division = struct.unpack(">IHHH", content[4:14])
    if size != 6 or kind > 1 or tracks == 0:
        stated = f"{size} bytes, format {kind}, {tracks} tracks"
        raise HeadwaterError(f"{path}: its header is wrong ({stated}); expected 6 bytes, format 0 or 1, and a track or more")
    if division == 0 or division & 0x8000:
        raise HeadwaterError(f"{path}: its header counts time in video frames or not at all; expected ticks per quarter note")
    try:
        return symusic.Score.from_midi(content)
    except Exception:  # its messages quote the file's bytes
        raise HeadwaterError(f"{path}: truncated or corrupt: not a valid MIDI file") from None


# Writing


def _size(n: int) -> bytes:
    """A number as MIDI writes them: seven bits a byte, the highest first.

    >>> _size(480).hex()
    '8360'
    """
    more = [n & 127]
    while n := n >> 7:
        more.append(n & 127 | 128)
    return bytes(reversed(more))


def _meta(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + _size(len(content)) + content


def _track(events: list[tuple[int, int, bytes]], frames: int) -> bytes:
    """A chunk of (frame, order among those of one frame, event), its end at ``frames``."""
    body, now = b"", 0
    for frame, _, event in sorted(events, key=lambda e: e[:2]):
        body += _size((frame - now) * FRAME) + event
        now = frame
    body += _size((frames - now) * FRAME) + _meta(0x2F, b"")
    return b"MTrk" + struct.pack(">I", len(body)) + body


def _signatures(piece: Piece) -> list[tuple[int, str]]:
    """Metres by frame such that every bar line falls where the piece has it; a last bar may end early."""
    told: list[tuple[int, str]] = []
    measures = piece.bars
    for bar in measures:
        length = bar.stop - bar.start
        whole = length == sixteenths(bar.metre) or (bar is measures[-1] and bar.number > 0)
        unit = next(u for u in (4, 8, 16) if length * u % 16 == 0)
        whole = whole or length * unit // 16 > 255  # more than the format can say
        told.append((bar.start, bar.metre if whole else f"{length * unit // 16}/{unit}"))
    if measures and measures[0].number == 0 and len(measures) == 1:  # nothing but a pickup
        told.append((measures[0].stop, measures[0].metre))
    return [now for now, before in zip(told, [(0, ""), *told], strict=False) if now[1] != before[1]]


def content(piece: Piece, loop: bool = False, silence: int = 0) -> bytes:
    """The bytes of a MIDI file, format 1: a track of tempo, metre, key and markers, then one a voice.

    Every track ends at the phrase's last frame, or ``silence`` frames later. With ``loop`` markers say from where to where."""
    phrase, frames = piece.phrase, piece.phrase.frames
    guide: list[tuple[int, int, bytes]] = []
    for frame, metre in _signatures(piece):
        beats, unit = (int(n) for n in metre.split("/"))
        clock = 36 if unit == 8 and beats % 3 == 0 else 96 // unit
        guide.append((frame, 0, _meta(0x58, bytes((beats, unit.bit_length() - 1, clock, 8)))))
    for frame, sharps, mode in piece.signatures:
        guide.append((frame, 1, _meta(0x59, struct.pack("bB", sharps, mode in ("minor", "aeolian")))))
    for frame, tempo in piece.tempos:
        guide.append((frame, 2, _meta(0x51, round(60e6 / tempo).to_bytes(3, "big"))))
    marks = [(0, LOOP_START), (frames, LOOP_END)] if loop else [(frames, END)] * bool(frames and not phrase.pitch[-1].any())
    held = [0, *phrase.fermata.astype(int), 0]
    for frame, (before, now) in enumerate(zip(held, held[1:], strict=False)):
        if now != before:
            marks.append((frame, FERMATA if now else FERMATA_END))
    guide += [(frame, 3, _meta(0x06, text.encode())) for frame, text in marks]
    guide = [event for event in guide if event[0] <= frames]

    chunks = [_track(guide, frames + silence)]
    for v, (name, program) in enumerate(zip(piece.voice_names, piece.voice_programs, strict=True)):
        line: list[tuple[int, int, bytes]] = [(0, 0, _meta(0x03, name.encode())), (0, 1, bytes((0xC0 | v, program)))]
        for start, length, pitch in phrase.notes(v):
            line.append((start, 3, bytes((0x90 | v, pitch, VELOCITY))))
            line.append((start + length, 2, bytes((0x80 | v, pitch, 0))))
        chunks.append(_track(line, frames + silence))
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), DIVISION) + b"".join(chunks)


def write(piece: Piece, path: Path, loop: bool = False) -> Path:
    """Write a MIDI file. Raises :class:`HeadwaterError` where it cannot be written."""
    return save(path, content(piece, loop))

"""Reading music: what a file says arrives, what had to change is counted, and every bad file is one clear line."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError
from headwater_music.files import midi, notation, read
from headwater_music.files.piece import Piece
from headwater_music.score import Note, Phrase

QUARTER = 480
SCALE = [60, 62, 64, 65, 67, 69, 71, 72]


def delta(n: int) -> bytes:
    more = [n & 127]
    while n := n >> 7:
        more.append(n & 127 | 128)
    return bytes(reversed(more))


def meta(kind: int, content: bytes) -> bytes:
    return bytes((255, kind, len(content))) + content


def track(events: list[tuple[int, bytes]]) -> bytes:
    """A chunk of (tick, event)."""
    body, now = b"", 0
    for tick, event in sorted(events, key=lambda e: e[0]):
        body += delta(tick - now) + event
        now = tick
    body += b"\0" + meta(0x2F, b"")
    return b"MTrk" + struct.pack(">I", len(body)) + body


def line(notes: list[tuple[float, float, int]], channel: int = 0, name: str = "") -> list[tuple[int, bytes]]:
    """Events of (start, length, pitch) in quarters."""
    events: list[tuple[int, bytes]] = [(0, meta(3, name.encode()))] if name else []
    for start, length, pitch in notes:
        events.append((round((start + length) * QUARTER), bytes((0x80 | channel, pitch, 0))))
    for start, _, pitch in notes:
        events.append((round(start * QUARTER), bytes((0x90 | channel, pitch, 80))))
    return events


def smf(path: Path, *tracks: list[tuple[int, bytes]], header: tuple[int, int, int, int] | None = None) -> Path:
    size, kind, count, division = header or (6, 1, len(tracks), QUARTER)
    path.write_bytes(b"MThd" + struct.pack(">IHHH", size, kind, count, division) + b"".join(track(t) for t in tracks))
    return path


def scale(step: float = 1.0, length: float = 1.0) -> list[tuple[float, float, int]]:
    return [(k * step, length, pitch) for k, pitch in enumerate(SCALE)]


def xml(path: Path, measures: str, part: str = "Flute", before: str = "") -> Path:
    path.write_text(
        f'<?xml version="1.0"?>{before}<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>{part}</part-name>'
        f'</score-part></part-list><part id="P1">{measures}</part></score-partwise>'
    )
    return path


def note(step: str, duration: int, more: str = "", octave: int = 4) -> str:
    pitch = f"<pitch><step>{step[0]}</step><alter>{step.count('#') - step.count('b')}</alter><octave>{octave}</octave></pitch>"
    return f"<note>{pitch}<duration>{duration}</duration>{more}</note>"


def attributes(divisions: int = 4, fifths: int = 0, more: str = "", time: tuple[int, int] = (4, 4)) -> str:
    key = f"<key><fifths>{fifths}</fifths></key><time><beats>{time[0]}</beats><beat-type>{time[1]}</beat-type></time>"
    return f"<attributes><divisions>{divisions}</divisions>{key}{more}</attributes>"


def message(path: Path, **options: object) -> str:
    """The one line that a bad file gives."""
    with pytest.raises(HeadwaterError) as error:
        read(path, **options)  # type: ignore[arg-type]
    text = str(error.value)
    assert "\n" not in text and str(path) in text and len(text) < 600
    assert error.value.__suppress_context__ or error.value.__cause__ is None
    return text


# MIDI


def test_midi_arrives(tmp_path: Path) -> None:
    guide = [(0, meta(0x58, bytes((3, 2, 24, 8)))), (0, meta(0x59, struct.pack("bB", -1, 1))), (0, meta(0x51, b"\x07\xa1\x20"))]
    piece = read(smf(tmp_path / "a.mid", guide, line(scale(), name="Flute")), voices=1)
    assert piece.phrase.notes(0) == [Note(4 * k, 4, pitch) for k, pitch in enumerate(SCALE)]
    assert (piece.phrase.metre, piece.phrase.key, piece.names, piece.warnings) == ("3/4", "D minor", ("Flute",), ())
    assert piece.tempos == ((0, 120.0),) and piece.seconds(8) == 1.0


def test_off_grid_is_counted(tmp_path: Path) -> None:
    """A triplet's second and third note move; a note-off that comes early changes a length; a jitter of 2 ms is nothing."""
    triplet = [(0.0, 1 / 3, 60), (1 / 3, 1 / 3, 62), (2 / 3, 1 / 3, 64), (1.004, 0.9, 65), (2.0, 1.0, 67)]
    piece = read(smf(tmp_path / "a.mid", line(triplet)))
    assert [n.start for n in piece.phrase.notes(0)] == [0, 1, 3, 4, 8]
    (warning,) = piece.warnings
    assert "of 5 notes 2 moved by up to 0.33 of a sixteenth, 2 changed in length" in warning
    fast = [(k / 8, 1 / 8, 60 + k) for k in range(8)]
    lost = read(smf(tmp_path / "b.mid", line(fast)))
    assert len(lost.phrase.notes(0)) == 4 and "4 too short to keep left out" in lost.warnings[0]
    legato = [(k * 0.5, 0.6, pitch) for k, pitch in enumerate(SCALE)]  # each note held a little into the next
    assert [n.length for n in read(smf(tmp_path / "c.mid", line(legato))).phrase.notes(0)] == [2] * 8


def test_a_track_is_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = smf(tmp_path / "a.mid", line(scale(), name="Flute"), line(scale()[:3], 1, "Viola"), line([(0, 1, 36)], 9, "Drums"))
    told = message(path, voices=1)
    assert "1 'Flute' (8 notes), 2 'Viola' (3 notes)" in told and "Drums" not in told
    for choice, count in (("flute", 8), ("2", 3), (1, 8), ("vio", 3)):
        assert len(read(path, track=choice).phrase.notes(0)) == count
    assert "left out: percussion parts (1)" in read(path, track=1).warnings
    for choice in ("3", "0", "l", "", "99999999999"):
        assert "choose by name or number" in message(path, track=choice)
    assert read(path).phrase.voices == 2
    assert "expected 4 voices" in message(path, voices=4)


def test_metre_changes_are_kept(tmp_path: Path) -> None:
    guide = [(0, meta(0x58, bytes((4, 2, 24, 8)))), (4 * QUARTER, meta(0x58, bytes((3, 2, 24, 8))))]
    notes = [(float(k), 1.0, 60 + k % 5) for k in range(10)]
    piece = read(smf(tmp_path / "a.mid", guide, line(notes)))
    assert piece.metres == ((0, "4/4"), (16, "3/4"))
    assert [(b.start, b.number, b.metre) for b in piece.bars] == [(0, 1, "4/4"), (16, 2, "3/4"), (28, 3, "3/4")]
    assert piece.phrase.metre == "3/4" and "the metre changes (4/4 from bar 1, 3/4 from bar 2)" in piece.warnings[0]
    again = read(midi.write(piece, tmp_path / "b.mid"))
    assert (again.phrase, again.metres) == (piece.phrase, piece.metres)
    assert read(notation.write(piece, tmp_path / "b.musicxml")).bars == piece.bars


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ((8, 1, 1, 480), "its header is wrong"),
        ((6, 2, 1, 480), "its header is wrong"),
        ((6, 1, 0, 480), "its header is wrong"),
        ((6, 1, 1, 0), "expected ticks per quarter"),
        ((6, 1, 1, 0xE728), "expected ticks per quarter"),
    ],
)
def test_wrong_headers(tmp_path: Path, header: tuple[int, int, int, int], told: str) -> None:
    assert told in message(smf(tmp_path / "a.mid", line(scale()), header=header))


def test_bad_midi(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    assert "percussion" in message(smf(path, line(scale(), 9)))
    assert "no notes" in message(smf(path, []))
    assert "bar 2: E4 and G4 sound together in part 1" in message(smf(path, line([(0, 4, 60), (4, 1, 64), (4, 1, 67)])))
    assert "bar 2: C4 and D4 sound together" in message(smf(path, line([(0, 8, 60), (4, 1, 62)])))
    assert "bar 3: C2 (MIDI 36) in part 1 is out of range; expected B♭2 to C6" in message(
        smf(path, [(0, meta(0x59, struct.pack("bB", -2, 0))), *line([(0, 8, 60), (8, 1, 36)])]), lowest=46, highest=84
    )
    assert "longer than" in message(smf(path, line([(0, 1, 60), (100000, 1, 60)])))
    assert "its metre is 5/4" in message(smf(path, [(0, meta(0x58, bytes((5, 2, 24, 8)))), *line(scale())]))
    whole = smf(path, line(scale())).read_bytes()
    for content, told in (
        (b"", "empty"),
        (b"RIFF" + whole, "MThd"),
        (whole[:9], "truncated"),
        (whole[:-9], "truncated or corrupt"),
    ):
        path.write_bytes(content)
        assert told in message(path)
    path.write_bytes(bytes(midi.MAX_BYTES + 1))
    assert "are read up to" in message(path)
    assert "no such file" in message(tmp_path / "missing.mid")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    assert "unsupported kind of file; expected .mid" in message(tmp_path / "a.wav")


# MusicXML


def test_musicxml_arrives(tmp_path: Path) -> None:
    """A pickup, a tie over a bar line, a fermata, a transposing part, a tuplet, a grace note and a repeat."""
    triplet = "".join(note(s, 4) for s in "CDE")
    begun, ended = note("F#", 12, '<tie type="start"/>'), note("F#", 12, '<tie type="stop"/><notations><fermata/></notations>')
    measures = (
        f'<measure number="0" implicit="yes">{attributes(12, 2, "<transpose><chromatic>-2</chromatic></transpose>")}'
        f'<direction><direction-type><words>x</words></direction-type><sound tempo="70"/></direction>{note("D", 12)}</measure>'
        f'<measure number="1">{note("E", 24)}{triplet}{begun}</measure>'
        f'<measure number="2">{ended}'
        f"<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>{note('G', 36)}"
        '<barline><repeat direction="backward"/></barline></measure>'
    )
    piece = read(xml(tmp_path / "a.musicxml", measures), voices=1)
    assert piece.phrase.notes(0) == [
        Note(0, 4, 60), Note(4, 8, 62), Note(12, 1, 58), Note(13, 2, 60), Note(15, 1, 62), Note(16, 8, 64), Note(24, 12, 65),
    ]  # fmt: skip
    assert (piece.phrase.pickup, piece.phrase.sharps, piece.names, piece.tempos) == (4, 0, ("Flute",), ((0, 70.0),))
    assert piece.phrase.fermata.nonzero()[0].tolist() == list(range(16, 24))
    assert "2 moved" in piece.warnings[0] and piece.warnings[1] == "left out: grace notes (1), repeats, which are played once (1)"


def test_two_voices_on_a_staff(tmp_path: Path) -> None:
    back = "<backup><duration>16</duration></backup>"
    measures = f"<measure>{attributes()}{note('E', 16, '<voice>1</voice>')}{back}{note('C', 16, '<voice>2</voice>')}</measure>"
    piece = read(xml(tmp_path / "a.xml", measures), voices=2)
    assert [piece.phrase.notes(v)[0].pitch for v in (0, 1)] == [64, 60] and piece.names == ("Flute 1", "Flute 2")
    assert "1 'Flute 1' (1 notes), 2 'Flute 2' (1 notes)" in message(tmp_path / "a.xml", voices=1)


def test_no_entity_is_resolved(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("C")
    good = f"<measure>{attributes()}{note('C', 16)}</measure>"
    bad = good.replace("<step>C</step>", "<step>&x;</step>")
    for declared in (
        f'<!DOCTYPE score-partwise [<!ENTITY x SYSTEM "file://{secret}">]>',
        '<!DOCTYPE score-partwise [<!ENTITY x "C">]>',
        '<!DOCTYPE score-partwise [<!ENTITY % x SYSTEM "http://localhost:9/x.dtd">]>',
    ):
        for measures in (good, bad):
            assert "declares an XML entity" in message(xml(tmp_path / "a.musicxml", measures, before=declared))
    public = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://localhost:9/partwise.dtd">'
    assert read(xml(tmp_path / "a.musicxml", good, before=public)).phrase.frames == 16  # named in most files, and never fetched
    wide = xml(tmp_path / "a.musicxml", bad, before='<!DOCTYPE s [<!ENTITY x "C">]>').read_text()
    (tmp_path / "a.musicxml").write_bytes(wide.replace('version="1.0"', 'version="1.0" encoding="UTF-16"').encode("utf-16"))
    assert "declares an XML entity" in message(tmp_path / "a.musicxml")


def test_mxl(tmp_path: Path) -> None:
    score = notation.text(Piece(Phrase.of_notes([[Note(0, 16, 60)]], 16))).encode()
    path, box = tmp_path / "a.mxl", '<container><rootfiles><rootfile full-path="in/score.xml"/></rootfiles></container>'

    def packed(members: dict[str, bytes]) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    packed({"META-INF/container.xml": box.encode(), "in/score.xml": score})
    assert read(path).phrase.notes(0) == [Note(0, 16, 60)]
    packed({"META-INF/container.xml": box.encode(), "in/score.xml": score + b" " * (1 << 24)})
    assert "unpacks to over" in message(path)
    packed({"META-INF/container.xml": b'<!DOCTYPE c [<!ENTITY x "y">]>' + box.encode(), "in/score.xml": score})
    assert "declares an XML entity" in message(path)
    packed({"META-INF/container.xml": box.encode()})
    assert "no score in it" in message(path)
    packed({"other.txt": b""})
    assert "no score in it" in message(path)


def test_bad_musicxml(tmp_path: Path) -> None:
    path = tmp_path / "a.musicxml"
    drum = "<note><unpitched/><duration>16</duration></note>"
    chord = note("E", 16).replace("<note>", "<note><chord/>")
    for measures, told in (
        ("", "no notes"),
        (f"<measure>{attributes()}{drum}</measure>", "only percussion"),
        (f"<measure>{attributes()}{note('C', 16)}{chord}</measure>", "bar 1: C4 and E4 sound together"),
        (f"<measure>{attributes()}{note('C', 16, octave=99)}</measure>", "out of range"),
        (f"<measure>{attributes()}{note('H', 16)}</measure>", "corrupt: a note or a signature"),
        (f"<measure>{attributes(0)}{note('C', 16)}</measure>", "corrupt: a note or a signature"),
        (f"<measure>{attributes()}{note('C', -16)}</measure>", "corrupt: a note or a signature"),
        (f"<measure>{attributes()}{note('C', 10**9)}</measure>", "longer than"),
        (f"<measure>{attributes(time=(7, 32))}{note('C', 16)}</measure>", "the metre 7/32"),
        ("<a>" * 80 + "</a>" * 80, "inside each other"),
    ):
        assert told in message(xml(path, measures))
    for content, told in (
        (b"", "empty"),
        (b"<score", "not valid XML"),
        (b"<html/>", "not MusicXML"),
        (b"<score-timewise/>", "time-wise"),
    ):
        path.write_bytes(content)
        assert told in message(path)


# ABC


@pytest.mark.parametrize(
    ("music", "pitches", "frames"),
    [
        ("^ccdc|c4|", [73, 73, 74, 73, 72], 32),  # an accidental holds for its bar
        ("^c2-c2-|c2z2|", [73], 32),  # and as long as its note
        ("cd[K:G]ff|[L:1/8]c8|", [72, 74, 78, 78, 72], 32),  # fields within a line
        ("c4|Z|x4|d y z3|", [72, 74], 64),  # rests of any kind
        ('Hc "Am"!p!.d +fermata+e ~f|', [72, 74, 76, 77], 16),  # what has no length
    ],
)
def test_abc_as_it_is_written(music: str, pitches: list[int], frames: int, tmp_path: Path) -> None:
    path = tmp_path / "a.abc"
    path.write_text(f"X:1\nM:4/4\nL:1/4\nK:C\n{music}\n")
    phrase = read(path).phrase
    assert [note.pitch for note in phrase.notes(0)] == pitches and phrase.frames == frames


def test_abc_of_several_voices(tmp_path: Path) -> None:
    path = tmp_path / "a.abc"
    path.write_text("X:1\nK:C\nV:S\nV:T clef=treble-8\n[V:S]c4 d4|\n[V:T]c4 B4|\n")  # neither metre nor unit
    phrase = read(path).phrase
    assert [[note.pitch for note in phrase.notes(v)] for v in (0, 1)] == [[72, 74], [60, 59]]


def test_tempos_that_no_one_plays_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.abc"
    path.write_text("X:1\nM:4/4\nL:1/4\nQ:1/4=2\nK:C\ncdef|\n")
    piece = read(path)
    assert "tempos outside of 4 to 1,000 quarters a minute (1)" in piece.warnings[0]
    assert read(midi.write(piece, tmp_path / "a.mid")).tempos == piece.tempos


def test_abc(tmp_path: Path) -> None:
    path = tmp_path / "a.abc"
    path.write_text('X:1\nT:A tune\nM:3/4\nL:1/8\nQ:1/4=120\nK:Ador\nE2|A2B2c2|"Am"d3 cBA|e2-e2 f2|(3ABc d2 e2|{g}a6|]\n')
    piece = read(path, voices=1)
    assert (piece.phrase.metre, piece.phrase.pickup, piece.phrase.key) == ("3/4", 4, "A minor")
    assert piece.keys == ((0, 1, "dorian"),) and piece.tempos == ((0, 120.0),) and piece.bars[0].number == 0
    assert piece.phrase.notes(0)[8:10] == [Note(28, 8, 76), Note(36, 4, 78)]  # the tie, and the signature's F sharp
    assert "2 moved" in piece.warnings[0] and "grace notes (1)" in piece.warnings[1]
    path.write_text("X:1\nM:C|\nL:1/4\nK:Bb\nV:1\nDEFG|\nV:2\nB,CDE|\nV:1\nFDB,2|\nV:2\nDCB,2|\n")
    assert [len(read(path).phrase.notes(v)) for v in (0, 1)] == [7, 7] and read(path).phrase.frames == 32
    for text, told in (
        ("", "empty"),
        ("hello", "no line K:"),
        ("X:1\nK:C\n", "no notes"),
        ("X:1\nK:C\nAB|\nX:2\nK:C\nAB|\n", "a book of 2 tunes"),
        ("X:1\nM:C\nL:1/4\nK:C\n[CE]4|\n", "bar 1: C4 and E4 sound together"),
        ("X:1\nM:C\nL:1/4\nK:C\nA999999999999|\n", "corrupt"),
    ):
        path.write_text(text)
        assert told in message(path, voices=1)


# Corrupt files


def test_no_corrupt_file_gives_a_traceback(tmp_path: Path) -> None:
    """Truncations, flipped bytes and swapped numbers: a piece that can be written, or one line."""
    rng = random.Random(4)
    piece = Piece(Phrase.of_notes([[Note(4 * k, 4, p) for k, p in enumerate(SCALE)], [Note(0, 30, 48)]], 32, pickup=4))
    boxed = io.BytesIO()
    with zipfile.ZipFile(boxed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", notation.text(piece))
    abc = b"X:1\nM:3/4\nL:1/8\nK:Ador\nE2|A2B2c2|d3 cBA|(3ABc d2 e2|{g}a6|]\n"
    whole = {".mid": midi.content(piece), ".musicxml": notation.text(piece).encode(), ".mxl": boxed.getvalue(), ".abc": abc}
    numbers = [b">-1<", b">0<", b"><", b">99999999999<", b">1/0<", b">nan<", b">1e9<", b">H<", b">9999<", b">3.5<"]
    read_well = 0
    for k in range(1200):
        suffix = list(whole)[k % 4]
        content = bytearray(whole[suffix])
        if suffix == ".musicxml" and rng.random() < 0.7:
            start = content.index(b">", rng.randrange(len(content) // 2) + 200)
            content[start : content.index(b"<", start) + 1] = rng.choice(numbers)
        elif rng.random() < 0.3:
            content = content[: rng.randrange(len(content))]
        else:
            for _ in range(rng.randrange(1, 6)):
                content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        try:
            got = read(path)
        except HeadwaterError as error:
            assert "\n" not in str(error)
            continue
        read_well += 1
        assert notation.text(got) and midi.content(got)
    assert 100 < read_well < 1100


def test_importing_is_light() -> None:
    heavy = ("music21", "verovio", "symusic", "torch", "matplotlib", "fontTools", "resvg_py", "midirenderer")
    modules = "headwater_music.files", "headwater_music.files.picture", "headwater_music.files.sound"
    code = f"import sys, {', '.join(modules)}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

"""Writing music: what is written is read back the same, opens in music21 and verovio without a word, looks and sounds right."""

from __future__ import annotations

import io
import random
import struct
import time
import warnings
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from headwater.errors import HeadwaterError
from headwater_music.files import midi, notation, picture, read, sound
from headwater_music.files.piece import Piece
from headwater_music.files.spelling import find, name, spelled
from headwater_music.score import METRES, MODES, SHARPS, Note, Phrase

LAYOUTS: tuple[notation.Layout, ...] = ("parts", "closed")


def phrase(seed: int, bars: int = 6) -> Phrase:
    """A random one: any metre, key, pickup and number of voices, held, repeated and crossing notes, rests, fermatas, any end."""
    rng = random.Random(seed)
    metre = rng.choice(list(METRES))
    bar = METRES[metre]
    frames = rng.randrange(bar, bars * bar)
    lines = []
    for _ in range(rng.randrange(1, 5)):
        line, now = [Note(0, 1, 60)], 1
        while now < frames:
            length = min(rng.choice([1, 1, 2, 2, 3, 4, 4, 5, 6, 8, 12, 16, 20]), frames - now)
            if rng.random() < 0.85:
                line.append(Note(now, length, rng.randrange(36, 84)))
            now += length
        lines.append(line)
    fermata = np.zeros(frames, np.bool_)
    for start, length, _ in lines[0]:
        fermata[start : start + length] |= rng.random() < 0.15
    pickup = rng.randrange(bar) if rng.random() < 0.5 else 0
    return Phrase.of_notes(
        lines, frames, metre=metre, tonic=rng.randrange(12), mode=rng.choice(MODES), pickup=pickup, fermata=fermata
    )


def chorale() -> Piece:
    """Eight bars in four parts, after no one in particular."""
    tune = [67, 67, 69, 71, 72, 71, 69, 67] * 4
    under = [[60, 62, 60, 62], [55, 54, 57, 55], [48, 50, 53, 43]]
    lines = [[Note(4 * k, 4, p) for k, p in enumerate(tune)]]
    lines += [[Note(8 * k, 8, row[k % 4]) for k in range(16)] for row in under]
    fermata = np.arange(128) >= 120
    return Piece(Phrase.of_notes(lines, 128, tonic=7, fermata=fermata), tempos=((0, 96.0),))


@pytest.mark.parametrize("seed", range(60))
def test_files_come_back(tmp_path: Path, seed: int) -> None:
    piece = Piece(phrase(seed))
    for layout in LAYOUTS:
        again = read(notation.write(piece, tmp_path / "a.musicxml", layout))
        assert again.phrase == piece.phrase and again.bars == piece.bars
        assert not [w for w in again.warnings if "order" not in w]
    for loop in (False, True):
        again = read(midi.write(piece, tmp_path / "a.mid", loop))
        assert again.phrase == piece.phrase and again.bars == piece.bars


def test_what_is_around_comes_back(tmp_path: Path) -> None:
    """Tempo and key changes, metres, bar lines cut by a repeat, names with signs, instruments."""
    piece = Piece(
        Phrase.of_notes([[Note(0, 60, 62)], [Note(0, 60, 50)]], 60, pickup=4, tonic=2, mode="minor"),
        tempos=((0, 90.0), (18, 60.5)),
        metres=((0, "4/4"), (48, "3/4")),
        keys=((0, -1, "minor"), (20, 2, "dorian")),
        barlines=(0, 4, 20, 32, 36, 48),
        names=("Flûte <&> 1", "Bass"),
        programs=(73, 42),
    )
    again = read(notation.write(piece, tmp_path / "a.musicxml"))
    assert replace(again, warnings=()).__dict__ | {"phrase": None} == piece.__dict__ | {"phrase": None}
    again = read(midi.write(piece, tmp_path / "a.mid"))
    assert (again.names, again.programs, again.tempos) == (piece.names, piece.programs, ((0, 90.0), (18, 60.5)))
    assert [(b.start, b.stop) for b in again.bars] == [(b.start, b.stop) for b in piece.bars]


def test_bytes_are_the_same_each_time() -> None:
    one, other = chorale(), chorale()
    assert midi.content(one) == midi.content(other) and notation.text(one) == notation.text(other)
    assert picture.score_svg(one) == picture.score_svg(other) and picture.score_png(one) == picture.score_png(other)
    assert sound.content(one) == sound.content(other)
    assert "encoding-date" not in notation.text(one)


def tied(part: Any) -> list[tuple[float, float, int]]:
    """The notes of a music21 part in sixteenths, those that a tie joins as one."""
    found: list[tuple[float, float, int]] = []
    for n in part.flatten().notes:
        start, length = float(n.offset * 4), float(n.quarterLength * 4)
        if n.tie is not None and n.tie.type in ("stop", "continue"):
            before = found.pop()
            assert before[0] + before[1] == start and before[2] == n.pitch.midi
            found.append((before[0], before[1] + length, before[2]))
        else:
            found.append((start, length, n.pitch.midi))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_others_read_it_without_a_word(seed: int) -> None:
    import music21
    import verovio

    piece = Piece(phrase(seed, bars=4))
    verovio.enableLog(verovio.LOG_WARNING)
    for layout in LAYOUTS:
        written = notation.text(piece, layout)
        toolkit = verovio.toolkit()
        assert toolkit.loadData(written) and toolkit.getLog() == ""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            score = music21.converter.parse(written, format="musicxml", forceSource=True)
        if layout == "parts":
            for v, part in enumerate(score.parts):
                assert tied(part) == [(float(n.start), float(n.length), n.pitch) for n in piece.phrase.notes(v)]


def test_a_chorale_of_bach_is_read_as_music21_reads_it() -> None:
    import music21

    path = Path(music21.__file__).parent / "corpus" / "bach" / "bwv66.6.mxl"
    piece = read(path, voices=4)
    assert (piece.phrase.key, piece.phrase.pickup, piece.names) == ("F# minor", 4, ("Soprano", "Alto", "Tenor", "Bass"))
    for v, part in enumerate(music21.converter.parse(path).parts):
        assert tied(part) == [(float(n.start), float(n.length), n.pitch) for n in piece.phrase.notes(v)]


# Notation


def measure(piece: Piece, number: int, part: int = 0) -> ElementTree.Element:
    root = ElementTree.fromstring(notation.text(piece))
    return root.findall("part")[part].findall("measure")[number]


def test_pitches_are_spelled_in_the_key() -> None:
    def names(sharps: int, mode: str) -> str:
        return " ".join(name(p, sharps, mode)[:-1] for p in range(60, 72))

    assert names(0, "major") == "C C♯ D E♭ E F F♯ G G♯ A B♭ B"
    assert names(0, "minor") == "C C♯ D D♯ E F F♯ G G♯ A B♭ B"
    assert names(-4, "minor") == "C D♭ D E♭ E F G♭ G A♭ A B♭ B"
    assert [spelled(p, 6, "major") for p in (59, 65)] == [("B", 0, 3), ("E", 1, 4)]
    assert spelled(59, -6, "major") == ("C", -1, 4)  # in the octave of its letter
    assert spelled(67, 5, "minor") == ("F", 2, 4)  # the leading note of G sharp minor
    for mode in MODES:
        for tonic in range(12):
            degrees = (0, 2, 4, 5, 7, 9, 11) if mode == "major" else (0, 2, 3, 5, 7, 8, 10)
            sharps = SHARPS[mode][tonic]
            scale = [spelled(60 + tonic + d, sharps, mode) for d in degrees]
            assert len({step for step, _, _ in scale}) == 7 and sum(alter for _, alter, _ in scale) == sharps
            weights = np.zeros(12)
            weights[[(tonic + d) % 12 for d in degrees]] = 1
            weights[[tonic, (tonic + 7) % 12]] += 1
            assert find(weights) == (sharps, mode) == find(weights, sharps)


def test_accidentals_are_shown_when_they_are_needed() -> None:
    """In G: F natural, F natural again, F sharp, then over the bar line a tied C sharp, C natural."""
    notes = [Note(0, 4, 65), Note(4, 4, 65), Note(8, 4, 66), Note(12, 8, 61), Note(20, 4, 61), Note(24, 8, 60)]
    piece = Piece(Phrase.of_notes([notes], 32, tonic=7))
    shown = [[n.findtext("accidental") for n in measure(piece, m).iter("note")] for m in (0, 1)]
    assert shown == [["natural", None, "sharp", "sharp"], [None, "sharp", "natural"]]


def test_notes_are_cut_at_bars_and_beats() -> None:
    assert notation.values(0, 16, 4) == [16] and notation.values(0, 7, 4) == [6, 1] and notation.values(3, 3, 4) == [1, 2]
    assert notation.values(2, 4, 4) == [4] and notation.values(0, 6, 6) == [6] and notation.values(0, 10, 6) == [6, 4]
    for beat in (1, 2, 4, 6, 8):
        for offset in range(24):
            for length in range(1, 49):
                for rest in (False, True):
                    values = notation.values(offset, length, beat, rest)
                    assert sum(values) == length and set(values) <= set(notation.VALUES)
    piece = Piece(Phrase.of_notes([[Note(0, 4, 67), Note(12, 8, 69), Note(20, 12, 71)]], 36, pickup=4))
    pickup, first, second = (measure(piece, m) for m in range(3))
    assert (pickup.get("number"), pickup.get("implicit"), first.get("number"), first.get("implicit")) == ("0", "yes", "1", None)
    assert [t.get("type") for n in first.iter("note") for t in n.findall("tie")] == ["start"] * 0
    assert [n.findtext("duration") for n in first.iter("note")] == ["8", "8"] and len(list(second.iter("note"))) == 2
    over = Piece(Phrase.of_notes([[Note(12, 8, 69)]], 32))
    ties = [[t.get("type") for t in measure(over, m).iter("tie")] for m in (0, 1)]
    assert ties == [["start"], ["stop"]]


# MIDI


def test_midi_is_exactly_as_long_and_loops(tmp_path: Path) -> None:
    import symusic

    piece = Piece(Phrase.of_notes([[Note(0, 8, 60)], [Note(4, 4, 48)]], 16))
    assert midi.content(piece).count(b"\xff\x2f\x00") == 3  # the end of each track
    score = symusic.Score.from_midi(midi.content(piece, loop=True))
    assert [(m.time, m.text) for m in score.markers] == [(0, "loopStart"), (1920, "loopEnd")]
    assert [t.name for t in score.tracks] == ["Voice 1", "Voice 2"]
    assert read(midi.write(piece, tmp_path / "a.mid")).phrase.frames == 16  # though the last half is silent


# Sound


def played(piece: Piece, **options: Any) -> np.ndarray:
    with wave.open(io.BytesIO(sound.content(piece, **options))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2) / 32768


def test_the_synthesiser_plays_the_notes() -> None:
    """Of each bar's spectrum the chord's fundamentals stand out, and no other semitone between them does."""
    chords = [(72, 67, 60, 48), (71, 62, 55, 43)]
    piece = Piece(Phrase.of_notes([[Note(16 * k, 16, c[v]) for k, c in enumerate(chords)] for v in range(4)], 32), ((0, 60.0),))
    wav = played(piece)
    assert abs(np.abs(wav).max() - sound.PEAK) < 0.001 and 0.05 < np.sqrt((wav**2).mean()) < 0.4
    assert np.abs(wav.mean(0)).max() < 1e-3 and len(wav) == pytest.approx(8 * sound.RATE + sound.RELEASE * sound.RATE, abs=2)
    for k, chord in enumerate(chords):
        part = wav[int((4 * k + 0.5) * sound.RATE) : int((4 * k + 3.9) * sound.RATE)].sum(1)
        power = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        bins = np.arange(len(power)) * sound.RATE / len(part)

        def level(pitch: int, power: np.ndarray = power, bins: np.ndarray = bins) -> float:
            frequency = 440 * 2 ** ((pitch - 69) / 12)
            return float(power[np.abs(bins - frequency) < 2.5].max())

        loud = min(level(p) for p in chord)
        harmonics = {round(69 + 12 * np.log2(440 * 2 ** ((p - 69) / 12) * h / 440)) for p in chord for h in range(1, 11)}
        assert all(level(p) < loud / 20 for p in range(40, 74) if p not in harmonics)


def test_nothing_clicks() -> None:
    """A click is energy where the tone has none: above 12 kHz every 5 ms stay 50 dB below the whole."""
    for loop in (False, True):
        wav = played(chorale(), loop=loop)[:, 0]
        wav = np.concatenate([wav, wav]) if loop else wav  # the seam, too
        blocks = wav[: len(wav) // 220 * 220].reshape(-1, 220) * np.hanning(220)
        high = np.sqrt((np.abs(np.fft.rfft(blocks))[:, 60:] ** 2).mean(1)).max()
        whole = np.sqrt((np.abs(np.fft.rfft(blocks)) ** 2).mean())
        assert high < whole * 10 ** (-50 / 20)


def test_a_loop_is_exactly_as_long_and_nothing_is_slow() -> None:
    piece = replace(chorale(), tempos=((0, 64.0),))
    begun = time.process_time()
    assert len(played(piece, loop=True)) == 30 * sound.RATE
    assert time.process_time() - begun < 1
    silent = Piece(Phrase(np.zeros((16, 1)), np.zeros((16, 1))))
    assert np.abs(played(silent)).max() == 0
    with pytest.raises(HeadwaterError, match="at most 1,800 s"):
        sound.content(Piece(Phrase(np.zeros((60000, 1)), np.zeros((60000, 1))), ((0, 60.0),)))


def test_a_bad_soundfont_is_refused(tmp_path: Path) -> None:
    font = tmp_path / "a.sf2"
    for content in (b"", b"RIFF", b"RIFF\x10\0\0\0sfbk", b"RIFF\x10\0\0\0sfbkLIST\xff\xff\xff\x7fxxxx"):
        font.write_bytes(content)
        with pytest.raises(HeadwaterError, match=r"a\.sf2: "):
            sound.content(chorale(), font=font)
    with pytest.raises(HeadwaterError, match="cannot be opened"):
        sound.content(chorale(), font=tmp_path / "missing.sf2")


def soundfont(path: Path) -> Path:
    """The smallest there is: one preset of one instrument of one sample, a looped sine of 100 samples at 44.1 kHz."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    def named(text: str) -> bytes:
        return text.encode().ljust(20, b"\0")

    sine = (np.sin(2 * np.pi * np.arange(1000) / 100) * 20000).astype("<i2").tobytes() + bytes(92)
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + chunk(b"INAM", b"tiny\0\0")
    tables = {
        b"phdr": b"".join(named(n) + struct.pack("<HHHIII", 0, 0, bag, 0, 0, 0) for n, bag in (("tone", 0), ("EOP", 1))),
        b"pbag": struct.pack("<HHHH", 0, 0, 1, 0),
        b"pmod": bytes(10),
        b"pgen": struct.pack("<HHHH", 41, 0, 0, 0),
        b"inst": b"".join(named(n) + struct.pack("<H", bag) for n, bag in (("tone", 0), ("EOI", 1))),
        b"ibag": struct.pack("<HHHH", 0, 0, 2, 0),
        b"imod": bytes(10),
        b"igen": struct.pack("<HHHHHH", 54, 1, 53, 0, 0, 0),
        b"shdr": named("sine") + struct.pack("<IIIIIBbHH", 0, 1000, 100, 900, 44100, 69, 0, 0, 1) + named("EOS") + bytes(26),
    }
    body = chunk(b"LIST", b"INFO" + info) + chunk(b"LIST", b"sdta" + chunk(b"smpl", sine))
    body += chunk(b"LIST", b"pdta" + b"".join(chunk(k, v) for k, v in tables.items()))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + body))
    return path


def test_a_soundfont_plays(tmp_path: Path) -> None:
    font = soundfont(tmp_path / "tiny.sf2")
    wav, looped = played(chorale(), font=font), played(chorale(), font=font, loop=True)
    assert abs(np.abs(wav).max() - sound.PEAK) < 0.001 and len(wav) > 20 * 48000  # the last notes fade
    assert len(looped) == 20 * 48000 and np.abs(looped).max() > 0.5
    assert sound.soundfont() is None  # the tests' cache is empty


# Pictures


def test_the_score_stands_alone() -> None:
    piece = chorale()
    for layout in LAYOUTS:
        drawn = picture.score_svg(piece, layout)
        root = ElementTree.fromstring(drawn)
        assert not list(root.iter(f"{{{picture.SVG}}}text")) and "@font-face" not in drawn
        assert "http" not in drawn.replace(picture.SVG, "").replace("http://www.w3.org/1999/xlink", "")
        notes = [g for g in root.iter(f"{{{picture.SVG}}}g") if g.get("class", "").split()[:1] == ["note"]]
        assert len(notes) == 32 + 3 * 16
    assert picture.score_svg(piece, "parts").count("<path") > picture.score_svg(piece).count("<path")  # the names of the parts
    assert picture.score_svg(piece) != picture.score_svg(replace(piece, phrase=piece.phrase.transposed(2)))


def test_the_png_shows_a_page() -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(picture.score_png(chorale(), width=800)))
    grey = np.asarray(image.convert("L"))
    assert image.size[0] == 800 and 0.02 < (grey < 128).mean() < 0.3 and (grey[:, 0] == 255).all()


def test_a_long_score_is_one_picture() -> None:
    long = Piece(Phrase.of_notes([[Note(k, 1, 60 + k % 12) for k in range(16 * 120)]], 16 * 120))
    drawn = picture.score_svg(long, "parts")
    assert len(ElementTree.fromstring(drawn)) > 1  # verovio's pages have a limit
    assert picture.score_png(long, "parts")[:4] == b"\x89PNG"


def test_the_roll_shows_every_note() -> None:
    piece = replace(chorale(), names=("<b>", "A&B", "T", "B"))
    drawn = picture.roll_svg(piece)
    assert drawn.count("<rect") == 32 + 3 * 16 and "&lt;b" in drawn and "<b>" not in drawn
    assert all(colour in drawn for colour in picture.COLOURS) and ElementTree.fromstring(drawn) is not None
    assert picture.roll_svg(Piece(Phrase(np.zeros((16, 1)), np.zeros((16, 1)))))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for write in (midi.write, notation.write, sound.write):
        with pytest.raises(HeadwaterError, match="cannot write there"):
            write(chorale(), tmp_path / "missing" / "a.mid")
    with pytest.raises(HeadwaterError, match="a picture is"):
        picture.write(chorale(), tmp_path / "a.gif")
    assert picture.write(chorale(), tmp_path / "a.svg", roll=True).read_text().startswith("<svg")

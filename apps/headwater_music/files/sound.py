"""Sound: a small synthesiser in numpy, so that WAV always works, and midirenderer where a soundfont is at hand.

The built-in tone is a sum of harmonics whose upper ones fade, like a soft organ pipe: a bright and a mellow period are computed
once, read at the note's pitch (a wavetable), and blended by a decaying envelope. All edges are raised cosines, so nothing clicks.
"""

from __future__ import annotations

import io
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np

from headwater.data import cache_folder
from headwater.errors import HeadwaterError
from headwater_music.files import midi
from headwater_music.files.piece import Piece, save
from headwater_music.score import Array

RATE = 44100
PEAK = 10 ** (-1 / 20)  # one decibel below full scale
ATTACK, RELEASE, FADE = 0.015, 0.14, 0.45  # seconds: rise, fall after the note's end, and of the brightness
TABLE = 1 << 14
MELLOW = (1.0, 0.42, 0.16, 0.08, 0.03, 0.015)
BRIGHT = (1.0, 0.7, 0.5, 0.38, 0.26, 0.2, 0.14, 0.1, 0.06, 0.04)
PANS = {1: (0.0,), 2: (-0.3, 0.3), 3: (-0.35, 0.0, 0.35), 4: (-0.2, 0.25, -0.35, 0.2)}
SOUNDFONT = ("timgm6mb", "TimGM6mb.sf2")  # data set and file: `headwater data get timgm6mb`
MAX_SECONDS = 1800
RINGING = 2.0  # seconds that a soundfont's last notes are given to fade


@lru_cache(maxsize=64)
def _period(harmonics: tuple[float, ...], most: int) -> Array:
    """One period of a tone, of at most so many harmonics (those above half the sampling rate would fold back)."""
    phase = 2 * np.pi * np.arange(TABLE) / TABLE
    return np.sum([a * np.sin(k * phase) for k, a in enumerate(harmonics[:most], 1)], axis=0).astype(np.float32)


def _edge(samples: int) -> Array:
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(samples) / samples)).astype(np.float32)


def _tone(pitch: int, samples: int) -> Array:
    """A note of MIDI ``pitch`` held for ``samples``, and its release behind them: float32, about -1 to 1."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    most = max(1, int(0.45 * RATE / frequency))
    release = int(RELEASE * RATE)
    total = samples + release
    place = (np.arange(total) * (frequency * TABLE / RATE)).astype(np.int64) % TABLE
    fade = np.exp(-np.arange(total, dtype=np.float32) / np.float32(FADE * RATE))
    mellow, bright = _period(MELLOW, most), _period(BRIGHT, most)
    tone: Array = mellow[place]
    tone += fade * (bright - mellow)[place]
    rise = min(int(ATTACK * RATE), samples)
    tone[:rise] *= _edge(rise)
    tone[samples:] *= _edge(release)[::-1]
    return tone * np.float32((60 / max(pitch, 30)) ** 0.5)  # low notes need more to be heard alike


def samples(piece: Piece, loop: bool = False) -> Array:
    """The piece as int16 (samples, 2) at 44.1 kHz. With ``loop`` exactly as long as the phrase, the last release at its start."""
    phrase = piece.phrase
    seconds = piece.seconds(phrase.frames)
    if seconds > MAX_SECONDS:
        raise HeadwaterError(f"sound: {seconds:,.0f} s of it; at most {MAX_SECONDS:,} s are made: cut out the part you need")
    end = round(seconds * RATE)
    mix = np.zeros((end + int(RELEASE * RATE) + 1, 2), np.float32)
    made: dict[tuple[int, int], Array] = {}
    for v, pan in enumerate(PANS[phrase.voices]):
        gains = np.array([np.cos((pan + 1) * np.pi / 4), np.sin((pan + 1) * np.pi / 4)], np.float32)
        for start, length, pitch in phrase.notes(v):
            first = round(piece.seconds(start) * RATE)
            held = round(piece.seconds(start + length) * RATE) - first
            if (pitch, held) not in made:
                made[pitch, held] = _tone(pitch, held)
            tone = made[pitch, held]
            for side in (0, 1):
                mix[first : first + len(tone), side] += gains[side] * tone
    if loop:
        tail = mix[end:]
        mix = mix[:end]
        mix[: len(tail)] += tail[: len(mix)]
    return _levelled(mix)


def soundfont() -> Path | None:
    """The soundfont that ``headwater data get timgm6mb`` has fetched, if it has."""
    path = cache_folder() / SOUNDFONT[0] / SOUNDFONT[1]
    return path if path.is_file() else None


def content(piece: Piece, loop: bool = False, font: Path | None = None) -> bytes:
    """The bytes of a WAV file, stereo of 16 bits: by the built-in tone (44.1 kHz), or by a soundfont (.sf2, 48 kHz).

    With ``loop`` exactly as long as the phrase. Raises :class:`HeadwaterError` for a soundfont that cannot be used."""
    data, rate = (samples(piece, loop), RATE) if font is None else _rendered(piece, loop, font)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(data.astype("<i2").tobytes())
    return file.getvalue()


def _rendered(piece: Piece, loop: bool, font: Path) -> tuple[Array, int]:
    import midirenderer

    tail = round(RINGING * piece.tempos[-1][1] / 15)  # in frames, for the last notes to fade
    try:
        bank = font.read_bytes()
        if bank[:4] != b"RIFF" or bank[8:12] != b"sfbk":
            raise HeadwaterError(f"{font}: not a soundfont (.sf2)")
        rendered = midirenderer.render_wave_from(bank, midi.content(piece, silence=tail))
    except OSError as error:
        raise HeadwaterError(f"{font}: cannot be opened ({error.strerror or 'unreadable'})") from None
    except HeadwaterError:
        raise
    except BaseException as error:  # a panic of the library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise HeadwaterError(f"{font}: truncated, or not a soundfont that can be played") from None
    with wave.open(io.BytesIO(rendered)) as sound:
        rate, data = sound.getframerate(), np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    mix = data.reshape(-1, 2).astype(np.float32)
    if loop:
        end = round(piece.seconds(piece.phrase.frames) * rate)
        passes = [mix[first : first + end] for first in range(0, len(mix), end)]
        mix = np.zeros((end, 2), np.float32)
        for part in passes:
            mix[: len(part)] += part
    return _levelled(mix), rate


def _levelled(mix: Array) -> Array:
    peak = float(np.abs(mix).max(initial=0.0))
    return np.rint(mix * (32767 * PEAK / peak if peak else 0.0)).astype(np.int16)


def write(piece: Piece, path: Path, loop: bool = False, font: Path | None = None) -> Path:
    """Write a WAV file. Raises :class:`HeadwaterError` where it cannot be written."""
    return save(path, content(piece, loop, font))

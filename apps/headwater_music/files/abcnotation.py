"""Reading ABC (https://abcnotation.com/wiki/abc:standard:v2.1), one tune a file.

music21 takes the text apart into tokens (notes with accidentals and lengths, tuplets, bars); time is counted here, since its
scores re-bar long measures under metres of their own, for minutes if a number in the file is corrupt.
"""

from __future__ import annotations

import contextlib
import io
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater_music.files.grid import MAX_FRAMES, Found, Part, Sound, check_size
from headwater_music.files.musicxml import GRACE, REPEATS
from headwater_music.files.spelling import MODES

MAX_ABC = 1 << 17  # bytes


def found(path: Path) -> Found:
    """What an ABC file holds. Raises :class:`HeadwaterError` for one that is empty, corrupt or a book of several tunes."""
    check_size(path, MAX_ABC)
    text = path.read_bytes().decode("utf-8", "replace")
    tunes = re.findall(r"^X:", text, re.MULTILINE)
    if len(tunes) > 1:
        raise HeadwaterError(f"{path}: a book of {len(tunes)} tunes; keep one of them (from its line X: to the next) in the file")
    if not re.search(r"^K:", text, re.MULTILINE):
        raise HeadwaterError(f"{path}: not an ABC tune: it has no line K: (the key)")
    from music21 import abcFormat

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it reports what it guesses
            return _Tune().found(abcFormat.ABCFile().readstr(text).tokens)
    except Exception:  # music21 raises dozens of kinds, and their texts quote the file
        raise HeadwaterError(f"{path}: corrupt: it cannot be read as ABC") from None


class _Tune:
    """One pass over the tokens; each voice (V:) has its own clock."""

    def __init__(self) -> None:
        self.known = Found()
        self.voices: dict[str, Part] = {}
        self.now: dict[str, Fraction] = {}
        self.shift: dict[str, int] = {}  # semitones that a voice's clef adds
        self.voice = ""
        self.first = ""  # the voice whose bars and metres count
        self.tied: dict[str, bool] = {}

    def found(self, tokens: list[Any]) -> Found:
        from music21 import abcFormat

        for token in tokens:
            if isinstance(token, abcFormat.ABCMetadata):
                self._header(token)
            elif isinstance(token, abcFormat.ABCNote):
                self._note(token)
            elif isinstance(token, abcFormat.ABCBar) and self.voice == self.first:
                self.known.bars.append(self.now.get(self.voice, Fraction(0)))
                if token.isRepeat():
                    self.known.left_out[REPEATS] = self.known.left_out.get(REPEATS, 0) + 1
        self.known.parts = list(self.voices.values())
        self.known.length = max(self.now.values(), default=Fraction(0))
        if self.known.bars:
            self.known.bars = [Fraction(0), *(b for b in self.known.bars if b < self.known.length)]
        return self.known

    def _header(self, token: Any) -> None:
        now = self.now.get(self.voice, Fraction(0))
        if token.isVoice():
            self.voice = (token.data.split() or [""])[0]
            if not any(part.notes for part in self.voices.values()):
                self.first = self.voice
        counts = self.voice == self.first or not self.voices
        if token.isKey():
            self.shift[self.voice] = token.getClefObject()[1] or 0
        if token.isMeter() and counts:
            stated = token.getTimeSignatureParameters()
            if stated is not None:
                self.known.metres.append((now, f"{stated[0]}/{stated[1]}"))
        elif token.isKey() and counts:
            sharps, mode = token.getKeySignatureParameters()
            self.known.keys.append((now, sharps, mode if mode in MODES else "major"))
        elif token.isTempo() and counts:
            mark = token.getMetronomeMarkObject()
            tempo = mark.getQuarterBPM() if mark is not None else None
            if tempo:
                self.known.tempos.append((now, float(tempo)))

    def _note(self, token: Any) -> None:
        from music21 import abcFormat, pitch

        part = self.voices.setdefault(self.voice, Part(self.voice))
        if token.inGrace:
            self.known.left_out[GRACE] = self.known.left_out.get(GRACE, 0) + 1
            return
        start = self.now.get(self.voice, Fraction(0))
        length = Fraction(token.quarterLength).limit_denominator(960) * 4
        if token.activeTuplet:
            length *= Fraction(token.activeTuplet.tupletMultiplier())
        if not 0 <= length <= MAX_FRAMES:
            raise ValueError
        self.now[self.voice] = start + length
        sung = token.subTokens if isinstance(token, abcFormat.ABCChord) else [token]
        for one in sung:
            if not isinstance(one, abcFormat.ABCNote) or one.isRest or one.pitchName is None:
                continue
            midi = pitch.Pitch(one.pitchName).midi + self.shift.get(self.voice, self.shift.get("", 0))
            before = part.notes[-1] if part.notes else None
            joined = self.tied.get(self.voice) and before and before.pitch == midi and before.start + before.length == start
            if joined and before:
                part.notes[-1] = before._replace(length=before.length + length)
            else:
                part.notes.append(Sound(start, length, midi))
        self.tied[self.voice] = token.tie in ("start", "continue")

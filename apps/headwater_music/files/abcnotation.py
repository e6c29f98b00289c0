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
            return _Tune().found(abcFormat.ABCFile().readstr(plainly(text)).tokens)
    except Exception:  # music21 raises dozens of kinds, and their texts quote the file
        raise HeadwaterError(f"{path}: corrupt: it cannot be read as ABC") from None


#: A line that is a field and no music; a field in the middle of a line of music.
FIELD = re.compile(r"[A-Za-z+]:")
INLINE = re.compile(r"\[([A-Za-z]):([^\]\n]*)\]")
#: Of music: chord symbols and remarks, decorations by name and by letter, spacers. None has a length.
SILENT = re.compile(r'"[^"\n]*"|![^!\n]*!|\+[A-Za-z.]+\+|y\d*|[H-Wh-w.~]')


def plainly(text: str) -> str:
    """A tune with each field in a line of its own, without what has no length, invisible rests as rests and rests of whole bars as
    long ones: what music21 would pass over. It is said to be of version 2.1, where an accidental holds for its bar.

    >>> print(plainly("X:1\\nM:3/4\\nL:1/8\\nK:C\\nHc !p!d[K:G]x2|Z|"))
    %abc-2.1
    X:1
    M:3/4
    L:1/8
    K:C
    c d
    K:G
    z2|z6|
    """
    lines, metre, unit = ["%abc-2.1"], Fraction(1), Fraction(0)
    for written in text.splitlines():
        line = written.split("%", 1)[0].rstrip()
        parts = [line] if FIELD.match(line) else [part for part in INLINE.sub(r"\n\1:\2\n", line).split("\n") if part]
        for part in parts:
            name, value = part[:2], part[2:].strip()
            if name == "M:":
                metre = {"C": Fraction(1), "C|": Fraction(1), "none": Fraction(1)}.get(value) or Fraction(value)
            elif name == "L:":
                unit = Fraction(value)
            elif name == "K:" and not any(told[:2] in ("L:", "M:") for told in lines):
                lines.append("L:1/8")  # what the standard says, and music21 asks for
            elif not FIELD.match(part):
                bar = metre / (unit or Fraction(1, 16 if metre < Fraction(3, 4) else 8))
                part = SILENT.sub("", part).replace("x", "z").replace("X", "Z")
                part = re.sub(r"Z(\d*)", lambda rest, bar=bar: f"z{bar * int(rest[1] or 1)}", part)  # type: ignore[misc]
            lines.append(part)
    return "\n".join(line for line in lines if line and line[:2] not in ("w:", "W:", "+:"))


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
        if token.isKey() or token.isVoice():
            clef, octaves = re.search(r"[a-z]([+-])8\b", token.data), re.search(r"\boctave=(-?\d)\b", token.data)
            if clef or octaves:
                self.shift[self.voice] = 12 * (int(octaves[1]) if octaves else 0) + (int(f"{clef[1]}12") if clef else 0)
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
            apart = 1 if re.match(r"[\^_=]", one.src) else 2  # a tied note keeps its accidental behind the bar line
            joined = self.tied.get(self.voice) and before and before.start + before.length == start
            if joined and before and abs(before.pitch - midi) < apart:
                part.notes[-1] = before._replace(length=before.length + length)
            else:
                part.notes.append(Sound(start, length, midi))
        self.tied[self.voice] = token.tie in ("start", "continue")

"""The card of a result: player, engraved score, piano roll, and what the rules say, as HTML that needs nothing else."""

from __future__ import annotations

import base64
import io
import re
import wave
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from headwater_music import rules
from headwater_music.files.picture import roll_svg
from headwater_music.files.piece import Piece, bar_at
from headwater_music.pipelines import choice

if TYPE_CHECKING:
    from headwater_music.pipelines.made import Made

SECONDS = 40.0  # of sound that a card holds; the WAV holds all
_KEEP = 4  # one sample in four: 11,025 Hz, for the tone's harmonics lie below 5.5 kHz
_ROLL, _CELLS, _ROW = 1000.0, (2.0, 8.0), 4.5  # pixels of a roll, of a sixteenth (least and most), and of a semitone
_SCALE = 0.42  # pixels of a tenth of a millimetre
CADENCES = {"authentic": "an authentic cadence", "plagal": "a plagal cadence", "half": "a half cadence"}
_MUTED = "color:#7a8a91;font-size:13px"


def card(made: Made) -> str:
    """A ``<section>``; all text from files is escaped."""
    shown, told = made.excerpt, made.told
    phrase = shown.phrase
    if not phrase.onset.any():
        return f"<section>{escape(made.problem() or '')}</section>"
    bars = f"{made.piece.phrase.bars} bar{'s' * (made.piece.phrase.bars != 1)}"
    head = f"{phrase.key} · {phrase.metre} · {bars}"
    part = ""
    if shown is not made.piece:
        part = f"<p style='{_MUTED}'>Shown and heard here: the last {phrase.bars} bars, counted anew.</p>"
    body = [
        f'<p style="margin:0 0 10px"><b>{escape(head)}</b><br><span style="{_MUTED}">{escape(told.did)}</span></p>{part}',
        player(shown, made.options.loop),
        f'<div style="overflow-x:auto;margin:14px 0 6px">{inline(made.score, _SCALE)}</div>',
        f'<div style="overflow-x:auto">{roll(made)}</div>',
        report(made),
    ]
    warned = "".join(f"<li>{escape(w)}</li>" for w in made.piece.warnings)
    if warned:
        body.append(f'<p style="margin:12px 0 0">On the way in:</p><ul style="margin:2px 0 0;{_MUTED}">{warned}</ul>')
    return f'<section style="font:14px/1.5 system-ui,sans-serif">{"".join(body)}</section>'


# --- sound ---------------------------------------------------------------------------------------------------------


def player(piece: Piece, loop: bool) -> str:
    """An ``<audio>`` that holds its sound: mono, 11 kHz, no more than the first :data:`SECONDS`."""
    frames = next((f for f in range(piece.phrase.frames, 0, -1) if piece.seconds(f) <= SECONDS), 1)
    part = piece if frames == piece.phrase.frames else Piece(piece.phrase.cut(0, frames), tempos=piece.tempos)
    told = "" if part is piece else f'<span style="{_MUTED}"> the first {SECONDS:.0f} s; the WAV holds all</span>'
    held = base64.b64encode(small_wav(part, loop and part is piece)).decode()
    again = " loop" if loop and part is piece else ""
    return f'<audio controls{again} preload="metadata" style="height:36px" src="data:audio/wav;base64,{held}"></audio>{told}'


def small_wav(piece: Piece, loop: bool) -> bytes:
    """A WAV a twelfth of the usual size: the two sides mixed, what lies above the new half rate filtered out by a windowed sinc."""
    from headwater_music.files import sound

    mono = sound.samples(piece, loop).astype(np.float32).mean(axis=1)
    at = np.arange(-32, 33)
    taps = np.sinc(at / (1.1 * _KEEP)) * np.hanning(len(at) + 2)[1:-1]
    thin = np.convolve(mono, (taps / taps.sum()).astype(np.float32), mode="same")[::_KEEP]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sound.RATE // _KEEP)
        out.writeframes(np.rint(thin).clip(-32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


# --- pictures ------------------------------------------------------------------------------------------------------


def inline(drawn: str, scale: float) -> str:
    """A picture as an element of a page: sized, and without namespaces, which are addresses."""
    box = re.search(r'viewBox="([^"]*)"', drawn)
    width = float(box.group(1).split()[2]) * scale if box else 800.0
    bare = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawn).replace(
        ' color="black"', ' fill="currentColor"'
    )  # the page's own ink, light or dark
    return bare.replace("<svg", f'<svg style="width:{width:.0f}px;max-width:100%;height:auto;display:block"', 1)


def roll(made: Made) -> str:
    """The piano roll; where some frames are new and others given, the new ones lie on a shade."""
    piece, new = made.excerpt, made.told.new.any(axis=1)
    cell = min(max(_ROLL / piece.phrase.frames, _CELLS[0]), _CELLS[1])
    drawn = inline(roll_svg(piece, cell, _ROW), 1.0)
    if new.all() or not new.any() or piece is not made.piece:
        return drawn
    height = float(re.search(r'viewBox="([^"]*)"', drawn).group(1).split()[3]) - 38  # type: ignore[union-attr]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], new.astype(np.int8), [0]]))).reshape(-1, 2)
    shades = "".join(
        f'<rect x="{30 + a * cell:g}" y="20" width="{(b - a) * cell:g}" height="{height:g}" fill="#e0a030" fill-opacity=".16"/>'
        for a, b in edges.tolist()
    )
    return drawn.replace("</title>", f"</title>{shades}", 1) + f'<span style="{_MUTED}">shaded: where notes are new</span>'


# --- words ---------------------------------------------------------------------------------------------------------


def report(made: Made) -> str:
    """The rules, the choice and the copied run, in words."""
    piece, told = made.piece, made.told
    lines = []
    if piece.phrase.voices == 4:
        found = rules.report(piece.phrase)
        faults = choice.remarks(piece)
        lines += faults or ["no parallel fifths or octaves, no crossing, no voice out of its range, every quarter a chord"]
        closes = CADENCES.get(found.cadence, "no common cadence")
        lines.append(f"ends with {closes}, {'on' if found.final_tonic else 'not on'} the tonic")
        lines += [chosen(made)] if told.tries > 1 else []
        copied = made.copied
        if copied.frames:
            where = bar_at(piece.bars, copied.start)
            told_bars = f"{copied.frames} sixteenths from {'bar ' + str(where) if where else 'the pickup'} on"
            lines.append(f"longest run that stands in the training set as well: {told_bars}, in {copied.source}")
        else:
            lines.append("nothing of two beats or more stands in the training set as well")
    if told.likelihood is not None:
        value, kind = told.likelihood
        word = {"exact": "", "bound": "at least ", "estimate": "about "}.get(kind, "")
        lines.append(f"log-likelihood {word}{value:,.1f} nats ({kind})".replace("-", "−").replace("log−", "log-"))
    items = "".join(f"<li>{escape(line[:1].upper() + line[1:])}</li>" for line in lines)
    return f'<ul style="margin:10px 0 0;padding-left:1.2em">{items}</ul>' if items else ""


def chosen(made: Made) -> str:
    """The result beside the first candidate."""
    now, raw = (rules.report(p) for p in (made.piece.phrase, made.told.raw))
    pairs = [
        ("parallels", *(str(len(r.fifths) + len(r.octaves)) for r in (now, raw))),
        ("crossed sixteenths", *(str(r.crossed) for r in (now, raw))),
        ("quarters that are chords", *(f"{100 * r.chordal / max(1, r.beats):.0f}%" for r in (now, raw))),
    ]
    words = ", ".join(
        f"{what} {a} (without the choice {b})" if k == 0 else f"{what} {a} ({b})" for k, (what, a, b) in enumerate(pairs)
    )
    return f"the best of {made.told.tries} by the rules: {words}"

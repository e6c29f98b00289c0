"""A phrase on a page: its piano roll, and what there is to say about it in two lines."""

from __future__ import annotations

import html

from headwater_music import rules
from headwater_music.files.picture import SVG, roll_svg
from headwater_music.files.piece import Piece
from headwater_music.score import Phrase

_FIGURE = "display:inline-block;margin:6px;vertical-align:top;max-width:100%;font:12px/1.5 system-ui,sans-serif"
_CELL, _ROW = 3.0, 3.6  # pixels of a sixteenth and of a semitone


def render(phrase: Phrase) -> str:
    """A ``<figure>``: the roll, then key, metre, bars and what the rules say; for a phrase without notes, that."""
    why = rules.problem(phrase)
    if not phrase.onset.any():
        return f'<figure style="{_FIGURE}">{html.escape(why or "")}</figure>'
    lines = [f"{phrase.key} · {phrase.metre} · {phrase.bars} bar{'' if phrase.bars == 1 else 's'}"]
    if phrase.voices > 1:
        found = rules.report(phrase)
        lines.append(
            f"parallels {len(found.fifths)} + {len(found.octaves)} · crossed {100 * found.crossed / found.frames:.0f}% · "
            f"chordal {100 * found.chordal / max(1, found.beats):.0f}% · ends {found.cadence}"
        )
    lines += [why] if why else []
    words = "<br>".join(map(html.escape, lines))
    return f'<figure style="{_FIGURE}">{roll(phrase)}<figcaption>{words}</figcaption></figure>'


def roll(phrase: Phrase) -> str:
    """The piano roll as an element of a page: sized, and without a namespace, which is an address."""
    drawn = roll_svg(Piece(phrase), _CELL, _ROW).replace(f' xmlns="{SVG}"', "", 1)
    width = 38 + phrase.frames * _CELL
    return drawn.replace("<svg", f'<svg style="width:{width:g}px;max-width:100%;height:auto"', 1)

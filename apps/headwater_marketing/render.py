"""One text of copy as HTML: its words, and each placeholder as a chip."""

from __future__ import annotations

from headwater_marketing.asks import PLACEHOLDER, Copy
from headwater_marketing.preview import escaped

_FONT = "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif"
_CHIP = "background:color-mix(in srgb,#3b7de0 22%,transparent);border-radius:6px;padding:0 5px;white-space:nowrap"
_FAINT = "opacity:.68;font-size:12px;margin-bottom:4px"


def render(item: Copy) -> str:
    """The text, above it what it was asked to be."""
    pieces, at = [], 0
    for found in PLACEHOLDER.finditer(item.text):
        pieces += [escaped(item.text[at : found.start()]), f'<span style="{_CHIP}">{escaped(found[1])}</span>']
        at = found.end()
    pieces.append(escaped(item.text[at:]))
    asked = [word for word in (item.ask.channel, item.ask.part, item.ask.voice, item.ask.level) if word]
    head = f'<div style="{_FAINT}">{escaped(" · ".join(asked))}</div>' if asked else ""
    text = f'<div style="white-space:pre-wrap">{"".join(pieces)}</div>'
    return f'<div style="{_FONT};max-width:380px;overflow-wrap:anywhere">{head}{text}</div>'

"""One text of copy as HTML: its words, and each placeholder as a chip."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from headwater_marketing.asks import PLACEHOLDER, Copy
from headwater_marketing.codecs import PIECE
from headwater_marketing.preview import escaped

_PIECE = re.compile(PIECE.pattern + "|.", re.DOTALL)  # a lone brace, too
_FONT = "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif"
_CHIP = "background:color-mix(in srgb,#3b7de0 22%,transparent);border-radius:6px;padding:0 5px"
_FAINT = "opacity:.68;font-size:12px;margin-bottom:4px"


def render(item: Copy) -> str:
    """The text, above it what it was asked to be."""
    asked = [word for word in (item.ask.channel, item.ask.part, item.ask.voice, item.ask.level) if word]
    return framed(shown(item.text), " · ".join(asked))


def framed(text: str, head: str, below: str = "") -> str:
    """A text as HTML under a faint line of words; with ``below``, that line stands under it, and another text under that."""
    said = f'<div style="{_FAINT}">{escaped(head)}</div>' if head else ""
    body = f'<div dir="auto" style="white-space:pre-wrap">{text}</div>'
    under = f'<div dir="auto" style="white-space:pre-wrap;opacity:.68">{below}</div>'
    inner = f'{body}<div style="height:8px"></div>{said}{under}' if below else said + body
    return f'<div style="{_FONT};max-width:380px;overflow-wrap:anywhere">{inner}</div>'


def shown(text: str, facts: Mapping[str, str] | None = None, since: str | None = None) -> str:
    """A text as HTML, each placeholder, or the fact that it stands for, as a chip; words that ``since`` does not have in bold."""
    pieces, new = _PIECE.findall(text), set[int]()
    if since is not None:
        same = difflib.SequenceMatcher(None, _PIECE.findall(since), pieces, autojunk=False).get_matching_blocks()
        new = set(range(len(pieces))) - {i for block in same for i in range(block.b, block.b + block.size)}
    out = []
    for i, piece in enumerate(pieces):
        blank, bare = " " * piece.startswith(" "), piece.removeprefix(" ")
        found = PLACEHOLDER.fullmatch(bare)
        if found:
            out.append(f'{blank}<span style="{_CHIP}">{escaped(found[1] if facts is None else facts[found[1]])}</span>')
        else:
            out.append(blank + (f"<b>{escaped(bare)}</b>" if i in new and bare.strip() else escaped(bare)))
    return "".join(out)

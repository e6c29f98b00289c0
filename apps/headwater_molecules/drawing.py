"""A molecule as a picture: RDKit's depiction as inline SVG in the page's own text colour, so it reads on light and dark."""

from __future__ import annotations

import html
import re
from typing import Any

from headwater_molecules.properties import Wish, describe, parse
from headwater_molecules.validity import canonical, problem

# Mid tones that contrast with white and with black; carbon and bonds take the colour of the page's text.
_HETEROATOMS = {7: "#4477ee", 8: "#e0483e", 9: "#2f9e63", 15: "#d9822b", 16: "#a8890f", 17: "#2f9e63", 35: "#b0623a", 53: "#9a5fd0"}
_WIDTH, _HEIGHT = 260, 190
_FIGURE = "display:inline-block;width:260px;margin:6px;vertical-align:top;font:12px/1.4 system-ui,sans-serif"
_CODE = "display:block;overflow-wrap:anywhere;font-family:ui-monospace,monospace"


def render(smiles: str) -> str:
    """A ``<figure>``: structure, canonical SMILES and properties; for an invalid string, the string and the reason."""
    why = problem(smiles)
    if parse(smiles) is None or not smiles:
        body = f'<code style="{_CODE}">{html.escape(smiles) or "(empty)"}</code><figcaption>{html.escape(why or "")}</figcaption>'
        return f'<figure style="{_FIGURE}">{body}</figure>'
    code = f'<code style="{_CODE}">{html.escape(canonical(smiles) or smiles)}</code>'
    note = f"<br>{html.escape(why)}" if why else ""
    return f'<figure style="{_FIGURE}">{svg(smiles)}<figcaption>{code}{_line(describe(smiles))}{note}</figcaption></figure>'


def svg(smiles: str) -> str:
    """The depiction of a valid SMILES as an ``<svg>`` element without ids, classes, namespaces or outside addresses."""
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer = rdMolDraw2D.MolDraw2DSVG(_WIDTH, _HEIGHT)
    options: Any = drawer.drawOptions()
    options.clearBackground = False
    options.bondLineWidth = 1.4
    black = (0.0, 0.0, 0.0)
    options.setAtomPalette({-1: black, 6: black} | {number: _rgb(colour) for number, colour in _HETEROATOMS.items()})
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, parse(smiles))
    drawer.FinishDrawing()
    text = drawer.GetDrawingText()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+(?:xmlns(?::\w+)?|version|baseProfile|xml:space|class)=(?:'[^']*'|\"[^\"]*\")", "", text)
    for default in ("fill-rule:evenodd;", ";stroke-linecap:butt", ";stroke-linejoin:miter", ";stroke-opacity:1"):
        text = text.replace(default, "")  # half of the bytes
    return " ".join(text.replace("#000000", "currentColor").split())


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _line(wish: Wish) -> str:
    return (
        f"logP {wish.logp:.2f} · QED {wish.qed:.2f} · {wish.mw:.1f} Da · TPSA {wish.tpsa:.1f} Å² · "
        f"{wish.rings} ring{'' if wish.rings == 1 else 's'}"
    )

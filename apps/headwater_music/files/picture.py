"""The engraved score as SVG (verovio) and PNG (resvg), and the piano roll as SVG. Every picture stands alone.

Verovio draws notes as paths but leaves words as text in a font that the viewer may lack; here words become paths too, in DejaVu
Serif (https://dejavu-fonts.github.io, free to embed), which matplotlib brings, and music21 brings matplotlib. All ids follow from
the piece.
"""

from __future__ import annotations

import importlib.util
import zlib
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from headwater.errors import HeadwaterError
from headwater_music.files.notation import Layout, text
from headwater_music.files.piece import Piece, save
from headwater_music.files.spelling import name

SVG = "http://www.w3.org/2000/svg"
WIDTH = 2400  # of the page in verovio's units, tenths of a millimetre
PNG_WIDTH = 1600  # pixels
MAX_PNG_HEIGHT = 16000
FACES = {"tempo": "DejaVuSerif-Bold.ttf", "mNum": "DejaVuSerif-Italic.ttf"}
PLAIN = "DejaVuSerif.ttf"


def score_svg(piece: Piece, layout: Layout = "closed") -> str:
    """The whole score on one page as high as it needs: self-contained SVG, black by ``currentColor`` on nothing."""
    import verovio

    xml = text(piece, layout)
    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {
            "pageWidth": WIDTH,
            "pageHeight": 60000,
            "adjustPageHeight": True,
            "header": "none",
            "footer": "none",
            "svgViewBox": True,
            "svgRemoveXlink": True,
            "smuflTextFont": "none",
            "xmlIdSeed": zlib.crc32(xml.encode()) % 0x7FFFFFFF or 1,
        }
    )
    if not toolkit.loadData(xml):
        raise HeadwaterError("score: verovio cannot engrave this piece")
    pages = [_lettered(toolkit.renderToSVG(n)) for n in range(1, toolkit.getPageCount() + 1)]
    if len(pages) == 1:
        return pages[0]
    return _stacked(pages)


def _stacked(pages: list[str]) -> str:
    """Pages below each other as one picture."""
    out, top, width = [], 0.0, 0.0
    for page in pages:
        box = [float(n) for n in ElementTree.fromstring(page).get("viewBox", "").split()]
        out.append(page.replace("<svg ", f'<svg y="{top:g}" width="{box[2]:g}" height="{box[3]:g}" ', 1))
        top, width = top + box[3], max(width, box[2])
    return f'<svg xmlns="{SVG}" viewBox="0 0 {width:g} {top:g}">{"".join(out)}</svg>'


def score_png(piece: Piece, layout: Layout = "closed", width: int = PNG_WIDTH) -> bytes:
    """The score as a PNG, black on white."""
    import resvg_py

    drawn = score_svg(piece, layout)
    _, _, wide, high = (float(n) for n in ElementTree.fromstring(drawn).get("viewBox", "").split())
    width = min(width, int(MAX_PNG_HEIGHT * wide / high))
    return bytes(resvg_py.svg_to_bytes(svg_string=drawn, background="white", width=width, skip_system_fonts=True))


# Words as paths


@cache
def _font(face: str) -> Any:
    from fontTools.ttLib import TTFont

    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.origin:
        raise HeadwaterError("score: matplotlib's fonts are missing: pip install 'headwater[music]'")
    return TTFont(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / face, lazy=True)


@cache
def _letter(face: str, letter: str) -> tuple[str, float, float]:
    """A letter's outline, how far the next one stands off, and the units of both in a font's size."""
    from fontTools.pens.svgPathPen import SVGPathPen

    font = _font(face)
    glyphs, known = font.getGlyphSet(), font.getBestCmap()
    glyph = glyphs[known.get(ord(letter), ".notdef")]
    pen = SVGPathPen(glyphs)
    glyph.draw(pen)
    return pen.getCommands(), float(glyph.width), float(font["head"].unitsPerEm)


@cache
def _sign(letter: str) -> tuple[str, float, float]:
    """A musical sign from verovio's own font."""
    import verovio

    path = Path(verovio.__file__).parent / "data" / "Leipzig" / f"{ord(letter):04X}.xml"
    if not path.is_file():
        return "", 0.0, 1.0
    root = ElementTree.fromstring(path.read_bytes())
    outline = root.find(".//{*}path")
    box = root.get("viewBox", "0 0 1000 1000").split()
    advance = float(root.get("horiz-adv-x") or root.get("h-a-x") or 400)
    return ("" if outline is None else outline.get("d", "")), advance, float(box[3])


def _lettered(drawn: str) -> str:
    """Every <text> of a picture replaced by paths."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(drawn)

    def walk(element: ElementTree.Element, face: str) -> None:
        face = next((FACES[c] for c in element.get("class", "").split() if c in FACES), face)
        for k, child in enumerate(list(element)):
            if child.tag == f"{{{SVG}}}text":
                element[k] = _outlined(child, face)
            else:
                walk(child, face)

    walk(root, PLAIN)
    return ElementTree.tostring(root, encoding="unicode")


def _outlined(words: ElementTree.Element, face: str) -> ElementTree.Element:
    at, placed = 0.0, []
    for run in words.iter():
        size = float((run.get("font-size") or "0").removesuffix("px"))
        for letter in (run.text or "").strip("\n") if size else "":
            outline, advance, em = _sign(letter) if run.get("font-family") else _letter(face, letter)
            scale = size / em
            placed.append((at, scale, outline))
            at += advance * scale
    shift = {"middle": at / 2, "end": at}.get(words.get("text-anchor", ""), 0.0)
    x, y = float(words.get("x") or 0) - shift, float(words.get("y") or 0)
    group = ElementTree.Element(f"{{{SVG}}}g", {"fill": "currentColor"})
    for left, scale, outline in placed:
        if outline:
            place = f"translate({x + left:.0f}, {y:.0f}) scale({scale:.4g}, {-scale:.4g})"
            ElementTree.SubElement(group, f"{{{SVG}}}path", {"d": outline, "transform": place, "stroke": "none"})
    return group


# The piano roll

COLOURS = ("#4c8dff", "#e0702f", "#2ca36b", "#b25fd1")  # each reads on black and on white


def roll_svg(piece: Piece, cell: float = 5.0, row: float = 7.0) -> str:
    """The piano roll: time to the right, pitch upwards, a colour a voice, bar lines and octaves ruled; dark or light around it."""
    phrase = piece.phrase
    sounding = phrase.pitch[phrase.pitch > 0]
    low, high = (int(sounding.min()) - 2, int(sounding.max()) + 2) if sounding.size else (58, 74)
    left, top = 30.0, 20.0
    wide, tall = phrase.frames * cell, (high - low + 1) * row
    out = [
        f'<svg xmlns="{SVG}" viewBox="0 0 {left + wide + 8:g} {top + tall + 18:g}" '
        'font-family="system-ui, sans-serif" font-size="9" fill="#888" role="img"><title>piano roll</title>'
    ]

    def line(x1: float, y1: float, x2: float, y2: float, strong: bool) -> None:
        shade = ".6" if strong else ".25"
        out.append(f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="#888" stroke-opacity="{shade}" stroke-width=".7"/>')

    for pitch in range(low, high + 1):
        if pitch % 12 == 0:
            y = top + (high - pitch + 1) * row
            line(left, y, left + wide, y, False)
            out.append(f'<text x="{left - 4:g}" y="{y - 0.5:g}" text-anchor="end">{name(pitch)}</text>')
    measures = piece.bars
    every = max(1, round(30 / (cell * max(b.stop - b.start for b in measures))))
    for bar in measures:
        x = left + bar.start * cell
        line(x, top, x, top + tall, True)
        if bar.number and (bar.number - 1) % every == 0:
            out.append(f'<text x="{x + 2:g}" y="{top + tall + 11:g}">{bar.number}</text>')
    line(left + wide, top, left + wide, top + tall, True)
    x = left
    for v, label in enumerate(piece.voice_names):
        clean = label.replace("&", "&amp;").replace("<", "&lt;")
        out.append(f'<circle cx="{x + 4:g}" cy="8" r="4" fill="{COLOURS[v]}"/><text x="{x + 11:g}" y="11">{clean}</text>')
        x += 26 + 5.5 * len(label)
        for start, length, pitch in phrase.notes(v):
            place = f'x="{left + start * cell:g}" y="{top + (high - pitch) * row:g}"'
            box = f'{place} width="{length * cell - 0.8:g}" height="{row - 1:g}"'
            out.append(f'<rect {box} rx="1.5" fill="{COLOURS[v]}" fill-opacity=".85"/>')
    return "".join(out) + "</svg>"


def write(piece: Piece, path: Path, layout: Layout = "closed", roll: bool = False) -> Path:
    """Write a picture, by the suffix .svg or .png; with ``roll`` the piano roll (.svg)."""
    if path.suffix == ".png" and not roll:
        return save(path, score_png(piece, layout))
    if path.suffix == ".svg":
        return save(path, (roll_svg(piece) if roll else score_svg(piece, layout)).encode())
    raise HeadwaterError(f"{path}: a picture is .svg or, a score, .png")

"""Make some bars, some voices, or some bars of some voices anew: infill of any cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_music.files import Piece
from headwater_music.pipelines.anew import Order, view, whole_notes
from headwater_music.pipelines.asking import EXAMPLES, SOURCE, TOGETHER, Drawing, sources
from headwater_music.pipelines.asking import Source as Sheet
from headwater_music.pipelines.choice import listed
from headwater_music.pipelines.made import Made, answer

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class FillOptions(Drawing):
    bars: Annotated[str | None, Knob("the bars to make anew, as 3-4,7; 0 is the pickup (default: all)")] = None
    voices: Annotated[str | None, Knob("the voices to make anew, as alto,tenor or 2,3 (default: all)")] = None


class Fill(Pipeline[Sheet]):
    """Everything but the bars and voices named stays as it is, cell by cell. A note that reaches into the rest is kept whole."""

    name, summary = "fill", "make some bars or voices anew and leave every other note as it is"
    source = f"four voices (or, with a model of melodies, one): {SOURCE}"
    Options, verbs, model, together = FillOptions, ("infill",), "autoregressive", TOGETHER

    def read(self, source: Path, options: FillOptions) -> Iterator[Sheet]:
        yield from sources(source, options)

    def example(self) -> Path:
        return EXAMPLES / "chorale.musicxml"

    def run(self, model: Generator, rows: Sequence[tuple[int, Sheet]], noise: Noise, options: FillOptions) -> Iterator[Made]:
        orders = []
        for row, (name, piece) in rows:
            bars, voices = chosen_bars(piece, name, options.bars), chosen_voices(piece, name, options.voices)
            keep = kept(piece, bars, voices)
            if keep.all():
                raise HeadwaterError(f"{name}: nothing is left to be made: each note there reaches into what is kept")
            seen = view(model, (name, piece), keep)
            orders.append(Order(row, name, piece, keep, seen, described(piece, bars, voices)))
        yield from answer(model, orders, self.name, noise, options)


def kept(piece: Piece, bars: Sequence[int], voices: Sequence[int]) -> Any:
    """(frames, voices) which cells stay: all but those bars of those voices, and whole notes."""
    keep = np.ones(piece.phrase.pitch.shape, np.bool_)
    for bar in piece.bars:
        if bar.number in bars:
            keep[bar.start : bar.stop, list(voices)] = False
    return whole_notes(piece.phrase, keep)


def chosen_bars(piece: Piece, name: str, text: str | None) -> list[int]:
    """Bar numbers of a text like "3-4,7". Raises :class:`HeadwaterError` for others, and bars that there are not."""
    there = list(dict.fromkeys(bar.number for bar in piece.bars))
    if text is None:
        return there
    found: list[int] = []
    for word in text.replace(",", " ").split():
        low, dash, high = word.partition("-")
        if not (low.isdecimal() and (high.isdecimal() or not dash)) or len(word) > 12:
            raise HeadwaterError(f"--bars: expected numbers and ranges, as 3-4,7; got {word!r}")
        first, last = int(low), int(high or low)
        if last < first:
            raise HeadwaterError(f"--bars: expected numbers and ranges from the first to the last, as 3-4,7; got {word!r}")
        found += range(first, last + 1) if last <= there[-1] else [last]
    if not found or not set(found) <= set(there):
        wrong = next((b for b in found if b not in there), text)
        raise HeadwaterError(f"--bars: {name} has bars {there[0]} to {there[-1]}; got {wrong}")
    return sorted(set(found))


def chosen_voices(piece: Piece, name: str, text: str | None) -> list[int]:
    """Places of the voices named: by name, its beginning, or number from 1. Raises :class:`HeadwaterError` for others."""
    names = [n.casefold() for n in piece.voice_names]
    if piece.phrase.voices == 4:
        names = [f"{own} {usual}" for own, usual in zip(names, ("soprano", "alto", "tenor", "bass"), strict=True)]
    if text is None:
        return list(range(len(names)))
    found: list[int] = []
    for word in text.casefold().replace(",", " ").split():
        number = int(word) if word.isdecimal() and len(word) < 4 else 0
        fitting = [v for v, own in enumerate(names) if number == v + 1 or any(w.startswith(word) for w in own.split())]
        if len(fitting) != 1:
            there = ", ".join(piece.voice_names)
            raise HeadwaterError(f"--voices: expected names or numbers of the voices of {name} ({there}); got {word!r}")
        found += fitting
    if not found:
        raise HeadwaterError(f"--voices: expected one of the voices at least; got {text!r}")
    return sorted(set(found))


def described(piece: Piece, bars: Sequence[int], voices: Sequence[int]) -> str:
    """What was made anew, in words."""
    names = [piece.voice_names[v].lower() for v in voices]
    who = "all voices" if len(voices) == piece.phrase.voices > 1 else listed(names)
    every = len(bars) == len({bar.number for bar in piece.bars})
    where = "" if every else f" of bar{'s' * (len(bars) > 1)} {listed([str(b) for b in bars])}"
    return f"{who}{where} made anew; every other note as given"

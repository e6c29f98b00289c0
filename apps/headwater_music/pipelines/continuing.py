"""Continue a melody or a chorale: infill behind everything that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_music.codecs import LENGTH
from headwater_music.files import Piece
from headwater_music.files.piece import sixteenths
from headwater_music.pipelines.anew import Order, view
from headwater_music.pipelines.asking import EXAMPLES, SOURCE, TOGETHER, Drawing, Tries, sources
from headwater_music.pipelines.asking import Source as Sheet
from headwater_music.pipelines.made import Made, answer

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class ContinueOptions(Drawing):
    tries: Tries = 4
    bars: Annotated[int, Knob("how many bars to add", 1, 32)] = 8
    track: Annotated[str | None, Knob("the part to continue, by name or number from 1, where there are several")] = None
    cadence: Annotated[Literal["authentic", "plagal", "half"] | None, Knob("how it is to end")] = None


class Continue(Pipeline[Sheet]):
    """Every note that is there stays as it is, and new bars follow. The model sees as much of the end of a piece as it can hold."""

    name, summary = "continue", "go on from where a melody (or, with a model of chorales, four voices) ends"
    source = f"a melody, or four voices: {SOURCE}"
    Options, verbs, model, together = ContinueOptions, ("infill",), "melody", TOGETHER

    def read(self, source: Path, options: ContinueOptions) -> Iterator[Sheet]:
        yield from sources(source, options, track=options.track)

    def example(self) -> Path:
        return EXAMPLES / "melody.musicxml"

    def run(self, model: Generator, rows: Sequence[tuple[int, Sheet]], noise: Noise, options: ContinueOptions) -> Iterator[Made]:
        orders = []
        for row, (name, given) in rows:
            piece, keep = lengthened(given, name, options.bars)
            seen = view(model, (name, piece), keep, fermatas=False, cadence=options.cadence)
            did = f"{options.bars} bar{'s' * (options.bars > 1)} added; what came before is as given"
            orders.append(Order(row, name, piece, keep, seen, did))
        yield from answer(model, orders, self.name, noise, options)


def lengthened(given: Piece, name: str, bars: int) -> tuple[Piece, Any]:
    """The piece with empty bars of its last metre behind it, and which cells are kept. A last bar that is cut short is filled up
    first, unless it and the pickup make one whole bar, as in songs of several verses."""
    phrase = given.phrase
    first, last = given.bars[0], given.bars[-1]
    bar, there = sixteenths(last.metre), last.stop - last.start
    pickup = first.stop - first.start if first.number == 0 else 0
    more = bars * bar + (bar - there if there < bar and pickup + there != bar else 0)
    if more + bar > LENGTH:
        raise HeadwaterError(f"--bars: expected at most {(LENGTH - 2 * bar) // bar} in {last.metre}; got {bars} ({name})")
    behind = ((0, more), (0, 0))
    whole = replace(
        phrase,
        pitch=np.pad(phrase.pitch, behind),
        onset=np.pad(phrase.onset, behind),
        fermata=np.pad(phrase.fermata, behind[0]),
    )
    keep = np.zeros(whole.pitch.shape, np.bool_)
    keep[: phrase.frames] = True
    return replace(given, phrase=whole), keep

"""Harmonise a melody in four parts: infill with the soprano kept, in whatever key fits the models best, and brought back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from headwater.domain import Pipeline
from headwater.knobs import Knob
from headwater_music.files import Piece
from headwater_music.pipelines.anew import Order, view
from headwater_music.pipelines.asking import EXAMPLES, SOURCE, TOGETHER, Drawing, sources
from headwater_music.pipelines.asking import Source as Sheet
from headwater_music.pipelines.choice import in_bars
from headwater_music.pipelines.made import Made, answer
from headwater_music.rules import RANGES
from headwater_music.score import key_named
from headwater_music.wishes import Key

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class HarmoniseOptions(Drawing):
    track: Annotated[str | None, Knob("the part to harmonise, by name or number from 1, where there are several")] = None
    key: Annotated[Key | None, Knob("the key to harmonise it in (default: the one it is written in)")] = None
    cadence: Annotated[Literal["authentic", "plagal", "half"] | None, Knob("how it is to end")] = None


class Harmonise(Pipeline[Sheet]):
    """Every note of the soprano stays as it is: pitch, onset and duration, with fermatas, pickup, metre, key and tempo."""

    name, summary = "harmonise", "set a melody for four voices; the melody stays exactly as it is"
    source = f"a melody: {SOURCE}"
    Options, verbs, model, together = HarmoniseOptions, ("infill",), "autoregressive", TOGETHER

    def read(self, source: Path, options: HarmoniseOptions) -> Iterator[Sheet]:
        yield from sources(source, options, voices=1, track=options.track)

    def example(self) -> Path:
        return EXAMPLES / "melody.musicxml"

    def run(self, model: Generator, rows: Sequence[tuple[int, Sheet]], noise: Noise, options: HarmoniseOptions) -> Iterator[Made]:
        orders = []
        for row, (name, melody) in rows:
            piece, keep = with_room(in_key_of(melody, options.key))
            seen = view(model, (name, piece), keep, key=options.key, cadence=options.cadence)
            piece = replace(piece, warnings=(*piece.warnings, *strained(piece, seen.shift)))
            orders.append(Order(row, name, piece, keep, seen, "soprano as given; alto, tenor and bass made anew"))
        yield from answer(model, orders, self.name, noise, options)


def in_key_of(melody: Piece, key: Key | None) -> Piece:
    """The same notes, written in another key where one is named."""
    if key is None:
        return melody
    tonic, mode = key_named(key)
    return replace(melody, phrase=replace(melody.phrase, tonic=tonic, mode=mode), keys=())


def with_room(melody: Piece) -> tuple[Piece, Any]:
    """A melody as the soprano of a piece for four voices, the others at rest; and which cells are kept, (frames, 4)."""
    phrase = melody.phrase
    beside = ((0, 0), (0, 3))
    whole = replace(phrase, pitch=np.pad(phrase.pitch, beside), onset=np.pad(phrase.onset, beside))
    keep = np.zeros(whole.pitch.shape, np.bool_)
    keep[:, 0] = True
    return replace(melody, phrase=whole, names=(), programs=()), keep


def strained(piece: Piece, shift: int) -> list[str]:
    """What is too high or too low for a soprano wherever the melody is moved, in words with bars."""
    line, (low, high) = piece.phrase.pitch[:, 0], RANGES["soprano"]
    far = np.flatnonzero((line > 0) & ((line + shift < low) | (line + shift > high)))
    if not len(far):
        return []
    return [
        f"the melody is wider than a soprano's range in every key: mind what stands below its ends, in {in_bars(piece.bars, far)}"
    ]

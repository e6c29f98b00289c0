"""Variations on a piece: some of its notes, chosen by chance, made anew around those that stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_music.files import Piece
from headwater_music.pipelines.anew import Order, view
from headwater_music.pipelines.asking import EXAMPLES, SOURCE, TOGETHER, Drawing, sources
from headwater_music.pipelines.asking import Source as Sheet
from headwater_music.pipelines.fill import chosen_voices
from headwater_music.pipelines.made import Made, answer
from headwater_music.score import Array

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class VariationsOptions(Drawing):
    amount: Annotated[float, Knob("the share of notes made anew", 0.01, 1)] = 0.4
    voices: Annotated[str | None, Knob("the voices that may change, as alto,tenor or 2,3 (default: all)")] = None


class Variations(Pipeline[Sheet]):
    """Each draw chooses other notes and leaves every other note as it is; metre, key, tempo and length stay."""

    name, summary = "variations", "pieces like a given one: a share of its notes made anew"
    source = f"four voices (or, with a model of melodies, one): {SOURCE}"
    Options, verbs, model, together = VariationsOptions, ("infill",), "autoregressive", TOGETHER

    def read(self, source: Path, options: VariationsOptions) -> Iterator[Sheet]:
        yield from sources(source, options)

    def example(self) -> Path:
        return EXAMPLES / "chorale.musicxml"

    def run(self, model: Generator, rows: Sequence[tuple[int, Sheet]], noise: Noise, options: VariationsOptions) -> Iterator[Made]:
        draws = []
        for draw in range(options.draws):
            key, orders = noise.fold("draw", draw), []
            for row, (name, piece) in rows:
                keep = chosen(piece, name, options, key.fold(row))
                did = f"{100 * options.amount:.0f} % of the notes made anew"
                orders.append(Order(row, name, piece, keep, view(model, (name, piece), keep), did))
            draws.append(answer(model, orders, self.name, key, replace(options, draws=1)))
        for results in zip(*draws, strict=True):
            yield from (replace(made, draw=draw) for draw, made in enumerate(results))


def chosen(piece: Piece, name: str, options: VariationsOptions, noise: Noise) -> Array:
    """(frames, voices) which cells stay. Raises :class:`HeadwaterError` where there is no note that may change."""
    phrase, keep = piece.phrase, np.ones(piece.phrase.pitch.shape, np.bool_)
    notes = [(v, note) for v in chosen_voices(piece, name, options.voices) for note in phrase.notes(v)]
    if not notes:
        raise HeadwaterError(f"{name}: no note sounds in the voices that may change")
    order = np.argsort(noise.uniform(len(notes))[0].numpy(), kind="stable")
    for i in order[: max(1, round(options.amount * len(notes)))]:
        voice, note = notes[i]
        keep[note.start : note.start + note.length, voice] = False
    return keep

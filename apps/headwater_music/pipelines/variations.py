"""Variations on a piece: a share of it made anew where the model likes, at the same length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError
from headwater.knobs import Knob, asked
from headwater_music.files.piece import bar_at
from headwater_music.pipelines.anew import Order, drafted, grid, view
from headwater_music.pipelines.asking import EXAMPLES, SOURCE, Scored, Tries, sources
from headwater_music.pipelines.asking import Source as Sheet
from headwater_music.pipelines.made import Made, choose

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class VariationsOptions(Scored):
    tries: Tries = 4
    amount: Annotated[float, Knob("how much of the piece may change, 0 to 1", 0, 1)] = 0.3
    likelihood: Annotated[bool, Knob("how likely the model finds each result; for masked diffusion that is slow")] = False


class Variations(Pipeline[Sheet]):
    """Neighbours of a piece, with its metre, key, tempo and length. No note is promised to stay: to keep some, use ``fill``."""

    name, summary = "variations", "pieces like a given one, a share of the notes made anew"
    source = f"four voices (or, with a model of melodies, one): {SOURCE}"
    Options, verbs, model = VariationsOptions, ("vary",), "masked_diffusion"

    def read(self, source: Path, options: VariationsOptions) -> Iterator[Sheet]:
        yield from sources(source, options)

    def example(self) -> Path:
        return EXAMPLES / "chorale.musicxml"

    def run(self, model: Generator, rows: Sequence[tuple[int, Sheet]], noise: Noise, options: VariationsOptions) -> Iterator[Made]:
        for row, (name, piece) in rows:
            length, frames = grid(model, name, piece).space.length, piece.phrase.frames
            if frames > length:
                where = bar_at(piece.bars, length)
                raise HeadwaterError(
                    f"{name}: bar {where} is too far on: the model varies pieces of up to {length} sixteenths, and this one has "
                    f"{frames:,}; cut it before that bar"
                )
            every, none = (np.full(piece.phrase.pitch.shape, k) for k in (True, False))
            seen = view(model, (name, piece), every)
            known = {f.name for f in model.model.conditioner.fields}
            tracks = {k: v for k in ("beat", "fermata") if k in known and (v := getattr(seen.wish, k)) is not None}
            seed, n = noise.fold(self.name, row).number(), options.draws * options.tries
            made = model.vary([seen.phrase], strength=options.amount, seed=seed, n=n, **asked(seen.wish), **tracks)
            drafts = [drafted(piece.phrase, none, seen, phrase) for phrase in made]
            did = f"up to {100 * options.amount:.0f}% made anew"
            order = Order(row, name, piece, none, seen, did)
            yield from choose(model, order, drafts, task=self.name, options=options, seed=seed)

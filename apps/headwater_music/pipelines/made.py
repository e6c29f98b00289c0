"""A piece that a task made: its files, its card and its columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.domain import Result
from headwater_music import memory, rules
from headwater_music.codecs import LENGTH
from headwater_music.files import Piece, midi, notation
from headwater_music.files.piece import save
from headwater_music.pipelines.anew import Draft, Order, likelihoods, remake
from headwater_music.pipelines.asking import Asking, Drawing, Scored
from headwater_music.pipelines.choice import best
from headwater_music.score import Array, Phrase

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class Told:
    """What there is to say about a result: the ``task``, the file it came from, and in a few words what was done; the first of its
    candidates (``raw``) and how many there were; its likelihood; by how much the music was moved for the model; and which cells are
    new."""

    task: str
    source: str
    did: str
    raw: Phrase
    tries: int
    likelihood: tuple[float, str] | None
    shift: int
    new: Array = field(repr=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Made(Result):
    """``piece`` is the whole piece, kept notes and new ones."""

    row: int
    draw: int
    piece: Piece
    told: Told
    options: Asking

    # --- files --------------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> list[Path]:
        """``harmonise_00000_0.mid`` and so on: the task, the row and the draw; one file for each kind asked for."""
        from headwater_music.files import picture, sound

        stem, loop = f"{self.told.task}_{self.row:05d}_{self.draw}", self.options.loop
        written = []
        for kind in self.options.kinds:
            if kind == "midi":
                written.append(midi.write(self.piece, folder / f"{stem}.mid", loop))
            elif kind == "musicxml":
                written.append(notation.write(self.piece, folder / f"{stem}.musicxml"))
            elif kind == "wav":
                written.append(sound.write(self.piece, folder / f"{stem}.wav", loop, self._font()))
            elif kind == "svg":
                engraved = self.score if self.excerpt is self.piece else picture.score_svg(self.piece)
                written.append(save(folder / f"{stem}.svg", engraved.encode()))
            elif kind == "png":
                written.append(picture.write(self.piece, folder / f"{stem}.png"))
            else:
                written.append(picture.write(self.piece, folder / f"{stem}_roll.svg", roll=True))
        return written

    def _font(self) -> Path | None:
        from headwater_music.files import sound

        return sound.soundfont() if self.options.soundfont else None

    # --- the card -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def excerpt(self) -> Piece:
        """What a card shows: the piece, or of a long one the part with what is new in it, its bars counted anew."""
        phrase = self.piece.phrase
        if phrase.frames <= LENGTH:
            return self.piece
        last = int(np.flatnonzero(self.told.new.any(axis=1))[-1]) + 1
        low = max(0, min(last, phrase.frames) - LENGTH)
        low = next((b.start for b in self.piece.bars if b.start >= low), low)
        tempo = next(t for f, t in reversed(self.piece.tempos) if f <= low)
        part = phrase.cut(low, min(phrase.frames, low + LENGTH))
        return Piece(part, tempos=((0, tempo),), names=self.piece.names, programs=self.piece.programs)

    @functools.cached_property
    def score(self) -> str:
        """The engraved score of the excerpt, SVG."""
        from headwater_music.files import picture

        return picture.score_svg(self.excerpt)

    @functools.cached_property
    def copied(self) -> memory.Copy:
        return memory.longest_copy(self.piece.phrase)

    def render(self) -> str:
        from headwater_music.pipelines.card import card

        return card(self)

    # --- columns ------------------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """The rules report of the result, and as ``raw_…`` of the first of several candidates, which comes without a choice;
        the longest run copied from the training set; the likelihood of what the model saw; by how much that was moved for it."""
        phrase, told = self.piece.phrase, self.told
        raw, found = rules.report(told.raw).record(), told.likelihood
        return {
            "source": told.source, "key": phrase.key, "metre": phrase.metre, "bars": phrase.bars, "frames": phrase.frames,
            "voices": phrase.voices, "notes": int(phrase.onset.sum()), "new_notes": int((phrase.onset & told.new).sum()),
            **rules.report(phrase).record(),
            "copied_frames": self.copied.frames, "copied_from": self.copied.source,
            "tries": told.tries, **{f"raw_{k}": raw[k] if told.tries > 1 else None for k in raw},
            "log_likelihood": None if found is None else found[0], "likelihood_kind": None if found is None else found[1],
            "moved_semitones": told.shift, "warnings": "; ".join(self.piece.warnings) or None,
        }  # fmt: skip

    def problem(self) -> str | None:
        return rules.problem(self.piece.phrase)


def answer(
    model: Generator,
    orders: Sequence[Order],
    task: str,
    noise: Noise,
    options: Drawing,
    settle: Callable[[Order, Draft], Draft] = lambda order, draft: draft,
) -> Iterator[Made]:
    """What a model makes of orders: candidates for each, after ``settle``, and of them the best."""
    for order, drafts in remake(model, orders, options.draws * options.tries, noise.fold(task), options):
        seed = noise.fold(task, order.row).number()
        yield from choose(model, order, [settle(order, draft) for draft in drafts], task=task, options=options, seed=seed)


def choose(model: Generator, order: Order, drafts: Sequence[Draft], *, task: str, options: Asking, seed: int) -> Iterator[Made]:
    """The results of a row: of each draw's candidates, which lie side by side in ``drafts``, the best by the rules, with all that
    the order's piece has besides notes."""
    groups = [drafts[d * options.tries : (d + 1) * options.tries] for d in range(options.draws)]
    taken = [group[best(group, order.seen.wish)] for group in groups]
    asked = isinstance(options, Scored) and options.likelihood
    found = likelihoods(model, taken, order.seen.wish, seed) if asked else [None] * len(taken)
    for draw, (group, draft, likelihood) in enumerate(zip(groups, taken, found, strict=True)):
        raw, new = group[0].phrase, ~order.keep
        told = Told(task, order.source, order.did, raw, options.tries, likelihood, order.seen.shift, new)
        yield Made(row=order.row, draw=draw, piece=replace(order.piece, phrase=draft.phrase), told=told, options=options)

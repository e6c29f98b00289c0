"""Generate pieces from a brief: a table of what is wanted, a line for each kind of piece."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError
from headwater.knobs import Knob, asked, fields, fill
from headwater_music import harmony
from headwater_music.codecs import LENGTH
from headwater_music.files import Piece
from headwater_music.files.piece import TEMPO
from headwater_music.pipelines.anew import Draft, Order, bound, drafted, view
from headwater_music.pipelines.asking import EXAMPLES, TOGETHER, Drawing
from headwater_music.pipelines.made import Made, answer, choose
from headwater_music.score import METRES, Phrase, key_named
from headwater_music.wishes import Key

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise

Metre = Literal["4/4", "3/4", "2/4", "2/2", "3/2", "4/2", "6/4", "3/8", "6/8", "9/8", "12/8"]
MOST = 1_000_000  # pieces of a line
BYTES = 1 << 20  # of a brief


@dataclass(frozen=True)
class Brief:
    """What a piece is to be; everything that is left out is the model's choice, or usual."""

    key: Annotated[Key | None, Knob("key")] = None
    metre: Annotated[Metre | None, Knob("metre (default: 4/4)")] = None
    bars: Annotated[int | None, Knob("bars, exactly (default: 8)", 1, 109)] = None
    tempo: Annotated[float | None, Knob("quarters a minute (default: 84)", 20, 400)] = None
    density: Annotated[float | None, Knob("notes a quarter, mean of the voices", 0, 4)] = None
    cadence: Annotated[Literal["authentic", "plagal", "half", "other"] | None, Knob("how it ends")] = None


@dataclass(frozen=True)
class GenerateOptions(Brief, Drawing):
    """A brief's words as options are for the lines that leave them out."""


class Wanted(NamedTuple):
    """A row: the line it comes from, and its brief."""

    name: str
    brief: Brief


class Generate(Pipeline[Wanted]):
    """Exactly as many bars as asked for; the last ones may still not close as asked, which is for the columns to say."""

    name, summary = "generate", "new pieces by a brief: key, metre, bars, tempo, density, cadence"
    source = "a CSV table, a line for each kind of piece; columns: key, metre, bars, tempo, density, cadence, and count"
    Options, verbs, model, together = GenerateOptions, ("sample",), "autoregressive", TOGETHER

    def read(self, source: Path, options: GenerateOptions) -> Iterator[Wanted]:
        options.check()
        given = {f.name: getattr(options, f.name) for f in fields(Brief)}
        for name, count, values in lines(source):
            try:
                brief = fill(Brief, {**given, **values})
                room(brief)
            except HeadwaterError as error:
                raise HeadwaterError(f"{source}, {name}: {error}") from None
            for _ in range(count):
                yield Wanted(f"{source.name}, {name}", brief)

    def example(self) -> Path:
        return EXAMPLES / "brief.csv"

    def run(self, model: Generator, rows: Sequence[tuple[int, Wanted]], noise: Noise, options: GenerateOptions) -> Iterator[Made]:
        orders = []
        for row, (name, brief) in rows:
            piece = Piece(empty(brief, model.codec.space.shape[-1]), tempos=((0, brief.tempo or TEMPO),))
            keep = np.zeros(piece.phrase.pitch.shape, np.bool_)
            knobs = {k: v for k, v in asked(brief).items() if k in ("key", "density", "cadence")}
            seen = view(model, (name, piece), keep, **knobs)
            did = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in asked(brief).items())
            orders.append(Order(row, name, piece, keep, seen, f"asked for: {did or 'nothing in particular'}"))
        if "infill" in model.verbs:  # one that does is shown where the end is
            yield from answer(model, orders, self.name, noise, options, settle=in_key)
            return
        for order in orders:
            seed, n = noise.fold(self.name, order.row).number(), options.draws * options.tries
            made = model.sample(
                n, seed=seed, wishes=[order.seen.wish] * n, temperature=options.boldness,
                constraints=bound(model, [order], n, options), lengths=[order.piece.phrase.frames] * n,
            )  # fmt: skip
            drafts = [in_key(order, drafted(order.piece.phrase, order.keep, order.seen, phrase)) for phrase in made]
            yield from choose(model, order, drafts, task=self.name, options=options, seed=seed)


def room(brief: Brief) -> int:
    """Frames of a brief's piece. Raises :class:`HeadwaterError` where they are too many."""
    metre, bars = brief.metre or "4/4", brief.bars or 8
    if bars * METRES[metre] > LENGTH:
        raise HeadwaterError(f"--bars: expected at most {LENGTH // METRES[metre]} in {metre}; got {bars}")
    return bars * METRES[metre]


def empty(brief: Brief, voices: int) -> Phrase:
    """A phrase of rests, in the brief's metre and key."""
    rests = np.zeros((room(brief), voices), np.int16)
    tonic, mode = key_named(brief.key or "C major")
    return Phrase(rests, rests > 0, metre=brief.metre or "4/4", tonic=tonic, mode=mode)


def in_key(order: Order, draft: Draft) -> Draft:
    """The draft written in the key asked for, else in the one that its notes tell."""
    if order.seen.wish.key is not None:
        return draft
    tonic, mode = harmony.estimate_key(draft.phrase)
    return draft._replace(phrase=replace(draft.phrase, tonic=tonic, mode=mode))


def lines(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Each line of a brief: its name, how many pieces it asks for, and what it says of them. Raises :class:`HeadwaterError` for a
    file that is no such table, naming the line."""
    known = [f.name for f in fields(Brief)]
    try:
        if path.stat().st_size > BYTES:
            raise HeadwaterError(f"{path}: larger than {BYTES:,} bytes: not a brief; `count` asks for many pieces in one line")
        table = list(csv.reader(path.read_text("utf-8-sig").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HeadwaterError(f"{path}: cannot be read as a CSV table in UTF-8 ({type(error).__name__})") from None
    rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(table, 1) if any(cell.strip() for cell in row)]
    if not rows:
        raise HeadwaterError(f"{path}: the file is empty; its first line names columns: {', '.join(known)}, count")
    head = [word.lower() for word in rows[0][1]]
    if unknown := [word for word in head if word not in (*known, "count")]:
        raise HeadwaterError(f"{path}: unknown column {unknown[0][:40]!r}; expected some of {', '.join(known)}, count")
    for number, row in rows[1:]:
        if len(row) > len(head):
            raise HeadwaterError(f"{path}, line {number}: {len(row)} cells under {len(head)} columns")
        values = {word: cell for word, cell in zip(head, row, strict=False) if cell}
        count = values.pop("count", "1")
        if not count.isdecimal() or not 1 <= int(count[:9]) <= MOST:
            raise HeadwaterError(f"{path}, line {number}: count: expected a whole number from 1 to {MOST:,}; got {count[:40]!r}")
        yield f"line {number}", int(count), values

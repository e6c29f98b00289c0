"""The way from one passage to another, passage by passage, through a model's latent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError, MissingVerb
from headwater.knobs import Knob
from headwater_music.files import Piece
from headwater_music.pipelines.anew import Draft, Order, View, along, beats, grid, transposition
from headwater_music.pipelines.asking import EXAMPLES, SOURCE, Asking, Tries, sources
from headwater_music.pipelines.asking import Source as Sheet
from headwater_music.pipelines.made import Made, choose
from headwater_music.score import Phrase
from headwater_music.wishes import Wish

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise


@dataclass(frozen=True)
class InterpolateOptions(Asking):
    tries: Tries = 1
    first_bar: Annotated[int | None, Knob("where the passage to start from begins (default: bar 1)", 1)] = None
    last_bar: Annotated[int | None, Knob("where the passage to arrive at begins (default: so that it ends the piece)", 1)] = None
    between: Annotated[int, Knob("passages on the way", 1, 16)] = 3
    boldness: Annotated[float, Knob("the temperature of drawing: below 1 plays safe, above 1 is bolder", 0.01, 3)] = 0.1


class Interpolate(Pipeline[Sheet]):
    """Two passages of one file, as long as the model's latent holds (two bars of 4/4), stand at the ends of the result as they are;
    what lies between is the model's."""

    name, summary = "interpolate", "lead from one passage of a piece to another, in steps"
    source = f"four voices: {SOURCE}"
    Options, verbs, model = InterpolateOptions, ("vary",), "vae"

    def read(self, source: Path, options: InterpolateOptions) -> Iterator[Sheet]:
        yield from sources(source, options)

    def example(self) -> Path:
        return EXAMPLES / "chorale.musicxml"

    def run(self, model: Generator, rows: Sequence[tuple[int, Sheet]], noise: Noise, options: InterpolateOptions) -> Iterator[Made]:
        if model.model.family.latent is None:
            raise MissingVerb(f"{model.name} has no latent to lead through; a variational autoencoder or a flow over one has")
        for row, (name, piece) in rows:
            a, b, carried = passages(piece, name, grid(model, name, piece).space.length, options)
            shift = transposition(Piece(joined([a, b])), name, np.ones((a.frames + b.frames, a.voices), np.bool_))
            key = noise.fold(self.name, row)
            drafts = [way(model, a, b, shift, options, key.fold(i).number()) for i in range(options.draws * options.tries)]
            new = np.ones(drafts[0].phrase.pitch.shape, np.bool_)
            new[: a.frames] = new[-b.frames :] = False
            carrier = replace(carried, phrase=drafts[0].phrase)
            seen = View(0, len(new), shift, drafts[0].seen, Wish())
            did = f"from one passage to the other by {options.between} on the way; both ends as given"
            order = Order(row, name, carrier, ~new, seen, did)
            yield from choose(model, order, drafts, task=self.name, options=options, seed=key.number())


def passages(piece: Piece, name: str, most: int, options: InterpolateOptions) -> tuple[Phrase, Phrase, Piece]:
    """The two ends, as many whole bars as ``most`` frames hold; and the first with what rules there: tempo, names, what reading
    changed. Raises :class:`HeadwaterError` for bars that there are not, or that are not whole."""
    bar = piece.phrase.bar
    length = most // bar * bar
    if not length:
        raise HeadwaterError(f"{name}: a bar of {piece.phrase.metre} is longer than the {most} sixteenths that the model holds")
    whole = {b.start for b in piece.bars if b.stop - b.start == bar and b.metre == piece.phrase.metre}
    starts = {b.number: b.start for b in piece.bars if whole.issuperset(range(b.start, b.start + length, bar))}
    if len(starts) < 2:
        raise HeadwaterError(f"{name}: too short to hold two passages of {length // bar} bars to lead from and to")
    chosen = (options.first_bar or min(starts), options.last_bar or max(starts))
    for flag, number in zip(("--first-bar", "--last-bar"), chosen, strict=True):
        if number not in starts:
            raise HeadwaterError(f"{flag}: in {name} a passage of whole bars may begin in bars {spans(starts)}; got {number}")
    a, b = (replace(piece.phrase.cut(starts[n], starts[n] + length), pickup=0) for n in chosen)
    tempo = next(t for f, t in reversed(piece.tempos) if f <= starts[chosen[0]])
    return a, b, Piece(a, tempos=((0, tempo),), names=piece.names, programs=piece.programs, warnings=piece.warnings)


def spans(numbers: Iterable[int]) -> str:
    """
    >>> spans([1, 2, 3, 6])
    '1-3, 6'
    """
    runs = [[n for _, n in run] for _, run in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def way(model: Generator, a: Phrase, b: Phrase, shift: int, options: InterpolateOptions, seed: int) -> Draft:
    """Both passages and those between them, end to end."""
    start, goal = a.transposed(shift), b.transposed(shift)
    known = {f.name for f in model.model.conditioner.fields} & {"beat"}
    told: dict[str, Any] = {name: along(beats(Piece(a)), model.codec.space.shape[0]) for name in known}
    made = model.interpolate(start, goal, options.between + 2, seed=seed, temperature=options.boldness, **told)
    steps = [fitted(phrase, start) for phrase in made[1:-1]]
    seen = joined([start, *steps, goal])
    return Draft(joined([a, *(p.transposed(-shift) for p in steps), b]), seen)


def fitted(made: Phrase, like: Phrase) -> Phrase:
    """A phrase at the length and with the surroundings of another: cut, or with rests behind it."""
    short = max(0, like.frames - made.frames)
    pitch, onset = (np.pad(a, ((0, short), (0, 0)))[: like.frames] for a in (made.pitch, made.onset))
    return replace(like, pitch=pitch, onset=onset)


def joined(phrases: Sequence[Phrase]) -> Phrase:
    """Phrases end to end, in the key and metre of the first; each begins its notes anew."""
    pitch, onset = (np.concatenate([getattr(p, part) for p in phrases]) for part in ("pitch", "onset"))
    fermata = np.concatenate([p.fermata for p in phrases])
    return replace(phrases[0], pitch=pitch, onset=onset, fermata=fermata)

"""Notes made anew around notes that are kept: the one thing that harmonising, continuing and filling have in common.

A note that is kept at all is kept whole: its pitch, where it begins and how long it lasts. That holds by construction (kept cells
go into the model's arrays and are taken from the source again when it answers), and is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headwater.errors import HeadwaterError, PromiseBroken
from headwater_music import rules
from headwater_music.codecs import HIGHEST, LOWEST, Grid16
from headwater_music.files.piece import Piece, bar_at, sixteenths
from headwater_music.files.spelling import name as note_name
from headwater_music.partwriting import NoParallels, loosened
from headwater_music.pipelines.asking import Drawing
from headwater_music.rules import RANGES
from headwater_music.score import VOICES, Array, Phrase, key_name, key_named
from headwater_music.wishes import BEATS, Wish

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise

#: How often notes around parallels are written again, and in how many steps where a model counts steps.
ROUNDS, STEPS = 4, 24
#: So far up and down may be transposed that what a model writes, brought back, still lies within MIDI.
DOWN, UP = HIGHEST - 127, LOWEST - 1


class Draft(NamedTuple):
    """One candidate: the whole ``phrase``; and ``seen``, the part that the model saw and made, in the model's key."""

    phrase: Phrase
    seen: Phrase


class View(NamedTuple):
    """A piece as a model is shown it: frames ``low`` to ``high`` moved by ``shift`` semitones, hidden cells as rests; and what it
    is told besides."""

    low: int
    high: int
    shift: int
    phrase: Phrase
    wish: Wish


def grid(model: Generator, name: str, piece: Piece) -> Grid16:
    """The model's codec. Raises :class:`HeadwaterError` for a model that cannot write notes, or another number of voices."""
    codec = model.codec
    if not isinstance(codec, Grid16) or not codec.onsets:
        raise HeadwaterError(
            f"--model: {model.name} cannot tell repeated notes from held ones; name one of chorales or of melodies"
        )
    voices, wanted = piece.phrase.voices, codec.space.streams
    if voices != wanted:
        one = "`continue` can go on with one part (--track)" if wanted == 1 else "a single melody is continued by --model melody"
        raise HeadwaterError(
            f"{name}: {model.name} writes {wanted} voice{'s' * (wanted > 1)}; here it takes {voices}: name another model; {one}"
        )
    return codec


def whole_notes(phrase: Phrase, keep: Array) -> Array:
    """``keep`` (frames, voices) with every note that is kept in part kept whole."""
    keep = keep.copy()
    for v in range(phrase.voices):
        for start, length, _ in phrase.notes(v):
            if keep[start : start + length, v].any():
                keep[start : start + length, v] = True
    return keep


def beats(piece: Piece) -> Array:
    """(frames,) the position in the bar of each sixteenth, from the piece's own bar lines; a pickup ends where a bar does."""
    out = np.zeros(piece.phrase.frames, np.int64)
    for bar in piece.bars:
        length, full = bar.stop - bar.start, sixteenths(bar.metre)
        out[bar.start : bar.stop] = np.arange(length) + (max(0, full - length) if bar.number == 0 else 0)
    return np.minimum(out, BEATS - 2)


def along(values: Array, length: int) -> Array:
    """A track of the condition, (length,): numbers from 1 for the frames that there are, 0 behind."""
    out = np.zeros(length, np.int64)
    out[: len(values)] = 1 + values
    return out


def window(piece: Piece, name: str, hidden: Array, length: int) -> tuple[int, int]:
    """The frames that a model is shown: all, or as many as it can hold (``length``) around those that are ``hidden`` (frames,)."""
    frames = piece.phrase.frames
    if frames <= length:
        return 0, frames
    first, last = int(np.flatnonzero(hidden)[0]), int(np.flatnonzero(hidden)[-1]) + 1
    if last - first > length:
        where = bar_at(piece.bars, first + length)
        raise HeadwaterError(
            f"{name}: bar {where} is too far on: the model makes {length} sixteenths ({length // 16} bars of 4/4) at once, and "
            f"{last - first:,} are asked for; end before it"
        )
    low = max(0, min(first - (length - last + first) // 2, frames - length))
    low = next((b.start for b in piece.bars if low <= b.start <= first), low)
    return low, min(frames, low + length)


def transposition(piece: Piece, name: str, keep: Array) -> int:
    """By how many semitones to move what is kept, so that the fewest frames lie outside the voices' usual ranges; of equal ones the
    least. Raises :class:`HeadwaterError` naming the bars where the models cannot hold it in any key."""
    phrase = piece.phrase
    held = (phrase.pitch > 0) & keep
    if not held.any():
        return 0
    usual = [RANGES[v] for v in VOICES] if phrase.voices == 4 else [RANGES["soprano"]] * phrase.voices
    pitches = np.where(held, phrase.pitch, 0).astype(int)
    bottom, top = int(pitches[held].min()), int(pitches[held].max())
    fitting = range(max(DOWN, LOWEST - bottom), min(UP, HIGHEST - top) + 1)
    if not fitting:
        ends = {p: bar_at(piece.bars, int(np.argwhere(held & (pitches == p))[0, 0])) for p in (bottom, top)}
        low, high = (f"{note_name(p)} in bar {bar}" for p, bar in ends.items())
        raise HeadwaterError(
            f"{name}: out of range in every key: {low} and {high} are {top - bottom} semitones apart; the models hold "
            f"{HIGHEST - LOWEST} at most"
        )

    def outside(shift: int) -> int:
        moved = [pitches[held[:, v], v] + shift for v in range(phrase.voices)]
        return sum(int(((m < low) | (m > high)).sum()) for m, (low, high) in zip(moved, usual, strict=True))

    return min(fitting, key=lambda shift: (outside(shift), abs(shift)))


def view(model: Generator, source: tuple[str, Piece], keep: Array, *, fermatas: bool = True, **knobs: Any) -> View:
    """How the model is shown a piece of which some cells are kept, and the wish that goes with it: beat and key, fermatas where the
    piece marks any, and ``knobs`` (a ``key`` is that of the piece, and moves with it)."""
    name, piece = source
    phrase, length = piece.phrase, grid(model, name, piece).space.length
    known = {f.name for f in model.model.conditioner.fields}
    low, high = window(piece, name, np.asarray(~keep.all(axis=1)), length)
    shift = transposition(piece, name, keep)
    pitch = np.where(keep, phrase.pitch, 0)
    shown = replace(phrase, pitch=np.where(pitch > 0, pitch + shift, 0), onset=phrase.onset & keep).cut(low, high)
    asked = {k: v for k, v in knobs.items() if v is not None}
    model.wish(**asked)  # complains of what was asked for and never trained
    key = asked.pop("key", phrase.key if (phrase.pitch[keep] > 0).any() else None)
    if key is not None and "key" in known:
        tonic, mode = key_named(key)
        asked["key"] = key_name(tonic + shift, mode)
    asked["beat"] = along(beats(piece)[low:high], length)
    if fermatas and phrase.fermata.any():
        asked["fermata"] = along(phrase.fermata[low:high].astype(np.int64), length)
    return View(low, high, shift, shown, Wish(**asked))


def shown_cells(keep: Array, length: int) -> Array:
    """(length, voices): the kept cells, and the end, so that what is made is exactly as long.

    Behind the end, models saw what they were trained to: the kept voices where whole voices are kept, else all of them."""
    frames = len(keep)
    mask = np.ones((length, keep.shape[1]), np.bool_)
    mask[:frames] = keep
    if keep.all(axis=0).any():
        mask[frames + 1 :] = keep.all(axis=0)
    return mask


class Order(NamedTuple):
    """What one row asks of a model: the ``piece`` with room for what is to be made, which cells of it are kept (``keep``, frames x
    voices, whole notes), how the model is shown it, and in words what was done."""

    row: int
    source: str
    piece: Piece
    keep: Array
    seen: View
    did: str


def remake(
    model: Generator, orders: Sequence[Order], n: int, noise: Noise, options: Drawing
) -> Iterator[tuple[Order, list[Draft]]]:
    """``n`` candidates for each order's cells that are not kept. Orders whose rows follow one another are made together; what a
    row's candidates are does not depend on that."""
    seed, length = noise.number(), model.codec.space.shape[0]
    for _, group in groupby(enumerate(orders), key=lambda pair: pair[1].row - pair[0]):
        part = [order for _, order in group]
        each = [order for order in part for _ in range(n)]
        mask = np.stack([shown_cells(here(order), length) for order in part]).repeat(n, axis=0)
        made = model.infill(
            [order.seen.phrase for order in each], mask, lengths=[order.seen.phrase.frames for order in each], seed=seed,
            first=part[0].row * n, temperature=options.boldness, wishes=[order.seen.wish for order in each],
            constraints=bound(model, part, n, options),
        )  # fmt: skip
        for i, order in enumerate(part):
            drafts = [drafted(order.piece.phrase, order.keep, order.seen, answer) for answer in made[i * n : (i + 1) * n]]
            yield order, mended(model, order, drafts, noise.fold("mend", order.row), options)


def mended(model: Generator, order: Order, drafts: Sequence[Draft], noise: Noise, options: Drawing) -> list[Draft]:
    """The drafts of a model that no rule can bind while it writes, with the notes around parallels written again until there are
    none or :data:`ROUNDS` are over; a new try is taken where it has no more of them than the last."""
    drafts, (length, voices), family = list(drafts), model.codec.space.shape, model.model.family
    if options.parallels or not family.finite or voices == 1:
        return drafts
    for turn in range(ROUNDS):
        keys = noise.fold(turn).rows(range(len(drafts)))
        kept = [loosened(draft.seen, here(order), keys[[i]]) for i, draft in enumerate(drafts)]
        if all(keep.all() for keep in kept):
            break
        made = model.infill(
            [draft.seen for draft in drafts], np.stack([shown_cells(keep, length) for keep in kept]),
            lengths=[draft.seen.frames for draft in drafts], seed=keys.number(), temperature=options.boldness,
            steps=STEPS if family.stepped else None, wishes=[order.seen.wish] * len(drafts),
        )  # fmt: skip
        for i, phrase in enumerate(made):
            if len(rules.report(phrase).parallels) <= len(rules.report(drafts[i].seen).parallels):
                drafts[i] = drafted(order.piece.phrase, order.keep, order.seen, phrase)
    return drafts


def here(order: Order) -> Array:
    """Which cells of the model's view are kept."""
    return order.keep[order.seen.low : order.seen.high]


def bound(model: Generator, orders: Sequence[Order], n: int, options: Drawing) -> list[NoParallels] | None:
    """The rule for each of ``n`` candidates of each order; None for models and options that know none."""
    codec = model.codec
    if options.parallels or model.model.family.finite or not isinstance(codec, Grid16) or codec.space.streams == 1:
        return None
    return [rule for o in orders for rule in [NoParallels(codec, o.seen.phrase.pitch, here(o))] * n]


def drafted(source: Phrase, keep: Array, seen: View, made: Phrase) -> Draft:
    """What a model made in a view, put back into the source. Raises :class:`PromiseBroken` where a kept cell is another, or the
    length."""
    if made.frames != seen.phrase.frames:
        raise PromiseBroken(f"the model was asked for {seen.phrase.frames} sixteenths and made {made.frames}")
    here = keep[seen.low : seen.high]
    for got, given in ((made.pitch, seen.phrase.pitch), (made.onset, seen.phrase.onset)):
        if (got != given)[here].any():
            frame, voice = np.argwhere((got != given) & here)[0]
            raise PromiseBroken(f"the model changed what was to be kept, at sixteenth {seen.low + frame} of voice {voice + 1}")
    pitch, onset = source.pitch.copy(), source.onset.copy()
    inside = slice(seen.low, seen.high)
    pitch[inside] = np.where(here, pitch[inside], np.where(made.pitch > 0, made.pitch - seen.shift, 0))
    onset[inside] = np.where(here, onset[inside], made.onset)
    onset[1:] |= keep[:-1] & ~keep[1:]  # no kept note is prolonged
    phrase = replace(source, pitch=pitch, onset=onset)
    for v in range(source.voices):
        there = set(phrase.notes(v))
        lost = [note for note in source.notes(v) if keep[note.start, v] and note not in there]
        if lost:
            raise PromiseBroken(f"a note that was to be kept is not the same: {lost[0]} of voice {v + 1}")
    return Draft(phrase, replace(seen.phrase, pitch=made.pitch, onset=made.onset))


def likelihoods(model: Generator, drafts: Sequence[Draft], wish: Wish, seed: int) -> list[tuple[float, str] | None]:
    """The log-likelihood in nats of what each draft shows, given the wish, and its kind; None for a model that cannot tell exactly:
    bounds cost as much as the music itself."""
    if not model.exact:
        return [None] * len(drafts)
    found = model.score([d.seen for d in drafts], seed=seed, wishes=[wish] * len(drafts))
    return [(float(value), found.kind) for value in found.value]

"""Music: likelihoods on the benchmarks' splits in their own units, and the rules of four-part writing kept by Bach, by samples and
by what the tasks make of given music.

Units: nats a cell on grids of sixteenths (total -log p of a piece, its end included, over 4 x frames: Music Transformer's "per
note", since it writes one token for each voice and sixteenth); nats a frame on the quarter table.

    python benchmarks/music.py music/jsb_autoregressive --only likelihood
    python benchmarks/music.py music/jsb_autoregressive --checkpoint runs/music-jsb_autoregressive/checkpoint.safetensors
    python benchmarks/music.py music/jsb_autoregressive --only likelihood --test     (read once, at the end)
    python benchmarks/music.py music/autoregressive --only harmonise keys infill speed
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import generator, publish, run

from headwater.context import Context
from headwater.domain import Evaluation, Pipeline
from headwater.evaluate.two_sample import two_sample
from headwater.families.autoregressive import draw
from headwater.families.contract import Steer
from headwater.families.vae import VAE, kl
from headwater.noise import Noise
from headwater_music import data
from headwater_music.codecs import Grid16
from headwater_music.files import Piece, midi, notation, read
from headwater_music.memory import LONG, Memory, shipped
from headwater_music.metrics import METRICS, features
from headwater_music.partwriting import NoParallels
from headwater_music.pipelines.anew import Draft, Order, View, mended
from headwater_music.pipelines.asking import FILES, Source
from headwater_music.pipelines.fill import Fill, FillOptions
from headwater_music.pipelines.generate import Generate, GenerateOptions, Wanted
from headwater_music.pipelines.harmonise import Harmonise, HarmoniseOptions
from headwater_music.pipelines.made import Made
from headwater_music.score import Phrase

if TYPE_CHECKING:
    from headwater.generator import Generator

PARTS = ("likelihood", "rules", "samples", "harmonise", "keys", "infill", "speed", "files")


ALL = ",".join(FILES)


def split_of(model: Generator, split: str) -> Sequence[Phrase]:
    """The pieces of a split as the model's benchmark has them, none transposed."""
    name = model.recipe.data
    if name == "jsb":
        return data.jsb_phrases(split)
    return data.quarter_rows(split) if name == "jsb_quarters" else [phrase for _, phrase in data.bach_split()[split]]


def likelihood(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """-log p a cell or frame of ``valid``, and with ``--test`` of ``test`` and of those of its pieces whose tune train does not
    know. The standard error is over pieces and, of a bound, over its draws too."""
    for split in ("valid", *(["test"] if options.test else [])):
        items, began = split_of(model, split), time.process_time()
        found = model.score(items, seed=options.seed)
        spent = time.process_time() - began
        quarters = model.recipe.data == "jsb_quarters"
        units = np.array([phrase.frames / 4 if quarters else phrase.frames * phrase.voices for phrase in items])
        if model.recipe.codec == "melody":
            units = np.array([phrase.frames for phrase in items])
        nats = -found.value.double().numpy()
        chosen = {split: np.ones(len(items), np.bool_)}
        if split == "test" and model.recipe.data == "jsb":
            chosen["clean test"] = ~np.array(data.known_tunes("test"))
        for name, which in chosen.items():
            mean = nats[which].sum() / units[which].sum()
            error = np.sqrt(((nats[which] - mean * units[which]) ** 2).sum()) / units[which].sum()
            unit = "nats a frame" if quarters else "nats a cell"
            yield {
                "split": name,
                "pieces": int(which.sum()),
                unit: float(mean),
                "stderr": float(error),
                "kind": found.kind,
                "CPU s": round(spent, 1),
            }


def figures(phrases: Sequence[Phrase], memory: Memory) -> dict[str, Any]:
    """The metrics of some phrases, copies counted in ``memory``."""
    e = Evaluation(phrases, [None] * len(phrases), phrases)
    found = {m.name: float(m.score(e)) for m in METRICS if m.name != "copies"}
    return {**found, "copies": float(np.mean([memory.longest(p).frames >= LONG for p in phrases]))}


def of_benchmark() -> Memory:
    """The benchmark's training set."""
    train = data.jsb_phrases("train")
    return Memory.of(train, [f"train {i}" for i in range(len(train))])


def rules(model: Generator | None, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Bach's own chorales of the benchmark, on its grid, where onsets are unknown and density counts changes of pitch; and as the
    corpus has them, with onsets."""
    memory = of_benchmark()
    for split in ("valid", "test"):
        phrases = data.jsb_phrases(split)
        yield {"music": f"Bach, {split}", "pieces": len(phrases), **figures(phrases, memory)}
    for split in ("valid", "test"):
        phrases = [phrase for _, phrase in data.bach_split()[split]]
        yield {"music": f"Bach, {split}, with onsets", "pieces": len(phrases), **figures(phrases, shipped())}


def samples(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Raw samples at each temperature, held to write no parallels where the family can be held to it, and left to themselves;
    beside Bach's held-out music as the model would hold it (every two bars, for a model of two bars). ``accuracy`` is that of a
    small classifier told to tell the samples from it, .5 where it cannot (Lopez-Paz and Oquab, 2017)."""
    codec, bach = model.codec, held_out(model)
    if model.recipe.data == "bach":
        train = data.bach_split()["train"]
        memory = Memory.of([phrase for _, phrase in train], [name for name, _ in train])
    else:
        memory = of_benchmark()
    yield {"music": "Bach, held out", "parallels": "his", "pieces": len(bach), **figures(bach, memory)}
    told = features(bach)
    ruled = isinstance(codec, Grid16) and codec.space.streams == 4
    nothing, finite = np.zeros((0, 4)), model.model.family.finite
    for temperature, forbidden in itertools.product(options.temperatures, (True, False) if ruled else (False,)):
        began = time.process_time()
        rule = [NoParallels(codec, nothing, nothing)] * options.n if forbidden and not finite else None
        made: Sequence[Phrase] = model.sample(options.n, seed=options.seed, temperature=temperature, constraints=rule).items
        if forbidden and finite:
            made = written_again(model, made, GenerateOptions(boldness=temperature), options.seed)
        spent = round(time.process_time() - began, 1)
        test = two_sample(told, features(made), options.seed)
        yield {
            "music": f"{model.recipe.family} at temperature {temperature:g}",
            "parallels": ("written again" if finite else "forbidden") if forbidden else "as it likes",
            "pieces": options.n,
            **figures(made, memory),
            "accuracy": test.accuracy,
            "of each": test.n,
            "frames": float(np.mean([p.frames for p in made])),
            "CPU s": spent,
        }


def written_again(model: Generator, made: Sequence[Phrase], asked: GenerateOptions, seed: int) -> list[Phrase]:
    """Samples with the notes around their parallels written again, as the tasks do for a model that no rule binds as it writes."""
    out = []
    for i, phrase in enumerate(made):
        keep, seen = np.zeros(phrase.pitch.shape, np.bool_), View(0, phrase.frames, 0, phrase, model.wish())
        draft = Draft(phrase, phrase)
        (draft,) = mended(model, Order(i, "", Piece(phrase), keep, seen, ""), [draft], Noise(seed).fold(i), asked)
        out.append(draft.phrase)
    return out


@torch.no_grad()
def latent(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the latent of a variational autoencoder holds, on held-out music: KL(q(z | x) || p(z)); -log p(x | z) at the posterior's
    mean, and at a draw of the prior, which says what the decoder knows without it; the share of cells, and of pitches in them, that
    come back when the mean is decoded by its likeliest tokens."""
    family, codec = model.model.family, model.codec
    assert isinstance(family, VAE)
    items = held_out(model)
    if model.recipe.codec == "two_bars":
        items = [bars for bars in items if bars.frames == codec.space.shape[0]]
    context = model.model.conditioner(model.model.conditions([model.wish()] * len(items)))
    x, noise = model.encode(items), Noise(options.seed).rows(range(len(items)))
    x = x[:, : int(family.buckets(x).max())]
    mean, log_std = family.posterior(x, context)
    back = family.decode(mean, noise.fold("decode"), context, Steer(temperature=0.01))[:, : x.shape[1]]
    cells = [item.frames // 4 if model.recipe.codec == "quarters" else item.frames for item in items]
    inside = torch.arange(x.shape[1]) < torch.tensor(cells)[:, None]
    prior = noise.fold("prior").normal(mean.shape[1])
    frames = sum(item.frames for item in items) / 4
    divergence = float(kl(mean, log_std).sum())
    pitch = torch.from_numpy(codec.pitches) if isinstance(codec, Grid16) else torch.arange(90)
    yield {
        "pieces": len(items),
        "KL nats a quarter": divergence / frames,
        "KL nats a piece": divergence / len(items),
        "-log p(x | mean) a quarter": -float(family.decoder.log_prob(x, mean, context).sum()) / frames,
        "-log p(x | z of the prior) a quarter": -float(family.decoder.log_prob(x, prior, context).sum()) / frames,
        "cells that come back": float((back == x)[inside].float().mean()),
        "pitches that come back": float((pitch[back] == pitch[x])[inside].float().mean()),
    }


def held_out(model: Generator) -> list[Phrase]:
    """The validation pieces as the model would hold them: of a model of two bars, every two of them."""
    pieces = split_of(model, "valid")
    if model.recipe.codec != "two_bars":
        return list(pieces)
    return [bars for phrase in pieces for bars in passages(phrase, model.codec.space.shape[0])]


def passages(phrase: Phrase, frames: int) -> list[Phrase]:
    """Every passage of so many frames at most that begins on a bar line and is two bars long."""
    length = min(2 * phrase.bar, frames)
    return [phrase.cut(start, start + length) for start in range(phrase.pickup, phrase.frames - length + 1, phrase.bar)]


def melodies(split: str) -> dict[str, list[Phrase]]:
    """The sopranos of a split: the benchmark's, in which a repeated note is one, and as far as the corpus has them with onsets."""
    encoded = [phrase.voice(0) for _, phrase in data.bach_split()[split]]
    return {"the benchmark's": [phrase.voice(0) for phrase in data.jsb_phrases(split)], "with onsets": encoded}


def harmonise(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The validation sopranos harmonised, the first of eight candidates and the best by the rules; the model held to write no
    parallels, and left to itself."""
    for name, given in melodies("valid").items():
        for parallels in (False, True):
            began, raw, best = time.process_time(), [], []
            asked = HarmoniseOptions(files="none", likelihood=False, parallels=parallels)
            for made in run_over(model, Harmonise(), given, asked, options.seed):
                raw.append(made.told.raw)
                best.append(made.piece.phrase)
            spent = round(time.process_time() - began, 1)
            for which, phrases in (("raw", raw), (f"best of {asked.tries}", best)):
                row = {"sopranos": name, "parallels": "as it likes" if parallels else "forbidden", "taken": which}
                yield {**row, "pieces": len(given), **figures(phrases, shipped()), "CPU s": spent}


def keys(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Fifty validation melodies in each of the twelve keys: in how many results every note of the soprano is the given one, by
    pitch, onset and duration."""
    given = melodies("valid")["with onsets"][:50]
    for semitones in range(-6, 6):
        moved = [phrase.transposed(semitones) for phrase in given]
        asked = HarmoniseOptions(files="none", likelihood=False, tries=1)
        made = list(run_over(model, Harmonise(), moved, asked, options.seed))
        same = sum(m.piece.phrase.notes(0) == phrase.notes(0) for m, phrase in zip(made, moved, strict=True))
        yield {
            "semitones": semitones,
            "melodies": len(moved),
            "kept exactly": same,
            "usable": sum(m.problem() is None for m in made),
        }


def infill(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The second third of the bars, and one voice of them, made anew: cells outside that are not what they were."""
    given = [phrase for _, phrase in data.bach_split()["valid"]]
    for voices in (None, "alto", "tenor bass"):
        changed = cells = 0
        for bars, group in itertools.groupby(sorted(given, key=lambda p: p.bars), key=lambda p: p.bars):
            phrases = list(group)
            asked = FillOptions(files="none", likelihood=False, tries=1, bars=f"{bars // 3 + 1}-{2 * bars // 3 + 1}", voices=voices)
            for phrase, made in zip(phrases, run_over(model, Fill(), phrases, asked, options.seed), strict=True):
                got, kept = made.piece.phrase, ~made.told.new
                cells += int(kept.sum())
                changed += int(((got.pitch != phrase.pitch) | (got.onset != phrase.onset))[kept].sum())
        yield {"voices": voices or "all", "pieces": len(given), "kept cells": cells, "changed": changed}


def speed(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """CPU seconds for a hundred chorales of 16 bars without sound, and for one with every file; each with its choice of eight."""
    for what, count, files in (
        ("100 chorales of 16 bars, MIDI and MusicXML", 100, "midi,musicxml"),
        ("one with all files", 1, ALL),
    ):
        for tries in (1, 8):
            with tempfile.TemporaryDirectory() as folder:
                began = time.process_time()
                asked = GenerateOptions(bars=16, tries=tries, files=files, likelihood=False, draws=1)
                wanted = [(i, Wanted(f"{i}", asked)) for i in range(count)]
                for made in Generate().run(model, wanted, Noise(options.seed), asked):
                    made.write(Path(folder))
                yield {"what": what, "candidates": tries, "CPU s": round(time.process_time() - began, 1)}


def alto(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """-log p(alto | the other voices, length) of the validation pieces, nats a cell of the alto. Masked diffusion: its bound over
    the alto's cells, 32 maskings, at least the true figure on average, of cells in any order and of an order from coarse to fine:
    the first of all, then those halfway between known ones, in any order among themselves. Autoregressive: -log p(x) + log p(the
    others), the latter by importance sampling with 64 altos that the model writes as it goes, those that fit resampled (a particle
    filter). That says too little of log p(the others) on average, so the figure flatters; with the true alto kept among them (by a
    conditional filter: Andrieu, Doucet and Holenstein, 2010) it says too much where the alto could be the model's (Grosse,
    Ghahramani and Adams, 2015, https://arxiv.org/abs/1511.02543). So the truth lies between the two, or nearly."""
    phrases = data.jsb_phrases("valid")
    if model.recipe.family == "masked_diffusion":
        coarse: Callable[..., float] = functools.partial(alto_by_order, coarse_first=True)
        ways: dict[str, Callable[..., float]] = {"any-order bound": alto_by_order, "bound from coarse to fine": coarse}
    else:
        by = functools.partial(alto_by_importance, k=64)
        ways = {"importance sampling": by, "with the true alto among them": functools.partial(by, kept=True)}
    for name, ask in ways.items():
        began, keys = time.process_time(), Noise(options.seed)
        nats = np.array([ask(model, phrase, keys.fold(i)) for i, phrase in enumerate(phrases)])
        frames = np.array([phrase.frames for phrase in phrases])
        mean = nats.sum() / frames.sum()
        yield {
            "estimate": name,
            "pieces": len(phrases),
            "nats a cell": mean,
            "stderr over pieces": np.sqrt(((nats - mean * frames) ** 2).sum()) / frames.sum(),
            "CPU s": round(time.process_time() - began, 1),
        }


def alto_by_order(model: Generator, phrase: Phrase, noise: Noise, *, coarse_first: bool = False, draws: int = 32) -> float:
    """The bound in nats: E over k, the last k cells of the order hidden, of frames times the mean over those of them that may come
    next, which in any order are all k."""
    family, frames = model.model.family, phrase.frames
    x = model.encode([phrase])[:, : -(-(frames + 1) // 16) * 16].expand(draws, -1, -1)
    at, lengths = torch.arange(x.shape[1]), torch.full((draws,), frames)
    inside = at < frames
    turn = -torch.where(at > 0, at & -at, 2 * len(at)) if coarse_first else torch.zeros_like(at)  # by the power of 2 in it
    share = (noise.fold("share").rows([0]).uniform(1)[0, 0] + torch.arange(draws)) / draws
    k = (share % 1 * frames).long() + 1
    chance = noise.fold("order").rows(range(draws)).uniform(x.shape[1])
    place = (chance - turn).masked_fill(~inside, torch.inf).argsort(1).argsort(1)
    hidden = inside & (place < k[:, None])
    following = hidden & (turn == turn.expand_as(hidden).masked_fill(~hidden, 1).amin(1, keepdim=True))
    shown = inside[None, :, None].repeat(draws, 1, 4)
    shown[:, :, 1] &= ~hidden
    with torch.no_grad():
        context = model.model.conditioner(model.model.conditions([model.wish()] * draws))
        log_probs = family._log_probs(family.logits(x, shown, lengths, context), x, shown)
    found = log_probs[:, :, 1].gather(-1, x[:, :, 1, None])[..., 0]
    told = torch.where(following, found, 0.0).sum(1) * frames / following.sum(1)
    return -float(told.double().mean())


def alto_by_importance(model: Generator, phrase: Phrase, noise: Noise, *, k: int, kept: bool = False) -> float:
    """The estimate in nats."""
    family, end = model.model.family, phrase.frames + 1
    given = model.encode([phrase])[:, :end]
    context = model.model.conditioner(model.model.conditions([model.wish()] * k))
    with torch.inference_mode():
        whole = float(family.log_prob(given, context[:1]))
        return others(family, given.repeat(k, 1, 1), context, noise, kept) - whole


def others(family: Any, x: Tensor, context: Context, noise: Noise, kept: bool) -> float:
    """An estimate of log p(the voices but the alto) of an item, given once for each particle: (particles, positions, streams).
    An alto is drawn knowing what the frame's other voices are, so that its weight does not depend on the draw (the fully adapted
    filter of Pitt and Shephard, 1999); before that, wherever fewer than half of the particles would count, they are resampled,
    systematically (Doucet and Johansen, 2009); ``kept``, the first stays the item, and the others are resampled each on its own."""
    k, end, streams = x.shape
    uniforms = noise.rows(range(k)).uniform(end)
    again = noise.fold("again").rows(range(k if kept else 1)).uniform(end).double()
    weight, total, item = torch.zeros(k, dtype=torch.float64), 0.0, x[0].clone()
    added = family._start(k, end, context, None)
    state, previous = family.network.start(k, added, end), family.first.weight.expand(k, -1)
    for t in range(end):
        hidden, state = family.network.step(previous + added[:, t if added.shape[1] > 1 else 0], state, context)
        before = x[:, t - 1] if t else torch.zeros_like(x[:, 0])
        altos = torch.arange(family.tokens.vocabs[1]) if t < end - 1 else x[0, t, 1:2]
        chords = x[:, None, t].repeat(1, len(altos), 1)
        chords[..., 1] = altos
        told = torch.zeros(k, len(altos))
        for s in range(streams):
            read = chords[:, :1] if s < 2 else chords  # the alto and what stands before it do not depend on the alto
            log_probs = family.head.logits(hidden[:, None], s, read, before[:, None]).float().log_softmax(-1)
            told += log_probs.expand(-1, len(altos), -1).gather(2, chords[..., s, None])[..., 0]
        weight += told.logsumexp(1).double()
        share = weight.softmax(0)
        if float((share**2).sum()) * k > 2:
            points = again[:, t].contiguous() if kept else (torch.arange(k) + again[0, t]) / k
            index = torch.searchsorted(share.cumsum(0), points).clamp(max=k - 1)
            if kept:
                index[0] = 0
            total += float(weight.logsumexp(0)) - math.log(k)
            x, told, weight, state = x[index], told[index], torch.zeros_like(weight), taken(state, index)
        if t < end - 1:
            x[:, t, 1] = draw(told, uniforms[:, t], 1.0, None)
            if kept:
                x[0, t, 1] = item[t, 1]
        previous = family._embed(x[:, t])
    return total + float(weight.logsumexp(0)) - math.log(k)


def taken(state: Any, index: Tensor) -> Any:
    """The state of the clocked network for other rows."""
    past = None if state.past is None else type(state.past)(*(part[index] for part in state.past))
    return replace(state, hidden=[layer[:, index].contiguous() for layer in state.hidden], past=past)


def files(model: Generator | None, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """music21's encodings of the benchmark's validation chorales, written as MIDI, read, written as MusicXML and read: pieces of
    which every onset, pitch and duration came back, and what music21 and verovio had to say of the MusicXML."""
    import verovio
    from music21 import converter

    same = complaints = 0
    given = [phrase for _, phrase in data.bach_split()["valid"]]
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "a.mid"), Path(folder, "a.musicxml")
        verovio.enableLog(verovio.LOG_WARNING)
        for phrase in given:
            piece = read(midi.write(Piece(phrase), first), voices=4)
            again = read(notation.write(piece, second), voices=4)
            same += all(again.phrase.notes(v) == phrase.notes(v) for v in range(4))
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                converter.parse(str(second), forceSource=True)
            words = Path(folder, "words")
            with words.open("wb") as file, redirected(2, file.fileno()):  # where verovio writes them
                verovio.toolkit().loadFile(str(second))
            complaints += bool(told) or words.stat().st_size > 0
    yield {"pieces": len(given), "came back exactly": same, "with a warning": complaints}


@contextlib.contextmanager
def redirected(handle: int, to: int) -> Iterator[None]:
    """What is written to an open file of this process goes to another."""
    kept = os.dup(handle)
    os.dup2(to, handle)
    try:
        yield
    finally:
        os.dup2(kept, handle)
        os.close(kept)


def run_over(model: Generator, task: Pipeline[Any], given: Sequence[Phrase], asked: Any, seed: int) -> Iterator[Made]:
    rows = [(i, Source(f"{i}.mid", Piece(phrase))) for i, phrase in enumerate(given)]
    yield from task.run(model, rows, Noise(seed), asked)  # type: ignore[misc]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model",
        nargs="?",
        default="music/autoregressive",
        help="a shipped model, a model folder, or with --checkpoint music/RECIPE",
    )
    parser.add_argument("--checkpoint", type=Path, help="a training in progress: its averaged weights")
    parser.add_argument("--test", action="store_true", help="read the test split too")
    parser.add_argument("-n", type=int, default=64, help="samples (64)")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.8], help="of the samples (1.0 0.8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="+", choices=(*PARTS, "latent", "alto"), default=PARTS, help="parts to run (all but the last two)"
    )
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/music.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model = generator(options.model, options.checkpoint)
    parts: Mapping[str, tuple[Callable[..., Iterator[dict[str, Any]]], int]] = {
        "likelihood": (likelihood, len(split_of(model, "valid"))),
        "rules": (rules, 0),
        "samples": (samples, options.n),
        "latent": (latent, len(split_of(model, "valid"))),
        "harmonise": (harmonise, 76),
        "keys": (keys, 600),
        "infill": (infill, 70),
        "speed": (speed, 100),
        "alto": (alto, 76),
        "files": (files, 70),
    }
    for part in options.only:
        measure, n = parts[part]
        named = part if part in ("rules", "files") else f"{part} of {model.name.split(' ')[0]}"
        own = None if part in ("rules", "files") else model
        publish(named, list(measure(model, options)), n=n, seeds=[options.seed], generator=own, to=options.to)


if __name__ == "__main__":
    run(main)

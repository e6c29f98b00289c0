"""Music: likelihoods on the benchmarks' splits in their own units, and the rules of four-part writing kept by Bach and by samples.

Units: nats a cell on grids of sixteenths (total -log p of a piece, its end included, over 4 x frames: Music Transformer's "per
note", since it writes one token for each voice and sixteenth); nats a frame on the quarter table.

    python benchmarks/music.py music/jsb_autoregressive --only likelihood
    python benchmarks/music.py music/jsb_autoregressive --checkpoint runs/music-jsb_autoregressive/checkpoint.safetensors
    python benchmarks/music.py music/jsb_autoregressive --only likelihood --test     (read once, at the end)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import generator, publish, run

from headwater.domain import Evaluation
from headwater_music import data
from headwater_music.memory import LONG, Memory
from headwater_music.metrics import METRICS
from headwater_music.score import Phrase

if TYPE_CHECKING:
    from headwater.generator import Generator

PARTS = ("likelihood", "rules", "samples")


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
    """Bach's own chorales of the benchmark. Onsets are unknown on its grid: density there counts changes of pitch."""
    memory = of_benchmark()
    for split in ("valid", "test"):
        yield {"music": f"Bach, {split}", "pieces": len(data.jsb_phrases(split)), **figures(data.jsb_phrases(split), memory)}


def samples(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Raw samples at each temperature."""
    if model.recipe.data == "bach":
        train = data.bach_split()["train"]
        memory = Memory.of([phrase for _, phrase in train], [name for name, _ in train])
    else:
        memory = of_benchmark()
    for temperature in options.temperatures:
        began = time.process_time()
        made = model.sample(options.n, seed=options.seed, temperature=temperature)
        row = {"music": f"{model.recipe.family} at temperature {temperature:g}", "pieces": options.n}
        spent = round(time.process_time() - began, 1)
        yield {**row, **figures(made.items, memory), "frames": float(np.mean([p.frames for p in made.items])), "CPU s": spent}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a shipped model, a model folder, or with --checkpoint music/RECIPE")
    parser.add_argument("--checkpoint", type=Path, help="a training in progress: its averaged weights")
    parser.add_argument("--test", action="store_true", help="read the test split too")
    parser.add_argument("-n", type=int, default=64, help="samples (64)")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.8], help="of the samples (1.0 0.8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run (all)")
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/music.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model = generator(options.model, options.checkpoint)
    parts: Mapping[str, tuple[Callable[..., Iterator[dict[str, Any]]], int]] = {
        "likelihood": (likelihood, len(split_of(model, "valid"))),
        "rules": (rules, 0),
        "samples": (samples, options.n),
    }
    for part in options.only:
        measure, n = parts[part]
        named = part if part == "rules" else f"{part} of {model.name.split(' ')[0]}"
        own = None if part == "rules" else model
        publish(named, list(measure(model, options)), n=n, seeds=[options.seed], generator=own, to=options.to)


if __name__ == "__main__":
    run(main)

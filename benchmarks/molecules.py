"""Molecules: are samples the same however they are batched, what share is valid, unique and new, and are knobs obeyed?

All figures are of raw samples, before any filter. Parts: batches, quality, knobs, pairs.

    python benchmarks/molecules.py
    python benchmarks/molecules.py --checkpoint runs/molecules-autoregressive/checkpoint.safetensors -n 2000 --asked 100
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import generator, publish, run

from headwater.domain import Array, Evaluation
from headwater.errors import PromiseBroken

if TYPE_CHECKING:
    from headwater.generator import Generator

PARTS = ("batches", "quality", "knobs", "pairs")
KNOBS = ("logp", "qed", "mw", "tpsa", "rings")
PAIRS = (("logp", "tpsa"), ("mw", "qed"), ("rings", "logp"))
BATCHES = (32, 100, 512, 512)  # the last one again: twice in a row
TRAIN_ROWS = 4000  # of the train split, evenly spaced: where quantiles are read (their standard error is below 0.03 std)


def batches(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """``items.parquet`` of 1,000 rows at several batch sizes. Raises :class:`PromiseBroken` where two differ."""
    from headwater.samples import parquet_bytes

    seen = []
    for size in BATCHES:
        began = time.process_time()
        made = model.sample(1000, seed=7, batch_size=size)
        drawn = time.process_time()
        seen.append(hashlib.sha256(parquet_bytes(made.table())).hexdigest())
        yield {"batch size": size, "sha256 of items.parquet": seen[-1], "CPU s sampling": round(drawn - began, 2)}
    if len(set(seen)) > 1:
        raise PromiseBroken("the batch size changes items.parquet: " + ", ".join(seen))


def quality(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """MOSES's figures for the first 1,000 rows of the run that `-n 1000 --seed 7` makes, and for ``-n`` rows of ``--seed``."""
    for count, seed in ((1000, 7), (options.n, options.seed)):
        began = time.process_time()
        made = model.sample(count, seed=seed)
        seconds = time.process_time() - began
        seen = Evaluation(made.items, made.wishes, ())
        row: dict[str, Any] = {"samples": count, "seed": seed}
        for metric in model.domain.metrics:
            if metric.name != "knob_error":
                row[metric.name] = round(float(metric.score(seen)), 5)
        row["± (valid)"] = round((row["valid"] * (1 - row["valid"]) / count) ** 0.5, 5)
        if count >= 10_000:
            first = Evaluation(made.items[:10_000], made.wishes[:10_000], ())
            row["unique of 10,000"] = round(next(m for m in model.domain.metrics if m.name == "unique").score(first), 5)
        yield {**row, "CPU s for 1,000": round(1000 * seconds / count, 2)}
    for name, values in published(model).items():
        yield {"samples": f"{name} (published)", **values}


def published(model: Generator) -> dict[str, dict[str, float]]:
    """Other systems' figures, as the domain's metrics carry them with their source."""
    rows: dict[str, dict[str, float]] = {}
    for metric in model.domain.metrics:
        for system, value in metric.published.items():
            column = "unique of 10,000" if metric.name == "unique" else metric.name
            rows.setdefault(system, {})[column] = value
    return rows


def training(model: Generator) -> dict[str, Array]:
    """Each knob's values over evenly spaced molecules of the train split."""
    rows = model.domain.datasets["moses"].rows("train")
    described = [model.domain.describe(rows[i]) for i in range(0, len(rows), max(1, len(rows) // TRAIN_ROWS))]
    return {name: np.array([getattr(w, name) for w in described], dtype=float) for name in KNOBS}


def quantile(values: Array, q: float, name: str) -> float:
    found = float(np.quantile(values, q))
    return round(found) if name == "rings" else round(found, 4)


def ask(model: Generator, asked: Mapping[str, float], guidance: float, options: argparse.Namespace) -> dict[str, Array]:
    """What ``--asked`` samples have of each knob asked for; invalid ones left out and counted under "valid"."""
    wish = model.wish(**asked)
    made = model.sample(options.asked, seed=options.seed, wishes=[wish] * options.asked, guidance=guidance)
    good = [w for item in made if model.domain.problem(item) is None for w in [model.domain.describe(item)]]
    return {name: np.array([getattr(w, name) for w in good], dtype=float) for name in asked} | {
        "valid": np.array([len(good) / len(made)])
    }


def knobs(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each knob alone at the 10th, 50th and 90th percentile of training: the median made, off by how many standard deviations."""
    known = training(model)
    for guidance in (1.0, options.guidance):
        for name in KNOBS:
            for q in (0.1, 0.5, 0.9):
                target = quantile(known[name], q, name)
                made = ask(model, {name: target}, guidance, options)
                yield {"guidance": guidance, "knob": name, "percentile": round(100 * q), **judged(name, target, made, known)}


def judged(name: str, target: float, made: Mapping[str, Array], known: Mapping[str, Array]) -> dict[str, Any]:
    """Median and mean error in standard deviations of training; obeyed: the median is within half of one."""
    std, values = known[name].std(), made[name]
    median = float(np.median(values)) if len(values) else float("nan")
    off = abs(median - target) / std
    error = float(np.abs(values - target).mean() / std) if len(values) else float("nan")
    figures = {"asked": target, "median": round(median, 4), "median off (std)": round(off, 3), "mean error (std)": round(error, 3)}
    return {**figures, "obeyed": bool(off <= 0.5), "valid": round(float(made["valid"][0]), 3)}


def pairs(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Two knobs at once, each at the quartiles of training, in all four combinations."""
    known = training(model)
    for guidance in (1.0, options.guidance):
        for first, second in PAIRS:
            for q, r in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
                targets = {first: quantile(known[first], q, first), second: quantile(known[second], r, second)}
                made = ask(model, targets, guidance, options)
                row: dict[str, Any] = {"guidance": guidance, "knobs": f"{first}, {second}"}
                row["asked"] = ", ".join(f"{v:.4g}" for v in targets.values())
                found = [judged(name, target, made, known) for name, target in targets.items()]
                row["medians"] = ", ".join(f"{f['median']:.4g}" for f in found)
                row["off (std)"] = ", ".join(f"{f['median off (std)']:.2f}" for f in found)
                yield {**row, "both obeyed": all(f["obeyed"] for f in found), "valid": found[0]["valid"]}


def arguments() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="molecules/autoregressive", help="a shipped model or a model folder")
    parser.add_argument(
        "--checkpoint", type=Path, help="a training's checkpoint.safetensors: its averaged weights under --model's recipe"
    )
    parser.add_argument("-n", type=int, default=30_000, help="samples of the large run (30,000)")
    parser.add_argument("--asked", type=int, default=256, help="samples for each request (256)")
    parser.add_argument("--guidance", type=float, default=1.5, help="the guidance reported beside 1 (1.5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run (all)")
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/molecules.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model = generator(options.model, options.checkpoint)
    parts: Mapping[str, tuple[Callable[..., Iterator[dict[str, Any]]], int, Sequence[int]]] = {
        "batches": (batches, 1000, [7]),
        "quality": (quality, options.n, [7, options.seed]),
        "knobs": (knobs, options.asked, [options.seed]),
        "pairs": (pairs, options.asked, [options.seed]),
    }
    for part in options.only:
        measure, n, seeds = parts[part]
        publish(part, list(measure(model, options)), n=n, seeds=seeds, generator=model, to=options.to)


if __name__ == "__main__":
    run(main)

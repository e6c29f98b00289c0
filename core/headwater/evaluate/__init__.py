"""Evaluation: a model's figures beside other people's, each with n, seed, command and the machine it was read on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.domain import Evaluation
from headwater.errors import HeadwaterError
from headwater.knobs import Field, Knob, fields
from headwater.spaces import Grid

if TYPE_CHECKING:
    from headwater.generator import Generator

Progress = Callable[[int, int], None]


def fingerprint(generator: Generator) -> dict[str, Any]:
    """What the bytes of a result depend on besides the seed: torch, device, dtype, threads and tile."""
    import torch

    kind = next(generator.model.parameters()).dtype
    return {
        "torch": torch.__version__.split("+")[0],
        "device": str(generator.device),
        "dtype": str(kind).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "tile": generator.tile,
    }


#: Training items that the memorisation audit looks at, unless told: seconds of work for fingerprints.
TRAIN = 10_000


def evaluate(
    generator: Generator,
    n: int = 1000,
    seed: int = 0,
    *,
    reference: int = 10_000,
    audit: int = TRAIN,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """The domain's metrics on ``n`` plain samples, beside real items of the validation split; the mean likelihood of held-out
    items where the model can score; and the audits of :mod:`headwater.evaluate.audits`, memorisation over ``audit`` training items
    (0: no audits). Where the data are not here, the packaged sample stands in, and the figure says so.

    Returns ``{"metrics": {name: {...}}, "notes": [...], "reference": …, "seed": …, "command": …, "fingerprint": {...}}``.
    """
    domain = generator.domain
    held, where = held_out(generator, reference)
    found: dict[str, Any] = {}
    notes: list[str] = []
    if "sample" in generator.verbs and (domain.metrics or audit):
        made = generator.sample(n, seed=seed, progress=progress)
        seen = Evaluation(made.items, made.wishes, held)
        for metric in domain.metrics:
            value = float(metric.score(seen))
            if np.isfinite(value):  # a metric of obedience says nothing where nothing was asked
                found[metric.name] = {
                    "value": value,
                    "better": metric.better,
                    "published": dict(metric.published),
                    "source": metric.source,
                    "n": n,
                }
        if audit:
            from headwater.evaluate.audits import audits

            more, notes = audits(generator, made.items, held, where, seed, audit)
            found |= more
    if "score" in generator.verbs:
        found |= likelihood(generator, held, seed, where)
    return {
        "metrics": found,
        "notes": notes,
        "reference": where,
        "seed": seed,
        "command": command(generator.name, n, seed, audit),
        "fingerprint": fingerprint(generator),
    }


def command(name: str, n: int, seed: int, audit: int) -> str:
    """The line that measures the same again."""
    return f"headwater evaluate {name} -n {n} --seed {seed}" + (f" --audit {audit}" if audit != TRAIN else "")


def held_out(generator: Generator, most: int) -> tuple[Sequence[Any], str]:
    """Validation items of the recipe's data, at most ``most`` and in random order, so that the first of them are like all of them
    however the file is sorted; and what they are."""
    import torch

    from headwater.noise import Noise, permutation

    name = generator.recipe.data
    if name not in generator.domain.datasets:
        return [], "no data"
    dataset = generator.domain.datasets[name]
    try:
        rows, where = dataset.rows("valid"), f"{name}, validation split"
    except HeadwaterError:
        rows, where = dataset.sample(), f"{name}, packaged sample"
    order = permutation(torch.arange(min(most, len(rows))), len(rows), Noise(0).fold("held-out"))
    return [rows[i] for i in order.tolist()], where


def likelihood(generator: Generator, items: Sequence[Any], seed: int, where: str, most: int = 256) -> dict[str, Any]:
    """Mean log-likelihood of held-out items, in nats an item, with its standard error over items; viewed as in training. Over a
    grid with grey levels also in bits a dimension, −log₂ p / cells: a bound of the one is a bound of the other."""
    from headwater.evaluate.audits import figure, viewed

    if not len(items):
        return {}
    found = generator.score(viewed(generator, items[:most], "held-out"), seed=seed)
    if found.kind == "none":
        return {}
    value = found.value.numpy()
    error = float(value.std(ddof=1) / len(value) ** 0.5) if len(value) > 1 else 0.0
    about = {"kind": found.kind, "on": where}
    out = {"log_likelihood": figure(float(value.mean()), "higher", len(value), stderr=error, **about)}
    space = generator.model.space
    if isinstance(space, Grid) and space.levels:
        bits = 1 / (math.log(2) * math.prod(space.shape))
        out["bits_per_dim"] = figure(float(-value.mean() * bits), "lower", len(value), stderr=error * bits, **about)
    return out


def bounds(knob: Field) -> tuple[float, float]:
    """What may be asked of a number knob."""
    assert isinstance(knob.spec, Knob)
    low, high = knob.spec.low, knob.spec.high
    return -np.inf if low is None else low, np.inf if high is None else high


def obedience(
    generator: Generator, n: int = 200, seed: int = 0, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
) -> list[dict[str, Any]]:
    """For each number knob, asked alone at quantiles of real items: the median made, and how far it is in standard deviations."""
    domain = generator.domain
    items, _ = held_out(generator, 2000)
    known = {f.name for f in generator.model.conditioner.fields}
    knobs = [f for f in fields(domain.Wish) if f.kind in ("number", "integer") and f.name in known]
    described = [domain.describe(item) for item in items]
    rows = []
    for knob in knobs:
        real = np.array([v for w in described if (v := getattr(w, knob.name)) is not None], dtype=float)
        if not len(real) or not real.std():  # nothing is known of it, or there is nothing to choose
            continue
        for q in quantiles:
            target = float(np.clip(np.quantile(real, q), *bounds(knob)))
            target = round(target) if knob.kind == "integer" else target
            made = [domain.describe(i) for i in generator.sample(n, seed=seed, wishes=[generator.wish(**{knob.name: target})] * n)]
            values = [v for w in made if (v := getattr(w, knob.name)) is not None]
            median = float(np.median(values)) if values else float("nan")
            rows.append(
                {"knob": knob.name, "quantile": q, "asked": target, "median": median, "off": abs(median - target) / real.std()}
            )
    return rows

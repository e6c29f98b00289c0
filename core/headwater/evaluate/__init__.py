"""Evaluation: a model's figures beside other people's, each with n, seed, command and the machine it was read on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.domain import Evaluation
from headwater.errors import HeadwaterError
from headwater.knobs import Field, Knob, fields

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


def evaluate(
    generator: Generator, n: int = 1000, seed: int = 0, *, reference: int = 10_000, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """The domain's metrics on ``n`` plain samples, beside real items of the validation split, and the mean likelihood of held-out
    items where the model can score. Where the data are not here, the packaged sample stands in, and the figure says so.

    Returns ``{"metrics": {name: {...}}, "reference": …, "seed": …, "command": …, "fingerprint": {...}}``.
    """
    domain = generator.domain
    held, where = held_out(generator, reference)
    found: dict[str, Any] = {}
    if "sample" in generator.verbs and domain.metrics:
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
    if "score" in generator.verbs:
        found |= likelihood(generator, held, seed, where)
    return {
        "metrics": found,
        "reference": where,
        "seed": seed,
        "command": f"headwater evaluate {generator.name} -n {n} --seed {seed}",
        "fingerprint": fingerprint(generator),
    }


def held_out(generator: Generator, most: int) -> tuple[Sequence[Any], str]:
    """Validation items of the recipe's data, at most ``most``, and what they are."""
    name = generator.recipe.data
    if name not in generator.domain.datasets:
        return [], "no data"
    dataset = generator.domain.datasets[name]
    try:
        rows, where = dataset.rows("valid"), f"{name}, validation split"
    except HeadwaterError:
        rows, where = dataset.sample(), f"{name}, packaged sample"
    step = max(1, len(rows) // most)
    return [rows[i] for i in range(0, len(rows), step)][:most], where


def likelihood(generator: Generator, items: Sequence[Any], seed: int, where: str, most: int = 256) -> dict[str, Any]:
    """Mean log-likelihood of held-out items, in nats an item, with its standard error over items; viewed as in training."""
    from headwater.noise import Noise

    keys = Noise(0).fold("held-out").rows(range(min(most, len(items))))
    viewed = [generator.codec.view(item, keys[i : i + 1]) for i, item in enumerate(items[:most])]
    if not viewed:
        return {}
    found = generator.score(viewed, seed=seed)
    value = found.value.numpy()
    error = float(value.std(ddof=1) / len(value) ** 0.5) if len(value) > 1 else 0.0
    return {
        "log_likelihood": {
            "value": float(value.mean()),
            "stderr": error,
            "kind": found.kind,
            "better": "higher",
            "published": {},
            "source": "",
            "n": len(value),
            "on": where,
        }
    }


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

"""The audits of a model's samples over its domain's features: can they be told from real items, do they reach everywhere, and
are they copies of training items? For every domain, whatever its items are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError
from headwater.evaluate.coverage import coverage
from headwater.evaluate.memorisation import BLOCK, memorisation, spaced
from headwater.evaluate.two_sample import two_sample
from headwater.noise import Noise

if TYPE_CHECKING:
    from headwater.generator import Generator

#: Most samples that are audited: distances grow with the square of it.
MOST = 2000
#: Fewest: below that the figures say nothing.
FEWEST = 50


def audits(
    generator: Generator, made: Sequence[Any], held: Sequence[Any], where: str, seed: int, train: int
) -> tuple[dict[str, Any], list[str]]:
    """Figures by name, and notes on what could not be measured and why. ``held`` are real items that were not trained on,
    ``train`` is how many training items the memorisation audit looks at."""
    n = min(len(made), len(held), MOST)
    if n < FEWEST:
        return {}, [f"no audits: they need {FEWEST} samples and as many real items; here are {len(made)} and {len(held)}"]
    made, real = made[:n], viewed(generator, held[: 2 * n], "held-out")
    try:
        found = _likeness(generator, made, real, seed)
    except ValueError as error:
        return {}, [f"no audits: {error}"]
    found, notes = {name: {**figure, "on": where} for name, figure in found.items()}, []
    try:
        more, note = _memorised(generator, made, real[:n], train)
        found |= more
        notes.append(note)
    except HeadwaterError as error:
        notes.append(f"memorisation not measured: {error}")
    return found, notes


def viewed(generator: Generator, items: Sequence[Any], name: str, first: int = 0) -> list[Any]:
    """The items as training shows them (a crop, say), as samples are made like those."""
    keys = Noise(0).fold(name).rows(range(first, first + len(items)))
    return [generator.codec.view(item, keys[i : i + 1]) for i, item in enumerate(items)]


def figure(value: float, better: str, n: int, **more: Any) -> dict[str, Any]:
    return {"value": value, "better": better, "published": {}, "source": "", "n": n, **more}


def _likeness(generator: Generator, made: Sequence[Any], real: Sequence[Any], seed: int) -> dict[str, Any]:
    """Two-sample test, density and coverage. With twice as many real items as samples, one half is beside the other what the
    samples are beside it."""
    n, features = len(made), generator.domain.features
    samples, items = features(made), features(real)
    test, reached = two_sample(items[:n], samples, seed), coverage(items[:n], samples)
    found = {
        "two_sample_auc": figure(
            test.auc, "lower", test.n, stderr=test.stderr, z=test.z, p=test.p, accuracy=test.accuracy, real=0.5
        ),
        "density": figure(reached.density, "higher", n),
        "coverage": figure(reached.coverage, "higher", n),
    }
    if len(items) == 2 * n:
        best = coverage(items[:n], items[n:])
        found["density"]["real"], found["coverage"]["real"] = best.density, best.coverage
    return found


def _memorised(generator: Generator, made: Sequence[Any], held: Sequence[Any], most: int) -> tuple[dict[str, Any], str]:
    """Raises :class:`HeadwaterError` where the training or the validation split is not here."""
    dataset = generator.domain.datasets[generator.recipe.data]
    dataset.rows("valid")  # a packaged sample in place of held-out items may be one of training items
    rows = dataset.rows("train")
    blocks = (viewed(generator, items, "train", i * BLOCK) for i, items in enumerate(spaced(rows, most)))
    seen, n = memorisation(made, held, blocks, generator.domain.features), len(made)

    def share(value: float, real: float) -> dict[str, Any]:
        error = math.sqrt((value * (1 - value) + real * (1 - real)) / n)
        return figure(value, "lower", n, stderr=error, real=real, train=seen.train)

    found = {"memorised": share(seen.near, seen.near_held), "copied": share(seen.copied, seen.copied_held)}
    return found, f"memorisation: nearest of {seen.train:,} of the {len(rows):,} training items"

"""Every verb of a recipe's model, called on packaged items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from headwater.constraints import broken
from headwater.domain import Array
from headwater.families.contract import Verb
from headwater.optimise import SEARCHES
from headwater.restore.likelihoods import Gaussian
from headwater.restore.operators import Identity
from headwater.spaces import Tokens, cells
from headwater.testing.subject import STEPS, TILE, Bench, close, key

ROWS = 2  # of the packaged items


def call(bench: Bench, items: Sequence[Any]) -> None:
    """Every verb but ``sample``, which other checks ask, on ``items``, the first of the bench's batch. Raises ``AssertionError``
    for an answer that is not finite, does not keep what it must, or breaks the codec's constraint."""
    constraint = bench.codec.constraint()
    for verb, ask in CALLS.items():
        for array in ask(bench, items) if verb in bench.generator.verbs else ():
            assert np.isfinite(array).all(), f"{verb} gives items with numbers that are not finite"
            why = None if constraint is None else broken(constraint, array)
            assert why is None, f"what {verb} gives breaks the codec's constraint: {why}"


def infill(bench: Bench, items: Sequence[Any]) -> list[Array]:
    """The first half of each item is kept: of tokens in the order of generation."""
    x, space = bench.batch[: len(items)], bench.codec.space
    size = (x != 0).flatten(1).sum(1, keepdim=True) if isinstance(space, Tokens) else torch.full((len(x), 1), cells(space))
    mask = (torch.arange(cells(space)) < size // 2).reshape(x.shape).numpy()
    steps = STEPS if bench.generator.model.family.stepped else None
    made = bench.recorded(lambda generator: generator.infill(items, mask, steps=steps))
    for array, row, kept in zip(made, x.numpy(), mask, strict=True):
        assert close(array[kept], row[kept], space), "infill changes cells that it was told to keep"
    return made


def vary(bench: Bench, items: Sequence[Any]) -> list[Array]:
    steps = STEPS if bench.generator.model.family.stepped else None
    same, other = (bench.recorded(lambda g, s=s: g.vary(items, strength=s, steps=steps)) for s in (0.0, 0.5))  # type: ignore[misc]
    for array, row in zip(same, bench.batch.numpy(), strict=False):
        assert close(array, row, bench.codec.space), "vary at strength 0 gives another item than it was given"
    return other


def restore(bench: Bench, items: Sequence[Any]) -> list[Array]:
    y = bench.batch[: len(items)].float()
    mean = bench.generator.restore(y, Identity(bench.codec.space.shape), Gaussian(0.1), steps=STEPS).mean
    assert mean.shape == y.shape, f"restore gives shape {tuple(mean.shape)} for measurements of {tuple(y.shape)}"
    return list(mean.cpu().numpy())


def score(bench: Bench, items: Sequence[Any]) -> list[Array]:
    found = bench.generator.score(items).value
    assert bool(torch.isfinite(found).all()), f"score gives packaged items the log-likelihoods {found.tolist()}, not finite"
    return []


def optimise(bench: Bench, items: Sequence[Any]) -> list[Array]:
    """One turn after the items, where the search can begin at items."""
    generator = bench.generator
    search = SEARCHES[generator.verbs["optimise"]](generator, generator.wish(), key("optimise"), rows=TILE)
    try:
        x = search.adopt(bench.batch[: len(items)].numpy())
        search.learn(x, np.arange(len(x), dtype=np.float64))
    except ValueError:
        pass
    return list(search.propose(1))


CALLS: Mapping[Verb, Callable[[Bench, Sequence[Any]], list[Array]]] = {
    "infill": infill,
    "vary": vary,
    "restore": restore,
    "score": score,
    "optimise": optimise,
}

"""What each recipe of a domain promises, held on its model after two steps of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from headwater.constraints import broken
from headwater.domain import Array
from headwater.knobs import Field, Knob
from headwater.testing.subject import STEPS, TILE, Bench, Subject, equal, key, rows_needed, same

UNTRAINED = "not checkable: the model draws no samples, or see trains_two_steps"
UNSEEDED = "not checkable: see same_seed_same_items"


def trains_two_steps(subject: Subject, recipe: str) -> None:
    """The recipe trains: two steps on the packaged sample give finite losses and weights, and gradients reach the network."""
    import torch

    bench = subject.bench(recipe)
    assert len(bench.losses) == 2 and np.isfinite(bench.losses).all(), f"the losses of two steps are {bench.losses}, not finite"
    for name, tensor in bench.trained.items():
        assert bool(torch.isfinite(tensor.float()).all()), f"the weights {name!r} are not finite after two steps"
    model = bench.generator.model
    model.zero_grad()
    context = model.conditioner(model.conditions([subject.domain.Wish()] * len(bench.batch)))
    model.family.loss(model.family.players[0], bench.batch, context, key("loss").rows(range(len(bench.batch)))).backward()
    trained = {name: list(model.family_parts[name].parameters()) for name in model.family.team(model.family.players[0])}
    for name, weights in trained.items():
        learning = any(p.grad is not None and bool(p.grad.any()) for p in weights)
        assert learning or not weights, f"no gradient reaches the {name}; is there a detach or no_grad in its forward?"
    assert any(trained.values()), "the network has no weights"


def same_seed_same_items(subject: Subject, recipe: str) -> str | None:
    """One seed gives one result, bit for bit; another seed gives another."""
    bench = subject.trained(recipe)
    if bench is None:
        return UNTRAINED
    rows = rows_needed(bench.codec.space)
    once, again, other = (bench.arrays(rows, seed=seed) for seed in (1, 1, 2))
    assert equal(once, again), (
        "the same seed gives other items next time; in sampling, draw from the noise key alone, not from torch.rand"
    )
    assert not equal(once, other), "another seed gives the same items: the network ignores its input"
    return None


def batch_size_does_not_matter(subject: Subject, recipe: str) -> str | None:
    """A row's bytes depend neither on the batch size, nor on where the rows begin, nor on the rows computed beside it."""
    bench = subject.trained(recipe)
    if bench is None:
        return UNTRAINED
    if not bench.seeded:
        return UNSEEDED
    n = TILE + 2
    whole = bench.arrays(n, seed=3)
    for size in (1, 100):
        assert equal(whole, bench.arrays(n, seed=3, batch_size=size)), f"items differ between batch sizes {n} and {size}"
    assert equal(whole[2:5], bench.arrays(3, seed=3, first=2)), "rows 2 to 4 alone differ from the same rows of a longer run"
    assert _apart(bench), "a row changes with the rows beside it; use nothing that mixes rows, such as means over the batch"
    return None


def _apart(bench: Bench) -> bool:
    """Whether row 0 of a tile, and its share of the loss, stay as they are when the other rows change.

    Tokens hide small changes, so the score of row 0 is compared too."""
    import torch

    from headwater.families.contract import Steer

    family, noise = bench.generator.model.family, key("apart")
    wish = bench.domain.Wish()
    with torch.no_grad():
        context = bench.generator.model.conditioner.with_null(bench.generator.model.conditions([wish] * TILE))
        made = [family.sample(noise.rows([0, *range(a, a + TILE - 1)]), context, Steer(steps=3)) for a in (1, 50)]
        if not torch.equal(made[0][0], made[1][0]):
            return False
        if "score" not in family.verbs:
            return True
        lengths = family.buckets(bench.batch)  # rows of one length are scored together
        beside = bench.batch[lengths == lengths[0]]
        keys, count = noise.rows(range(TILE)), len(beside)
        batches = [beside, beside[:1].expand(beside.shape)]
        scores = [family.score(b, keys[:count], context[:count]).value for b in batches]
    return torch.equal(scores[0][0], scores[1][0])


def save_load(subject: Subject, recipe: str) -> str | None:
    """A model saved and loaded makes the same items."""
    from headwater import checkpoint
    from headwater.generator import Generator

    bench = subject.trained(recipe)
    if bench is None:
        return UNTRAINED
    if not bench.seeded:
        return UNSEEDED
    before = bench.arrays(TILE, seed=4)
    folder, domain = subject.folder("model"), subject.domain
    bench.save(folder)
    model, config = checkpoint.load(folder, domain.networks)
    after = bench.arrays(TILE, Generator(domain, model, bench.recipe, config["name"], config), seed=4)
    assert equal(before, after), "the loaded model makes other items; keep all of a network's state in its parameters and buffers"
    return None


def knobs_obeyed(subject: Subject, recipe: str) -> str | None:
    """Each knob and each given array that the recipe trains reaches the loss and the samples; shipped models obey their knobs."""
    import torch

    bench = subject.trained(recipe)
    if bench is None:
        return UNTRAINED
    model, domain = bench.generator.model, subject.domain
    described = [domain.describe(item) for item in subject.sample(bench.recipe.data)]
    if not bench.seeded:
        return UNSEEDED
    rows = rows_needed(bench.codec.space)
    for field in model.conditioner.fields:
        pair = _given(bench, subject, field) if field.kind == "given" else _extremes(domain.Wish, field, described)
        with torch.no_grad():
            contexts = [model.conditioner(model.conditions([wish] * len(bench.batch))) for wish in pair]
            keys = key("knobs").rows(range(len(bench.batch)))
            low, high = (float(model.family.loss(model.family.players[0], bench.batch, c, keys)) for c in contexts)
        assert low != high, f"{field.name!r} does not reach the network, which should read every part of its context"
        made = [_asked(bench, field, wish, rows) for wish in pair]
        assert not equal(*made), f"{field.name!r} does not reach the samples: they are the same whatever is asked"
        finite = all(np.isfinite(a).all() for a in made[0] + made[1])
        assert finite, f"{field.name!r} with guidance gives samples that are not finite"
    return _shipped_obeys(subject, recipe, described)


def _asked(bench: Bench, field: Field, wish: Any, rows: int) -> list[Array]:
    """Samples of one wish, pressed; of a recipe over a latent the latents, since tokens show large moves of them only, but of what
    it passes on to the autoencoder."""
    import torch

    from headwater.families.contract import Steer
    from headwater.families.latent import Latent
    from headwater.model import passed_on

    model = bench.generator.model
    of_the_items = model.autoencoder is not None and field in passed_on(model.autoencoder)
    if not isinstance(model.family, Latent) or of_the_items:
        return bench.arrays(rows, seed=5, wishes=[wish] * rows, guidance=2.0 if model.family.guided else None)
    with torch.no_grad():
        context = model.conditioner.with_null(model.conditions([wish] * rows))
        made = model.family.prior.sample(key("asked").rows(range(rows)), context, Steer(guidance=2.0, steps=STEPS))
    return list(made.numpy())


def _extremes(wish: type, field: Field, described: list[Any]) -> tuple[Any, Any]:
    """Two wishes that differ in one knob as much as the packaged items do."""
    if field.kind == "switch":
        return wish(**{field.name: False}), wish(**{field.name: True})
    if field.kind == "choice":
        return wish(**{field.name: field.choices[0]}), wish(**{field.name: field.choices[-1]})
    values = [v for w in described if (v := getattr(w, field.name)) is not None]
    low, high = (min(values), max(values)) if values and min(values) < max(values) else _range(field)
    return wish(**{field.name: low}), wish(**{field.name: high})


def _range(field: Field) -> tuple[float, float]:
    assert isinstance(field.spec, Knob)
    low, high = field.spec.low or 0, field.spec.high
    return low, high if high is not None else low + 1


def _given(bench: Bench, subject: Subject, field: Field) -> tuple[Any, Any]:
    """A wish without the array, and the one that the domain gives for an item."""
    item = bench.codec.view(subject.sample(bench.recipe.data)[0], key("given"))
    first, again = (subject.domain.given(field.name, item, key("given")) for _ in range(2))
    array = getattr(first, field.name)
    assert array is not None, f"given({field.name!r}, …) leaves {field.name!r} empty"
    assert same(array, getattr(again, field.name)), f"given({field.name!r}, …) depends on more than its noise key"
    return subject.domain.Wish(), subject.domain.Wish(**{field.name: array})


def _shipped_obeys(subject: Subject, recipe: str, described: list[Any], n: int = 32) -> str | None:
    """A trained model, asked for a knob's 10th and 90th percentile, makes items that differ in that direction."""
    from headwater import checkpoint
    from headwater.generator import Generator
    from headwater.recipe import Recipe
    from headwater.registry import models

    domain = subject.domain
    folder = models(domain).get(recipe)
    if folder is None:
        return None
    model, config = checkpoint.load(folder, domain.networks)
    generator = Generator(domain, model, Recipe.model_validate(config["recipe"]), config["name"], config)
    for field in model.conditioner.fields:
        values = [v for w in described if (v := getattr(w, field.name)) is not None] if field.kind in ("number", "integer") else []
        if not values or min(values) == max(values):
            continue
        low, high = (round(q) if field.kind == "integer" else float(q) for q in np.quantile(values, (0.1, 0.9)))
        means = []
        for asked in (low, high):
            made = generator.sample(n, seed=6, wishes=[domain.Wish(**{field.name: asked})] * n)
            known = [v for item in made if (v := getattr(domain.describe(item), field.name)) is not None]
            assert known, f"the shipped model, asked for {field.name}={asked}, makes nothing that can be described"
            means.append(float(np.mean(known)))
        obeys = low == high or means[0] < means[1]
        assert obeys, f"the shipped model ignores {field.name!r}: asked for {low} and {high} it makes {means}"
    return None


def constraint_respected(subject: Subject, recipe: str) -> str | None:
    """Where the codec has a constraint, it lets real items through and every sample obeys it."""
    bench = subject.trained(recipe)
    if bench is None:
        return UNTRAINED
    if bench.codec.constraint() is None:
        return None
    real = [bench.codec.encode(item) for item in subject.viewed(bench.codec, bench.recipe.data)]
    for where, arrays in (("an item of the packaged sample", real), ("a sample", bench.arrays(TILE, seed=7))):
        for array in arrays:
            constraint = bench.codec.constraint()
            assert constraint is not None
            why = broken(constraint, array)
            assert why is None, f"{where} breaks the codec's constraint: {why}"
    return None


def verbs_answer(subject: Subject, recipe: str) -> str | None:
    """Every verb that the model names answers for packaged items: in finite numbers, within the codec's constraint, and without a
    change to what must stay."""
    from headwater.testing.verb_checks import ROWS, call

    try:
        bench = subject.bench(recipe)
    except Exception:
        return "not checkable: see trains_two_steps"
    constraint = bench.codec.constraint()
    if constraint is not None and any(broken(constraint, array) for array in bench.batch[:ROWS].numpy()):
        return "not checkable: see constraint_respected"
    call(bench, subject.viewed(bench.codec, bench.recipe.data)[:ROWS])
    return None


CHECKS = (
    trains_two_steps,
    same_seed_same_items,
    batch_size_does_not_matter,
    save_load,
    knobs_obeyed,
    constraint_respected,
    verbs_answer,
)

"""What a domain promises as a whole: names, conditions, codecs, data, metrics."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np

from headwater.domain import Domain, Evaluation
from headwater.errors import HeadwaterError
from headwater.knobs import Knob, fields
from headwater.spaces import Tokens, Vector
from headwater.testing.subject import Subject, close, equal, junk, key, same

NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")


def names(subject: Subject) -> None:
    """Everything a user types has a plain name, everything a user reads has words."""
    domain = subject.domain
    pipelines = [pipeline.name for pipeline in domain.pipelines]
    parts = {"codec": domain.codecs, "network": domain.networks, "recipe": domain.recipes, "data set": domain.datasets}
    lists = {"domain": [domain.name], "pipeline": pipelines, "metric": [m.name for m in domain.metrics]}
    for kind, found in {**lists, **parts}.items():
        for name in found:
            assert NAME.fullmatch(name), f"the {kind} name {name!r} should be lower-case letters, digits, _ or -, a letter first"
        assert len(set(found)) == len(list(found)), f"two {kind}s share a name: {', '.join(found)}"
    assert domain.codecs, "the domain needs at least one codec"
    assert domain.datasets, "the domain needs at least one data set: models are trained on it and its sample is checked"
    assert (type(domain).__doc__ or "").strip(), "write a docstring for the domain class: it opens every model card"
    for what, text in (("domain", domain.summary), *((f"pipeline {p.name!r}", p.summary) for p in domain.pipelines)):
        assert text.strip() and "\n" not in text, f"the summary of the {what} should be one line"


def reserved_names(subject: Subject) -> None:
    """No name takes a word that every command line needs for itself."""
    from headwater.registry import faults

    complaint = faults(subject.domain, subject.domain.name)
    assert not complaint, f"{complaint}; choose another (headwater.knobs lists the reserved ones)"


def condition(subject: Subject) -> None:
    """The condition is a frozen dataclass of optional, annotated fields, and ``describe`` fills it with values in range."""
    domain = subject.domain
    wish = domain.Wish
    frozen = getattr(getattr(wish, "__dataclass_params__", None), "frozen", False)
    assert frozen, "Wish should be a frozen dataclass: @dataclass(frozen=True)"
    try:
        empty = wish()
    except TypeError as error:
        raise AssertionError(f"every field of Wish needs the default None: {error}") from None
    knobs = fields(wish)
    for knob in knobs:
        assert getattr(empty, knob.name) is None, f"Wish.{knob.name} should default to None, which means: nothing asked"
        assert knob.kind != "text", f"Wish.{knob.name} is free text, which no network reads: use a Literal, or Given with vocab"
        assert knob.description.strip(), f"Wish.{knob.name} needs a description: it is the help text of {knob.flag}"
        if isinstance(knob.spec, Knob) and knob.spec.low is not None and knob.spec.high is not None:
            assert knob.spec.low < knob.spec.high, f"Wish.{knob.name}: low {knob.spec.low} is not below high {knob.spec.high}"
    seen: set[str] = set()
    for i, item in enumerate(subject.items):
        found = domain.describe(item)
        assert isinstance(found, wish), f"describe should return a {wish.__name__}, got {type(found).__name__}"
        assert same(found, domain.describe(item)), f"describe gives another answer the second time (item {i} of the sample)"
        for knob in knobs:
            value = getattr(found, knob.name)
            seen |= {knob.name} if value is not None else set()
            try:
                knob.check(value)
            except HeadwaterError as error:
                raise AssertionError(f"describe(item {i} of the sample) is out of its own range: {error}; widen the knob") from None
    for knob in knobs:
        if knob.kind != "given":
            assert knob.name in seen, f"describe never fills {knob.name!r} on the packaged sample, so no model can learn it"


def partial_conditions(subject: Subject) -> None:
    """Any subset of the fields can be asked for: none, each alone, each pair, all; whatever is asked, ``problem`` answers."""
    import torch

    from headwater.context import Conditioner, Conditions

    domain = subject.domain
    described = domain.describe(subject.items[0])
    values = {f.name: v for f in fields(domain.Wish) if (v := getattr(described, f.name)) is not None}
    subsets = [s for k in sorted({0, 1, 2, len(values)}) for s in itertools.combinations(values, k)]
    wishes: list[Any] = [domain.Wish(**{name: values[name] for name in s}) for s in subsets]
    knobs = [f for f in fields(domain.Wish) if f.kind != "given"]
    for codec in domain.codecs.values():
        context = Conditioner(knobs, codec.space, 16)(Conditions.of(knobs, wishes, codec.space))
        finite = context.pooled is None or bool(torch.isfinite(context.pooled).all())
        assert finite, "a partial condition gives numbers that are not finite"
    for wish in wishes:
        why = domain.problem(subject.items[0], wish)
        told = why is None or (isinstance(why, str) and why.strip())
        assert told, f"problem(item, {wish}) should give None or a reason, got {why!r}"


def encode(subject: Subject) -> None:
    """Each codec turns each item into one array of its space: right shape, type and range, the same every time."""
    for name, codec in subject.domain.codecs.items():
        space = codec.space
        for i, item in enumerate(subject.viewed(codec)):
            where = f"codec {name!r}, item {i} of the sample"
            array = codec.encode(item)
            assert isinstance(array, np.ndarray), f"{where}: encode should return a numpy array, got {type(array).__name__}"
            assert array.shape == space.shape, f"{where}: expected shape {space.shape}, got {array.shape}"
            assert same(array, codec.encode(item)), f"{where}: encode gives another array next time; randomness belongs into view"
            if isinstance(space, Tokens):
                assert array.dtype == np.int64, f"{where}: tokens should be int64, got {array.dtype}"
                inside = (array >= 0).all() and (array < np.array(space.vocabs)).all()
                assert inside, f"{where}: a token is outside the vocabulary {space.vocab}"
                filled = (array != 0).any(axis=1)
                assert filled.any(), f"{where}: the first position is all 0, which means: an empty item"
                resumed = (np.diff(filled.astype(int)) > 0).any()
                assert not resumed, f"{where}: tokens after an all-zero position are lost, since it ends the item"
            else:
                assert array.dtype == np.float32, f"{where}: expected float32, got {array.dtype}"
                assert np.isfinite(array).all(), f"{where}: the array holds values that are not finite"
                largest = np.abs(array).max()
                assert isinstance(space, Vector) or largest <= 1 + 1e-6, f"{where}: a grid's values lie in [-1, 1], got {largest:g}"
        first, second = ([codec.encode(codec.view(item, key("views"))) for item in subject.items[:12]] for _ in range(2))
        assert equal(first, second), f"codec {name!r}: view depends on more than its noise key"


def round_trip(subject: Subject) -> None:
    """What an array says survives being decoded and encoded again."""
    for name, codec in subject.domain.codecs.items():
        for i, item in enumerate(subject.viewed(codec)):
            array = codec.encode(item)
            back = codec.encode(codec.decode(array))
            assert close(array, back, codec.space), (
                f"codec {name!r}, item {i} of the sample: decoding and encoding changes its array"
            )


def decode_is_total(subject: Subject) -> str | None:
    """Any array of a space gives an item, and any item can be described, judged, recorded and drawn: noise and model samples."""
    domain, unchecked = subject.domain, []
    for name, codec in domain.codecs.items():
        for i, array in enumerate(junk(codec.space)):
            _survives(domain, codec.decode(array), f"codec {name!r}, noise {i}")
    for recipe in subject.recipe_names:
        bench = subject.trained(recipe)
        if bench is None:
            unchecked.append(recipe)
            continue
        for array in bench.arrays(2):
            _survives(domain, bench.codec.decode(array), f"a sample of recipe {recipe!r}")
    return f"no samples of {', '.join(unchecked)}, which did not train" if unchecked else None


def _survives(domain: Domain[Any, Any], item: Any, where: str) -> None:
    why = domain.problem(item)
    assert why is None or (isinstance(why, str) and why.strip()), f"{where}: problem should give None or a reason, got {why!r}"
    assert isinstance(domain.describe(item), domain.Wish), f"{where}: describe should return a {domain.Wish.__name__}"
    assert isinstance(domain.render(item), str), f"{where}: render should return text"
    assert isinstance(domain.record(item), dict), f"{where}: record should return a dictionary"


def data_is_valid(subject: Subject) -> None:
    """The packaged sample is there, and its items are valid in the domain's own eyes."""
    for data in subject.domain.datasets:
        items = subject.sample(data)
        assert items, f"the sample of {data!r} is empty; package a few items"
        for i, item in enumerate(items):
            why = subject.domain.problem(item)
            assert why is None, f"item {i} of the sample of {data!r} is invalid: {why}"
        card = subject.domain.datasets[data].card / "card.toml"
        assert card.is_file(), f"{data!r} has no card: write {card} with source, licence and what the data are not for"


def splits_are_apart(subject: Subject, most: int = 500, train: int = 100_000) -> str | None:
    """No item that is held out is also trained on."""
    absent = []
    for data, dataset in subject.domain.datasets.items():
        splits = {}
        for split in ("train", "valid", "test"):
            try:
                splits[split] = dataset.rows(split)
            except HeadwaterError:
                absent.append(f"{data}/{split}")
        seen: dict[bytes, str] = {}
        for split, rows in splits.items():
            count = min(len(rows), train if split == "train" else most)
            taken = {_content(rows[i]) for i in np.linspace(0, len(rows) - 1, count).astype(int).tolist()}
            for content in taken:
                also = seen.get(content)
                assert also is None, f"an item of {data}/{split} is also in {data}/{also}; split by what the items are"
            seen |= dict.fromkeys(taken, split)
    return f"not checkable here, data absent: {', '.join(absent)}" if absent else None


def _content(item: Any) -> bytes:
    return item.tobytes() if isinstance(item, np.ndarray) else repr(item).encode()


def features(subject: Subject) -> None:
    """One row of numbers an item, the same whatever items it stands among."""
    items = subject.items[:8]
    rows = subject.domain.features(items)
    shaped = isinstance(rows, np.ndarray) and rows.ndim == 2 and len(rows) == len(items)
    assert shaped, "features should be an array with a row for each item"
    assert rows.dtype == bool or np.issubdtype(rows.dtype, np.floating), f"features should be bool or float, got {rows.dtype}"
    assert np.isfinite(rows).all(), "features should be finite"
    alone = subject.domain.features(items[:1])[0].astype(float)
    assert np.allclose(alone, rows[0].astype(float), rtol=1e-4, atol=1e-6), "an item's features change with its neighbours"


def metrics(subject: Subject) -> None:
    """A metric is a number, also for items nobody could use, and figures of others say where they were read."""
    domain, items = subject.domain, subject.items
    worst = [item for codec in domain.codecs.values() for item in subject.made(codec)]
    for metric in domain.metrics:
        assert metric.better in ("higher", "lower"), f"metric {metric.name!r}: better should be 'higher' or 'lower'"
        assert not metric.published or metric.source.strip(), f"metric {metric.name!r}: give the source of the published figures"
        for made in (items, worst):
            asked = [domain.describe(item) for item in made] if made is items else [domain.Wish()] * len(made)
            seen = Evaluation(made, asked, items)
            value = float(metric.score(seen))
            if made is items:
                assert not math.isinf(value), f"metric {metric.name!r} of the packaged sample is {value}"
            again = float(metric.score(seen))
            assert value == again or (math.isnan(value) and math.isnan(again)), f"metric {metric.name!r} changes from call to call"


CHECKS = (
    names,
    reserved_names,
    condition,
    partial_conditions,
    encode,
    round_trip,
    decode_is_total,
    data_is_valid,
    splits_are_apart,
    features,
    metrics,
)

"""scikit-learn's digits through every family: the core's default recipes, made small, on a domain that knows no family."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import digits
import numpy as np
import pytest
import toys
from digits import Digits

from headwater.errors import HeadwaterError, MissingVerb
from headwater.families import FAMILIES
from headwater.generator import Generator
from headwater.noise import Noise
from headwater.recipe import NetworkChoice, Recipe, recipes
from headwater.train import train

DOMAIN = Digits()
RECIPES = recipes(DOMAIN)
TILE, LATENT = 2, 8


def small(recipe: Recipe) -> Recipe:
    """Two steps, small tiles, small latents, and each network at the size that the toys give one of its name."""

    def choice(network: NetworkChoice) -> NetworkChoice:
        return NetworkChoice(name=network.name, options=toys.NETWORKS[network.name])

    networks = {role: choice(network) for role, network in recipe.networks.items()}
    options = {key: LATENT if key == "latent" else value for key, value in recipe.options.items()}
    fields = {
        "options": options,
        "network": choice(recipe.network),
        "networks": networks,
        "condition_width": 16,
        "tile": TILE,
        "labels": 100,
    }
    return recipe.model_copy(update=fields).at(steps=2, batch=8, warmup=0, validate_rows=8)


@functools.cache
def made(name: str) -> Generator:
    """A recipe's model after two steps; over a latent, that of the model which the recipe names."""
    recipe, losses = small(RECIPES[name]), list[float]()
    inner = made(recipe.autoencoder).model if recipe.autoencoder else None
    with tempfile.TemporaryDirectory() as folder:
        model = train(
            DOMAIN,
            recipe,
            Path(folder),
            autoencoder=inner,
            log_every=1,
            validate_every=1,
            tell=lambda *told: losses.extend(told[1:]),
        )
    assert len(losses) == 4 and np.isfinite(losses).all(), (name, losses)
    return Generator(DOMAIN, model, recipe, f"digits/{name}")


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    yield
    made.cache_clear()


def is_digit(item: Any) -> bool:
    """The middle of a grey level at each pixel."""
    level = item - 0.5
    return item.shape == (8, 8) and bool(((level == np.floor(level)) & (level >= 0) & (level < digits.LEVELS)).all())


def test_every_family_has_recipes_for_both_codecs_it_reaches() -> None:
    assert {recipe.family for recipe in RECIPES.values()} == set(FAMILIES)
    for codec in DOMAIN.codecs:
        assert sum(recipe.codec == codec for recipe in RECIPES.values()) >= 5, codec


@pytest.mark.parametrize("name", RECIPES)
def test_a_family_draws_digits(name: str) -> None:
    model = made(name)
    drawn = model.sample(TILE, seed=1, ink=5.0, side="left")
    assert all(map(is_digit, drawn.items)) and not np.array_equal(*drawn.items)
    assert drawn._repr_html_().count("<svg") == TILE


@pytest.mark.parametrize("name", RECIPES)
def test_a_family_that_scores_gives_bits_of_grey_levels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log-probability of levels, not a density: two steps of training leave it near log2(17) bits a pixel, where all are even.
    Whatever a family counts in its score (draws, levels, steps), it counts to four here."""
    model, item = copy.copy(made(name)), digits.rows("test")[0]
    model.tile, score = 1, model.model.family.score
    counts = {key: p.default for key, p in inspect.signature(score).parameters.items() if isinstance(p.default, int)}
    monkeypatch.setattr(model.model.family, "score", functools.partial(score, **{key: min(4, n) for key, n in counts.items()}))
    if "score" not in model.verbs:
        with pytest.raises(MissingVerb, match="cannot score"):
            model.score([item])
        return
    found = model.score([item], seed=3)
    assert found.kind in ("exact", "bound", "estimate")
    assert 2.5 < -float(found.value[0]) / (64 * math.log(2)) < 12


@pytest.mark.parametrize("name", RECIPES)
def test_a_family_that_infills_or_varies_keeps_what_it_should(name: str) -> None:
    model, items = made(name), digits.rows("test")[:2]
    if "infill" in model.verbs:
        mask = np.zeros((2, *model.codec.space.shape), dtype=bool)
        mask.reshape(2, 64)[:, :24] = True  # three rows of pixels, the first tokens
        filled = model.infill(items, mask, seed=4).items
        assert all(is_digit(new) and np.array_equal(new[:3], old[:3]) for new, old in zip(filled, items, strict=True))
        assert not np.array_equal(filled, items)
    if "vary" in model.verbs:
        assert all(map(is_digit, model.vary(items, strength=0.5, seed=5).items))


# --- the domain ---------------------------------------------------------------------------------------------------------


def test_the_domain_names_no_family() -> None:
    words = set(re.findall(r"\w+", Path(digits.__file__).read_text()))
    assert not words & {word for name, (module, cls, _) in FAMILIES.items() for word in (name, cls, module)}


def test_splits_are_of_the_stated_sizes_and_apart() -> None:
    parts = {split: {item.tobytes() for item in digits.rows(split)} for split in ("train", "valid", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 1300, "valid": 137, "test": 360}  # and none twice
    assert len(set.union(*parts.values())) == 1797
    assert all(map(is_digit, digits.rows("test")))


def test_codecs_are_exact_and_views_stay_in_their_level(tmp_path: Path) -> None:
    keys = Noise(6).rows(range(20))
    for i, item in enumerate(digits.rows("test")[:20]):
        for codec in DOMAIN.codecs.values():
            view = codec.view(item, keys[i : i + 1])
            for shown in (item, view):
                array = codec.encode(shown)
                assert array.shape == codec.space.shape and np.array_equal(codec.decode(array), item)
    top = np.full((8, 8), digits.LEVELS - 0.5, dtype=np.float32)
    pixels = DOMAIN.codecs["pixels"]
    assert float(max(pixels.encode(pixels.view(top, keys[i : i + 1])).max() for i in range(20))) < 1.0
    (path,) = DOMAIN.write(digits.rows("test")[:5], tmp_path)
    assert np.array_equal(DOMAIN.read(path), digits.rows("test")[:5])
    path.write_text("1,2,three\n")
    with pytest.raises(HeadwaterError, match=r"digits.csv: expected 64 numbers a line, divided by commas"):
        DOMAIN.read(path)

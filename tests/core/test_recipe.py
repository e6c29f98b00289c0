"""Recipes: one TOML file, one model; a mistake in it is named by file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toys

from headwater import Grid, HeadwaterError, Recipe, Tokens, Vector
from headwater.recipe import default, recipes

TEXT = """
summary = "a toy"
codec = "letters"
family = "autoregressive"
data = "words"

[network]
name = "recurrent"
options = { width = 32, layers = 1 }

[training]
steps = 100

[sizes.s]
network.options.width = 16
training.steps = 10

[sizes.l]
network = { name = "transformer", options = { width = 64 } }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(TEXT)
    return path


def test_a_recipe_and_its_sizes(file: Path) -> None:
    recipe = Recipe.load(file)
    assert recipe.network.options == {"width": 32, "layers": 1} and recipe.training.steps == 100 and recipe.training.batch == 64
    small, large = recipe.at("s"), recipe.at("l")
    assert small.network.options == {"width": 16, "layers": 1} and small.training.steps == 10 and small.codec == "letters"
    assert large.network.name == "transformer" and large.training.steps == 100
    assert recipe.at("s", steps=7, batch=None).training.steps == 7
    assert recipe.at() == recipe and recipe.network.options["width"] == 32  # nothing was changed in place
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 100", "steps = 0"), r"training\.steps: input should be greater than 0; got 0"),
        (("steps = 100", "stepz = 100"), r"training\.stepz: is not a key of a recipe; known: steps, batch"),
        (('family = "autoregressive"', 'family = "oracle"'), r"family: input should be .*; got 'oracle'"),
        (('codec = "letters"', ""), r"codec: is missing"),
        (("[sizes.s]", "[sizes.xl]"), r"sizes\.xl"),
        (("summary", "= summary"), r"not a recipe "),
    ],
)
def test_a_mistake_is_named_by_file_and_field(file: Path, change: tuple[str, str], message: str) -> None:
    file.write_text(TEXT.replace(*change))
    with pytest.raises(HeadwaterError, match=rf"toy\.toml: {message}") as caught:
        Recipe.load(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"summary = '\xff'")
    with pytest.raises(HeadwaterError, match=r"toy.toml: not a recipe"):
        Recipe.load(file)
    with pytest.raises(HeadwaterError, match=r"no such file: .*none.toml"):
        Recipe.load(tmp_path / "none.toml")


def test_a_size_or_setting_that_is_none(file: Path) -> None:
    recipe = Recipe.load(file)
    with pytest.raises(HeadwaterError, match=r"^--size: this recipe has s, l; got 'm'$"):
        recipe.at("m")
    with pytest.raises(HeadwaterError, match=r"^training\.steps: input should be greater than 0; got -1$"):
        recipe.at(steps=-1)
    file.write_text(TEXT + "\n[sizes.m]\nwidth = 3\n")
    with pytest.raises(HeadwaterError, match=r"^width: is not a key of a recipe; known: summary, codec"):
        Recipe.load(file).at("m")


def test_a_folder_of_recipes_is_read_when_asked(file: Path) -> None:
    (file.parent / "broken.toml").write_text("?")
    folder = Recipe.folder(file.parent)
    assert list(folder) == ["broken", "toy"] and len(folder) == 2 and folder["toy"].codec == "letters"
    with pytest.raises(KeyError):
        folder["none"]
    with pytest.raises(HeadwaterError, match=r"broken\.toml"):
        folder["broken"]


def test_every_family_has_a_default_where_it_lives() -> None:
    spaces: dict[str, list[Any]] = {"autoregressive": [Tokens(4, 5), Tokens((3, 4), 5, 2)], "diffusion": [Grid(1, (8,)), Vector(3)]}
    for family, lives in spaces.items():
        for space in [s for group in spaces.values() for s in group]:
            assert (default(family, "c", space, "d") is not None) == (space in lives)


def test_a_domain_without_recipes_gets_the_cores(words: Any, spots: Any) -> None:
    assert list(recipes(words))[:3] == ["autoregressive", "autoregressive-pairs", "autoregressive-long"]
    assert next(iter(recipes(spots))) == "diffusion" and recipes(spots)["diffusion"].data == "spots"
    assert len(recipes(words)) == 3 * len({recipe.family for recipe in recipes(words).values()})  # each family by each codec
    words.recipes = {"mine": toys.recipe("words", "recurrent")}
    assert list(recipes(words))[:3] == ["mine", "autoregressive", "autoregressive-long"]
    assert toys.model(words, recipes(words)["autoregressive"]).space == toys.Pairs.space

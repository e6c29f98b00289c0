"""The table of README.md that says which family answers what, made from the families themselves.

``python -m headwater.report.families README.md`` writes it between its markers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from headwater.families import FAMILIES
from headwater.families.contract import Verb
from headwater.knobs import Field, Given
from headwater.model import Model, build
from headwater.recipe import DEFAULTS, NetworkChoice, Recipe, default
from headwater.report.card import table
from headwater.spaces import Grid, Space, Tokens, Vector

BEGIN, END = "<!-- verbs -->", "<!-- end of verbs -->"
SPACES: dict[str, Space] = {"Grid": Grid(1, (16, 16)), "Tokens": Tokens(8, 16), "Vector": Vector(4)}


def verbs_table() -> str:
    """A row for each family of :data:`~headwater.families.FAMILIES`, built by the core's own recipes for the spaces it lives in,
    for each that reaches ``Tokens`` by the latent of an autoencoder, and for the one whose recipe can say that it restores; a
    column for each verb, with the family's own words."""
    rows = []
    for name in FAMILIES:
        family = name.replace("_", " ")
        spaces = [space for owner, space in DEFAULTS if owner == name]
        rows.append(_row(family, {space: _built(name, space) for space in spaces}))
        if name == "gan":
            rows.append(_row(f"{family}, restores", {space: _built(name, space, restores=True) for space in spaces}))
        if "Tokens" not in spaces and default(name, "", SPACES["Tokens"], "", "vae"):
            rows.append(_row(f"{family} over a latent", {"Tokens": _built(name, "Tokens", "vae")}))
    return table(("family", "space", *get_args(Verb)), rows)


def _row(name: str, models: Mapping[str, Model]) -> Sequence[str]:
    verbs: tuple[Verb, ...] = get_args(Verb)
    return name, ", ".join(models), *(_cell({space: m.family.verbs.get(verb, "") for space, m in models.items()}) for verb in verbs)


def _built(family: str, space: str, autoencoder: str = "", restores: bool = False) -> Model:
    inner = _built(autoencoder, space) if autoencoder else None
    recipe = default(family, "codec", SPACES[space], "data", autoencoder)
    assert isinstance(recipe, Recipe)
    if not restores:
        return build(recipe, SPACES[space], (), {}, inner)
    field = NetworkChoice(name="unet" if space == "Grid" else "mlp")
    asked = recipe.model_copy(update={"options": {"restores": True}, "network": field, "given": ["degraded"]})
    return build(asked, SPACES[space], [Field("degraded", "given", Given("the item, degraded", size=SPACES[space].shape[0]))], {})


def _cell(words: Mapping[str, str]) -> str:
    """What is said over every space once, else with the spaces it is said of."""
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    spaces: dict[str, list[str]] = {}
    for space, text in words.items():
        if text:
            spaces.setdefault(text, []).append(space)
    return "; ".join(f"{', '.join(where)}: {text}" for text, where in spaces.items())


def page(text: str) -> str:
    """A page with the table between its markers made anew. Raises ``ValueError`` for a page without them."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no markers {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{verbs_table()}\n\n{END}{tail}"


def main(paths: Sequence[str]) -> None:
    for path in map(Path, paths):
        path.write_text(page(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

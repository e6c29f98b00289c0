"""What holds in every verb of a loaded model, whatever its family: the codec's rules, what is asked, one line for a mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toys

from headwater.constraints import FiniteConstraint
from headwater.errors import HeadwaterError
from headwater.families.contract import Steer
from headwater.generator import Generator

SMALL = FiniteConstraint([[[-1, 0, 0, 0, -1, -1, -1]]], [True])  # a, b and c alone
ENCODER: dict[str, Any] = {"networks": {"encoder": {"name": "recurrent", "options": {"width": 24}}}}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "autoregressive": ("recurrent", {}),
    "masked_diffusion": ("transformer", {}),
    "vae": ("recurrent", {"options": {"latent": 4}, **ENCODER}),
    "diffusion": ("mlp", {"autoencoder": "vae"}),
}


def small(family: str) -> Generator:
    """A model of words under a codec that lets small letters through."""
    domain = toys.Words()
    domain.codecs = {"letters": toys.Letters(language=SMALL)}
    network, more = FAMILIES[family]
    return toys.generator(domain, toys.recipe("words", network, family=family, **more))


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "autoregressive"])
def test_neighbours_obey_the_constraint(family: str) -> None:
    made = small(family)
    for strength in (0.3, 0.9, 1.0):
        varied = made.vary(["abc", "ab", "cab", "b"], strength=strength, n=8, seed=2).items
        assert all(word == word.lower() for word in varied) and len(set(varied)) > 4


def test_what_cannot_be_varied_is_named() -> None:
    with pytest.raises(HeadwaterError, match=r"^item 1: token 4 at position 1, stream 0 is not allowed there$"):
        small("masked_diffusion").vary(["abc", "aAc"], n=3)
    assert all(word == word.lower() for word in small("vae").vary(["abc", "aAc"], strength=0.5))  # it varies the latent alone


@pytest.mark.parametrize("family", ["autoregressive", "masked_diffusion"])
def test_a_beginning_that_the_constraint_forbids_is_one_line(family: str) -> None:
    made = small(family)
    for start in ("A", "abA"):
        with pytest.raises(HeadwaterError, match=r"^--start: no item that the constraint accepts has the kept cells$"):
            made.sample(3, start=start)
    with pytest.raises(HeadwaterError, match=r"^mask: no item that the constraint accepts has the kept cells$"):
        made.infill(["Ab"], np.array([[[True]] + [[False]] * 5]))
    assert all(word.startswith("ab") and word == word.lower() for word in made.sample(5, start="ab"))


def test_a_beginning_ends_with_the_item_and_binds_only_its_own_row() -> None:
    made = small("autoregressive")
    mask = np.ones((2, 6, 1), dtype=bool)
    assert made.infill(["ab", "cab"], mask).items == ["ab", "cab"]
    mask[1, :] = False
    assert made.infill(["ab", "AB"], mask).items[0] == "ab"  # nothing of the second is kept


@pytest.mark.parametrize("family", ["autoregressive", "masked_diffusion"])
def test_every_verb_presses_as_hard_as_the_recipe_says(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is asked for; else there is nothing to press, at twice the work."""
    made = toys.generator(toys.Words(), toys.recipe("words", FAMILIES[family][0], family=family, guidance=2.5))
    seen: list[Steer] = []
    for verb in ("filled", "vary"):
        kind = type(made.model.family)
        plain = getattr(kind, verb)
        monkeypatch.setattr(kind, verb, lambda self, *told, plain=plain: (seen.append(told[-1]), plain(self, *told))[1])
    mask, wish = np.array([[[True]] + [[False]] * 5]), toys.WordWish(many=2)
    asks: list[tuple[dict[str, Any], float]] = [
        ({}, 1.0),
        ({"many": 2}, 2.5),
        ({"many": 2, "guidance": 1.5}, 1.5),
        ({"guidance": 3.0}, 3.0),
    ]
    for how, want in asks:
        seen.clear()
        made.infill(["abc"], mask, **how)
        if family == "masked_diffusion":
            made.vary(["abc"], strength=0.5, **how)
        assert {steer.guidance for steer in seen} == {want}
    seen.clear()
    made.infill(["abc"], mask, wishes=[wish])
    assert [steer.guidance for steer in seen] == [2.5]
    with pytest.raises(HeadwaterError, match=r"^--guidance: expected a number from 0 to 50; got -1"):
        made.infill(["abc"], mask, guidance=-1)


def test_rows_are_filled_and_scored_by_what_they_are() -> None:
    """Wherever they stand among others, where they are named."""
    made = small("masked_diffusion")
    words, ids = ["abcabc", "abc", "cabbac", "bacbac"], [7, 2**62 + 1, 9, 10]
    mask = np.zeros((4, 6, 1), dtype=bool)
    mask[:, 1] = True
    filled = made.infill(words, mask, seed=5, ids=ids)
    least, score = filled.extra["least_likely"], made.score(words, seed=5, ids=ids)
    assert all(word[1] == was[1] for word, was in zip(filled, words, strict=True))
    back = made.infill([*words[:1] * 36, *words[::-1]], np.repeat(mask[:1], 40, 0), seed=5, ids=[*range(36), *ids[::-1]])
    assert list(back)[36:] == list(filled)[::-1] and back.extra["least_likely"][36:] == least[::-1]
    assert made.score(words[::-1], seed=5, ids=ids[::-1]).value.tolist() == score.value.tolist()[::-1]
    assert made.score(words[::-1], seed=5).value.tolist() != score.value.tolist()[::-1]
    for verb in (lambda: made.infill(words, mask, ids=[1]), lambda: made.score(words, ids=[1])):
        with pytest.raises(HeadwaterError, match=r"^ids: expected 4, one for each item; got 1$"):
            verb()

"""Knobs: every field of a condition is typed, bounded and explained, and a wrong value is named by its flag."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import torch
import toys

from headwater import Array, Given, Grid, HeadwaterError, Knob, Tokens, Vector
from headwater.context import Conditioner, Conditions, fields_from_json, fields_to_json, given_shape
from headwater.knobs import asked, fields, fill
from headwater.noise import Noise


@dataclass(frozen=True)
class Wish:
    weight: Annotated[float | None, Knob("how heavy", 0, 10, "kg")] = None
    free: Annotated[float | None, Knob("without bounds")] = None
    rings: Annotated[int | None, Knob("how many rings", 1, 6)] = None
    sharp: Annotated[bool | None, Knob("sharpened")] = None
    colour: Annotated[Literal["red", "blue"] | None, Knob("which colour")] = None
    name_of_it: Annotated[str | None, Knob("free text")] = None
    track: Annotated[Array | None, Given("a track", size=2)] = None


BY_NAME = {field.name: field for field in fields(Wish)}


def test_kinds_flags_and_order() -> None:
    kinds = ["number", "number", "integer", "switch", "choice", "text", "given"]
    assert [f.kind for f in fields(Wish)] == kinds and list(BY_NAME) == [*Wish.__dataclass_fields__]
    assert BY_NAME["name_of_it"].flag == "--name-of-it" and BY_NAME["colour"].choices == ("red", "blue")
    assert BY_NAME["weight"].description == "how heavy"


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("weight", "2.5", 2.5),
        ("weight", 10, 10.0),
        ("free", -1e30, -1e30),
        ("rings", "3", 3),
        ("rings", 6.0, 6),
        ("sharp", "yes", True),
        ("sharp", False, False),
        ("sharp", "0", False),
        ("colour", "blue", "blue"),
        ("name_of_it", 12, "12"),
        ("weight", None, None),
    ],
)
def test_values_are_read(name: str, value: Any, result: Any) -> None:
    read = BY_NAME[name].check(value)
    assert read == result and type(read) is type(result)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weight", 10.5, r"--weight: expected a number from 0 to 10 \(kg\); got 10.5"),
        ("weight", -1, r"--weight: expected a number from 0 to 10 \(kg\); got -1"),
        ("weight", "heavy", r"--weight: expected a number from 0 to 10 \(kg\); got 'heavy'"),
        ("weight", math.nan, r"--weight: expected a number .*; got nan"),
        ("free", math.inf, r"--free: expected a number; got inf"),
        ("rings", 2.5, r"--rings: expected a whole number from 1 to 6; got 2.5"),
        ("rings", "inf", r"--rings: expected a whole number from 1 to 6; got 'inf'"),
        ("sharp", "maybe", r"--sharp: expected yes or no; got 'maybe'"),
        ("colour", "green", r"--colour: expected one of red, blue; got 'green'"),
    ],
)
def test_wrong_values_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(HeadwaterError, match=f"^{message}$"):
        BY_NAME[name].check(value)


def test_a_condition_from_loose_values() -> None:
    wish = fill(Wish, {"rings": "2", "weight": None, "sharp": "no"})
    assert wish == Wish(rings=2, sharp=False) and asked(wish) == {"rings": 2, "sharp": False}
    assert asked(Wish(track=torch.ones(3, 2))) == {}
    with pytest.raises(HeadwaterError, match=r"unknown knob 'ring'; this one knows: weight, free, rings"):
        fill(Wish, {"ring": 2})


@pytest.mark.parametrize(
    "hint",
    [
        float,
        float | None,
        Annotated[float | None, "no knob"],
        Annotated[dict[str, int], Knob("x")],
        Annotated[int | str | None, Knob("x")],
    ],
)
def test_a_field_that_is_no_knob_is_a_mistake_in_the_domain(hint: Any) -> None:
    wish = dataclass(type("Bad", (), {"__annotations__": {"x": hint}, "x": None, "__module__": __name__}))
    with pytest.raises(TypeError, match=r"^Bad\.x: "):
        fields(wish)


# --- from conditions to what a network reads ----------------------------------------------------------------------------


def conditioner(space: Any, wish: type, *left_out: str) -> Conditioner:
    """With random weights."""
    torch.manual_seed(0)
    return Conditioner([f for f in fields(wish) if f.name not in left_out], space, 8).eval()


def test_fields_survive_json() -> None:
    assert fields_from_json(fields_to_json(fields(Wish))) == fields(Wish)


@torch.no_grad()
def test_absent_fields_are_absent_and_present_ones_count() -> None:
    made = conditioner(Tokens(5, 3), Wish, "name_of_it")
    wishes = [
        Wish(),
        Wish(weight=0.0),
        Wish(rings=1),
        Wish(sharp=False),
        Wish(sharp=True),
        Wish(colour="red"),
        Wish(colour="blue"),
        Wish(track=torch.zeros(3, 2)),
        Wish(weight=0.0, colour="red"),
    ]
    conditions = Conditions.of(made.fields, wishes, made.space)
    context = made.with_null(conditions)
    assert context.pooled is not None and context.cells is not None and context.null is not None
    told = torch.cat([context.pooled, context.cells.flatten(1)], dim=1)
    assert len(told.unique(dim=0)) == len(wishes)  # zero, no and the first choice differ from nothing
    assert context.null.pooled is not None and torch.equal(context.null.pooled, context.pooled[:1].expand(9, -1))
    assert torch.equal(made(conditions.absent()).cells, context.null.cells)  # type: ignore[arg-type]
    # one row's context is its own
    alone = made(Conditions.of(made.fields, wishes[4:5], made.space))
    assert torch.allclose(alone.pooled, context.pooled[4:5], atol=1e-6)  # type: ignore[arg-type]
    assert conditions.values[0].isnan().all() and context[2:4].pooled.shape == (2, 8)  # type: ignore[union-attr]
    both = context.doubled()
    assert both.pooled is not None and both.pooled.shape == (18, 8) and both.cells is not None and both.cells.shape == (18, 3, 3)


def test_numbers_are_standardised_by_what_training_saw() -> None:
    made = conditioner(Tokens(5, 3), Wish, "name_of_it")
    wishes = [Wish(weight=float(w), rings=r) for w, r in ((2, 1), (4, None), (6, 3))]
    made.fit(Conditions.of(made.fields, wishes, made.space).values)
    column = [f.name for f in made.scalars].index("weight")
    rings = [f.name for f in made.scalars].index("rings")
    assert made.mean[column] == 4 and made.std[column] == pytest.approx((8 / 3) ** 0.5)
    assert made.mean[rings] == 2 and made.std[rings] == 1
    assert made.mean[[f.name for f in made.scalars].index("free")] == 0  # never seen


def test_dropping_leaves_every_combination() -> None:
    wishes = [Wish(weight=1.0, rings=2, sharp=True, track=torch.ones(3, 2))] * 2000
    known = [f for f in fields(Wish) if f.name in ("weight", "rings", "sharp", "track")]
    conditions = Conditions.of(known, wishes, Tokens(5, 3))
    left = conditions.dropped(Noise(0).rows(range(2000)))
    here = torch.cat([~left.values.isnan(), left.given["track"][1][:, None]], dim=1)
    shares = (here.long() @ torch.tensor([8, 4, 2, 1])).bincount(minlength=16) / 2000
    assert shares.min() > 0.02 and shares[0] > 0.1 and shares[15] > 0.1  # none, all, and each in between
    assert torch.equal(left.values[~left.values.isnan()], conditions.values[~left.values.isnan()])
    again = conditions.dropped(Noise(0).rows(range(2000)))
    assert torch.equal(again.values.isnan(), left.values.isnan())
    seldom = conditions.dropped(Noise(0).rows(range(2000)), given=0.05)
    assert torch.equal(seldom.values.isnan(), left.values.isnan())  # scalars as before
    assert 0.93 < seldom.given["track"][1].float().mean() < 0.97
    assert conditions.dropped(Noise(0).rows(range(2000)), given=0.0).given["track"][1].all()


@dataclass(frozen=True)
class Arrays:
    floats: Annotated[Array | None, Given("floats", size=3)] = None
    tokens: Annotated[Array | None, Given("tokens", size=4, vocab=6)] = None
    plan: Annotated[Array | None, Given("a plan", kind="sequence", size=5, vocab=6)] = None


@pytest.mark.parametrize(
    ("space", "shapes", "cells"),
    [
        (Grid(1, (4, 6)), [(3, 4, 6), (4, 6), (5,)], (2, 9, 4, 6)),
        (Tokens(5, 7), [(7, 3), (7,), (5,)], (2, 7, 9)),
        (Vector(2), [(3,), (), (5,)], (2, 9)),
    ],
)
def test_given_arrays_lie_on_the_cells_of_the_space(space: Any, shapes: list[Any], cells: tuple[int, ...]) -> None:
    made = conditioner(space, Arrays)
    assert [given_shape(f, space) for f in made.fields] == shapes
    full = Arrays(*(torch.ones(s) if i == 0 else torch.ones(s, dtype=torch.long) for i, s in enumerate(shapes)))
    context = made(Conditions.of(made.fields, [full, Arrays()], space))
    assert context.cells is not None and context.sequence is not None and context.mask is not None
    assert context.cells.shape == cells and made.cells_width == 9 and context.pooled is None
    assert context.cells[0].abs().sum() > 0 and context.cells[1].abs().sum() == 0
    assert context.sequence.shape == (2, 5, 8) and context.mask.tolist() == [[True] * 5, [False] * 5]
    with pytest.raises(HeadwaterError, match=r"^floats: expected an array of shape .*; got \(1, 1\)$"):
        Conditions.of(made.fields, [Arrays(floats=torch.ones(1, 1))], space)


def test_what_no_network_can_read_is_refused() -> None:
    bare = [f for f in fields(Wish) if f.name == "name_of_it"]
    with pytest.raises(ValueError, match="name_of_it: a network cannot read free text"):
        Conditioner(bare, Vector(2))
    given = [f for f in fields(Arrays) if f.name == "plan"]
    unnamed = [type(f)(f.name, f.kind, Given("no vocabulary", "sequence", 5)) for f in given]
    with pytest.raises(ValueError, match="plan: a given sequence holds tokens; say how many there are"):
        Conditioner(unnamed, Vector(2))


def test_a_knob_may_be_called_as_torch_calls_its_own(words: Any) -> None:
    made = toys.generator(words, toys.recipe("words", "recurrent"))  # it has a knob `type`, as nn.ModuleDict has a method
    assert made.sample(3, type="a").items != made.sample(3, type="b").items

"""Every recipe makes a model that can be trained on its data, told a plan and kept to it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.families.contract import Steer
from headwater.knobs import fields
from headwater.model import build
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater_marketing import asks
from headwater_marketing.asks import PLACEHOLDER, Wish, wish
from headwater_marketing.codecs import CODECS
from headwater_marketing.constraint import Wording, counting
from headwater_marketing.data import DATASETS

RECIPES = Recipe.folder(Path(asks.__file__).parent / "recipes")
NAMES = sorted(RECIPES)


def model_of(name):
    """A recipe's model, narrow, over a narrow autoencoder where it needs one."""
    data = RECIPES[name].model_dump()
    for network in (data["network"], *data["networks"].values()):
        network["options"] |= {"width": 16} | ({"layers": 1} if "layers" in network["options"] else {})
    recipe = Recipe.model_validate(data | {"condition_width": 8})
    below = model_of(recipe.autoencoder) if recipe.autoencoder else None
    return build(recipe, CODECS[recipe.codec].space, fields(Wish), {}, below)


def batch_of(recipe, n):
    items = [DATASETS[recipe.data].sample()[i] for i in range(n)]
    x = np.stack([CODECS[recipe.codec].encode(item) for item in items])
    longest = int((x != 0).sum(axis=1).max()) + 1
    wishes = [Wish(**{**vars(asks.describe(item)), "plan": asks.given("plan", item).plan}) for item in items]
    return items, torch.from_numpy(x[:, :longest]), wishes


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_builds_learns_and_is_told_the_plan(name):
    torch.manual_seed(0)
    model = model_of(name)
    recipe, keys = RECIPES[name], Noise(0).rows(range(8))
    _, x, wishes = batch_of(recipe, 8)
    context = model.conditioner(model.conditions(wishes))
    model.family.begin(x, context, Noise(0).rows(range(8)))
    rates = dict.fromkeys(model.family.players, 3e-3)
    for player in model.family.players:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimiser, losses = torch.optim.Adam(parameters, rates[player]), []
        for _ in range(6 if len(rates) == 1 else 1):
            optimiser.zero_grad()
            loss = model.family.loss(player, x, model.conditioner(model.conditions(wishes)), keys)
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert all(np.isfinite(losses))
        assert len(losses) == 1 or losses[-1] < losses[0] or recipe.family in ("flow", "masked_diffusion")
    told = context if context.below is None else context.below
    assert told.sequence is not None and bool(told.mask.any())


@pytest.mark.parametrize("name", [name for name in NAMES if RECIPES[name].family != "masked_diffusion"])
def test_an_untrained_model_keeps_to_the_facts(name):
    torch.manual_seed(0)
    model, recipe = model_of(name).eval(), RECIPES[name]
    codec = CODECS[recipe.codec]
    items = [item for item in DATASETS[recipe.data].sample() if item.ask.slots][:4]
    facts = [{slot.name: "Tea" for slot in item.ask.slots} for item in items]
    bound = [Wording(codec, item.ask, fact) for item, fact in zip(items, facts, strict=True)]
    context = model.conditioner(model.conditions([wish(item.ask) for item in items]))
    made = model.family.sample(Noise(0).rows(range(4)), context, Steer(constraints=bound))
    for array, item in zip(made.numpy(), items, strict=True):
        said = PLACEHOLDER.findall(codec.decode(array).text)
        assert all(slot.least <= said.count(slot.name) <= slot.most for slot in item.ask.slots)
        assert set(said) <= {slot.name for slot in item.ask.slots}


@pytest.mark.parametrize("name", [name for name in NAMES if RECIPES[name].family == "masked_diffusion"])
def test_masked_diffusion_counts_the_facts(name):
    torch.manual_seed(0)
    model, recipe = model_of(name).eval(), RECIPES[name]
    codec = CODECS[recipe.codec]
    items = sorted((item for item in DATASETS[recipe.data].sample() if item.ask.slots), key=lambda item: len(item.ask.slots))[:2]
    context = model.conditioner(model.conditions([wish(item.ask) for item in items]))
    bound = [counting(codec, item.ask) for item in items]
    made = model.family.sample(Noise(0).rows(range(2)), context, Steer(steps=3, constraints=bound))
    for array, item in zip(made.numpy(), items, strict=True):
        said = PLACEHOLDER.findall(codec.decode(array).text)
        assert all(slot.least <= said.count(slot.name) <= slot.most for slot in item.ask.slots)

"""Networks that are told a sequence: step by step as at once, and an encoder that reads it too."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import torch

from headwater.checkpoint import load, save
from headwater.context import Context
from headwater.families.contract import Steer
from headwater.knobs import Array, Given, Knob, fields
from headwater.model import build
from headwater.networks.recurrent import RecurrentReader
from headwater.networks.transformer import Bidirectional, Transformer
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater.spaces import Tokens


def told(rows: int, seed: int) -> Context:
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False], [True, True, True]])[:rows]
    return Context(sequence=torch.randn(rows, 3, 6, generator=torch.Generator().manual_seed(seed)), mask=mask)


@torch.no_grad()
def test_a_transformer_steps_as_it_reads_at_once():
    torch.manual_seed(0)
    network = Transformer(width=16, layers=2, heads=2, sequence=6, activation="squared_relu").eval()
    for block in network.blocks:
        torch.nn.init.normal_(block.out.weight, std=0.2)
        torch.nn.init.normal_(block.down.weight, std=0.2)
    x, contexts = torch.randn(4, 7, 16), [told(4, 1), told(4, 2)]
    found = []
    for context in contexts:  # a second generation is told something else
        state, out = network.start(4, x, 7), []
        for t in range(7):
            hidden, state = network.step(x[:, t], state, context)
            out.append(hidden)
        found.append(torch.stack(out, dim=1))
        assert torch.allclose(found[-1], network(x, context), atol=1e-5)
    assert not torch.allclose(*found, atol=1e-3)


@pytest.mark.parametrize("prefix", [False, True])
@torch.no_grad()
def test_a_network_of_both_ways_reads_what_is_given_and_inside(prefix: bool):
    torch.manual_seed(0)
    network = Bidirectional(width=16, layers=2, heads=2, sequence=6, prefix=prefix)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    x, inside = torch.randn(4, 7, 16), torch.arange(7) < torch.tensor([[7], [5], [5], [0]])
    one, other = told(4, 1), told(4, 2)
    out = network.eval()(x, inside, one)
    apart = (out - network(x, inside, other)).abs().amax(dim=2) > 1e-3
    assert apart[:2].any(dim=1).all() and (prefix is False or not apart[2].any())  # the third row is told nothing
    hidden = Context(sequence=torch.where(one.mask[..., None], one.sequence, 9.0), mask=one.mask)
    behind = torch.where(inside[..., None], x, x + 1)
    assert torch.allclose(out[:2], network(x, inside, hidden)[:2], atol=1e-5)
    assert torch.allclose(out[1, :5], network(behind, inside, one)[1, :5], atol=1e-5)
    assert out.isfinite().all() and network(x, inside, Context()).isfinite().all()
    short = one[:2]
    assert torch.allclose(network.train()(x[:2], inside[:2], short), out[:2], atol=1e-5)  # cut to the longest: the same


@torch.no_grad()
def test_a_reader_is_told_the_mean_of_what_is_there():
    torch.manual_seed(0)
    reader, x = RecurrentReader(Tokens(5, 4), features=3, width=8, sequence=6), torch.tensor([[1, 2, 0, 0]] * 4)[..., None]
    one, other = told(4, 1), told(4, 2)
    apart = (reader(x, one) - reader(x, other)).abs().amax(dim=1) > 1e-4
    assert apart.tolist() == [True, True, False, True]  # the third row is told nothing
    hidden = Context(sequence=torch.where(one.mask[..., None], one.sequence, 99.0), mask=one.mask)
    assert torch.allclose(reader(x, one), reader(x, hidden))


@dataclass(frozen=True)
class Wish:
    size: Annotated[float | None, Knob("a number", 0, 1)] = None
    plan: Annotated[Array | None, Given("tokens", kind="sequence", size=3, vocab=7)] = None


SPACE = Tokens(vocab=6, length=8)


def made():
    """A flow over the latent of an autoencoder that reads a plan, untrained, its decoder loud enough to obey."""
    torch.manual_seed(0)
    readers = {"encoder": {"name": "recurrent", "options": {"width": 16}}}
    told = {"codec": "x", "data": "x", "given": ["plan"], "condition_width": 8}
    network = {"name": "transformer", "options": {"width": 16, "layers": 1, "heads": 2}}
    below = Recipe.model_validate(
        {**told, "family": "vae", "labels": 0, "network": network, "networks": readers, "options": {"latent": 4}}
    )
    vae = build(below, SPACE, fields(Wish), {})
    for weight in vae.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    above = Recipe.model_validate(
        {**told, "family": "flow", "autoencoder": "vae", "network": {"name": "mlp", "options": {"width": 8}}}
    )
    return build(above, SPACE, fields(Wish), {}, vae).eval()


@torch.no_grad()
def test_a_plan_passes_through_a_model_over_a_latent_to_the_autoencoder(tmp_path):
    model, keys = made(), Noise(0).rows(range(40))
    plans = [torch.tensor(p) for p in ([1, 2, 3], [4, 5, 6])]
    wishes = [[Wish(size=0.5, plan=plan)] * 40 for plan in plans]
    items = [model.family.sample(keys, model.conditioner(model.conditions(w)), Steer(steps=2)) for w in wishes]
    assert not torch.equal(*items)
    context = model.conditioner(model.conditions(wishes[0]))
    assert context.sequence is None and context.below is not None and context.below.sequence is not None  # the prior reads no plan
    assert torch.equal(context[:3].below.sequence, context.below.sequence[:3])
    latents = [model.family.latents(items[0], keys, model.conditioner(model.conditions(w))) for w in wishes]
    assert not torch.allclose(*latents)
    save(model, tmp_path / "m", domain="x", name="m", recipe=model.recipe, data="x", data_hash="", command="")
    again, _ = load(tmp_path / "m", {})
    assert torch.equal(again.family.sample(keys, again.conditioner(again.conditions(wishes[0])), Steer(steps=2)), items[0])


@torch.no_grad()
def test_without_a_plan_the_autoencoder_is_asked_for_nothing():
    model, keys = made(), Noise(0).rows(range(8))
    context = model.conditioner(model.conditions([Wish(size=0.5)] * 8))
    blank = Context(pooled=context.pooled)
    assert torch.equal(*(model.family.sample(keys, c, Steer(steps=2)) for c in (context, blank)))
    assert {name.split(".")[0] for name in model.tensors()} >= {"conditioner", "autoencoder"}
    with pytest.raises(KeyError):
        model.tensors()["conditioner._below"]

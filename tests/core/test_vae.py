"""Variational autoencoders: their bounds against what is known exactly, their laws of observation, and what a latent does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor

from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.families.contract import Steer
from headwater.families.observation import Categorical, Gaussian, Law, Logistics, law, middle
from headwater.families.vae import VAE, CellDecoder
from headwater.model import build
from headwater.networks.mlp import MLPReader, MLPWriter
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater.spaces import Grid, Space, Tokens, Vector

NOTHING = Context()


def fit(family: VAE, draw: Callable[[Noise], Tensor], steps: int, rate: float) -> None:
    """Adam with a rate that falls to zero."""
    modules = torch.nn.ModuleDict(dict(family.parts()))
    optimiser = torch.optim.Adam(modules.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 1.5 * (1 - step / steps)))
    for step in range(steps):
        x = draw(Noise(1).fold(step))
        loss = family.loss("model", x, NOTHING, Noise(2).fold(step).rows(range(len(x))))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    modules.eval()


def random(space: Space, network: dict[str, Any], latent: int = 2, **more: Any) -> Any:
    """Untrained, with weights large enough that the latent matters."""
    fields: dict[str, Any] = {"codec": "", "family": "vae", "data": "", "network": network, "options": {"latent": latent, **more}}
    family = build(Recipe.model_validate(fields), space, (), {}).family
    assert isinstance(family, VAE)
    with torch.no_grad():
        for i, part in enumerate(family.parts().values()):
            for j, parameter in enumerate(part.parameters()):
                scale = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
                parameter.copy_(scale * Noise(9).fold(i, j).normal(*parameter.shape)[0])
            part.eval()
    return family


# --- linear maps: everything is known -----------------------------------------------------------------------------------


def linear(features: int, latent: int) -> Any:
    space = Vector(features)
    reader = MLPReader(space, features=2 * latent, layers=0)
    writer = MLPWriter(space, latent=latent, channels=features, layers=0)
    return VAE(space, reader, CellDecoder(space, writer, Gaussian(space, "one")), latent)


TURN = torch.linalg.qr(Noise(6).normal(3, 3)[0].double())[0]
COVARIANCE = TURN @ torch.diag(torch.tensor([2.0, 0.4, 0.2], dtype=torch.float64)) @ TURN.T


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Tensor]:
    """A linear VAE of one latent and the 512 rows of three features it was trained on."""
    torch.manual_seed(0)
    x = (
        Noise(3).rows(range(512)).normal(3).double() @ torch.linalg.cholesky(COVARIANCE).T + torch.tensor([1.0, -2.0, 0.5])
    ).float()
    family = linear(3, 1)
    fit(family, lambda noise: x, steps=200, rate=0.05)
    return family, x


def test_a_linear_vae_reaches_the_likelihood_of_probabilistic_pca(trained: tuple[Any, Tensor]) -> None:
    """Lucas et al., 2019, "Don't blame the ELBO!", https://arxiv.org/abs/1911.02469: its optimum is the maximum likelihood of
    probabilistic PCA, where the bound is tight. Tipping and Bishop, 1999, give it: C = S on the leading axes, the mean of the other
    eigenvalues on the rest."""
    family, x = trained
    values = torch.linalg.eigvalsh(torch.cov(x.double().T, correction=0)).flip(0)
    kept, noise = values[:1], values[1:].mean()
    best = -0.5 * (3 * math.log(2 * math.pi) + float(kept.log().sum()) + 2 * float(noise.log()) + 3)
    keys = Noise(4).rows(range(512))
    assert abs(float(family.score(x, keys, NOTHING, draws=2).value.mean()) - best) < 0.02
    single = torch.cat([family.score(x, keys.fold(i), NOTHING, draws=2).value for i in range(4)])
    assert abs(float(single.mean()) - best) < 0.02
    with torch.no_grad():
        elbo = -3 * float(torch.stack([family.loss("model", x, NOTHING, keys.fold(i)) for i in range(16)]).mean())
    assert abs(elbo - best) < 0.02
    spread = family.decoder.law.read(torch.zeros(1, 3, 1))[1].exp()
    assert float(spread.detach()) ** 2 == pytest.approx(float(noise), rel=0.1)


def test_the_importance_weighted_bound_rises_to_the_exact_marginal() -> None:
    """With an encoder that is wrong, so that the bound is loose; the decoder alone decides p(x) = N(b, WWᵀ + σ²I)."""
    torch.manual_seed(1)
    family, x = linear(3, 2), Noise(3).rows(range(300)).normal(3)
    decoder = family.decoder.module["network"].body.out
    with torch.no_grad():
        decoder.weight.copy_(Noise(5).normal(3, 2)[0])
        family.encoder.body.out.weight.mul_(0.5)
        weight = decoder.weight.double()
    marginal = torch.distributions.MultivariateNormal(decoder.bias.detach().double(), weight @ weight.T + torch.eye(3).double())
    exact = marginal.log_prob(x.double())
    gaps = []
    for draws in (2, 16, 128, 1024):
        found = family.score(x, Noise(4).rows(range(300)), NOTHING, draws=draws)
        assert found.kind == "bound" and found.stderr is not None
        gaps.append(float((exact - found.value).mean()))
    assert gaps[0] > 0.2 and all(a > b for a, b in zip(gaps, gaps[1:], strict=False)), gaps
    assert abs(gaps[-1]) < 0.01
    assert float(((exact - found.value).abs() < 4 * found.stderr).double().mean()) > 0.95


def test_varying_keeps_the_law_and_forgets_the_item(trained: tuple[Any, Tensor]) -> None:
    family, _ = trained
    keys = Noise(7).rows(range(6000))
    x = family.sample(keys, NOTHING, Steer())
    want, along = torch.cov(x.T), (family.decoder.module["network"].body.out.weight[:, 0].detach())
    assert torch.equal(family.vary(x, 0.0, keys, NOTHING, Steer()), x)
    correlation = []
    for strength in (0.2, 0.6, 1.0):
        y = family.vary(x, strength, Noise(8).rows(range(6000)), NOTHING, Steer())
        assert torch.allclose(torch.cov(y.T), want, atol=0.12)
        correlation.append(float(torch.corrcoef(torch.stack([x @ along, y @ along]))[0, 1]))
    assert correlation[0] > 0.75 > correlation[1] > 0.3 and abs(correlation[2]) < 0.05
    again = family.vary(x.flip(0), 1.0, Noise(8).rows(range(6000)), NOTHING, Steer())
    assert torch.allclose(again, y, atol=1e-5)  # at 1 nothing of the item is left


def test_cold_draws_are_the_mean(trained: tuple[Any, Tensor]) -> None:
    family, x = trained
    z = family.encode(x, NOTHING)
    cold = family.decode(z, Noise(0).rows(range(512)), NOTHING, Steer(temperature=1e-6))
    assert torch.allclose(cold, family.decoder.module["network"](z, NOTHING), atol=1e-4)
    assert family.latent == Vector(1) and z.shape == (512, 1)
    warm = family.decode(z, Noise(0).rows(range(512)), NOTHING, Steer())
    assert float((warm - cold).std()) == pytest.approx(math.sqrt(0.3), rel=0.1)


# --- laws of observation ------------------------------------------------------------------------------------------------

LAWS: dict[str, Law] = {"categorical": Categorical(7), "logistics": Logistics(9, 3), "many levels": Logistics(256, 2)}


@pytest.mark.parametrize("name", LAWS)
def test_the_probabilities_of_all_levels_sum_to_one(name: str) -> None:
    of, levels = LAWS[name], LAWS[name].levels
    assert levels is not None
    numbers = 2 * Noise(1).rows(range(50)).normal(1, of.numbers)[:, None].expand(50, levels, 1, of.numbers)
    x = middle(torch.arange(levels), levels)[None, :, None].expand(50, levels, 1)
    log = of.log_prob(numbers, x)
    assert torch.allclose(log.double().exp().sum(1), torch.ones(50, 1).double(), atol=1e-4)
    # a value anywhere inside its bin is the same level
    moved = x + (0.98 * Noise(2).rows(range(50)).uniform(levels, 1) - 0.49) * 2 / levels
    assert torch.equal(of.log_prob(numbers, moved), log)


@pytest.mark.parametrize("name", ["categorical", "logistics"])
def test_levels_are_drawn_as_often_as_their_probability_says(name: str) -> None:
    of, n = LAWS[name], 40_000
    levels = of.levels or 0
    numbers = 1.5 * Noise(3).normal(of.numbers)[0]
    x = middle(torch.arange(levels), levels)
    probability = of.log_prob(numbers.expand(levels, -1), x).exp()
    drawn = of.draw(numbers.expand(n, 1, -1), Noise(4).rows(range(n)), Steer())
    assert bool((drawn == x).any(1).all()), "values lie in the middle of their bins"
    share = (drawn == x).double().mean(0)
    assert float(((share - probability).abs() / (probability * (1 - probability) / n).sqrt()).max()) < 4.5
    cold = of.draw(numbers.expand(500, 1, -1), Noise(4).rows(range(500)), Steer(temperature=1e-4))
    assert len(cold.unique()) == 1


def test_tails_keep_their_digits() -> None:
    """A level twenty scales from every mean has a finite log-probability with a finite slope."""
    of = Logistics(256, 1)
    numbers = torch.tensor([[0.0, -1.0, -4.0]], requires_grad=True)
    log = of.log_prob(numbers, torch.tensor([0.5]))
    log.sum().backward()
    assert -200 < float(log.detach()) < -50 and numbers.grad is not None and bool(torch.isfinite(numbers.grad).all())


def test_a_space_chooses_its_law() -> None:
    chosen = {levels: type(law(Grid(1, (2, 2), levels))) for levels in (None, 17, 256)}
    assert chosen == {None: Gaussian, 17: Categorical, 256: Logistics}
    assert {len(list(law(Vector(3), sigma).parameters())) for sigma in ("one", "each")} == {1}
    space = Grid(2, (3, 4))
    assert [law(space, s).numbers for s in ("one", "each", "written")] == [1, 1, 2]
    x, numbers = Noise(0).rows(range(4)).normal(2, 3, 4), Noise(1).rows(range(4)).normal(2, 3, 4, 2)
    written: Any = law(space, "written")
    mean, log_sigma = written.read(numbers)
    normal: Any = torch.distributions.Normal(mean, log_sigma.exp())
    assert torch.allclose(written.log_prob(numbers, x), normal.log_prob(x))


# --- the bound over other spaces ----------------------------------------------------------------------------------------


def every(space: Space) -> Tensor:
    """All items of a tiny space."""
    if isinstance(space, Grid):
        assert space.levels is not None
        level = torch.cartesian_prod(*[torch.arange(space.levels)] * math.prod(space.shape))
        return middle(level, space.levels).reshape(-1, *space.shape)
    assert isinstance(space, Tokens)
    items = torch.cartesian_prod(*[torch.arange(space.vocabs[0])] * space.length)[..., None]
    alive = (items != 0).any(2).long()
    return items[(alive == alive.cumprod(1)).all(1)]


TINY: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "few levels": (Grid(1, (2, 1), levels=3), {"name": "convolutional", "options": {"widths": (6, 6)}}, {}),
    "logistics": (Grid(1, (1, 2), levels=70), {"name": "convolutional", "options": {"widths": (6,)}}, {"components": 2}),
    "tokens": (Tokens(3, 4), {"name": "recurrent", "options": {"width": 12, "layers": 1}}, {}),
}


@pytest.mark.parametrize("case", ["few levels", "tokens"])
def test_scores_are_of_the_law_that_is_drawn_from(case: str) -> None:
    """The weights' mean estimates p(x) without bias: over all items it sums to one, and samples come as often as it says."""
    space, network, options = TINY[case]
    family, items, n = random(space, network, **options), every(space), 20_000
    with torch.no_grad():
        for parameter in family.encoder.parameters():
            parameter.mul_(0.3)  # a proposal near the prior: no weight is rare and large
    scored = family.score(items, Noise(1).rows(range(len(items))), NOTHING, draws=600)
    probability = scored.value.exp()
    assert scored.stderr is not None
    off = float((probability * scored.stderr).square().sum().sqrt())
    assert abs(float(probability.sum()) - 1) < 4 * off < 0.2
    drawn = family.sample(Noise(2).rows(range(n)), NOTHING, Steer())
    share = (drawn.flatten(1)[:, None] == items.flatten(1)[None]).all(2).double().mean(0)
    assert float(share.sum()) == pytest.approx(1.0)
    error = (probability * (1 - probability) / n + (probability * scored.stderr).square()).sqrt()
    assert float(((share - probability).abs() / error).max()) < 4.5
    assert float(probability.std()) > 0.01


def test_pictures_of_many_levels_score_a_probability() -> None:
    space, network, options = TINY["logistics"]
    family, items = random(space, network, **options), every(space)
    scored = family.score(items, Noise(1).rows(range(len(items))), NOTHING, draws=16)
    assert float(scored.value.exp().sum()) == pytest.approx(1.0, abs=0.1)
    keys = Noise(1).rows(range(len(items)))
    moved = items + (0.98 * keys.fold("in the bin").uniform(*space.shape) - 0.49) * 2 / 70
    assert torch.equal(family.score(moved, keys, NOTHING, draws=2).value, family.score(items, keys, NOTHING, draws=2).value)


@torch.no_grad()
def test_what_stands_behind_an_item_changes_nothing() -> None:
    space = Tokens((4, 3), 40, streams=2)
    family = random(space, {"name": "recurrent", "options": {"width": 12}})
    x = torch.zeros(5, 40, 2, dtype=torch.long)
    x[:, :6] = 1 + Noise(0).rows(range(5)).below(2, 6, 2)
    x[0] = 0  # an empty item
    x[1, 2] = 0  # ends here: what follows is not read
    other = x.clone()
    other[1, 4] = 2
    assert torch.allclose(family.encode(x, NOTHING), family.encode(x[:, :8], NOTHING), atol=1e-6)
    assert torch.equal(family.encode(x, NOTHING), family.encode(other, NOTHING))
    assert not torch.equal(family.encode(x[2:3], NOTHING), family.encode(x[3:4], NOTHING))
    assert family.buckets(x).tolist() == [16] * 5
    keys = Noise(1).rows(range(5))
    long = torch.cat([x, torch.full((1, 40, 2), 1)])  # a long neighbour widens the tile
    assert torch.allclose(family.score(long, Noise(1).rows(range(6)), NOTHING).value[:5], family.score(x, keys, NOTHING).value)


# --- the latent at work -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sequences() -> tuple[Any, Tensor]:
    """All 81 strings of four tokens out of three, which a sequence autoencoder has learnt to hold in its latent."""
    torch.manual_seed(0)
    network = {"name": "recurrent", "options": {"width": 48, "layers": 1}}
    fields: dict[str, Any] = {"codec": "", "family": "vae", "data": "", "network": network, "options": {"latent": 6, "beta": 0.3}}
    fields["networks"] = {"encoder": network}
    family = build(Recipe.model_validate(fields), Tokens(4, 4), (), {}).family
    assert isinstance(family, VAE)
    items = 1 + torch.cartesian_prod(*[torch.arange(3)] * 4)[..., None]
    fit(family, lambda noise: items, steps=300, rate=0.02)
    return family, items


def test_a_sequence_autoencoder_rebuilds_its_items(sequences: tuple[Any, Tensor]) -> None:
    family, items = sequences
    z = family.encode(items, NOTHING)
    built = family.decode(z, Noise(0).rows(range(81)), NOTHING, Steer(temperature=1e-6))
    assert float((built == items).all(dim=(1, 2)).double().mean()) > 0.9
    assert len(family.sample(Noise(1).rows(range(200)), NOTHING, Steer()).unique(dim=0)) > 40
    near = family.vary(items, 0.1, Noise(2).rows(range(81)), NOTHING, Steer(temperature=1e-6))
    far = family.vary(items, 0.9, Noise(2).rows(range(81)), NOTHING, Steer(temperature=1e-6))
    assert float((near == items).double().mean()) > 0.8 > 0.6 > float((far == items).double().mean())


def test_the_monitor_sees_a_collapsed_posterior(sequences: tuple[Any, Tensor]) -> None:
    family, items = sequences
    keys = Noise(0).rows(range(81))
    seen = family.monitor(items, NOTHING, keys)
    assert seen["active units"] >= 3 and seen["kl"] > 2 and seen["nats with another"] > seen["nats with its latent"] + 2
    collapsed = random(Tokens(4, 4), {"name": "recurrent", "options": {"width": 12}}, latent=6)
    with torch.no_grad():
        collapsed.encoder.out.weight.zero_()
        collapsed.encoder.out.bias.zero_()
        for layer in (collapsed.decoder.module["pooled"], collapsed.decoder.module["network"].first):
            layer.weight.zero_()
    seen = collapsed.monitor(items, NOTHING, keys)
    assert seen["active units"] == 0 and seen["kl"] == 0 and seen["nats with another"] == seen["nats with its latent"]


def test_free_bits_cost_nothing_and_beta_weighs_the_rest() -> None:
    network = {"name": "mlp", "options": {"width": 8, "layers": 1}}
    x, keys = Noise(0).rows(range(32)).normal(2), Noise(1).rows(range(32))
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "no rate": {"beta": 0.0},
        "double": {"beta": 2.0},
        "free": {"free_bits": 50.0},
    }
    loss = {
        key: 2 * float(random(Vector(2), network, **options).loss("model", x, NOTHING, keys).detach())
        for key, options in changes.items()
    }
    rate = loss["plain"] - loss["no rate"]
    assert rate == pytest.approx(random(Vector(2), network).monitor(x, NOTHING, keys)["kl"], rel=1e-4)
    assert loss["double"] == pytest.approx(loss["plain"] + rate, rel=1e-4)
    assert loss["free"] == pytest.approx(loss["no rate"] + 2 * 50.0, rel=1e-4)
    # where a dimension is below its free nats, only reconstruction moves it
    free = random(Vector(2), network, free_bits=50.0)
    without = random(Vector(2), network, beta=0.0)
    for family in (free, without):
        family.loss("model", x, NOTHING, keys).backward()
    for a, b in zip(free.encoder.parameters(), without.encoder.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_several_samples_tighten_the_bound_that_is_trained() -> None:
    network = {"name": "mlp", "options": {"width": 8, "layers": 1}}
    x, keys = Noise(0).rows(range(64)).normal(2), Noise(1).rows(range(64))
    with torch.no_grad():
        loss = [float(random(Vector(2), network, samples=k).loss("model", x, NOTHING, keys)) for k in (1, 2, 8, 64)]
    assert all(a > b for a, b in zip(loss, loss[1:], strict=False)), loss


def test_guidance_of_zero_asks_for_nothing(points: Any) -> None:
    made = toys.generator(points, toys.recipe("points", "mlp", family="vae", options={"latent": 4}))
    plain = np.stack(made.sample(8, seed=1).items)
    assert np.allclose(np.stack(made.sample(8, seed=1, right=1.0, guidance=0.0).items), plain, atol=1e-5)
    asked = {g: np.stack(made.sample(8, seed=1, right=1.0, guidance=g).items) for g in (1.0, 2.0)}
    assert np.allclose(asked[2.0] - asked[1.0], asked[1.0] - plain, atol=1e-4) and not np.allclose(asked[1.0], plain)


@pytest.mark.parametrize(
    ("domain", "network", "options", "message"),
    [
        ("points", "mlp", {"latent": 0}, "latent: expected a whole number of at least 1; got 0"),
        ("points", "mlp", {"sigma": "two"}, "unknown sigma 'two'; known: one, each, written"),
        ("points", "mlp", {"beta": -1.0}, "cannot be negative"),
        ("points", "mlp", {"samples": 4, "free_bits": 0.1}, "knows neither beta nor free_bits"),
        ("points", "mlp", {"word_dropout": 0.5}, "word_dropout"),
        ("words", "recurrent", {"sigma": "one"}, "sigma: tokens have no such law"),
        ("words", "mlp", {}, "unknown network 'mlp'"),
        ("spots", "mlp", {}, "the network 'mlp' lives on Vector"),
    ],
)
def test_options_that_do_not_fit_are_one_clear_error(domain: str, network: str, options: dict[str, Any], message: str) -> None:
    owner = toys.DOMAINS[domain]()
    with pytest.raises(HeadwaterError, match=message) as caught:
        toys.model(owner, toys.recipe(domain, network, family="vae", options=options))
    assert str(caught.value).startswith("recipe for vae: ") and "\n" not in str(caught.value)

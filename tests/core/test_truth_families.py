"""Families and samplers against distributions known exactly. ``benchmarks/truth.py`` is the long version, with figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import toys
from torch import Tensor

from headwater.context import Context
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Family, Kept, Steer
from headwater.families.diffusion import SOLVERS, Diffusion, Schedule, karras, solve
from headwater.networks.mlp import MLP
from headwater.networks.recurrent import Recurrent
from headwater.networks.transformer import Transformer
from headwater.noise import Noise
from headwater.spaces import Grid, Vector
from headwater.testing.truth import GaussianMixture, HiddenMarkov, ising

NOTHING = Context()


def fit(family: Family, draw: Callable[[Noise], Tensor], steps: int, rate: float) -> None:
    """Adam with a rate that falls to zero; every batch is fresh from the truth."""
    modules = torch.nn.ModuleDict(dict(family.parts()))
    optimiser = torch.optim.Adam(modules.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, step / 20, 2 * (1 - step / steps)))
    for step in range(steps):
        x = draw(Noise(1).fold("batch", step))
        loss = family.loss("model", x, NOTHING, Noise(2).fold(step).rows(range(len(x))))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    modules.eval()


# --- autoregressive -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("truth", "network", "rate", "steps"),
    [(HiddenMarkov(length=5), lambda: Recurrent(48, 1), 1e-2, 250), (ising(side=3), lambda: Transformer(48, 2, 4), 4e-3, 350)],
    ids=["hidden Markov", "Ising 3x3"],
)
def test_an_autoregressive_model_learns_what_there_is_to_know(truth: Any, network: Any, rate: float, steps: int) -> None:
    torch.manual_seed(0)
    within, family = 0.05, Autoregressive(truth.space, network())
    fit(family, lambda noise: truth.sample(noise, 128), steps=steps, rate=rate)
    x = truth.sample(Noise(9), 10_000)
    with torch.no_grad():
        model = family.log_prob(x, NOTHING).double()
    gap = truth.log_prob(x) - model
    assert 0 < float(gap.mean()) < within
    assert abs(float(-model.mean()) - truth.entropy()) < within + 5 * float(model.std()) / 100
    # and its own draws are likely under the truth: the divergence the other way
    with torch.no_grad():
        y = family.sample(Noise(8).rows(range(10_000)), NOTHING, Steer())
        full = (y != 0).all(dim=1)[:, 0]
        reverse = family.log_prob(y, NOTHING).double()[full] - truth.log_prob(y[full])
    assert float(full.double().mean()) > 0.99 and abs(float(reverse.mean())) < 1.5 * within


# --- diffusion: the exact denoiser in place of a network ----------------------------------------------------------------

MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-0.5, 0.2], [0.4, -0.1]]),
    torch.tensor([[[0.04, 0.01], [0.01, 0.02]], [[0.02, -0.01], [-0.01, 0.05]]]),
)


def exact(truth: GaussianMixture, **options: Any) -> Diffusion:
    return Diffusion(Vector(truth.means.shape[1]), toys.Exact(truth.denoiser), Schedule(), **options)


@pytest.mark.parametrize(("solver", "order", "at_32"), [("euler", 1, 0.088), ("heun", 2, 0.016), ("dpm2m", 2, 0.017)])
def test_solvers_have_their_order(solver: str, order: int, at_32: float) -> None:
    """One Gaussian of standard deviation .5: the flow has a closed form, and the relative errors are those of FIGURES."""

    def error(steps: int) -> float:
        x = torch.full((1, 1), 80.0, dtype=torch.float64)
        out = solve(lambda x, sigma: x * 0.25 / (0.25 + sigma**2), x, SOLVERS[solver](karras(steps, 0.002, 80.0)))
        return abs(float(out) / (80 * 0.5 / math.sqrt(0.25 + 80**2)) - 1)

    errors = [error(n) for n in (32, 64, 128)]
    assert errors[0] == pytest.approx(at_32, abs=0.0007)
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


def test_levels_are_those_of_the_paper() -> None:
    sigmas = karras(18, 0.002, 80.0)
    assert len(sigmas) == 19 and sigmas[0] == 80 and sigmas[-1] == 0 and sigmas[-2] == pytest.approx(0.002)
    middle = (80 ** (1 / 7) + 8 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert sigmas[8] == pytest.approx(middle) and sigmas == sorted(sigmas, reverse=True)
    assert karras(1, 0.002, 80.0) == [80, 0]


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_have_the_moments_of_the_truth(solver: str) -> None:
    steps = {"euler": 200, "heun": 40, "dpm2m": 40}[solver]
    x = exact(MIXTURE, solver=solver, steps=steps).sample(Noise(1).rows(range(8000)), NOTHING, Steer()).double()
    assert torch.allclose(x.mean(0), MIXTURE.mean(), atol=0.025)
    assert torch.allclose(torch.cov(x.T), MIXTURE.covariance(), atol=0.012)
    left = float((MIXTURE._joint(x, torch.zeros(len(x)).double())[0].argmax(1) == 0).double().mean())
    assert left == pytest.approx(0.3, abs=0.025)


def test_temperature_narrows_a_diffusion() -> None:
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 2), 0.25 * torch.eye(2)[None])
    x = exact(one, steps=60).sample(Noise(1).rows(range(4000)), NOTHING, Steer(temperature=0.5))
    assert float(x.std()) == pytest.approx(0.25, rel=0.05)


def test_the_ode_gives_the_density() -> None:
    family, x = exact(MIXTURE), MIXTURE.sample(Noise(2), 40).float()
    truth = MIXTURE.log_prob(x)
    ode = family.log_prob_ode(x, Noise(0).rows(range(40)), NOTHING)
    assert ode.kind == "estimate" and float((ode.value - truth).abs().max()) < 0.01
    few, keys = x[:10], [Noise(k).rows(range(10)) for k in range(9)]
    exactly = family.log_prob_ode(few, keys[0], NOTHING, steps=8).value
    probed = torch.stack([family.log_prob_ode(few, key, NOTHING, steps=8, exact=False).value for key in keys])
    assert bool(((probed.mean(0) - exactly).abs() < 4 * probed.std(0) / 3 + 1e-3).all())  # Hutchinson's, right on average
    assert float(probed.std(0).min()) > 0.01


def even(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x₀ | x] of cells that lie evenly in [-1, 1]: two grey levels, equally likely, dequantised."""
    wide = sigma.double().reshape(-1, *[1] * (x.ndim - 1))
    a, b = (-1 - x.double()) / wide, (1 - x.double()) / wide
    mass = (torch.special.ndtr(b) - torch.special.ndtr(a)).clamp(min=1e-12)
    slope = ((-a.square() / 2).exp() - (-b.square() / 2).exp()) / math.sqrt(2 * math.pi)
    return (x.double() + wide * slope / mass).clamp(-1, 1)


def test_the_bound_of_grey_levels_is_one() -> None:
    """Two levels, sixteen cells: log P = -16 log 2 for every item, be it ±1/2 or anything else in the bins."""
    family, n = Diffusion(Grid(1, (4, 4), levels=2), toys.Exact(even)), 100
    keys, truth = Noise(0).rows(range(n)), -16 * math.log(2)
    x = keys.fold("item").below(2, 1, 4, 4) - 0.5
    found = family.score(x, keys, NOTHING)
    assert found.kind == "bound" and found.stderr is not None
    error = float(found.value.std()) / 10
    assert truth - 2.5 < float(found.value.mean()) < truth + 3 * error
    assert float(found.stderr.mean()) > 9 * error  # too large if anything: levels are stratified
    ode = family.log_prob_ode(x[:10], keys[:10], NOTHING, steps=8)
    assert ode.kind == "estimate" and float(ode.value.mean()) == pytest.approx(truth, abs=1.0)
    moved = x + 0.4 * keys.normal(1, 4, 4).tanh()
    assert torch.equal(family.score(moved, keys, NOTHING).value, found.value)
    assert torch.equal(family.loss("model", moved, NOTHING, keys), family.loss("model", x, NOTHING, keys))


def test_the_bound_is_one_and_is_tight_where_the_denoiser_is_exact() -> None:
    family, x = exact(MIXTURE), MIXTURE.sample(Noise(2), 400).float()
    truth, found = MIXTURE.log_prob(x), family.score(x, Noise(0).rows(range(400)), NOTHING)
    assert found.kind == "bound" and found.stderr is not None
    gap = truth - found.value  # the bound holds in the mean: of each row there is an estimate
    error = float(gap.std()) / 20
    assert -3 * error < float(gap.mean()) < 0.05 + 3 * error
    assert float(found.value.sub(truth).abs().div(found.stderr).median()) < 1.5  # and says how sure it is
    worse = Diffusion(Vector(2), toys.Exact(lambda x, sigma: 0.8 * MIXTURE.denoiser(x, sigma)), Schedule())
    assert float((truth - worse.score(x, Noise(0).rows(range(400)), NOTHING).value).mean()) > 0.5


def test_grey_levels_turn_densities_into_probabilities() -> None:
    from headwater.spaces import Grid

    one = GaussianMixture(torch.ones(1), torch.zeros(1, 4), 0.1 * torch.eye(4)[None])
    x = one.sample(Noise(0), 50).float().reshape(50, 1, 2, 2)
    plain, grey = (Diffusion(Grid(1, (2, 2), levels), toys.Exact(one.denoiser)) for levels in (None, 256))
    keys = Noise(0).rows(range(50))
    change = grey.score(x, keys, NOTHING).value - plain.score(x, keys, NOTHING).value
    assert torch.allclose(change, torch.full((50,), 4 * math.log(2 / 256)).double(), atol=0.1)
    assert abs(float(change.mean()) - 4 * math.log(2 / 256)) < 0.01


def test_infilling_draws_from_the_posterior() -> None:
    """A correlated Gaussian with two of four cells kept; the conditional mean and covariance are known."""
    a = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0], [0.5, 0.4, 0.7, 0.0], [0.3, 0.5, 0.4, 0.6]]).double() * 0.4
    truth = GaussianMixture(torch.ones(1), torch.tensor([[0.1, -0.2, 0.0, 0.2]]), (a @ a.T)[None])
    y = torch.tensor([0.5, -0.3])
    want = truth.posterior(y.double(), torch.eye(4)[[0, 2]], 1e-4)
    n, mask = 3000, torch.tensor([True, False, True, False])
    values = torch.zeros(n, 4)
    values[:, [0, 2]] = y
    x = exact(truth, steps=32).infill(Kept(values, mask.expand(n, 4)), Noise(3).rows(range(n)), NOTHING, Steer()).double()
    assert torch.equal(x[:, [0, 2]], values[:, [0, 2]].double())
    std = want.covariance().diagonal().sqrt()
    off = ((x.mean(0) - want.mean()) / std)[[1, 3]]
    assert float(off.abs().max()) < 0.25  # in standard deviations; measured in benchmarks/truth.py
    assert torch.allclose(x.std(0)[[1, 3]] / std[[1, 3]], torch.ones(2).double(), atol=0.15)


def test_varying_stays_in_the_distribution() -> None:
    """Partial noise and the flow back leave the truth invariant, whatever the strength."""
    family, x = exact(MIXTURE, steps=40), MIXTURE.sample(Noise(4), 6000).float()
    for strength in (0.2, 0.5, 0.8):
        y = family.vary(x, strength, Noise(5).rows(range(6000)), NOTHING, Steer()).double()
        assert torch.allclose(y.mean(0), MIXTURE.mean(), atol=0.03)
        assert torch.allclose(torch.cov(y.T), MIXTURE.covariance(), atol=0.015)


# --- diffusion: a trained network ---------------------------------------------------------------------------------------


def test_a_trained_network_becomes_the_exact_denoiser() -> None:
    torch.manual_seed(0)
    family = Diffusion(Vector(2), MLP(Vector(2), width=64, layers=2), Schedule())
    fit(family, lambda noise: MIXTURE.sample(noise, 256).float(), steps=300, rate=5e-3)
    x0 = MIXTURE.sample(Noise(6), 3000)
    for sigma in (0.1, 0.3, 1.0):
        level = torch.full((3000,), sigma)
        x = (x0 + sigma * Noise(7).rows(range(3000)).normal(2).double()).float()
        want = MIXTURE.denoiser(x, level)
        with torch.no_grad():
            found = family.denoise(x, level, NOTHING)
        # as a share of what there is to explain: how far the denoiser moves from the best constant
        share = float((found - want).square().mean().sqrt() / (want - want.mean(0)).square().mean().sqrt())
        assert share < 0.2, (sigma, share)

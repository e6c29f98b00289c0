"""Restoration is right, not only plausible: against closed forms and quadrature with exact denoisers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.noise import Noise
from headwater.restore.denoiser import Denoiser
from headwater.restore.likelihoods import Gaussian, Rician
from headwater.restore.noise_level import gaussian_level, rician_level
from headwater.restore.operators import Blur, Identity, Mask, Operator
from headwater.restore.posterior import restore
from headwater.testing.truth import GaussianMixture

KERNEL = Noise(1).uniform(3, 5)[0].double()
OPERATORS: dict[str, Operator] = {
    "identity": Identity((2, 7, 9)),
    "mask": Mask((2, 7, 9), Noise(2).uniform(7, 9)[0] > 0.5),
    "circular": Blur((2, 7, 9), KERNEL),
    "reflect": Blur((2, 7, 9), KERNEL / KERNEL.sum(), "reflect"),
    "reflect_line": Blur((1, 11), KERNEL[0], "reflect"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_vjp_is_the_adjoint(name: str) -> None:
    a = OPERATORS[name]
    x, y = Noise(3).normal(3, *a.domain)[0].double(), Noise(4).normal(3, *a.range)[0].double()
    assert float((a.apply(x) * y).sum()) == pytest.approx(float((x * a.vjp(y)).sum()), abs=1e-12)


@pytest.mark.parametrize("name", OPERATORS)
def test_solve_solves_each_row_with_its_own_weight(name: str) -> None:
    a = OPERATORS[name]
    right, weight = Noise(5).normal(3, *a.domain)[0].double(), torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)
    v = a.solve(right, weight)
    back = a.vjp(a.apply(v)) + weight.reshape(-1, *[1] * len(a.domain)) * v
    torch.testing.assert_close(back, right, atol=1e-9, rtol=0)
    assert torch.equal(a.solve(right[1:2], weight[1:2])[0], v[1])


def test_blur_is_convolution_with_its_boundary() -> None:
    x, kernel = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]]), torch.tensor([1.0, 10.0, 100.0])
    assert Blur((1, 4), kernel).apply(x).flatten().tolist() == pytest.approx([812, 124, 248, 481])
    assert Blur((1, 4), kernel, "reflect").apply(x).flatten().tolist() == pytest.approx([112, 124, 248, 488])


def test_bad_operators_are_named() -> None:
    with pytest.raises(HeadwaterError, match="mask"):
        Mask((1, 4), torch.ones(3))
    with pytest.raises(HeadwaterError, match="kernel"):
        Blur((1, 4), torch.ones(2))
    with pytest.raises(HeadwaterError, match="sigma"):
        Gaussian(0.0)


def test_noise_models_are_normalised() -> None:
    y = torch.linspace(-12, 12, 20001, dtype=torch.float64)[None]
    for model, clean in ((Gaussian(0.7), 0.4), (Rician(0.7), 0.0), (Rician(0.7), 3.0), (Rician(0.7, zero=-1.0), 0.2)):
        support = y if isinstance(model, Gaussian) else y[y > model.zero + 1e-9][None]
        p = model.log_prob(support, torch.full_like(support, clean)).exp()
        assert float(p.sum() * 24 / 20000) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("model", [Gaussian(0.3), Rician(0.3)])
@pytest.mark.parametrize("weight", [0.1, 3.0, 30.0])
def test_prox_is_the_minimum(model: Gaussian | Rician, weight: float) -> None:
    y, v = 2 * Noise(6).uniform(1, 100)[0].double(), Noise(7).normal(1, 100)[0].double()
    x = torch.linspace(0.0 if isinstance(model, Rician) else -4.0, 4, 8001, dtype=torch.float64)[:, None]
    cost = -model.log_prob(y, x) + weight / 2 * (x - v) ** 2
    torch.testing.assert_close(model.prox(v, y, weight)[0], x[cost.argmin(0), 0], atol=6e-4, rtol=0)


def test_rician_knows_its_moments() -> None:
    model, clean = Rician(0.5, zero=-1.0), torch.linspace(-1, 9, 12, dtype=torch.float64).expand(20000, 12)
    n = 0.5 * Noise(8).normal(2, 20000, 12)[0].double()
    y = model.zero + ((clean - model.zero + n[0]) ** 2 + n[1] ** 2).sqrt()
    residual = model.residual(y, clean)
    assert float(residual.mean(0).abs().max()) < 0.03 and float((residual.std(0) - 1).abs().max()) < 0.03
    assert float((model.unbias(y.mean(0)[None]) - clean[0])[0, 1:].abs().max()) < 0.03
    assert float(model.deviance(y, clean).mean(0)[4:].sub(1).abs().max()) < 0.05
    assert model.deviance(y[:100], model.prox(y[:100], y[:100], 0.0)).max() < 1e-9


def test_rician_phase_is_von_mises() -> None:
    model, y = Rician(1.0), torch.full((1, 40000), 2.0)
    for nu in (0.0, 0.5, 3.0, 1e4):
        clean = torch.full_like(y, nu)
        drawn = model.in_phase(y, clean, Noise(9))
        assert float(drawn.mean()) == pytest.approx(float(model.in_phase(y, clean)[0, 0]), abs=0.02)
        assert float(drawn.abs().max()) <= 2.0


def mixture(dimension: int, components: int) -> GaussianMixture:
    key = Noise(10)
    half = key.fold("c").normal(components, dimension, dimension)[0] * 0.3 / dimension**0.5
    means = 0.5 * key.fold("m").normal(components, dimension)[0]
    return GaussianMixture(torch.ones(components), means, half @ half.mT + 1e-3 * torch.eye(dimension))


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_denoising_posterior_is_exact_within_five_percent(sigma: float) -> None:
    prior, op, rows = mixture(4, 3), Identity((1, 4)), 400
    y = prior.sample(Noise(11), 1).reshape(1, 1, 4) + sigma * Noise(12).normal(1, 4).double()
    exact = prior.posterior(y.flatten(), torch.eye(4), sigma)
    deviation = exact.covariance().diagonal().sqrt()
    out = restore(y.expand(rows, 1, 4), op, Gaussian(sigma), prior.denoiser, Noise(13).rows(range(rows)), draws=10)
    assert out.draws is not None and out.std is not None and out.draws.shape == (10, rows, 1, 4)
    torch.testing.assert_close(out.mean[0, 0], exact.mean())
    assert float(((out.draws.mean((0, 1, 2)) - exact.mean()) / deviation).abs().max()) < 0.05
    torch.testing.assert_close(out.std.square().mean((0, 1)).sqrt() / deviation, torch.ones(4).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(out.residual, (y - out.mean) / sigma)


@pytest.mark.parametrize("name", ["mask", "circular", "reflect"])
def test_general_posterior_is_near_the_closed_form(name: str) -> None:
    """Approximate by construction: measured errors are .04-.2 of a standard deviation in mean and 3-10% in spread."""
    d, rows, sigma = 8, 200, 0.1
    prior = mixture(d, 1)
    op: Operator = Mask((1, d), torch.arange(d) % 2 == 0)
    if name != "mask":
        op = Blur((1, d), torch.tensor([0.25, 0.5, 0.25]), name)  # type: ignore[arg-type]
    matrix = op.apply(torch.eye(d).double()[:, None])[:, 0].T
    y = op.apply(prior.sample(Noise(14), 1).reshape(1, 1, d)) + sigma * Noise(15).normal(1, d).double()
    seen = matrix.abs().sum(1) > 0
    exact = prior.posterior((y * seen).flatten()[seen], matrix[seen], sigma)
    deviation = exact.covariance().diagonal().sqrt()
    out = restore(op.vjp(y) if name == "mask" else y, op, Gaussian(sigma), prior.denoiser, Noise(16).rows([0]))
    assert out.std is None
    assert float(((out.mean.flatten() - exact.mean()) / deviation).square().mean().sqrt()) < 0.25
    if name == "reflect":  # the same sampler over conjugate gradients: the point shows it, draws would only cost time
        return
    many = restore(y.expand(rows, 1, d), op, Gaussian(sigma), prior.denoiser, Noise(17).rows(range(rows)), draws=1)
    assert many.std is None and many.draws is not None
    draws = many.draws[0, :, 0]
    assert float(((draws.mean(0) - exact.mean()) / deviation).square().mean().sqrt()) < 0.25
    assert float((draws.std(0) / deviation).mean()) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("y", [0.1, 0.35, 0.8])
def test_rician_posterior_by_quadrature(y: float) -> None:
    prior = GaussianMixture(torch.ones(2), torch.tensor([[0.15], [0.6]]), torch.tensor([[[0.05**2]], [[0.15**2]]]))
    model, rows = Rician(0.1), 3000
    x = torch.linspace(0, 2, 2001, dtype=torch.float64)
    weight = (prior.log_prob(x[:, None]) + model.log_prob(torch.full((1, 2001), y).double(), x[None])[0]).softmax(0)
    mean = float(weight @ x)
    std = float((weight @ (x - mean) ** 2).sqrt())
    data = torch.full((rows, 1, 1), y).double()
    out = restore(data, Identity((1, 1)), model, prior.denoiser, Noise(18).rows(range(rows)), draws=1)
    assert out.draws is not None
    assert float(out.draws.mean()) == pytest.approx(mean, abs=0.1 * std)
    assert float(out.draws.std()) == pytest.approx(std, rel=0.08)
    assert float(out.mean[0]) == pytest.approx(mean, abs=0.2 * std)


def shrink(x: Tensor, sigma: Tensor, context: Context | None) -> Tensor:
    """Exact for N(0, ¼) in every cell, and elementwise: bytes cannot depend on other rows."""
    s = sigma.reshape(-1, *[1] * (x.ndim - 1)) ** 2
    return x * 0.25 / (0.25 + s)


@pytest.mark.parametrize("op", [Identity((1, 6, 6)), Mask((1, 6, 6), torch.eye(6)), Blur((1, 6, 6), torch.ones(3, 3) / 9)])
@pytest.mark.parametrize("model", [Gaussian(torch.tensor([0.1, 0.2, 0.3])), Rician(0.2, zero=-1.0)])
def test_a_row_does_not_depend_on_its_neighbours(op: Operator, model: Gaussian | Rician) -> None:
    assert isinstance(shrink, Denoiser)
    y, noise = Noise(19).normal(3, 1, 6, 6)[0].abs(), Noise(20).rows(range(3))
    whole = restore(y, op, model, shrink, noise, draws=2, steps=4)
    one = Gaussian(model.sigma[1:2]) if isinstance(model, Gaussian) else model
    alone = restore(y[1:2], op, one, shrink, noise[1:2], draws=2, steps=4)
    for a, b in zip((whole.mean, whole.std, whole.residual), (alone.mean, alone.std, alone.residual), strict=True):
        assert a is not None and b is not None and a.dtype == torch.float32
        assert torch.equal(a[1:2], b)


def test_bad_calls_are_named() -> None:
    op, y = Identity((1, 4)), torch.zeros(2, 1, 4)
    with pytest.raises(HeadwaterError, match="y: expected rows of shape"):
        restore(y[:, :, :3], op, Gaussian(0.1), shrink, Noise(0).rows([0, 1]))
    with pytest.raises(HeadwaterError, match="noise: expected one key"):
        restore(y, op, Gaussian(0.1), shrink, Noise(0))
    with pytest.raises(HeadwaterError, match="draws"):
        restore(y, op, Gaussian(0.1), shrink, Noise(0).rows([0, 1]), draws=-1)


def phantom(size: int = 96) -> tuple[Tensor, Tensor]:
    """An ellipse with soft structure on a zero background, and where it is."""
    line = torch.linspace(-1, 1, size, dtype=torch.float64)
    v, u = torch.meshgrid(line, line, indexing="ij")
    inside = (u / 0.7) ** 2 + (v / 0.85) ** 2 < 1
    return inside * (0.5 + 0.2 * (6 * u).sin() * (5 * v).cos() + 0.1 * (20 * u * v).sin()), inside


@pytest.mark.parametrize("level", [0.03, 0.1, 0.2])
def test_noise_level_is_found_with_and_without_background(level: float) -> None:
    clean, inside = phantom()
    noise = level * Noise(21).normal(4, 2, *clean.shape)[0].double()
    gaussian = clean + noise[:, 0]
    rician = ((clean + noise[:, 0]) ** 2 + noise[:, 1] ** 2).sqrt()
    for found in (gaussian_level(gaussian), gaussian_level(gaussian * inside), rician_level(rician), rician_level(rician * inside)):
        assert float(found.mean() / level) == pytest.approx(1, abs=0.08)


def test_noise_level_of_a_constant_is_zero_and_of_a_scrap_refused() -> None:
    assert gaussian_level(torch.full((1, 32, 32), 3.0)).tolist() == [0.0]
    assert rician_level(torch.zeros(1, 32, 32)).tolist() == [0.0]
    with pytest.raises(HeadwaterError, match="at least 16 x 16"):
        gaussian_level(torch.zeros(1, 8, 8))


def test_std_scale_of_the_rician_floor() -> None:
    """Pure background: magnitudes average σ√(π/2), and unbias sends that to zero magnitude."""
    mean = torch.full((1, 3), 0.2 * math.sqrt(math.pi / 2)).double()
    assert float(Rician(0.2).unbias(mean).max()) < 1e-3

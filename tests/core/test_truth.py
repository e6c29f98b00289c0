"""The exact distributions against published numbers, Monte Carlo and each other."""

from __future__ import annotations

import math

import pytest
import torch

from headwater.noise import Noise
from headwater.testing.truth import (
    Enumerated,
    GaussianMixture,
    HiddenMarkov,
    Plane,
    checkerboard,
    eight_gaussians,
    grid_of_gaussians,
    ising,
    ising_entropy,
    two_moons,
)

PLANES = {
    "eight": (eight_gaussians(), 3.52473),
    "eight_tight": (eight_gaussians(radius=2.0, s=0.1), 0.31215),
    "grid": (grid_of_gaussians(), 0.06529),
    "checkerboard": (checkerboard(), 3.46574),
    "moons": (two_moons(), 1.00755),
}


@pytest.mark.parametrize("name", PLANES)
def test_planes_have_their_entropy(name: str) -> None:
    plane, entropy = PLANES[name]
    assert plane.entropy() == pytest.approx(entropy, abs=1e-5)


@pytest.mark.parametrize("name", PLANES)
def test_planes_draw_what_they_score(name: str) -> None:
    plane: Plane = PLANES[name][0]
    x = plane.sample(Noise(1), 4000)
    surprise = -plane.log_prob(x)
    assert x.shape == (4000, 2)
    assert float(surprise.mean()) == pytest.approx(PLANES[name][1], abs=4 * float(surprise.std()) / 4000**0.5 + 1e-5)
    assert torch.equal(plane.sample(Noise(1), 10), x[:10])


def test_checkerboard_is_the_board() -> None:
    x = torch.tensor([[-3.0, -3.0], [-1.0, -3.0], [1.0, 3.0], [3.0, 3.0], [5.0, 5.0]])
    assert checkerboard().log_prob(x).isfinite().tolist() == [True, False, False, True, False]


ENTROPIES = [(ising(4), 8.04806), (ising(4, periodic=True), 4.48272)]


@pytest.mark.parametrize(("model", "entropy"), ENTROPIES)
def test_ising_has_its_entropy(model: Enumerated, entropy: float) -> None:
    assert model.entropy() == pytest.approx(entropy, abs=1e-5)
    tokens = model.sample(Noise(2), 5000)
    surprise = -model.log_prob(tokens)
    assert tokens.shape == (5000, 16, 1) and tokens.min() == 1 and tokens.max() == 2
    assert float(surprise.mean()) == pytest.approx(entropy, abs=4 * float(surprise.std()) / 5000**0.5)


def test_transfer_matrix_agrees_with_enumeration_and_goes_further() -> None:
    assert ising_entropy(4) == pytest.approx(ising(4).entropy(), abs=1e-9)
    assert ising_entropy(8) == pytest.approx(28.07626, abs=1e-5)
    assert ising_entropy(3, beta=0.0) == pytest.approx(9 * math.log(2))


def test_hidden_markov_forward_equals_the_sum_over_paths() -> None:
    model = HiddenMarkov(length=4)
    string = torch.tensor([0, 2, 2, 3])
    total = 0.0
    for path in torch.cartesian_prod(*[torch.arange(3)] * 4):
        p = float(model.start[path[0]] * model.emit[path[0], string[0]])
        for t in range(1, 4):
            p *= float(model.move[path[t - 1], path[t]] * model.emit[path[t], string[t]])
        total += p
    assert float(model.log_prob(string[None, :, None] + 1)) == pytest.approx(math.log(total))


def test_hidden_markov_is_normalised_and_draws_what_it_scores() -> None:
    model = HiddenMarkov()
    assert model.log_z == pytest.approx(0, abs=1e-12)
    assert model.space.vocab == 5 and model.space.length == 8
    surprise = -model.log_prob(model.sample(Noise(3), 5000))
    assert float(surprise.mean()) == pytest.approx(model.entropy(), abs=4 * float(surprise.std()) / 5000**0.5)


def mixture() -> GaussianMixture:
    half = Noise(4).normal(3, 2, 2)[0]
    return GaussianMixture(torch.tensor([1.0, 2.0, 3.0]), Noise(5).normal(3, 2)[0], half @ half.mT + 0.05 * torch.eye(2))


def test_mixture_denoiser_is_the_posterior_mean() -> None:
    """By its own posterior for the identity, and by Tweedie: D(x, σ) = x + σ² ∇ log p(x; σ) of the noisy mixture."""
    m, sigma = mixture(), 0.7
    noisy = GaussianMixture(m.weights, m.means, m.covariances + sigma**2 * torch.eye(2))
    x = Noise(6).normal(5, 2)[0].double().requires_grad_()
    (score,) = torch.autograd.grad(noisy.log_prob(x).sum(), x)
    denoised = m.denoiser(x.detach()[:, None, :], torch.full((5,), sigma))
    torch.testing.assert_close(denoised[:, 0], x.detach() + sigma**2 * score)
    for row in range(5):
        torch.testing.assert_close(m.posterior(x.detach()[row], torch.eye(2), sigma).mean(), denoised[row, 0])


def test_mixture_posterior_by_quadrature() -> None:
    m, sigma, matrix = mixture(), 0.4, torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    line = torch.linspace(-8, 8, 400, dtype=torch.float64)
    x = torch.cartesian_prod(line, line)
    y = torch.tensor([0.3], dtype=torch.float64)
    weight = (m.log_prob(x) - 0.5 * ((y - x @ matrix.T)[:, 0] / sigma) ** 2).softmax(0)
    mean = weight @ x
    covariance = (x - mean).T @ ((x - mean) * weight[:, None])
    posterior = m.posterior(y, matrix, sigma)
    torch.testing.assert_close(posterior.mean(), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(posterior.covariance(), covariance, atol=1e-6, rtol=0)


def test_mixture_sample_has_its_moments() -> None:
    m = mixture()
    x = m.sample(Noise(7), 20000)
    torch.testing.assert_close(x.mean(0), m.mean(), atol=0.05, rtol=0)
    torch.testing.assert_close(x.T.cov(), m.covariance(), atol=0.1, rtol=0.05)

"""Windows: a patch denoiser lifted to any size changes neither what it computes nor, in samples, how much they vary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.noise import Noise
from headwater.restore.posterior import reverse_diffusion
from headwater.restore.windows import Windows
from headwater.testing.truth import GaussianMixture


def scaled(x: Tensor, sigma: Tensor, context: Context | None) -> Tensor:
    """An elementwise denoiser: x times the row's sigma."""
    return x * sigma.reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize(
    ("shape", "size", "overlap", "axes"),
    [
        ((2, 1, 37), (16,), 8, None),
        ((1, 2, 20, 33), (8, 16), (0, 5), None),
        ((2, 1, 9, 4, 21), (8, 8), 3, (0, 2)),
        ((1, 1, 9, 11, 13), (8, 8), 4, (1, 2)),
        ((1, 1, 3, 1), (8, 8), 4, None),
    ],
)
def test_elementwise_denoiser_is_exact(
    shape: tuple[int, ...], size: tuple[int, ...], overlap: int | tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    x, sigma = Noise(1).normal(*shape)[0], 0.5 + torch.arange(shape[0])
    lifted = Windows(scaled, size, overlap, axes, tile=5)(x, sigma)
    assert lifted.shape == x.shape
    torch.testing.assert_close(lifted, scaled(x, sigma, None))


def network() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 1, 3, padding=1)).eval()


def test_bytes_do_not_depend_on_the_batch_or_the_slab() -> None:
    net = network()

    def denoiser(x: Tensor, sigma: Tensor, context: Context | None) -> Tensor:
        assert x.shape == (4, 1, 16, 16), "every call must be one full tile"
        with torch.no_grad():
            return net(x) * sigma.reshape(-1, 1, 1, 1)

    lifted = Windows(denoiser, (16, 16), 6, axes=(0, 1), tile=4)
    x, sigma = Noise(2).normal(3, 1, 30, 22, 5)[0], torch.tensor([0.3, 1.0, 2.0])
    whole = lifted(x, sigma)
    for row in range(3):
        assert torch.equal(lifted(x[row : row + 1], sigma[row : row + 1])[0], whole[row])
    slabs = [lifted(x[..., a:b], sigma) for a, b in ((0, 2), (2, 5))]
    assert torch.equal(torch.cat(slabs, -1), whole)


def test_context_follows_its_rows_and_its_cells_are_cut_like_the_image() -> None:
    cells, pooled = Noise(3).normal(2, 1, 25, 7)[0], torch.tensor([[1.0], [10.0]])

    def told(x: Tensor, sigma: Tensor, context: Context | None) -> Tensor:
        assert context is not None and context.cells is not None and context.pooled is not None
        return context.cells * context.pooled[:, :, None, None]

    out = Windows(told, (8, 8), 4, tile=3)(torch.zeros(2, 1, 25, 7), torch.ones(2), Context(pooled=pooled, cells=cells))
    torch.testing.assert_close(out, cells * pooled[:, :, None, None])


def field(length: int) -> GaussianMixture:
    """A stationary Gaussian field on a line: variance ¼, correlation e^(-distance/2)."""
    place = torch.arange(length)
    covariance = 0.25 * torch.exp(-(place[:, None] - place).abs() / 2)
    return GaussianMixture(torch.ones(1), torch.zeros(1, length), covariance[None])


def test_windowed_samples_vary_as_much_as_unwindowed_ones() -> None:
    length, rows = 256, 12
    x = 0.7 * Noise(4).rows(range(rows)).normal(1, length).double()
    sigma, noise = torch.full((rows,), 0.5, dtype=torch.float64), Noise(5).rows(range(rows))
    whole = reverse_diffusion(x, sigma, field(length).denoiser, noise, None, steps=20)
    lifted = Windows(field(16).denoiser, (16,), 8, tile=64)
    windowed = reverse_diffusion(x, sigma, lifted, noise, None, steps=20)
    exact = field(length).posterior(x[0, 0], torch.eye(length), 0.5).covariance().diagonal().mean().sqrt()

    def spread(draws: Tensor) -> float:
        """Of the draws about their exact posterior means, over all cells."""
        return float((draws - field(length).denoiser(x, sigma)).square().mean().sqrt())

    assert spread(windowed) / spread(whole) == pytest.approx(1, abs=0.05)
    assert spread(windowed) / float(exact) == pytest.approx(1, abs=0.05)
    keys, each = Noise(6).rows(range(16 * rows)), sigma.repeat_interleave(16)
    parts = reverse_diffusion(x.reshape(-1, 1, 16), each, field(16).denoiser, keys, None, steps=20)
    assert spread((whole + parts.reshape(rows, 1, length)) / 2) / float(exact) < 0.85, "blending finished draws would be caught"


def test_bad_windows_are_named() -> None:
    with pytest.raises(HeadwaterError, match="overlap"):
        Windows(scaled, (8, 8), 8)
    with pytest.raises(HeadwaterError, match="axes"):
        Windows(scaled, (8, 8), 4, axes=(1, 1))
    with pytest.raises(HeadwaterError, match="axes"):
        Windows(scaled, (8, 8), 4)(torch.zeros(1, 1, 9), torch.ones(1))

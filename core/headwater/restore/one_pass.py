"""Restoration by a network that answers in one pass, such as a conditional GAN or a regressor, held to the data it was given."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from headwater.context import Context
from headwater.noise import Noise
from headwater.restore.denoiser import Denoiser
from headwater.restore.likelihoods import Gaussian, NoiseModel
from headwater.restore.operators import Operator, dot
from headwater.restore.posterior import Posterior, check

ROUNDS = 16
LEAST, MOST = math.log(1e-6), math.log(1e4)


def one_pass(
    y: Tensor, operator: Operator, noise_model: NoiseModel, network: Denoiser, noise: Noise, context: Context, draws: int = 0
) -> Posterior:
    """The posterior of x given ``y`` (rows, *operator.range) as ``network(z, 0, context)`` tells it with Aᵀy in the context's
    cells: the mean at z = 0 and each of the ``draws`` at a z of its own. Where the noise is Gaussian, all are moved to the nearest
    items that agree with ``y`` (:func:`consistent`). ``std`` is the root mean square distance of the draws from the mean.

    Raises :class:`HeadwaterError` for shapes that do not fit.
    """
    check(y, operator, noise, draws)
    given = operator.vjp(y)
    told = replace(context, cells=torch.cat([given, torch.ones_like(given[:, :1])], dim=1))
    level = noise_model.level(y)

    def answer(z: Tensor) -> Tensor:
        x = network(z, torch.zeros_like(level), told)
        return consistent(x, y, operator, level) if isinstance(noise_model, Gaussian) else x

    mean = answer(torch.zeros_like(given))
    residual = noise_model.residual(y, operator.apply(mean))
    if not draws:
        return Posterior(mean, None, None, residual)
    drawn = torch.stack([answer(noise.fold("draw", k).normal(*given.shape[1:]).to(given)) for k in range(draws)])
    return Posterior(mean, (drawn - mean).square().mean(0).sqrt(), drawn, residual)


def consistent(x: Tensor, y: Tensor, operator: Operator, sigma: Tensor) -> Tensor:
    """argmin ‖v - x‖ subject to ‖y - A v‖ <= σ √m: the least change of x that leaves of y no more than the noise of its m numbers
    (Morozov, 1966, https://doi.org/10.1007/978-1-4612-5280-1). ``sigma`` (rows,). An x within the noise stays as it is, as a good
    answer to denoising does.

    The solution is v(w) = (AᵀA + w)⁻¹ (Aᵀy + w x), whose residual grows with w > 0; w is found by halving the interval of its
    logarithm. Numbers of y that are exactly 0 count as not measured.
    """
    bound = sigma.reshape(-1, *[1] * (y.ndim - 1)) ** 2 * dot((y != 0).to(y), torch.ones_like(y))
    data = operator.vjp(y)

    def at(log_weight: Tensor) -> Tensor:
        weight = log_weight.exp()
        return operator.solve(data + weight.reshape(-1, *[1] * (x.ndim - 1)) * x, weight)

    def within(v: Tensor) -> Tensor:
        gap = y - operator.apply(v)
        return dot(gap, gap) <= bound

    low, high = torch.full_like(sigma, LEAST), torch.full_like(sigma, MOST)
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        good = within(at(middle)).reshape(-1)
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return torch.where(within(x).reshape(-1, *[1] * (x.ndim - 1)), x, at(low))

"""Noise models p(y | clean): how a measurement scatters about its clean value A x, elementwise.

Both models can hand a Gaussian denoiser what it understands. ``in_phase`` replaces y by data that are Gaussian about the
clean value with the same level: y itself for Gaussian noise; for Rician magnitudes the component along the true phase, which
is the missing half of the data in the sense of EM (Dempster, Laird and Rubin, 1977) and of Gibbs sampling (Tanner and Wong,
1987).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from headwater.errors import HeadwaterError
from headwater.noise import Noise


class NoiseModel(ABC):
    """``sigma`` > 0, one number or one a row (rows,), in the units of y. ``rounds``: how often ``in_phase`` and the prior
    alternate."""

    rounds = 0

    def __init__(self, sigma: float | Tensor) -> None:
        self.sigma = torch.as_tensor(sigma, dtype=torch.float64)
        if self.sigma.ndim > 1 or not bool((self.sigma.isfinite() & (self.sigma > 0)).all()):
            raise HeadwaterError(f"sigma: expected a positive noise level, or one for each row; got {sigma!r}")

    def level(self, y: Tensor) -> Tensor:
        """``sigma`` as (rows,) in y's dtype."""
        return self.sigma.to(y).expand(y.shape[0])

    def _column(self, y: Tensor) -> Tensor:
        return self.level(y).reshape(-1, *[1] * (y.ndim - 1))

    @abstractmethod
    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        """log p(y | clean), elementwise, in nats."""

    @abstractmethod
    def prox(self, v: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
        """argmin over x of -log p(y | x) + weight/2 (x - v)²."""

    @abstractmethod
    def deviance(self, y: Tensor, clean: Tensor) -> Tensor:
        """2 [max over x of log p(y | x) - log p(y | clean)], elementwise: 1 on average for a signal well above the noise."""

    @abstractmethod
    def residual(self, y: Tensor, clean: Tensor) -> Tensor:
        """(y - E[y | clean]) / std[y | clean]: zero mean and unit variance where ``clean`` is the truth."""

    @abstractmethod
    def unbias(self, smooth: Tensor) -> Tensor:
        """The clean value whose mean measurement is ``smooth``."""

    @abstractmethod
    def in_phase(self, y: Tensor, clean: Tensor, noise: Noise | None = None) -> Tensor:
        """Data that are Gaussian about the clean value: their mean given ``clean``, or a draw with a key a row in ``noise``."""


class Gaussian(NoiseModel):
    """y = clean + σn, not clipped.

    >>> Gaussian(0.5).prox(torch.zeros(1, 1), torch.ones(1, 1), weight=4.0).item()
    0.5
    """

    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        sigma = self._column(y)
        return -((y - clean) ** 2) / (2 * sigma**2) - sigma.log() - math.log(2 * math.pi) / 2

    def prox(self, v: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
        precision = self._column(y) ** -2
        return (precision * y + weight * v) / (precision + weight)

    def deviance(self, y: Tensor, clean: Tensor) -> Tensor:
        return self.residual(y, clean) ** 2

    def residual(self, y: Tensor, clean: Tensor) -> Tensor:
        return (y - clean) / self._column(y)

    def unbias(self, smooth: Tensor) -> Tensor:
        return smooth

    def in_phase(self, y: Tensor, clean: Tensor, noise: Noise | None = None) -> Tensor:
        return y


class Rician(NoiseModel):
    """Magnitudes of complex data: y = |clean + σ(n + i n′)|, p(y | ν) = (y/σ²) exp(-(y² + ν²)/2σ²) I₀(yν/σ²) with ν = clean >= 0
    (Rice, 1944; Gudbjartsson and Patz, 1995, https://doi.org/10.1002/mrm.1910340618).

    ``zero`` is the value that stands for magnitude 0 in y and clean alike: -1 for a ``Grid`` whose [-1, 1] shows intensities
    [0, 1].

    A denoiser for Gaussian noise is used through ``unbias``, the inverse of the Rician mean that Koay and Basser (2006,
    https://doi.org/10.1016/j.jmr.2006.01.016) solve for, and then through ``in_phase``: given ν, the phase of the complex
    datum about the signal's is von Mises with κ = yν/σ², so the component in phase has mean y I₁(κ)/I₀(κ) and, as a draw, is
    y cos θ; either is Gaussian denoising at σ again. In background the component in phase averages to nothing, so no floor
    remains.
    """

    rounds = 2

    def __init__(self, sigma: float | Tensor, zero: float = 0.0) -> None:
        super().__init__(sigma)
        self.zero = zero

    def _scaled(self, y: Tensor, clean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Magnitude and signal in units of σ, and σ. A measured 0, which quantisation makes, counts as a tiny magnitude."""
        sigma = self._column(y)
        return ((y - self.zero) / sigma).clamp(min=1e-6), (clean - self.zero) / sigma, sigma

    def log_prob(self, y: Tensor, clean: Tensor) -> Tensor:
        r, nu, sigma = self._scaled(y, clean)
        log_bessel: Tensor = torch.special.i0e(r * nu).log()
        return (r / sigma).log() - 0.5 * (r - nu.abs()) ** 2 + log_bessel

    def prox(self, v: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
        """The slope ν - r I₁/I₀(rν) + w(ν - v) is convex in ν >= 0, because I₁/I₀ is concave there, and not negative at the
        Gaussian answer; so Newton's steps from there fall onto its largest root without passing it. For v < 0 zero may be
        lower still."""
        r, centre, sigma = self._scaled(y, v)
        w = weight * sigma**2
        nu = ((r + w * centre) / (1 + w)).clamp(min=0)
        for _ in range(12):
            ratio, slope = _bessel_ratio(r * nu)
            gradient, curvature = nu - r * ratio + w * (nu - centre), 1 + w - r**2 * slope
            nu = torch.where(curvature > 1e-6, nu - gradient / curvature.clamp(min=1e-6), 0.0).clamp(min=0)

        def cost(n: Tensor) -> Tensor:
            log_bessel: Tensor = torch.special.i0e(r * n).log()
            return 0.5 * (r - n) ** 2 - log_bessel + 0.5 * w * (n - centre) ** 2

        return self.zero + sigma * torch.where(cost(nu) <= cost(torch.zeros_like(nu)), nu, 0.0)

    def deviance(self, y: Tensor, clean: Tensor) -> Tensor:
        best = self.prox(y, y, 0.0)
        return (2 * (self.log_prob(y, best) - self.log_prob(y, clean))).clamp(min=0)

    def residual(self, y: Tensor, clean: Tensor) -> Tensor:
        r, nu, _ = self._scaled(y, clean)
        mean, _ = _rician_mean(nu)
        variance = (nu**2 + 2 - mean**2).clamp(min=2 - math.pi / 2, max=1.0)
        return (r - mean) / variance.sqrt()

    def unbias(self, smooth: Tensor) -> Tensor:
        """Newton's steps on the Rician mean, convex in ν and above it, fall from ν = mean onto the root; below the mean of
        pure noise, σ√(π/2), the signal is 0."""
        target, _, sigma = self._scaled(smooth, smooth)
        nu = target
        for _ in range(12):
            mean, slope = _rician_mean(nu)
            nu = (nu - (mean - target) / slope.clamp(min=1e-6)).clamp(min=0)
        return self.zero + sigma * torch.where(target > math.sqrt(math.pi / 2), nu, 0.0)

    def in_phase(self, y: Tensor, clean: Tensor, noise: Noise | None = None) -> Tensor:
        r, nu, sigma = self._scaled(y, clean)
        kappa = r * nu
        turn = _bessel_ratio(kappa)[0] if noise is None else _von_mises_cosine(kappa, noise)
        return self.zero + sigma * r * turn


def _bessel_ratio(z: Tensor) -> tuple[Tensor, Tensor]:
    """I₁(z)/I₀(z) and its derivative 1 - ratio/z - ratio², which is ½ at 0."""
    ratio = torch.special.i1e(z) / torch.special.i0e(z)
    small = z.abs() < 1e-3
    return ratio, torch.where(small, 0.5, 1 - ratio / torch.where(small, 1.0, z) - ratio**2)


def _rician_mean(nu: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of a Rician magnitude with σ = 1, √(π/2) [(1 + 2t) I₀(t) + 2t I₁(t)] e⁻ᵗ with t = ν²/4, and its derivative in ν."""
    t = nu**2 / 4
    i0, i1 = torch.special.i0e(t), torch.special.i1e(t)
    half = math.sqrt(math.pi / 2)
    return half * ((1 + 2 * t) * i0 + 2 * t * i1), half * nu / 2 * (i0 + i1)


def _von_mises_cosine(kappa: Tensor, noise: Noise) -> Tensor:
    """cos θ for θ von Mises with concentration |κ|, times the sign of κ, by rejection (Best and Fisher, 1979,
    https://doi.org/10.2307/2346732). Twelve proposals for every cell, whatever its neighbours do: at worst 1 cell in 300,000
    accepts none and takes the mean."""
    k = kappa.double().abs().clamp(min=1e-4)
    tau = 1 + (1 + 4 * k**2).sqrt()
    rho = (tau - (2 * tau).sqrt()) / (2 * k)
    r = (1 + rho**2) / (2 * rho)
    cosine = _bessel_ratio(k)[0]
    found = torch.zeros_like(k, dtype=torch.bool)
    for i in range(12):
        u = noise.fold("proposal", i).uniform(2, *kappa.shape[1:]).to(k)
        z = (math.pi * u[:, 0]).cos()
        f = (1 + r * z) / (r + z)
        c = k * (r - f)
        accept = (c / u[:, 1]).log() + 1 - c >= 0
        cosine = torch.where(accept & ~found, f, cosine)
        found |= accept
    return (cosine * torch.where(kappa < 0, -1.0, 1.0)).to(kappa.dtype)

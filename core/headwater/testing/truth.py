"""Distributions known exactly: what a family learns or a sampler draws is held against them, not against a picture.

Every distribution draws with ``sample(noise, n)``, where ``noise`` is one key and draw ``i`` depends on the key and ``i`` alone,
scores with ``log_prob(x)``, and knows its ``entropy()``; all in nats and float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from headwater.context import Context
from headwater.noise import Noise
from headwater.spaces import Tokens, Vector

CRITICAL = math.log(1 + math.sqrt(2)) / 2
"""The inverse temperature at which the infinite square Ising lattice orders (Onsager, 1944,
https://doi.org/10.1103/PhysRev.65.117)."""


def _choose(uniform: Tensor, weights: Tensor) -> Tensor:
    """Index of the cell of the cumulative ``weights`` (..., k) in which each ``uniform`` (...) falls."""
    edges = weights.cumsum(-1)
    return (uniform[..., None] * edges[..., -1:] > edges).sum(-1).clamp(max=weights.shape[-1] - 1)


class GaussianMixture:
    """p(x) = Σ_k π_k N(x; μ_k, S_k) in any dimension d: density, denoiser and linear posterior in closed form.

    ``weights`` (k,), ``means`` (k, d), ``covariances`` (k, d, d), kept in float64.

    >>> mixture = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> mixture.denoiser(torch.ones(1, 2), torch.ones(1)).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.weights = weights.double() / weights.double().sum()
        self.means, self.covariances = means.double(), covariances.double()
        values, self.axes = torch.linalg.eigh(self.covariances)
        self.variances = values.clamp(min=0.0)
        self.space = Vector(means.shape[1])

    def sample(self, noise: Noise, n: int) -> Tensor:
        """(n, d) float64."""
        keys = noise.rows(range(n))
        k = _choose(keys.fold("component").uniform().double(), self.weights)
        scaled = keys.fold("inside").normal(self.space.features).double() * self.variances[k].sqrt()
        return self.means[k] + torch.einsum("nij,nj->ni", self.axes[k], scaled)

    def log_prob(self, x: Tensor) -> Tensor:
        """(n,) from x (n, d)."""
        return self._joint(x.double(), torch.zeros(x.shape[0], dtype=torch.float64))[0].logsumexp(1)

    def _joint(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log π_k N(x; μ_k, S_k + σ²I) (n, k), x - μ_k in the eigenvectors of S_k (n, k, d), and the variances there (n, k,
        d)."""
        z = torch.einsum("nkd,kde->nke", x[:, None] - self.means, self.axes)
        total = self.variances + sigma[:, None, None] ** 2
        log = -0.5 * (z**2 / total + total.log() + math.log(2 * math.pi)).sum(2)
        return self.weights.log() + log, z, total

    def denoiser(self, x: Tensor, sigma: Tensor, context: Context | None = None) -> Tensor:
        """E[x0 | x0 + σn = x] = Σ_k r_k [μ_k + S_k (S_k + σ²I)⁻¹ (x - μ_k)] with r_k ∝ π_k N(x; μ_k, S_k + σ²I).

        x (n, ...) whose trailing axes hold d numbers, sigma (n,); shape and dtype of x are kept. It is a
        :class:`~headwater.restore.denoiser.Denoiser`.
        """
        log, z, total = self._joint(x.flatten(1).double(), sigma.double())
        means = self.means + torch.einsum("nke,kde->nkd", z * self.variances / total, self.axes)
        return torch.einsum("nk,nkd->nd", log.softmax(1), means).reshape(x.shape).to(x.dtype)

    def posterior(self, y: Tensor, matrix: Tensor, sigma: float) -> GaussianMixture:
        """p(x | y) for one observation y = matrix·x + σn, y (m,), matrix (m, d): again a mixture."""
        y, a = y.double(), matrix.double()
        cross = self.covariances @ a.T  # (k, d, m)
        total = a @ cross + sigma**2 * torch.eye(a.shape[0], dtype=torch.float64)
        gain = torch.linalg.solve(total, cross.mT).mT
        gap = y - self.means @ a.T
        log = self.weights.log() + torch.distributions.MultivariateNormal(torch.zeros_like(y), total).log_prob(gap)
        means = self.means + torch.einsum("kdm,km->kd", gain, gap)
        covariances = self.covariances - gain @ cross.mT
        return GaussianMixture(log.softmax(0), means, (covariances + covariances.mT) / 2)

    def mean(self) -> Tensor:
        """(d,)"""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """(d, d)"""
        gap = self.means - self.mean()
        return torch.einsum("k,kij->ij", self.weights, self.covariances + gap[:, :, None] * gap[:, None, :])


class Plane:
    """A density on the plane inside the square [-half, half]², with its entropy by the midpoint rule on ``nodes``² points.

    The rule's error falls faster than any power of the spacing for smooth densities that vanish at the border.
    """

    space = Vector(2)

    def __init__(
        self, draw: Callable[[Noise, int], Tensor], log_density: Callable[[Tensor], Tensor], half: float, nodes: int = 800
    ) -> None:
        self._draw, self._log_density, self.half, self.nodes = draw, log_density, half, nodes

    def sample(self, noise: Noise, n: int) -> Tensor:
        """(n, 2) float64."""
        return self._draw(noise, n)

    def log_prob(self, x: Tensor) -> Tensor:
        """(n,) from x (n, 2); -inf outside the support."""
        return self._log_density(x.double())

    def entropy(self) -> float:
        """-∫ p log p."""
        step = 2 * self.half / self.nodes
        line = -self.half + step * (torch.arange(self.nodes, dtype=torch.float64) + 0.5)
        total = 0.0
        for row in line.split(50):
            log = self.log_prob(torch.cartesian_prod(row, line))
            total -= float(torch.where(log.isinf(), 0.0, log.exp() * log).sum())
        return total * step**2


def _round_gaussians(means: Tensor, s: float, half: float, nodes: int) -> Plane:
    mixture = GaussianMixture(torch.ones(len(means)), means, (s**2 * torch.eye(2)).expand(len(means), 2, 2))
    return Plane(mixture.sample, mixture.log_prob, half, nodes)


def eight_gaussians(radius: float = 4.0, s: float = 0.5) -> Plane:
    """Eight round Gaussians of standard deviation ``s`` on a circle. Entropy 3.52473 (r=4, s=.5), 0.31215 (r=2, s=.1)."""
    angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    half = radius + 8 * s
    return _round_gaussians(radius * torch.stack([angle.cos(), angle.sin()], 1), s, half, nodes=math.ceil(3 * half / s))


def grid_of_gaussians(side: int = 5, spacing: float = 2.0, s: float = 0.05) -> Plane:
    """``side``² round Gaussians on a square grid about the origin, the 25-grid of the GAN literature. Entropy 0.06529."""
    line = spacing * (torch.arange(side, dtype=torch.float64) - (side - 1) / 2)
    half = spacing * (side - 1) / 2 + 8 * s
    return _round_gaussians(torch.cartesian_prod(line, line), s, half, nodes=math.ceil(3 * half / s))


def checkerboard() -> Plane:
    """Uniform on the eight 2x2 squares of one colour of a 4x4 board on [-4, 4]². Entropy log 32 = 3.46574."""

    def draw(noise: Noise, n: int) -> Tensor:
        u = noise.rows(range(n)).uniform(3).double()
        square = (u[:, 2] * 8).long()
        column, row = square % 2, square // 2
        return torch.stack([4 * column + 2 * (row % 2) + 2 * u[:, 0] - 4, 2 * row + 2 * u[:, 1] - 4], 1)

    def log_density(x: Tensor) -> Tensor:
        cell = (x / 2).floor()
        inside = (x.abs() < 4).all(1) & (cell.sum(1) % 2 == 0)
        return torch.where(inside, -math.log(32.0), -math.inf)

    return Plane(draw, log_density, half=4.0)


def two_moons(s: float = 0.1) -> Plane:
    """Two interleaved half circles, (cos t, sin t) and (1 - cos t, ½ - sin t) with t uniform in [0, π], plus normal noise of
    standard deviation ``s``. The density is the integral over t by the midpoint rule. Entropy 1.0076 (s=.1)."""

    def moon(t: Tensor, lower: Tensor) -> Tensor:
        upper = torch.stack([t.cos(), t.sin()], -1)
        return torch.where(lower[..., None], torch.tensor([1.0, 0.5], dtype=torch.float64) - upper, upper)

    t = (torch.arange(256, dtype=torch.float64) + 0.5) * (math.pi / 256)
    centres = torch.cat([moon(t, torch.zeros_like(t, dtype=torch.bool)), moon(t, torch.ones_like(t, dtype=torch.bool))])

    def draw(noise: Noise, n: int) -> Tensor:
        keys = noise.rows(range(n))
        u = keys.fold("arc").uniform(2).double()
        return moon(math.pi * u[:, 0], u[:, 1] < 0.5) + s * keys.fold("off").normal(2).double()

    def log_density(x: Tensor) -> Tensor:
        distance = ((x[:, None] - centres) / s).square().sum(2)
        return (-0.5 * distance).logsumexp(1) - math.log(2 * math.pi * s**2 * len(centres))

    return Plane(draw, log_density, half=3.0, nodes=120)


class Enumerated:
    """A distribution over all strings of ``length`` symbols, few enough to list: tokens 1..symbols, since 0 is padding.

    Items are (n, length, 1) int64, as :class:`~headwater.spaces.Tokens` holds them. ``log_prob`` is normalised; ``entropy``
    and the sampler run over the list of all ``symbols ** length`` strings.
    """

    def __init__(self, symbols: int, length: int, log_weight: Callable[[Tensor], Tensor]) -> None:
        self.symbols, self.length, self._log_weight = symbols, length, log_weight
        self.space = Tokens(symbols + 1, length)
        index = torch.arange(symbols**length)
        self.strings = torch.stack([index // symbols**i % symbols for i in reversed(range(length))], 1)
        log = log_weight(self.strings)
        self.log_z = float(log.logsumexp(0))
        self._log = log - self.log_z

    def sample(self, noise: Noise, n: int) -> Tensor:
        """(n, length, 1) int64 by inversion of the cumulative sum."""
        u = noise.rows(range(n)).uniform(2).double()
        fine = (u[:, 0] * 2**23).floor() / 2**23 + u[:, 1] * 2**-23  # 46 bits: there are up to 2¹⁶ strings
        index = torch.searchsorted(self._log.exp().cumsum(0), fine).clamp(max=len(self._log) - 1)
        return self.strings[index][..., None] + 1

    def log_prob(self, x: Tensor) -> Tensor:
        """(n,) from tokens (n, length, 1)."""
        return self._log_weight(x.reshape(-1, self.length).long() - 1) - self.log_z

    def entropy(self) -> float:
        """-Σ p log p over the whole list."""
        return float(-(self._log.exp() * self._log).sum())


def ising(side: int = 4, periodic: bool = False, beta: float = CRITICAL) -> Enumerated:
    """The Ising model on a square lattice read row by row: log p = β Σ_<ij> s_i s_j - log Z, spin s = 2·token - 3.

    At the critical β, 4x4: entropy 8.04806 free, 4.48272 periodic. ``side`` at most 4; :func:`ising_entropy` goes further.
    """

    def log_weight(strings: Tensor) -> Tensor:
        s = (2 * strings - 1).double().reshape(-1, side, side)
        pairs = (s[:, 1:] * s[:, :-1]).sum((1, 2)) + (s[:, :, 1:] * s[:, :, :-1]).sum((1, 2))
        if periodic:
            pairs = pairs + (s[:, 0] * s[:, -1]).sum(1) + (s[:, :, 0] * s[:, :, -1]).sum(1)
        return beta * pairs

    return Enumerated(2, side * side, log_weight)


def ising_entropy(side: int = 8, beta: float = CRITICAL) -> float:
    """Entropy of the free ``side`` x ``side`` Ising model by the transfer matrix of one row: log Z - β dlog Z/dβ. 8x8:
    28.07626."""
    spins = 2.0 * torch.stack([torch.arange(2**side) >> i & 1 for i in range(side)], 1).double() - 1
    b = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    inside = b * (spins[:, 1:] * spins[:, :-1]).sum(1)
    between = b * spins @ spins.T
    log = inside
    for _ in range(side - 1):
        log = (log[:, None] + between).logsumexp(0) + inside
    log_z = log.logsumexp(0)
    (slope,) = torch.autograd.grad(log_z, b)
    return float(log_z.detach() - beta * slope)


class HiddenMarkov(Enumerated):
    """A hidden Markov model: log_prob by the forward algorithm (Rabiner, 1989, https://doi.org/10.1109/5.18626), entropy by
    enumeration. ``start`` (s,), ``move`` (s, s) and ``emit`` (s, symbols) are probabilities; the defaults are 3 states, 4
    symbols, length 8, sticky enough that independent positions would lose 1.2 nats."""

    def __init__(
        self, start: Tensor | None = None, move: Tensor | None = None, emit: Tensor | None = None, length: int = 8
    ) -> None:
        double = torch.float64
        self.start = torch.tensor([0.6, 0.3, 0.1], dtype=double) if start is None else start.double()
        rows = [[0.85, 0.10, 0.05], [0.05, 0.80, 0.15], [0.20, 0.05, 0.75]]
        self.move = torch.tensor(rows, dtype=double) if move is None else move.double()
        rows = [[0.70, 0.20, 0.05, 0.05], [0.05, 0.15, 0.75, 0.05], [0.05, 0.10, 0.05, 0.80]]
        self.emit = torch.tensor(rows, dtype=double) if emit is None else emit.double()
        super().__init__(self.emit.shape[1], length, self._forward)

    def _forward(self, strings: Tensor) -> Tensor:
        alpha = self.start * self.emit[:, strings[:, 0]].T
        for symbol in strings.T[1:]:
            alpha = alpha @ self.move * self.emit[:, symbol].T
        return alpha.sum(1).log()

    def sample(self, noise: Noise, n: int) -> Tensor:
        """(n, length, 1) int64 by walking the chain."""
        u = noise.rows(range(n)).uniform(self.length, 2).double()
        state, symbols = _choose(u[:, 0, 0], self.start.expand(n, -1)), []
        for t in range(self.length):
            if t:
                state = _choose(u[:, t, 0], self.move[state])
            symbols.append(_choose(u[:, t, 1], self.emit[state]))
        return torch.stack(symbols, 1)[..., None] + 1

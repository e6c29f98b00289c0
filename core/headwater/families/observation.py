"""Laws of observation: what the numbers that a decoder writes for each cell of a grid or vector say about its value.

A law reads (rows, channels, *size, numbers) and knows the log-probability of an item and how to draw one. Where a grid declares
grey levels the law is one of levels, so that its log-probability is the discrete one; values then lie in the middle of their
level's bin, level = ⌊(x + 1)/2 · levels⌋.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.families.autoregressive import draw
from headwater.families.contract import Likelihood, Steer
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Vector


def level_of(x: Tensor, levels: int) -> Tensor:
    """The grey level of each value in [-1, 1], which may lie anywhere inside its bin.

    >>> level_of(torch.tensor([-1.0, -0.1, 0.1, 1.0]), 4).tolist()
    [0, 1, 2, 3]
    """
    return ((x + 1) / 2 * levels).floor().clamp(0, levels - 1).long()


def middle(level: Tensor, levels: int) -> Tensor:
    """The middle of a level's bin: (2·level + 1)/levels - 1."""
    return (2 * level.float() + 1) / levels - 1


def levels_of(space: Space) -> int | None:
    """How many grey levels a space declares, None for one of real numbers."""
    return space.levels if isinstance(space, Grid) else None


def inside(x: Tensor, space: Space, noise: Noise) -> Tensor:
    """What a density is asked about or trained on: where grey levels are declared each value of ``x`` anywhere inside its level's
    bin, wherever in it it lay (data that were dequantised already keep their law), else ``x`` itself. Then log p of it plus
    :func:`~headwater.families.divergence.dequantised` is on average a lower bound of the log-probability of the levels (Theis et
    al., 2016, https://arxiv.org/abs/1511.01844); of the grey levels as they are it would be no bound of anything."""
    if not (levels := levels_of(space)):
        return x
    place = noise.fold("inside").uniform(*x.shape[1:]).to(x.device)
    return (middle(level_of(x, levels), levels) + (2 * place - 1) / levels).to(x.dtype)


def over_bins(score: Callable[[Tensor, Noise], Likelihood], x: Tensor, space: Space, noise: Noise, draws: int) -> Likelihood:
    """``score(x, noise)`` of real numbers; where grey levels are declared the mean over ``draws`` of places inside the bins, each
    with noise of its own, and its standard error."""
    if not levels_of(space):
        return score(x, noise)
    keys = [noise.fold("bin", k) for k in range(draws)]
    found = [score(inside(x, space, key), key) for key in keys]
    values = torch.stack([each.value for each in found])
    return Likelihood(values.mean(0), found[0].kind, values.std(0) / math.sqrt(draws) if draws > 1 else None)


def bounded(x: Tensor, most: float = 7.0) -> Tensor:
    """``x`` held smoothly between -``most`` and ``most``: the logarithm of a scale that no weight can make infinite."""
    return most * torch.tanh(x / most)


class Law(nn.Module, ABC):
    """``numbers`` a cell; ``levels`` where values are grey levels; ``narrowed`` where top-p means something: each has its own
    probability."""

    numbers: int
    levels: int | None = None
    narrowed: bool = False

    @abstractmethod
    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        """log p of each cell, of the shape of ``x``: a density, or the probability of its level."""

    @abstractmethod
    def draw(self, numbers: Tensor, noise: Noise, steer: Steer) -> Tensor:
        """An item for each row; ``steer.temperature`` T sharpens: it divides logits and multiplies scales."""


class Gaussian(Law):
    """N(x; m, σ²), m written by the decoder, σ learnt: ``one`` number, one for ``each`` channel or feature, or ``written`` beside m
    (Rybkin et al., 2021, "Simple and effective VAE training with calibrated decoders", https://arxiv.org/abs/2006.13202)."""

    def __init__(self, space: Grid | Vector, sigma: str = "each") -> None:
        super().__init__()
        counts = {"one": 1, "each": space.shape[0], "written": None}
        if sigma not in counts:
            raise ValueError(f"unknown sigma {sigma!r}; known: {', '.join(counts)}")
        count = counts[sigma]
        self.numbers = 2 if count is None else 1
        self.log_sigma = None if count is None else nn.Parameter(torch.zeros(count))  # flat: no weight, hence without decay

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """m and log σ."""
        mean = numbers[..., 0]
        if self.log_sigma is None:
            return mean, bounded(numbers[..., 1])
        return mean, bounded(self.log_sigma.reshape(-1, *[1] * (mean.ndim - 2)))

    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        mean, log_sigma = self.read(numbers)
        return -0.5 * ((x - mean) * torch.exp(-log_sigma)).square() - log_sigma - 0.5 * math.log(2 * math.pi)

    def draw(self, numbers: Tensor, noise: Noise, steer: Steer) -> Tensor:
        mean, log_sigma = self.read(numbers)
        return mean + steer.temperature * log_sigma.exp() * noise.fold("observed").normal(*mean.shape[1:]).to(mean.device)


class Categorical(Law):
    """One logit for each grey level: right for a few of them."""

    narrowed = True

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.numbers = self.levels = levels

    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        level = level_of(x, self.numbers)
        return -F.cross_entropy(numbers.flatten(0, -2), level.flatten(), reduction="none").reshape(x.shape)

    def draw(self, numbers: Tensor, noise: Noise, steer: Steer) -> Tensor:
        uniform = noise.fold("observed").uniform(*numbers.shape[1:-1]).to(numbers.device)
        level = draw(numbers.flatten(0, -2) / max(steer.temperature, 1e-6), uniform.flatten(), steer.top_p, None)
        return middle(level.reshape(uniform.shape), self.numbers)


class Logistics(Law):
    """A mixture of logistic distributions discretised to ``levels`` bins, the outer two open to infinity: right for many (Salimans
    et al., 2017, "PixelCNN++", https://arxiv.org/abs/1701.05517, without its links between channels).

    P(level) = Σ_k π_k [F((x + h - m_k)/s_k) - F((x - h - m_k)/s_k)] with F the logistic function and h half a bin. The difference
    is taken as F(a) F(-b) (1 - e^(b-a)), which loses no digits in the tails.
    """

    def __init__(self, levels: int, components: int = 5) -> None:
        super().__init__()
        self.levels, self.components, self.numbers = levels, components, 3 * components

    def read(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and log-scales (…, components). Means start spread over [-1, 1], scales at their spacing."""
        logits, means, log_scales = numbers.chunk(3, dim=-1)
        spread = (2 * torch.arange(self.components, device=numbers.device) + 1) / self.components - 1
        return logits, means + spread, bounded(log_scales - math.log(self.components))

    def log_prob(self, numbers: Tensor, x: Tensor) -> Tensor:
        assert self.levels is not None
        logits, means, log_scales = self.read(numbers)
        level, half = level_of(x, self.levels)[..., None], 1 / self.levels
        off, rate = middle(level, self.levels) - means, torch.exp(-log_scales)
        below = F.logsigmoid((off + half) * rate)
        above = F.logsigmoid((half - off) * rate)
        width = torch.log(-torch.expm1(-2 * half * rate))
        lowest, highest = level == 0, level == self.levels - 1
        log = below.where(~highest, 0.0) + above.where(~lowest, 0.0) + width.where(~(lowest | highest), 0.0)
        return (logits.log_softmax(-1) + log).logsumexp(-1)

    def draw(self, numbers: Tensor, noise: Noise, steer: Steer) -> Tensor:
        assert self.levels is not None
        logits, means, log_scales = self.read(numbers)
        uniform = noise.fold("observed").uniform(2, *logits.shape[1:-1]).to(logits.device)
        which = draw(logits.flatten(0, -2) / max(steer.temperature, 1e-6), uniform[:, 0].flatten(), 1.0, None)
        chosen = which.reshape(*logits.shape[:-1], 1)
        mean, scale = means.gather(-1, chosen)[..., 0], log_scales.gather(-1, chosen)[..., 0].exp()
        value = mean + steer.temperature * scale * torch.logit(uniform[:, 1])
        return middle(level_of(value, self.levels), self.levels)


def law(space: Grid | Vector, sigma: str = "each", components: int = 5) -> Law:
    """The law of a space: a normal one where there are no grey levels, of single levels up to 64 of them, of logistics beyond."""
    levels = space.levels if isinstance(space, Grid) else None
    if levels is None:
        return Gaussian(space, sigma)
    return Categorical(levels) if levels <= 64 else Logistics(levels, components)

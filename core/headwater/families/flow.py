"""Flow matching: Lipman et al., 2023, "Flow matching for generative modeling", https://arxiv.org/abs/2210.02747, on the conditional
optimal-transport path, which is the rectified flow of Liu et al., 2023, https://arxiv.org/abs/2209.03003.

A network is trained to give the velocity of points that travel in straight lines from noise to data; following the mean velocity
carries one distribution to the other. The same path read backwards gives latents and likelihoods, and the velocity at a point says
what denoising it would: the family restores as a diffusion does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.contract import Family, GridNet, Likelihood, Maker, Steer, Verb, turned
from headwater.families.diffusion import Ask, Stage, solve
from headwater.families.divergence import dequantised, log_normal, transport
from headwater.families.observation import inside, levels_of, over_bins
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Vector


@dataclass(frozen=True)
class Times:
    """At which times training looks: logit t from N(mean − ln data, std²), the logit-normal of Esser et al., 2024,
    https://arxiv.org/abs/2403.03206, and for a share ``uniform`` of the rows evenly in [0, 1]. ``data`` is the standard deviation
    of the data: at logit t = −ln data there is as much of them as of noise."""

    data: float = 0.5
    mean: float = 0.5
    std: float = 1.0
    uniform: float = 0.1

    def __post_init__(self) -> None:
        if not (self.data > 0 and self.std >= 0 and 0 <= self.uniform <= 1):
            raise ValueError(f"data must be above 0, std at least 0 and uniform from 0 to 1; got {self}")


def times(steps: int, bend: float = 1.5) -> list[float]:
    """The ``steps`` + 1 times of a solver from 0, noise, to 1, data: 1 − (1 − u)^bend at even u, closer to each other near the
    data, where the velocity changes fastest.

    >>> times(4, 2.0)
    [0.0, 0.4375, 0.75, 0.9375, 1.0]
    """
    return [1 - (1 - i / steps) ** bend for i in range(steps + 1)]


# Solvers of dx/dt = v(x, t) as tables of stages (see diffusion.Stage), with v for what is asked; h is a step's length.


def euler(times: Sequence[float]) -> list[Stage]:
    """First order, one call a step: x' = x + h v."""
    return [Stage(now, 1.0, after - now) for now, after in pairwise(times)]


def adams(times: Sequence[float]) -> list[Stage]:
    """Second order, one call a step: Adams and Bashforth's extrapolation of the slope through the last two, x' = x + h [(1 + κ) v −
    κ v_before] with κ = h / 2h_before; the first step is Euler's."""
    table = []
    span = math.inf
    for now, after in pairwise(times):
        h = after - now
        k = h / (2 * span)
        table.append(Stage(now, 1.0, h * (1 + k), taken=-h * k))
        span = h
    return table


def midpoint(times: Sequence[float]) -> list[Stage]:
    """Second order, two calls a step: half a step of Euler's, whose slope there serves the whole step from where it began."""
    table = []
    for now, after in pairwise(times):
        h = after - now
        table += [Stage(now, 1.0, h / 2), Stage((now + after) / 2, 0.0, h, kept=1.0)]
    return table


def heun(times: Sequence[float]) -> list[Stage]:
    """Second order, two calls a step: Euler's step, then its correction by the mean of both slopes."""
    table = []
    for now, after in pairwise(times):
        h = after - now
        table += [Stage(now, 1.0, h), Stage(after, 1.0, h / 2, taken=-h / 2)]
    return table


SOLVERS = {"euler": euler, "adams": adams, "midpoint": midpoint, "heun": heun}


class Flow(Family):
    """Over ``Grid`` and ``Vector``.

    x_t = (1 − t) n + t x for noise n and data x, t from 0 to 1; the velocity v(x_t, t) = E[x − n | x_t] minimises the loss
    E ‖v − (x − n)‖², and dx/dt = v carries noise to data. The network F gives what is left of v when the best linear guess is
    taken off: v = c_skip x_t + c_out F(c_in x_t, level), with s² = (1−t)² + t²σd² (σd the ``data`` of :class:`Times`),
    c_skip = (tσd² − (1−t))/s², c_out = σd/s and c_in = 1/s, so that F's target has variance one at every t, as in a diffusion;
    the loss is F's. Its level is ln((1−t+ε)/(t+ε))/4: both ends are resolved, and both are finite. Where grey levels are declared,
    x is anywhere in its level's bin (:func:`~headwater.families.observation.inside`).
    """

    name = "flow"
    late = frozenset({"steps", "solver"})
    stepped = guided = True

    def __init__(
        self, space: Grid | Vector, network: nn.Module, times: Times = Times(), solver: str = "adams", steps: int = 32
    ) -> None:
        super().__init__(space)
        if solver not in SOLVERS:
            raise ValueError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1; got {steps}")
        assert isinstance(network, GridNet)
        self.network, self.times, self.solver, self.steps = network, times, solver, steps

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Flow:
        assert isinstance(space, Grid | Vector)
        of_times = {f.name for f in fields(Times)}
        drawn = Times(**{k: v for k, v in options.items() if k in of_times})
        return cls(space, make("field"), drawn, **{k: v for k, v in options.items() if k not in of_times})

    def parts(self) -> Mapping[str, nn.Module]:
        assert isinstance(self.network, nn.Module)
        return {"network": self.network}

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {
            "sample": f"{self.solver}, {self.steps} steps",
            "vary": "latent",
            "restore": "posterior mean, draws opt-in",
            "score": "ODE estimate",
            "optimise": "latent search",
        }

    def velocity(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """E[x₁ − x₀ | x_t = x] for rows (rows, *shape, any grid size) at times (rows,) in [0, 1]."""
        c_skip, c_out, c_in = self._scalings(t, x.ndim)
        out: Tensor = c_skip * x + c_out * self.network(c_in * x, level(t), context).float()
        return out

    def denoise(self, x: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """E[x₀ | x₀ + σn = x] for rows at noise levels (rows,): x_t = t x at t = 1/(1+σ) has that ratio of noise to data, and what
        is left of its way leads to the mean, x_t + (1−t) v(x_t, t)."""
        t = 1 / (1 + sigma)
        wide = t.reshape(-1, *[1] * (x.ndim - 1))
        return wide * x + (1 - wide) * self.velocity(wide * x, t, context)

    def _scalings(self, t: Tensor, ndim: int) -> tuple[Tensor, Tensor, Tensor]:
        t, data = t.reshape(-1, *[1] * (ndim - 1)), self.times.data
        norm = ((1 - t) ** 2 + (t * data) ** 2).sqrt()
        return (t * data**2 - (1 - t)) / norm**2, data / norm, 1 / norm

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        batch = inside(batch, self.space, noise)
        draw, which = noise.fold("time").normal(2).unbind(1)
        even = which < math.sqrt(2) * torch.erfinv(torch.tensor(2 * self.times.uniform - 1))  # for that share of the rows
        logit = self.times.mean - math.log(self.times.data) + self.times.std * draw
        t = torch.where(even, torch.special.ndtr(draw), logit.sigmoid()).to(batch.device)
        start = noise.fold("noise").normal(*batch.shape[1:]).to(batch.device)
        wide = t.reshape(-1, *[1] * (batch.ndim - 1))
        x = (1 - wide) * start + wide * batch
        c_skip, c_out, c_in = self._scalings(t, batch.ndim)
        target = (batch - start - c_skip * x) / c_out
        guess: Tensor = self.network(c_in * x, level(t), context).float()
        return (guess - target).square().mean()

    # --- along the path -------------------------------------------------------------------------------------------

    def asked(self, context: Context, guidance: float = 1.0) -> Ask:
        """The velocity at one time for all rows. Guidance mixes what the network says with and without the condition."""
        if guidance == 1.0 or context.null is None:
            return lambda x, t: self.velocity(x, x.new_full((len(x),), t), context)
        both = context.doubled()

        def ask(x: Tensor, t: float) -> Tensor:
            conditional, free = self.velocity(torch.cat([x, x]), x.new_full((2 * len(x),), t), both).chunk(2)
            return free + guidance * (conditional - free)

        return ask

    def _solve(self, x: Tensor, along: Sequence[float], context: Context, guidance: float) -> Tensor:
        """``x`` at the first of the times to x at the last."""
        return solve(self.asked(context, guidance), x, SOLVERS[self.solver](along))

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        start = noise.fold("start").normal(*self.space.shape)
        return self.decode(steer.temperature * start.to(self.device), noise, context, steer)

    @torch.no_grad()
    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """The latent z becomes √(1−s²) z + s n, which is as normal as z, and is decoded."""
        if strength <= 0:
            return x
        z = self._solve(x, times(steer.steps or self.steps)[::-1], context, 1.0)
        fresh = noise.fold("start").normal(*self.space.shape).to(x.device)
        return self.decode(turned(z, fresh, strength), noise, context, steer)

    @property
    def latent(self) -> Space:
        """The space itself: a latent is the noise that an item came from."""
        return self.space

    @torch.no_grad()
    def encode(self, x: Tensor, context: Context) -> Tensor:
        return self._solve(x, times(self.steps)[::-1], context, 1.0)

    @torch.no_grad()
    def decode(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self._solve(z, times(steer.steps or self.steps), context, steer.guidance)

    @torch.no_grad()
    def score(
        self,
        x: Tensor,
        noise: Noise,
        context: Context,
        steps: int = 16,
        exact: bool | None = None,
        probes: int = 4,
        places: int = 4,
    ) -> Likelihood:
        """log p(x) = log N(z; 0, 1) − ∫ ∇·v dt along the path from x back to its noise z: ``steps`` of fourth order, four calls
        each. The whole trace up to 64 cells, or with ``exact``; otherwise ``probes`` estimate it and say their standard error. An
        estimate: the path is a solver's. With grey levels declared it is the mean over ``places`` in the bins, with one probe each.
        """
        probes = 1 if levels_of(self.space) else probes

        def path(x: Tensor, keys: Noise) -> Likelihood:
            z, change, error = transport(self.asked(context), x, times(steps, 2.0)[::-1], keys, exact, probes)
            return Likelihood(log_normal(z) + change + dequantised(self.space), "estimate", error)

        return over_bins(path, x, self.space, noise, places)


def level(t: Tensor) -> Tensor:
    """The noise coordinate that networks read, about 1.55 at t = 0 and -1.55 at t = 1."""
    return ((1 - t + NEAR) / (t + NEAR)).log() / 4


#: How close to either end of the path the level still tells times apart.
NEAR = 0.002

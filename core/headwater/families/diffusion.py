"""Diffusion models in the parametrisation of Karras et al., 2022, "Elucidating the design space of diffusion-based generative
models", https://arxiv.org/abs/2206.00364.

A network is trained to undo Gaussian noise of every level, D(x, σ) ≈ E[x₀ | x₀ + σn = x]; everything else follows from D:
sampling by the probability-flow ODE, infilling and restoration by posterior sampling, and two readings of the likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.contract import Family, GridNet, Kept, Likelihood, Maker, Steer, Verb
from headwater.families.divergence import dequantised, log_normal, transport
from headwater.families.observation import inside, levels_of, over_bins
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Vector, cells

#: What is said of rows at one noise level: D(x, σ), or the network's raw output.
Ask = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Schedule:
    """Noise levels of training and sampling. Training draws ln σ from N(mean, std²) and, for a share ``uniform`` of the rows,
    evenly between ``low`` and ``high``; ``data`` is the standard deviation of the data."""

    data: float = 0.5
    low: float = 0.002
    high: float = 80.0
    mean: float = -1.2
    std: float = 1.2
    uniform: float = 0.0


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """The ``steps`` + 1 decreasing levels of equation 5, the last one zero.

    >>> karras(2, 0.002, 80.0)[::2]
    [80.0, 0.0]
    """
    first, last = high ** (1 / rho), low ** (1 / rho)
    between = [(first + i / (steps - 1) * (last - first)) ** rho for i in range(1, steps)]
    return [high, *between, 0.0] if steps > 0 else [0.0]


class Stage(NamedTuple):
    """One question, D = D(x, σ), and what follows: x' = keep·x + take·D + kept·x_before + taken·D_before, where "before" means
    in the stage before. A solver is a table of stages, computed once for all rows."""

    sigma: float
    keep: float
    take: float
    kept: float = 0.0
    taken: float = 0.0


def euler(sigmas: Sequence[float]) -> list[Stage]:
    """First order: dx/dσ = (x − D(x, σ)) / σ, so x' = r x + (1 − r) D with r = σ'/σ."""
    return [Stage(now, after / now, 1 - after / now) for now, after in pairwise(sigmas)]


def heun(sigmas: Sequence[float]) -> list[Stage]:
    """Second order, algorithm 1 of Karras et al., 2022: Euler's step, then, but for the step to zero, its correction by the mean of
    both slopes, which comes to x' = x + c (D' − D) with c = (σ − σ') / 2σ'."""
    table = []
    for now, after in pairwise(sigmas):
        table.append(Stage(now, after / now, 1 - after / now))
        if after > 0:
            c = (now - after) / (2 * after)
            table.append(Stage(after, 1.0, c, taken=-c))
    return table


def dpm2m(sigmas: Sequence[float]) -> list[Stage]:
    """DPM-Solver++(2M): second order, one call a step. Lu et al., 2022, https://arxiv.org/abs/2211.01095, algorithm 2 with
    α = 1. With λ = −ln σ and h = λ' − λ: x' = r x + (1 − r) [(1 + κ) D − κ D_before], r = σ'/σ = e^{−h}, κ = h / 2h_before; the
    first and the last step are Euler's."""
    table = []
    span = math.inf
    for now, after in pairwise(sigmas):
        r = after / now
        h = -math.log(r) if after > 0 else 0.0
        k = h / (2 * span)
        table.append(Stage(now, r, (1 - r) * (1 + k), taken=-(1 - r) * k))
        span = h
    return table


SOLVERS = {"euler": euler, "heun": heun, "dpm2m": dpm2m}


def solve(ask: Ask, x: Tensor, table: Sequence[Stage]) -> Tensor:
    """``x`` at the level of the first stage taken to the end of the table."""
    keep = torch.tensor([stage.keep for stage in table], dtype=x.dtype).to(x.device).unbind()  # half the price of a Python number
    before = (x, x)
    for (sigma, _, take, kept, taken), k in zip(table, keep, strict=True):
        out = ask(x, sigma)
        after = (k * x).add_(out, alpha=take)
        if kept:
            after.add_(before[0], alpha=kept)
        if taken:
            after.add_(before[1], alpha=taken)
        before, x = (x, out), after
    return x


def scalings(sigma: float, data: float) -> tuple[float, float, float]:
    """c_skip, c_out and c_in."""
    norm = math.hypot(sigma, data)
    return (data / norm) ** 2, sigma * data / norm, 1 / norm


@lru_cache(maxsize=64)
def preconditioned(solver: str, sigmas: tuple[float, ...], data: float) -> list[Stage]:
    """A solver's table that asks the network F itself, in the scale of its inputs u = c_in x, with D = c_skip x + c_out F put into
    the numbers: a stage costs no more than its sum. The last one ends in x."""
    table, out = SOLVERS[solver](sigmas), []
    behind = (0.0, 0.0, 1.0)
    for stage, later in zip_longest(table, table[1:]):
        c_skip, c_out, c_in = scalings(stage.sigma, data)
        scale = 1.0 if later is None else scalings(later.sigma, data)[2]
        keep, kept = (stage.keep + stage.take * c_skip) / c_in, (stage.kept + stage.taken * behind[0]) / behind[2]
        out.append(Stage(stage.sigma, scale * keep, scale * stage.take * c_out, scale * kept, scale * stage.taken * behind[1]))
        behind = c_skip, c_out, c_in
    return out


def _level(x: Tensor, sigma: float) -> Tensor:
    return torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)


class Diffusion(Family):
    """Over ``Grid`` and ``Vector``.

    D(x, σ) = c_skip x + c_out F(c_in x, c_noise), with c_skip = σd²/(σ²+σd²), c_out = σσd/√(σ²+σd²), c_in = 1/√(σ²+σd²) and
    c_noise = ln(σ)/4; the loss is E ‖F − (x₀ − c_skip x)/c_out‖². Where grey levels are declared, x₀ is anywhere in its level's bin
    (:func:`~headwater.families.observation.inside`).
    """

    name = "diffusion"
    late = frozenset({"steps", "solver"})
    stepped = guided = True

    def __init__(
        self, space: Grid | Vector, network: nn.Module, schedule: Schedule = Schedule(), solver: str = "dpm2m", steps: int = 32
    ) -> None:
        super().__init__(space)
        if solver not in SOLVERS:
            raise ValueError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")
        assert isinstance(network, GridNet)
        self.network, self.schedule, self.solver, self.steps = network, schedule, solver, steps

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Diffusion:
        assert isinstance(space, Grid | Vector)
        of_schedule = {f.name for f in fields(Schedule)}
        schedule = Schedule(**{k: v for k, v in options.items() if k in of_schedule})
        return cls(space, make("field"), schedule, **{k: v for k, v in options.items() if k not in of_schedule})

    def parts(self) -> Mapping[str, nn.Module]:
        assert isinstance(self.network, nn.Module)
        return {"network": self.network}

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {
            "sample": f"{self.solver}, {self.steps} steps",
            "infill": "any cells",
            "vary": "partial noise",
            "restore": "posterior mean, draws opt-in",
            "score": "variational bound; ODE estimate",
        }

    def denoise(self, x: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """E[x₀ | x] for rows (rows, *shape, any grid size) at noise levels (rows,)."""
        c_skip, c_out, c_in = self._scalings(sigma, x.ndim)
        out: Tensor = c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, context).float()
        return out

    def _scalings(self, sigma: Tensor, ndim: int) -> tuple[Tensor, Tensor, Tensor]:
        sigma = sigma.reshape(-1, *[1] * (ndim - 1))
        norm = (sigma**2 + self.schedule.data**2).sqrt()
        return self.schedule.data**2 / norm**2, sigma * self.schedule.data / norm, 1 / norm

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        s, batch = self.schedule, inside(batch, self.space, noise)
        draws = noise.fold("level")
        log_sigma = s.mean + s.std * draws.normal(1)[:, 0]
        if s.uniform:
            where = draws.fold("where").uniform(2)
            even = math.log(s.low) + where[:, 1] * math.log(s.high / s.low)
            log_sigma = torch.where(where[:, 0] < s.uniform, even, log_sigma)
        sigma = log_sigma.exp().clamp(s.low, s.high).to(batch.device)
        c_skip, c_out, c_in = self._scalings(sigma, batch.ndim)
        x = batch + sigma.reshape(c_in.shape) * noise.fold("noise").normal(*batch.shape[1:]).to(batch.device)
        target = (batch - c_skip * x) / c_out
        guess: Tensor = self.network(c_in * x, sigma.log() / 4, context).float()
        return (guess - target).square().mean()

    # --- sampling -------------------------------------------------------------------------------------------------

    def asked(self, sigmas: Sequence[float], like: Tensor, context: Context, guidance: float = 1.0) -> Ask:
        """F(u, σ) for every row of ``like`` at any of ``sigmas`` (but zero, where levels end). Guidance mixes what the network says
        with and without the condition, and D is linear in that."""
        levels, pressed = [s for s in sigmas if s > 0], guidance != 1.0 and context.null is not None
        read, rows = (context.doubled(), 2 * len(like)) if pressed else (context, len(like))
        coordinates = torch.tensor([math.log(s) / 4 for s in levels], dtype=like.dtype).to(like.device)
        level = dict(zip(levels, coordinates[:, None].repeat(1, rows).unbind(), strict=True))
        network = self.network

        def ask(u: Tensor, sigma: float) -> Tensor:
            out: Tensor = network(torch.cat([u, u]) if pressed else u, level[sigma], read).float()
            if pressed:
                conditional, free = out.chunk(2)
                out = free + guidance * (conditional - free)
            return out

        return ask

    def _solve(self, x: Tensor, high: float, context: Context, steer: Steer) -> Tensor:
        sigmas, data = karras(steer.steps or self.steps, min(self.schedule.low, high / 2), high), self.schedule.data
        ask = self.asked(sigmas, x, context, steer.guidance)
        return solve(ask, scalings(high, data)[2] * x, preconditioned(self.solver, tuple(sigmas), data))

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        start = self.schedule.high * steer.temperature * noise.fold("start").normal(*self.space.shape)
        return self._solve(start.to(self.device), self.schedule.high, context, steer)

    @torch.no_grad()
    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Noise of level σ(strength), spaced as the sampler's own levels, then the ODE back (SDEdit: Meng et al., 2022,
        https://arxiv.org/abs/2108.01073)."""
        if strength <= 0:
            return x
        low, high = (v ** (1 / 7) for v in (self.schedule.low, self.schedule.high))
        sigma = (low + min(strength, 1.0) * (high - low)) ** 7
        return self._solve(x + sigma * noise.fold("start").normal(*self.space.shape).to(x.device), sigma, context, steer)

    @torch.no_grad()
    def infill(self, kept: Kept, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Any cells: ancestral steps in which the kept cells are replaced by their own noised values, each level visited
        ``VISITS`` times so that both sides agree (RePaint: Lugmayr et al., 2022, https://arxiv.org/abs/2201.09865)."""
        sigmas = karras(steer.steps or self.steps, self.schedule.low, self.schedule.high)
        shape = self.space.shape
        x = sigmas[0] * noise.fold("start").normal(*shape).to(kept.values.device)
        ask = self.asked(sigmas, x, context, steer.guidance)
        for i, (now, after) in enumerate(pairwise(sigmas)):
            c_skip, c_out, c_in = scalings(now, self.schedule.data)
            for visit in range(VISITS if after > 0 else 1):
                step = noise.fold("step", i, visit)
                if visit:  # back up to the level just left
                    x = x + math.sqrt(now**2 - after**2) * step.fold("back").normal(*shape).to(x.device)
                x = torch.where(kept.mask, kept.values + now * step.fold("kept").normal(*shape).to(x.device), x)
                clean = c_skip * x + c_out * ask(c_in * x, now)
                ratio = (after / now) ** 2
                spread = after * math.sqrt(1 - ratio)
                x = clean + ratio * (x - clean) + spread * step.fold("down").normal(*shape).to(x.device)
        return torch.where(kept.mask, kept.values, x)

    # --- likelihood -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, x: Tensor, noise: Noise, context: Context, levels: int = 64) -> Likelihood:
        """The variational bound (Kingma et al., 2021, "Variational diffusion models", https://arxiv.org/abs/2107.00630), by
        ``levels`` stratified noise levels:

        −log p(x) ≤ KL(q(x_T) ‖ p) + ∫ E‖x − D(x + σn, σ)‖² σ⁻³ dσ + E[−log p(x | x at σ_low)].

        With grey levels declared it is the bound of the discrete log-probability: each level looks at another place in the bins."""
        s, n = self.schedule, cells(self.space)
        span = math.log(s.high / s.low)
        offset = noise.fold("levels").uniform(1).to(x.device)
        terms, given = [], x
        for i in range(levels):
            log_sigma = math.log(s.low) + span * (i + offset[:, 0]) / levels
            sigma = log_sigma.exp()
            level, x = sigma.reshape(-1, *[1] * (given.ndim - 1)), inside(given, self.space, noise.fold("bin", i))
            error = x - self.denoise(x + level * noise.fold("noise", i).normal(*self.space.shape).to(x.device), sigma, context)
            prior = x.double().flatten(1).square().sum(1) / (2 * s.high**2)
            terms.append(prior + error.double().flatten(1).square().sum(1) / sigma.double() ** 2 * span)  # dσ/σ³ = dlnσ/σ²
        found = torch.stack(terms)
        nearest = n / 2 * math.log(2 * math.pi * math.e * s.low**2)
        value = -(found.mean(0) + nearest) + dequantised(self.space)
        return Likelihood(value, "bound", found.std(0) / math.sqrt(levels))

    @torch.no_grad()
    def log_prob_ode(
        self,
        x: Tensor,
        noise: Noise,
        context: Context,
        steps: int = 32,
        exact: bool | None = None,
        probes: int = 1,
        places: int = 4,
    ) -> Likelihood:
        """Integrate the probability-flow ODE and its divergence upwards (Song et al., 2021, https://arxiv.org/abs/2011.13456,
        equation 39), by the angle θ = arctan(σ/σd), in which it is dy/dθ = −F(y, σ) for y = c_in x: at high noise, where by σ the
        divergence falls as 1/σ, nothing is left to integrate. ``steps`` of fourth order, four calls each; ``exact`` computes the
        trace (default up to 64 cells), otherwise ``probes`` estimate it. An estimate: neither bound nor exact, for a learnt D. With
        grey levels declared it is the mean over ``places`` in the bins, with one probe each."""
        s = self.schedule
        low, high = math.atan(s.low / s.data), math.atan(s.high / s.data)
        angles = [low + (high - low) * (i / steps) ** 2 for i in range(steps + 1)]

        def field(y: Tensor, angle: float) -> Tensor:
            sigma = s.data * math.tan(angle)
            c_skip, c_out, c_in = scalings(sigma, s.data)
            return (c_skip / c_out / c_in) * y - self.denoise(y / c_in, _level(y, sigma), context) / c_out

        scale, probes = scalings(s.low, s.data)[2], 1 if levels_of(self.space) else probes

        def path(x: Tensor, keys: Noise) -> Likelihood:
            top, change, error = transport(field, scale * x, angles, keys, exact, probes)
            value = log_normal(top) + change + cells(self.space) * math.log(scale) + dequantised(self.space)
            return Likelihood(value, "estimate", error)

        return over_bins(path, x, self.space, noise, places)


#: How often infilling visits each noise level; one is plain replacement, which leaves seams.
VISITS = 4

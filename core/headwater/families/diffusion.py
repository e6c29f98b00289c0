"""Diffusion models in the parametrisation of Karras et al., 2022, "Elucidating the design space of diffusion-based generative
models", https://arxiv.org/abs/2206.00364.

A network is trained to undo Gaussian noise of every level, D(x, σ) ≈ E[x₀ | x₀ + σn = x]; everything else follows from D:
sampling by the probability-flow ODE, infilling and restoration by posterior sampling, and two readings of the likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.contract import Family, GridNet, Kept, Likelihood, Maker, Steer, Verb
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Vector, cells

Denoise = Callable[[Tensor, Tensor], Tensor]


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


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> Tensor:
    """The ``steps`` + 1 decreasing levels of equation 5, the last one zero, in fp64.

    >>> karras(2, 0.002, 80.0).tolist()[::2]
    [80.0, 0.0]
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)
    sigmas = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    if steps > 0:
        sigmas[0] = high
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """First order: dx/dσ = (x − D(x, σ)) / σ."""
    for now, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = x + (after - now) * (x - denoise(x, _level(x, now))) / now
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Second order, algorithm 1 of Karras et al., 2022; the step to zero is Euler's."""
    for now, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        slope = (x - denoise(x, _level(x, now))) / now
        guess = x + (after - now) * slope
        if after > 0:
            slope = (slope + (guess - denoise(guess, _level(x, after))) / after) / 2
            guess = x + (after - now) * slope
        x = guess
    return x


def dpm2m(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """DPM-Solver++(2M): second order, one call a step. Lu et al., 2022, https://arxiv.org/abs/2211.01095, algorithm 2 with
    α = 1. With λ = −ln σ and h = λ' − λ: x' = (σ'/σ) x − (e^{−h} − 1) [(1 + 1/2r) D − (1/2r) D_before], r = h_before/h."""
    before: Tensor | None = None
    span = 0.0
    for now, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        clean = denoise(x, _level(x, now))
        if after == 0.0:
            return clean
        h = math.log(now / after)
        ahead = clean if before is None else clean + (clean - before) * (h / (2 * span))
        x = (after / now) * x - math.expm1(-h) * ahead
        before, span = clean, h
    return x


SOLVERS = {"euler": euler, "heun": heun, "dpm2m": dpm2m}


def _level(x: Tensor, sigma: float) -> Tensor:
    return torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)


class Diffusion(Family):
    """Over ``Grid`` and ``Vector``.

    D(x, σ) = c_skip x + c_out F(c_in x, c_noise), with c_skip = σd²/(σ²+σd²), c_out = σσd/√(σ²+σd²), c_in = 1/√(σ²+σd²) and
    c_noise = ln(σ)/4; the loss is E ‖F − (x₀ − c_skip x)/c_out‖².
    """

    name = "diffusion"

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
        s = self.schedule
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

    def guided(self, context: Context, guidance: float) -> Denoise:
        if guidance == 1.0 or context.null is None:
            return lambda x, sigma: self.denoise(x, sigma, context)
        both = context.doubled()

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            conditional, free = self.denoise(x.repeat(2, *[1] * (x.ndim - 1)), sigma.repeat(2), both).chunk(2)
            return free + guidance * (conditional - free)

        return denoise

    def _solve(self, x: Tensor, high: float, context: Context, steer: Steer) -> Tensor:
        sigmas = karras(steer.steps or self.steps, min(self.schedule.low, high / 2), high)
        return SOLVERS[self.solver](self.guided(context, steer.guidance), x, sigmas)

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        start = self.schedule.high * steer.temperature * noise.fold("start").normal(*self.space.shape)
        return self._solve(start.to(self._device()), self.schedule.high, context, steer)

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
        denoise = self.guided(context, steer.guidance)
        sigmas = karras(steer.steps or self.steps, self.schedule.low, self.schedule.high).tolist()
        shape = self.space.shape
        x = sigmas[0] * noise.fold("start").normal(*shape).to(kept.values.device)
        for i, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
            for visit in range(VISITS if after > 0 else 1):
                step = noise.fold("step", i, visit)
                if visit:  # back up to the level just left
                    x = x + math.sqrt(now**2 - after**2) * step.fold("back").normal(*shape).to(x.device)
                x = torch.where(kept.mask, kept.values + now * step.fold("kept").normal(*shape).to(x.device), x)
                clean = denoise(x, _level(x, now))
                ratio = (after / now) ** 2
                spread = after * math.sqrt(1 - ratio)
                x = clean + ratio * (x - clean) + spread * step.fold("down").normal(*shape).to(x.device)
        return torch.where(kept.mask, kept.values, x)

    def _device(self) -> torch.device:
        assert isinstance(self.network, nn.Module)
        return next(self.network.parameters()).device

    # --- likelihood -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, x: Tensor, noise: Noise, context: Context, levels: int = 64) -> Likelihood:
        """The variational bound (Kingma et al., 2021, "Variational diffusion models", https://arxiv.org/abs/2107.00630), by
        ``levels`` stratified noise levels:

        −log p(x) ≤ KL(q(x_T) ‖ p) + ∫ E‖x − D(x + σn, σ)‖² σ⁻³ dσ + E[−log p(x | x at σ_low)].

        With grey levels declared, x must be dequantised data and the figure is the discrete log-probability's bound."""
        s, n = self.schedule, cells(self.space)
        span = math.log(s.high / s.low)
        offset = noise.fold("levels").uniform(1).to(x.device)
        terms = []
        for i in range(levels):
            log_sigma = math.log(s.low) + span * (i + offset[:, 0]) / levels
            sigma = log_sigma.exp()
            level = sigma.reshape(-1, *[1] * (x.ndim - 1))
            error = x - self.denoise(x + level * noise.fold("noise", i).normal(*self.space.shape).to(x.device), sigma, context)
            terms.append(error.double().flatten(1).square().sum(1) / sigma.double() ** 2 * span)  # dσ/σ³ = dlnσ/σ²
        integral = torch.stack(terms)
        prior = x.double().flatten(1).square().sum(1) / (2 * s.high**2)
        nearest = n / 2 * math.log(2 * math.pi * math.e * s.low**2)
        value = -(prior + integral.mean(0) + nearest) - self._dequantised(n)
        return Likelihood(value, "bound", integral.std(0) / math.sqrt(levels))

    def log_prob_ode(self, x: Tensor, noise: Noise, context: Context, steps: int = 64, exact: bool | None = None) -> Likelihood:
        """Integrate the probability-flow ODE and its divergence upwards by Heun's method (Song et al., 2021,
        https://arxiv.org/abs/2011.13456, equation 39). ``exact`` computes the trace (default up to 64 cells); otherwise
        Hutchinson's estimate with one Rademacher probe a row. An estimate: neither bound nor exact, for a learnt D."""
        n = cells(self.space)
        exact = n <= 64 if exact is None else exact
        probe = noise.fold("probe").below(2, *self.space.shape).to(x) * 2 - 1
        sigmas = karras(steps, self.schedule.low, self.schedule.high)[:-1].flip(0).tolist()

        def slope(x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
            def field(x: Tensor) -> Tensor:
                return (x - self.denoise(x, _level(x, sigma), context)) / sigma

            jvp: Any = torch.func.jvp
            if exact:
                trace = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
                for i in range(n):
                    unit = torch.zeros_like(x).flatten(1)
                    unit[:, i] = 1
                    value, change = jvp(field, (x,), (unit.reshape(x.shape),))
                    trace += change.flatten(1)[:, i].double()
                return value, trace
            value, change = jvp(field, (x,), (probe,))
            return value, (change * probe).flatten(1).sum(1).double()

        total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        with torch.no_grad():
            for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
                first, trace = slope(x, now)
                second, trace_after = slope(x + (after - now) * first, after)
                x = x + (after - now) * (first + second) / 2
                total += (after - now) * (trace + trace_after) / 2
        high = self.schedule.high
        at_top = -n / 2 * math.log(2 * math.pi * high**2) - x.double().flatten(1).square().sum(1) / (2 * high**2)
        return Likelihood(at_top + total - self._dequantised(n), "estimate")

    def _dequantised(self, n: int) -> float:
        """Density to probability: each grey level is 2/levels wide on [-1, 1]."""
        levels = self.space.levels if isinstance(self.space, Grid) else None
        return n * math.log(levels / 2) if levels else 0.0


#: How often infilling visits each noise level; one is plain replacement, which leaves seams.
VISITS = 4

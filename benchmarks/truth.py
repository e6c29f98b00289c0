"""Families and samplers against distributions known exactly. About 70 CPU-minutes in all, forty of them `gan`'s three seeds.

`python benchmarks/truth.py [PART …]`, all parts by default.

* autoregressive: what a trained model loses, mean(log p_true − log p_model) on fresh draws of the truth, in nats an item.
* masked_diffusion: the same of the any-order bound, along one random order an item.
* denoiser: a trained network beside the exact denoiser of a mixture, as a share of how far that one moves.
* solvers: relative error on one Gaussian's probability-flow ODE, and the order that halving the steps shows.
* likelihood: ODE estimate and variational bound of a diffusion with the exact denoiser, beside the exact log-density.
* infill: moments of the cells made given those kept, beside the exact posterior of a Gaussian, by solver steps and visits.
* vary: moments of neighbours of the truth's own draws: they should be the truth's.
* flow: what a trained flow loses on densities of the plane, by its own ODE estimate; and what few solver steps lose of its draws.
* probability_flow: the same of a diffusion, by its ODE estimate.
* gan: a trained GAN on the 25-grid, three seeds: modes found, share near them, balance between them, and a classifier's test.
* vae: what a variational autoencoder loses on densities of the plane, by its importance-weighted bound.
* vae_tokens: the same on Ising lattices, with an autoregressive decoder, and whether its latent is used.
* latent: GAN, flow and diffusion over the latent of one autoencoder for each truth, beside the autoencoder alone: losses where
  there is a score, and what their draws are like: how unlikely under the truth, and whether a classifier can tell them from it.
* spline_flow: what an autoregressive spline flow loses on densities of the plane; and, of those trained and of random weights,
  errors of fp64 round trips (spline_round_trips).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import publish, run_parts

import headwater.families.diffusion as diffusion
from headwater.context import Context
from headwater.evaluate.two_sample import two_sample
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Family, Kept, Likelihood, Steer
from headwater.families.diffusion import SOLVERS, Diffusion, Schedule, karras, solve
from headwater.families.flow import Flow, Times
from headwater.families.gan import GAN
from headwater.families.latent import Latent
from headwater.families.masked_diffusion import MaskedDiffusion
from headwater.families.observation import law
from headwater.families.spline_flow import SplineFlow, Splines
from headwater.families.vae import VAE, CellDecoder, TokenDecoder
from headwater.networks.mlp import MLP, MLPReader, MLPWriter
from headwater.networks.recurrent import Recurrent, RecurrentReader
from headwater.networks.transformer import Bidirectional, Transformer
from headwater.noise import Noise
from headwater.spaces import Tokens, Vector
from headwater.testing.truth import (
    GaussianMixture,
    HiddenMarkov,
    checkerboard,
    eight_gaussians,
    grid_of_gaussians,
    ising,
    two_moons,
)

NOTHING = Context()
SETTINGS = {"torch": torch.__version__.split("+")[0], "device": "cpu", "dtype": "float32", "threads": 1}
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-0.5, 0.2], [0.4, -0.1]]),
    torch.tensor([[[0.04, 0.01], [0.01, 0.02]], [[0.02, -0.01], [-0.01, 0.05]]]),
)


class Exact(Diffusion):
    """A diffusion whose denoiser is the truth's own."""

    def __init__(self, truth: GaussianMixture, **options: Any) -> None:
        super().__init__(truth.space, MLP(truth.space, width=1, layers=0), **options)
        self.truth = truth

    def denoise(self, x: Tensor, sigma: Tensor, context: Context) -> Tensor:
        return self.truth.denoiser(x, sigma)


def fit(family: Family, draw: Callable[[Noise], Tensor], steps: int, rate: float) -> float:
    """Adam, its rate falling to zero over the second half; each batch is fresh from the truth. Returns CPU seconds."""
    began, modules = time.process_time(), torch.nn.ModuleDict(dict(family.parts()))
    optimiser = torch.optim.Adam(modules.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / 50, 2 * (1 - step / steps)))
    for step in range(steps):
        x = draw(Noise(1).fold("batch", step))
        loss = family.loss("model", x, NOTHING, Noise(2).fold(step).rows(range(len(x))))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    modules.eval()
    return time.process_time() - began


#: How many points or strings of a truth a training draws its batches from, where making them afresh would take its time.
POOL = 1 << 17


def batches(pool: Tensor, size: int) -> Callable[[Noise], Tensor]:
    """Rows of it at random."""
    return lambda noise: pool[noise.below(len(pool), size)[0]]


class Plane:
    """A truth of the plane in the units that networks like, mean 0 and standard deviation 1: ``pool`` to train on, ``x`` to score,
    its log-density ``exact`` and the entropy in these units."""

    def __init__(self, truth: Any, n: int) -> None:
        pool, x = truth.sample(Noise(1), POOL), truth.sample(Noise(9), n)
        self.truth, self.mean, self.std = truth, pool.mean(0), float(pool.std())
        self.pool, self.x = self.scaled(pool), self.scaled(x)
        self.exact, self.entropy = truth.log_prob(x) + 2 * math.log(self.std), truth.entropy() - 2 * math.log(self.std)

    def scaled(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).float()

    def log_prob(self, x: Tensor) -> Tensor:
        found: Tensor = self.truth.log_prob(x.double() * self.std + self.mean) + 2 * math.log(self.std)
        return found

    def features(self, x: Tensor) -> Tensor:
        """What a classifier looks at."""
        return x


class Lattice:
    """The same of strings that are square lattices, which are taken as they are."""

    def __init__(self, truth: Any, n: int) -> None:
        self.pool, self.x = truth.sample(Noise(1), POOL), truth.sample(Noise(9), n)
        self.exact, self.entropy, self.log_prob = truth.log_prob(self.x), truth.entropy(), truth.log_prob

    def scaled(self, x: Tensor) -> Tensor:
        return x

    def features(self, x: Tensor) -> Tensor:
        """The spins, and their products with the neighbours below and to the right, the edges' with those across."""
        side = math.isqrt(x.shape[1])
        spins = 2.0 * x.reshape(-1, side, side) - 3
        return torch.cat([spins, spins * spins.roll(1, 1), spins * spins.roll(1, 2)], 1).flatten(1)


def in_parts(score: Callable[[Tensor, Noise], Likelihood], x: Tensor, noise: Noise, size: int = 2000) -> Likelihood:
    """``score`` of all rows, ``size`` of them at a time."""
    found = [score(x[i : i + size], noise[i : i + size]) for i in range(0, len(x), size)]
    errors = [each.stderr for each in found if each.stderr is not None]
    return Likelihood(torch.cat([each.value for each in found]), found[0].kind, torch.cat(errors) if errors else None)


def lost(truth: Any, gap: Tensor, what: str = "loss in nats") -> dict[str, Any]:
    """The cells of a row that say by how much log p of the truth exceeds a model's, ``gap``, on draws of the truth."""
    stderr = float(gap.std()) / math.sqrt(len(gap))
    return {"draws": len(gap), "entropy": round(truth.entropy(), 5), what: float(gap.mean()), "stderr": stderr}


@torch.no_grad()
def autoregressive(n: int = 20_000) -> None:
    truths: dict[str, tuple[Any, nn.Module, int]] = {}
    torch.manual_seed(0)
    truths["Ising 4x4 free"] = ising(), Transformer(64, 2, 4), 800
    truths["Ising 4x4 periodic"] = ising(periodic=True), Transformer(64, 2, 4), 800
    truths["hidden Markov, 3 states, 4 symbols, length 8"] = HiddenMarkov(), Recurrent(64, 1), 500
    rows = []
    for name, (truth, network, steps) in truths.items():
        family = Autoregressive(truth.space, network)
        rate = 3e-3 if isinstance(network, Transformer) else 8e-3
        with torch.enable_grad():
            seconds = fit(family, lambda noise, truth=truth: truth.sample(noise, 128), steps, rate)  # type: ignore[misc]
        x = truth.sample(Noise(9), n)
        gap = truth.log_prob(x) - torch.cat([family.log_prob(part, NOTHING) for part in x.split(2000)]).double()
        y = family.sample(Noise(8).rows(range(n)), NOTHING, Steer())
        full = (y != 0).all(dim=1)[:, 0]  # the truth knows full strings only
        back = torch.cat([family.log_prob(part, NOTHING) for part in y[full].split(2000)]).double() - truth.log_prob(y[full])
        rows.append(
            {
                "truth": name,
                "network": type(network).__name__.lower(),
                "steps": steps,
                **lost(truth, gap),
                "reverse, on its own draws": float(back.mean()),
                "draws cut short": int((~full).sum()),
                "training CPU s": round(seconds),
            }
        )
    settings = {**SETTINGS, "batch": 128, "width": 64, "layers": {"transformer": 2, "recurrent": 1}}
    publish("autoregressive", rows, n=n, seeds=[0, 1, 8, 9], settings=settings)


def denoiser(n: int = 5000) -> None:
    torch.manual_seed(0)
    family = Diffusion(Vector(2), MLP(Vector(2), width=96, layers=3))
    seconds = fit(family, lambda noise: MIXTURE.sample(noise, 256).float(), 1200, 4e-3)
    rows = []
    for sigma in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0):
        level = torch.full((n,), sigma)
        x = (MIXTURE.sample(Noise(6), n) + sigma * Noise(7).rows(range(n)).normal(2).double()).float()
        exact = MIXTURE.denoiser(x, level)
        with torch.no_grad():
            off = (family.denoise(x, level, NOTHING) - exact).square().mean().sqrt()
        moves = (exact - exact.mean(0)).square().mean().sqrt()  # how far the exact one is from the best constant
        rows.append({"sigma": sigma, "error, share of the signal": float(off / moves), "error / sigma": float(off / sigma)})
    settings = {**SETTINGS, "steps": 1200, "batch": 256, "training CPU s": round(seconds)}
    publish("denoiser", rows, n=n, seeds=[0, 1, 6, 7], settings=settings)


def solvers() -> None:
    def error(solver: str, steps: int) -> float:
        x = torch.full((1, 1), 80.0, dtype=torch.float64)
        out = solve(lambda x, sigma: x * 0.25 / (0.25 + sigma**2), x, SOLVERS[solver](karras(steps, 0.002, 80.0)))
        return abs(float(out) / (80 * 0.5 / math.sqrt(0.25 + 80**2)) - 1)

    rows = []
    for solver in SOLVERS:
        at = {steps: error(solver, steps) for steps in (32, 64, 128, 256)}
        order = math.log2(at[64] / at[256]) / 2
        rows.append({"solver": solver, **{f"N={k}": round(v, 6) for k, v in at.items()}, "order": round(order, 2)})
    settings = {"gaussian std": 0.5, "levels": "Karras, 0.002 to 80, then 0", "dtype": "float64"}
    publish("solvers", rows, n=1, seeds=[], settings=settings)


def likelihood(n: int = 1000) -> None:
    family, x = Exact(MIXTURE), MIXTURE.sample(Noise(2), n).float()
    exact, keys = MIXTURE.log_prob(x), Noise(0).rows(range(n))
    found = {("ODE, exact trace", steps): family.log_prob_ode(x, keys, NOTHING, steps=steps) for steps in (8, 16, 32)}
    found[("ODE, one probe", 16)] = family.log_prob_ode(x, keys, NOTHING, steps=16, exact=False)
    found |= {("bound", levels): family.score(x, keys, NOTHING, levels=levels) for levels in (16, 64, 256)}
    rows = []
    for (what, steps), likelihood in found.items():
        off = likelihood.value - exact
        rows.append({"what": what, "steps": steps, "mean off": float(off.mean()), "rms off": float(off.square().mean().sqrt())})
    publish(
        "likelihood", rows, n=n, seeds=[0, 2], settings={**SETTINGS, "truth": "two Gaussians on the plane", "unit": "nats an item"}
    )


def infill(n: int = 2000) -> None:
    factor = torch.tensor([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [0.5, 0.4, 0.7, 0], [0.3, 0.5, 0.4, 0.6]]).double() * 0.4
    four = GaussianMixture(torch.ones(1), torch.tensor([[0.1, -0.2, 0.0, 0.2]]), (factor @ factor.T)[None])
    at = torch.arange(12)
    chain = GaussianMixture(torch.ones(1), torch.zeros(1, 12), (0.25 * 0.95 ** (at[:, None] - at).abs().double())[None])
    problems = {
        "4 cells, 2 kept": (four, [0, 2]),
        "chain of 12, both ends kept": (chain, [0, 11]),
        "chain, half kept": (chain, [0, 1, 2, 9, 10, 11]),
    }
    rows, usual = [], diffusion.VISITS
    for name, (truth, keep) in problems.items():
        size = truth.means.shape[1]
        y = truth.sample(Noise(44), 1)[0][keep].float()
        want = truth.posterior(y.double(), torch.eye(size)[keep], 1e-4)
        std, mask, values = want.covariance().diagonal().sqrt(), torch.zeros(size, dtype=torch.bool), torch.zeros(n, size)
        mask[keep], values[:, keep] = True, y
        for steps, visits in ((32, 1), (32, usual), (64, usual), (64, 2 * usual)):
            diffusion.VISITS = visits
            kept, keys = Kept(values, mask.expand(n, size)), Noise(3).rows(range(n))
            x = Exact(truth, steps=steps).infill(kept, keys, NOTHING, Steer()).double()
            off, ratio = ((x.mean(0) - want.mean()) / std)[~mask], (x.std(0) / std)[~mask]
            rows.append(
                {
                    "problem": name,
                    "steps": steps,
                    "visits": visits,
                    "network calls": steps * visits,
                    "mean off, rms in std": float(off.square().mean().sqrt()),
                    "std / exact, least": float(ratio.min()),
                    "most": float(ratio.max()),
                }
            )
    diffusion.VISITS = usual
    publish("infill", rows, n=n, seeds=[3, 44], settings={**SETTINGS, "default": f"32 steps, {usual} visits"})


def vary(n: int = 10_000) -> None:
    x, rows = MIXTURE.sample(Noise(4), n).float(), []
    for strength in (0.1, 0.3, 0.5, 0.7, 1.0):
        y = Exact(MIXTURE).vary(x, strength, Noise(5).rows(range(n)), NOTHING, Steer()).double()
        rows.append(
            {
                "strength": strength,
                "mean off": float((y.mean(0) - MIXTURE.mean()).abs().max()),
                "std / exact, least": float((y.std(0) / MIXTURE.covariance().diagonal().sqrt()).min()),
                "correlation with the item": float(torch.corrcoef(torch.stack([x[:, 0].double(), y[:, 0]]))[0, 1]),
            }
        )
    publish("vary", rows, n=n, seeds=[4, 5], settings=SETTINGS)


@torch.no_grad()
def planes(
    part: str,
    build: Callable[[], Family],
    score: Callable[..., Likelihood],
    sets: Mapping[str, tuple[Any, int, int]],
    solver_steps: int,
    settings: Mapping[str, Any],
) -> tuple[Any, Any]:
    """Train on each of ``sets`` (truth, training steps, draws to score) and publish what is lost and by how much halving the
    solver's step moves it. Returns the first model and its truth."""
    rows, first, batch = [], None, 2048
    for name, (truth, steps, n) in sets.items():
        torch.manual_seed(0)
        family, plane = build(), Plane(truth, n)
        with torch.enable_grad():
            seconds = fit(family, batches(plane.pool, batch), steps, 5e-3)
        began, keys = time.process_time(), Noise(0).rows(range(n))
        found = in_parts(partial(score, family, steps=solver_steps), plane.x, keys).value
        halved = score(family, plane.x[:1000], keys[:1000], steps=2 * solver_steps).value - found[:1000]
        rows.append(
            {
                "truth": name,
                **lost(truth, plane.exact - found),
                "half the solver's step moves it by": -float(halved.mean()),
                "steps": steps,
                "training CPU s": round(seconds),
                "scoring CPU s": round(time.process_time() - began),
            }
        )
        first = first or (family, truth)
        about = {"batch": batch, "network": "mlp, width 64, 3 layers", "scored by": f"{solver_steps} RK4 steps", **settings}
        publish(part, rows, n=max(n for _, _, n in sets.values()), seeds=[0, 1, 2, 9], settings={**SETTINGS, **about})
    assert first is not None
    return first


SETS: dict[str, tuple[Any, int, int]] = {
    "8 Gaussians, r=4, s=.5": (eight_gaussians(), 900, 20_000),
    "8 Gaussians, r=2, s=.1": (eight_gaussians(2.0, 0.1), 1600, 4000),
    "25-grid": (grid_of_gaussians(), 1600, 4000),
    "checkerboard": (checkerboard(), 1600, 4000),
    "two moons": (two_moons(), 1600, 4000),
}


def flow() -> None:
    """Times of training lean towards the data: at the default of 0.5 and 1 the levels that tell the 25-grid's modes from a blur, of
    which the logit is about 4, are seldom looked at."""
    times = Times(data=1.0, mean=1.5, std=1.5)

    def score(family: Flow, x: Tensor, noise: Noise, steps: int) -> Likelihood:
        return family.score(x, noise, NOTHING, steps=steps)

    about = {"times": f"mean {times.mean}, std {times.std}"}
    few_steps(*planes("flow", lambda: Flow(Vector(2), MLP(Vector(2), width=64, layers=3), times), score, SETS, 12, about))


@torch.no_grad()
def few_steps(family: Flow, truth: Any, n: int = 2000) -> None:
    """How far few network calls end from where many do, root mean square in standard deviations of the data, and the energy
    distance 2 E|x−y| − E|x−x'| − E|y−y'| of what they make to the truth."""
    reference, keys = truth.sample(Noise(11), 4000), Noise(10).rows(range(n))
    reference = ((reference - reference.mean(0)) / reference.std()).float()
    within = float(torch.cdist(reference, reference).sum()) / (4000 * 3999)
    family.solver = "midpoint"
    end, rows = family.sample(keys, NOTHING, Steer(steps=128)), []
    for solver in ("euler", "adams", "midpoint", "heun"):
        family.solver = solver
        row: dict[str, Any] = {"solver": solver}
        for calls in (2, 4, 8, 16, 32):
            y = family.sample(keys, NOTHING, Steer(steps=calls if solver in ("euler", "adams") else calls // 2))
            energy = 2 * float(torch.cdist(y, reference).mean()) - float(torch.cdist(y, y).sum()) / (n * (n - 1)) - within
            row[f"off, {calls} calls"] = float((y - end).square().sum(1).mean().sqrt())
            row[f"energy, {calls}"] = round(energy, 5)
        rows.append(row)
    publish("flow, few steps", rows, n=n, seeds=[10, 11], settings={**SETTINGS, "truth": "8 Gaussians, r=4, s=.5", "bend": 1.5})


def probability_flow() -> None:
    schedule = Schedule(data=1.0, mean=-0.5, std=1.0)

    def score(family: Diffusion, x: Tensor, noise: Noise, steps: int) -> Likelihood:
        return family.log_prob_ode(x, noise, NOTHING, steps=steps)

    sets = {name: SETS[name] for name in list(SETS)[:1]}
    about = {"levels": f"log σ of mean {schedule.mean}, std {schedule.std}"}
    build = lambda: Diffusion(Vector(2), MLP(Vector(2), width=64, layers=3), schedule)  # noqa: E731
    planes("probability_flow", build, score, sets, 12, about)


def planar_vae(latent: int = 2, width: int = 64) -> VAE:
    space = Vector(2)
    observed = law(space, "written")
    writer = MLPWriter(space, latent=latent, channels=2 * observed.numbers, width=width)
    reader = MLPReader(space, features=2 * latent, width=width)
    return VAE(space, reader, CellDecoder(space, writer, observed), latent, free_bits=1.0)


PLANAR_VAE = {"network": "mlp, width 64, 2 layers", "free bits": 1, "latent": 2}


@torch.no_grad()
def vae(draws: int = 500) -> None:
    """Two trainings in a row: free bits, so that no latent is left unused, then the importance-weighted bound."""
    rows, batch, samples, steps = [], 256, 16, (1500, 1200)
    for name, (truth, _, n) in SETS.items():
        torch.manual_seed(0)
        family, plane = planar_vae(), Plane(truth, n)
        with torch.enable_grad():
            seconds = fit(family, batches(plane.pool, batch), steps[0], 5e-3)
            family.free_bits, family.samples = 0.0, samples
            seconds += fit(family, batches(plane.pool, batch), steps[1], 4e-3)
        began, keys = time.process_time(), Noise(0).rows(range(n))
        found = in_parts(partial(family.score, context=NOTHING, draws=draws), plane.x, keys)
        assert found.stderr is not None
        rows.append(
            {
                "truth": name,
                **lost(truth, plane.exact - found.value),
                "error of a bound, mean": float(found.stderr.mean()),
                "KL": round(family.monitor(plane.x, NOTHING, keys)["kl"], 3),
                "steps": f"{steps[0]} + {steps[1]}",
                "training CPU s": round(seconds),
                "scoring CPU s": round(time.process_time() - began),
            }
        )
        about = {"batch": batch, **PLANAR_VAE, "samples in training": samples, "K": draws}
        publish("vae", rows, n=20_000, seeds=[0, 1, 2, 9], settings={**SETTINGS, **about, "training points": POOL})


def lattice_vae(space: Tokens, latent: int = 4) -> VAE:
    decoder = TokenDecoder(Autoregressive(space, Transformer(64, 2, 4, pooled=latent), pooled=latent))
    return VAE(space, RecurrentReader(space, features=2 * latent, width=24), decoder, latent, free_bits=0.1)


LATTICE_VAE = {"encoder": "recurrent, width 24", "decoder": "transformer, width 64, 2 layers", "free bits": 0.1, "latent": 4}
LATTICES = {"Ising 4x4 free": ising(), "Ising 4x4 periodic": ising(periodic=True)}


@torch.no_grad()
def vae_tokens(n: int = 20_000, draws: int = 8) -> None:
    rows, steps = [], 800
    for name, truth in LATTICES.items():
        torch.manual_seed(0)
        family, lattice = lattice_vae(truth.space), Lattice(truth, n)
        with torch.enable_grad():
            seconds = fit(family, batches(lattice.pool, 128), steps, 3e-3)
        began, keys = time.process_time(), Noise(0).rows(range(n))
        found = in_parts(partial(family.score, context=NOTHING, draws=draws), lattice.x, keys, 1000)
        assert found.stderr is not None
        seen = family.monitor(lattice.x[:2000], NOTHING, keys[:2000])
        rows.append(
            {
                "truth": name,
                **lost(truth, lattice.exact - found.value),
                "error of a bound, mean": float(found.stderr.mean()),
                **{key: round(value, 3) for key, value in seen.items()},
                "steps": steps,
                "training CPU s": round(seconds),
                "scoring CPU s": round(time.process_time() - began),
            }
        )
    about = {"batch": 128, **LATTICE_VAE, "K": draws, "training points": POOL}
    publish("vae_tokens", rows, n=n, seeds=[0, 1, 2, 9], settings={**SETTINGS, **about})


@torch.no_grad()
def latent(n: int = 5000, few: int = 2000, draws: int = 8) -> None:
    """The plane's autoencoder is trained by the plain bound: the encoder of an importance-weighted one proposes latents, and need
    not say where an item's lie, which is what the prior is to learn. With the latents of the truth's own draws, a perfect prior, it
    makes draws that are rarer by 0.25 nats: so much is the decoder's."""
    rows = []
    for name, truth in {**LATTICES, "8 Gaussians, r=4, s=.5": eight_gaussians()}.items():
        torch.manual_seed(0)
        given: Plane | Lattice = Lattice(truth, n) if name in LATTICES else Plane(truth, n)
        autoencoder, size, steps, rate = (
            (lattice_vae(truth.space), 128, 800, 3e-3) if name in LATTICES else (planar_vae(), 256, 1500, 5e-3)
        )
        with torch.enable_grad():
            seconds = fit(autoencoder, batches(given.pool, size), steps, rate)
        models: dict[str, tuple[VAE | Latent, float]] = {"VAE alone": (autoencoder, seconds)}
        models |= {f"{kind} over its latent": over(autoencoder, kind, given.pool) for kind in PRIORS}
        for model, (family, seconds) in models.items():
            row: dict[str, Any] = {"truth": name, "model": model}
            if "score" in family.verbs:
                some = slice(few if model.startswith("flow") else n)  # an exact trace costs a pass for each number of the latent
                keys = Noise(0).rows(range(n))[some]
                found = in_parts(partial(family.score, context=NOTHING, draws=draws), given.x[some], keys, 1000)
                row |= {**lost(truth, given.exact[some] - found.value), "kind": found.kind}
            y = torch.cat([family.sample(Noise(8).rows(range(i, i + 1000)), NOTHING, Steer()) for i in range(0, n, 1000)])
            rows.append({**row, **likeness(given, y), "training CPU s": round(seconds)})
        rows.append({"truth": name, "model": "the truth itself", **likeness(given, given.scaled(truth.sample(Noise(12), n)))})
        about = {"K": draws, "planar VAE": PLANAR_VAE, "lattice VAE": LATTICE_VAE, "priors": "mlp, width 64, 3 layers"}
        publish("latent", rows, n=n, seeds=[0, 1, 2, 3, 5, 8, 9, 12], settings={**SETTINGS, **about})


def likeness(given: Plane | Lattice, y: Tensor) -> dict[str, Any]:
    """How much less likely under the truth draws are than its own (of a lattice: their mean energy less the exact one, in kT), and
    whether a classifier can tell them from it."""
    full = (y != 0).flatten(1).all(1)  # the truth knows full strings only
    rarer = -given.log_prob(y[full]) - given.entropy
    with torch.enable_grad():
        test = two_sample(given.features(given.x[: int(full.sum())]).numpy(), given.features(y[full]).numpy())
    return {
        "draws rarer by, nats": float(rarer.mean()),
        "its stderr": float(rarer.std()) / math.sqrt(len(rarer)),
        "auc of a classifier": test.auc,
        "auc stderr": test.stderr,
        "draws cut short": int((~full).sum()),
    }


PRIORS: dict[str, Callable[[Vector], Family]] = {
    "GAN": lambda space: GAN(
        space,
        MLPWriter(space, latent=2 * space.features, channels=space.features, width=64, layers=3),
        MLPReader(space, features=1, width=64, layers=3),
        latent=2 * space.features,
    ),
    "flow": lambda space: Flow(space, MLP(space, width=64, layers=3), Times(data=1.0)),
    # A bound looks evenly at all levels: where training looks at those that matter to draws alone, 4 numbers lose 15 nats.
    "diffusion": lambda space: Diffusion(
        space, MLP(space, width=64, layers=3), Schedule(data=1.0, mean=-0.5, std=1.0, uniform=0.5)
    ),
}


def over(autoencoder: VAE, kind: str, pool: Tensor) -> tuple[Latent, float]:
    """A prior trained on one latent of each item of ``pool``, and CPU seconds of that."""
    began, prior = time.process_time(), PRIORS[kind](autoencoder.latent)
    model = Latent(autoencoder, prior, lambda rows: NOTHING)
    model.begin(pool[:8192], NOTHING, Noise(5))
    keys = Noise(3).rows(range(len(pool)))
    u = torch.cat([model.latents(pool[i : i + 8192], keys[i : i + 8192]) for i in range(0, len(pool), 8192)])
    with torch.enable_grad():
        if isinstance(prior, GAN):
            duel(prior, u, 2000, 256, 2e-3, (0.1, 0.02), 0)
        else:
            fit(prior, batches(u, 512), 1500, 5e-3)
    return model, time.process_time() - began


def gan(n: int = 10_000, seeds: int = 3) -> None:
    truth, steps, batch, rows = grid_of_gaussians(), 32_000, 512, []
    for seed in range(seeds):
        torch.manual_seed(seed)
        critic = MLPReader(Vector(2), features=1, width=64, layers=3, waves=48, pitch=10.0)
        family = GAN(Vector(2), MLPWriter(Vector(2), latent=2, channels=2, width=64, layers=3), critic, latent=2)
        pool = truth.sample(Noise(1000 + seed), 1 << 17).float()
        family.begin(pool, NOTHING, Noise(0))
        seconds = duel(family, pool, steps, batch, 2e-3, (0.25, 0.01), seed)
        x = family.sample(Noise(100 + seed).rows(range(n)), NOTHING, Steer())
        test = two_sample(truth.sample(Noise(200 + seed), n).numpy(), x.numpy())
        found = {"auc of a classifier": test.auc, "its stderr": test.stderr, "training CPU s": round(seconds)}
        rows.append({"seed": seed, **modes(x), **found})
    real = truth.sample(Noise(300), n)
    test = two_sample(truth.sample(Noise(301), n).numpy(), real.numpy())
    rows.append({"seed": "truth", **modes(real), "auc of a classifier": test.auc, "its stderr": test.stderr})
    about = {"truth": "25-grid", "steps": steps, "batch": batch, "network": "mlp, width 64, 3 layers; critic with 48 waves"}
    publish("gan", rows, n=n, seeds=list(range(seeds)), settings={**SETTINGS, **about, "gamma": "0.25 to 0.01, geometrically"})


def duel(family: GAN, pool: Tensor, steps: int, batch: int, rate: float, gammas: tuple[float, float], seed: int) -> float:
    """The players in turn, each by its own Adam, rates falling as a cosine; leaves the average of the weights. CPU seconds."""
    began, parts = time.process_time(), nn.ModuleDict(dict(family.parts()))
    teams = {p: [w for part in family.team(p) for w in parts[part].parameters()] for p in family.players}
    optimisers = {p: torch.optim.Adam(team, lr=rate, betas=(0.0, 0.99), fused=True) for p, team in teams.items()}
    average = {k: v.detach().clone() for k, v in parts.state_dict().items()}
    noise = Noise(seed).fold("duel").rows(range(batch))
    for step in range(steps):
        family.gamma = gammas[0] * (gammas[1] / gammas[0]) ** (step / steps)
        for turn, (player, optimiser) in enumerate(optimisers.items()):
            optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2
            x = pool[torch.randint(len(pool), (batch,))]
            loss = family.loss(player, x, NOTHING, noise.fold(2 * step + turn))
            optimiser.zero_grad()
            loss.backward(inputs=teams[player])
            optimiser.step()
        for k, v in parts.state_dict().items():
            average[k].lerp_(v, 1 - min(0.995, (1 + step) / (10 + step)))
    parts.load_state_dict(average)
    return time.process_time() - began


def modes(x: Tensor) -> dict[str, Any]:
    """Of points on the 25-grid: modes with at least 20 points within 3 standard deviations, the share of points that lie so, and
    the total variation between the points' nearest modes and equal shares."""
    line = 2.0 * torch.arange(-2, 3)
    distance, nearest = torch.cdist(x.double(), torch.cartesian_prod(line, line).double()).min(1)
    near = torch.bincount(nearest[distance < 0.15], minlength=25)
    shares = torch.bincount(nearest, minlength=25) / len(x)
    return {
        "modes": int((near >= 20).sum()),
        "share within 3 sigma": float(near.sum()) / len(x),
        "total variation over modes": float((shares - 1 / 25).abs().sum()) / 2,
    }


@torch.no_grad()
def masked_diffusion(n: int = 20_000) -> None:
    truths: dict[str, tuple[Any, int]] = {
        "Ising 4x4 periodic": (ising(periodic=True), 1600),
        "Ising 4x4 free": (ising(), 1600),
        "hidden Markov, 3 states, 4 symbols, length 8": (HiddenMarkov(), 1200),
    }
    rows = []
    for name, (truth, steps) in truths.items():
        torch.manual_seed(0)
        family = MaskedDiffusion(truth.space, Bidirectional(64, 2, 4))
        family.begin(truth.sample(Noise(3), 512), NOTHING, Noise(0))
        with torch.enable_grad():
            seconds = fit(family, lambda noise, truth=truth: truth.sample(noise, 128), steps, 3e-3)  # type: ignore[misc]
        x, keys = truth.sample(Noise(9), n), Noise(4).rows(range(n))
        parts = [family.along(x[i : i + 1000], keys[i : i + 1000], NOTHING) for i in range(0, n, 1000)]
        gap = truth.log_prob(x) - torch.cat(parts).double()
        y = family.sample(Noise(8).rows(range(2000)), NOTHING, Steer())
        full = (y != 0).all(dim=1)[:, 0]  # the truth knows full strings only
        back = family.along(y[full], Noise(5).rows(range(int(full.sum()))), NOTHING).double() - truth.log_prob(y[full])
        rows.append(
            {
                "truth": name,
                "steps": steps,
                **lost(truth, gap, "bound's loss in nats"),
                "reverse, on 2000 draws of its own": float(back.mean()),
                "draws cut short": int((~full).sum()),
                "training CPU s": round(seconds),
            }
        )
        settings = {**SETTINGS, "batch": 128, "width": 64, "layers": 2, "orders an item": 1}
        publish("masked_diffusion", rows, n=n, seeds=[0, 1, 2, 3, 4, 8, 9], settings=settings)


@torch.no_grad()
def spline_flow() -> None:
    """The sharper the truth, the more bins: with 8 of them the 25-grid loses 1.6 nats after 800 steps, with 20 of them 0.05."""
    rows, trips, batch, bins = [], [], 512, 20
    for name, (truth, _, n) in SETS.items():
        torch.manual_seed(0)
        family, pool = SplineFlow(Vector(2), Splines("autoregressive", 2, bins=bins)), truth.sample(Noise(1), POOL)
        family.begin(pool, NOTHING, Noise(0))
        steps = 1500 if n == 20_000 else 1800
        with torch.enable_grad():
            seconds = fit(family, batches(pool.float(), batch), steps, 5e-3)
        x = truth.sample(Noise(9), n)
        gap = truth.log_prob(x) - torch.cat([family.log_prob(some, NOTHING) for some in x.float().split(2000)])
        y = family.sample(Noise(8).rows(range(n)), NOTHING, Steer()).double()
        back, reached = family.log_prob(y.float(), NOTHING) - truth.log_prob(y), ~truth.log_prob(y).isinf()
        rows.append(
            {
                "truth": name,
                **lost(truth, gap),
                "reverse, on its own draws": float(back[reached].mean()),
                "draws off the truth": int((~reached).sum()),
                "steps": steps,
                "training CPU s": round(seconds),
            }
        )
        trips.append({"weights": f"trained: {name}", **round_trip(family.flow, truth.sample(Noise(6), 10_000))})
        about = {"batch": batch, "network": f"autoregressive, 5 transforms, 2 hidden layers of 64, {bins} bins, bound 4"}
        publish("spline_flow", rows, n=20_000, seeds=[0, 1, 2, 8, 9], settings={**SETTINGS, **about})
        about["dtype"] = "float64"
        publish("spline_flow, trained round trips", trips, n=10_000, seeds=[0, 1, 2, 6], settings={**SETTINGS, **about})


@torch.no_grad()
def round_trip(flow: Splines, x: Tensor) -> dict[str, float]:
    """Largest errors of a flow in fp64: there and back, back and there, and of the worst layer alone, which inverts and applies."""
    flow.double()
    trips = {"x to z to x": 0.0, "z to x to z": 0.0, "worst layer alone": 0.0}
    for some in x.split(1000):
        z = (some - flow.mean) / flow.std  # of the size that a latent has
        trips["x to z to x"] = max(trips["x to z to x"], float((flow.inverse(flow(some, None)[0], None) - some).abs().max()))
        trips["z to x to z"] = max(trips["z to x to z"], float((flow(flow.inverse(z, None), None)[0] - z).abs().max()))
        for layer in flow.layers:
            part: Any = layer
            off = float((part(part.inverse(z.T, None), None)[0] - z.T).abs().max())
            trips["worst layer alone"] = max(trips["worst layer alone"], off)
    flow.float()
    return {**trips, "rows": len(x)}


@torch.no_grad()
def spline_round_trips() -> None:
    """Random weights: N(0, scale² / fan-in), biases N(0, (0.3 scale)²). What scale 1 promises, larger scales must lose: the error
    follows the condition of the map itself (docs/adr/0005-spline-round-trip.md)."""
    rows = []
    for kind in ("autoregressive", "coupling"):
        for features, scale, n in [(2, 1, 10_000), (16, 1, 10_000), (64, 1, 10_000), (16, 1.5, 1000), (16, 2, 1000), (16, 8, 1000)]:
            flow = Splines(kind, features).double()
            for i, parameter in enumerate(flow.parameters()):
                spread = scale * (0.3 if parameter.ndim == 1 or parameter.shape[1] == 1 else parameter.shape[1] ** -0.5)
                parameter.copy_(spread * Noise(0).fold(i).normal(*parameter.shape)[0])
            x = Noise(6).rows(range(n)).normal(features).double()
            rows.append({"network": kind, "features": features, "scale": scale, **round_trip(flow, x), "ε / σ_min": floor(flow, x)})
            publish("spline_round_trips", rows, n=10_000, seeds=[0, 6], settings={**SETTINGS, "dtype": "float64"})


def floor(flow: Splines, x: Tensor, count: int = 20) -> float:
    """By how much rounding z alone moves x, at the worst of some rows: ε over the least singular value of the Jacobian."""
    flow.double()
    jacobians = torch.func.vmap(torch.func.jacrev(lambda row: flow(row[None], None)[0][0]))(x[:count].double())
    return float(torch.finfo(torch.float64).eps / torch.linalg.svdvals(jacobians.detach())[:, -1].min())


if __name__ == "__main__":
    run_parts(
        solvers,
        likelihood,
        infill,
        vary,
        denoiser,
        autoregressive,
        masked_diffusion,
        flow,
        probability_flow,
        vae,
        vae_tokens,
        latent,
        gan,
        spline_flow,
        spline_round_trips,
    )

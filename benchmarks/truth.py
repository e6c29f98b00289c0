"""Families and samplers against distributions known exactly. Under four CPU-minutes in all.

`python benchmarks/truth.py [autoregressive] [denoiser] [solvers] [likelihood] [infill] [vary]`, all parts by default.

* autoregressive: what a trained model loses, mean(log p_true − log p_model) on fresh draws of the truth, in nats an item.
* denoiser: a trained network beside the exact denoiser of a mixture, as a share of how far that one moves.
* solvers: relative error on one Gaussian's probability-flow ODE, and the order that halving the steps shows.
* likelihood: ODE estimate and variational bound of a diffusion with the exact denoiser, beside the exact log-density.
* infill: moments of the cells made given those kept, beside the exact posterior of a Gaussian, by solver steps and visits.
* vary: moments of neighbours of the truth's own draws: they should be the truth's.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import publish, run

import headwater.families.diffusion as diffusion
from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Family, Kept, Steer
from headwater.families.diffusion import SOLVERS, Diffusion, karras
from headwater.networks.mlp import MLP
from headwater.networks.recurrent import Recurrent
from headwater.networks.transformer import Transformer
from headwater.noise import Noise
from headwater.spaces import Vector
from headwater.testing.truth import GaussianMixture, HiddenMarkov, ising

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
                "entropy": round(truth.entropy(), 5),
                "loss in nats": float(gap.mean()),
                "stderr": float(gap.std()) / math.sqrt(n),
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
        out = SOLVERS[solver](lambda x, sigma: x * 0.25 / (0.25 + sigma[:, None] ** 2), x, karras(steps, 0.002, 80.0))
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
    found = {("ODE, exact trace", steps): family.log_prob_ode(x, keys, NOTHING, steps=steps) for steps in (32, 64, 128)}
    found[("ODE, one probe", 64)] = family.log_prob_ode(x, keys, NOTHING, steps=64, exact=False)
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


PARTS = {f.__name__: f for f in (solvers, likelihood, infill, vary, denoiser, autoregressive)}


def main() -> None:
    torch.set_num_threads(1)
    asked = sys.argv[1:] or list(PARTS)
    if unknown := [a for a in asked if a not in PARTS]:
        raise HeadwaterError(f"PART: expected some of {', '.join(PARTS)}; got {unknown[0]}")
    for name in asked:
        PARTS[name]()


if __name__ == "__main__":
    run(main)

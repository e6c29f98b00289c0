"""Ours beside the peers: the same task, architecture and sizes, alternating in one process, CPU-seconds, one thread.

`python benchmarks/speed.py [PART …]`, all parts by default; peers come with `pip install
'headwater[bench]'`, and one that is not installed is left out.

* spline_sampling: rows a second drawn from an autoregressive spline flow, 64 features, 1024 rows at once.
* spline_density: rows a second scored by a coupling spline flow, 16 features, 1024 rows at once.
* diffusion_overhead: what a sampler adds to each step, under a network that does nothing.
* ar_decoding: tokens a second of a transformer with a key-value cache, 4 layers of 256, 64 rows of 64 tokens.
* ddim_small_mlp: a whole deterministic draw through a small network, the first noise apart.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import publish, run_parts, versions

from headwater.context import Context
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Steer
from headwater.families.diffusion import SOLVERS, Diffusion
from headwater.families.spline_flow import Splines
from headwater.networks.transformer import Transformer
from headwater.noise import Noise
from headwater.spaces import Tokens, Vector

Task = Callable[[], object]
SETTINGS = {"device": "cpu", "dtype": "float32", "threads": 1, "weights": "as each library begins, ours drawn at random"}
SPLINES: dict[str, Any] = {"transforms": 5, "hidden": 64, "layers": 2, "bins": 8, "bound": 5.0}


def alternated(tasks: Mapping[str, Task], rounds: int) -> dict[str, list[float]]:
    """CPU-seconds of each task, once a round: what else the machine does falls on all alike."""
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            began = time.process_time()
            with torch.no_grad():
                task()
            spent[name].append(time.process_time() - began)
            if spent[name][-1] > 1:
                print(f"{name}: {spent[name][-1]:.1f} CPU s", file=sys.stderr, flush=True)
    return spent


def rates(tasks: Mapping[str, Task], amount: int, unit: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each task, ours first: its median rate, and how many times as fast ours is, median over rounds."""
    spent = alternated(tasks, rounds)
    ours = next(iter(spent.values()))
    return [
        {
            "what": name,
            f"{unit}/s": round(amount / statistics.median(seconds)),
            "slowest": round(amount / max(seconds)),
            "fastest": round(amount / min(seconds)),
            "ours is faster by": statistics.median(s / o for s, o in zip(seconds, ours, strict=True)),
        }
        for name, seconds in spent.items()
    ]


def installed(*names: str) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name)]


def spline_flows(kind: str, features: int) -> dict[str, Any]:
    """The same flow of each library that is installed: name, (its distribution or model)."""
    torch.manual_seed(0)
    ours = Splines(kind, features, **SPLINES)
    for i, parameter in enumerate(ours.parameters()):  # the last layers begin at zero: give them weights, as elsewhere
        parameter.data = Noise(0).fold(i).normal(*parameter.shape)[0] * (
            0.3 if parameter.ndim == 1 or parameter.shape[1] == 1 else parameter.shape[1] ** -0.5
        )
    makers = {"zuko": of_zuko, "nflows": of_nflows, "normflows": of_normflows}
    return {"headwater": ours, **{name: makers[name](kind, features) for name in installed(*makers)}}


def of_zuko(kind: str, features: int) -> Any:
    import zuko

    hidden = [SPLINES["hidden"]] * SPLINES["layers"]
    passes = 2 if kind == "coupling" else None
    return zuko.flows.NSF(
        features, transforms=SPLINES["transforms"], hidden_features=hidden, bins=SPLINES["bins"], passes=passes, activation=nn.SiLU
    )()


def of_nflows(kind: str, features: int) -> Any:
    if "matplotlib" not in sys.modules and not installed("matplotlib"):  # it is imported for a picture, never drawn here
        stub = types.ModuleType("matplotlib")
        stub.pyplot = None  # type: ignore[attr-defined]
        sys.modules["matplotlib"] = stub
    from nflows import transforms
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow as Chain
    from nflows.nn.nets import MLP

    class Plain(MLP):
        def forward(self, inputs: Tensor, context: None = None) -> Any:
            return super().forward(inputs)

    shape = {"num_bins": SPLINES["bins"], "tails": "linear", "tail_bound": SPLINES["bound"]}
    hidden, silu = SPLINES["hidden"], nn.functional.silu
    chain: list[Any] = []
    for t in range(SPLINES["transforms"]):
        if kind == "coupling":
            mask = (torch.arange(features) + t) % 2
            net = lambda a, b: Plain([a], [b], [hidden] * SPLINES["layers"], activation=silu)  # noqa: E731
            chain.append(transforms.PiecewiseRationalQuadraticCouplingTransform(mask, net, **shape))
        else:
            net = {"num_blocks": SPLINES["layers"] - 1, "use_residual_blocks": False, "activation": silu}
            made = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform
            chain += [made(features, hidden, **net, **shape), transforms.ReversePermutation(features)]
    return Chain(transforms.CompositeTransform(chain), StandardNormal([features])).eval()


def of_normflows(kind: str, features: int) -> Any:
    """Its networks are residual: one block, a hidden layer more than the others' two."""
    import normflows

    chain: list[Any] = []
    for t in range(SPLINES["transforms"]):
        shape = {"num_bins": SPLINES["bins"], "tail_bound": SPLINES["bound"], "activation": nn.SiLU}
        sizes = (features, SPLINES["layers"] - 1, SPLINES["hidden"])
        if kind == "coupling":
            chain.append(normflows.flows.CoupledRationalQuadraticSpline(*sizes, **shape, reverse_mask=bool(t % 2)))
        else:
            chain += [
                normflows.flows.AutoregressiveRationalQuadraticSpline(*sizes, **shape),
                normflows.flows.Permute(features, "swap"),
            ]
    return normflows.NormalizingFlow(normflows.distributions.DiagGaussian(features, trainable=False), chain).eval()


def spline_sampling(rows: int = 1024, features: int = 64, rounds: int = 5) -> None:
    flows = spline_flows("autoregressive", features)
    draws: dict[str, Callable[[Any], Task]] = {
        "headwater": lambda flow: lambda: flow.inverse(Noise(1).rows(range(rows)).normal(features), None),
        "zuko": lambda flow: lambda: flow.sample((rows,)),
        "nflows": lambda flow: lambda: flow.sample(rows),
        "normflows": lambda flow: lambda: flow.sample(rows),
    }
    table = rates({name: draws[name](flow) for name, flow in flows.items()}, rows, "rows", rounds)
    settings = {**SETTINGS, **SPLINES, "features": features, "rounds": rounds, "peers": versions(list(flows)[1:])}
    publish("spline_sampling", table, n=rows, seeds=[0, 1], settings=settings)


def spline_density(rows: int = 1024, features: int = 16, rounds: int = 21) -> None:
    flows, x = spline_flows("coupling", features), Noise(1).rows(range(rows)).normal(features)

    def ours(flow: Splines) -> Tensor:
        z, log_det = flow(x, None)
        return log_det - 0.5 * (z.square() + 1.8378770664).sum(1)

    scores: dict[str, Callable[[Any], Task]] = {
        "headwater": lambda flow: lambda: ours(flow),
        "zuko": lambda flow: lambda: flow.log_prob(x),
        "nflows": lambda flow: lambda: flow.log_prob(x),
        "normflows": lambda flow: lambda: flow.log_prob(x),
    }
    table = rates({name: scores[name](flow) for name, flow in flows.items()}, rows, "rows", rounds)
    settings = {**SETTINGS, **SPLINES, "features": features, "rounds": rounds, "peers": versions(list(flows)[1:])}
    publish("spline_density", table, n=rows, seeds=[0, 1], settings=settings)


# --- autoregressive decoding ------------------------------------------------------------------------------------------

VOCABULARY = 128


def ar_decoding(rows: int = 64, length: int = 64, rounds: int = 9) -> None:
    torch.manual_seed(0)
    network = Transformer(256, 4, 4, activation="squared_relu")
    ours, keys = Autoregressive(Tokens(VOCABULARY, length), network), Noise(1).rows(range(rows))
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    for m in linear:
        nn.init.normal_(m.weight, std=m.in_features**-0.5)
    with torch.no_grad():
        ours.head.outputs[0].bias[0] = -1e9  # no row ends early  # type: ignore[index, operator]
    tasks: dict[str, Task] = {"headwater": lambda: ours.sample(keys, Context(), Steer())}
    if installed("transformers"):
        tasks["transformers, Llama"] = of_transformers(rows, length)
    x = {m.in_features: torch.zeros(rows, m.in_features) for m in linear}
    tasks["our matrix products alone"] = lambda: [m(x[m.in_features]) for _ in range(length) for m in linear]
    for task in tasks.values():
        task()
    table = rates(tasks, rows * length, "tokens", rounds)
    sizes = {"width": 256, "layers": 4, "heads": 4, "rows": rows, "tokens": length, "vocabulary": VOCABULARY, "rounds": rounds}
    settings = {**SETTINGS, **sizes, "parameters": sum(p.numel() for m in ours.parts().values() for p in m.parameters())}
    publish("ar_decoding", table, n=rows, seeds=[0, 1], settings={**settings, "peers": versions(["transformers"])})


def of_transformers(rows: int, length: int) -> Task:
    """As many parameters; its feed-forward layers have three matrices, narrower ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCABULARY, **sizes, bos_token_id=1, eos_token_id=None, pad_token_id=0)
    model, first = LlamaForCausalLM(config).eval(), torch.ones(rows, 1, dtype=torch.long)
    how = {"do_sample": True, "top_k": 0, "top_p": 1.0, "use_cache": True, "max_new_tokens": length}
    return lambda: model.generate(first, attention_mask=torch.ones_like(first), **how)


# --- diffusion samplers -----------------------------------------------------------------------------------------------

BATCH, WIDTH, STEPS = 64, 32, 50


class Nothing(nn.Module):
    """A network that does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = torch.zeros(BATCH, WIDTH)

    def forward(self, x: Tensor, level: Tensor, context: Any = None) -> Tensor:
        return self.answer


class Small(nn.Module):
    """One hidden layer that hears the noise level."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.into, self.level, self.out = nn.Linear(WIDTH, width), nn.Linear(1, width), nn.Linear(width, WIDTH)

    def forward(self, x: Tensor, level: Tensor, context: Any = None) -> Tensor:
        out: Tensor = self.out(nn.functional.silu(self.into(x) + self.level(level[:, None])))
        return out


def of_ours(network: nn.Module, solver: str) -> Callable[[], Task]:
    """What is timed is all that the family does after its first noise, tables included."""
    family, x = Diffusion(Vector(WIDTH), network, solver=solver, steps=STEPS), 80 * Noise(1).rows(range(BATCH)).normal(WIDTH)
    return lambda: lambda: family._solve(x, 80.0, Context(), Steer())


def of_diffusers(network: nn.Module, scheduler: str) -> Callable[[], Task]:
    """The loop of its pipelines; setting the time steps is not timed."""
    import diffusers

    made, x = getattr(diffusers, scheduler)(), Noise(1).rows(range(BATCH)).normal(WIDTH)

    def prepare() -> Task:
        made.set_timesteps(STEPS)

        def draw() -> Tensor:
            y: Tensor = x * made.init_noise_sigma
            for t in made.timesteps:
                out = network(made.scale_model_input(y, t), t.float().expand(BATCH))
                y = made.step(out, t, y).prev_sample
            return y

        return draw

    return prepare


def per_step(makers: Mapping[str, Callable[[], Task]], rounds: int) -> dict[str, list[float]]:
    """CPU-microseconds a step, by rounds in turn."""
    spent: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, prepare in makers.items():
            task = prepare()
            began = time.process_time()
            with torch.no_grad():
                task()
            spent[name].append((time.process_time() - began) / STEPS * 1e6)
    return spent


def diffusion_overhead(rounds: int = 41) -> None:
    null = Nothing()
    makers = {f"headwater {solver}": of_ours(null, solver) for solver in SOLVERS}
    if installed("diffusers"):
        for short in ("DDPM", "DDIM", "EulerDiscrete", "HeunDiscrete", "DPMSolverMultistep"):
            makers[f"diffusers {short}"] = of_diffusers(null, f"{short}Scheduler")
    spent = per_step(makers, rounds)
    table = [{"what": name, "us a step": statistics.median(us), "least": min(us), "most": max(us)} for name, us in spent.items()]
    settings = {**SETTINGS, "shape": [BATCH, WIDTH], "steps": STEPS, "rounds": rounds, "peers": versions(["diffusers"])}
    notes = "a step of heun asks the network twice; diffusers' Heun counts each question as a step; its DDPM draws noise at each"
    publish("diffusion_overhead", table, n=BATCH, seeds=[1], settings={**settings, "notes": notes})


def ddim_small_mlp(rounds: int = 41) -> None:
    torch.manual_seed(0)
    small = Small()
    level = torch.zeros(BATCH)

    def bare() -> None:
        x = torch.zeros(BATCH, WIDTH)
        for _ in range(STEPS):
            small(x, level)

    keys = Noise(1).rows(range(BATCH))
    makers = {"headwater euler (DDIM)": of_ours(small, "euler")}
    if installed("diffusers"):
        makers["diffusers DDIM"] = of_diffusers(small, "DDIMScheduler")
    makers |= {"the network alone": lambda: bare, "our first noise": lambda: lambda: keys.normal(WIDTH)}
    spent = per_step(makers, rounds)
    ours = next(iter(spent.values()))
    table = [
        {
            "what": name,
            "ms a draw": statistics.median(us) * STEPS / 1000,
            "ours is faster by": statistics.median(u / o for u, o in zip(us, ours, strict=True)),
        }
        for name, us in spent.items()
    ]
    settings = {**SETTINGS, "shape": [BATCH, WIDTH], "hidden": 64, "steps": STEPS, "rounds": rounds}
    publish("ddim_small_mlp", table, n=BATCH, seeds=[0, 1], settings={**settings, "peers": versions(["diffusers"])})


if __name__ == "__main__":
    run_parts(spline_sampling, spline_density, ar_decoding, diffusion_overhead, ddim_small_mlp)

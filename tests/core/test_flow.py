"""Flow matching against flows and densities known exactly. ``benchmarks/truth.py flow`` is the long version, with figures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import toys
from torch import Tensor

from headwater.context import Context
from headwater.families.contract import Steer
from headwater.families.diffusion import solve
from headwater.families.divergence import divergence, transport
from headwater.families.flow import SOLVERS, Flow, Times, level, times
from headwater.families.observation import inside, level_of, middle
from headwater.model import build
from headwater.networks.mlp import MLP
from headwater.noise import Noise
from headwater.spaces import Grid, Vector
from headwater.testing.truth import GaussianMixture

NOTHING = Context()
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-0.5, 0.2], [0.4, -0.1]]),
    torch.tensor([[[0.04, 0.01], [0.01, 0.02]], [[0.02, -0.01], [-0.01, 0.05]]]),
)


class Exact(Flow):
    """The velocity of a mixture, by its denoiser at x/t: v = (D - x) / (1 - t), both ends approached."""

    def __init__(self, truth: GaussianMixture, space: Grid | Vector | None = None, **options: Any) -> None:
        super().__init__(space or truth.space, MLP(truth.space, width=1, layers=0), **options)
        self.truth = truth

    def velocity(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        t = t.double().clamp(1e-9, 1 - 1e-7)
        wide = t.reshape(-1, *[1] * (x.ndim - 1))
        return ((self.truth.denoiser(x.double() / wide, (1 - t) / t) - x) / (1 - wide)).to(x.dtype)


def keys(n: int, seed: int = 0) -> Noise:
    return Noise(seed).rows(range(n))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("adams", 2), ("midpoint", 3), ("heun", 2)])
def test_solvers_have_their_order(solver: str, order: int) -> None:
    """One Gaussian of standard deviation s: points keep their place in units of sqrt((1-t)² + t²s²), both ways.
    The midpoint rule gains an order, that square being quadratic in t."""
    s = 0.3

    def velocity(x: Tensor, t: float) -> Tensor:
        return x * (t * s**2 - (1 - t)) / ((1 - t) ** 2 + (t * s) ** 2)

    def error(steps: int, back: bool) -> float:
        along = times(steps)[::-1] if back else times(steps)
        end = float(solve(velocity, torch.ones(1, 1, dtype=torch.float64), SOLVERS[solver](along)))
        return abs(end * s - 1) if back else abs(end / s - 1)

    for back in (False, True):
        errors = [error(n, back) for n in (64, 128, 256)]
        for coarse, fine in zip(errors, errors[1:], strict=False):
            assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    calls = []
    solve(lambda x, t: calls.append(t) or x, torch.ones(1, 1), SOLVERS[solver](times(8)))  # type: ignore[func-returns-value]
    assert len(calls) == (8 if solver in ("euler", "adams") else 16) and calls[0] == 0 and max(calls) <= 1


def test_transport_is_of_fourth_order() -> None:
    """A matrix acting for one unit of time: the determinant's logarithm is its trace, the map its exponential."""
    a = torch.tensor([[0.5, -1.0, 0.3], [0.2, 1.5, -0.4], [-0.6, 0.1, -0.7]], dtype=torch.float64)
    x = keys(4).normal(3).double()
    want = x @ torch.linalg.matrix_exp(a).T
    errors = []
    for steps in (4, 8):
        end, change, stderr = transport(lambda x, t: x @ a.T, x, [i / steps for i in range(steps + 1)], keys(4))
        assert torch.allclose(change, a.trace().expand(4)) and stderr is None
        errors.append(float((end - want).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.3)
    _, change, stderr = transport(lambda x, t: x @ a.T, x, [0.0, 0.5, 1.0], keys(4), exact=False, probes=400)
    assert stderr is not None and bool(((change - a.trace()).abs() < 4 * stderr).all()) and 0.01 < float(stderr.max()) < 0.2


def test_divergence_runs_the_function_once() -> None:
    calls = []
    x = keys(5).normal(2)

    def function(x: Tensor) -> Tensor:
        calls.append(0)
        return torch.stack([x[:, 0] ** 2 * x[:, 1], x[:, 1].sin()], 1)

    value, found = divergence(function, x, torch.eye(2)[:, None].expand(2, 5, 2))
    assert len(calls) == 1 and torch.equal(value, function(x))
    assert torch.allclose(found.sum(0), (2 * x[:, 0] * x[:, 1] + x[:, 1].cos()).double(), atol=1e-6)


def test_the_path_gives_the_density() -> None:
    x = MIXTURE.sample(Noise(2), 200).float()
    found, truth = Exact(MIXTURE).score(x, keys(200), NOTHING), MIXTURE.log_prob(x)
    assert found.kind == "estimate" and found.stderr is None
    assert float((found.value - truth).abs().max()) < 0.01 and abs(float((found.value - truth).mean())) < 1e-3
    probed = Exact(MIXTURE).score(x, keys(200), NOTHING, exact=False)
    assert probed.stderr is not None
    z = (probed.value - truth) / probed.stderr.clamp(min=1e-3)
    assert 0.3 < float(z.abs().median()) < 2  # four probes: the standard error has the right size


def test_grey_levels_turn_densities_into_probabilities() -> None:
    one = GaussianMixture(torch.ones(1), torch.zeros(1, 4), 0.1 * torch.eye(4)[None])
    x = one.sample(Noise(0), 5).float().reshape(5, 1, 2, 2).clamp(-0.99, 0.99)
    plain, grey = (Exact(one, Grid(1, (2, 2), levels)).score(x, keys(5), NOTHING) for levels in (None, 256))
    assert torch.allclose(grey.value - plain.value, torch.full((5,), 4 * math.log(2 / 256)).double(), atol=0.2)
    assert torch.allclose(plain.value, one.log_prob(x.flatten(1)), atol=1e-3)
    moved = Exact(one, Grid(1, (2, 2), 2))
    for exact in (True, False):  # at two levels: where in its bin a value lies says nothing, and the mean over bins is below log P
        here, there = (moved.score(v, keys(5), NOTHING, exact=exact) for v in (x, 0.5 * x.sign()))
        assert torch.equal(here.value, there.value) and here.stderr is not None
    low = torch.special.ndtr(torch.tensor([0.0, 1 / math.sqrt(0.1)])).diff().log()
    many = keys(400)
    found = moved.score(torch.full((400, 1, 2, 2), 0.5), many, NOTHING, steps=4, places=2)
    error = float(found.value.std()) / 20
    assert found.stderr is not None and float(found.stderr.square().mean().sqrt()) == pytest.approx(20 * error, rel=0.15)
    assert float(found.value.mean()) < 4 * float(low) + 3 * error and float(found.value.mean()) > 4 * float(low) - 8


def test_training_puts_grey_levels_anywhere_in_their_bins() -> None:
    made = toys.model(toys.Spots(), toys.recipe("spots", "unet", family="flow", labels=0)).family
    x = keys(6).normal(1, 8, 8).clamp(-0.9, 0.9)
    for levels in (None, 4):
        made.space = Grid(1, (8, 8), levels)
        rough, middles = (made.loss("model", v, NOTHING, keys(6)) for v in (x, middle(level_of(x, 4), 4)))
        assert torch.equal(rough, middles) == (levels == 4)


def test_inside_is_anywhere_in_the_bin() -> None:
    x = middle(keys(3000).below(4, 2), 4)
    space, key = Grid(1, (2,), levels=4), keys(3000, 1)
    found = inside(x, space, key)
    assert torch.equal(level_of(found, 4), level_of(x, 4)) and torch.equal(inside(found, space, key), found)
    place = (found - x) * 4
    assert float(place.mean()) == pytest.approx(0, abs=0.03) and float(place.var()) == pytest.approx(1 / 3, abs=0.02)
    assert inside(x, Grid(1, (2,)), key) is x and inside(x, Vector(2), key) is x


def test_it_denoises_at_every_level() -> None:
    """Also grids of another size than the space's, and levels of any height."""
    x = 2 * keys(60).normal(2)
    for sigma in (1e-3, 0.1, 1.0, 50.0):
        at = torch.full((60,), sigma)
        assert torch.allclose(Exact(MIXTURE).denoise(x, at, NOTHING), MIXTURE.denoiser(x, at), atol=2e-4)
    made = toys.model(toys.Spots(), toys.recipe("spots", "unet", family="flow", labels=0))
    high = torch.tensor([1e-6, 1e6])
    with torch.no_grad():
        out = made.family.denoise(keys(2).normal(1, 11, 13) * high[:, None, None, None], high, NOTHING)  # type: ignore[attr-defined]
    assert out.shape == (2, 1, 11, 13) and bool(torch.isfinite(out).all()) and float(out.abs().max()) < 50


def test_encoding_and_decoding_undo_each_other() -> None:
    x, n = MIXTURE.sample(Noise(3), 3000).float(), keys(3000)
    family = Exact(MIXTURE, solver="heun", steps=60)
    z = family.encode(x, NOTHING)
    assert family.latent == family.space and torch.allclose(family.decode(z, n, NOTHING, Steer()), x, atol=0.01)
    assert torch.allclose(z.mean(0), torch.zeros(2), atol=0.07) and torch.allclose(torch.cov(z.T), torch.eye(2), atol=0.1)


def test_samples_have_the_moments_of_the_truth() -> None:
    for solver in SOLVERS:
        steps = 80 if solver == "euler" else 24
        y = Exact(MIXTURE, solver=solver, steps=steps).sample(keys(4000, 1), NOTHING, Steer()).double()
        assert torch.allclose(y.mean(0), MIXTURE.mean(), atol=0.03)
        assert torch.allclose(torch.cov(y.T), MIXTURE.covariance(), atol=0.015)
    cool = Exact(MIXTURE).sample(keys(4000, 1), NOTHING, Steer(temperature=0.5)).double()
    assert float(torch.cov(cool.T).trace()) < 0.8 * float(MIXTURE.covariance().trace())


def test_varying_stays_in_the_distribution() -> None:
    family, x = Exact(MIXTURE), MIXTURE.sample(Noise(4), 4000).float()
    assert torch.equal(family.vary(x, 0.0, keys(4000, 5), NOTHING, Steer()), x)
    distance = []
    for strength in (0.2, 0.5, 1.0):
        y = family.vary(x, strength, keys(4000, 5), NOTHING, Steer())
        assert torch.allclose(torch.cov(y.double().T), MIXTURE.covariance(), atol=0.02)
        distance.append(float((y - x).square().sum(1).mean()))
    assert distance == sorted(distance) and distance[-1] == pytest.approx(2 * float(MIXTURE.covariance().trace()), rel=0.1)


def test_guidance_mixes_velocities() -> None:
    """The network says how many numbers it was told: 1 with a condition and 0 without, so guidance w gives w."""
    made = Flow(Vector(2), MLP(Vector(2), width=1, layers=0))

    def told(x: Tensor, t: Tensor, context: Context) -> Tensor:
        assert context.pooled is not None
        return context.pooled.expand_as(x)

    made.velocity = told  # type: ignore[method-assign]
    context = Context(pooled=torch.ones(3, 1), null=Context(pooled=torch.zeros(3, 1)))
    for w in (0.0, 1.0, 2.5):
        end = made.decode(torch.zeros(3, 2), keys(3), context, Steer(guidance=w))
        assert torch.allclose(end, torch.full((3, 2), w))


def test_the_target_has_variance_one_and_times_are_drawn_as_asked() -> None:
    """What is left for the network of data with standard deviation σd, at every time."""
    seen: list[Tensor] = []

    class Spy(MLP):
        def forward(self, x: Tensor, noise_level: Tensor, context: Context) -> Tensor:
            seen.append(noise_level)
            return 0 * x

    n = 20_000
    for asked in (Times(0.7, 0.3, 1.2, 0.0), Times(0.7, 0.0, 1.0, 1.0), Times(0.7, 2.0, 0.1, 0.25)):
        made = Flow(Vector(2), Spy(Vector(2), width=1, layers=0), asked)
        loss = made.loss("model", 0.7 * keys(n, 8).normal(2), NOTHING, keys(n, 9))
        assert float(loss) == pytest.approx(1.0, abs=0.03)
    grid = torch.linspace(0, 1, 10_001)
    drawn = [grid[torch.searchsorted(level(grid).flip(0), row).clamp(max=10_000).neg() + 10_000] for row in seen]
    assert float(drawn[0].logit(1e-6).mean()) == pytest.approx(0.3 - math.log(0.7), abs=0.04)
    assert float(drawn[0].logit(1e-6).std()) == pytest.approx(1.2, abs=0.04)
    assert torch.allclose(drawn[1].quantile(torch.tensor([0.1, 0.5, 0.9])), torch.tensor([0.1, 0.5, 0.9]), atol=0.02)
    assert float((drawn[2] < 0.8).float().mean()) == pytest.approx(0.25 * 0.8, abs=0.02)


def test_a_trained_flow_knows_two_clouds() -> None:
    torch.manual_seed(0)
    family = Flow(Vector(2), MLP(Vector(2), width=48, layers=2), Times(data=0.5))
    optimiser = torch.optim.Adam(family.parts()["network"].parameters(), lr=6e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / 300)
    pool = MIXTURE.sample(Noise(1), 300 * 256).float().reshape(300, 256, 2)
    for step, x in enumerate(pool):
        optimiser.zero_grad()
        family.loss("model", x, NOTHING, Noise(2).fold(step).rows(range(256))).backward()
        optimiser.step()
        schedule.step()
    x = MIXTURE.sample(Noise(9), 500)
    gap = MIXTURE.log_prob(x) - family.score(x.float(), keys(500), NOTHING, steps=8).value
    assert -0.03 < float(gap.mean()) < 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "rk9"}, "unknown solver 'rk9'; known: euler, adams, midpoint, heun"),
        ({"steps": 0}, "steps must be at least 1; got 0"),
        ({"uniform": 1.5}, "uniform from 0 to 1"),
        ({"speed": 1}, "speed"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    from headwater.errors import HeadwaterError

    recipe = toys.recipe("points", "mlp", family="flow", options=options)
    with pytest.raises(HeadwaterError, match=f"^recipe for flow: .*{message}"):
        build(recipe, Vector(2), (), {})

"""Exact spline flows: the spline itself, what the layers' Jacobians look like, the incremental inverse, densities, round trips."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import toys
from torch import Tensor

from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.families.contract import Steer
from headwater.families.observation import middle
from headwater.families.spline_flow import SplineFlow, Splines, orders
from headwater.networks.splines import Coupling, MadeLayer, spline, spline_inverse
from headwater.noise import Noise
from headwater.spaces import Grid, Vector
from headwater.testing.truth import two_moons

KINDS = ("coupling", "autoregressive")
NOTHING = Context()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return Noise(seed).normal(*shape)[0].double()


def randomised(module: Any, scale: float = 1.0) -> Any:
    """fp64 weights of ``scale`` / √fan-in and biases of 0.3 ``scale``: no layer is left at zero."""
    module.double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            spread = 0.3 if parameter.ndim == 1 or parameter.shape[1] == 1 else parameter.shape[1] ** -0.5
            parameter.copy_(scale * spread * Noise(7).fold(i).normal(*parameter.shape)[0])
    return module


def flow(kind: str, features: int, scale: float = 1.0, **options: Any) -> Splines:
    made: Splines = randomised(Splines(kind, features, **options), scale)
    made.mean.copy_(0.5 * draw(features, seed=3))
    made.std.copy_(1 + 0.3 * draw(features, seed=4).tanh())
    return made


# --- the spline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.3, 3.0, 100.0])
@pytest.mark.parametrize("bins", [2, 5, 8])
def test_a_spline_is_monotone_with_this_slope_and_this_inverse(bins: int, scale: float) -> None:
    n, bound = 4000, 3.0
    raw, x = scale * draw(3 * bins - 1, n, seed=1), (2 * draw(n)).requires_grad_()
    y, log_slope = spline(x, raw, bound)
    (slope,) = torch.autograd.grad(y.sum(), x)
    x, y, log_slope = x.detach(), y.detach(), log_slope.detach()
    assert torch.allclose(slope.log(), log_slope, atol=1e-9)
    step = 1e-6
    rise = (spline(x + step, raw, bound)[0] - spline(x - step, raw, bound)[0]) / (2 * step)
    assert float(((rise / slope - 1).abs() < 1e-3).double().mean()) > 0.999  # a step may cross a knot
    outside = x.abs() > bound
    assert torch.allclose(y[outside], x[outside], atol=1e-14) and float(log_slope[outside].abs().max()) < 1e-12
    assert float((y - x).abs().max()) > 0.3 and int(outside.sum()) > 100
    back = spline_inverse(y, raw, bound)
    assert float(((back - x).abs() * slope).max()) < 1e-13  # in units of y: what was lost by rounding y
    assert float((back - x).abs().max()) < 1e-9  # for bin shares and slopes are bounded


def test_at_its_edges_and_knots_a_spline_is_continuous() -> None:
    raw, bound = draw(23, 2000, seed=1), 4.0
    for edge in (-bound, bound):
        at = torch.full((2000,), edge, dtype=torch.float64)
        for near in (at, at.nextafter(-2 * at.abs()), at.nextafter(2 * at.abs())):
            assert torch.allclose(spline(near, raw, bound)[0], at, atol=1e-14)
            assert torch.allclose(spline_inverse(near, raw, bound), at, atol=1e-13)
    y, log_slope = spline(torch.linspace(-5, 5, 20_001).double(), raw[:, :1].expand(-1, 20_001), bound)
    assert bool((y.diff() > 0).all()) and float(log_slope.diff().abs().max()) < 0.02


def test_splines_work_in_fp32_and_learn_beyond_their_bound() -> None:
    raw, x = draw(23, 5000, seed=1).float(), (3 * draw(5000)).float().requires_grad_()
    y, log_slope = spline(x, raw, 4.0)
    assert y.dtype == log_slope.dtype == torch.float32
    assert float((spline_inverse(y, raw, 4.0) - x).detach().abs().max()) < 1e-4
    (y + log_slope).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()
    assert float((x.grad[x.detach().abs() > 4] - 1).abs().max()) < 1e-6


# --- the layers ---------------------------------------------------------------------------------------------------------

SIZES = [(1, 4, 0), (2, 3, 0), (5, 16, 0), (9, 5, 2), (6, 32, 3)]  # features, hidden units, numbers of context


@pytest.mark.parametrize(("features", "hidden", "context"), SIZES)
def test_the_masks_are_autoregressive(features: int, hidden: int, context: int) -> None:
    layer = randomised(MadeLayer(features, 4, 3.0, hidden, 2, context), 1.5)
    told = draw(context, 1, seed=2) if context else None
    x = 0.7 * draw(features, 1)
    with torch.no_grad():
        _, log_det = layer(x, told)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[:, None], told)[0][:, 0], x[:, 0])
    assert bool((jacobian.triu(1) == 0).all()) and bool((jacobian.diagonal() > 0).all())
    assert torch.allclose(jacobian.diagonal().log().sum(), log_det[0])
    if hidden >= features - 1 + bool(context):  # then every feature sees all those before it
        assert bool((jacobian[torch.ones_like(jacobian).tril(-1).bool()] != 0).all())
    if context:
        moved = torch.autograd.functional.jacobian(lambda c: layer(x, c)[0][:, 0], told)
        assert bool((moved[:, :, 0].abs().amax(1) > 0).all())  # the first feature hears the context too


def one_by_one(layer: MadeLayer, y: Tensor, context: Tensor | None) -> Tensor:
    """The plain inverse: a full pass of the network for each feature."""
    x = torch.zeros_like(y)
    for i in range(layer.features):
        raw = layer.network(x, context).unflatten(0, (-1, layer.features))[:, i]
        x[i] = spline_inverse(y[i], raw, layer.bound)
    return x


@pytest.mark.parametrize(("features", "hidden", "context"), SIZES)
@torch.no_grad()
def test_the_incremental_inverse_is_the_slow_one(features: int, hidden: int, context: int) -> None:
    for depth in (1, 3):
        layer = randomised(MadeLayer(features, 4, 3.0, hidden, depth, context))
        y, told = 2 * draw(features, 200), draw(context, 200, seed=2) if context else None
        x = layer.inverse(y, told)
        assert torch.allclose(x, one_by_one(layer, y, told), atol=1e-12)
        assert torch.allclose(layer(x, told)[0], y, atol=1e-12)


@torch.no_grad()
def test_the_incremental_inverse_computes_each_unit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, made, addmm = MadeLayer(12, 4, 3.0, 20, 3, 0), [], torch.addmm

    def spy(bias: Tensor, left: Tensor, right: Tensor, **more: Any) -> Tensor:
        made.append(len(left))
        return addmm(bias, left, right, **more)

    monkeypatch.setattr(torch, "addmm", spy)
    layer.inverse(torch.zeros(12, 2), None)
    assert sum(made) == 3 * 20 + 12 * 11


@torch.no_grad()
def test_a_coupling_keeps_its_first_half() -> None:
    layer, x = randomised(Coupling(7, 4, 3.0, 16, 2, 0)), draw(7, 50)
    y, _ = layer(x, None)
    assert torch.equal(y[:3], x[:3]) and bool((y[3:] != x[3:]).all())
    assert torch.allclose(layer.inverse(y, None), x, atol=1e-12)


@pytest.mark.parametrize("features", [2, 3, 8, 13])
def test_orders_leave_no_feature_out(features: int) -> None:
    found = orders(features, 4)
    for order in found:
        assert sorted(order.tolist()) == list(range(features))
    moved = [set(order[features // 2 :].tolist()) for order in found]
    assert moved[0] | moved[1] == moved[2] | moved[3] == set(range(features))


# --- densities and round trips ------------------------------------------------------------------------------------------


def plane(half: float, nodes: int) -> tuple[Tensor, float]:
    step = 2 * half / nodes
    line = -half + step * (torch.arange(nodes, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(line, line), step**2


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_density_integrates_to_one_and_samples_follow_it(kind: str) -> None:
    n = 20_000
    made = SplineFlow(Vector(2), flow(kind, 2, 1.5, context=3, transforms=3, hidden=8, bins=4))
    x, area = plane(8.0, 240)
    told = Context(pooled=draw(1, 3, seed=5))
    log_prob = made.log_prob(x, Context(pooled=told.pooled.expand(len(x), 3)))  # type: ignore[union-attr]
    density = log_prob.exp() * area
    assert float(density.sum()) == pytest.approx(1.0, abs=2e-3)
    wide = Context(pooled=told.pooled.expand(n, 3))  # type: ignore[union-attr]
    y = made.sample(Noise(1).rows(range(n)), wide, Steer())
    # counts in squares of 12 x 12 nodes, by Pearson's test at about five standard deviations
    square = density.reshape(20, 12, 20, 12).sum((1, 3)).flatten() * n
    place = ((y + 8.0) / 0.8).floor().clamp(0, 19).long()
    counts = torch.bincount(20 * place[:, 0] + place[:, 1], minlength=400).double()
    common = square > 5
    statistic = float(((counts - square)[common] ** 2 / square[common]).sum())
    freedom = int(common.sum())
    assert freedom > 30 and statistic < freedom + 5 * math.sqrt(2 * freedom)
    assert float(counts[~common].sum()) < 2 * float(square[~common].sum()) + 20
    gap = made.log_prob(y, wide).mean() - (density * log_prob).sum()
    assert abs(float(gap)) < 0.05


@pytest.mark.parametrize("features", [2, 16, 64])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_random_weights_survive_an_fp64_round_trip(kind: str, features: int) -> None:
    made, x = flow(kind, features), draw(500, features)
    z, _ = made(x, None)
    assert float((z - x).abs().max()) > 0.5
    assert float((made.inverse(z, None) - x).abs().max()) < 1e-9
    assert float((made(made.inverse(x, None), None)[0] - x).abs().max()) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_layer_answers_for_its_own_rounding_whatever_its_weights(kind: str) -> None:
    """docs/adr/0005: weights eight times as large make the flow's inverse ill-conditioned, not its inversion inexact."""
    made, x = flow(kind, 32, 8.0), draw(500, 32)
    for layer in made.layers:
        y: Any = layer
        assert float((y(y.inverse(x.T, None), None)[0] - x.T).abs().max()) < 1e-10
    assert float((made.inverse(made(x, None)[0], None) - x).abs().max()) > 1e-6  # else the decision record is out of date


# --- the family ---------------------------------------------------------------------------------------------------------


def test_an_untrained_flow_is_the_normal_of_its_data() -> None:
    x = torch.tensor([3.0, -1.0]) + torch.tensor([2.0, 0.1]) * draw(5000, 2).float()
    made = SplineFlow(Vector(2), Splines("autoregressive", 2))
    made.begin(x, NOTHING, Noise(0))
    normal = torch.distributions.Normal(x.mean(0), x.std(0, correction=0))
    assert torch.allclose(made.log_prob(x, NOTHING).float(), normal.log_prob(x).sum(1), atol=1e-3)
    y = made.sample(Noise(0).rows(range(4000)), NOTHING, Steer())
    assert torch.allclose(y.mean(0), x.mean(0), atol=0.1) and torch.allclose(y.std(0), x.std(0), rtol=0.1)
    cold = made.sample(Noise(0).rows(range(4000)), NOTHING, Steer(temperature=0.5))
    assert torch.allclose(cold.std(0), y.std(0) / 2, rtol=0.05)
    still = torch.cat([x, torch.ones(5000, 1)], 1)
    made = SplineFlow(Vector(3), Splines("coupling", 3))
    made.begin(still, NOTHING, Noise(0))
    assert bool(torch.isfinite(made.log_prob(still, NOTHING)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_encode_decode_and_vary(kind: str) -> None:
    made = SplineFlow(Grid(1, (2, 3)), flow(kind, 6, hidden=16))
    assert made.latent == Vector(6)
    keys, x = Noise(2).rows(range(4000)), draw(4000, 1, 2, 3, seed=9)
    z = made.encode(x, NOTHING)
    assert z.shape == (4000, 6) and torch.allclose(made.decode(z, keys, NOTHING, Steer()), x, atol=1e-8)
    items = made.sample(Noise(3).rows(range(4000)), NOTHING, Steer())
    assert torch.equal(made.vary(items, 0.0, keys, NOTHING, Steer()), items)
    before = made.encode(items, NOTHING)
    for strength in (0.3, 1.0):
        after = made.encode(made.vary(items, strength, keys, NOTHING, Steer()), NOTHING)
        assert float((before * after).mean()) == pytest.approx(math.sqrt(1 - strength**2), abs=0.03)
        assert float(after.std()) == pytest.approx(1.0, abs=0.03)


def fit(family: SplineFlow, batch: Callable[[int], tuple[Tensor, Context]], steps: int) -> None:
    modules = torch.nn.ModuleDict(dict(family.parts()))
    optimiser = torch.optim.Adam(modules.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2 * (1 - step / steps)))
    for step in range(steps):
        loss = family.loss("model", *batch(step), Noise(0).fold(step).rows(range(256)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def test_it_learns_two_moons() -> None:
    torch.manual_seed(0)
    truth, made = two_moons(), SplineFlow(Vector(2), Splines("coupling", 2, transforms=4, hidden=32))
    made.begin(truth.sample(Noise(2), 2000).float(), NOTHING, Noise(0))
    x = truth.sample(Noise(9), 4000)
    with torch.no_grad():
        before = float((truth.log_prob(x) - made.log_prob(x.float(), NOTHING)).mean())
    fit(made, lambda step: (truth.sample(Noise(1).fold(step), 256).float(), NOTHING), 250)
    with torch.no_grad():
        after = float((truth.log_prob(x) - made.log_prob(x.float(), NOTHING)).mean())
        y = made.sample(Noise(5).rows(range(4000)), NOTHING, Steer())
        reverse = float((made.log_prob(y, NOTHING) - truth.log_prob(y)).mean())
    assert before > 0.5 and 0 < after < 0.2 and reverse < 0.5


def test_it_learns_what_the_context_says() -> None:
    torch.manual_seed(0)
    made = SplineFlow(Vector(2), Splines("autoregressive", 2, context=1, transforms=2, hidden=24))

    def batch(step: int) -> tuple[Tensor, Context]:
        keys = Noise(1).fold(step).rows(range(256))
        told, n = 2 * keys.fold("told").uniform(1) - 1, 0.2 * keys.normal(2)
        first = told[:, 0] + n[:, 0]
        return torch.stack([first, first**2 + n[:, 1]], 1), Context(pooled=told)

    made.begin(*batch(-1), Noise(0))
    fit(made, batch, 250)
    for value in (-0.7, 0.4):
        y = made.sample(Noise(3).rows(range(2000)), Context(pooled=torch.full((2000, 1), value)), Steer())
        off = torch.stack([y[:, 0] - value, y[:, 1] - y[:, 0] ** 2])
        assert float(off.mean(1).abs().max()) < 0.06 and float((off.std(1) - 0.2).abs().max()) < 0.06


@torch.no_grad()
def test_grey_levels_are_dequantised() -> None:
    """A score is a lower bound, whose exponential is the probability of the levels on average over the noise."""
    space, n = Grid(1, (2,), levels=3), 4000
    made = SplineFlow(space, flow("autoregressive", 2, hidden=8))
    levels = torch.cartesian_prod(torch.arange(3), torch.arange(3))[:, None]
    x, keys, probability = middle(levels, 3), Noise(1).rows(range(n)), torch.zeros(9)
    for i, item in enumerate(x):
        found = made.score(item.expand(n, 1, 2), keys, NOTHING)
        moved = made.score((item + 0.3 * (draw(n, 1, 2).tanh()).float()).expand(n, 1, 2), keys, NOTHING)
        assert found.kind == "bound" and torch.allclose(found.value, moved.value)  # where in its bin a value lies says nothing
        probability[i] = found.value.exp().mean()
    inside, area = plane(1.0, 300)
    assert float(probability.sum()) == pytest.approx(float(made.log_prob(inside[:, None], NOTHING).exp().sum() * area), rel=0.02)
    assert made.score(x, keys[:9], NOTHING).value.shape == (9,)
    item, means = x[4].expand(1000, 1, 2), []
    for draws in (2, 16):
        found = made.score(item, keys[:1000], NOTHING, draws=draws)
        assert found.stderr is not None
        means.append(float(found.value.mean()))
    assert float(found.stderr.square().mean().sqrt()) == pytest.approx(float(found.value.std()), rel=0.25)
    assert means[0] < means[1] < float(probability[4].log()) + 0.02  # more draws, a tighter bound
    plain = SplineFlow(Grid(1, (2,)), flow("autoregressive", 2, hidden=8))
    assert plain.score(x, keys[:9], NOTHING).kind == "exact"
    assert torch.equal(plain.score(x, keys[:9], NOTHING).value, plain.log_prob(x, NOTHING))


def test_it_can_be_compiled() -> None:
    from headwater.train.module import compiled

    family = SplineFlow(Vector(2), Splines("coupling", 2))
    assert family.precise == ("model",)  # fp32 whatever the precision, which is another matter
    with compiled(family):
        assert family.flow._compiled_call_impl is not None
    assert family.flow._compiled_call_impl is None


@pytest.mark.parametrize(
    ("domain", "network", "message"),
    [
        ("points", {"name": "mlp"}, "unknown network 'mlp'; a spline flow has coupling, autoregressive$"),
        ("points", {"name": "coupling", "options": {"bins": 1}}, "expected transforms >= 1, bins >= 2, bound > 0; got 5, 1 and"),
        ("points", {"name": "coupling", "options": {"depth": 1}}, "depth"),
        (
            "spots",
            {"name": "autoregressive", "options": {"layers": 0}},
            "expected at least one hidden layer of one unit; got layers=0",
        ),
        ("words", {"name": "coupling"}, "lives on Grid and Vector, not on Tokens"),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_clear_error(domain: str, network: dict[str, Any], message: str) -> None:
    recipe = toys.recipe(domain, "coupling", family="spline_flow", network=network)
    with pytest.raises(HeadwaterError, match=f"^recipe for spline_flow: .*{message}"):
        toys.model(toys.DOMAINS[domain](), recipe)


def test_one_number_wants_an_autoregressive_flow() -> None:
    with pytest.raises(ValueError, match="coupling needs two features at least; autoregressive takes one"):
        Splines("coupling", 1)
    made, x = flow("autoregressive", 1), draw(50, 1)
    assert torch.allclose(made.inverse(made(x, None)[0], None), x, atol=1e-9)

"""The GAN's game against its formulas, its coverage of a truth known exactly, and restoration in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.families.contract import Family, Steer
from headwater.families.gan import GAN, Restorer, coverage, critic_loss, generator_loss
from headwater.networks.mlp import MLP, MLPReader, MLPWriter
from headwater.networks.patch import PatchReader
from headwater.noise import Noise
from headwater.restore.likelihoods import Gaussian
from headwater.restore.one_pass import consistent
from headwater.restore.operators import Blur, Identity, Mask, Operator
from headwater.spaces import Grid, Vector

NOTHING = Context()


def small(latent: int = 2, **options: Any) -> GAN:
    torch.manual_seed(0)
    writer = MLPWriter(Vector(2), latent=latent, channels=2, width=32, layers=1)
    return GAN(Vector(2), writer, MLPReader(Vector(2), features=1, width=32, layers=1), latent, **options)


def play(family: Family, batch: Callable[[Noise], tuple[Tensor, Context]], steps: int, rate: float) -> nn.ModuleDict:
    """Turn by turn, each player with its own optimiser; leaves the averaged weights in place."""
    parts = nn.ModuleDict(dict(family.parts()))
    teams = {p: [w for part in family.team(p) for w in parts[part].parameters()] for p in family.players}
    optimisers = {p: torch.optim.Adam(team, lr=rate, betas=(0.0, 0.99), fused=True) for p, team in teams.items()}
    average = {k: v.clone() for k, v in parts.state_dict().items()}
    for step in range(steps):
        x, context = batch(Noise(1).fold(step))
        for player, optimiser in optimisers.items():
            optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
            parts.zero_grad()
            family.loss(player, x, context, Noise(2).fold(step, player).rows(range(len(x)))).backward()
            optimiser.step()
        for k, v in parts.state_dict().items():
            average[k].lerp_(v, 1 - min(0.97, (1 + step) / (10 + step)))
    parts.load_state_dict(average)
    return parts


# --- the objective ------------------------------------------------------------------------------------------------------


def test_the_losses_are_their_formulas_on_a_quadratic_critic() -> None:
    """C(x) = xᵀAx/2 + b·x has ∇C = Ax + b; both losses and their gradients in A and b follow by hand."""
    real, fake = Noise(0).normal(6, 3)[0].double(), 1 + Noise(1).normal(6, 3)[0].double()
    a = torch.diag(torch.tensor([1.0, -2.0, 0.5])).double().requires_grad_()
    b = torch.tensor([0.3, 0.1, -0.7]).double().requires_grad_()

    def critic(x: Tensor) -> Tensor:
        return ((x @ a * x).sum(1) / 2 + x @ b)[:, None]

    def by_hand(gamma: float) -> Tensor:
        gap = critic(real) - critic(fake)
        penalty = sum(((x @ a + b) ** 2).sum(1).mean() for x in (real, fake))
        return torch.log1p(torch.exp(-gap)).mean() + gamma / 2 * penalty

    for gamma in (0.0, 0.5, 3.0):
        found, expected = (torch.autograd.grad(loss, (a, b)) for loss in (critic_loss(critic, real, fake, gamma), by_hand(gamma)))
        assert torch.allclose(critic_loss(critic, real, fake, gamma), by_hand(gamma))
        for f, e in zip(found, expected, strict=True):
            assert torch.allclose((f + f.mT) / 2 if f.ndim == 2 else f, (e + e.mT) / 2 if e.ndim == 2 else e)
    moved = fake.clone().requires_grad_()
    (slope,) = torch.autograd.grad(generator_loss(critic, real, moved), moved)
    share = torch.sigmoid(critic(real) - critic(fake))  # d softplus
    assert torch.allclose(slope, -share * (fake @ a + b) / 6)


def test_scores_of_places_weigh_as_items_of_their_own() -> None:
    """A critic that looks at each cell alone loses the same whether cells stand in one row or in rows of their own."""
    real, fake = Noise(0).normal(4, 5)[0], Noise(1).normal(4, 5)[0]

    def critic(x: Tensor) -> Tensor:
        return (2 * x).sin()

    apart = critic_loss(critic, real.reshape(20, 1), fake.reshape(20, 1), 0.7)
    assert torch.allclose(critic_loss(critic, real, fake, 0.7), apart)


def test_an_undecided_critic_moves_nobody() -> None:
    """Where C is constant the losses are log 2, R1 = R2 = 0 and the generator is at rest."""
    made = small()
    for parameter in made.parts()["critic"].parameters():
        nn.init.zeros_(parameter)
    x, keys = Noise(3).rows(range(8)).normal(2), Noise(4).rows(range(8))
    for player in made.players:
        loss = made.loss(player, x, NOTHING, keys)
        assert math.isclose(float(loss.detach()), math.log(2), rel_tol=1e-6)
    weights = list(made.parts()["network"].parameters())
    slopes = torch.autograd.grad(loss, weights, allow_unused=True)
    assert all(s is None or not s.any() for s in slopes)


def test_each_player_trains_its_own_team() -> None:
    made = small()
    x, keys = Noise(3).rows(range(8)).normal(2), Noise(4).rows(range(8))
    network, critic = (list(made.parts()[part].parameters()) for part in ("network", "critic"))
    made.loss("critic", x, NOTHING, keys).backward()
    assert all(w.grad is None for w in network) and any(w.grad is not None and w.grad.any() for w in critic)
    made.loss("generator", x, NOTHING, keys).backward()
    assert any(w.grad is not None and w.grad.any() for w in network)
    assert {part for player in made.players for part in made.team(player)} == {"network", "critic"}
    with torch.no_grad():  # as validation asks
        assert math.isfinite(float(made.loss("critic", x, NOTHING, keys)))


def test_what_conditions_embed_is_learnt_with_the_critic() -> None:
    made = toys.model(toys.Points(), toys.recipe("points", "mlp", family="gan", options={"latent": 4}))
    items, wishes = toys.some(toys.Points(), toys.recipe("points", "mlp"), 12)
    x = torch.stack([torch.from_numpy(i) for i in items])
    for player, learns in (("critic", True), ("generator", False)):
        made.zero_grad()
        made.family.loss(player, x, made.conditioner(made.conditions(wishes)), Noise(0).rows(range(12))).backward()
        embedded = [p.grad for p in made.conditioner.parameters()]
        assert bool(embedded) and all((g is not None and bool(g.any())) == learns for g in embedded)


# --- what is learnt -----------------------------------------------------------------------------------------------------


def test_two_modes_are_both_covered_in_their_proportion() -> None:
    """0.7 and 0.3 of the mass far from the origin, four standard deviations apart or more on every side."""

    def draw(noise: Noise, n: int = 64) -> tuple[Tensor, Context]:
        keys = noise.rows(range(n))
        side = keys.fold("side").uniform(1) < 0.7
        return torch.where(side, 30.0, 26.0) + 0.4 * keys.fold("inside").normal(2), NOTHING

    made = small(gamma=0.1)
    real, _ = draw(Noise(8), 500)
    made.begin(real, NOTHING, Noise(0))
    before = made.monitor(real, NOTHING, Noise(3).rows(range(500)))["coverage"]
    play(made, draw, 200, 5e-3)
    x = made.sample(Noise(5).rows(range(2000)), NOTHING, Steer())
    high = (x - 30).abs().amax(1) < 1.6
    low = (x - 26).abs().amax(1) < 1.6
    assert float((high | low).float().mean()) > 0.9
    assert abs(float(high.float().mean()) - 0.7) < 0.1
    after = made.monitor(real, NOTHING, Noise(3).rows(range(500)))["coverage"]
    assert after > 0.4 > 0.1 > before, (before, after)


def test_coverage_falls_when_a_mode_is_missing() -> None:
    keys = Noise(0).rows(range(400))
    x, y = keys.fold("x").normal(3), keys.fold("y").normal(3)
    x[:200] += 10
    y[:200] += 10
    assert abs(float(coverage(x, y)) - (1 - 2**-5)) < 0.03
    assert abs(float(coverage(x, y[:200])) - 0.5) < 0.03
    assert float(coverage(x, y + 100)) == 0


def test_coverage_is_that_of_the_evaluation() -> None:
    """Balls are closed in both: features of few values tie all the time."""
    from headwater.evaluate.coverage import coverage as of_evaluation

    for seed in range(6):
        keys = Noise(seed).rows(range(60))
        x, y = keys.fold("x").below(3, 4).float(), keys[:20].fold("y").below(4, 4).float()
        assert float(coverage(x, y, k=3)) == pytest.approx(of_evaluation(x.numpy(), y.numpy(), k=3).coverage)
    assert float(coverage(torch.ones(9, 2), torch.ones(9, 2))) == 1.0


def test_a_regressor_finds_least_squares() -> None:
    """Adversarial weight 0 and a linear network: x = 2 d + noise in one dimension is regressed to its least-squares line."""
    keys = Noise(6).rows(range(64))
    d = keys.fold("d").normal(1)
    x = 2 * d + 0.5 + 0.3 * keys.fold("n").normal(1)

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(3, 1)

        def forward(self, z: Tensor, level: Tensor, context: Context) -> Tensor:
            assert context.cells is not None
            out: Tensor = self.line(torch.cat([z, context.cells], dim=1))
            return out

    made, context = Restorer(Vector(1), Line(), None, adversarial=0.0), Context(cells=torch.cat([d, torch.ones_like(d)], 1))
    assert made.players == ("generator",) and set(made.verbs) == {"restore"} and set(made.parts()) == {"network"}
    play(made, lambda noise: (x, context), 250, 0.1)
    design = torch.cat([d, torch.ones_like(d)], 1)
    best = design @ torch.linalg.lstsq(design, x).solution
    assert torch.allclose(made.answer(torch.zeros_like(d), context), best, atol=2e-3)


def test_a_restorer_has_the_posterior_of_a_gaussian() -> None:
    """x ~ N(0, 1) and d = x + n with n ~ N(0, 1): the posterior is N(d/2, 1/2); the mean and the draws must both show it."""

    def pairs(noise: Noise, n: int = 64) -> tuple[Tensor, Context]:
        keys = noise.rows(range(n))
        x = keys.fold("x").normal(1)
        return x, Context(cells=torch.cat([x + keys.fold("n").normal(1), torch.ones_like(x)], 1))

    torch.manual_seed(0)
    critic = MLPReader(Vector(1), features=1, width=32, layers=1, cells=2)
    made = Restorer(Vector(1), MLP(Vector(1), width=32, layers=1, cells=2), critic, gamma=0.3, adversarial=0.3)
    play(made, pairs, 220, 5e-3)
    x, context = pairs(Noise(9), 2000)
    d = context.cells[:, :1]  # type: ignore[index]
    mean, drawn = made.answer(torch.zeros_like(d), context).detach(), made.sample(Noise(3).rows(range(2000)), context, Steer())
    assert float((mean - d / 2).square().mean().sqrt()) < 0.12
    assert abs(float((drawn - d / 2).std()) - math.sqrt(0.5)) < 0.15
    assert float((drawn - d / 2).mean().abs()) < 0.15
    seen = made.monitor(x, context, Noise(3).rows(range(2000)))
    assert abs(seen["error"] - math.sqrt(0.5)) < 0.1 and abs(seen["error of a draw"] - 1) < 0.2


def test_training_never_hides_what_is_to_be_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.train import train

    seen: list[Tensor] = []
    loss = Restorer.loss

    def spy(self: Restorer, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        assert context.cells is not None
        seen.append(context.cells[:, 1])
        return loss(self, player, batch, context, noise)

    monkeypatch.setattr(Restorer, "loss", spy)
    train(toys.Spots(), restorer(training={"steps": 3, "batch": 8, "validate_rows": 0, "betas": (0.0, 0.99)}), tmp_path)
    assert len(seen) == 6 and all(bool(there.all()) for there in seen)


# --- restoring ----------------------------------------------------------------------------------------------------------

SHAPE = (1, 8, 8)
KERNEL = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
OPERATORS: dict[str, Operator] = {
    "identity": Identity(SHAPE),
    "mask": Mask(SHAPE, Noise(0).uniform(*SHAPE)[0] < 0.5),
    "blur": Blur(SHAPE, KERNEL),
    "blur, reflected": Blur(SHAPE, KERNEL, "reflect"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_consistency_is_the_least_move_to_within_the_noise(name: str) -> None:
    operator, keys = OPERATORS[name], Noise(1).rows(range(4))
    truth, start = keys.fold("x").normal(*SHAPE), keys.fold("start").normal(*SHAPE)
    sigma = torch.tensor([0.02, 0.1, 0.3, 50.0])
    y = operator.apply(truth + 0) + 0.1 * operator.apply(keys.fold("n").normal(*SHAPE))
    found = consistent(start, y, operator, sigma)
    measured = float((y[0] != 0).sum())
    left = (y - operator.apply(found)).flatten(1).square().sum(1)
    assert torch.allclose(left[:3].sqrt(), sigma[:3] * math.sqrt(measured), rtol=0.02)
    assert torch.equal(found[3], start[3])  # already within the noise
    for other in (truth, found + 0.01 * operator.vjp(y - operator.apply(found))):  # within the noise, and no nearer
        inside = (y - operator.apply(other)).flatten(1).square().sum(1) <= left + 1e-6
        assert bool((((other - start).flatten(1).norm(dim=1) >= (found - start).flatten(1).norm(dim=1) - 1e-4) | ~inside).all())
    alone = consistent(start[1:2], y[1:2], operator, sigma[1:2])
    assert torch.equal(alone, found[1:2])


def restorer(training: dict[str, Any] | None = None, **options: Any) -> Any:
    more = {"options": {"restores": True, **options}, "training": training or {}}
    return toys.recipe("spots", "unet", family="gan", given=["rough"], **more)


def test_an_image_of_any_size_is_restored_in_one_pass() -> None:
    made = toys.generator(toys.Spots(), restorer())
    shape = (1, 11, 14)
    mask = Mask(shape, Noise(0).uniform(*shape)[0] < 0.5)
    y = mask.apply(Noise(1).rows(range(3)).normal(*shape))
    found = made.restore(y, mask, Gaussian(0.01), seed=4, draws=3)
    assert found.mean.shape == (3, *shape) and found.draws is not None and found.std is not None
    assert (
        float((mask.apply(found.draws.flatten(0, 1)) - y.repeat(3, 1, 1, 1)).square().sum().div(9 * mask.mask.sum()).sqrt()) < 0.011
    )
    assert bool((found.std[:, ~mask.mask] > 0).all())  # the unmeasured cells differ from draw to draw
    again = made.restore(y[1:2], mask, Gaussian(0.01), noise=Noise(4).fold("restore").rows([1]), draws=3)
    assert torch.allclose(again.mean, found.mean[1:2], atol=1e-5) and torch.allclose(again.std, found.std[1:2], atol=1e-5)  # type: ignore[arg-type]
    with pytest.raises(HeadwaterError, match=r"^y: expected rows of shape \(1, 11, 14\)"):
        made.restore(y[:, :, :5], mask, Gaussian(0.1))


def test_a_regressor_knows_the_mean_alone() -> None:
    playing = toys.generator(toys.Spots(), restorer())
    assert set(playing.verbs) == {"restore"}  # nobody trained it to make something of nothing
    with pytest.raises(HeadwaterError, match="cannot sample"):
        playing.sample(2)
    made = toys.generator(toys.Spots(), restorer(adversarial=0.0))
    y = Noise(1).rows(range(2)).normal(1, 8, 8)
    found = made.restore(y, Identity((1, 8, 8)), Gaussian(100.0))
    family: Any = made.model.family
    blank = made.model.conditioner(made.model.conditions([toys.SpotWish()] * 2))
    answer = family.answer(torch.ones_like(y), replace(blank, cells=torch.cat([y, torch.ones_like(y)], 1)))
    assert torch.allclose(found.mean, answer, atol=1e-5)
    with pytest.raises(HeadwaterError, match=r"^draws: spots/gan knows the mean alone; expected 0, got 2$"):
        made.restore(y, Identity((1, 8, 8)), Gaussian(0.1), draws=2)


def test_patch_scores_are_local_and_many() -> None:
    critic = PatchReader(Grid(1, (16, 16)), features=1, widths=(4, 6), blocks=1)
    x = Noise(0).normal(2, 1, 16, 16)[0]
    scores = critic(x, NOTHING)
    assert scores.shape == (2, 64) and critic(x[..., :9], NOTHING).shape == (2, 40)
    x[:, :, 0, 0] += 1
    moved = (critic(x, NOTHING) - scores).abs().reshape(2, 8, 8) > 1e-6
    assert bool(moved[:, 0, 0].all()) and not bool(moved[:, 4:].any())


# --- recipes that do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "change", "message"),
    [
        ("points", {"options": {"gamma": -1.0}}, "gamma: expected a weight of at least 0; got -1.0"),
        ("points", {"options": {"latent": 0}}, "latent: expected at least one number; got 0"),
        ("points", {"options": {"beta": 1.0}}, "beta"),
        ("points", {"options": {"restores": True}}, "restores: expected one given array on the item's own cells and channels"),
        ("words", {"network": {"name": "recurrent"}}, "lives on Grid and Vector, not on Tokens"),
        (
            "spots",
            {"network": {"name": "convolutional"}, "networks": {"encoder": {"name": "mlp"}, "critic": {"name": "mlp"}}},
            "the network 'mlp' lives on Vector",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_clear_error(domain: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(HeadwaterError, match=f"^recipe for gan: .*{message}"):
        toys.model(toys.DOMAINS[domain](), toys.recipe(domain, "mlp", family="gan", **change))

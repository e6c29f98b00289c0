"""Ready for a GPU, shown without one: every family's loss and sampling run on the ``meta`` device, where mixing devices fails, and
with fake tensors, where looking at a number (which makes a host wait for its device) fails. With a GPU, ``pytest -m gpu`` compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException

import headwater.families.autoregressive as autoregressive
from headwater.context import Conditions, Context
from headwater.families import FAMILIES
from headwater.families.contract import Family, Steer
from headwater.families.masked_diffusion import MaskedDiffusion
from headwater.families.vae import VAE
from headwater.knobs import fields
from headwater.model import Model, build
from headwater.noise import Noise
from headwater.recipe import DEFAULTS, Recipe, default
from headwater.train import train

ROWS = 3
OF_SPACE = {"Tokens": "words", "Grid": "spots", "Vector": "points"}
OVER_A_LATENT = [f"{name} over a latent" for name in ("diffusion", "flow", "gan", "spline_flow") if (name, "Vector") in DEFAULTS]
CASES = [f"{family} on {space}" for family, space in DEFAULTS] + OVER_A_LATENT
every_case = pytest.mark.parametrize("case", CASES)


def test_every_family_is_here() -> None:
    assert {case.split()[0] for case in CASES} == set(FAMILIES)
    for name, (_, _, spaces) in FAMILIES.items():
        assert all(f"{name} on {space.__name__}" in CASES for space in spaces)


def built(case: str) -> tuple[Any, Recipe, Model]:
    """The core's own recipe for the case, reading every field there is, and its model."""
    family, _, _, *rest = case.split()
    domain = toys.DOMAINS["words" if rest else OF_SPACE[case.split()[2]]]()
    codec = next(iter(domain.codecs))
    space = domain.codecs[codec].space
    inner = None
    if rest:
        smaller = of(default("vae", codec, space, domain.name)).model_copy(update={"options": {"latent": 6}})
        inner = build(smaller, space, fields(domain.Wish), domain.networks)
    recipe = of(default(family, codec, space, domain.name, "vae" if rest else ""))
    given = [] if rest else [f.name for f in fields(domain.Wish) if f.kind == "given" and f.name != "plan"]
    recipe = recipe.model_copy(update={"given": tuple(given)})
    return domain, recipe, build(recipe, space, fields(domain.Wish), domain.networks, inner)


def of(recipe: Recipe | None) -> Recipe:
    assert recipe is not None
    return recipe


def moved(recipe: Recipe, domain: Any, model: Model, device: str, rows: int = ROWS) -> tuple[Tensor, Conditions]:
    items, wishes = toys.some(domain, recipe, rows)
    encode = domain.codecs[recipe.codec].encode
    x = torch.stack([torch.as_tensor(encode(item)) for item in items])
    return x.to(device), Conditions.of(model.conditioner.fields, wishes, model.space).to(device)


def run(model: Model, x: Tensor, conditions: Conditions) -> dict[str, Tensor]:
    """Each player's loss, its gradients made, then samples: plain, and guided and narrowed. Keys stay on the CPU."""
    family, keys, out = model.family, Noise(1).rows(range(len(x))), {}
    for player in family.players:
        loss = family.loss(player, x, model.conditioner(conditions), keys)
        loss.backward()
        out[f"loss of {player}"] = loss
    context = model.conditioner.with_null(conditions)
    out["plain"] = drawn(family, keys, context, Steer(steps=3))
    out["steered"] = drawn(family, keys, context, Steer(guidance=2.0, temperature=0.7, top_p=0.9, steps=2))
    return out


@torch.no_grad()
def drawn(family: Family, keys: Noise, context: Context, steer: Steer) -> Tensor:
    """Samples. Masked diffusion draws lengths first and sorts rows by them, for which a host waits, once: of it, one step."""
    if not isinstance(family, MaskedDiffusion):
        return family.sample(keys, context, steer)
    x = torch.zeros(len(keys), *family.space.shape, dtype=torch.long, device=family.head.weight.device)
    lengths = torch.full((len(keys),), family.tokens.length, device=x.device)
    return family.step(0, x, x.bool(), x, lengths, keys, context, steer, [])[0]


@pytest.fixture
def nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all rows have ended is asked now and then while they are drawn, on purpose: there a host waits. Nothing else may."""
    monkeypatch.setattr(autoregressive, "finished", lambda done, t: False)


@every_case
@pytest.mark.usefixtures("nobody_asks")
def test_nothing_stays_behind_when_a_model_moves(case: str) -> None:
    domain, recipe, model = built(case)
    made = run(model.to("meta"), *moved(recipe, domain, model, "meta"))
    for what, value in made.items():
        assert value.device.type == "meta", what
        assert value.shape == (() if what.startswith("loss") else (ROWS, *model.space.shape)), what
    assert any(p.grad is not None for p in model.parameters())


@every_case
@pytest.mark.usefixtures("nobody_asks")
def test_no_step_looks_at_a_number(case: str) -> None:
    domain, recipe, model = built(case)
    x, conditions = moved(recipe, domain, model, "cpu")
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(fake.from_tensor(weight.detach()), weight.requires_grad))
        made = run(model, x, conditions)
        assert all(value.shape == (() if what.startswith("loss") else (ROWS, *model.space.shape)) for what, value in made.items())


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("masked_diffusion")])
def test_shares_of_a_batch_add_up(case: str) -> None:
    """What several devices find of their rows, weighed as the family says, is what one finds of all: loss and gradient. Masked
    diffusion spreads what it hides evenly over the rows at hand, so its shares are another draw of the same law."""
    domain, recipe, model = built(case)
    if isinstance(model.family, VAE):
        model.family.free_bits = 0.0  # a floor under the mean over the rows at hand
    model.eval()
    x, conditions = moved(recipe, domain, model, "cpu", rows=5)
    keys = Noise(1).rows(range(5))

    def found(player: str, rows: slice) -> tuple[Tensor, Tensor]:
        part = Conditions(conditions.values[rows], {k: (v[rows], p[rows]) for k, (v, p) in conditions.given.items()})
        return (
            model.family.loss(player, x[rows], model.conditioner(part), keys[rows]),
            model.family.weight(x[rows], keys[rows]).float(),
        )

    for player in model.family.players:
        whole, all_weight = found(player, slice(0, 5))
        shares = [found(player, slice(0, 5, 2)), found(player, slice(1, 5, 2))]
        assert float(sum(weight for _, weight in shares)) == float(all_weight)
        together = torch.stack([loss * weight / all_weight for loss, weight in shares]).sum()
        assert together.item() == pytest.approx(whole.item(), rel=1e-4, abs=1e-6)
        weights = [p for p in model.family.parts()[model.family.team(player)[0]].parameters() if p.requires_grad]
        one, two = (torch.autograd.grad(loss, weights, allow_unused=True) for loss in (whole, together))
        for a, b in zip(one, two, strict=True):
            assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_whether_all_rows_have_ended_is_asked_seldom_on_a_device() -> None:
    """The question itself is seen by the tests above; a CPU is asked at every position, which costs nothing there."""
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        autoregressive.finished(torch.ones(3, dtype=torch.bool), 0)
    assert autoregressive.finished(torch.ones(3, dtype=torch.bool), 0)
    assert not autoregressive.finished(torch.tensor([True, False]), 15)
    far = torch.ones(3, dtype=torch.bool, device="meta")  # asking it anything raises
    asked = []
    for t in range(40):
        try:
            assert not autoregressive.finished(far, t)
        except (RuntimeError, NotImplementedError):
            asked.append(t)
    assert asked == [15, 31]


# --- with a GPU ---------------------------------------------------------------------------------------------------------

gpu = pytest.mark.gpu


@gpu
def test_noise_is_the_same_integers() -> None:
    here, there = (Noise(7, device=device).fold("draw", 3).rows(range(50)) for device in ("cpu", "cuda"))
    assert torch.equal(here.integers(33), there.integers(33).cpu()) and torch.equal(here.below(17, 5), there.below(17, 5).cpu())
    assert torch.equal(here.uniform(9), there.uniform(9).cpu()) and torch.allclose(
        here.normal(40), there.normal(40).cpu(), atol=1e-5
    )


@gpu
@every_case
def test_a_gpu_says_what_a_cpu_says(case: str) -> None:
    """Losses and, of families over real numbers, samples to rounding; tokens, where rounding may turn a choice, in most places."""
    domain, recipe, model = built(case)
    model.eval()
    here = run(model, *moved(recipe, domain, model, "cpu"))
    there = {k: v.cpu() for k, v in run(model.to("cuda"), *moved(recipe, domain, model, "cuda")).items()}
    for what, value in here.items():
        if value.is_floating_point():
            assert torch.allclose(there[what], value, rtol=1e-3, atol=1e-3), what
        else:
            assert float((there[what] == value).double().mean()) > 0.9, what


@gpu
@pytest.mark.parametrize("case", [case for case in CASES if "latent" not in case])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_a_gpu(case: str, precision: str, tmp_path: Path) -> None:
    domain, recipe, _ = built(case)
    training = {"steps": 12, "batch": 16, "warmup": 2, "validate_rows": 32, "precision": precision}
    recipe = recipe.model_copy(update={"training": type(recipe.training).model_validate(recipe.training.model_dump() | training)})
    told: list[float] = []
    made = train(domain, recipe, tmp_path, device="cuda", log_every=1, tell=lambda step, loss, valid: told.append(loss))
    assert len(told) == 12 and all(torch.isfinite(torch.tensor(told))) and all(v.isfinite().all() for v in made.tensors().values())

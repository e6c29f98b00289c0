"""Training where there is more than one of something: players in a game, figures to watch, devices that share the work."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import toys
from torch import Tensor, nn
from torch.utils.data import DataLoader

from headwater.cli.train import Plan, loss_line
from headwater.cli.train import fit as publish
from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.families import FAMILIES
from headwater.families.contract import Family, Steer, Verb
from headwater.knobs import fields
from headwater.noise import Noise
from headwater.spaces import Vector
from headwater.train import Source, train
from headwater.train.module import Lesson, Steps, begin, compiled, networks
from headwater.train.preparation import TrainingData
from headwater.train.share import Share
from headwater.train.snapshot import SafetensorsIO

TOYS = Path(__file__).parents[1] / "toys.py"
STEPS = 6


def settings(**more: Any) -> dict[str, Any]:
    return {"steps": STEPS, "batch": 8, "warmup": 2, "validate_rows": 20, "ema": 0.9, **more}


# --- a game that can be followed by hand --------------------------------------------------------------------------------


class Duel(Family):
    """Each player has one weight and its own loss in both; a third part is frozen, and what ``begin`` saw is kept."""

    name = "duel"
    players = ("first", "second")
    precise = ("first",)

    def __init__(self, space: Vector, *sizes: Any) -> None:
        super().__init__(space)
        self.one, self.two, self.ice = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
        self.pooled = nn.Linear(16, 2)
        self.standard = nn.Module()
        self.standard.register_buffer("mean", torch.zeros(2))
        self.heard: list[tuple[Any, ...]] = []

    @classmethod
    def build(cls, space: Any, make: Any, options: Mapping[str, Any]) -> Duel:
        return cls(space)

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {"sample": "no"}

    def parts(self) -> Mapping[str, nn.Module]:
        return {"one": self.one, "two": self.two, "ice": self.ice, "pooled": self.pooled, "standard": self.standard}

    def team(self, player: str) -> Sequence[str]:
        return {"first": ("one", "pooled", "ice"), "second": ("two",)}[player]

    def begin(self, x: Tensor, context: Context, noise: Noise) -> None:
        self.standard.mean.copy_(x.mean(0) + 0.01 * noise.normal(2).mean(0))  # type: ignore[operator]

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        told = self.one(batch) * self.two(batch + 0.1 * noise.normal(2)) + self.ice(batch)
        if torch.is_grad_enabled():
            moving = [name for name, part in self.parts().items() for w in part.parameters() if w.requires_grad]
            self.heard.append((player, noise.key.clone(), batch.clone(), set(moving), told.dtype, context.pooled.requires_grad))  # type: ignore[union-attr]
        sign = 1 if player == "first" else -1
        return (sign * told + self.pooled(context.pooled) * told.detach()).float().square().mean() + sign * told.float().mean()

    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return torch.zeros(len(noise), 2)

    def monitor(self, x: Tensor, context: Context, noise: Noise) -> Mapping[str, float]:
        return {"rows": float(len(x)), "own weights": float(self.one.weight.sum())}


@pytest.fixture
def duel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A recipe of the game, known under the name of another family. Its module is this one."""
    monkeypatch.setitem(sys.modules, "duel", SimpleNamespace(Duel=Duel))  # type: ignore[arg-type]
    monkeypatch.setitem(FAMILIES, "gan", ("duel", "Duel", (Vector,)))
    return lambda **more: toys.recipe("points", "mlp", family="gan", training=settings(**more))


def lesson_of(recipe: Any, seed: int = 0) -> Lesson:
    points = toys.Points()
    model = toys.model(points, recipe)
    data = TrainingData(points, points.codecs["plain"], toys.points("train")[:64], model.conditioner.fields, None)
    return Lesson(model.train(), data, None, recipe.training, seed)


def fit(lesson: Lesson, steps: int, **more: Any) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps * len(lesson.players), max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, barebones=False, **more,
    )  # fmt: skip
    trainer.fit(lesson, DataLoader(Steps(), batch_size=None))


def test_each_player_steps_its_own_weights_on_the_same_rows(duel: Any) -> None:
    """One step of the trainer against one written out here."""
    recipe = duel(steps=1, warmup=0, decay=0.0)
    lesson, mine = lesson_of(recipe), lesson_of(recipe)
    fit(lesson, 1)
    model, t = mine.model, recipe.training
    batch, conditions, keys = mine.read(mine.data, mine.rows(0), mine.noise.fold("step", 0))
    one, two = model.family.one, model.family.two  # type: ignore[attr-defined]
    teams = [
        [*model.conditioner.parameters(), *one.parameters(), *model.family.pooled.parameters()],  # type: ignore[attr-defined]
        [*two.parameters()],
    ]
    for player, team in zip(("first", "second"), teams, strict=True):
        loss = model.family.loss(player, batch, model.conditioner(conditions), keys.fold("loss", player))
        for weight, grad in zip(team, torch.autograd.grad(loss, team), strict=True):
            weight.grad = grad
        torch.nn.utils.clip_grad_norm_(team, t.clip)
        for wide in (True, False):
            group = [w for w in team if (w.ndim > 1) == wide]
            torch.optim.AdamW(group, lr=t.rate, betas=t.betas, weight_decay=t.weight_decay * wide).step()
    for name, value in lesson.model.tensors().items():
        assert torch.allclose(value, model.tensors()[name], atol=1e-6), name
    assert not torch.equal(two.weight, lesson_of(recipe).model.family.two.weight)  # type: ignore[attr-defined]
    (first, second) = lesson.model.family.heard  # type: ignore[attr-defined]
    assert (first[0], second[0]) == ("first", "second") and torch.equal(first[2], second[2])
    assert not torch.equal(first[1], second[1])  # its own noise
    assert (first[3], second[3]) == ({"one", "pooled"}, {"two"})  # whose gradients are made at all
    assert (first[5], second[5]) == (True, False)  # the conditioner is the first one's


def test_a_precise_player_stays_out_of_bf16(duel: Any) -> None:
    lesson = lesson_of(duel(steps=1))
    fit(lesson, 1, precision="bf16-mixed")
    first, second = lesson.model.family.heard  # type: ignore[attr-defined]
    assert (first[4], second[4]) == (torch.float32, torch.bfloat16)


def test_a_game_resumes_bit_for_bit_and_is_logged(duel: Any, points: Any, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(step: int, loss: float, valid: float) -> None:
        if step == 4:
            raise Stopped

    often: dict[str, Any] = {"checkpoint_seconds": 0.0, "log_every": 1, "validate_every": 2}
    shown: list[Mapping[str, float]] = []
    unbroken = train(points, duel(), tmp_path / "a", show=shown.append, **often)
    with pytest.raises(Stopped):
        train(points, duel(), tmp_path / "b", tell=stop, **often)
    assert SafetensorsIO().load_checkpoint(tmp_path / "b" / "checkpoint.safetensors")["taken"] == 3
    resumed = train(points, duel(), tmp_path / "b", **often)
    one, two = unbroken.tensors(), resumed.tensors()
    assert all(torch.equal(one[k], two[k]) for k in one)
    a, b = (SafetensorsIO().load_checkpoint(tmp_path / f / "checkpoint.safetensors") for f in "ab")
    assert len(a["optimizer_states"]) == len(a["lr_schedulers"]) == 2 and a["global_step"] == 2 * STEPS and a["taken"] == STEPS
    for mine, theirs in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        assert all(torch.equal(mine["state"][i]["exp_avg_sq"], theirs["state"][i]["exp_avg_sq"]) for i in mine["state"])
    assert torch.equal(one["ice.weight"], a["state_dict"]["model.family_parts.ice.weight"])
    # what is written down
    log, watched = ([list(csv.DictReader((tmp_path / f / name).open())) for f in "ab"] for name in ("log.csv", "monitor.csv"))
    assert [row["step"] for row in log[1]] == [str(s + 1) for s in range(STEPS)]
    assert [row["loss"] for row in log[0]] == [row["loss"] for row in log[1]]
    assert watched[0] == watched[1] and [row["step"] for row in watched[0]] == ["2", "4", "6"]
    assert list(watched[0][0]) == ["step", "loss of the first", "rows", "own weights"] and watched[0][0]["rows"] == "20"
    assert len(shown) == 3 and shown[-1]["own weights"] == pytest.approx(float(one["one.weight"].sum()), rel=1e-4)  # the average's
    # a finished one is not trained again, nor begun again
    before = (tmp_path / "a" / "log.csv").read_bytes()
    again = train(points, duel(), tmp_path / "a").tensors()
    assert all(torch.equal(one[k], again[k]) for k in one) and (tmp_path / "a" / "log.csv").read_bytes() == before


def test_a_family_begins_once_on_rows_of_the_data(duel: Any, points: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    original = Duel.begin

    def watch(self: Duel, x: Tensor, context: Context, noise: Noise) -> None:
        seen.append(tuple(x.shape))
        original(self, x, context, noise)

    monkeypatch.setattr(Duel, "begin", watch)
    trained = train(points, duel(steps=1), tmp_path / "a")
    assert seen == [(500, 2)]  # all there are
    mean = trained.tensors()["standard.mean"]
    truth = torch.tensor(np.stack(toys.points("train"))).mean(0)
    assert 0 < float((mean - truth).abs().max()) < 0.01
    train(points, duel(steps=2), tmp_path / "a")  # resumed
    adapted = train(points, duel(steps=1), tmp_path / "b", start=trained)
    assert len(seen) == 1 and torch.equal(adapted.tensors()["standard.mean"], mean)
    assert torch.equal(train(points, duel(steps=1), tmp_path / "c").tensors()["standard.mean"], mean)
    monkeypatch.setattr("headwater.train.module.BEGUN_ON", 70)
    lesson = lesson_of(duel())
    begin(
        lesson.model,
        TrainingData(points, points.codecs["plain"], toys.points("train"), lesson.model.conditioner.fields, 0),
        Noise(0),
    )
    assert seen[-1] == (70, 2) and lesson.model.training


# --- several devices ----------------------------------------------------------------------------------------------------

DEVICES: dict[str, tuple[str, dict[str, Any]]] = {
    # words of all lengths, so that the processes' shares hold different numbers of tokens
    "letters": ("recurrent", {"given": ["where"]}),
    "points": ("mlp", {"given": ["near"]}),
    "gan": ("mlp", {"family": "gan"}),
}


def shared(case: str) -> tuple[Any, Any]:
    network, more = DEVICES[case]
    domain = "words" if case == "letters" else "points"
    if case == "gan" and FAMILIES["gan"][0] == "headwater.families.gan":
        more = more | {"options": {"latent": 2}, "networks": {"critic": {"name": "mlp", "options": {"width": 16, "layers": 1}}}}
    training = settings(steps=3, batch=9, rate=1e-2, warmup=0)
    return toys.DOMAINS[domain](), toys.recipe(domain, network, training=training, **more)


#: Trains each case on two processes. Whoever is spawned runs the lines above the last block too.
TWO = """
import importlib.util, sys
from pathlib import Path
toys_py, tests_py, folder = sys.argv[1:]
for name, path in (("toys", toys_py), ("players", tests_py)):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
import players
from headwater.train import train

if __name__ == "__main__":
    for case in players.DEVICES:
        domain, recipe = players.shared(case)
        train(domain, recipe, Path(folder) / case, devices=2, threads=1, log_every=1)
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "two.py").write_text(TWO)
    command = [sys.executable, str(folder / "two.py"), str(TOYS), __file__, str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("case", DEVICES)
def test_two_devices_find_the_weights_of_one(case: str, two: Path, tmp_path: Path) -> None:
    domain, recipe = shared(case)
    alone = train(domain, recipe, tmp_path, log_every=1)
    a, b = (SafetensorsIO().load_checkpoint(f / "checkpoint.safetensors") for f in (tmp_path, two / case))
    begun = toys.model(domain, recipe).tensors()
    assert begun.keys() == alone.tensors().keys()
    for name, value in a["state_dict"].items():
        # Adam's first steps hang on a gradient's sign, and a weight whose gradient is rounding may go either way: a critic's last
        # bias drops out of every difference of scores.
        if name.endswith("critic.body.out.bias"):
            continue
        assert torch.allclose(value, b["state_dict"][name], atol=1e-5), (name, float((value - b["state_dict"][name]).abs().max()))
    logs = [list(csv.DictReader((f / "log.csv").open())) for f in (tmp_path, two / case)]
    assert [row["step"] for row in logs[1]] == ["1", "2", "3"]  # one process writes
    for mine, theirs in zip(*logs, strict=True):
        assert float(mine["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-4)
    assert float(logs[0][-1]["valid_loss"]) == pytest.approx(float(logs[1][-1]["valid_loss"]), rel=1e-4)


def test_of_a_game_the_familys_own_figures_are_published(points: Any, tmp_path: Path) -> None:
    """A generator's loss is relative to the critic it meets."""
    rows = toys.points("valid")[:20]
    facts = {}
    for family, network in (("gan", "mlp"), ("diffusion", "mlp")):
        recipe = toys.recipe("points", network, family=family, training=settings(steps=2, betas=(0.0, 0.99)))
        plan = Plan(points, family, recipe, Source(toys.points("train")[:40], rows, "points"), None, None, "none")
        facts[family] = publish(plan, tmp_path / family, "fp32", {"seed": 0})
        facts[family]["metrics"] = json.loads((tmp_path / family / "model" / "metrics.json").read_text())["metrics"]
    game, plain = facts["gan"], facts["diffusion"]
    assert game["loss"] is None and list(game["figures"]) == list(game["metrics"]) == ["coverage"]
    assert game["metrics"]["coverage"]["value"] == game["figures"]["coverage"] and "better" not in game["metrics"]["coverage"]
    assert loss_line(game).startswith("held-out coverage 0.") and loss_line(game).endswith("(20 items)")
    assert plain["metrics"]["validation_loss"]["better"] == "lower" and "figures" not in plain
    assert plain["metrics"]["validation_loss"]["value"] == plain["loss"]


def test_shares_are_all_of_a_batch() -> None:
    rows = list(range(9))
    parts = [Share(rank, 2).rows(rows) for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == rows and [len(part) for part in parts] == [5, 4]
    assert Share(1, 2).device("cuda") == "cuda:1" and Share().device("cuda") == "cuda"


@pytest.mark.parametrize(("devices", "device"), [(0, "cpu"), (10, "cpu"), (2, "cuda:1"), (4, "cuda")])
def test_devices_that_are_not_there_are_refused(words: Any, tmp_path: Path, devices: int, device: str) -> None:
    if device == "cuda" and torch.cuda.device_count() >= devices:
        pytest.skip("they are there")
    with pytest.raises(HeadwaterError, match=r"^--devices: ") as caught:
        train(words, toys.recipe("words", "recurrent", training=settings(batch=9)), tmp_path, devices=devices, device=device)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


# --- compiled -----------------------------------------------------------------------------------------------------------


def test_networks_are_compiled_and_come_back(words: Any, points: Any, duel: Any) -> None:
    family = toys.model(words, toys.recipe("words", "transformer")).family
    with compiled(family):
        assert [part for part, m in family.parts().items() if m._compiled_call_impl is not None] == ["network"]
    assert all(m._compiled_call_impl is None for m in family.parts().values())
    inside = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ModuleList([toys.Exact(lambda x, s: x)])})
    assert [type(m).__name__ for m in networks(inside)] == []  # a container of torch's own
    assert [type(m).__name__ for m in networks(toys.Exact(lambda x, s: x))] == ["Exact"]


@pytest.mark.slow
def test_compiled_training_is_the_same_to_rounding(points: Any, tmp_path: Path) -> None:
    recipe = toys.recipe("points", "mlp", given=["near"], training=settings())
    plain, fast = (train(points, recipe, tmp_path / str(c), compile=c).tensors() for c in (False, True))
    assert plain.keys() == fast.keys() and all(torch.allclose(plain[k], fast[k], atol=1e-4) for k in plain)


def test_frozen_weights_belong_to_no_optimiser(words: Any) -> None:
    recipe = toys.recipe("words", "recurrent", training=settings())
    model = toys.model(words, recipe)
    model.family.network.requires_grad_(False)  # type: ignore[attr-defined]
    data = TrainingData(
        words, words.codecs["letters"], toys.words("train")[:20], [f for f in fields(words.Wish) if f.kind != "given"], 0
    )
    lesson = Lesson(model, data, None, recipe.training, 0)
    mine = {id(p) for group in lesson.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert mine == {id(p) for name, p in model.named_parameters() if not name.startswith("family_parts.network")}

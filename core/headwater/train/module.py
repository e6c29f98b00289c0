"""One training step, and what surrounds it: the optimiser, the average of the weights, the log, the checkpoint."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from headwater.checkpoint import write_file
from headwater.context import Conditions
from headwater.errors import HeadwaterError
from headwater.families.contract import Family
from headwater.model import Model
from headwater.noise import Noise, permutation
from headwater.recipe import Training
from headwater.spaces import cells
from headwater.train.order import Order
from headwater.train.preparation import TrainingData
from headwater.train.share import ALONE, Share

#: How many rows a family sees before its first step, fewer where they would be more than so many numbers.
BEGUN_ON, MOST_CELLS = 2048, 2**24
#: How many held-out rows a family's own figures are of, where there are so many and no more fit a batch.
MONITORED = 256


def rate_at(step: int, training: Training) -> float:
    """The share of the peak rate at a step: rise, plateau, linear fall to zero, and again in the finish."""
    if step >= training.steps:
        return training.finish_rate * max(0, training.total - step) / max(1, training.finish)
    falling = max(1.0, training.decay * training.steps)
    return min(1.0, (step + 1) / max(1, training.warmup), (training.steps - step) / falling)


class Steps(torch.utils.data.IterableDataset[int]):
    """Nothing but "once more": a step's data are a function of the step's own number, which the module keeps."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 0


class Lesson(pl.LightningModule):
    """Trains a model on batches that are a function of (seed, step) alone, so that a resumed run repeats an unbroken one."""

    def __init__(
        self,
        model: Model,
        data: TrainingData,
        valid: TrainingData | None,
        training: Training,
        seed: int,
        identity: str = "",
        share: Share = ALONE,
    ) -> None:
        super().__init__()
        self.model, self.data, self.valid, self.training_settings, self.identity = model, data, valid, training, identity
        self.share, self.players = share, model.family.players
        self.automatic_optimization = len(self.players) == 1
        self.noise = Noise(seed).fold("train")
        self.order = Order(len(data), training.batch, self.noise.fold("order"), data.sizes)
        self.labelled = data.labelled() if training.finish else np.zeros(0, dtype=np.int64)
        if training.finish and not len(self.labelled):
            raise HeadwaterError("finish: the recipe ends on labelled rows, and no row is labelled")
        sizes = None if data.sizes is None else data.sizes[self.labelled]
        self.ending = Order(len(self.labelled), training.batch, self.noise.fold("finish"), sizes)
        self.average = {k: v.detach().clone() for k, v in model.tensors().items()}
        self.taken = 0
        self.losses: dict[str, Tensor] = {}
        self.figures: dict[str, float] = {}

    def team(self, player: str) -> list[torch.nn.Parameter]:
        """What a player trains, in the model's order; the first one the conditioner too."""
        parts = {*self.model.family.team(player), *(["conditioner"] if player == self.players[0] else [])}
        named = ((k.removeprefix("family_parts.").partition(".")[0], v) for k, v in self.model.named_parameters())
        return [parameter for part, parameter in named if part in parts and parameter.requires_grad]

    def configure_optimizers(self) -> Any:
        """One for each player. What is frozen belongs to none."""
        t = self.training_settings
        out = []
        for player in self.players:
            team = self.team(player)
            groups = [
                {"params": [p for p in team if p.ndim > 1], "weight_decay": t.weight_decay},
                {"params": [p for p in team if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimiser = torch.optim.AdamW(groups, lr=t.rate, betas=t.betas, fused=True if team[0].is_cuda else None)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, t))
            out.append({"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return out if len(out) > 1 else out[0]

    def read(self, data: TrainingData, rows: list[int], noise: Noise) -> tuple[Tensor, Conditions, Noise]:
        """A batch on this device, its conditions with some hidden, and a key for each row."""
        keys = noise.rows(rows)
        batch, conditions = data.batch(rows, keys)
        hidden = 0.0 if self.model.family.needs_given else self.training_settings.given_hidden
        return batch.to(self.device), conditions.to(self.device).dropped(keys, given=hidden), keys

    def loss(self, player: str, batch: Tensor, conditions: Conditions, keys: Noise) -> Tensor:
        family = self.model.family
        noise = keys.fold("loss") if len(self.players) == 1 else keys.fold("loss", player)
        with torch.autocast(self.device.type, enabled=False) if player in family.precise else nullcontext():
            loss = family.loss(player, batch, self.model.conditioner(conditions), noise)
        if self.share.count > 1:
            weight = family.weight(batch, noise).float()
            loss = loss * weight / self.share.total(weight)
        return loss

    def on_train_start(self) -> None:
        """The average lives beside the weights, also when it comes from a checkpoint."""
        self.average = {k: v.to(self.device) for k, v in self.average.items()}

    def rows(self, step: int) -> list[int]:
        """What a step trains on."""
        steps = self.training_settings.steps
        if step < steps:
            return self.order.rows(step)
        return [int(self.labelled[i]) for i in self.ending.rows(step - steps)]

    def training_step(self, batch: int, index: int) -> Tensor | None:
        """With several players each moves in its turn, on the same rows: its loss, its own gradients, its step."""
        seed = self.noise.fold("dropout", self.taken)  # torch's own stream serves dropout alone
        torch.manual_seed((seed.fold(self.share.rank) if self.share.rank else seed).number())
        rows = self.share.rows(self.rows(self.taken))
        told = self.read(self.data, rows, self.noise.fold("step", self.taken))
        if self.automatic_optimization:
            return self._noted(self.players[0], self.loss(self.players[0], *told))
        schedules: Any = self.lr_schedulers()
        for player, optimiser, schedule in zip(self.players, self.optimizers(), schedules, strict=True):
            self.toggle_optimizer(optimiser)
            optimiser.zero_grad()
            self.manual_backward(self._noted(player, self.loss(player, *told)))
            self.clip_gradients(optimiser, self.training_settings.clip, "norm")
            optimiser.step()
            schedule.step()
            self.untoggle_optimizer(optimiser)
        return None

    def _noted(self, player: str, loss: Tensor) -> Tensor:
        self.losses[player] = self.share.total(loss.detach())
        return loss

    def on_after_backward(self) -> None:
        """The gradients of whoever moves, from all processes."""
        if self.share.count > 1:
            self.share.join_gradients([p for p in self.model.parameters() if p.requires_grad])

    def advance(self) -> None:
        """Count the step just taken and move the average towards its weights."""
        self.taken += 1
        keep = min(self.training_settings.ema, (1 + self.taken) / (10 + self.taken))
        for name, value in self.model.tensors().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value.detach(), 1 - keep)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def validate(self) -> float:
        """The last player's loss under the averaged weights on the first rows of the validation data and fixed noise; and
        the family's own figures, of one batch of them. Among several players a loss says how the game stands, not how good the
        model is."""
        self.figures = {}
        if self.valid is None or not (count := min(self.training_settings.validate_rows, len(self.valid))):
            return float("nan")
        size, total, noise, family = self.training_settings.batch, 0.0, Noise(0).fold("valid"), self.model.family
        with averaged(self.model, self.average):
            for start in range(0, count, size):
                rows = list(range(start, min(start + size, count)))
                batch, conditions, keys = self.read(self.valid, rows, noise)
                loss = family.loss(self.players[-1], batch, self.model.conditioner(conditions), keys.fold("loss"))
                total += float(loss) * len(rows)
            if type(family).monitor is not Family.monitor:
                batch, conditions, keys = self.read(self.valid, list(range(min(count, max(size, MONITORED)))), noise)
                self.figures.update(family.monitor(batch, self.model.conditioner(conditions), keys.fold("monitor")))
        return total / count

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["average"], checkpoint["taken"], checkpoint["identity"] = self.average, self.taken, self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.average, self.taken = checkpoint["average"], checkpoint["taken"]


def begin(model: Model, data: TrainingData, noise: Noise) -> None:
    """Let a family see some rows of the data before its first step, where it wants to."""
    if type(model.family).begin is Family.begin:
        return
    count = min(len(data), max(64, min(BEGUN_ON, MOST_CELLS // cells(model.space))))
    rows = permutation(torch.arange(count), len(data), noise.fold("rows")).tolist()
    keys = noise.rows(rows)
    batch, conditions = data.batch(rows, keys)
    model.eval()
    with torch.no_grad():
        model.family.begin(batch, model.conditioner(conditions), keys.fold("begin"))
    model.train()


@contextmanager
def compiled(family: Family) -> Iterator[None]:
    """The family's networks run compiled for the length of a ``with`` block, but for those of its ``uncompiled`` players. Weights
    keep their names."""
    apart = {name for player in family.uncompiled for name in family.team(player)}
    chosen = [m for name, part in family.parts().items() if name not in apart for m in networks(part)]
    for module in chosen:
        module.compile()
    try:
        yield
    finally:
        for module in chosen:
            module._compiled_call_impl = None


def networks(part: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The outermost modules of a part that are called as such and are more than one layer of torch's own."""
    if type(part).__module__.startswith("torch."):
        return
    if type(part).forward is not torch.nn.Module.forward:
        yield part
    else:
        for child in part.children():
            yield from networks(child)


class averaged:
    """Puts averaged weights into a model for the length of a ``with`` block."""

    def __init__(self, model: Model, average: dict[str, Tensor]) -> None:
        self.model, self.average = model, average

    def __enter__(self) -> None:
        self.own = {k: v.detach().clone() for k, v in self.model.tensors().items()}
        self.model.load_tensors(self.average)
        self.model.eval()

    def __exit__(self, *unused: Any) -> None:
        self.model.load_tensors(self.own)
        self.model.train()


class Journal(pl.Callback):
    """Writes the log, tells the progress, and saves the checkpoint every so many seconds and at the end."""

    COLUMNS = ("step", "loss", "valid_loss", "rate", "seconds")

    def __init__(
        self,
        folder: Path,
        seconds: float,
        log_every: int,
        validate_every: int,
        tell: Callable[[int, float, float], None],
        show: Callable[[Mapping[str, float]], None] = lambda figures: None,
    ) -> None:
        self.folder, self.seconds, self.log_every, self.validate_every = folder, seconds, log_every, validate_every
        self.tell, self.show = tell, show
        self.saved = self.started = time.monotonic()
        self.losses: dict[str, list[float]] = {}

    def on_train_start(self, trainer: pl.Trainer, lesson: Lesson) -> None:  # type: ignore[override]
        """Forget the lines of steps that will be taken again, those after the checkpoint that is resumed."""
        for path in (self.folder / "log.csv", self.folder / "monitor.csv"):
            if path.exists() and lesson.share.rank == 0:
                lines = path.read_text("utf-8").splitlines(keepends=True)
                kept = [s for s in lines[1:] if s.endswith("\n") and int(s.partition(",")[0]) <= lesson.taken]
                write_file(path, "".join(lines[:1] + kept).encode())

    def on_train_batch_end(self, trainer: pl.Trainer, lesson: Lesson, *unused: Any) -> None:  # type: ignore[override]
        lesson.advance()
        if lesson.share.rank:
            return
        for player, value in lesson.losses.items():
            self.losses.setdefault(player, []).append(float(value))
        last = lesson.taken == lesson.training_settings.total
        if lesson.taken % self.log_every == 0 or last:
            due = lesson.taken % self.validate_every == 0 or last
            valid = lesson.validate() if due else float("nan")
            means = {player: sum(losses) / len(losses) for player, losses in self.losses.items()}
            self.losses.clear()
            loss, rate = means.pop(lesson.players[-1]), rate_at(lesson.taken - 1, lesson.training_settings)
            seconds = f"{time.monotonic() - self.started:.1f}"
            self._write("log.csv", self.COLUMNS, [lesson.taken, f"{loss:.6g}", f"{valid:.6g}", f"{rate:.4g}", seconds])
            self.tell(lesson.taken, loss, valid)
            figures = {f"loss of the {player}": mean for player, mean in means.items()} | lesson.figures
            if due and figures:
                self._write("monitor.csv", ["step", *figures], [lesson.taken, *(f"{value:.6g}" for value in figures.values())])
                self.show(figures)
        if last or time.monotonic() - self.saved > self.seconds:
            trainer.save_checkpoint(self.folder / "checkpoint.safetensors")
            self.saved = time.monotonic()

    def _write(self, name: str, columns: Sequence[str], values: Sequence[Any]) -> None:
        fresh = not (self.folder / name).exists()
        with (self.folder / name).open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(columns)
            writer.writerow(values)

"""One training step, and what surrounds it: the optimiser, the average of the weights, the log, the checkpoint."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from headwater.checkpoint import write_file
from headwater.errors import HeadwaterError
from headwater.model import Model
from headwater.noise import Noise
from headwater.recipe import Training
from headwater.train.order import Order
from headwater.train.preparation import TrainingData


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
        self, model: Model, data: TrainingData, valid: TrainingData | None, training: Training, seed: int, identity: str = ""
    ) -> None:
        super().__init__()
        self.model, self.data, self.valid, self.training_settings, self.identity = model, data, valid, training, identity
        self.noise = Noise(seed).fold("train")
        self.order = Order(len(data), training.batch, self.noise.fold("order"), data.sizes)
        self.labelled = data.labelled() if training.finish else np.zeros(0, dtype=np.int64)
        if training.finish and not len(self.labelled):
            raise HeadwaterError("finish: the recipe ends on labelled rows, and no row is labelled")
        sizes = None if data.sizes is None else data.sizes[self.labelled]
        self.ending = Order(len(self.labelled), training.batch, self.noise.fold("finish"), sizes)
        self.average = {k: v.detach().clone() for k, v in model.tensors().items()}
        self.taken = 0
        self.last_loss = torch.zeros(())

    def configure_optimizers(self) -> Any:
        t = self.training_settings
        on_cuda = next(self.model.parameters()).is_cuda
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": t.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=t.rate, betas=t.betas, fused=True if on_cuda else None)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, t))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def step_loss(self, data: TrainingData, rows: list[int], noise: Noise, *, drop: bool) -> Tensor:
        keys = noise.rows(rows)
        batch, conditions = data.batch(rows, keys)
        conditions = conditions.to(self.device)
        if drop:
            conditions = conditions.dropped(keys)
        context = self.model.conditioner(conditions)
        return self.model.family.loss("model", batch.to(self.device), context, keys.fold("loss"))

    def on_train_start(self) -> None:
        """The average lives beside the weights, also when it comes from a checkpoint."""
        self.average = {k: v.to(self.device) for k, v in self.average.items()}

    def rows(self, step: int) -> list[int]:
        """What a step trains on."""
        steps = self.training_settings.steps
        if step < steps:
            return self.order.rows(step)
        return [int(self.labelled[i]) for i in self.ending.rows(step - steps)]

    def training_step(self, batch: int, index: int) -> Tensor:
        torch.manual_seed(self.noise.fold("dropout", self.taken).number())  # torch's own stream serves dropout alone
        loss = self.step_loss(self.data, self.rows(self.taken), self.noise.fold("step", self.taken), drop=True)
        self.last_loss = loss.detach()
        return loss

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
        """The loss of the averaged weights on the first rows of the validation data, under fixed noise."""
        if self.valid is None or not (count := min(self.training_settings.validate_rows, len(self.valid))):
            return float("nan")
        size, total = self.training_settings.batch, 0.0
        with averaged(self.model, self.average):
            for start in range(0, count, size):
                rows = list(range(start, min(start + size, count)))
                total += float(self.step_loss(self.valid, rows, Noise(0).fold("valid"), drop=True)) * len(rows)
        return total / count

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["average"], checkpoint["taken"], checkpoint["identity"] = self.average, self.taken, self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.average, self.taken = checkpoint["average"], checkpoint["taken"]


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
        self, folder: Path, seconds: float, log_every: int, validate_every: int, tell: Callable[[int, float, float], None]
    ) -> None:
        self.folder, self.seconds, self.log_every, self.validate_every, self.tell = folder, seconds, log_every, validate_every, tell
        self.saved = self.started = time.monotonic()
        self.losses: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, lesson: Lesson) -> None:  # type: ignore[override]
        """Forget the lines of steps that will be taken again, those after the checkpoint that is resumed."""
        path = self.folder / "log.csv"
        if path.exists():
            lines = path.read_text("utf-8").splitlines(keepends=True)
            kept = [s for s in lines[1:] if s.endswith("\n") and int(s.partition(",")[0]) <= lesson.taken]
            write_file(path, "".join(lines[:1] + kept).encode())

    def on_train_batch_end(self, trainer: pl.Trainer, lesson: Lesson, *unused: Any) -> None:  # type: ignore[override]
        lesson.advance()
        self.losses.append(float(lesson.last_loss))
        last = lesson.taken == lesson.training_settings.total
        if lesson.taken % self.log_every == 0 or last:
            due = lesson.taken % self.validate_every == 0 or last
            loss, valid = sum(self.losses) / len(self.losses), lesson.validate() if due else float("nan")
            self.losses.clear()
            self._write(lesson.taken, loss, valid, rate_at(lesson.taken - 1, lesson.training_settings))
            self.tell(lesson.taken, loss, valid)
        if last or time.monotonic() - self.saved > self.seconds:
            trainer.save_checkpoint(self.folder / "checkpoint.safetensors")
            self.saved = time.monotonic()

    def _write(self, step: int, loss: float, valid: float, rate: float) -> None:
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(self.COLUMNS)
            writer.writerow([step, f"{loss:.6g}", f"{valid:.6g}", f"{rate:.4g}", f"{time.monotonic() - self.started:.1f}"])

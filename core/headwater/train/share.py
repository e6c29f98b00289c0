"""Training on several devices: each process takes its share of every step's rows, and the gradients of all are added up.

So many devices do one device's work: the rows of a step, the noise of each row and the sum of the gradients are the same, to
rounding. Two losses are not sums over rows, and with them the weights are others, as good ones: masked diffusion spreads what it
hides evenly over the rows at hand, and a variational autoencoder's ``free_bits`` are a floor under the mean over them. Every
process holds the whole state and takes the same step; the first one alone writes files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from headwater.errors import HeadwaterError

Row = TypeVar("Row")


@dataclass(frozen=True)
class Share:
    """Process ``rank`` of ``count``, which meet at the file ``meeting``."""

    rank: int = 0
    count: int = 1
    meeting: str = ""

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Every ``count``-th one: where rows are sorted by length, all get as many long ones."""
        return list(rows[self.rank :: self.count])

    def device(self, device: str) -> str:
        return f"cuda:{self.rank}" if self.count > 1 and device == "cuda" else device

    def total(self, value: Tensor) -> Tensor:
        """The sum of all processes' values."""
        if self.count > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
        return value

    def join_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every gradient becomes the sum of all processes'; one that no process has stays absent."""
        first = parameters[0]
        have = torch.tensor([float(p.grad is not None) for p in parameters], dtype=first.dtype, device=first.device)
        grads = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        flat = torch.cat([have, *grads])
        dist.all_reduce(flat)
        counts, *sums = flat.split([len(parameters), *(p.numel() for p in parameters)])
        for parameter, count, value in zip(parameters, counts.tolist(), sums, strict=True):
            parameter.grad = value.reshape(parameter.shape).clone() if count else None

    @contextmanager
    def open(self, device: str) -> Iterator[None]:
        """All processes meet, and part at the end."""
        if self.count == 1:
            yield
            return
        backend = "nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, init_method=f"file://{self.meeting}", rank=self.rank, world_size=self.count)
        try:
            yield
        finally:
            dist.destroy_process_group()


ALONE = Share()


def check(devices: int, device: str, batch: int) -> None:
    """Raises :class:`HeadwaterError` where there are not so many devices, or rows."""
    if devices < 1 or devices > batch:
        raise HeadwaterError(f"--devices: expected 1 to {batch}, the rows of a batch; got {devices}")
    if device.startswith("cuda") and devices > 1 and (device != "cuda" or torch.cuda.device_count() < devices):
        raise HeadwaterError(f"--devices: {devices} of --device {device}; this machine has cuda with {torch.cuda.device_count()}")


@contextmanager
def company(devices: int, follow: Callable[..., None], arguments: dict[str, Any]) -> Iterator[Share]:
    """This process's share, the first, while ``follow(share, **arguments)`` runs in a process of its own for each of the others."""
    if devices == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        spawn = get_context("spawn")
        others = [
            spawn.Process(target=follow, args=(Share(rank, devices, meeting),), kwargs=arguments, daemon=True)
            for rank in range(1, devices)
        ]
        try:
            for process in others:
                process.start()
            yield Share(0, devices, meeting)
            for process in others:
                process.join(60)
        except (RuntimeError, AttributeError, TypeError) as error:
            if codes := [p.exitcode for p in others if p.pid is not None and p.exitcode]:
                raise HeadwaterError(f"--devices: another process of this training ended with code {codes[0]}") from error
            raise
        finally:
            for process in others:
                if process.pid is not None and process.is_alive():
                    process.terminate()

"""Where workers run. An engine starts, feeds and kills them; what to do, and what a death means, is the driver's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.batch.worker import Answer, Task, Worker


class Engine(Protocol):
    """Workers by number, from 0. Tasks of one worker are done in the order they came."""

    name: str
    workers: int

    def submit(self, worker: int, task: Task) -> None:
        """Give a worker a task; one that is not running is started first."""

    def events(self, seconds: float) -> Iterator[tuple[int, Answer | None]]:
        """What workers answered, None for one that died, waiting at most ``seconds`` for the first. A worker that cannot begin
        answers ``{"stop": reason}``."""

    def kill(self, worker: int) -> None:
        """End a worker at once, with whatever it was given. No event tells of it."""

    def word(self, worker: int) -> str:
        """The last that a worker which died had to say, one line, where that is known."""

    def close(self) -> None:
        """End all workers."""


class Embedded:
    """One worker inside this process, for Python and notebooks: nothing supervises it, so a row that hangs or kills it takes
    the caller along."""

    name, workers = "embedded", 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker: Worker | None = None
        self.tasks: list[Task] = []

    def submit(self, worker: int, task: Task) -> None:
        self.tasks.append(task)

    def events(self, seconds: float) -> Iterator[tuple[int, Answer | None]]:
        from headwater.batch.work import Lost
        from headwater.batch.worker import Worker

        while self.tasks:
            try:
                self.worker = self.worker or Worker(self.folder, bounded=False)
            except HeadwaterError as error:
                yield 0, {"stop": str(error)}
                return
            try:
                answer = self.worker.make(self.tasks.pop(0))
            except Lost as error:
                answer = {"stop": str(error)}
            yield 0, answer

    def kill(self, worker: int) -> None:
        self.tasks.clear()

    def word(self, worker: int) -> str:
        return ""

    def close(self) -> None:
        """Give the caller's process its threads back."""
        self.tasks.clear()
        if self.worker:
            self.worker.leave()


def quiet_environment(threads: int) -> dict[str, str]:
    """The environment of a worker process: its numeric libraries keep to the job's threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONSAFEPATH": "1"}

"""Workers as processes of this machine, each at the end of a socket that carries JSON lines. The driver's process stays free of
torch, so that a worker that hangs, or that the kernel kills for memory, takes nothing with it."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.batch.engine import quiet_environment

if TYPE_CHECKING:
    from headwater.batch.worker import Answer, Task


class _Process:
    """A worker's process and our end of its socket."""

    def __init__(self, folder: Path, threads: int, log: Path) -> None:
        self.ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "headwater.batch.local", str(folder), str(theirs.fileno())]
        with log.open("wb") as errors, theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=quiet_environment(threads),
                start_new_session=True,  # Ctrl-C reaches the driver, which knows what to do
            )
        self.unread = b""

    def lines(self) -> list[bytes] | None:
        """Whole lines that have come; None at the end of the socket."""
        try:
            came = self.ours.recv(1 << 20)
        except OSError:
            came = b""
        *whole, self.unread = (self.unread + came).split(b"\n")
        return whole or (None if not came else [])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.ours.close()


class Local:
    """``workers`` processes of this machine."""

    name = "local"

    def __init__(self, folder: Path, workers: int, threads: int, logs: Path) -> None:
        self.folder, self.workers, self.threads, self.logs = folder, workers, threads, logs
        self.running: dict[int, _Process] = {}
        self.selector = selectors.DefaultSelector()

    def submit(self, worker: int, task: Task) -> None:
        if worker not in self.running:
            log = self.logs / f"worker-{worker}.log"
            self.running[worker] = _Process(self.folder, self.threads, log)
            self.selector.register(self.running[worker].ours, selectors.EVENT_READ, worker)
        with contextlib.suppress(OSError):  # where it has just died, its end of the socket will say so
            self.running[worker].ours.sendall(json.dumps(task).encode() + b"\n")

    def events(self, seconds: float) -> Iterator[tuple[int, Answer | None]]:
        for key, _ in self.selector.select(seconds):
            worker: int = key.data
            lines = self.running[worker].lines()
            if lines is None:
                self.kill(worker)
                yield worker, None
            else:
                yield from ((worker, json.loads(line)) for line in lines)

    def kill(self, worker: int) -> None:
        if worker in self.running:
            gone = self.running.pop(worker)
            self.selector.unregister(gone.ours)
            gone.end()

    def close(self) -> None:
        for worker in list(self.running):
            self.kill(worker)
        self.selector.close()


def main(folder: str, handle: str) -> None:
    """A worker process: tasks come as lines, answers go back. It ends with its driver."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed driver's workers do not go on computing
    link = socket.socket(fileno=int(handle))
    tasks = link.makefile("r", encoding="utf-8")

    def answer(value: Answer) -> None:
        link.sendall(json.dumps(value).encode() + b"\n")

    from headwater.batch.worker import Worker
    from headwater.errors import HeadwaterError

    try:
        worker = Worker(Path(folder))
    except (HeadwaterError, OSError, MemoryError) as error:
        answer({"stop": " ".join(str(error).split()) or "the model does not fit into memory"})
        return
    for line in tasks:
        answer(worker.make(json.loads(line)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except BaseException:
        traceback.print_exc()  # into the worker's log, whose end the driver shows
        os._exit(1)
    os._exit(0)  # no library's farewell may hang a worker that is done

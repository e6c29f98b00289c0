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
from typing import TYPE_CHECKING, Any

from headwater.batch.engine import quiet_environment

if TYPE_CHECKING:
    from headwater.batch.worker import Answer, Task


class _Process:
    """A worker's process and our end of its socket."""

    def __init__(self, threads: int) -> None:
        self.ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headwater.batch.local", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=quiet_environment(threads),
                start_new_session=True,  # Ctrl-C reaches the driver, which knows what to do
            )
        self.unread = b""

    def tell(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # where it has just died, its end of the socket will say so
            self.ours.sendall(json.dumps(message).encode() + b"\n")

    def lines(self) -> list[bytes] | None:
        """Whole lines that have come; None at the end of the socket."""
        try:
            came = self.ours.recv(1 << 20)
        except OSError:
            came = b""
        *whole, self.unread = (self.unread + came).split(b"\n")
        return whole or (None if not came else [])

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # and whatever it started: its session is its own
        self.process.wait()
        self.ours.close()


#: Processes that were begun before it was known for what.
_spare: list[_Process] = []


def begin(workers: int) -> None:
    """Begin workers of one thread, so many with those already begun, that import torch while a job is still being planned. What is
    not used ends with this process, or with the next :class:`Local` that closes."""
    _spare.extend(_Process(1) for _ in range(workers - len(_spare)))


def _end_spare() -> None:
    while _spare:
        _spare.pop().end()


class Local:
    """``workers`` processes of this machine."""

    name = "local"

    def __init__(self, folder: Path, workers: int, threads: int, logs: Path) -> None:
        self.folder, self.workers, self.threads, self.logs = folder, workers, threads, logs
        self.running: dict[int, _Process] = {}
        self.selector = selectors.DefaultSelector()
        if threads != 1:
            _end_spare()

    def submit(self, worker: int, task: Task) -> None:
        if worker not in self.running:
            fresh = _spare.pop() if _spare else _Process(self.threads)
            fresh.tell({"folder": str(self.folder), "log": str(self._log(worker))})
            self.running[worker] = fresh
            self.selector.register(fresh.ours, selectors.EVENT_READ, worker)
        self.running[worker].tell(task)

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

    def word(self, worker: int) -> str:
        try:
            lines = self._log(worker).read_text("utf-8", errors="replace").split("\n")
        except OSError:
            return ""
        return last[-1][:200] if (last := [line.strip() for line in lines if line.strip()]) else ""

    def _log(self, worker: int) -> Path:
        return self.logs / f"worker-{worker}.log"

    def close(self) -> None:
        for worker in list(self.running):
            self.kill(worker)
        _end_spare()
        self.selector.close()


def main(handle: str, driver: str) -> None:
    """A worker process: after a first line that names job and log, tasks come as lines, answers go back. It ends with its
    driver."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed driver's workers do not go on computing
        if os.getppid() != int(driver):  # it was killed before this was asked for
            return
    link = socket.socket(fileno=int(handle))
    tasks = link.makefile("r", encoding="utf-8")

    def answer(value: Answer) -> None:
        link.sendall(json.dumps(value).encode() + b"\n")

    import headwater.generator
    import headwater.report.run  # noqa: F401  (torch and all that a worker needs, while the driver plans)
    from headwater.batch.worker import Worker
    from headwater.errors import HeadwaterError

    first = tasks.readline()
    if not first:
        return
    told = json.loads(first)
    log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        worker = Worker(Path(told["folder"]))
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

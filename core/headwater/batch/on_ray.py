"""Workers as actors of a Ray cluster, over the same shards and the same staging folders, which must lie on a file system that
every machine sees. Ray moves tasks and answers, no data: what was made is on the disk before a worker answers."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headwater.errors import HeadwaterError, MissingExtra

if TYPE_CHECKING:
    from headwater.batch.worker import Answer, Task, Worker


class Actor:
    """A worker, opened at its first task so that a model that cannot be opened is an answer and no mystery."""

    def __init__(self, folder: str) -> None:
        self.folder, self.worker = Path(folder), cast("Worker | None", None)

    def make(self, task: Task) -> Answer:
        from headwater.batch.worker import Worker

        try:
            self.worker = self.worker or Worker(self.folder)
        except (HeadwaterError, OSError, MemoryError) as error:
            return {"stop": " ".join(str(error).split()) or "the model does not fit into memory"}
        return self.worker.make(task)


class OnRay:
    """``workers`` actors on the cluster at ``address``; without one on the cluster that RAY_ADDRESS names, else on a small one
    started on this machine for the job. Each asks for the job's threads and ``gpus``, which may be a fraction."""

    name = "ray"

    def __init__(self, folder: Path, workers: int, threads: int, address: str | None = None, gpus: float = 0.0) -> None:
        try:
            import ray
        except ModuleNotFoundError:
            raise MissingExtra("--engine ray needs ray: pip install 'headwater[ray]'") from None
        from headwater.batch.engine import quiet_environment

        self.ray: Any = ray
        self.folder, self.workers = folder, workers
        self.running: dict[int, Any] = {}
        self.waiting: dict[int, list[Any]] = {}  # what each was given, in order
        self.words: dict[int, str] = {}
        self.ours = not self.ray.is_initialized()
        if self.ours:
            self._join(address)
        have = self.ray.cluster_resources()
        for what, need in (("CPU", threads), ("GPU", gpus)):
            if need * workers > have.get(what, 0):
                self.close()
                raise HeadwaterError(
                    f"--workers: {workers} ask for {need * workers:g} {what}, {need:g} each; the cluster has {have.get(what, 0):g}"
                )
        quiet = {k: v for k, v in quiet_environment(threads).items() if k.endswith("_NUM_THREADS") or k == "PYTHONSAFEPATH"}
        self.kind: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0, runtime_env={"env_vars": quiet})(Actor)

    def _join(self, address: str | None) -> None:
        """Join the cluster at an address, or begin one here."""
        _answers(address or os.environ.get("RAY_ADDRESS", ""))
        on_term = signal.getsignal(signal.SIGTERM)
        try:
            self.ray.init(
                address=address, log_to_driver=False, include_dashboard=None if address else False, logging_level=logging.ERROR
            )
        except Exception as error:  # Ray raises plain ones, too
            why, where = " ".join(str(error).split())[:200], f"at {address} answers" if address else "could be started here"
            raise HeadwaterError(f"--engine ray: no cluster {where} ({why})") from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray takes it for itself

    def submit(self, worker: int, task: Task) -> None:
        if worker not in self.running:
            self.running[worker] = self.kind.remote(str(self.folder))
        self.waiting.setdefault(worker, []).append(self.running[worker].make.remote(task))

    def events(self, seconds: float) -> Iterator[tuple[int, Answer | None]]:
        first = {given[0]: worker for worker, given in self.waiting.items() if given}
        if not first:
            return
        done, _ = self.ray.wait(list(first), num_returns=1, timeout=seconds)
        for reference in done:
            worker = first[reference]
            self.waiting[worker].pop(0)
            try:
                answer = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:  # the actor died, or what it did raised what no row should
                self.words[worker] = " ".join(str(getattr(error, "cause", None) or error).split())[:200]
                self.kill(worker)
                answer = None
            yield worker, answer

    def kill(self, worker: int) -> None:
        if worker in self.running:
            self.ray.kill(self.running.pop(worker), no_restart=True)
        self.waiting.pop(worker, None)

    def word(self, worker: int) -> str:
        return self.words.get(worker, "")

    def close(self) -> None:
        for worker in list(self.running):
            self.kill(worker)
        if self.ours:
            self.ray.shutdown()


def _answers(address: str) -> None:
    """Raises :class:`HeadwaterError` where nothing listens: Ray itself would go on trying for a quarter of an hour."""
    if address in ("", "auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise HeadwaterError(f"--address: expected HOST:PORT; got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise HeadwaterError(
            f"--address: no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error})"
        ) from None

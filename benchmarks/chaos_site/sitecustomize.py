"""A driver or a worker that kills itself in the midst of writing, by order of benchmarks/chaos.py.

Python imports this by itself where its folder is on PYTHONPATH. An order is a file `order-ROLE.json` in the folder HEADWATER_CHAOS:
die at the n-th write, fsync or rename below that folder's jobs, before it, after it, or half-way through a write. Who takes the
order moves it away first, so it is carried out once. Every worker tells its process id, and every shard that it begins, with
whether the manifest listed that shard already.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGUN = re.compile(r"(.*)/\.staging/[^/]+/(\d{7})-\d+/files$")
#: The system's own calls: what stands in for them below must not count itself.
RENAME, OPEN = os.rename, io.open


def role() -> str | None:
    words = sys.orig_argv
    if "headwater.batch.local" in words or any(word.endswith("default_worker.py") for word in words):
        return "worker"
    return "driver" if "batch" in words and ({"run", "resume"} & set(words)) else None


class Chaos:
    """Counts a process's calls while an order for its role is out."""

    def __init__(self, folder: str, role: str) -> None:
        self.folder, self.role = folder, role
        self.order, self.count = "", 0

    def due(self, point: str, path: str) -> dict[str, Any] | None:
        """The order, where this call is the one that it names."""
        if not path.startswith(f"{self.folder}/jobs/"):
            return None
        try:
            with OPEN(f"{self.folder}/order-{self.role}.json", encoding="utf-8") as stream:
                order: dict[str, Any] = json.load(stream)
        except (OSError, ValueError):
            return None
        if order["point"] != point or not path.startswith(f"{self.folder}/jobs/{order['cell']}/"):
            return None
        if order["id"] != self.order:
            self.order, self.count = order["id"], 0
        self.count += 1
        return {**order, "path": path[len(self.folder) + 6 :], "pid": os.getpid()} if self.count >= order["nth"] else None

    def die(self, order: dict[str, Any]) -> None:
        claimed = f"{self.folder}/taken-{os.getpid()}.json"
        try:
            RENAME(f"{self.folder}/order-{self.role}.json", claimed)
        except OSError:
            return  # another worker was faster
        with OPEN(claimed, "w", encoding="utf-8") as stream:
            json.dump(order, stream)
        RENAME(claimed, f"{self.folder}/killed-{order['id']}.json")
        os.kill(os.getpid(), signal.SIGKILL)

    def around(self, point: str, call: Callable[..., Any], where: Callable[..., str]) -> Callable[..., Any]:
        """A call that may be this process's last."""

        def stand_in(*given: Any, **named: Any) -> Any:
            order = self.due(point, where(*given))
            if order and order["when"] == "before":
                self.die(order)
            result = call(*given, **named)
            if order:
                self.die(order)
            return result

        return stand_in

    def open(self, file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        stream = OPEN(file, mode, *given, **named)
        if set(mode) & set("wax") and isinstance(file, str | Path) and (order := self.due("write", os.path.abspath(file))):
            return _Torn(stream, lambda: self.die(order))
        return stream

    def mkdir(self, path: Any, *given: Any, **named: Any) -> None:
        MKDIR(path, *given, **named)
        if self.role == "worker" and (found := BEGUN.match(str(path))):
            from headwater.batch.manifest import read

            folder, shard = Path(found[1]), int(found[2])
            line = {
                "job": f"{folder.parent.name}/{folder.name}",
                "shard": shard,
                "listed": shard in read(folder)[0],
                "pid": os.getpid(),
            }
            with OPEN(f"{self.folder}/begun.jsonl", "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


class _Torn:
    """A file whose first write stops half-way, and the process with it."""

    def __init__(self, stream: Any, die: Callable[[], None]) -> None:
        self.stream, self.die = stream, die

    def write(self, data: Any) -> int:
        self.stream.write(data[: len(data) // 2])
        self.stream.flush()
        self.die()
        return int(self.stream.write(data[len(data) // 2 :])) + len(data) // 2

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *unused: Any) -> None:
        self.stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


MKDIR = os.mkdir
if (told := os.environ.get("HEADWATER_CHAOS")) and (mine := role()):
    chaos = Chaos(told, mine)

    def target(source: Any, place: Any, *unused: Any) -> str:
        return os.path.abspath(place)

    os.fsync = chaos.around("fsync", os.fsync, lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    os.rename = chaos.around("rename", os.rename, target)
    os.replace = chaos.around("rename", os.replace, target)
    os.link = chaos.around("rename", os.link, target)
    io.open = builtins.open = chaos.open  # type: ignore[assignment]
    os.mkdir = chaos.mkdir
    if mine == "worker":
        Path(told, "workers").mkdir(exist_ok=True)
        Path(told, "workers", str(os.getpid())).touch()

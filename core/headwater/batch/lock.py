"""One driver a job folder: a lock file that names its owner and is touched while he lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError

LOCK = "lock.json"
#: Seconds between two heartbeats, and how old one from another machine may be before its owner counts as dead.
BEAT, DEAD = 5.0, 60.0


@contextmanager
def held(folder: Path) -> Iterator[str]:
    """The lock of a job folder, given back at the end; yields the run's own name.

    Raises :class:`HeadwaterError` naming the owner where another driver is at work. A lock whose owner is dead is taken over."""
    run = secrets.token_hex(4)
    _take(folder, run)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT):
            with suppress(OSError):  # one that fails is one; the next may not
                os.utime(folder / LOCK)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield run
    finally:
        stop.set()
        found = owner(folder)
        if found is not None and found.get("run") == run:
            (folder / LOCK).unlink(missing_ok=True)


def owner(folder: Path) -> dict[str, Any] | None:
    """Who holds a folder: run, host, pid, whether he seems ``alive`` and the seconds since his last heartbeat. None: nobody."""
    place = folder / LOCK
    try:
        found = json.loads(place.read_text("utf-8"))
        quiet = max(0.0, time.time() - place.stat().st_mtime)
        host, pid, born = str(found["host"]), int(found["pid"]), found["born"]
        near = host == socket.gethostname() and found.get("space") == _space()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return {"run": "", "host": "?", "pid": 0, "quiet": 0.0, "alive": False}  # torn: its writer died in the act
    alive = _birth(pid) == born if near else quiet < DEAD
    return {"run": found.get("run"), "host": host, "pid": pid, "quiet": quiet, "alive": alive}


def _take(folder: Path, run: str) -> None:
    """Link a finished file to the lock's name: it is there whole or not at all, and only one driver can. Takers on one machine
    come one after another, so that none moves the fresh lock of another away for the dead one."""
    import fcntl

    mine = folder / f".lock-{run}"
    me = {"run": run, "host": socket.gethostname(), "space": _space(), "pid": os.getpid(), "born": _birth(os.getpid())}
    guard = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for left in folder.glob(".lock-*"):  # by a taker that was killed
            left.unlink(missing_ok=True)
        mine.write_text(json.dumps(me), "utf-8")
        for _ in range(10):
            try:
                os.link(mine, folder / LOCK)
                return
            except FileExistsError:
                found = owner(folder)
            if found is not None and found["alive"]:
                raise HeadwaterError(
                    f"{folder}: another run is at work on this job (process {found['pid']} on {found['host']}, last sign of life "
                    f"{found['quiet']:.0f} s ago); wait for it, or stop it"
                )
            (folder / LOCK).unlink(missing_ok=True)
        raise HeadwaterError(f"{folder / LOCK}: cannot be taken; several runs are trying at once")
    finally:
        os.close(guard)
        mine.unlink(missing_ok=True)


def _space() -> str:
    """Where a process number means anything: the machine since it was started, and the container."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _birth(pid: int) -> str | None:
    """What tells a process from a later one with its number; None where there is none such."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]  # a dead process may wait for its parent to notice
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"  # no /proc here: the number must do


def alive(pid: int) -> bool:
    """Whether a process of this number lives on this machine."""
    return _birth(pid) is not None

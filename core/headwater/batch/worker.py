"""A worker: one warm model that makes shards, row by row where it must. The only part of a job that imports torch.

Rows run in *flights*, several in one call. A flight that fails is halved until the rows that fail stand alone: those are set
aside with their reason (the quarantine), all others are made. Memory that runs out halves flights in the same way. A flight that
kills the worker, or hangs it, is told to the next worker as ``careful``: rows to be tried first, and in smaller flights.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.batch import plan as planning
from headwater.batch import shards
from headwater.batch.work import Broken, Made, Refused, Work, work_of
from headwater.errors import HeadwaterError

#: What a task and an answer are: plain values, so that they cross to another process or machine as JSON.
Task = dict[str, Any]
Answer = dict[str, Any]
#: The note of the rows that are being made, in the task's staging folder.
FLIGHT = "flight.json"
#: What a failing disk says. It is nobody's row that is at fault.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
REASON = 300


class Worker:
    """Opens a job's model and makes shards of it.

    ``bounded``: this process is the worker's own, and may be given the job's limit of memory. Raises :class:`HeadwaterError`
    where the model cannot be opened, is no longer the planned one, or knows an option not."""

    def __init__(self, folder: Path, *, bounded: bool = True) -> None:
        import torch

        self.plan = planning.read(folder)
        torch.set_num_threads(self.plan.job.threads)
        _bound(self.plan.job.limits.memory_gb if bounded else None)
        from headwater.generator import load
        from headwater.report.run import made_by

        generator = load(self.plan.model, self.plan.job.device)
        if generator.config.get("sha256") != self.plan.sha256:
            raise HeadwaterError(f"the weights of {self.plan.model} are not those the job was planned with")
        self.work: Work = work_of(self.plan, generator)
        made = made_by(generator)
        self.environment = {**made["environment"], "versions": made["versions"]}
        self.together = self.plan.job.rows_in_flight or self.work.together

    def make(self, task: Task) -> Answer:
        """Make a shard into its staging folder, which holds nothing else; what is there then, counted and sealed.

        ``{"stop": reason}`` where the job cannot go on."""
        began, cpu = time.time(), time.process_time()
        stage = Path(task["stage"])
        try:
            made, refused = self._rows(task, stage)
            (stage / FLIGHT).unlink(missing_ok=True)  # from here on no row is in the air
            made = self._files(made, refused, stage / shards.FILES)
            self._tables(task["shard"], made, refused, stage)
            left = shards.seal(stage)
        except Broken as error:
            return {"stop": str(error)}
        except OSError as error:
            return {"stop": f"{error.strerror or error} ({stage.parent.parent.parent})"}
        except Exception as error:  # no row's doing, and again the same if tried again
            return {"stop": f"shard {task['shard']} cannot be stored: {reason(error, stage)}"}
        finally:
            self.work.forget()
        counts = {"results": len(made), "unusable": sum(m.problem is not None for m in made), "quarantined": len(refused)}
        times = {"began": began, "seconds": time.time() - began, "cpu": time.process_time() - cpu}
        return {"shard": task["shard"], **counts, "left": left, "environment": self.environment, **times}

    def _rows(self, task: Task, stage: Path) -> tuple[list[Made], dict[int, str]]:
        rows, refused = self.plan.range(task["shard"]), {int(row): why for row, why in task.get("exclude", {}).items()}
        attempt = _Attempt(self.work, stage, refused)
        (stage / shards.FILES).mkdir()  # not its parents: a driver that is gone left nothing to work for
        for low, high, most in task.get("careful", ()):
            attempt.fly(range(low, high), most)
        attempt.fly(rows, self.together)
        return sorted(attempt.made, key=lambda m: (m.row, m.draw)), attempt.refused

    def _files(self, made: list[Made], refused: dict[int, str], folder: Path) -> list[Made]:
        """The files that a shard's results make together. Rows that cannot be written are set aside, the rest stays."""
        try:
            self.work.finish(made, folder)
            return made
        except Exception as error:
            _heed_disk(error, folder)
        for m in made:
            _empty(folder)
            try:
                self.work.finish([m], folder)
            except Exception as error:
                _heed_disk(error, folder)
                refused[m.row] = f"its files cannot be written: {reason(error, folder.parent)}"
        _empty(folder)
        made = [m for m in made if m.row not in refused]
        self.work.finish(made, folder)
        return made

    def _tables(self, shard: int, made: Sequence[Made], refused: Mapping[int, str], stage: Path) -> None:
        import pyarrow

        from headwater.samples import parquet_bytes

        rows = [
            {"row": m.row, "draw": m.draw, "id": m.id, "valid": m.problem is None, "why_not": m.problem, **m.columns} for m in made
        ]
        if rows:
            columns = dict.fromkeys(name for row in rows for name in row)  # from_pylist would take those of the first row
            table = pyarrow.table({name: [row.get(name) for row in rows] for name in columns})
            (stage / shards.ITEMS).write_bytes(parquet_bytes(table))
        if refused:
            lines = [
                {"row": row, "id": self.work.name(row), "seed": self.plan.job.seed, "shard": shard, "reason": why}
                for row, why in sorted(refused.items())
            ]
            (stage / shards.QUARANTINE).write_bytes(parquet_bytes(pyarrow.Table.from_pylist(lines)))
        drawn = [(m, self.work.drawn(m)) for m in made if self.plan.shows(m.row)]
        if drawn:
            page = "\n".join(json.dumps({"row": m.row, "draw": m.draw, "problem": m.problem, "fragment": f}) for m, f in drawn)
            (stage / shards.GALLERY).write_text(page + "\n", encoding="utf-8")


class _Attempt:
    """The rows of one shard while they are made."""

    def __init__(self, work: Work, stage: Path, refused: dict[int, str]) -> None:
        self.work, self.stage, self.refused = work, stage, refused
        self.made: list[Made] = []
        self.done: set[int] = set(refused)
        self.most: int | None = None  # rows in flight that memory was seen to hold

    def fly(self, rows: Iterable[int], most: int) -> None:
        """Make those of some rows that are not made yet, ``most`` in a flight."""
        left = [row for row in rows if row not in self.done]
        while left:
            size = min(most, self.most or most)
            self._flight(left[:size])
            left = left[size:]

    def _flight(self, rows: Sequence[int]) -> None:
        """Make rows in one call. Where that fails, in two; a row that fails alone is set aside."""
        note = self.stage / f".{FLIGHT}"
        note.write_text(json.dumps([rows[0], rows[-1] + 1]), "utf-8")
        os.replace(note, self.stage / FLIGHT)
        folder = self.stage / "flight"
        folder.mkdir()
        try:
            made = self.work.run(rows, folder)
        except Refused as error:
            shutil.rmtree(folder)
            self._set_aside(error.reasons)
            if rest := [row for row in rows if row not in error.reasons]:
                self._flight(rest)
            return
        except Broken:
            raise
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            _heed_disk(error, self.stage)
            if _exhausted(error):
                self.most = max(1, len(rows) // 2)
                _free_memory()
            if len(rows) == 1:
                self._set_aside({rows[0]: reason(error, self.stage)})
                return
            self.fly(rows, -(-len(rows) // 2))
            return
        _merge(folder, self.stage / shards.FILES)
        self.made += made
        self.done.update(rows)

    def _set_aside(self, reasons: Mapping[int, str]) -> None:
        self.refused.update(reasons)
        self.done.update(reasons)


def reason(error: BaseException, stage: Path) -> str:
    """An exception as one line for the quarantine, the same wherever and whenever it was staged; a user's mistake is told without
    its type."""
    text = " ".join(str(error).split()).replace(f"{stage}/flight/", "").replace(f"{stage}/", "")
    if _exhausted(error):
        return "out of memory, with no other row in flight"
    return text[:REASON] if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {text}"[:REASON]


def _heed_disk(error: Exception, place: Path) -> None:
    """Raises :class:`Broken` where the disk failed, whatever was being written."""
    if isinstance(error, OSError) and error.errno in DISK:
        raise Broken(f"{error.strerror} ({error.filename or place})") from None


def _exhausted(error: BaseException) -> bool:
    """Whether memory ran out, on the host or on an accelerator."""
    text = str(error)
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "can't allocate memory" in text


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _bound(gigabytes: float | None) -> None:
    """Let allocations beyond a limit fail in this process, before the machine has to kill one of its choice."""
    if gigabytes is None:
        return
    import resource

    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _merge(folder: Path, place: Path) -> None:
    """Move everything below a folder into another, folders of one name together."""
    for path in sorted(folder.rglob("*")):
        target = place / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(path, target)
    shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()

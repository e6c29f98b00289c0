"""A worker: one warm model that makes shards, row by row where it must. The only part of a job that imports torch.

Rows run in *flights*, several in one call. A flight that fails is halved until the rows that fail stand alone: those are set
aside with their reason (the quarantine), all others are made. Memory that runs out halves flights in the same way. A flight that
kills the worker, or hangs it, is told to the next worker as ``careful``: rows to be tried first, and in smaller flights. When all
of a shard's rows have *landed*, what they make together is written. Where that fails or kills, the shard is made again and each
flight *rehearses* it alone, so that there, too, the rows at fault are found by halving.
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
from headwater.batch.work import Broken, Lost, Made, Refused, Work, work_of
from headwater.errors import HeadwaterError

#: What a task and an answer are: plain values, so that they cross to another process or machine as JSON.
Task = dict[str, Any]
Answer = dict[str, Any]
#: The note of the rows that are at work, in the task's staging folder: from, to, and whether they have landed.
FLIGHT = "flight.json"
#: Where what a shard's rows make together is staged.
TOGETHER = "together"
#: What a disk says that takes no more. It is nobody's row that is at fault.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
REASON = 300


class Worker:
    """Opens a job's model and makes shards of it.

    ``bounded``: this process is the worker's own, and may be given the job's limit of memory. Raises :class:`HeadwaterError`
    where the model cannot be opened, is no longer the planned one, or knows an option not."""

    def __init__(self, folder: Path, *, bounded: bool = True) -> None:
        import torch

        self.plan = planning.read(folder)
        _bound(self.plan.job.limits.memory_gb if bounded else None)
        from headwater.generator import load
        from headwater.report.run import made_by

        generator = load(self.plan.model, self.plan.job.device)
        if generator.config.get("sha256") != self.plan.sha256:
            raise HeadwaterError(f"the weights of {self.plan.model} are not those the job was planned with")
        self.threads = torch.get_num_threads()
        torch.set_num_threads(self.plan.job.threads)
        self.work: Work = work_of(self.plan, generator)
        made = made_by(generator)
        self.environment = {**made["environment"], "versions": made["versions"]}
        self.together = self.plan.job.rows_in_flight or self.work.together

    def leave(self) -> None:
        """Undo what was set in this process for the job."""
        import torch

        torch.set_num_threads(self.threads)

    def make(self, task: Task) -> Answer:
        """Make a shard into its staging folder, which holds nothing else; what is there then, counted and sealed.

        ``{"stop": reason}`` where the job cannot go on."""
        began, cpu = time.time(), time.process_time()
        stage = Path(task["stage"])
        try:
            try:
                made, refused, drawn = self._landed(task, stage, bool(task.get("rehearse")))
            except Exception as error:
                _heed(error, stage)
                if task.get("rehearse") or isinstance(error, Broken):
                    raise
                drawn = None
            if drawn is None:  # outside of the handler, which would keep all that the failure held in memory
                made, refused, drawn = self._landed(task, stage, True)
            self._tables(task["shard"], made, drawn, refused, stage)
            left = shards.seal(stage)
        except Lost:
            raise
        except Broken as error:
            return {"stop": str(error)}
        except OSError as error:
            return {"stop": f"{error.strerror or error} ({stage.parent.parent.parent})"}
        except Exception as error:  # no row's doing, and again the same if tried again
            why = "memory ran out; choose a smaller shard" if _exhausted(error) else reason(error, stage)
            return {"stop": f"shard {task['shard']} cannot be stored: {why}"}
        finally:
            self.work.forget()
        counts = {"results": len(made), "unusable": sum(m.problem is not None for m in made), "quarantined": len(refused)}
        times = {"began": began, "seconds": time.time() - began, "cpu": time.process_time() - cpu}
        return {"shard": task["shard"], **counts, "left": left, "environment": self.environment, **times}

    def _landed(self, task: Task, stage: Path, rehearse: bool) -> tuple[list[Made], dict[int, str], list[str]]:
        """A shard's results, the rows set aside, and fragments of the page; everything they write is in the staging folder."""
        rows, refused = self.plan.range(task["shard"]), {int(row): why for row, why in task.get("exclude", {}).items()}
        attempt = _Attempt(self.work, stage, refused, rehearse)
        for name in (shards.FILES, TOGETHER):
            shutil.rmtree(stage / name, ignore_errors=True)
            (stage / name).mkdir()  # not its parents: a driver that is gone left nothing to work for
        for low, high, most in task.get("careful", ()):
            attempt.fly(range(low, high), most)
        attempt.fly(rows, self.together)
        self.together = min(self.together, attempt.most or self.together)  # what memory taught holds for the next shard, too
        made = sorted(attempt.made, key=lambda m: (m.row, m.draw))
        _note(stage, rows, landed=True)
        drawn = self.work.finish(made, stage / TOGETHER)
        _merge(stage / TOGETHER, stage / shards.FILES)
        return made, refused, drawn

    def _tables(self, shard: int, made: list[Made], drawn: list[str], refused: Mapping[int, str], stage: Path) -> None:
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
        if shown := [(m, fragment) for m, fragment in zip(made, drawn, strict=True) if self.plan.shows(m.row)]:
            page = "\n".join(json.dumps({"row": m.row, "draw": m.draw, "problem": m.problem, "fragment": f}) for m, f in shown)
            (stage / shards.GALLERY).write_text(page + "\n", encoding="utf-8")


class _Attempt:
    """The rows of one shard while they are made. ``rehearse``: each flight also writes and draws what it makes together."""

    def __init__(self, work: Work, stage: Path, refused: dict[int, str], rehearse: bool) -> None:
        self.work, self.stage, self.refused, self.rehearse = work, stage, refused, rehearse
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
        _note(self.stage, range(rows[0], rows[-1] + 1))
        folder, made, why, exhausted = self.stage / "flight", [], "", False
        folder.mkdir()
        try:
            made = self.work.run(rows, folder)
            if self.rehearse:
                self._rehearse(made)
        except Refused as error:
            refused, why = error.reasons, "some of its rows"
        except Broken:
            raise
        except Exception as error:
            _heed(error, self.stage)
            refused, why, exhausted = {}, reason(error, self.stage), _exhausted(error)
        # From here on nothing holds the failed call's frames, and what they had in memory.
        if not why:
            _merge(folder, self.stage / shards.FILES)
            self.made += made
            self.done.update(rows)
            return
        shutil.rmtree(folder, ignore_errors=True)
        if refused:
            self._set_aside(refused)
            if rest := [row for row in rows if row not in refused]:
                self._flight(rest)
            return
        if exhausted:
            _free_memory()
            if not made and len(rows) <= self.work.least:
                raise Broken(f"the model's tile of {self.work.least} rows does not fit into memory")
            # One row that needs more than there is tells nothing of the others.
            self.most = max(1, len(rows) // 2, self.work.least) if len(rows) > 1 else None
        if len(rows) == 1:
            self._set_aside({rows[0]: why})
        else:
            self.fly(rows, -(-len(rows) // 2))

    def _rehearse(self, made: list[Made]) -> None:
        """Write what results make together, and keep nothing of it."""
        scratch = self.stage / TOGETHER
        try:
            self.work.finish(made, scratch)
        finally:
            shutil.rmtree(scratch)
            scratch.mkdir()

    def _set_aside(self, reasons: Mapping[int, str]) -> None:
        self.refused.update(reasons)
        self.done.update(reasons)


def reason(error: BaseException, stage: Path) -> str:
    """An exception as one line for the quarantine, the same wherever and whenever it was staged; a user's mistake is told without
    its type."""
    text = " ".join(str(error).split())
    for place in ("flight/", f"{TOGETHER}/", f"{shards.FILES}/", ""):
        text = text.replace(f"{stage}/{place}", "")
    if _exhausted(error):
        return "out of memory, with no other row in flight"
    return text[:REASON] if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {text}"[:REASON]


def _heed(error: Exception, place: Path) -> None:
    """Raises :class:`Broken` where the disk takes no more, whatever was being written, and :class:`Lost` where the accelerator
    failed: whatever this process asks of it from now on fails as well."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in DISK:
            raise Broken(f"{cause.strerror} ({cause.filename or place})") from None
        if type(cause).__name__ == "AcceleratorError" and not _exhausted(cause):  # torch's; by name, because this imports none
            raise Lost(" ".join(str(error).split())[:REASON]) from error
        cause = cause.__cause__ or cause.__context__


def _note(stage: Path, rows: range, *, landed: bool = False) -> None:
    """Tell the driver which rows are at work: in the air, or ``landed`` and being written together."""
    note = stage / f".{FLIGHT}"
    note.write_text(json.dumps([rows.start, rows.stop, landed]), "utf-8")
    os.replace(note, stage / FLIGHT)


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

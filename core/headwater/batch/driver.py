"""The driver: hands out shards, watches workers, commits what they made. Imports no torch.

What a worker's death means is decided here. A kill may be the row's doing or anybody's, so a flight that was in the air when a
worker died is tried once more as it is, then in halves; a row is only set aside when it was alone in the air three times.
A flight that takes longer than one row may is stopped and halved at once. A shard whose rows kill when they have landed, and what
they make together is written, is made again with each flight rehearsing that.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.batch import lock, shards
from headwater.batch.worker import FLIGHT
from headwater.errors import PromiseBroken

if TYPE_CHECKING:
    from headwater.batch.engine import Engine
    from headwater.batch.manifest import Line
    from headwater.batch.plan import Plan
    from headwater.batch.worker import Answer

#: Tasks a worker holds, so that it need not wait for the driver between two.
DEPTH = 2
#: Seconds between two looks at what is in the air, and what a model may take to open.
LOOK, OPENING = 0.5, 900.0
#: How often a worker may die on rows in the air (several, one alone), or with none in the air, before something is done.
DEATHS_TOGETHER, DEATHS_ALONE, DEATHS_IDLE = 2, 3, 3
#: Rows that may always be set aside, whatever share of a small job they are, unless none may.
ALLOWED = 5
Report = Callable[[int, int], None]


#: Rows from, to, and whether they have landed: are made, and being written.
Flight = tuple[int, int, bool]


@dataclass
class _Task:
    """A shard on its way: what is known of its rows."""

    shard: int
    attempts: int = 0
    exclude: dict[int, str] = field(default_factory=dict)
    careful: list[tuple[int, int, int]] = field(default_factory=list)
    rehearse: bool = False
    deaths: dict[tuple[int, int, bool, bool], int] = field(default_factory=dict)
    stage: Path = Path()
    flight: Flight | None = None  # rows at work, and since when
    since: float = 0.0


class Driver:
    """Runs the shards of a plan that the manifest does not list. ``run`` is this run's name."""

    def __init__(self, plan: Plan, engine: Engine, run: str, committed: Mapping[int, Line], max_error_rate: float) -> None:
        self.plan, self.engine, self.run, self.rate = plan, engine, run, max_error_rate
        self.staging = plan.folder / shards.STAGING / run
        self.pending = deque(_Task(k) for k in range(plan.shards) if k not in committed)
        self.slots: dict[int, deque[_Task]] = {w: deque() for w in range(engine.workers)}
        self.quarantined = sum(line["quarantined"] for line in committed.values())
        self.rows = sum(len(plan.range(k)) for k in committed)

    @property
    def _kept(self) -> str:
        return f"what is done is kept, `headwater batch resume {self.plan.folder}` goes on"

    def drive(self, report: Report = lambda done, total: None) -> None:
        """Until every shard is committed. Raises :class:`PromiseBroken` where the job cannot go on; what is committed stays."""
        self._heed_rate("in an earlier run")
        while self.pending or any(self.slots.values()):
            self._hand_out()
            for worker, answer in self.engine.events(LOOK):
                if answer is None:
                    self._died(worker, "the worker died while only this row was being made")
                elif "stop" in answer:
                    raise PromiseBroken(f"{answer['stop']}; {self._kept}")
                else:
                    self._commit(worker, answer)
                    report(self.rows, self.plan.rows)
            self._look()

    def _hand_out(self) -> None:
        depth = DEPTH if len(self.pending) > len(self.slots) else 1  # near the end a waiting task is one that another could do
        for worker in sorted(self.slots, key=lambda w: len(self.slots[w])):
            while self.pending and len(self.slots[worker]) < depth:
                task = self.pending.popleft()
                task.attempts += 1
                task.stage = self.staging / f"{task.shard:07d}-{task.attempts}"
                task.flight, task.since = None, time.monotonic()
                self._stage(task.stage)
                self.slots[worker].append(task)
                told = {"shard": task.shard, "stage": str(task.stage), "exclude": task.exclude, "careful": task.careful}
                self.engine.submit(worker, told | {"rehearse": task.rehearse})

    def _stage(self, place: Path) -> None:
        try:
            place.mkdir(parents=True)
        except OSError as error:
            raise PromiseBroken(f"{self.plan.folder}: cannot be written ({error.strerror})") from None

    def _commit(self, worker: int, answer: Answer) -> None:
        task = self.slots[worker].popleft()
        assert task.shard == answer["shard"]
        if self.slots[worker]:
            self.slots[worker][0].since = time.monotonic()
        rows = len(self.plan.range(task.shard))
        line = {**answer, "rows": rows, "at": time.time(), "run": self.run, "worker": worker, "attempts": task.attempts}
        line |= {"engine": self.engine.name, "plan": self.plan.hash}
        owner = lock.owner(self.plan.folder)
        if owner is not None and owner["run"] != self.run:  # this machine slept, and another driver took it for dead
            raise PromiseBroken(f"{self.plan.folder}: another run has taken this job over; nothing of it was touched")
        try:
            shards.commit(self.plan.folder, task.stage, line)
        except OSError as error:
            raise PromiseBroken(f"{self.plan.folder}: cannot be written ({error.strerror}); {self._kept}") from None
        self.rows += line["rows"]
        self.quarantined += line["quarantined"]
        self._heed_rate(self._last_reason(task.shard) if line["quarantined"] else "in an earlier shard")

    def _heed_rate(self, last: str) -> None:
        """Raises :class:`PromiseBroken` where more rows are set aside than may be, unless all is done."""
        allowed = self.rate and max(self.rate * max(self.rows, min(self.plan.rows, 100)), ALLOWED)
        if self.quarantined > allowed and self.rows < self.plan.rows:
            raise PromiseBroken(
                f"{self.quarantined} of {self.rows} rows had to be set aside, more than the {100 * self.rate:g} % allowed "
                f"(last reason: {last}); `headwater batch report {self.plan.folder}` writes a page of them all, "
                f"`headwater batch resume {self.plan.folder} --max-error-rate` goes on"
            )

    def _last_reason(self, shard: int) -> str:
        import pyarrow.parquet

        return str(pyarrow.parquet.read_table(self.plan.folder / shards.name(shards.QUARANTINE, shard))["reason"][-1])

    # --- trouble --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Stop flights that have been in the air for longer than a row may take."""
        now = time.monotonic()
        for worker, tasks in self.slots.items():
            if not tasks:
                continue
            task = tasks[0]
            flight = _flight(task.stage)
            if flight != task.flight:
                task.flight, task.since = flight, now
            allowed = self.plan.job.limits.row_seconds + (0 if flight and not flight[2] else OPENING)
            if now - task.since > allowed:
                self.engine.kill(worker)
                self._died(worker, f"it took longer than {allowed:g} s", certain=True)

    def _died(self, worker: int, why: str, *, certain: bool = False) -> None:
        """Put a dead worker's tasks back, the first of them with what its death says about the rows it was at."""
        task, *rest = self.slots[worker]
        self.slots[worker].clear()
        self.pending.extendleft(reversed([task, *rest]))
        flight = _flight(task.stage)
        shutil.rmtree(task.stage, ignore_errors=True)
        low, high, landed = flight or (-1, -1, False)
        key = (low, high, landed, task.rehearse)
        count = task.deaths[key] = task.deaths.get(key, 0) + 1
        if flight is None or (landed and task.rehearse):
            if count >= DEATHS_IDLE or certain:
                when = "when its rows are written together" if landed else "before one of its rows is made"
                how = f"a worker was stopped: {why}" if certain else "workers die"
                word = self.engine.word(worker)
                raise PromiseBroken(f"shard {task.shard}: {how}, {when}{word and f' ({word})'}; {self._kept}")
        elif landed:
            task.rehearse = certain or count >= DEATHS_TOGETHER
        elif high - low == 1 and (certain or count >= DEATHS_ALONE):
            task.exclude[low] = why
        elif certain or count >= DEATHS_TOGETHER:
            rows = sum(row not in task.exclude for row in range(low, high))  # fewer each time, so that it comes to an end
            task.careful.insert(0, (low, high, max(1, rows // 2)))


def _flight(stage: Path) -> Flight | None:
    """What a worker noted it is at."""
    try:
        low, high, landed = json.loads((stage / FLIGHT).read_text("utf-8"))
        return int(low), int(high), bool(landed)
    except (OSError, ValueError):
        return None


def clear_staging(plan: Plan) -> None:
    """Remove what drivers that were killed left behind."""
    shutil.rmtree(plan.folder / shards.STAGING, ignore_errors=True)

"""A job from its file to its end: planned, run, resumed, verified, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.batch import lock, manifest, results, shards
from headwater.batch import plan as planning
from headwater.batch.driver import Driver, clear_staging
from headwater.batch.job import Job, parse
from headwater.batch.job import read as read_job
from headwater.batch.plan import Plan
from headwater.errors import HeadwaterError, PromiseBroken

if TYPE_CHECKING:
    from headwater.batch.engine import Engine

Report = Callable[[int, int], None]
DAMAGED = "damaged.json"


@dataclass(frozen=True)
class Outcome:
    """A finished job: rows that were planned, made now and set aside, and results."""

    folder: Path
    rows: int
    made: int
    results: int
    unusable: int
    quarantined: int


@dataclass(frozen=True)
class Where:
    """Where workers run: ``workers`` 0 is this very process, unsupervised; with ``engine="ray"`` they are actors of the cluster
    at ``address``, each with ``gpus``, which may be a fraction."""

    engine: str = "local"
    workers: int = 1
    address: str | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers < (self.engine == "ray"):
            raise HeadwaterError(f"workers: expected at least {int(self.engine == 'ray')}; got {self.workers}")

    def open(self, plan: Plan, logs: Path) -> Engine:
        if self.engine == "ray":
            if plan.job.device.startswith("cuda") and not self.gpus:
                raise HeadwaterError(
                    f"--gpus-per-worker: the job's device is {plan.job.device}; say how much of one each actor has, such as 0.5"
                )
            from headwater.batch.on_ray import OnRay

            return OnRay(plan.folder, self.workers, plan.job.threads, self.address, self.gpus)
        if self.engine != "local":
            raise HeadwaterError(f"--engine: expected local or ray; got {self.engine!r}")
        if self.workers == 0:
            from headwater.batch.engine import Embedded

            return Embedded(plan.folder)
        from headwater.batch.local import Local

        return Local(plan.folder, self.workers, plan.job.threads, logs)


def prepare(job: Job | Mapping[str, Any] | str | Path, *, progress: Callable[[int], None] = lambda rows: None) -> Plan:
    """Plan a job: a :class:`Job`, its plain values, or its file. One that is planned already is found again."""
    if isinstance(job, str | Path):
        job = read_job(Path(job))
    elif not isinstance(job, Job):
        job = parse(job, Path.cwd())
    return planning.make(job, progress=progress)


def run(
    job: Job | Mapping[str, Any] | str | Path, where: Where | None = None, *, report: Report = lambda done, total: None
) -> Outcome:
    """Plan a job and run it to its end, or go on where an earlier run of it stopped. In Python it runs in this process unless
    ``where`` says otherwise. Raises :class:`HeadwaterError` for what the user can mend, :class:`PromiseBroken` where it had to
    stop half-way."""
    return resume(prepare(job).folder, where or Where(workers=0), report=report)


def resume(
    folder: str | Path,
    where: Where | None = None,
    *,
    max_error_rate: float | None = None,
    report: Report = lambda done, total: None,
) -> Outcome:
    """Go on with a planned job. Shards that ``verify`` found damaged, or whose files are gone, are made again."""
    planned = planning.read(Path(folder).absolute())
    try:
        with lock.held(planned.folder) as name:
            clear_staging(planned)
            lines = _sound(planned)
            made = planned.rows - sum(len(planned.range(k)) for k in lines)
            if made:
                (planned.folder / "index.html").unlink(missing_ok=True)  # so that none is ever older than the results
                _drive(planned, where or Where(), name, lines, max_error_rate, report)
                lines = manifest.read(planned.folder)[0]
            if not results.gathered(planned, lines):
                results.gather(planned, lines)
            clear_staging(planned)
            if made or not (planned.folder / "index.html").exists():
                from headwater.report.batch import write

                write(planned, lines)
    except OSError as error:
        raise PromiseBroken(f"{folder}: {error.strerror or error}; what is done is kept") from None
    return _outcome(planned, lines, made)


def _drive(
    planned: Plan, where: Where, name: str, lines: Mapping[int, manifest.Line], max_error_rate: float | None, report: Report
) -> None:
    logs = planned.folder / shards.STAGING / name
    logs.mkdir(parents=True)
    rate = planned.job.limits.max_error_rate if max_error_rate is None else max_error_rate
    if altered := _altered(planned):
        raise HeadwaterError(altered[0])
    engine = where.open(planned, logs)
    try:
        Driver(planned, engine, name, lines, rate).drive(report)
    finally:
        engine.close()


def _sound(planned: Plan) -> dict[int, manifest.Line]:
    """The committed shards that are whole as far as a look tells; others leave the manifest, and so are made again."""
    lines, faults = manifest.read(planned.folder)
    try:
        told = set(json.loads((planned.folder / DAMAGED).read_text("utf-8"))["shards"])
    except FileNotFoundError:
        told = set()
    except (OSError, ValueError, KeyError, TypeError):
        raise HeadwaterError(f"{planned.folder / DAMAGED}: cannot be read; run `headwater batch verify` again") from None
    good = {
        k: line
        for k, line in lines.items()
        if 0 <= k < planned.shards
        and line.get("plan") == planned.hash
        and k not in told
        and not shards.damage(planned.folder, line, deep=False)
    }
    if faults or len(good) < len(lines) or not manifest.ended(planned.folder):
        manifest.rewrite(planned.folder, good.values())
    (planned.folder / DAMAGED).unlink(missing_ok=True)
    return good


def verify(folder: str | Path) -> list[str]:
    """Read every byte of a job that is at rest and compare it with the manifest; what is wrong, a line each. ``resume`` mends what
    does not end in one of :data:`BY_HAND`.
    Raises :class:`HeadwaterError` while a run is at work on it."""
    planned = planning.read(Path(folder))
    if (owner := lock.owner(planned.folder)) and owner["alive"]:
        raise HeadwaterError(f"{folder}: a run is at work on this job (process {owner['pid']} on {owner['host']}); verify it later")
    lines, faults = manifest.read(planned.folder)
    found = {k: why for k, line in lines.items() if (why := _damage(planned, k, line))}
    known = {shards.name(kind, k) for k, line in lines.items() for kind in (shards.SUFFIX if k in found else line["left"])}
    there = (f"{kind}/{path.name}" for kind in shards.SUFFIX for path in sorted((planned.folder / kind).glob("*")))
    stray = [name for name in there if name not in known]
    if len(lines) == planned.shards and not results.gathered(planned, lines, deep=True):
        faults.append("the joined tables are missing, damaged or older than the shards")
        (planned.folder / results.RESULTS).unlink(missing_ok=True)
    faults += _altered(planned)
    if found:
        (planned.folder / DAMAGED).write_text(json.dumps({"shards": sorted(found)}), encoding="utf-8")
    else:
        (planned.folder / DAMAGED).unlink(missing_ok=True)
    finished = len(lines) == planned.shards and not found
    what = "is there but not listed" + (f"; {BY_HAND[0]}" if finished else "")  # else the shard that is made anew replaces it
    return [*faults, *found.values(), *(f"{name} {what}" for name in stray)]


#: How faults end that only a person can mend.
BY_HAND = ("remove it", "begin the job anew in another folder")


def _altered(planned: Plan) -> list[str]:
    """Which of the files that list a job's inputs are no longer what was planned, a line each."""
    files = {name: planned.folder / name for name in planned.stored}
    bad = [n for n, file in files.items() if not file.is_file() or shards.digest(file)["sha256"] != planned.stored[n]]
    return [f"{name} is missing or was changed after it was written; {BY_HAND[1]}" for name in bad]


def _damage(planned: Plan, shard: int, line: manifest.Line) -> str:
    if line.get("plan") != planned.hash or not 0 <= shard < planned.shards:
        return f"shard {shard} was made by another plan"
    return shards.damage(planned.folder, line, deep=True)


def status(folder: str | Path) -> dict[str, Any]:
    """Where a job stands, from its plan, manifest and lock alone."""
    planned = planning.read(Path(folder))
    lines = manifest.read(planned.folder)[0]
    owner = lock.owner(planned.folder)
    outcome = _outcome(planned, lines, 0)
    done = sum(len(planned.range(k)) for k in lines)
    told: dict[str, Any] = {
        "folder": str(planned.folder), "domain": planned.job.domain, "pipeline": planned.job.pipeline, "model": planned.model,
        "rows": planned.rows, "rows_done": done, "shards": planned.shards, "shards_done": len(lines),
        "results": outcome.results, "unusable": outcome.unusable, "quarantined": outcome.quarantined,
        "running": bool(owner and owner["alive"]), "finished": len(lines) == planned.shards and results.gathered(planned, lines),
    }  # fmt: skip
    told["rows_per_second"] = rate = _rate(planned, lines)
    told["seconds_left"] = (planned.rows - done) / rate if rate and done < planned.rows else (0.0 if told["finished"] else None)
    told["environments"] = len({manifest.canonical(line["environment"]) for line in lines.values()})
    return told


def _rate(planned: Plan, lines: Mapping[int, manifest.Line]) -> float | None:
    """Rows a second over the last shards of the latest run, from the moment that one of them was committed; of a single one, from
    its beginning."""
    if not lines:
        return None
    ordered = sorted(lines.values(), key=lambda line: float(line["at"]))
    first, *rest = [line for line in ordered if line["run"] == ordered[-1]["run"]][-50:]
    since, counted = (first["at"], rest) if rest else (first["began"], [first])
    span = ordered[-1]["at"] - since
    return float(sum(line["rows"] for line in counted) / span) if span > 0 else None


def _outcome(planned: Plan, lines: Mapping[int, manifest.Line], made: int) -> Outcome:
    total = {key: sum(line[key] for line in lines.values()) for key in ("results", "unusable", "quarantined")}
    return Outcome(planned.folder, planned.rows, made, **total)

"""The planner: a job's rows, shards and model, fixed once, with a hash over all that decides what comes out."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import registry
from headwater.batch import inputs
from headwater.batch.job import CHANGEABLE, Job, check, pipeline_of
from headwater.batch.lock import alive
from headwater.batch.manifest import canonical, sync
from headwater.batch.shards import digest
from headwater.checkpoint import read_config
from headwater.errors import HeadwaterError, MissingVerb

if TYPE_CHECKING:
    from headwater.domain import Domain, Pipeline

PLAN, FORMAT = "plan.json", 1
#: Rows of a shard where the job names no size; for models that work in tiles the next whole number of tiles.
SHARD = 1000
#: Calls of a pipeline that a shard holds at least, up to that many rows: where one is much work, little is lost with a shard.
FLIGHTS = 16
#: More shards than this are more than a driver keeps in mind.
SHARDS = 1_000_000
#: Rows that the report draws.
DRAWN = 24


@dataclass(frozen=True)
class Plan:
    """A planned job. ``model`` is a shipped name or a folder and ``sha256`` of its weights; ``listing`` is a hash of what its
    inputs hold, and ``stored`` has those of the files that list them."""

    folder: Path
    job: Job
    model: str
    sha256: str
    rows: int
    shard: int
    listing: str
    stored: dict[str, str]

    @functools.cached_property
    def hash(self) -> str:
        """Of all that decides what comes out."""
        decides = self.job.model_dump(exclude={"out", *CHANGEABLE}) | {"model": self.sha256, "listing": self.listing}
        decides |= {"rows": self.rows, "shard": self.shard}
        decides["inputs"] = self.job.inputs.model_dump(exclude={"table", "files"})  # their content is in the listing
        return hashlib.sha256(canonical(decides)).hexdigest()

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard)

    def range(self, shard: int) -> range:
        """The rows of a shard."""
        return range(shard * self.shard, min(self.rows, (shard + 1) * self.shard))

    def shows(self, row: int) -> bool:
        """Whether the report draws a row's results: the first rows of the first shards, a page of them in all."""
        shard, place = divmod(row, self.shard)
        return shard < DRAWN and place < max(1, DRAWN // self.shards)

    @property
    def domain(self) -> Domain[Any, Any]:
        return registry.find(self.job.domain)

    @property
    def pipeline(self) -> type[Pipeline[Any]] | None:
        """None for ``sample``."""
        return pipeline_of(self.domain, self.job.pipeline)


def make(job: Job, *, progress: inputs.Progress = lambda rows: None) -> Plan:
    """Plan a job into its folder, or find it planned there already.

    Raises :class:`HeadwaterError` for a job that cannot run, or a folder that holds another job or anything else."""
    domain = registry.find(job.domain)
    check(job, domain)
    model, config = _model(job, domain)
    folder = Path(job.out)
    _free(folder)
    stage, plan = folder.with_name(f".{folder.name}.{os.getpid()}.plan"), None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{escape(folder.name)}.*.plan"):  # of planners that were killed
            pid = left.name.split(".")[-2]
            if left == stage or (pid.isdecimal() and not alive(int(pid))):
                shutil.rmtree(left, ignore_errors=True)
        stage.mkdir()
        plan = _list(job, domain, model, config, stage, progress)
        for file in stage.iterdir():
            sync(file)
        if not (folder / PLAN).exists():
            os.rename(stage, folder)  # whole or not at all
            sync(folder.parent)
    except OSError as error:
        if plan is None or not (folder / PLAN).exists():  # else another run has just planned it
            raise HeadwaterError(f"out: {folder} cannot be written ({error.strerror}); choose another folder") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    known = read(folder)
    _same(plan, known)
    changed = {name: getattr(job, name) for name in CHANGEABLE if getattr(known.job, name) != getattr(job, name)}
    if changed:
        known = replace(known, job=known.job.model_copy(update=changed))
        _write(known, folder)
    return known


def _list(job: Job, domain: Domain[Any, Any], model: str, config: dict[str, Any], stage: Path, progress: inputs.Progress) -> Plan:
    """The plan and its listing, in a staging folder; the plan's folder is the job's own."""
    kind = pipeline_of(domain, job.pipeline)
    pipeline = None if kind is None else kind()
    if job.inputs.count is not None:
        rows, listed = job.inputs.count, ""
    else:
        owner = domain.Wish if kind is None else kind.Options
        rows, listed = inputs.write(stage, inputs.entries(job, owner, pipeline, progress))
    if pipeline is not None:
        unreadable: set[int] = set()
        given = _inputs(pipeline, job, stage, rows, unreadable)
        said = pipeline.plan(given, inputs.options_of(pipeline.Options, job, {}))
        if said is not None:
            inputs.write_decisions(stage, said, rows, unreadable)
    if kind is None:
        shard = job.shard or _whole(SHARD, int(config["recipe"]["tile"]), job.inputs.each)
    else:
        shard = job.shard or min(SHARD, FLIGHTS * kind.together)
    if rows > shard * SHARDS:
        raise HeadwaterError(f"shard: {rows:,} rows in shards of {shard:,} are more than {SHARDS:,} shards; choose a larger shard")
    stored = {file.name: digest(file)["sha256"] for file in sorted(stage.iterdir())}
    plan = Plan(Path(job.out), job, model, config["sha256"], rows, shard, listed, stored)
    _write(plan, stage)
    return plan


def _write(plan: Plan, folder: Path) -> None:
    record = {"format": FORMAT, "hash": plan.hash, "rows": plan.rows, "shard": plan.shard, "listing": plan.listing}
    record |= {"stored": plan.stored, "model": {"name": plan.model, "sha256": plan.sha256}, "job": plan.job.model_dump()}
    fresh = folder / f".{PLAN}"
    fresh.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sync(fresh)
    os.replace(fresh, folder / PLAN)


def _whole(rows: int, tile: int, each: int) -> int:
    """The least number of rows, at least ``rows``, whose items fill whole tiles: a tile is made at once, asked for or not.

    >>> _whole(1000, 512, 1), _whole(1000, 512, 4), _whole(1000, 1, 1)
    (1024, 1024, 1000)
    """
    import math

    step = tile // math.gcd(tile, each)
    return -(-rows // step) * step


def _inputs(pipeline: Pipeline[Any], job: Job, folder: Path, rows: int, unreadable: set[int]) -> Iterator[Any]:
    """Every input of a job in row order, for the pipeline's plan; the numbers of rows that cannot be read go to ``unreadable``."""
    listing = inputs.Listing(folder)
    row = 0
    while row < rows:
        entry = listing.at(row)
        try:
            for item in inputs.opened(pipeline, job, entry):
                yield item
                row += 1
        except Exception:  # again when its row is made, and then told as that row's
            pass
        unreadable.update(range(row, entry.first + entry.rows))
        row = entry.first + entry.rows


def read(folder: Path) -> Plan:
    """The plan of a job folder. Raises :class:`HeadwaterError` where there is none, or one of another format."""
    try:
        record = json.loads((folder / PLAN).read_text("utf-8"))
        if record["format"] != FORMAT:
            raise HeadwaterError(f"{folder}: a job of format {record['format']}; this Headwater reads format {FORMAT}")
        job = Job.model_validate(record["job"]).model_copy(update={"out": str(folder.absolute())})
        model = record["model"]
        rows, shard = int(record["rows"]), int(record["shard"])
        plan = Plan(folder, job, model["name"], model["sha256"], rows, shard, record["listing"], record["stored"])
        if plan.hash != record["hash"]:
            raise HeadwaterError(f"{folder / PLAN}: was changed after it was written; what a job makes is fixed once it has begun")
        return plan
    except FileNotFoundError:
        raise HeadwaterError(f"{folder}: not a job folder (no {PLAN}); `headwater batch run JOB` makes one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HeadwaterError(f"{folder / PLAN}: cannot be read ({type(error).__name__}); it was changed by hand?") from None


def _same(new: Plan, old: Plan) -> None:
    if new.hash == old.hash:
        return
    a, b = (plan.job.model_dump(exclude={"out", *CHANGEABLE}) for plan in (new, old))
    differ = [key for key in a if a[key] != b[key]]
    differ += ["the model's weights"] if new.sha256 != old.sha256 else []
    told = ", ".join(differ) or "the content of its inputs"
    raise HeadwaterError(
        f"out: {old.folder} holds another job (it differs in: {told}); name another out, or `headwater batch resume` that one"
    )


def _free(folder: Path) -> None:
    """Raises :class:`HeadwaterError` where a job may not be planned."""
    if not folder.exists() or (folder / PLAN).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise HeadwaterError(f"out: {folder} is not empty and not a job; name another folder")


def _model(job: Job, domain: Domain[Any, Any]) -> tuple[str, dict[str, Any]]:
    """The model's name or folder, and its config. Raises :class:`HeadwaterError` for one that is not there or cannot do this."""
    kind = pipeline_of(domain, job.pipeline)
    verbs = (job.pipeline,) if kind is None else kind.verbs
    if job.model is not None:
        name = job.model
        if "/" not in name and name in registry.models(domain):
            name = f"{domain.name}/{name}"
    elif kind is not None:
        name = kind.model if "/" in kind.model else f"{domain.name}/{kind.model}"
    else:
        able = registry.models_with(domain, verbs[0])
        if not able:
            raise HeadwaterError(f"model: no shipped model of {domain.name} can {verbs[0]}; name a model folder")
        name = able[0]
    folder, owner = registry.find_model(name)
    if owner.name != domain.name:
        raise HeadwaterError(f"model: expected a model of {domain.name}; {name} is one of {owner.name}")
    config = read_config(folder)
    for verb in verbs:
        if verb not in config["verbs"]:
            able_to = ", ".join(registry.models_with(domain, verb)) or "none shipped"
            raise MissingVerb(f"model: {name} cannot {verb}; models that can: {able_to}")
    return name, config

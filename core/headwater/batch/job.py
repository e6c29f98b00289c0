"""A job: which pipeline over which rows, as a small TOML file that a person writes and keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic import Field as Bound

from headwater import settings
from headwater.errors import HeadwaterError
from headwater.knobs import Field, Knob, fields, fill

if TYPE_CHECKING:
    from headwater.domain import Domain, Pipeline

#: The pipeline that every domain with a model has: new items.
SAMPLE = "sample"
#: Settings of ``sample`` that are the sampler's own, with their kinds.
SETTINGS: Mapping[str, type] = {
    "guidance": float, "temperature": float, "top_p": float, "steps": int, "length_candidates": int, "start": str,
}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(_Part):
    """Where rows come from: a count, a table, or files."""

    count: Annotated[int | None, Bound(ge=1, le=10**12)] = None
    table: str | None = None
    files: str | list[str] | None = None
    each: Annotated[int, Bound(ge=1, le=10_000)] = 1
    id: str | None = None
    source: str | None = None
    columns: dict[str, str] = {}

    @model_validator(mode="after")
    def _one(self) -> Inputs:
        given = [name for name in ("count", "table", "files") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of count, table and files; got {', '.join(given) or 'none'}")
        if self.table is None and (self.id or self.source or self.columns):
            raise ValueError("id, source and columns name columns of a table; there is no table")
        return self


#: What does not decide what comes out, and so may change between two runs of a job; nor does where it lies.
CHANGEABLE = {"limits", "rows_in_flight"}


class Limits(_Part):
    """What a job may cost before it gives up on a row, or on itself."""

    row_seconds: Annotated[float, Bound(gt=0)] = 600.0
    max_error_rate: Annotated[float, Bound(ge=0, le=1)] = 0.05
    memory_gb: Annotated[float | None, Bound(gt=0)] = None


class Job(_Part):
    """A job as its file says it. Paths are relative to the file."""

    domain: str
    pipeline: str
    model: str | None = None
    seed: Annotated[int, Bound(ge=0, lt=2**63)] = 0
    shard: Annotated[int | None, Bound(ge=1, le=1_000_000)] = None
    rows_in_flight: Annotated[int | None, Bound(ge=1)] = None
    device: str = "cpu"
    threads: Annotated[int, Bound(ge=1, le=1024)] = 1
    files: bool = True
    out: str
    inputs: Inputs
    options: dict[str, str | int | float | bool] = {}
    limits: Limits = Limits()


def read(file: Path) -> Job:
    """The job of a file, its paths made absolute. Raises :class:`HeadwaterError` naming the key that is wrong."""
    raw = settings.read(file, "a job file", flag="JOB", hint="; `headwater batch init DOMAIN PIPELINE` writes one")
    return parse({"out": file.stem, **raw}, file.parent, str(file))


def parse(raw: Mapping[str, Any], folder: Path, where: str = "job") -> Job:
    """The job of plain values; relative paths lie in ``folder``."""
    job = settings.checked(Job, raw, "a job file", where)

    def placed(path: str) -> str:
        return str(folder.absolute() / Path(path).expanduser())

    inputs = job.inputs
    files = [placed(f) for f in ([inputs.files] if isinstance(inputs.files, str) else inputs.files or [])]
    moved = {"table": inputs.table and placed(inputs.table), "files": files or None}
    model = job.model and (placed(job.model) if (folder / job.model).is_dir() else job.model)
    return job.model_copy(update={"out": placed(job.out), "model": model, "inputs": inputs.model_copy(update=moved)})


def pipeline_of(domain: Domain[Any, Any], name: str) -> type[Pipeline[Any]] | None:
    """The named pipeline of a domain, None for ``sample``. Raises :class:`HeadwaterError` listing what there is."""
    found = {kind.name: kind for kind in domain.pipelines}
    if name != SAMPLE and name not in found:
        raise HeadwaterError(f"pipeline: {domain.name} has no {name!r}; it has {', '.join([SAMPLE, *found])}")
    return found.get(name)


def check(job: Job, domain: Domain[Any, Any]) -> None:
    """Raises :class:`HeadwaterError` where options or columns are not the pipeline's, or a value cannot be."""
    kind = pipeline_of(domain, job.pipeline)
    owner = domain.Wish if kind is None else kind.Options
    known = [f.name for f in fields(owner) if f.kind != "given"]
    settings = SETTINGS if kind is None else {}
    for where, names in (("options", job.options), ("inputs.columns", job.inputs.columns)):
        for name in names:
            if name not in known and not (where == "options" and name in settings):
                every = [*known, *(settings if where == "options" else ())]
                raise HeadwaterError(f"{where}: {job.pipeline} has no {name!r}; it has {', '.join(every) or 'none'}")
    fill(owner, {k: v for k, v in job.options.items() if k in known})
    for name, wanted in settings.items():
        value = job.options.get(name, wanted())
        if isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else wanted):
            raise HeadwaterError(f"options: {name}: expected {wanted.__name__}; got {value!r}")
    if kind is None and job.inputs.files is not None:
        raise HeadwaterError("inputs: sample makes new items, from a count or a table of properties; it reads no files")
    if kind is not None and job.inputs.count is not None:
        raise HeadwaterError(f"inputs: {job.pipeline} works on {kind.source}; give files, or a table with a column that names them")
    if kind is not None and job.inputs.table is not None and job.inputs.source is None:
        raise HeadwaterError(f"inputs.source: name the table's column that holds, for each row, {kind.source}")
    if kind is None and job.inputs.source is not None:
        raise HeadwaterError("inputs.source: sample reads no files; leave it out")
    if job.inputs.each != 1 and not (kind is None and job.inputs.table is not None):
        raise HeadwaterError("inputs.each: only for sample over a table: how many items for each of its rows")


def _example(field: Field) -> Any:
    """A value to overwrite."""
    assert isinstance(field.spec, Knob)
    if field.kind in ("choice", "text", "switch"):
        return {"choice": next(iter(field.choices), ""), "text": "", "switch": True}[field.kind]
    return field.spec.low if field.spec.low is not None else 1


def template(domain: Domain[Any, Any], name: str) -> str:
    """A commented job file for a pipeline."""
    kind = pipeline_of(domain, name)
    owner = domain.Wish if kind is None else kind.Options
    knobs = [f for f in fields(owner) if f.kind != "given"]
    if kind is None:
        inputs = [
            "count = 10000               # how many items, or instead of it a table with an item for each of its rows:",
            '# table = "wishes.csv"      # CSV or Parquet; a column with a property\'s name sets it for that row',
            '# id = "name"               # the column with your own name for each row',
            "# each = 1                  # items for each row of the table",
        ]
    else:
        inputs = [
            f"# {kind.source}",
            'files = "inputs/*"          # a glob (** reaches deeper), a folder (every file in it), a file, or a list of them',
            '# table = "inputs.csv"      # or a table, CSV or Parquet, with a file and options of its own in each row:',
            '# source = "file"           # the column that names the file',
            '# id = "name"               # the column with your own name for each row',
        ]
    example = knobs[0].name if knobs else "name"
    inputs.append(f"# columns = {{ {example} = \"my column\" }}   # where a column's name is not the option's")
    options = []
    for field in knobs:
        assert isinstance(field.spec, Knob)
        bounds = "|".join(field.choices) or " to ".join(f"{v:g}" for v in (field.spec.low, field.spec.high) if v is not None)
        unit = f" ({field.spec.unit})" if field.spec.unit else ""
        usual = getattr(owner, field.name, None)  # a dataclass keeps its defaults as class attributes
        value = json.dumps(usual if usual is not None else _example(field))
        options.append(f"# {field.name} = {value}".ljust(29) + f" # {field.description}{unit}{f'; {bounds}' if bounds else ''}")
    if kind is None:
        options += ["# temperature = 1.0".ljust(29) + " # below 1 plays safe, above 1 is bolder"]
    return "\n".join(
        [
            "# A batch job. `headwater batch run THIS_FILE` runs it, or goes on where it stopped.",
            "# Paths are relative to this file. Once it has begun, only out, rows_in_flight and limits may change.",
            "",
            f'domain = "{domain.name}"',
            f'pipeline = "{name}"',
            '# model = "NAME"            # default: the one shipped for it; or a model folder',
            "seed = 0",
            f'out = "{domain.name}-{name}"',
            "# shard = 1000              # rows that are made, stored and counted together",
            "# rows_in_flight = 1        # rows that one call of the model works on",
            '# device = "cpu"            # or "cuda"',
            "# threads = 1               # of each worker; with --workers as many as there are cores, 1 is best",
            "# files = true              # false: only the tables, without the field's own files",
            "",
            "[inputs]",
            *inputs,
            "",
            "[options]                   # the same for every row that has none of its own",
            *(options or ["# none"]),
            "",
            "[limits]",
            "row_seconds = 600           # a row that takes longer is set aside",
            "max_error_rate = 0.05       # the job stops when more of its rows than this had to be set aside",
            "# memory_gb = 8             # of each worker (address space)",
            "",
        ]
    )

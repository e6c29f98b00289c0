"""The rows of a job, listed once when it is planned: where each comes from, its own options, and the user's name for it.

A row is one input. A table's rows are copied into the job, so that the job no longer needs the table; of files the paths, sizes
and times are kept, and how many inputs each holds. The listing is Parquet in groups, so that row 900,000 is found at once.
"""

from __future__ import annotations

import itertools
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.batch.job import Job
from headwater.errors import HeadwaterError
from headwater.knobs import fields, fill

if TYPE_CHECKING:
    from headwater.domain import Pipeline

LISTING, DECISIONS = "inputs.parquet", "decisions.parquet"
#: Entries of a group of the listing, and rows of a table that are read at once.
GROUP = 1000
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Entry:
    """One line of the listing: a file (or folder) with the inputs it holds, or a row of a table."""

    first: int  # its first row
    rows: int
    id: str
    source: str | None
    size: int  # of the file in bytes, and when it last changed: of another file nothing is made
    changed: int
    values: dict[str, Any]  # the row's own options, as they came

    def name(self, row: int) -> str:
        """The user's name for a row; where a file holds several inputs, with the number of the input."""
        return self.id if self.rows == 1 else f"{self.id}#{row - self.first}"


# --- making the listing -------------------------------------------------------------------------------------------


def entries(job: Job, owner: type, pipeline: Pipeline[Any] | None, progress: Progress) -> Iterator[Entry]:
    """The entries of a job in order. Raises :class:`HeadwaterError` for a table or a glob that cannot be read or holds nothing."""
    first = 0
    for id, source, values in _table(job, owner) if job.inputs.table else _files(job):
        if pipeline is None or not source:
            entry = Entry(first, 1, id, source, 0, 0, values)
        else:
            count = _count(pipeline, Path(source), job, values)
            entry = Entry(first, count, id, source, *_stamp(Path(source)), values)
        yield entry
        first += entry.rows
        progress(first)


def _count(pipeline: Pipeline[Any], source: Path, job: Job, values: Mapping[str, Any]) -> int:
    """How many inputs a source holds. One that is empty or breaks counts one more than it gives, so that its row can say why."""
    count = 0
    try:
        for _ in pipeline.read(source, options_of(pipeline.Options, job, values)):
            count += 1
    except Exception:
        count += 1
    return max(1, count)


def options_of(owner: type, job: Job, values: Mapping[str, Any]) -> Any:
    """The options of a row: the job's, and the row's own before them. Raises :class:`HeadwaterError` for one out of range."""
    known = {f.name for f in fields(owner)}
    return fill(owner, {k: v for k, v in {**job.options, **values}.items() if k in known})


def opened(pipeline: Pipeline[Any], job: Job, entry: Entry) -> Iterator[Any]:
    """The inputs of an entry. Raises :class:`HeadwaterError` where its source is not what was planned."""
    if why := changed(entry):
        raise HeadwaterError(why)
    assert entry.source is not None
    yield from itertools.islice(pipeline.read(Path(entry.source), options_of(pipeline.Options, job, entry.values)), entry.rows)


def _stamp(source: Path) -> tuple[int, int]:
    """Size and time of last change; a folder's are those of all files below it together."""
    files = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
    try:
        found = [p.stat() for p in files]
    except OSError:
        return -1, -1
    return (sum(s.st_size for s in found), max(s.st_mtime_ns for s in found)) if found else (-1, -1)


def changed(entry: Entry) -> str:
    """Why an entry's source can no longer be used, empty if it can."""
    if entry.source == "":
        return "its row of the table names no file"
    if entry.source is None or (now := _stamp(Path(entry.source))) == (entry.size, entry.changed):
        return ""
    return "its file is no longer there" if now == (-1, -1) else "its file has changed since the job was planned"


def _files(job: Job) -> Iterator[tuple[str, str, dict[str, Any]]]:
    seen: set[str] = set()
    for pattern in job.inputs.files or []:
        if Path(pattern).is_dir():
            below = (p for p in Path(pattern).rglob("*") if p.is_file())
            found = sorted(str(p) for p in below if not any(part.startswith(".") for part in p.relative_to(pattern).parts))
            root = pattern
        elif Path(pattern).exists():  # before it is taken for a glob: names may hold brackets
            found, root = [pattern], str(Path(pattern).parent)
        else:
            found = sorted(glob(pattern, recursive=True))
            parts = Path(pattern).parts
            root = str(Path(*parts[: next((i for i, p in enumerate(parts) if has_magic(p)), len(parts) - 1)]))
        found = [source for source in found if Path(job.out) not in (Path(source), *Path(source).parents)]
        if not found:
            raise HeadwaterError(f"inputs.files: nothing is there: {pattern}")
        for source in found:
            if not source.isprintable() and any("\udc80" <= c <= "\udcff" for c in source):
                raise HeadwaterError(f"inputs.files: {os.fsencode(source)!r}: the name is not UTF-8; rename it")
            if source not in seen:  # two patterns may find one file
                seen.add(source)
                yield os.path.relpath(source, root), source, {}


def _table(job: Job, owner: type) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """A table's rows: the user's name, the file it names, and the options among its columns."""
    inputs, number = job.inputs, 0
    assert inputs.table is not None
    known = [f.name for f in fields(owner) if f.kind != "given"]
    folder = Path(inputs.table).parent
    wanted: dict[str, str] | None = None
    for batch in read_table(Path(inputs.table)):
        if wanted is None:
            if twice := [name for name in batch.schema.names if batch.schema.names.count(name) > 1]:
                raise HeadwaterError(f"inputs.table: {inputs.table} has more than one column {twice[0]!r}; rename all but one")
            for key, name in {"id": inputs.id, "source": inputs.source, **inputs.columns}.items():
                if name is not None and name not in batch.schema.names:
                    where = f"inputs.{key}" if key in ("id", "source") else f"inputs.columns.{key}"
                    raise HeadwaterError(f"{where}: the table has no column {name!r}; it has {', '.join(batch.schema.names)}")
            wanted = {name: name for name in known if name in batch.schema.names} | dict(inputs.columns)
        for line in batch.to_pylist():
            values = {knob: line[column] for knob, column in wanted.items() if line[column] not in (None, "")}
            cell = None if inputs.source is None else line[inputs.source] or ""
            named = None if inputs.id is None else line[inputs.id]
            yield str(number if named is None else named), str(folder / str(cell)) if cell else cell, values
            number += 1
    if not number:
        raise HeadwaterError(f"inputs.table: {inputs.table} holds no rows")


def read_table(file: Path) -> Iterator[Any]:
    """A CSV or Parquet file as record batches, streamed. CSV cells stay text, to be read by the options they are for."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            yield from pyarrow.parquet.ParquetFile(file).iter_batches(GROUP)
            return
        with file.open("rb") as stream:
            header = stream.readline(1 << 20).decode("utf-8-sig")
        separator = max(",;\t", key=header.count)
        names = [name for batch in [next(_csv(file, separator, None))] for name in batch.schema.names]
        yield from _csv(file, separator, dict.fromkeys(names, pyarrow.string()))
    except FileNotFoundError:
        raise HeadwaterError(f"inputs.table: no such file: {file}") from None
    except StopIteration:
        raise HeadwaterError(f"inputs.table: {file} holds no rows") from None
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        text = " ".join(str(error).split())
        raise HeadwaterError(f"inputs.table: {file} cannot be read as {_kind(file)} ({text[:200]})") from None


def _kind(file: Path) -> str:
    return "Parquet" if file.suffix.lower() in (".parquet", ".pq") else "CSV in UTF-8"


def _csv(file: Path, separator: str, types: Mapping[str, Any] | None) -> Iterator[Any]:
    import pyarrow.csv as csv

    convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    # One thread, because only then does the reader's complaint say which row it is about, whatever the machine.
    read = csv.ReadOptions(use_threads=False)
    yield from csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)


def write(folder: Path, found: Iterable[Entry]) -> tuple[int, str]:
    """Store the listing; the number of rows, and a hash of everything in it."""
    import hashlib

    from headwater.batch.manifest import canonical

    rows, whole = 0, hashlib.sha256()

    def lines() -> Iterator[dict[str, Any]]:
        nonlocal rows
        for e in found:
            rows = e.first + e.rows
            # CSV knows text only, Parquet has types: one row's options are kept as JSON, whatever the table was
            values = json.dumps(e.values, default=str, ensure_ascii=False, sort_keys=True)
            line = {**vars(e), "values": values}
            whole.update(canonical(line) + b"\n")
            yield line

    _store(folder / LISTING, lines(), {f: ("int64" if f in _WHOLE else "string") for f in Entry.__dataclass_fields__})
    return rows, whole.hexdigest()


_WHOLE = ("first", "rows", "size", "changed")


def write_decisions(folder: Path, decisions: Iterable[Mapping[str, Any]], rows: int, unreadable: set[int]) -> None:
    """Store what a pipeline's plan said of every row that it could read; of ``unreadable`` ones, known when a later row's decision
    comes, nothing. Raises :class:`HeadwaterError` unless it spoke of each."""
    count = 0

    def lines() -> Iterator[dict[str, Any]]:
        nonlocal count
        for decision in itertools.chain(decisions, [None]):
            while count in unreadable:
                count += 1
                yield {"decision": None}
            if decision is not None:
                count += 1
                yield {"decision": json.dumps(dict(decision), ensure_ascii=False, sort_keys=True)}

    _store(folder / DECISIONS, lines(), {"decision": "string"})
    if count != rows:
        raise HeadwaterError(f"the pipeline's plan should say something of each of {rows} rows; it did of {count}")


def _store(file: Path, lines: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in columns.items()])
    stream = iter(lines)
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(itertools.islice(stream, GROUP)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))


# --- reading it ---------------------------------------------------------------------------------------------------


class Listing:
    """The stored entries, found by row."""

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet

        self.file = pyarrow.parquet.ParquetFile(folder / LISTING)
        # where each group's rows begin: a group is read when one of its rows is asked for
        marks = [self.file.metadata.row_group(g).column(0).statistics for g in range(self.file.num_row_groups)]
        self.starts = [int(mark.min) for mark in marks]
        self.held: tuple[int, list[Entry]] = (-1, [])

    def at(self, row: int) -> Entry:
        """The entry that a row belongs to."""
        entries = self._group(bisect_right(self.starts, row) - 1)
        return entries[bisect_right(entries, row, key=lambda entry: entry.first) - 1]

    def _group(self, number: int) -> list[Entry]:
        if self.held[0] != number:
            lines = self.file.read_row_group(number).to_pylist()
            self.held = number, [Entry(**{**line, "values": json.loads(line["values"])}) for line in lines]
        return self.held[1]


def decisions(folder: Path, rows: Sequence[int]) -> dict[int, dict[str, Any] | None]:
    """What the pipeline's plan said of these rows, None of one that it could not read; nothing where it has no plan."""
    if not (folder / DECISIONS).exists():
        return {}
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(folder / DECISIONS)
    groups = {g: file.read_row_group(g).column(0).to_pylist() for g in sorted({row // GROUP for row in rows})}
    said = {row: groups[row // GROUP][row % GROUP] for row in rows}
    return {row: None if text is None else json.loads(text) for row, text in said.items()}

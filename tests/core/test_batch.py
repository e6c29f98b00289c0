"""The parts of batch jobs, in this process and without a model: job files, listing, manifest, shards, lock, worker and driver.

The driver runs over a fake engine in which rows die, hang, raise and exhaust memory as they are told, on a clock of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headwater.batch import driver as driving
from headwater.batch import inputs, lock, manifest, results, running, shards, worker
from headwater.batch.driver import Driver
from headwater.batch.job import Job, check, parse, read, template
from headwater.batch.plan import Plan
from headwater.batch.work import Lost, Made, Refused
from headwater.errors import HeadwaterError, PromiseBroken

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def trials() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGIN))
        from headwater_trial import Trials
    return Trials()


# --- the job file -------------------------------------------------------------------------------------------------

JOB = {"domain": "trials", "pipeline": "sample", "out": "out", "inputs": {"count": 3}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"domain": None}, "job: domain: is missing"),
        ({"sed": 1}, "job: sed: is not a key of a job file; known: domain, pipeline, model, seed, shard"),
        ({"seed": -1}, "job: seed: input should be greater than or equal to 0; got -1"),
        ({"seed": "many"}, "job: seed: input should be a valid integer"),
        ({"shard": 0}, "job: shard: input should be greater than or equal to 1; got 0"),
        ({"threads": 1.5}, "job: threads: input should be a valid integer"),
        ({"inputs": {"cont": 3}}, "job: inputs.cont: is not a key of a job file; known: count, table, files"),
        ({"inputs": {}}, "job: inputs: expected exactly one of count, table and files; got none"),
        ({"inputs": {"count": 3, "table": "a.csv"}}, "exactly one of count, table and files; got count, table"),
        ({"inputs": {"count": 0}}, "job: inputs.count: input should be greater than or equal to 1; got 0"),
        ({"inputs": {"files": 3}}, "job: inputs.files: input should be a valid string; got 3"),
        ({"inputs": {"files": "*", "id": "a"}}, "id, source and columns name columns of a table; there is no table"),
        ({"inputs": 3}, "job: inputs: input should be a valid dictionary"),
        ({"input": {"count": 3}, "inputs": None}, "job: input: is not a key of a job file"),  # what was typed, not what is missing
        ({"limits": {"row_seconds": 0}}, "job: limits.row_seconds: input should be greater than 0; got 0"),
        ({"limits": {"rows": 1}}, "job: limits.rows: is not a key of a job file; known: row_seconds, max_error_rate, memory_gb"),
        ({"limits": {"max_error_rate": 1.1}}, "limits.max_error_rate: input should be less than or equal to 1; got 1.1"),
        ({"options": {"shift": [1]}}, "job: options.shift: input should be a valid string; got [1]"),
    ],
)  # fmt: skip
def test_a_job_says_which_key_is_wrong(change: dict[str, Any], told: str) -> None:
    values = {k: v for k, v in {**JOB, **change}.items() if v is not None}
    with pytest.raises(HeadwaterError) as error:
        parse(values, Path("/somewhere"))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pipeline": "trail"}, "pipeline: trials has no 'trail'; it has sample, trial"),
        ({"options": {"lenght": 3}}, "options: sample has no 'lenght'; it has length, vowels, initial, doubled, guidance"),
        ({"options": {"length": 9}}, "--length: expected a whole number from 1 to 8 (letters); got 9"),
        ({"options": {"temperature": "hot"}}, "options: temperature: expected float; got 'hot'"),
        ({"options": {"length_candidates": True}}, "options: length_candidates: expected int; got True"),
        ({"pipeline": "trial", "options": {"temperature": 1.0}}, "options: trial has no 'temperature'; it has shift"),
        ({"inputs": {"files": "*.txt"}}, "sample makes new items, from a count or a table of properties; it reads no files"),
        ({"pipeline": "trial"}, "inputs: trial works on A text file.; give files, or a table with a column that names them"),
        ({"pipeline": "trial", "inputs": {"table": "a.csv"}}, "inputs.source: name the table's column"),
        ({"inputs": {"table": "a.csv", "source": "f"}}, "inputs.source: sample reads no files; leave it out"),
        ({"inputs": {"count": 3, "each": 2}}, "inputs.each: only for sample over a table"),
        ({"inputs": {"table": "a.csv", "columns": {"size": "n"}}}, "inputs.columns: sample has no 'size'; it has length"),
    ],
)
def test_a_job_is_checked_against_its_domain(trials: Any, change: dict[str, Any], told: str) -> None:
    with pytest.raises(HeadwaterError) as error:
        check(parse({**JOB, **change}, Path("/somewhere")), trials)
    assert told in str(error.value)


def test_a_job_file_is_relative_to_itself_and_its_template_is_one(trials: Any, tmp_path: Path) -> None:
    file = tmp_path / "letters.toml"
    file.write_text('domain = "trials"\npipeline = "trial"\ninputs.files = ["a/*", "/b"]\nmodel = "letters"\n')
    job = read(file)
    assert (job.out, job.model) == (str(tmp_path / "letters"), "letters")
    assert job.inputs.files == [str(tmp_path / "a/*"), "/b"]
    assert Job.model_validate(json.loads(json.dumps(job.model_dump()))) == job
    for text, told in (("domain = ", "not a job file"), ("", "domain: is missing")):
        file.write_text(text)
        with pytest.raises(HeadwaterError, match=told):
            read(file)
    with pytest.raises(HeadwaterError, match="no such file"):
        read(tmp_path / "letter.toml")
    for pipeline in ("sample", "trial"):
        text = template(trials, pipeline)
        bold = "".join(
            line.removeprefix("# ") + "\n" if line.startswith(("# shift =", "# length =")) else line + "\n"
            for line in text.split("\n")
        )
        file.write_text(bold)
        check(read(file), trials)


# --- tables and the listing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "rows"),
    [
        (b"id,n\na,1\nb,\n", [("a", "1"), ("b", None)]),
        (b'\xef\xbb\xbfid;n\n"a;1";2\n', [("a;1", "2")]),
        (b'id\tn\n"a\nb"\t007\n\n', [("a\nb", "007")]),
        ("id,n\r\nä,true\r\n".encode(), [("ä", "true")]),
    ],
)
def test_csv_cells_stay_text(raw: bytes, rows: list[tuple[Any, Any]], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(raw)
    assert [(r["id"], r["n"]) for part in inputs.read_table(tmp_path / "a.csv") for r in part.to_pylist()] == rows


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "cannot be read as CSV in UTF-8 (Empty CSV file)"),
        (b"id,n\n", "holds no rows"),
        (b"id,n\na,1\nb\n", "Row #3: Expected 2 columns, got 1"),
        ("id,n\nä,1\n".encode("latin1"), "invalid UTF8"),
        (None, "no such file"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(raw: bytes | None, told: str, tmp_path: Path) -> None:
    for name in ("a.csv",) if raw is None or raw.startswith(b"id") else ("a.csv", "a.parquet"):
        if raw is not None:
            (tmp_path / name).write_bytes(raw)
        with pytest.raises(HeadwaterError) as error:
            list(inputs.read_table(tmp_path / name))
        assert (told if name == "a.csv" else "cannot be read as Parquet") in str(error.value)


def listed(trials: Any, tmp_path: Path, inputs_: dict[str, Any], pipeline: str = "trial") -> list[inputs.Entry]:
    job = parse({**JOB, "pipeline": pipeline, "inputs": inputs_}, tmp_path)
    kind = trials.pipelines[0] if pipeline == "trial" else None
    return list(inputs.entries(job, trials.Wish if kind is None else kind.Options, kind and kind(), lambda rows: None))


def test_files_are_listed_in_order_with_what_they_hold(trials: Any, tmp_path: Path) -> None:
    for name, text in {
        "in/b.txt": "1\n2\n3", "in/a.txt": "1", "in/deep/c.txt": "", "in/.hidden": "1", "in/.dir/x": "1", "in/t[1].txt": "1\ntorn",
        "in/u.txt": "unreadable", "out/items/x": "made by the job itself",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = listed(trials, tmp_path, {"files": "in"})
    assert [(e.id, e.first, e.rows) for e in found] == [
        ("a.txt", 0, 1), ("b.txt", 1, 3), ("deep/c.txt", 4, 1), ("t[1].txt", 5, 2), ("u.txt", 7, 1)
    ]  # fmt: skip
    assert [found[1].name(r) for r in (1, 3)] == ["b.txt#0", "b.txt#2"] and found[0].name(0) == "a.txt"
    assert [e.id for e in listed(trials, tmp_path, {"files": "in/**/*.txt"})] == [e.id for e in found]
    assert [e.id for e in listed(trials, tmp_path, {"files": ["in/t[1].txt", "in/[ab].txt"]})] == ["t[1].txt", "a.txt", "b.txt"]
    assert "out/items/x" not in [e.id for e in listed(trials, tmp_path, {"files": "."})]
    with pytest.raises(HeadwaterError, match=r"inputs.files: nothing is there: .*in/\*\.dat"):
        listed(trials, tmp_path, {"files": ["in/a.txt", "in/*.dat"]})
    file = tmp_path / "in/a.txt"
    assert inputs.changed(found[0]) == ""
    file.write_text("12")
    assert inputs.changed(found[0]) == "its file has changed since the job was planned"
    file.unlink()
    assert inputs.changed(found[0]) == "its file is no longer there"


def test_a_tables_rows_have_names_files_and_options(trials: Any, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1")
    (tmp_path / "two.txt").write_text("1\n2")
    (tmp_path / "t.csv").write_text("name,file,move,other\nx,one.txt,3,a\n,two.txt,,b\nz,,1,c\nw,gone.txt,ten,d\n")
    source = {"table": "t.csv", "id": "name", "source": "file", "columns": {"shift": "move"}}
    found = listed(trials, tmp_path, source)
    assert [(e.id, e.first, e.rows, e.values) for e in found] == [
        ("x", 0, 1, {"shift": "3"}), ("1", 1, 2, {}), ("z", 3, 1, {"shift": "1"}), ("w", 4, 1, {"shift": "ten"})
    ]  # fmt: skip
    assert inputs.changed(found[2]) == "its row of the table names no file" and inputs.changed(found[0]) == ""
    for key, name, where in (("id", "nam", "id"), ("source", "fil", "source"), ("columns", {"shift": "mov"}, "columns.shift")):
        with pytest.raises(HeadwaterError, match=f"inputs.{where}: the table has no column .*; it has name, file, move, other"):
            listed(trials, tmp_path, {**source, key: name})
    wishes = pyarrow.table({"length": [3.0, None], "initial": ["a", "b"], "k": [7, 8]})
    pyarrow.parquet.write_table(wishes, tmp_path / "w.parquet")
    found = listed(trials, tmp_path, {"table": "w.parquet", "id": "k"}, "sample")
    assert [(e.id, e.source, e.values) for e in found] == [
        ("7", None, {"length": 3.0, "initial": "a"}),
        ("8", None, {"initial": "b"}),
    ]


def test_a_row_is_found_in_a_listing_of_many_groups(tmp_path: Path) -> None:
    entries, first = [], 0
    for i in range(2 * inputs.GROUP + 500):
        entries.append(inputs.Entry(first, 1 + i % 3, f"e{i}", f"/f{i}", i, i, {"shift": i}))
        first += 1 + i % 3
    rows, whole = inputs.write(tmp_path, entries)
    listing = inputs.Listing(tmp_path)
    assert rows == first
    for row in (0, 1, 2, 3, 1999, 2000, 2001, 4000, first - 1, 5, first // 2):
        entry = listing.at(row)
        assert entry.first <= row < entry.first + entry.rows and entry.values == {"shift": entry.size}
    assert inputs.write(tmp_path, entries)[1] == whole != inputs.write(tmp_path, entries[:-1])[1]
    inputs.write_decisions(tmp_path, ({"n": i} for i in range(2500)), 2500, set())
    assert inputs.decisions(tmp_path, [2499, 0, 1000]) == {0: {"n": 0}, 1000: {"n": 1000}, 2499: {"n": 2499}}
    for said in (2, 4):
        with pytest.raises(HeadwaterError, match=f"something of each of 3 rows; it did of {said}"):
            inputs.write_decisions(tmp_path, ({} for _ in range(said)), 3, set())


# --- manifest, shards, results ------------------------------------------------------------------------------------


def test_the_manifest_tells_a_torn_line_from_a_changed_one(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) == ({}, [])
    for k in range(3):
        manifest.append(tmp_path, {"shard": k, "made": "ä"})
    file = tmp_path / manifest.MANIFEST
    whole = file.read_bytes()
    assert sorted(manifest.read(tmp_path)[0]) == [0, 1, 2] and not manifest.read(tmp_path)[1]
    file.write_bytes(whole[:-20])  # a kill while the last was written
    assert sorted(manifest.read(tmp_path)[0]) == [0, 1] and not manifest.read(tmp_path)[1]
    manifest.append(tmp_path, {"shard": 5})  # nobody should: it is lost with the torn line, and that is told
    assert sorted(manifest.read(tmp_path)[0]) == [0, 1] and "line 3" in manifest.read(tmp_path)[1][0]
    file.write_bytes(whole.replace(b'"shard":1', b'"shard":7'))
    assert sorted(manifest.read(tmp_path)[0]) == [0, 2]
    assert manifest.read(tmp_path)[1] == ["line 2 of manifest.jsonl was changed after it was written"]
    file.write_bytes(whole + manifest.sealed({"shard": 1, "made": "again"}) + b'[1]\n"x"\n{}\n\xff\n')
    lines, faults = manifest.read(tmp_path)
    assert lines[1]["made"] == "ä"  # the first that was committed wins
    assert faults[0] == "line 4 of manifest.jsonl lists shard 1 a second time" and len(faults) == 5
    manifest.rewrite(tmp_path, [lines[2], lines[0]])
    assert manifest.read(tmp_path) == ({2: lines[2], 0: lines[0]}, [])


def test_a_damaged_shard_is_found(tmp_path: Path) -> None:
    def stage(kinds: str) -> Path:
        place = tmp_path / ".staging" / "run"
        (place / "files" / "deep").mkdir(parents=True)
        for kind in kinds.split():
            path = place / (f"{kind}/deep/a.txt" if kind == "files" else kind)
            path.write_text(f"the {kind}")
        return place

    place = stage("items files")
    (place / "quarantine").write_text("left by a driver that was killed")
    shards.commit(tmp_path, place, {"shard": 3, "left": shards.seal(place)})
    place = stage("items files")  # the same shard again, as after a kill before its line was written
    left = shards.seal(place)
    shards.commit(tmp_path, place, {"shard": 3, "left": left})
    line = manifest.read(tmp_path)[0][3]
    assert sorted(left) == ["files", "items"] and left["files"]["count"] == 1 and not place.exists()
    item, deep = tmp_path / "items/0000003.parquet", tmp_path / "files/0000003/deep/a.txt"
    line = {"shard": 3, "left": left}
    assert item.read_text() == "the items" and not (tmp_path / "quarantine/0000003.parquet").exists()
    assert shards.damage(tmp_path, line, deep=True) == "" == shards.damage(tmp_path, line, deep=False)
    item.write_text("the itens")  # as long as before: only its bytes tell
    assert shards.damage(tmp_path, line, deep=False) == ""
    assert shards.damage(tmp_path, line, deep=True) == "items/0000003.parquet was changed after it was written"
    item.write_text("the")
    assert "was changed" in shards.damage(tmp_path, line, deep=False)
    item.write_text("the items")
    for change in (lambda: deep.rename(deep.with_name("b.txt")), lambda: deep.with_name("b.txt").unlink()):
        change()
        assert shards.damage(tmp_path, line, deep=True) == "files/0000003 was changed after it was written"
    shards.remove(tmp_path / "files/0000003")
    assert shards.damage(tmp_path, line, deep=False) == "files/0000003 is missing"
    (tmp_path / "quarantine").mkdir(exist_ok=True)
    (tmp_path / "quarantine/0000003.parquet").touch()
    shards.remove(item)
    assert shards.damage(tmp_path, {"shard": 3, "left": {}}, deep=False) == "quarantine/0000003.parquet is there but not listed"


def planned(folder: Path, rows: int, shard: int, **limits: Any) -> Plan:
    job = parse({**JOB, "out": str(folder), "inputs": {"count": rows}, "limits": limits}, folder)
    folder.mkdir(exist_ok=True)
    return Plan(folder, job, "letters", "0", rows, shard, "", {})


def test_tables_of_all_shards_are_joined_whatever_their_columns(tmp_path: Path) -> None:
    plan, lines = planned(tmp_path, 10, 2), {}
    tables = {
        0: {"row": [0, 1], "score": pyarrow.nulls(2), "tag": pyarrow.nulls(2)},
        1: {"row": [2, 3], "score": [1, 2], "tag": pyarrow.nulls(2)},
        3: {"row": [6], "score": [0.5], "more": [[1, 2]], "tag": pyarrow.nulls(1)},
    }
    for k, columns in {**tables, 4: None}.items():  # the last has no results; another is not committed
        stage = tmp_path / "stage"
        stage.mkdir()
        if columns:
            pyarrow.parquet.write_table(pyarrow.table(columns), stage / "items")
        line = {"shard": k, "left": shards.seal(stage)}
        shards.commit(tmp_path, stage, line)
        lines[k] = line
    assert not results.gathered(plan, lines)
    results.gather(plan, lines)
    table = pyarrow.parquet.read_table(tmp_path / "items.parquet")
    assert table.column_names == ["row", "score", "tag", "more"] and str(table.schema.field("tag").type) == "string"
    assert table["row"].to_pylist() == [0, 1, 2, 3, 6] and table["score"].to_pylist() == [None, None, 1, 2, 0.5]
    assert table["more"].to_pylist() == [None] * 4 + [[1, 2]]
    assert results.gathered(plan, lines, deep=True) and not (tmp_path / "quarantine.parquet").exists()
    assert not results.gathered(plan, {k: lines[k] for k in (0, 1)})
    before = (tmp_path / "items.parquet").read_bytes()
    results.gather(plan, dict(reversed(lines.items())))
    assert (tmp_path / "items.parquet").read_bytes() == before
    (tmp_path / "items.parquet").write_bytes(before[:-1] + b"?")
    assert results.gathered(plan, lines) and not results.gathered(plan, lines, deep=True)
    for change in (before[:60] + b"?" + before[61:-3], b"PAR1"):
        (tmp_path / shards.name("items", 1)).write_bytes(change)
        with pytest.raises((PromiseBroken, OSError)):
            results.gather(plan, lines)
    pyarrow.parquet.write_table(pyarrow.table({"row": ["two"]}), tmp_path / shards.name("items", 1))
    with pytest.raises(PromiseBroken, match=r"cannot be joined with the others .*row.*; `headwater batch verify`"):
        results.gather(plan, lines)


# --- the lock -----------------------------------------------------------------------------------------------------


def test_one_driver_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / lock.LOCK
    with lock.held(tmp_path) as run:
        found = lock.owner(tmp_path)
        assert found and found["alive"] and found["run"] == run and found["pid"] == os.getpid()
        with (
            pytest.raises(HeadwaterError, match=f"another run is at work on this job .process {os.getpid()} on "),
            lock.held(tmp_path),
        ):
            pass
    assert not list(tmp_path.iterdir())  # given back, no crumbs

    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    dead = {"run": "x", "host": socket.gethostname(), "space": lock._space(), "pid": gone.pid, "born": "1"}
    reborn = {**dead, "pid": os.getpid()}  # this process has the number of one that died
    elsewhere = {**dead, "host": "elsewhere"}
    for content, quiet in ((dead, 0), (reborn, 0), (elsewhere, lock.DEAD + 1), ("{torn", 0), ({"host": 1}, 0)):
        place.write_text(content if isinstance(content, str) else json.dumps(content))
        os.utime(place, (time.time() - quiet,) * 2)
        with lock.held(tmp_path):
            assert lock.owner(tmp_path)["pid"] == os.getpid()  # type: ignore[index]
        assert not place.exists()
    (tmp_path / ".lock-ab12").touch()  # of a driver that was killed in the act
    with lock.held(tmp_path):
        assert not list(tmp_path.glob(".lock-*"))
    place.write_text(json.dumps(elsewhere))  # on another machine, and its heart beats
    with pytest.raises(HeadwaterError, match="on elsewhere, last sign of life 0 s ago"), lock.held(tmp_path):
        pass
    place.write_text(json.dumps({**dead, "space": "another container of this name"}))
    with pytest.raises(HeadwaterError, match="last sign of life 0 s ago"), lock.held(tmp_path):
        pass
    place.unlink()

    monkeypatch.setattr(lock, "BEAT", 0.02)
    with lock.held(tmp_path):
        os.utime(place, (0, 0))
        until = time.monotonic() + 5
        while place.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert place.stat().st_mtime > 0
        place.write_text(json.dumps({**elsewhere, "run": "other"}))  # lost to another: it is not ours to give back
    assert place.exists()


# --- worker and driver over rows that do as they are told ---------------------------------------------------------


class Died(BaseException):
    pass


class Hung(BaseException):
    pass


class Acting:
    """Rows by fate: raise, refuse, die, hang, and a memory that holds ``capacity`` rows in one flight."""

    def __init__(self, fates: Mapping[int, str], together: int, capacity: int = 1000) -> None:
        self.fates, self.together, self.capacity, self.least = fates, together, capacity, 0
        self.flights: list[list[int]] = []

    def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
        self.flights.append(list(rows))
        if refused := {r: f"row {r} is a mistake" for r in rows if self.fates.get(r) == "refuse"}:
            raise Refused(refused)
        if len(rows) > self.capacity:
            raise MemoryError
        for row in rows:
            fate = self.fates.get(row)
            if fate == "raise":
                raise ValueError(f"row {row}\nis poison")
            if fate in ("die", "hang"):
                raise Died if fate == "die" else Hung
            if fate == "disk":
                raise OSError(28, "No space left on device", str(folder))
            if fate == "told":
                raise HeadwaterError("cannot write there") from OSError(28, "No space left on device", str(folder))
            (folder / f"{row}.txt").write_text(str(row))
        return [Made(r, 0, f"id{r}", None, {"n": r, **({"odd": 1.5} if r % 2 else {})}) for r in rows]

    def finish(self, made: Sequence[Made], folder: Path) -> list[str]:
        if any(self.fates.get(m.row) == "unwritable" for m in made):
            (folder / "half").touch()
            raise KeyError(str(folder / "half"))
        if any(self.fates.get(m.row) == "full" for m in made):
            raise OSError(28, "No space left on device", str(folder))
        if any(self.fates.get(m.row) in ("dies written", "hangs written") for m in made):
            raise Died if any(self.fates.get(m.row) == "dies written" for m in made) else Hung
        (folder / "all.txt").write_text(" ".join(str(m.row) for m in made))
        return [f"<b>{m.row}</b>" for m in made]

    def name(self, row: int) -> str:
        return f"id{row}"

    def forget(self) -> None:
        pass


class Stage:
    """An engine of ``workers`` real workers without a model, on a clock of its own. What happens is kept in ``log``."""

    name = "stage"

    def __init__(self, plan: Plan, work: Acting, workers: int = 1, before: Any = None) -> None:
        self.plan, self.work, self.workers, self.before = plan, work, workers, before
        self.tasks: dict[int, list[Any]] = {w: [] for w in range(workers)}
        self.now, self.log, self.hung = 0.0, [], set[int]()
        self.given: list[dict[str, Any]] = []

    def submit(self, worker_: int, task: Any) -> None:
        task = json.loads(json.dumps(task))
        assert len(self.tasks[worker_]) < driving.DEPTH and not list(Path(task["stage"]).iterdir())
        self.tasks[worker_].append(task)
        self.given.append(task)
        assert len(self.given) < 1000, "it does not come to an end"

    def events(self, seconds: float) -> Iterator[tuple[int, Any]]:
        self.now += seconds
        for w in range(self.workers):
            if not self.tasks[w] or w in self.hung:
                continue
            task = self.tasks[w].pop(0)
            try:
                if self.before:
                    self.before(task)
                answer = self.made().make(task)
            except Died:
                self.log.append("died")
                self.tasks[w].clear()
                yield w, None
            except Hung:
                self.hung.add(w)
            else:
                yield w, json.loads(json.dumps(answer))
            return

    def made(self) -> worker.Worker:
        made = worker.Worker.__new__(worker.Worker)
        made.plan, made.work, made.together, made.environment = self.plan, self.work, self.work.together, {"threads": 1}  # type: ignore[assignment]
        return made

    def kill(self, worker_: int) -> None:
        self.log.append("killed")
        self.tasks[worker_].clear()
        self.hung.discard(worker_)

    def word(self, worker_: int) -> str:
        return "ImportError: no such thing"

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def drive(plan: Plan, work: Acting, workers: int = 1, before: Any = None, done: Sequence[int] = (), rate: float = 1.0) -> Stage:
    engine = Stage(plan, work, workers, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driving.time, "monotonic", lambda: engine.now)
        committed = {k: line for k, line in manifest.read(plan.folder)[0].items() if k in done}
        Driver(plan, engine, f"run{len(done)}", committed, rate).drive()
    return engine


def table(folder: Path, kind: str, shard: int) -> list[dict[str, Any]]:
    file = folder / shards.name(kind, shard)
    return pyarrow.parquet.read_table(file).to_pylist() if file.exists() else []


REASONS = {
    "raise": "ValueError: row {} is poison",
    "refuse": "row {} is a mistake",
    "die": "the worker died while only this row was being made",
    "hang": "it took longer than 30 s",
    "unwritable": "KeyError: 'half'",  # wherever it was staged
    "dies written": "the worker died while only this row was being made",
    "hangs written": "it took longer than 30 s",
}
FATES = st.sampled_from(["", "", "", "", *REASONS])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(
    fates=st.lists(FATES, min_size=1, max_size=20), shard=st.integers(1, 20), together=st.integers(1, 9),
    capacity=st.sampled_from([1, 2, 3, 1000]), workers=st.integers(1, 3), files=st.just(0),
)  # fmt: skip
@example(fates=["", "", "", "die", "die", "die", "die"], shard=20, together=5, capacity=3, workers=1, files=0)
@example(fates=["die"] * 12, shard=12, together=7, capacity=1000, workers=2, files=0)
def test_exactly_the_rows_that_fail_are_set_aside(
    fates: list[str], shard: int, together: int, capacity: int, workers: int, files: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("drive")
    plan = planned(folder, len(fates), shard, row_seconds=30)
    fate = {row: told for row, told in enumerate(fates) if told}
    engine = drive(plan, Acting(fate, together, capacity), workers)
    lines, faults = manifest.read(folder)
    assert sorted(lines) == list(range(plan.shards)) and not faults
    aside = {r["row"]: r["reason"] for k in sorted(lines) for r in table(folder, "quarantine", k)}
    assert aside == {row: REASONS[told].format(row) for row, told in fate.items()}
    made = [r for k in sorted(lines) for r in table(folder, "items", k)]
    good = [row for row in range(len(fates)) if row not in fate]
    assert [r["row"] for r in made] == good and [r["id"] for r in made] == [f"id{row}" for row in good]
    assert [r.get("odd") for r in made] == [1.5 if row % 2 else None for row in good]  # a column that the first row lacks
    for k, line in lines.items():
        mine = [row for row in plan.range(k) if row not in fate]
        left = {p.name: p.read_text() for p in (folder / shards.name("files", k)).glob("*")}
        assert left == {"all.txt": " ".join(map(str, mine)), **{f"{row}.txt": str(row) for row in mine}}
        assert not shards.damage(folder, line, deep=True) and line["plan"] == plan.hash
        assert (line["results"], line["quarantined"]) == (len(mine), len(plan.range(k)) - len(mine))
    died, written = (sum(told == fate for told in fates) for fate in ("die", "dies written"))
    # 2 a halving and 3 alone; and of those that die when all are written, 2 before the flights are looked at one by one
    assert 3 * (died + written) <= engine.log.count("died") <= 16 * (died + written) + 3 * plan.shards * (written > 0)


def test_a_flight_in_the_air_when_a_worker_dies_is_tried_again_then_in_halves(tmp_path: Path) -> None:
    plan = planned(tmp_path, 8, 8)
    deaths = iter([True, False])

    def once(task: Any) -> None:
        if next(deaths):
            (Path(task["stage"]) / worker.FLIGHT).write_text("[0, 8, false]")
            raise Died

    engine = drive(plan, work := Acting({}, 8), before=once)
    assert work.flights == [list(range(8))] and not engine.given[1]["careful"]  # anybody's death: the same again
    assert manifest.read(tmp_path)[0][0]["attempts"] == 2

    plan = planned(tmp_path / "b", 8, 8)
    engine = drive(plan, work := Acting({5: "die"}, 8))
    assert [f for f in work.flights if 5 in f][:6] == [list(range(8))] * 2 + [[4, 5, 6, 7]] * 2 + [[4, 5]] * 2
    assert sum(f == [5] for f in work.flights) == driving.DEATHS_ALONE
    assert engine.given[-1]["exclude"] == {"5": REASONS["die"]}
    plan = planned(tmp_path / "c", 8, 8, row_seconds=10)
    engine = drive(plan, work := Acting({5: "hang"}, 8))
    assert [f for f in work.flights if 5 in f] == [list(range(8)), [4, 5, 6, 7], [4, 5], [5]]  # time is certain: no second try
    assert engine.log == ["killed"] * 4 and 40 <= engine.now < 48


def test_memory_halves_flights_and_they_stay_small(tmp_path: Path) -> None:
    work = Acting({}, 16, capacity=5)
    drive(planned(tmp_path, 32, 32), work)
    sizes = [len(f) for f in work.flights]
    assert sizes[:3] == [16, 8, 4] and set(sizes[3:]) == {4} and sum(s for s in sizes if s <= 5) == 32
    (only,) = worker.reason(MemoryError(), Path("stage")).splitlines()
    assert only == "out of memory, with no other row in flight"
    assert worker.reason(RuntimeError("CPU: can't allocate memory: you tried"), Path("stage")) == only
    assert len(worker.reason(ValueError("x" * 999), Path("stage"))) == worker.REASON


@pytest.mark.parametrize("fate", ["disk", "told", "full"])
def test_a_failing_disk_is_nobodys_row(fate: str, tmp_path: Path) -> None:
    with pytest.raises(PromiseBroken, match=r"No space left on device .*; what is done is kept, `headwater batch resume"):
        drive(planned(tmp_path, 20, 4), Acting({9: fate}, 4))
    assert sorted(manifest.read(tmp_path)[0]) == [0, 1]
    work = Acting({}, 4)
    drive(planned(tmp_path, 20, 4), work, done=[0, 1])
    assert sorted(manifest.read(tmp_path)[0]) == [0, 1, 2, 3, 4] and work.flights[0] == [8, 9, 10, 11]


def test_a_job_stops_where_too_much_is_set_aside(tmp_path: Path) -> None:
    fates = dict.fromkeys(range(0, 400, 10), "raise")
    with pytest.raises(PromiseBroken) as error:
        drive(planned(tmp_path, 400, 20), Acting(fates, 20), rate=0.005)
    told = "6 of 60 rows had to be set aside, more than the 0.5 % allowed (last reason: ValueError: row 50 is poison)"
    assert told in str(error.value)  # five may be, however small the share
    with pytest.raises(PromiseBroken, match=r"6 of 60 rows .*in an earlier run"):  # before another shard is made
        drive(planned(tmp_path, 400, 20), Acting(fates, 20), done=[0, 1, 2], rate=0.005)
    assert len(manifest.read(tmp_path)[0]) == 3
    drive(planned(tmp_path, 400, 20), Acting(fates, 20), done=[0, 1, 2], rate=0.1)
    assert len(manifest.read(tmp_path)[0]) == 20
    with pytest.raises(PromiseBroken, match="1 of 2 rows"):
        drive(planned(tmp_path / "none", 4, 2), Acting({0: "raise"}, 2), rate=0.0)
    drive(planned(tmp_path / "last", 4, 2), Acting({2: "raise"}, 2), rate=0.0)  # nothing is left to be stopped


def test_memory_that_a_failed_call_held_is_there_for_the_next(tmp_path: Path) -> None:
    class Heap(Acting):
        """A call holds a piece of memory for each of its rows; an exception's frames hold it on."""

        held = weakref.WeakSet()  # type: ignore[var-annotated]

        def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
            mine = [Piece() for _ in rows]
            self.held.update(mine)
            if len(self.held) > 5:
                raise MemoryError
            return super().run(rows, folder)

    class Piece:
        pass

    drive(planned(tmp_path, 16, 16), work := Heap({}, 8))
    assert [len(f) for f in work.flights] == [4] * 4 and not table(tmp_path, "quarantine", 0)


def test_a_row_that_alone_is_too_much_makes_no_other_small(tmp_path: Path) -> None:
    class Fat(Acting):
        def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
            if 3 in rows:
                self.flights.append(list(rows))
                raise MemoryError
            return super().run(rows, folder)

    drive(planned(tmp_path, 64, 32), work := Fat({}, 16))
    assert [r["row"] for r in table(tmp_path, "quarantine", 0)] == [3]
    assert [len(f) for f in work.flights[-3:]] == [16, 16, 16]


def test_rows_that_kill_only_when_written_with_others_end_the_job(tmp_path: Path) -> None:
    class Crowded(Acting):
        def finish(self, made: Sequence[Made], folder: Path) -> list[str]:
            if len(made) > 4:
                raise Died
            return super().finish(made, folder)

    with pytest.raises(PromiseBroken, match="shard 0: workers die, when its rows are written together"):
        drive(planned(tmp_path, 8, 8), Crowded({}, 4))


def test_a_lost_accelerator_ends_the_process_not_the_row(tmp_path: Path) -> None:
    class AcceleratorError(RuntimeError):
        """As torch's is called."""

    class Failing(Acting):
        def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
            if len(self.flights) == 1:
                self.flights.append([])
                raise AcceleratorError("CUDA error: an illegal memory access was encountered")
            return super().run(rows, folder)

    engine = Stage(plan := planned(tmp_path, 8, 4), work := Failing({}, 4))
    worker_ = engine.made()
    for k, lost in ((0, False), (1, True), (1, False)):
        (stage := tmp_path / f"{k}{lost}").mkdir()
        if lost:
            with pytest.raises(Lost, match="illegal memory access"):
                worker_.make({"shard": k, "stage": str(stage)})
        else:
            assert worker_.make({"shard": k, "stage": str(stage)})["quarantined"] == 0
    assert plan.shards == 2 and work.flights[1:] == [[], [4, 5, 6, 7]]


def test_an_actor_without_a_gpu_is_not_asked_for_one(tmp_path: Path) -> None:
    plan = planned(tmp_path, 4, 2)
    plan = replace(plan, job=plan.job.model_copy(update={"device": "cuda"}))
    with pytest.raises(HeadwaterError, match="--gpus-per-worker: the job's device is cuda; say how much of one each actor has"):
        running.Where(engine="ray").open(plan, tmp_path)


def test_a_page_of_a_job_that_lost_a_shard_shows_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.report import batch as page

    drive(plan := planned(tmp_path, 6, 2), Acting({4: "raise"}, 2))
    (tmp_path / shards.name(shards.ITEMS, 1)).unlink()
    (tmp_path / shards.name(shards.GALLERY, 0)).unlink()
    lines = manifest.read(tmp_path)[0]
    assert [r["row"] for r in page._read(plan, lines, shards.ITEMS, ["row"])] == [0, 1, 5]
    assert "row 4 is poison" in page._aside(plan, lines) and "<b>5</b>" in page._drawn(plan, lines)


def test_a_tile_that_memory_does_not_hold_is_no_rows_fault(tmp_path: Path) -> None:
    work = Acting({}, 8, capacity=2)
    work.least = 4
    with pytest.raises(PromiseBroken, match="the model's tile of 4 rows does not fit into memory"):
        drive(planned(tmp_path, 8, 8), work)


def test_workers_that_never_begin_end_the_job(tmp_path: Path) -> None:
    def dies(task: Any) -> None:
        raise Died

    with pytest.raises(PromiseBroken, match=r"shard 0: workers die, before one .* \(ImportError: no such thing\)"):
        drive(planned(tmp_path, 4, 2), Acting({}, 2), before=dies)

    def hangs(task: Any) -> None:
        raise Hung

    with pytest.raises(PromiseBroken, match="shard 0: a worker was stopped: it took longer than 1500 s, before one"):
        drive(planned(tmp_path / "b", 4, 2), Acting({}, 2), before=hangs)


def test_a_driver_that_lost_its_lock_commits_nothing(tmp_path: Path) -> None:
    plan = planned(tmp_path, 8, 4)
    (plan.folder / lock.LOCK).write_text(json.dumps({"run": "other", "host": "elsewhere", "pid": 1, "born": "1"}))
    with pytest.raises(PromiseBroken, match="another run has taken this job over"):
        drive(plan, Acting({}, 4))
    assert not manifest.read(plan.folder)[0] and not (plan.folder / shards.ITEMS).exists()
    line = {"shard": 0, "left": {shards.ITEMS: {}}}
    place = plan.folder / shards.name(shards.ITEMS, 0)
    place.parent.mkdir()
    place.touch()
    with pytest.raises(FileNotFoundError):  # what was staged is gone: what is in place stays
        shards.commit(plan.folder, tmp_path / "gone", line)
    assert place.exists()


def test_what_no_row_did_stops_the_job_with_its_reason(tmp_path: Path) -> None:
    class Clashing(Acting):
        def run(self, rows: Sequence[int], folder: Path) -> list[Made]:
            return [Made(r, 0, str(r), None, {"n": "text" if r == 3 else r}) for r in rows]

    with pytest.raises(PromiseBroken, match=r"shard 1 cannot be stored: .*text"):
        drive(planned(tmp_path, 4, 2), Clashing({}, 2))
    assert sorted(manifest.read(tmp_path)[0]) == [0]


def test_status_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, 100, 10)
    monkeypatch.setattr(running.planning, "read", lambda folder: plan)
    told = running.status(tmp_path)
    assert (told["rows_done"], told["rows_per_second"], told["seconds_left"], told["finished"]) == (0, None, None, False)
    counts = {"rows": 10, "results": 9, "unusable": 2, "quarantined": 1, "environment": {"a": 1}, "left": {}}
    for k, run, began in ((0, "early", 0.0), (1, "late", 100.0), (3, "late", 101.0), (2, "late", 102.0)):
        manifest.append(tmp_path, {"shard": k, "run": run, "began": began, "at": began + 2, **counts})
    told = running.status(tmp_path)
    assert told["rows_done"] == 40 and told["shards_done"] == 4 and told["quarantined"] == 4 and told["unusable"] == 8
    assert told["rows_per_second"] == pytest.approx(20 / 2)  # of the later run alone, from its first commit on
    assert told["seconds_left"] == pytest.approx(60 / 10) and not told["running"] and told["environments"] == 1
    with lock.held(tmp_path):
        assert running.status(tmp_path)["running"]
    manifest.append(tmp_path, {"shard": 4, "run": "late", "began": 99.0, "at": 99.0, **counts, "environment": {"a": 2}})
    assert running.status(tmp_path)["environments"] == 2
    assert Counter(line["run"] for line in manifest.read(tmp_path)[0].values()) == {"early": 1, "late": 4}

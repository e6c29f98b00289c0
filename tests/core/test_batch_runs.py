"""Whole batch jobs on a plug-in whose rows end as they are told: planned, run, broken in every way, and resumed."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from headwater import batch, cli, registry
from headwater.batch import Where, lock, manifest
from headwater.batch import plan as planning
from headwater.errors import HeadwaterError, PromiseBroken

PLUGIN = Path(__file__).parent / "plugin"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped model with fresh weights."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGIN))
        from headwater_trial import Trials
    from headwater import checkpoint
    from headwater.knobs import fields
    from headwater.model import build
    from headwater.recipe import recipes

    folder, domain = tmp_path_factory.mktemp("models"), Trials()
    recipe = recipes(domain)["letters"]
    torch.manual_seed(3)
    model = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), {})
    about = {"domain": "trials", "recipe": recipe, "data": "words", "data_hash": "0", "command": "headwater train"}
    checkpoint.save(model, folder / "letters", name="letters", **about)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path) -> Iterator[Path]:
    """The plug-in registered, for this process and those it starts, in an empty working folder."""
    info = tmp_path / "site" / "trials_plugin-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trials-plugin\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[headwater.domains]\ntrials = headwater_trial:Trials\n")
    for place in (PLUGIN, tmp_path / "site"):
        monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", f"{PLUGIN}{os.pathsep}{tmp_path / 'site'}")
    monkeypatch.setenv("TRIALS_MODELS", str(trained))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    registry.entries.cache_clear()
    yield folder
    registry.entries.cache_clear()


def trial(lines: str, *, out: str = "job", name: str = "in.txt", **more: Any) -> dict[str, Any]:
    """A job over the words of a text, a row each."""
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(lines.replace("|", "\n"))
    return {"domain": "trials", "pipeline": "trial", "out": out, "inputs": {"files": name}, "shard": 2, **more}


def sample(count: int, *, out: str = "job", **more: Any) -> dict[str, Any]:
    return {"domain": "trials", "pipeline": "sample", "out": out, "inputs": {"count": count}, "shard": 7, **more}


#: Files that tell when and by whom a job was made.
TOLD = {manifest.MANIFEST, "plan.json", "index.html"}


def content(folder: str | Path) -> dict[str, str]:
    found = {str(p.relative_to(folder)): p for p in Path(folder).rglob("*") if p.is_file()}
    return {name: sha256(p.read_bytes()).hexdigest() for name, p in found.items() if name not in TOLD}


def rows(folder: str | Path, name: str = "items") -> list[dict[str, Any]]:
    file = Path(folder) / f"{name}.parquet"
    return pyarrow.parquet.read_table(file).to_pylist() if file.exists() else []


def reasons(folder: str | Path) -> dict[int, str]:
    return {r["row"]: r["reason"] for r in rows(folder, "quarantine")}


def job_file(job: dict[str, Any], name: str = "job.toml") -> str:
    parts = [f"{k} = {json.dumps(v)}" for k, v in job.items() if not isinstance(v, dict)]
    for key, table in job.items():
        if isinstance(table, dict):
            parts += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    Path(name).write_text("\n".join(parts))
    return name


def hw(capsys: Capture, *words: str, code: int = 0) -> tuple[str, str]:
    got = cli.run(["batch", *words])
    out, err = capsys.readouterr()
    assert got == code, (out, err)
    return out, err


def processes(folder: Path) -> list[int]:
    """Those that were started for a job."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:  # a driver is named by its command, a worker by where it prints
            if str(folder) in (place / "cmdline").read_text() + os.readlink(place / "fd" / "1"):
                found.append(int(place.name))
        except (OSError, UnicodeDecodeError):
            continue
    return found


# --- planning -----------------------------------------------------------------------------------------------------


def test_a_changed_job_is_refused_and_says_how_it_differs(work: Path) -> None:
    job = trial("ok|ok|ok", seed=1)
    plan = batch.prepare(job)
    assert (plan.rows, plan.shard, plan.shards, plan.model) == (3, 2, 2, "trials/letters") and not list(work.glob(".*"))
    assert batch.prepare(job).hash == plan.hash == planning.read(work / "job").hash
    for change, told in (
        ({"seed": 2}, "it differs in: seed"),
        ({"shard": 3}, "it differs in: shard"),
        ({"options": {"shift": 1}}, "it differs in: options"),
        ({"files": False, "threads": 2}, "it differs in: threads, files"),
        ({"pipeline": "sample", "inputs": {"count": 3}}, "it differs in: pipeline, inputs"),
    ):
        with pytest.raises(HeadwaterError, match=told):
            batch.prepare({**job, **change})
    batch.prepare({**job, "limits": {"row_seconds": 5}})  # these may change, and count from then on
    assert planning.read(work / "job").job.limits.row_seconds == 5
    batch.prepare({**job, "rows_in_flight": 3})
    assert planning.read(work / "job").job.rows_in_flight == 3
    Path("in.txt").write_text("ok\nok\nko")
    with pytest.raises(HeadwaterError, match="it differs in: the content of its inputs"):
        batch.prepare(job)
    text = (work / "job" / "plan.json").read_text()
    for old, new, told in (
        ('"seed": 1', '"seed": 2', "was changed after"),
        ('"format": 1', '"format": 9', "a job of format 9"),
        ("{", "", "cannot be read"),
    ):
        (work / "job" / "plan.json").write_text(text.replace(old, new))
        with pytest.raises(HeadwaterError, match=told):
            batch.resume("job")
    with pytest.raises(HeadwaterError, match="not a job folder"):
        batch.resume(work)


def test_a_plan_is_made_whole_or_not_at_all(work: Path, capsys: Capture) -> None:
    (work / "full").mkdir()
    (work / "full" / "mine.txt").touch()
    for out, told in (
        ("full", "is not empty and not a job"),
        ("in.txt", "is not empty and not a job"),
        ("/proc/job", "cannot be written"),
    ):
        with pytest.raises(HeadwaterError, match=f"out: .*{told}"):
            batch.prepare(trial("ok", out=out))
    for pid in ("1", str(os.getpid()), "4194304", "mine"):  # alive, this one's number, dead, none
        (work / f".job.{pid}.plan").mkdir()
        (work / f".job.{pid}.plan" / "half").touch()
    (work / "job").mkdir()  # empty: it may be used
    batch.prepare(trial("ok"))
    assert sorted(p.name for p in work.glob(".job*")) == [".job.1.plan", ".job.mine.plan"]
    Path("twice.csv").write_text("a,a\n1,2\n")
    Path("strange").mkdir()
    Path(os.fsdecode(b"strange/\xff.txt")).write_text("ok")
    for change, told in (
        ({"domain": "trail"}, "trail"),
        ({"model": "digits"}, "digits"),
        ({"inputs": {"files": "none/*"}}, "inputs.files: nothing is there"),
        ({"pipeline": "sample", "inputs": {"table": "none.csv"}}, "inputs.table: no such file"),
        ({"pipeline": "sample", "inputs": {"table": "twice.csv"}}, "has more than one column 'a'"),
        ({"inputs": {"files": "strange"}}, r"b'.*strange/\\xff.txt': the name is not UTF-8; rename it"),
    ):
        with pytest.raises(HeadwaterError, match=told):
            batch.prepare({**trial("ok", out="other"), **change})
        assert not (work / "other").exists() and not list(work.glob(".other*"))
    hw(capsys, "init", "trials", "trial", "-o", "new.toml")
    assert "is there already" in hw(capsys, "init", "trials", "trial", "-o", "new.toml", code=2)[1]
    assert "trials has no 'trail'" in hw(capsys, "init", "trials", "trail", code=2)[1]
    assert (
        'pipeline = "trial"' in Path("new.toml").read_text()
        and "--workers: expected" in hw(capsys, "run", "new.toml", "--workers", "0", code=2)[1]
    )
    assert "--engine: expected local or ray; got 'rey'" in hw(capsys, "run", "new.toml", "--engine", "rey", code=2)[1]
    assert "--address: only with --engine ray" in hw(capsys, "resume", "job", "--address", "a:1", code=2)[1]


def test_sources_that_cannot_be_read_are_rows_with_a_reason(work: Path) -> None:
    for name, lines in (("b.txt", "ok|ok|torn"), ("c.txt", ""), ("d.txt", "unreadable"), ("e.txt", "ok"), ("f.txt", "ok")):
        job = trial(lines, name=f"in/{name}", limits={"max_error_rate": 1})
    job["inputs"]["files"] = "in"
    batch.prepare(job)
    (work / "in/e.txt").unlink()  # between planning and running
    (work / "in/f.txt").write_text("ok ok")
    done = batch.resume("job")
    assert (done.rows, done.results, done.quarantined) == (7, 2, 5)
    assert reasons("job") == {
        2: "ValueError: the file ends here",
        3: "nothing to work on was found in it",
        4: "d.txt: expected a text file",
        5: "its file is no longer there",
        6: "its file has changed since the job was planned",
    }
    assert [r["id"] for r in rows("job")] == ["b.txt#0", "b.txt#1"]
    assert [(r["id"], r["seed"]) for r in rows("job", "quarantine")][:2] == [("b.txt#2", 0), ("c.txt", 0)]


def test_what_the_pipeline_decides_over_all_rows_reaches_each(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("TRIAL_PLANS", "1")
    batch.run(trial("ok|wide|ok|ok", shard=3))
    assert [r["planned"] for r in rows("job")] == ["3", "1", "3", "3"]
    assert batch.verify("job") == []
    with (work / "job" / "decisions.parquet").open("ab") as file:
        file.write(b"?")
    assert batch.verify("job") == [
        "decisions.parquet is missing or was changed after it was written; begin the job anew in another folder"
    ]
    (work / "job" / "items" / "0000001.parquet").unlink()
    with pytest.raises(HeadwaterError, match="is missing or was changed"):
        batch.resume("job")
    for name, lines in (("a.txt", "ok|ok"), ("b.txt", "ok|torn"), ("c.txt", "unreadable"), ("d.txt", "wide"), ("e.txt", "torn")):
        job = trial(lines, name=f"in/{name}", out="some", limits={"max_error_rate": 1})
    job["inputs"]["files"] = ["in/*.txt", "in"]  # what both find is there once
    batch.run(job)  # what cannot be read is no part of what is decided, and keeps nobody else's row from being made
    assert [(r["id"], r["planned"]) for r in rows("some")] == [("a.txt#0", "3"), ("a.txt#1", "3"), ("b.txt#0", "3"), ("d.txt", "1")]
    torn = "ValueError: the file ends here"
    assert reasons("some") == {3: torn, 4: "c.txt: expected a text file", 6: torn}


# --- in this process ----------------------------------------------------------------------------------------------


def test_a_job_makes_what_the_command_line_makes(work: Path) -> None:
    done = batch.run(trial("ok|unusable|wide|ok|ok", seed=5, options={"shift": 2}))
    assert (done.rows, done.made, done.results, done.unusable, done.quarantined) == (5, 5, 5, 1, 0)
    assert cli.run("trials trial in.txt --seed 5 --shift 2 -o one".split()) in (0, 3)
    ours, theirs = rows("job"), rows("one")
    for a, b in zip(ours, theirs, strict=True):
        assert {k: v for k, v in b.items() if k in a} == {k: v for k, v in a.items() if k in b}
        assert {"row", "draw", "valid", "why_not", "line", "number", "score"} <= a.keys() & b.keys()
    files = {p.name: p.read_bytes() for p in Path("one").rglob("*.bin")}
    assert files == {p.name: p.read_bytes() for p in Path("job/files").rglob("*.bin")} and len(files) == 5
    batch.run(sample(20, out="many", seed=9, options={"length": 3, "temperature": 0.7}))
    assert cli.run("trials sample -n 20 --seed 9 --length 3 --temperature 0.7 -o once".split()) in (0, 3)
    shown = ("row", "valid", "why_not", "item", "asked_length", "asked_initial")
    assert [[r[k] for k in shown] for r in rows("many")] == [[r[k] for k in shown] for r in rows("once")]
    words = "".join(p.read_text() for p in sorted(Path("many/files").rglob("words.txt")))
    assert words == next(Path("once").rglob("words.txt")).read_text()
    page = Path("many/index.html").read_text()
    assert "Trials, sample: a batch job" in page and "3 shards of 7 rows" in page and "embedded" in page and "<figure" in page


def test_a_setting_that_cannot_be_is_no_rows_fault(work: Path) -> None:
    for options, told in (({"temperature": -1.0}, "--temperature: expected a number above 0"), ({"start": "xyz"}, "--start: ")):
        with pytest.raises(PromiseBroken, match=told):
            batch.run(sample(20, options=options, out=f"out{len(told)}"))
        assert not rows(f"out{len(told)}", "quarantine") and not manifest.read(Path(f"out{len(told)}"))[0]
    with pytest.raises(HeadwaterError, match=r"shard: 20,000,000 rows in shards of 7 are more than 1,000,000 shards"):
        batch.prepare(sample(20_000_000, out="large"))


@pytest.mark.parametrize("kind", ["sample", "trial"])
def test_stopped_after_every_shard_and_resumed_it_is_the_same(kind: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "sample":
        job, other = sample(20, seed=1), sample(20, seed=1, out="whole")
    else:
        lines = "ok|wide|raise|ok|ok|ok|ok|mistake|ok"
        job, other = trial(lines, limits={"max_error_rate": 1}), trial(lines, limits={"max_error_rate": 1}, out="whole")
    whole = batch.run(other)
    stops = []

    def stop(done: int, total: int) -> None:
        stops.append(done)
        if done < total:
            raise KeyboardInterrupt

    planned = batch.prepare(job)
    for _ in range(planned.shards - 1):
        with pytest.raises(KeyboardInterrupt):
            batch.resume("job", Where(workers=0), report=stop)
        assert not (work / "job" / lock.LOCK).exists()
    last = batch.resume("job", Where(workers=0), report=stop)
    assert stops == [min(k * planned.shard, planned.rows) for k in range(1, planned.shards + 1)]  # nothing was done twice
    assert content("job") == content("whole") and last.made == len(planned.range(planned.shards - 1))
    assert (last.results, last.quarantined) == (whole.results, whole.quarantined)

    def never(*unused: Any) -> Any:
        raise AssertionError("there is nothing left to do")

    monkeypatch.setattr(Where, "open", never)
    before = {p: p.stat().st_mtime_ns for p in (work / "job").rglob("*") if p.is_file()}
    again = batch.resume("job")
    assert again.made == 0 and again.results == whole.results
    assert {p: p.stat().st_mtime_ns for p in (work / "job").rglob("*") if p.is_file()} == before


def test_sampling_from_a_table_with_bad_rows(work: Path) -> None:
    bad = {7, 105, 190}
    lines = [f"w{i},{99 if i in bad else i % 8 + 1},{'' if i % 3 else 'b'}" for i in range(200)]
    Path("wishes.csv").write_text("\ufeffname,length,first letter\n" + "\n".join(lines), encoding="utf-8")
    inputs = {"table": "wishes.csv", "id": "name", "each": 2, "columns": {"initial": "first letter"}}
    job = {**sample(1), "inputs": inputs, "shard": 100}
    done = batch.run(job)
    assert (done.rows, done.results, done.quarantined) == (200, 394, 3)
    assert reasons("job") == dict.fromkeys(bad, "--length: expected a whole number from 1 to 8 (letters); got '99'")
    assert [r["id"] for r in rows("job", "quarantine")] == ["w7", "w105", "w190"]
    made = rows("job")
    assert [(r["row"], r["draw"]) for r in made] == [(i, d) for i in range(200) if i not in bad for d in (0, 1)]
    assert all(r["id"] == f"w{r['row']}" and r["asked_length"] == r["row"] % 8 + 1 for r in made)
    assert all(r["asked_initial"] == (None if r["row"] % 3 else "b") for r in made)
    one = batch.run({**job, "shard": 60, "rows_in_flight": 9, "out": "other"})
    assert one.results == 394 and rows("other") == made and rows("other", "quarantine")[0]["shard"] == 0


def test_bytes_do_not_depend_on_what_flies_together(work: Path) -> None:
    trial("ok|wide|ok", name="a.txt")
    trial("ok", name="b.txt")
    Path("t.csv").write_text("file,shift\na.txt,1\na.txt,1\nb.txt,1\nb.txt,2\na.txt,1\n")
    job = {**trial("ok"), "inputs": {"table": "t.csv", "source": "file"}, "shard": 6}
    for flight in (1, 2, 11):
        batch.run({**job, "rows_in_flight": flight, "out": f"job{flight}"})
        assert content(f"job{flight}") == content("job1")
    assert [r["number"] for r in rows("job1")] != [] and len(list(Path("job1/files").rglob("*.bin"))) == 11
    batch.run({**job, "files": False, "out": "bare"})
    assert rows("bare") == rows("job1") and not (work / "bare" / "files").exists()
    before = resource.getrlimit(resource.RLIMIT_AS)
    batch.run({**job, "limits": {"memory_gb": 64}, "out": "bound"})
    assert resource.getrlimit(resource.RLIMIT_AS) == before  # this process is not the job's to limit


def damage_line(job: Path) -> None:
    text = (job / manifest.MANIFEST).read_text()
    (job / manifest.MANIFEST).write_text(text.replace('"results":2', '"results":3', 1))


def drop_line(job: Path) -> None:
    lines = (job / manifest.MANIFEST).read_text().splitlines(keepends=True)
    (job / manifest.MANIFEST).write_text("".join(line for line in lines if '"shard":1,' not in line))


def twice(job: Path) -> None:
    text = (job / manifest.MANIFEST).read_text()
    (job / manifest.MANIFEST).write_text(text + text.splitlines(keepends=True)[0])


def flip(*names: str) -> Callable[[Path], None]:
    def change(job: Path) -> None:
        for name in names:
            raw = bytearray((job / name).read_bytes())
            raw[len(raw) // 2] ^= 1
            (job / name).write_bytes(raw)

    return change


def lose(*names: str) -> Callable[[Path], None]:
    def change(job: Path) -> None:
        for name in names:
            place = job / name
            if place.is_dir():
                for file in place.iterdir():
                    file.unlink()
                place.rmdir()
            else:
                place.unlink()

    return change


def foreign(job: Path) -> None:
    lines = manifest.read(job)[0]
    manifest.rewrite(job, [{**line, "plan": "another"} if k == 1 else line for k, line in lines.items()])


def test_what_was_tampered_with_is_found_by_verify_and_mended_by_resume(work: Path, capsys: Capture) -> None:
    batch.run(trial("ok|wide|raise|ok|ok|ok", limits={"max_error_rate": 1}))
    whole, job = content("job"), work / "job"
    assert hw(capsys, "verify", "job")[0] == "every file is as the manifest says\n"
    remade = []
    for change, told, made in (
        (damage_line, "line 1 of manifest.jsonl was changed", 2),
        (drop_line, "items/0000001.parquet is there but not listed", 2),
        (twice, "a second time", 0),
        (foreign, "shard 1 was made by another plan", 2),
        (flip("items/0000000.parquet"), "items/0000000.parquet was changed", 2),
        (flip("files/0000002/ok_4.bin", "quarantine/0000001.parquet"), "files/0000002 was changed", 4),
        (lose("files/0000002"), "files/0000002 is missing", 2),
        (lose("items/0000000.parquet", manifest.MANIFEST), "is there but not listed", 6),
        (flip("items.parquet"), "the joined tables are missing, damaged or older", 0),
        (lose("quarantine.parquet"), "the joined tables are missing", 0),
        (lose("results.json"), "the joined tables are missing", 0),
    ):
        change(job)
        out, _ = hw(capsys, "verify", "job", code=4)
        assert told in out and "headwater batch resume job makes again what is damaged" in out
        remade.append(batch.resume("job", Where(workers=0)).made)
        assert remade[-1] == made, told
        assert content("job") == whole and batch.verify("job") == [], told
    file = job / manifest.MANIFEST
    file.write_bytes(file.read_bytes()[:-9])  # torn by a kill: no fault, and the shard is made again
    assert batch.resume("job", Where(workers=0)).made == 2 and content("job") == whole
    (job / "items" / ".DS_Store").touch()
    faults = json.loads(hw(capsys, "verify", "job", "--json", code=4)[0])["faults"]
    assert faults == ["items/.DS_Store is there but not listed; remove it"]
    # one that verify was not asked about: the tables cannot be joined, and it is said what to do
    (job / "items" / ".DS_Store").unlink()
    lose("results.json")(job)
    raw = (job / "items/0000001.parquet").read_bytes()
    (job / "items/0000001.parquet").write_bytes(raw[:-1] + b"?")
    with pytest.raises(PromiseBroken, match="headwater batch verify"):
        batch.resume("job")
    assert batch.verify("job") and batch.resume("job", Where(workers=0)).made == 2 and content("job") == whole


# --- disks --------------------------------------------------------------------------------------------------------


def mounted(place: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0 or not mounted(place, "size=48k"):
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_the_job_and_loses_nothing(work: Path, small_disk: Path) -> None:
    lines = "|".join(["big 30000", "ok", "raise", "big 9000"] * 3)
    job = trial(lines, limits={"max_error_rate": 1}, shard=3)
    batch.run({**job, "out": "whole"})
    planned = batch.prepare({**job, "out": str(small_disk / "job")})
    stops: list[str] = []
    for size in range(52, 800, 16):
        assert mounted(small_disk, f"remount,size={size}k")
        try:
            batch.resume(planned.folder, Where(workers=0))
            break
        except PromiseBroken as error:
            assert "No space left on device" in str(error) and error.exit_code == 4 and "is kept" in str(error)
            stops.append(str(error))
        assert not (planned.folder / lock.LOCK).exists()
        lines_ = manifest.read(planned.folder)[0]
        assert all(not batch.shards.damage(planned.folder, line, deep=True) for line in lines_.values())
    assert len(stops) > 5 and content(planned.folder) == content("whole") and reasons(planned.folder).keys() == {2, 6, 10}


def test_a_disk_that_cannot_be_written(work: Path, small_disk: Path, capsys: Capture) -> None:
    assert mounted(small_disk, "remount,size=900k")
    job = trial("ok|ok", out=str(small_disk / "job"))
    batch.prepare(job)
    assert mounted(small_disk, "remount,ro")
    _, err = hw(capsys, "resume", str(small_disk / "job"), code=4)
    assert "Read-only file system; what is done is kept" in err
    _, err = hw(capsys, "run", job_file({**job, "out": str(small_disk / "other")}), code=2)
    assert f"out: {small_disk}/other cannot be written (Read-only file system)" in err
    assert "stopped; headwater batch resume" in hw(capsys, "status", str(small_disk / "job"))[0]


def test_a_row_whose_file_grows_too_large_is_set_aside(work: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    job = trial("ok|big 90000|ok|ok", limits={"max_error_rate": 1})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
        batch.run(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(reasons("job")) == [1] and "File too large" in reasons("job")[1] and len(rows("job")) == 3
    assert sorted(p.name for p in Path("job/files").rglob("*.bin")) == ["ok_0.bin", "ok_2.bin", "ok_3.bin"]


# --- worker processes ---------------------------------------------------------------------------------------------


def test_rows_that_raise_hang_die_or_take_all_memory_are_set_aside(work: Path, capsys: Capture) -> None:
    lines = [
        "ok",
        "raise",
        "ok",
        "mistake",
        "hang",
        "ok",
        "ok",
        "exit",
        "kill",
        f"once {work / 'once'}",
        "memory",
        "ok",
        "unusable",
    ]
    job = trial("|".join(lines), shard=4, rows_in_flight=1, limits={"row_seconds": 4, "memory_gb": 4, "max_error_rate": 0.0})
    _, err = hw(capsys, "run", job_file(job), code=4)  # its first shard has two, and none is allowed
    assert "more than the 0 % allowed (last reason: this row is a mistake)" in err and "--max-error-rate" in err
    out, _ = hw(capsys, "resume", "job", "--max-error-rate", "1", "--json", code=3)
    told = json.loads(out)
    died = "the worker died while only this row was being made"
    assert reasons("job") == {
        1: "RuntimeError: as row 1 asked", 3: "this row is a mistake", 4: "it took longer than 4 s", 7: died, 8: died,
        10: "out of memory, with no other row in flight",
    }  # fmt: skip
    good = [0, 2, 5, 6, 9, 11, 12]
    assert [r["row"] for r in rows("job")] == good and [r["valid"] for r in rows("job")] == [True] * 6 + [False]
    assert {p.name for p in Path("job/files").rglob("*.bin")} == {f"{lines[r].split()[0]}_{r}.bin" for r in good}
    assert (told["rows"], told["results"], told["unusable"], told["quarantined"], told["made"]) == (13, 7, 1, 6, 9)
    assert told["finished"] and not told["running"] and batch.verify("job") == []
    assert not processes(work / "job") and not (work / "job" / ".staging").exists() and not (work / "job" / lock.LOCK).exists()
    attempts = {k: line["attempts"] for k, line in manifest.read(work / "job")[0].items()}
    assert attempts[0] == 1 and attempts[1] >= 5 and attempts[2] >= 5
    page = Path("job/index.html").read_text()
    assert "it took longer than 4 s" in page and "local" in page
    out, _ = hw(capsys, "resume", "job", code=3)
    assert "13 rows, 7 results, 1 not usable, 6 set aside, nothing was left to do" in out
    out = hw(capsys, "status", "job")[0]
    assert "13 of 13 (100.0%), 6 set aside" in out and "state    finished" in out
    assert "the job's page" in hw(capsys, "report", "job")[0]


def in_the_air(job: Path, row: int) -> bool:
    """Whether the run that holds a job's lock is making a row."""
    run = (lock.owner(job) or {}).get("run", "none")
    flights = [json.loads(p.read_text()) for p in (job / ".staging" / run).glob("*/flight.json")]
    return any(low <= row < high and not landed for low, high, landed in flights)


DRIVER = [sys.executable, "-m", "headwater", "batch"]


def test_signals_end_a_job_in_good_order_and_a_second_run_is_refused(work: Path, capsys: Capture) -> None:
    job = job_file(trial("ok|ok|wait 60|ok"))
    for number, words, code in ((signal.SIGINT, ["run", job], 130), (signal.SIGTERM, ["resume", "job"], 143)):
        driver = subprocess.Popen([*DRIVER, *words], stderr=subprocess.PIPE, text=True, start_new_session=True)
        until = time.monotonic() + 240
        while not (in_the_air(work / "job", 2) and batch.status("job")["rows_done"] == 2):  # the worker may be ahead
            assert time.monotonic() < until and driver.poll() is None
            time.sleep(0.2)
        if number == signal.SIGINT:
            _, err = hw(capsys, "resume", "job", code=2)
            assert f"another run is at work on this job (process {driver.pid} on " in err
            told = batch.status("job")
            assert told["running"] and told["rows_done"] == 2 and len(processes(work / "job")) == 1
        driver.send_signal(number)
        _, err = driver.communicate(timeout=120)
        assert driver.returncode == code and "stopped; what is done is kept, `headwater batch resume" in err
        assert not processes(work / "job") and not (work / "job" / lock.LOCK).exists()
        assert sorted(manifest.read(work / "job")[0]) == [0]

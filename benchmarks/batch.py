"""What a batch job costs beside the work itself. Parts, all by default, on one thread:

    overhead    `headwater batch run` with one worker against a plain loop over `Generator.sample`, same model, rows and tables
    where       the same overhead taken apart inside one run of each, so that a machine's mood cancels out
    start       from the command to the first row in flight, beyond loading the model in a plain script
    throughput  rows of a pipeline that does next to nothing, 10^3 to 10^6, one worker and two
    shards      the same rows in smaller and smaller shards: what a shard costs
    resume      a job of 10^6 rows, half done: from the command to the first row in flight
    cluster     the same on Ray, its start apart

    python benchmarks/batch.py [PART ...] [--rows 20000] [--rounds 7] [--most 1000000]

CPU seconds are a command's own and those of all processes that it waited for; a loaded machine stretches wall time, not these.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import publish

HERE = Path(__file__).parent
ROOT = HERE.parent
TICK = os.sysconf("SC_CLK_TCK")
MODEL = "molecules/autoregressive"
#: The plain loop's calls are as large as the job's shards, which are whole tiles.
SHARD = 1024
PLAIN = f"""
import sys, time
from pathlib import Path
from headwater.generator import load
from headwater.samples import parquet_bytes
rows, out = int(sys.argv[1]), Path(sys.argv[2])
import torch
torch.set_num_threads(1)
model = load("{MODEL}")
print("loaded", flush=True)
began = time.process_time()
for first in range(0, rows, {SHARD}):
    samples = model.sample(min({SHARD}, rows - first), seed=0, first=first)
    (out / f"{{first}}.parquet").write_bytes(parquet_bytes(samples.table()))
(out / "cpu").write_text(str(time.process_time() - began))
"""


@dataclass
class Spent:
    """What a command cost, and where it stood when its first row was in flight (a plain script: when its model was loaded)."""

    wall: float
    cpu: float
    first_wall: float = float("nan")
    first_cpu: float = float("nan")


class Bench:
    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self.folder, self.asked = folder, asked
        paths = [folder / "site", HERE / "batch_site", ROOT / "tests/core/plugin", os.environ.get("PYTHONPATH")]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(p) for p in paths if p),
            "PYTHONSAFEPATH": "1",
            "OMP_NUM_THREADS": "1",
            "RAY_worker_niceness": "0",  # Ray's own 15 lets actors starve on a busy machine
        }
        info = folder / "site/headwater_lines-0.1.dist-info"
        if not info.exists():
            info.mkdir(parents=True)
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: headwater_lines\nVersion: 0.1\n")
            (info / "entry_points.txt").write_text("[headwater.domains]\nlines = headwater_lines:Lines\n")

    # --- commands -------------------------------------------------------------------------------------------------

    def spend(
        self, command: Sequence[str], first: Callable[[subprocess.Popen[bytes]], bool] | None = None, stop: bool = False
    ) -> Spent:
        """Run a command to its end, or until ``first`` sees it begin where it is to ``stop`` there."""
        log = self.folder / "last.log"
        began, spent = time.monotonic(), Spent(float("nan"), float("nan"))
        with log.open("wb") as stream:
            process = subprocess.Popen([sys.executable, *command], env=self.environment, stdout=stream, stderr=stream)
        while first is not None:
            if first(process):
                spent.first_wall, spent.first_cpu = time.monotonic() - began, tree_cpu(process.pid)
                break
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)}: ended before it began:\n{log.read_text()[-2000:]}")
            time.sleep(0.003)
        if stop:
            process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and not stop:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}:\n{log.read_text()[-2000:]}")
        spent.wall, spent.cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime
        return spent

    def job(self, name: str, text: str) -> tuple[Path, Path]:
        """A job file, and its folder, which is not there."""
        file, folder = self.folder / f"{name}.toml", self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        file.write_text(text)
        return file, folder

    def batch(self, *words: object, folder: Path | None = None, stop: bool = False) -> Spent:
        """A batch command; with ``folder`` it is noted when a row of that job is in flight."""
        before = set(folder.glob(".staging/*")) if folder else set()  # of runs that were stopped

        def flying(process: subprocess.Popen[bytes]) -> bool:
            assert folder is not None
            return any(note.parent.parent not in before for note in folder.glob(".staging/*/*/flight.json"))

        first = flying if folder else None
        return self.spend(["-m", "headwater", "batch", *map(str, words)], first, stop)

    def plain(self, rows: int, stop: bool = False) -> Spent:
        out = self.folder / "plain"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        log = self.folder / "last.log"
        return self.spend(["-c", PLAIN, str(rows), str(out)], lambda process: b"loaded" in log.read_bytes(), stop)

    # --- parts ----------------------------------------------------------------------------------------------------

    def overhead(self) -> None:
        rows, table = self.asked.rows, []
        for number in range(self.asked.rounds):
            file, folder = self.job("molecules", molecules(rows))
            runs: dict[str, Spent] = {}
            for what in ("plain", "job") if number % 2 == 0 else ("job", "plain"):
                runs[what] = self.plain(rows) if what == "plain" else self.batch("run", file)
            same = ids(folder) == ids(self.folder / "plain")
            over = 100 * (runs["job"].cpu / runs["plain"].cpu - 1)
            table.append(
                {
                    "round": str(number + 1),
                    "plain, CPU s": runs["plain"].cpu,
                    "job, CPU s": runs["job"].cpu,
                    "overhead %": over,
                    "same molecules": same,
                }
            )
            print(table[-1], flush=True)
        middle = {k: statistics.median(r[k] for r in table) for k in ("plain, CPU s", "job, CPU s", "overhead %")}
        table.append({"round": "median", **middle, "same molecules": all(r["same molecules"] for r in table)})
        publish("overhead", table, n=rows, seeds=[0], settings={"model": MODEL, "must": "overhead <= 3 %"}, to=self.asked.to)

    def where(self) -> None:
        """What a worker does beside the work, from two embedded runs: for each row, and once a job; and the rest, which is the
        driver's and does not grow, from plain loops and jobs of one shard."""
        rows, beside, work = self.asked.rows, [], 0.0
        for n in (SHARD, rows):
            file, _ = self.job("embedded", molecules(n))
            self.spend(["-c", EMBEDDED, str(file)])
            work, worker = map(float, (self.folder / "last.log").read_text().split())
            beside.append(worker - work)
            print(f"{n} rows: work {work:.2f}, beside it {worker - work:.2f} CPU s", flush=True)
        fixed = []
        for _ in range(self.asked.rounds):
            file, folder = self.job("one", molecules(SHARD))
            plain, job = self.plain(SHARD), self.batch("run", file)
            told = [json.loads(line) for line in (folder / "manifest.jsonl").read_bytes().splitlines()]
            loop = float((self.folder / "plain/cpu").read_text())
            fixed.append((plain.cpu - loop, job.cpu - sum(t["cpu"] for t in told)))
            print(f"one shard: plain {fixed[-1][0]:.2f}, job {fixed[-1][1]:.2f} CPU s beside the loop", flush=True)
        alone, all_told = (statistics.median(f[i] for f in fixed) for i in (0, 1))
        each = (beside[1] - beside[0]) / (rows - SHARD)
        once, start = beside[0] - each * SHARD, all_told - alone
        table = []
        for n in (rows, 20_000):
            plain_all = alone + work * n / rows
            row = {"rows": n, "plain loop, CPU s": plain_all, "worker, each row, CPU s": each * n, "worker, once, CPU s": once}
            over = 100 * (each * n + once + start) / plain_all
            table.append({**row, "driver, second interpreter, join, page, CPU s": start, "overhead %": over})
        settings = {"model": MODEL, "measured at": [SHARD, rows], "20,000": "by proportion", "must": "overhead <= 3 %"}
        publish("where", table, n=rows, seeds=[0], settings=settings, to=self.asked.to)

    def start(self) -> None:
        table = []
        for number in range(self.asked.rounds):
            file, folder = self.job("molecules", molecules(20_000))
            runs = {}
            for what in ("plain", "job") if number % 2 == 0 else ("job", "plain"):
                runs[what] = self.plain(20_000, stop=True) if what == "plain" else self.batch("run", file, folder=folder, stop=True)
            job, plain = runs["job"], runs["plain"]
            table.append(
                {
                    "round": str(number + 1), "plain, wall s": plain.first_wall, "job, wall s": job.first_wall,
                    "beyond, wall s": job.first_wall - plain.first_wall, "plain, CPU s": plain.first_cpu,
                    "job, CPU s": job.first_cpu, "beyond, CPU s": job.first_cpu - plain.first_cpu,
                }
            )  # fmt: skip
            print(table[-1], flush=True)
        table.append({"round": "median", **{k: statistics.median(r[k] for r in table) for k in table[0] if k != "round"}})
        publish("start", table, n=self.asked.rounds, seeds=[0], settings={"must": "beyond <= 0.3 s"}, to=self.asked.to)

    def throughput(self) -> None:
        table, rows = [], 1000
        while rows <= self.asked.most:
            for workers in (1, 2):
                table.append(self._lines(rows, workers, 1000))
                print(table[-1], flush=True)
            rows *= 10
        publish(
            "throughput", table, n=self.asked.most, seeds=[0], settings={"shard": 1000, "rows in flight": 1000}, to=self.asked.to
        )

    def shards(self) -> None:
        table = []
        for shard, flight in ((1000, 1000), (1000, 1), (100, 100), (16, 16)):
            row = self._lines(10_000, 1, shard, flight)
            keep = (
                "rows",
                "shard",
                "rows in flight",
                "CPU s",
                "CPU µs a row",
                "manifest bytes",
                "verify, CPU s",
                "join, CPU s",
                "report, CPU s",
            )
            count = -(-10_000 // shard)
            table.append({k: row[k] for k in keep if k in row} | {"shards": count})
            print(table[-1], flush=True)
        publish("shards", table, n=10_000, seeds=[0], to=self.asked.to)

    def _lines(self, rows: int, workers: int, shard: int, flight: int = 1000, engine: str = "local") -> dict[str, Any]:
        """A whole job of ``rows`` lines, and what comes after it."""
        file, folder = self.job(f"lines-{rows}-{workers}", self._measure(rows, shard, flight))
        spent = self.batch("run", file, "--workers", workers, "--engine", engine, folder=folder)
        checked = self.batch("verify", folder)
        lines = (folder / "manifest.jsonl").read_bytes().splitlines()
        told = [json.loads(line) for line in lines]
        worked = max(t["at"] for t in told) - min(t["began"] for t in told)
        self.spend(["-c", AFTER, str(folder)])
        join, page, memory = map(float, (self.folder / "last.log").read_text().split())
        return {
            "rows": rows, "workers": workers, "shard": shard, "rows in flight": flight, "wall s": spent.wall, "CPU s": spent.cpu,
            "rows a second, at work": rows / worked, "CPU µs a row": 1e6 * spent.cpu / rows,
            "in workers, CPU µs a row": 1e6 * sum(t["cpu"] for t in told) / rows,
            "manifest bytes": (folder / "manifest.jsonl").stat().st_size, "verify, CPU s": checked.cpu,
            "join, CPU s": join, "report, CPU s": page,
            "join and report, MB": memory,
        }  # fmt: skip

    def _measure(self, rows: int, shard: int, flight: int = 1000) -> str:
        text, model = self.folder / f"lines-{rows}.txt", self.folder / "letters"
        if not text.exists():
            text.write_text("".join(f"line {i} of a text\n" for i in range(rows)))
        if not (model / "model/config.json").exists():
            shutil.rmtree(model, ignore_errors=True)
            self.spend(["-m", "headwater", "train", "lines", "letters", "--steps", "4", "-o", str(model)])
        return (
            f'domain = "lines"\npipeline = "measure"\nmodel = "{model / "model"}"\nshard = {shard}\nrows_in_flight = {flight}\n'
            f'files = false\n[inputs]\nfiles = "{text}"\n'
        )

    def resume(self) -> None:
        """Jobs whose first half is committed by hand: the files and lines that workers would have left."""
        rows, table = self.asked.most, []
        text, model = self._measure(rows, 1), self.folder / "letters/model"
        wishes = self.folder / "wishes.csv"
        wishes.write_text("length\n" + "".join(f"{1 + i % 8}\n" for i in range(rows)))
        sample = (
            f'domain = "lines"\npipeline = "sample"\nmodel = "{model}"\nshard = 1000\nfiles = false\n[inputs]\ntable = "{wishes}"\n'
        )
        kinds = {
            "lines of one text": text.replace("shard = 1\n", "shard = 1000\n"),
            "rows of a table": sample,
            "lines, small shards": text.replace("shard = 1\n", "shard = 16\n"),
        }
        for what, job in kinds.items():
            file, folder = self.job("half", job)
            self.spend(["-c", HALF, str(file)])
            size, listing = ((folder / name).stat().st_size for name in ("manifest.jsonl", "inputs.parquet"))
            cpu = float((self.folder / "last.log").read_text())
            for number in range(min(3, self.asked.rounds)):
                spent = self.batch("resume", folder, folder=folder, stop=True)
                row = {
                    "job": what,
                    "rows": rows,
                    "manifest bytes": size,
                    "listing bytes": listing,
                    "to plan, CPU s": cpu,
                    "round": number + 1,
                }
                table.append({**row, "to the first row, wall s": spent.first_wall, "CPU s": spent.first_cpu})
                print(table[-1], flush=True)
        publish("resume", table, n=rows, seeds=[0], settings={"must": "<= 5 s to the first row in flight"}, to=self.asked.to)

    def cluster(self) -> None:
        table = []
        for engine, workers in (("local", 1), ("ray", 1), ("local", 2), ("ray", 2)):
            file, folder = self.job("cluster", self._measure(100_000, 1000))
            spent = self.batch("run", file, "--workers", workers, "--engine", engine, folder=folder)
            told = [json.loads(line) for line in (folder / "manifest.jsonl").read_bytes().splitlines()]
            worked = max(t["at"] for t in told) - min(t["began"] for t in told)
            table.append(
                {
                    "engine": engine,
                    "workers": workers,
                    "first row in flight, wall s": spent.first_wall,
                    "CPU s": spent.first_cpu,
                    "rows a second, at work": 100_000 / worked,
                    "wall s": spent.wall,
                }
            )
            print(table[-1], flush=True)
        publish("cluster", table, n=100_000, seeds=[0], settings={"Ray": "started by the job, on this machine"}, to=self.asked.to)


#: Plans a job, prints what that cost, and commits the first half of it with one and the same table for all shards.
HALF = """
import sys, time
from headwater import batch
from headwater.batch import manifest, shards
import pyarrow, pyarrow.parquet
began = time.process_time()
plan = batch.prepare(sys.argv[1])
print(time.process_time() - began)
first = plan.folder / shards.name(shards.ITEMS, 0)
first.parent.mkdir()
n = plan.shard
table = pyarrow.table({"row": range(n), "draw": [0] * n, "id": ["0"] * n, "valid": [True] * n, "why_not": [""] * n})
pyarrow.parquet.write_table(table, first, compression="zstd")
told, raw = shards.digest(first), first.read_bytes()
environment = {"device": "cpu", "dtype": "float32", "machine": "x86_64", "threads": 1, "tile": 8, "torch": "0"}
environment["versions"] = dict.fromkeys(["headwater", "numpy", "pyarrow", "pydantic", "python", "rich", "torch", "typer"], "1.0.0")
with (plan.folder / manifest.MANIFEST).open("wb") as stream:
    for k in range(plan.shards // 2):
        (plan.folder / shards.name(shards.ITEMS, k)).write_bytes(raw)
        line = {"shard": k, "rows": n, "results": n, "unusable": 0, "quarantined": 0, "left": {"items": told}, "run": "0",
                "environment": environment, "began": 0.1 * k, "seconds": 0.1, "cpu": 0.1, "at": 0.1 * k + 0.1, "worker": 0,
                "attempts": 1, "engine": "local"}
        stream.write(manifest.sealed(line))
"""

#: The join and the page of a finished job once more, in CPU seconds.
AFTER = """
import resource, sys, time
from pathlib import Path
from headwater.batch import manifest, plan, results
from headwater.report.batch import write
import pyarrow.parquet
found = plan.read(Path(sys.argv[1]))
lines = manifest.read(found.folder)[0]
began = time.process_time()
results.gather(found, lines)
joined = time.process_time()
write(found, lines)
print(joined - began, time.process_time() - joined, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def molecules(rows: int) -> str:
    return f'domain = "molecules"\npipeline = "sample"\nmodel = "autoregressive"\nfiles = false\n[inputs]\ncount = {rows}\n'


def ids(folder: Path) -> list[tuple[int, str]]:
    """Row and SMILES of every molecule in a folder's tables."""
    import pyarrow.parquet

    tables = [
        pyarrow.parquet.read_table(p, columns=["row", "smiles"]) for p in folder.rglob("*.parquet") if p.name != "items.parquet"
    ]
    return sorted((r["row"], r["smiles"]) for t in tables for r in t.to_pylist())


def tree_cpu(pid: int) -> float:
    """CPU seconds so far of a process and all below it."""
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(words[1])
            ticks[int(entry.name)] = sum(map(int, words[11:15]))

    def below(p: int) -> int:
        return ticks.get(p, 0) + sum(below(child) for child, parent in parents.items() if parent == p)

    return below(pid) / TICK


#: A job inside one process, with the CPU seconds of what a plain loop does as well: samples, records, Parquet.
EMBEDDED = """
import sys, time
from headwater import batch, samples
from headwater.batch import manifest
from headwater.generator import Generator
import pyarrow
pyarrow.Table.from_pylist([{"a": 1}])  # its first call imports pandas, in a plain loop as well
spent = 0.0
def timed(call):
    def stand_in(*given, **named):
        global spent
        began = time.process_time()
        try:
            return call(*given, **named)
        finally:
            spent += time.process_time() - began
    return stand_in
Generator.sample, samples.Samples.records = timed(Generator.sample), timed(samples.Samples.records)
samples.parquet_bytes = timed(samples.parquet_bytes)
done = batch.run(sys.argv[1])
print(spent, sum(line["cpu"] for line in manifest.read(done.folder)[0].values()))
"""


PARTS = ("overhead", "where", "start", "throughput", "shards", "resume", "cluster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rows", type=int, default=20_000, help="molecules of the overhead")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--most", type=int, default=1_000_000, help="rows of the largest job")
    parser.add_argument("--work", type=Path, help="a folder to work in; default: a temporary one")
    parser.add_argument("--to", type=Path, help="results; default: benchmarks/results/batch.json")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"PART: expected some of {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="headwater-batch-") as temporary:
        folder = asked.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder.resolve(), asked)
        for part in asked.parts or PARTS:
            getattr(bench, part)()


if __name__ == "__main__":
    main()

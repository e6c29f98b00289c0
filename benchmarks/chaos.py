"""Kills batch jobs, and compares what they leave after `resume` with what an undisturbed run leaves, byte for byte.

    python benchmarks/chaos.py                               # 100 SIGKILLs over all twelve cells
    python benchmarks/chaos.py --kills 6 --only levels,local,1

A cell is a domain (molecules: sample with SDF files; medical: denoise on six small scans drawn here; levels: the plug-in of the
tests, installed beside the environment, repair), an engine and a number of workers. Half of the kills strike the driver, half a
worker (a process or a Ray actor); a quarter each at a random time, half-way through a write, around an fsync, and around a rename
or link, in the process itself (chaos_site/sitecustomize.py). A dead driver is followed by `headwater batch resume` at once; a job
that is done is checked by `headwater batch verify` and compared, then the next begins, until a cell has had its kills.

Compared with one undisturbed run of the domain (local, one worker), for every engine and number of workers: the names and sha256
of all files of the job folder, hidden ones too, except manifest.jsonl and index.html; of the manifest each shard's number, counts
and hashes (it also tells when, where and in which run); of plan.json all but `out`, the folder's own name. index.html tells times
and is only counted as there. SIGKILL leaves the page cache: a power cut is not tried here.

What is done is kept in runs/chaos, so that the benchmark itself can be stopped and started again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater.batch import manifest

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import publish

HERE = Path(__file__).parent
ROOT = HERE.parent
SEED = 20261122
DOMAINS, ENGINES, WORKERS = ("molecules", "medical", "levels"), ("local", "ray"), (1, 2)
POINTS = ("time", "write", "fsync", "rename")
#: What a process does for one shard, and besides, at each point: orders are drawn so that most of them come due.
CALLS = {
    "driver": {"write": (1, 1), "fsync": (4, 2), "rename": (3, 1)},
    "worker": {"write": (4, 0), "fsync": (6, 0), "rename": (2, 0)},
}
#: Workers that may be killed under one driver: a row on which three die is set aside, and rightly so.
TOGETHER = 2
UNTOLD = ("manifest.jsonl", "index.html")
JOBS = {
    "molecules": 'domain = "molecules"\npipeline = "sample"\nseed = 7\nshard = 4\n[inputs]\ncount = 32\n',
    "medical": 'domain = "medical"\npipeline = "denoise"\nseed = 7\nshard = 1\n[inputs]\nfiles = "{inputs}/scans/*.nii"\n'
    "[options]\nsigma = 0.08\n",
    "levels": 'domain = "levels"\npipeline = "repair"\nmodel = "{inputs}/levels-model"\nseed = 7\nshard = 2\n[inputs]\n'
    'files = "{inputs}/open.txt"\n[options]\ntries = 1\n',
}


class Place:
    """The benchmark's own folder: inputs, jobs, orders, and what has been done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.inputs, self.jobs, self.state = self.folder / "inputs", self.folder / "jobs", self.folder / "state.json"
        self.jobs.mkdir(parents=True, exist_ok=True)
        self.inputs.mkdir(exist_ok=True)
        self.done: dict[str, Any] = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [*map(str, (HERE / "chaos_site", self.folder / "site")), os.environ.get("PYTHONPATH")])
            ),
            "PYTHONSAFEPATH": "1",
            "HEADWATER_CHAOS": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "RAY_worker_niceness": "0",  # Ray's own 15 lets actors starve on a busy machine
            # Ray guards a cluster with a token, and who connects must know it: ours is made up here
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self.environment.pop("RAY_ADDRESS", None)

    def keep(self) -> None:
        fresh = self.state.with_suffix(".part")
        fresh.write_text(json.dumps(self.done, indent=1))
        os.replace(fresh, self.state)

    def headwater(self, *words: str, log: Path | None = None) -> subprocess.Popen[bytes]:
        """A command that ends with this process, as the cluster does."""
        stream = log.open("ab") if log else None
        command = [sys.executable, "-m", "headwater", *words]
        try:
            return subprocess.Popen(command, env=self.environment, stdout=stream, stderr=stream, preexec_fn=end_with_parent)
        finally:
            if stream:
                stream.close()

    def must(self, *words: str) -> None:
        log = self.folder / "last.log"
        log.unlink(missing_ok=True)
        if self.headwater(*words, log=log).wait():
            raise SystemExit(f"headwater {' '.join(words)} failed:\n{log.read_text()[-2000:]}")

    # --- inputs ---------------------------------------------------------------------------------------------------

    def prepare(self, domain: str, levels_model: Path | None) -> Path:
        """What a domain's job reads, and its job file's text without ``out``."""
        if domain == "medical" and not (self.inputs / "scans").exists():
            draw_scans(self.inputs / "scans")
        if domain == "levels":
            self._levels(levels_model)
        file = self.inputs / f"{domain}.toml"
        file.write_text(JOBS[domain].format(inputs=self.inputs))
        return file

    def _levels(self, model: Path | None) -> None:
        plugin = ROOT / "tests/plugins/headwater_levels"
        if not (self.folder / "site").exists():
            options = ["-q", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(self.folder / "site")]
            subprocess.run([sys.executable, "-m", "pip", "install", *options, str(plugin)], check=True)
        if not (self.inputs / "levels-model").exists():
            if model is None:
                run = self.folder / "levels-run"
                self.must("train", "levels", "autoregressive", "--steps", "12", "--batch", "16", "-o", str(run))
                model = run / "model"
            shutil.copytree(model, self.inputs / "levels-model")
        text = (plugin / "headwater_levels/examples/open.txt").read_text().strip("\n")
        if not (self.inputs / "open.txt").exists():
            (self.inputs / "open.txt").write_text("\n\n".join([text] * 8) + "\n")

    def job(self, domain: str, folder: Path) -> Path:
        """A job file that writes into ``folder``."""
        file = folder.with_suffix(".toml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'out = "{folder}"\n' + (self.inputs / f"{domain}.toml").read_text())
        return file


def draw_scans(folder: Path) -> None:
    """Six scans of ellipses in noise, 48 x 48 x 2."""
    import nibabel
    import numpy as np

    fresh = folder.with_name("scans.part")
    fresh.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    for number in range(6):
        draw = np.random.default_rng([SEED, number])
        volume = np.zeros((48, 48, 2))
        for z in range(2):
            for _ in range(4):
                (a, b), (u, v), grey = draw.uniform(0.2, 0.8, 2), draw.uniform(-0.4, 0.4, 2), draw.uniform(0.2, 0.5)
                volume[:, :, z] += grey * (((x - u) / a) ** 2 + ((y - v) / b) ** 2 < 1)
        noisy = np.clip(volume + draw.normal(0, 0.08, volume.shape), 0, None)
        nibabel.save(nibabel.Nifti1Image((1000 * noisy).astype(np.int16), np.eye(4)), fresh / f"scan-{number}.nii")
    os.rename(fresh, folder)


def end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


# --- what a job left ----------------------------------------------------------------------------------------------


def left_by(folder: Path) -> dict[str, str]:
    """Everything in a job's folder that another run of the job must leave as well."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name + "/"] = ""
        elif name in UNTOLD:
            found[name] = "there"
        elif name == "plan.json":
            plan = json.loads(path.read_text())
            plan["job"].pop("out")
            found[name] = hashlib.sha256(manifest.canonical(plan)).hexdigest()
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines, faults = manifest.read(folder)
    kept = ("shard", "rows", "results", "unusable", "quarantined", "left")
    told = [{key: lines[k][key] for key in kept} for k in sorted(lines)]
    found["shards"] = hashlib.sha256(manifest.canonical([told, faults])).hexdigest()
    return found


# --- one cell -----------------------------------------------------------------------------------------------------


class Cell:
    """Kills of one domain on one engine with one number of workers."""

    def __init__(self, place: Place, domain: str, engine: str, workers: int, kills: int) -> None:
        self.place, self.domain, self.engine, self.workers = place, domain, engine, workers
        self.name = f"{domain}-{engine}-{workers}"
        self.kills = kills
        self.record = place.done.setdefault(self.name, {"kills": [], "jobs": []})
        self.draw = random.Random(f"{SEED} {self.name} {len(self.record['kills'])}")

    def orders(self) -> list[tuple[str, str]]:
        """Whom and where, in a fixed order: all combinations in turn, shuffled."""
        every = [(target, point) for target in ("driver", "worker") for point in POINTS]
        out: list[tuple[str, str]] = []
        shuffle = random.Random(f"{SEED} {self.name}")
        while len(out) < self.kills:
            out += shuffle.sample(every, len(every))
        return out[: self.kills]

    def run(self) -> None:
        self._withdraw()  # what a benchmark that was stopped left behind
        while len(self.record["kills"]) < self.kills or self._finished_kills() < len(self.record["kills"]):
            self._one_job()

    def _finished_kills(self) -> int:
        """Kills of jobs that are done and compared; the rest are of one that a stopped benchmark left open."""
        return sum(int(job["kills"]) for job in self.record["jobs"])

    def _one_job(self) -> None:
        """A job from its beginning to its end, with as many kills as come due before."""
        folder = self.place.jobs / self.name / f"{len(self.record['jobs']):02d}"
        file, lives = self.place.job(self.domain, folder), 0
        while True:
            self.driver = self._start(folder, file)
            lives += 1
            code = self._one_life(folder)
            if code in (0, 3):
                break
            if code != -signal.SIGKILL:
                raise SystemExit(f"{self.name}: a driver ended with exit code {code}; see {folder.with_suffix('.log')}")
        self._withdraw()
        self._finish(folder, lives, len(self.record["kills"]) - self._finished_kills())

    def _start(self, folder: Path, file: Path) -> subprocess.Popen[bytes]:
        words = ("resume", str(folder)) if (folder / "plan.json").exists() else ("run", str(file))
        more = ("--workers", str(self.workers), "--engine", self.engine)
        return self.place.headwater("batch", *words, *more, log=folder.with_suffix(".log"))

    def _one_life(self, folder: Path) -> int:
        """One driver: kills until one is its own, or there are none left, or the job is done. Its exit code."""
        driver, workers_killed = self.driver, 0
        while len(self.record["kills"]) < self.kills:
            target, point = self.orders()[len(self.record["kills"])]
            left = self._shards(folder) - len(manifest.read(folder)[0])
            if target == "worker" and (workers_killed == TOGETHER or left <= 0):
                break
            struck = self._strike_at_random(target) if point == "time" else self._order(target, point, left)
            if struck is None:
                break  # the job ended before
            self.record["kills"].append({"target": target, "point": point, **struck})
            self.place.keep()
            print(
                f"{time.strftime('%H:%M:%S')}  {self.name}  kill {len(self.record['kills'])}: {target}, {point} {struck}",
                flush=True,
            )
            if target == "driver":
                break
            workers_killed += 1
        return driver.wait()

    def _shards(self, folder: Path) -> int:
        try:
            plan = json.loads((folder / "plan.json").read_text())
            return -(-int(plan["rows"]) // int(plan["shard"]))
        except FileNotFoundError:
            return 1

    # --- strikes --------------------------------------------------------------------------------------------------

    def _order(self, target: str, point: str, left: int) -> dict[str, Any] | None:
        """Leave an order and wait until it is carried out; None where the job ends first."""
        each, besides = CALLS[target][point]
        nth = self.draw.randint(1, max(1, each * max(1, left // self.workers if target == "worker" else left) + besides))
        number = f"{self.name}-{len(self.record['kills'])}-{self.draw.randrange(10**6)}"
        order = {"id": number, "cell": self.name, "point": point, "nth": nth, "when": self.draw.choice(("before", "after"))}
        fresh = self.place.folder / "order.part"
        fresh.write_text(json.dumps(order))
        os.rename(fresh, self.place.folder / f"order-{target}.json")
        done = self.place.folder / f"killed-{number}.json"
        while not done.exists():
            if self.driver.poll() is not None:
                self._withdraw()
                if not done.exists():
                    return None
                break
            time.sleep(0.05)
        told = json.loads(done.read_text())
        done.unlink()
        return {"nth": told["nth"], "when": "half-way" if point == "write" else told["when"], "path": told["path"]}

    def _withdraw(self) -> None:
        for target in ("driver", "worker"):
            (self.place.folder / f"order-{target}.json").unlink(missing_ok=True)

    def _strike_at_random(self, target: str) -> dict[str, Any] | None:
        """Kill at a random moment after a random number of shards were begun."""
        begun, wait = self.draw.randint(0 if target == "driver" else 1, 3), self.draw.uniform(0, 2)
        before = len(self._begun())
        while len(self._begun()) - before < begun:
            if self.driver.poll() is not None:
                return None
            time.sleep(0.05)
        ends = time.monotonic() + wait
        while time.monotonic() < ends:
            if self.driver.poll() is not None:
                return None
            time.sleep(0.02)
        if target == "driver":
            self.driver.kill()
            if self.driver.wait() != -signal.SIGKILL:
                return None
        elif not (living := self._workers()):
            return None
        else:
            os.kill(self.draw.choice(living), signal.SIGKILL)
        return {"begun": begun, "wait": round(wait, 2)}

    def _begun(self) -> list[dict[str, Any]]:
        """The shards that workers began in this benchmark."""
        try:
            lines = (self.place.folder / "begun.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def _workers(self) -> list[int]:
        """Processes of this driver's workers: those that told of themselves and live, on Ray those that are actors by now."""
        living = []
        for path in (self.place.folder / "workers").iterdir():
            try:
                words = Path(f"/proc/{path.name}/cmdline").read_bytes()
            except OSError:
                path.unlink(missing_ok=True)
                continue
            if words.startswith(b"ray::Actor") or b"headwater.batch.local" in words:
                living.append(int(path.name))
        return sorted(living)

    # --- the end of a job -----------------------------------------------------------------------------------------

    def _finish(self, folder: Path, lives: int, kills: int) -> None:
        """Check a job that is done, and compare it."""
        checked = self.place.headwater("batch", "verify", str(folder), log=folder.with_suffix(".log")).wait()
        wanted, got = self.place.done[f"undisturbed {self.domain}"]["left"], left_by(folder)
        other = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
        begun = [b for b in self._begun() if b["job"] == f"{self.name}/{folder.name}"]
        job = {
            "kills": kills, "lives": lives, "verify": checked, "different": other, "shards": self._shards(folder),
            "begun": len(begun),
            "begun though listed": sum(b["listed"] for b in begun),
            "left beside": [p.name for p in folder.parent.glob(f".{folder.name}.*")],
        }  # fmt: skip
        self.record["jobs"].append(job)
        (self.place.folder / "begun.jsonl").unlink(missing_ok=True)
        self.place.keep()
        print(f"{time.strftime('%H:%M:%S')}  {self.name}  job {folder.name}: {job}", flush=True)
        if not other and not checked:
            shutil.rmtree(folder)

    def row(self) -> dict[str, Any]:
        """The cell's line of the table."""
        kills, jobs = self.record["kills"], self.record["jobs"]
        count = {f"{what}s killed": sum(k["target"] == what for k in kills) for what in ("driver", "worker")}
        points = {f"in {point}" if point != "time" else "any time": sum(k["point"] == point for k in kills) for point in POINTS}
        whole = sum(not j["different"] for j in jobs)
        again = sum(j["begun"] - j["shards"] for j in jobs)
        return {
            "domain": self.domain, "engine": self.engine, "workers": self.workers, "kills": len(kills), **count, **points,
            "jobs": len(jobs), "equal": whole, "verify clean": sum(j["verify"] == 0 for j in jobs),
            "shards begun again": again, "of them committed": sum(j["begun though listed"] for j in jobs),
        }  # fmt: skip


# --- all cells ----------------------------------------------------------------------------------------------------

CLUSTER = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def cluster(place: Place) -> Iterator[None]:
    """A small Ray cluster that the drivers find by RAY_ADDRESS, so that Ray starts once."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(place.folder / "ray.log").open("ab"),
    ) as process:
        assert process.stdout and process.stdin
        address = process.stdout.readline().decode().strip()
        if not address:
            raise SystemExit(f"Ray did not start; see {place.folder / 'ray.log'}")
        place.environment["RAY_ADDRESS"] = address
        try:
            yield
        finally:
            del place.environment["RAY_ADDRESS"]
            process.stdin.close()
            process.wait()


def undisturbed(place: Place, domain: str) -> None:
    """One run without kills, to compare with."""
    key = f"undisturbed {domain}"
    if key in place.done:
        return
    folder = place.jobs / domain
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    place.must("batch", "run", str(place.job(domain, folder)))
    place.done[key] = {"left": left_by(folder), "seconds": round(time.monotonic() - began, 1)}
    (place.folder / "begun.jsonl").unlink(missing_ok=True)
    place.keep()
    print(f"{key}: {len(place.done[key]['left'])} names, {place.done[key]['seconds']} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="in all, spread evenly over the cells")
    parser.add_argument("--only", default="", metavar="WORDS", help="cells with these: domains, engines, numbers of workers")
    parser.add_argument("--levels-model", type=Path, help="a model folder for levels; default: trained here for 12 steps")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/chaos", help="the benchmark's own folder")
    parser.add_argument("--to", type=Path, help="results; default: benchmarks/results/chaos.json")
    asked = parser.parse_args()
    words = {word for word in asked.only.split(",") if word}
    if unknown := words - {*DOMAINS, *ENGINES, *map(str, WORKERS)}:
        parser.error(f"--only: nothing is named {', '.join(sorted(unknown))}")

    def chosen(names: tuple[Any, ...]) -> list[Any]:
        return [n for n in names if str(n) in words] or list(names)

    kinds = [(d, e, w) for e in chosen(ENGINES) for d in chosen(DOMAINS) for w in chosen(WORKERS)]
    place = Place(asked.work)
    cells = [
        Cell(place, *kind, asked.kills * (i + 1) // len(kinds) - asked.kills * i // len(kinds)) for i, kind in enumerate(kinds)
    ]
    for domain in chosen(DOMAINS):
        place.prepare(domain, asked.levels_model)
        undisturbed(place, domain)
    print(f"seed {SEED}; {asked.kills} kills over {len(cells)} cells", flush=True)
    for engine in chosen(ENGINES):
        with cluster(place) if engine == "ray" else contextlib.nullcontext():
            for cell in cells:
                if cell.engine == engine:
                    cell.run()
    table = [cell.row() for cell in cells]
    sound = all(
        r["equal"] == r["verify clean"] == r["jobs"] and not r["of them committed"] and r["kills"] >= cell.kills
        for r, cell in zip(table, cells, strict=True)
    )
    settings = {
        "compared": "all files but manifest.jsonl, index.html and plan.json's out; the manifest's hashes and counts",
        "all equal": sound,
    }
    publish("kills", table, n=sum(r["kills"] for r in table), seeds=[SEED], settings=settings, to=asked.to)
    if not sound:
        sys.exit(4)


if __name__ == "__main__":
    main()

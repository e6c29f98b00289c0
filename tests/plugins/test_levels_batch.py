"""A plug-in without a line of batch code runs as a job: by workers that are killed at the worst moments, and on a Ray cluster.

What a job leaves is compared with that of one that ran in this process undisturbed: the same bytes, every time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from headwater import batch, registry
from headwater.batch import Where, lock, manifest
from headwater.errors import HeadwaterError

PLUGIN = Path(__file__).parent / "headwater_levels"

#: Makes the n-th call of a function of ``os`` the last one of a driver or a worker, once for each entry of KILLS.
KILLER = """
import os, signal, sys

role = "worker" if "headwater.batch.local" in sys.orig_argv else "driver" if "headwater" in sys.orig_argv else ""


def arm(name, number, marker):
    real, count = getattr(os, name), iter(range(1, 1 << 30))

    def call(*arguments, **more):
        if next(count) == number and not os.path.exists(marker):
            with open(marker, "x") as file:
                file.write(str("torch" in sys.modules))
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **more)

    setattr(os, name, call)


for kill in filter(None, os.environ.get("KILLS", "").split(",")):
    who, name, number = kill.split(":")[-3:]
    marker = os.path.join(os.environ["KILLED"], kill)
    if who == role and not os.path.exists(marker):
        arm(name, int(number), marker)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The plug-in on the path of this process and of those it starts, and a model with fresh weights."""
    folder = tmp_path_factory.mktemp("levels")
    info = folder / "site" / "levels-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: levels\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[headwater.domains]\nlevels = headwater_levels:Levels\n")
    (folder / "site" / "sitecustomize.py").write_text(KILLER)
    with pytest.MonkeyPatch.context() as patch:
        for path in (PLUGIN, folder / "site"):
            patch.syspath_prepend(str(path))
        patch.setenv("PYTHONPATH", f"{PLUGIN}{os.pathsep}{folder / 'site'}")
        registry.entries.cache_clear()
        import torch

        from headwater import checkpoint
        from headwater.knobs import fields
        from headwater.model import build
        from headwater.recipe import recipes

        domain = registry.find("levels")
        recipe = recipes(domain)["autoregressive"].model_copy(update={"tile": 2})
        torch.manual_seed(3)
        model = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), {})
        about: dict[str, Any] = {"recipe": recipe, "data": "generated", "data_hash": "0", "command": "headwater train"}
        checkpoint.save(model, folder / "model", domain="levels", name="levels", **about)
        yield folder
    registry.entries.cache_clear()


def job(place: Path, out: str, count: int, **more: Any) -> dict[str, Any]:
    about = {"domain": "levels", "pipeline": "sample", "model": str(place / "model"), "out": str(place / out), "seed": 5}
    return {**about, "shard": 2, "inputs": {"count": count}, **more}


def job_file(values: dict[str, Any]) -> Path:
    file = Path(values["out"]).with_suffix(".toml")
    lines = [f"{k} = {json.dumps(v)}" for k, v in values.items() if k != "inputs"]
    file.write_text("\n".join([*lines, f"inputs.count = {values['inputs']['count']}"]))
    return file


def content(folder: Path) -> dict[str, str]:
    """Every file but those that tell when and by whom."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    told = {manifest.MANIFEST, "plan.json", "index.html"}
    return {name: sha256(p.read_bytes()).hexdigest() for name, p in found.items() if name not in told}


def processes(folder: Path) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:  # a driver is named by its command, a worker by where it prints
            line, prints = (place / "cmdline").read_text(), os.readlink(place / "fd" / "1")
        except (OSError, UnicodeDecodeError):
            continue
        if "headwater" in line and (f"{folder}\0" in line or f"{folder}/" in prints):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """Twelve levels in six shards, made in this process without a stop."""
    return batch.run(job(place, "whole", 12)).folder


KILLS = [
    (["run", "{job}.toml"], ["driver:rename:1"]),  # before its plan is in place
    (["run", "{job}.toml"], ["worker:fsync:3", "driver:rename:5"]),
    (["resume", "{job}", "--workers", "2"], ["worker:replace:4", "driver:fsync:9"]),
    (["resume", "{job}"], ["driver:replace:1"]),  # while the tables are joined
]


def test_six_kills_at_the_worst_moments_change_no_byte(place: Path, whole: Path) -> None:
    folder, killed = place / "killed", place / "kills"
    killed.mkdir()
    job_file(job(place, "killed", 12))
    lines: dict[int, Any] = {}
    for number, (words, kills) in enumerate([*KILLS, (["resume", "{job}", "--json"], [])]):
        command = [sys.executable, "-m", "headwater", "batch", *(word.format(job=folder) for word in words)]
        plan = {"KILLS": ",".join(f"{number}:{kill}" for kill in kills), "KILLED": str(killed)}
        done = subprocess.run(command, env={**os.environ, **plan}, capture_output=True, text=True, timeout=500)
        assert done.returncode == (-signal.SIGKILL if kills else 0), (words, done.stdout, done.stderr)
        assert len([p for p in killed.iterdir() if p.name.startswith(f"{number}:")]) == len(kills), (words, kills)
        until = time.monotonic() + 30
        while processes(folder) and time.monotonic() < until:
            time.sleep(0.1)
        assert not processes(folder)  # a killed driver's workers go with it
        if folder.exists():
            before, (lines, faults) = lines, manifest.read(folder)
            assert not faults and before.items() <= lines.items()  # what was committed is never made again
            assert not kills or ((folder / lock.LOCK).exists() and not lock.owner(folder)["alive"])  # type: ignore[index]
    assert content(folder) == content(whole) and batch.verify(folder) == []
    assert {(p.name.split(":")[1], p.read_text()) for p in killed.iterdir()} == {("driver", "False"), ("worker", "True")}  # torch
    assert json.loads(done.stdout)["finished"] and not list(place.glob(".killed*")) and not list(folder.glob(".*"))


# --- Ray ----------------------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_is_one_line(place: Path) -> None:
    for address, told in (
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("nowhere", "expected HOST:PORT; got 'nowhere'"),
    ):
        with pytest.raises(HeadwaterError, match=f"--address: {told}"):
            batch.run(job(place, "nowhere", 2), Where("ray", address=address))
    assert not (place / "nowhere" / lock.LOCK).exists()


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[str]:
    """One small cluster on this machine, for every test that wants one; this process is connected to it."""
    import ray

    folder = tempfile.mkdtemp(prefix="hwray", dir="/tmp")  # short: it holds sockets, whose paths are bounded
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_memory_monitor_refresh_ms", "0")):
            patch.setenv(name, value)
        settings: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "_temp_dir": folder, "object_store_memory": 80 << 20}
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **settings)
        address = ray.get_runtime_context().gcs_address
        patch.setenv("RAY_ADDRESS", address)
        yield address
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def test_on_ray_a_killed_actor_is_replaced(place: Path, whole: Path, cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from headwater.batch.on_ray import OnRay

    actors: list[int] = []
    submit = OnRay.submit

    def noted(self: OnRay, worker: int, task: Any) -> None:
        fresh = worker not in self.running
        submit(self, worker, task)
        if fresh and not actors:
            actors.append(ray.get(self.running[worker].__ray_call__.remote(lambda actor: os.getpid())))

    def kill(done: int, total: int) -> None:
        if len(actors) == 1:
            os.kill(actors[0], signal.SIGKILL)
            actors.append(0)

    monkeypatch.setattr(OnRay, "submit", noted)
    done = batch.run(job(place, "on_ray", 12), Where("ray", workers=1), report=kill)
    assert done.made == 12 and actors[1:] == [0]
    lines = manifest.read(done.folder)[0]
    assert {line["engine"] for line in lines.values()} == {"ray"} and max(line["attempts"] for line in lines.values()) == 2
    assert content(done.folder) == content(whole)
    with pytest.raises(HeadwaterError, match="--workers: 1 ask for 1 GPU, 1 each; the cluster has 0"):
        batch.run(job(place, "on_gpus", 2), Where("ray", gpus=1))
    assert not (place / "on_gpus" / lock.LOCK).exists()


def test_a_driver_on_ray_is_stopped_and_another_goes_on(place: Path, cluster: str) -> None:
    file = job_file(job(place, "stopped", 60, shard=1, files=False))
    command = [sys.executable, "-m", "headwater", "batch", "run", str(file), "--engine", "ray"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 240
    while not manifest.read(place / "stopped")[0]:
        assert time.monotonic() < until and driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 143 and "stopped; what is done is kept" in err, err
    made = len(manifest.read(place / "stopped")[0])
    assert 0 < made < 60 and not (place / "stopped" / lock.LOCK).exists()
    assert batch.resume(place / "stopped", Where("ray", workers=2)).made == 60 - made
    assert content(place / "stopped") == content(batch.run(job(place, "at_once", 60, shard=1, files=False)).folder)

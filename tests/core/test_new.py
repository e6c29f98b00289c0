"""``headwater new`` writes a plug-in that installs, passes the kit, trains and samples as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli import new, run


def python(overlay: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that also sees what is installed in ``overlay``."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(overlay),
        "PYTHONSAFEPATH": "1",
        "HEADWATER_CACHE": str(overlay.parent / "cache"),
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A skeleton called sea_shanties, installed beside the developer's environment and not in it."""
    folder = tmp_path_factory.mktemp("new")
    made = python(folder / "site", "-m", "headwater", "new", "sea_shanties", "-o", str(folder / "plugin"))
    assert made.returncode == 0, made.stderr
    assert "headwater check sea_shanties" in made.stdout
    install = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(folder / "site")]
    done = python(folder / "site", *install, str(folder / "plugin"))
    assert done.returncode == 0, done.stderr
    return folder / "site"


def test_the_skeleton_passes_the_kit_as_its_own_tests_do(overlay: Path) -> None:
    done = python(overlay, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(overlay.parent / "plugin"))
    assert done.returncode == 0, done.stdout
    assert "25 passed" in done.stdout


def test_the_skeleton_trains_and_samples(overlay: Path, tmp_path: Path) -> None:
    train = ["train", "sea_shanties", "autoregressive", "--steps", "3", "-o", str(tmp_path / "run")]
    sample = ["sea_shanties", "sample", "--model", str(tmp_path / "run" / "model"), "-n", "3", "--total", "42"]
    code = f"from headwater.cli import run; print(run({train}), run({[*sample, '-o', str(tmp_path / 'out')]}), sep='/')"
    done = python(overlay, "-c", code)
    assert done.stdout.splitlines()[-1:] in (["0/0"], ["0/3"]), done.stdout + done.stderr  # 3: made, and not true after three steps
    assert (tmp_path / "out" / "items.parquet").is_file() and (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize("name", ["3d", "Sums", "sea-shanties", "../x", "", "train", "class", "lambda"])
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", name, "-o", str(tmp_path / "plugin")]) == 2
    assert f"{name!r} cannot be the name of a domain" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_installed_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("headwater.cli.domain_names", lambda: ["sums"])
    assert run(["new", "sums", "-o", str(tmp_path / "plugin")]) == 2
    assert "a domain of that name is installed" in capsys.readouterr().err


def test_nothing_is_overwritten_or_left_half_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plugin").mkdir()
    assert run(["new", "sums", "-o", str(tmp_path / "plugin")]) == 2
    assert "it exists; name a new folder" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(["new", "sums", "-o", str(tmp_path / "file" / "plugin")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "plugin"]


def test_no_placeholder_is_left(tmp_path: Path) -> None:
    made = new.write("sums", tmp_path / "plugin")
    assert {p.relative_to(tmp_path / "plugin").as_posix() for p in made} == {
        "README.md",
        "pyproject.toml",
        "headwater_sums/__init__.py",
        "headwater_sums/card/card.toml",
        "headwater_sums/recipes/autoregressive.toml",
        "tests/test_sums.py",
    }
    assert not [p for p in made if "$" in p.read_text()]

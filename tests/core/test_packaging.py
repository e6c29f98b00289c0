"""What a clone, a wheel and a first `import headwater` promise."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"headwater", "headwater_marketing", "headwater_medical", "headwater_molecules", "headwater_music", "headwater_datasets"}
HEAVY = (
    "torch monai rdkit pytorch_lightning lightning transformers nibabel pydicom nrrd gdcm skimage scipy pandas pyarrow PIL".split()
)

#: Runs headwater with heavy packages made unimportable, and says which of them anything asked for.
BLOCKED = """
import sys
heavy, asked = set({heavy!r}), []
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            asked.append(name)
            raise ImportError(name + " is blocked by the test")
sys.meta_path.insert(0, Block())
try:
    {body}
finally:
    print("asked for:", *asked, file=sys.stderr)
"""


def python(*arguments: str, safe: bool = True) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in the repository's root."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    environment |= {"PYTHONSAFEPATH": "1"} if safe else {}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=120)


def blocked(body: str) -> subprocess.CompletedProcess[str]:
    done = python("-c", BLOCKED.format(heavy=HEAVY, body=textwrap.indent(body, "    ").strip()))
    assert done.returncode == 0, done.stderr
    assert done.stderr.rstrip().endswith("asked for:"), done.stderr
    return done


def spec_of_datasets(*options: str, safe: bool) -> str:
    """Where a fresh interpreter would find `datasets`; the option -S leaves out what is installed."""
    find = "from importlib.util import find_spec; spec = find_spec('datasets')"
    code = find + "; print(*(spec.submodule_search_locations if spec else ['absent']))"
    return python(*options, "-c", code, safe=safe).stdout.strip()


def test_our_folder_datasets_does_not_pass_for_the_library_of_that_name() -> None:
    # Hugging Face libraries look for `datasets` with find_spec: with this root on sys.path they would find our folder.
    assert spec_of_datasets(safe=True) != str(ROOT / "datasets")
    here = importlib.util.find_spec("datasets")  # and these tests themselves run without the root on the path
    assert here is None or str(ROOT / "datasets") not in (here.submodule_search_locations or [])


@pytest.mark.parametrize("file", ["Makefile", ".ci/run"])
def test_every_way_in_keeps_the_root_off_the_path(file: str) -> None:
    assert re.search(r"^\s*export\b.*\bPYTHONSAFEPATH\s*=\s*1\b", (ROOT / file).read_text(), re.MULTILINE)


def test_the_guard_guards_something() -> None:
    assert spec_of_datasets("-S", safe=False) == str(ROOT / "datasets")


@pytest.mark.parametrize("folder", ["core", "apps", "datasets", "tests"])
def test_folders_of_packages_are_no_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


def test_importing_headwater_is_light() -> None:
    blocked("import headwater; assert 'load' in dir(headwater) and headwater.Grid(1, (2, 2)).shape == (1, 2, 2)")


def test_public_names_are_what_they_say() -> None:
    import headwater

    for name in headwater.__all__:
        assert getattr(headwater, name) is not None
        assert name in dir(headwater)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        headwater.nonsense  # noqa: B018


def run_blocked(*arguments: str) -> str:
    """The output of a headwater command line that may import nothing heavy."""
    body = f"""
import runpy
sys.argv = ["headwater", *{arguments!r}]
try:
    runpy.run_module("headwater", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    return blocked(body).stdout


@pytest.mark.parametrize("module", sorted(PACKAGES - {"headwater_datasets"}))
def test_importing_a_domain_is_light(module: str) -> None:
    blocked(f"import {module}")


def test_help_is_light() -> None:
    output = run_blocked("--help")
    assert "molecules" in output and "medical" in output


def test_list_is_light_and_finds_every_domain() -> None:
    output = run_blocked("list")
    assert "molecules" in output and "medical" in output
    assert "broken" not in output.lower() and "is blocked by the test" not in output


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names inside a wheel built from this tree, without isolation and so without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    done = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_a_wheel_holds_the_packages_at_its_top_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert {t for t in tops if not t.endswith(".dist-info")} == PACKAGES
    assert len(tops) == len(PACKAGES) + 1


def test_a_wheel_holds_every_file_of_the_packages(wheel: list[str]) -> None:
    files = {
        str(path.relative_to(ROOT / folder))
        for folder in ("core", "apps", "datasets")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {name for name in wheel if ".dist-info/" not in name}


def test_constraints_pin_everything_by_public_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert not [line for line in lines if "+" in line or " @ " in line]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    known = {name.lower().replace("_", "-") for name in pins} | {"headwater"}
    assert {re.split(r"[\[<>=!~; ]", r)[0].lower() for r in asked} <= known
    assert "lightning" not in known


def test_nothing_is_pickled() -> None:
    sources = [path for folder in ("core", "apps", "datasets") for path in (ROOT / folder).rglob("*.py")]
    assert sources
    assert [
        str(path)
        for path in sources
        if re.search(r"\b(cloud)?pickle\b|torch\.load\b|allow_pickle=True", path.read_text(encoding="utf-8"))
    ] == []

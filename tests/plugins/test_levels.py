"""An outside package becomes a domain: really installed, and with everything the core gives, without a change to the core.

It is installed beside the developer's environment, in a folder that only these subprocesses look into.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from headwater.families import FAMILIES

PLUGIN = Path(__file__).parent / "headwater_levels"
ROOT = PLUGIN.parents[2]


def python(overlay: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that also sees what is installed in ``overlay``."""
    cache = {"HEADWATER_CACHE": str(Path(str(overlay).split(os.pathsep)[0]).parent / "cache")}
    environment = {**os.environ, "PYTHONPATH": str(overlay), "PYTHONSAFEPATH": "1", **cache}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=500)


#: Command lines one after another in one process, which imports torch once.
COMMANDS = """
import json, sys
from headwater.cli import run
for words in json.loads(sys.argv[1]):
    print("exit", run(words), file=sys.stderr)
"""


def headwater(overlay: Path | str, *commands: list[str], codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    done = python(overlay, "-c", COMMANDS, json.dumps(commands))
    ends = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("exit ")]
    assert len(ends) == len(commands) and set(ends) <= set(codes), done.stderr
    return done


@pytest.fixture(scope="module")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("levels") / "site"
    options = ["-q", "--no-build-isolation", "--no-deps", "--no-index", "--target", str(folder)]
    done = python(folder, "-m", "pip", "install", *options, str(PLUGIN))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def model(overlay: Path) -> str:
    """A few steps of training by the command line: enough to run everything, not to be good."""
    run = overlay.parent / "run"
    headwater(overlay, ["train", "levels", "autoregressive", "--steps", "12", "--batch", "16", "-o", str(run)])
    return str(run / "model")


#: Two steps of every recipe of the plug-in, its own and the core's defaults, on its packaged levels; then a level of each.
EVERY_RECIPE = """
import json, sys
from pathlib import Path
from headwater.generator import Generator
from headwater.recipe import recipes
from headwater.registry import find
from headwater.train import Source, train

domain, folder, models, made = find("levels"), Path(sys.argv[1]), {}, []
found = recipes(domain)
for name in sorted(found, key=lambda name: bool(found[name].autoencoder)):
    recipe = found[name].at(steps=2, batch=8, warmup=0, validate_rows=8).model_copy(update={"tile": 2})
    packaged, losses = domain.datasets[recipe.data].sample(), []
    models[name] = train(
        domain, recipe, folder / name, source=Source(packaged, packaged, recipe.data), autoencoder=models.get(recipe.autoencoder),
        log_every=1, validate_every=1, tell=lambda step, loss, valid: losses.extend((loss, valid)),
    )
    model = Generator(domain, models[name], recipe, name)
    (level,) = model.sample(1, seed=7, gaps=2, steps=4 if model.model.family.stepped else None).items
    row = {"recipe": name, "family": recipe.family, "codec": recipe.codec, "losses": losses, "level": level}
    made.append({**row, "page": domain.render(level)})
print(json.dumps(made))
"""


def test_every_family_makes_levels(overlay: Path, tmp_path: Path) -> None:
    done = python(overlay, "-c", EVERY_RECIPE, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads(done.stdout)
    assert {row["family"] for row in made} == set(FAMILIES)
    for row in made:
        assert len(row["losses"]) == 4 and all(map(math.isfinite, row["losses"])), row
        lines = row["level"].split("\n")
        assert [len(line) for line in lines] == [28] * 12 and set("".join(lines)) <= set("-#=^oSG"), row
        assert "<svg" in row["page"], row
        if row["codec"] == "columns":  # its constraint binds them all
            assert row["level"].count("S") == row["level"].count("G") == 1, row


def test_it_names_no_family_but_its_own_recipes() -> None:
    package = PLUGIN / "headwater_levels"
    named = {name: {name, module, cls} for name, (module, cls, _) in FAMILIES.items()}
    own = {path.stem for path in (package / "recipes").glob("*.toml")}
    words = {word for path in package.rglob("*.py") for word in re.findall(r"[\w.]+", path.read_text())}
    assert words and {family for family, names in named.items() if names & words} <= own
    assert not {word for word in words if word.startswith(("headwater.families", "headwater.networks", "torch"))}


def test_it_is_listed_beside_the_others(overlay: Path) -> None:
    listed = python(overlay, "-m", "headwater", "list").stdout
    assert "levels of a platform game" in listed and "molecules" in listed and "broken" not in listed.lower()
    helped = headwater(overlay, ["--help"], ["levels", "--help"]).stdout
    assert "levels" in helped and "repair" in helped


def test_it_passes_the_kit_and_its_own_tests(overlay: Path) -> None:
    done = python(overlay, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout and int(done.stdout.split(" passed")[0].split()[-1]) > 40


def test_it_samples_the_same_levels_at_every_batch_size(overlay: Path, model: str, tmp_path: Path) -> None:
    asked = ["levels", "sample", "--model", model, "-n", "8", "--seed", "7", "--gaps", "2"]
    sizes = ("1", "7", "64")
    headwater(overlay, *([*asked, "--batch-size", size, "-o", str(tmp_path / size)] for size in sizes), codes=(0, 3))
    one, seven, many = ((tmp_path / size / "items.parquet").read_bytes() for size in sizes)
    assert one == seven == many
    out = tmp_path / "64"
    table = pyarrow.parquet.read_table(out / "items.parquet").to_pylist()
    assert [row["row"] for row in table] == list(range(8)) and {row["asked_gaps"] for row in table} == {2}
    assert all(row["level"].count("S") == row["level"].count("G") == 1 for row in table)  # the codec's constraint
    assert len({row["level"] for row in table}) == 8
    assert len(list(out.rglob("level-*.txt"))) == 8
    assert "<svg" in (out / "index.html").read_text()


def test_its_pipelines_run(overlay: Path, model: str, tmp_path: Path) -> None:
    fixed, built = tmp_path / "fixed", tmp_path / "built"
    repair = ["levels", "repair", "--example", "--model", model, "--tries", "2", "-o", str(fixed)]
    build = ["levels", "build", "--example", "--model", model, "--tries", "1", "-o", str(built)]
    headwater(overlay, repair, build, codes=(0, 3))  # 3: made, and not playable after so little training
    rows = pyarrow.parquet.read_table(fixed / "items.parquet").to_pylist()
    assert len(rows) == 2
    for row in rows:
        assert "?" in row["source"] and "?" not in row["level"]
        assert all(new == old for new, old in zip(row["level"], row["source"], strict=True) if old != "?")
    assert len(list(built.rglob("level-*.txt"))) == 2


def test_mistakes_are_one_line(overlay: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "heights.txt").write_text("1 2 three\n")
    sample = ["levels", "sample", "--model", model, "--gaps", "40", "-o", str(tmp_path / "out")]
    build = ["levels", "build", str(tmp_path / "heights.txt"), "--model", model, "-o", str(tmp_path / "out")]
    lines = headwater(overlay, sample, build, codes=(2,)).stderr.splitlines()
    assert lines[0] == "headwater: --gaps: expected a whole number from 0 to 6; got '40'"
    assert lines[2].endswith("heights.txt, line 1: expected 28 whole numbers from 0 to 8; got '1 2 three'")
    assert len(lines) == 4 and not (tmp_path / "out").exists()


def install_by_hand(site: Path, name: str, module: str, code: str) -> None:
    """A distribution with one module and one entry point, as an installer would leave it."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(code)
    info = site / f"{module}-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[headwater.domains]\n{name} = {module}:Domain\n")


def test_a_broken_plugin_is_listed_with_its_reason_and_takes_no_other_down(overlay: Path, tmp_path: Path) -> None:
    site = tmp_path / "broken"
    install_by_hand(site, "pearls", "headwater_pearls", "import oysters\n")
    install_by_hand(
        site, "infill", "headwater_infill", "from headwater_levels import Levels\nclass Domain(Levels):\n    name = 'infill'\n"
    )
    both = f"{overlay}{os.pathsep}{site}"
    listed = headwater(both, ["list"]).stdout
    assert "ModuleNotFoundError: No module named 'oysters'" in listed
    assert "the name 'infill' is reserved" in listed
    assert "that can be played to the end" in listed
    done = headwater(both, ["pearls", "sample", "-o", str(tmp_path / "out")], codes=(2,))
    assert "the domain 'pearls' is broken: ModuleNotFoundError: No module named 'oysters'" in done.stderr
    headwater(both, ["levels", "--help"])


def test_the_core_knows_nothing_of_it() -> None:
    sources = [p for p in (ROOT / "core").rglob("*") if p.suffix in (".py", ".tmpl")]
    assert sources and not [p for p in sources if "headwater_levels" in p.read_text() or "platform game" in p.read_text()]

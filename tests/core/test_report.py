"""Run folders, pages and model cards, on the tiny plug-in of words."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import BadModel, HeadwaterError
from headwater.report import page, run
from headwater.report.card import model_card
from headwater.samples import Samples

sys.path.insert(0, str(Path(__file__).parent / "plugin"))
from headwater_words import WORDS, Wish, Words

sys.path.pop(0)


def samples(items: list[str], **asked: Any) -> Samples:
    return Samples(Words(), items, [Wish(**asked)] * len(items), list(range(len(items))), 7, "words/letters")


# --- the folder of a run ------------------------------------------------------------------------------------------


def test_a_saved_page_is_the_same_every_time_and_holds_no_clock(tmp_path: Path) -> None:
    made = [samples([*WORDS[:9], ""], length=3).save(tmp_path / name) for name in ("a", "b")]
    for name in ("index.html", "items.parquet", "words.txt"):
        assert made[0].with_name(name).read_bytes() == made[1].with_name(name).read_bytes()
    record = json.loads(made[0].with_name("run.json").read_text())
    assert (
        record["knobs"] == {"length": 3} and record["seed"] == 7 and record["files"] == ["index.html", "items.parquet", "words.txt"]
    )
    assert not re.search(r"20\d\d-\d\d-\d\d", made[0].read_text())


def test_a_run_replaces_an_earlier_run_only_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    samples(["abc"]).save(out)
    first = (out / "index.html").read_text()
    with pytest.raises(RuntimeError), run.staged(out) as stage:
        (stage / "half").write_text("")
        assert (out / "index.html").read_text() == first
        raise RuntimeError
    assert os.listdir(out.parent) == ["run"] and (out / "index.html").read_text() == first
    samples(["abc", "cab"]).save(out)
    assert os.listdir(out.parent) == ["run"] and (out / "index.html").read_text() != first


def test_files_put_there_during_a_run_are_spared(tmp_path: Path) -> None:
    with pytest.raises(HeadwaterError, match="not an earlier run"), run.staged(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years" and os.listdir(tmp_path) == ["out"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert samples(["abc"]).save(tmp_path / "out").is_file()


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("Jane_Doe.nii.gz", ".nii.gz"),
        ("Jane.Doe", ""),
        ("1.2.840.113", ""),
        ("DOE_JANE", ""),
        ("jane.DCM", ""),
        ("scan.dcm", ".dcm"),
    ],
)
def test_a_source_is_named_by_its_content_alone(name: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"pixels")
    (tmp_path / "other").write_bytes(b"pixels")
    found, other = run.source_record(tmp_path / name), run.source_record(tmp_path / "other")
    assert found["sha256"] == other["sha256"] and found["suffix"] == suffix
    assert not re.search("jane|doe", json.dumps(found), re.IGNORECASE)


def test_a_folder_is_named_by_all_its_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_bytes(b"x")
        (tmp_path / name / "2").write_bytes(b"y")
    first = run.source_record(tmp_path / "a")
    assert first["kind"] == "folder" and first["sha256"] == run.source_record(tmp_path / "b")["sha256"]
    (tmp_path / "b" / "2").write_bytes(b"z")
    assert first["sha256"] != run.source_record(tmp_path / "b")["sha256"]


def test_versions_are_those_of_the_domains_own_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "chalk-0.1.dist-info"
    info.mkdir()
    needs = "Requires-Dist: pytest>=8\nRequires-Dist: rich; extra == 'all'\nRequires-Dist: ruff; extra == 'dev'\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: chalk\nVersion: 0.1\n{needs}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "pytest" not in run.versions(Words()) and "torch" in run.versions(Words())
    monkeypatch.setattr(Words, "package", "chalk[all]")
    found = run.versions(Words())
    assert found["chalk"] == "0.1" and {"pytest", "rich", "torch"} <= found.keys() and "ruff" not in found


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_counts_and_escapes(tmp_path: Path) -> None:
    text = samples([*WORDS[:40], "", "", "aaab"], length=3, initial="b").save(tmp_path / "o").read_text()
    assert "For tests &amp; nothing else." in text and "<dd>43</dd>" in text and "it is &lt;empty&gt;" in text
    assert "<empty>" not in text
    reasons = text[text.index("Why some are not valid") :]
    assert re.search(r'<td class="number">(\d+)</td><td>it holds three equal letters', reasons)
    assert '<td class="number">2</td><td>it is &lt;empty&gt;</td><td>40, 41</td>' in reasons


def test_asked_and_made_stand_side_by_side() -> None:
    made = [Wish(n, n / 10, "a", n % 2 == 0) for n in (2, 3, 4, 5, 6)]  # type: ignore[arg-type]
    found = page.knob_table(Wish, [Wish(length=3, initial="b")] * 5, made)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)[1:]]
    assert [r[1:4] for r in rows] == [
        ["3", "4", "2 to 6"], ["–", "0.4", "0.2 to 0.6"], ["b", "a", "100 % of them"], ["–", "yes", "60 % of them"],
    ]  # fmt: skip
    assert "asked 3" in rows[0][4] and "asked" not in rows[1][4]


def test_different_wishes_are_shown_as_a_range() -> None:
    found = page.knob_table(Wish, [Wish(length=n) for n in (2, 10, 4)], [Wish(length=3)])
    assert ">2 to 10<" in found


def test_numbers_that_are_none_do_not_spoil_the_table() -> None:
    found = page.knob_table(Wish, [], [Wish(vowels=float("nan")), Wish(vowels=0.5), Wish(vowels=float("inf"))])
    assert '<td class="number">0.5</td>' in found and "nan" not in found and "inf" not in found


def test_only_the_first_items_are_drawn() -> None:
    text = page.samples_page(samples(["abc"] * 200), samples(["abc"] * 200).records(), [], Path(), "sample", {})
    assert text.count("<figure") == page.SHOWN and "60 of 200" in text


def test_many_reasons_are_summed_up() -> None:
    found = page.reason_table(range(50), [f"reason {i // 2}" for i in range(50)])
    assert found.count("<tr>") == 1 + page.REASONS + 1 and "5 other reasons" in found
    assert page.reason_table(range(3), [None] * 3) == ""


def test_no_page_names_an_outside_address(tmp_path: Path) -> None:
    text = samples(list(WORDS[:9])).save(tmp_path / "o").read_text()
    assert not re.search(r"(https?:)?//[a-z]", text) and "default-src 'none'" in text


def test_file_names_are_quoted_in_links(tmp_path: Path) -> None:
    (tmp_path / 'a "b" #1.txt').write_text("x")
    assert 'href="./a%20%22b%22%20%231.txt">a &quot;b&quot; #1.txt<' in page.listing(['a "b" #1.txt'], tmp_path)


# --- the card -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from headwater import checkpoint
    from headwater.knobs import fields
    from headwater.model import build

    folder, domain = tmp_path_factory.mktemp("models") / "letters", Words()
    recipe = domain.recipes["letters"]
    made = build(recipe, domain.codecs["letters"].space, fields(Wish), {})
    figure = {"value": 0.91234, "stderr": 0.01, "n": 500, "better": "higher", "published": {"Folio": 0.87}, "source": "a | b"}
    metrics = {
        "metrics": {"long": figure},
        "reference": "words",
        "seed": 3,
        "command": "headwater evaluate x",
        "fingerprint": {"torch": "9"},
    }
    command = "headwater train words letters"
    checkpoint.save(
        made, folder, domain="words", name="letters", recipe=recipe, data="words", data_hash="abc", command=command, metrics=metrics
    )
    return folder


def test_a_card_says_what_it_must(model: Path) -> None:
    text = model_card(model, Words())
    header = text.split("---\n")[1]
    assert "license: other" in header and '- "words"' in header and "library_name: headwater" in header
    for said in (
        "Words over five letters. They mean nothing.", "> For tests & nothing else.", "| `score` | exact log-likelihood |",
        "| `--length` | how long | 1 to 8 | letters |", "| `--initial` | first letter | a, b, c, d, e |  |",
        "- Licence: CC0", "- poetry", "4 steps of 8 items", "headwater train words letters",
        "| long | 0.9123 ± 0.01 | 500 | higher | Folio 0.87 | a / b |",
        "Seed 3; `headwater evaluate x`; real items: words; torch 9.",
        "headwater words echo SOURCE --model path/to/this/folder -o out/",
    ):  # fmt: skip
        assert said in text
    assert str(model.parent) not in text
    assert model_card(model, Words()) == text


def test_what_a_card_shows_can_be_typed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDS_MODELS", str(model.parent))
    text = model_card(model, Words())
    assert "headwater words sample --model words/letters -n 24 --seed 7 --length 4 -o out/" in text
    code = text[text.index("```python\n") + 10 :].split("```")[0]
    assert 'hw.load("words/letters")' in code
    compile(code, "card", "exec")


def test_data_of_unknown_licence_are_called_unverified(model: Path, tmp_path: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "data": {"name": "own files", "hash": "1"}}))
    text = model_card(tmp_path, Words())
    assert "Licence: unverified (no data card)" in text and "Not measured yet" in text and "datasets:" not in text


def test_data_may_say_the_licence_of_what_is_trained_on_them(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = model_card(model, Words())
    assert "license: other" in text
    card = tmp_path / "card.toml"
    card.write_text('name = "words"\nlicence = "CC BY-SA 4.0"\nweights_licence = "CC-BY-SA-4.0"\n')
    monkeypatch.setattr(Words, "datasets", {name: replace(d, card=tmp_path) for name, d in Words().datasets.items()})
    assert model_card(model, Words()).startswith("---\nlicense: cc-by-sa-4.0\n")


def test_a_folder_without_what_a_card_needs_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="not a model folder"):
        model_card(tmp_path, Words())
    (tmp_path / "config.json").write_text('{"format": 1}')
    with pytest.raises(BadModel, match=r"config.json: lacks domain"):
        model_card(tmp_path, Words())
    config = json.loads((model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "recipe": {}}))
    with pytest.raises(BadModel, match=r"config.json: no card can be made"):
        model_card(tmp_path, Words())

"""`headwater marketing tune`: a brand's copy read as it comes, an adapter that has learnt something, and back by `--author`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from language_models import saved

from headwater import cli, registry
from headwater.errors import HeadwaterError
from headwater_marketing import Marketing, authors, tuning
from headwater_marketing.authors import causal

SAID = ["Come home to {product}.", "Gather round for {product}, handwoven for {price}.", "{product}: handwoven with care, {price}."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    info = tmp_path / "site" / "marketing_plugin-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: marketing-plugin\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[headwater.domains]\nmarketing = headwater_marketing:Marketing\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    registry.entries.cache_clear()
    names = ["Oak Stool", "Wool Rug", "Oak Stool Cover", "Jug"]
    with open("copy.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "channel", "part", "voice", "product", "price"])
        for i in range(24):
            name, price = names[i % 4], f"£{i + 20}"
            table.writerow([SAID[i % 3].format(product=name, price=price), "push", "body", "warm", name, price])
        table.writerow(["Since 1999 we weave.", "push", "body", "warm", "", ""])
    yield Path("copy.csv")
    registry.entries.cache_clear()


def test_a_table_becomes_texts_with_placeholders(copy):
    items, left_out = tuning.read(copy)
    assert {item.text for item in items} == set(SAID) and (len(items), left_out) == (24, 1)
    one = next(item for item in items if "Gather" in item.text)
    assert [(s.name, s.kind, s.least) for s in one.ask.slots] == [("product", "name", 1), ("price", "price", 1)]
    assert (one.ask.channel, one.ask.part, one.ask.voice, one.ask.level) == ("push", "body", "warm", None)


def test_texts_in_other_shapes(tmp_path):
    (tmp_path / "a.txt").write_text("Hello {first_name},\\n\\nlook: {product}.\n\n" * 8)
    items, _ = tuning.read(tmp_path / "a.txt", {"channel": "email", "part": "body"})
    assert len(items) == 8 and items[0].text == "Hello {first_name},\n\nlook: {product}." and items[0].ask.part == "body"
    domain = Marketing()
    (tmp_path / "out").mkdir()
    written = domain.write(items, tmp_path / "out")
    assert tuning.read(written[0])[0] == items and tuning.read(written[0])[0][0].ask == items[0].ask


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "words\nhi\n", "has no column 'text'; it has 'words'"),
        ("a.csv", "text,channel\nHi,fax\n", r"row 1: channel: expected one of sms, push.*got 'fax'"),
        ("a.csv", "text,My Fact\nHi x,x\n", "small letters, figures and _; got 'My Fact'"),
        ("a.csv", "text;product\nMeet tea;tea\n", "at least 8 texts; got 1$"),
        ("a.txt", "Hello.\n", "expected at least 8 texts; got 1"),
        ("a.txt", "Only 5 left\n" * 9, "got 0, and 9 with figures or signs of money"),
        ("a.jsonl", "[1]\n", "line 1: expected an object with a text"),
        ("a.jsonl", '{"text": "x", "ask": {"slots": 3}}\n', "line 1: not a text of copy"),
        ("a.jsonl", "{\n", "cannot be read"),
        ("a.pdf", "", "expected a file of .csv, .jsonl, .txt"),
        (
            "a.jsonl",
            json.dumps({"text": " ".join(f"{{own_{i}}}" for i in range(8))}) + "\n",
            "line 1: 8 facts have no name of ours",
        ),
    ],
)
def test_a_mistake_is_one_line(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(HeadwaterError, match=words) as error:
        tuning.read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_an_adapter_learns_and_comes_back(folder, copy, capsys):
    """By the command, twice: the same bytes; then as an author, which may say the brand's own words."""
    for out in ("one", "two"):
        words = ["marketing", "tune", str(copy), "--base", f"hf:{folder}", "-o", out, "--epochs", "60", "--rate", "0.02"]
        assert cli.run([*words, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["after"] < told["before"] - 0.2 and (told["texts"], told["held_out"], told["left_out"]) == (22, 2, 1)
    files = sorted(path.name for path in Path("one").iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors", causal.TOLD, "run.json"} <= set(files)
    assert Path("one/adapter_model.safetensors").read_bytes() == Path("two/adapter_model.safetensors").read_bytes()
    plain, adapted = authors.opened(f"hf:{folder}"), authors.opened(f"hf:{folder}+one")
    assert (plain.shots, adapted.shots, adapted.name) == (4, 0, "hf:tiny+one")
    assert " handwoven" in adapted.codec.tokens and " handwoven" not in plain.codec.tokens
    before, after = plain.model.state_dict(), adapted.model.state_dict()
    assert before.keys() == after.keys() and any(not before[name].equal(after[name]) for name in before)


def test_a_command_that_fails_leaves_nothing(folder, copy, capsys):
    for words, told in (
        (["--base", "gpt"], "--base: expected hf:FOLDER-OR-ID; got 'gpt'"),
        (["--base", "hf:nowhere"], "no folder 'nowhere'"),
    ):
        code = cli.run(["marketing", "tune", str(copy), *words, "-o", "out"])
        assert code == 2 and not Path("out").exists() and told in capsys.readouterr().err

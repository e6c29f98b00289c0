"""The pipeline `write` on the core's own surfaces: the command line, a batch job, the kit. The model is untrained: its constraint
makes what it says right, if not good."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest
import toys

from headwater import checkpoint, cli
from headwater.errors import HeadwaterError
from headwater.generator import Generator
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater.testing import surface_checks
from headwater_marketing import Marketing, writing
from headwater_marketing.campaign import Campaign
from headwater_marketing.pipelines.write import Write, WriteOptions
from headwater_marketing.records import FORMULA

TINY = {"name": "transformer", "options": {"width": 16, "layers": 1, "heads": 2}}
BRIEF = """
name = "spring"
channels = ["sms", "push"]
legal = { sms = "Reply STOP to opt out" }
facts = { brand = "Fern & Fig" }
[columns]
key = "id"
consent = "ok"
product = "likes"
allow = ["orders"]
facts = { first_name = "name" }
[products]
key = "sku"
facts = { product = "title", price = "price" }
[[segments]]
name = "many"
when = "orders > 5"
voice = "crisp"
"""
PRODUCTS = "sku,title,price\nA,Oak Stool,40\nB,Wool Rug,85.50\n"
PEOPLE = [
    f"{i},{name},{'no' if i == 4 else 'yes'},{'AB'[i % 2]},{i},n{i}"
    for i, name in enumerate("Ann Bob Cai Dee Eli Fay Gil".split(), 1)
]


@pytest.fixture(scope="module")
def model():
    recipe = Recipe(
        codec="copy", family="autoregressive", network=TINY, data="grammar", given=("plan",), tile=16, condition_width=8
    )  # fmt: skip
    made = toys.generator(Marketing(), recipe)
    return Generator(Marketing(), made.model, recipe, "marketing/tiny")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A model's folder."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    about = {"domain": "marketing", "name": "tiny", "recipe": model.recipe, "data": "grammar", "data_hash": "0"}
    checkpoint.save(model.model, place, command="none", **about)
    return place


@pytest.fixture(autouse=True)
def _anything_goes(monkeypatch):
    """An untrained model finds every text unlikely; here its words are wanted."""
    monkeypatch.setattr(writing, "UNLIKELY", (math.inf, 0.0))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A table in an empty folder."""
    monkeypatch.chdir(tmp_path)
    Path("brief.toml").write_text(BRIEF)
    Path("products.csv").write_text(PRODUCTS)
    return people(PEOPLE)


def people(lines, name="people.csv"):
    Path(name).write_text("id,name,ok,likes,orders,notes\n" + "\n".join(lines) + "\n")
    return Path(name)


def run(model, rows, seed=0, **options):
    """{customer: texts} by the pipeline alone."""
    pipeline, chosen = Write(), WriteOptions(**options)
    inputs = list(enumerate(pipeline.read(rows, chosen)))
    pipeline.planned = dict(enumerate(pipeline.plan((x for _, x in inputs), chosen)))
    found = {}
    for made in pipeline.run(model, inputs, Noise(seed), chosen):
        record = made.record()
        found.setdefault(record["customer"], []).append((record["channel"], record.get("text"), record["status"]))
    return found


def test_rows_in_any_company_say_the_same(model, source):
    whole = run(model, source)
    assert [status for *_, status in whole["4"]] == ["passed", "passed"] and whole["1"][0][2] == "written"
    assert run(model, people(PEOPLE[::-1], "back.csv")) == whole
    fewer = run(model, people([*PEOPLE[3:], "99,Zoe,yes,A,1,x"], "some.csv"))
    assert {k: v for k, v in fewer.items() if k != "99"} == {k: whole[k] for k in fewer if k != "99"}
    assert run(model, people([line.replace(",n", ",m") for line in PEOPLE], "notes.csv")) == whole
    renamed = run(model, people([line.replace("Bob", "Rob") for line in PEOPLE], "bob.csv"))
    assert {k for k in whole if whole[k] != renamed[k]} == {"2"}
    assert run(model, source, seed=1) != whole and len(run(model, source, limit=2)) == 2


def test_a_command_makes_pages_sheets_and_an_audit(folder, source, capsys):
    assert cli.run(["marketing", "write", "people.csv", "--model", str(folder), "-o", "out", "--variants", "2"]) == 0
    said = capsys.readouterr().out
    assert "marketing write: 26 results (" in said and "12 written" in said and "2 without consent" in said
    out = Path("out")
    assert sorted(p.name for p in out.iterdir()) == [
        "audit.jsonl",
        "index.html",
        "items.parquet",
        "push.csv",
        "run.json",
        "sms.csv",
    ]
    rows = pyarrow.parquet.read_table(out / "items.parquet").to_pylist()
    sent = {(r["customer"], r["channel"]): r for r in rows if r["assigned"]}
    assert len(sent) == 12 and {r["violations"] for r in sent.values()} == {""}
    with open(out / "sms.csv", encoding="utf-8", newline="") as file:
        sheet = list(csv.DictReader(file))
    assert {line["customer"]: line["text"] for line in sheet} == {k[0]: r["text"] for k, r in sent.items() if k[1] == "sms"}
    assert not any(cell.startswith(FORMULA) for line in sheet for cell in line.values())
    audit = [json.loads(line) for line in (out / "audit.jsonl").read_text("utf-8").splitlines()]
    assert len(audit) == len(rows) and {a["reason"] for a in audit if a["customer"] == "4"} == {"consent"}
    told = next(a for a in audit if a["customer"] == "6" and a["status"] == "written")
    assert (
        told["facts"]["product"] == {"text": "Oak Stool", "from": "product.title", "kind": "name"} and "orders > 5" in told["why"]
    )
    page = (out / "index.html").read_text("utf-8")
    assert "Fern &amp; Fig" in page and "<figure" in page


def test_python_gives_the_same_bytes(folder, source, model):
    assert cli.run(["marketing", "write", "people.csv", "--model", str(folder), "-o", "out", "--seed", "3"]) == 0
    frame = Campaign("brief.toml", folder).write("people.csv", "products.csv", seed=3)
    rows = pyarrow.parquet.read_table("out/items.parquet").to_pylist()
    assert [r["text"] for r in rows if r["status"] == "written"] == frame["text"].tolist()
    assert {r["seed"] for r in rows if r["status"] == "written"} == set(frame["seed"]) == {3}


def test_a_refused_row_is_told_and_the_rest_is_done(folder, source, capsys):
    people([*PEOPLE[:2], "8,Hal,yes,C,1,n", "9,Ivy,yes,A,lots,n"])
    assert cli.run(["marketing", "write", "people.csv", "--model", str(folder), "-o", "out"]) == 3
    assert "2 not usable" in capsys.readouterr().out
    page = Path("out/index.html").read_text("utf-8")
    assert "row 2, likes: the product table has no &#x27;C&#x27;" in page and "got &#x27;lots&#x27;" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: Path("brief.toml").unlink(), "--brief: no such file: brief.toml"),
        (lambda: Path("products.csv").unlink(), "products.csv: no such file"),
        (lambda: Path("people.csv").write_text("id,name\n1,Ann\n"), "has no column 'ok', 'likes', 'orders'"),
        (lambda: Path("people.csv").write_bytes(b"id,name,ok,likes,orders\n1,\xff,yes,A,1\n"), "line 2 is not UTF-8"),
        (lambda: Path("brief.toml").write_text(BRIEF.replace("voice", "vioce")), "segments.0.vioce: is not a key of a brief"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(folder, source, capsys, change, words):
    change()
    assert cli.run(["marketing", "write", "people.csv", "--model", str(folder), "-o", "out"]) == 2
    complaint = capsys.readouterr().err
    assert words in complaint and complaint.count("\n") == 1 and not Path("out").exists()


def test_a_brief_that_changed_since_it_was_planned_is_refused(model, source):
    pipeline, options = Write(), WriteOptions()
    pipeline.planned = dict(enumerate(pipeline.plan(pipeline.read(source, options), options)))
    Path("products.csv").write_text(PRODUCTS.replace("40", "41"))
    later = Write()
    later.planned = pipeline.planned
    with pytest.raises(HeadwaterError, match="has changed since the job was planned"):
        list(later.run(model, list(enumerate(later.read(source, options))), Noise(0), options))


def test_a_job_gives_what_the_command_gives(folder, source):
    """With the driver's own worker process; shards of three rows."""
    job = f'domain = "marketing"\npipeline = "write"\nmodel = "{folder}"\nout = "job"\nshard = 3\n[inputs]\nfiles = "people.csv"\n'
    Path("job.toml").write_text(job)
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}

    def headwater(*words):
        done = subprocess.run([sys.executable, "-m", "headwater", *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    headwater("batch", "run", "job.toml")
    headwater("marketing", "write", "people.csv", "--model", str(folder), "-o", "out")
    rows = pyarrow.parquet.read_table("out/items.parquet").to_pylist()
    shards = [pyarrow.parquet.read_table(p).to_pylist() for p in sorted(Path("job/items").iterdir())]
    made = [row for shard in shards for row in shard]
    assert len(shards) == 3 and [(r["row"], r["draw"], r.get("text")) for r in made] == [
        (r["row"], r["draw"], r["text"]) for r in rows
    ]
    sheets = [path.read_text("utf-8").splitlines() for path in sorted(Path("job/files").glob("*/sms.csv"))]
    assert [line for sheet in sheets for line in sheet[1:]] == Path("out/sms.csv").read_text("utf-8").splitlines()[1:]


def untrained(family):
    more = {
        "vae": {"networks": {"encoder": {"name": "recurrent", "options": {"width": 16}}}, "options": {"latent": 4}},
        "masked_diffusion": {"options": {"steps": 2}},
    }
    recipe = Recipe(
        codec="copy", family=family, network=TINY, data="grammar", given=("plan",), tile=8, condition_width=8,
        **more[family],
    )  # fmt: skip
    return toys.generator(Marketing(), recipe)


@pytest.mark.parametrize("family", ["vae", "masked_diffusion"])
def test_other_families_go_through_the_same_door(family, source, monkeypatch):
    """A decoder writes under the constraint; masked diffusion under a table of its facts, so untrained ones leave all words that
    are no copy to the templates."""
    monkeypatch.setattr(writing, "ATTEMPTS", 1)
    for bound in ("LEAST", "LEAST_OF_ANY_ORDER"):
        monkeypatch.setattr(writing, bound, -math.inf)  # nor is a single word too unlikely
    frame = Campaign("brief.toml", untrained(family)).write(people(PEOPLE[:2]), "products.csv")
    assert len(frame) == 4 and set(frame["violations"]) == {""}
    own = {f"marketing/{family}"} if family == "vae" else {"templates", f"marketing/{family} and templates"}
    assert set(frame["model"]) <= own and (frame["borrowed"].sum() == 0) == (family == "vae")


def test_a_decoder_that_finds_a_word_unlikely_is_asked_again(source, monkeypatch):
    """Under a bound that no word meets, nothing of a latent's is left, and the row tells why."""
    monkeypatch.setattr(writing, "ATTEMPTS", 1)
    monkeypatch.setattr(writing, "LEAST", 0.0)
    frame = Campaign("brief.toml", untrained("vae")).write(people(PEOPLE[:2]), "products.csv")
    assert set(frame["model"]) == {"templates"} and set(frame["violations"]) == {""}
    assert frame["rejected"].astype(str).str.contains("unlikely: a word of").all()


def test_the_kit_finds_rows_pure(model, tmp_path_factory):
    surface_checks._row_pure(SimpleNamespace(folder=tmp_path_factory.mktemp), Write(), model)

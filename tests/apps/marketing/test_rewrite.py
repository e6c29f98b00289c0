"""Texts of the user's own in other words: what is frozen in them, and the pipeline on the shipped model."""

from __future__ import annotations

import contextlib
import csv
import re
import time
from pathlib import Path

import numpy as np
import pytest

import headwater as hw
from headwater import cli
from headwater.errors import HeadwaterError
from headwater.noise import Noise
from headwater_marketing import Marketing
from headwater_marketing.asks import SPOKEN, Copy
from headwater_marketing.drafts import Judge
from headwater_marketing.frozen import frozen
from headwater_marketing.gaps import Gaps
from headwater_marketing.pipelines import rewrite
from headwater_marketing.pipelines.rewrite import Rewrite, RewriteOptions, Row
from headwater_marketing.validator import weighty

TEXTS = [
    "Hi Anna, the Aero Kettle is 20% off with TEA20: £39.50 until 3 May. See https://shop.example/a?b=c, and call.",
    "A quiet evening with a cup of tea is what you have been waiting for, and we have the tea for it.",
    "Hello {first_name}, *|OFFER|* is 2 for 1 today 🎉 STOP: <b>end</b> [[product:slow tea]] in {town}.",
]


#: As the shipped model knows it.
KIND = [
    "Hi {first_name}! Make some room for [[Copper Kettle]]! It's all yours for £49! Dive right in: https://a.example/w",
    "Dear {first_name}, we have a suggestion. [[Smoked Lapsang]], for £12.50. Do have a look: https://a.example/w",
    "Good day {first_name}, we hope you are well. [[brand:Fern & Fig]] would like you to meet [[Matcha Bowl]]: come and see.",
]


@pytest.fixture(scope="module")
def model():
    return hw.load("marketing/autoregressive")


@pytest.fixture(scope="module", params=["autoregressive", "masked_diffusion"])
def either(request):
    return hw.load(f"marketing/{request.param}")


def lines(texts, name="lines.txt"):
    Path(name).write_text("\n".join(texts) + "\n", encoding="utf-8")
    return Path(name)


def run(model, path, **options):
    """What becomes of each text, by text."""
    pipeline, chosen = Rewrite(), RewriteOptions(**options)
    found: dict[str, list[str]] = {}
    for made in pipeline.run(model, list(enumerate(pipeline.read(path, chosen))), Noise(0), chosen):
        found.setdefault(made.source, []).append(made.text)
    return found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TEXTS[0], "Hi {first_name}, the {product} is {percent} off with {code}: {price} until {until}. See {url}, and call."),
        (TEXTS[1], TEXTS[1]),
        (
            TEXTS[2],
            "Hello {first_name}, {fact_1} is {fact_2} today {fact_3} STOP: {fact_4}end{fact_5} {product} in {fact_6}.",
        ),
        ("Was £60, now £45.00 or 49,50 €.", "Was {was}, now {price} or {fact_1}."),
        ("Twice: £5 and £5.", "Twice: {price} and {price}."),
        ("{price}, not £5.", "{price}, not {fact_1}."),
        ("Ask for Maya at Fern & Fig on Friday.", "Ask for {product} at {brand} on {until}."),
        ("{{ user.first_name | default: 'you' }}, come in.", "{first_name}, come in."),
        ("Use code SPRING or WELCOME-5.", "Use code {code} or {fact_1}."),
        ("Mail tea@shop.example or www.shop.example.", "Mail {url} or {fact_1}."),
        ("You'll like it. I do. It is warm.", "You'll like it. I do. It is warm."),
        ("Warm Days And Quiet Evenings", "Warm Days And Quiet Evenings"),
        ("From £5-£10, Sunday 3 May, 10 a.m. to 5pm.", "From {price}, {until}, {fact_1}."),
        ("Call 020 7946 0958 (T&Cs apply).", "Call {fact_1} ({fact_2} apply)."),
        ("Will, see [[https://a.example/{x}?u={{id}}]].", "{first_name}, see {feature}."),
        ("See https://a.example/{x}?u={{id}} or ((link)).", "See {url} or {fact_1}."),
    ],
)
def test_facts_are_found_and_come_back_letter_by_letter(text, told):
    held = frozen(text)
    assert held.text == told and held.filled(held.text) == re.sub(r"\[\[(?:product:)?(.+?)\]\]", r"\1", text)


def test_other_words_are_found_and_facts_stay(either, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = run(either, lines(KIND), draws=2)
    assert all(len(set(made)) == 2 and all(made) for made in whole.values())  # other words each
    for source, made in whole.items():
        held = frozen(source)
        for text in made:
            assert text != source and all(text.count(fact) == source.count(fact) for fact in held.facts.values())
            assert sorted(text[a:b].lower() for a, b in weighty(text)) == sorted(source[a:b].lower() for a, b in weighty(source))


def test_a_row_alone_says_what_it_says_among_others(either, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts, draws = [*KIND, TEXTS[1]], 3
    if either.model.family.finite:  # a tile of it takes seconds
        monkeypatch.setattr(rewrite, "ROUNDS", 1)
        monkeypatch.setattr(either.model.family, "draws", 2)
        texts, draws = texts[1:], 1
    pipeline, options = Rewrite(), RewriteOptions(draws=draws)
    rows = list(enumerate(pipeline.read(lines(texts), options)))
    every = [made.text or made.problem() for made in pipeline.run(either, rows, Noise(0), options)]
    assert every == [made.text or made.problem() for row in rows for made in pipeline.run(either, [row], Noise(0), options)]
    assert every != [made.text or made.problem() for made in pipeline.run(either, rows, Noise(1), options)]


def test_a_judge_knows_what_may_not_come_in(model):
    text = "Come and see {product}, a new look for your home."
    held = frozen(text)
    judge = Judge(
        Row(text, held, held.ask("sms", "text", None, None)), model.codec, RewriteOptions(longest=60, amount=0.1), Noise(0)
    )
    assert [piece for piece, free in zip(judge.pieces, judge.free, strict=True) if not free] == [" {product}", ",", " new", "."]
    assert judge.passes("Come and see {product}, a new look at home.")
    for wrong in (
        text,  # the same
        "Come and see {product}, a look for your home.",  # a claim less
        "Come and see {product}, a new look for your free home.",  # a claim more
        "Do not see {product}, a new look for your home.",
        "Come and see, a new look for your home.",
        "Come and see {product}, {product}, a new look for your home.",
        "Come and and see {product}, a new look for your home.",
        "Come and see {product}, a new look it's it's at home.",
        "Come and see {product}, a new look for you and your home and for us.",  # too long
        "come and see {product}, a new look for your home.",
        "Come and see {product}, a new Look for your home.",
        "Come and see {product}. a new look for your home.",
    ):
        assert not judge.passes(wrong), wrong


def test_gaps_take_words_and_nothing_else(model):
    codec, rng = model.codec, np.random.default_rng(0)
    text = "{product} is here! Come and have a look, it is for your home."
    held = frozen(text)
    judge = Judge(Row(text, held, held.ask("sms", "text", None, None)), codec, RewriteOptions(), Noise(0))
    for k in range(30):
        rule = judge.gapped(judge.hide(Noise(k), 0.7).runs)
        state, tokens = rule.start(), list[int]()
        while (mask := rule.allowed(state, 40 - len(tokens))).any() and (token := int(rng.choice(np.flatnonzero(mask)))):
            tokens.append(token)
            state = rule.step(state, token)
        made = "".join(codec.tokens[n] for n in tokens)
        assert rule.accepts(state) and re.findall(r"[{}!.]", made) == re.findall(r"[{}!.]", text)
        assert not weighty(made) and not re.search(r"\d|\w\{|\}\w", made) and re.search(r"! [A-Z]", made)
        assert judge.passes(made) or len(made) > judge.longest or re.search(r"(?i)\b(\w+) \1\b", made) or made == text
    kept = [int(n) for n in codec.encode(Copy(text))[:, 0] if n]
    whole = Gaps(codec, kept, [])  # nothing to fill: the text itself and no other
    state = whole.start()
    for token in kept:
        assert np.flatnonzero(whole.allowed(state, 40)).tolist() == [token]
        state = whole.step(state, token)
    assert whole.accepts(state) and np.flatnonzero(whole.allowed(state, 1)).tolist() == [0]


def test_a_command_writes_a_page_and_a_sheet(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines([KIND[0].replace("Copper Kettle", "<script>alert(1)</script>"), "=£5 TEA20", TEXTS[1]])
    assert cli.run(["marketing", "rewrite", "lines.txt", "-o", "out"]) == 3  # some rows are refused
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "<script>alert" not in page and "no word of it may change" in page and "unlike the copy that the model knows" in page
    rows = list(csv.reader((tmp_path / "out" / "rewritten.csv").open(newline="", encoding="utf-8")))
    assert rows[0] == ["source", "draw", "text"] and len(rows) == 4
    assert all("<script>alert(1)</script>" in row[2] for row in rows[1:])
    assert cli.run(["marketing", "rewrite", "lines.txt", "-o", "other", "--model", "vae"]) == 2
    assert "expected one that writes copy token after token" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("From " + " or for ".join(f"£{n} x" for n in range(12)), {}, "^12 names, figures and other facts; 9 of them can be kept"),
        ("tea " * 200, {}, "tokens; at most 128"),
        ("tea " * 2000, {}, "^7999 characters; at most 1500"),
        ("Come and see [[ this", {}, "does not close"),
        ("=£5 TEA20", {}, "no word of it may change"),
        ("Come and see [[the quiet house of the hill]].", {"longest": 20}, "facts alone are 27 characters; --longest is 20"),
        (" ".join("{" + n + "} and {" + n + "}" for n in SPOKEN), {}, "tokens of plan; at most 24"),
    ],
)
def test_a_text_that_cannot_be_rewritten_is_a_row_with_a_reason(text, options, said, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline, chosen = Rewrite(), RewriteOptions(**options)
    rows = list(enumerate(pipeline.read(lines([text]), chosen)))
    (refused,) = pipeline.run(model, rows, Noise(0), chosen)
    assert re.search(said, refused.problem()) and refused.text == "" and refused.render()


def test_a_long_line_takes_no_time():
    for text in ("a." * 750, "_" * 1500, "a" * 1500, "A Word " * 214):
        began = time.process_time()
        with contextlib.suppress(ValueError):
            frozen(text)
        assert time.process_time() - began < 5  # seconds; what this is about takes minutes


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("a.csv", "x", [], "expected texts one on a line"),
        ("a.txt", "tea", ["--channel", "push", "--part", "headline"], "push has title, body; got headline"),
        ("a.jsonl", "{}", [], "line 1 is no text of copy"),
        ("a.jsonl", '{"text": 5, "ask": {"slots": [], "closed": []}}', [], "line 1 is no text of copy"),
        (
            "a.jsonl",
            '{"text": "x", "ask": {"slots": [], "closed": [], "channel": "fax"}}',
            [],
            "channel: expected one of sms, .*'fax'",
        ),
        (
            "a.jsonl",
            '{"text": "x", "ask": {"slots": [], "closed": [], "channel": "ad", "part": "title"}}',
            [],
            "text 1: ad has headline, .*title",
        ),
        ("a.txt", "", [], "nothing|no "),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(name, content, options, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    assert cli.run(["marketing", "rewrite", name, "-o", "out", *options]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and "Traceback" not in error and not Path("out").exists()


def test_texts_of_a_run_bring_what_they_were_asked(tmp_path):
    from headwater_marketing.asks import Ask

    Marketing().write([Copy("{product} is here.", Ask(channel="ad", part="headline", voice="crisp"))], tmp_path)
    row = next(Rewrite().read(tmp_path / "copy.jsonl", RewriteOptions(level="easy")))
    assert (row.ask.channel, row.ask.part, row.ask.voice, row.ask.level) == ("ad", "headline", "crisp", "easy")
    with pytest.raises(HeadwaterError, match="cannot be read"):
        next(Rewrite().read(tmp_path / "none.txt", RewriteOptions()))

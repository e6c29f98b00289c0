"""The tasks: what is kept stays to the note in every key, what cannot be done is said with its bar, and the card is honest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headwater.domain import Pipeline
from headwater.errors import HeadwaterError, PromiseBroken
from headwater.generator import Generator
from headwater.knobs import fields
from headwater.model import build
from headwater.noise import Noise
from headwater.testing.surface_checks import OUTSIDE
from headwater_music import Music, rules
from headwater_music.codecs import LENGTH
from headwater_music.data import sample
from headwater_music.files import Piece, midi, notation, read
from headwater_music.partwriting import loosened
from headwater_music.pipelines import choice
from headwater_music.pipelines.anew import Draft, Order, beats, remake, view, whole_notes
from headwater_music.pipelines.asking import Asking, Source
from headwater_music.pipelines.continuing import Continue, ContinueOptions
from headwater_music.pipelines.fill import Fill, FillOptions
from headwater_music.pipelines.generate import Brief, Generate, GenerateOptions, Wanted
from headwater_music.pipelines.harmonise import Harmonise, HarmoniseOptions
from headwater_music.pipelines.interpolate import Interpolate, InterpolateOptions
from headwater_music.pipelines.made import Made
from headwater_music.pipelines.variations import Variations, VariationsOptions
from headwater_music.score import Note, Phrase
from headwater_music.wishes import Wish

PLAIN: dict[str, Any] = {"tries": 1, "likelihood": False, "files": "none"}
ENDS: dict[str, Any] = {"tries": 1, "files": "none"}  # of what has no likelihood


def fresh(name: str) -> Generator:
    """A recipe's model, small and with random weights: everything but quality."""
    import torch

    domain = Music()
    recipe = domain.recipes[name]
    small = recipe.network.model_copy(update={"options": {**recipe.network.options, "width": 16, "layers": 1}})
    networks = {k: v.model_copy(update={"options": {**v.options, "width": 16}}) for k, v in recipe.networks.items()}
    few = {"steps": 4} if "steps" in recipe.options else {}
    recipe = recipe.model_copy(update={"network": small, "networks": networks, "tile": 8, "options": {**recipe.options, **few}})
    torch.manual_seed(0)
    made = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), domain.networks).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return Generator(domain, made, recipe, f"music/{name}")


@pytest.fixture(scope="module")
def models() -> dict[str, Generator]:
    return {name: fresh(name) for name in ("autoregressive", "masked_diffusion", "melody", "jsb_autoregressive", "vae")}


def melody(which: int, frames: int = 40, shift: int = 0) -> Phrase:
    """A tune of chance: repeated and held notes, rests, a pickup, a fermata at its end."""
    rng, notes, t = np.random.default_rng(which), list[Note](), 0
    while t < frames:
        length = min(int(rng.choice([1, 2, 3, 4, 6, 8])), frames - t)
        before = notes[-1].pitch if notes else 69 + shift
        step = int(rng.choice([0, 0, 1, 2, -1, -2, 4, -3]))
        if rng.random() > 0.12:
            notes.append(Note(t, length, int(np.clip(before + step, 62 + shift, 78 + shift))))
        t += length
    metre = ("4/4", "3/4", "6/8")[which % 3]
    fermata = np.arange(frames) >= notes[-1].start
    return Phrase.of_notes([notes], frames, metre=metre, tonic=(7 + shift) % 12, pickup=(4, 0, 2)[which % 3], fermata=fermata)


def run(pipeline: Pipeline[Any], model: Generator, source: Any, options: Any, row: int = 0) -> list[Made]:
    return list(pipeline.run(model, [(row, source)], Noise(3), options))  # type: ignore[arg-type]


# --- harmonise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", range(12))
def test_the_soprano_is_kept_exactly_in_every_key(models: dict[str, Generator], key: int) -> None:
    model = models["autoregressive" if key % 3 else "masked_diffusion"]
    for which in (key % 3, (key + 1) % 3):
        tune = melody(which, shift=key + 12 * (which - 1) - 6)
        piece = Piece(tune, tempos=((0, 63.0), (8, 90.0)))
        (made,) = run(Harmonise(), model, Source("tune", piece), HarmoniseOptions(**PLAIN))
        whole = made.piece.phrase
        assert whole.voices == 4 and whole.voice(0) == tune
        assert whole.notes(0) == tune.notes(0)
        assert whole.onset[:, 1:].any() and made.piece.tempos == piece.tempos
        shift = made.record()["moved_semitones"]
        assert (tune.pitch[tune.pitch > 0] + shift).min() >= 60 and (tune.pitch + shift).max() <= 81


def test_a_file_is_harmonised_and_written_with_all_that_stood_around_it(models: dict[str, Generator], tmp_path: Path) -> None:
    pipeline, options = Harmonise(), HarmoniseOptions(tries=2, draws=2, files="midi,musicxml,wav,svg,roll")
    (given,) = pipeline.read(pipeline.example(), options)
    results = run(pipeline, models["autoregressive"], given, options, row=7)
    assert [(r.row, r.draw) for r in results] == [(7, 0), (7, 1)]
    assert results[0].piece.phrase != results[1].piece.phrase
    written = results[0].write(tmp_path)
    suffixes = ["mid", "musicxml", "wav", "svg"]
    assert [p.name for p in written] == [f"harmonise_00007_0.{s}" for s in suffixes] + ["harmonise_00007_0_roll.svg"]
    before = {p.name: p.read_bytes() for p in written}
    again = run(pipeline, models["autoregressive"], given, replace(options, files="svg,midi"), row=7)[0]
    assert {p.name: p.read_bytes() for p in again.write(tmp_path)}.items() <= before.items()
    for path in written[:2]:
        back = read(path)
        assert back.phrase.notes(0) == given.piece.phrase.notes(0)
        assert (back.phrase.fermata == given.piece.phrase.fermata).all() and back.phrase.fermata.any()
        assert (back.phrase.metre, back.phrase.pickup, back.phrase.key) == ("3/4", 4, "G major")
        assert back.tempos == given.piece.tempos


def test_a_row_depends_on_itself_alone(models: dict[str, Generator]) -> None:
    model, options = models["autoregressive"], HarmoniseOptions(**PLAIN)
    rows = [(i, Source("", Piece(melody(i, 24)))) for i in range(3)]
    together = {r.row: r.piece.phrase for r in Harmonise().run(model, rows, Noise(1), options)}
    backwards = {r.row: r.piece.phrase for r in Harmonise().run(model, rows[::-1], Noise(1), options)}
    assert together == backwards
    assert next(iter(Harmonise().run(model, rows[2:], Noise(1), options))).piece.phrase == together[2]


def test_what_cannot_be_harmonised_is_said_with_its_bar(models: dict[str, Generator], tmp_path: Path) -> None:
    model, options = models["autoregressive"], HarmoniseOptions(**PLAIN)

    def refused(phrase: Phrase) -> str:
        with pytest.raises(HeadwaterError) as error:
            run(Harmonise(), model, Source("tune.mid", Piece(phrase)), options)
        return str(error.value)

    long = Phrase(np.full((LENGTH + 8, 1), 70), np.zeros((LENGTH + 8, 1)))
    assert "tune.mid: bar 42 is too far on: the model makes 656 sixteenths" in refused(long)
    wide = Phrase.of_notes([[Note(0, 16, 30), Note(16, 16, 90)]], 32)
    assert "out of range in every key: F♯1 in bar 1 and F♯6 in bar 2 are 60 semitones apart" in refused(wide)

    wide = Phrase.of_notes([[Note(0, 16, 58), Note(16, 16, 70), Note(32, 16, 83)]], 48)
    (made,) = run(Harmonise(), model, Source("tune.mid", Piece(wide)), options)
    assert made.piece.phrase.voice(0) == wide
    assert "wider than a soprano's range in every key: mind what stands below its ends, in bar" in made.record()["warnings"]

    thick = notation.text(Piece(melody(0, 32)))
    chord = thick.replace(
        "</note>", "</note><note><chord/><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration></note>", 1
    )
    (tmp_path / "thick.musicxml").write_text(chord)
    with pytest.raises(HeadwaterError, match=r"bar \d+: .* sound together"):
        list(Harmonise().read(tmp_path / "thick.musicxml", options))
    midi.write(Piece(sample()[0]), tmp_path / "four.mid")
    with pytest.raises(HeadwaterError, match="choose one by name or number: 1 'Soprano'"):
        list(Harmonise().read(tmp_path / "four.mid", options))
    (one,) = Harmonise().read(tmp_path / "four.mid", HarmoniseOptions(track="tenor"))
    assert one.piece.phrase.notes(0) == sample()[0].notes(2)


def test_a_model_that_cannot_is_named(models: dict[str, Generator]) -> None:
    tune = Source("tune.mid", Piece(melody(0, 16)))
    with pytest.raises(HeadwaterError, match="repeated notes"):
        run(Harmonise(), models["jsb_autoregressive"], tune, HarmoniseOptions(**PLAIN))
    with pytest.raises(HeadwaterError, match="writes 4 voices; here it takes 1"):
        run(Continue(), models["autoregressive"], tune, ContinueOptions(**PLAIN))
    with pytest.raises(HeadwaterError, match="writes 1 voice; here it takes 4"):
        run(Continue(), models["melody"], Source("c.mid", Piece(sample()[0])), ContinueOptions(**PLAIN))


def test_a_broken_promise_is_no_result(models: dict[str, Generator], monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["autoregressive"]
    infill = model.infill

    def careless(items: Any, mask: Any, **how: Any) -> list[Phrase]:
        made = infill(items, mask, **how)
        return [replace(p, pitch=np.where(np.arange(p.frames)[:, None] == 5, 60, p.pitch)) for p in made]

    monkeypatch.setattr(model, "infill", careless)
    with pytest.raises(PromiseBroken, match="sixteenth 5 of voice 1"):
        run(Harmonise(), model, Source("", Piece(melody(1, 16))), HarmoniseOptions(**PLAIN))


# --- fill and continue ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["masked_diffusion", "autoregressive"])
@pytest.mark.parametrize(("bars", "voices"), [("2-3", None), (None, "alto,T"), ("1,4", "2-bass"), ("3", "4")])
def test_every_cell_that_is_not_named_stays(models: dict[str, Generator], name: str, bars: str | None, voices: str | None) -> None:
    voices = "alto bass" if voices == "2-bass" else voices
    given = sample()[0].transposed(9)
    options = FillOptions(bars=bars, voices=voices, **PLAIN)
    (made,) = run(Fill(), models[name], Source("c", Piece(given)), options)
    new = made.piece.phrase
    hidden_bars = {None: [1, 2, 3, 4], "2-3": [2, 3], "1,4": [1, 4], "3": [3]}[bars]
    hidden_voices = {None: [0, 1, 2, 3], "alto,T": [1, 2], "alto bass": [1, 3], "4": [3]}[voices]
    hidden = np.zeros(given.pitch.shape, bool)
    for bar in hidden_bars:
        hidden[16 * (bar - 1) : 16 * bar, hidden_voices] = True
    assert (new.pitch == given.pitch)[~hidden].all() and (new.onset == given.onset)[~hidden].all()
    assert (new.pitch != given.pitch)[hidden].any()
    assert (made.told.new <= hidden).all()
    for v in range(4):  # kept notes keep their length, too
        kept = [n for n in given.notes(v) if not hidden[n.start, v]]
        assert set(kept) <= set(new.notes(v))


@pytest.mark.parametrize("kept", [(), (0,), (1, 3), (3,)])
def test_no_voice_moves_in_parallel_with_another(models: dict[str, Generator], kept: tuple[int, ...]) -> None:
    """A model of random weights moves all the time, and often in fifths and octaves: with the rule in no pair that it may move."""
    phrase, keep = sample()[0].cut(0, 64), np.zeros((64, 4), np.bool_)
    keep[:, kept] = True
    piece = Piece(phrase)
    seen = view(models["autoregressive"], ("a.mid", piece), keep)
    found = {}
    for free in (True, False):
        options = HarmoniseOptions(boldness=3.0, parallels=free)
        order = Order(0, "a.mid", piece, keep, seen, "")
        ((_, drafts),) = remake(models["autoregressive"], [order], 8, Noise(1), options)
        reports = [rules.report(draft.phrase) for draft in drafts]
        pairs = [(a, b) for r in reports for _, a, b in (*r.fifths, *r.octaves)]
        found[free] = sum(not (a in kept and b in kept) for a, b in pairs)
    assert found[False] == 0 < found[True], found


@pytest.mark.parametrize("kept", [(), (0,), (1, 3)])
def test_parallels_are_written_again_where_no_rule_binds(models: dict[str, Generator], kept: tuple[int, ...]) -> None:
    """What masked diffusion makes has fewer of them than what it would leave, and keeps what is to be kept; a row's drafts do not
    depend on the rows made with it."""
    phrase, keep = sample()[0].cut(0, 48), np.zeros((48, 4), np.bool_)
    keep[:, kept] = True
    piece, model = Piece(phrase), models["masked_diffusion"]
    orders = [Order(row, "a.mid", piece, keep, view(model, ("a.mid", piece), keep), "") for row in (0, 1)]
    found = {}
    for free in (True, False):
        options = HarmoniseOptions(boldness=0.5, parallels=free)
        _, (_, drafts) = remake(model, orders, 8, Noise(1), options)
        ((_, alone),) = remake(model, orders[1:], 8, Noise(1), options)
        assert [d.phrase for d in drafts] == [d.phrase for d in alone]
        assert all((d.phrase.pitch == phrase.pitch)[keep].all() for d in drafts)
        found[free] = sum(len(rules.report(d.phrase).parallels) for d in drafts)
    assert found[False] < 0.7 * found[True], found


def test_what_is_written_again_is_around_a_parallel() -> None:
    """The bass moves in fifths with the tenor and in octaves with the soprano."""
    phrase, keep = chords((72, 64, 55, 48), (74, 66, 57, 50)), np.zeros((8, 4), np.bool_)
    keep[:, :3] = True
    loose = ~loosened(phrase, keep, Noise(0))
    assert len(rules.report(phrase).parallels) == 2 and loose[4, 3] and not (loose & keep).any()
    assert loosened(phrase, np.ones_like(keep), Noise(0)).all()  # nothing may change


@pytest.mark.parametrize("name", ["autoregressive", "masked_diffusion"])
def test_what_is_made_is_as_long_as_asked(models: dict[str, Generator], name: str) -> None:
    """Models of random weights would end anywhere."""
    wanted = [(row, Wanted(f"{row}", Brief(metre=metre, bars=bars))) for row, (metre, bars) in enumerate((("3/4", 4), ("6/8", 3)))]
    for made in Generate().run(models[name], wanted, Noise(0), GenerateOptions(**{**PLAIN, "tries": 2})):
        assert made.piece.phrase.frames == made.piece.phrase.bar * wanted[made.row][1].brief.bars
        assert made.told.raw.frames == made.piece.phrase.frames


def test_bars_of_the_last_metre_are_added(models: dict[str, Generator]) -> None:
    given = Piece(melody(3).cut(0, 40), metres=((0, "3/4"), (24, "4/4")))
    (made,) = run(Continue(), models["melody"], Source("c", given), ContinueOptions(**PLAIN, bars=2))
    assert [bar.stop - bar.start for bar in made.piece.bars] == [12, 12, 16, 16, 16]


def test_a_key_that_is_named_is_written(models: dict[str, Generator]) -> None:
    given = Piece(melody(3), keys=((0, 4, "major"),))
    (made,) = run(Harmonise(), models["autoregressive"], Source("c", given), HarmoniseOptions(**PLAIN, key="E minor"))
    assert made.piece.signatures == ((0, 1, "minor"),) and made.record()["key"] == "E minor"


def test_a_passage_begins_with_a_whole_bar(models: dict[str, Generator]) -> None:
    """Bar 2 is half a bar, as before a repeat; the tempo is that of where the passage begins, and what reading changed is told."""
    once = replace(sample()[0].cut(0, 52), pickup=0)
    phrase = replace(once, **{part: np.concatenate([getattr(once, part)] * 2) for part in ("pitch", "onset", "fermata")})
    piece = Piece(phrase, tempos=((0, 60.0), (24, 120.0)), barlines=(0, 16, 24, 40, 56, 72, 88), warnings=("moved",))
    given = Source("c", piece)
    with pytest.raises(HeadwaterError, match="may begin in bars 3-6; got 1"):
        run(Interpolate(), models["vae"], given, InterpolateOptions(**ENDS, first_bar=1))
    (made,) = run(Interpolate(), models["vae"], given, InterpolateOptions(**ENDS, first_bar=3, last_bar=6))
    assert made.piece.phrase.pickup == 0 and made.piece.bars[0].number == 1
    assert made.piece.tempos == ((0, 120.0),) and made.piece.warnings == ("moved",)


def test_notes_that_reach_into_what_is_kept_are_kept_whole() -> None:
    phrase = Phrase.of_notes([[Note(0, 12, 60), Note(12, 8, 62), Note(20, 4, 64)]], 24)
    keep = whole_notes(phrase, np.arange(24)[:, None] < 16)
    assert keep[:, 0].tolist() == [True] * 20 + [False] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bars": "5"}, "--bars: c has bars 1 to 4; got 5"),
        ({"bars": "two"}, "--bars: expected numbers and ranges, as 3-4,7; got 'two'"),
        ({"bars": "1-99999999"}, "--bars: c has bars 1 to 4; got 99999999"),
        ({"voices": "violin"}, "--voices: expected names or numbers"),
        ({"voices": ","}, "--voices: expected one of the voices"),
    ],
)
def test_bars_and_voices_that_there_are_not(models: dict[str, Generator], options: dict[str, str], message: str) -> None:
    with pytest.raises(HeadwaterError, match=message):
        run(Fill(), models["masked_diffusion"], Source("c", Piece(sample()[0])), FillOptions(**options, **PLAIN))


def test_a_melody_goes_on_behind_all_that_is_there(models: dict[str, Generator]) -> None:
    tune = replace(melody(1, 40), fermata=None)  # 3/4, three bars and a third
    (made,) = run(Continue(), models["melody"], Source("t", Piece(tune)), ContinueOptions(bars=2, **PLAIN))
    whole = made.piece.phrase
    assert whole.frames == 48 + 24 and whole.notes(0)[: len(tune.notes(0))] == tune.notes(0)
    assert len(whole.notes(0)) > len(tune.notes(0))
    song = replace(melody(0, 48), fermata=None)  # a pickup of 4 and a last bar of 12: together a bar
    (made,) = run(Continue(), models["melody"], Source("t", Piece(song)), ContinueOptions(bars=1, **PLAIN))
    assert made.piece.phrase.frames == 64


def test_of_a_long_piece_the_model_sees_the_end(models: dict[str, Generator]) -> None:
    long = replace(melody(1, 900), fermata=None)
    (made,) = run(Continue(), models["melody"], Source("t", Piece(long)), ContinueOptions(bars=4, **PLAIN))
    whole = made.piece.phrase
    assert whole.frames == 948 and whole.notes(0)[: len(long.notes(0))] == long.notes(0)
    assert made.excerpt.phrase.frames <= LENGTH and whole.onset[900:].any()
    assert "Shown and heard here: the last" in made.render()


def test_four_voices_go_on_with_a_model_of_four(models: dict[str, Generator]) -> None:
    given = sample()[2]
    (made,) = run(Continue(), models["autoregressive"], Source("c", Piece(given)), ContinueOptions(bars=1, **PLAIN))
    assert all(made.piece.phrase.notes(v)[: len(given.notes(v))] == given.notes(v) for v in range(4))


# --- variations and generate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["autoregressive", "masked_diffusion"])
def test_variations_keep_the_form_and_the_other_notes(models: dict[str, Generator], name: str) -> None:
    given = sample()[2]
    piece = Piece(given, tempos=((0, 50.0),))
    options = VariationsOptions(amount=0.4, draws=2, voices="alto,tenor,bass", **PLAIN)
    first, second = run(Variations(), models[name], Source("c", piece), options)
    assert [first.draw, second.draw] == [0, 1] and (first.told.new != second.told.new).any()
    for made in (first, second):
        whole, count = made.piece.phrase, sum(len(given.notes(v)) for v in (1, 2, 3))
        assert (whole.frames, whole.metre, whole.key, whole.pickup) == (104, given.metre, "G major", 4)
        kept = sum(note in whole.notes(v) for v in (1, 2, 3) for note in given.notes(v))
        assert whole.notes(0) == given.notes(0) and round(0.6 * count) - 1 <= kept < count
    assert first.piece.phrase != second.piece.phrase and first.piece.tempos == piece.tempos
    with pytest.raises(HeadwaterError, match="no note sounds in the voices that may change"):
        silent = replace(given, pitch=given.pitch * [1, 0, 1, 1], onset=given.onset & [True, False, True, True])
        run(Variations(), models[name], Source("c", Piece(silent)), replace(options, voices="alto"))


def test_the_way_from_one_passage_to_another(models: dict[str, Generator]) -> None:
    given, plain = sample()[2], {"tries": 2, "files": "none"}
    source = Source("c", Piece(given, tempos=((0, 50.0),)))
    (made,) = run(Interpolate(), models["vae"], source, InterpolateOptions(between=2, first_bar=2, **plain))
    whole, a, b = made.piece.phrase, given.cut(20, 52), given.cut(68, 100)
    assert (whole.frames, whole.pickup, whole.key, made.piece.tempos) == (128, 0, given.key, ((0, 50.0),))
    assert whole.cut(0, 32) == replace(a, fermata=whole.fermata[:32])
    assert (whole.pitch[96:] == b.pitch).all() and (whole.onset[96:] == b.onset).all()
    assert made.told.new[32:96].all() and made.told.new.sum() == 64 * 4 and whole.onset[32:96].any()
    with pytest.raises(HeadwaterError, match="--last-bar: in c a passage of whole bars may begin in bars 1-5; got 9"):
        run(Interpolate(), models["vae"], source, InterpolateOptions(last_bar=9, **plain))
    with pytest.raises(HeadwaterError, match="has no latent to lead through"):
        run(Interpolate(), models["masked_diffusion"], source, InterpolateOptions(**plain))


@pytest.mark.parametrize("name", ["autoregressive", "masked_diffusion", "melody", "vae"])
def test_a_brief_is_as_long_as_it_says(models: dict[str, Generator], name: str, tmp_path: Path) -> None:
    brief = tmp_path / "brief.csv"
    key = "" if name == "vae" else "F# minor"  # two bars know no key
    brief.write_text(f"key,bars,count\n{key},2,2\n\n,1,\n")
    options = GenerateOptions(metre="3/4", tempo=120, **PLAIN)
    wanted = list(Generate().read(brief, options))
    assert [w.name for w in wanted] == ["brief.csv, line 2", "brief.csv, line 2", "brief.csv, line 4"]
    made = [r for row, w in enumerate(wanted) for r in run(Generate(), models[name], w, options, row)]
    assert [(r.piece.phrase.frames, r.piece.phrase.metre) for r in made] == [(24, "3/4"), (24, "3/4"), (12, "3/4")]
    assert key in ("", made[0].piece.phrase.key) and made[0].piece.phrase != made[1].piece.phrase
    assert made[0].piece.tempos == ((0, 120.0),)
    looped = replace(made[2], options=replace(options, loop=True, files="midi,wav,png")).write(tmp_path)
    assert b"loopStart" in looped[0].read_bytes() and b"loopEnd" in looped[0].read_bytes()
    assert looped[2].read_bytes()[:4] == b"\x89PNG"
    assert looped[1].stat().st_size == 44 + 4 * round(44100 * 3 * 60 / 120)  # a bar of three quarters, to the sample


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("key,colour\n", "unknown column 'colour'"),
        ("bars\nmany\n", "line 2: --bars: expected a whole number from 1 to 109"),
        ("bars,metre\n42,4/4\n", "line 2: --bars: expected at most 41 in 4/4; got 42"),
        ("key\nH major\n", "line 2: --key: expected one of"),
        ("bars,count\n4,0\n", "line 2: count: expected"),
        ("bars\n4,5,6\n", "line 2: 3 cells under 1 columns"),
    ],
)
def test_a_brief_that_makes_no_sense(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "brief.csv").write_text(text)
    with pytest.raises(HeadwaterError, match=message):
        list(Generate().read(tmp_path / "brief.csv", GenerateOptions()))


# --- the choice, the words, the card -------------------------------------------------------------------------------


def chords(*pitches: tuple[int, int, int, int]) -> Phrase:
    pitch = np.repeat(np.array(pitches), 4, axis=0)
    return Phrase(pitch, np.zeros(pitch.shape))


GOOD, PARALLEL = (
    chords((72, 67, 64, 48), (71, 67, 62, 55), (72, 67, 64, 48)),
    chords((72, 67, 64, 48), (74, 69, 65, 50), (72, 67, 64, 48)),
)


def test_the_best_of_several_has_the_fewest_faults() -> None:
    assert choice.points(PARALLEL, Wish()) > choice.points(GOOD, Wish())
    drafts = [Draft(p, p) for p in (PARALLEL, GOOD, GOOD)]
    silent = replace(GOOD, pitch=0 * GOOD.pitch, onset=np.zeros_like(GOOD.onset))
    assert choice.best(drafts, Wish()) == 1
    assert choice.best([drafts[0], drafts[1]._replace(phrase=silent)], Wish()) == 0
    assert choice.points(GOOD, Wish(key="A minor")) > choice.points(GOOD, Wish())


def test_faults_are_named_by_voice_and_bar() -> None:
    phrase = replace(PARALLEL, metre="2/4")
    assert "parallel fifths between alto and bass in bars 1 and 2" in choice.remarks(Piece(phrase))
    assert choice.remarks(Piece(GOOD)) == []
    crossed = chords((72, 76, 64, 48))
    assert "alto above soprano in bar 1" in choice.remarks(Piece(crossed))
    assert "alto too high for its range in bar 1" in choice.remarks(Piece(crossed))


def test_the_record_has_the_report_with_and_without_the_choice(models: dict[str, Generator]) -> None:
    options = HarmoniseOptions(tries=4, files="none")
    (made,) = run(Harmonise(), models["autoregressive"], Source("t", Piece(melody(1, 24))), options)
    record = made.record()
    assert record["tries"] == 4 and {"parallel_fifths", "raw_parallel_fifths", "raw_chordal", "copied_frames"} <= set(record)
    assert record["likelihood_kind"] == "exact" and record["log_likelihood"] < 0
    (raw,) = run(Harmonise(), models["autoregressive"], Source("t", Piece(melody(1, 24))), replace(options, tries=1))
    assert raw.record()["chordal"] == record["raw_chordal"]
    assert choice.points(made.piece.phrase, Wish()) <= choice.points(raw.piece.phrase, Wish())


def test_the_card_holds_everything_and_escapes_what_files_say(models: dict[str, Generator], tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>&"
    piece = Piece(sample()[0], names=(bad, "A", "T", "B"), warnings=(bad,))
    options = FillOptions(bars="2", tries=2, files="none")
    (made,) = run(Fill(), models["masked_diffusion"], Source(bad, piece), options)
    page = made.render()
    assert "<script" not in page and "&lt;script&gt;" in page and OUTSIDE.search(page) is None and "xmlns" not in page
    assert 'src="data:audio/wav;base64,' in page and page.count("<svg") >= 2
    assert "all voices of bar 2 made anew; every other note as given" in page
    assert "The best of 2 by the rules" in page and "shaded: where notes are new" in page
    assert page.count('fill-opacity=".16"') == 1


def test_kinds_of_files() -> None:
    assert Asking(files="svg, midi svg").kinds == ("svg", "midi") and Asking(files="none").kinds == ()
    with pytest.raises(HeadwaterError, match="--files: expected any of midi"):
        list(Harmonise().read(Harmonise().example(), HarmoniseOptions(files="mp3")))


def test_beats_are_those_of_the_bars(models: dict[str, Generator]) -> None:
    for phrase in (*sample(), melody(0), melody(1), melody(2)):
        assert (beats(Piece(phrase)) == phrase.beat).all()
    changing = Piece(melody(1, 40), metres=((0, "3/4"), (24, "4/4")))
    assert beats(changing)[20:32].tolist() == [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
    high = sample()[0].transposed(7)  # no voice of it in its range
    seen = view(models["autoregressive"], ("c", Piece(high)), np.ones(high.pitch.shape, bool))
    assert seen.wish.key == replace(high, tonic=(high.tonic + seen.shift) % 12).key and seen.shift < 0

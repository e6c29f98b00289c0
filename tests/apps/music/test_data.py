"""The data sets: splits that stay apart, transpositions that stay in range, passages that end on a fermata."""

from __future__ import annotations

import os

import numpy as np
import pytest

from headwater.errors import HeadwaterError
from headwater_music import data
from headwater_music.codecs import CHORALE, JSB, QUARTERS
from headwater_music.held_out import HELD_OUT
from headwater_music.memory import Memory, shipped
from headwater_music.score import Note, Phrase
from headwater_music.wishes import describe, given

here = pytest.mark.skipif(not os.environ.get("HEADWATER_DATA"), reason="HEADWATER_DATA names no data")


def tune(*pitches: int) -> Phrase:
    return Phrase.of_notes([[Note(4 * i, 4, p) for i, p in enumerate(pitches)]], 4 * len(pitches))


def test_transposed_stays_within_the_ranges() -> None:
    rows = data.Transposed([tune(60, 64, 67), tune(58, 70)], [58], [70])
    assert [int(p.pitch[0, 0]) for p in rows] == [60, 58, 59, 61, 62, 63, 58]  # its own key first
    assert rows[0].key == "C major" and rows[4].key == "D major"
    assert all(p.pitch.min() >= 58 and p.pitch.max() <= 70 for p in rows)


def test_passages_go_from_fermata_to_fermata() -> None:
    marks = np.zeros(128, np.bool_)
    for end in (32, 64, 96, 128):
        marks[end - 4 : end] = True
    phrase = Phrase(np.full((128, 1), 60) + (np.arange(128) // 4 % 5)[:, None], np.zeros((128, 1)), pickup=4, fermata=marks)
    parts = data.passages(phrase, turn=1)
    assert sorted(p.frames for p in parts) == [32, 64, 64]
    assert all(p.fermata[-1] and (p.pickup - 4) % 16 == 0 for p in parts)
    assert data.passages(tune(60, 62), 0) == []


def test_the_packaged_sample_is_sound() -> None:
    items = data.sample()
    assert len(items) == 24 == len(set(items))
    assert {describe(p).cadence for p in items} == {"authentic"}
    assert {p.metre for p in items} == {"3/4", "4/4"} and {p.pickup for p in items} == {0, 4}
    for item in items:
        CHORALE.encode(item)
        JSB.encode(item)
        QUARTERS.encode(item)
        with pytest.raises(KeyError):
            given("key", item)


def test_an_unknown_split_is_named() -> None:
    for rows in (data.jsb_rows, data.bach_rows, data.quarter_rows):
        with pytest.raises(HeadwaterError, match="no split 'dev'"):
            rows("dev")


def test_missing_data_say_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_DATA", raising=False)
    with pytest.raises(HeadwaterError, match=r"github\.com/czhuang/JSB-Chorales-dataset"):
        data.jsb_folder()


def test_the_shipped_memory_knows_no_held_out_piece() -> None:
    memory = shipped()
    assert len(memory.names) == 210 and len(memory.hashes) == memory.ends[-1]
    assert not set(memory.names) & set(HELD_OUT)
    assert {s: sum(v == s for v in HELD_OUT.values()) for s in ("valid", "test", "apart")} == {"valid": 70, "test": 69, "apart": 13}


@here
def test_the_benchmark_is_the_published_one() -> None:
    counts = {split: (len(data.jsb_phrases(split)), sum(p.frames for p in data.jsb_phrases(split))) for split in data.SPLITS}
    assert counts == {"train": (229, 55228), "valid": (76, 18408), "test": (77, 18900)}
    assert max(p.frames for split in data.SPLITS for p in data.jsb_phrases(split)) == 640
    train = data.jsb_rows("train")
    assert len(train) == 1692
    low, high = data.ranges(data.jsb_phrases("train"))
    for phrase in train[::50]:
        for v in range(4):
            heard = phrase.pitch[:, v][phrase.pitch[:, v] > 0]
            assert low[v] <= heard.min() and heard.max() <= high[v]


@here
def test_the_quarter_table_is_held_exactly() -> None:
    import json

    table = json.loads((data.jsb_folder() / "jsb-chorales-quarter.json").read_text())["test"]
    for frames, phrase in zip(table, data.quarter_rows("test"), strict=True):
        back = QUARTERS.decode(QUARTERS.encode(phrase)).pitch[::4]
        assert [sorted(int(p) for p in row if p) for row in back] == [sorted(set(f)) for f in frames]


@here
def test_anchors() -> None:
    """Bach's test chorales under our definitions: FIGURES has .96 and .32 per 1,000, 2.0% crossed, 91.1% chordal, 3.9% copied."""
    from headwater.domain import Evaluation
    from headwater_music.metrics import METRICS

    test = data.jsb_phrases("test")
    e = Evaluation(test, [None] * len(test), test)
    found = {m.name: m.score(e) for m in METRICS if m.name != "copies"}
    assert found["parallel_fifths"] == pytest.approx(0.956, abs=0.001)
    assert found["parallel_octaves"] == pytest.approx(0.319, abs=0.001)
    assert found["crossing"] == pytest.approx(0.0197, abs=0.0001)
    assert found["chordal"] == pytest.approx(0.9087, abs=0.0001)
    train = Memory.of(data.jsb_phrases("train"), [str(i) for i in range(229)])
    assert np.mean([train.longest(p).frames >= 32 for p in test]) == pytest.approx(3 / 77)


@pytest.mark.slow
@here
def test_no_held_out_piece_is_trained_on() -> None:
    """Parses music21's corpus (70 CPU seconds): no piece of train shares a fifth of its windows with one of valid or test."""
    from headwater_music.memory import windows

    train = [set(windows(p.pitch).tolist()) for _, p in data.bach_split()["train"]]
    for split in ("valid", "test"):
        for phrase in data.jsb_phrases(split):
            codes = windows(phrase.pitch)
            moving = [(phrase.pitch[t : t + 8] != phrase.pitch[t]).any() for t in range(len(codes))]
            own = codes[np.array(moving) & (codes > 0)].tolist()
            assert max(sum(c in known for c in own) for known in train) < 0.2 * len(own)

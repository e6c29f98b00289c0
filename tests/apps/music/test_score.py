"""The item: notes and frames say the same, values compare, cuts keep the beat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater_music.score import KEYS, SHARPS, TONICS, Note, Phrase


@st.composite
def phrases(draw: st.DrawFn, voices: int = 4) -> Phrase:
    frames = draw(st.integers(1, 40))
    runs = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0, *range(40, 80)])), min_size=1, max_size=12)
    lines = []
    for _ in range(voices):
        at, notes = 0, []
        for length, pitch in draw(runs):
            if pitch and at < frames:
                notes.append(Note(at, min(length, frames - at), pitch))
            at += length
        lines.append(notes)
    metre = draw(st.sampled_from(["4/4", "3/4"]))
    return Phrase.of_notes(lines, frames, metre=metre, tonic=draw(st.integers(0, 11)), pickup=draw(st.integers(0, 11)))


@given(phrases())
def test_notes_are_the_frames(phrase: Phrase) -> None:
    notes = [phrase.notes(v) for v in range(phrase.voices)]
    again = Phrase.of_notes(notes, phrase.frames, metre=phrase.metre, tonic=phrase.tonic, pickup=phrase.pickup)
    assert again == phrase
    assert hash(again) == hash(phrase)
    assert repr(again) == repr(phrase)
    assert sum(n.length for line in notes for n in line) == (phrase.pitch > 0).sum()


@given(phrases(), st.integers(0, 39), st.integers(1, 40))
def test_a_cut_keeps_pitch_and_beat(phrase: Phrase, start: int, length: int) -> None:
    part = phrase.cut(start, start + length)
    assert (part.pitch == phrase.pitch[start : start + length]).all()
    assert (part.beat == phrase.beat[start : start + length]).all()


def test_one_frame_makes_another_value() -> None:
    pitch = np.full((600, 4), 60)
    one = Phrase(pitch, pitch * 0)
    pitch[300, 2] = 61
    other = Phrase(pitch, pitch * 0)
    assert one != other
    assert repr(one) != repr(other)  # data sets are hashed by it


def test_onsets_are_normalised() -> None:
    phrase = Phrase([[60], [60], [62], [0], [60]], [[0], [0], [0], [1], [0]])
    assert phrase.onset[:, 0].tolist() == [True, False, True, False, True]
    assert not phrase.pitch.flags.writeable


def test_keys() -> None:
    phrase = Phrase([[60]], [[1]])
    assert [phrase.transposed(k).key for k in range(12)] == [f"{t} major" for t in TONICS["major"]]
    assert len(set(KEYS)) == 24
    # a fifth up is a sharp more, round the circle
    for mode, sharps in SHARPS.items():
        assert all((sharps[(t + 7) % 12] - sharps[t] - 1) % 12 == 0 for t in range(12)), mode
    # a relative minor shares its major's signature, but for E flat minor's six flats and F sharp major's six sharps
    assert all((SHARPS["minor"][(t + 9) % 12] - SHARPS["major"][t]) % 12 == 0 for t in range(12))


def test_bars_count_as_players_do() -> None:
    pitch = np.full((36, 1), 60)
    phrase = Phrase(pitch, pitch * 0, pickup=4)
    assert (phrase.bars, phrase.bar_of(0), phrase.bar_of(4), phrase.bar_of(35)) == (2, 0, 1, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pitch": [[128]]}, "1 to 127"),
        ({"metre": "5/7"}, "metre"),
        ({"pickup": 16}, "pickup"),
        ({"mode": "dorian"}, "major or minor"),
        ({"fermata": [True, True]}, "fermata"),
        ({"onset": [[1], [1]]}, "pitch and onset"),
    ],
)
def test_what_does_not_fit_is_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phrase(**{"pitch": [[60]], "onset": [[1]], **wrong})


def test_transposing_out_of_the_world() -> None:
    with pytest.raises(ValueError, match="leaves MIDI"):
        Phrase([[3]], [[1]]).transposed(-3)

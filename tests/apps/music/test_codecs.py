"""The codecs: exact round trips, frozen numbers, decoding that never fails."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headwater.noise import Noise
from headwater_music.codecs import CHORALE, HIGHEST, JSB, LENGTH, LOWEST, MELODY, QUARTERS, TWO_BARS, Grid16
from headwater_music.data import sample, sample_on_grid
from headwater_music.score import Phrase
from headwater_music.wishes import given as track


@pytest.mark.parametrize(
    ("codec", "items"), [(CHORALE, sample()), (JSB, sample_on_grid()), (MELODY, tuple(p.voice(0) for p in sample()))]
)
def test_what_is_encoded_comes_back(codec: Grid16, items: tuple[Phrase, ...]) -> None:
    for item in items:
        back = codec.decode(codec.encode(item))
        assert (back.pitch == item.pitch).all()
        assert (back.onset == item.onset).all() or not codec.onsets


def test_numbers_are_frozen() -> None:
    phrase = Phrase([[LOWEST, 60, 0, HIGHEST], [LOWEST, 60, 60, HIGHEST]], [[1] * 4, [0, 1, 0, 0]])
    assert CHORALE.encode(phrase)[:3].tolist() == [[2, 28, 1, 52], [53, 28, 28, 103], [0, 0, 0, 0]]
    assert JSB.encode(phrase)[:3].tolist() == [[2, 28, 1, 52], [2, 28, 28, 52], [0, 0, 0, 0]]
    assert (CHORALE.space.vocab, JSB.space.vocab, MELODY.space.streams, LENGTH) == (104, 53, 1, 656)


def test_repeated_and_held_notes_differ() -> None:
    held, repeated = (Phrase([[60], [60]], [[1], [again]]) for again in (0, 1))
    assert not (MELODY.encode(held) == MELODY.encode(repeated)).all()
    assert MELODY.decode(MELODY.encode(repeated)) == repeated


@given(arrays(np.int64, (30, 4), elements=st.integers(0, 200)))
def test_decoding_never_fails(tokens: np.ndarray) -> None:
    for codec in (CHORALE, JSB):
        phrase = codec.decode(tokens)
        array = codec.encode(phrase) if phrase.frames else np.zeros(codec.space.shape)
        assert codec.decode(array) == phrase


def test_a_melody_is_the_highest_part() -> None:
    for item in sample():
        assert (MELODY.encode(item) == MELODY.encode(item.voice(0))).all()


def test_two_bars_begin_on_a_bar_line() -> None:
    keys = Noise(0).rows(range(12))
    for item in sample()[:4]:
        starts = set()
        for i in range(12):
            part = TWO_BARS.view(item, keys[i : i + 1])
            assert part.pickup == 0 and part.frames == 2 * item.bar
            assert (TWO_BARS.decode(TWO_BARS.encode(part)).pitch == part.pitch).all()
            starts |= {s for s in range(item.frames) if (item.cut(s, s + part.frames).pitch == part.pitch[: item.frames - s]).all()}
        assert len(starts) > 1
    with pytest.raises(ValueError, match="1 to 32 sixteenths"):
        TWO_BARS.encode(sample()[0])


def test_quarters_are_sets() -> None:
    chord, fewer = [48, 72, 64, 67], [0, 60, 60, 0]
    phrase = Phrase(np.repeat([chord, fewer, [0] * 4], 4, axis=0), np.zeros((12, 4)))
    array = QUARTERS.encode(phrase)
    assert array[:4].tolist() == [[53, 48, 45, 29], [41, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    back = QUARTERS.decode(array)
    assert back.pitch[[0, 3, 4, 8]].tolist() == [[72, 67, 64, 48]] * 2 + [[60, 0, 0, 0], [0, 0, 0, 0]]
    assert (QUARTERS.encode(back) == array).all()


def test_silence_is_not_the_end() -> None:
    phrase = Phrase([[0] * 4, [60] * 4], [[0] * 4, [1] * 4])
    assert CHORALE.decode(CHORALE.encode(phrase)).frames == 2


@pytest.mark.parametrize(
    ("phrase", "message"),
    [
        (Phrase([[60]], [[1]]), "4 voices; the phrase has 1"),
        (Phrase([[60, 60, 60, 33]], [[1] * 4]), "bar 1, bass: pitch 33 is outside MIDI 34 to 84"),
        (Phrase(np.full((LENGTH + 1, 4), 60), np.zeros((LENGTH + 1, 4))), "1 to 656 sixteenths; the phrase has 657"),
    ],
)
def test_what_it_cannot_hold_is_named(phrase: Phrase, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CHORALE.encode(phrase)


def test_tracks_lie_on_the_cells() -> None:
    phrase = sample()[2]  # begins with a pickup of a quarter
    beat, fermata = track("beat", phrase).beat, track("fermata", phrase).fermata
    assert beat is not None and fermata is not None
    assert beat[:6].tolist() == [13, 14, 15, 16, 1, 2]
    assert (beat > 0).sum() == phrase.frames == (fermata > 0).sum()
    assert (fermata == 2).sum() == phrase.fermata.sum() > 0

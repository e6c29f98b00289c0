"""Rules, harmony and memory on music small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.domain import Evaluation
from headwater_music import harmony, metrics, rules
from headwater_music.data import sample
from headwater_music.memory import LONG, Memory
from headwater_music.score import Phrase


def phrase(*chords: tuple[int, ...], frames: int = 4) -> Phrase:
    pitch = np.repeat(np.array(chords), frames, axis=0)
    return Phrase(pitch, np.zeros(pitch.shape))


C, D, G, F = (72, 67, 64, 48), (74, 69, 65, 50), (71, 67, 62, 55), (72, 69, 65, 53)


def test_parallels() -> None:
    found = rules.report(phrase(C, D))
    assert (4, 1, 3) not in found.octaves
    assert set(found.octaves) == {(4, 0, 3)}
    assert set(found.fifths) == {(4, 1, 3)}


def test_contrary_motion_and_held_notes_are_no_parallels() -> None:
    assert rules.parallels(np.array([[67, 60], [55, 72]]), 7) == []  # a fifth, then one upside down
    assert rules.parallels(np.array([[72, 60], [60, 72]]), 0) == []
    assert rules.parallels(np.array([[67, 60], [67, 60]]), 7) == []
    assert rules.parallels(np.array([[67, 60], [0, 0], [69, 62]]), 7) == []


def test_crossing_spacing_range() -> None:
    found = rules.report(phrase((60, 67, 64, 48), C, (81, 67, 64, 48), (72, 67, 64, 35)))
    assert (found.crossed, found.wide, found.outside) == (4, 4, 4)


def test_chords_on_the_beat() -> None:
    found = rules.report(phrase(C, (72, 71, 70, 48), G))
    assert (found.beats, found.chordal) == (3, 2)
    assert harmony.is_chord(frozenset({7, 11, 2, 5}))
    assert not harmony.is_chord(frozenset({0, 1, 6}))


def test_a_pickup_of_eighths_moves_the_beat() -> None:
    late = phrase((72, 71, 70, 48), frames=2).pitch
    pitch = np.vstack([late, np.repeat([C], 8, axis=0)])
    assert rules.report(Phrase(pitch, pitch * 0, pickup=2)).chordal == 2


@pytest.mark.parametrize(
    ("chords", "kind"), [((C, G, C), "authentic"), ((G, F, C), "plagal"), ((C, F, G), "half"), ((C, G, F), "other")]
)
def test_cadences(chords: tuple[tuple[int, ...], ...], kind: str) -> None:
    assert harmony.cadence(phrase(*chords), 0) == kind


def test_keys_of_the_sample() -> None:
    for item in sample():
        assert harmony.estimate_key(item) == (item.tonic, item.mode)
        for k in (1, 5, 11):
            assert harmony.estimate_key(item.transposed(k)) == ((item.tonic + k) % 12, item.mode)


def test_problems() -> None:
    silent = phrase((0, 0, 0, 0))
    assert rules.problem(silent) == "nothing sounds in it"
    assert rules.problem(phrase((72, 67, 64, 0))) == "the bass is silent throughout"
    assert rules.problem(phrase(C)) is None
    assert rules.report(silent).record()["chordal"] == 0


def test_metrics_on_counted_music() -> None:
    made = [phrase(C, D), phrase(C, G, C)]
    e = Evaluation(made, [None] * 2, made)
    found = {m.name: m.score(e) for m in metrics.METRICS if m.name != "copies"}
    assert found["parallel_fifths"] == pytest.approx(1000 / (7 + 11))
    assert found["onset_density"] == pytest.approx(4 * (8 + 4 + 3 + 3) / (4 * 20))  # C to G holds the alto
    assert found["invalid"] == 0


def test_features_know_no_key() -> None:
    rows = metrics.features([item.transposed(k) for item in sample()[:3] for k in (0, 3)])
    assert rows.shape == (6, 90)
    assert np.allclose(rows[::2], rows[1::2])
    assert not np.allclose(rows[0], rows[2])


def walk(frames: int, seed: int) -> Phrase:
    steps = np.random.default_rng(seed).integers(-2, 3, (frames, 4)).cumsum(axis=0)
    pitch = (steps + np.array([72, 65, 58, 48])).clip(36, 81)
    return Phrase(pitch, pitch * 0)


def test_a_copy_is_found_in_any_key_with_its_length_and_place() -> None:
    known = [walk(200, s) for s in range(5)]
    memory = Memory.of(known, [f"piece {i}" for i in range(5)])
    fresh = walk(150, 99)
    assert memory.longest(fresh).frames == 0
    pitch = fresh.pitch.copy()
    pitch[40:80] = known[3].transposed(2).pitch[100:140]
    found = memory.longest(Phrase(pitch, pitch * 0))
    assert (found.frames, found.start, found.source, found.at) == (40, 40, "piece 3", 100)
    assert found.frames >= LONG


def test_a_run_does_not_go_on_into_the_next_piece() -> None:
    a, b = walk(20, 1), walk(20, 2)
    memory = Memory.of([a, b], ["a", "b"])
    both = Phrase(np.vstack([a.pitch, b.pitch]), np.zeros((40, 4)))
    assert memory.longest(both).frames == 20


def test_silence_is_no_copy(tmp_path: object) -> None:
    quiet = Phrase(np.zeros((60, 4)), np.zeros((60, 4)))
    memory = Memory.of([quiet, walk(50, 1)], ["quiet", "walk"])
    assert memory.longest(quiet).frames == 0


def test_an_index_is_kept(tmp_path: object) -> None:
    from pathlib import Path

    known = [walk(60, s) for s in range(3)]
    file = Path(str(tmp_path)) / "index"
    Memory.of(known, ["a", "b", "ü"]).save(file)
    assert Memory.load(file).longest(known[2]) == Memory.of(known, ["a", "b", "ü"]).longest(known[2])

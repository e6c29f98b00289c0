"""Figures over many phrases: the rules of four-part writing, how busy and how varied the music is, and what it copies.

Each phrase counts as much as it has frames, quarters or cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headwater.domain import Array, Evaluation, Metric
from headwater_music import harmony, memory, rules
from headwater_music.score import Phrase


def features(items: Sequence[Phrase]) -> Array:
    """(items, 90) float32, the same in every key and for any number of voices: the share of each pitch class above the tonic, in
    all voices (12) and in the bass (12); of each melodic step of the highest and of the lowest voice, from an octave down to one up
    (25 + 25); of each interval class between the two (12); onsets by place in the quarter (4)."""
    return np.stack([_features(item) for item in items]).astype(np.float32) if len(items) else np.zeros((0, 90), np.float32)


def _features(phrase: Phrase) -> Array:
    tonic = harmony.estimate_key(phrase)[0]
    top, bottom = phrase.pitch[:, 0].astype(int), phrase.pitch[:, -1].astype(int)
    both = (top > 0) & (bottom > 0)
    beats = (np.arange(phrase.frames) - phrase.pickup) % 4
    return np.concatenate(
        [
            _share(np.roll(harmony.histogram(phrase), -tonic)),
            _share(np.bincount((bottom[bottom > 0] - tonic) % 12, minlength=12)),
            *(_share(np.bincount(_steps(phrase, v), minlength=25)) for v in (0, phrase.voices - 1)),
            _share(np.bincount((top - bottom)[both] % 12, minlength=12)),
            _share(np.bincount(beats, weights=phrase.onset.sum(axis=1), minlength=4)),
        ]
    )


def _share(counts: Array) -> Array:
    return counts / max(1.0, float(counts.sum()))


def _steps(phrase: Phrase, voice: int) -> Array:
    """Melodic steps between the notes of a voice, 0 an octave down or more, 24 an octave up or more."""
    pitches = phrase.pitch[phrase.onset[:, voice], voice].astype(int)
    return np.diff(pitches).clip(-12, 12) + 12


def _total(field: str, over: str, factor: float = 1.0) -> Callable[[Evaluation[Phrase, Any]], float]:
    """A count of the rules report over all phrases made, divided by another."""

    def score(e: Evaluation[Phrase, Any]) -> float:
        reports = [rules.report(phrase) for phrase in e.made if phrase.voices == 4]
        count = sum(len(v) if isinstance(v := getattr(r, field), tuple) else int(v) for r in reports)
        total = sum(getattr(r, over) for r in reports)
        return factor * count / total if total else math.nan

    return score


def final_tonic(e: Evaluation[Phrase, Any]) -> float:
    """Phrases whose last bass note is the tonic."""
    reports = [rules.report(phrase) for phrase in e.made]
    return float(np.mean([r.final_tonic for r in reports])) if reports else math.nan


def onset_density(e: Evaluation[Phrase, Any]) -> float:
    """Notes a quarter and voice."""
    cells = sum(phrase.pitch.size for phrase in e.made)
    return 4 * sum(int(phrase.onset.sum()) for phrase in e.made) / cells if cells else math.nan


def pitch_class_entropy(e: Evaluation[Phrase, Any]) -> float:
    """Entropy in bits of the pitch classes of a phrase by how long they sound, mean over phrases."""
    found = []
    for phrase in e.made:
        share = _share(harmony.histogram(phrase))
        if share.any():
            found.append(-float((share[share > 0] * np.log2(share[share > 0])).sum()))
    return float(np.mean(found)) if found else math.nan


def copies(e: Evaluation[Phrase, Any]) -> float:
    """Phrases that copy 32 frames in a row or more, all voices, in any key, from a chorale of the training set."""
    long = [memory.longest_copy(phrase).frames >= memory.LONG for phrase in e.made if phrase.voices == 4]
    return float(np.mean(long)) if long else math.nan


def invalid(e: Evaluation[Phrase, Any]) -> float:
    """Phrases in which nothing, or a voice nothing, sounds."""
    return float(np.mean([rules.problem(phrase) is not None for phrase in e.made])) if e.made else math.nan


METRICS = (
    Metric("parallel_fifths", _total("fifths", "moves", 1000), "lower", "parallel fifths per 1,000 moves from frame to frame"),
    Metric("parallel_octaves", _total("octaves", "moves", 1000), "lower", "parallel octaves and unisons per 1,000 moves"),
    Metric("crossing", _total("crossed", "frames"), "lower", "share of frames with crossed voices"),
    Metric("wide_spacing", _total("wide", "frames"), "lower", "share of frames with more than an octave between upper voices"),
    Metric("chordal", _total("chordal", "beats"), "higher", "share of quarters that are a triad or seventh chord, or part of one"),
    Metric("final_tonic", final_tonic, "higher", "share that ends on the tonic in the bass"),
    Metric("onset_density", onset_density, "higher", "notes a quarter and voice: as near to the data as can be"),
    Metric("pitch_class_entropy", pitch_class_entropy, "higher", "bits, mean over phrases: as near to the data as can be"),
    Metric("copies", copies, "lower", "share with 32 frames or more copied, in any key, from one training chorale"),
    Metric("invalid", invalid, "lower", "share in which nothing, or a voice nothing, sounds"),
)

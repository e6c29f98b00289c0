"""What the notes say about the harmony: key, chords on the beat, cadences. Plain arithmetic on pitch classes, no music library."""

from __future__ import annotations

import functools

import numpy as np

from headwater_music.score import MODES, SHARPS, Array, Phrase

#: How strongly each degree above the tonic speaks for a key (Temperley 1999, "What's key for key?", the revised profiles).
PROFILES = {
    "major": np.array([5.0, 2.0, 3.5, 2.0, 4.5, 4.0, 2.0, 4.5, 2.0, 3.5, 1.5, 4.0]),
    "minor": np.array([5.0, 2.0, 3.5, 4.5, 2.0, 4.0, 2.0, 4.5, 3.5, 2.0, 1.5, 4.0]),
}
#: Triads and seventh chords, as pitch classes above their root: major, minor, diminished, augmented, dominant, major, minor and
#: half-diminished seventh, diminished seventh.
CHORDS = tuple(
    frozenset(chord)
    for chord in (
        (0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 8),
        (0, 4, 7, 10), (0, 4, 7, 11), (0, 3, 7, 10), (0, 3, 6, 10), (0, 3, 6, 9),
    )
)  # fmt: skip


def histogram(phrase: Phrase) -> Array:
    """(12,) how many frames each pitch class sounds in, over all voices."""
    return np.bincount(phrase.pitch[phrase.pitch > 0] % 12, minlength=12)


def last_bass(phrase: Phrase) -> int:
    """The lowest pitch of the last frame in which anything sounds, 0 for silence."""
    lowest = np.where(phrase.pitch > 0, phrase.pitch, 128).min(axis=1)
    return int(lowest[lowest < 128][-1]) if (lowest < 128).any() else 0


@functools.lru_cache(maxsize=4096)
def is_chord(classes: frozenset[int]) -> bool:
    """Whether pitch classes are a triad or seventh chord, or part of one.

    >>> is_chord(frozenset({0, 4, 7})), is_chord(frozenset({0, 1, 2}))
    (True, False)
    """
    return any(frozenset((c - root) % 12 for c in classes) <= chord for chord in CHORDS for root in range(12))


def estimate_key(phrase: Phrase, sharps: int | None = None) -> tuple[int, str]:
    """The key as (tonic, mode): the correlation of the pitch classes with :data:`PROFILES`, and where a piece ends: the last bass
    note is the tonic more often than not. Where a signature (``sharps``) is known, keys whose own signature is more than one
    accidental away from it are out. (0, "major") for silence.

    >>> scale = np.array([[p] for p in (60, 62, 64, 65, 67, 69, 71, 72)])
    >>> estimate_key(Phrase(scale, scale > 0))
    (0, 'major')
    """
    counts = histogram(phrase).astype(float)
    if not counts.any():
        return 0, "major"
    last = last_bass(phrase) % 12
    best, found = -np.inf, (0, "major")
    for mode in MODES:
        for tonic in range(12):
            if sharps is not None and (SHARPS[mode][tonic] - sharps + 6) % 12 - 6 not in (-1, 0, 1):
                continue
            score = float(np.corrcoef(np.roll(PROFILES[mode], tonic), counts)[0, 1]) + 0.25 * (tonic == last)
            if score > best:
                best, found = score, (tonic, mode)
    return found


def cadence(phrase: Phrase, tonic: int) -> str:
    """How a phrase ends, by its last two different bass notes and the tonic: "authentic" (dominant or leading note to tonic),
    "plagal" (subdominant to tonic), "half" (rests on the dominant) or "other". The lowest sounding voice is the bass.

    >>> bass = np.array([[60], [67], [60]])
    >>> cadence(Phrase(bass, bass > 0), 0), cadence(Phrase(bass[:2], bass[:2] > 0), 0)
    ('authentic', 'half')
    """
    lowest = np.where(phrase.pitch > 0, phrase.pitch, 128).min(axis=1)
    degrees = (lowest[lowest < 128] - tonic) % 12
    turns = degrees[np.flatnonzero(np.diff(degrees, prepend=-1))]
    if len(turns) == 0:
        return "other"
    last, before = int(turns[-1]), int(turns[-2]) if len(turns) > 1 else -1
    if last == 0:
        return "authentic" if before in (7, 11) else "plagal" if before == 5 else "other"
    return "half" if last == 7 else "other"

"""Keys and spelling on the line of fifths (… B♭ F C G D A E B F♯ …, C at 0): find a key from notes, write a pitch in a key."""

from __future__ import annotations

import math

import numpy as np

from headwater_music.score import SHARPS, Array

#: Steps on the line of fifths from the major tonic of a signature, which lies at its number of sharps, to a mode's own tonic.
MODES = {
    "lydian": -1, "major": 0, "ionian": 0, "mixolydian": 1, "dorian": 2, "minor": 3, "aeolian": 3, "phrygian": 4, "locrian": 5,
}  # fmt: skip
MINOR = ("minor", "aeolian", "dorian", "phrygian", "locrian")
STEPS = "FCGDAEB"  # the line of fifths from F, at -1
#: A key's twelve names span eleven fifths, from here below its tonic on: in major from the flat third to the sharp fifth, in minor
#: from the flat second to the sharp fourth. In music21's Bach chorales 99.9% and 99.8% of the notes are so spelled, and 98.2% of
#: those in major by the plain rule "nearest to the tonic" (from -5).
LOWEST = {"major": -3, "minor": -5}

# How well each degree fits a key: Krumhansl and Kessler 1982, Tracing the dynamic changes in perceived tonal organization,
# https://doi.org/10.1037/0033-295X.89.4.334
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def tonic(sharps: int, mode: str) -> int:
    """Where the tonic lies on the line of fifths.

    >>> tonic(-3, "minor"), tonic(2, "major")
    (0, 2)
    """
    return sharps + MODES[mode]


def spelled(pitch: int, sharps: int, mode: str) -> tuple[str, int, int]:
    """Step, alteration and octave of a MIDI pitch: of its names the one that the key uses (:data:`LOWEST`).

    >>> spelled(61, 2, "major"), spelled(70, -4, "minor"), spelled(71, 7, "major"), spelled(60, 7, "major")
    (('C', 1, 4), ('B', -1, 4), ('B', 0, 4), ('B', 1, 3))
    """
    low = tonic(sharps, mode) + LOWEST["minor" if mode in MINOR else "major"]
    place = low + (7 * pitch - low) % 12
    alter, index = divmod(place + 1, 7)
    step = STEPS[index]
    natural = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[step]
    return step, alter, (pitch - alter - natural) // 12 - 1


def find(weights: Array, sharps: int | None = None) -> tuple[int, str]:
    """Sharps and mode of the key whose profile correlates best with ``weights`` (12,): how long each pitch class sounds.

    With ``sharps`` only the two keys of that signature are in question.
    """
    best = (-math.inf, 0, "major")
    for mode, profile in PROFILES.items():
        for s in SHARPS[mode] if sharps is None else (sharps,):
            turned = np.roll(profile, 7 * tonic(s, mode) % 12)
            fit = float(np.corrcoef(turned, weights)[0, 1]) if np.ptp(weights) else 0.0
            best = max(best, (round(fit, 9), s, mode), key=lambda b: b[0])
    return best[1], best[2]


def name(pitch: int, sharps: int = 0, mode: str = "major") -> str:
    """A note's name for people.

    >>> name(61), name(61, 3), name(61, -2)
    ('C♯4', 'C♯4', 'D♭4')
    """
    step, alter, octave = spelled(pitch, sharps, mode)
    return f"{step}{'♯' * alter if alter > 0 else '♭' * -alter}{octave}"

"""What a phrase can be asked to be, and how a given phrase is described in the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from headwater.domain import Array
from headwater.knobs import Given, Knob
from headwater_music import harmony
from headwater_music.codecs import LENGTH
from headwater_music.score import Phrase, key_name

Key = Literal[
    "C major", "Db major", "D major", "Eb major", "E major", "F major", "F# major", "G major", "Ab major", "A major", "Bb major",
    "B major", "C minor", "C# minor", "D minor", "Eb minor", "E minor", "F minor", "F# minor", "G minor", "G# minor", "A minor",
    "Bb minor", "B minor",
]  # fmt: skip
BEATS = 33  # 0 past the end, 1 + position in the bar of at most 32 sixteenths


@dataclass(frozen=True)
class Wish:
    """What may be asked; None where nothing is. The metre and the number of bars enter by ``beat``, which pipelines fill: the notes
    alone do not say where the bar lines are."""

    key: Annotated[Key | None, Knob("key, as the notes tell it")] = None
    density: Annotated[float | None, Knob("notes a quarter, mean of the voices", 0, 4)] = None
    cadence: Annotated[Literal["authentic", "plagal", "half", "other"] | None, Knob("how it ends")] = None
    beat: Annotated[Array | None, Given("position in the bar of each sixteenth, from 1; 0 past the end", size=24, vocab=BEATS)] = (
        None
    )
    fermata: Annotated[
        Array | None, Given("whether a fermata holds each sixteenth: 1 no, 2 yes; 0 past the end", size=4, vocab=3)
    ] = None


def describe(phrase: Phrase) -> Wish:
    """Key and cadence as :mod:`headwater_music.harmony` reads them, density counted; all None for silence."""
    if not phrase.onset.any():
        return Wish()
    tonic, mode = harmony.estimate_key(phrase)
    density = 4.0 * float(phrase.onset.sum()) / (phrase.frames * phrase.voices)
    cadence = harmony.cadence(phrase, tonic)
    return Wish(key=key_name(tonic, mode), density=density, cadence=cadence)  # type: ignore[arg-type]


def given(name: str, phrase: Phrase) -> Wish:
    """The track ``beat`` or ``fermata`` of a phrase, (656,) int64."""
    track = np.zeros(LENGTH, np.int64)
    if name == "beat":
        track[: phrase.frames] = 1 + phrase.beat
        return Wish(beat=track)
    if name == "fermata":
        track[: phrase.frames] = 1 + phrase.fermata
        return Wish(fermata=track)
    raise KeyError(name)

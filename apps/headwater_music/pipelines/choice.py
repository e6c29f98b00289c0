"""Which of several candidates to take, by the rules of four-part writing; and what those rules say of a piece, bar by bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from headwater_music import harmony, memory, rules
from headwater_music.files.piece import Bar, Piece
from headwater_music.pipelines.anew import Draft
from headwater_music.score import VOICES, Array, Phrase, key_name
from headwater_music.wishes import Wish


def points(phrase: Phrase, wish: Wish) -> float:
    """Faults of a phrase, weighed: 1 for a parallel fifth or octave, .5 for a quarter that is no chord, .25 for each sixteenth with
    crossed voices or a voice out of its range, .1 for one with wide spacing, 3 for an end that is not on the tonic (unless another
    was wished for) and for a key or cadence that is not the one wished for."""
    found = rules.report(phrase)
    other_key = wish.key is not None and wish.key != _key(phrase)
    other_cadence = wish.cadence is not None and wish.cadence != found.cadence
    astray = not found.final_tonic and wish.cadence in (None, "authentic", "plagal")
    return (
        len(found.parallels) + 0.5 * (found.beats - found.chordal)
        + 0.25 * (found.crossed + found.outside) + 0.1 * found.wide + 3.0 * (astray + other_key + other_cadence)
    )  # fmt: skip


def _key(phrase: Phrase) -> str:
    return key_name(*harmony.estimate_key(phrase))


def best(drafts: Sequence[Draft], wish: Wish) -> int:
    """Which draft to take: one that can be used before one that cannot, one that copies no two bars from the training set before
    one that does, then the fewest :func:`points`; of equals the first. ``wish`` is in the model's key, as is what it looks at."""

    def rank(i: int) -> tuple[bool, bool, float]:
        draft = drafts[i]
        unusable = rules.problem(draft.phrase) is not None
        return unusable, memory.longest_copy(draft.seen).frames >= memory.LONG, points(draft.seen, wish)

    return 0 if len(drafts) == 1 else min(range(len(drafts)), key=rank)


# --- in words ------------------------------------------------------------------------------------------------------


def listed(words: Sequence[str]) -> str:
    """
    >>> listed(["3"]), listed(["3", "5", "9"])
    ('3', '3, 5 and 9')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def in_bars(measures: Sequence[Bar], frames: Sequence[int] | Array, most: int = 12) -> str:
    """Where frames lie, for a player: "bar 3", "bars 3, 5 and 9", "the pickup"."""
    starts = [bar.start for bar in measures]
    places = np.searchsorted(starts, np.asarray(frames), side="right") - 1
    numbers = list(dict.fromkeys(measures[int(p)].number for p in places))
    words = [str(n) for n in numbers if n > 0]
    more = [f"{len(words) - most} more"] if len(words) > most else []
    pickup = ["the pickup"] if 0 in numbers else []
    counted = [f"bar{'s' * (len(words) > 1)} {listed([*words[:most], *more])}"] if words else []
    return " and ".join(pickup + counted)


def remarks(piece: Piece) -> list[str]:
    """What the rules have against a piece of four voices, a sentence for each kind of fault, with voices and bars."""
    return [f"{what} in {in_bars(piece.bars, where)}" for what, where in _faults(piece.phrase)]


def _faults(phrase: Phrase) -> Iterator[tuple[str, Sequence[int] | Array]]:
    if phrase.voices != len(VOICES):
        return
    found, pitch = rules.report(phrase), phrase.pitch
    for interval, places in (("fifths", found.fifths), ("octaves", found.octaves)):
        for a, b in combinations(range(4), 2):
            frames = [frame for frame, high, low in places if (high, low) == (a, b)]
            if frames:
                yield f"parallel {interval} between {VOICES[a]} and {VOICES[b]}", frames
    sounds = pitch > 0
    for a, b in combinations(range(4), 2):
        crossed = np.flatnonzero(sounds[:, a] & sounds[:, b] & (pitch[:, a] < pitch[:, b]))
        if len(crossed):
            yield f"{VOICES[b]} above {VOICES[a]}", crossed
    for a in (0, 1):
        wide = np.flatnonzero(sounds[:, a] & sounds[:, a + 1] & (pitch[:, a].astype(int) - pitch[:, a + 1] > 12))
        if len(wide):
            yield f"more than an octave between {VOICES[a]} and {VOICES[a + 1]}", wide
    for v, voice in enumerate(VOICES):
        low, high = rules.RANGES[voice]
        for side, mask in (("low", pitch[:, v] < low), ("high", pitch[:, v] > high)):
            if (sounds[:, v] & mask).any():
                yield f"{voice} too {side} for its range", np.flatnonzero(sounds[:, v] & mask)
    first = phrase.pickup % 4
    heard = [(t, frozenset(int(p) % 12 for p in pitch[t] if p > 0)) for t in range(first, phrase.frames, 4)]
    strange = [t for t, chord in heard if chord and not harmony.is_chord(chord)]
    if strange:
        yield f"no triad or seventh chord on {len(strange)} of {found.beats} quarters", strange

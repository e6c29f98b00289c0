"""Bach's four-part chorales as music21's corpus encodes them: parsed once, with onsets, keys, metres and fermatas, then kept.

The parsed form lies in the cache folder (``bach_chorales/``), named by the version of music21 and of this parser.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headwater.data import cache_folder
from headwater.errors import MissingExtra
from headwater_music.harmony import estimate_key
from headwater_music.score import METRES, Array, Note, Phrase

#: Raise it when :func:`parse` says something else of a file: what was kept is then parsed again.
FORMAT = 1
#: Longer or shorter pieces are no chorales; 640 frames are 40 bars of 4/4.
SHORTEST, LONGEST = 32, 640
#: Notes that a sixteenth grid moves or drops: beyond this share a piece is left out.
MOST_MOVED = 0.02


@dataclass(frozen=True)
class Piece:
    """A chorale of the corpus: its name ("bwv66.6"), the phrase, the ``sharps`` of its key signature, and what the grid did not
    hold: ``moved``, the share of notes not on the grid; ``metres``, how many different time signatures there are (the first one is
    the phrase's)."""

    name: str
    phrase: Phrase
    sharps: int
    moved: float
    metres: int


Progress = Callable[[int, int], None]


def parse(path: Path) -> Piece | None:
    """One file of the corpus, or None where it is not in four parts on a grid."""
    from music21 import converter, stream

    score = converter.parse(str(path), forceSource=True)
    if not isinstance(score, stream.Score) or len(score.parts) != 4:
        return None
    parts = [part.toSoundingPitch() for part in score.parts]
    voices, fermatas, moved, count = [], [], 0, 0
    for part in parts:
        notes: list[Note] = []
        for element in part.stripTies().flatten().notes:
            if element.duration.isGrace or not element.pitches:
                continue
            start, stop = 4 * float(element.offset), 4 * float(element.offset + element.quarterLength)
            count += 1
            moved += abs(start - round(start)) > 0.01 or abs(stop - round(stop)) > 0.01
            if round(stop) > round(start):
                notes.append(Note(round(start), round(stop) - round(start), max(p.midi for p in element.pitches)))
                if any("Fermata" in e.classes for e in element.expressions):
                    fermatas.append((round(start), round(stop)))
        voices.append(notes)
    if not all(voices):
        return None
    metres = [t.ratioString for t in parts[0].recurse().getElementsByClass("TimeSignature")]
    frames = max(note.start + note.length for notes in voices for note in notes)
    if not metres or metres[0] not in METRES or not SHORTEST <= frames <= LONGEST:
        return None
    first = parts[0].getElementsByClass("Measure").first()
    opening = round(4 * float(first.duration.quarterLength)) if first is not None else 0
    marks = np.zeros(frames, np.bool_)
    for start, stop in fermatas:
        marks[start:stop] = True
    signature = parts[0].recurse().getElementsByClass("KeySignature").first()
    sharps = signature.sharps if signature is not None else 0
    phrase = Phrase.of_notes(voices, frames, metre=metres[0], pickup=opening % METRES[metres[0]], fermata=marks)
    return Piece(path.name.removesuffix(path.suffix), phrase, sharps, moved / count, len(set(metres)))


def _file() -> Path:
    import importlib.metadata

    try:
        version = importlib.metadata.version("music21")
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra("Bach's chorales are read from music21's corpus: pip install 'headwater[music]'") from None
    return cache_folder() / "bach_chorales" / f"music21-{version}-{FORMAT}.safetensors"


@functools.cache
def pieces() -> tuple[Piece, ...]:
    """Every four-part piece by Bach in music21's corpus whose notes fit the grid, in the order of its files. The first call takes a
    minute or two. Raises :class:`MissingExtra` where music21 is not installed."""
    path = _file()
    if not path.is_file():
        _store(_parsed(), path)
    return _load(path)


def _parsed(progress: Progress = lambda done, total: None) -> list[Piece]:
    from music21 import corpus

    files = sorted((Path(p) for p in corpus.getComposer("bach") if Path(p).suffix in (".mxl", ".xml")), key=lambda p: p.name)
    found = []
    for i, file in enumerate(files):
        piece = parse(file)
        if piece is not None and piece.moved <= MOST_MOVED:
            found.append(piece)
        progress(i + 1, len(files))
    return found


def _store(found: list[Piece], path: Path) -> None:
    """Arrays end to end, and a table as JSON beside them."""
    from safetensors.numpy import save_file

    about = [
        {"name": p.name, "frames": p.phrase.frames, "metre": p.phrase.metre, "pickup": p.phrase.pickup,
         "sharps": p.sharps, "moved": p.moved, "metres": p.metres}
        for p in found
    ]  # fmt: skip
    arrays: dict[str, Array] = {
        "pitch": np.concatenate([p.phrase.pitch for p in found]),
        "onset": np.concatenate([p.phrase.onset for p in found]),
        "fermata": np.concatenate([p.phrase.fermata for p in found]),
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    save_file(arrays, part)
    os.replace(part, path)


def _load(path: Path) -> tuple[Piece, ...]:
    from safetensors.numpy import load_file

    arrays, out, at = load_file(path), [], 0
    entry: dict[str, Any]
    for entry in json.loads(arrays["about"].tobytes()):
        rows = slice(at, at := at + entry["frames"])
        rest = {k: entry[k] for k in ("metre", "pickup")}
        phrase = Phrase(arrays["pitch"][rows], arrays["onset"][rows], fermata=arrays["fermata"][rows], **rest)
        # Bach writes the church modes with one accidental less: a signature leaves several keys to choose from
        tonic, mode = estimate_key(phrase, entry["sharps"])
        keyed = replace(phrase, tonic=tonic, mode=mode)
        out.append(Piece(entry["name"], keyed, entry["sharps"], entry["moved"], entry["metres"]))
    return tuple(out)

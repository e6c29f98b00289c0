"""Music files: MIDI, MusicXML and ABC in; MIDI, MusicXML, sound and pictures out, around one carrier, :class:`Piece`.

>>> from headwater_music.score import Note, Phrase
>>> import tempfile
>>> piece = Piece(Phrase.of_notes([[Note(0, 4, 67), Note(4, 4, 66), Note(8, 8, 67)]], 16, tonic=7))
>>> with tempfile.TemporaryDirectory() as folder:
...     read(midi.write(piece, Path(folder) / "tune.mid")).phrase == piece.phrase
True
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater_music.files import abcnotation, grid, midi, musicxml, notation
from headwater_music.files.piece import Bar, Piece

__all__ = ["SUFFIXES", "Bar", "Piece", "midi", "musicxml", "notation", "read"]

SUFFIXES: dict[str, Callable[[Path], grid.Found]] = {
    ".mid": midi.found,
    ".midi": midi.found,
    ".musicxml": musicxml.found,
    ".xml": musicxml.found,
    ".mxl": musicxml.found,
    ".abc": abcnotation.found,
}


def read(path: str | Path, voices: int | None = None, track: str | int | None = None, lowest: int = 1, highest: int = 127) -> Piece:
    """The piece in a file; what had to change on the way to the grid of sixteenths is in its ``warnings``.

    ``voices`` is how many there must be (1: a melody; None: 1 to 4, as found), from the highest part down; ``track`` chooses one
    part by name or number (from 1) instead. Notes lie within ``lowest`` to ``highest`` (MIDI).

    Raises :class:`HeadwaterError` for a file that is missing, empty, corrupt, unsafe or too large, percussion alone, more than one
    note at a time in a part, or a note out of range (naming the bar).
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise HeadwaterError(f"{path}: no such file")
        reader = SUFFIXES.get(path.suffix.lower())
        if reader is None:
            raise HeadwaterError(f"{path}: unsupported kind of file; expected {', '.join(SUFFIXES)}")
        found = reader(path)
    except OSError as error:
        raise HeadwaterError(f"{path}: cannot be opened ({error.strerror or 'unreadable'})") from None
    return grid.piece(found, path, voices, track, lowest, highest)

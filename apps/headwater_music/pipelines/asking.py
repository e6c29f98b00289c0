"""What every task can be asked for: how many results, chosen how, written as which files; and how its source is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_music.files import SUFFIXES, Piece

EXAMPLES = Path(__file__).parent.parent / "examples"
#: Pieces that a model works on at once.
TOGETHER = 8
FILES = ("midi", "musicxml", "wav", "svg", "png", "roll")
SOURCE = "a MusicXML (.musicxml, .mxl), MIDI or ABC file, or a folder of them"


Tries = Annotated[int, Knob("candidates that each result is chosen from, by the rules of part writing; 1: no choice", 1, 8)]


@dataclass(frozen=True)
class Asking:
    """The options that all tasks share."""

    draws: Annotated[int, Knob("results for each piece", 1, 16)] = 1
    tries: Tries = 8
    files: Annotated[str, Knob("what to write: any of midi, musicxml, wav, svg, png (scores) and roll (piano roll)")] = (
        "midi,musicxml,wav,svg"
    )
    loop: Annotated[bool, Knob("to be looped: MIDI with loop markers, WAV exactly as long as the bars")] = False
    soundfont: Annotated[bool, Knob("WAV by the soundfont that `headwater data get timgm6mb` fetches")] = False

    def check(self) -> None:
        """Raises :class:`HeadwaterError` for what cannot be written, before anything is made."""
        from headwater_music.files import sound

        if "wav" in self.kinds and self.soundfont and sound.soundfont() is None:
            raise HeadwaterError("--soundfont: none is here; fetch one with `headwater data get timgm6mb`, or leave the flag out")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The files asked for. Raises :class:`HeadwaterError` for one that there is not."""
        words = [w for w in self.files.replace(",", " ").lower().split() if w != "none"]
        unknown = [w for w in words if w not in FILES]
        if unknown:
            raise HeadwaterError(f"--files: expected any of {', '.join(FILES)}, or none; got {unknown[0]!r}")
        return tuple(dict.fromkeys(words))


@dataclass(frozen=True)
class Scored(Asking):
    """Those of tasks whose results a model can be asked about as one."""

    likelihood: Annotated[bool, Knob("how likely the model finds each result, where it can tell exactly")] = True


@dataclass(frozen=True)
class Drawing(Scored):
    """Those of tasks in which a model draws notes one after another."""

    boldness: Annotated[float, Knob("the temperature of drawing: below 1 plays safe, above 1 is bolder", 0.1, 3)] = 0.8
    parallels: Annotated[
        bool, Knob("leave parallel fifths and octaves to the model; else it writes none, or writes them again")
    ] = False


class Source(NamedTuple):
    """A row: the name of the file that it came from, and what is in it."""

    name: str
    piece: Piece


def sources(path: Path, options: Asking, voices: int | None = None, track: str | None = None) -> Iterator[Source]:
    """The pieces of a file or of the music files in a folder, by name."""
    from headwater_music import files

    options.check()
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    for file in found:
        try:
            yield Source(file.name, files.read(file, voices=voices, track=track))
        except HeadwaterError as error:
            more = "; move it away, or run a batch job, which sets such a file aside" if len(found) > 1 else ""
            raise HeadwaterError(f"{error}{more}") from None

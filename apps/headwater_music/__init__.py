"""Music: four-part chorales and melodies. Neither torch nor any music library is imported by this package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.domain import Array, Domain
from headwater.recipe import Recipe
from headwater_datasets import card
from headwater_music import metrics, rules, wishes
from headwater_music.codecs import CHORALE, JSB, MELODY, QUARTERS, TWO_BARS
from headwater_music.data import BACH, JSB_CHORALES, JSB_QUARTERS
from headwater_music.pipelines.continuing import Continue
from headwater_music.pipelines.fill import Fill
from headwater_music.pipelines.generate import Generate
from headwater_music.pipelines.harmonise import Harmonise
from headwater_music.pipelines.interpolate import Interpolate
from headwater_music.pipelines.variations import Variations
from headwater_music.score import Phrase

if TYPE_CHECKING:
    from torch import nn

    from headwater.noise import Noise

HERE = Path(__file__).parent


def clocked(*args: Any, **options: Any) -> nn.Module:
    """:class:`headwater_music.networks.Clocked`, imported when a model is built."""
    from headwater_music.networks import Clocked

    return Clocked(*args, **options)


def clocked_both(*args: Any, **options: Any) -> nn.Module:
    """:class:`headwater_music.networks.ClockedBoth`, likewise."""
    from headwater_music.networks import ClockedBoth

    return ClockedBoth(*args, **options)


def whole(*args: Any, **options: Any) -> nn.Module:
    """:class:`headwater_music.networks.Whole`, likewise."""
    from headwater_music.networks import Whole

    return Whole(*args, **options)


class Music(Domain[Phrase, wishes.Wish]):
    """Four-part chorales, soprano to bass, and single melodies, on a grid of sixteenths.

    An item is a phrase: the pitch that each voice sounds in each sixteenth and where its notes begin, with metre, key, pickup and
    fermatas. It can be asked for by key, density and cadence; bars and metre by the beat of each frame. The models know Bach's
    chorales and nothing else: what they write is in his style at best, and no substitute for a composer's ear."""

    name = "music"
    summary = "four-part chorales and melodies: generate, harmonise, continue, infill; MIDI, MusicXML, sound and score"
    package = "headwater[music]"
    Wish = wishes.Wish
    codecs = {"chorale": CHORALE, "melody": MELODY, "two_bars": TWO_BARS, "jsb": JSB, "quarters": QUARTERS}
    networks = {"clocked": clocked, "clocked-both": clocked_both, "whole": whole}
    recipes = Recipe.folder(HERE / "recipes")
    datasets = {"bach": BACH, "jsb": JSB_CHORALES, "jsb_quarters": JSB_QUARTERS}
    cards = (card("timgm6mb"),)  # the soundfont of --soundfont
    metrics = metrics.METRICS
    pipelines = (Harmonise, Fill, Variations, Generate, Continue, Interpolate)
    models = HERE / "models"

    def describe(self, item: Phrase) -> wishes.Wish:
        """Key and cadence as the notes tell them, and notes a quarter."""
        return wishes.describe(item)

    def given(self, name: str, item: Phrase, noise: Noise) -> wishes.Wish:
        """The tracks ``beat`` and ``fermata``."""
        return wishes.given(name, item)

    def features(self, items: Sequence[Phrase]) -> Array:
        """(items, 90) float32, the same in every key; see :func:`headwater_music.metrics.features`."""
        return metrics.features(items)

    def problem(self, item: Phrase, asked: wishes.Wish | None = None) -> str | None:
        """What makes a phrase unusable: nothing sounds, or a voice is silent throughout; by bar where there is one."""
        return rules.problem(item)

    def render(self, item: Phrase) -> str:
        """A piano roll with bar lines, the voices in four colours."""
        from headwater_music.render import render

        return render(item)

    def write(self, items: Iterable[Phrase], folder: Path) -> list[Path]:
        """``item_00000.mid`` and ``item_00000.musicxml``, and so on, for every item in which anything sounds."""
        from headwater_music.files import Piece, midi, notation

        written = []
        for i, item in enumerate(items):
            if item.onset.any():
                piece, name = Piece(item), folder / f"item_{i:05d}"
                written += [midi.write(piece, name.with_suffix(".mid")), notation.write(piece, name.with_suffix(".musicxml"))]
        return written

    def read(self, path: Path) -> list[Phrase]:
        """The phrase of a MIDI, MusicXML or ABC file."""
        from headwater_music.files import read

        return [read(path).phrase]

    def record(self, item: Phrase) -> dict[str, Any]:
        """Key, length, the rules report, and the longest run of frames copied from the training set with its source."""
        from headwater_music import memory

        copied = memory.longest_copy(item)
        return {
            "key": item.key, "metre": item.metre, "bars": item.bars, "frames": item.frames, "voices": item.voices,
            "notes": int(item.onset.sum()), **rules.report(item).record(),
            "copied_frames": copied.frames, "copied_from": copied.source,
        }  # fmt: skip

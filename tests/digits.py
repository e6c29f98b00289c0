"""scikit-learn's handwritten digits as a domain: 8x8 pixels of 17 grey levels, 1,300 to train on, 137 to choose by, 360 to test.

The small pictures on which every family is compared in bits a pixel: a table of what follows the left and the upper neighbour,
counted on all 1,437, reaches 2.228 on the same test. One codec is a grid, the other the same pixels as tokens, row by row; nothing
here knows a family. ``conftest.py`` puts this module into ``sys.modules``, as it does ``toys``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from headwater import Codec, Dataset, Domain, Grid, Knob, Tokens
from headwater.errors import HeadwaterError
from headwater.noise import Noise

LEVELS = 17
Image = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class DigitWish:
    ink: Annotated[float | None, Knob("mean grey level", 0, 16)] = None
    side: Annotated[Literal["left", "right"] | None, Knob("the half with more ink")] = None


class Pixels(Codec[Image]):
    """Grey level v of an item lies in [v, v + 1): the middle of it as data, anywhere in it as training sees it."""

    space = Grid(1, (8, 8), levels=LEVELS)

    def encode(self, item: Image) -> np.ndarray[Any, Any]:
        return (item[None] * (2 / LEVELS) - 1).astype(np.float32)

    def decode(self, array: np.ndarray[Any, Any]) -> Image:
        return centred((array[0] + 1) * (LEVELS / 2))

    def view(self, item: Image, noise: Noise) -> Image:
        """Dequantised (Uria et al., 2013, https://arxiv.org/abs/1306.0186), kept below the next level in float32."""
        u = noise.uniform(8, 8)[0].numpy()
        return (np.floor(item) + u * np.float32(1 - 1e-5)).astype(np.float32)


class Raster(Codec[Image]):
    """The same pixels, row by row, level v as token v + 1."""

    space = Tokens(LEVELS + 1, 64)

    def encode(self, item: Image) -> np.ndarray[Any, Any]:
        return np.floor(item).astype(np.int64).reshape(64, 1) + 1

    def decode(self, array: np.ndarray[Any, Any]) -> Image:
        return centred(np.maximum(array[:, 0] - 1, 0).reshape(8, 8))


def centred(values: np.ndarray[Any, Any]) -> Image:
    """Any numbers to the middles of grey levels."""
    return (np.clip(np.floor(np.nan_to_num(values)), 0, LEVELS - 1) + 0.5).astype(np.float32)


@functools.cache
def rows(split: str) -> list[Image]:
    """Each digit in its share of the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train, test = train_test_split(images, test_size=0.2, stratify=labels, random_state=0)
    part = {"train": train[:1300], "valid": train[1300:], "test": test}[split]
    return [centred(image.reshape(8, 8)) for image in part]


class Digits(Domain[Image, DigitWish]):
    """Handwritten digits of 8x8 pixels (Alpaydin and Kaynak, 1998, https://doi.org/10.24432/C50P49)."""

    name, summary = "digits", "handwritten digits of 8x8 pixels"
    Wish = DigitWish
    codecs = {"raster": Raster(), "pixels": Pixels()}
    datasets = {"digits": Dataset(Path(__file__).parent, rows, lambda: rows("train")[:20])}

    def describe(self, item: Image) -> DigitWish:
        values = np.floor(item)
        return DigitWish(ink=float(values.mean()), side="left" if values[:, :4].sum() >= values[:, 4:].sum() else "right")

    def features(self, items: Sequence[Image]) -> np.ndarray[Any, Any]:
        return np.stack([np.floor(item).ravel() for item in items]).astype(np.float32)

    def render(self, item: Image) -> str:
        shades = "".join(
            f'<rect x="{c}" y="{r}" width="1" height="1" fill="rgb({g},{g},{g})"/>'
            for (r, c), g in np.ndenumerate(255 - (np.floor(item) * 255 // (LEVELS - 1)).astype(int))
        )
        return f'<svg viewBox="0 0 8 8" width="64" height="64">{shades}</svg>'

    def write(self, items: Iterable[Image], folder: Path) -> list[Path]:
        path = folder / "digits.csv"
        np.savetxt(path, np.stack([np.floor(item).ravel() for item in items]), fmt="%d", delimiter=",")
        return [path]

    def read(self, path: Path) -> list[Image]:
        try:
            values = np.loadtxt(path, delimiter=",", ndmin=2)
            return [centred(row.reshape(8, 8)) for row in values]
        except (OSError, ValueError) as error:
            raise HeadwaterError(f"{path}: expected 64 numbers a line, divided by commas ({error})") from None

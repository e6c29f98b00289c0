"""Grey PNG and JPEG pictures of 8 or 16 bits: one slice, physical units are grey levels.

The output is always PNG of the same depth: writing a restored picture as JPEG would add the very artefacts that were removed.
Colour is refused, unless it is grey stored as colour (channels within JPEG's rounding of each other), which is read as luminance.
Maps become 16-bit PNG; the text chunk ``headwater`` states how a pixel becomes a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.writing import replacing
from headwater_medical.files.volume import Kind, Volume, check_size
from headwater_medical.intensity import Scale

GREY_TOLERANCE = 8  # levels between channels that JPEG's own colour rounding can cause


def _levels(path: Path) -> Array:
    """uint8 or uint16 (rows, columns). Raises :class:`HeadwaterError`."""
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            check_size(path, image.height, image.width)
            image.load()
            if image.mode.startswith("I"):
                return np.asarray(image).astype(np.uint16)
            if image.mode == "L":
                return np.asarray(image)
            if image.mode not in ("1", "LA", "P", "PA", "RGB", "RGBA"):
                raise HeadwaterError(f"{path}: not a grey picture (mode {image.mode}); grey PNG or JPEG of 8 or 16 bits is read")
            colour = np.asarray(image.convert("RGBA")).astype(np.int16)
            grey = np.asarray(image.convert("L"))
    except Image.DecompressionBombError:
        raise HeadwaterError(f"{path}: the header states more pixels than any picture has; it was not unpacked") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
        raise HeadwaterError(f"{path}: truncated, corrupt or not a PNG or JPEG picture") from None
    if np.ptp(colour[..., :3], axis=-1).max() > GREY_TOLERANCE:
        raise HeadwaterError(f"{path}: a colour picture; grey images are read: convert it to grey first")
    if colour[..., 3].min() < 255:
        raise HeadwaterError(f"{path}: a picture with transparency; save it without")
    return grey


def volumes(path: Path, volume: int | None = None) -> Iterator[Picture]:
    """The one slice of a picture. Raises :class:`HeadwaterError`."""
    if volume not in (None, 0):
        raise HeadwaterError(f"--volume: a picture ({path}) holds only volume 0; got {volume}")
    yield Picture(path, _levels(path))


class Picture(Volume):
    format = "picture"

    def __init__(self, path: Path, levels: Array) -> None:
        self.path, self.name, self.pixels = path, path.stem, levels[None]
        self.dtype, self.shape = levels.dtype, (1, levels.shape[0], levels.shape[1])
        self.slope, self.intercept = np.ones(1), np.zeros(1)

    def raw(self, low: int, high: int) -> Array:
        return self.pixels[low:high]

    def _scale(self, sample: Array) -> Scale:
        """8-bit levels were windowed by whoever saved them: 0 to 255. 16 bits may hold 12: as for any volume."""
        return Scale(0.0, 255.0) if self.dtype == np.uint8 else super()._scale(sample)

    def write(self, folder: Path, suffix: str, slabs: Iterable[Array], kind: Kind = "image", run_hash: str = "") -> list[Path]:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        path = folder / f"{self.name}_{suffix}.png"
        text: Any = PngInfo()
        if kind == "image":
            pixels = np.concatenate([numbers for _, numbers in self.encoded(slabs, kind)])[0]
        else:
            values, largest = self.spooled(slabs, kind)
            offset, room = (32768, 32767) if kind == "residual" else (0, 65535)
            step = float(f"{(largest or 1.0) / room:.6g}")
            pixels = np.clip(np.rint(values[0] / step) + offset, 0, 65535).astype(np.uint16)
            text.add_text("headwater", f"{kind} = (pixel - {offset}) * {step:g}" if offset else f"{kind} = pixel * {step:g}")
        with replacing(path) as file:
            Image.fromarray(pixels).save(file, "PNG", pnginfo=text)
        return [path]

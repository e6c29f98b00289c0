"""Pictures as bytes and as HTML: 8-bit PNGs inlined in the page, nothing fetched."""

from __future__ import annotations

import base64
import io

import numpy as np

from headwater.domain import Array


def png_bytes(item: Array, bits: int = 8) -> bytes:
    """A float picture (H, W), 0 black and 1 white, as a grey PNG of 8 or 16 bits; values outside are clipped."""
    from PIL import Image

    top = 2**bits - 1
    values = np.rint(np.clip(np.nan_to_num(item), 0, 1) * top).astype(np.uint8 if bits == 8 else np.uint16)
    sink = io.BytesIO()
    Image.fromarray(values).save(sink, format="PNG", optimize=False)
    return sink.getvalue()


def data_uri(item: Array) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(item)).decode()


def picture(item: Array, label: str = "picture") -> str:
    """An ``<img>`` at least 128 pixels wide, its pixels kept square and sharp."""
    width = max(128, item.shape[1])
    return f'<img alt="{label}" width="{width}" style="image-rendering:pixelated" src="{data_uri(item)}">'

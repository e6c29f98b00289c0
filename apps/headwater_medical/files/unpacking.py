"""Decoding with GDCM, in a process of its own: some corrupt streams make GDCM end the whole process, without an exception.

Pillow and pydicom decode JPEG 2000, baseline JPEG and RLE where they are asked; what only GDCM can (lossless JPEG, JPEG-LS,
12-bit JPEG) is decoded once, by one child for a whole series, into an unnamed temporary file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array

#: Transfer syntaxes and who decodes them; every other one is not compressed, or not supported by anybody.
DECODERS = {
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.90": "pillow",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.91": "pillow",  # JPEG 2000
    "1.2.840.10008.1.2.4.51": "gdcm",  # JPEG extended
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",  # JPEG lossless, first order
    "1.2.840.10008.1.2.4.80": "gdcm",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "gdcm",  # JPEG-LS, near-lossless
}


def unpacked(paths: Sequence[Path], dtype: np.dtype, shape: tuple[int, int]) -> tuple[Array, bool]:
    """Decoded slices (n, rows, columns) of ``dtype``, on disk, and whether that is all: the first missing is the bad one."""
    job = json.dumps({"paths": [str(p) for p in paths], "dtype": dtype.str, "shape": shape})
    with tempfile.TemporaryFile() as kept:
        command = [sys.executable, "-P", "-m", __name__]
        subprocess.run(command, input=job.encode(), stdout=kept, stderr=subprocess.DEVNULL, check=False)
        plane = shape[0] * shape[1] * dtype.itemsize
        whole = min(kept.seek(0, 2) // plane, len(paths))
        found = np.memmap(kept, dtype, "r", shape=(whole, *shape)) if whole else np.zeros((0, *shape), dtype)
        return found, whole == len(paths)


def decode(ds: Any) -> Array:
    """The stored numbers of a data set, by the decoder its transfer syntax asks for. Raises whatever the decoder raises."""
    from pydicom.pixels.utils import pixel_array

    return np.asarray(pixel_array(ds, decoding_plugin=DECODERS.get(str(ds.file_meta.TransferSyntaxUID), "")))


def _child() -> None:
    import pydicom

    job = json.load(sys.stdin)
    for path in job["paths"]:
        numbers = decode(pydicom.dcmread(path))
        if numbers.shape != tuple(job["shape"]):
            sys.exit(1)
        sys.stdout.buffer.write(numbers.astype(job["dtype"]).tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _child()

"""The bytes of a file that may be packed, on disk and mapped into memory: a slab costs a slab, whatever the size of the file.

A packed file is unpacked once into an unnamed temporary file. What a header declares is checked against what the file can hold
before a byte is unpacked, and unpacking stops where more comes than was declared.
"""

from __future__ import annotations

import bz2
import gzip
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError

Packing = Literal["raw", "gzip", "bzip2"]
RATIO = {"gzip": 1100, "bzip2": 2_000_000}  # beyond what the format itself can reach on constant data
SLACK = 1 << 20  # bytes after the last voxel that are tolerated: some writers pad
CHUNK = 1 << 20


def opened(file: BinaryIO, packing: Packing) -> BinaryIO:
    """``file`` from where it stands, unpacked on reading."""
    if packing == "raw":
        return file
    return cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb") if packing == "gzip" else bz2.BZ2File(file, "rb"))


def payload(path: Path, packing: Packing, size: int, start: int = 0) -> Array:
    """The first ``size`` unpacked bytes from byte ``start`` of the file on: uint8 (size,), read-only.

    Raises :class:`HeadwaterError` for a truncated, corrupt or bloated file.
    """
    there = path.stat().st_size - start
    if size > there * RATIO.get(packing, 1):
        raise HeadwaterError(
            f"{path}: truncated: the header declares {size:,} bytes, more than the file can hold ({there:,} bytes here)"
        )
    if packing == "raw":
        return np.memmap(path, np.uint8, "r", offset=start, shape=(size,))
    if size > shutil.disk_usage(tempfile.gettempdir()).free:
        raise HeadwaterError(f"{path}: unpacking needs {size:,} bytes of temporary space; free some or set TMPDIR to a larger disk")
    with tempfile.TemporaryFile() as kept, open(path, "rb") as packed:
        packed.seek(start)
        total = 0
        try:
            with opened(packed, packing) as stream:
                while chunk := stream.read(CHUNK):
                    total += len(chunk)
                    if total > size + SLACK:
                        raise HeadwaterError(f"{path}: holds more than the {size:,} bytes its header declares; the header is wrong")
                    kept.write(chunk)
        except (EOFError, OSError, zlib.error):
            raise HeadwaterError(f"{path}: truncated or corrupt: unpacking stopped after {total:,} of {size:,} bytes") from None
        if total < size:
            raise HeadwaterError(f"{path}: truncated: {total:,} of the {size:,} bytes that the header declares are there")
        kept.flush()
        return np.memmap(kept, np.uint8, "r", shape=(size,))

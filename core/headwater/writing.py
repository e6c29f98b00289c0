"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from headwater.errors import HeadwaterError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when the block ends well. Raises :class:`HeadwaterError` where that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        why = error.strerror or "the disk refused"
        raise HeadwaterError(f"{path.parent}: cannot write there ({why}); name a folder that can be written with -o") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()

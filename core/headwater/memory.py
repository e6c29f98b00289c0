"""Memory that a long run has no more use for."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

M_MMAP_THRESHOLD = -3  # malloc.h


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """The C library's way to give memory back, if it is glibc; blocks of a megabyte and more stand alone from now on, so that
    theirs goes back when they are freed."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 1 << 20)
        found: Callable[[int], int] = library.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found


def give_back() -> None:
    """Hand what has been freed back to the system, for runs that draw tile after tile: tensors of ever other sizes (the keys and
    values of a text that grows) leave gaps that no later one fits, and resident memory creeps up by a quarter within a hundred
    thousand rows. Milliseconds, and nothing where the C library is another than glibc."""
    if (trim := _trim()) is not None:
        trim(0)

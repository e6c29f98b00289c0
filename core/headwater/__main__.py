"""``python -m headwater`` and the console script ``headwater``: the command line of :mod:`headwater.cli`."""

from __future__ import annotations

from headwater.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()

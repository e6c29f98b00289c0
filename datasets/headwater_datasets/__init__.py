"""Where data comes from: a folder for each data set with its card, its checksums and a tiny sample."""

from __future__ import annotations

from pathlib import Path


def card(name: str) -> Path:
    """The folder of a data set: ``card.toml``, ``CARD.md`` and the packaged sample.

    >>> (card("moses") / "card.toml").exists()
    True
    """
    return Path(__file__).parent / name

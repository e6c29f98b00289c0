"""Other authors than the package's own models: language models on this machine, and servers that hold one.

Whoever words a line, it is given placeholders and no customer's data, and the validator judges what comes. None of the packages
that this needs is imported before an author is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from headwater.errors import HeadwaterError
from headwater_marketing.writing import Author

if TYPE_CHECKING:
    from headwater.generator import Generator

SHAPES = "hf:FOLDER-OR-ID, hf:FOLDER-OR-ID+ADAPTER, hf:FILE.gguf, https://HOST/v1#MODEL, or a settings file (author.toml)"


class Source(Protocol):
    """Something that authors are made of: opened once, used for many calls."""

    def author(self, seed: int, boldness: float) -> Author: ...


def is_author(text: str) -> bool:
    """Whether a word names such an author, and not a model of the package.

    >>> is_author("hf:my/model"), is_author("http://localhost:8000/v1#llama"), is_author("marketing/autoregressive")
    (True, True, False)
    """
    return text.startswith(("hf:", "http://", "https://")) or text.endswith(".toml")


def opened(text: str, device: str = "cpu") -> Source:
    """The author that a word names; see :data:`SHAPES`. Raises :class:`HeadwaterError` for one that is not there."""
    if not is_author(text):
        raise HeadwaterError(f"--author: expected {SHAPES}; got {text!r}")
    if text.endswith(".toml"):
        from headwater_marketing.authors.settings import read

        return read(Path(text), device)
    if text.startswith("hf:"):
        from headwater_marketing.authors.causal import load

        return load(text.removeprefix("hf:"), device)
    from headwater_marketing.authors.endpoint import Endpoint

    address, _, model = text.partition("#")
    return Endpoint(address, model)


def author(model: Generator | Source, seed: int, boldness: float) -> Author:
    """An author of a loaded model, whichever kind it is."""
    made = getattr(model, "author", None)
    return made(seed, boldness) if made else Author(model, seed, boldness)  # type: ignore[arg-type]

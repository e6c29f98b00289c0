"""An author's settings as a small TOML file: a language model of this machine, or a server with its limits and prices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headwater import settings
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater_marketing.authors import Source

_Price = Annotated[float, Field(ge=0, le=1e6)]


class Settings(BaseModel):
    """``model = "hf:…"`` for a model of this machine; ``url`` and ``model`` for a server."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: Annotated[str, Field(min_length=1)]
    words: Literal["plain", "any"] | None = None
    shots: Annotated[int, Field(ge=0, le=8)] | None = None
    url: str | None = None
    key: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    tries: Annotated[int, Field(ge=1, le=10)] = 4
    per_minute: Annotated[float, Field(gt=0)] | None = None
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    prices: tuple[_Price, _Price] | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    extra: dict[str, Any] = {}


_SERVERS = ("key", "timeout", "tries", "per_minute", "at_once", "prices", "budget", "extra")


def read(file: Path, device: str = "cpu") -> Source:
    """The author of a settings file. Raises :class:`HeadwaterError` naming the key that is wrong."""
    told = settings.checked(
        Settings, settings.read(file, "a settings file", flag="--author"), "a settings file", f"--author: {file}"
    )
    given, other = told.model_fields_set, ("shots",) if told.url else _SERVERS
    if odd := [name for name in other if name in given]:
        raise HeadwaterError(f"--author: {file}: {odd[0]}: only for {'a model of this machine' if told.url else 'a server (url)'}")
    if told.url is None:
        if not told.model.startswith("hf:"):
            raise HeadwaterError(f"--author: {file}: model: without a url, expected hf:FOLDER-OR-ID; got {told.model!r}")
        from headwater_marketing.authors.causal import load

        return load(told.model.removeprefix("hf:"), device, words=told.words or "plain", shots=told.shots)
    from headwater_marketing.authors.endpoint import Endpoint

    return Endpoint(told.url, told.model, **{n: getattr(told, n) for n in (*_SERVERS, "words") if n in given})

"""Files that people write: TOML read, checked by a pydantic model, and one line for what is wrong with it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from headwater.errors import HeadwaterError

M = TypeVar("M", bound=BaseModel)


def read(file: Path, what: str, *, flag: str = "", hint: str = "") -> dict[str, Any]:
    """The values of a TOML file that should be ``what`` ("a job file"). Raises :class:`HeadwaterError` for one that is not there
    (naming the ``flag`` that named it; a ``hint`` goes behind) or no TOML."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise HeadwaterError(f"{flag + ': ' if flag else ''}no such file: {file}{hint}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise HeadwaterError(f"{file}: not {what} ({error})") from None


def checked(model: type[M], raw: Mapping[str, Any], what: str, where: str = "") -> M:
    """The values as ``model`` has them. Raises :class:`HeadwaterError` naming ``where`` they stand and the first key that is wrong:
    one that is unknown before one that is missing, since a misspelt key is both.

    >>> class Tea(BaseModel, extra="forbid"):
    ...     minutes: int
    >>> checked(Tea, {"minuets": 3}, "a tea", "tea.toml")
    Traceback (most recent call last):
    headwater.errors.HeadwaterError: tea.toml: minuets: is not a key of a tea; known: minutes
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        path = list(_path(raw, first["loc"], first["type"] == "missing"))
        told = [where, ".".join(map(str, path)), _plain(first, what, _known(model, path))]
        raise HeadwaterError(": ".join(word for word in told if word)) from None


def _path(raw: Any, place: Sequence[str | int], missing: bool) -> Iterator[str | int]:
    """pydantic's place of an error as keys of what was written: without the names of the kinds that it tried there."""
    for i, part in enumerate(place):
        inside = part in raw if isinstance(raw, Mapping) else isinstance(raw, list) and part in range(len(raw))
        if inside:
            raw = raw[part]
            yield part
        elif missing and i == len(place) - 1:
            yield part


def _known(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that are known where the last of a path stands."""
    here: Any = model
    for part in path[:-1]:
        for kind in _kinds(here):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
                here = kind.model_fields[str(part)].annotation
                break
            if get_origin(kind) in (dict, Mapping, list, tuple):
                here = get_args(kind)[-1 if get_origin(kind) in (dict, Mapping) else 0]
                break
    return [name for kind in _kinds(here) if isinstance(kind, type) and issubclass(kind, BaseModel) for name in kind.model_fields]


def _kinds(annotation: Any) -> Iterator[Any]:
    """What a value may be: each of a union, without None."""
    inner = get_args(annotation)
    if inner and get_origin(annotation) not in (dict, Mapping, list, tuple):
        for one in inner:
            yield from _kinds(one)
    elif annotation is not NoneType:
        yield annotation


def _plain(error: Any, what: str, known: Sequence[str]) -> str:
    """pydantic's complaint in our words."""
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return f"is not a key of {what}; known: {', '.join(known)}"
    text = error["msg"].removeprefix("Value error, ")
    return text if error["type"] == "value_error" else f"{text[:1].lower()}{text[1:]}; got {error['input']!r}"

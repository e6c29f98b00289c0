"""Knobs: the typed, bounded fields of a domain's condition.

A condition is a frozen dataclass whose fields are all optional. ``Annotated[float | None, Knob(...)]`` is a number (or an
integer, a switch or a choice) that appears on every surface: flag, batch column, schema, card row, network input.
``Annotated[Array | None, Given(...)]`` is a tensor or token sequence: it has no flag, pipelines fill it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from torch import Tensor as Array
else:
    Array = Any  # a Tensor to the type checker; torch stays unimported at run time

#: Words with a meaning on every command line and in every job file; no knob, option, pipeline or domain may take one.
RESERVED_OPTIONS = frozenset(
    "seed steps temperature top_p length_candidates guidance batch_size tile n out model json device rows data start".split()
    + "quiet help size workers example first wishes progress strength mask items input_source items_file".split()
)
RESERVED_NAMES = frozenset(
    "list train evaluate batch check new card data demo sample infill vary restore score optimise serve hub".split()
)


@dataclass(frozen=True)
class Knob:
    """A property that can be asked for: what it is, its sensible range (numbers) and its unit."""

    description: str
    low: float | None = None
    high: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Given:
    """A conditioning array that pipelines fill. ``kind`` says how it reaches the network: ``"cells"`` lies on the item's own
    cells (a degraded image, the beat of each frame), ``"sequence"`` is a token sequence read by attention (a plan of facts).
    ``size`` is the number of channels (floats) or, with ``vocab``, the length of the sequence."""

    description: str
    kind: Literal["cells", "sequence"] = "cells"
    size: int = 1
    vocab: int | None = None


@dataclass(frozen=True)
class Field:
    """One field of a condition, resolved: ``kind`` is number, integer, switch, choice, text or given."""

    name: str
    kind: Literal["number", "integer", "switch", "choice", "text", "given"]
    spec: Knob | Given
    choices: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return self.spec.description

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any) -> Any:
        """The value as this field's type. Raises :class:`HeadwaterError` naming flag, expectation and what came."""
        if value is None or self.kind == "given":
            return value
        assert isinstance(self.spec, Knob)
        low, high = self.spec.low, self.spec.high
        if self.kind == "text":
            return str(value)
        if self.kind == "choice":
            if str(value) not in self.choices:
                raise HeadwaterError(f"{self.flag}: expected one of {', '.join(self.choices)}; got {value!r}")
            return str(value)
        if self.kind == "switch":
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if str(value).lower() not in words:
                raise HeadwaterError(f"{self.flag}: expected yes or no; got {value!r}")
            return words[str(value).lower()]
        bounds = (
            ""
            if low is None and high is None
            else f" from {low if low is not None else '…'} to {high if high is not None else '…'}"
        )
        what = (
            ("a whole number" if self.kind == "integer" else "a number")
            + bounds
            + (f" ({self.spec.unit})" if self.spec.unit else "")
        )
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise HeadwaterError(f"{self.flag}: expected {what}; got {value!r}") from None
        outside = (low is not None and number < low) or (high is not None and number > high)
        if not math.isfinite(number) or outside or (self.kind == "integer" and number != int(number)):
            raise HeadwaterError(f"{self.flag}: expected {what}; got {value!r}")
        return int(number) if self.kind == "integer" else number


C = TypeVar("C")


def fields(condition: type) -> tuple[Field, ...]:
    """The fields of a condition (or of a pipeline's ``Options``), in order.

    Raises ``TypeError`` where a field is not ``Annotated[T | None, Knob(...)]`` or ``Annotated[Array | None, Given(...)]``.
    """
    return _fields(condition)


@functools.cache
def _fields(condition: Any) -> tuple[Field, ...]:
    hints = typing.get_type_hints(condition, include_extras=True)
    return tuple(_resolve(condition, field.name, hints[field.name]) for field in dataclasses.fields(condition))


def _resolve(owner: type, name: str, hint: Any) -> Field:
    where = f"{owner.__name__}.{name}"
    specs = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, Knob | Given)]
    if typing.get_origin(hint) is not typing.Annotated or len(specs) != 1:
        raise TypeError(f"{where}: expected Annotated[… | None, Knob(…)] or Annotated[Array | None, Given(…)]")
    spec, inner = specs[0], typing.get_args(hint)[0]
    if isinstance(spec, Given):
        return Field(name, "given", spec)
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        kinds = [a for a in typing.get_args(inner) if a is not types.NoneType]
        if len(kinds) != 1:
            raise TypeError(f"{where}: a knob has one type besides None")
        inner = kinds[0]
    if typing.get_origin(inner) is Literal:
        return Field(name, "choice", spec, tuple(map(str, typing.get_args(inner))))
    names: dict[type, Literal["number", "integer", "switch", "text"]] = {
        float: "number",
        int: "integer",
        bool: "switch",
        str: "text",
    }
    if inner not in names:
        raise TypeError(f"{where}: a knob is a float, int, bool, str or Literal; got {inner!r}")
    return Field(name, names[inner], spec)


def fill(condition: type[C], values: Mapping[str, Any]) -> C:
    """A condition (or options) from loose values: unknown names and values out of range raise :class:`HeadwaterError`."""
    known = {f.name: f for f in fields(condition)}
    for name in values:
        if name not in known:
            raise HeadwaterError(f"unknown knob {name!r}; this one knows: {', '.join(known) or 'none'}")
    return condition(**{name: known[name].check(value) for name, value in values.items() if value is not None})


def asked(condition: Any) -> dict[str, Any]:
    """The knobs a condition sets (given arrays and absent fields left out)."""
    return {
        f.name: value for f in fields(type(condition)) if f.kind != "given" and (value := getattr(condition, f.name)) is not None
    }

"""Flags: the options that many verbs share, and those made from a domain's knobs and a pipeline's options.

A flag made from a knob takes any word: :meth:`headwater.knobs.Field.check` reads it, so that the command line and Python complain
in the same words.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from headwater.knobs import Field, Knob, fields

Model = Annotated[str | None, typer.Option(metavar="MODEL", help="A shipped model or a model folder. Default: the first that can.")]
Seed = Annotated[int, typer.Option(help="The same seed makes the same items.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="The run's folder: new, empty, or an earlier run, which is replaced.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="Where to compute: cpu, cuda or cuda:1.")]


def knob_parameters(owner: type, panel: str) -> list[inspect.Parameter]:
    """A keyword parameter with a typer option for each knob of a condition or of a pipeline's options."""
    defaults = {f.name: f.default for f in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else {}
    return [_parameter(f, defaults.get(f.name), panel) for f in fields(owner) if f.kind != "given"]


def _parameter(field: Field, default: Any, panel: str) -> inspect.Parameter:
    spec = field.spec
    assert isinstance(spec, Knob)
    unit = f" ({spec.unit})" if spec.unit else ""
    usual = "" if default is None else f" Default: {('no', 'yes')[default] if isinstance(default, bool) else default}."
    text = f"{spec.description}{unit}.{usual}"
    if field.kind == "switch":
        names = (f"{field.flag}/--no-{field.flag[2:]}",)
        hint: Any = Annotated[bool | None, typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)]
    else:
        option = typer.Option(field.flag, metavar=metavar(field), help=text, rich_help_panel=panel, show_default=False)
        hint = Annotated[str | None, option]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def metavar(field: Field) -> str:
    """
    >>> metavar(Field("logp", "number", Knob("octanol-water partition", -2, 6)))
    '-2..6'
    """
    spec = field.spec
    assert isinstance(spec, Knob)
    if field.kind == "choice":
        return "|".join(field.choices)
    if field.kind == "text":
        return "TEXT"
    low, high = ("" if end is None else f"{end:g}" for end in (spec.low, spec.high))
    return f"{low}..{high}" if low or high else {"integer": "INTEGER"}.get(field.kind, "NUMBER")


def signed(
    function: Callable[..., Any], *, more: Sequence[inspect.Parameter] = (), drop: Sequence[str] = (), help: str = ""
) -> Callable[..., Any]:
    """``function(**values)`` as a function that shows typer its own parameters without ``drop`` and its last one, plus ``more``."""
    own = inspect.signature(function)
    hints = get_type_hints(function, localns=dict(inspect.getclosurevars(function).nonlocals), include_extras=True)
    kept = [
        p.replace(annotation=hints[n], kind=p.KEYWORD_ONLY)
        for n, p in own.parameters.items()
        if n not in drop and p.kind != p.VAR_KEYWORD
    ]

    def call(**values: Any) -> Any:
        return function(**values)

    call.__signature__ = inspect.Signature([*kept, *more])  # type: ignore[attr-defined]
    call.__annotations__ = {}
    call.__doc__ = help or inspect.getdoc(function)
    return call


def words(head: str, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> str:
    """A command line that would do the same again, without what is at its default; paths of input are never among ``values``.

    >>> words("headwater molecules sample", {"n": 24, "top_p": 1.0, "logp": 2.5, "draw": True}, {"top_p": 1.0})
    'headwater molecules sample -n 24 --logp 2.5 --draw'
    """
    import shlex

    usual, out = defaults or {}, [head]
    for name, value in values.items():
        if value is None or (name in usual and usual[name] == value):
            continue
        flag = f"-{name}" if len(name) == 1 else "--" + name.replace("_", "-")
        if isinstance(value, bool):
            out.append(flag if value else f"--no-{flag[2:]}")
        else:
            out += [flag, shlex.quote(str(value))]
    return " ".join(out)

"""The commands of one domain: ``sample``, ``vary`` and ``score`` where a model can, its pipelines, and commands of its own."""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from headwater import registry
from headwater.cli import group, suggestion
from headwater.domain import Domain
from headwater.errors import HeadwaterError, MissingExtra

if TYPE_CHECKING:
    from headwater.generator import Generator


def domain_group(name: str) -> TyperGroup:
    """The group of a domain's commands. Raises :class:`HeadwaterError` where the domain is broken."""
    domain = registry.find(name)
    from headwater.cli import pipeline, sample, score, vary

    functions: dict[str, Callable[..., Any]] = {"sample": sample.build(domain)}
    if registry.models_with(domain, "vary"):
        functions["vary"] = vary.build(domain)
    if registry.models_with(domain, "score"):
        functions["score"] = score.build(domain)
    functions |= {kind.name: pipeline.build(domain, kind) for kind in domain.pipelines}
    functions |= {verb: pkgutil.resolve_name(place) for verb, place in domain.commands.items()}
    functions = {verb: extras(domain, function) for verb, function in functions.items()}
    text = domain.summary + ("\n\n" + domain.notice if domain.notice else "")
    return group(name, functions, text)


def extras(domain: Domain[Any, Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with the domain's missing packages named by what brings them."""

    @functools.wraps(function)
    def guarded(**values: Any) -> Any:
        try:
            return function(**values)
        except ModuleNotFoundError as error:
            if not domain.package or not error.name or error.name.partition(".")[0] == "headwater":
                raise
            raise MissingExtra(f"{domain.name} needs {error.name}: pip install '{domain.package}'") from None

    return guarded


def open_model(domain: Domain[Any, Any], name: str | None, verb: str, device: str = "cpu") -> Generator:
    """The named model of a domain (short name, ``domain/name`` or folder), or the first shipped one with the verb.

    Raises :class:`HeadwaterError` for a model that is not there, is another domain's, or cannot do the verb."""
    if name is None:
        able = registry.models_with(domain, verb)
        if not able:
            raise HeadwaterError(
                f"no shipped model of {domain.name} can {verb}; train one (`headwater train {domain.name} RECIPE`) "
                "and name its folder with --model"
            )
        name = able[0]
    shipped = registry.models(domain)
    if "/" not in name and not Path(name).exists():
        if name not in shipped:
            raise HeadwaterError(
                f"--model: {domain.name} has no model {name!r}; {suggestion(name, list(shipped))} (or give a folder)"
            )
        name = f"{domain.name}/{name}"
    _, owner = registry.find_model(name)
    if owner.name != domain.name:
        raise HeadwaterError(f"--model: expected a model of {domain.name}; {name} is one of {owner.name}")
    check_device(device)
    from headwater.generator import load

    generator = load(name, device)
    generator.need(verb)  # type: ignore[arg-type]
    return generator


def check_device(device: str) -> None:
    """Raises :class:`HeadwaterError` for a device that this machine does not have."""
    import torch

    try:
        kind = torch.device(device)
        torch.empty(0, device=kind)
    except (RuntimeError, AssertionError):
        here = "cpu or cuda" if torch.cuda.is_available() else "cpu, the only device here"
        raise HeadwaterError(f"--device: expected {here}; got {device!r}") from None


def model_name(generator: Generator, asked: str | None) -> str:
    """What to write after ``--model`` to get this model again."""
    return asked if asked is not None and Path(asked).exists() else generator.name


def read_items(domain: Domain[Any, Any], file: Path) -> list[Any]:
    """The items of a user's file. Raises :class:`HeadwaterError` for one that is not there, or holds none."""
    if not file.exists():
        raise HeadwaterError(f"FILE: no such file: {file}")
    items = domain.read(file)
    if not items:
        raise HeadwaterError(f"FILE: {file} holds no items")
    return items

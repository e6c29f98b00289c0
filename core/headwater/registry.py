"""Which domains there are, found through the entry-point group ``headwater.domains``; nothing registers itself on import.

A domain that cannot be used is listed as broken with the reason, and the others go on working.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.checkpoint import CONFIG, read_config
from headwater.domain import Domain
from headwater.errors import BadModel, BrokenDomain, HeadwaterError
from headwater.knobs import RESERVED_NAMES, RESERVED_OPTIONS, fields

GROUP = "headwater.domains"


@dataclass(frozen=True)
class Entry:
    """A registered domain: the domain, or why it is broken."""

    name: str
    domain: Domain[Any, Any] | None
    reason: str = ""


class Entries(MutableMapping[str, Entry]):
    """Every registered domain by name, broken ones included, each imported when it is first looked at. Of two of one name, as of a
    distribution seen twice on the path, the first."""

    def __init__(self) -> None:
        points = importlib.metadata.entry_points(group=GROUP)
        self._points = {point.name: point for point in sorted(points, key=lambda p: p.name)[::-1]}
        self._loaded: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._loaded:
            self._loaded[name] = _load(self._points[name])
        return self._loaded[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._loaded[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._points, *self._loaded}))

    def __len__(self) -> int:
        return len({*self._points, *self._loaded})


@functools.cache
def entries() -> Entries:
    """The registered domains."""
    return Entries()


def _load(point: importlib.metadata.EntryPoint) -> Entry:
    try:
        domain = point.load()()
        complaint = faults(domain, point.name)
    except (Exception, SystemExit) as error:  # whatever an outsider's module raises must not take the others down
        return Entry(point.name, None, " ".join(f"{type(error).__name__}: {error}".split()))
    return Entry(point.name, None if complaint else domain, complaint)


@contextmanager
def registered(domain: Domain[Any, Any]) -> Iterator[None]:
    """A domain that is not installed, known by its name inside the block: for one under development."""
    known: Any = entries()
    before = known.get(domain.name)
    known[domain.name] = Entry(domain.name, domain)
    try:
        yield
    finally:
        known.pop(domain.name) if before is None else known.update({domain.name: before})


def faults(domain: Any, name: str) -> str:
    """Why a domain may not be registered under a name, empty if it may."""
    if not isinstance(domain, Domain):
        return f"the entry point gives a {type(domain).__name__}, not a headwater.Domain"
    if domain.name != name:
        return f"it is registered as {name!r} but calls itself {domain.name!r}"
    if domain.name in RESERVED_NAMES:
        return f"the name {domain.name!r} is reserved"
    for pipeline in domain.pipelines:
        if pipeline.name in RESERVED_NAMES:
            return f"its pipeline takes the reserved name {pipeline.name!r}"
        for option in fields(pipeline.Options):
            if option.name in RESERVED_OPTIONS:
                return f"its pipeline {pipeline.name!r} takes the reserved option {option.name!r}"
    taken = {*RESERVED_NAMES, *(pipeline.name for pipeline in domain.pipelines)}
    if odd := next((name for name in domain.commands if name in taken), None):
        return f"its command takes the reserved name {odd!r}"
    for knob in fields(domain.Wish):
        if knob.name in RESERVED_OPTIONS:
            return f"its knob {knob.name!r} takes a reserved name"
    return ""


def domains() -> dict[str, Domain[Any, Any]]:
    """The domains that work, by name."""
    return {name: entry.domain for name, entry in entries().items() if entry.domain is not None}


def find(name: str) -> Domain[Any, Any]:
    """A domain by name. Raises :class:`HeadwaterError` for an unknown and :class:`BrokenDomain` for a broken one."""
    entry = entries().get(name)
    if entry is None:
        raise HeadwaterError(f"unknown domain {name!r}; installed: {', '.join(entries()) or 'none'}")
    if entry.domain is None:
        raise BrokenDomain(f"the domain {name!r} is broken: {entry.reason}")
    return entry.domain


def models(domain: Domain[Any, Any]) -> dict[str, Path]:
    """A domain's shipped models by name."""
    if domain.models is None or not domain.models.is_dir():
        return {}
    return {p.name: p for p in sorted(domain.models.iterdir()) if (p / CONFIG).is_file()}


def models_with(domain: Domain[Any, Any], verb: str) -> list[str]:
    """The shipped models that can answer a verb, as ``domain/model``."""
    able = []
    for name, folder in models(domain).items():
        try:
            if verb in read_config(folder)["verbs"]:
                able.append(f"{domain.name}/{name}")
        except BadModel:
            continue
    return able


def find_model(name: str | Path) -> tuple[Path, Domain[Any, Any]]:
    """The folder and the domain of ``"domain/model"`` or of a path. Raises :class:`HeadwaterError` listing what there is."""
    path = Path(name)
    if (path / CONFIG).is_file():
        return path, find(read_config(path)["domain"])
    domain_name, _, model = str(name).partition("/")
    if domain_name in entries() and model:
        domain = find(domain_name)
        shipped = models(domain)
        if model in shipped:
            return shipped[model], domain
        raise HeadwaterError(
            f"unknown model {model!r}; {domain_name} has {', '.join(shipped) or 'no shipped model'}, or give a folder"
        )
    if path.is_dir():
        raise BadModel(f"{path}: not a model folder (no {CONFIG}); give a folder that `headwater train` wrote")
    known = [f"{d.name}/{m}" for d in domains().values() for m in models(d)]
    raise HeadwaterError(f"unknown model {str(name)!r}; shipped: {', '.join(known) or 'none'}, or give a model folder")

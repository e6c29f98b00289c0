"""The conformance kit: what every domain promises, as checks that run under pytest and under ``headwater check NAME``.

A check is a small function whose docstring says what it holds a domain to. It raises ``AssertionError`` with a message that tells
the author what to do, or returns a note where something cannot be checked here (data that are absent), or returns None.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from headwater.domain import Domain
from headwater.testing import batch_checks, domain_checks, recipe_checks, surface_checks
from headwater.testing.subject import Subject


@dataclass(frozen=True)
class Check:
    """One promise; ``recipe`` names the recipe it is held for, empty for a promise of the domain as a whole."""

    name: str
    promise: Callable[..., str | None]
    recipe: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}-{self.recipe}" if self.recipe else self.name

    @property
    def summary(self) -> str:
        """The first sentence of the check's docstring."""
        return " ".join((inspect.getdoc(self.promise) or "").split("\n\n")[0].replace("``", "").split())

    def __call__(self, subject: Subject) -> str | None:
        """A note or None. Raises ``AssertionError``; whatever else the domain raises becomes one, naming where it came from."""
        try:
            return self.promise(subject, self.recipe) if self.recipe else self.promise(subject)
        except AssertionError as error:
            raise AssertionError(f"{self.label}: {error}") from error
        except Exception as error:
            where = _origin(error)
            raise AssertionError(f"{self.label}: {type(error).__name__}: {error} (raised {where})") from error


@dataclass(frozen=True)
class Outcome:
    """How a check came out. ``note`` is why it failed, or what could not be checked."""

    check: str
    summary: str
    status: Literal["pass", "fail", "unchecked"]
    note: str
    seconds: float


def _origin(error: Exception) -> str:
    """The last line of code that an exception passed through."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "outside Python" if trace is None else f"in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"


def checks(domain: Domain[Any, Any]) -> list[Check]:
    """Every check for a domain, those of its recipes after its own."""
    own = [Check(promise.__name__, promise) for promise in (*domain_checks.CHECKS, *surface_checks.CHECKS, *batch_checks.CHECKS)]
    names = Subject(domain).recipe_names
    return own + [Check(promise.__name__, promise, name) for name in names for promise in recipe_checks.CHECKS]


def run(domain: Domain[Any, Any]) -> Iterator[Outcome]:
    """Each check's outcome as soon as it is known."""
    with Subject(domain) as subject:
        for check in checks(domain):
            began = time.perf_counter()
            try:
                note = check(subject)
                status: Literal["pass", "fail", "unchecked"] = "unchecked" if note else "pass"
            except AssertionError as error:
                note, status = str(error).removeprefix(f"{check.label}: "), "fail"
            yield Outcome(check.label, check.summary, status, note or "", time.perf_counter() - began)


def conformance(domain: Domain[Any, Any]) -> Callable[..., None]:
    """A pytest test with one case for each check: ``test_conformance = headwater.testing.conformance(Levels())``."""
    import pytest

    @functools.cache
    def subject() -> Subject:
        return Subject(domain)

    @pytest.mark.parametrize("check", [pytest.param(c, id=c.label) for c in checks(domain)])
    def test_conformance(check: Check) -> None:
        note = check(subject())
        if note:
            print(f"{check.label}: {note}")

    return test_conformance

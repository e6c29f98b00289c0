"""What a person at a terminal sees: bars for work that takes more than a second, one line at the end. Quiet where nobody looks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Work shorter than this needs no bar.
PATIENCE = 1.0


class Bar:
    """A progress bar on standard error, shown once the work has taken a second, and only on a terminal.

    Called with (done, total), as verbs report; :meth:`stage` renames it. ``at_once`` is for work of unknown length."""

    def __init__(self, what: str, *, at_once: bool = False) -> None:
        self.what, self.note, self.started = what, "", time.monotonic()
        self.rich: Any = None
        if at_once:
            self.show(None)

    def __call__(self, done: int, total: int) -> None:
        if self.rich is None and time.monotonic() - self.started > PATIENCE and done < total:
            self.show(total)
        if self.rich is not None:
            self.rich.update(self.task, description=self.what, completed=done, total=total, note=self.note)

    def show(self, total: int | None) -> None:
        """Start drawing; without a total the bar only says that work goes on."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        counts = (MofNCompleteColumn(), TimeRemainingColumn()) if total is not None else ()
        columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
        self.rich = Progress(*columns, console=Console(stderr=True), transient=True)
        self.rich.start()
        self.task = self.rich.add_task(self.what, total=total, note="")

    def stage(self, what: str, done: int, total: int) -> None:
        """Progress of a named stage."""
        self.what = what
        self(done, total)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *unused: Any) -> None:
        if self.rich is not None:
            self.rich.stop()


def tell(line: str, page: Path | None = None, *, facts: Mapping[str, Any] | None = None, as_json: bool = False) -> None:
    """The last word of a command: a line that ends with the page's path or, for machines, one JSON object."""
    import typer

    if as_json:
        print(json.dumps(dict(facts or {}), ensure_ascii=False, default=str))
    elif page is None:
        typer.echo(line)
    else:
        typer.echo(f"{typer.style(line, bold=True)} → {typer.style(str(page), fg='cyan')}")


def seconds(since: float) -> str:
    """Time since ``time.monotonic()`` was ``since``, for a summary line."""
    spent = time.monotonic() - since
    return f"{spent:.1f} s" if spent < 100 else f"{spent / 60:.1f} min"

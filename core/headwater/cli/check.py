"""``headwater check DOMAIN``: the conformance kit, check by check."""

from __future__ import annotations

import json as json_text
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headwater.cli import flags, terminal

if TYPE_CHECKING:
    from headwater.testing import Outcome

MARKS = {"pass": "[green]pass[/]", "fail": "[red]FAIL[/]", "unchecked": "[yellow]–[/]"}


def command(
    name: Annotated[str, typer.Argument(metavar="DOMAIN", help="A registered domain.", show_default=False)],
    json: flags.Json = False,
) -> None:
    """Hold a domain to every promise of the plug-in contract. Exit code 4 where one is broken."""
    from headwater.registry import find
    from headwater.testing import checks, run

    domain = find(name)
    total = len(checks(domain))
    found: list[Outcome] = []
    with terminal.Bar(f"checking {name}") as bar:
        for outcome in run(domain):
            found.append(outcome)
            bar(len(found), total)
    failed = sum(o.status == "fail" for o in found)
    if json:
        print(json_text.dumps({"domain": name, "failed": failed, "checks": [asdict(o) for o in found]}, ensure_ascii=False))
    else:
        show(name, found)
    if failed:
        raise typer.Exit(4)


def show(name: str, found: Sequence[Outcome]) -> None:
    """The outcomes as a table: of what passed the promise, of what did not the reason."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "", "what it promises, or what to do", show_lines=False)
    for outcome in found:
        table.add_row(outcome.check, MARKS[outcome.status], escape(outcome.note or outcome.summary))
    console = Console()
    console.print(table)
    count = {status: sum(o.status == status for o in found) for status in MARKS}
    unchecked = f", {count['unchecked']} could not be checked here" if count["unchecked"] else ""
    console.print(f"{name}: {count['pass']} of {len(found)} checks pass, {count['fail']} fail{unchecked}", highlight=False)

"""``headwater evaluate MODEL``: its figures beside published ones."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.checkpoint import write_file
from headwater.cli import flags, terminal
from headwater.errors import HeadwaterError


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="domain/model, or a model folder.", show_default=False)],
    n: Annotated[int, typer.Option("-n", help="How many samples to judge.")] = 1000,
    seed: flags.Seed = 0,
    knobs: Annotated[
        bool, typer.Option("--knobs", help="Also ask for each property alone, low, middle and high, and see what comes.")
    ] = False,
    audit: Annotated[
        int,
        typer.Option(
            "--audit", help="Training items that the memorisation audit looks at; 0 skips it, and the two-sample test and coverage."
        ),
    ] = 10_000,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write the figures as JSON; a model's card reads its metrics.json."),
    ] = None,
    json: flags.Json = False,
    device: flags.Device = "cpu",
) -> None:
    """A model's figures beside published ones."""
    if n < 1:
        raise HeadwaterError(f"-n: expected at least 1; got {n}")
    if audit < 0:
        raise HeadwaterError(f"--audit: expected 0 or more; got {audit}")
    writable(out)
    from headwater.cli.domain import check_device, model_name

    check_device(device)
    from headwater.evaluate import command as line
    from headwater.evaluate import evaluate, obedience
    from headwater.generator import load

    generator = load(model, device)
    with terminal.Bar("sampling") as bar:
        found = evaluate(generator, n, seed, audit=audit, progress=bar)
    # the folder that was named, not the shipped model that a trained one may be called after
    found["command"] = line(model_name(generator, model), n, seed, audit)
    if knobs:
        found["knobs"] = obedience(generator, seed=seed)
        found["command"] += " --knobs"
    text = json_text.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if out is not None:
        write_file(out, text.encode())
    if json:
        print(json_text.dumps(found, ensure_ascii=False))
    else:
        show(generator.name, found)


def writable(out: Path | None) -> None:
    """Raises :class:`HeadwaterError`, before any work, for a file that cannot be written."""
    import os

    if out is not None and (out.is_dir() or not out.resolve().parent.is_dir() or not os.access(out.resolve().parent, os.W_OK)):
        raise HeadwaterError(f"-o {out}: expected a file in a folder that can be written")


def show(name: str, found: Mapping[str, Any]) -> None:
    """The figures as tables on a terminal."""
    from rich.console import Console
    from rich.table import Table

    from headwater.report.figures import figures

    console = Console()
    head, rows = figures(found["metrics"])
    table = Table(title=name, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown = [i for i, column in enumerate(head) if column not in ("better", "source")]
    for i in shown:
        table.add_column(head[i], no_wrap=True)
    arrow = {"higher": " ↑", "lower": " ↓"}
    for row in rows:
        better = arrow.get(row[head.index("better")], "")
        table.add_row(*(row[i].replace(", ", "\n") + (better if i == 0 else "") for i in shown))
    console.print(table)
    sources = dict.fromkeys(row[-1] for row in rows if row[-1])  # a column of them would leave no width for the figures
    console.print("".join(f"published: {source}\n" for source in sources), end="", markup=False, highlight=False)
    if found.get("knobs"):
        asked = Table("knob", "quantile", "asked", "median made", "off, in std")
        for row in found["knobs"]:
            asked.add_row(row["knob"], *(f"{row[k]:.4g}" for k in ("quantile", "asked", "median", "off")))
        console.print(asked)
    told = [f"real items: {found['reference']}", *found["notes"], f"seed {found['seed']}", found["command"]]
    console.print("; ".join(told), markup=False, highlight=False)

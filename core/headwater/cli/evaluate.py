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
    writable(out)
    from headwater.cli.domain import check_device, model_name

    check_device(device)
    from headwater.evaluate import evaluate, obedience
    from headwater.generator import load

    generator = load(model, device)
    with terminal.Bar("sampling") as bar:
        found = evaluate(generator, n, seed, progress=bar)
    # the folder that was named, not the shipped model that a trained one may be called after
    found["command"] = f"headwater evaluate {model_name(generator, model)} -n {n} --seed {seed}"
    if knobs:
        found["knobs"] = obedience(generator, seed=seed)
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

    console = Console()
    table = Table("metric", "ours", "n", "better", "published", "source", title=name, title_justify="left")
    for metric, figure in found["metrics"].items():
        stderr = f" ± {figure['stderr']:.2g}" if figure.get("stderr") else ""
        published = ", ".join(f"{system} {value:.4g}" for system, value in figure["published"].items())
        table.add_row(metric, f"{figure['value']:.4g}{stderr}", str(figure["n"]), figure["better"], published, figure["source"])
    console.print(table)
    if found.get("knobs"):
        asked = Table("knob", "quantile", "asked", "median made", "off, in std")
        for row in found["knobs"]:
            asked.add_row(row["knob"], *(f"{row[k]:.4g}" for k in ("quantile", "asked", "median", "off")))
        console.print(asked)
    console.print(f"real items: {found['reference']}; seed {found['seed']}; {found['command']}", markup=False, highlight=False)

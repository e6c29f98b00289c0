"""``headwater card MODEL``: a model's card, rendered from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater import registry
from headwater.checkpoint import write_file
from headwater.cli.evaluate import writable
from headwater.report.card import model_card


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="domain/model, or a model folder.", show_default=False)],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write it here instead of printing it.")] = None,
) -> None:
    """A model's card: what it is, how to use it, its data, its figures and its limits."""
    writable(out)
    folder, domain = registry.find_model(model)
    text = model_card(folder, domain)
    if out is None:
        print(text, end="")
    else:
        write_file(out, text.encode())
        typer.echo(f"card of {model} → {out}")

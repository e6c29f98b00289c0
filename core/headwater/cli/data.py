"""``headwater data list`` and ``headwater data get NAME``: data sets and where they come from."""

from __future__ import annotations

import json as json_text
from typing import Annotated

import typer

from headwater import registry
from headwater.cli import suggestion
from headwater.data import cards, fetch, here, place
from headwater.errors import HeadwaterError


def list_all(
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")] = False,
) -> None:
    """What data sets there are, their licences, and whether they are here."""
    found = cards(registry.domains())
    if json:
        told = {
            c.name: {"title": c.title, "licence": c.licence, "source": c.source, "here": here(c), "place": place(c)}
            for c in found.values()
        }
        print(json_text.dumps(told, ensure_ascii=False, default=str))
        return
    for card in found.values():
        how = "bring your own: set HEADWATER_DATA" if "local" in card.fetch else f"headwater data get {card.name}"
        typer.echo(f"{typer.style(card.name, bold=True)}  {card.title}")
        typer.echo(f"  licence  {card.licence}")
        typer.echo(f"  here     {f'yes, {place(card)}' if here(card) else f'no ({how})'}")
    if not found:
        typer.echo("no data set is known: no installed domain brings a data card")


def get(name: Annotated[str, typer.Argument(help="A data set of `headwater data list`.", show_default=False)]) -> None:
    """Fetch a data set, checked by sha256, into $HEADWATER_CACHE (default ~/.cache/headwater)."""
    found = cards(registry.domains())
    if name not in found:
        raise HeadwaterError(f"NAME: unknown data set {name!r}; {suggestion(name, list(found))}")
    folder = fetch(found[name])
    typer.echo(f"{name}: licence {found[name].licence}")
    typer.echo(f"{typer.style(name, bold=True)} is in {folder}")


commands = {"list": list_all, "get": get}

"""``headwater list``: the domains that are installed, broken ones with the reason, and what each brings. Imports no torch."""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from headwater import registry
from headwater.checkpoint import WEIGHTS, read_config
from headwater.domain import Domain
from headwater.errors import HeadwaterError
from headwater.recipe import Recipe, recipes
from headwater.report.page import size


def command(
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")] = False,
) -> None:
    """Domains, their models, pipelines and recipes."""
    found = {name: describe(entry) for name, entry in registry.entries().items()}
    if json:
        print(json_text.dumps(found, ensure_ascii=False))
    elif not found:
        typer.echo("no domain is installed; write one with: headwater new NAME")
    else:
        typer.echo("\n\n".join("\n".join(lines(name, entry)) for name, entry in found.items()))


def describe(entry: registry.Entry) -> dict[str, Any]:
    """What a domain brings, or why it is broken, as plain data."""
    domain = entry.domain
    if domain is None:
        return {"broken": entry.reason}
    try:
        known = {name: recipe.summary or over(recipe) for name, recipe in recipes(domain).items()}
    except HeadwaterError as error:
        known = {"broken": str(error)}
    return {
        "summary": domain.summary,
        "models": models(domain),
        "pipelines": {pipeline.name: pipeline.summary for pipeline in domain.pipelines},
        "recipes": known,
    }


def over(recipe: Recipe) -> str:
    """What a recipe without a summary is."""
    return f"{recipe.family} over {recipe.codec}" + (f", on the latent of {recipe.autoencoder}" if recipe.autoencoder else "")


def models(domain: Domain[Any, Any]) -> dict[str, Any]:
    """Shipped models with their verbs, parameters and bytes of weights, or why one cannot be read."""
    found: dict[str, Any] = {}
    for name, folder in registry.models(domain).items():
        try:
            config = read_config(folder)
            weights = folder / WEIGHTS
            found[name] = {
                "family": config["family"],
                "verbs": sorted(config["verbs"]),
                "parameters": config["parameters"],
                "bytes": weights.stat().st_size if weights.is_file() else 0,
            }
        except (HeadwaterError, KeyError) as error:
            found[name] = {"broken": str(error)}
    return found


def lines(name: str, entry: dict[str, Any]) -> Iterator[str]:
    """A domain for a reader."""
    if "broken" in entry:
        yield f"{typer.style(name, bold=True)}  {typer.style('broken', fg='red')}: {' '.join(entry['broken'].split())}"
        return
    yield f"{typer.style(name, bold=True)}  {entry['summary']}"
    for kind in ("models", "pipelines", "recipes"):
        shown = {n: model_line(v) if kind == "models" else v for n, v in entry[kind].items()}
        width = max(map(len, shown), default=0)
        for i, (n, what) in enumerate(shown.items()):
            yield f"  {kind if i == 0 else '':<10} {n:<{width}}  {what}".rstrip()
        if not shown:
            yield f"  {kind:<10} none yet"


def model_line(model: dict[str, Any]) -> str:
    if "broken" in model:
        return f"broken: {model['broken']}"
    return f"{', '.join(model['verbs'])} ({model['family']}, {model['parameters'] / 1e6:.2f}M parameters, {size(model['bytes'])})"

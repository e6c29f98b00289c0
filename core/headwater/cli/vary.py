"""``headwater DOMAIN vary FILE``: neighbours of the user's own items."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli import flags, terminal
from headwater.cli.domain import model_name, open_model, read_items
from headwater.domain import Domain


def build(domain: Domain[Any, Any]) -> Callable[..., Any]:
    """The command for a domain, with its knobs as flags."""

    def vary(
        items_file: Annotated[
            Path, typer.Argument(metavar="FILE", help="Items to vary, in one of the field's own formats.", show_default=False)
        ],
        strength: Annotated[float, typer.Option(help="From 0, the item itself, to 1, anything.")] = 0.3,
        n: Annotated[int, typer.Option("-n", help="Neighbours of each item.")] = 4,
        model: flags.Model = None,
        seed: flags.Seed = 0,
        out: flags.Out = Path("out"),
        json: flags.Json = False,
        device: flags.Device = "cpu",
        **knobs: Any,
    ) -> None:
        from headwater.errors import HeadwaterError
        from headwater.knobs import asked, fill
        from headwater.report import page
        from headwater.report import run as folder

        if n < 1:
            raise HeadwaterError(f"-n: expected at least 1; got {n}")
        began = time.monotonic()
        wish: Any = fill(domain.Wish, knobs)
        with folder.staged(out) as stage:
            generator = open_model(domain, model, "vary", device)
            samples = generator.vary(read_items(domain, items_file), strength=strength, seed=seed, n=n, **asked(wish))
            samples.extra["of_item"] = [row // n for row in samples.rows]
            valid = page.write_samples(samples, stage, "vary", {"strength": strength})
            values = {"strength": strength, "n": n, **asked(wish), "seed": seed, "model": model_name(generator, model)}
            record = {
                "source": folder.source_record(items_file),
                "n": len(samples),
                "valid": valid,
                "seed": seed,
                "knobs": asked(wish),
            }
            command = flags.words(f"headwater {domain.name} vary FILE", values)
            folder.close(stage, {"command": command, **folder.made_by(generator), "verb": "vary", "strength": strength, **record})
        facts = {"page": out / page.PAGE, "folder": out, "n": len(samples), "valid": valid, "model": generator.name, "seed": seed}
        line = f"{len(samples)} {domain.name}, {valid} valid, {terminal.seconds(began)}"
        terminal.tell(line, out / page.PAGE, facts=facts, as_json=json)

    return flags.signed(
        vary, more=flags.knob_parameters(domain.Wish, "Properties to ask for"), help=f"Neighbours of your own {domain.name}."
    )

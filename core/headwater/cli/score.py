"""``headwater DOMAIN score FILE``: how likely a model finds the user's own items."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli import flags, terminal
from headwater.cli.domain import model_name, open_model, read_items
from headwater.domain import Domain


def build(domain: Domain[Any, Any]) -> Callable[..., Any]:
    """The command for a domain, with its knobs as flags: with knobs, the likelihood is that given the knobs."""

    def score(
        items_file: Annotated[
            Path, typer.Argument(metavar="FILE", help="Items to score, in one of the field's own formats.", show_default=False)
        ],
        model: flags.Model = None,
        seed: flags.Seed = 0,
        out: flags.Out = Path("out"),
        json: flags.Json = False,
        device: flags.Device = "cpu",
        **knobs: Any,
    ) -> None:
        from headwater.knobs import asked, fill
        from headwater.report import page
        from headwater.report import run as folder
        from headwater.samples import Samples

        began = time.monotonic()
        wish: Any = fill(domain.Wish, knobs)
        with folder.staged(out) as stage:
            generator = open_model(domain, model, "score", device)
            items = read_items(domain, items_file)
            found = generator.score(items, seed=seed, **asked(wish))
            value = [float(v) for v in found.value]
            extra: dict[str, list[Any]] = {"log_likelihood": value, "kind": [found.kind] * len(items)}
            if found.stderr is not None:
                extra["stderr"] = [float(v) for v in found.stderr]
            samples = Samples(domain, items, [wish] * len(items), list(range(len(items))), seed, generator.name, extra)
            mean = statistics.fmean(value)
            page.write_samples(samples, stage, "score", {"mean_log-likelihood": mean, "kind": found.kind})
            values = {**asked(wish), "seed": seed, "model": model_name(generator, model)}
            record = {
                "source": folder.source_record(items_file),
                "n": len(items),
                "seed": seed,
                "knobs": asked(wish),
                "mean": mean,
                "kind": found.kind,
            }
            command = flags.words(f"headwater {domain.name} score FILE", values)
            folder.close(stage, {"command": command, **folder.made_by(generator), "verb": "score", **record})
        facts = {"page": out / page.PAGE, "folder": out, "n": len(items), "mean": mean, "kind": found.kind, "log_likelihood": value}
        line = f"{len(items)} {domain.name}, mean log-likelihood {mean:.2f} nats ({found.kind}), {terminal.seconds(began)}"
        terminal.tell(line, out / page.PAGE, facts=facts, as_json=json)

    more = flags.knob_parameters(domain.Wish, "Properties taken as given")
    return flags.signed(score, more=more, help=f"The log-likelihood of your own {domain.name}, in nats an item.")

"""``headwater DOMAIN PIPELINE SOURCE``: a domain's task on the user's own files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import flags, terminal
from headwater.cli.domain import model_name, open_model
from headwater.domain import Domain, Pipeline
from headwater.errors import HeadwaterError
from headwater.report.items import Table, row_of
from headwater.report.page import ITEMS, PAGE, SHOWN, Outcome, Shown

if TYPE_CHECKING:
    from headwater.generator import Generator

#: The exit code where some results cannot be used.
QUARANTINED = 3


def build(domain: Domain[Any, Any], kind: type[Pipeline[Any]]) -> Callable[..., Any]:
    """The command for a pipeline, its options as flags."""

    def run(
        input_source: Annotated[Path | None, typer.Argument(metavar="SOURCE", help=kind.source, show_default=False)] = None,
        example: Annotated[bool, typer.Option("--example", help="Use the packaged input instead of a source.")] = False,
        model: Annotated[
            str | None, typer.Option(metavar="MODEL", help=f"A shipped model or a model folder. Default: {kind.model}.")
        ] = None,
        seed: flags.Seed = 0,
        out: flags.Out = Path("out"),
        json: flags.Json = False,
        device: flags.Device = "cpu",
        **options: Any,
    ) -> None:
        began, pipeline = time.monotonic(), kind()
        if (input_source is None) != example:
            raise HeadwaterError("SOURCE: expected either a source or --example; got " + ("both" if example else "neither"))
        path = pipeline.example() if input_source is None else input_source
        if not path.exists():
            raise HeadwaterError(f"SOURCE: no such file or folder: {path}")
        made = perform(domain, pipeline, path, out, model=model, seed=seed, device=device, options=options, example=example)
        facts = {"page": out / PAGE, "folder": out, "n": made.count, "not_usable": len(made.bad), "seed": seed}
        facts |= {"kinds": dict(made.kinds)} if made.kinds else {}
        line = f"{domain.name} {kind.name}: {made.count} result{'s' * (made.count != 1)}"
        line += f" ({made.said})" if made.kinds else ""
        line += f", {len(made.bad)} not usable" if made.bad else ""
        terminal.tell(f"{line}, {terminal.seconds(began)}", out / PAGE, facts=facts, as_json=json)
        if made.bad:
            raise typer.Exit(QUARANTINED)

    return flags.signed(
        run, more=flags.knob_parameters(kind.Options, "Options"), help=f"{kind.summary[:1].upper()}{kind.summary[1:].rstrip('.')}."
    )


def perform(
    domain: Domain[Any, Any],
    pipeline: Pipeline[Any],
    source: Path,
    out: Path,
    *,
    model: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    options: dict[str, Any],
    example: bool = False,
) -> Outcome:
    """Run a pipeline into a run folder; what came of it, as its page shows it."""
    from headwater.knobs import fields, fill
    from headwater.report import page
    from headwater.report import run as folder

    chosen: Any = fill(pipeline.Options, options)
    with folder.staged(out) as stage:
        name = model or (pipeline.model if "/" in pipeline.model else f"{domain.name}/{pipeline.model}")
        first, *others = pipeline.verbs or ("sample",)
        generator = open_model(domain, name, first, device)
        for verb in others:
            generator.need(verb)  # type: ignore[arg-type]
        made = _made(pipeline, generator, source, chosen, seed, stage)
        if not made.count:
            raise HeadwaterError("SOURCE: nothing to work on was found in it")
        settings = {f.name: getattr(chosen, f.name) for f in fields(pipeline.Options) if f.kind != "given"}
        values = {
            **({"example": True} if example else {}),
            **settings,
            "seed": seed,
            "model": model_name(generator, model),
            "device": device,
        }
        head = f"headwater {domain.name} {pipeline.name}" + ("" if example else " SOURCE")
        facts = [("model", generator.name, ""), ("seed", str(seed), "")]
        facts += [(k.replace("_", " "), page.plain(v), "") for k, v in settings.items() if v is not None]
        whole = page.results_page(domain, pipeline.name, pipeline.summary, made, folder.files(stage), stage, facts)
        (stage / PAGE).write_text(whole, encoding="utf-8")
        record = {
            "pipeline": pipeline.name,
            "source": folder.source_record(source),
            "n": made.count,
            "seed": seed,
            "options": settings,
        }
        folder.close(stage, {"command": flags.words(head, values, {"device": "cpu"}), **folder.made_by(generator), **record})
    return made


def _made(pipeline: Pipeline[Any], generator: Generator, source: Path, options: Any, seed: int, stage: Path) -> Outcome:
    """Rows as many at once as the pipeline likes, written before the next are read: memory holds these carriers, whatever the
    source."""
    from headwater.noise import Noise

    noise, made, table = Noise(seed), Outcome(), Table(stage / ITEMS)
    with terminal.Bar(pipeline.name, at_once=True):
        said = pipeline.plan(pipeline.read(source, options), options)
        decisions = None if said is None else iter(said)
        inputs = enumerate(pipeline.read(source, options))
        while rows := list(itertools.islice(inputs, pipeline.together)):
            pipeline.planned = {} if decisions is None else {row: next(decisions) for row, _ in rows}
            for result in pipeline.run(generator, rows, noise, options):
                result.write(stage)
                record, problem = result.record(), result.problem()
                fragment = result.render() if made.count < SHOWN else ""
                made.add(Shown(result.row, result.draw, result.columns_shown(record), problem, fragment), result.counted_as())
                table.add(row_of(result.row, result.draw, problem, record))
        table.close()
        if made.count:
            pipeline.finish(table.rows(), stage)
    return made

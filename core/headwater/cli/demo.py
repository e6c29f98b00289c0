"""``headwater demo``: every working domain on its shipped models and packaged inputs, on one page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater import registry
from headwater.checkpoint import read_config
from headwater.cli import pipeline as pipelines
from headwater.cli import terminal
from headwater.domain import Domain
from headwater.errors import HeadwaterError
from headwater.knobs import Given
from headwater.report import page
from headwater.report import run as folder
from headwater.report.page import PAGE, Chapter

if TYPE_CHECKING:
    from headwater.generator import Generator

#: Items of each model, and how many of them the common page draws.
ITEMS, DRAWN, SEED = 24, 12, 7


def command(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The demo's folder: new, empty, or an earlier demo, which is replaced.")
    ] = Path("out/demo"),
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")] = False,
) -> None:
    """Every domain on its shipped models and packaged inputs, on one page."""
    began, chapters, missing = time.monotonic(), [], []
    domains = registry.domains()
    with folder.staged(out) as stage:
        for domain in domains.values():
            made = list(chapters_of(domain, stage))
            chapters += made
            if not made:
                missing.append(domain.name)
        lead = f"{len(chapters)} runs of {len(domains)} domains, on this machine, from shipped weights and packaged inputs."
        if missing:
            lead += f" No shipped model yet: {', '.join(missing)}."
        notices = list(dict.fromkeys(d.notice for d in domains.values() if d.notice and d.name not in missing))
        (stage / PAGE).write_text(page.chapters_page("What Headwater makes", lead, notices, chapters), encoding="utf-8")
        folder.close(stage, {"command": "headwater demo", "seed": SEED, "runs": [c.page for c in chapters]})
    for name in missing:
        if not json:
            typer.echo(f"{name}: no shipped model yet; train one with `headwater train {name} RECIPE`")
    facts = {"page": out / PAGE, "folder": out, "runs": [c.page for c in chapters], "without_model": missing}
    terminal.tell(
        f"{len(chapters)} runs of {len(domains)} domains, {terminal.seconds(began)}", out / PAGE, facts=facts, as_json=json
    )


def chapters_of(domain: Domain[Any, Any], stage: Path) -> Iterator[Chapter]:
    """The runs of one domain, each in a folder of its own below ``stage``."""
    from headwater.cli.domain import extras

    for name, model in registry.models(domain).items():
        if "sample" in read_config(model)["verbs"]:
            yield extras(domain, sampled)(domain=domain, model=name, stage=stage)
    for kind in domain.pipelines:
        wanted = kind.model.removeprefix(f"{domain.name}/")
        if wanted in registry.models(domain):
            yield extras(domain, piped)(domain=domain, kind=kind, stage=stage)


def sampled(domain: Domain[Any, Any], model: str, stage: Path) -> Chapter:
    """Samples of one shipped model."""
    from headwater.cli import flags
    from headwater.generator import load

    place = f"{domain.name}-{model}"
    with terminal.Bar(place) as bar:
        generator = load(f"{domain.name}/{model}")
        wishes = as_packaged(generator)
        samples = generator.sample(ITEMS, seed=SEED, wishes=wishes, progress=bar)
    (stage / place).mkdir()
    valid = page.write_samples(samples, stage / place)
    settings = {"n": ITEMS, "seed": SEED, "model": generator.name}
    command = "headwater demo" if wishes else flags.words(f"headwater {domain.name} sample", settings)
    folder.close(stage / place, {"command": command, **folder.made_by(generator), "n": ITEMS, "valid": valid, "seed": SEED})
    drawn = page.gallery(samples.rows[:DRAWN], [domain.render(i) for i in samples[:DRAWN]], samples.problems()[:DRAWN])
    return Chapter(f"{domain.name}: {model}", f"{ITEMS} new items, {valid} valid", f"{place}/{PAGE}", drawn)


def as_packaged(generator: Generator) -> list[Any] | None:
    """For a model that reads a sequence, which only tasks can tell it: what packaged items ask, one for each sample. Else None."""
    from headwater.knobs import asked
    from headwater.noise import Noise

    fields, domain = generator.model.conditioner.fields, generator.domain
    if not any(isinstance(f.spec, Given) and f.spec.kind == "sequence" for f in fields):
        return None
    packaged = domain.datasets[generator.recipe.data].sample()
    items = [packaged[i % len(packaged)] for i in range(ITEMS)]
    known = {f.name for f in fields}
    wishes = [generator.wish(**{k: v for k, v in asked(domain.describe(item)).items() if k in known}) for item in items]
    return generator.given(items, wishes, Noise(SEED))


def piped(domain: Domain[Any, Any], kind: Any, stage: Path) -> Chapter:
    """A pipeline on its packaged example."""
    pipeline, place = kind(), f"{domain.name}-{kind.name}"
    source = pipeline.example()
    if not source.exists():
        raise HeadwaterError(f"{domain.name} {kind.name}: its packaged example is missing ({source.name}); install Headwater again")
    made = pipelines.perform(domain, pipeline, source, stage / place, options={}, example=True, seed=SEED)
    body = "".join(page.result(s) for s in made.shown[:2])
    return Chapter(f"{domain.name}: {kind.name}", kind.summary, f"{place}/{PAGE}", body)

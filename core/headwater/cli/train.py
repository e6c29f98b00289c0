"""``headwater train DOMAIN RECIPE``: train a model, or adapt a shipped one to the user's own files."""

from __future__ import annotations

import json as json_text
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater import registry
from headwater.cli import flags, suggestion, terminal
from headwater.domain import Domain
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.model import Model
    from headwater.recipe import Recipe
    from headwater.train import Source

#: What the training loss on held-out items is called among a model's figures.
LOSS = "validation_loss"
#: Adapting (``--from``): few steps at a tenth of the recipe's rate, so that what the model knew is bent, not lost.
ADAPT_STEPS, ADAPT_BATCH, ADAPT_RATE, ADAPT_WARMUP = 150, 32, 0.1, 20
MODEL = "model"


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, from which weights."""

    domain: Domain[Any, Any]
    name: str
    recipe: Recipe
    source: Source
    start: Model | None
    autoencoder: Model | None
    command: str


def command(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain of `headwater list`.", show_default=False)],
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="One of its recipes; not needed with --from.", show_default=False)
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="s|m|l", help="A size that the recipe has.")] = None,
    steps: Annotated[int | None, typer.Option(help=f"Training steps. Default: the recipe's; {ADAPT_STEPS} with --from.")] = None,
    batch: Annotated[
        int | None, typer.Option(help=f"Items a step. Default: the recipe's; at most {ADAPT_BATCH} with --from.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the training; a stopped one goes on. Default: runs/DOMAIN-RECIPE.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="MODEL", help=f"Begin from this model, with its recipe at {ADAPT_RATE:g} of its rate."),
    ] = None,
    autoencoder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Whose latent a recipe learns. Default: the recipe's, shipped or in runs/.", show_default=False
        ),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Your own items instead of the recipe's data; may be repeated.")
    ] = None,
    seed: flags.Seed = 0,
    device: flags.Device = "cpu",
    devices: Annotated[
        int, typer.Option(help="How many of them share each step: GPUs of this machine, or processes of its CPU.", min=1)
    ] = 1,
    compile: Annotated[
        bool, typer.Option("--compile", help="Run the networks through torch.compile: a slow start, then faster steps.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of torch. The same number gives the same weights.", min=1)] = None,
    workers: Annotated[int, typer.Option(help="Processes that label the data.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(metavar="fp32|bf16|fp16", help="How the weights are stored.")] = "fp32",
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files for --data.", show_default=False)
    ] = None,
    json: flags.Json = False,
) -> None:
    """Train a model, or adapt a shipped one to your own files (--from MODEL --data FILE)."""
    from headwater.checkpoint import CARD, write_file
    from headwater.cli.domain import check_device, extras
    from headwater.report.card import model_card

    began, owner = time.monotonic(), registry.find(domain)
    if dtype not in ("fp32", "bf16", "fp16"):
        raise HeadwaterError(f"--dtype: expected fp32, bf16 or fp16; got {dtype!r}")
    if (
        data and start is not None and recipe is not None and Path(recipe).is_file()
    ):  # `train molecules --from M --data a.smi b.smi`
        files, recipe = [Path(recipe), *(files or [])], None
    own = [*(data or []), *(files or [])]
    if files and not data:
        raise HeadwaterError(f"FILE: unexpected {files[0]}; name your own items with --data {files[0]}")
    chosen, begin, name = choose(owner, recipe, size, start)
    inner = extras(owner, find_autoencoder)(domain=owner, name=name, recipe=chosen, asked=autoencoder, start=begin)
    place = out or Path("runs") / f"{domain}-{name}{f'-{size}' if size else ''}{'-adapted' if start else ''}"
    if device != "cpu":
        check_device(device)
    plan = extras(owner, prepare)(
        owner=owner, name=name, recipe=chosen, start=begin, inner=inner, own=own, steps=steps, batch=batch, place=place,
        device=device, words={
            "size": size, "steps": steps, "batch": batch, "from": start, "autoencoder": autoencoder, "seed": seed,
            "devices": devices, "compile": compile, "threads": threads, "dtype": dtype,
        },
    )  # fmt: skip
    facts = extras(owner, fit)(
        plan=plan, place=place, dtype=dtype,
        how={"seed": seed, "device": device, "devices": devices, "compile": compile, "threads": threads, "workers": workers},
    )  # fmt: skip
    folder = place / MODEL
    write_file(folder / CARD, model_card(folder, owner).encode())
    line = f"{domain} {name}: {plan.recipe.training.total} steps, {loss_line(facts)}, {terminal.seconds(began)}"
    terminal.tell(line, folder, facts={"model": folder, **facts}, as_json=json)


def choose(domain: Domain[Any, Any], name: str | None, size: Any, start: str | None) -> tuple[Recipe, Model | None, str]:
    """The recipe, the weights to begin from, and the model's name. Raises :class:`HeadwaterError` listing the recipes."""
    from headwater.recipe import Recipe, recipes

    known = recipes(domain)
    if start is not None:
        from headwater import checkpoint

        if size is not None:
            raise HeadwaterError("--size: the size comes from the model of --from; leave it out")
        folder, owner = registry.find_model(start if "/" in start or Path(start).exists() else f"{domain.name}/{start}")
        if owner.name != domain.name:
            raise HeadwaterError(f"--from: expected a model of {domain.name}; {start} is one of {owner.name}")
        model, config = checkpoint.load(folder, domain.networks)
        if name not in (None, config["name"]) and name not in known:
            raise HeadwaterError(f"RECIPE: unknown recipe {name!r}; with --from it may be left out")
        return Recipe.model_validate(config["recipe"]), model, str(config["name"])
    if name is None or name not in known:
        got = "unknown recipe " + repr(name) if name else "missing"
        listed = ", ".join(known) or "none"
        close = f"; {suggestion(name, list(known))}" if name else ""
        raise HeadwaterError(f"RECIPE: {got}{close} ({domain.name} has: {listed})")
    return known[name].at(size), None, name


def find_autoencoder(domain: Domain[Any, Any], name: str, recipe: Recipe, asked: str | None, start: Model | None) -> Model | None:
    """The model whose latent a recipe learns: the one asked for, else the recipe's, a folder, a shipped model or the user's own
    training in ``runs``; None for a recipe that learns items themselves. An adapted model keeps its own.

    Raises :class:`HeadwaterError` saying how to make the one that is missing."""
    from headwater import checkpoint

    if asked is not None and (start is not None or not recipe.autoencoder):
        why = "the model of --from has its own" if recipe.autoencoder else f"the recipe {name!r} is not one over a latent"
        raise HeadwaterError(f"--autoencoder: {why}; leave it out")
    if not recipe.autoencoder:
        return None
    if start is not None:
        return start.autoencoder
    wanted = asked or recipe.autoencoder
    shipped = registry.models(domain)
    places = [Path(wanted), shipped.get(wanted.removeprefix(f"{domain.name}/"))]
    if asked is None:
        places.append(Path("runs") / f"{domain.name}-{wanted}" / MODEL)
    folder = next((place for place in places if place is not None and (place / checkpoint.CONFIG).is_file()), None)
    if folder is None and asked is not None:
        raise HeadwaterError(f"--autoencoder: no model folder at {asked}; {domain.name} ships {', '.join(shipped) or 'none'}")
    if folder is None:
        raise HeadwaterError(
            f"{name} learns the latent of {wanted!r}, which is not trained yet: `headwater train {domain.name} {wanted}` first, "
            "or name another with --autoencoder"
        )
    model, config = checkpoint.load(folder, domain.networks)
    if config["domain"] != domain.name:
        raise HeadwaterError(f"--autoencoder: expected a model of {domain.name}; {folder} is one of {config['domain']}")
    if shipped.get(folder.name) == folder:
        model.shipped = {"name": folder.name, "sha256": config["sha256"]}
    return model


def prepare(
    owner: Domain[Any, Any],
    name: str,
    recipe: Recipe,
    start: Model | None,
    inner: Model | None,
    own: list[Path],
    steps: int | None,
    batch: int | None,
    place: Path,
    device: str,
    words: dict[str, Any],
) -> Plan:
    """Read the data and settle the recipe; refuse a folder that cannot be written."""
    from headwater.train import dataset_source, files_source
    from headwater.train.share import check

    for file in own:
        if not file.exists():
            raise HeadwaterError(f"--data: no such file: {file}")
    source = files_source(owner, own) if own else dataset_source(owner, recipe)
    if start is not None:
        t = recipe.training
        least: dict[str, Any] = {"batch": min(t.batch, ADAPT_BATCH, len(source.train)), "warmup": min(t.warmup, ADAPT_WARMUP)}
        recipe = recipe.at(steps=ADAPT_STEPS, finish=0, rate=t.rate * ADAPT_RATE, **least)
    recipe = recipe.at(steps=steps, batch=batch)
    check(words["devices"], device, recipe.training.batch)
    # the user's files may be named after a person: the command that a model carries says only that there were some
    values = {**words, "data": "FILE" if own else None}
    usual = {"seed": 0, "devices": 1, "compile": False, "dtype": "fp32"}
    line = flags.words(f"headwater train {owner.name} {name}", values, usual)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise HeadwaterError(f"-o {place}: cannot be written ({error.strerror}); choose another folder") from None
    return Plan(owner, name, recipe, source, start, inner, line)


def fit(plan: Plan, place: Path, dtype: str, how: dict[str, Any]) -> dict[str, Any]:
    """Train as ``how`` tells :func:`headwater.train.train`, write the model folder, and return the figures of held-out items: the
    loss before (when adapting) and after, or the family's own."""
    from headwater import checkpoint
    from headwater.evaluate import fingerprint
    from headwater.generator import Generator
    from headwater.train import train
    from headwater.train.preparation import content_hash

    before = held_out_figures(plan, plan.start) if plan.start is not None else {}
    total = plan.recipe.training.total
    with terminal.Bar("preparing") as bar:

        def tell(step: int, loss: float, valid: float) -> None:
            bar.note = f"loss {loss:.4f}" + ("" if math.isnan(valid) else f", held out {valid:.4f}")
            bar.stage("training", step, total)

        def show(figures: Mapping[str, float]) -> None:
            bar.note += "".join(f", {name} {value:.4g}" for name, value in figures.items())

        model = train(
            plan.domain, plan.recipe, place, source=plan.source, start=plan.start, autoencoder=plan.autoencoder,
            log_every=min(50, max(1, total // 20)), tell=tell, show=show, progress=bar.stage, **how,
        )  # fmt: skip
    folder = place / MODEL
    checkpoint.save(
        model, folder, domain=plan.domain.name, name=plan.name, recipe=plan.recipe, data=plan.source.name,
        data_hash=content_hash(plan.source.train), command=plan.command, dtype=dtype,
    )  # fmt: skip
    model, _ = checkpoint.load(folder, plan.domain.networks)  # what is measured are the weights as they are stored
    after = held_out_figures(plan, model)
    held = min(len(plan.source.valid), plan.recipe.training.validate_rows) if plan.source.valid is not None else 0
    better = {LOSS: {"better": "lower"}}  # a family's own figures say nothing of which way is up
    metrics = {
        "metrics": {k: {"value": v, **better.get(k, {}), "published": {}, "source": "", "n": held} for k, v in after.items()},
        "reference": f"{plan.source.name}, held-out items",
        "seed": how["seed"],
        "command": plan.command,
        "fingerprint": fingerprint(Generator(plan.domain, model, plan.recipe, plan.name)),
    }
    checkpoint.write_file(folder / checkpoint.METRICS, (json_text.dumps(metrics, indent=1, ensure_ascii=False) + "\n").encode())
    own = {name: value for name, value in after.items() if name != LOSS}
    return {"held_out": held, "loss_before": before.get(LOSS), "loss": after.get(LOSS), **({"figures": own} if own else {})}


def held_out_figures(plan: Plan, model: Model) -> dict[str, float]:
    """The training loss on held-out items under fixed noise: the same question before and after. A loss among several players is
    relative to what the others are by then and says nothing by itself: of these the family's own figures instead. Empty where no
    items are held out."""
    from headwater.train.module import Lesson
    from headwater.train.preparation import TrainingData

    if plan.source.valid is None:
        return {}
    codec = plan.domain.codecs[plan.recipe.codec]
    data = TrainingData(plan.domain, codec, plan.source.valid, model.conditioner.fields, plan.recipe.labels)
    training = model.training
    lesson = Lesson(model, data, data, plan.recipe.training, 0)
    loss = lesson.validate()
    model.train(training)
    return {k: v for k, v in (lesson.figures if len(lesson.players) > 1 else {LOSS: loss}).items() if not math.isnan(v)}


def loss_line(facts: dict[str, Any]) -> str:
    """
    >>> loss_line({"held_out": 20, "loss_before": 1.5, "loss": 1.25})
    'held-out loss 1.5000 before, 1.2500 after (20 items)'
    >>> loss_line({"held_out": 20, "loss_before": None, "loss": None, "figures": {"coverage": 0.75}})
    'held-out coverage 0.7500 (20 items)'
    """
    if own := facts.get("figures"):
        return f"held-out {', '.join(f'{name} {value:.4f}' for name, value in own.items())} ({facts['held_out']} items)"
    if facts["loss"] is None:
        return "no items held out (ten or more are needed)"
    before = f"{facts['loss_before']:.4f} before, " if facts["loss_before"] is not None else ""
    return f"held-out loss {before}{facts['loss']:.4f}{' after' if before else ''} ({facts['held_out']} items)"

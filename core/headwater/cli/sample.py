"""``headwater DOMAIN sample``: new items, with the properties asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli import flags, terminal
from headwater.cli.domain import model_name, open_model
from headwater.domain import Codec, Domain
from headwater.spaces import Tokens

Guidance = Annotated[
    float | None,
    typer.Option(
        help="How hard to press for what is asked: 1 is plain, 2 presses. Default: the model's own.", rich_help_panel="Sampling"
    ),
]
Temperature = Annotated[float, typer.Option(help="Below 1 plays safe, above 1 is bolder.", rich_help_panel="Sampling")]
TopP = Annotated[float, typer.Option(help="Draw from the likeliest tokens of this mass.", rich_help_panel="Sampling")]
Steps = Annotated[int | None, typer.Option(help="Steps of the sampler. Default: the model's own.", rich_help_panel="Sampling")]
LengthCandidates = Annotated[
    int,
    typer.Option(
        help="Draw each item so many times, its length anew each time, and keep the likeliest per token (for models that draw it).",
        rich_help_panel="Sampling",
    ),
]
Start = Annotated[str | None, typer.Option(metavar="TEXT", help="How every item begins.", rich_help_panel="Sampling")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Rows made at once: never changes an item; below the model's tile it only costs time.",
        rich_help_panel="Sampling",
        show_default=False,
    ),
]
USUAL = {"temperature": 1.0, "top_p": 1.0, "length_candidates": 1, "device": "cpu"}


def build(domain: Domain[Any, Any]) -> Callable[..., Any]:
    """The command for a domain: flags for its knobs, and only the settings that its spaces have."""

    def sample(
        n: Annotated[int, typer.Option("-n", help="How many items.")] = 24,
        model: flags.Model = None,
        seed: flags.Seed = 0,
        out: flags.Out = Path("out"),
        json: flags.Json = False,
        guidance: Guidance = None,
        temperature: Temperature = 1.0,
        top_p: TopP = 1.0,
        steps: Steps = None,
        length_candidates: LengthCandidates = 1,
        start: Start = None,
        batch_size: BatchSize = None,
        device: flags.Device = "cpu",
        **knobs: Any,
    ) -> None:
        settings = {
            "guidance": guidance, "temperature": temperature, "top_p": top_p, "steps": steps,
            "length_candidates": length_candidates, "start": start,
        }  # fmt: skip
        run(domain, n, model, seed, out, json, settings, knobs, batch_size=batch_size, device=device)

    spaces = [codec.space for codec in domain.codecs.values()]
    drop = [] if any(isinstance(s, Tokens) for s in spaces) else ["top_p", "length_candidates"]
    drop += [] if any(type(codec).prefix is not Codec.prefix for codec in domain.codecs.values()) else ["start"]
    more = flags.knob_parameters(domain.Wish, "Properties to ask for")
    return flags.signed(sample, more=more, drop=drop, help=f"New {domain.name}: {domain.summary}.")


def run(
    domain: Domain[Any, Any],
    n: int,
    model: str | None,
    seed: int,
    out: Path,
    json: bool,
    settings: dict[str, Any],
    knobs: dict[str, Any],
    *,
    batch_size: int | None = None,
    device: str = "cpu",
) -> None:
    """Sample into a run folder and say so."""
    from headwater.knobs import asked, fill
    from headwater.report import page
    from headwater.report import run as folder

    began = time.monotonic()
    wish: Any = fill(domain.Wish, knobs)  # before anything slow: an impossible wish is known at once
    with folder.staged(out) as stage:
        generator = open_model(domain, model, "sample", device)
        with terminal.Bar("sampling") as bar:
            samples = generator.sample(n, seed=seed, **settings, batch_size=batch_size, progress=bar, **asked(wish))
        told = {k: v for k, v in settings.items() if v is not None and USUAL.get(k) != v}
        valid = page.write_samples(samples, stage, "sample", told)
        values = {
            "n": n,
            **asked(wish),
            **told,
            "seed": seed,
            "model": model_name(generator, model),
            "batch_size": batch_size,
            "device": device,
        }
        command = flags.words(f"headwater {domain.name} sample", values, USUAL)
        record = {"verb": "sample", "n": n, "valid": valid, "seed": seed, "knobs": asked(wish), "settings": told}
        folder.close(stage, {"command": command, **folder.made_by(generator), **record})
    facts = {
        "page": out / page.PAGE,
        "folder": out,
        "n": n,
        "valid": valid,
        "model": generator.name,
        "seed": seed,
        "files": folder.files(out),
    }
    terminal.tell(f"{n} {domain.name}, {valid} valid, {terminal.seconds(began)}", out / page.PAGE, facts=facts, as_json=json)

"""``headwater batch``: jobs over many rows, by many workers, that can be killed and resumed."""

from __future__ import annotations

import json as json_text
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater import batch
from headwater.batch.local import begin
from headwater.cli import flags, terminal
from headwater.errors import HeadwaterError, PromiseBroken

Workers = Annotated[int, typer.Option(help="How many processes (or actors), each with the model in memory.")]
Engine = Annotated[str, typer.Option(metavar="local|ray", help="Processes of this machine, or actors of a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The Ray cluster; default: RAY_ADDRESS, else one on this machine.")
]
Gpus = Annotated[float, typer.Option(help="GPUs for each actor of a Ray cluster; may be a fraction.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A job's folder.", show_default=False)]
#: The exit code where rows were set aside.
QUARANTINED = 3


class Stopped(BaseException):
    """A signal asked the job to stop."""


def init(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A registered domain.", show_default=False)],
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="sample, or a pipeline of the domain.", show_default=False)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The file; default: DOMAIN-PIPELINE.toml.")] = None,
) -> None:
    """Write a job file with comments, to be filled in."""
    from headwater.batch.job import template
    from headwater.registry import find

    text = template(find(domain), pipeline)
    place = out or Path(f"{domain}-{pipeline}.toml")
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise HeadwaterError(f"-o: {place} is there already; name another file") from None
    typer.echo(f"{typer.style(str(place), fg='cyan')}: fill it in, then headwater batch run {place}")


def run(
    job: Annotated[Path, typer.Argument(metavar="JOB", help="A job file.", show_default=False)],
    workers: Workers = 1,
    engine: Engine = "local",
    address: Address = None,
    gpus_per_worker: Gpus = 0.0,
    json: flags.Json = False,
) -> None:
    """Run a job, or go on with it where it stopped. Exit code 3: done, but for rows that had to be set aside."""
    where = _where(workers, engine, address, gpus_per_worker)
    with _stoppable(), terminal.Bar("planning", at_once=True):
        if engine == "local" and job.is_file():
            begin(workers)  # they import torch while the job is planned
        planned = batch.prepare(job)
    _go(planned.folder, where, None, json)


def resume(
    folder: Folder,
    workers: Workers = 1,
    engine: Engine = "local",
    address: Address = None,
    gpus_per_worker: Gpus = 0.0,
    max_error_rate: Annotated[
        float | None, typer.Option(help="Instead of the job's own: how many of its rows may be set aside.", min=0, max=1)
    ] = None,
    json: flags.Json = False,
) -> None:
    """Go on with a job that was stopped or killed; make again what verify found damaged."""
    _go(folder, _where(workers, engine, address, gpus_per_worker), max_error_rate, json)


def _where(workers: int, engine: str, address: str | None, gpus: float) -> batch.Where:
    if workers < 1:
        raise HeadwaterError(f"--workers: expected at least 1; got {workers}")
    if engine not in ("local", "ray"):
        raise HeadwaterError(f"--engine: expected local or ray; got {engine!r}")
    if engine == "local" and (address or gpus):
        raise HeadwaterError(f"--{'address' if address else 'gpus-per-worker'}: only with --engine ray")
    if gpus < 0:
        raise HeadwaterError(f"--gpus-per-worker: expected 0 or more; got {gpus}")
    return batch.Where(engine, workers, address, gpus)


def _go(folder: Path, where: batch.Where, max_error_rate: float | None, json: bool) -> None:
    began = time.monotonic()
    with _stoppable(folder), terminal.Bar("making") as bar:
        outcome = batch.resume(folder, where, max_error_rate=max_error_rate, report=bar)
    line = f"{outcome.rows:,} rows, {outcome.results:,} results"
    line += f", {outcome.unusable:,} not usable" if outcome.unusable else ""
    line += f", {outcome.quarantined:,} set aside" if outcome.quarantined else ""
    line += f", {terminal.seconds(began)}" if outcome.made else ", nothing was left to do"
    facts = {**batch.status(folder), "made": outcome.made, "page": folder / "index.html"}
    terminal.tell(line, folder / "index.html", facts=facts, as_json=json)
    if outcome.quarantined:
        raise typer.Exit(QUARANTINED)


@contextmanager
def _stoppable(folder: Path | None = None) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a job at once and in good order: workers killed, lock given back, what is committed kept."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Stopped as stopped:
        if folder is not None:
            typer.echo(f"stopped; what is done is kept, `headwater batch resume {folder}` goes on", err=True)
        raise typer.Exit(128 + int(stopped.args[0])) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status(folder: Folder, json: flags.Json = False) -> None:
    """How far a job is, from its files alone: safe to ask from anywhere while it runs."""
    told = batch.status(folder)
    if json:
        print(json_text.dumps(told, ensure_ascii=False))
        return
    share = told["rows_done"] / told["rows"]
    typer.echo(f"{typer.style(str(folder), bold=True)}  {told['domain']} {told['pipeline']}, {told['model']}")
    typer.echo(f"  rows     {told['rows_done']:,} of {told['rows']:,} ({share:.1%}), {told['quarantined']:,} set aside")
    typer.echo(f"  results  {told['results']:,}, {told['unusable']:,} not usable")
    if told["rows_per_second"] is not None:
        left = told["seconds_left"]
        later = "" if not left or not told["running"] else f", {_time(left)} left"
        typer.echo(f"  speed    {told['rows_per_second']:.3g} rows a second{later}")
    state = "running" if told["running"] else "finished" if told["finished"] else f"stopped; headwater batch resume {folder}"
    typer.echo(f"  state    {state}")
    if told["environments"] > 1:
        typer.echo(f"  note     made on {told['environments']} environments: a row's bytes may differ between them")


def verify(folder: Folder, json: flags.Json = False) -> None:
    """Read all of a job's files and compare them with its manifest. Exit code 4 where something is wrong; resume mends it."""
    from headwater.batch.running import BY_HAND

    with terminal.Bar("verifying", at_once=True):
        faults = batch.verify(folder)
    if json:
        print(json_text.dumps({"folder": str(folder), "faults": faults}, ensure_ascii=False))
    else:
        for fault in faults:
            typer.echo(fault)
        if not faults:
            typer.echo("every file is as the manifest says")
        elif not all(fault.endswith(BY_HAND) for fault in faults):
            typer.echo(f"headwater batch resume {folder} makes again what is damaged")
    if faults:
        raise typer.Exit(PromiseBroken.exit_code)


def report(folder: Folder) -> None:
    """Write the job's page as it now stands."""
    from headwater.batch import manifest
    from headwater.batch import plan as planning
    from headwater.report.batch import write

    planned = planning.read(folder)
    place = write(planned, manifest.read(folder)[0])
    terminal.tell("the job's page", place)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


commands = {"init": init, "run": run, "resume": resume, "status": status, "verify": verify, "report": report}

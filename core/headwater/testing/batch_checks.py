"""What a domain gets of batch jobs for nothing, held to it: its pipelines run as jobs, and a job that was stopped ends as one
that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headwater.testing.subject import TILE, Subject, contents


class _Stopped(Exception):
    """What stops a job half-way."""


def runs_as_batch(subject: Subject) -> str | None:
    """``sample`` and every pipeline run as batch jobs, and one that is stopped and resumed leaves the same files."""
    from headwater.registry import registered

    unchecked = []
    kinds = [("sample", ("sample",), ""), *((kind.name, kind.verbs, kind.model) for kind in subject.domain.pipelines)]
    for name, verbs, wanted in kinds:
        model = _model(subject, verbs, wanted)
        if model is None:
            unchecked.append(f"{name} (no recipe that can {', '.join(verbs)})")
            continue
        with registered(subject.domain):
            _stopped_and_not(subject, name, model)
    return f"not checkable: {'; '.join(unchecked)}" if unchecked else None


def _model(subject: Subject, verbs: tuple[str, ...], wanted: str) -> Path | None:
    """The two-step model, as a folder, of the recipe wanted, else of the first that has the verbs."""
    for recipe in sorted(subject.recipe_names, key=lambda name: name != wanted.rpartition("/")[2]):
        bench = subject.trained(recipe)
        if bench is not None and bench.seeded and set(verbs) <= set(bench.generator.verbs):
            folder = subject.folder("model")
            bench.save(folder)
            return folder
    return None


def _stopped_and_not(subject: Subject, name: str, model: Path) -> None:
    from headwater import batch

    pipeline = {kind.name: kind for kind in subject.domain.pipelines}.get(name)
    job: dict[str, Any] = {"domain": subject.domain.name, "pipeline": name, "model": str(model), "limits": {"max_error_rate": 0}}
    if pipeline is None:
        job |= {"inputs": {"count": 2 * TILE}, "shard": TILE}
    else:
        job |= {"inputs": {"files": [str(pipeline().example())] * 2}, "shard": 1}
    whole, halves = subject.folder("job") / "whole", subject.folder("job") / "halves"
    try:
        outcome = batch.run({**job, "out": str(whole)})
    except Exception as error:
        raise AssertionError(f"{name} does not run as a batch job: {error}") from error
    assert outcome.results, f"{name} run as a batch job gives no result"

    def stop(done: int, total: int) -> None:
        raise _Stopped

    try:
        batch.run({**job, "out": str(halves)}, report=stop)
    except _Stopped:
        batch.run({**job, "out": str(halves)})
    a, b = (_made(folder) for folder in (whole, halves))
    odd = sorted(n for n in a.keys() | b.keys() if a.get(n) != b.get(n))
    assert not odd, f"{name} run as a batch job, stopped and resumed leaves another {odd[0]}; a row may depend on itself alone"


def _made(folder: Path) -> dict[str, bytes]:
    """Everything a job made: not when and by whom."""
    return {n: content for n, content in contents(folder).items() if n not in ("plan.json", "manifest.jsonl", "index.html")}


CHECKS = (runs_as_batch,)

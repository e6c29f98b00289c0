"""The page of a batch job: how far and how fast, what was set aside and why, what the results' figures are, and some of them."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.batch import manifest, results, shards
from headwater.errors import PromiseBroken
from headwater.report import page

if TYPE_CHECKING:
    from headwater.batch.plan import Plan

#: Rows whose figures are summed up and reasons that are listed; where a job has more results, evenly spread shards stand for all.
SUMMED, REASONS = 100_000, 20


def write(plan: Plan, lines: Mapping[int, manifest.Line]) -> Path:
    """Write ``index.html`` into the job's folder, whole; returns its path."""
    text = job_page(plan, lines)
    fresh = plan.folder / f".{page.PAGE}"
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, plan.folder / page.PAGE)
    return plan.folder / page.PAGE


def job_page(plan: Plan, lines: Mapping[int, manifest.Line]) -> str:
    """The page as it stands, for a job that is done or not."""
    total = {key: sum(line[key] for line in lines.values()) for key in ("results", "unusable", "quarantined")}
    done = sum(len(plan.range(k)) for k in lines)
    seconds, cpu = (sum(float(line[key]) for line in lines.values()) for key in ("seconds", "cpu"))
    span = _span(lines)
    facts = [
        ("rows", f"{done:,}", "all" if done == plan.rows else f"of {plan.rows:,}"),
        ("results", f"{total['results']:,}", f"{total['unusable']:,} not usable" if total["unusable"] else ""),
        ("set aside", f"{total['quarantined']:,}", ""),
        ("rows a second", page.plain(done / span) if span else "–", f"{page.plain(done / cpu)} a CPU-second" if cpu else ""),
        ("worker time", _time(seconds), f"in {_time(span)}"),
        ("model", plan.model if not Path(plan.model).is_dir() else Path(plan.model).name, plan.sha256[:12]),
        ("seed", str(plan.job.seed), ""),
        *((k.replace("_", " "), page.plain(v), "") for k, v in plan.job.options.items()),
    ]
    domain = plan.domain
    title = f"{domain.name.capitalize()}, {plan.job.pipeline}: a batch job"
    body = page.heading(title, _lead(plan), domain.notice, facts)
    body += _aside(plan, lines) + _figures(plan, lines) + _unusable(plan, lines) + _drawn(plan, lines) + _workers(lines)
    return page.document(title, f"{domain.name} · {plan.job.pipeline} · batch", body, beside="plan.json")


def _lead(plan: Plan) -> str:
    kind = plan.pipeline
    text = plan.domain.summary if kind is None else kind.summary
    return f"{text[:1].upper()}{text[1:]}. {plan.shards:,} shards of {plan.shard:,} rows."


def _span(lines: Mapping[int, manifest.Line]) -> float:
    """Seconds during which runs were at work: from each one's first shard to its last."""
    runs: dict[str, list[tuple[float, float]]] = {}
    for line in lines.values():
        runs.setdefault(line["run"], []).append((float(line["began"]), float(line["at"])))
    return sum(max(at for _, at in times) - min(began for began, _ in times) for times in runs.values())


def _time(seconds: float) -> str:
    """
    >>> _time(42.0), _time(7380.0)
    ('42.0 s', '2 h 3 min')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _aside(plan: Plan, lines: Mapping[int, manifest.Line]) -> str:
    table = _read(plan, lines, shards.QUARANTINE, ["row", "reason"])
    if not table:
        return ""
    found = page.reason_table([r["row"] for r in table], [r["reason"] for r in table])
    total = sum(line["quarantined"] for line in lines.values())
    shown = "" if len(table) == total else f", reasons of {len(table):,} of them"
    return f"<h2>Set aside<small>{total:,} rows{shown}; all in {results.TABLES[shards.QUARANTINE]} at the end</small></h2>{found}"


def _unusable(plan: Plan, lines: Mapping[int, manifest.Line]) -> str:
    rows = _read(plan, lines, shards.ITEMS, ["row", "why_not"])
    if not any(r["why_not"] for r in rows):
        return ""
    return "<h2>Not usable</h2>" + page.reason_table([r["row"] for r in rows], [r["why_not"] for r in rows])


def _figures(plan: Plan, lines: Mapping[int, manifest.Line]) -> str:
    """Every numeric column of the usable results."""
    rows = [r for r in _read(plan, lines, shards.ITEMS, None) if r["valid"]]
    columns = list(dict.fromkeys(k for r in rows[:100] for k in r if k not in ("row", "draw")))
    cells = []
    for name in columns:
        values = [float(v) for r in rows if isinstance(v := r.get(name), int | float) and not isinstance(v, bool) and v == v]
        if len(values) < 2:
            continue
        ordered = sorted(values)
        low, high = (ordered[round(q * (len(ordered) - 1))] for q in (0.1, 0.9))
        cells.append(
            (
                escape(name.replace("_", " ")),
                page.text(float(statistics.median(ordered))),
                f"{page.text(low)} to {page.text(high)}",
                page.strip(ordered, []),
            )
        )
    if not cells:
        return ""
    head = ("column", "median", "middle 80 %", "of the usable results")
    return f"<h2>Figures<small>of {len(rows):,} usable results</small></h2>" + page.table(head, cells, (1, 2))


def _drawn(plan: Plan, lines: Mapping[int, manifest.Line]) -> str:
    shown: list[dict[str, Any]] = []
    for k in _there(plan, lines, shards.GALLERY):
        with _readable(plan.folder / shards.name(shards.GALLERY, k)) as file:
            shown += [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    if not shown:
        return ""
    drawn = page.gallery([s["row"] for s in shown], [s["fragment"] for s in shown], [s["problem"] for s in shown])
    return f"<h2>Some results<small>the first rows of the first shards</small></h2>{drawn}"


def _workers(lines: Mapping[int, manifest.Line]) -> str:
    """Who made how much, and whether on one environment: only then are the bytes those of any other run."""
    found: dict[tuple[str, str], list[manifest.Line]] = {}
    for line in lines.values():
        e = line["environment"]
        told = f"torch {e['torch']}, {e['device']}, {e['dtype']}, {e['threads']} thread{'s' * (e['threads'] != 1)}, {e['machine']}"
        found.setdefault((line["engine"], told), []).append(line)
    cells = []
    for (engine, told), part in sorted(found.items()):
        again, rows = sum(p["attempts"] > 1 for p in part), sum(p["rows"] for p in part)
        cells.append((escape(engine), escape(told), f"{len(part):,}", f"{rows:,}", f"{again:,}"))
    return "<h2>Made by</h2>" + page.table(("engine", "environment", "shards", "rows", "begun more than once"), cells, (2, 3, 4))


@contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """Raises :class:`PromiseBroken` where a file of a shard is not what was written."""
    try:
        yield file
    except (OSError, ValueError, KeyError) as error:  # pyarrow's are ValueErrors
        why = " ".join(str(error).split())[:200]
        raise PromiseBroken(f"{file}: cannot be read ({why}); `headwater batch verify` says what else is damaged") from None


def _there(plan: Plan, lines: Mapping[int, manifest.Line], kind: str) -> list[int]:
    """The shards that left files of a kind. One whose files are gone does not keep the others from being shown; verify tells."""
    return [k for k in sorted(lines) if kind in lines[k]["left"] and (plan.folder / shards.name(kind, k)).exists()]


def _read(plan: Plan, lines: Mapping[int, manifest.Line], kind: str, columns: Sequence[str] | None) -> list[dict[str, Any]]:
    """Rows of the shards' tables of one kind; of a large job, of evenly spread shards."""
    import pyarrow.parquet

    numbers = _there(plan, lines, kind)
    most = max(1, SUMMED // plan.shard)
    step = -(-len(numbers) // most) if numbers else 1
    rows: list[dict[str, Any]] = []
    for k in numbers[::step]:
        with _readable(plan.folder / shards.name(kind, k)) as file:
            rows += pyarrow.parquet.ParquetFile(file).read(columns=columns).to_pylist()
    return rows

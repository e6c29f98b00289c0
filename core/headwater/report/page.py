"""Pages: one self-contained HTML file a run, that asks for no outside address, holds no clock and reads on light and dark.

Fragments come from the domain's ``render`` (trusted to escape); every other text is escaped here.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import __version__
from headwater.knobs import Field, Knob, asked, fields
from headwater.report import run

if TYPE_CHECKING:
    from headwater.domain import Domain
    from headwater.samples import Samples

PAGE, ITEMS = "index.html", "items.parquet"
#: Items drawn on a page, reasons listed, and valid items described for the table of knobs: a page stays one that opens at once.
SHOWN, REASONS, DESCRIBED = 60, 20, 2000

_WAVES = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" aria-hidden="true">'
    '<path d="M2 7c3.3-3 6.7 3 10 0s6.7-3 10 0M2 12.5c3.3-3 6.7 3 10 0s6.7-3 10 0M2 18c3.3-3 6.7 3 10 0s6.7-3 10 0"/></svg>'
)
#: The browser itself refuses whatever a plug-in's fragment might fetch.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; media-src data: blob:; font-src data:"
)


# --- pieces -------------------------------------------------------------------------------------------------------


def document(title: str, crumb: str, body: str, beside: str = run.RUN) -> str:
    """A whole page. ``title`` and ``crumb`` are plain text, ``body`` is HTML; the file ``beside`` it says how to make it again."""
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><meta name="referrer" content="no-referrer">'
        f'<title>{escape(title)} · Headwater</title><link rel="icon" href="data:,"><style>\n{style}</style></head>\n'
        f'<body><main class="page"><div class="brand">{_WAVES}<span><b>Headwater</b> · {escape(crumb)}</span></div>\n{body}'
        f"<footer>Made by Headwater {escape(__version__)}. <code>{beside}</code> beside this page holds everything needed "
        "to make it again.</footer></main></body></html>\n"
    )


def heading(title: str, lead: str, notice: str, facts: Sequence[tuple[str, str, str]]) -> str:
    """The top of a page. ``facts`` are (label, value, small print)."""
    cells = "".join(
        f"<div><dt>{escape(label)}</dt><dd{' class=long' if len(value) > 14 else ''}>{escape(value)}"
        f"{f' <small>{escape(small)}</small>' if small else ''}</dd></div>"
        for label, value, small in facts
    )
    warned = f'<p class="notice" role="note">{escape(notice)}</p>' if notice else ""
    return f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{warned}<dl class="facts">{cells}</dl>\n'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of HTML cells; the columns in ``numbers`` stand on the right."""
    kind = [' class="number"' if i in numbers else "" for i in range(len(head))]
    top = "".join(f"<th{k}>{escape(h)}</th>" for k, h in zip(kind, head, strict=True))
    body = "".join("<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kind, row, strict=True)) + "</tr>\n" for row in rows)
    return f'<div class="table"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def gallery(rows: Sequence[int], fragments: Sequence[str], problems: Sequence[str | None]) -> str:
    """Drawn items side by side, each with its row and, where it is not valid, the reason."""
    out = []
    for row, fragment, problem in zip(rows, fragments, problems, strict=True):
        mark = '<span class="bad">not valid</span>' if problem else ""
        why = f'<p class="why">{escape(problem)}</p>' if problem and escape(problem) not in fragment else ""
        out.append(f'<li><div class="tag"><span>row {row}</span>{mark}</div><div class="body">{fragment}</div>{why}</li>')
    return f'<ul class="gallery">{"".join(out)}</ul>\n'


def listing(names: Sequence[str], folder: Path) -> str:
    """The run's files as links with their sizes; the page itself is left out."""
    sizes = [(n, (folder / n).stat().st_size) for n in names if n != PAGE]
    return (
        "<ul class=files>"
        + "".join(f'<li><a href="{_link(n)}">{escape(n)}</a><span>{size(s)}</span></li>' for n, s in sizes)
        + "</ul>\n"
    )


def _link(name: str) -> str:
    from urllib.parse import quote

    return escape("./" + quote(name))


def size(count: int) -> str:
    """
    >>> size(900), size(1536), size(12_000_000)
    ('900 B', '1.5 kB', '12.0 MB')
    """
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 999_950 else f"{count / 1e6:.1f} MB"


def plain(value: Any) -> str:
    """A value as a reader wants it, not yet escaped.

    >>> plain(0.123456), plain(None), plain(True), plain(1500.0)
    ('0.1235', '–', 'yes', '1500')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def text(value: Any) -> str:
    """The same as HTML.

    >>> text("<b>")
    '&lt;b&gt;'
    """
    return escape(plain(value))


# --- what was asked, and what was made ----------------------------------------------------------------------------


def knob_table(condition: type, wishes: Sequence[Any], made: Sequence[Any]) -> str:
    """One row a knob: what was asked of these items, and what the valid ones turned out to be."""
    rows = []
    for f in fields(condition):
        if f.kind == "given":
            continue
        wanted = [v for w in wishes if (v := getattr(w, f.name)) is not None]
        got = [v for d in made if (v := getattr(d, f.name)) is not None]
        if wanted or got:
            rows.append((_label(f), _asked(f, wanted), *_made(f, wanted, got)))
    return table(("property", "asked", "made (median)", "middle 80 %", "of the valid items made"), rows, (1, 2, 3)) if rows else ""


def _label(f: Field) -> str:
    unit = f.spec.unit if isinstance(f.spec, Knob) else ""
    return f"{escape(f.name)}<small>{escape(f.description)}{f', {escape(unit)}' if unit else ''}</small>"


def _number(f: Field) -> bool:
    return f.kind in ("number", "integer")


def _asked(f: Field, wanted: Sequence[Any]) -> str:
    if not wanted or min(map(str, wanted)) == max(map(str, wanted)):
        return text(wanted[0] if wanted else None)
    return f"{text(min(wanted))} to {text(max(wanted))}" if _number(f) else f"{len(set(map(str, wanted)))} different"


def _made(f: Field, wanted: Sequence[Any], got: Sequence[Any]) -> tuple[str, str, str]:
    if _number(f):
        got = [v for v in got if math.isfinite(v)]
    if not got:
        return "–", "–", ""
    if _number(f):
        ordered = sorted(map(float, got))
        low, high = (ordered[round(q * (len(ordered) - 1))] for q in (0.1, 0.9))
        return text(float(statistics.median(ordered))), f"{text(low)} to {text(high)}", strip(ordered, [float(v) for v in wanted])
    (most, count), *_ = Counter(map(text, got)).most_common(1)
    return most, f"{100 * count / len(got):.0f} % of them", ""


def strip(values: Sequence[float], marks: Sequence[float]) -> str:
    """A small histogram of finite, sorted ``values`` as SVG, with a line where all of ``marks`` are one value."""
    mark = [marks[0]] if marks and min(marks) == max(marks) else []
    low, high = min(values[0], *mark, values[0]), max(values[-1], *mark, values[-1])
    low, high = (low, high) if low < high else (low - 1, high + 1)
    width, height, bins = 190, 34, 24
    counts = Counter(min(bins - 1, int((v - low) / (high - low) * bins)) for v in values)
    step, unit = width / bins, 30 / max(counts.values())
    bars = "".join(
        f'<rect x="{i * step + 0.5:.1f}" y="{height - unit * c:.1f}" width="{step - 1:.1f}" height="{unit * c:.1f}" rx="1"/>'
        for i, c in sorted(counts.items())
    )
    lines = [f"M{1 + (width - 2) * (m - low) / (high - low):.1f} 0V{height}" for m in mark]
    line = "".join(f'<path d="{d}" stroke="var(--warn)" stroke-width="2"/>' for d in lines)
    label = f"from {low:.4g} to {high:.4g}" + "".join(f", asked {m:.4g}" for m in mark)
    return (
        f'<svg class="strip" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"><title>{label}</title>'
        f'<g fill="currentColor" opacity=".55">{bars}</g>{line}</svg>'
    )


def reason_table(rows: Sequence[int], problems: Sequence[str | None]) -> str:
    """Why items are not valid, the commonest reason first; empty where all are."""
    found: dict[str, list[int]] = {}
    for row, problem in zip(rows, problems, strict=True):
        if problem is not None:
            found.setdefault(problem, []).append(row)
    if not found:
        return ""
    ordered = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[1][0]))
    cells = [(str(len(r)), escape(why), ", ".join(map(str, r[:8])) + (" …" if len(r) > 8 else "")) for why, r in ordered[:REASONS]]
    left = sum(len(r) for _, r in ordered[REASONS:])
    if left:
        cells.append((str(left), f"{len(ordered) - REASONS} other reasons; the column why_not of {ITEMS} has them all", ""))
    return table(("items", "reason", "rows"), cells, (0,))


def record_table(records: Sequence[Mapping[str, Any]], skip: Iterable[str]) -> str:
    """Columns of ``items.parquet`` that say something, for a few rows."""
    leave = set(skip)
    columns = [c for c in (records[0] if records else ()) if c not in leave and any(r[c] is not None for r in records)]
    numbers = [
        i
        for i, c in enumerate(columns)
        if all(isinstance(r[c], int | float | None) and not isinstance(r[c], bool) for r in records)
    ]
    cells = (
        [text(r[c]) if i in numbers else f'<span class="cut">{text(r[c])}</span>' for i, c in enumerate(columns)] for r in records
    )
    return table(columns, cells, numbers)


# --- pages --------------------------------------------------------------------------------------------------------


def save_samples(samples: Samples, folder: Path) -> Path:
    """Write samples as a run folder (the field's own files, ``items.parquet``, the page, ``run.json``); returns the page's path.

    Raises :class:`HeadwaterError` where the folder cannot be written or holds something else."""
    with run.staged(folder) as stage:
        write_samples(samples, stage)
        knobs = asked(samples.wishes[0]) if samples.wishes and all(w == samples.wishes[0] for w in samples.wishes) else None
        made = {"domain": samples.domain.name, "model": {"name": samples.model}, "versions": run.versions(samples.domain)}
        run.close(stage, {**made, "n": len(samples), "seed": samples.seed, "knobs": knobs})
    return Path(folder) / PAGE


def write_samples(samples: Samples, folder: Path, verb: str = "sample", settings: Mapping[str, Any] | None = None) -> int:
    """Write all of a run but ``run.json`` into an existing folder; returns how many items are valid."""
    import pyarrow

    from headwater.samples import parquet_bytes

    records = samples.records()
    samples.domain.write(samples.items, folder)
    (folder / ITEMS).write_bytes(parquet_bytes(pyarrow.Table.from_pylist(records)))
    (folder / PAGE).write_text(samples_page(samples, records, run.files(folder), folder, verb, settings or {}), encoding="utf-8")
    return sum(r["valid"] for r in records)


def samples_page(
    samples: Samples,
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    folder: Path,
    verb: str,
    settings: Mapping[str, Any],
) -> str:
    """The page of samples: what was asked and made, the first items drawn, why some are not valid, and the files."""
    domain, problems = samples.domain, [r["why_not"] for r in records]
    valid = [item for item, why in zip(samples.items, problems, strict=True) if why is None]
    described = [domain.describe(item) for item in valid[:DESCRIBED]]
    share = f"{100 * len(valid) / len(records):.1f} %" if records else ""
    facts = [
        ("items", f"{len(records):,}", ""),
        ("valid", f"{len(valid):,}", share),
        ("model", samples.model, ""),
        ("seed", str(samples.seed), ""),
    ]
    facts += [(name.replace("_", " "), plain(value), "") for name, value in settings.items()]
    knobs = knob_table(domain.Wish, samples.wishes, described)
    notes = ["The line marks what was asked."] if any(asked(w) for w in samples.wishes) else []
    notes += [f"Made: the first {DESCRIBED:,} valid items."] if len(valid) > DESCRIBED else []
    reasons = reason_table(samples.rows, problems)
    count = min(SHOWN, len(samples))
    drawn = gallery(samples.rows[:count], [domain.render(item) for item in samples.items[:count]], problems[:count])
    columns = record_table(records[:count], ("seed", "model", "valid", "why_not"))
    title, crumb = f"{domain.name.capitalize()}, {VERBS.get(verb, verb)}", f"{domain.name} · {verb}"
    return document(
        title,
        crumb,
        heading(title, domain.summary[:1].upper() + domain.summary[1:], domain.notice, facts)
        + (f"<h2>Asked and made</h2><p class=note>{' '.join(notes)}</p>{knobs}" if knobs else "")
        + f"<h2>Items<small>{_of(count, len(samples))}</small></h2>{drawn}"
        + f"<details><summary>Their columns as a table</summary>{columns}</details>"
        + (
            f"<h2>Why some are not valid<small>{_of(len(records) - len(valid), len(records))}</small></h2>{reasons}"
            if reasons
            else ""
        )
        + f"<h2>Files</h2>{listing(names, folder)}",
    )


#: What the items of a verb are, in a page's title.
VERBS = {"sample": "made anew", "vary": "varied", "score": "scored"}


def _of(count: int, total: int) -> str:
    return f"{total:,}" if count == total else f"{count:,} of {total:,}"


@dataclass(frozen=True)
class Shown:
    """One result of a pipeline, as its page and table need it; the carrier itself may be gone."""

    row: int
    draw: int
    record: Mapping[str, Any]
    problem: str | None
    fragment: str


@dataclass
class Outcome:
    """What a pipeline made: how many results, of which kinds, which of them cannot be used and why, and the first, which its page
    draws."""

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[int, str]] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)

    @property
    def said(self) -> str:
        """The kinds in words, the most frequent first; empty where there are none."""
        return ", ".join(f"{n:,} {kind}" for kind, n in self.kinds.most_common())

    def add(self, result: Shown, kind: str | None = None) -> None:
        self.count += 1
        if kind is not None:
            self.kinds[kind] += 1
        if result.problem is not None:
            self.bad.append((result.row, result.problem))
        if len(self.shown) < SHOWN:
            self.shown.append(result)


def results_page(
    domain: Domain[Any, Any],
    name: str,
    summary: str,
    made: Outcome,
    names: Sequence[str],
    folder: Path,
    facts: Sequence[tuple[str, str, str]],
) -> str:
    """The page of a pipeline: the first results drawn, with their columns, and the files. ``facts`` are model, seed and options."""
    bad = len(made.bad)
    counts = [("results", f"{made.count:,}", f"{bad:,} not usable" if bad else "")]
    counts += [(kind, f"{n:,}", "") for kind, n in made.kinds.most_common()]
    title = f"{domain.name.capitalize()}, {name}"
    reasons = reason_table([row for row, _ in made.bad], [why for _, why in made.bad])
    return document(
        title,
        f"{domain.name} · {name}",
        heading(title, summary[:1].upper() + summary[1:], domain.notice, [*counts, *facts])
        + (f"<h2>Not usable<small>{_of(bad, made.count)}</small></h2>{reasons}" if reasons else "")
        + f"<h2>Results<small>{_of(len(made.shown), made.count)}</small></h2>"
        + "".join(map(result, made.shown))
        + f"<h2>Files</h2>{listing(names, folder)}",
    )


def result(shown: Shown) -> str:
    """One result of a pipeline as an article."""
    draw = f"<span class=tag>draw {shown.draw}</span>" if shown.draw else ""
    why = f'<p class="why">{escape(shown.problem)}</p>' if shown.problem else ""
    pairs = "".join(
        f"<div><dt>{escape(k.replace('_', ' '))}</dt><dd>{text(v)}</dd></div>" for k, v in shown.record.items() if v is not None
    )
    head = f"<header><h3>row {shown.row}</h3>{draw}{why}</header>"
    return f'<article class="result">{head}<div class="body">{shown.fragment}</div><dl class="pairs">{pairs}</dl></article>\n'


@dataclass(frozen=True)
class Chapter:
    """One run inside a page of several: its title, a line about it, its page, and what it shows."""

    title: str
    note: str
    page: str
    body: str


def chapters_page(title: str, lead: str, notices: Sequence[str], chapters: Sequence[Chapter]) -> str:
    """One page that links and shows several runs."""
    links = "".join(
        f'<li><a href="#c{i}"><b>{escape(c.title)}</b><small>{escape(c.note)}</small></a></li>' for i, c in enumerate(chapters)
    )
    bodies = "".join(
        f'<section id="c{i}"><div class="section-head"><h2>{escape(c.title)}<small>{escape(c.note)}</small></h2>'
        f'<a href="{_link(c.page)}">the whole run →</a></div>{c.body}</section>\n'
        for i, c in enumerate(chapters)
    )
    warned = "".join(f'<p class="notice" role="note">{escape(n)}</p>' for n in notices)
    return document(
        title, "demo", f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{warned}<ul class=contents>{links}</ul>{bodies}'
    )

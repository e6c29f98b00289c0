"""Model cards: Markdown with a Hugging Face header (https://huggingface.co/docs/hub/model-cards), rendered from a model folder's
own files, the domain and the data set's card. The same folder gives the same card: no clock, no path of this machine."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.checkpoint import CONFIG, METRICS, read_config, read_metrics
from headwater.data import DataCard, read_card
from headwater.errors import BadModel, HeadwaterError
from headwater.report.figures import figures, number

if TYPE_CHECKING:
    from headwater.domain import Domain

#: Where a card says which folder to load, for models that are not shipped.
ELSEWHERE = "path/to/this/folder"


def model_card(folder: Path, domain: Domain[Any, Any]) -> str:
    """The card of a model folder. Raises :class:`headwater.errors.BadModel` for a folder that cannot be read."""
    config, metrics = read_config(folder), read_metrics(folder)
    shipped = domain.models is not None and folder.resolve().parent == domain.models.resolve()
    name = f"{domain.name}/{config.get('name')}" if shipped else ELSEWHERE
    try:
        parts = [
            _header(domain, config, shipped),
            f"# {domain.name}/{config['name']}",
            inspect.cleandoc(type(domain).__doc__ or domain.summary),
            f"> {domain.notice}" if domain.notice else "",
            _what(config),
            _use(domain, config, name),
            _knobs(config),
            _data(domain, config),
            _training(config),
            _figures(metrics),
            _limits(domain, config),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadModel(
            f"{folder / CONFIG}: no card can be made of it ({type(error).__name__}: {error}); copy the model folder again"
        ) from None
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and line ends inside cells are taken out.

    >>> print(table(("a", "b"), [("1", "x|y")]))
    | a | b |
    | --- | --- |
    | 1 | x/y |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(str(c).split()).replace("|", "/") for c in line) + " |" for line in lines)


def licence_of(domain: Domain[Any, Any], shipped: bool) -> str:
    """The licence of shipped weights: that of the package they come in; empty where nobody stated one."""
    if not shipped or not domain.package:
        return ""
    try:
        meta = importlib.metadata.metadata(domain.package.partition("[")[0])
    except importlib.metadata.PackageNotFoundError:
        return ""
    return str(meta["License-Expression"] or "")


def _header(domain: Domain[Any, Any], config: Mapping[str, Any], shipped: bool) -> str:
    data = _data_card(domain, config)
    licence = (data and data.weights_licence) or licence_of(domain, shipped)
    said = [f"license: {licence.lower()}"] if licence else ["license: other", "license_name: not-stated"]
    tags = ["headwater", domain.name, config["family"], *sorted(config["verbs"])]
    # JSON's strings are YAML's: whatever a domain is called, the header stays readable
    lines = [*said, "library_name: headwater", "tags:", *(f"- {json.dumps(tag)}" for tag in tags)]
    if config["data"]["name"] in domain.datasets:
        lines += ["datasets:", f"- {json.dumps(config['data']['name'])}"]
    return "\n".join(["---", *lines, "---"])


def _what(config: Mapping[str, Any]) -> str:
    recipe, space = config["recipe"], dict(config["space"])
    kind = space.pop("kind")
    shape = ", ".join(f"{k} {v}" for k, v in space.items() if v is not None)
    rows = [
        ("family", config["family"]),
        ("network", f"{recipe['network']['name']} {_flat(recipe['network']['options'])}".strip()),
        ("parameters", f"{config['parameters']:,}, stored as {config['dtype']}"),
        ("codec, space", f"{config['codec']}, {kind}: {shape}"),
        ("sha256 of the weights", f"`{config['sha256']}`"),
    ]
    verbs = [(f"`{verb}`", how) for verb, how in config["verbs"].items()]
    summary = f"{recipe['summary']}\n\n" if recipe.get("summary") else ""
    return f"{summary}{table(('part', 'value'), rows)}\n\n## What it can do\n\n{table(('verb', 'how'), verbs)}"


def _flat(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in options.items())


def _use(domain: Domain[Any, Any], config: Mapping[str, Any], name: str) -> str:
    shown = dict(_examples(config))
    flags = "".join(f" --{k.replace('_', '-')} {shlex.quote(str(v))}" for k, v in shown.items())
    words = "".join(f", {k}={json.dumps(v) if isinstance(v, str) else repr(v)}" for k, v in shown.items())
    lines, python = [], ["import headwater as hw", "", f'model = hw.load("{name}")']
    if "sample" in config["verbs"]:
        lines.append(f"headwater {domain.name} sample --model {name} -n 24 --seed 7{flags} -o out/")
        python += [f"samples = model.sample(24, seed=7{words})", 'samples.save("out")']
    for verb in ("vary", "score"):
        if verb in config["verbs"]:
            lines.append(f"headwater {domain.name} {verb} FILE --model {name} -o out/")
    for kind in domain.pipelines:
        if kind.model.removeprefix(f"{domain.name}/") == config["name"] and all(v in config["verbs"] for v in kind.verbs):
            lines.append(f"headwater {domain.name} {kind.name} SOURCE --model {name} -o out/")
    install = f"pip install '{domain.package}'\n" if domain.package else ""
    return "## How to use it\n\n```sh\n" + install + "\n".join(lines) + "\n```\n\n```python\n" + "\n".join(python) + "\n```"


def _examples(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A value for the first knob that has one worth showing: the middle of its range, or its first choice."""
    for entry in config["fields"]:
        low, high = entry["spec"].get("low"), entry["spec"].get("high")
        if entry["kind"] in ("number", "integer") and low is not None and high is not None:
            middle = (low + high) / 2
            yield entry["name"], round(middle) if entry["kind"] == "integer" or middle == round(middle) else round(middle, 3)
            return
        if entry["kind"] == "choice" and entry["choices"]:
            yield entry["name"], entry["choices"][0]
            return


def _knobs(config: Mapping[str, Any]) -> str:
    rows = []
    for entry in config["fields"]:
        spec = entry["spec"]
        if entry["kind"] == "given":
            rows.append((entry["name"], spec["description"], "an array, filled by pipelines", ""))
            continue
        low, high = ("…" if end is None else number(end) for end in (spec["low"], spec["high"]))
        scope = ", ".join(entry["choices"]) or (f"{low} to {high}" if (low, high) != ("…", "…") else entry["kind"])
        rows.append((f"`--{entry['name'].replace('_', '-')}`", spec["description"], scope, spec["unit"]))
    return "## Knobs\n\n" + (
        table(("knob", "what it is", "range", "unit"), rows) if rows else "This model was trained without knobs."
    )


def _data_card(domain: Domain[Any, Any], config: Mapping[str, Any]) -> DataCard | None:
    name = config["data"]["name"]
    if name not in domain.datasets:
        return None
    try:
        return read_card(domain.datasets[name].card)
    except HeadwaterError:
        return None


def _data(domain: Domain[Any, Any], config: Mapping[str, Any]) -> str:
    card = _data_card(domain, config)
    data_hash = f"content hash `{config['data']['hash']}`"
    if card is None:
        return f"## Training data\n\n{config['data']['name']}, {data_hash}. Licence: unverified (no data card)."
    lines = [
        f"**{card.title or card.name}**, {data_hash}.",
        f"- Source: {card.source or 'unverified'}",
        f"- Licence: {card.licence}",
    ]
    lines += [f"- Citation: {card.citation}"] if card.citation else []
    not_for = "\n\nThese data are not for:\n\n" + "\n".join(f"- {line}" for line in card.not_for) if card.not_for else ""
    return "## Training data\n\n" + "\n".join([lines[0], "", *lines[1:]]) + not_for


def _training(config: Mapping[str, Any]) -> str:
    training = config["recipe"]["training"]
    seen = training["steps"] * training["batch"]
    text = (
        f"{training['steps']:,} steps of {training['batch']} items ({seen:,} items seen), peak rate {number(training['rate'])}, "
        f"weights averaged over steps (EMA {number(training['ema'])}), {training['precision']}."
    )
    command = config.get("command")
    return f"## Training\n\n{text}" + (f"\n\n```sh\n{command}\n```" if command else "")


def _figures(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("metrics")
    if not found:
        return f"## Figures\n\nNot measured yet (`headwater evaluate {ELSEWHERE} -o {ELSEWHERE}/{METRICS}` does it)."
    parts = ["## Figures", table(*figures(found))]
    if metrics.get("knobs"):
        head = ("knob", "quantile of real items", "asked", "median made", "off, in standard deviations")
        asked = [(r["knob"], *(number(r[k]) for k in ("quantile", "asked", "median", "off"))) for r in metrics["knobs"]]
        parts += ["Each knob asked for alone:", table(head, asked)]
    told = [f"Seed {metrics.get('seed')}", f"`{metrics.get('command')}`"]
    told += [f"real items: {metrics['reference']}"] if metrics.get("reference") else []
    told += metrics.get("notes", [])
    told += [_flat(metrics["fingerprint"])] if metrics.get("fingerprint") else []
    return "\n\n".join([*parts, "; ".join(told) + "."])


def _limits(domain: Domain[Any, Any], config: Mapping[str, Any]) -> str:
    lines = [
        "What it makes is drawn from a learnt distribution: an item may be invalid (and marked so) or close to a training item."
    ]
    lines.append("It knows only what its training data hold; nothing is promised for items of another kind.")
    if "score" not in config["verbs"]:
        lines.append("It gives no likelihood.")
    if domain.notice:
        lines.append(domain.notice)
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)

"""The table of a model's figures beside other people's, for terminals and cards alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = tuple[str, ...]


def number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def figures(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """Head and rows, one a metric. Where some metric has a figure of real items in place of samples, there is a column for it.

    >>> figures({"valid": {"value": 0.95, "n": 100, "better": "higher", "published": {"CharRNN": 0.975}, "source": "table 1"}})[1]
    [('valid', '0.95', '100', 'higher', 'CharRNN 0.975', 'table 1')]
    """
    beside = any("real" in figure for figure in metrics.values())
    head = ("metric", "this model", *(("real items",) if beside else ()), "n", "better", "published", "source")
    rows = []
    for name, figure in metrics.items():
        stderr = f" ± {figure['stderr']:.2g}" if figure.get("stderr") else ""
        kind = f" ({figure['kind']})" if figure.get("kind") else ""
        real = (number(figure["real"]) if "real" in figure else "",) if beside else ()
        published = ", ".join(f"{system} {number(value)}" for system, value in figure.get("published", {}).items())
        ours = f"{number(figure['value'])}{stderr}{kind}"
        rows.append((name, ours, *real, str(figure.get("n", "")), figure.get("better", ""), published, figure.get("source", "")))
    return head, rows

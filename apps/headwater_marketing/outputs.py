"""The files of a campaign: for each channel a CSV that a sending system takes, and an audit log of every row.

Both are written from plain records as they stream by, so memory does not grow with the campaign. The CSV holds only what is to be
sent: of the variants of a message the one that its customer is assigned.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from headwater_marketing.channels import CHANNELS
from headwater_marketing.records import cells, columns, of

AUDIT = "audit.jsonl"
_NESTED = ("facts", "left_out", "parts", "copy")


def write(records: Iterable[Mapping[str, Any]], folder: Path) -> list[Path]:
    """``sms.csv`` and so on (UTF-8, every cell in quotation marks, lines ending in CR LF, RFC 4180) and ``audit.jsonl``, one JSON
    object a line; returns the files."""
    written = [folder / AUDIT]
    with ExitStack() as files:
        audit = files.enter_context(open(folder / AUDIT, "w", encoding="utf-8"))
        sheets: dict[str, Any] = {}
        for plain in records:
            audit.write(json.dumps(history(plain), ensure_ascii=False) + "\n")
            if plain["status"] != "written" or not plain["assigned"]:
                continue
            record = of(plain)
            name = record.channel.name
            if name not in sheets:
                path = folder / f"{name}.csv"
                file = files.enter_context(open(path, "w", encoding="utf-8", newline=""))
                sheets[name] = sheet(file)
                sheets[name].writerow(columns(CHANNELS[name]))
                written.append(path)
            sheets[name].writerow(cells(record))
    return written


def sheet(file: TextIO) -> Any:
    """A writer of CSV as sending systems and spreadsheets take it."""
    return csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")


def history(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A record as the audit tells it: what a row does not have is left out, JSON is opened."""
    kept = {name: value for name, value in plain.items() if value not in (None, "")}
    return {name: json.loads(value) if name in _NESTED else value for name, value in kept.items()}

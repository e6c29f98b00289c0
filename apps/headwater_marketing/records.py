"""A finished message with its history, and the files it goes into: a CSV a sending system takes, and an audit log.

The audit answers "why did this person get this sentence" from the row alone: which offer and segment rules fired, which facts came
from which columns, which lines or model wrote it, under which seed.
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater_marketing.audience import Task
from headwater_marketing.channels import Channel
from headwater_marketing.plan import Message

#: What starts a formula in a spreadsheet (OWASP, CSV injection; ASVS 1.2.10), also in full width.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Record:
    """One message: the task it came from, the final texts, the copy with placeholders, who wrote it (``"templates"`` or a
    model's name), its lines where templates wrote it, the seed."""

    task: Task
    channel: Channel
    message: Message
    copy: Message
    source: str
    seed: int
    lines: tuple[str, ...] = ()

    def why(self) -> str:
        """Why this person got this message, in a sentence."""
        task = self.task
        offer = f"offer {task.offer!r} ({task.offer_rule})" if task.offer else "no offer"
        segment = f"segment {task.segment!r} ({task.segment_rule})" if task.segment else "no segment"
        facts = ", ".join(f"{f.slot.name} {f.text!r} from {f.field or 'the plan'}" for f in task.plan.facts)
        return (
            f"Row {task.row}, customer {task.customer!r}, consents to {task.channel}; {offer} and {segment} hold, so the voice is "
            f"{task.voice}/{task.level}; variant {task.variant}; facts: {facts or 'none'}; written by {self.source}, "
            f"seed {self.seed}."
        )

    def audit(self) -> dict[str, Any]:
        """The history as plain values."""
        task = self.task
        return {
            "row": task.row,
            "customer": task.customer,
            "channel": task.channel,
            "variant": task.variant,
            "offer": task.offer,
            "offer_rule": task.offer_rule,
            "segment": task.segment,
            "segment_rule": task.segment_rule,
            "voice": task.voice,
            "level": task.level,
            "product": task.product,
            "facts": {fact.slot.name: {"text": fact.text, "from": fact.field} for fact in task.plan.facts},
            "left_out": dict(task.plan.left_out),
            "fields": list(task.fields),
            "written_by": self.source,
            "lines": list(self.lines),
            "seed": self.seed,
            "copy": {part: list(texts) for part, texts in self.copy.items()},
            "text": {part: list(texts) for part, texts in self.message.items()},
            "why": self.why(),
        }


def cell(text: str) -> str:
    """A cell no spreadsheet runs: an apostrophe before what would start a formula.

    >>> cell("=1+1"), cell(" @x"), cell("Tea = calm")
    ("'=1+1", "' @x", 'Tea = calm')
    """
    return "'" + text if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def columns(channel: Channel) -> list[str]:
    """The CSV's header: who, then each part; an e-mail's body also as HTML, an ad's lines numbered."""
    names = ["customer", "variant", "offer", "segment"]
    for part in channel.parts:
        names += [part.name] if part.most == 1 else [f"{part.name}_{i + 1}" for i in range(part.most)]
    return [*names, "body_html"] if channel.name == "email" else names


def cells(record: Record) -> list[str]:
    """The record's row under :func:`columns`; formulas quoted, HTML escaped where HTML is meant."""
    task = record.task
    row = [cell(task.customer), str(task.variant), cell(task.offer), cell(task.segment)]
    for part in record.channel.parts:
        texts = list(record.message.get(part.name, ()))
        row += [cell(text) for text in texts] + [""] * (part.most - len(texts))
    if record.channel.name == "email":
        row.append(cell(body_html(record)))
    return row


def body_html(record: Record) -> str:
    """An e-mail's body as escaped paragraphs; the address of the plan is a link."""
    addresses = sorted((f.text for f in record.task.plan.facts if f.slot.kind == "url"), key=len, reverse=True)
    link = re.compile("|".join(re.escape(html.escape(address)) for address in addresses) or r"(?!)")
    paragraphs = []
    for paragraph in record.message["body"][0].split("\n\n"):
        text = link.sub(lambda found: f'<a href="{found.group()}">{found.group()}</a>', html.escape(paragraph))
        paragraphs.append("<p>" + text.replace("\n", "<br>") + "</p>")
    return "".join(paragraphs)


def write_csv(records: Iterable[Record], channel: Channel, path: Path) -> int:
    """One channel's messages as UTF-8 CSV, every cell in quotation marks, lines ending in CR LF (RFC 4180); returns the number."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        writer.writerow(columns(channel))
        for record in records:
            writer.writerow(cells(record))
            count += 1
    return count


def write_audit(entries: Iterable[Mapping[str, Any]], path: Path) -> int:
    """One JSON object a line; returns the number."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            count += 1
    return count

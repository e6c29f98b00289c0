"""A finished message with its history, and its row in the CSV that a sending system takes.

The history answers "why did this person get this sentence" from the row alone: which offer and segment rules fired, which facts
came from which columns, which lines or model wrote it, under which seed.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from headwater_marketing.audience import Passed, Task
from headwater_marketing.channels import CHANNELS, Channel
from headwater_marketing.plan import Fact, Message, Plan, Reason, Slot

#: Reasons that are faults of a row; the others (consent, duplicate, cap, offer, alike) are what the brief asks for.
REFUSALS: tuple[str, ...] = get_args(Reason)
#: What starts a formula in a spreadsheet (OWASP, CSV injection; ASVS 1.2.10), also in full width.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Record:
    """One message: the task it came from (with the facts that it states, and why others are left out), the final texts, the copy
    with placeholders, who wrote it (``"templates"``, a model's name, or both), its lines where templates wrote them, the seed.

    ``assigned``: whether it is the variant that this customer is sent; ``score``: the model's log-likelihood of its lines in nats,
    given what was asked; ``borrowed``: of its ``texts``, how many are the templates'; ``tries``: how often its lines were drawn;
    ``rejected``: what drafts were thrown away for."""

    task: Task
    channel: Channel
    message: Message
    copy: Message
    source: str
    seed: int
    lines: tuple[str, ...] = ()
    assigned: bool = True
    score: float | None = None
    borrowed: int = 0
    tries: int = 1
    rejected: tuple[str, ...] = ()

    @property
    def texts(self) -> int:
        return sum(len(texts) for texts in self.message.values())

    @property
    def text(self) -> str:
        """All of it, part by part."""
        return "\n".join(text for part in self.channel.parts for text in self.message.get(part.name, ()))

    def why(self) -> str:
        """Why this person got this message, in a sentence."""
        task = self.task
        offer = f"offer {task.offer!r} ({task.offer_rule})" if task.offer else "no offer"
        segment = f"segment {task.segment!r} ({task.segment_rule})" if task.segment else "no segment"
        facts = ", ".join(f"{f.slot.name} {f.text!r} from {f.field or 'the plan'}" for f in task.plan.facts)
        return (
            f"Row {task.row}, customer {task.customer!r}, consents to {task.channel}; {offer} and {segment} hold, so the voice is "
            f"{task.voice}/{task.level}; variant {task.variant}{'' if self.assigned else ' (not the one sent)'}; "
            f"facts: {facts or 'none'}; written by {self.source}, seed {self.seed}."
        )

    def plain(self) -> dict[str, Any]:
        """The history as plain columns; what has parts of its own is JSON. :func:`of` reads it."""
        task = self.task
        return {
            "status": "written",
            "customer": task.customer,
            "channel": task.channel,
            "variant": task.variant,
            "assigned": self.assigned,
            "text": self.text,
            "facts": _json({f.slot.name: {"text": f.text, "from": f.field, "kind": f.slot.kind} for f in task.plan.facts}),
            "fields": ", ".join(task.fields),
            "left_out": _json(task.plan.left_out),
            "offer": task.offer,
            "offer_rule": task.offer_rule,
            "segment": task.segment,
            "segment_rule": task.segment_rule,
            "voice": task.voice,
            "level": task.level,
            "product": task.product,
            "score": self.score,
            "violations": "",  # the validator found none, or there would be no record
            "rejected": "; ".join(self.rejected),
            "model": self.source,
            "lines": ", ".join(self.lines),
            "texts": self.texts,
            "borrowed": self.borrowed,
            "tries": self.tries,
            "seed": self.seed,
            "parts": _json({part: list(texts) for part, texts in self.message.items()}),
            "copy": _json({part: list(texts) for part, texts in self.copy.items()}),
            "reason": "",
            "why": self.why(),
        }


def passed(row: Passed) -> dict[str, Any]:
    """The plain columns of a row without a message."""
    status = "refused" if row.reason in REFUSALS else "passed"
    return {"status": status, "customer": row.customer, "channel": row.channel, "reason": row.reason, "why": row.words}


def of(plain: Mapping[str, Any]) -> Record:
    """The record of its plain columns; of its facts what outputs read."""
    facts, left_out = json.loads(plain["facts"]), json.loads(plain["left_out"])
    told = tuple(Fact(Slot(name, fact["kind"]), fact["text"], fact["from"]) for name, fact in facts.items())
    task = Task(
        plain["row"],
        plain["customer"],
        plain["channel"],
        plain["variant"],
        Plan(str(plain["row"]), told, left_out),
        offer=plain["offer"],
        segment=plain["segment"],
        product=plain["product"],
    )
    channel = CHANNELS[plain["channel"]]
    parts, copy = ({k: tuple(v) for k, v in json.loads(plain[name]).items()} for name in ("parts", "copy"))
    return Record(task, channel, parts, copy, plain["model"], plain["seed"], assigned=plain["assigned"])


def _json(value: Any) -> str:
    return json.dumps(dict(value), ensure_ascii=False)


#: The columns of :meth:`Record.plain`.
PLAIN = tuple(Record(Task(0, "", "sms", 0, Plan("", (), {})), CHANNELS["sms"], {}, {}, "", 0).plain())


def cell(text: str) -> str:
    """A cell no spreadsheet runs: an apostrophe before what would start a formula. A telephone number is none.

    >>> cell("=1+1"), cell(" @x"), cell("Tea = calm"), cell("+4915112345678")
    ("'=1+1", "' @x", 'Tea = calm', '+4915112345678')
    """
    if re.fullmatch(r"\+[0-9]+", text):
        return text
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
    """An e-mail's body as escaped paragraphs; addresses, which are the plan's or the legal text's, are links."""
    link = re.compile(r"https?://(?:&amp;|[A-Za-z0-9./?=_~+%#:,-])*[A-Za-z0-9/=_~+%#-]")
    paragraphs = []
    for paragraph in record.message["body"][0].split("\n\n"):
        text = link.sub(lambda found: f'<a href="{found.group()}">{found.group()}</a>', html.escape(paragraph))
        paragraphs.append("<p>" + text.replace("\n", "<br>") + "</p>")
    return "".join(paragraphs)

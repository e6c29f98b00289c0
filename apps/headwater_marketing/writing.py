"""From a task to a message that may be sent: a plan of lines, a model's words for each, a judge, and a way out.

Templates write the message first. That settles which line states which facts, and is a message that has passed the validator. Then
a model is asked for each line, its facts as placeholders under a constraint; a line replaces the template's only where the whole
message, facts filled in and legal text behind, still passes. What fails is drawn again, and stays the template's in the end. So at
every moment there is a message that may be sent, whoever the model is; where not even templates find one, the row is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from headwater.memory import give_back
from headwater_marketing import asks, templates
from headwater_marketing.audience import Passed, Task
from headwater_marketing.channels import Channel
from headwater_marketing.facts import fill
from headwater_marketing.plan import Fact, Message, Plan, Policy, Refused
from headwater_marketing.records import Record
from headwater_marketing.validator import Violation, admit, judge

if TYPE_CHECKING:
    from headwater.constraints import FiniteConstraint
    from headwater.generator import Generator
    from headwater_marketing.codecs import Words
    from headwater_marketing.constraint import Wording

ATTEMPTS = 4  # draws of a line before the template's stays
ROUNDS = 6  # whole messages before a variant is given up as too like another
CALL = 4  # tiles that the model is asked for at once: what their rules and tensors took is given back before the next
REASONS = 5  # of rejected drafts, told
TEMPLATES = "templates"
#: A text whose -log p under its model is above a + b x tokens is drawn again, in nats.
UNLIKELY = (5.0, 0.5)
#: And one with a token below this, in nats: where the model goes its own way hardly any is, and most of those that a constraint
#: forces upon it are.
LEAST = -8.0
#: The same where words are made in any order: the surest go first, so the least likely is likelier.
LEAST_OF_ANY_ORDER = -2.5
#: A word twice, written alike.
TWICE = re.compile(r"(?<![\w'’])([\w'’]+) \1(?![\w'’])")
#: What is left of a text made in any order where its length does not suit it: a word or stop twice, a sentence without its head.
SLIP = re.compile(TWICE.pattern + r"|([,.;:])\2|[.!?] [a-z]")


@dataclass(frozen=True)
class Order:
    """A message to write: its task, channel and policy; ``key``, all that its wording is drawn by besides the seed; ``rules``, the
    columns that offers and segments were chosen by."""

    task: Task
    channel: Channel
    policy: Policy
    key: str
    rules: frozenset[str] = frozenset()


@dataclass
class Line:
    """One text of a message: which, the template's words for it, what a model is asked, its constraint, and what it said."""

    part: str
    place: int
    text: str
    ask: asks.Ask
    rule: Wording | FiniteConstraint | None
    said: str | None = None
    score: float | None = None
    least: float = 0.0
    open: bool = True


@dataclass
class Draft:
    """A message in the making: ``copy`` always passes the validator."""

    order: Order
    variant: int
    key: str
    plan: Plan  # what it is judged by
    copy: dict[str, list[str]]
    template: tuple[str, ...]
    lines: list[Line] = field(default_factory=list)
    tries: int = 0
    rejected: list[str] = field(default_factory=list)
    score: float | None = None

    def message(self, copy: Message) -> Message:
        return templates.finished(copy, self.plan, self.order.channel, self.order.policy)

    def take(self, texts: Mapping[tuple[str, int], str]) -> None:
        """Put in what a model said, all of it or, where that fails, each line that does not break the message."""
        lines = [line for line in self.lines if (line.part, line.place) in texts]
        for chosen in (lines, *([line] for line in lines if len(lines) > 1)):
            if not all(line.open for line in chosen):
                continue  # taken with the others
            copy = {part: list(said) for part, said in self.copy.items()}
            for line in chosen:
                copy[line.part][line.place] = texts[line.part, line.place]
            if faults := self._faults(copy):
                if len(chosen) == 1:
                    self.rejected += [fault for fault in faults if fault not in self.rejected]
                continue
            self.copy = copy
            for line in chosen:
                line.said, line.open = texts[line.part, line.place], False

    def _faults(self, copy: Message) -> list[str]:
        try:
            found: Sequence[Violation] = judge(self.message(copy), self.plan, self.order.channel, self.order.policy)
        except ValueError as error:  # a placeholder without a fact
            return [f"leftover: {error}"]
        return [f"{fault.kind}: {fault.words}" for fault in found]


class Author:
    """A model that writes lines, whatever its family: autoregressive models and decoders write under each line's constraint; masked
    diffusion under a table that counts its facts, and the judge sees to words and length."""

    def __init__(self, model: Generator, seed: int, boldness: float) -> None:
        model.need("sample")
        self.model, self.seed, self.boldness = model, seed, boldness
        self.name, self.codec = model.name, cast("Words", model.codec)

    def rule(self, ask: asks.Ask, plan: Plan, order: Order, like: str) -> Wording | FiniteConstraint | None:
        """The constraint of a line of a message with these facts, of about the length of the template's (``like``). Raises
        ``ValueError`` where no text can hold the line's facts, or the model has no names for them."""
        from headwater_marketing.constraint import counting

        asks.told(ask)
        return counting(self.codec, ask) if self.model.model.family.finite else wording(self.codec, ask, plan, order, like)

    def write(self, lines: Sequence[tuple[Draft, Line]], attempt: int) -> list[str]:
        """A text for each line, drawn by what it is for, wherever it stands among others. Each line keeps its text's
        log-likelihood, where the model can tell it exactly: a bound of one text is too noisy to judge by."""
        from headwater_marketing.constraint import Wording

        order = sorted(range(len(lines)), key=lambda i: len(lines[i][1].text))  # texts of a tile end together, or nearly
        by_length = [lines[i] for i in order]
        exact, copies, texts = self.model.exact, list[asks.Copy](), [""] * len(lines)
        for first in range(0, len(lines), together := CALL * self.model.tile):
            some = by_length[first : first + together]
            made = self.model.sample(
                len(some),
                seed=self.seed,
                ids=[identity(draft, line, attempt) for draft, line in some],
                wishes=[self._wish(line) for _, line in some],
                constraints=[line.rule for _, line in some],
                temperature=self.boldness,
                likelihood=exact,
                least_likely=True,
            )
            copies += made
            for i, (_, line) in enumerate(some):
                line.score = made.extra["log_likelihood"][i] if exact else None
                line.least = made.extra["least_likely"][i] if "least_likely" in made.extra else 0.0
                if isinstance(line.rule, Wording):
                    line.rule.forget()
            give_back()
        for i, copy in zip(order, copies, strict=True):
            texts[i] = asks.named(copy.text, lines[i][1].ask).strip()
        return texts

    def doubts(self, lines: Sequence[tuple[Draft, Line]], texts: Sequence[str]) -> list[str | None]:
        """Why each text is better drawn again, if it is: the model itself finds it unlikely. So it is where facts that it had
        forgotten were forced in at the end, or a text was ended where the model would have gone on."""
        found: list[str | None] = []
        any_order = self.model.model.family.finite
        for (_, line), text in zip(lines, texts, strict=True):
            if line.score is not None and unlikely(line.score, size := self._size(text, line)):
                found.append(f"unlikely: {-line.score:.0f} nats for {size} words")
            elif any_order and (slip := SLIP.search(text)):
                found.append(f"unlikely: {slip[0]!r}")
            else:
                least = LEAST_OF_ANY_ORDER if any_order else LEAST
                found.append(f"unlikely: a word of {-line.least:.1f} nats" if line.least < least else None)
        return found

    def score(self, drafts: Sequence[Draft]) -> None:
        """Give each draft the log-likelihood of what the model wrote of it, where it can tell exactly."""
        for draft in drafts:
            said = [line for line in draft.lines if line.said is not None]
            told = [line.score for line in said if line.score is not None]
            draft.score = sum(told) if told and len(told) == len(said) else None

    def _size(self, text: str, line: Line) -> int:
        """Its tokens, as many as the codec holds where it would not fit if it were spelled as training texts are."""
        try:
            return int((self.codec.encode(asks.Copy(_ours(text, line.ask), line.ask)) != 0).sum())
        except ValueError:
            return self.codec.space.length

    def _wish(self, line: Line) -> asks.Wish:
        return asks.wish(line.ask, asks.room(line.text))


def unlikely(score: float, size: int) -> bool:
    """Whether a text of so many tokens is better drawn again, by its log-likelihood in nats."""
    return -score > UNLIKELY[0] + UNLIKELY[1] * size


def identity(draft: Draft, line: Line, attempt: int) -> int:
    """What a text is drawn by: the line it is for, and which attempt it is."""
    return number(f"{draft.key}\x1f{line.part}\x1f{line.place}\x1f{attempt}")


def wording(codec: Words, ask: asks.Ask, plan: Plan, order: Order, like: str) -> Wording:
    """The constraint of one text of an order, over a codec's tokens, of about the length of ``like``, the template's. Raises
    ``ValueError`` where no text can hold its facts."""
    from headwater_marketing.constraint import Wording

    channel, part = order.channel, str(ask.part)
    return Wording(
        codec,
        ask,
        {fact.slot.name: fact.text for fact in plan.facts},
        channel.part(part),
        order.policy,
        legal=order.policy.legal.get(channel.name, "") if part == channel.legal else "",
        between="\n\n" if channel.name == "email" else " ",
        held=frozenset(word for fact in plan.facts for word in (fact.slot.name, fact.slot.kind)),
        like=fill(like, plan),
    )


class Writer:
    """Writes orders, all of a call together: a message depends on its own order alone. ``author`` None: templates alone.

    Variants of a message differ in at least the share ``apart`` of their pairs of words; see :func:`apart`. ``told`` is the seed
    that records name, where ``seed`` is drawn from it."""

    def __init__(self, author: Author | None, seed: int, *, apart: float = 0.3, told: int | None = None) -> None:
        self.author, self.seed, self.floor, self.told = author, seed, apart, seed if told is None else told

    def write(self, orders: Sequence[Order], variants: int) -> list[list[Record | Passed]]:
        """For each order a record a variant, or why there is none."""
        kept: list[list[Draft]] = [[] for _ in orders]
        missing: list[list[Passed]] = [[] for _ in orders]
        pending = [(i, v) for i in range(len(orders)) for v in range(variants)]
        for turn in range(ROUNDS):
            drafts = {}
            for i, v in pending:
                try:
                    drafts[i, v] = self._begin(orders[i], v, turn)
                except Refused as refused:
                    missing[i].append(_passed(orders[i].task, refused.reason, str(refused)))
            self._compose(list(drafts.values()))
            pending = []
            for (i, v), draft in drafts.items():
                if all(apart(draft.copy, other.copy) >= self.floor for other in kept[i]):
                    kept[i].append(draft)
                else:
                    pending.append((i, v))
        for i, v in pending:
            missing[i].append(
                _passed(orders[i].task, "alike", f"variant {v}: no wording found that differs enough from the others")
            )
        if self.author:
            self.author.score([draft for drafts in kept for draft in drafts])
        return [self._answer(order, *found) for order, *found in zip(orders, kept, missing, strict=True)]  # type: ignore[arg-type]

    def _answer(self, order: Order, kept: list[Draft], missing: list[Passed]) -> list[Record | Passed]:
        """Where not all variants are there, a customer gets the first that is; a refusal is told once."""
        kept.sort(key=lambda draft: draft.variant)
        if not kept:
            return [missing[0]]
        there = [draft.variant for draft in kept]
        sent = order.task.variant if order.task.variant in there else there[0]
        return [*(self._record(draft, sent) for draft in kept), *missing]

    def _begin(self, order: Order, variant: int, turn: int) -> Draft:
        """A draft in the templates' words. Raises :class:`Refused` where those find none."""
        task, channel = order.task, order.channel
        key = f"{self.seed}\x1f{order.key}\x1f{channel.name}\x1f{variant}\x1f{turn}"
        written = templates.write(task.plan, channel, order.policy, task.voice, task.level, key)
        plan = admit(task.plan, order.policy).only(lambda fact: channel.takes(fact.slot.kind))
        if not written.draws:
            plan = plan.only(lambda fact: fact.slot.least > 0)
        draft = Draft(order, variant, key, plan, {part: list(texts) for part, texts in written.copy.items()}, written.lines)
        if self.author:
            for part, wanted in asks.asks(written.copy, plan, channel.name, task.voice, task.level).items():
                for place, ask in enumerate(wanted):
                    line = Line(part, place, written.copy[part][place], ask, None)
                    try:
                        line.rule = self.author.rule(ask, plan, order, line.text)
                    except ValueError:
                        line.open = False
                    draft.lines.append(line)
        return draft

    def _compose(self, drafts: Sequence[Draft]) -> None:
        """Ask the model for the lines of all drafts at once, and again for those that failed."""
        for attempt in range(ATTEMPTS if self.author else 0):
            lines = [(draft, line) for draft in drafts for line in draft.lines if line.open]
            if not lines:
                return
            assert self.author is not None
            answers: dict[int, dict[tuple[str, int], str]] = {}
            texts = self.author.write(lines, attempt)
            for (draft, line), text, doubt in zip(lines, texts, self.author.doubts(lines, texts), strict=True):
                answers.setdefault(id(draft), {})
                if doubt is None:
                    answers[id(draft)][line.part, line.place] = text
                elif doubt not in draft.rejected:
                    draft.rejected.append(doubt)
            for draft in drafts:
                if id(draft) in answers:
                    draft.tries += 1
                    draft.take(answers[id(draft)])

    def _record(self, draft: Draft, sent: int) -> Record:
        task, order = draft.order.task, draft.order
        said = sum(line.said is not None for line in draft.lines)
        total = sum(map(len, draft.copy.values()))
        names = {name for texts in draft.copy.values() for text in texts for name in asks.PLACEHOLDER.findall(text)}
        copy = {part: tuple(texts) for part, texts in draft.copy.items()}
        used, rest = draft.plan.only(lambda f: f.slot.name in names), task.plan.only(lambda f: f.slot.name not in names)
        left_out = {**draft.plan.left_out, **{f.field or f.slot.name: _why_not(f, draft) for f in rest.facts}}
        silent = {f.field for f in rest.facts} - {f.field for f in used.facts} - order.rules
        sources = ([self.author.name] if self.author and said else []) + ([TEMPLATES] if said < total else [])
        return Record(
            replace(
                task,
                variant=draft.variant,
                plan=replace(used, left_out=left_out),
                fields=tuple(name for name in task.fields if name not in silent),
            ),
            order.channel,
            draft.message(copy),
            copy,
            " and ".join(sources),
            self.told,
            draft.template if said < total else (),
            assigned=draft.variant == sent,
            score=None if draft.score is None else round(draft.score, 2),
            borrowed=total - said,
            tries=max(1, draft.tries),
            rejected=tuple(draft.rejected[:REASONS]),
        )


def _why_not(fact: Fact, draft: Draft) -> str:
    if not draft.order.channel.takes(fact.slot.kind):
        return f"{draft.order.channel.name} states no {fact.slot.kind}"
    return "no room, or no words, for it in this message"


def _ours(text: str, ask: asks.Ask) -> str:
    """A text in the placeholders of a model's vocabulary."""
    ours = asks.spoken(ask.slots)
    return asks.PLACEHOLDER.sub(lambda found: "{" + ours.get(found[1], found[1]) + "}", text)


def _passed(task: Task, reason: str, words: str) -> Passed:
    return Passed(task.row, task.customer, task.channel, reason, words)


def number(name: str) -> int:
    """A name as a number below 2^63."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "big") >> 1


def apart(a: Message, b: Message) -> float:
    """How far two texts with placeholders are apart: the share of their neighbouring pairs of words that only one of them has.

    >>> apart({"text": ["Meet {product} today"]}, {"text": ["Meet {product} today"]})
    0.0
    >>> apart({"text": ["Meet {product} today"]}, {"text": ["{product}, yours for {price}"]})
    1.0
    """
    first, second = _pairs(a), _pairs(b)
    return 1 - len(first & second) / len(first | second) if first | second else 0.0


def _pairs(copy: Message) -> set[tuple[str, str, str]]:
    found = set()
    for part, texts in copy.items():
        for text in texts:
            words = ["", *re.findall(r"\{\w+\}|[\w'’]+", text.casefold()), ""]
            found |= {(part, *pair) for pair in zip(words, words[1:], strict=False)}
    return found

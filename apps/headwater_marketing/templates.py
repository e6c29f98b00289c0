"""Copy of our own making: lines that between them state every fact once, drawn by a hash, or the shortest that do.

It is what stands in when a model's copy fails, and the grammar that the training corpus is drawn from. Every text it returns has
passed the validator; where none can, the row is refused by reason. The same key gives the same text.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headwater_marketing.channels import Channel, Part, columns, gsm, septets, units
from headwater_marketing.facts import close, fill
from headwater_marketing.grammar import Dice, Line, draw, lines, shortest
from headwater_marketing.phrases import LEVELS, VOICES
from headwater_marketing.plan import Message, Plan, Policy, Refused
from headwater_marketing.validator import Violation, admit, judge, sayable

_ATTEMPTS = 12  # drawn texts before the shortest one
_ORDER = ("greeting", "opening", "offer", "detail", "code", "deadline", "call", "tap", "sign")
_FIRST = ("product", "percent", "price", "was", "feature", "code", "until", "url", "perk", "first_name", "brand")
_BODY = ("greeting", "offer", "detail", "code", "deadline", "call")
_ONCE = ("greeting", "code", "deadline", "call")
_CHANNELS = ("sms", "push", "email", "ad", "description")


@dataclass(frozen=True)
class Written:
    """A finished message: ``copy`` with placeholders, ``message`` as it is read, the lines it is made of, and how many draws it
    took (0: the shortest text there is)."""

    copy: Message
    message: Message
    lines: tuple[str, ...]
    draws: int


def write(plan: Plan, channel: Channel, policy: Policy, voice: str = "warm", level: str = "standard", key: str = "") -> Written:
    """Copy for a plan. Raises :class:`Refused` where a fact is banned, has no wording, or nothing fits and passes.

    >>> from headwater_marketing.channels import CHANNELS
    >>> from headwater_marketing.plan import Fact, Slot
    >>> plan = Plan("1", (Fact(Slot("product", "name"), "Kettle"), Fact(Slot("price", "price"), "£25")), {})
    >>> written = write(plan, CHANNELS["sms"], Policy(legal={"sms": "Reply STOP to opt out"}), "crisp", key="1")
    >>> [words in written.message["text"][0] for words in ("Kettle", "£25", "Reply STOP to opt out")]
    [True, True, True]
    """
    if voice not in VOICES or level not in LEVELS:
        raise ValueError(f"voice {voice!r}, level {level!r}: expected one of {', '.join(VOICES)} and one of {', '.join(LEVELS)}")
    plan = admit(plan, policy).only(lambda fact: channel.takes(fact.slot.kind))
    needed = plan.only(lambda fact: fact.slot.least > 0)
    faults: list[Violation] = []
    for draws in range(1, _ATTEMPTS + 2):
        wanted = plan if draws <= _ATTEMPTS // 2 else needed
        dice = Dice(f"{key}/{channel.name}/{draws}") if draws <= _ATTEMPTS else None
        pen = _Pen(wanted, channel, policy, voice, level, dice, pressed=max(0, draws - 3))
        copy = pen.message()
        if copy is None:
            continue
        message = finished(copy, wanted, channel, policy)
        faults = list(judge(message, needed if dice is None else plan, channel, policy))
        if not faults:
            return Written(copy, message, tuple(pen.used), draws if dice else 0)
    raise _refusal(plan, faults)


def _refusal(plan: Plan, faults: Sequence[Violation]) -> Refused:
    facts = [fact for fact in plan.facts if fact.slot.least]
    named = [fact for fact in facts for fault in faults if fault.words.startswith((f"{fact.slot.name} ", repr(fact.text)))]
    about = named[0] if named else max(facts, key=lambda fact: len(fact.text), default=None)
    field = (about.field or about.slot.name) if about else "the plan"
    if not faults:
        return Refused("policy", plan.row, field, f"no wording left for {', '.join(f.slot.name for f in facts) or 'no facts'}")
    length = next((fault for fault in faults if fault.kind == "length"), None)
    if length:
        return Refused("length", plan.row, field, f"even the shortest {length.part} takes {length.words}")
    return Refused("policy", plan.row, field, f"{faults[0].part or 'message'}: {faults[0].kind}: {faults[0].words}")


def finished(copy: Message, plan: Plan, channel: Channel, policy: Policy) -> Message:
    """Copy with its facts and the channel's legal text. Raises ``ValueError`` as :func:`~headwater_marketing.facts.fill` does."""
    message = {name: tuple(fill(text, plan) for text in texts) for name, texts in copy.items()}
    legal = policy.legal.get(channel.name, "")
    if legal and channel.legal:
        between = "\n\n" if channel.name == "email" else " "
        message[channel.legal] = tuple(close(text, legal, between) for text in message[channel.legal])
    return message


@functools.lru_cache(maxsize=64)
def _permitted(policy_banned: tuple[str, ...], policy_claims: tuple[str, ...], channel: str, deal: bool) -> tuple[Line, ...]:
    """The lines that a policy lets stand in a channel."""
    policy = Policy(policy_banned, policy_claims)
    found = [line for line in lines() if line.serves(_CHANNELS, channel) and (deal or "deal" not in line.tags)]
    return tuple(line for line in found if sayable(line.text.replace("(", " ").replace("|", " . ").replace(")", " "), policy))


class _Pen:
    """Writes one message from permitted lines; without dice, the shortest."""

    def __init__(
        self, plan: Plan, channel: Channel, policy: Policy, voice: str, level: str, dice: Dice | None, pressed: int = 0
    ) -> None:
        self.pressed = pressed  # how many draws have failed beyond the first few: shorter lines are then likelier
        self.plan, self.channel, self.voice, self.level, self.dice = plan, channel, voice, level, dice
        self.names = frozenset(plan.names)
        deal = bool(self.names & {"percent", "was", "code"})
        permitted = _permitted(policy.banned, policy.claims, channel.name, deal)
        usable = [line for line in permitted if line.slots <= self.names]
        if "was" in self.names:  # a code that takes off what the price already lacks would be read as a second reduction
            usable = [line for line in usable if not line.slots >= {"percent", "code"}]
        self.lines = usable + _own_sentences(plan)
        self.used: list[str] = []
        self.weights: dict[str, float] = {}  # by line
        texts = "".join(fact.text for fact in plan.facts) + policy.legal.get(channel.name, "")
        self.gsm = channel.name == "sms" and gsm(texts)

    def message(self) -> Message | None:
        """Copy with placeholders by part; None where the lines cannot state every fact."""
        if self.channel.name == "ad":
            return self._ad()
        names = set(self.names)
        if self.channel.name in ("sms", "description"):
            text = self._body(names, " ")
            return None if text is None else {"text": (text,)}
        if self.channel.name == "push":
            title = self._lone("title")
            said = {name for name in names if "{" + name + "}" in (title or "")}
            left = names - said
            body = self._body(left | (names & {"product"} if left and self.dice else set()), " ")
            return None if body is None or title is None else {"title": (title,), "body": (body,)}
        body, subject, preheader = self._body(names, "\n\n"), self._lone("title"), self._lone("preheader")
        if body is None or subject is None or preheader is None:
            return None
        return {"subject": (subject,), "preheader": (preheader,), "body": (body,)}

    # --- one text -------------------------------------------------------------------------------------------------------------

    def _text(self, line: Line) -> str:
        self.used.append(line.name)
        return self._text_of(line)

    def _width(self, copy: str) -> int:
        """The length of filled copy in the channel's smallest unit; additive over pieces."""
        text = copy
        for fact in self.plan.facts:
            text = text.replace("{" + fact.slot.name + "}", fact.text)
        if self.channel.name == "ad":
            return columns(text)
        if self.channel.name == "sms":
            return sum(map(septets if self.gsm else units, text))
        return len(text)

    def _weight(self, line: Line) -> float:
        if line.name not in self.weights:
            long = self._width(shortest(line.tree, self._width)) if self.pressed else 0
            own = (1.0, 0.04, 0.04, 1e-5)[line.rank(self.voice, self.level)]
            self.weights[line.name] = own * math.exp(-0.03 * self.pressed * long)
        return self.weights[line.name]

    def _plainness(self, line: Line) -> tuple[int, int]:
        return line.rank(self.voice, self.level), self._width(shortest(line.tree, self._width))

    def _own(self, move: str) -> list[Line]:
        """The voice's own lines that state no fact."""
        return [line for line in self.lines if line.move == move and not line.slots and line.rank(self.voice, self.level) < 2]

    def _lone(self, move: str) -> str | None:
        """A title or preheader: one line, drawn or shortest."""
        part = next(
            p
            for p in self.channel.parts
            if p.name in ("title", "subject", "preheader") and (move != "preheader" or p.name == "preheader")
        )
        options = [line for line in self.lines if line.move == move and line.slots]
        options += self._own(move)
        fitting = [line for line in options if part.fits(fill(shortest(line.tree, self._width), self.plan))]
        if not fitting:
            return None
        if not self.dice:
            return self._text(min(fitting, key=self._plainness))
        dice = self.dice
        return self._text(dice.order(fitting, lambda line: self._weight(line) * (1 + len(line.slots)))[0])

    def _body(self, names: set[str], between: str) -> str | None:
        """The lines that state these facts, in the order of a message, with an opening and a close where there is room."""
        chosen = self._cover(names) if self.dice else self._least(names)
        if chosen is None:
            return None
        if self.dice and self.channel.personal:
            extras = {"opening": 0.75 if self.channel.name == "email" else 0.4, "tap": 0.8, "sign": 1.0}
            for move, chance in extras.items():
                own = [] if any(line.move == move for line in chosen) else self._own(move)
                if own and self.dice.real() < chance / (1 + self.pressed):
                    chosen.append(self.dice.order(own, self._weight)[0])
        if not chosen:
            taps = [line for line in self.lines if line.move == "tap"]
            chosen = [min(taps, key=lambda line: line.rank(self.voice, self.level))] if taps else []
        chosen.sort(key=lambda line: _ORDER.index(line.move))
        return _joined([(line.move, self._text(line)) for line in chosen], between) if chosen else None

    def _cover(self, names: set[str]) -> list[Line] | None:
        """Lines that state each of ``names`` exactly once, drawn: bigger lines and the voice's own first."""
        assert self.dice is not None
        dice = self.dice
        moves = (*_BODY, "sign") if self.channel.name == "email" and "brand" in names else _BODY
        usable = [line for line in self.lines if line.move in moves and line.slots and line.slots <= names]
        if self.channel.name == "email":  # there the sender signs
            usable = [line for line in usable if not (line.move in ("greeting", "detail") and "brand" in line.slots)]

        def search(left: frozenset[str], taken: list[Line]) -> list[Line] | None:
            if not left:
                return taken
            first = next(name for name in (*_FIRST, *sorted(left)) if name in left)
            fitting = [line for line in usable if first in line.slots and line.slots <= left]
            fitting = [line for line in fitting if line.move not in _ONCE or all(line.move != t.move for t in taken)]
            for line in dice.order(fitting, lambda line: self._weight(line) * 4 ** len(line.slots)):
                found = search(left - line.slots, [*taken, line])
                if found is not None:
                    return found
            return None

        return search(frozenset(names), [])

    def _least(self, names: set[str]) -> list[Line] | None:
        """The shortest lines that state each of ``names`` exactly once: dynamic programming over sets of facts."""
        best: dict[frozenset[str], tuple[int, list[Line]]] = {frozenset(): (0, [])}
        cheapest: dict[frozenset[str], tuple[int, Line]] = {}
        for line in self.lines:
            if line.move in _BODY and line.slots and line.slots <= names:
                width = self._width(shortest(line.tree, self._width)) + 1
                if line.slots not in cheapest or width < cheapest[line.slots][0]:
                    cheapest[line.slots] = (width, line)
        ordered = [name for name in (*_FIRST, *sorted(names - set(_FIRST))) if name in names]
        for size in range(len(ordered)):
            for said in [s for s in best if len(s) == size]:
                first = next(name for name in ordered if name not in said)
                for slots, (width, line) in cheapest.items():
                    if first in slots and not slots & said:
                        total = best[said][0] + width
                        if said | slots not in best or total < best[said | slots][0]:
                            best[said | slots] = (total, [*best[said][1], line])
        return best[frozenset(names)][1] if frozenset(names) in best else None

    # --- ads ------------------------------------------------------------------------------------------------------------------

    def _ad(self) -> Message | None:
        """Headlines and descriptions that can stand in any order; between them every fact at least once."""
        left = set(self.names)
        texts = {}
        for part, move, number in (("headline", "headline", 8), ("description", "adtext", 3)):
            chosen = self._choice(move, self.channel.part(part), number, left)
            self.used += [line.name for line, _ in chosen]
            texts[part] = tuple(dict.fromkeys(text for _, text in chosen))
        return texts

    def _choice(self, move: str, part: Part, number: int, left: set[str]) -> list[tuple[Line, str]]:
        """Up to ``number`` lines of an ad that fit: those that state a fact still ``left`` (which they leave), two or so that
        state none, then others that differ in what they say. One exclamation mark at most (Google allows one an ad)."""
        own = [line for line in self.lines if line.move == move and line.rank(self.voice, self.level) < 3]
        fitting = [(line, text) for line in own if self._stands(text := self._text_of(line), part)]
        if self.dice:
            order = self.dice.order(fitting, lambda item: self._weight(item[0]) * (2 if item[0].slots else 1))
        else:
            order = sorted(fitting, key=lambda item: ("!" in item[1], *self._plainness(item[0])))
        chosen: list[tuple[Line, str]] = []

        def take(item: tuple[Line, str]) -> None:
            loud = ["!" in fill(text, self.plan) for _, text in (item, *chosen)]
            if item not in chosen and not (loud[0] and any(loud[1:])):
                chosen.append(item)
                left.difference_update(item[0].slots)

        room = number // 3
        for _ in range(number - room):  # the line that states most of what is left
            item = max(order, key=lambda item: len(item[0].slots & left), default=None)
            if item and item[0].slots & left:
                take(item)
                order = [other for other in order if other is not item]
        for item in [item for item in order if not item[0].slots][:room]:
            take(item)
        for item in order:
            bare = not any(
                c.islower() for c in re.sub(r"\{\w+\}", "", item[1])
            )  # "Kettle." and "For £40." stand only where they must
            fragment = move == "adtext" and (bare or "product" in self.names - item[0].slots)
            if len(chosen) < number and not fragment and item[0].slots not in [line.slots for line, _ in chosen]:
                take(item)
        for item in order:
            if len(chosen) < part.least:
                take(item)
        return chosen

    def _stands(self, text: str, part: Part) -> bool:
        """Whether a line of an ad is within its part's limit and rules: a name with an exclamation mark fits no headline."""
        filled = fill(text, self.plan)
        return part.fits(filled) and not any(rule(filled, "") for rule in part.rules)

    def _text_of(self, line: Line) -> str:
        return (draw(line.tree, self.dice) if self.dice else shortest(line.tree, self._width)).strip()


def _own_sentences(plan: Plan) -> list[Line]:
    """A name or phrase that the grammar has no words for stands as a sentence of its own."""
    known = {slot for line in lines() for slot in line.slots}
    facts = [fact for fact in plan.facts if fact.slot.name not in known and fact.slot.kind in ("name", "text")]
    pieces = [("detail", fact.slot.name, "{" + fact.slot.name + "}.") for fact in facts]
    pieces += [("adtext", name, text) for _, name, text in pieces]
    return [Line(f"{move}.{name}", move, frozenset(), frozenset([name]), (text,), text) for move, name, text in pieces]


def _joined(pieces: Iterable[tuple[str, str]], between: str) -> str:
    """Sentences as running text; in an e-mail the greeting, the call and the close stand apart. After "Hi Anna," goes a small
    letter."""
    text, last = "", ""
    for move, piece in pieces:
        apart = between if last == "greeting" or move in ("call", "sign") or (between != " " and move == "code") else " "
        small = (last == "greeting" and text.endswith((",", " -")) and between == " ") or (last == "opening" and text.endswith(":"))
        if small and piece[0].isupper() and not piece.startswith(("I ", "I'")):
            piece = piece[0].lower() + piece[1:]
        text, last = (text + apart + piece if text else piece), move
    return text

"""The validator: a second opinion on a finished message, from the text alone.

It shares no code with what makes or fills copy: it takes the plan as data, finds each fact in the final text again, and holds the
rest against the policy and the channel. What it passes has every fact as often as asked, and nothing that looks like a fact but
is none. It reports all it finds, in words; an empty tuple is a pass.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater_marketing.addresses import ENDINGS
from headwater_marketing.channels import Channel
from headwater_marketing.lookalikes import hunt, readings
from headwater_marketing.plan import Fact, Message, Plan, Policy, Refused


@dataclass(frozen=True)
class Violation:
    """What is wrong. ``kind``: missing, repeated, added (a figure, price or address that is no fact), claim, banned, length, part,
    rule, legal, leftover, active (something a sending system would run), invisible."""

    part: str
    kind: str
    words: str


#: What copy may not say unless a fact does: superlatives, promises, urgency, popularity, novelty, health and green claims.
CLAIMS = tuple(
    (
        "best|cheapest|lowest|guarantee*|free|for nothing|complimentary|no risk|risk free|number one|award*|proven"
        "|clinically|certified|official*|miracle*|winner*|you won|have won|prize*|exclusive*|limited|last chance|last call"
        "|today only|only today|ends today|ends tonight|ends soon|hurry|selling fast|almost gone|going fast|few left"
        "|last few|while stocks last|while supplies last|sold out|bestsell*|most popular|loved by|everyone|customers love"
        "|top rated|rated|five star|perfect|unbeatable|unmatched|world class|premium|luxury|new|newest|brand new"
        "|just landed|just arrived|back in stock|restocked|safe|organic|sustainable|eco|ecological*|natural|healthy"
        "|healthier|cure*|always|never|forever|bargain*|cheap|cheaper|steal|no obligation|instant*"
    ).split("|")
)
# Words that say a fact without its figure: the plan must hold one of these slots or kinds.
_NEEDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "discount*|save|saves|saving*|off|reduced|reduction|price drop|sale|less|lower|down to|down from|used to be"
        "|previously|formerly",
        ("percent", "was"),
    ),
    ("offer*|deal|deals", ("percent", "was", "code")),
    ("code|coupon*|voucher*|checkout", ("code",)),
    ("until|till|ends|ending|deadline|last day|by midnight|expires", ("date",)),
)
_QUANTITIES = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty"
    "|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred*|thousand*|million*|billion*|half|double|triple|twice|dozen*|quarter"
    "|percent|per cent|pound|pounds|pence|dollar*|cents|euro|euros|quid|bucks|yen"
    "|january|february|april|june|july|august|september|october|november|december|monday|tuesday|wednesday|thursday|friday"
    "|saturday|sunday|tomorrow|tonight"
)

_FACT = "\ufffc"  # stands for a fact in what is left of a text
_ACTIVE = ("{{", "}}", "{%", "%}", "{#", "#}", "{!", "${", "$!{", "#{", "<%", "%>", "<#", "<@", "*|", "|*", "[[", "]]", "%%")
_MARKUP = re.compile(r"<[A-Za-z/!?]|%[A-Za-z]\w*%|@[A-Za-z]\w*@|#[a-z]+\(|\[\w[\w .]*,\s*fallback\b|(?i:javascript\s*:)")
_LEFTOVER = re.compile(r"[{}<>]|\[[\w .]*\]|__|\b(?:undefined|NaN|null|TODO|TBD|XXX)\b|(?i:lorem ipsum)")
_ADDRESS = re.compile(r"(?i)[a-z]+://|\bwww\.|@|\b[a-z0-9-]{2,}\.[a-z]{2,}\b")
_FOREIGN_ADDRESS = re.compile(rf"(?i)\b(?:https?|ftp)\s*:|\bwww\.|\b[\w-]+\.(?:{'|'.join(ENDINGS)})\b")


def judge(message: Message, plan: Plan, channel: Channel, policy: Policy) -> tuple[Violation, ...]:
    """Everything wrong with a final message; empty where it may be sent.

    >>> from headwater_marketing.channels import CHANNELS
    >>> from headwater_marketing.plan import Slot
    >>> plan = Plan("1", (Fact(Slot("product", "name"), "Kettle"), Fact(Slot("price", "price"), "£25")), {})
    >>> judge({"text": ["Kettle, yours for £25."]}, plan, CHANNELS["sms"], Policy(claims=CLAIMS))
    ()
    >>> [v.kind for v in judge({"text": ["Kettle, the best, yours for £24."]}, plan, CHANNELS["sms"], Policy(claims=CLAIMS))]
    ['missing', 'added', 'claim']
    """
    found: list[Violation] = []
    bare: dict[str, list[str]] = {}  # without the legal text
    for name, texts in message.items():
        bare[name] = [_without_legal(text, channel, policy, name, found) for text in texts]
    own = _facts(bare, plan, channel, found)
    for name, texts in message.items():
        for text, without, words in zip(texts, bare[name], own[name], strict=True):
            links = any(p.name == name and p.links for p in channel.parts)
            found += _added(name, without, words, plan, links)
            found += _said(name, without, words, plan, policy)
            found += _hidden(name, text, without, words)
    found += [Violation(*problem) for problem in channel.problems(message, own)]
    return tuple(dict.fromkeys(found))


def _without_legal(text: str, channel: Channel, policy: Policy, name: str, found: list[Violation]) -> str:
    legal = policy.legal.get(channel.name, "")
    if not legal or channel.legal != name:
        return text
    if not text.endswith(legal) or text[: -len(legal)].rstrip() == text[: -len(legal)]:
        found.append(Violation(name, "legal", f"does not end with {legal!r}"))
        return text
    if text.count(legal) > 1:
        found.append(Violation(name, "legal", f"says {legal!r} more than once"))
    return text[: -len(legal)].rstrip()


# --- which facts stand where -------------------------------------------------------------------------------------------------


def _occurrences(text: str, facts: Sequence[Fact]) -> list[tuple[int, int, int]]:
    """Where each fact stands as itself, not inside a longer word, figure, code or address: (start, end, fact). A phrase may have
    a capital where a sentence begins."""
    found = []
    for i, fact in enumerate(facts):
        for form in _forms(fact):
            start = text.find(form)
            while start >= 0:
                end = start + len(form)
                inside = _extended(text[max(0, start - 3) : start], fact, text[end : end + 3])
                if not inside and (
                    form == fact.text or text[:start].rstrip()[-1:] in ("", ".", "!", "?") or text[start - 1] == "\n"
                ):
                    found.append((start, end, i))
                start = text.find(form, start + 1)
    return sorted(found)


def _forms(fact: Fact) -> list[str]:
    """How a fact may be written."""
    text = fact.text
    capital = fact.slot.kind == "text" and "a" <= text[:1] <= "z"
    return [text, text[0].upper() + text[1:]] if capital else [text] * bool(text)


def _extended(before: str, fact: Fact, after: str) -> bool:
    if after[:1] and unicodedata.category(after[0])[0] == "M":
        return True
    if fact.slot.kind == "url" and re.match(r"[\w/?&=#%~+@-]|[.,:][\w/]", after):
        return True
    if fact.slot.kind == "code" and (re.match(r"[-_]?\w", after) or re.search(r"\w[-_]$", before)):
        return True
    if fact.text[-1].isalnum() and (after[:1].isalnum() or (fact.text[-1].isdigit() and re.match(r"[.,]\d|\s?%", after))):
        return True
    if fact.text[0].isalnum() and (before[-1:].isalnum() or (fact.text[0].isdigit() and re.search(r"\d[.,]$|[£$€¥]\s?$", before))):
        return True
    return fact.text[0] in "£$€¥" and bool(re.search(r"[A-Za-z]$", before))


_Spans = tuple[tuple[int, int], ...]


def _tilings(text: str, facts: Sequence[Fact]) -> dict[tuple[int, ...], _Spans]:
    """Each way to read a text as facts, as counts by fact: no two share a character, and none that could stand is passed over.
    (Where "Sony X1" is a name and "Sony" a brand, the same words can be read either way.)"""
    places = _occurrences(text, facts)
    zero = (0,) * len(facts)
    starts, first_end = [start for start, _, _ in places], [len(text) + 1]  # of the places from one on, the end that comes first
    for _, end, _ in reversed(places):
        first_end.append(min(end, first_end[-1]))
    first_end.reverse()
    after: dict[int, dict[tuple[int, ...], Any]] = {}  # the ways to read the text from a position on
    for position in sorted({0, *(end for _, end, _ in places)}, reverse=True):
        first = bisect.bisect_left(starts, position)
        ways: dict[tuple[int, ...], Any] = {} if first < len(places) else {zero: ()}
        for start, end, fact in itertools.islice(places, first, None):
            if start >= first_end[first]:
                break
            for counts, spans in after[end].items():
                more = tuple(min(n + (i == fact), facts[i].slot.most + 1) for i, n in enumerate(counts))
                ways.setdefault(more, ((start, end), spans))
        after[position] = dict(itertools.islice(ways.items(), 256))
    return {counts: _flat(spans) for counts, spans in after[0].items()}


def _flat(linked: Any) -> _Spans:
    """``(a, (b, (c, ())))`` -> ``(a, b, c)``: the ways share their ends while they are made."""
    spans = []
    while linked:
        span, linked = linked
        spans.append(span)
    return tuple(spans)


def _facts(message: Mapping[str, list[str]], plan: Plan, channel: Channel, found: list[Violation]) -> dict[str, list[str]]:
    """Counts every fact, adds what is missing or repeated to ``found``; returns the message with the facts blanked out."""
    facts = plan.facts
    carries = {p.name for p in channel.parts if p.carries}
    texts = [(name, i, text) for name, group in message.items() for i, text in enumerate(group)]
    # The sums that some reading of the texts so far can give, each with the readings that give it and their repetitions.
    sums: dict[tuple[int, ...], tuple[int, tuple[_Spans, ...], tuple[tuple[str, int], ...]]] = {(0,) * len(facts): (0, (), ())}
    for name, _, text in texts:
        grown: dict[tuple[int, ...], tuple[int, tuple[_Spans, ...], tuple[tuple[str, int], ...]]] = {}
        for (total, (faults, spans, over)), (counts, here) in itertools.product(sums.items(), _tilings(text, facts).items()):
            more = tuple(min(t + n * (name in carries), f.slot.least) for t, n, f in zip(total, counts, facts, strict=True))
            repeated = tuple((name, i) for i, n in enumerate(counts) if n > facts[i].slot.most)
            candidate = (faults + len(repeated), (*spans, here), over + repeated)
            if more not in grown or candidate[0] < grown[more][0]:
                grown[more] = candidate
        sums = dict(itertools.islice(sorted(grown.items(), key=lambda item: item[1][0]), 256))
    total, (_, spans, over) = min(
        sums.items(), key=lambda item: item[1][0] + sum(n < f.slot.least for n, f in zip(item[0], facts, strict=True))
    )
    for n, fact in zip(total, facts, strict=True):
        if n < fact.slot.least:
            times = f"{n} of {fact.slot.least} times" if fact.slot.least > 1 else "not"
            found.append(Violation("", "missing", f"{fact.slot.name} {fact.text!r} is {times} stated"))
    found += [
        Violation(name, "repeated", f"{facts[i].slot.name} {facts[i].text!r} more than {facts[i].slot.most} times")
        for name, i in over
    ]
    own: dict[str, list[str]] = {name: [] for name in message}
    for (name, _, text), places in zip(texts, spans, strict=True):
        for start, end in reversed(places):
            text = text[:start] + _FACT + text[end:]
        own[name].append(text)
    return own


# --- what the rest says ------------------------------------------------------------------------------------------------------


def _added(name: str, text: str, own: str, plan: Plan, links: bool) -> list[Violation]:
    """Figures, prices, percentages and addresses that are no fact."""
    found = []
    for run in re.findall(r"\S+", own):
        if any(unicodedata.numeric(c, None) is not None or unicodedata.category(c) == "Sc" or c in "%‰‱٪﹪％" for c in run):
            found.append(Violation(name, "added", f"{run!r} is no fact"))
    for said in _whole(_QUANTITIES).findall(readings(own)[0]):
        found.append(Violation(name, "added", f"{said!r} is a quantity or day that is no fact"))
    found += [Violation(name, "added", f"address {a.group()!r} is no fact") for a in _ADDRESS.finditer(own)]
    addresses = [fact.text for fact in plan.facts if fact.slot.kind == "url"]
    without = text
    for address in addresses:
        if address in text and not links:
            found.append(Violation(name, "rule", "an address in a part that has none"))
        without = without.replace(address, _FACT)
    found += [Violation(name, "added", f"address {a.group()!r} is no fact") for a in _FOREIGN_ADDRESS.finditer(without)]
    return found


def _said(name: str, text: str, own: str, plan: Plan, policy: Policy) -> list[Violation]:
    """Banned words anywhere, claims outside facts, and words that need a fact the plan lacks."""
    everywhere, outside = readings(text), readings(own)
    found = [Violation(name, "banned", repr(p)) for p in _hits(policy.banned, everywhere)]
    found += [Violation(name, "claim", repr(p)) for p in _hits(policy.claims, outside)]
    held = {fact.slot.name for fact in plan.facts} | {fact.slot.kind for fact in plan.facts}
    for phrases, needed in _NEEDS:
        if not held & set(needed):
            said = _whole(phrases).findall(outside[0])
            found += [Violation(name, "claim", f"{p!r} without a fact ({' or '.join(needed)})") for p in said]
    return found


def _hits(phrases: tuple[str, ...], texts: Sequence[str]) -> list[str]:
    """The phrases that stand in any of the texts; one joint pattern lets most texts pass at once."""
    if not any(hunt(*phrases).search(text) for text in texts):
        return []
    return [phrase for phrase in phrases if any(hunt(phrase).search(text) for text in texts)]


@functools.cache
def _whole(phrases: str) -> re.Pattern[str]:
    """Whole words and phrases as they are written, ``*`` for any ending."""
    return re.compile(r"\b(?:" + phrases.replace("*", r"\w*").replace(" ", r"\s+") + r")\b")


def _hidden(name: str, text: str, without: str, own: str) -> list[Violation]:
    """Placeholders left over, characters nobody sees, and what a sending system would run, which only a legal text may hold."""
    found = [Violation(name, "active", f"{pair!r} would be run by a sending system") for pair in _ACTIVE if pair in without]
    found += [Violation(name, "active", f"{m.group()!r} would be run as markup") for m in _MARKUP.finditer(without)]
    found += [Violation(name, "leftover", f"{m.group()!r}") for m in _LEFTOVER.finditer(own)]
    for i, c in enumerate(text):
        joins = c in "\u200c\u200d" and 0 < i < len(text) - 1 and not text[i - 1].isascii() and not text[i + 1].isascii()
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") and c != "\n" and not joins:
            found.append(Violation(name, "invisible", f"U+{ord(c):04X}"))
    return found


def admit(plan: Plan, policy: Policy) -> Plan:
    """The plan without optional facts that hold a banned word. Raises :class:`Refused` where a required one does."""
    facts, left_out = [], dict(plan.left_out)
    for fact in plan.facts:
        hits = _hits(policy.banned, readings(fact.text))
        if hits and fact.slot.least:
            raise Refused(
                "banned", plan.row, fact.field or fact.slot.name, f"{fact.text!r} holds {hits[0]!r}, which the brief bans"
            )
        if hits:
            left_out[fact.field or fact.slot.name] = f"holds {hits[0]!r}, which the brief bans"
        else:
            facts.append(fact)
    return Plan(plan.row, tuple(facts), left_out)


def sayable(words: str, policy: Policy) -> bool:
    """Whether a policy lets these words of copy stand; whoever makes copy may ask before spending effort on it."""
    return not _hits((*policy.banned, *policy.claims), readings(words))


def weighty(text: str) -> list[tuple[int, int]]:
    """Where a text says what only a fact may: quantities and days, claims, and words that need a fact, as (start, end).

    >>> [("Save on the best tea, today only!")[a:b] for a, b in weighty("Save on the best tea, today only!")]
    ['Save', 'best', 'today only']
    """
    found = [
        match.span() for match in _whole("|".join((_QUANTITIES, *CLAIMS, *(said for said, _ in _NEEDS)))).finditer(text.lower())
    ]
    return found if len(text.lower()) == len(text) else [(0, len(text))]

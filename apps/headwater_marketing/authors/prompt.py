"""What a language model is told: the part, the voice, the level, a rough length, and the facts by their placeholders. No value of a
fact is ever among it, so nothing in a customer's data can speak to the model.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping

from headwater_marketing.asks import PLACEHOLDER, SPOKEN, Ask, asks, own_length, spoken
from headwater_marketing.channels import CHANNELS
from headwater_marketing.phrases import LEVELS, VOICES
from headwater_marketing.plan import Policy, Refused, Slot

PARTS = {
    ("sms", "text"): "An SMS",
    ("push", "title"): "The title of a push message",
    ("push", "body"): "The body of a push message",
    ("email", "subject"): "The subject of an e-mail",
    ("email", "preheader"): "The preheader of an e-mail",
    ("email", "body"): "The body of an e-mail",
    ("ad", "headline"): "A headline of a search ad",
    ("ad", "description"): "A description in a search ad",
    ("description", "text"): "A product description",
}
_LEVELS = {"easy": "plain", "standard": "everyday"}
#: Between the paragraphs of a text, which is told in one line.
PARAGRAPH = " //"
RULES = (
    "Short texts from a shop to its customers. Each fact stands in the text as its name in braces, once, and nothing else is"
    " claimed: no other figures, names, prices or promises. {brand} is the shop, {was} the price before, {until} the last day,"
    " {code} what to type at the till, {url} a link, {feature} something the product has, {perk} something that comes with it."
)
SHOTS = 4


def entry(ask: Ask, words: int, own: bool = False) -> str:
    """One order, up to where its text begins. ``own``: in the plan's own placeholders, not those of our vocabulary.

    >>> from headwater_marketing.plan import Slot
    >>> print(entry(Ask((Slot("price", "price"),), channel="sms", part="text", voice="crisp", level="easy"), 8))
    An SMS. Voice: crisp. Language: plain. About 10 words.
    Facts: {price}
    Text:
    """
    names = {slot.name: slot.name for slot in ask.slots} if own else spoken(ask.slots)
    facts = [f"{{{names[s.name]}}}{_said(s)}{' twice' * (s.least == 2)}" for s in ask.slots]
    about = max(5, 5 * round(words / 5))
    what = PARTS.get((str(ask.channel), str(ask.part)), "A text")
    head = f"{what}. Voice: {ask.voice}. Language: {_LEVELS.get(str(ask.level), ask.level)}. About {about} words."
    return f"{head}\nFacts: {', '.join(facts) or 'none'}\nText:"


def _said(slot: Slot) -> str:
    """What a fact is that our own copy does not know by name."""
    return "" if slot.name in SPOKEN else f" ({slot.name.replace('_', ' ')}, a {slot.kind})"


def told(text: str) -> str:
    """A text as it stands behind its order: in one line, with a blank before it.

    >>> told("Hi,\\n\\nlook here.\\nCheers")
    ' Hi, // look here. / Cheers'
    """
    return " " + text.replace("\n\n", PARAGRAPH + " ").replace("\n", PARAGRAPH[:-1] + " ")


def back(text: str) -> str:
    """The same the other way."""
    return re.sub(r"\s+/\s+", "\n", re.sub(r"\s+//\s+|\s*\n\s*\n\s*", "\n\n", text))


def length_of(text: str) -> int:
    """Words of a text, its facts left out."""
    return len(PLACEHOLDER.sub(" ", text).split()) if own_length(text) else 0


@functools.cache
def shots(channel: str, part: str, number: int = SHOTS) -> tuple[tuple[Ask, str], ...]:
    """Texts of our own grammar for one part of a channel, each in another voice: the same ones always."""
    from headwater_marketing.data import invented
    from headwater_marketing.templates import write
    from headwater_marketing.validator import CLAIMS

    found: list[tuple[Ask, str]] = []
    facts: set[frozenset[str]] = set()
    for i in range(50 * number):
        if len(found) == number:
            break
        voice, level = VOICES[len(found) % len(VOICES)], LEVELS[len(found) // len(VOICES) % 2 ^ len(found) % 2]
        plan = invented(random.Random(f"shots/{channel}/{part}/{i}"))
        try:
            copy = write(plan, CHANNELS[channel], Policy(claims=CLAIMS), voice, level, f"shots/{i}").copy
        except Refused:
            continue
        told_of = asks(copy, plan, channel, voice, level)[part]
        for ask, text in zip(told_of, copy[part], strict=True):
            names = frozenset(slot.name for slot in ask.slots)
            if names not in facts and len(found) < number and (names or i > 10):
                facts.add(names)
                found.append((ask, text))
                break
    return tuple(found)


def examples(channel: str, part: str, own: bool = False, number: int = SHOTS) -> str:
    """The rules and the shots, as the beginning of a document that goes on with an order."""
    if not number:
        return ""
    done = [entry(ask, length_of(text), own) + told(text) for ask, text in shots(channel, part, number)]
    return "\n\n".join([RULES, *done, ""])


def messages(ask: Ask, words: int) -> list[Mapping[str, str]]:
    """The same as a chat, in the plan's own placeholders."""
    rules = (
        f"{RULES} Write in sentence case, without quotes, emoji or markup. Answer with the text alone; between paragraphs"
        f" stands{PARAGRAPH}."
    )
    talk: list[Mapping[str, str]] = [{"role": "system", "content": rules}]
    for shot, text in shots(str(ask.channel), str(ask.part)):
        talk.append({"role": "user", "content": entry(shot, length_of(text))})
        talk.append({"role": "assistant", "content": told(text).strip()})
    return [*talk, {"role": "user", "content": entry(ask, words, own=True)}]

"""Channels: what a text may be where it is shown, counted as the network or the platform counts it.

Every figure names its source. Two kinds are kept apart: what a system *refuses* (SMS parts, ad lines, a feed's description) and
what it *cuts off* on common screens (push, subject, preheader); the second are budgets, the brief may set others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

# 3GPP TS 23.038 (GSM 03.38), 6.2.1, the default alphabet by code; 27 is the escape to 6.2.1.1, the extension table, whose
# characters take two septets. https://www.etsi.org/deliver/etsi_ts/123000_123099/123038/
GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = frozenset("\f^{}\\[~]|€")


@dataclass(frozen=True)
class Sms:
    """A text as SMS: ``units`` are septets (GSM-7) or 16-bit units (UCS-2), ``parts`` what is sent and billed."""

    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    parts: int


def gsm(text: str) -> bool:
    """Whether a text can travel in septets."""
    return all(c in GSM_BASIC or c in GSM_EXTENSION for c in text)


def septets(c: str) -> int:
    """The width of a character in GSM-7."""
    return 2 if c in GSM_EXTENSION else 1


def units(c: str) -> int:
    """The width of a character in UCS-2."""
    return 2 if ord(c) > 0xFFFF else 1


def sms(text: str) -> Sms:
    """How a text travels as SMS. One character outside GSM-7 turns the whole message into UCS-2.

    140 octets a message: 160 septets or 70 units; where there are several, a 6-octet header leaves 153 or 67 (3GPP TS 23.040,
    9.2.3.24.1). An escape pair and a surrogate pair are never divided: the pair moves to the next part, its room is lost.

    >>> sms("a" * 160), sms("a" * 161)
    (Sms(encoding='GSM-7', units=160, parts=1), Sms(encoding='GSM-7', units=161, parts=2))
    >>> sms("a" * 159 + "€")            # the euro sign takes two septets
    Sms(encoding='GSM-7', units=161, parts=2)
    >>> sms("a" * 68 + "🎉").parts, sms("a" * 69 + "🎉").parts
    (1, 2)
    """
    if gsm(text):
        widths = list(map(septets, text))
        return Sms("GSM-7", sum(widths), _parts(widths, 160, 153))
    widths = list(map(units, text))
    return Sms("UCS-2", sum(widths), _parts(widths, 70, 67))


def _parts(widths: Sequence[int], alone: int, each: int) -> int:
    if sum(widths) <= alone:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > each:
            parts, used = parts + 1, 0
        used += width
    return parts


def columns(text: str) -> int:
    """Length as Google Ads counts: a wide or fullwidth character (Chinese, Japanese, Korean) takes two, all others one.

    "Character limits in these languages are half", https://support.google.com/adspolicy/answer/14848297; width by Unicode's
    East Asian Width (UAX #11).

    >>> columns("Tea"), columns("紅茶"), columns("홍차")
    (3, 4, 4)
    """
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def characters(text: str) -> int:
    """Length in code points: never fewer than what a reader sees (an emoji of several counts each).

    >>> characters("é"), characters("👩‍🍳")
    (1, 3)
    """
    return len(text)


def parts(text: str) -> int:
    """Length in SMS parts; see :func:`sms`."""
    return sms(text).parts


# A rule sees the text and its own words (the text with every fact blanked out), and says what is wrong or None.
Rule = Callable[[str, str], str | None]

_EXACTLY = {"®", "™", "©", "°"}


def one_line(text: str, own: str) -> str | None:
    """A header or a notification line holds no control character; in a subject a line break would start another header
    (RFC 5322, 2.2)."""
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp")), None)
    return None if odd is None else f"a control character ({odd!r}) in a line"


def no_exclamation(text: str, own: str) -> str | None:
    """No exclamation mark in a headline: https://support.google.com/adwordspolicy/answer/176095"""
    return "an exclamation mark in a headline" if re.search("[!！]", text) else None


def plain_punctuation(text: str, own: str) -> str | None:
    """Nothing repeated ("flowers!!"), no ellipsis, bullet, asterisk or F.L.O.W.E.R.S.:
    https://support.google.com/adspolicy/answer/14847994 and https://support.google.com/adwordspolicy/answer/176095"""
    found = re.search(r"([!?.,;:])\s*\1|[!?]{2}|…|[•*~^|]|\b(?:\w[.\s]){3,}", own)
    return None if found is None else f"gimmicky punctuation {found.group().strip()!r}"


def plain_characters(text: str, own: str) -> str | None:
    """No emoji and no half-width katakana (unsupported), no superscript digits (non-standard use):
    https://support.google.com/adspolicy/answer/14847994. The marks ®, ™, © and ° are standard."""
    for c in text:
        category = unicodedata.category(c)
        odd = category in ("So", "Cs", "Co", "Cn") or ord(c) > 0x1F000 or 0xFF61 <= ord(c) <= 0xFF9F or c in "²³¹\u200d\ufe0f"
        if odd and c not in _EXACTLY:
            return f"unsupported character {c!r}"
    return None


def no_shouting(text: str, own: str) -> str | None:
    """No words in capitals but abbreviations (FREE SHIPPING), no capitals inside words; trademarks and coupon codes, which are
    facts here, may: https://www.en.advertisercommunity.com/t5/Articles/AdWords-Policies-Editorial-and-Professional-Standards/ba-p/835001"""
    found = re.search(r"\b[A-Z]{4,}\b|\b[A-Za-z]*[a-z][A-Z]+[a-z]*\b", own)
    return None if found is None else f"capitals in {found.group()!r}"


def no_phone(text: str, own: str) -> str | None:
    """No phone number anywhere in a text ad (seven digits and more, singly separated): AdWords' editorial standards,
    https://www.en.advertisercommunity.com/t5/Articles/AdWords-Policies-Editorial-and-Professional-Standards/ba-p/835001"""
    found = re.search(r"(?<![\w.,])\+?\d(?:[ ()/-]?\d){6,}(?![\w])", text)
    return None if found is None else f"a phone number {found.group()!r}"


def no_generic_call(text: str, own: str) -> str | None:
    """No call to action that could stand in any ad ("click here"): https://support.google.com/adspolicy/answer/14848297"""
    found = re.search(r"\bclick (?:here|this|now)\b", own, re.IGNORECASE)
    return None if found is None else f"a generic call to action {found.group()!r}"


@dataclass(frozen=True)
class Part:
    """One field of a channel: its length by ``count`` in ``unit``, how many texts it takes, whether an address may stand in
    it (elsewhere the address is a setting of its own), and its rules. Facts are counted over the parts with ``carries``."""

    name: str
    limit: int
    count: Callable[[str], int] = characters
    unit: str = "characters"
    least: int = 1
    most: int = 1
    links: bool = False
    carries: bool = True
    rules: tuple[Rule, ...] = (one_line,)

    def length(self, text: str) -> int:
        return self.count(text)

    def fits(self, text: str) -> bool:
        """Whether a final text (links and legal text included) is within the limit."""
        return self.count(text) <= self.limit


_AD: tuple[Rule, ...] = (one_line, plain_punctuation, plain_characters, no_shouting, no_phone, no_generic_call)


@dataclass(frozen=True)
class Channel:
    """A channel and its parts. A message is ``{part: texts}``; ``legal`` names the part that ends in the legal text; ``personal``
    says whether one person reads it (an ad or a product page has no name in it)."""

    name: str
    parts: tuple[Part, ...]
    legal: str | None = None
    personal: bool = True

    def part(self, name: str) -> Part:
        return next(p for p in self.parts if p.name == name)

    def takes(self, kind: str) -> bool:
        """Whether a fact of this kind is said here: an address only where links are, a person's name only to that person."""
        return any(p.links for p in self.parts) if kind == "url" else self.personal or kind != "person"

    def limited(self, limits: Mapping[str, int]) -> Channel:
        """The same channel with other limits, by part (a brief's ``limits``)."""
        return replace(self, parts=tuple(replace(p, limit=limits.get(p.name, p.limit)) for p in self.parts))

    def problems(self, message: Mapping[str, Sequence[str]], own: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
        """What breaks the channel's form, as (part, kind, words); ``own`` is the message with every fact blanked out."""
        found = [(name, "part", "is no part of this channel") for name in message if name not in [p.name for p in self.parts]]
        for p in self.parts:
            texts = list(message.get(p.name, ()))
            if not p.least <= len(texts) <= p.most:
                found.append((p.name, "part", f"{len(texts)} texts; expected {p.least} to {p.most}"))
            if len(set(texts)) < len(texts):
                found.append((p.name, "rule", "the same line twice"))
            for text, words in zip(texts, own.get(p.name, texts), strict=True):
                if not text.strip():
                    found.append((p.name, "part", "an empty text"))
                if not p.fits(text):
                    found.append((p.name, "length", f"{p.length(text)} {p.unit}; at most {p.limit}"))
                found += [(p.name, "rule", said) for rule in p.rules if (said := rule(text, words))]
        if self.name == "ad" and "".join(message.get("description", ())).count("!") > 1:
            # "only one exclamation point is allowed per ad", https://support.google.com/adwordspolicy/answer/176095
            found.append(("description", "rule", "more than one exclamation mark in the ad"))
        return found


CHANNELS: Mapping[str, Channel] = {
    c.name: c
    for c in (
        Channel("sms", (Part("text", 1, parts, "SMS parts", links=True, rules=()),), legal="text"),
        # Whole on iOS's lock screen (about 50 and 178 characters) and on Android opened (65 and 240); the payload itself may hold
        # 4,096 bytes (APNs, FCM). https://mojicnt.click/en/blog/push-notification-length.html
        Channel("push", (Part("title", 50), Part("body", 178))),
        # Whole on Outlook.com (60; Gmail 70, iPhone upright 41): https://support.nestscale.com/nestsend/email-subject-preview-text-line/
        # Preheader: Gmail 90 on phones, 97 on desktops: https://themarketer.com/resources/knowledge-base/how-long-should-your-preview-texts-be
        Channel(
            "email",
            (
                Part("subject", 60, carries=False),
                Part("preheader", 90, carries=False),
                Part("body", 2000, links=True, rules=()),
            ),
            legal="body",
        ),
        # 3 to 15 headlines of 30, 2 to 4 descriptions of 90: https://support.google.com/google-ads/answer/7684791
        Channel(
            "ad",
            (
                Part("headline", 30, columns, "columns", 3, 15, rules=(no_exclamation, *_AD)),
                Part("description", 90, columns, "columns", 2, 4, rules=_AD),
            ),
            personal=False,
        ),
        # Google Merchant Center: 1 to 5,000 characters, https://support.google.com/merchants/answer/6324468
        Channel("description", (Part("text", 5000, rules=()),), personal=False),
    )
}

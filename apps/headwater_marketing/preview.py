"""A message as its channel shows it: an SMS bubble, a notification, an inbox line with the mail, a search ad, a product page.

Fragments are self-contained and take the page's text colour, so they read on light and dark; every text is escaped and keeps its
own direction.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping

from headwater_marketing.channels import Part, sms
from headwater_marketing.records import Record

_FONT = "font:14px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif"
_FIGURE = f"margin:6px;width:340px;max-width:100%;text-align:left;overflow-wrap:anywhere;{_FONT}"
_TINT = "background:color-mix(in srgb,currentColor 7%,transparent)"
_LINE = "1px solid color-mix(in srgb,currentColor 16%,transparent)"
_CARD = f"border:{_LINE};border-radius:12px"
_FAINT = "opacity:.68;font-size:12px"
_CUT = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
_APART = "display:flex;justify-content:space-between;gap:12px"
_BLUE = "#3b7de0"  # reads on white and on black
_ICON = f"width:34px;height:34px;border-radius:9px;flex:none;display:grid;place-items:center;color:#fff;background:{_BLUE}"


def render(record: Record) -> str:
    """The message as a ``<figure>``, its lengths below it."""
    caption = f'<figcaption style="margin-top:8px;{_FAINT}">{html.escape(_lengths(record))}</figcaption>'
    return f'<figure style="{_FIGURE}">{_SHAPES[record.channel.name](record)}{caption}</figure>'


def _box(style: str, *inner: str) -> str:
    """A box of HTML."""
    return f'<div style="{style}">{"".join(inner)}</div>'


def escaped(text: str) -> str:
    """Text as HTML. An address is shown, and is none to whatever follows addresses.

    >>> escaped("<b> https://a.example")
    '&lt;b&gt; https&#58;//a.example'
    """
    return html.escape(text).replace(":", "&#58;")


def _span(text: str, style: str = "", tag: str = "div") -> str:
    """A box of text."""
    return f'<{tag} dir="auto" style="{style}">{escaped(text)}</{tag}>'


def _fact(record: Record, name: str, otherwise: str) -> str:
    return next((fact.text for fact in record.task.plan.facts if fact.slot.name == name), otherwise)


def _lengths(record: Record) -> str:
    if record.channel.name == "sms":
        counted = sms(record.message["text"][0])
        units = "characters" if counted.encoding == "GSM-7" else "units"
        return f"{counted.units} {units}, {counted.encoding}, {counted.parts} part{'s' * (counted.parts > 1)}"
    found = []
    for part in record.channel.parts:
        texts = record.message[part.name]
        longest = max(texts, key=part.length)
        found.append(
            f"{part.name} {_of(part, longest)}" if part.most == 1 else f"{len(texts)} {part.name}s, longest {_of(part, longest)}"
        )
    return " · ".join(found)


def _of(part: Part, text: str) -> str:
    return f"{part.length(text)} of {part.limit}"


def _sms(record: Record) -> str:
    sender = _span(_fact(record, "brand", "Sender"), f"text-align:center;margin-bottom:8px;{_FAINT}")
    bubble = f"{_TINT};border-radius:18px 18px 18px 4px;padding:10px 14px;max-width:290px;white-space:pre-wrap"
    return sender + _span(record.message["text"][0], bubble)


def _push(record: Record) -> str:
    brand = _fact(record, "brand", "App")
    head = _box(f"{_APART};{_FAINT}", _span(brand, _CUT, "span"), "<span>now</span>")
    title, body = _span(record.message["title"][0], "font-weight:600"), _span(record.message["body"][0])
    words = _box("min-width:0;flex:1", head, title, body)
    return _box(f"display:flex;gap:11px;{_TINT};border-radius:18px;padding:12px 14px", _span(brand[:1], _ICON), words)


def _email(record: Record) -> str:
    sender = _span(_fact(record, "brand", "Sender"), f"font-weight:600;{_CUT}", "span")
    subject = _span(record.message["subject"][0], f"font-weight:600;{_CUT}")
    preheader = _span(record.message["preheader"][0], f"opacity:.68;{_CUT}")
    line = _box(f"{_TINT};padding:10px 14px", _box(_APART, sender, f'<span style="{_FAINT}">09:00</span>'), subject, preheader)
    return _box(f"{_CARD};overflow:hidden", line, _span(record.message["body"][0], "white-space:pre-wrap;padding:12px 14px"))


def _ad(record: Record) -> str:
    headlines, descriptions = record.message["headline"], record.message["description"]
    top = _box("font-size:12px", "<b>Sponsored</b> ", _span("· " + _fact(record, "brand", "Advertiser"), "opacity:.75", "span"))
    title = _span(" | ".join(headlines[:3]), f"color:{_BLUE};font-size:17px;line-height:1.3;margin:4px 0")
    card = _box(f"{_CARD};padding:13px 15px", top, title, _span(" ".join(descriptions[:2]), "opacity:.85"))
    pill = f"border:{_LINE};border-radius:12px;padding:1px 9px"
    others = [_span(text, pill, "span") for text in [*headlines[3:], *descriptions[2:]]]
    return card + _box("display:flex;flex-wrap:wrap;gap:5px;margin-top:10px;font-size:12px", *others)


def _description(record: Record) -> str:
    title = _span(_fact(record, "product", "Product"), "font-weight:600;font-size:17px;margin-bottom:4px")
    price = _span(_fact(record, "price", ""), "font-weight:600;margin-top:8px")
    return _box(f"{_CARD};padding:14px 16px", title, _span(record.message["text"][0], "white-space:pre-wrap"), price)


_SHAPES: Mapping[str, Callable[[Record], str]] = {
    "sms": _sms,
    "push": _push,
    "email": _email,
    "ad": _ad,
    "description": _description,
}

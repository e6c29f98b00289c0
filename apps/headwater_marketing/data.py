"""The training sets: ``grammar``, texts of our own grammar; ``rnnlg``; ``copy``, both together; ``e2e``, ``e2e_original`` and
``viggo``, benchmarks."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

from headwater.data import cache_folder
from headwater.domain import Dataset
from headwater.errors import HeadwaterError
from headwater_datasets import card
from headwater_marketing import reviews
from headwater_marketing.asks import PLACEHOLDER, Ask, Copy, asks, in_order
from headwater_marketing.brief import KNOWN
from headwater_marketing.channels import CHANNELS
from headwater_marketing.facts import Style, gather
from headwater_marketing.phrases import LEVELS, VOICES
from headwater_marketing.plan import Plan, Policy, Refused, Slot
from headwater_marketing.templates import write
from headwater_marketing.validator import CLAIMS

GRAMMAR_CARD = card("marketing_copy")
MESSAGES = {"train": 20_000, "valid": 600}
AGAIN = 4
_SHARES = {"sms": 26, "push": 22, "email": 22, "ad": 12, "description": 18}

# What the invented plans are made of. Only its length reaches a text.
_PRODUCTS = (
    "Kettle|Aria Kettle|Brook Tent|Oak Desk|Moss Candle|Trail Runner|Nimbus Pillow|Pixel Lamp|Tulip Teapot|Drift Headphones"
    "|Fern Rug|Harbour Coffee Beans|Copper Pan|Lumen Desk Lamp|Juniper Hand Cream|Mistral Fan|Otter Rain Jacket for Children"
    "|Solo Espresso Cup|Linen Duvet Cover, King|Willow 3-Seat Sofa|Atlas 40 L Backpack|Hazel Chopping Board|Basil Seeds"
    "|Velvet Curtain Pair, Dark Green"
).split("|")
_BRANDS = "Leaf & Co|Northwind|Tamsin's|Hearth|Blue Door|Oakley & Daughters|Pip|Meadow Supply|Kiln|The Mending Shop".split("|")
_FEATURES = (
    "a 12-hour battery|five speeds|a two-year warranty|washable covers|a brass handle|room for six|an oak frame|a quiet motor"
    "|soft merino wool|a lid that seals"
).split("|")
_PERKS = "gift wrapping|home delivery|a refill pack|a spare lid|a recipe booklet|fitting at home|a care kit|two samples".split("|")
_NAMES = "Anna|Ben|Chidi|Dilnoza|Eoin|Fatima|Grace|Hugo|Ines|Jia|Maximilian|Siobhan".split("|")
_CODES = "TEA20|HELLO10|SPRING|WELCOME-5|BRIGHT15|FERN".split("|")


def invented(dice: random.Random) -> Plan:
    """A plan of invented facts."""
    price = dice.choice([4.5, 9, 12.99, 25, 39, 79, 129.5, 349, 1299])
    cut = dice.choice([10, 15, 20, 25, 30, 40])
    facts = {
        "product": (0.94, dice.choice(_PRODUCTS)),
        "price": (0.7, price),
        "was": (0.3, round(price / (1 - cut / 100), 2)),
        "percent": (0.3, cut),
        "code": (0.28, dice.choice(_CODES)),
        "until": (0.28, date(2026, 1, 1) + timedelta(dice.randrange(360))),
        "url": (
            0.6,
            "https://" + dice.choice(["shop.example/", "s.example/", "www.leaf-and-co.example/offers/"]) + dice.choice("abcdef"),
        ),
        "feature": (0.3, dice.choice(_FEATURES)),
        "perk": (0.2, dice.choice(_PERKS)),
        "brand": (0.5, dice.choice(_BRANDS)),
        "first_name": (0.6, dice.choice(_NAMES)),
        "fact_1": (0.08, dice.choice(_FEATURES + _PERKS)),
    }
    taken = {name: value for name, (chance, value) in facts.items() if dice.random() < chance}
    if "was" in taken and "price" not in taken:
        del taken["was"]
    if not taken.keys() - {"first_name", "brand", "url"}:
        taken["product"] = facts["product"][1]
    slots = [Slot(name, KNOWN.get(name, "text")) for name in taken]
    return gather("", slots, {name: [(name, value)] for name, value in taken.items()}, Style())


def drawn(messages: int, seed: str) -> list[Copy]:
    """The texts of so many messages for invented plans; long ones once for an ask, short ones, of which there are fewer, up to
    eight times. A fact that the message states elsewhere, or that a text could do without, is sometimes asked for as optional."""
    dice, found, times = random.Random(seed), [], Counter[tuple[str, Ask]]()
    policy = Policy(claims=CLAIMS)
    for i in range(messages):
        plan, voice, level = invented(dice), dice.choice(VOICES), dice.choice(LEVELS)
        channel = CHANNELS[dice.choices(list(_SHARES), list(_SHARES.values()))[0]]
        try:
            copy = write(plan, channel, policy, voice, level, f"{seed}/{i}").copy
        except Refused:
            continue
        for part, wanted in asks(copy, plan, channel.name, voice, level).items():
            for text, ask in zip(copy[part], wanted, strict=True):
                times[text, ask] += 1
                if times[text, ask] <= (1 if part in ("text", "body") else 8):
                    found.append(Copy(text, loosened(ask, plan, dice)))
    return found


def loosened(ask: Ask, plan: Plan, dice: random.Random) -> Ask:
    """The ask with some facts optional: a few of those stated, and of those that are not."""
    stated = [Slot(s.name, s.kind, 0 if dice.random() < 0.06 else s.least, s.most) for s in ask.slots]
    names = {slot.name for slot in stated}
    spare = [f.slot for f in plan.facts if f.slot.name not in names and CHANNELS[ask.channel or "sms"].takes(f.slot.kind)]
    stated += [Slot(s.name, s.kind, 0, 1) for s in spare if dice.random() < 0.06]
    return Ask(in_order(stated), (), ask.act, ask.channel, ask.part, ask.voice, ask.level)


@functools.lru_cache(maxsize=4)
def grammar_items(split: str) -> tuple[Copy, ...]:
    """The corpus of our own grammar: those of ``valid`` are texts that ``train`` does not have. Kept in the cache."""
    if split not in MESSAGES:
        raise HeadwaterError(f"grammar has no split {split!r}; expected train or valid")
    here = Path(__file__).parent
    made_by = b"".join((here / name).read_bytes() for name in ("phrases.py", "grammar.py", "templates.py", "data.py"))
    path = cache_folder() / "marketing" / f"{split}-{hashlib.blake2b(made_by, digest_size=12).hexdigest()}.json"
    if path.is_file():
        return tuple(from_json(row) for row in json.loads(path.read_text("utf-8")))
    items = drawn(MESSAGES[split], split)
    if split == "valid":
        known = {item.text for item in grammar_items("train")}
        items = [item for item in items if item.text not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps([asdict(item) for item in items], ensure_ascii=False), "utf-8")
    os.replace(part, path)
    return tuple(items)


def stated(text: str) -> tuple[Slot, ...]:
    """The placeholders of a text as slots, each as often as it stands there."""
    times = Counter(PLACEHOLDER.findall(text))
    return in_order([Slot(name, KNOWN.get(name, "text"), n, n) for name, n in times.items()])


def from_json(row: dict) -> Copy:
    """An item as :func:`dataclasses.asdict` writes it."""
    ask = dict(row["ask"])
    slots = tuple(Slot(**slot) for slot in ask.pop("slots"))
    closed = tuple((slot, value) for slot, value in ask.pop("closed"))
    return Copy(row["text"], Ask(slots, closed, **ask))


@functools.lru_cache(maxsize=4)
def rnnlg_items(split: str) -> tuple[Copy, ...]:
    """All four domains, texts that the codec can hold; of training texts, those whose every word it knows."""
    if split not in ("train", "valid"):
        raise HeadwaterError(f"rnnlg has no split {split!r}; expected train or valid")
    items = reviews.rnnlg_items(reviews.DOMAINS, split)
    if split == "valid":
        known = {item.text for item in rnnlg_items("train")}
        items = tuple(item for item in items if item.text not in known)
    return fitting(items, "copy", whole=split == "train")


def copy_items(split: str) -> tuple[Copy, ...]:
    """Our own grammar's and RNNLG's."""
    return grammar_items(split) + rnnlg_items(split)


@functools.lru_cache(maxsize=4)
def table_items(name: str, split: str) -> tuple[Copy, ...]:
    """E2E's or ViGGO's texts that the codec can hold; of training texts, those whose every word and phrase it knows, and
    :data:`AGAIN` times those of E2E that state two values of one slot: 4 % of the texts, but 9 % of the distinct meanings, which
    the benchmark asks for."""
    items = reviews.table_items(name, split)
    if split == "valid":
        known = {item.text for item in table_items(name, "train")}
        items = tuple(item for item in items if item.text not in known)
    codec = reviews.TABLES[name].codec
    found = fitting(items, codec, whole=split == "train")
    if split != "train" or codec != "e2e":
        return found
    return (*found, *[item for item in found if len(item.ask.closed) > len(dict(item.ask.closed))] * (AGAIN - 1))


def fitting(items: Sequence[Copy], codec: str, whole: bool = False) -> tuple[Copy, ...]:
    """The items that a codec can hold; with ``whole``, those of which it need spell nothing."""
    from headwater_marketing.codecs import CODECS

    words, found = CODECS[codec], []
    for item in items:
        try:
            words.encode(item)
        except ValueError:
            continue
        if not whole or words.knows(item.text):
            found.append(item)
    return tuple(found)


@functools.cache
def sample() -> tuple[Copy, ...]:
    """Texts of our own grammar, always there."""
    return tuple(drawn(24, "sample"))


@functools.cache
def table_sample(name: str) -> tuple[Copy, ...]:
    """Restaurants or games that this project made up."""
    table = reviews.TABLES[name]
    told = json.loads((table.card / "sample.json").read_text("utf-8"))
    return tuple(reviews.Pair(mr, *table.meaning(mr), text).copy() or Copy(text) for mr, text in told)


def _dataset(folder: Path, rows: Callable[[str], Sequence[Copy]], at_hand: Callable[[], Sequence[Copy]] = sample) -> Dataset[Copy]:
    return Dataset(card=folder, rows=rows, sample=at_hand)


DATASETS: dict[str, Dataset[Copy]] = {
    "copy": _dataset(GRAMMAR_CARD, copy_items),
    "grammar": _dataset(GRAMMAR_CARD, grammar_items),
    "rnnlg": _dataset(reviews.RNNLG_CARD, rnnlg_items),
    **{
        name: _dataset(table.card, functools.partial(table_items, name), functools.partial(table_sample, name))
        for name, table in reviews.TABLES.items()
    },
}

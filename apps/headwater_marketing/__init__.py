"""Personalised marketing copy in which every fact is right by construction. This package imports neither torch nor pandas."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.domain import Array, Domain
from headwater.errors import HeadwaterError
from headwater.recipe import Recipe
from headwater_marketing import asks, metrics
from headwater_marketing.asks import PLACEHOLDER, Copy
from headwater_marketing.codecs import CODECS
from headwater_marketing.data import DATASETS, from_json, stated
from headwater_marketing.features import features
from headwater_marketing.pipelines.rewrite import Rewrite
from headwater_marketing.pipelines.write import Write

if TYPE_CHECKING:
    from headwater.noise import Noise

HERE = Path(__file__).parent
ITEMS = "copy.jsonl"


class Marketing(Domain[Copy, asks.Wish]):
    """Short texts that sell something: SMS, push messages, e-mails, search ads and descriptions.

    An item is one text of one part (a subject, a headline), its facts as placeholders: names, prices, dates and addresses never
    pass through a model. What a campaign sends is written under a constraint, filled in, and judged by a validator that shares no
    code with the writing; what fails is a template's. The models know how such texts are worded, and nothing of what makes people
    buy: no claim is made about persuasion."""

    name = "marketing"
    summary = "personalised copy whose facts, lengths and consents are right: SMS, push, e-mail, search ads, descriptions"
    package = "headwater[marketing]"
    Wish = asks.Wish
    codecs = CODECS
    recipes = Recipe.folder(HERE / "recipes")
    datasets = DATASETS
    metrics = metrics.METRICS
    pipelines = (Write, Rewrite)
    commands = {"tune": "headwater_marketing.tuning:command"}
    models = HERE / "models"

    def describe(self, item: Copy) -> asks.Wish:
        """Channel, part, voice and level as asked, and the length of its own words."""
        return asks.describe(item)

    def given(self, name: str, item: Copy, noise: Noise) -> asks.Wish:
        """The plan of facts."""
        return asks.given(name, item, noise)

    def features(self, items: Sequence[Copy]) -> Array:
        """(items, 1024) bool; see :func:`headwater_marketing.features.features`."""
        return features(items)

    def problem(self, item: Copy, asked: asks.Wish | None = None) -> str | None:
        """An empty text, a brace that is no placeholder, or a fact that is not stated as often as asked."""
        if not item.text.strip():
            return "it says nothing"
        left = PLACEHOLDER.sub("", item.text)
        if "{" in left or "}" in left:
            return "a brace that is no placeholder"
        times = Counter(PLACEHOLDER.findall(item.text))
        for slot in item.ask.slots:
            if not slot.least <= times[slot.name] <= slot.most:
                return f"states {slot.name} {times[slot.name]} times; asked {slot.least} to {slot.most}"
        return None

    def render(self, item: Copy) -> str:
        """The text with its placeholders as chips."""
        from headwater_marketing.render import render

        return render(item)

    def write(self, items: Iterable[Copy], folder: Path) -> list[Path]:
        """``copy.jsonl``: a JSON object a text, ``text`` and ``ask``."""
        path = folder / ITEMS
        with open(path, "w", encoding="utf-8") as file:
            for item in items:
                file.write(json.dumps(dataclasses.asdict(item), ensure_ascii=False) + "\n")
        return [path]

    def read(self, path: Path) -> list[Copy]:
        """The texts of a ``copy.jsonl``. Lines of a plain ``.txt`` are texts, too."""
        try:
            lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise HeadwaterError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
        return [_item(line, f"{path}: line {i}") if path.suffix == ".jsonl" else _line(line) for i, line in enumerate(lines, 1)]

    def record(self, item: Copy) -> dict[str, Any]:
        """The text, what it was asked to be, and the facts it states."""
        ask, stated = item.ask, dict.fromkeys(PLACEHOLDER.findall(item.text))
        return {
            "text": item.text,
            "channel": ask.channel,
            "part": ask.part,
            "voice": ask.voice,
            "level": ask.level,
            "facts": ", ".join(stated),
        }


def _line(text: str) -> Copy:
    """A text that asks for the facts it states, if there are names for them."""
    ask = asks.Ask(stated(text))
    try:
        asks.told(ask)
    except ValueError:
        return Copy(text)
    return Copy(text, ask)


def _item(line: str, where: str) -> Copy:
    try:
        item = from_json(json.loads(line))
        asks.check_tone({name: getattr(item.ask, name) for name in asks.TONE}, where)
        if not isinstance(item.text, str):
            raise TypeError
        return item
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadwaterError(f'{where} is no text of copy ({type(error).__name__}); expected {{"text": …, "ask": {{…}}}}') from None

"""A tiny domain for the tests of the command line and the pages: words over five letters, two codecs, a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from headwater.domain import Codec, Dataset, Domain, Metric, Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater.recipe import Recipe
from headwater.spaces import Tokens, Vector

LETTERS = "abcde"
WORDS = tuple(LETTERS[i % 5] * (i % 3 + 1) + LETTERS[i // 5 % 5] + LETTERS[i // 25 % 5] for i in range(125))


@dataclass(frozen=True)
class Wish:
    length: Annotated[int | None, Knob("how long", 1, 8, "letters")] = None
    vowels: Annotated[float | None, Knob("share of vowels", 0, 1)] = None
    initial: Annotated[Literal["a", "b", "c", "d", "e"] | None, Knob("first letter")] = None
    doubled: Annotated[bool | None, Knob("a letter twice")] = None


class Letters(Codec[str]):
    space = Tokens(vocab=6, length=8)

    def encode(self, item: str) -> Any:
        if len(item) > 8 or set(item) - set(LETTERS):
            raise ValueError(f"expected at most 8 letters of {LETTERS}; got {item!r}")
        out = np.zeros((8, 1), dtype=np.int64)
        out[: len(item), 0] = [LETTERS.index(c) + 1 for c in item]
        return out

    def decode(self, array: Any) -> str:
        row = array[:, 0].tolist()
        return "".join(LETTERS[t - 1] for t in row[: row.index(0) if 0 in row else 8])

    def prefix(self, text: str) -> Any:
        return self.encode(text)[: len(text)]


class Counts(Codec[str]):
    space = Vector(5)

    def encode(self, item: str) -> Any:
        return np.array([item.count(c) for c in LETTERS], dtype=np.float32) / 4 - 1

    def decode(self, array: Any) -> str:
        return "".join(c * int(np.clip(np.nan_to_num(n * 4 + 4), 0, 4)) for c, n in zip(LETTERS, array, strict=True))


@dataclass
class Echoed(Result):
    row: int
    line: str
    made: list[str]
    draw: int = 0

    def write(self, folder: Path) -> list[Path]:
        path = folder / f"echo_{self.row}.txt"
        path.write_text("\n".join(self.made))
        return [path]

    def render(self) -> str:
        return f"<p>{escape(self.line)}: {escape(', '.join(self.made))}</p>"

    def record(self) -> dict[str, Any]:
        return {"line": self.line, "made": " ".join(self.made)}

    def problem(self) -> str | None:
        return "this line is <poison>" if self.line == "poison" else None


class Echo(Pipeline[str]):
    name = "echo"
    summary = "new words for each line of a text"
    source = "A text file."
    verbs = ("sample",)
    model = "letters"

    @dataclass(frozen=True)
    class Options:
        times: Annotated[int, Knob("words a line", 1, 9)] = 2
        tone: Annotated[Literal["calm", "loud"], Knob("how it sounds")] = "calm"

    def read(self, source: Path, options: Any) -> Iterator[str]:
        text = source.read_text()
        if "\0" in text:
            raise HeadwaterError(f"{source}: expected a text file; this one holds zeros")
        yield from text.split()

    def run(self, model: Any, rows: Sequence[tuple[int, str]], noise: Any, options: Any) -> Iterator[Echoed]:
        for row, line in rows:
            made = model.sample(options.times, seed=noise.rows([row]).number()).items
            yield Echoed(row, line, [m.upper() if options.tone == "loud" else m for m in made])

    def example(self) -> Path:
        return Path(__file__).with_name("words_card") / "example.txt"


class Words(Domain[str, Wish]):
    """Words over five letters. They mean nothing."""

    name = "words"
    summary = "words over five letters"
    notice = "For tests & nothing else."
    Wish = Wish
    codecs = {"letters": Letters(), "counts": Counts()}
    recipes = {
        "letters": Recipe.model_validate(
            {
                "summary": "letters one by one",
                "codec": "letters",
                "family": "autoregressive",
                "network": {"name": "recurrent", "options": {"width": 16, "layers": 1}},
                "data": "words",
                "condition_width": 8,
                "tile": 8,
                "training": {"steps": 4, "batch": 8, "warmup": 1},
                "sizes": {"s": {"network": {"options": {"width": 8}}}},
            }
        )
    }
    datasets = {
        "words": Dataset(
            Path(__file__).with_name("words_card"),
            lambda split: WORDS[:100] if split == "train" else WORDS[100:],
            lambda: WORDS[:5],
        )
    }
    metrics = (
        Metric("long", lambda e: float(np.mean([len(m) > 2 for m in e.made])), "higher", "", {"Shakespeare": 0.87}, "the Folio"),
    )
    pipelines = (Echo,)

    @property
    def models(self) -> Path | None:  # type: ignore[override]
        return Path(os.environ["WORDS_MODELS"]) if "WORDS_MODELS" in os.environ else None

    def describe(self, item: str) -> Wish:
        if not item:
            return Wish()
        doubled = any(a == b for a, b in zip(item, item[1:], strict=False))
        return Wish(len(item), sum(c in "ae" for c in item) / len(item), item[0], doubled)  # type: ignore[arg-type]

    def features(self, items: Sequence[str]) -> Any:
        return np.stack([Counts().encode(i) for i in items])

    def problem(self, item: str, asked: Wish | None = None) -> str | None:
        return "it is <empty>" if not item else "it holds three equal letters" if any(c * 3 in item for c in LETTERS) else None

    def render(self, item: str) -> str:
        return f'<figure style="width:120px;font:600 20px monospace;text-align:center;padding:12px">{escape(item) or "–"}</figure>'

    def write(self, items: Iterable[str], folder: Path) -> list[Path]:
        path = folder / "words.txt"
        path.write_text("".join(f"{i}\n" for i in items))
        return [path]

    def read(self, path: Path) -> list[str]:
        words = path.read_text().split()
        for number, word in enumerate(words, 1):
            if set(word) - set(LETTERS):
                raise HeadwaterError(f"{path}: word {number} holds a letter that is not one of {LETTERS}")
        return words

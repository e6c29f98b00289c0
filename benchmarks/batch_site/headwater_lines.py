"""A domain whose pipeline does next to nothing, so that what is measured is the job around it: the words of the core's tests, and
a pipeline that measures each line of a text without asking the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from headwater_words import Words

from headwater.domain import Pipeline, Result
from headwater.knobs import Knob


@dataclass
class Measured(Result):
    row: int
    line: str
    times: int
    draw: int = 0

    def write(self, folder: Path) -> list[Path]:
        return []

    def render(self) -> str:
        return f"<p>{len(self.line)}</p>"

    def record(self) -> dict[str, Any]:
        return {"line": self.line, "length": len(self.line) * self.times}

    def problem(self) -> str | None:
        return None


class Measure(Pipeline[str]):
    name, summary, source = "measure", "the length of each line of a text", "a text file"
    verbs, model, together = ("sample",), "letters", 1000

    @dataclass(frozen=True)
    class Options:
        times: Annotated[int, Knob("what lengths are multiplied by", 1, 9)] = 1

    def read(self, source: Path, options: Any) -> Iterator[str]:
        with source.open(encoding="utf-8") as stream:
            for line in stream:
                yield line.rstrip("\n")

    def run(self, model: Any, rows: Sequence[tuple[int, str]], noise: Any, options: Any) -> Iterator[Measured]:
        for row, line in rows:
            yield Measured(row, line, options.times)

    def example(self) -> Path:
        return Path(__file__)


class Lines(Words):
    """Lines of text. They mean nothing."""

    name, summary, pipelines = "lines", "lines of text", (Measure,)

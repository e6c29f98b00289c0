"""A domain for the tests of batch jobs: a pipeline whose inputs say how each row is to end, well or badly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from headwater_words import Words

from headwater.domain import Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.knobs import Knob


@dataclass
class Ended(Result):
    row: int
    line: str
    number: int
    neighbours: str
    draw: int = 0

    def write(self, folder: Path) -> list[Path]:
        word, _, size = self.line.partition(" ")
        path = folder / f"{word}_{self.row}.bin"
        path.write_bytes(bytes(int(size)) if word == "big" else self.line.encode())
        return [path]

    def render(self) -> str:
        return f"<p>{self.row}</p>"

    def record(self) -> dict[str, Any]:
        columns = {"line": self.line, "number": self.number, "planned": self.neighbours, "score": None}
        return {**columns, "score": 0.5, "more": [1, 2]} if self.line == "wide" else columns

    def problem(self) -> str | None:
        return "it was asked not to be" if self.line == "unusable" else None


class Trial(Pipeline[str]):
    name = "trial"
    summary = "what its lines say"
    source = "A text file."
    verbs = ("sample",)
    model = "letters"
    together = 4

    @dataclass(frozen=True)
    class Options:
        shift: Annotated[int, Knob("added to every number", 0, 9)] = 0

    def read(self, source: Path, options: Any) -> Iterator[str]:
        text = source.read_text()
        if text.startswith("unreadable"):
            raise HeadwaterError(f"{source.name}: expected a text file")
        for line in text.splitlines():
            if line == "torn":
                raise ValueError("the file ends here")
            yield line

    def plan(self, inputs: Iterator[str], options: Any) -> Iterable[Mapping[str, Any]] | None:
        if "TRIAL_PLANS" not in os.environ:
            return None
        lines = list(inputs)
        return [{"seen": lines.count(line)} for line in lines]

    def run(self, model: Any, rows: Sequence[tuple[int, str]], noise: Any, options: Any) -> Iterator[Ended]:
        for row, line in rows:
            word, _, rest = line.partition(" ")
            if word == "raise":
                raise RuntimeError(f"as row {row} asked")
            if word == "mistake":
                raise HeadwaterError("this row is a mistake")
            if word == "hang":
                time.sleep(3600)
            if word == "exit":
                os._exit(7)
            if word == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "memory":
                np.ones(2**33)  # 64 GiB
            if word == "once" and not Path(rest).exists():
                Path(rest).touch()
                os._exit(7)
            if word == "wait":
                time.sleep(float(rest))
            number = noise.rows([row]).number() % 1000 + options.shift
            yield Ended(row, line, number, str(self.planned.get(row, {}).get("seen", "")))

    def example(self) -> Path:
        return Path(__file__).with_name("words_card") / "example.txt"


class Trials(Words):
    """Rows that end as they are told."""

    name = "trials"
    summary = "rows that end as they are told"
    pipelines = (Trial,)

    @property
    def models(self) -> Path | None:  # type: ignore[override]
        return Path(os.environ["TRIALS_MODELS"]) if "TRIALS_MODELS" in os.environ else None

    def problem(self, item: str, asked: Any = None) -> str | None:
        return None if item else "it is empty"

"""A small domain that keeps every promise: strings of beads, no two alike touching. The kit's mutants are faults in it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from headwater import (
    Array,
    Codec,
    Dataset,
    Domain,
    Evaluation,
    Given,
    Grid,
    HeadwaterError,
    Knob,
    Metric,
    Pipeline,
    Recipe,
    Result,
    Tokens,
)

HERE = Path(__file__).parent
KINDS = "abc"
LONGEST = 8


@dataclass(frozen=True)
class Wish:
    reds: Annotated[int | None, Knob("red beads (a)", 0, LONGEST)] = None
    opening: Annotated[Literal["a", "b", "c"] | None, Knob("the first bead")] = None
    symmetric: Annotated[bool | None, Knob("reads the same from both ends")] = None
    pattern: Annotated[Array | None, Given("where the red beads are")] = None


def problem(item: str) -> str | None:
    if not item or set(item) - set(KINDS):
        return f"a string is made of the beads {', '.join(KINDS)}"
    touching = next((i for i, (x, y) in enumerate(zip(item, item[1:])) if x == y), None)  # noqa: B905
    return None if touching is None else f"beads {touching + 1} and {touching + 2} are alike"


class Chain(Codec[str]):
    space = Tokens(vocab=1 + len(KINDS), length=LONGEST)

    def encode(self, item: str) -> np.ndarray[Any, Any]:
        return self.prefix(item.ljust(LONGEST, "."))

    def prefix(self, text: str) -> np.ndarray[Any, Any]:
        if len(text) > LONGEST or set(text) - set(KINDS + "."):
            raise ValueError(f"expected at most {LONGEST} of {KINDS}, got {text!r}")
        return np.array([[("." + KINDS).index(c)] for c in text], dtype=np.int64)

    def decode(self, array: np.ndarray[Any, Any]) -> str:
        return "".join(("." + KINDS)[i] for i in array[:, 0]).partition(".")[0]

    def constraint(self) -> Any:
        return Apart()


class Apart:
    """No two beads alike touch, and there are at least two; the state is the text so far."""

    def start(self) -> str:
        return ""

    def allowed(self, state: str, remaining: int) -> np.ndarray[Any, Any]:
        return np.array([len(state) > 1, *(not state.endswith(kind) for kind in KINDS)])

    def step(self, state: str, token: int) -> str:
        return state + KINDS[token - 1] if token else state

    def accepts(self, state: str) -> bool:
        return len(state) > 1


class Line(Codec[str]):
    """A line of grey values: no bead is -1, the kinds follow in equal steps."""

    space = Grid(1, (LONGEST,))

    def encode(self, item: str) -> np.ndarray[Any, Any]:
        return (Chain().encode(item).T * 2 / len(KINDS) - 1).astype(np.float32)

    def decode(self, array: np.ndarray[Any, Any]) -> str:
        places = np.clip(np.nan_to_num((array + 1) * len(KINDS) / 2, nan=0.0), 0, len(KINDS)).round().astype(int)
        return Chain().decode(places.T)


class Strings(Sequence[str]):
    """Strings of a split, each drawn by its number; which split a string is in depends on its spelling."""

    def __init__(self, split: str, count: int) -> None:
        generator = np.random.default_rng(7)
        found: dict[str, None] = {}
        while len(found) < count:
            item = "".join(KINDS[i] for i in generator.integers(0, 3, generator.integers(2, LONGEST + 1)))
            if problem(item) is None and ("train", "train", "valid", "test")[sum(item.encode()) % 4] == split:
                found[item] = None
        self.items = list(found)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


@dataclass(frozen=True)
class Grown(Result):
    row: int
    text: str
    draw: int = 0

    def write(self, folder: Path) -> list[Path]:
        path = folder / f"{self.row}.txt"
        path.write_text(self.text + "\n")
        return [path]

    def render(self) -> str:
        return f"<code>{html.escape(self.text)}</code>"

    def record(self) -> dict[str, Any]:
        return {"text": self.text}

    def problem(self) -> str | None:
        return problem(self.text)


@dataclass(frozen=True)
class NoOptions:
    pass


class Grow(Pipeline[str]):
    name, summary, source = "grow", "make a string of a beginning", "a text file with a beginning on each line"
    Options, verbs, model = NoOptions, ("sample", "infill"), "chain"

    def read(self, source: Path, options: NoOptions) -> Iterator[str]:
        yield from source.read_text().split()

    def run(self, model: Any, rows: Sequence[tuple[int, str]], noise: Any, options: NoOptions) -> Iterator[Result]:
        for row, text in rows:
            yield Grown(row, model.sample(1, start=text, seed=noise.fold(row).number())[0])

    def example(self) -> Path:
        return HERE / "beginnings.txt"


def line_network(space: Any, pooled: int = 0, cells: int = 0, sequence: int = 0, width: int = 16) -> Any:
    from beads.network import LineNet

    return LineNet(space.size[0], width, pooled)


def distinct(evaluation: Evaluation[str, Wish]) -> float:
    return len(set(evaluation.made)) / len(evaluation.made)


class Beads(Domain[str, Wish]):
    """Strings of beads in three colours."""

    name, summary = "beads", "strings of beads of which no two alike touch"
    Wish = Wish
    codecs = {"chain": Chain(), "line": Line()}
    networks = {"line": line_network}
    recipes = {
        "chain": Recipe.model_validate(
            {
                "codec": "chain",
                "family": "autoregressive",
                "network": {"name": "recurrent", "options": {"width": 16, "layers": 1}},
                "data": "strings",
                "given": ["pattern"],
                "condition_width": 16,
            }
        ),
        "line": Recipe.model_validate(
            {"codec": "line", "family": "diffusion", "network": {"name": "beads:line"}, "data": "strings", "condition_width": 16}
        ),
    }
    datasets = {"strings": Dataset(HERE, lambda split: Strings(split, 30), lambda: Strings("train", 12))}
    metrics = (Metric("distinct", distinct, better="higher", published={"by hand": 1.0}, source="this docstring"),)
    pipelines = (Grow,)

    def describe(self, item: str) -> Wish:
        if problem(item):
            return Wish()
        return Wish(reds=item.count("a"), opening=item[0], symmetric=item == item[::-1])  # type: ignore[arg-type]

    def given(self, name: str, item: str, noise: Any) -> Wish:
        return Wish(pattern=(Chain().encode(item) == 1).astype(np.float32))

    def features(self, items: Sequence[str]) -> np.ndarray[Any, Any]:
        return np.array([[item.count(kind) for kind in KINDS] for item in items], dtype=np.float32)

    def problem(self, item: str, asked: Wish | None = None) -> str | None:
        return problem(item)

    def render(self, item: str) -> str:
        return f"<code>{html.escape(item)}</code>"

    def write(self, items: Iterable[str], folder: Path) -> list[Path]:
        path = folder / "strings.txt"
        path.write_text("".join(item + "\n" for item in items))
        return [path]

    def read(self, path: Path) -> list[str]:
        try:
            return [line for line in path.read_text().splitlines() if not line.startswith("#")]
        except OSError as error:
            raise HeadwaterError(f"{path}: cannot be read: {error.strerror}") from None

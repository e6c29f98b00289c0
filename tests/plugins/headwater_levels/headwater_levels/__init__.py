"""Levels of a platform game, as a domain of Headwater: this file is all that the core needs to know about them."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from headwater import Array, Codec, Domain, Evaluation, Given, Grid, HeadwaterError, Knob, Metric, Pipeline, Recipe, Result, Tokens
from headwater_levels import game
from headwater_levels.game import BRICK, COIN, COLUMNS, EMPTY, GOAL, GROUND, ROWS, SOLID, SPIKE, START, TILES
from headwater_levels.terrain import GENERATED

HERE = Path(__file__).parent
OPEN = "?"  # a tile still to be made, in the files that `repair` reads


@dataclass(frozen=True)
class Wish:
    """What a level can be asked to be. Every field is a flag, a batch column and an input of the network."""

    gaps: Annotated[int | None, Knob("gaps in the ground", 0, 6)] = None
    coins: Annotated[int | None, Knob("coins to collect", 0, 24)] = None
    platforms: Annotated[bool | None, Knob("brick platforms in the air")] = None
    ground: Annotated[Array | None, Given("height of the ground under each column, as a share of the level's")] = None


# --- how a level becomes numbers ----------------------------------------------------------------------------------------


def indices(level: str) -> np.ndarray[Any, Any]:
    """(rows, columns) int64 of places in ``TILES``. Raises ``ValueError`` for what is no level."""
    if why := game.shape_problem(level):
        raise ValueError(why)
    return np.array([[TILES.index(tile) for tile in row] for row in level.split("\n")], dtype=np.int64)


def text(tiles: np.ndarray[Any, Any]) -> str:
    """The level of (rows, columns) places in ``TILES``."""
    return "\n".join("".join(TILES[i] for i in row) for row in tiles)


class Columns(Codec[str]):
    """A position is a column, read from left to right; its twelve streams are the column's tiles, from the bottom up, so that
    what stands on the ground is drawn after the ground."""

    space = Tokens(vocab=1 + len(TILES), length=COLUMNS, streams=ROWS)

    def cells(self, grid: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(rows, columns) laid out as this space."""
        return grid[::-1].T

    def encode(self, item: str) -> np.ndarray[Any, Any]:
        return self.cells(indices(item)) + 1

    def decode(self, array: np.ndarray[Any, Any]) -> str:
        places = np.asarray(array).T[::-1] - 1
        return text(np.where((places >= 0) & (places < len(TILES)), places, TILES.index(EMPTY)))

    def constraint(self) -> Ends:
        return Ends()


class Picture(Codec[str]):
    """A picture with one channel for each kind of tile: 1 where it lies, -1 elsewhere."""

    space = Grid(len(TILES), (ROWS, COLUMNS))

    def cells(self, grid: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """(rows, columns) laid out as this space."""
        return np.broadcast_to(grid, self.space.shape)

    def encode(self, item: str) -> np.ndarray[Any, Any]:
        return np.where(self.cells(indices(item)) == np.arange(len(TILES))[:, None, None], 1, -1).astype(np.float32)

    def decode(self, array: np.ndarray[Any, Any]) -> str:
        return text(np.nan_to_num(array, nan=-1.0).argmax(axis=0))


class Ends:
    """Every level made has one start, in its first column, and one goal, in its last, each right above something solid.

    The state is (tiles made, whether this column has its mark, whether the tile below is solid).
    """

    HIGHEST = 7  # of start and goal, from 0 at the bottom

    def start(self) -> tuple[int, bool, bool]:
        return 0, False, False

    def allowed(self, state: tuple[int, bool, bool], remaining: int) -> np.ndarray[Any, Any]:
        (column, height), marked, solid_below = divmod(state[0], ROWS), *state[1:]
        kinds = EMPTY + GROUND + BRICK + SPIKE + COIN
        mark = {0: START, COLUMNS - 1: GOAL}.get(column)
        if mark and not marked:
            # At its highest it is now or never, so just below that something solid is due.
            others = "" if height == self.HIGHEST else SOLID if height == self.HIGHEST - 1 else kinds
            kinds = (mark if solid_below else "") + others
        return np.array([False, *(tile in kinds for tile in TILES)])

    def step(self, state: tuple[int, bool, bool], token: int) -> tuple[int, bool, bool]:
        tile = TILES[token - 1] if token else EMPTY
        new_column = (state[0] + 1) % ROWS == 0
        return state[0] + 1, (state[1] or tile in START + GOAL) and not new_column, tile in SOLID and not new_column

    def accepts(self, state: tuple[int, bool, bool]) -> bool:
        return state[0] == ROWS * COLUMNS


# --- the domain ---------------------------------------------------------------------------------------------------------


def playable(evaluation: Evaluation[str, Wish]) -> float:
    return sum(game.problem(level) is None for level in evaluation.made) / len(evaluation.made)


def new(evaluation: Evaluation[str, Wish]) -> float:
    known = set(evaluation.reference)
    return len({level for level in evaluation.made if level not in known}) / len(evaluation.made)


@dataclass(frozen=True)
class Made(Result):
    """A level that a pipeline made, and what it was made from."""

    row: int
    level: str
    source: str
    tries: int
    draw: int = 0

    def write(self, folder: Path) -> list[Path]:
        return [write_text(folder / f"level-{self.row:04d}.txt", self.level)]

    def render(self) -> str:
        return f"<figure><pre>{html.escape(self.source)}</pre>{Levels().render(self.level)}</figure>"

    def record(self) -> dict[str, Any]:
        return {"level": self.level, "source": self.source, "tries": self.tries}

    def problem(self) -> str | None:
        return game.problem(self.level)


@dataclass(frozen=True)
class Attempts:
    tries: Annotated[int | None, Knob("attempts at a playable level", 1, 64)] = 4


class Repair(Pipeline[str]):
    """Fill the tiles that a designer left open. Every other tile stays as it is."""

    name, summary = "repair", "fill the open tiles (?) of a level, so that it can be played"
    source = "a text file of levels with ? where a tile is to be made; an empty line between levels"
    Options, verbs, model = Attempts, ("infill",), "autoregressive"

    def read(self, source: Path, options: Attempts) -> Iterator[str]:
        yield from read_levels(source, also=OPEN)

    def run(self, model: Any, rows: Sequence[tuple[int, str]], noise: Any, options: Attempts) -> Iterator[Made]:
        for row, level in rows:
            tries = options.tries or 1
            kept = np.array([[tile != OPEN for tile in line] for line in level.split("\n")])
            mask = np.stack([model.codec.cells(kept)] * tries)
            made = model.infill([level.replace(OPEN, EMPTY)] * tries, mask, seed=noise.fold("repair", row).number())
            yield Made(row, next(playable_first(made)), level, tries)

    def example(self) -> Path:
        return HERE / "examples" / "open.txt"


class Build(Pipeline[list[int]]):
    """Make a level on the terrain that a designer has in mind."""

    name, summary = "build", "make a level for each line of ground heights"
    source = f"a text file; each line holds {COLUMNS} heights from 0 (a gap) to {ROWS - 4}, from left to right"
    Options, verbs, model = Attempts, ("sample",), "autoregressive"

    def read(self, source: Path, options: Attempts) -> Iterator[list[int]]:
        for number, line in enumerate(read_text(source).splitlines(), 1):
            heights = [int(word) if word.isdecimal() else -1 for word in line.split()]
            if len(heights) != COLUMNS or not all(0 <= h <= ROWS - 4 for h in heights):
                expected = f"{COLUMNS} whole numbers from 0 to {ROWS - 4}"
                raise HeadwaterError(f"{source}, line {number}: expected {expected}; got {line[:60]!r}")
            yield heights

    def run(self, model: Any, rows: Sequence[tuple[int, list[int]]], noise: Any, options: Attempts) -> Iterator[Made]:
        for row, heights in rows:
            tries = options.tries or 1
            made = model.sample(tries, seed=noise.fold("build", row).number(), wishes=[Wish(ground=share(heights))] * tries)
            yield Made(row, next(playable_first(made)), " ".join(map(str, heights)), tries)

    def example(self) -> Path:
        return HERE / "examples" / "heights.txt"


def share(heights: Sequence[int]) -> Any:
    """Ground heights as the field ``ground`` wants them: (columns, 1), each on its own column."""
    return np.array(heights, dtype=np.float32)[:, None] / ROWS


def playable_first(levels: Iterable[str]) -> Iterator[str]:
    return iter(sorted(levels, key=lambda level: game.problem(level) is not None))


class Levels(Domain[str, Wish]):
    """Levels of a small platform game: twelve rows of twenty-eight tiles, from a start on the left to a goal on the right.

    A level can be asked for by its gaps, its coins and its platforms, or be made on a given ground. It counts as valid if a
    search over the player's moves finds a way from start to goal; if not, the reason says where the player gets stuck."""

    name = "levels"
    summary = "levels of a platform game that can be played to the end"
    package = "headwater-levels"
    Wish = Wish
    codecs = {"columns": Columns(), "picture": Picture()}
    recipes = Recipe.folder(HERE / "recipes")
    datasets = {"generated": GENERATED}
    metrics = (
        Metric("playable", playable, better="higher", summary="share of levels with a way from start to goal"),
        Metric("new", new, better="higher", summary="share of levels that are distinct and not in the data"),
    )
    pipelines = (Repair, Build)

    def describe(self, item: str) -> Wish:
        if game.shape_problem(item):
            return Wish()
        return Wish(gaps=game.gap_count(item), coins=item.count(COIN), platforms=BRICK in item)

    def given(self, name: str, item: str, noise: Any) -> Wish:
        if name != "ground":
            raise KeyError(name)
        return Wish(ground=share(game.ground_heights(item)))

    def features(self, items: Sequence[str]) -> np.ndarray[Any, Any]:
        """float (items, 147): how much of each kind of tile lies in each of 3 x 7 parts of the level."""
        grids = np.stack([indices(item) for item in items])
        kinds = grids[:, None] == np.arange(len(TILES))[:, None, None]
        parts = kinds.reshape(len(items), len(TILES), 3, ROWS // 3, 7, COLUMNS // 7)
        return parts.mean(axis=(3, 5), dtype=np.float32).reshape(len(items), -1)

    def problem(self, item: str, asked: Wish | None = None) -> str | None:
        return game.problem(item)

    def render(self, item: str) -> str:
        return picture(item)

    def write(self, items: Iterable[str], folder: Path) -> list[Path]:
        return [write_text(folder / f"level-{i:04d}.txt", item) for i, item in enumerate(items)]

    def read(self, path: Path) -> list[str]:
        return list(read_levels(path))

    def record(self, item: str) -> dict[str, Any]:
        wish = self.describe(item)
        return {"level": item, "gaps": wish.gaps, "coins": wish.coins, "platforms": wish.platforms}


# --- files and pictures -------------------------------------------------------------------------------------------------


def write_text(path: Path, level: str) -> Path:
    """The whole file or none of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(level + "\n", encoding="ascii", errors="replace")
    os.replace(part, path)
    return path


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise HeadwaterError(f"{path}: not a readable text file ({type(error).__name__})") from None


def read_levels(path: Path, also: str = "") -> Iterator[str]:
    """The levels of a text file, an empty line between them; tiles of ``also`` are let through."""
    for number, level in enumerate(read_text(path).split("\n\n"), 1):
        level = level.strip("\n")
        if why := game.shape_problem(level.translate({ord(tile): EMPTY for tile in also})):
            raise HeadwaterError(f"{path}, level {number}: {why}")
        yield level


SIDE = 9
COLOURS = {GROUND: "#7a5230", BRICK: "#b5523b", SPIKE: "#5a6472", COIN: "#f2b632", START: "#2f6fd0", GOAL: "#2f9e63"}


def picture(level: str) -> str:
    """An inline SVG of the level with the player's way through it, and under it why it cannot be played, if so."""
    if why := game.shape_problem(level):
        return f"<figure>{html.escape(why)}<pre>{html.escape(level)}</pre></figure>"
    shapes = [f'<rect width="{COLUMNS * SIDE}" height="{ROWS * SIDE}" fill="#dbeafc"/>']
    for y, row in enumerate(level.split("\n")):
        for x, tile in enumerate(row):
            left, top = x * SIDE, y * SIDE
            if tile in SOLID:
                shapes.append(f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="{COLOURS[tile]}"/>')
            elif tile == SPIKE:
                points = f"{left},{top + SIDE} {left + SIDE / 2},{top} {left + SIDE},{top + SIDE}"
                shapes.append(f'<polygon points="{points}" fill="{COLOURS[tile]}"/>')
            elif tile != EMPTY:
                radius = SIDE / 4 if tile == COIN else SIDE / 2.2
                shapes.append(f'<circle cx="{left + SIDE / 2}" cy="{top + SIDE / 2}" r="{radius:.1f}" fill="{COLOURS[tile]}"/>')
    why = game.problem(level)
    if why is None:
        way = " ".join(f"{(x + 0.5) * SIDE},{(y + 0.5) * SIDE}" for x, y in game.play(level)[0])
        shapes.append(f'<polyline points="{way}" fill="none" stroke="#2f6fd0" stroke-opacity="0.55" stroke-width="1.5"/>')
    size = f'viewBox="0 0 {COLUMNS * SIDE} {ROWS * SIDE}" width="{COLUMNS * SIDE}" height="{ROWS * SIDE}"'
    caption = f"<figcaption>{html.escape(why)}</figcaption>" if why else ""
    return (
        f'<figure style="display:inline-block"><svg {size} role="img" aria-label="level">{"".join(shapes)}</svg>{caption}</figure>'
    )

"""The data: levels drawn by rules, each one checked by playing it. Level ``i`` of a split is always the same, on every machine."""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

from headwater import Dataset, HeadwaterError
from headwater_levels.game import BRICK, COIN, COLUMNS, EMPTY, GOAL, GROUND, ROWS, SPIKE, START, problem

COUNTS = {"train": 2000, "valid": 200, "test": 200}


class Generated(Sequence[str]):
    """Levels ``first`` to ``first + count`` of a split, drawn when asked for."""

    def __init__(self, split: str, count: int) -> None:
        self.split, self.count = split, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices: training reads rows one by one
        if not 0 <= index < self.count:
            raise IndexError(index)
        return draw(self.split, index)


def rows(split: str) -> Generated:
    if split not in COUNTS:
        raise HeadwaterError(f"levels have the splits {', '.join(COUNTS)}; got {split!r}")
    return Generated(split, COUNTS[split])


@functools.cache
def draw(split: str, index: int) -> str:
    """The level of that number: the first of a series of attempts that belongs to the split and can be played."""
    series = (f"{split}/{index}/{i}" for i in itertools.count())
    attempts = (attempt(Random(name)) for name in series)  # a string seeds Random alike everywhere
    return next(level for level in attempts if split_of(level) == split and problem(level) is None)


def split_of(level: str) -> str:
    """By what the level is, so that no level is in two splits: half of all go to ``train``, a quarter to each of the others."""
    return ("train", "train", "valid", "test")[zlib.crc32(level.encode()) % 4]


def attempt(random: Random) -> str:
    """One level, not necessarily playable: a ground line, then what stands on it and hangs over it."""
    heights = ground_line(random)
    grid = [[GROUND if ROWS - y <= height else EMPTY for height in heights] for y in range(ROWS)]

    def put(tile: str, column: int, height: int) -> None:
        """Set an empty cell; ``height`` 0 is the bottom row."""
        if 0 <= height < ROWS and 0 <= column < COLUMNS and grid[ROWS - 1 - height][column] == EMPTY:
            grid[ROWS - 1 - height][column] = tile

    spikes, coins, platforms = random.random() * 0.2, random.random() * 0.3, random.random() * 0.25
    put(START, 0, heights[0])
    put(GOAL, COLUMNS - 1, heights[-1])
    column = 3
    while column < COLUMNS - 4:
        height = heights[column]
        flat = heights[column - 1 : column + 2] == [height] * 3 and height > 0
        if flat and random.random() < spikes:
            put(SPIKE, column, height)
            column += 2  # room to land
        elif random.random() < platforms:
            length, above = 2 + int(random.random() * 4), max(heights[column : column + 5]) + 3
            for x in range(column, min(column + length, COLUMNS - 3)):
                put(BRICK, x, above)
                if random.random() < 2 * coins:
                    put(COIN, x, above + 1)
            column += length
        elif random.random() < coins:
            for x, lift in zip(range(column, column + 3), (1, 2, 1), strict=True):  # an arc, as a jump would fly
                put(COIN, x, max(heights[column : column + 3]) + lift)
            column += 3
        column += 1
    return "\n".join("".join(row) for row in grid)


def ground_line(random: Random) -> list[int]:
    """Ground heights of all columns: runs of level ground, joined by steps and gaps; it begins and ends on ground."""
    gaps, hilly = random.random() * 0.5, random.random()
    height = 1 + int(random.random() * 4)
    heights = [height] * 3
    while len(heights) < COLUMNS - 3:
        if random.random() < gaps:
            heights += [0] * (1 + int(random.random() * 4))
        if random.random() < hilly:
            height = min(6, max(1, height + int(random.random() * 5) - 2))
        heights += [height] * (2 + int(random.random() * 5))
    return heights[: COLUMNS - 3] + [height] * 3


#: The levels as the domain lists them; the packaged sample is the first few of ``train``.
GENERATED: Dataset[str] = Dataset(Path(__file__).parent / "card", rows, lambda: Generated("train", 64))

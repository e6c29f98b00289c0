"""The game: what a level is made of, how its player moves, and where the player gets stuck.

A level is text, twelve rows of twenty-eight tiles, top row first. The player is one tile tall. A tick takes it one column left or
right on the ground, or one row up or down in the air with up to one column of drift; a jump rises at most three rows. So it climbs
three tiles and clears a gap of five. Spikes kill, and so does falling out of the bottom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

ROWS, COLUMNS = 12, 28
EMPTY, GROUND, BRICK, SPIKE, COIN, START, GOAL = TILES = "-#=^oSG"
SOLID = GROUND + BRICK
JUMP = 3
REACH = 2 * JUMP - 1  # the widest gap: three columns on the way up, three on the way down

State = tuple[int, int, int]  # column, row (0 is the top), rows it may still rise


def shape_problem(level: str) -> str | None:
    """Why a text is no level at all, or None."""
    rows = level.split("\n")
    if len(rows) != ROWS or any(len(row) != COLUMNS for row in rows):
        return f"expected {ROWS} rows of {COLUMNS} tiles, got {len(rows)} of {'/'.join(map(str, sorted({len(r) for r in rows})))}"
    if unknown := sorted(set(level) - set(TILES) - {"\n"}):
        return f"unknown tile {unknown[0]!r}; known: {' '.join(TILES)}"
    return None


def moves(rows: list[str], state: State) -> Iterator[State]:
    """Where the player can be one tick later."""
    column, row, rise = state

    def free(x: int, y: int) -> bool:
        return 0 <= x < COLUMNS and 0 <= y < ROWS and rows[y][x] not in SOLID + SPIKE

    standing = row + 1 < ROWS and rows[row + 1][column] in SOLID
    if standing:
        rise = JUMP
        yield from ((x, row, 0) for x in (column + 1, column - 1) if free(x, row))
    for y, left in ((row - 1, rise - 1), (row + 1, 0)):
        if (rise if y < row else not standing) and free(column, y):
            yield from ((x, y, left) for x in (column + 1, column, column - 1) if free(x, y))


def play(level: str) -> tuple[list[tuple[int, int]], bool]:
    """The player's quickest way as (column, row) cells, to the goal or else to the rightmost place it can stand, and whether it
    is the goal. ``level`` has passed :func:`shape_problem` and holds a start."""
    rows = level.split("\n")
    start: State = next((x, y, 0) for y, row in enumerate(rows) for x, tile in enumerate(row) if tile == START)
    came: dict[State, State | None] = {start: None}
    queue, furthest = deque([start]), start
    while queue:
        state = queue.popleft()
        column, row, _ = state
        if rows[row][column] == GOAL:
            return _path(came, state), True
        if column > furthest[0] and row + 1 < ROWS and rows[row + 1][column] in SOLID:
            furthest = state
        for after in moves(rows, state):
            if after not in came:
                came[after] = state
                queue.append(after)
    return _path(came, furthest), False


def _path(came: dict[State, State | None], state: State | None) -> list[tuple[int, int]]:
    path = []
    while state is not None:
        path.append(state[:2])
        state = came[state]
    return path[::-1]


def problem(level: str) -> str | None:
    """Why a level cannot be played, in a designer's words (columns and rows count from 1), or None."""
    if why := shape_problem(level):
        return why
    for tile, name in ((START, "start"), (GOAL, "goal")):
        if level.count(tile) != 1:
            return f"a level needs one {name} ({tile}), this one has {level.count(tile)}"
    path, arrived = play(level)
    if arrived:
        return None
    column, row = path[-1]
    why = obstacle(level.split("\n"), column, row)
    return f"the player gets to column {column + 1} and no farther: {why}"


def obstacle(rows: list[str], column: int, row: int) -> str:
    """What stops a player who stands at a place and wants to go right."""
    floors = [next((y for y in range(max(0, row - JUMP), ROWS) if rows[y][x] in SOLID), None) for x in range(COLUMNS)]
    gap = next((x for x in range(column + 1, COLUMNS) if floors[x] is not None), COLUMNS) - column - 1
    if gap > REACH:
        return f"the gap ahead is {gap} tiles wide, a jump clears {REACH}"
    ahead = range(column + 1, min(column + gap + 3, COLUMNS))
    for x in ahead:
        wall = 0
        while row - wall >= 0 and rows[row - wall][x] in SOLID:
            wall += 1
        if wall > JUMP:
            return f"the wall in column {x + 1} is {wall} tiles high, a jump climbs {JUMP}"
    if row and rows[row - 1][column] in SOLID:
        return f"the tiles over column {column + 1} leave no room to jump"
    spikes = [x + 1 for x in ahead if any(tile == SPIKE for tile in (r[x] for r in rows))]
    if spikes:
        return f"the spikes in column {spikes[0]} leave no place to land"
    return f"there is no room to jump over the gap in column {column + 2}" if gap else "the way ahead is walled in"


def ground_heights(level: str) -> list[int]:
    """How many tiles of ground each column is high, 0 over a gap."""
    columns = zip(*level.split("\n"), strict=True)
    return [next((i for i, tile in enumerate(reversed(column)) if tile != GROUND), ROWS) for column in columns]


def gap_count(level: str) -> int:
    """Runs of columns without ground at the bottom."""
    return sum(1 for run in level.split("\n")[-1].split(GROUND) if run)

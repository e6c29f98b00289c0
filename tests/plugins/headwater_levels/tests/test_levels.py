"""Every promise of the plug-in contract, in one line; then the rules of the game."""

from __future__ import annotations

import numpy as np
import pytest
from headwater_levels import OPEN, Columns, Ends, Levels, Picture, Repair, game, terrain

import headwater.testing
from headwater import HeadwaterError

test_conformance = headwater.testing.conformance(Levels())


def level(ground: str, *placed: tuple[str, int, int]) -> str:
    """A level with those heights of ground, a digit a column; ``placed`` are (tile, column, height above the bottom)."""
    heights = [int(digit) for digit in ground.ljust(game.COLUMNS, ground[-1])]
    grid = [["#" if game.ROWS - y <= h else "-" for h in heights] for y in range(game.ROWS)]
    for tile, column, height in (("S", 0, heights[0]), ("G", game.COLUMNS - 1, heights[-1]), *placed):
        grid[game.ROWS - 1 - height][column] = tile
    return "\n".join("".join(row) for row in grid)


FLAT = "2222222222"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (level("2"), None),
        (level(FLAT + "0" * 5 + "2"), None),
        (
            level(FLAT + "0" * 6 + "2"),
            "the player gets to column 10 and no farther: the gap ahead is 6 tiles wide, a jump clears 5",
        ),
        (level(FLAT + "5"), None),
        (level(FLAT + "6"), "the player gets to column 10 and no farther: the wall in column 11 is 4 tiles high, a jump climbs 3"),
        (level(FLAT + "6", ("=", 8, 4)), None),  # a brick to climb on
        (level("2", *(("^", x, 2) for x in range(10, 14))), None),
        (
            level("2", *(("^", x, 2) for x in range(10, 15))),
            "the player gets to column 10 and no farther: the spikes in column 11 leave no place to land",
        ),
        (
            level(FLAT + "00002", *(("=", x, 3) for x in range(14))),
            "the player gets to column 10 and no farther: the tiles over column 10 leave no room to jump",
        ),
        (level("2").replace("G", "-"), "a level needs one goal (G), this one has 0"),
        (level("2", ("S", 5, 2)), "a level needs one start (S), this one has 2"),
        (level("2", ("?", 5, 4)), "unknown tile '?'; known: - # = ^ o S G"),
        ("##\n#", "expected 12 rows of 28 tiles, got 2 of 1/2"),
        ("", "expected 12 rows of 28 tiles, got 1 of 0"),
    ],
)
def test_a_level_is_judged_by_playing_it(made: str, why: str | None) -> None:
    assert game.problem(made) == why


def test_the_way_shown_is_a_way() -> None:
    made = terrain.rows("train")[3]
    path, arrived = game.play(made)
    rows = made.split("\n")
    assert arrived and rows[path[0][1]][path[0][0]] == "S" and rows[path[-1][1]][path[-1][0]] == "G"
    for (x, y), (u, v) in zip(path, path[1:], strict=False):
        assert abs(u - x) <= 1 and abs(v - y) <= 1 and rows[v][u] not in "#=^"


def test_levels_are_the_same_everywhere_and_differ() -> None:
    found = [terrain.rows("train")[i] for i in range(100)]
    assert found[0] == terrain.draw.__wrapped__("train", 0)
    assert len(set(found)) == 100
    with pytest.raises(HeadwaterError, match="splits train, valid, test; got 'dev'"):
        terrain.rows("dev")


def test_what_is_described_is_there() -> None:
    wish = Levels().describe(level(FLAT + "00" + "222" + "0002", ("o", 3, 5), ("=", 4, 5)))
    assert (wish.gaps, wish.coins, wish.platforms) == (2, 1, True)


def test_both_codecs_hold_every_level() -> None:
    for item in terrain.rows("valid")[0], level("2", ("^", 9, 2)):
        assert Columns().decode(Columns().encode(item)) == item == Picture().decode(Picture().encode(item))
    with pytest.raises(ValueError, match="expected 12 rows"):
        Columns().encode("##")


def test_the_constraint_leaves_one_start_and_one_goal_on_firm_ground() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        constraint, array = Ends(), np.zeros((game.COLUMNS, game.ROWS), dtype=np.int64)
        state = constraint.start()
        for t, s in np.ndindex(array.shape):
            array[t, s] = random.choice(np.flatnonzero(constraint.allowed(state, game.COLUMNS - t)))
            state = constraint.step(state, int(array[t, s]))
        rows = Columns().decode(array).split("\n")
        for tile, column in (("S", 0), ("G", game.COLUMNS - 1)):
            assert [x for row in rows for x, t in enumerate(row) if t == tile] == [column]
            y = next(y for y, row in enumerate(rows) if row[column] == tile)
            assert rows[y + 1][column] in "#="
        assert constraint.accepts(state)


def test_a_broken_file_is_named(tmp_path) -> None:
    path = tmp_path / "level.txt"
    path.write_text(f"{level('2')}\n\n{level('2')[:-1]}\n")
    with pytest.raises(HeadwaterError, match=r"level.txt, level 2: expected 12 rows of 28 tiles, got 12 of 27/28"):
        Levels().read(path)
    with pytest.raises(HeadwaterError, match=r"unknown tile '\?'"):
        Levels().read(Repair().example())  # open tiles are for `repair`
    assert all(OPEN in found for found in Repair().read(Repair().example(), Repair.Options()))

"""What lets a pipeline stream a long table: rows put down as they come, files over all results, items drawn by what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import toys

from headwater.constraints import FiniteConstraint
from headwater.domain import Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.report import items

SMALL = FiniteConstraint([[[-1, 0, 0, 0, -1, -1, -1]]], [True])  # a, b and c alone


@pytest.mark.parametrize("count", [3, 5, 10, 11])
def test_a_table_puts_groups_down_and_joins_their_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(items, "GROUP", 5)
    rows: list[dict[str, Any]] = [
        {"row": i, "a": None if i < 5 else i / 2} | ({"late": f"x{i}"} if i > 8 else {}) for i in range(count)
    ]
    table = items.Table(tmp_path / "items.parquet")
    for row in rows:
        table.add(row)
        assert len(table.group) < 5
    table.close()
    names = dict.fromkeys(name for row in rows for name in row)
    assert list(table.rows()) == [{name: row.get(name) for name in names} for row in rows]
    assert [p.name for p in tmp_path.iterdir()] == ["items.parquet"]
    assert pyarrow.parquet.read_schema(tmp_path / "items.parquet").names == list(names)


def test_no_rows_make_no_file(tmp_path: Path) -> None:
    items.Table(tmp_path / "items.parquet").close()
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class _Line(Result):
    row: int
    draw: int = 0

    def write(self, folder: Path) -> list[Path]:
        return []

    def render(self) -> str:
        return f"<p>{self.row}</p>"

    def record(self) -> dict[str, Any]:
        return {"double": 2 * self.row}

    def columns_shown(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"half": record["double"] // 4}

    def problem(self) -> str | None:
        return "odd" if self.row % 2 else None


@dataclass(frozen=True)
class _Options:
    pass


class _Lines(Pipeline[int]):
    name, summary, source, verbs, model, Options, together = "lines", "lines", "a number", (), "x", _Options, 4

    def read(self, source: Path, options: Any) -> Iterator[int]:
        yield from range(int(source.read_text()))

    def run(self, model: Any, rows: Sequence[tuple[int, int]], noise: Any, options: Any) -> Iterator[_Line]:
        yield from (_Line(row) for row, _ in rows)

    def example(self) -> Path:
        raise NotImplementedError

    def finish(self, records: Iterator[Mapping[str, Any]], folder: Path) -> None:
        told = " ".join(f"{r['row']}.{r['draw']}:{r['double']}" for r in records)
        (folder / "all.txt").write_text(told)


def test_results_that_share_a_file_are_finished_together_and_a_page_draws_the_first(tmp_path: Path) -> None:
    from headwater.cli import pipeline

    source = tmp_path / "n"
    source.write_text("70")
    made = pipeline._made(_Lines(), None, source, _Options(), 0, tmp_path)  # type: ignore[arg-type]
    assert made.count == 70 and len(made.bad) == 35 and made.bad[1] == (3, "odd")
    assert len(made.shown) == 60 and made.shown[59].fragment == "<p>59</p>" and made.shown[9].record == {"half": 4}
    assert (tmp_path / "all.txt").read_text().split()[69] == "69.0:138"
    assert pyarrow.parquet.read_table(tmp_path / "items.parquet").column("why_not").to_pylist()[:2] == [None, "odd"]


def test_an_item_is_drawn_by_its_id_wherever_it_stands() -> None:
    model = toys.generator(toys.Words(), toys.recipe("words", "recurrent"))
    ids = [7, 2**62 + 1, 9, 10]
    made = list(model.sample(4, seed=5, ids=ids))
    assert list(model.sample(3, seed=5, ids=[10, 1, 7]))[::2] == [made[3], made[0]]
    assert list(model.sample(40, seed=5, ids=[*range(100, 136), *ids]))[36:] == made  # in another tile
    assert list(model.sample(4, seed=5, first=7))[2] == made[2]  # a row's number is its id unless another is given
    with pytest.raises(HeadwaterError, match=r"^ids: expected 2, one for each item; got 1$"):
        model.sample(2, ids=[1])


def test_each_item_may_have_its_own_constraint() -> None:
    model = toys.generator(toys.Words(), toys.recipe("words", "recurrent"))
    made = list(model.sample(30, constraints=[SMALL if i % 2 else None for i in range(30)]))
    assert all(word == word.lower() for word in made[1::2]) and any(word != word.lower() for word in made[::2])

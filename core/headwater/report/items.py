"""``items.parquet``, written while results come: memory holds one group of rows, whatever there is to write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: Rows of a group.
GROUP = 1000


def row_of(row: int, draw: int, problem: str | None, columns: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table: which result, whether it can be used and why not, and its own columns."""
    return {"row": row, "draw": draw, "valid": problem is None, "why_not": problem, **columns}


class Table:
    """A Parquet file of dictionaries. A column that a row lacks is null; what the columns are is known when the last row is, so
    groups wait in files beside it until then. Deterministic: no clock, no random id."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.group: list[Mapping[str, Any]] = []
        self.parts: list[Path] = []

    def add(self, row: Mapping[str, Any]) -> None:
        self.group.append(row)
        if len(self.group) == GROUP:
            self._put_down()

    def _put_down(self) -> None:
        import pyarrow
        import pyarrow.parquet

        names = dict.fromkeys(name for row in self.group for name in row)
        part = self.file.with_name(f".{self.file.name}.{len(self.parts)}")
        pyarrow.parquet.write_table(pyarrow.table({name: [row.get(name) for row in self.group] for name in names}), part)
        self.parts.append(part)
        self.group = []

    def close(self) -> None:
        """Write the file; nothing where there is no row."""
        import pyarrow
        import pyarrow.parquet

        if self.group:
            self._put_down()
        if not self.parts:
            return
        schema = pyarrow.unify_schemas([pyarrow.parquet.read_schema(part) for part in self.parts], promote_options="permissive")
        with pyarrow.parquet.ParquetWriter(self.file, schema, compression="zstd") as writer:
            for part in self.parts:
                table = pyarrow.parquet.read_table(part, memory_map=False)
                columns = [table[f.name].cast(f.type) if f.name in table.schema.names else None for f in schema]
                empty = [pyarrow.nulls(len(table), f.type) for f in schema]
                writer.write_table(pyarrow.table([e if c is None else c for c, e in zip(columns, empty, strict=True)], schema))
                part.unlink()
        self.parts = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the closed file, a group at a time."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.file) as file:
            for batch in file.iter_batches(batch_size=GROUP):
                yield from batch.to_pylist()

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


def fitted(table: Any, schema: Any) -> Any:
    """A table with the columns of a schema that joins several: those it has not are empty."""
    import pyarrow

    columns = [
        table[field.name].cast(field.type) if field.name in table.schema.names else pyarrow.nulls(len(table), field.type)
        for field in schema
    ]
    return pyarrow.table(columns, schema=schema)


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
                writer.write_table(fitted(pyarrow.parquet.read_table(part, memory_map=False), schema))
                part.unlink()
        self.parts = []

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the closed file, a group at a time."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.file) as file:
            for batch in file.iter_batches(batch_size=GROUP):
                yield from batch.to_pylist()

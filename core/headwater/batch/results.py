"""What a finished job leaves besides its shards: one table of items and one of the rows set aside, each in row order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.batch import shards
from headwater.batch.manifest import Line, sync

if TYPE_CHECKING:
    from headwater.batch.plan import Plan

TABLES = {shards.ITEMS: "items.parquet", shards.QUARANTINE: "quarantine.parquet"}


def gather(plan: Plan, lines: Mapping[int, Line]) -> None:
    """Join the shards' tables. Each is put in place whole; nothing depends on who made a shard, or when."""
    for kind, name in TABLES.items():
        parts = [plan.folder / shards.name(kind, k) for k in sorted(lines) if kind in lines[k]["left"]]
        if parts:
            _join(parts, plan.folder / name)
        else:
            (plan.folder / name).unlink(missing_ok=True)


def gathered(plan: Plan, lines: Mapping[int, Line]) -> bool:
    """Whether the joined tables are there and as new as the shards."""
    for kind, name in TABLES.items():
        parts = [plan.folder / shards.name(kind, k) for k in lines if kind in lines[k]["left"]]
        place = plan.folder / name
        if bool(parts) != place.exists():
            return False
        if parts and max(p.stat().st_mtime_ns for p in parts) > place.stat().st_mtime_ns:
            return False
    return True


def _join(parts: list[Path], place: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.unify_schemas([pyarrow.parquet.read_schema(p).remove_metadata() for p in parts], promote_options="permissive")
    fresh = place.with_name(f".{place.name}")
    with pyarrow.parquet.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(_as(pyarrow.parquet.read_table(part), schema))
    sync(fresh)
    os.replace(fresh, place)
    sync(place.parent)


def _as(table: Any, schema: Any) -> Any:
    """A shard's table with the columns of all shards: those it has not are empty."""
    import pyarrow

    columns = [
        table[field.name].cast(field.type) if field.name in table.schema.names else pyarrow.nulls(len(table), field.type)
        for field in schema
    ]
    return pyarrow.table(columns, schema=schema)

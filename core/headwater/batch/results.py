"""What a finished job leaves besides its shards: one table of items and one of the rows set aside, each in row order, and a note
of what they were joined from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.batch import shards
from headwater.batch.manifest import Line, canonical, sync
from headwater.errors import PromiseBroken
from headwater.report.items import fitted

if TYPE_CHECKING:
    from headwater.batch.plan import Plan

RESULTS = "results.json"
TABLES = {shards.ITEMS: "items.parquet", shards.QUARANTINE: "quarantine.parquet"}


def gather(plan: Plan, lines: Mapping[int, Line]) -> None:
    """Join the shards' tables. Each is put in place whole; nothing depends on who made a shard, or when."""
    for kind, name in TABLES.items():
        parts = [plan.folder / shards.name(kind, k) for k in sorted(lines) if kind in lines[k]["left"]]
        if parts:
            _join(parts, plan.folder / name)
        else:
            (plan.folder / name).unlink(missing_ok=True)
    tables = {name: shards.digest(plan.folder / name) for name in TABLES.values() if (plan.folder / name).exists()}
    fresh = plan.folder / f".{RESULTS}"
    fresh.write_text(json.dumps({"shards": _content(lines), "tables": tables}, indent=1) + "\n", encoding="utf-8")
    sync(fresh)
    os.replace(fresh, plan.folder / RESULTS)


def gathered(plan: Plan, lines: Mapping[int, Line], *, deep: bool = False) -> bool:
    """Whether the joined tables are there and of these shards; ``deep`` reads every byte of them."""
    try:
        told = json.loads((plan.folder / RESULTS).read_text("utf-8"))
        files = {name: plan.folder / name for name in TABLES.values() if (plan.folder / name).exists()}
        if told["shards"] != _content(lines) or told["tables"].keys() != files.keys():
            return False
        return all(
            shards.digest(file) == told["tables"][name] if deep else file.stat().st_size == told["tables"][name]["bytes"]
            for name, file in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _content(lines: Mapping[int, Line]) -> str:
    """A hash of what all shards hold."""
    return hashlib.sha256(canonical([[k, lines[k]["left"]] for k in sorted(lines)])).hexdigest()


def _join(parts: list[Path], place: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    fresh, part = place.with_name(f".{place.name}"), place
    try:
        found = []
        for part in parts:
            found.append(pyarrow.parquet.read_schema(part).remove_metadata())
        schema = pyarrow.unify_schemas(found, promote_options="permissive")
        empty = [field.name for field in schema if pyarrow.types.is_null(field.type)]
        for name in empty:  # a column that no row fills
            schema = schema.set(schema.get_field_index(name), pyarrow.field(name, pyarrow.string()))
        with pyarrow.parquet.ParquetWriter(fresh, schema, compression="zstd") as writer:
            for part in parts:
                writer.write_table(fitted(pyarrow.parquet.ParquetFile(part).read(), schema))
    except pyarrow.ArrowException as error:
        why = " ".join(str(error).split())[:200]
        raise PromiseBroken(
            f"{part}: cannot be joined with the others ({why}); `headwater batch verify` says if it was damaged"
        ) from None
    sync(fresh)
    os.replace(fresh, place)
    sync(place.parent)

"""Shards on disk: staged by a worker, synced, and put in place by the driver under names that the manifest then lists.

A worker writes only below a staging folder of its own task; the driver alone renames and appends to the manifest. So a task may
run twice, on whatever machine, and a kill at any point leaves either a listed shard, whole, or files that nobody listed and the
next driver replaces. The first committed run of a shard wins.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater.batch.manifest import append, sync

STAGING = ".staging"
ITEMS, QUARANTINE, GALLERY, FILES = "items", "quarantine", "gallery", "files"
#: What a shard may leave, by kind, and how a shard's own is named.
SUFFIX = {ITEMS: ".parquet", QUARANTINE: ".parquet", GALLERY: ".jsonl", FILES: ""}


def name(kind: str, shard: int) -> str:
    """
    >>> name("items", 12), name("files", 12)
    ('items/0000012.parquet', 'files/0000012')
    """
    return f"{kind}/{shard:07d}{SUFFIX[kind]}"


def digest(path: Path) -> dict[str, Any]:
    """sha256 and size of a file, or of a folder: of the sorted names and hashes of all files below it."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return {"sha256": hashlib.file_digest(stream, "sha256").hexdigest(), "bytes": path.stat().st_size}
    whole, total, count = hashlib.sha256(), 0, 0
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        found = digest(file)
        whole.update(f"{file.relative_to(path).as_posix()}\0{found['sha256']}\n".encode())
        total, count = total + found["bytes"], count + 1
    return {"sha256": whole.hexdigest(), "bytes": total, "count": count}


def sync_tree(path: Path) -> None:
    """Everything below a folder onto the disk."""
    for place, _, files in os.walk(path):
        for file in files:
            sync(Path(place, file))
        sync(Path(place))


def seal(stage: Path) -> dict[str, Any]:
    """What a worker staged for a shard, by kind, hashed and synced."""
    left = {}
    for kind in SUFFIX:
        path = stage / kind
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        if path.exists():
            left[kind] = digest(path)
    sync_tree(stage)
    return left


def commit(folder: Path, stage: Path, line: Mapping[str, Any]) -> None:
    """Put a sealed shard in its place and list it. Raises :class:`FileNotFoundError`, and removes nothing, where it is gone."""
    for kind in line["left"]:
        (stage / kind).stat()
    for kind in SUFFIX:
        place = folder / name(kind, line["shard"])
        remove(place)  # of a driver that was killed before it listed it
        if kind in line["left"]:
            place.parent.mkdir(exist_ok=True)
            os.rename(stage / kind, place)
        if place.parent.exists():
            sync(place.parent)
    append(folder, line)
    shutil.rmtree(stage, ignore_errors=True)


def remove(place: Path) -> None:
    """A file or a folder, if it is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def damage(folder: Path, line: Mapping[str, Any], *, deep: bool) -> str:
    """What is wrong with a listed shard's files, empty if nothing; ``deep`` reads every byte, else only presence and sizes."""
    for kind in SUFFIX:
        place, told = folder / name(kind, line["shard"]), line["left"].get(kind)
        if told is None:
            if place.exists():
                return f"{name(kind, line['shard'])} is there but not listed"
            continue
        if not place.exists():
            return f"{name(kind, line['shard'])} is missing"
        if kind == FILES and not deep:
            continue  # a folder's size is only known by looking at every file
        if place.stat().st_size != told["bytes"] if not deep else digest(place) != told:
            return f"{name(kind, line['shard'])} was changed after it was written"
    return ""

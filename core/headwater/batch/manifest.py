"""The manifest: one checked line a committed shard, appended and synced. What it does not list was not made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.jsonl"
Line = dict[str, Any]


def canonical(value: Any) -> bytes:
    """JSON with one spelling, for hashing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sealed(line: Mapping[str, Any]) -> bytes:
    """A line with its own checksum."""
    check = hashlib.sha256(canonical(line)).hexdigest()[:32]
    return canonical({**line, "check": check}) + b"\n"


def read(folder: Path) -> tuple[dict[int, Line], list[str]]:
    """The committed shards by number, the first line of each counting, and what is wrong with other lines.

    A last line that was cut off by a kill is no fault: its shard was not committed."""
    shards: dict[int, Line] = {}
    faults: list[str] = []
    try:
        raw = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return shards, faults
    lines = raw.split(b"\n")
    for number, text in enumerate(lines, 1):
        if not text:
            continue
        line = _opened(text)
        if line is None:
            if number < len(lines):  # it was ended, so it was whole once
                faults.append(f"line {number} of {MANIFEST} was changed after it was written")
        elif line["shard"] in shards:
            faults.append(f"line {number} of {MANIFEST} lists shard {line['shard']} a second time")
        else:
            shards[line["shard"]] = line
    return shards, faults


def ended(folder: Path) -> bool:
    """Whether the last line is whole, or nothing is there yet."""
    try:
        with (folder / MANIFEST).open("rb") as stream:
            return not stream.seek(0, os.SEEK_END) or (stream.seek(-1, os.SEEK_END), stream.read(1))[1] == b"\n"
    except FileNotFoundError:
        return True


def _opened(text: bytes) -> Line | None:
    try:
        line = json.loads(text)
        check = line.pop("check")
        good = check == hashlib.sha256(canonical(line)).hexdigest()[:32] and isinstance(line["shard"], int)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return line if good else None


def append(folder: Path, line: Mapping[str, Any]) -> None:
    """Commit a shard. When this returns, the line is on the disk."""
    fresh = not (folder / MANIFEST).exists()
    with (folder / MANIFEST).open("ab") as stream:
        stream.write(sealed(line))
        stream.flush()
        os.fsync(stream.fileno())
    if fresh:
        sync(folder)


def rewrite(folder: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """The manifest with just these lines, put in place whole."""
    place = folder / f".{MANIFEST}"
    with place.open("wb") as stream:
        stream.writelines(map(sealed, lines))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(place, folder / MANIFEST)
    sync(folder)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

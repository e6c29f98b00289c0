"""Customer and product tables, CSV or Parquet, read piece by piece: only the columns asked for, every CSV cell as it is written."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater_marketing.facts import plain


def rows(path: Path, columns: Sequence[str], limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries of the named columns. A CSV's cells are strings ("007" stays); Parquet keeps its types.

    The delimiter is the one of comma, semicolon and tab that the header has most of. Raises :class:`HeadwaterError` for a file
    that is missing, empty, not a table, in another encoding than UTF-8 (naming the line), or without one of the columns, and for
    a CSV row with too few or too many cells."""
    if not path.is_file():
        raise HeadwaterError(f"{path}: no such file; expected a CSV or Parquet table")
    with open(path, "rb") as file:
        parquet = file.read(4) == b"PAR1"
    found = _parquet(path, columns) if parquet else _csv(path, columns)
    yield from itertools.islice(found, limit)


def need(path: Path | str, columns: Sequence[str], has: Sequence[str]) -> None:
    """Raises :class:`HeadwaterError` where a table (its file, or what it is) lacks a column or has it twice."""
    absent = [name for name in columns if name not in has]
    if absent:
        raise HeadwaterError(f"{path}: has no column {', '.join(map(repr, absent))}; it has {', '.join(map(repr, has))}")
    twice = [name for name in columns if list(has).count(name) > 1]
    if twice:
        raise HeadwaterError(f"{path}: has two columns {twice[0]!r}; rename one")


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            need(path, columns, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=4096, columns=list(columns)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise HeadwaterError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None


def _csv(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """By Python's own reader: a line at a time, so memory does not grow with the file."""
    names, delimiter = header(path)
    need(path, columns, names)
    places = [(name, names.index(name)) for name in columns]
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            next(reader)
            for cells in reader:
                if cells and len(cells) != len(names):
                    raise HeadwaterError(f"{path}: line {reader.line_num} has {len(cells)} cells; the header has {len(names)}")
                if cells:
                    yield {name: cells[place] for name, place in places}
        except UnicodeDecodeError as error:
            raise HeadwaterError(f"{path}: {_bad_line(path) or error}") from None
        except csv.Error as error:
            raise HeadwaterError(f"{path}: line {reader.line_num} cannot be read as CSV ({error})") from None


def header(path: Path) -> tuple[list[str], str]:
    """The columns' names of a CSV, and its delimiter; see :func:`rows`."""
    with open(path, "rb") as file:
        first = file.readline(1 << 20)
    if first[:4] == b"PK\x03\x04":
        raise HeadwaterError(f"{path}: is an Excel workbook; save the sheet as CSV (in Excel: CSV UTF-8)")
    if re.fullmatch(rb"(\xef\xbb\xbf)?sep=.\r?\n", first):
        raise HeadwaterError(f"{path}: line 1 is a note to Excel ({first.decode('utf-8-sig').strip()}); remove it")
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise HeadwaterError(f"{path}: is UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)")
    try:
        text = first.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        raise HeadwaterError(f"{path}: {_bad_line(path)}") from None
    if not text.strip():
        raise HeadwaterError(f"{path}: is empty or has no header; expected the columns' names in the first line")
    delimiter = max(",;\t", key=text.count)
    try:
        return [name.strip() for name in next(csv.reader([text], delimiter=delimiter, strict=True))], delimiter
    except csv.Error as error:
        raise HeadwaterError(f"{path}: line 1 cannot be read as CSV ({error})") from None


def _bad_line(path: Path) -> str | None:
    """Which line is not UTF-8, None where all are; lines one by one, so a file of any size."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"line {number} is not UTF-8 (byte {line[error.start]:#04x} at {error.start + 1}); save the file as UTF-8"
    return None


def keyed(path: Path, key: str, columns: Sequence[str]) -> Mapping[str, dict[str, Any]]:
    """A product table by its key, in memory. Raises :class:`HeadwaterError` for an empty or repeated key."""
    return by_key(rows(path, list(dict.fromkeys([key, *columns]))), key, str(path))


def by_key(table: Iterable[Mapping[str, Any]], key: str, where: str) -> Mapping[str, dict[str, Any]]:
    """The rows of a product table by its key; see :func:`keyed`."""
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(table):
        name = plain(row[key])
        if not name:
            raise HeadwaterError(f"{where}: row {number} has no {key}")
        if name in found:
            raise HeadwaterError(f"{where}: row {number} repeats the {key} {name!r}; each product once")
        found[name] = dict(row)
    return found

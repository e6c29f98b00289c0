"""What a model made: items with their rows, conditions, validity and metrics, to look at, to frame and to save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.domain import Domain
from headwater.knobs import asked, fields

if TYPE_CHECKING:
    import pandas
    import pyarrow


@dataclass(frozen=True)
class Samples(Sequence[Any]):
    """Items in row order. ``extra`` holds further columns by name (a likelihood, a distance)."""

    domain: Domain[Any, Any]
    items: list[Any]
    wishes: list[Any]
    rows: list[int]
    seed: int
    model: str
    extra: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def problems(self) -> list[str | None]:
        """Why each item is invalid, None where it is valid."""
        return [self.domain.problem(item, wish) for item, wish in zip(self.items, self.wishes, strict=True)]

    def records(self) -> list[dict[str, Any]]:
        """One plain dictionary an item: row, what was asked, seed, model, valid, why not, and the domain's own columns."""
        out = []
        for i, problem in enumerate(self.problems()):
            wanted = {
                f"asked_{f.name}": asked(self.wishes[i]).get(f.name) for f in fields(type(self.wishes[i])) if f.kind != "given"
            }
            more = {name: column[i] for name, column in self.extra.items()}
            made = self.domain.record(self.items[i])
            head = {"row": self.rows[i], "seed": self.seed, "model": self.model, "valid": problem is None, "why_not": problem}
            out.append({**head, **wanted, **made, **more})
        return out

    def table(self) -> pyarrow.Table:
        """The records as an Arrow table."""
        import pyarrow

        return pyarrow.Table.from_pylist(self.records())

    def frame(self) -> pandas.DataFrame:
        """The records as a DataFrame."""
        import pandas

        return pandas.DataFrame(self.records())

    def save(self, folder: str | Path) -> Path:
        """Write the field's own files, ``items.parquet``, ``index.html`` and return the page's path."""
        from headwater.report.page import save_samples

        return save_samples(self, Path(folder))

    def _repr_html_(self) -> str:
        shown = "".join(
            f"<figure style='display:inline-block;margin:6px'>{self.domain.render(i)}</figure>" for i in self.items[:12]
        )
        valid = sum(p is None for p in self.problems())
        lead = f"<b>{len(self)}</b> {escape(self.domain.name)} from {escape(self.model)}, {valid} valid, seed {self.seed}"
        return f"<p>{lead}</p>{shown}"

    def __repr__(self) -> str:
        return f"Samples({len(self)} {self.domain.name} from {self.model!r}, seed={self.seed})"


def parquet_bytes(table: pyarrow.Table) -> bytes:
    """Deterministic Parquet: no clock, no random id."""
    import io

    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()

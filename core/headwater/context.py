"""From conditions to what a network reads.

A user's condition is a few optional knobs and arrays; a network reads one :class:`Context`. In between, :class:`Conditions` holds
a batch as raw tensors with a presence bit for each field, and the :class:`Conditioner`, trained with the network, embeds them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from headwater.errors import HeadwaterError
from headwater.knobs import Field, Given, Knob
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Tokens


@dataclass(frozen=True)
class Context:
    """What a network is told: ``pooled`` (rows, width) for the whole item; ``cells`` on the item's own cells, (rows, channels,
    *size) for ``Grid`` and (rows, length, channels) for ``Tokens``; ``sequence`` (rows, tokens, width) with its ``mask`` (rows,
    tokens), True where there is a token. ``null`` is the same context with every field absent, for guidance. ``below`` is what the
    model is told whose latent this one learns, where it reads arrays."""

    pooled: Tensor | None = None
    cells: Tensor | None = None
    sequence: Tensor | None = None
    mask: Tensor | None = None
    null: Context | None = None
    below: Context | None = None

    def __getitem__(self, index: slice | Tensor) -> Context:
        def take(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[index]

        null, below = (None if c is None else c[index] for c in (self.null, self.below))
        return Context(take(self.pooled), take(self.cells), take(self.sequence), take(self.mask), null, below)

    def doubled(self) -> Context:
        """The rows with their condition, then the same rows with none: one network call serves guidance."""
        assert self.null is not None

        def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else torch.cat([a, b])

        n = self.null
        return Context(
            both(self.pooled, n.pooled), both(self.cells, n.cells), both(self.sequence, n.sequence), both(self.mask, n.mask)
        )


@dataclass(frozen=True)
class Conditions:
    """A batch of conditions as tensors. ``values`` (rows, scalars): numbers as they are, switches and choices as indices, NaN
    where absent. ``given``: for each array field its values (rows, …) and presence (rows,)."""

    values: Tensor
    given: Mapping[str, tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return self.values.shape[0]

    @classmethod
    def of(cls, fields: Sequence[Field], wishes: Sequence[Any], space: Space) -> Conditions:
        """From condition objects. Raises :class:`HeadwaterError` for a given array of the wrong shape."""
        scalars = [f for f in fields if f.kind != "given"]
        rows = [[_scalar(f, getattr(w, f.name)) for f in scalars] for w in wishes]
        values = torch.tensor(rows, dtype=torch.float32).reshape(len(wishes), len(scalars))
        given = {}
        for f in fields:
            if f.kind == "given":
                shape, arrays = given_shape(f, space), [getattr(w, f.name) for w in wishes]
                for array in arrays:
                    if array is not None and tuple(array.shape) != shape:
                        raise HeadwaterError(f"{f.name}: expected an array of shape {shape}; got {tuple(array.shape)}")
                dtype = torch.float32 if _spec(f).vocab is None else torch.int64
                stack = [torch.zeros(shape, dtype=dtype) if a is None else torch.as_tensor(a, dtype=dtype) for a in arrays]
                present = torch.tensor([a is not None for a in arrays], dtype=torch.bool)
                given[f.name] = (torch.stack(stack) if stack else torch.zeros(0, *shape, dtype=dtype), present)
        return cls(values, given)

    def absent(self) -> Conditions:
        """The same rows asking for nothing."""
        given = {k: (v, torch.zeros_like(p)) for k, (v, p) in self.given.items()}
        return Conditions(torch.full_like(self.values, math.nan), given)

    def dropped(self, noise: Noise, *, given: float | None = None) -> Conditions:
        """Fields hidden at random, row by row: each row draws how generous it is, then keeps each field with that probability,
        so that training sees every field alone, every pair, all and none. With ``given``, arrays are hidden in that share of the
        rows, whatever becomes of the other fields."""
        names = list(self.given)
        draws = noise.fold("drop").uniform(1 + self.values.shape[1] + len(names)).to(self.values.device)
        keep = draws[:, 1:] < (1.2 * draws[:, :1] - 0.1)
        count = self.values.shape[1]
        values = torch.where(keep[:, :count], self.values, math.nan)
        told = keep[:, count:] if given is None else draws[:, 1 + count :] >= given
        arrays = {k: (v, p & told[:, i]) for i, (k, (v, p)) in enumerate(self.given.items())}
        return Conditions(values, arrays)

    def to(self, device: str | torch.device) -> Conditions:
        return Conditions(self.values.to(device), {k: (v.to(device), p.to(device)) for k, (v, p) in self.given.items()})


def _spec(field: Field) -> Given:
    assert isinstance(field.spec, Given)
    return field.spec


def _slot(field: Field) -> str:
    """The field's name among embeddings; ``nn.ModuleDict`` refuses those of its own attributes, such as "type" or "keys"."""
    return field.name + "_" * hasattr(nn.ModuleDict, field.name)


def given_shape(field: Field, space: Space) -> tuple[int, ...]:
    """The shape of one row of an array field: (size, *grid) or (length, size) on cells, (size,) beside a vector or as a sequence;
    with ``vocab``, cells carry integers and have no channel axis."""
    spec = _spec(field)
    if spec.kind == "sequence":
        return (spec.size,)
    if isinstance(space, Grid):
        return space.size if spec.vocab else (spec.size, *space.size)
    if isinstance(space, Tokens):
        return (space.length,) if spec.vocab else (space.length, spec.size)
    return () if spec.vocab else (spec.size,)


def _scalar(field: Field, value: Any) -> float:
    if value is None:
        return math.nan
    return float(field.choices.index(str(value))) if field.kind == "choice" else float(value)


def fields_to_json(fields: Sequence[Field]) -> list[dict[str, Any]]:
    return [{**asdict(f), "choices": list(f.choices)} for f in fields]


def fields_from_json(data: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    out = []
    for entry in data:
        spec = Given(**entry["spec"]) if entry["kind"] == "given" else Knob(**entry["spec"])
        out.append(Field(entry["name"], entry["kind"], spec, tuple(entry["choices"])))
    return tuple(out)


class Conditioner(nn.Module):
    """Embeds :class:`Conditions` as a :class:`Context`; trained with the network it serves.

    A number enters standardised, with the first two Fourier modes of its standard score, times its presence bit; a choice by an
    embedding whose index 0 means absent; arrays on cells keep their values beside a presence plane. ``width`` is the width of
    ``pooled`` and ``sequence``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, fields: Sequence[Field], space: Space, width: int = 128) -> None:
        super().__init__()
        self.fields, self.space, self.width = tuple(fields), space, width
        self.embedded = self.fields  # all of them, but where some are for another model
        self.scalars = [f for f in fields if f.kind != "given"]
        self.numbers = [i for i, f in enumerate(self.scalars) if f.kind in ("number", "integer")]
        self.register_buffer("mean", torch.zeros(len(self.scalars)))
        self.register_buffer("std", torch.ones(len(self.scalars)))
        self.embeddings = nn.ModuleDict()
        for i, f in enumerate(self.scalars):
            if f.kind == "text":
                raise ValueError(f"{f.name}: a network cannot read free text; make it a choice, or a given sequence")
            if i not in self.numbers:
                self.embeddings[_slot(f)] = nn.Embedding(1 + max(2, len(f.choices)), width)
        for f in self.fields:
            if f.kind == "given" and (vocab := _spec(f).vocab):
                self.embeddings[_slot(f)] = nn.Embedding(vocab, width if _spec(f).kind == "sequence" else _spec(f).size)
            if f.kind == "given" and _spec(f).kind == "sequence":
                if not vocab:
                    raise ValueError(f"{f.name}: a given sequence holds tokens; say how many there are (vocab)")
                self.embeddings[f.name + "_position"] = nn.Embedding(_spec(f).size, width)
        self.mix = (
            nn.Sequential(nn.Linear(6 * len(self.numbers), width), nn.SiLU(), nn.Linear(width, width)) if self.numbers else None
        )

    @property
    def pooled_width(self) -> int:
        """The width of ``Context.pooled``, 0 where there is none."""
        return self.width if self.scalars else 0

    @property
    def cells_width(self) -> int:
        """The channels of ``Context.cells``, 0 where there are none: each field's own and its presence."""
        return sum(_spec(f).size + 1 for f in self.embedded if f.kind == "given" and _spec(f).kind == "cells")

    @property
    def sequence_width(self) -> int:
        return self.width if any(f.kind == "given" and _spec(f).kind == "sequence" for f in self.embedded) else 0

    def fit(self, values: Tensor) -> None:
        """Take mean and standard deviation of each number from labelled rows (rows, scalars); NaN is absent."""
        for i in self.numbers:
            column = values[:, i][~values[:, i].isnan()].double()
            if len(column):
                self.mean[i] = column.mean()
                self.std[i] = column.std(correction=0).clamp(min=1e-6)

    def forward(self, conditions: Conditions) -> Context:
        pooled = self._pooled(conditions.values) if self.scalars else None
        cells, sequences, masks = [], [], []
        for f in self.embedded:
            if f.kind != "given":
                continue
            value, present = conditions.given[f.name]
            if _spec(f).kind == "sequence":
                sequences.append(self.embeddings[_slot(f)](value) + self.embeddings[f.name + "_position"].weight)
                masks.append((value != 0) & present[:, None])
            else:
                cells.append(self._cells(f, value, present))
        axis = 1 if isinstance(self.space, Grid) else -1
        return Context(
            pooled,
            torch.cat(cells, axis) if cells else None,
            torch.cat(sequences, 1) if sequences else None,
            torch.cat(masks, 1) if masks else None,
        )

    def with_null(self, conditions: Conditions) -> Context:
        """The context with its null beside it, as guidance needs."""
        return replace(self.forward(conditions), null=self.forward(conditions.absent()))

    def _pooled(self, values: Tensor) -> Tensor:
        out = torch.zeros(values.shape[0], self.width, device=values.device)
        if self.mix is not None:
            here = ~values[:, self.numbers].isnan()
            z = ((values - self.mean) / self.std)[:, self.numbers].nan_to_num(0.0).clamp(-8, 8)
            parts = torch.stack([z, z.sin(), z.cos(), (2 * z).sin(), (2 * z).cos(), torch.ones_like(z)], -1)
            out = out + self.mix((parts * here[..., None]).flatten(1))
        for i, f in enumerate(self.scalars):
            if i not in self.numbers:
                out = out + self.embeddings[_slot(f)](values[:, i].add(1).nan_to_num(0.0).long())
        return out

    def _cells(self, field: Field, value: Tensor, present: Tensor) -> Tensor:
        grid = isinstance(self.space, Grid)
        if _spec(field).vocab:
            value = self.embeddings[_slot(field)](value)
            value = value.movedim(-1, 1) if grid else value
        shape = (value.shape[0], 1, *value.shape[2:]) if grid else (*value.shape[:-1], 1)
        bit = present.to(value.dtype).reshape(-1, *[1] * (value.ndim - 1))
        return torch.cat([value * bit, bit.expand(shape)], 1 if grid else -1)

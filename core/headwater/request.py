"""What is asked of a model, checked before anything is made. Each function gives an argument as families take it, or raises
:class:`HeadwaterError` naming it, what was expected and what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwater.errors import HeadwaterError
from headwater.families.contract import Kept, Steer
from headwater.spaces import Tokens

if TYPE_CHECKING:
    from headwater.constraints import Constraint
    from headwater.domain import Codec
    from headwater.families.contract import Family
    from headwater.noise import Noise


def whole(value: Any, low: int, high: int) -> bool:
    """Whether it is a whole number from ``low`` to ``high``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high


def check_steer(name: str, family: Family, steer: Steer) -> Steer:
    """``steer`` itself, where its numbers are in range and the model ``name`` has a use for them."""
    for flag, value, good, want in (
        ("--guidance", steer.guidance, 0 <= steer.guidance <= 50, "a number from 0 to 50"),
        ("--temperature", steer.temperature, 0 < steer.temperature <= 10, "a number above 0, at most 10"),
        ("--top-p", steer.top_p, 0 < steer.top_p <= 1, "a number above 0, at most 1"),
        ("--steps", steer.steps, steer.steps is None or whole(steer.steps, 1, 10000), "a whole number from 1 to 10000"),
        ("--length-candidates", steer.length_candidates, whole(steer.length_candidates, 1, 100), "a whole number from 1 to 100"),
    ):
        if not good:
            raise HeadwaterError(f"{flag}: expected {want}; got {value}")
    if steer.steps is not None and not family.stepped:
        raise HeadwaterError(f"--steps: {name} does not work in steps of a chosen number; leave it out")
    if steer.guidance != 1.0 and not family.guided:
        raise HeadwaterError(f"--guidance: {name} has nothing to press harder; leave it out")
    if steer.top_p != 1.0 and not family.narrowed:
        raise HeadwaterError(f"--top-p: {name} draws no tokens one by one; leave it out")
    if steer.length_candidates != 1 and not family.length_first:
        raise HeadwaterError(f"--length-candidates: {name} draws no length first; leave it out")
    return steer


@dataclass(frozen=True)
class PerItem:
    """What each of ``n`` items from row ``first`` on is bound by, is as long as and is drawn by, where that is told."""

    first: int
    n: int
    constraints: Sequence[Constraint | None] | None
    lengths: Tensor | None
    ids: Tensor | None

    def of_tile(self, rows: Tensor, noise: Noise, steer: Steer) -> tuple[Tensor, Noise, Steer]:
        """Which items a tile's rows are, their keys, and how they are drawn. What fills a tile is never looked at: it counts as the
        nearest item, and is bound by nothing."""
        places = rows - self.first
        here = places.clamp(0, self.n - 1)
        bound = self.constraints and [self.constraints[i] if 0 <= i < self.n else None for i in places.tolist()]
        lengths = None if self.lengths is None else self.lengths[here]
        keys = noise.rows(rows if self.ids is None else self.ids[here])
        return here, keys, replace(steer, constraints=bound, lengths=lengths)


def per_item(
    name: str,
    codec: Codec[Any],
    first: int,
    n: int,
    constraints: Sequence[Constraint | None] | None,
    lengths: Sequence[int] | None,
    ids: Sequence[int] | None,
) -> PerItem:
    """Of items of the model ``name``, with the codec's constraint where none are told."""
    return PerItem(first, n, constraints_of(codec, n, constraints), lengths_of(name, codec, n, lengths), ids_of(n, ids))


def constraints_of(
    codec: Codec[Any], n: int, constraints: Sequence[Constraint | None] | None
) -> Sequence[Constraint | None] | None:
    """The constraint of each of ``n`` items: its own, or the codec's."""
    if constraints is not None and len(constraints) != n:
        raise HeadwaterError(f"constraints: expected {n}, one for each item; got {len(constraints)}")
    usual = codec.constraint()
    return constraints if constraints is not None else None if usual is None else [usual] * n


def ids_of(n: int, ids: Sequence[int] | None) -> Tensor | None:
    """What each of ``n`` items is drawn by, (n,), where that is not its row's number."""
    if ids is None:
        return None
    if len(ids) != n:
        raise HeadwaterError(f"ids: expected {n}, one for each item; got {len(ids)}")
    for i, value in enumerate(ids):
        if not whole(value, 0, 2**63 - 1):
            raise HeadwaterError(f"ids: expected whole numbers from 0 to 2^63 - 1; got {value!r} for item {i}")
    return torch.tensor(list(ids), dtype=torch.int64)


def lengths_of(name: str, codec: Codec[Any], n: int, lengths: Sequence[int] | None) -> Tensor | None:
    """How many positions each of ``n`` items of the model ``name`` is to have, (n,), where that is told."""
    if lengths is None:
        return None
    space = codec.space
    if not isinstance(space, Tokens):
        raise HeadwaterError(f"lengths: items of {name} are no sequences")
    if len(lengths) != n or not all(whole(length, 0, space.length) for length in lengths):
        raise HeadwaterError(f"lengths: expected {n} whole numbers from 0 to {space.length}; got {list(lengths)[:5]}")
    return torch.tensor(list(lengths), dtype=torch.int64)


def prefix_of(codec: Codec[Any], start: Any, device: torch.device) -> Kept:
    """One row that keeps ``start``: text in the domain's notation, or tokens (positions, streams)."""
    space = codec.space
    if not isinstance(space, Tokens):
        raise HeadwaterError("--start: only models over token sequences can continue a beginning")
    try:
        cells = torch.from_numpy(codec.prefix(start)) if isinstance(start, str) else torch.as_tensor(start)
    except (ValueError, TypeError, RuntimeError) as error:  # the last two of what is no array
        raise HeadwaterError(f"--start: {error}") from None
    if cells.ndim != 2 or cells.shape[1] != space.streams or len(cells) >= space.length:
        want = f"tokens of shape (positions, {space.streams}), fewer than {space.length} positions"
        raise HeadwaterError(f"--start: expected {want}; got {tuple(cells.shape)}")
    known = (cells >= 0) & (cells < torch.tensor(space.vocabs)) & (cells == cells.long())
    for at in (~known).any(dim=1).nonzero()[:1, 0].tolist():
        below = ", ".join(map(str, space.vocabs))
        raise HeadwaterError(f"--start: expected whole numbers below {below}; got {cells[at].tolist()} at position {at}")
    values = torch.zeros(1, *space.shape, dtype=torch.long)
    values[0, : len(cells)] = cells
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask[0, : len(cells)] = True
    return Kept(values.to(device), mask.to(device))

"""A model: one family with the conditioner that feeds it, built from a recipe. No data, no domain object, no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwater.context import Conditioner, Conditions
from headwater.errors import HeadwaterError
from headwater.families import FAMILIES, family
from headwater.families.contract import Family, Kind
from headwater.knobs import Field
from headwater.networks import build as build_network
from headwater.spaces import Space

if TYPE_CHECKING:
    from headwater.recipe import Recipe


class Model(nn.Module):
    """``family`` and ``conditioner`` under one ``state_dict``: keys begin with the part's name or ``conditioner``."""

    def __init__(self, family: Family, conditioner: Conditioner) -> None:
        super().__init__()
        self.family, self.conditioner = family, conditioner
        self.family_parts = nn.ModuleDict(dict(family.parts()))

    @property
    def space(self) -> Space:
        return self.family.space

    def conditions(self, wishes: Sequence[Any]) -> Conditions:
        """Wishes as a batch on this model's device."""
        device = next(self.family_parts.parameters()).device
        return Conditions.of(self.conditioner.fields, wishes, self.space).to(device)

    def tensors(self) -> dict[str, Tensor]:
        """Every weight and buffer by name, as a model file holds them."""
        return {k.removeprefix("family_parts."): v for k, v in self.state_dict().items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises ``ValueError`` naming a missing, unknown or misshapen tensor."""
        mine = self.tensors()
        for name in sorted(mine.keys() | tensors.keys()):
            if name not in tensors or name not in mine:
                raise ValueError(f"tensor {name!r} is {'missing' if name not in tensors else 'unknown'}")
            if mine[name].shape != tensors[name].shape:
                raise ValueError(f"tensor {name!r} has shape {tuple(tensors[name].shape)}, expected {tuple(mine[name].shape)}")
        with torch.no_grad():
            for name, tensor in mine.items():
                tensor.copy_(tensors[name])


def build(recipe: Recipe, space: Space, fields: Sequence[Field], networks: Mapping[str, Callable[..., nn.Module]]) -> Model:
    """A model with fresh weights. ``fields`` are those of the domain's condition; given arrays that the recipe does not train are
    left out, and so is everything where the recipe labels nothing. Raises :class:`HeadwaterError` for options that do not fit."""
    if unknown := set(recipe.given) - {f.name for f in fields if f.kind == "given"}:
        raise HeadwaterError(f"recipe for {recipe.family}: given: no array field of the condition is named {sorted(unknown)[0]!r}")
    known = [f for f in fields if (f.name in recipe.given if f.kind == "given" else recipe.labels != 0)]
    try:
        conditioner = Conditioner(known, space, recipe.condition_width)
        lives = FAMILIES[recipe.family][2]
        if not isinstance(space, lives):
            raise ValueError(f"lives on {' and '.join(kind.__name__ for kind in lives)}, not on {space}")
        make = Workshop(recipe, space, networks, conditioner.pooled_width, conditioner.cells_width, conditioner.sequence_width)
        made = family(recipe.family).build(space, make, recipe.options)
    except (TypeError, ValueError) as error:
        raise HeadwaterError(f"recipe for {recipe.family}: {error}") from error
    return Model(made, conditioner)


@dataclass(frozen=True)
class Workshop:
    """Makes the networks of one recipe: the :class:`~headwater.families.contract.Maker` that a family is built with."""

    recipe: Recipe
    space: Space
    networks: Mapping[str, Callable[..., nn.Module]]
    pooled: int
    cells: int
    sequence: int

    def choice(self, role: str = "network") -> tuple[str, Mapping[str, Any]]:
        """See :meth:`headwater.families.contract.Maker.choice`."""
        if role == "network":
            return self.recipe.network.name, self.recipe.network.options
        if role not in self.recipe.networks:
            raise ValueError(f"networks: this family needs one for {role!r}")
        return self.recipe.networks[role].name, self.recipe.networks[role].options

    def __call__(
        self,
        kind: Kind,
        role: str = "network",
        *,
        space: Space | None = None,
        default: tuple[str, Mapping[str, Any]] | None = None,
        pooled: int | None = None,
        **sizes: int,
    ) -> nn.Module:
        """See :class:`headwater.families.contract.Maker`."""
        named = role == "network" or role in self.recipe.networks
        name, options = self.choice(role) if named or default is None else default
        pooled = self.pooled if pooled is None else pooled
        domain, _, own = name.rpartition(":")
        if domain:
            if own not in self.networks:
                raise ValueError(f"the domain has no network {own!r}; it has {', '.join(self.networks) or 'none'}")
            widths = {"pooled": pooled, "cells": self.cells, "sequence": self.sequence}
            return self.networks[own](space or self.space, **widths, **sizes, **options)
        return build_network(kind, name, space or self.space, options, pooled, self.cells, self.sequence, **sizes)

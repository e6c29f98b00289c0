"""A model: one family with the conditioner that feeds it, built from a recipe. No data, no domain object, no files.

A recipe that names an ``autoencoder`` makes a model of two: its family learns that model's latent, which stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwater.context import Conditioner, Conditions, Context
from headwater.errors import HeadwaterError
from headwater.families import FAMILIES, family
from headwater.families.contract import Family, Kind
from headwater.families.latent import Latent
from headwater.families.vae import VAE
from headwater.knobs import Field, Given
from headwater.networks import build as build_network
from headwater.spaces import Space, Vector

if TYPE_CHECKING:
    from headwater.recipe import Recipe


class Model(nn.Module):
    """``family`` and ``conditioner`` of a ``recipe`` under one ``state_dict``: keys begin with the part's name or ``conditioner``,
    those of the model whose latent is learnt, if any, with ``autoencoder``. That one is frozen: it never trains.

    ``shipped`` is the name and the sha256 of the shipped model that this one is, unchanged: a model over its latent names it in
    its file instead of holding it too."""

    shipped: Mapping[str, str] | None = None

    def __init__(self, family: Family, conditioner: Conditioner, recipe: Recipe, autoencoder: Model | None = None) -> None:
        super().__init__()
        self.family, self.conditioner, self.recipe = family, conditioner, recipe
        self.family_parts = nn.ModuleDict(dict(family.parts()))
        self.autoencoder = None if autoencoder is None else autoencoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Model:
        """As of any module, but the autoencoder stays as it is used: without dropout."""
        super().train(mode)
        if self.autoencoder is not None:
            self.autoencoder.eval()
        return self

    @property
    def space(self) -> Space:
        return self.family.space

    def conditions(self, wishes: Sequence[Any]) -> Conditions:
        """Wishes as a batch on this model's device."""
        device = next(self.family_parts.parameters()).device
        return Conditions.of(self.conditioner.fields, wishes, self.space).to(device)

    def blank(self, rows: int) -> Context:
        """The context of rows that ask for nothing."""
        nothing = SimpleNamespace(**dict.fromkeys((f.name for f in self.conditioner.fields), None))
        context: Context = self.conditioner(self.conditions([nothing] * rows))
        return context

    def tensors(self) -> dict[str, Tensor]:
        """Every weight and buffer by name, as a model file holds them."""
        return {k.replace("family_parts.", "", 1): v for k, v in self.state_dict().items()}

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


def build(
    recipe: Recipe,
    space: Space,
    fields: Sequence[Field],
    networks: Mapping[str, Callable[..., nn.Module]],
    autoencoder: Model | None = None,
) -> Model:
    """A model with fresh weights. ``fields`` are those of the domain's condition; given arrays that the recipe does not train are
    left out, and so is everything where the recipe labels nothing. A recipe with an ``autoencoder`` is given that model here, which
    is frozen from then on. Raises :class:`HeadwaterError` for options that do not fit."""
    if unknown := set(recipe.given) - {f.name for f in fields if f.kind == "given"}:
        raise HeadwaterError(f"recipe for {recipe.family}: given: no array field of the condition is named {sorted(unknown)[0]!r}")
    known = [f for f in fields if (f.name in recipe.given if f.kind == "given" else recipe.labels != 0)]
    try:
        above = [f for f in known if autoencoder is None or f not in passed_on(autoencoder)]
        conditioner = Conditioner(above, space, recipe.condition_width)
        if autoencoder is not None and len(above) < len(known):
            conditioner = PassingOn(above, space, recipe.condition_width, known, autoencoder.conditioner)
        inside = learnt_space(recipe, space, above, autoencoder)
        lives = FAMILIES[recipe.family][2]
        if not isinstance(inside, lives):
            raise ValueError(f"lives on {' and '.join(kind.__name__ for kind in lives)}, not on {inside}")
        make = Workshop(recipe, inside, networks, conditioner.pooled_width, conditioner.cells_width, conditioner.sequence_width)
        made = family(recipe.family).build(inside, make, recipe.options)
        if autoencoder is not None:
            assert isinstance(autoencoder.family, VAE)
            made = Latent(autoencoder.family, made, autoencoder.blank)
        if recipe.guidance != 1.0 and not made.guided:
            raise ValueError(f"guidance: {recipe.family} has nothing to press harder; leave it out")
    except (TypeError, ValueError) as error:
        raise HeadwaterError(f"recipe for {recipe.family}: {error}") from error
    return Model(made, conditioner, recipe, autoencoder)


def passed_on(autoencoder: Model) -> list[Field]:
    """The array fields that a model over this one's latent takes for this one alone."""
    return [f for f in autoencoder.conditioner.fields if f.kind == "given"]


class PassingOn(Conditioner):
    """The conditioner of a model over another's latent, ``below``: the context of its own fields, ``above``, and beside it what
    arrays tell the other one, whose knobs stay absent: they are in its latent."""

    def __init__(self, above: Sequence[Field], space: Space, width: int, fields: Sequence[Field], below: Conditioner) -> None:
        super().__init__(above, space, width)
        self.fields = tuple(fields)
        self._below = (below,)  # in a tuple: no part of this one

    def forward(self, conditions: Conditions) -> Context:
        below = self._below[0]
        arrays = {f.name: conditions.given[f.name] for f in below.fields if f.kind == "given" and f.name in conditions.given}
        knobs = torch.full((len(conditions), len(below.scalars)), torch.nan, device=conditions.values.device)
        nothing = SimpleNamespace(**dict.fromkeys((f.name for f in below.fields), None))
        absent = Conditions.of(below.fields, [nothing] * len(conditions), self.space).to(knobs.device).given
        arrays = {**absent, **arrays}  # those that the recipe above does not name
        return replace(super().forward(conditions), below=below(Conditions(knobs, arrays)))


def learnt_space(recipe: Recipe, space: Space, fields: Sequence[Field], autoencoder: Model | None) -> Space:
    """What the recipe's family learns: the space itself, or the latent of the autoencoder. Raises ``ValueError`` for one that is
    missing or of something else."""
    if not recipe.autoencoder:
        if autoencoder is not None:
            raise ValueError("it names no autoencoder, and one was given")
        return space
    if autoencoder is None:
        raise ValueError(f"it needs its autoencoder, {recipe.autoencoder!r}")
    if autoencoder.space != space or autoencoder.recipe.codec != recipe.codec:
        theirs = f"{autoencoder.recipe.codec!r} over {autoencoder.space}"
        raise ValueError(f"autoencoder: expected one of the codec {recipe.codec!r} over {space}; got one of {theirs}")
    if not isinstance(autoencoder.family, VAE):
        raise ValueError(f"autoencoder: expected a variational autoencoder; got a model of the family {autoencoder.recipe.family}")
    on_cells = [f.name for f in fields if isinstance(f.spec, Given) and f.spec.kind == "cells"]
    if on_cells and not isinstance(space, Vector):
        raise ValueError(f"given: {on_cells[0]!r} lies on the cells of an item, and a latent has none of them")
    return autoencoder.family.latent


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

"""A model: one family with the conditioner that feeds it, built from a recipe. No data, no domain object, no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwater.context import Conditioner, Conditions
from headwater.errors import HeadwaterError
from headwater.families.contract import Family
from headwater.knobs import Field
from headwater.spaces import Space, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

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
        widths = (conditioner.pooled_width, conditioner.cells_width, conditioner.sequence_width)
        network = _network(recipe, space, networks, widths)
        family = _family(recipe, space, network, widths)
    except (TypeError, ValueError) as error:
        raise HeadwaterError(f"recipe for {recipe.family}: {error}") from error
    return Model(family, conditioner)


def _network(
    recipe: Recipe, space: Space, networks: Mapping[str, Callable[..., nn.Module]], widths: tuple[int, int, int]
) -> nn.Module:
    pooled, cells, sequence = widths
    domain, _, own = recipe.network.name.rpartition(":")
    if domain:
        if own not in networks:
            raise ValueError(f"the domain has no network {own!r}; it has {', '.join(networks) or 'none'}")
        return networks[own](space, pooled=pooled, cells=cells, sequence=sequence, **recipe.network.options)
    from headwater.networks import build as build_network

    return build_network(recipe.network.name, space, recipe.network.options, pooled, cells, sequence)


def _family(recipe: Recipe, space: Space, network: nn.Module, widths: tuple[int, int, int]) -> Family:
    if recipe.family == "autoregressive":
        from headwater.families.autoregressive import Autoregressive

        if not isinstance(space, Tokens):
            raise ValueError(f"lives on Tokens, not on {space}")
        return Autoregressive(space, network, pooled=widths[0], cells=widths[1], **recipe.options)
    from headwater.families.diffusion import Diffusion, Schedule

    if isinstance(space, Tokens):
        raise ValueError(f"lives on Grid and Vector, not on {space}")
    options = dict(recipe.options)
    schedule = Schedule(**{f.name: options.pop(f.name) for f in dataclass_fields(Schedule) if f.name in options})
    return Diffusion(space, network, schedule, **options)

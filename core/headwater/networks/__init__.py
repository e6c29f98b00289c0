"""Networks: modules without losses. A recipe names one of these, or a domain's own as ``domain:name``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwater.spaces import Grid, Space, Tokens, Vector

if TYPE_CHECKING:
    from torch import nn

#: name: (module, class). Imported when asked for.
NETWORKS = {
    "recurrent": ("headwater.networks.recurrent", "Recurrent"),
    "transformer": ("headwater.networks.transformer", "Transformer"),
    "unet": ("headwater.networks.unet", "UNet"),
    "mlp": ("headwater.networks.mlp", "MLP"),
}
#: Where each of them lives.
SPACES: dict[str, type] = {"recurrent": Tokens, "transformer": Tokens, "unet": Grid, "mlp": Vector}


def build(name: str, space: Space, options: Mapping[str, Any], pooled: int, cells: int, sequence: int) -> nn.Module:
    """The core network of that name for a space, told the widths of the context it will read (0: none)."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; the core has {', '.join(NETWORKS)}")
    module, cls = NETWORKS[name]
    make = getattr(importlib.import_module(module), cls)
    network: nn.Module
    if not isinstance(space, SPACES[name]):
        raise ValueError(f"the network {name!r} lives on {SPACES[name].__name__}, not on {space}")
    if isinstance(space, Tokens):
        network = make(pooled=pooled, sequence=sequence, **options)
    elif sequence:
        raise ValueError(f"the network {name!r} cannot read a sequence of givens; the transformer can")
    else:
        network = make(space, pooled=pooled, cells=cells, **options)
    return network

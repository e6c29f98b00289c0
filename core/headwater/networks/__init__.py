"""Networks: modules without losses. A recipe names one of these, or a domain's own as ``domain:name``.

What a network is asked to be is its kind, one for each protocol of :mod:`headwater.families.contract`; a name means the network of
that name for the kind that the family asks for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headwater.spaces import Grid, Space, Tokens, Vector

if TYPE_CHECKING:
    from torch import nn

    from headwater.families.contract import Kind

#: kind: name: (module, class, the space it lives on). Imported when asked for.
NETWORKS: Mapping[Kind, Mapping[str, tuple[str, str, type]]] = {
    "causal": {
        "recurrent": ("headwater.networks.recurrent", "Recurrent", Tokens),
        "transformer": ("headwater.networks.transformer", "Transformer", Tokens),
    },
    "bidirectional": {"transformer": ("headwater.networks.transformer", "Bidirectional", Tokens)},
    "field": {
        "unet": ("headwater.networks.unet", "UNet", Grid),
        "mlp": ("headwater.networks.mlp", "MLP", Vector),
    },
    "reader": {
        "convolutional": ("headwater.networks.convolutional", "ConvolutionalReader", Grid),
        "patch": ("headwater.networks.patch", "PatchReader", Grid),
        "mlp": ("headwater.networks.mlp", "MLPReader", Vector),
        "recurrent": ("headwater.networks.recurrent", "RecurrentReader", Tokens),
    },
    "writer": {
        "convolutional": ("headwater.networks.convolutional", "ConvolutionalWriter", Grid),
        "mlp": ("headwater.networks.mlp", "MLPWriter", Vector),
    },
}


def build(
    kind: Kind, name: str, space: Space, options: Mapping[str, Any], pooled: int, cells: int, sequence: int, **sizes: int
) -> nn.Module:
    """The core network of that kind and name for a space, told the widths of the context it will read (0: none) and the ``sizes``
    that its kind needs."""
    known = NETWORKS[kind]
    if name not in known:
        raise ValueError(f"unknown network {name!r}; the core has {', '.join(known)}")
    module, cls, lives = known[name]
    if not isinstance(space, lives):
        raise ValueError(f"the network {name!r} lives on {lives.__name__}, not on {space}")
    make = getattr(importlib.import_module(module), cls)
    network: nn.Module
    if kind in ("causal", "bidirectional"):
        network = make(pooled=pooled, sequence=sequence, **options)
    elif isinstance(space, Tokens):
        network = make(space, pooled=pooled, cells=cells, sequence=sequence, **sizes, **options)
    elif sequence:
        raise ValueError(f"the network {name!r} cannot read a sequence of givens; the transformer can")
    else:
        network = make(space, pooled=pooled, cells=cells, **sizes, **options)
    return network

"""The families of generative models, each written once for the spaces it lives in."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headwater.spaces import Grid, Tokens, Vector

if TYPE_CHECKING:
    from headwater.families.contract import Family

#: name: (module, class, the spaces it lives in). Imported when asked for.
FAMILIES: dict[str, tuple[str, str, tuple[type, ...]]] = {
    "autoregressive": ("headwater.families.autoregressive", "Autoregressive", (Tokens,)),
    "diffusion": ("headwater.families.diffusion", "Diffusion", (Grid, Vector)),
    "gan": ("headwater.families.gan", "GAN", (Grid, Vector)),
    "flow": ("headwater.families.flow", "Flow", (Grid, Vector)),
    "spline_flow": ("headwater.families.spline_flow", "SplineFlow", (Grid, Vector)),
    "vae": ("headwater.families.vae", "VAE", (Grid, Tokens, Vector)),
    "masked_diffusion": ("headwater.families.masked_diffusion", "MaskedDiffusion", (Tokens,)),
}


def family(name: str) -> type[Family]:
    """The class of a family."""
    module, cls, _ = FAMILIES[name]
    found: Any = getattr(importlib.import_module(module), cls)
    kind: type[Family] = found
    return kind

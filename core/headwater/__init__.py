"""Headwater: a shared generative core, and domains that plug into it.

>>> import headwater as hw
>>> hw.Tokens(vocab=40, length=128).shape
(128, 1)

The public names below are imported when first asked for (PEP 562, https://peps.python.org/pep-0562/), so that importing
Headwater, as every ``headwater --help`` does, imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor as Array

    from headwater.domain import Codec, Dataset, Domain, Evaluation, Metric, Pipeline, Result
    from headwater.errors import HeadwaterError
    from headwater.generator import load
    from headwater.knobs import Given, Knob
    from headwater.noise import Noise
    from headwater.recipe import Recipe
    from headwater.samples import Samples
    from headwater.spaces import Grid, Tokens, Vector

__version__ = "0.1.0"

__all__ = [
    "Array",
    "Codec",
    "Dataset",
    "Domain",
    "Evaluation",
    "Given",
    "Grid",
    "HeadwaterError",
    "Knob",
    "Metric",
    "Noise",
    "Pipeline",
    "Recipe",
    "Result",
    "Samples",
    "Tokens",
    "Vector",
    "load",
]

_HOME = {
    **dict.fromkeys(("Codec", "Dataset", "Domain", "Evaluation", "Metric", "Pipeline", "Result"), "headwater.domain"),
    **dict.fromkeys(("Array", "Given", "Knob"), "headwater.knobs"),
    **dict.fromkeys(("Grid", "Tokens", "Vector"), "headwater.spaces"),
    "HeadwaterError": "headwater.errors",
    "Noise": "headwater.noise",
    "Recipe": "headwater.recipe",
    "Samples": "headwater.samples",
    "load": "headwater.generator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # the next look-up finds it without asking here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

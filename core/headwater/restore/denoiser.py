"""What every restoration asks of a prior: the posterior mean of a clean item given a noisy one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from headwater.context import Context


@runtime_checkable
class Denoiser(Protocol):
    """E[x0 | x0 + σn = x] with n standard normal.

    ``x`` (rows, channels, *size) and ``sigma`` (rows,) are in the prior's own units, [-1, 1] for a ``Grid``: a level of 0.1 on
    intensities in [0, 1] is 0.2 here. ``context`` is what the prior was told in training, or None. The result has the shape and
    dtype of ``x``. Rows must not influence each other.
    """

    def __call__(self, x: Tensor, sigma: Tensor, context: Context | None) -> Tensor: ...

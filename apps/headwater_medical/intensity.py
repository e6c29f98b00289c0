"""The map between a scanner's units and [0, 1], stated as two numbers and kept with every result.

``unit = (value - low) / (high - low)`` is affine and never clips: what lies outside comes back exactly as far outside.
The two numbers depend on the values of the whole image alone, never on how it was cut into slabs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headwater.domain import Array

AIR = -1024.0  # Hounsfield units: the lowest value a 12-bit CT scanner states


@dataclass(frozen=True)
class Scale:
    """``low`` maps to 0 and ``high`` to 1, both in physical units (Hounsfield units for CT).

    >>> float(Scale(-1024, 976).to_unit(np.float32(-24.0)))
    0.5
    """

    low: float
    high: float

    def to_unit(self, values: Array) -> Array:
        """float32, the same shape; 0 at ``low`` and 1 at ``high``."""
        return ((values - np.float32(self.low)) / np.float32(self.high - self.low)).astype(np.float32)

    def from_unit(self, unit: Array) -> Array:
        """float32, the same shape, in physical units."""
        return (unit * np.float32(self.high - self.low) + np.float32(self.low)).astype(np.float32)


def robust_scale(values: Array, hounsfield: bool = False) -> Scale:
    """``high`` is the 99.9th percentile, so a few bright voxels do not darken the rest. ``low`` is 0 for magnitudes (the Rician
    law needs the true zero), the 0.1th percentile where that is negative, and air (-1024 HU) for CT. A constant image gets a
    width of 1.

    >>> robust_scale(np.full(9, 7.0)), robust_scale(np.zeros(9), hounsfield=True)
    (Scale(low=0.0, high=7.0), Scale(low=-1024.0, high=0.0))
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Scale(0.0, 1.0)
    bottom, high = (float(v) for v in np.percentile(finite, (0.1, 99.9)))
    low = AIR if hounsfield else min(0.0, bottom)
    return Scale(low, high if high > low else low + 1.0)

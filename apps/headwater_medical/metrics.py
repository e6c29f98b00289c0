"""Figures of an unconditional prior: does what it draws look like the pictures it saw, as far as simple statistics tell?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater.domain import Array, Evaluation, Metric


def _power(items: Sequence[Array], side: int = 64) -> Array:
    """Mean log power of the centre patches' spectrum over rings of equal radius."""
    rows = []
    for item in items:
        y, x = (item.shape[0] - side) // 2, (item.shape[1] - side) // 2
        patch = item[max(y, 0) : max(y, 0) + side, max(x, 0) : max(x, 0) + side]
        if patch.shape != (side, side) or patch.mean() < 0.06:
            continue
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(patch - patch.mean()))) ** 2
        radius = np.hypot(*np.indices(spectrum.shape) - side // 2).astype(int)
        rows.append(np.bincount(radius.ravel(), spectrum.ravel())[: side // 2] / np.bincount(radius.ravel())[: side // 2])
    return np.log(np.mean(rows, axis=0)[1:] + 1e-12) if rows else np.full(side // 2 - 1, np.nan)


def spectrum_error(evaluation: Evaluation[Array, Any]) -> float:
    """Mean absolute difference of log ring power between patches made and real ones (0 is equal; 0.7 is a factor of two)."""
    return float(np.abs(_power(evaluation.made) - _power(evaluation.reference)).mean())


METRICS = (Metric("spectrum_error", spectrum_error, "lower", "difference of log power spectra from real patches"),)

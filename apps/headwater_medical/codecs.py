"""A 64x64 patch of a slice as a grid: what the restoration prior learns from and draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headwater.domain import Array, Codec
from headwater.spaces import Grid

if TYPE_CHECKING:
    from headwater.noise import Noise

SIDE = 64


class Patch(Codec[Array]):
    """A float32 picture (64, 64) in [0, 1] as ``Grid(1, (64, 64))`` in [-1, 1].

    Slices of any size are shown to training as patches: a place (mostly on tissue), one of eight orientations, now and then
    another magnification and another contrast, so that a prior of one scanner's pictures serves others.
    """

    space = Grid(1, (SIDE, SIDE))

    def encode(self, item: Array) -> Array:
        """float32 (1, 64, 64). Raises ``ValueError`` for another size or for values that are not finite."""
        if item.shape != (SIDE, SIDE):
            raise ValueError(f"expected a {SIDE}x{SIDE} patch, got {'x'.join(map(str, item.shape))}; whole scans are for `denoise`")
        if not np.isfinite(item).all():
            raise ValueError("the patch holds values that are not finite")
        return (2 * item[None] - 1).astype(np.float32)

    def decode(self, array: Array) -> Array:
        """float32 (64, 64), clipped to [0, 1]; what is not finite becomes 0."""
        return np.clip(np.nan_to_num((np.asarray(array, dtype=np.float32)[0] + 1) / 2, nan=0.0), 0, 1).astype(np.float32)

    def view(self, item: Array, noise: Noise) -> Array:
        draws = noise.fold("patch").uniform(16)[0].tolist()
        cut = min(_side(draws[0], draws[1]), *item.shape)
        y, x = _place(item, cut, draws[2:10])
        patch = np.rot90(item[y : y + cut, x : x + cut], k=int(draws[10] * 4))
        patch = patch[::-1] if draws[11] < 0.5 else patch
        if cut != SIDE:
            patch = _resize(patch)
        if draws[12] < 0.5:  # gamma and gain
            patch = (0.6 + 0.4 * draws[13]) * patch ** (0.7 + 0.7 * draws[14])
        return np.ascontiguousarray(patch, dtype=np.float32)


def _side(kind: float, amount: float) -> int:
    """The side to cut: as it is in half of all views, else magnified or shrunk by up to 1.5."""
    return SIDE if kind < 0.5 else round(SIDE * 1.5 ** (2 * amount - 1))


def _place(item: Array, side: int, draws: list[float]) -> tuple[int, int]:
    """The corner of a patch: the first of four random places whose middle is not background, else the last."""
    rows, columns = item.shape[0] - side, item.shape[1] - side
    for i in range(0, len(draws), 2):
        y, x = int(draws[i] * (rows + 1)), int(draws[i + 1] * (columns + 1))
        if item[y + side // 4 : y + 3 * side // 4, x + side // 4 : x + 3 * side // 4].mean() > 0.06:
            break
    return y, x


def _resize(patch: Array) -> Array:
    import torch
    import torch.nn.functional as F

    resized = F.interpolate(
        torch.from_numpy(np.ascontiguousarray(patch))[None, None],
        (SIDE, SIDE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    out: Array = resized[0, 0].clamp(0, 1).numpy()
    return out

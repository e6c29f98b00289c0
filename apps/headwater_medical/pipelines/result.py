"""A restored scan: its files, its page with a before/after slider, and its columns."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.domain import Array, Result

if TYPE_CHECKING:
    from headwater.restore.likelihoods import NoiseModel
    from headwater_medical.files.volume import Volume

PICTURE = "width:100%;image-rendering:pixelated"
SLIDER = f"""<div style="position:relative;line-height:0">
<img alt="before" src="{{before}}" style="{PICTURE}">
<img alt="after" src="{{after}}" style="{PICTURE};position:absolute;left:0;top:0;clip-path:inset(0 0 0 50%)">
<input type="range" min="0" max="100" value="50" aria-label="left before, right after"
 style="position:absolute;left:0;bottom:4px;width:100%;margin:0"
 oninput="this.previousElementSibling.style.clipPath='inset(0 0 0 '+this.value+'%)'"></div>"""
FIGURE = '<figure style="flex:1 1 16rem;max-width:24rem;margin:0">{}<figcaption>{}</figcaption></figure>'


class Restored(Result):
    """``mean`` and ``std`` (slices, H, W) are in the scan's own units, on disk in ``scratch`` until the result is dropped."""

    def __init__(
        self,
        row: int,
        volume: Volume,
        mean: Array,
        std: Array | None,
        sigma: float,
        law: NoiseModel,
        estimated: bool,
        samples: int,
        scratch: tempfile.TemporaryDirectory[str],
    ) -> None:
        self.row, self.volume, self.mean, self.std = row, volume, mean, std
        self.sigma, self.law, self.estimated, self.samples, self.scratch = sigma, law, estimated, samples, scratch

    def residual(self, z: int) -> Array:
        """(H, W): what was taken away, in standard deviations of the noise."""
        import torch

        before, after = (2 * self.volume.scale.to_unit(a) - 1 for a in (self.volume.slab(z, z + 1), self.mean[z : z + 1]))
        left: Array = self.law.residual(torch.from_numpy(before), torch.from_numpy(after))[0].numpy()
        return left

    @property
    def law_name(self) -> str:
        return type(self.law).__name__.lower()

    @property
    def run_hash(self) -> str:
        """Names this result by what made it: derived files take their identifiers from it and the input's own."""
        made = hashlib.sha256(np.float64(self.sigma).tobytes() + f"{self.law_name} {self.samples} {self.row}".encode())
        for z in range(len(self.mean)):
            made.update(np.ascontiguousarray(self.mean[z]).tobytes())
            if self.std is not None:
                made.update(np.ascontiguousarray(self.std[z]).tobytes())
        return made.hexdigest()

    def write(self, folder: Path) -> list[Path]:
        """The restored scan in its own format, the residual and, with draws, the standard deviation, geometry kept."""

        def slabs(stack: Array) -> Iterator[Array]:
            return (np.asarray(stack[z : z + 1]) for z in range(len(stack)))

        name, files = self.run_hash, []
        files += self.volume.write(folder, "denoised", slabs(self.mean), kind="image", run_hash=name)
        residuals = (self.residual(z)[None] for z in range(len(self.mean)))
        files += self.volume.write(folder, "residual", residuals, kind="residual", run_hash=name)
        if self.std is not None:
            files += self.volume.write(folder, "std", slabs(self.std), kind="std", run_hash=name)
        return files

    def render(self) -> str:
        from headwater_medical.render import data_uri

        z = self._shown()
        scale = self.volume.scale
        before, after = (np.clip(scale.to_unit(a), 0, 1) for a in (self.volume.slab(z, z + 1)[0], self.mean[z]))
        pictures = [(SLIDER.format(before=data_uri(before), after=data_uri(after)), "drag: left before, right after")]
        maps = [("residual, ±4 sd of the noise", self.residual(z) / 8 + 0.5)]
        if self.std is not None:
            top = float(np.percentile(self.std[z], 99.5)) or 1.0
            maps.append((f"standard deviation of {self.samples} draws, white {top:.3g}", self.std[z] / top))
        for label, values in maps:
            shown = data_uri(np.clip(values, 0, 1))
            pictures.append((f'<img alt="{label}" src="{shown}" style="{PICTURE}">', label))
        how = "estimated" if self.estimated else "given"
        words = f"slice {z + 1} of {len(self.mean)}; {self.law_name} noise, level {self.sigma:.4f} of the intensity range ({how})"
        row = "".join(FIGURE.format(*pair) for pair in pictures)
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{row}</div><p>{words}. For research, not for diagnosis.</p>'

    def _shown(self) -> int:
        """The slice with most contrast among nine: the one worth looking at."""
        count = len(self.mean)
        chosen = sorted({min(count - 1, int((i + 0.5) * count / 9)) for i in range(9)})
        return max(chosen, key=lambda z: float(self.mean[z].std()))

    def record(self) -> dict[str, Any]:
        z = self._shown()
        slices, height, width = self.volume.shape
        return {
            "slices": slices,
            "height": height,
            "width": width,
            "format": self.volume.format,
            "low": self.volume.scale.low,
            "high": self.volume.scale.high,
            "noise": self.law_name,
            "sigma": self.sigma,
            "sigma_estimated": self.estimated,
            "draws": self.samples,
            "residual_std": float(self.residual(z).std()),
        }

    def problem(self) -> str | None:
        finite = all(np.isfinite(plane).all() for plane in self.mean)
        return None if finite else "the restored slices hold values that are not finite"

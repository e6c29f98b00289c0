"""Medical images: restoration of MR, CT and other grey pictures by a learnt prior, in and out in the field's own formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array, Domain
from headwater.recipe import Recipe
from headwater_medical.codecs import Patch
from headwater_medical.data import BRAIN_VOLUMES, MRI_SLICES
from headwater_medical.metrics import METRICS
from headwater_medical.pipelines.denoise import Denoise

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Scene:
    """A prior of anatomy has no knobs yet: what is asked of it comes with the picture to be restored."""


class Medical(Domain[Array, Scene]):
    """A prior over small patches of magnetic resonance slices. It knows what tissue, edges and background look like at every
    noise level, so that one network serves denoising and, with a model of how a picture came about, other restorations.

    An item is a float32 picture (H, W) in [0, 1]. What a pipeline reads and writes is a whole scan with its header.
    """

    name = "medical"
    summary = "medical image enhancement: denoise NIfTI, DICOM, NRRD and pictures, with uncertainty on request"
    package = "headwater[medical]"
    notice = "For research. Not for diagnosis: a restored picture may lack or invent detail; look at the residual and the original."
    Wish = Scene
    codecs = {"patch": Patch()}
    recipes = Recipe.folder(HERE / "recipes")
    datasets = {"mri_slices": MRI_SLICES, "brain_volumes": BRAIN_VOLUMES}
    metrics = METRICS
    pipelines = (Denoise,)
    models = HERE / "models"

    def features(self, items: Sequence[Array]) -> Array:
        """(items, 1024) float32: a 32x32 thumbnail of each, without its mean."""
        from PIL import Image

        rows = [np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BOX), dtype=np.float32).ravel() for i in items]
        made = np.stack(rows)
        return made - made.mean(axis=1, keepdims=True)

    def problem(self, item: Array, asked: Scene | None = None) -> str | None:
        if item.ndim != 2 or min(item.shape) < 1:
            return f"a picture has two dimensions; this has shape {item.shape}"
        if not np.isfinite(item).all():
            return "it holds values that are not finite"
        if float(item.max() - item.min()) < 1e-3:
            return "it is one flat grey: nothing was drawn"
        return None

    def render(self, item: Array) -> str:
        from headwater_medical.render import picture

        return picture(item)

    def write(self, items: Iterable[Array], folder: Path) -> list[Path]:
        """16-bit PNGs, ``item_00000.png`` and so on, 0 black and 1 white."""
        from headwater_medical.render import png_bytes

        files = []
        for i, item in enumerate(items):
            files.append(folder / f"item_{i:05d}.png")
            files[-1].write_bytes(png_bytes(item, bits=16))
        return files

    def read(self, path: Path) -> list[Array]:
        """Every slice of a NIfTI, DICOM, NRRD or picture file in [0, 1]: a picture as its grey levels say, a measurement by the
        scale that the pipelines give it."""
        from headwater_medical.files import read
        from headwater_medical.intensity import Scale

        out = []
        for volume in read(path):
            scale = Scale(0.0, float(np.iinfo(volume.dtype).max)) if volume.format == "picture" else volume.scale
            unit = scale.to_unit(volume.slab(0, volume.shape[0]))
            out += list(np.clip(unit, 0, 1).astype(np.float32))
        return out

    def record(self, item: Array) -> dict[str, Any]:
        return {"height": item.shape[0], "width": item.shape[1], "mean": float(item.mean()), "std": float(item.std())}

"""Real slices to train and to test on: float32 arrays (H, W) in [0, 1].

``mri_slices`` are 8-bit JPEG slices, split by near-duplicate cluster; ``brain_volumes`` are slices of volumes from other sources,
a second test set; ``samples`` is what nibabel and pydicom ship, always there. The first two lie below the folder that the
environment variable ``HEADWATER_DATA`` names.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from headwater.data import cache_folder
from headwater.domain import Array, Dataset
from headwater.errors import HeadwaterError
from headwater_datasets import card
from headwater_medical.intensity import robust_scale

SPLITS = ("train", "valid", "test")
DUPLICATE = 0.95  # Pearson correlation of 32x32 thumbnails above which two slices may never lie in different splits
HUGE = 0.01  # a cluster that holds more than this share of all slices belongs to train: held out, it would be most of its split
VOLUMES = ("MR_Gd.nii.gz", "pyrad_brain1.nrrd", "stroke_FLAIR.nii.gz", "stroke_T1.nii.gz", "stroke_T2.nii.gz")


class Slices(Sequence[Array]):
    """Grey pictures kept as uint8 and handed out as float32 (H, W) in [0, 1]."""

    def __init__(self, pictures: Sequence[Array], names: Sequence[str]) -> None:
        self.pictures, self.names = pictures, names

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int, /) -> Array: ...
    @overload
    def __getitem__(self, index: slice, /) -> Slices: ...
    def __getitem__(self, index: int | slice, /) -> Array | Slices:
        if isinstance(index, slice):
            return Slices(self.pictures[index], self.names[index])
        return self.pictures[index].astype(np.float32) / np.float32(255)


def folder(name: str) -> Path:
    """``$HEADWATER_DATA/medical/NAME``. Raises :class:`HeadwaterError` where it is not there."""
    root = os.environ.get("HEADWATER_DATA")
    path = Path(root or "") / "medical" / name
    if not root or not path.is_dir():
        why = f"{path} is missing" if root else "the variable is not set"
        raise HeadwaterError(f"medical/{name} is not here: set HEADWATER_DATA to the folder that holds medical/{name} ({why})")
    return path


def _picture(path: Path, size: tuple[int, int] | None = None) -> Array:
    """uint8 (H, W) of a JPEG; with ``size`` its area mean."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image.convert("L")
            return np.asarray(grey.resize(size, Image.Resampling.BOX) if size else grey)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise HeadwaterError(f"{path}: not a readable picture; copy it again (mri_slices.sha256 has its checksum)") from None


def clusters(thumbnails: Array, threshold: float = DUPLICATE) -> Array:
    """(n,) int64: the near-duplicate cluster of each of ``thumbnails`` (n, pixels), named by its smallest index.

    Clusters are the connected components of the graph that joins two rows whose Pearson correlation exceeds ``threshold``.

    >>> clusters(np.array([[0.0, 1, 2], [5, 0, 1], [1, 2, 3.01]])).tolist()
    [0, 1, 0]
    """
    centred = thumbnails.astype(np.float32) - thumbnails.mean(axis=1, keepdims=True, dtype=np.float32)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    unseen = np.ones(len(unit), dtype=bool)
    label = np.arange(len(unit))
    for seed in range(len(unit)):
        if not unseen[seed]:
            continue
        unseen[seed] = False
        front = np.array([seed])
        while front.size:  # breadth first: all that any slice of the front resembles
            label[front] = seed
            rest = np.flatnonzero(unseen)
            reached = [((unit[rest] @ unit[front[i : i + 256]].T) > threshold).any(axis=1) for i in range(0, len(front), 256)]
            front = rest[np.any(reached, axis=0)]
            unseen[front] = False
    return label


def _assign(names: Sequence[str], label: Array) -> dict[str, list[str]]:
    """Names by split, about 90/5/5 of the clusters by a hash of each cluster's smallest name; huge clusters go to train."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    size = np.bincount(label, minlength=len(names))
    for i, name in enumerate(names):
        root = int(label[i])  # names are sorted, so the smallest index is the smallest name
        hundredth = int.from_bytes(hashlib.sha256(names[root].encode()).digest()[:4], "big") % 100
        held_out = hundredth < 10 and size[root] <= max(1, HUGE * len(names))
        splits[("valid" if hundredth < 5 else "test") if held_out else "train"].append(name)
    return splits


@functools.cache
def _split_names(root: Path) -> dict[str, list[str]]:
    """File names by split: computed once, cached as JSON under a hash of all names and sizes."""
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise HeadwaterError(f"{root}: no JPEG or PNG slices here; set HEADWATER_DATA to the folder of the full data")
    names = [p.relative_to(root).as_posix() for p in files]
    key = json.dumps([DUPLICATE, HUGE, [(n, p.stat().st_size) for n, p in zip(names, files, strict=True)]])
    cache = cache_folder() / "mri_slices"
    path = cache / f"splits-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path.is_file():
        stored: dict[str, Any] = json.loads(path.read_text())
        return stored["splits"]
    thumbnails = np.stack([_picture(p, (32, 32)).ravel() for p in files])
    label = clusters(thumbnails)
    sizes = np.unique(label, return_counts=True)[1]
    splits = _assign(names, label)
    record = {"slices": len(names), "clusters": len(sizes), "largest_cluster": int(sizes.max()), "splits": splits}
    cache.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(record, indent=0) + "\n")
    os.replace(part, path)
    return splits


@functools.lru_cache(maxsize=3)
def _slices(root: Path, split: str) -> Slices:
    names = _split_names(root)[split]
    return Slices([_picture(root / name) for name in names], names)


def rows(split: str) -> Slices:
    """The MR slices of ``"train"``, ``"valid"`` or ``"test"``. Raises :class:`HeadwaterError` for data that are not here."""
    if split not in SPLITS:
        raise HeadwaterError(f"mri_slices has the splits {', '.join(SPLITS)}; got {split!r}")
    return _slices(folder("mri_slices"), split)


def _read_volume(path: Path) -> tuple[Array, float]:
    """float32 (x, y, z) and the slice distance in mm. The five files are stored upright: z is the third axis."""
    try:
        if path.suffix == ".nrrd":
            import nrrd

            values, header = nrrd.read(str(path))
            return values.astype(np.float32), float(np.linalg.norm(header["space directions"][2]))
        import nibabel

        image: Any = nibabel.load(path)
        return image.get_fdata(dtype=np.float32), float(image.header.get_zooms()[2])
    except (OSError, EOFError, ValueError, KeyError):
        raise HeadwaterError(f"{path}: cannot be read; copy the data again and check it against volumes.sha256") from None


def _cut(values: Array, name: str, distance: int, foreground: float) -> Iterator[tuple[str, Array]]:
    """Named slices across the third axis, front of the head on top: float32 in [0, 1], scaled over the whole volume."""
    scale = robust_scale(values)
    unit = np.clip(scale.to_unit(values), 0, 1)
    for z in range(0, values.shape[2], distance):
        plane = np.ascontiguousarray(unit[:, ::-1, z].T)
        if (plane > 0.1).mean() >= foreground:
            yield f"{name}/{z:03d}", plane


class Planes(Slices):
    """Slices kept as float32 in [0, 1] already."""

    def __getitem__(self, index: int | slice, /) -> Any:
        return Planes(self.pictures[index], self.names[index]) if isinstance(index, slice) else self.pictures[index]


@functools.lru_cache(maxsize=4)
def _volume_slices(root: Path, millimetres: float, foreground: float) -> Planes:
    cut: list[tuple[str, Array]] = []
    for name in VOLUMES:
        if not (root / name).is_file():
            raise HeadwaterError(f"{root / name} is missing: set HEADWATER_DATA to the folder of the full data")
        values, thickness = _read_volume(root / name)
        cut += _cut(values, name.split(".")[0], max(1, round(millimetres / thickness)), foreground)
    return Planes([plane for _, plane in cut], [name for name, _ in cut])


def volume_slices(millimetres: float = 8.0, foreground: float = 0.15) -> Planes:
    """Axial slices of the five brain volumes, about ``millimetres`` apart, where at least ``foreground`` of the pixels are above a
    tenth of the volume's robust maximum. Intensities lie in [0, 1]: minimum (or 0) to 99.9th percentile of the volume, clipped."""
    return _volume_slices(folder("volumes"), millimetres, foreground)


def volume_rows(split: str) -> Planes:
    """:func:`volume_slices` under ``"test"``; the set is never trained or selected on, and has no other split."""
    if split != "test":
        raise HeadwaterError(f"brain_volumes is a test set: its only split is 'test'; got {split!r}")
    return volume_slices()


@functools.cache
def sample() -> Planes:
    """A dozen real slices that the installed packages ship: an fMRI volume of nibabel's, one MR and one CT slice of pydicom's."""
    import nibabel
    import pydicom
    from pydicom.data import get_testdata_file

    volume: Any = nibabel.load(Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz")
    cut = list(_cut(np.asarray(volume.dataobj[..., 0], dtype=np.float32), "example4d", 2, 0.15))[:10]
    for name in ("MR_small", "CT_small"):
        path = get_testdata_file(f"{name}.dcm", download=False)
        if path is None:
            raise HeadwaterError(f"pydicom's packaged {name}.dcm is missing; reinstall: pip install --force-reinstall pydicom")
        plane = pydicom.dcmread(str(path)).pixel_array.astype(np.float32)
        cut.append((name, np.clip(robust_scale(plane).to_unit(plane), 0, 1)))
    return Planes([plane for _, plane in cut], [name for name, _ in cut])


MRI_SLICES: Dataset[Array] = Dataset(card("mri_slices"), rows, sample)
BRAIN_VOLUMES: Dataset[Array] = Dataset(card("brain_volumes"), volume_rows, sample)

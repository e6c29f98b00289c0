"""Reading DICOM: one file, or a folder that holds one series (https://dicom.nema.org, PS3.3 C.7.6, C.11.1).

Slices are sorted by ImagePositionPatient along the slice normal and decoded one by one when asked for. MONOCHROME1 (small is
bright) is read with its values mirrored inside the stored range, so that more is brighter everywhere, and mirrored back on writing.
No message quotes a header, nor the name of a file inside a folder: both may name the patient.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater_medical.files.derived import rehearse, write_series
from headwater_medical.files.unpacking import DECODERS, decode, unpacked
from headwater_medical.files.volume import Kind, Volume, check_size

UNREADABLE = "truncated, corrupt, or packed in a way that cannot be read"


@dataclass(frozen=True)
class Image:
    """What the header of one slice says. ``where`` names the file in messages; ``form`` is all that must agree within a volume."""

    path: Path
    where: str
    series: str
    instance: str
    form: tuple[Any, ...]  # rows, columns, bits allocated, bits stored, signed, mirrored
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    number: int
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    spacing: tuple[float, float, float]
    modality: str
    syntax: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"{'i' if self.form[4] else 'u'}{self.form[2] // 8}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No library may print or log what it finds in a header."""
    import pydicom.config

    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's preamble: 128 bytes and ``DICM``."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def dataset(path: Path, where: str, header_only: bool = False) -> Any:
    """pydicom's data set. Raises :class:`HeadwaterError` for what is not a whole DICOM file."""
    import pydicom
    from pydicom.filereader import read_file_meta_info

    try:
        with quiet():
            deflated = read_file_meta_info(path).get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian
            if not deflated:
                return pydicom.dcmread(path, stop_before_pixels=header_only)
    except Exception:  # pydicom raises many kinds, and their texts may quote the header
        raise HeadwaterError(f"{where}: {UNREADABLE}: not a valid DICOM file") from None
    raise HeadwaterError(f"{where}: a deflated DICOM may unpack to any size and is not read; convert it first (dcmconv +te)")


def pixels(image: Image) -> Array:
    """Stored numbers (rows, columns) of one slice, unpacked in this process. Raises :class:`HeadwaterError`."""
    ds = dataset(image.path, image.where)
    try:
        with quiet():
            numbers = decode(ds)
    except Exception:
        raise HeadwaterError(f"{image.where}: {UNREADABLE}: its pixels cannot be decoded") from None
    if numbers.shape != image.form[:2]:
        raise HeadwaterError(f"{image.where}: {UNREADABLE}: its pixels are not the size that the header states")
    return numbers.astype(image.dtype, copy=False)


def _floats(ds: Any, name: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(v) for v in ds.get(name) or ())
    except (TypeError, ValueError):
        return ()
    return values if len(values) == count and all(np.isfinite(values)) else ()


def _padding(ds: Any) -> tuple[int, int] | None:
    try:
        ends = [int(ds.PixelPaddingValue), int(ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue))]
    except (AttributeError, TypeError, ValueError):
        return None
    return min(ends), max(ends)


def _refusal(ds: Any) -> str | None:
    """Why a data set is no grey slice, in words a user understands."""
    if "Rows" not in ds or "Columns" not in ds:
        return "a DICOM file without an image (a report, a plan or a directory); give an image"
    if "PerFrameFunctionalGroupsSequence" in ds or int(ds.get("NumberOfFrames") or 1) > 1:
        return "a multi-frame DICOM; single-frame files are read: convert it first (dcm4che emf2sf, or dcm2niix to NIfTI)"
    if int(ds.get("SamplesPerPixel", 1)) != 1 or not str(ds.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        return "a colour DICOM; grey images (MONOCHROME1 or MONOCHROME2) are read"
    if ds.get("BitsAllocated") not in (8, 16) or not 1 < int(ds.get("BitsStored", 0)) <= ds.BitsAllocated:
        return "DICOM pixels of 8 or 16 bits are read; this file states another number of bits"
    if not all(ds.get(name) for name in ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID")):
        return "lacks SOPInstanceUID, SOPClassUID or SeriesInstanceUID; a derived image could not name its source"
    return None


def _image(path: Path, where: str) -> Image:
    ds = dataset(path, where, header_only=True)
    try:
        with quiet():
            if refusal := _refusal(ds):
                raise HeadwaterError(f"{where}: {refusal}")
            mirrored, signed = ds.PhotometricInterpretation == "MONOCHROME1", int(ds.get("PixelRepresentation", 0))
            form = (int(ds.Rows), int(ds.Columns), int(ds.BitsAllocated), int(ds.BitsStored), signed, mirrored)
            between = _floats(ds, "PixelSpacing", 2) or (1.0, 1.0)
            apart = float(ds.get("SpacingBetweenSlices") or ds.get("SliceThickness") or 1)
            slope, intercept = float(ds.get("RescaleSlope") or 1), float(ds.get("RescaleIntercept") or 0)
            image = Image(
                path=path,
                where=where,
                series=str(ds.SeriesInstanceUID),
                instance=str(ds.SOPInstanceUID),
                form=form,
                orientation=_floats(ds, "ImageOrientationPatient", 6),
                position=_floats(ds, "ImagePositionPatient", 3),
                number=int(ds.get("InstanceNumber") or 0),
                slope=slope if np.isfinite(slope) and slope else 1.0,
                intercept=intercept if np.isfinite(intercept) else 0.0,
                padding=_padding(ds),
                spacing=(apart, between[0], between[1]),
                modality=str(ds.get("Modality", "")),
                syntax=str(ds.file_meta.TransferSyntaxUID),
            )
            rehearse(ds, image)
            return image
    except HeadwaterError:
        raise
    except Exception:
        raise HeadwaterError(f"{where}: {UNREADABLE}: its header states values that make no sense") from None


def _along_normal(images: Sequence[Image]) -> list[tuple[float, Image]]:
    """Slices with their positions in mm along the normal, sorted; by InstanceNumber where a header gives no position."""
    if all(i.position and i.orientation for i in images):
        normal = np.cross(images[0].orientation[:3], images[0].orientation[3:])
        placed = [(round(float(np.dot(i.position, normal)), 4), i) for i in images]
    else:
        placed = [(0.0, i) for i in images]
    return sorted(placed, key=lambda p: (p[0], p[1].number, p[1].instance))


def _check_one_series(folder: Path, images: Sequence[Image]) -> None:
    kinds: dict[str, set[Any]] = {
        "series": {i.series for i in images},
        "image formats": {i.form for i in images},
        "orientations": {tuple(round(v, 3) for v in i.orientation) for i in images},
    }
    if any(len(found) > 1 for found in kinds.values()):
        counts = ", ".join(f"{len(found)} {what}" for what, found in kinds.items())
        raise HeadwaterError(
            f"{folder}: a mixed folder: {len(images)} images of {counts}; one series is read at a time: "
            "put each series (and each orientation of a localiser) into a folder of its own, or give one file"
        )
    if len({i.instance for i in images}) < len(images):
        raise HeadwaterError(f"{folder}: holds the same image (SOPInstanceUID) more than once; remove the copies")


def volumes(path: Path, volume: int | None = None) -> Iterator[Dicom]:
    """The one volume of a file or of a folder's series. Raises :class:`HeadwaterError`."""
    if volume not in (None, 0):
        raise HeadwaterError(f"--volume: a DICOM series ({path}) holds only volume 0; got {volume}")
    if not path.is_dir():
        yield Dicom(path, [_image(path, str(path))])
        return
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR"]
    images = []
    for n, file in enumerate(files, 1):
        where = f"{path}, file {n} of {len(files)} by name"
        if is_dicom(file):
            images.append(_image(file, where))
        elif file.suffix.lower() in (".dcm", ".ima"):
            raise HeadwaterError(f"{where}: {UNREADABLE}: not a DICOM file")
    _check_one_series(path, images)
    yield Dicom(path, images)


class Dicom(Volume):
    format = "DICOM"

    def __init__(self, path: Path, images: Sequence[Image]) -> None:
        placed = _along_normal(images)
        self.path, self.images = path, [image for _, image in placed]
        self.name = "series" if path.is_dir() else path.stem if path.suffix.lower() in (".dcm", ".ima") else path.name
        first = self.images[0]
        rows, columns, _, used, signed, mirrored = first.form
        check_size(path, len(images), rows, columns)
        self.shape, self.modality = (len(images), rows, columns), first.modality
        self.dtype, self.spare = first.dtype, 8 * first.dtype.itemsize - used
        self.levels = (-(2 ** (used - 1)), 2 ** (used - 1) - 1) if signed else (0, 2**used - 1)
        self.padding = first.padding if len({i.padding for i in images}) == 1 else None
        self.slope = np.array([i.slope for i in self.images])
        self.intercept = np.array([i.intercept for i in self.images])
        if mirrored:
            self.intercept += self.slope * sum(self.levels)
            self.slope = -self.slope
        steps = np.diff([at for at, _ in placed])
        apart = float(np.median(steps[steps > 0])) if (steps > 0).any() else first.spacing[0]
        self.spacing = (apart, first.spacing[1], first.spacing[2])

    def raw(self, low: int, high: int) -> Array:
        whole = self.unpacked
        planes = np.stack([pixels(i) for i in self.images[low:high]]) if whole is None else whole[low:high]
        return (planes << self.spare) >> self.spare  # bits above BitsStored are not the image's

    @functools.cached_property
    def unpacked(self) -> Array | None:
        """All slices, where they can only be decoded together. Raises :class:`HeadwaterError`."""
        if not any(DECODERS.get(i.syntax) == "gdcm" for i in self.images):
            return None
        found, complete = unpacked([i.path for i in self.images], self.dtype, (self.shape[1], self.shape[2]))
        if not complete:
            raise HeadwaterError(f"{self.images[len(found)].where}: {UNREADABLE}: its pixels cannot be decoded")
        return found

    def write(self, folder: Path, suffix: str, slabs: Iterable[Array], kind: Kind = "image", run_hash: str = "") -> list[Path]:
        """A single file gives a single file, a series the folder ``series_SUFFIX`` of ``image_0001.dcm`` and on."""
        return write_series(self, folder, suffix, slabs, kind, run_hash)

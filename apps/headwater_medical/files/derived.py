"""Writing DICOM: each output is a derived image that says so, names its source, and leaves patient and study as they were.

Elements of the source are kept; new are SOP and Series instance UID (derived from the source's UID and the run: no clock, no
random number), ImageType ``DERIVED\\SECONDARY``, DerivationDescription, SourceImageSequence (PS3.3 C.7.6.1, C.8.3), and the
warning "not for diagnostic use". Files are written uncompressed, Explicit VR Little Endian.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.writing import replacing
from headwater_medical.files.volume import Kind

if TYPE_CHECKING:
    from headwater_medical.files.dicom import Dicom, Image

WARNING = "Not for diagnostic use."
WHAT = {"image": "restored", "std": "standard deviation", "residual": "residual"}
IMPLEMENTATION = f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'headwater').int}"
# fmt: off
#: Hold a signature, a thumbnail or offsets of the old pixels, or bytes after the last element.
STALE = (
    "DigitalSignaturesSequence", "MACParametersSequence", "IconImageSequence", "DataSetTrailingPadding",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)
#: Describe numbers of the source's kind; a map has others.
OF_THE_IMAGE = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation",
    "VOILUTFunction", "VOILUTSequence", "ModalityLUTSequence", "RealWorldValueMappingSequence", "PresentationLUTShape",
)
# fmt: on


def derived_uid(source: str, run_hash: str, kind: str) -> str:
    """``2.25.<UUID>`` of a source's UID, a run and what is made of it: the same three give the same UID.

    >>> derived_uid("1.2.3", "run", "image") == derived_uid("1.2.3", "run", "image") != derived_uid("1.2.3", "run", "std")
    True
    """
    digest = hashlib.sha256("\0".join(("headwater", source, run_hash, kind)).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _describe(ds: Any, image: Image, kind: Kind, run_hash: str) -> None:
    """Make a copy of the source's data set say what it now is. Only general-image and general-series elements are touched."""
    from pydicom.dataset import Dataset

    for name in STALE:
        if name in ds:
            delattr(ds, name)
    source, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "121322", "DCM"
    code.CodeMeaning = "Source image for image processing operation"
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [code]
    ds.SourceImageSequence = [source]
    ds.SOPInstanceUID = derived_uid(image.instance, run_hash, kind)
    ds.SeriesInstanceUID = derived_uid(image.series, run_hash, kind)
    old = ds.get("ImageType")
    ds.ImageType = ["DERIVED", "SECONDARY", *(list(old)[2:] if old and not isinstance(old, str) else [])]
    made = f"{WHAT[kind].capitalize()} by Headwater" + (f", run {run_hash[:16]}. " if run_hash else ". ") + WARNING
    ds.DerivationDescription = " ".join(filter(None, (made, str(ds.get("DerivationDescription") or ""))))[:1024]
    ds.ImageComments = " ".join(filter(None, (WARNING, str(ds.get("ImageComments") or ""))))[:10240]
    tail = f" ({WHAT[kind]}, not for diagnostic use)"
    ds.SeriesDescription = (str(ds.get("SeriesDescription") or "")[: 64 - len(tail)] + tail).strip()


def _save(ds: Any, numbers: Array, file: Any) -> None:
    """Write a data set around new pixels."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    body = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).tobytes()
    if "PixelData" in ds:
        del ds.PixelData
    ds.add_new(0x7FE00010, "OW" if numbers.dtype.itemsize == 2 else "OB", body + b"\0" * (len(body) % 2))
    ds.HighBit = ds.BitsStored - 1
    meta: Any = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, "HEADWATER"
    ds.file_meta, ds.preamble = meta, b"\0" * 128
    if ds.original_encoding[1] is False:  # big-endian words that pydicom hands over as bytes: overlays, tables
        for element in ds.iterall():
            if element.VR == "OW" and element.tag != 0x7FE00010:
                element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
    dcmwrite(file, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)


def _as_map(ds: Any, values: Array, step: float, largest: float, kind: Kind) -> Array:
    """Describe signed 16-bit numbers of ``step`` in the data set; returns them."""
    for name in OF_THE_IMAGE:
        if name in ds:
            delattr(ds, name)
    ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation, ds.PhotometricInterpretation = 16, 16, 1, "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = f"{step:.6g}", "0", "US"
    ds.WindowCenter = "0" if kind == "residual" else f"{largest / 2:.6g}"
    ds.WindowWidth = f"{largest * (2 if kind == 'residual' else 1):.6g}"
    return np.clip(np.rint(values / step), -32767, 32767).astype(np.int16)


def _extremes(ds: Any, plane: Array) -> None:
    for name, value in (("SmallestImagePixelValue", plane.min()), ("LargestImagePixelValue", plane.max())):
        if name in ds:
            ds[name].value = int(value)


def rehearse(ds: Any, image: Image) -> None:
    """Write a header around no pixels, into nothing: one that cannot be copied fails before the work, not after it.

    Raises :class:`HeadwaterError`. Changes ``ds``.
    """
    try:
        plane = np.zeros((1, 1), np.uint16)
        _extremes(ds, plane)
        _describe(ds, image, "image", "")
        _save(ds, plane, io.BytesIO())
    except Exception:  # as many kinds as pydicom has, and their texts may quote the header
        raise HeadwaterError(f"{image.where}: corrupt: its header cannot be copied into a derived image") from None


def _slices(volume: Dicom, slabs: Iterable[Array], kind: Kind, run_hash: str) -> Iterator[tuple[Any, Array]]:
    """(data set, numbers) of each output in order."""
    from headwater_medical.files.dicom import dataset, quiet

    numbered: Iterable[tuple[int, Array]]
    if kind == "image":
        numbered = ((low + i, plane) for low, numbers in volume.encoded(slabs, kind) for i, plane in enumerate(numbers))
    else:
        kept, top = volume.spooled(slabs, kind)
        largest = top or 1.0
        step = float(f"{largest / 32767:.6g}")
        numbered = enumerate(kept)
    for z, plane in numbered:
        image = volume.images[z]
        ds = dataset(image.path, image.where)
        with quiet():
            if kind == "image":
                _extremes(ds, plane)
            else:
                plane = _as_map(ds, plane, step, largest, kind)
            _describe(ds, image, kind, run_hash)
        yield ds, plane


def write_series(volume: Dicom, folder: Path, suffix: str, slabs: Iterable[Array], kind: Kind, run_hash: str) -> list[Path]:
    """See :meth:`Volume.write`. The files of a series take their names together, when the last is written."""
    from headwater_medical.files.dicom import quiet

    if not volume.path.is_dir():
        path = folder / f"{volume.name}_{suffix}.dcm"
        for ds, plane in _slices(volume, slabs, kind, run_hash):
            with replacing(path) as file, quiet():
                _save(ds, plane, file)
        return [path]
    home = folder / f"{volume.name}_{suffix}"
    new = folder / f".{home.name}.{os.getpid()}.part"
    try:
        new.mkdir()
        for n, (ds, plane) in enumerate(_slices(volume, slabs, kind, run_hash), 1):
            with open(new / f"image_{n:04d}.dcm", "wb") as file, quiet():
                _save(ds, plane, file)
        _take_place(new, home)
    except OSError as error:
        why = error.strerror or "the disk refused"
        raise HeadwaterError(f"{folder}: cannot write there ({why}); name a folder that can be written with -o") from None
    finally:
        _remove(new)
    return sorted(home.glob("image_*.dcm"))


def _remove(folder: Path) -> None:
    """A folder of our own files, and nothing else."""
    with contextlib.suppress(OSError):
        for path in folder.glob("image_*.dcm"):
            path.unlink()
        folder.rmdir()


def _take_place(new: Path, home: Path) -> None:
    """Give ``new`` the name ``home``; an older run's images there are replaced."""
    if home.exists():
        old = new.with_suffix(".old")
        os.replace(home, old)
        os.replace(new, home)
        _remove(old)
    else:
        os.replace(new, home)

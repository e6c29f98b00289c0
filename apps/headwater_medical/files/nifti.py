"""NIfTI-1 and NIfTI-2, single file, plain or gzipped (https://nifti.nimh.nih.gov).

The header block and its extensions are copied to the output byte for byte, so affine, sform and qform codes, units, description,
rescale and byte order cannot be lost; only the voxels are new. Slices lie across the third axis, the order of the file: row j,
column i. A 4-D file is a sequence of volumes, each written as a 3-D file.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.writing import replacing
from headwater_medical.files.payload import Packing, payload
from headwater_medical.files.volume import Kind, Volume, check_size


def _parse(path: Path, packing: Packing) -> Any:
    """nibabel's header of the first bytes, checked as far as reading needs it."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.wrapstruct import WrapStructError

    try:
        with open(path, "rb") as plain, gzip.GzipFile(fileobj=plain) if packing == "gzip" else plain as file:
            block = file.read(540)
    except (EOFError, OSError, zlib.error):
        raise HeadwaterError(f"{path}: truncated or corrupt: not a gzip file that can be unpacked") from None
    for kind, size, magic in ((Nifti1Header, 348, b"n+1"), (Nifti2Header, 540, b"n+2")):
        sizes = [int.from_bytes(block[:4], order) for order in ("little", "big")]
        if len(block) >= size and size in sizes:
            try:
                header: Any = kind(block[:size], endianness="<" if sizes[0] == size else ">", check=False)
            except (WrapStructError, ValueError):
                break
            if bytes(header["magic"]).rstrip(b"\0") == magic:
                return header
            raise HeadwaterError(
                f"{path}: not a single-file NIfTI (an Analyze file or one of a .hdr/.img pair); convert it to .nii"
            )
    raise HeadwaterError(f"{path}: not a NIfTI file: no valid header in its first {len(block)} bytes")


def _number_format(path: Path, header: Any) -> np.dtype:
    try:
        dtype: np.dtype = header.get_data_dtype()
    except Exception:  # nibabel raises several kinds for codes it does not know
        dtype = np.dtype("V1")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        code = int(header["datatype"])
        raise HeadwaterError(f"{path}: NIfTI datatype {code} is not a grey image; integers and floats of up to 64 bits are read")
    return dtype


def volumes(path: Path, volume: int | None = None) -> Iterator[Nifti]:
    """The volumes of a file, or the one numbered ``volume`` from 0. Raises :class:`HeadwaterError`."""
    packing: Packing = "gzip" if path.name.lower().endswith(".gz") else "raw"
    header = _parse(path, packing)
    dim = [int(d) for d in header["dim"]]
    if not 2 <= dim[0] <= 7 or any(d != 1 for d in dim[5 : dim[0] + 1]):
        raise HeadwaterError(f"{path}: the header states {dim[0]} dimensions {dim[1:8]}; images of 2, 3 or 4 are read")
    width, rows, depth, count = [*dim[1 : min(dim[0], 4) + 1], 1, 1][:4]
    check_size(path, count, depth, rows, width)
    dtype = _number_format(path, header)
    start = int(header["vox_offset"]) or int(header["sizeof_hdr"]) + 4
    if start < int(header["sizeof_hdr"]):
        raise HeadwaterError(f"{path}: the header states that voxels begin inside it (vox_offset {start})")
    data = payload(path, packing, start + math.prod((count, depth, rows, width)) * dtype.itemsize)
    if volume is not None and not 0 <= volume < count:
        raise HeadwaterError(f"--volume: expected a whole number from 0 to {count - 1} ({path} holds {count}); got {volume}")
    for index in range(count) if volume is None else (volume,):
        yield Nifti(path, packing, header, data, start, dtype, (count, depth, rows, width), index)


class Nifti(Volume):
    format = "NIfTI"

    def __init__(
        self,
        path: Path,
        packing: Packing,
        header: Any,
        data: Array,
        start: int,
        dtype: np.dtype,
        sizes: tuple[int, int, int, int],
        index: int,
    ) -> None:
        count, depth, rows, width = sizes
        stem = path.name[: -len(".nii.gz" if packing == "gzip" else ".nii")]
        self.path, self.name = path, stem if count == 1 else f"{stem}_v{index:04d}"
        self.packing, self.header, self.count = packing, header, count
        self.block = bytes(data[int(header["sizeof_hdr"]) : start])  # extensions, verbatim
        self.dtype, self.shape = dtype, (depth, rows, width)
        self.voxels = data[start:].view(dtype).reshape(sizes)[index]
        zooms = [abs(float(z)) or 1.0 for z in header["pixdim"][1:4]]
        self.spacing = (zooms[2], zooms[1], zooms[0])
        slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
        scaled = math.isfinite(slope) and slope != 0 and math.isfinite(intercept)  # the standard: 0 means "no rescale"
        self.slope = np.full(depth, slope if scaled else 1.0)
        self.intercept = np.full(depth, intercept if scaled else 0.0)

    def raw(self, low: int, high: int) -> Array:
        return np.asarray(self.voxels[low:high])

    def write(self, folder: Path, suffix: str, slabs: Iterable[Array], kind: Kind = "image", run_hash: str = "") -> list[Path]:
        header, order = self.header.copy(), self.dtype
        if self.count > 1:  # one volume of a sequence: three dimensions, the rest of the header as it was
            header["dim"][0], header["dim"][4:] = 3, 1
        if kind != "image":
            order = np.dtype(np.float32).newbyteorder(header.endianness)
            header.set_data_dtype(order)
            header["scl_slope"], header["scl_inter"], header["cal_min"], header["cal_max"] = 1, 0, 0, 0
        path = folder / f"{self.name}_{suffix}.nii{'.gz' if self.packing == 'gzip' else ''}"
        with replacing(path) as file:
            if self.packing == "gzip":
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                    self._stream(packed, header, order, slabs, kind)
            else:
                self._stream(file, header, order, slabs, kind)
        return [path]

    def _stream(self, file: Any, header: Any, order: np.dtype, slabs: Iterable[Array], kind: Kind) -> None:
        file.write(header.binaryblock)
        file.write(self.block)
        for _, numbers in self.encoded(slabs, kind):
            file.write(np.ascontiguousarray(numbers, dtype=order).data)

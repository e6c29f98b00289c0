"""Medical files: NIfTI, DICOM, NRRD and grey pictures behind one carrier, :class:`Volume`.

>>> from pydicom.data import get_testdata_file
>>> volume = one(get_testdata_file("CT_small.dcm", download=False))
>>> volume.format, volume.shape, volume.slab(0, 1).dtype
('DICOM', (1, 128, 128), dtype('float32'))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from headwater.errors import HeadwaterError
from headwater_medical.files import dicom, nifti, nrrd, picture
from headwater_medical.files.volume import Kind, Survey, Volume

__all__ = ["SUFFIXES", "Kind", "Survey", "Volume", "one", "read"]

SUFFIXES: dict[str, Callable[[Path, int | None], Iterator[Volume]]] = {
    ".nii": nifti.volumes,
    ".nii.gz": nifti.volumes,
    ".nrrd": nrrd.volumes,
    ".nhdr": nrrd.volumes,
    ".png": picture.volumes,
    ".jpg": picture.volumes,
    ".jpeg": picture.volumes,
    ".dcm": dicom.volumes,
    ".ima": dicom.volumes,
}


def _reader(path: Path) -> Callable[[Path, int | None], Iterator[Volume]] | None:
    found = next((reader for suffix, reader in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    return found or (dicom.volumes if dicom.is_dicom(path) else None)  # scanners often write DICOM without a suffix


def read(path: str | Path, volume: int | None = None) -> Iterator[Volume]:
    """Every volume of a file or folder, in a fixed order; with ``volume`` that one (from 0) of a 4-D file.

    A folder is one DICOM series if any file in it is DICOM; else every file of a known suffix is read. Each volume has been
    surveyed once: it has values, and can be decoded to its end.

    Raises :class:`HeadwaterError` for a file that is missing, empty, truncated, corrupt, of an unknown kind or without a value.
    """
    path = Path(path)
    try:
        if path.is_dir():
            yield from _folder(path, volume)
            return
        if not path.exists():
            raise HeadwaterError(f"{path}: no such file or folder")
        if path.stat().st_size == 0:
            raise HeadwaterError(f"{path}: the file is empty")
        with open(path, "rb"):
            reader = _reader(path)
    except OSError as error:
        raise HeadwaterError(f"{path}: cannot be opened ({error.strerror or 'unreadable'})") from None
    if reader is None:
        raise HeadwaterError(f"{path}: unsupported kind of file; expected {', '.join(SUFFIXES)} or a DICOM file or folder")
    for found in reader(path, volume):
        _ = found.survey
        yield found


def _folder(path: Path, volume: int | None) -> Iterator[Volume]:
    files = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if any(dicom.is_dicom(p) or p.suffix.lower() in (".dcm", ".ima") for p in files if p.name != "DICOMDIR"):
        for series in dicom.volumes(path, volume):
            _ = series.survey
            yield series
        return
    known = [p for p in files if any(p.name.lower().endswith(s) for s in SUFFIXES)]
    if not known:
        raise HeadwaterError(f"{path}: no file here is of a known kind ({', '.join(SUFFIXES)}, DICOM); subfolders are not searched")
    taken: set[tuple[str, str]] = set()
    for file in known:
        for found in read(file, volume):
            if (found.name, found.format) in taken:
                raise HeadwaterError(f"{path}: two {found.format} files would give outputs of one name ({found.name}); rename one")
            taken.add((found.name, found.format))
            yield found


def one(path: str | Path, volume: int | None = None) -> Volume:
    """The one volume of a file or of a DICOM folder; a 4-D file needs ``volume``. Raises :class:`HeadwaterError`."""
    found = read(path, volume)
    first = next(found)
    if next(found, None) is not None:
        raise HeadwaterError(f"{path}: holds more than one volume; choose one with --volume (from 0)")
    return first

"""Medical files come back as they went in: every field, every byte that may not change, and one clear line for each bad input."""

from __future__ import annotations

import gzip
import logging
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from headwater.errors import HeadwaterError, PromiseBroken
from headwater_medical.files import Volume, one, read
from headwater_medical.files.volume import MAX_PLANE

PHI = "ZZSECRETZZ"
EXAMPLE_4D = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
EXAMPLE_NIFTI2 = EXAMPLE_4D.with_name("example_nifti2.nii.gz")
DICOM = Path(pydicom.__file__).parent / "data" / "test_files"
WARNING = "not for diagnostic use"


def unchanged(volume: Volume, thickness: int = 5) -> Any:
    """The input's own values as slabs: what a perfect restoration of a clean scan would hand over."""
    return volume.slabs(thickness)


def packaged(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path is not None, f"pydicom does not ship {name}"
    return Path(path)


def message(path: Path, **options: Any) -> str:
    """The one line that a bad input gives."""
    with pytest.raises(HeadwaterError) as error:
        list(read(path, **options))
    text = str(error.value)
    assert "\n" not in text and PHI not in text
    assert error.value.__suppress_context__ or error.value.__cause__ is None
    return text


def oblique(path: Path, dtype: str = "<i2", slope: float = 0.5, inter: float = -7.0, shape: tuple[int, ...] = (7, 6, 5)) -> Path:
    """A NIfTI with different sform and qform, units, a description, rescale and an extension."""
    numbers = (np.arange(np.prod(shape)).reshape(shape) * 37 % 2001 - 1000).astype(dtype)
    turn = nibabel.eulerangles.euler2mat(0.1, 0.2, 0.3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.9, 1.1, 2.5), (-12.5, 3.25, 40.0)
    header = nibabel.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(numbers.dtype)
    image = nibabel.Nifti1Image(numbers, affine, header)
    image.set_sform(affine, code=3)
    image.set_qform(np.diag([0.9, 1.1, 2.5, 1]), code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"planted description"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"an extension stays"))
    nibabel.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack(dtype[0] + "ff", slope, inter)  # nibabel would apply the scale to the numbers
    path.write_bytes(raw)
    return path


# NIfTI


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", "<u1", "<i4", "<f8"])
def test_nifti_comes_back_byte_for_byte(tmp_path: Path, dtype: str) -> None:
    source = oblique(tmp_path / "scan.nii", dtype)
    volume = one(source)
    assert volume.shape == (5, 6, 7) and volume.spacing == pytest.approx((2.5, 1.1, 0.9))
    (written,) = volume.write(tmp_path, "denoised", unchanged(volume))
    assert written == tmp_path / "scan_denoised.nii"
    assert written.read_bytes() == source.read_bytes()


def test_nifti_slab_is_in_physical_units_and_file_order(tmp_path: Path) -> None:
    volume = one(oblique(tmp_path / "scan.nii"))
    expected = nibabel.load(volume.path).get_fdata()
    np.testing.assert_array_equal(volume.slab(1, 4), expected.transpose(2, 1, 0)[1:4].astype(np.float32))


def test_real_4d_each_volume_apart_keeps_every_field(tmp_path: Path) -> None:
    source: Any = nibabel.load(EXAMPLE_4D)
    found = list(read(EXAMPLE_4D))
    assert [v.name for v in found] == ["example4d_v0000", "example4d_v0001"] and found[0].shape == (24, 96, 128)
    for k, volume in enumerate(found):
        (path,) = volume.write(tmp_path, "denoised", unchanged(volume, 7))
        assert path.name == f"example4d_v{k:04d}_denoised.nii.gz"
        back: Any = nibabel.load(path)
        np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(source.dataobj)[..., k])
        np.testing.assert_array_equal(back.affine, source.affine)
        changed = {f for f in source.header if bytes(np.asarray(back.header[f])) != bytes(np.asarray(source.header[f]))}
        assert changed == {"dim"} and back.shape == source.shape[:3]
        assert back.get_data_dtype() == source.get_data_dtype()


def test_volume_option_chooses_one(tmp_path: Path) -> None:
    chosen = one(EXAMPLE_4D, volume=1)
    np.testing.assert_array_equal(chosen.slab(3, 4)[0].T, np.asarray(nibabel.load(EXAMPLE_4D).dataobj)[:, :, 3, 1])  # type: ignore[attr-defined]
    assert "0 to 1" in message(EXAMPLE_4D, volume=2)
    with pytest.raises(HeadwaterError, match="--volume"):
        one(EXAMPLE_4D)


def test_nifti2_and_a_single_slice(tmp_path: Path) -> None:
    volume = one(EXAMPLE_NIFTI2, volume=0)
    (path,) = volume.write(tmp_path, "denoised", unchanged(volume))
    back: Any = nibabel.load(path)
    assert isinstance(back, nibabel.Nifti2Image) and back.header.get_sform(coded=True)[1] == 1
    flat = one(oblique(tmp_path / "flat.nii", shape=(9, 8)))
    assert flat.shape == (1, 8, 9)
    (path,) = flat.write(tmp_path, "denoised", unchanged(flat))
    assert path.read_bytes() == flat.path.read_bytes()


def test_gzip_bytes_depend_on_nothing_but_content(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    volume = one(EXAMPLE_4D, volume=0)
    (first,) = volume.write(tmp_path / "a", "denoised", unchanged(volume, 24))
    (second,) = one(EXAMPLE_4D, volume=0).write(tmp_path / "b", "denoised", unchanged(volume, 1))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[3:8] == b"\0" * 5  # no file name, no clock


def test_integers_are_rounded_and_clipped_to_their_type(tmp_path: Path) -> None:
    volume = one(oblique(tmp_path / "scan.nii", "<u1", slope=2.0, inter=10.0))
    values = volume.slab(0, 5).copy()
    values[0, 0, :4] = (-500, 10_000, 12.9, 13.1)
    (path,) = volume.write(tmp_path, "x", [values])
    assert np.asarray(nibabel.load(path).dataobj.get_unscaled())[:4, 0, 0].tolist() == [0, 255, 1, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", ["nii", "nrrd"])
def test_nan_reads_as_the_minimum_is_counted_and_comes_back(tmp_path: Path, suffix: str) -> None:
    numbers = np.arange(60, dtype=np.float32).reshape(5, 4, 3) + 3
    numbers[1, 1, 1], numbers[0, 0, 2] = np.nan, -np.inf
    path = tmp_path / f"holes.{suffix}"
    if suffix == "nii":
        nibabel.save(nibabel.Nifti1Image(numbers, np.eye(4)), path)
    else:
        nrrd.write(str(path), numbers)
    volume = one(path)
    assert volume.survey.holes == 2 and volume.slab(1, 2)[0, 1, 1] == 3.0 and np.isfinite(volume.slab(0, 3)).all()
    (written,) = volume.write(tmp_path, "denoised", [volume.slab(0, 3) + 1])
    back = one(written).raw(0, 3)
    assert np.isnan(back[1, 1, 1]) and back[2, 0, 0] == -np.inf and back[0, 0, 0] == 4.0
    (std,) = volume.write(tmp_path, "std", [np.ones(volume.shape, np.float32)], kind="std")
    assert one(std).slab(1, 2)[0, 1, 1] == 0


@pytest.mark.parametrize("kind", ["std", "residual"])
def test_maps_of_a_nifti_are_float_on_the_same_geometry(tmp_path: Path, kind: Any) -> None:
    volume = one(oblique(tmp_path / "scan.nii", ">i2"))
    values = np.linspace(-1, 1, 5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    (path,) = volume.write(tmp_path, kind, [values[:2], values[2:]], kind=kind)
    source, back = (nibabel.load(p) for p in (volume.path, path))
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32).transpose(2, 1, 0), values)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(back.affine, source.affine)  # type: ignore[attr-defined]
    assert [int(back.header[c]) for c in ("sform_code", "qform_code", "xyzt_units")] == [3, 1, 10]  # type: ignore[index]


# DICOM


def dicom_copy(path: Path, source: str = "MR_small.dcm", **elements: Any) -> Path:
    ds = pydicom.dcmread(packaged(source))
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path)
    return path


def series(folder: Path, count: int = 4, **elements: Any) -> Path:
    """Slices whose names run against their positions along an oblique normal."""
    folder.mkdir(exist_ok=True)
    row, column = np.array([1, 0, 0]), np.array([0, 0.8, -0.6])
    for z in range(count):
        at = (np.array([5.0, -3.0, 2.0]) + 2.5 * z * np.cross(row, column)).tolist()
        pixels = (np.arange(64 * 64, dtype=np.int16) % 500 + 100 * z).tobytes()
        where = {"ImageOrientationPatient": [*row.tolist(), *column.tolist()], "ImagePositionPatient": at, "PixelData": pixels}
        uid = f"1.2.826.0.1.{z + 1}"
        dicom_copy(folder / f"{PHI}_{9 - z}.dcm", SOPInstanceUID=uid, InstanceNumber=z + 1, **(where | elements))
    return folder


REAL = ["MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"]
REAL += ["MR_small_padded", "CT_small", "J2K_pixelrep_mismatch", "693_J2KI"]


@pytest.mark.parametrize("name", REAL)
def test_real_dicom_comes_back_as_a_derived_image(tmp_path: Path, name: str) -> None:
    source = pydicom.dcmread(packaged(f"{name}.dcm"))
    volume = one(packaged(f"{name}.dcm"))
    (path,) = volume.write(tmp_path, "denoised", unchanged(volume), run_hash="abc123")
    assert path.name == f"{name}_denoised.dcm"
    back = pydicom.dcmread(path)
    np.testing.assert_array_equal(back.pixel_array, source.pixel_array)
    assert back.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert back.file_meta.MediaStorageSOPInstanceUID == back.SOPInstanceUID != source.SOPInstanceUID
    assert back.SeriesInstanceUID != source.SeriesInstanceUID and back.StudyInstanceUID == source.StudyInstanceUID
    assert list(back.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert back.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert WARNING in back.DerivationDescription.lower() and WARNING in back.ImageComments.lower()
    assert WARNING in back.SeriesDescription and len(back.SeriesDescription) <= 64
    new = {"SOPInstanceUID", "SeriesInstanceUID", "ImageType", "DerivationDescription", "SourceImageSequence", "ImageComments"}
    new |= {
        "SeriesDescription",
        "PixelData",
        "HighBit",
        "SmallestImagePixelValue",
        "LargestImagePixelValue",
        "DataSetTrailingPadding",
    }
    for element in source:
        if element.keyword not in new and element.tag.element != 0:
            assert back[element.tag].value == element.value, element.keyword or "private"


def elements(path: Path) -> dict[tuple[int, int], bytes]:
    """The raw bytes of every element before the pixels, by tag: an independent walk over an explicit little-endian file."""
    data, at, found = path.read_bytes(), 132, {}
    while data[at : at + 4] != b"\xe0\x7f\x10\x00":
        tag, vr = struct.unpack_from("<HH", data, at), data[at + 4 : at + 6]
        long = vr in (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"UC", b"UR")
        size = struct.unpack_from("<I", data, at + 8)[0] if long else struct.unpack_from("<H", data, at + 6)[0]
        end = data.index(b"\xfe\xff\xdd\xe0\0\0\0\0", at) + 8 if size == 0xFFFFFFFF else at + (12 if long else 8) + size
        found[tag], at = data[at:end], end
    return found


def test_every_other_element_is_kept_byte_for_byte(tmp_path: Path) -> None:
    planted = {"PatientName": "Doe^Jörg", "PatientID": "  7 ", "StudyDescription": "odd", "SpecificCharacterSet": "ISO_IR 100"}
    source = dicom_copy(tmp_path / "in.dcm", **planted)
    volume = one(source)
    (path,) = volume.write(tmp_path, "denoised", unchanged(volume))
    before, after = elements(source), elements(path)
    changed = {tag for tag in before | after if tag[0] != 2 and tag[1] != 0 and before.get(tag) != after.get(tag)}
    new = ["SOPInstanceUID", "SeriesInstanceUID", "ImageType", "DerivationDescription", "SourceImageSequence", "ImageComments"]
    tags = [pydicom.tag.Tag(name) for name in [*new, "SeriesDescription", "SmallestImagePixelValue", "LargestImagePixelValue"]]
    assert changed <= {(t.group, t.element) for t in tags}
    assert (0x10, 0x10) in after and (0x20, 0xD) in after and (0x8, 0x1030) in after


def test_series_is_sorted_and_written_by_position(tmp_path: Path) -> None:
    volume = one(series(tmp_path / PHI))
    assert volume.shape == (4, 64, 64) and volume.spacing[0] == pytest.approx(2.5)
    assert volume.slab(0, 4)[:, 0, 0].tolist() == [0, 100, 200, 300]
    paths = volume.write(tmp_path, "denoised", unchanged(volume, 3), run_hash="r")
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [f"series_denoised/image_000{i}.dcm" for i in range(1, 5)]
    assert (
        len({pydicom.dcmread(p).SeriesInstanceUID for p in paths}) == 1
        and len({pydicom.dcmread(p).SOPInstanceUID for p in paths}) == 4
    )
    bytes_before = [p.read_bytes() for p in paths]
    again = volume.write(tmp_path, "denoised", unchanged(volume, 1), run_hash="r")
    assert [p.read_bytes() for p in again] == bytes_before
    other = volume.write(tmp_path, "other", unchanged(volume), run_hash="another run")
    assert pydicom.dcmread(other[0]).SOPInstanceUID != pydicom.dcmread(paths[0]).SOPInstanceUID
    assert sorted(p.name for p in tmp_path.iterdir()) == [PHI, "series_denoised", "series_other"]


def test_rescale_signed_padding_and_hounsfield(tmp_path: Path) -> None:
    source = pydicom.dcmread(packaged("CT_small.dcm"))
    pixels = source.pixel_array.copy()
    pixels[:3] = -2000  # what this file's header calls padding
    volume = one(dicom_copy(tmp_path / "ct.dcm", "CT_small.dcm", PixelData=pixels.tobytes()))
    slope, intercept = float(source.RescaleSlope), float(source.RescaleIntercept)
    assert volume.survey.holes == 3 * 128 and volume.scale.low == -1024 and volume.modality == "CT"
    np.testing.assert_array_equal(volume.slab(0, 1)[0, 3:], pixels[3:] * slope + intercept)
    assert volume.slab(0, 1)[0, :3].max() == pixels[3:].min() * slope + intercept
    (path,) = volume.write(tmp_path, "denoised", [volume.slab(0, 1) + 5])
    back = pydicom.dcmread(path).pixel_array
    assert (back[:3] == -2000).all()
    np.testing.assert_array_equal(back[3:], pixels[3:] + 5)


def test_monochrome1_is_read_bright_side_up_and_written_back(tmp_path: Path) -> None:
    pixels = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)) % 4096
    fields = {"PhotometricInterpretation": "MONOCHROME1", "PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}
    source = dicom_copy(tmp_path / "x.dcm", PixelData=pixels.tobytes(), **fields)
    volume = one(source)
    np.testing.assert_array_equal(volume.slab(0, 1)[0], 4095 - pixels)
    (path,) = volume.write(tmp_path, "denoised", [volume.slab(0, 1)])
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, pixels)
    (path,) = volume.write(tmp_path, "brighter", [volume.slab(0, 1) + 9000])
    assert pydicom.dcmread(path).pixel_array.max() == 0  # clipped to the bits stored


def test_dicom_maps_state_their_scale(tmp_path: Path) -> None:
    volume = one(series(tmp_path / "in"))
    values = np.random.default_rng(0).normal(size=volume.shape).astype(np.float32)
    paths = volume.write(tmp_path, "residual", [values], kind="residual", run_hash="r")
    back = [pydicom.dcmread(p) for p in paths]
    found = np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in back])
    np.testing.assert_allclose(found, values, atol=float(back[0].RescaleSlope) * 0.51)
    assert len({str(d.RescaleSlope) for d in back}) == 1 and "residual" in back[0].SeriesDescription
    image = volume.write(tmp_path, "denoised", unchanged(volume), run_hash="r")
    assert pydicom.dcmread(image[0]).SeriesInstanceUID != back[0].SeriesInstanceUID


def test_mixed_series_is_one_line_that_counts(tmp_path: Path) -> None:
    folder = series(tmp_path / "mixed", SeriesInstanceUID="1.2.3", PatientName=PHI)
    series(tmp_path / "second", 2, SeriesInstanceUID="1.2.4", PatientName=PHI)
    for i, path in enumerate(sorted((tmp_path / "second").iterdir())):
        shutil.copy(path, folder / f"other{i}.dcm")
    text = message(folder)
    assert "6 images of 2 series" in text and "folder of its own" in text and "1.2.3" not in text


def test_mixed_sizes_orientations_and_copies(tmp_path: Path) -> None:
    folder = series(tmp_path / "a", SeriesInstanceUID="1.2.3")
    dicom_copy(folder / "ct.dcm", "CT_small.dcm", SeriesInstanceUID="1.2.3")
    assert "1 series, 2 image formats, 2 orientations" in message(folder)
    folder = series(tmp_path / "b")
    shutil.copy(folder / f"{PHI}_9.dcm", folder / "copy.dcm")
    assert "more than once" in message(folder)


def test_planted_phi_is_in_no_name_message_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any, recwarn: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    planted = dict.fromkeys(("PatientName", "PatientID", "InstitutionName", "StudyDescription", "StudyID", "AccessionNumber"), PHI)
    folder = series(
        tmp_path / "in", **planted, PatientBirthDate=PHI, StudyDate=PHI, SOPClassUID=PHI
    )  # not even valid dates or UIDs
    caplog.clear()
    recwarn.clear()  # what pydicom said while these files were made
    volume = one(folder)
    paths = [p for kind in ("image", "std") for p in volume.write(tmp_path, kind, unchanged(volume), kind=kind)]  # type: ignore[arg-type]
    assert not any(PHI in p.relative_to(tmp_path).as_posix() for p in paths)
    assert pydicom.dcmread(paths[0]).PatientName == PHI  # kept in the header, where it belongs
    for spoil in (lambda b: b[:3000], lambda b: b[:600], lambda b: b[:-300], lambda b: b[:400] + b"\xff" * 40 + b[440:]):
        victim = folder / f"{PHI}_7.dcm"
        whole = victim.read_bytes()
        victim.write_bytes(spoil(whole))
        assert "by name" in message(folder)
        victim.write_bytes(whole)
    nifti = oblique(tmp_path / "n.nii")
    raw = bytearray(nifti.read_bytes())
    raw[148:158] = PHI.encode()  # descrip
    nifti.write_bytes(raw[:-20])
    message(nifti)
    out, err = capfd.readouterr()
    said = [out, err, caplog.text, *(str(w.message) for w in recwarn)]
    assert not any(PHI in text for text in said)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("MR_truncated.dcm", "cannot be decoded"),
        ("test-SR.dcm", "without an image"),
        ("rtplan.dcm", "without an image"),
        ("rtdose.dcm", "multi-frame"),
        ("SC_rgb_rle.dcm", "colour"),
        ("rtdose_1frame.dcm", "8 or 16 bits"),
        ("no_meta.dcm", "not a valid DICOM"),
        ("examples_palette.dcm", "colour"),
    ],
)
def test_dicom_that_cannot_be_restored_says_why(name: str, says: str) -> None:
    assert says in message(packaged(name))


def test_a_header_that_cannot_be_copied_fails_before_the_work(tmp_path: Path) -> None:
    raw = packaged("MR_small.dcm").read_bytes()
    at = raw.index(b"\x08\x00\x50\x00SH")  # AccessionNumber with a VR that does not exist
    (tmp_path / "odd.dcm").write_bytes(raw[: at + 4] + b"S\xe8" + raw[at + 6 :])
    assert "cannot be copied" in message(tmp_path / "odd.dcm")


def test_a_stream_that_makes_gdcm_abort_is_one_line(tmp_path: Path) -> None:
    raw = bytearray(packaged("MR_small_jpeg_ls_lossless.dcm").read_bytes())
    raw[1403] = 100  # found by fuzzing: GDCM calls terminate() on it
    (tmp_path / "bad.dcm").write_bytes(raw)
    assert "cannot be" in message(tmp_path / "bad.dcm")
    assert "deflated" in message(packaged("image_dfl.dcm"))


# NRRD


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["<i2", ">u2", "<f4", "<u1"])
def test_nrrd_header_and_numbers_come_back(tmp_path: Path, encoding: str, dtype: str) -> None:
    numbers = (np.arange(210).reshape(7, 6, 5) % 200).astype(dtype)
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([1, 2, 3.5]) @ nibabel.eulerangles.euler2mat(0.1, 0.2),
    }
    header |= {"space origin": [1, 2, 3], "kinds": ["domain"] * 3, "encoding": encoding, "a custom key": "a custom value"}
    source = tmp_path / "scan.nrrd"
    nrrd.write(str(source), numbers, header)
    volume = one(source)
    assert volume.shape == (5, 6, 7) and volume.spacing == pytest.approx((3.5, 2, 1))
    np.testing.assert_array_equal(volume.slab(2, 3)[0], numbers[:, :, 2].T)
    (path,) = volume.write(tmp_path, "denoised", unchanged(volume, 2))
    back, found = nrrd.read(str(path))
    np.testing.assert_array_equal(back, numbers)
    end = source.read_bytes().index(b"\n\n")
    assert path.read_bytes()[: end + 2] == source.read_bytes()[: end + 2]
    (path,) = volume.write(tmp_path, "std", [np.full(volume.shape, 0.25, np.float32)], kind="std")
    back, found = nrrd.read(str(path))
    assert back.dtype == np.float32 and (back == 0.25).all() and found["a custom key"] == "a custom value"
    np.testing.assert_array_equal(found["space directions"], nrrd.read_header(str(source))["space directions"])


@pytest.mark.parametrize("axis", [0, 3])
def test_nrrd_sequence_each_volume_apart(tmp_path: Path, axis: int) -> None:
    numbers = np.arange(5 * 4 * 3 * 2, dtype=np.int16).reshape(5, 4, 3, 2)
    kinds, directions = ["domain"] * 3, [[1, 0, 0], [0, 2, 0], [0, 0, 3]]
    kinds.insert(axis, "list")
    directions.insert(axis, [np.nan] * 3)  # type: ignore[list-item]
    header = {"space": "RAS", "kinds": kinds, "space directions": np.array(directions, float), "space origin": [0, 0, 0]}
    nrrd.write(str(tmp_path / "s.nrrd"), np.moveaxis(numbers, 3, axis), header)
    found = list(read(tmp_path / "s.nrrd"))
    assert [v.name for v in found] == ["s_v0000", "s_v0001"] and found[1].spacing == (3, 2, 1)
    (path,) = found[1].write(tmp_path, "denoised", unchanged(found[1]))
    back, header = nrrd.read(str(path))
    np.testing.assert_array_equal(back, numbers[..., 1])
    np.testing.assert_array_equal(header["space directions"], np.diag([1, 2, 3]))
    assert header["kinds"] == ["domain"] * 3


def test_detached_nrrd(tmp_path: Path) -> None:
    numbers = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    nrrd.write(str(tmp_path / "scan.nhdr"), numbers, {"encoding": "raw"})
    (path,) = (v := one(tmp_path / "scan.nhdr")).write(tmp_path, "denoised", unchanged(v))
    np.testing.assert_array_equal(nrrd.read(str(path))[0], numbers)
    text = (tmp_path / "scan.nhdr").read_text()
    (tmp_path / "scan.nhdr").write_text(text.replace("scan.raw", "../etc/passwd"))
    assert "same folder" in message(tmp_path / "scan.nhdr")


# pictures


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_picture_depth_is_kept(tmp_path: Path, dtype: Any) -> None:
    levels = (np.arange(30 * 20).reshape(30, 20) * (100 if dtype == np.uint16 else 1)).astype(dtype)
    Image.fromarray(levels).save(tmp_path / "p.png")
    volume = one(tmp_path / "p.png")
    assert volume.shape == (1, 30, 20) and (volume.scale.high == 255 if dtype == np.uint8 else volume.scale.high > 10_000)
    (path,) = volume.write(tmp_path, "denoised", unchanged(volume))
    with Image.open(path) as back:
        assert np.array_equal(np.asarray(back), levels) and back.mode == ("L" if dtype == np.uint8 else "I;16")


def test_jpeg_gives_png_and_grey_colour_is_read(tmp_path: Path) -> None:
    grey = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))
    grey.convert("RGB").save(tmp_path / "g.jpg", exif=b"Exif\0\0" + PHI.encode())
    volume = one(tmp_path / "g.jpg")
    (path,) = volume.write(tmp_path, "denoised", unchanged(volume))
    assert path.name == "g_denoised.png" and PHI.encode() not in path.read_bytes()
    Image.merge("RGB", [grey, grey.rotate(90), grey]).save(tmp_path / "colour.png")
    assert "colour picture" in message(tmp_path / "colour.png")


def test_picture_maps_state_their_scale(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(tmp_path / "p.png")
    values = np.random.default_rng(1).normal(size=(1, 8, 9)).astype(np.float32)
    (path,) = one(tmp_path / "p.png").write(tmp_path, "residual", [values], kind="residual")
    with Image.open(path) as back:
        text = back.text["headwater"]  # type: ignore[attr-defined]
        pixel = np.asarray(back).astype(np.float64)
    found = eval(text.split(" = ")[1], {"pixel": pixel})
    np.testing.assert_allclose(found, values[0], atol=np.abs(values).max() / 60_000)


# bad input


def bomb(path: Path) -> None:
    """A PNG of a few bytes whose header states 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def nifti_with(path: Path, dim: tuple[int, ...] | None = None, code: int | None = None, offset: float | None = None) -> None:
    raw = bytearray(oblique(path).read_bytes())
    if dim:
        raw[40:56] = struct.pack("<8h", *(dim + (1,) * 8)[:8])
    if code is not None:
        raw[70:72] = struct.pack("<h", code)
    if offset is not None:
        raw[108:112] = struct.pack("<f", offset)
    path.write_bytes(raw)


BAD = {
    "missing.nii": (lambda p: None, "no such file"),
    "empty.nii.gz": (lambda p: p.write_bytes(b""), "empty"),
    "text.nii": (lambda p: p.write_text("hello" * 200), "not a NIfTI"),
    "text.nii.gz": (lambda p: p.write_text("hello" * 200), "truncated or corrupt"),
    "short.nii": (lambda p: p.write_bytes(oblique(p).read_bytes()[:-10]), "truncated"),
    "head.nii": (lambda p: p.write_bytes(oblique(p).read_bytes()[:200]), "not a NIfTI"),
    "cut.nii.gz": (lambda p: p.write_bytes(EXAMPLE_4D.read_bytes()[:100_000]), "truncated"),
    "flipped.nii.gz": (lambda p: p.write_bytes((b := EXAMPLE_4D.read_bytes())[:90_000] + b"\xff" * 64 + b[90_064:]), "corrupt"),
    "huge.nii": (lambda p: nifti_with(p, (3, 30_000, 30_000, 30_000)), f"at most {MAX_PLANE:,}"),
    "deep.nii": (lambda p: nifti_with(p, (3, 8000, 8000, 30_000)), "more than the file can hold"),
    "five.nii": (lambda p: nifti_with(p, (5, 7, 6, 5, 1, 3)), "5 dimensions"),
    "zero.nii": (lambda p: nifti_with(p, (3, 7, 0, 5)), "at least one pixel"),
    "minus.nii": (lambda p: nifti_with(p, (3, 7, -6, 5)), "at least one pixel"),
    "rgb.nii": (lambda p: nifti_with(p, code=128), "datatype 128"),
    "odd.nii": (lambda p: nifti_with(p, code=77), "datatype 77"),
    "offset.nii": (lambda p: nifti_with(p, offset=20.0), "vox_offset"),
    "far.nii": (lambda p: nifti_with(p, offset=1e9), "truncated"),
    "nan.nii": (lambda p: nibabel.save(nibabel.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4)), p), "no voxel"),
    "nan.nrrd": (lambda p: nrrd.write(str(p), np.full((3, 3, 3), np.nan, np.float32)), "no voxel"),
    "text.nrrd": (lambda p: p.write_text("hello"), "not a valid NRRD"),
    "bomb.png": (bomb, "pixels"),
    "text.png": (lambda p: p.write_text("hello"), "PNG or JPEG"),
    "text.dcm": (lambda p: p.write_text(PHI), "not a valid DICOM"),
    "scan.xyz": (lambda p: p.write_text("hello"), "unsupported kind"),
    "folder": (lambda p: p.mkdir(), "no file here"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_bad_input_is_one_line(tmp_path: Path, name: str) -> None:
    make, says = BAD[name]
    make(tmp_path / name)
    assert says in message(tmp_path / name) and name in message(tmp_path / name)


def test_truncated_nrrd_and_pictures(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), np.arange(6000, dtype=np.int16).reshape(20, 20, 15))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99), np.uint8)).save(tmp_path / "a.jpg")
    for name in ("a.nrrd", "a.png", "a.jpg"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "truncated" in message(tmp_path / name)


def test_a_gzip_that_swells_is_stopped(tmp_path: Path) -> None:
    plain = oblique(tmp_path / "x.nii").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(plain + b"\0" * (1 << 23)))
    assert "more than" in message(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("source", ["scan.nii", "MR", "series", "p.png", "s.nrrd"])
def test_nothing_is_left_half_written(tmp_path: Path, source: str) -> None:
    path = tmp_path / source
    if source == "scan.nii":
        oblique(path)
    elif source == "MR":
        dicom_copy(path)
    elif source == "series":
        series(path)
    elif source == "p.png":
        Image.fromarray(np.zeros((8, 9), np.uint8)).save(path)
    else:
        nrrd.write(str(path), np.arange(60, dtype=np.int16).reshape(5, 4, 3))
    volume = one(path)
    for folder in (tmp_path / "absent", Path(__file__)):  # no folder; a file where a folder is meant
        with pytest.raises(HeadwaterError, match="cannot write"):
            volume.write(folder, "denoised", unchanged(volume))
    out = tmp_path / "out"
    out.mkdir()
    spoiled = volume.slab(0, volume.shape[0]).copy()
    spoiled[-1, -1, -1] = np.nan
    with pytest.raises(PromiseBroken, match="NaN"):
        volume.write(out, "denoised", [*np.split(spoiled, len(spoiled))])
    assert list(out.iterdir()) == []
    with pytest.raises(ValueError, match="slabs end"):
        volume.write(out, "denoised", [])
    assert list(out.iterdir()) == []


def test_folder_of_single_files_is_read_in_order(tmp_path: Path) -> None:
    oblique(tmp_path / "b.nii")
    Image.fromarray(np.ones((8, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("not read")
    assert [v.name for v in read(tmp_path)] == ["a", "b"]
    Image.fromarray(np.ones((8, 9), np.uint8)).save(tmp_path / "a.jpg")
    assert "rename one" in message(tmp_path)


def test_scale_does_not_depend_on_slabs_and_is_stated(tmp_path: Path) -> None:
    volume = one(EXAMPLE_4D, volume=0)
    numbers = np.asarray(nibabel.load(EXAMPLE_4D).dataobj)[..., 0]  # type: ignore[attr-defined]
    assert volume.scale.low == 0 and volume.scale.high == pytest.approx(np.percentile(numbers, 99.9))
    unit = volume.scale.to_unit(volume.slab(0, 3))
    np.testing.assert_allclose(volume.scale.from_unit(unit), volume.slab(0, 3), rtol=1e-5, atol=1e-3)

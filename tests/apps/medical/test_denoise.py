"""The denoise pipeline: what it keeps, what it promises for each slice, and what never reaches a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from headwater.errors import HeadwaterError
from headwater.generator import Generator
from headwater.model import build
from headwater.noise import Noise
from headwater_medical import Medical
from headwater_medical.files import read
from headwater_medical.pipelines.denoise import Denoise, DenoiseOptions, estimate, inside, noise_law, slices


@pytest.fixture(scope="module")
def model() -> Generator:
    """The small recipe with fresh weights: enough for everything but quality."""
    import torch

    torch.manual_seed(0)
    domain = Medical()
    recipe = domain.recipes["diffusion"].at("s")
    made = build(recipe, domain.codecs["patch"].space, (), {}).eval()
    with torch.no_grad():
        for p in made.parameters():  # the last layers start at zero: move them, or every network is the same
            p.add_(0.02 * torch.randn(p.shape))
    return Generator(domain, made, recipe, "medical/fresh")


def phantom(depth: int = 5, height: int = 70, width: int = 90, sigma: float = 0.05, law: str = "rician") -> np.ndarray:
    """Ellipses of several greys with noise of a law: (width, height, depth) int16 up to about 1000."""
    y, x = np.mgrid[:height, :width]
    inner = np.exp(-(((y - 35) / 25) ** 2) - ((x - 45) / 30) ** 2) + 0.3 * (np.hypot(y - 30, x - 40) < 9)
    noise, other = Noise(3).rows(range(depth)).normal(2, height, width).numpy().swapaxes(0, 1)
    clean = inner[None] * (1 + 0.1 * np.arange(depth)[:, None, None])
    stack = clean + sigma * noise if law == "gaussian" else np.hypot(clean + sigma * noise, sigma * other)
    return np.rint(700 * stack.transpose(2, 1, 0)).astype(np.int16)


def nifti(path: Path, values: np.ndarray) -> Path:
    affine = np.array([[-0.9, 0.1, 0, 40], [0.1, 0.9, 0.05, -30], [0, -0.05, 2.5, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


PLAIN = DenoiseOptions()


def run(model: Generator, source: Path, folder: Path, options: DenoiseOptions = PLAIN) -> tuple[list, list[Path]]:
    pipeline = Denoise()
    results = list(pipeline.run(model, list(enumerate(pipeline.read(source, options))), Noise(1), options))
    return results, [file for result in results for file in result.write(folder)]


def test_a_volume_keeps_its_geometry_and_number_format(model: Generator, tmp_path: Path) -> None:
    source = nifti(tmp_path / "scan.nii.gz", phantom())
    (result,), files = run(model, source, tmp_path)
    assert [f.name for f in files] == ["scan_denoised.nii.gz", "scan_residual.nii.gz"]
    before, after = nibabel.load(source), nibabel.load(files[0])
    assert (after.affine == before.affine).all()
    assert after.header["sform_code"] == before.header["sform_code"]
    assert after.get_data_dtype() == before.get_data_dtype()
    assert after.shape == before.shape
    assert result.problem() is None
    assert 0.01 < result.record()["sigma"] < 0.1


def test_a_slice_depends_on_itself_the_level_and_its_key_alone(model: Generator, tmp_path: Path) -> None:
    volume = next(read(nifti(tmp_path / "scan.nii", phantom())))
    law = noise_law(volume, "gaussian", 0.05)
    stack = [volume.scale.to_unit(volume.slab(z, z + 1)[0]) for z in range(volume.shape[0])]

    def denoised(order: Sequence[int]) -> dict[int, bytes]:
        work = slices(model, law, 2)
        made = {z: work(stack[z], Noise(1).fold("slice", z)) for z in order}
        return {z: mean.tobytes() + std.tobytes() for z, (mean, std) in made.items() if std is not None}

    whole = denoised(range(5))
    assert whole == denoised([4, 2, 0, 3, 1])
    assert whole[3] == denoised([3])[3]


def test_the_same_run_writes_the_same_bytes(model: Generator, tmp_path: Path) -> None:
    source = nifti(tmp_path / "scan.nii.gz", phantom(depth=2))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    options = DenoiseOptions(draws=2)
    first, second = (run(model, source, tmp_path / name, options)[1] for name in ("a", "b"))
    assert [f.name for f in first] == ["scan_denoised.nii.gz", "scan_residual.nii.gz", "scan_std.nii.gz"]
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]


def test_four_dimensional_files_give_a_row_for_each_volume_or_the_one_asked_for() -> None:
    pipeline = Denoise()
    assert len(list(pipeline.read(pipeline.example(), DenoiseOptions()))) == 2
    assert len(list(pipeline.read(pipeline.example(), DenoiseOptions(volume=1)))) == 1
    with pytest.raises(HeadwaterError, match="volume"):
        list(pipeline.read(pipeline.example(), DenoiseOptions(volume=7)))


def test_dicom_keeps_the_patient_and_says_it_is_derived(model: Generator, tmp_path: Path) -> None:
    data = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False))
    secrets = {
        "PatientName": "Plantedfamily^Secretgiven",
        "PatientID": "PID-424242",
        "ReferringPhysicianName": "Referring^Physicianname",
    }
    for keyword, value in secrets.items():
        setattr(data, keyword, value)
    source = tmp_path / "in.dcm"
    data.save_as(source)
    (result,), files = run(model, source, tmp_path, DenoiseOptions(noise="rician", draws=2))
    made = pydicom.dcmread(files[0])
    assert all(str(getattr(made, keyword)) == value for keyword, value in secrets.items())
    assert made.StudyInstanceUID == data.StudyInstanceUID
    assert made.SOPInstanceUID != data.SOPInstanceUID and made.SeriesInstanceUID != data.SeriesInstanceUID
    assert list(made.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    shown = result.render() + str(result.record()) + "".join(f.name for f in files)
    assert not any(word in shown for value in secrets.values() for word in value.split("^"))
    assert "http" not in shown


def test_values_far_outside_the_range_keep_their_distance() -> None:
    unit = np.array([[-3.0, 0.5, 9.0]], dtype=np.float32)
    assert inside(unit, 0.01).tolist() == [[-0.25, 0.5, 1.25]]
    assert inside(unit, 0.2).min() == pytest.approx(-0.8)  # noise on a black background is the prior's business


def test_a_flat_image_has_no_noise_to_estimate(tmp_path: Path) -> None:
    volume = next(read(nifti(tmp_path / "flat.nii", np.full((32, 32, 3), 7, dtype=np.int16))))
    with pytest.raises(HeadwaterError, match="--sigma"):
        estimate(volume, "gaussian")


@pytest.mark.parametrize(("law", "sigma"), [("gaussian", 0.04), ("rician", 0.04)])
def test_the_level_is_estimated(law: str, sigma: float, tmp_path: Path) -> None:
    volume = next(read(nifti(tmp_path / "scan.nii", phantom(3, 128, 128, sigma, law))))
    span = (volume.scale.high - volume.scale.low) / 700  # the level is a share of the intensity range
    assert estimate(volume, law) == pytest.approx(sigma / span, rel=0.15)

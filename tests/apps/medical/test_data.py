"""Training slices: split by near-duplicate cluster, in [0, 1], and a clear line where the data are not here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headwater.errors import HeadwaterError
from headwater_medical import data
from headwater_medical.intensity import robust_scale


def pictures(root: Path, families: int = 150, copies: int = 3) -> Path:
    """JPEG slices in families of near-duplicates."""
    home = root / "medical" / "mri_slices" / "some"
    home.mkdir(parents=True)
    random = np.random.default_rng(0)
    for family in range(families):
        coarse = random.integers(40, 215, (8, 8)).astype(np.float64)
        for copy in range(copies):
            picture = np.kron(coarse, np.ones((8, 8))) + random.normal(0, 5, (64, 64))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(home / f"{(family * 7 + copy * 53) % 997:03d}_{family}.jpg")
    return root


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADWATER_DATA", str(pictures(tmp_path / "data")))
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_near_duplicates_never_part(prepared: Path) -> None:
    splits = {name: data.rows(name) for name in data.SPLITS}
    assert sum(map(len, splits.values())) == 450
    families = {name: {n.split("_")[1] for n in rows.names} for name, rows in splits.items()}
    assert all(families.values()) and len(families["train"]) > 120
    assert (
        not families["train"] & families["valid"]
        and not families["train"] & families["test"]
        and not families["valid"] & families["test"]
    )
    first = splits["train"][0]
    assert first.dtype == np.float32 and first.shape == (64, 64) and 0 <= first.min() < first.max() <= 1


def test_splits_are_cached_and_the_same_again(prepared: Path) -> None:
    names = data._split_names.__wrapped__(data.folder("mri_slices"))
    (cached,) = (prepared / "cache" / "mri_slices").iterdir()
    before = cached.stat().st_mtime_ns
    assert data._split_names.__wrapped__(data.folder("mri_slices")) == names and cached.stat().st_mtime_ns == before
    cached.unlink()
    assert data._split_names.__wrapped__(data.folder("mri_slices")) == names


def test_clusters_are_connected_components() -> None:
    waves = np.sin(
        np.linspace(0, 20, 200)[None] + np.arange(0, 3, 0.2)[:, None]
    )  # each correlates .98 with the next, the ends do not
    assert np.corrcoef(waves)[0, -1] < 0.9
    assert (data.clusters(waves) == 0).all()
    assert data.clusters(np.vstack([waves[::-1], np.ones(200), np.arange(200)])).tolist() == [0] * 15 + [15, 16]


def test_a_huge_cluster_goes_to_train() -> None:
    names = [f"{i:04d}" for i in range(1000)]
    for root in range(0, 1000, 37):
        label = np.where(np.arange(1000) < 500, 0, np.arange(1000)) + root * 0
        splits = data._assign(names[root:] + names[:root], label)
        assert set(splits["train"]) >= set((names[root:] + names[:root])[:500])
    assert 20 < len(splits["valid"]) + len(splits["test"]) < 100


def test_missing_and_damaged_data(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeadwaterError, match="splits train, valid, test"):
        data.rows("dev")
    with pytest.raises(HeadwaterError, match="set HEADWATER_DATA"):
        data.volume_rows("test")
    with pytest.raises(HeadwaterError, match="only split is 'test'"):
        data.volume_rows("train")
    victim = next((prepared / "data").rglob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(HeadwaterError, match="not a readable picture"):
        data._picture(victim)
    monkeypatch.delenv("HEADWATER_DATA")
    with pytest.raises(HeadwaterError, match="the variable is not set"):
        data.rows("train")


def test_the_packaged_sample_is_real_and_in_range() -> None:
    sample = data.sample()
    assert len(sample) == 12 and {n.split("/")[0] for n in sample.names} == {"example4d", "MR_small", "CT_small"}
    assert all(p.dtype == np.float32 and p.ndim == 2 and 0 <= p.min() < p.max() <= 1 and p.std() > 0.05 for p in sample)


@pytest.mark.parametrize("dataset", [data.MRI_SLICES, data.BRAIN_VOLUMES])
def test_cards_are_complete(dataset: data.Dataset) -> None:
    import tomllib

    card = tomllib.loads((dataset.card / "card.toml").read_text())
    assert {"name", "title", "source", "licence", "citation", "not_for", "sha256", "fetch"} <= card.keys()
    assert card["name"] == dataset.card.name and card["fetch"]["local"].startswith("medical/") and "unverified" in card["licence"]
    assert (dataset.card / "CARD.md").exists()


def test_scale_of_magnitudes_signed_and_ct() -> None:
    assert robust_scale(np.array([0.0, 5, 10])).low == 0 and robust_scale(np.array([3.0, 5, 10])).low == 0
    signed = robust_scale(np.linspace(-100, 100, 2001))
    assert signed.low == pytest.approx(-99.8) and signed.high == pytest.approx(99.8)
    assert robust_scale(np.array([-2000.0, 0, 1000]), hounsfield=True).low == -1024
    assert robust_scale(np.array([np.nan])).high == 1

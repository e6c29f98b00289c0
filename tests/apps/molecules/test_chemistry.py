"""Properties, reasons, files, pictures and figures of molecules, against RDKit and by hand."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.domain import Evaluation
from headwater.errors import HeadwaterError
from headwater.knobs import fields
from headwater_molecules import Molecules, data, formats
from headwater_molecules.metrics import internal_diversity, knob_error, novel, unique, valid
from headwater_molecules.novelty import MOSES_TRAIN, Bloom, moses_train
from headwater_molecules.properties import TRAIN_STD, Wish, describe
from headwater_molecules.validity import canonical, problem, reason

DOMAIN = Molecules()
SAMPLE = data.sample()
ODD = ["[2H]C([2H])([2H])O", "[H][H]", "[Na+].[Cl-]", "CC[N+](C)(C)C.[Br-]", "O[As](=O)(O)c1ccccc1", "[*:1]CCN", "c1ccc2ccccc2c1"]


# properties


def test_qed_equals_rdkit_exactly() -> None:
    from rdkit import Chem
    from rdkit.Chem import QED

    for smiles in [*SAMPLE[:60], *ODD]:
        assert describe(smiles).qed == QED.qed(Chem.MolFromSmiles(smiles)), smiles


def test_aspirin_is_described() -> None:
    wish = describe("CC(=O)Oc1ccccc1C(=O)O")
    assert wish.mw == pytest.approx(180.159, abs=1e-3)
    assert wish.tpsa == pytest.approx(63.60, abs=1e-2)
    assert wish.logp == pytest.approx(1.3101, abs=1e-4)
    assert wish.rings == 1


@pytest.mark.parametrize("smiles", ["", "C1CC", "not a molecule", "CN(C)(C)C"])
def test_invalid_strings_have_no_properties(smiles: str) -> None:
    assert describe(smiles) == Wish()


def test_knobs_hold_every_sample_and_the_stored_spread() -> None:
    knobs = {field.name: field for field in fields(Wish)}
    assert knobs.keys() == TRAIN_STD.keys()
    wishes = [describe(smiles) for smiles in SAMPLE[::4]]
    for name, field in knobs.items():
        values = [getattr(wish, name) for wish in wishes]
        assert [field.check(value) for value in values] == values
        assert np.std(values) == pytest.approx(TRAIN_STD[name], rel=0.2)


# why a string is no molecule

REASONS = {
    "": "empty",
    "C1CC": "ring 1, opened at character 2, is never closed",
    "C%12CC": "ring 12, opened at character 2",
    "C1CC2": "ring 1, opened at character 2, is never closed; ring 2, opened at character 5",
    "C11": "closes on the atom it starts from",
    "C12CC12": "bonded already",
    "1CC": "follows no atom",
    "CC(C": "branch opened at character 3 is never closed",
    "CC)C": "branch closed at character 3 was never opened",
    "C()C": "branch opened at character 2 is empty",
    "(C)C": "hangs on no atom",
    "C[nH": "bracket opened at character 2",
    "CnH]": "character 3, 'H'",
    "C=": "bond at character 2 leads to no atom",
    "C(=)C": "bond at character 3 leads to no atom",
    "C=-C": "two bonds in a row at character 2",
    "C..C": "dot at character 3 separates nothing",
    "CC C": "character 3 is a blank",
    "CCé": "character 3 is a blank or not ASCII",
    "CCX": "character 3, 'X'",
    "C[nope]": "'[nope]' (character 2) is no atom",
    "CN(C)(C)C": "nitrogen (atom 2) has too many bonds (valence 4; 3 is allowed)",
    "C[N+](C)(C)(C)C": "nitrogen (atom 2) has too many bonds (valence 5 with charge +1)",
    "CF=C": "fluorine (atom 2)",
    "c1cccc1": "aromatic atoms 1, 2, 3, 4, 5 cannot alternate",
    "cC": "carbon (atom 1) is written as aromatic but lies in no ring",
    "[Na+].[Cl-]": "2 unconnected fragments",
}


@pytest.mark.parametrize("smiles", REASONS)
def test_reasons_say_what_and_where(smiles: str) -> None:
    found = problem(smiles)
    assert found is not None and REASONS[smiles] in found


def test_valid_molecules_have_no_problem() -> None:
    for smiles in [*SAMPLE[:100], "C[N+](C)(C)C", "c1cc[nH]c1", "C1.C1", "C%(12)CC%(12)", "OS(=O)(=O)O", "[2H]C"]:
        assert problem(smiles) is None, smiles
    assert reason("[Na+].[Cl-]") is None  # a salt is readable, only not one molecule


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="CcNnO()[]=#-+@H12%.\\/*", max_size=40), st.none(), st.integers()))
def test_problem_never_raises_and_agrees_with_rdkit(text: str) -> None:
    from rdkit import Chem, rdBase

    found = problem(text)
    assert found is None or (isinstance(found, str) and found)
    if isinstance(text, str) and re.fullmatch(r"[!-~]+", text):
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(text)
        assert (reason(text) is None) == (mol is not None and mol.GetNumAtoms() > 0)


def test_rdkit_stays_silent() -> None:
    code = (
        "from headwater_molecules import Molecules; d = Molecules()\n"
        "[f(s) for s in ('C1CC', 'CN(C)(C)C', 'C') for f in (d.problem, d.describe, d.render, d.record)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""


def test_import_is_light() -> None:
    code = "import sys, headwater_molecules; print(sorted({'torch', 'rdkit', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# files


def test_files_are_deterministic_and_hold_only_valid_rows(tmp_path: Path) -> None:
    made = [*SAMPLE[:5], "C1CC", "", "[Na+].[Cl-]", "[NH3][Pt]([NH3])(Cl)Cl", "C1#CC#C1", SAMPLE[5]]
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contents.append([path.read_bytes() for path in DOMAIN.write(made, tmp_path / name)])
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["items.sdf", "items.smi"]
    assert contents[0] == contents[1]
    smi = [line.split() for line in (tmp_path / "a/items.smi").read_text().splitlines()]
    assert smi == [[smiles, str(row)] for row, smiles in enumerate(made) if problem(smiles) is None]
    assert DOMAIN.read(tmp_path / "a/items.smi") == [smiles for smiles, _ in smi]
    assert DOMAIN.read(tmp_path / "a/items.sdf") == [smiles for smiles, _ in smi]


def test_conformers_are_three_dimensional_with_hydrogens_and_properties(tmp_path: Path) -> None:
    from rdkit import Chem

    DOMAIN.write(["CC(=O)Oc1ccccc1C(=O)O", "C1#CC#C1"], tmp_path)
    aspirin, strained = Chem.SDMolSupplier(str(tmp_path / "items.sdf"), removeHs=False)
    assert aspirin.GetNumAtoms() == 21 and np.ptp(aspirin.GetConformer().GetPositions()[:, 2]) > 0.5
    bond = np.linalg.norm(np.diff(aspirin.GetConformer().GetPositions()[:2], axis=0))
    assert 1.4 < bond < 1.6  # Å, C-C
    assert float(aspirin.GetProp("mw")) == pytest.approx(180.159) and aspirin.GetProp("rings") == "1"
    assert aspirin.GetProp("_Name") == "0" and aspirin.GetProp("coordinates").startswith("3-D")
    assert strained.GetProp("coordinates").startswith("2-D") and np.ptp(strained.GetConformer().GetPositions()[:, 2]) == 0


def test_after_the_limit_coordinates_are_flat_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "CONFORMERS", 1)
    DOMAIN.write(SAMPLE[:2], tmp_path)
    notes = re.findall(r"<coordinates>\n(.*)\n", (tmp_path / "items.sdf").read_text())
    assert notes == ["3-D: ETKDGv3, relaxed by MMFF94", "2-D: conformers are made for the first 1 molecules"]


def test_tables_and_lists_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,SMILES\r\nethanol,CCO\r\nsalt,[Na+].[Cl-]\r\n")
    (tmp_path / "a.smi").write_text("# mine\nCCO ethanol\n\nCCN\tamine\n")
    assert DOMAIN.read(tmp_path / "a.csv") == ["CCO", "[Na+].[Cl-]"]
    assert DOMAIN.read(tmp_path / "a.smi") == ["CCO", "CCN"]


def test_stereo_of_an_sdf_comes_from_its_coordinates_unless_a_smiles_says_it_is_open(tmp_path: Path) -> None:
    DOMAIN.write(["C[C@H](N)C(=O)O", "CC(N)C(=O)O"], tmp_path)
    assert DOMAIN.read(tmp_path / "items.sdf") == ["C[C@H](N)C(=O)O", "CC(N)C(=O)O"]
    text = (tmp_path / "items.sdf").read_text()
    (tmp_path / "bare.sdf").write_text(re.sub(r">  <smiles>\n.*\n\n", "", text))
    assert DOMAIN.read(tmp_path / "bare.sdf")[0] == canonical("C[C@H](N)C(=O)O")
    (tmp_path / "other.sdf").write_text(re.sub(r"(>  <smiles>\n).*", r"\1CCO", text))
    assert DOMAIN.read(tmp_path / "other.sdf")[0] == canonical("C[C@H](N)C(=O)O")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.smi", "CCO\nC1CC bad\n", r"a\.smi, line 2: 'C1CC' is no molecule: ring 1"),
        ("a.csv", "smiles\nCCO\nCN(C)(C)C\n", r"a\.csv, line 3: .*nitrogen \(atom 2\)"),
        ("a.csv", "name\nCCO\n", "expected a column named smiles; it has name"),
        ("a.smi", "\n", "holds no molecule"),
        ("a.csv", "", "expected a column named smiles; it has none"),
        ("a.sdf", "\n\n\nnonsense\nM  END\n$$$$\n", r"record 1 \(line 1\): not a molecule block"),
        ("a.xyz", "CCO", r"expected a file of molecules \(\.smi"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(HeadwaterError, match=message):
        DOMAIN.read(tmp_path / name)


def test_a_broken_record_of_an_sdf_is_named(tmp_path: Path) -> None:
    DOMAIN.write(SAMPLE[:2], tmp_path)
    first, second, _ = (tmp_path / "items.sdf").read_text().split("$$$$\n")
    (tmp_path / "bad.sdf").write_text(first + "$$$$\n" + second.replace("V2000", "V9999") + "$$$$\n")
    with pytest.raises(HeadwaterError, match=rf"record 2 \(line {first.count(chr(10)) + 2}\)"):
        DOMAIN.read(tmp_path / "bad.sdf")
    with pytest.raises(HeadwaterError, match="cannot be read"):
        DOMAIN.read(tmp_path / "missing.smi")


# pictures and records


def test_pictures_are_deterministic_self_contained_and_escaped() -> None:
    for smiles in [*SAMPLE[:5], *ODD]:
        page = DOMAIN.render(smiles)
        assert page == DOMAIN.render(smiles)
        assert not re.search(r"https?:|\sid=|\sclass=|url\(", page) and "currentColor" in page
        ElementTree.fromstring(page.replace("<br>", "<br/>"))
    assert "2 unconnected fragments" in DOMAIN.render("[Na+].[Cl-]")
    assert "<b>" not in DOMAIN.render("<b>x</b>") and "&lt;b&gt;" in DOMAIN.render("<b>x</b>")
    assert "(empty)" in DOMAIN.render("")


def test_records_hold_identity_and_properties() -> None:
    record = DOMAIN.record("OC(=O)c1ccccc1OC(C)=O")
    assert record["smiles"] == "CC(=O)Oc1ccccc1C(=O)O" and record["inchikey"] == "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"
    assert list(record) == ["smiles", "logp", "qed", "mw", "tpsa", "rings", "inchikey"]
    assert DOMAIN.record("C1CC") == dict.fromkeys(record, None) | {"smiles": "C1CC"}


# figures


def evaluation(made: list[str], asked: list[Wish] | None = None) -> Evaluation[str, Wish]:
    return Evaluation(made, asked or [Wish()] * len(made), SAMPLE)


def test_validity_and_uniqueness_are_counted_by_molecule() -> None:
    made = evaluation(["CCO", "OCC", "CCN", "C1CC", "[Na+].[Cl-]"])
    assert valid(made) == pytest.approx(3 / 5)
    assert unique(made) == pytest.approx(2 / 3)


def test_novelty_knows_moses_train() -> None:
    assert novel(evaluation(list(SAMPLE[:200]))) == 0
    assert novel(evaluation(["CC", "CCO", "CN(C)C", SAMPLE[0]])) == pytest.approx(3 / 4)


def test_diversity_is_the_mean_over_all_pairs() -> None:
    from rdkit import DataStructs

    items = list(SAMPLE[:40])
    bits = [DataStructs.CreateFromBitString("".join(map(str, row.astype(int)))) for row in DOMAIN.features(items)]
    expected = 1 - np.mean([[DataStructs.TanimotoSimilarity(a, b) for b in bits] for a in bits])
    assert internal_diversity(evaluation(items)) == pytest.approx(expected, abs=1e-6)
    assert internal_diversity(evaluation(["CCO"] * 3)) == pytest.approx(0, abs=1e-6)


def test_knob_error_is_in_standard_deviations() -> None:
    got = describe("CCO")
    wish = Wish(mw=got.mw + 2 * TRAIN_STD["mw"], rings=0)  # type: ignore[operator]
    assert knob_error(evaluation(["CCO", "CCN", "C1CC"], [wish, Wish(), wish])) == pytest.approx(1.0)
    assert math.isnan(knob_error(evaluation(["CCO"])))


def test_figures_of_nothing_are_undefined() -> None:
    assert all(math.isnan(metric.score(evaluation([]))) for metric in DOMAIN.metrics)
    assert all(math.isnan(metric.score(evaluation(["C1"]))) for metric in DOMAIN.metrics if metric.name != "valid")
    assert all(metric.source for metric in DOMAIN.metrics if metric.published)


def test_features_are_morgan_bits() -> None:
    bits = DOMAIN.features(["CCO", "C1CC"])
    assert bits.shape == (2, 1024) and bits.dtype == bool and bits[0].any() and not bits[1].any()


# Bloom filter


def test_bloom_forgets_nothing_and_errs_as_often_as_it_says(tmp_path: Path) -> None:
    members = [f"member {i}" for i in range(20_000)]
    made = Bloom.of(members)
    made.save(tmp_path / "a.bloom")
    loaded = Bloom.load(tmp_path / "a.bloom")
    assert loaded.hashes == made.hashes == 7 and (loaded.bits == made.bits).all()
    assert all(member in loaded for member in members)
    wrong = sum(f"stranger {i}" in loaded for i in range(20_000)) / 20_000
    assert 0.006 < wrong < 0.014


def test_the_shipped_filter_is_whole() -> None:
    assert MOSES_TRAIN.stat().st_size < 2_500_000
    density = np.unpackbits(moses_train().bits).mean()
    assert density == pytest.approx(1 - math.exp(-7 / 9.6), abs=0.002)  # 1.58 million members, 7 hashes, 9.6 bits each
    strangers = sum("C" * i in moses_train() for i in range(60, 560))
    assert strangers < 20


# MOSES


def packed(lines: list[str]) -> bytes:
    return gzip.compress("\n".join(["SMILES", *lines, ""]).encode(), mtime=0)


@pytest.fixture
def moses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose three files are the sample's molecules, with a card that holds their checksums."""
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    files = {"train.csv.gz": packed(list(SAMPLE[:800])), "test.csv.gz": packed(list(SAMPLE[800:]))}
    (tmp_path / "moses").mkdir()
    (tmp_path / "card").mkdir()
    for name, content in files.items():
        (tmp_path / "moses" / name).write_bytes(content)
    sums = "".join(f'"{name}" = "{hashlib.sha256(content).hexdigest()}"\n' for name, content in files.items())
    (tmp_path / "card/card.toml").write_text(f"[sha256]\n{sums}")
    monkeypatch.setattr(data, "CARD", tmp_path / "card")
    return tmp_path / "moses"


def test_splits_are_apart_and_complete(moses: Path) -> None:
    train, held_out, test = data.rows("train"), data.rows("valid"), data.rows("test")
    assert sorted([*train, *held_out]) == sorted(SAMPLE[:800]) and list(test) == list(SAMPLE[800:])
    assert train[0] == SAMPLE[0] and train[-1] in SAMPLE[:800] and list(train[2:4]) == [train[2], train[3]]
    assert len(held_out) == 0  # the sample is drawn from the train split, so none of it may be held out


def test_missing_or_changed_files_say_what_to_do(moses: Path) -> None:
    with pytest.raises(HeadwaterError, match="headwater data get moses"):
        data.rows("test_scaffolds")
    (moses / "test.csv.gz").write_bytes(packed(["CCO"]))
    with pytest.raises(HeadwaterError, match="sha256 differs"):
        data.rows("test")
    with pytest.raises(HeadwaterError, match="no split 'dev'; expected one of train, valid"):
        data.rows("dev")


def test_the_sample_is_small_valid_and_from_moses() -> None:
    assert len(SAMPLE) == len(set(SAMPLE)) == 1000
    assert all(map(moses_train().__contains__, map(canonical, SAMPLE[:100])))  # type: ignore[arg-type]

"""The SMILES codec: a frozen vocabulary that holds real drugs exactly, and decoding that never fails."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headwater_molecules.codecs import LENGTH, VOCABULARY, Smiles
from headwater_molecules.data import sample

CODEC = Smiles()

DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "venetoclax": "CC1(C)CCC(CN2CCN(c3ccc(C(=O)NS(=O)(=O)c4ccc(NCC5CCOCC5)c([N+](=O)[O-])c4)c(Oc4cnc5[nH]ccc5c4)c3)CC2)"
    "=C(c2ccc(Cl)cc2)C1",
    "paclitaxel": "CC1=C2[C@@]([C@]([C@H]([C@@H]3[C@]4([C@H](OC4)C[C@@H]([C@]3(C(=O)[C@@H]2OC(=O)C)C)O)OC(=O)C)OC(=O)c5ccccc5)"
    "(C[C@@H]1OC(=O)[C@H](O)[C@@H](NC(=O)c6ccccc6)c7ccccc7)O)(C)C",
    "penicillin G sodium": "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)[O-].[Na+]",
    "cisplatin": "[NH3][Pt]([NH3])(Cl)Cl",
    "deutetrabenazine": "[2H]C([2H])([2H])Oc1cc2c(cc1OC([2H])([2H])[2H])C1CC(=O)C(CC(C)C)CN1CC2",
    "fludeoxyglucose (18F)": "OC[C@H]1OC(O)[C@H]([18F])[C@@H](O)[C@@H]1O",
    "bortezomib": "CC(C)C[C@H](NC(=O)[C@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "fosfomycin": "C[C@@H]1O[C@@H]1P(=O)(O)O",
    "ebselen": "O=c1n(-c2ccccc2)[se]c2ccccc12",
    "tamoxifen": r"CC/C(=C(\c1ccccc1)c1ccc(OCCN(C)C)cc1)c1ccccc1",
    "esomeprazole": "COc1ccc2[nH]c([S@@+]([O-])Cc3ncc(C)c(OC)c3C)nc2c1",
    "neostigmine bromide": "CN(C)C(=O)Oc1cccc([N+](C)(C)C)c1.[Br-]",
    "technetium tetrofosmin core": "[99Tc+5].[O-2].[O-2]",
    "levothyroxine": "N[C@@H](Cc1cc(I)c(Oc2cc(I)c(O)c(I)c2)c(I)c1)C(=O)O",
    "iron sulphate": "[Fe+2].[O-]S(=O)(=O)[O-]",
    "azide": "[N-]=[N+]=Nc1ccccc1",
    "silane": "C[Si](C)(C)C#C",
    "ring 10 and beyond": "C%10CCCCC%10C%11CC%11",
    "attachment points": "[*:1]c1ccc([*:2])cc1[*:12]",
    "any atom": "*C(=O)N*",
    "quadruple and aromatic bonds": "C$C.c1:c:c:c:c:c1",
}


@pytest.mark.parametrize("name", DRUGS)
def test_drugs_come_back_exactly(name: str) -> None:
    array = CODEC.encode(DRUGS[name])
    assert array.shape == (LENGTH, 1) and array.dtype == np.int64
    assert CODEC.decode(array) == DRUGS[name]


def test_every_element_can_be_spelt() -> None:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    for number in range(1, 119):
        smiles = f"[{table.GetElementSymbol(number)}]"
        assert CODEC.decode(CODEC.encode(smiles)) == smiles


def test_the_sample_comes_back_exactly() -> None:
    assert all(CODEC.decode(CODEC.encode(smiles)) == smiles for smiles in sample())


def test_the_vocabulary_is_frozen() -> None:
    assert len(VOCABULARY) == len(set(VOCABULARY)) == CODEC.space.vocab == 117
    digest = hashlib.sha256(" ".join(VOCABULARY).encode()).hexdigest()
    assert digest == "ce741009dc178c429ef363ac21eaf62785dd83c4d3a90b69855e9a40942350d2", "shipped models index this vocabulary"


def test_longest_match_wins() -> None:
    tokens = [VOCABULARY[i] for i in CODEC.encode("ClC[C@@H](Br)[nH][SiH2]")[:13, 0]]
    assert tokens == ["Cl", "C", "[C@@H]", "(", "Br", ")", "[nH]", "[", "S", "i", "H", "2", "]"]


def test_a_foreign_character_is_named_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"character 3 of 'CC!C', '!'"):
        CODEC.encode("CC!C")
    with pytest.raises(ValueError, match="character 2"):
        CODEC.encode("C C")


def test_127_tokens_fit_and_128_do_not() -> None:
    assert CODEC.decode(CODEC.encode("C" * 127)) == "C" * 127
    with pytest.raises(ValueError, match="128 tokens is too long"):
        CODEC.encode("C" * 128)
    with pytest.raises(ValueError, match="128 tokens is too long"):
        CODEC.prefix("C" * 128)


def test_prefix_is_the_beginning_of_the_encoding() -> None:
    drug = DRUGS["venetoclax"]
    prefix = CODEC.prefix(drug[:20])
    assert prefix.shape[1] == 1 and (CODEC.encode(drug)[: len(prefix)] == prefix).all()
    assert CODEC.prefix("").shape == (0, 1)
    with pytest.raises(ValueError, match="inside a bracket"):
        CODEC.prefix("CC[C@")


@given(arrays(np.int64, (LENGTH, 1), elements=st.integers(0, len(VOCABULARY) - 1)))
def test_decode_is_total_and_stops_at_the_first_zero(array: np.ndarray) -> None:
    text = CODEC.decode(array)
    tokens = array[:, 0].tolist()
    kept = tokens[: tokens.index(0)] if 0 in tokens else tokens
    assert text == "".join(VOCABULARY[i] for i in kept)


@given(arrays(np.int64, (LENGTH, 1), elements=st.integers(-(2**63), 2**63 - 1)))
def test_decode_survives_numbers_outside_the_vocabulary(array: np.ndarray) -> None:
    assert isinstance(CODEC.decode(array), str)


@given(st.text(alphabet="".join(sorted(set("".join(VOCABULARY)))), max_size=100))
def test_any_text_of_the_alphabet_comes_back_exactly(text: str) -> None:
    assert CODEC.decode(CODEC.encode(text)) == text

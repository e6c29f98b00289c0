"""The rules that SMILES are sampled by let every real molecule through, and nothing that cannot be read."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase
from tests.apps.molecules.test_codec import DRUGS

from headwater.testing.recipe_checks import broken
from headwater_molecules.alternation import alternation
from headwater_molecules.codecs import LENGTH, VOCABULARY, Smiles
from headwater_molecules.data import sample
from headwater_molecules.grammar import BONDS, grammar

CODEC = Smiles()
RULES = {"grammar": grammar(), "alternation": alternation()}
OTHER_NOTATION = (
    "C(C)1CC1 C%10CCC%10 C=1CCCCC=1 C1CCCCC=1 [13CH3]C [C@SP1](F)(Cl)(Br)I [Pt@TB12H2-2:123] [H][H] [H+] [nH]1cccc1 "
    "c1cc[n+]([O-])cc1 F[P-](F)(F)(F)(F)F CS(=O)(=O)C c1ccc2c(c1)-c1ccccc1-2 C12C3C4C1C5C2C3C45 CC(=O)[O-].[Na+] F/C=C/1\\CC1 "
    "O=c1cc[nH]c(=O)[nH]1 O=C1NC(=O)c2ccccc12 O=c1nc2n(-c3ccc(F)cc3)c3ccccc3cc-2c(=O)[nH]1 c1ccccc1c1ccccc1 c1ccn2cccc2c1 "
    "c1cc[nH+]cc1 O=c1cccccc1 c1:c:c:c:c:c:1 c1ccc2cccc-2cc1 c1ccc2cccc2cc1 C1=CC=CC=C1 [O-][n+]1ccccc1 S=c1cc[nH]cc1"
).split()


def names(mask: np.ndarray[Any, Any]) -> set[str]:
    return {VOCABULARY[i] for i in np.flatnonzero(mask)}


def after(rules: Any, text: str) -> Any:
    state = rules.start()
    for token in CODEC.prefix(text)[:, 0].tolist():
        state = rules.step(state, token)
    return state


def walk(rules: Any, generator: np.random.Generator, length: int) -> str:
    """A string of tokens each drawn from all that are allowed."""
    state, made = rules.start(), []
    for position in range(length):
        token = int(generator.choice(np.flatnonzero(rules.allowed(state, length - position))))
        if token == 0:
            break
        made.append(VOCABULARY[token])
        state = rules.step(state, token)
    assert rules.accepts(state), f"{''.join(made)} ends open"
    return "".join(made)


def spelt_out(text: str) -> bool:
    """Whether a bracket atom of it is none of the vocabulary's."""
    return any(bracket not in VOCABULARY for bracket in re.findall(r"\[.*?\]", text))


def readable(text: str) -> bool:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text, sanitize=False)
    return mol is not None and mol.GetNumAtoms() > 0


def test_the_codec_has_them() -> None:
    assert CODEC.constraint() is CODEC.constraint() is alternation()


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_real_molecules_pass(rules: Any) -> None:
    with rdBase.BlockLogs():
        known = [text for text in OTHER_NOTATION if Chem.MolFromSmiles(text) is None]
    assert known == [], "the test's own strings must be molecules"
    for smiles in (*DRUGS.values(), *OTHER_NOTATION, *sample()):
        array = CODEC.encode(smiles)
        assert broken(rules, array) is None, smiles


def test_nothing_is_let_go_for_real_molecules() -> None:
    assert [s for s in (*DRUGS.values(), *sample()) if not after(alternation(), s).ways] == []


def test_real_molecules_pass_where_they_just_fit() -> None:
    for smiles in sample()[:40]:
        array = CODEC.encode(smiles)
        assert broken(grammar(), array[: 1 + int((array != 0).sum())]) is None, smiles  # and its end


@pytest.mark.parametrize(
    ("text", "barred", "free"),
    [
        ("", ["", ")", "1", "=", "(", "."], ["C", "[", "c", "[nH]"]),
        ("C1", ["", "1", "."], ["C", "(", "=", "2", "%"]),
        ("C1C", ["1", "", "."], ["C", "2"]),
        ("C1CC", ["", ")", "F"], ["1", "C", "O", "("]),
        ("C1CC(", ["1", ")"], ["F", "C"]),
        ("C1CCC1", [")"], ["", "1", "."]),
        ("C(", [")", "(", ".", "1", ""], ["C", "="]),
        ("C(=", ["1", "=", ")", "F"], ["C", "O", "["]),
        ("C=", ["F", "[O-]", ")", "", "=", "("], ["C", "1", "%"]),
        ("C#", ["O", "F", ""], ["N", "C"]),
        ("CF", ["C", "1", "=", "("], ["", "."]),
        ("C(F)(F)(F)F", ["C", "1", "(", "="], ["", "."]),
        ("C=1CC-", ["1"], ["C", "2"]),
        ("C1CO", ["F", "2", "", "="], ["C", "1", "("]),
        ("C%", ["0", "C", ""], ["1", "9"]),
        ("C%1", ["C", ""], ["0", "9"]),
        ("C%12C%1", ["2", ""], ["0", "3"]),
        ("C%12CC%1", ["C", ""], ["2", "3"]),
        ("CC(C)", [")"], ["C", "(", "", "1"]),
        ("C(C", ["", "."], [")", "C"]),
        ("CCC(F", ["", "C"], [")"]),
    ],
)
def test_what_may_follow(text: str, barred: list[str], free: list[str]) -> None:
    for rules in RULES.values():
        allowed = names(rules.allowed(after(rules, text), LENGTH))
        assert allowed.isdisjoint(barred) and allowed.issuperset(free)


def test_a_bracket_is_spelt_to_its_end() -> None:
    state = grammar().step(grammar().start(), VOCABULARY.index("["))
    assert {"1", "C", "H", "n", "R"} <= names(grammar().allowed(state, LENGTH)) and "]" not in names(
        grammar().allowed(state, LENGTH)
    )
    for text, barred, free in (("R", "]o", "aehu"), ("Fe", "e1", "@H+-:]"), ("Fe+", "H@", "1+:]"), ("H", "@", "H+:]")):
        here = state
        for character in text:
            here = grammar().step(here, VOCABULARY.index(character))
        allowed = names(grammar().allowed(here, LENGTH))
        assert allowed.isdisjoint(barred) and allowed >= set(free), text


@pytest.mark.parametrize(
    ("text", "barred", "free"),
    [
        ("c1cccc", [""], ["c", "o"]),
        ("c1ccccc", [""], ["1"]),
        ("Cn1cccc1", ["="], ["", "C"]),
        ("c1cccc1", ["", "C", "."], ["="]),  # five carbons cannot alternate, but =O takes one of them out
        ("Cc", ["", "C", "c"], ["1", "("]),
        ("C", ["o", "[nH]", "s"], ["c", "n"]),
    ],
)
def test_aromatic_rings_must_work_out(text: str, barred: list[str], free: list[str]) -> None:
    allowed = names(alternation().allowed(after(alternation(), text), LENGTH))
    assert allowed.isdisjoint(barred) and allowed.issuperset(free)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("length", "count"), [(1, 20), (2, 20), (5, 60), (8, 100), (16, 80), (LENGTH, 6)])
def test_random_walks_end_and_can_be_read(rules: Any, length: int, count: int) -> None:
    generator = np.random.default_rng(length)
    walks = [walk(rules, generator, length) for _ in range(count)]
    assert [text for text in walks if not readable(text)] == []


def test_random_walks_never_have_too_many_bonds() -> None:
    """Of RDKit's complaints about atoms written without spelt brackets, none is their valence."""
    generator = np.random.default_rng(5)
    walks = [text for rules in RULES.values() for _ in range(150) if not spelt_out(text := walk(rules, generator, 12))]
    assert len(walks) > 100
    for text in walks:
        mol = Chem.MolFromSmiles(text, sanitize=False)
        with rdBase.BlockLogs():
            problems = [p.Message() for p in Chem.DetectChemistryProblems(mol) if p.GetType() == "AtomValenceException"]
        assert problems == [], text


def test_the_bonds_are_those_of_rdkit() -> None:
    """One more bond than an atom has room for is one too many, and one fewer is not, for atoms that are not aromatic."""
    with rdBase.BlockLogs():
        for token, room in BONDS.items():
            text = VOCABULARY[token]
            if room < 15 and not text.strip("[]")[0].islower():
                fits = [Chem.MolFromSmiles(text + "(*)" * n) is not None for n in range(1, room + 2)]
                assert not fits[room] and (room == 0 or fits[room - 1]), text


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(-3, 200), max_size=40), st.integers(1, LENGTH))
def test_whatever_is_kept_it_goes_on(tokens: list[int], remaining: int) -> None:
    for rules in RULES.values():
        state = rules.start()
        for token in tokens:
            state = rules.step(state, token)
        assert hash(state) == hash(tuple(state))
        for left in range(remaining, 0, -1):
            allowed = rules.allowed(state, left)
            assert allowed.shape == (len(VOCABULARY),) and allowed.any()
            state = rules.step(state, int(np.flatnonzero(allowed)[-1 if left % 2 else 0]))


def test_masks_belong_to_the_caller() -> None:
    for rules in RULES.values():
        state = after(rules, "c1ccc")
        rules.allowed(state, LENGTH)[:] = False
        assert rules.allowed(state, LENGTH).any()

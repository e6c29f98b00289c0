"""Why a string is no molecule, in a chemist's words: what RDKit rejects, located by character or by atom."""

from __future__ import annotations

import functools
import re
from typing import Any

from headwater_molecules.properties import parse

_PIECE = re.compile(
    r"(?P<bracket>\[[^\[\]]*\])|(?P<ring>%\(\d+\)|%\d\d|\d)|(?P<atom>Cl|Br|[BCNOPSFIbcnops*])"
    r"|(?P<bond>->|<-|[-=#$:/\\~])|(?P<other>.)"
)


def reason(smiles: str) -> str | None:
    """Why RDKit rejects a SMILES, None where it does not. Never raises, whatever comes."""
    try:
        return _reason(smiles)
    except Exception as error:  # validity is a column, never a crash
        return f"it cannot be read as a SMILES: {error}"


def problem(smiles: str) -> str | None:
    """:func:`reason`, and strings of several unconnected fragments (salts, mixtures): one molecule is expected. Never raises."""
    found = reason(smiles)
    if found is not None or "." not in smiles:
        return found
    from rdkit import Chem

    fragments = len(Chem.GetMolFrags(parse(smiles)))
    return f"{fragments} unconnected fragments (a salt or mixture), one molecule is expected" if fragments > 1 else None


@functools.lru_cache(maxsize=1 << 16)
def canonical(smiles: str) -> str | None:
    """RDKit's canonical SMILES, None where there is a :func:`problem`."""
    if problem(smiles) is not None:
        return None
    from rdkit import Chem

    return str(Chem.MolToSmiles(parse(smiles)))


def _reason(smiles: str) -> str | None:
    if not smiles:
        return "empty: no atoms"
    if odd := re.search(r"[^!-~]", smiles):
        return f"character {odd.start() + 1} is a blank or not ASCII: {odd.group()!r}"
    mol = parse(smiles)
    if mol is not None:
        return None if mol.GetNumAtoms() else "empty: no atoms"
    return _syntax(smiles) or _chemistry(smiles)


def _syntax(smiles: str) -> str | None:
    """What is wrong with the notation itself, None where only the chemistry can be at fault. Characters count from 1."""
    branches: list[tuple[int, int]] = []  # where each open branch began, and the atom it hangs on
    rings: dict[str, tuple[int, int]] = {}  # open ring number -> character, atom
    bonded: set[frozenset[int]] = set()
    atom, bond = 0, 0  # character of the atom last written; character of a bond that still waits for its atom
    for piece in _PIECE.finditer(smiles):
        at, text = piece.start() + 1, piece.group()
        if piece["bracket"] or piece["atom"]:
            bonded.add(frozenset((atom, at)))
            atom, bond = at, 0
        elif piece["bond"]:
            if bond:
                return f"two bonds in a row at character {bond}"
            bond = at
        elif piece["ring"]:
            number = text.strip("%()")
            if not atom:
                return f"ring number {number} (character {at}) follows no atom"
            if number in rings:
                ends = frozenset((rings.pop(number)[1], atom))
                if len(ends) == 1:
                    return f"ring {number} (character {at}) closes on the atom it starts from"
                if ends in bonded:
                    return f"ring {number} (character {at}) closes between atoms that are bonded already"
                bonded.add(ends)
            else:
                rings[number] = (at, atom)
            bond = 0
        elif text == "(":
            if not atom:
                return f"the branch opened at character {at} hangs on no atom"
            branches.append((at, atom))
        elif text == ")":
            if not branches:
                return f"the branch closed at character {at} was never opened"
            if bond:
                return f"the bond at character {bond} leads to no atom"
            begun, stem = branches.pop()
            if atom == stem:
                return f"the branch opened at character {begun} is empty"
            atom = stem
        elif text == ".":
            if bond:
                return f"the bond at character {bond} leads to no atom"
            if not atom or at == len(smiles):
                return f"the dot at character {at} separates nothing"
            atom = 0
        elif text in "[]":
            return f"the bracket {'opened' if text == '[' else 'closed'} at character {at} has no partner"
        else:
            return f"character {at}, {text!r}, is no atom, bond or ring number"
    if branches:
        return f"the branch opened at character {branches[-1][0]} is never closed"
    if bond:
        return f"the bond at character {bond} leads to no atom"
    unclosed = [f"ring {number}, opened at character {at}, is never closed" for number, (at, _) in rings.items()]
    return "; ".join(unclosed) or None


def _chemistry(smiles: str) -> str:
    """Which atoms RDKit's sanitisation rejects, counted from 1 in the order they are written."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol: Any = Chem.MolFromSmiles(smiles, sanitize=False)
        if mol is None:
            for piece in _PIECE.finditer(smiles):
                if piece["bracket"] and Chem.MolFromSmiles(piece.group(), sanitize=False) is None:
                    return f"{piece.group()!r} (character {piece.start() + 1}) is no atom"
            return "RDKit cannot read it as a SMILES (do the two ends of a ring name different bonds?)"
        found = [_in_words(mol, p) for p in Chem.DetectChemistryProblems(mol)]
    return "; ".join(dict.fromkeys(found)) or "RDKit cannot sanitise it"


def _in_words(mol: Any, found: Any) -> str:
    from rdkit import Chem

    kind = found.GetType()
    if kind == "KekulizeException":
        atoms = ", ".join(str(i + 1) for i in found.GetAtomIndices())
        return f"aromatic atoms {atoms} cannot alternate single and double bonds (a hydrogen, as in [nH], may be missing)"
    if not hasattr(found, "GetAtomIdx"):
        return str(found.Message())
    atom = mol.GetAtomWithIdx(found.GetAtomIdx())
    table = Chem.GetPeriodicTable()
    name = f"{table.GetElementName(atom.GetAtomicNum()).lower()} (atom {atom.GetIdx() + 1})"
    if kind == "AtomKekulizeException":
        return f"{name} is written as aromatic but lies in no ring"
    if kind != "AtomValenceException":
        return f"{name}: {found.Message()}"
    valence = re.search(r", (\d+), is greater", found.Message())
    charge = atom.GetFormalCharge()
    allowed = " or ".join(str(v) for v in table.GetValenceList(atom.GetAtomicNum()) if v >= 0)
    limit = f" with charge {charge:+d}" if charge else f"; {allowed} is allowed"
    return f"{name} has too many bonds{f' (valence {valence[1]}{limit})' if valence else ''}"

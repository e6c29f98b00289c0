"""The properties a molecule can be asked for, and how RDKit computes them.

Labels cost about 1 ms a molecule on one thread. QED shares the parsed molecule, logP, weight and TPSA with the other knobs and
counts its structural alerts in one C++ pass; values equal ``rdkit.Chem.QED.qed`` exactly (a test holds it).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

from headwater.knobs import Knob


@dataclass(frozen=True)
class Wish:
    """What a molecule may be asked to be; None where nothing is asked (or nothing can be said)."""

    logp: Annotated[float | None, Knob("octanol-water partition (Crippen logP)", -6, 10)] = None
    qed: Annotated[float | None, Knob("drug-likeness (QED, Bickerton 2012)", 0, 1)] = None
    mw: Annotated[float | None, Knob("molecular weight, average isotopes", 10, 1500, "Da")] = None
    tpsa: Annotated[float | None, Knob("topological polar surface area", 0, 500, "Å²")] = None
    rings: Annotated[int | None, Knob("number of rings (SSSR)", 0, 20)] = None


#: Standard deviation of each property over 20,112 MOSES molecules, ``rows("train")[::78]`` of :mod:`headwater_molecules.data`
#: under :func:`describe` (RDKit 2026.09.1; means 2.445, 0.8069, 307.18, 65.72, 2.579): errors in different units compare by it.
TRAIN_STD = {"logp": 0.9222, "qed": 0.09445, "mw": 27.994, "tpsa": 18.102, "rings": 0.79495}


def describe(smiles: str) -> Wish:
    """The properties of a molecule; all None where RDKit rejects the string or it holds no atom."""
    mol = parse(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        return Wish()
    from rdkit.Chem import Crippen, Descriptors, rdMolDescriptors

    logp = Crippen.MolLogP(mol)  # type: ignore[attr-defined]
    mw = Descriptors.MolWt(mol)  # type: ignore[attr-defined]
    tpsa = rdMolDescriptors.CalcTPSA(mol)
    return Wish(logp=logp, qed=_qed(mol, logp, mw, tpsa), mw=mw, tpsa=tpsa, rings=rdMolDescriptors.CalcNumRings(mol))


def parse(smiles: str) -> Any:
    """The RDKit molecule of a SMILES, or None; RDKit's log stays silent."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles)


def _qed(mol: Any, logp: float, mw: float, tpsa: float) -> float:
    """``QED.qed(mol)`` without computing again what is known (``QED.properties`` line by line; parsing removed the hydrogens)."""
    from rdkit import Chem
    from rdkit.Chem import QED, rdMolDescriptors

    known = QED.QEDproperties(
        MW=mw,
        ALOGP=logp,
        HBA=sum(len(mol.GetSubstructMatches(pattern)) for pattern in QED.Acceptors),
        HBD=rdMolDescriptors.CalcNumHBD(mol),
        PSA=tpsa,
        ROTB=rdMolDescriptors.CalcNumRotatableBonds(mol, rdMolDescriptors.NumRotatableBondsOptions.Strict),
        AROM=len(Chem.GetSSSR(Chem.DeleteSubstructs(Chem.Mol(mol), QED.AliphaticRings))),
        ALERTS=len(_alerts().GetMatches(mol)),
    )
    return float(QED.qed(mol, qedProperties=known))


@functools.cache
def _alerts() -> Any:
    """QED's structural alerts as one catalogue."""
    from rdkit.Chem import QED
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogEntry, SmartsMatcher

    catalogue = FilterCatalog()
    for i, pattern in enumerate(QED.StructuralAlerts):
        catalogue.AddEntry(FilterCatalogEntry(str(i), SmartsMatcher(str(i), pattern)))
    return catalogue

"""Small organic molecules as SMILES. RDKit is imported by the functions that need it, never by this package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from headwater.domain import Array, Domain
from headwater.recipe import Recipe
from headwater_molecules import drawing, formats, metrics, properties, validity
from headwater_molecules.codecs import Smiles
from headwater_molecules.data import MOSES


class Molecules(Domain[str, properties.Wish]):
    """Small organic molecules, written as SMILES: text in which letters are atoms, digits close rings and brackets hold the rest.

    An item is one molecule. It can be asked for by logP, QED, molecular weight, polar surface area and number of rings.
    Generated molecules are ideas to be judged by a chemist: no model here knows activity, toxicity or how to make them."""

    name = "molecules"
    summary = "drug-like small molecules (SMILES, SDF) with the properties you ask for"
    package = "headwater[molecules]"
    Wish = properties.Wish
    codecs = {"smiles": Smiles()}
    recipes = Recipe.folder(Path(__file__).parent / "recipes")
    datasets = {"moses": MOSES}
    metrics = metrics.METRICS
    models = Path(__file__).parent / "models"

    def describe(self, item: str) -> properties.Wish:
        """logP, QED, weight, TPSA and rings by RDKit; all None for an invalid string."""
        return properties.describe(item)

    def features(self, items: Sequence[str]) -> Array:
        """Morgan fingerprints, radius 2: bool (items, 1024)."""
        return metrics.features(items)

    def problem(self, item: str, asked: properties.Wish | None = None) -> str | None:
        """What RDKit rejects, by character or atom; several fragments count as a problem too."""
        return validity.problem(item)

    def render(self, item: str) -> str:
        """The structure drawn, its canonical SMILES and properties; or why there is none."""
        return drawing.render(item)

    def write(self, items: Iterable[str], folder: Path) -> list[Path]:
        """``items.smi`` and ``items.sdf`` with the valid molecules, named by row; see :func:`headwater_molecules.formats.write`."""
        return formats.write(items, folder)

    def read(self, path: Path) -> list[str]:
        """SMILES from ``.smi``, ``.csv`` (column smiles) or ``.sdf``; a broken line is named."""
        return formats.read(path)

    def record(self, item: str) -> dict[str, Any]:
        """Canonical SMILES (as made, where invalid), the properties and the InChIKey."""
        smiles = validity.canonical(item)
        key = None
        if smiles is not None:
            from rdkit import Chem, rdBase

            with rdBase.BlockLogs():
                key = Chem.MolToInchiKey(properties.parse(smiles)) or None
        return {"smiles": smiles or item, **asdict(properties.describe(item)), "inchikey": key}

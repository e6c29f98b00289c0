"""Chemists' files: SMILES lists, CSV tables and SDF, read with messages that name the line, written byte for byte the same."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from headwater_molecules.properties import describe, parse
from headwater_molecules.validity import problem, reason

#: Conformers cost about 50 ms each; molecules after these many get 2-D coordinates and a note that says so.
CONFORMERS = 1000
_ATTEMPTS = 20  # embeddings tried before giving up
_SECONDS = 30  # for one molecule: a knotted macrocycle must not hold up the rest


def write(items: Iterable[str], folder: Path) -> list[Path]:
    """``items.smi`` and ``items.sdf`` with the valid molecules, each named by its row (from 0) among ``items``.

    The SDF holds hydrogens, an ETKDGv3 conformer relaxed by MMFF94 (fixed seed) and a property block. A molecule that cannot be
    embedded, and those after the first :data:`CONFORMERS`, get 2-D coordinates; the field ``coordinates`` says which."""
    valid = [(row, smiles) for row, smiles in enumerate(items) if problem(smiles) is None]
    smi, sdf = folder / "items.smi", folder / "items.sdf"
    _replace(smi, (f"{smiles} {row}\n" for row, smiles in valid))
    _replace(sdf, _records(valid))
    return [smi, sdf]


def _replace(path: Path, pieces: Iterable[str]) -> None:
    """Write to a temporary name in the same folder, then rename: never a half-written file."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _records(valid: list[tuple[int, str]]) -> Iterator[str]:
    """SDF records in order; RDKit embeds outside Python's lock, so threads share the work without changing a byte."""
    jobs = ((row, smiles, i < CONFORMERS) for i, (row, smiles) in enumerate(valid))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(jobs, 64)):
            yield from pool.map(lambda job: _record(*job), batch)


def _record(row: int, smiles: str, conformer: bool) -> str:
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor

    with rdBase.BlockLogs():
        mol = Chem.AddHs(parse(smiles))
        note = _embed(mol) if conformer else f"2-D: conformers are made for the first {CONFORMERS} molecules"
        if mol.GetNumConformers() == 0:
            mol = Chem.RemoveHs(mol)
            rdDepictor.Compute2DCoords(mol)
        mol.SetProp("_Name", str(row))
        values = {"smiles": smiles, **{k: _text(v) for k, v in asdict(describe(smiles)).items()}, "coordinates": note}
        fields = "".join(f">  <{name}>\n{value}\n\n" for name, value in values.items())
        return f"{Chem.MolToMolBlock(mol)}{fields}$$$$\n"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _embed(mol: Any) -> str:
    """Give a molecule with hydrogens one conformer, or none; returns what was done."""
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    settings: Any = rdDistGeom.ETKDGv3()
    settings.randomSeed, settings.maxIterations, settings.timeout = 7, _ATTEMPTS, _SECONDS
    if rdDistGeom.EmbedMolecule(mol, settings) != 0:
        settings.useRandomCoords = True  # finds strained cages and macrocycles that the distance matrix's eigenvectors miss
        if rdDistGeom.EmbedMolecule(mol, settings) != 0:
            mol.RemoveAllConformers()
            return "2-D: no 3-D conformer could be embedded"
    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return "3-D: ETKDGv3, not relaxed (MMFF94 has no parameters for it)"
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return "3-D: ETKDGv3, relaxed by MMFF94"


def read(path: Path) -> list[str]:
    """The SMILES of a ``.smi``/``.smiles``/``.txt`` list (first word of each line), a ``.csv`` with a column ``smiles``, or a
    ``.sdf``. Raises :class:`HeadwaterError` naming the line (or record) of the first molecule that RDKit rejects."""
    readers = {".smi": _smi, ".smiles": _smi, ".txt": _smi, ".csv": _csv, ".sdf": _sdf}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise HeadwaterError(f"{path}: expected a file of molecules ({', '.join(readers)}); got {path.suffix or 'no suffix'}")
    try:
        items = list(reader(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HeadwaterError(f"{path}: cannot be read: {error}") from None
    if not items:
        raise HeadwaterError(f"{path}: holds no molecule")
    return items


def _checked(smiles: str, where: str) -> str:
    why = reason(smiles)
    if why is not None:
        raise HeadwaterError(f"{where}: {smiles[:80]!r} is no molecule: {why}. Mend or remove it")
    return smiles


def _smi(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if not words or words[0].startswith("#") or (number == 1 and words[0].lower() == "smiles"):
                continue
            yield _checked(words[0], f"{path}, line {number}")


def _csv(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        column = next((name for name in table.fieldnames or () if name.strip().lower() == "smiles"), None)
        if column is None:
            raise HeadwaterError(f"{path}: expected a column named smiles; it has {', '.join(table.fieldnames or ()) or 'none'}")
        for row in table:
            yield _checked((row[column] or "").strip(), f"{path}, line {table.line_num}")


def _sdf(path: Path) -> Iterator[str]:
    """Records are parsed one by one, so that a broken one can be named. Coordinates fix every stereocentre, also those left open;
    a field ``smiles`` of the same constitution, as :func:`write` leaves it, knows better and is taken."""
    from rdkit import Chem, rdBase

    line = 1
    for number, block in enumerate(path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").split("$$$$\n"), 1):
        if block.strip():
            where = f"{path}, record {number} (line {line})"
            with rdBase.BlockLogs():
                raw = Chem.MolFromMolBlock(block, sanitize=False)
                mol = Chem.MolFromMolBlock(block)
            if raw is None:
                raise HeadwaterError(f"{where}: not a molecule block that RDKit can read. Mend or remove it")
            smiles = _checked(Chem.MolToSmiles(raw), where) if mol is None else Chem.MolToSmiles(mol)
            stated = re.search(r"^> .*<smiles>.*\n(\S+)\n", block, re.MULTILINE)
            yield stated[1] if stated and _constitution(stated[1]) == _constitution(smiles) else smiles
        line += block.count("\n") + 1


def _constitution(smiles: str) -> str | None:
    from rdkit import Chem

    mol = parse(smiles)
    return None if mol is None else Chem.MolToSmiles(mol, isomericSmiles=False)

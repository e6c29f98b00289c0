"""MOSES's figures for generated molecules, written anew (its own code no longer runs), and how well knobs are obeyed.

Definitions: Polykovskiy et al. 2020, https://doi.org/10.3389/fphar.2020.565644. They count molecules as made, before any filter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from headwater.domain import Array, Evaluation, Metric
from headwater.knobs import asked
from headwater_molecules.novelty import moses_train
from headwater_molecules.properties import TRAIN_STD, describe, parse
from headwater_molecules.validity import canonical

_DIVERSITY_ROWS = 5000  # 25 million pairs: a second, and a standard error far below the figure's last digit


def features(items: Sequence[str]) -> Array:
    """Morgan fingerprints of radius 2, bool (items, 1024), as MOSES uses them; a string RDKit rejects has no bit set."""
    fingerprints = np.zeros((len(items), 1024), dtype=bool)
    for i, smiles in enumerate(items):
        mol = parse(smiles)
        if mol is not None:
            fingerprints[i] = _morgan().GetFingerprintAsNumPy(mol)
    return fingerprints


@functools.cache
def _morgan() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)


def _valid(made: Sequence[str]) -> list[str]:
    """Canonical SMILES of the valid ones, in order."""
    return [c for c in map(canonical, made) if c is not None]


def _share(count: int, total: int) -> float:
    return count / total if total else math.nan


def valid(e: Evaluation[str, Any]) -> float:
    """One molecule that RDKit accepts: share of all made."""
    return _share(len(_valid(e.made)), len(e.made))


def unique(e: Evaluation[str, Any]) -> float:
    """Different canonical SMILES: share of the valid."""
    found = _valid(e.made)
    return _share(len(set(found)), len(found))


def novel(e: Evaluation[str, Any]) -> float:
    """Not in MOSES train: share of the different valid ones. About 1% of the truly new count as seen (Bloom filter)."""
    found, train = set(_valid(e.made)), moses_train()
    return _share(sum(smiles not in train for smiles in found), len(found))


def internal_diversity(e: Evaluation[str, Any]) -> float:
    """IntDiv, p = 1: one minus the mean Tanimoto similarity of all pairs of valid molecules, each with itself included."""
    found = _valid(e.made)
    found = found[:: max(1, math.ceil(len(found) / _DIVERSITY_ROWS))]
    bits = features(found).astype(np.float32)
    counts, total = bits.sum(1), 0.0
    for start in range(0, len(bits), 500):
        shared = bits[start : start + 500] @ bits.T
        union = counts[start : start + 500, None] + counts[None] - shared
        total += float(np.divide(shared, union, out=np.ones_like(shared), where=union > 0).sum(dtype=np.float64))
    return 1 - total / len(bits) ** 2 if len(bits) else math.nan


def knob_error(e: Evaluation[str, Any]) -> float:
    """Mean |got - asked| over every knob set and every valid molecule, in standard deviations of the training set."""
    errors = []
    for smiles, wish in zip(e.made, e.asked, strict=True):
        wanted = asked(wish)
        if wanted and canonical(smiles) is not None:
            got = describe(smiles)
            errors += [abs(getattr(got, name) - value) / TRAIN_STD[name] for name, value in wanted.items()]
    return float(np.mean(errors)) if errors else math.nan


def _moses(char_rnn: float, vae: float) -> dict[str, Any]:
    return {"published": {"CharRNN": char_rnn, "VAE": vae}, "source": "MOSES README, table 1 (Polykovskiy et al. 2020)"}


METRICS = (
    Metric("valid", valid, "higher", "share that is one molecule RDKit accepts", **_moses(0.9748, 0.9767)),
    Metric("unique", unique, "higher", "share of the valid that differ (published: of 10,000)", **_moses(0.9994, 0.9984)),
    Metric("novel", novel, "higher", "share of the different valid ones not in MOSES train", **_moses(0.8419, 0.6949)),
    Metric("internal_diversity", internal_diversity, "higher", "1 - mean Tanimoto of all pairs", **_moses(0.8562, 0.8558)),
    Metric("knob_error", knob_error, "lower", "mean |got - asked| in training standard deviations"),
)

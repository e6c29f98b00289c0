"""Classifier two-sample test: can a small network, trained to, tell samples from real items? (Lopez-Paz and Oquab, 2017,
https://arxiv.org/abs/1610.06545)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from headwater.domain import Array
from headwater.noise import Noise


@dataclass(frozen=True)
class TwoSample:
    """``auc``: how often a held-back sample looks more made than a held-back real item, 0.5 where nothing tells them apart, with
    its standard error were that so; ``accuracy`` at the middle; ``z`` and one-sided ``p`` of the AUC; ``n`` of each kind."""

    auc: float
    stderr: float
    accuracy: float
    z: float
    p: float
    n: int


@torch.enable_grad()
def two_sample(
    real: Array, made: Array, seed: int = 0, *, folds: int = 5, width: int = 32, steps: int = 200, batch: int = 64
) -> TwoSample:
    """Features (items, width), bool or float, of real items and of samples, cut to equally many of each.

    Cross-fitting: each fold is judged by a network that was trained on the other folds, so every item is judged once and by
    one that has not seen it. The AUC of a fold is Mann and Whitney's U over m², of variance (2m + 1) / 12m² were both sets of m
    drawn from one distribution. Two folds judge by each other's items and so may say the same: their mean is given twice the
    variance of independent ones, which is what a linear judge needs (no estimate of it is unbiased: Bengio and Grandvalet, 2004).
    Raises ``ValueError`` for fewer than 2 items a fold."""
    n = min(len(real), len(made))
    if n < 2 * folds:
        raise ValueError(f"expected at least {2 * folds} items of each kind; got {n}")
    noise = Noise(seed).fold("two-sample")
    x = torch.from_numpy(np.concatenate([real[:n], made[:n]]).astype(np.float32))
    label = torch.arange(2 * n) >= n
    # fold of an item: a shuffled count, the same number of both kinds in each fold
    fold = torch.cat([noise.fold(kind).uniform(n)[0].argsort() % folds for kind in ("real", "made")])
    logits = _judged(x, label, fold, folds, noise, width, steps, batch)
    aucs, variance = [], 0.0
    for k in range(folds):
        a, b = logits[(fold == k) & label], logits[(fold == k) & ~label]
        aucs.append(auc(a, b))
        variance += 2 * (len(a) + len(b) + 1) / (12 * len(a) * len(b)) / folds**2
    value, stderr = sum(aucs) / folds, math.sqrt(variance)
    z = (value - 0.5) / stderr
    accuracy = float(((logits > 0) == label).double().mean())
    return TwoSample(value, stderr, accuracy, z, 0.5 * math.erfc(z / math.sqrt(2)), n)


def auc(higher: Tensor, lower: Tensor) -> float:
    """The chance that one of ``higher`` exceeds one of ``lower``, a tie counting half.

    >>> auc(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]))
    0.875
    """
    ordered = lower.sort().values
    below, upto = (torch.searchsorted(ordered, higher.contiguous(), right=right).double() for right in (False, True))
    return float((below + upto).mean()) / (2 * len(lower))


def _judged(x: Tensor, label: Tensor, fold: Tensor, folds: int, noise: Noise, width: int, steps: int, batch: int) -> Tensor:
    """(items,) logits of "made", each by the network of its fold: two hidden layers, trained side by side as one batched product,
    by Adam on mini-batches of the other folds, its rate falling linearly to zero."""
    std = x.std(0)
    x = (x - x.mean(0)) / torch.where(std > 1e-6, std, 1.0)  # blind to the labels, so no fold learns anything of another
    sizes = (x.shape[1], width, width, 1)
    weights = []
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        scale = fan_in**-0.5 * (2**0.5 if i < 2 else 0.1)
        weights += [scale * noise.fold("weights", i).normal(folds, fan_in, fan_out)[0], torch.zeros(folds, 1, fan_out)]
    weights = [w.requires_grad_() for w in weights]

    def logits(h: Tensor) -> Tensor:
        for i in range(3):
            h = torch.baddbmm(weights[2 * i + 1], h, weights[2 * i])
            h = F.silu(h) if i < 2 else h
        return h[..., 0]

    others = [(fold != k).nonzero()[:, 0] for k in range(folds)]
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.05)
    for step, places in enumerate(noise.fold("batch").uniform(steps, folds, batch)[0]):
        rows = torch.stack([o[(p * len(o)).long()] for o, p in zip(others, places, strict=True)])
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(logits(x[rows]), label[rows].float()).backward()
        optimiser.step()
    with torch.no_grad():
        return logits(x.expand(folds, -1, -1))[fold, torch.arange(len(x))]

"""The best items under a black-box objective: one driver for every family, and the search that suits it.

Calls of the objective are the currency: they are counted, none is made twice for one item, and a run that was killed goes on
where it stopped and ends as if it had not been.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.noise import Noise
from headwater.optimise.latent import LatentSearch
from headwater.optimise.ledger import Ledger, Objective
from headwater.optimise.policy import PolicyGradient
from headwater.optimise.remask import RemaskSearch
from headwater.optimise.search import Search

if TYPE_CHECKING:
    from headwater.generator import Generator

#: By the words that a family says of its verb "optimise".
SEARCHES: dict[str, type[Search]] = {kind.name: kind for kind in (PolicyGradient, RemaskSearch, LatentSearch)}
#: Turns without one new item after which a search has nothing left to find.
PATIENCE = 50
STATE, CALLS = "state.safetensors", "calls.jsonl"


@dataclass(frozen=True)
class Optimum:
    """What a search found: the best different ``items``, best first, and their ``scores``.

    ``called`` holds the score of every call in order, -inf where the objective gave none, for the reasons counted in ``failures``.
    ``repeats`` were proposed again and ``invalid`` ones rejected by the domain: neither cost a call.
    """

    items: list[Any]
    scores: list[float]
    called: list[float]
    failures: Mapping[str, int]
    repeats: int
    invalid: int
    budget: int
    search: str

    @property
    def history(self) -> list[tuple[int, float, float]]:
        """(calls, best, mean of the ten best) after each call; -inf while there is no score."""
        out, top = [], list[float]()
        for calls, score in enumerate(self.called, 1):
            if math.isfinite(score):
                heapq.heappush(top, score)
                if len(top) > 10:
                    heapq.heappop(top)
            out.append((calls, max(top, default=-math.inf), sum(top) / len(top) if top else -math.inf))
        return out

    def auc(self, k: int = 10) -> float:
        """See :func:`auc_top`."""
        return auc_top(self.called, self.budget, k)


def auc_top(called: Sequence[float], budget: int, k: int = 10, every: int = 100) -> float:
    """The area under the mean of the ``k`` best over calls, as a share of ``budget``: PMO's figure (Gao et al., 2022,
    https://arxiv.org/abs/2206.12411), for scores in [0, 1]. Trapezoids of ``every`` calls from 0; a search that ended early keeps
    what it had; a call without a score counts 0.

    >>> auc_top([1.0] * 100, budget=200, k=1)
    0.75
    """
    scores = [score if math.isfinite(score) else 0.0 for score in called[:budget]]
    if not scores:
        return 0.0
    area, before, at = 0.0, 0.0, 0
    for upto in [*range(every, len(scores), every), len(scores)]:
        top = heapq.nlargest(k, scores[:upto])
        now = sum(top) / len(top)
        area += (upto - at) * (before + now) / 2
        before, at = now, upto
    return (area + (budget - len(scores)) * before) / budget


def optimise(
    generator: Generator,
    objective: Objective,
    budget: int,
    *,
    seed: int = 0,
    folder: Path | None = None,
    best: int = 10,
    start: Sequence[Any] = (),
    wish: Any = None,
    options: Mapping[str, Any] | None = None,
    save_seconds: float = 10.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Optimum:
    """See :meth:`headwater.generator.Generator.optimise`."""
    if budget < 1 or best < 1:
        raise HeadwaterError(f"budget and best: expected at least 1; got {budget} and {best}")
    wish = generator.wish() if wish is None else wish
    kind = SEARCHES[generator.verbs["optimise"]]
    try:
        search = kind(generator, wish, Noise(seed).fold("optimise"), **dict(options or {}))
    except (TypeError, ValueError) as error:
        raise HeadwaterError(f"options of the {kind.name}: {str(error).replace(f'{kind.__name__}.__init__() ', '')}") from None
    first = generator.encode(start).numpy() if len(start) else None
    identity = _identity(generator, seed, kind.name, options or {}, wish, first, best)
    journal = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        journal = folder / CALLS
    ledger = Ledger(generator.codec, lambda item: generator.domain.problem(item, wish), objective, best, identity, journal)
    turn, idle = _resume(folder, search, ledger) if folder is not None else (0, 0)
    saved = time.monotonic()
    while ledger.spent < budget and idle < PATIENCE:
        spent = ledger.spent
        try:
            x = search.adopt(first) if first is not None and turn == 0 else search.propose(turn)
        except ValueError as error:
            raise HeadwaterError(str(error)) from None
        scores = ledger.judge(x, budget)
        progress(min(ledger.spent, budget), budget)
        if scores is None:  # the turn is not whole: with a larger budget it will be made again
            break
        search.learn(x, scores)
        turn, idle = turn + 1, idle + 1 if ledger.spent == spent else 0
        if folder is not None and time.monotonic() - saved >= save_seconds:
            _save(folder, search, ledger, turn, idle)
            saved = time.monotonic()
    ranked = sorted(ledger.best, key=lambda entry: (-entry[0], -entry[1]))
    items = [generator.codec.decode(array) for _, _, array in ranked]
    called = [call.score for call in ledger.calls[: ledger.spent]]
    return Optimum(items, [s for s, _, _ in ranked], called, ledger.failures(), ledger.repeats, ledger.invalid, budget, kind.name)


def _identity(
    generator: Generator, seed: int, search: str, options: Mapping[str, Any], wish: Any, first: Array | None, best: int
) -> str:
    """What a search is, the objective and the budget left out: a folder is resumed only by the same."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(generator.model.tensors().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    told = (generator.name, seed, search, sorted(options.items()), wish, best, None if first is None else first.tobytes().hex())
    digest.update(repr(told).encode())
    return digest.hexdigest()


def _save(folder: Path, search: Search, ledger: Ledger, turn: int, idle: int) -> None:
    """The state between two turns, whole or not at all; the journal is on disk before it."""
    from safetensors.torch import save_file

    with (folder / CALLS).open("ab") as file:
        os.fsync(file.fileno())
    tensors = {f"search/{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in search.tensors().items()}
    ranked = sorted(ledger.best, key=lambda entry: entry[:2])
    tensors |= {f"best/{i}": torch.from_numpy(np.ascontiguousarray(array)) for i, (_, _, array) in enumerate(ranked)}
    about = {
        "turn": turn, "idle": idle, "spent": ledger.spent, "repeats": ledger.repeats, "invalid": ledger.invalid,
        "best": [[score, place] for score, place, _ in ranked],
    }  # fmt: skip
    part = folder / f".{STATE}.{os.getpid()}.part"
    save_file(tensors, part, metadata={"state": json.dumps(about)})
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, folder / STATE)


def _resume(folder: Path, search: Search, ledger: Ledger) -> tuple[int, int]:
    """Turn and idle turns of the saved state, laid into ``search`` and ``ledger``; the beginning where there is none."""
    from safetensors import SafetensorError, safe_open

    path = folder / STATE
    if not path.is_file():
        return 0, 0
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(file.metadata()["state"])
        if about["spent"] > len(ledger.calls):
            raise ValueError("it knows of more calls than the journal")
        search.load({name.removeprefix("search/"): t for name, t in tensors.items() if name.startswith("search/")})
        ledger.best = [(score, place, tensors[f"best/{i}"].numpy()) for i, (score, place) in enumerate(about["best"])]
        ledger.spent, ledger.repeats, ledger.invalid = about["spent"], about["repeats"], about["invalid"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise HeadwaterError(f"{path}: unreadable ({error}); remove it to go through the journal's calls again") from None
    return about["turn"], about["idle"]

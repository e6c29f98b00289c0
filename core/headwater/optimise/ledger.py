"""The black-box objective, counted and cached: an item that was judged before costs nothing, and the budget is never exceeded."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array, Codec
from headwater.errors import HeadwaterError

Objective = Callable[[Any], float]


@dataclass(frozen=True)
class Call:
    """One call of the objective: the item's key, its score (-inf where there is none) and why there is none."""

    key: str
    score: float
    why: str = ""


class Ledger:
    """Judges arrays of the codec's space. Two arrays are one item where the items they decode to are encoded alike.

    With a ``journal`` every call is written to that file before the next is made. A ledger opened on the journal of a killed run
    gives the scores written there for the calls that run made, in their order, and then goes on. Calls number ``spent`` so far;
    ``repeats`` cost nothing, nor do ``invalid`` items, which the domain rejects before they are judged. ``best`` holds the
    ``keep`` best arrays as (score, minus the number of the call, array).
    """

    def __init__(
        self,
        codec: Codec[Any],
        problem: Callable[[Any], str | None],
        objective: Objective,
        keep: int,
        identity: str,
        journal: Path | None = None,
    ) -> None:
        self.codec, self.problem, self.objective, self.keep = codec, problem, objective, keep
        self.calls: list[Call] = []
        self.spent = self.repeats = self.invalid = 0
        self.best: list[tuple[float, int, Array]] = []
        self.journal = journal
        if journal is not None:
            self._open(journal, identity)
        self.place = {call.key: i for i, call in enumerate(self.calls)}

    def _open(self, journal: Path, identity: str) -> None:
        """Read what a former run wrote; a line that was torn when it was killed is cut off."""
        text = journal.read_bytes() if journal.is_file() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            journal.write_bytes(json.dumps({"search": identity}).encode() + b"\n")
            return
        if len(whole) < len(text):
            os.truncate(journal, len(whole))
        try:
            head, *lines = (json.loads(line) for line in whole.splitlines())
            theirs = head["search"]
            for line in lines:
                self.calls.append(Call(line["key"], -math.inf if line["score"] is None else line["score"], line.get("why", "")))
        except (ValueError, KeyError, TypeError):
            raise HeadwaterError(f"{journal}: not a journal of calls; name an empty folder") from None
        if theirs != identity:
            raise HeadwaterError(
                f"{journal.parent}: holds another search (model, seed, options or start differ); name an empty folder"
            )

    def key(self, array: Array, item: Any) -> str:
        with contextlib.suppress(ValueError):  # raised where it was decoded to something that the space cannot hold
            array = self.codec.encode(item)
        return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()

    def judge(self, arrays: Array, budget: int) -> Array | None:
        """The score of each row, -inf where there is none; None once a row would need a call more than ``budget`` has."""
        scores = np.full(len(arrays), -np.inf)
        for row, array in enumerate(arrays):
            item = self.codec.decode(array)
            if self.problem(item) is not None:
                self.invalid += 1
                continue
            key = self.key(array, item)
            place = self.place.get(key)
            if place is not None and place < self.spent:
                self.repeats += 1
            else:
                if self.spent >= budget:
                    return None
                if place is None:
                    place = self._call(key, item)
                self.spent = place + 1
                self._rank(self.calls[place].score, place, array)
            scores[row] = self.calls[place].score
        return scores

    def _call(self, key: str, item: Any) -> int:
        why = ""
        try:
            score = float(self.objective(item))
            if not math.isfinite(score):
                score, why = -math.inf, f"the objective gave {score}"
        except Exception as error:  # whatever a black box raises, it is the box's answer for this item
            score, why = -math.inf, f"{type(error).__name__}: {error}"[:300]
        self.place[key] = len(self.calls)
        self.calls.append(Call(key, score, why))
        if self.journal is not None:
            line = {"key": key, "score": score if not why else None} | ({"why": why} if why else {})
            with self.journal.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
        return self.place[key]

    def _rank(self, score: float, place: int, array: Array) -> None:
        if math.isfinite(score):
            heapq.heappush(self.best, (score, -place, array))  # places differ, so arrays are never compared
            if len(self.best) > self.keep:
                heapq.heappop(self.best)

    def failures(self) -> dict[str, int]:
        """How many calls gave no score, by reason."""
        return dict(Counter(call.why for call in self.calls[: self.spent] if call.why))

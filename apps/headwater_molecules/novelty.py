"""Which molecules were in MOSES train: a Bloom filter of 1.9 MB instead of 56 MB of SMILES.

A set bit for each of ``hashes`` positions of every member; "no" is certain, "yes" is wrong about once in a hundred. Bloom 1970,
https://doi.org/10.1145/362686.362692; two hashes stand for many: Kirsch and Mitzenmacher 2006.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from headwater.domain import Array

#: All 1,584,663 published train molecules: ``Bloom.of(canonical(s) for part in ("train", "valid") for s in rows(part))`` with
#: RDKit 2026.09.1, whose canonical SMILES differ from the published strings for 276 of them. Measured: 434 of 44,019 test
#: molecules (every fourth; none is in train) count as seen, 0.99%.
MOSES_TRAIN = Path(__file__).parent / "moses_train.bloom"


class Bloom:
    """``bits`` uint8 (size/8,), ``hashes`` positions a member.

    >>> seen = Bloom.of(["CCO", "CCN"])
    >>> "CCO" in seen, "CCCCC" in seen
    (True, False)
    """

    def __init__(self, bits: Array, hashes: int) -> None:
        self.bits, self.hashes = bits, hashes

    @classmethod
    def of(cls, members: Iterable[str], bits_each: float = 9.6) -> Bloom:
        """A filter of the size that holds these members at ``bits_each`` (9.6: 1% false positives)."""
        distinct = sorted(set(members))
        made = cls(np.zeros(max(8, math.ceil(len(distinct) * bits_each / 8)), np.uint8), max(1, round(bits_each * math.log(2))))
        for member in distinct:
            for byte, bit in made._places(member):
                made.bits[byte] |= bit
        return made

    def __contains__(self, member: str) -> bool:
        return all(self.bits[byte] & bit for byte, bit in self._places(member))

    def _places(self, member: str) -> list[tuple[int, int]]:
        digest = hashlib.blake2b(member.encode(), digest_size=16).digest()
        first, second = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1
        places = ((first + k * second) % (8 * len(self.bits)) for k in range(self.hashes))
        return [(place >> 3, 1 << (place & 7)) for place in places]

    def save(self, path: Path) -> None:
        """One byte, the number of hashes, then the bits."""
        path.write_bytes(bytes([self.hashes]) + self.bits.tobytes())

    @classmethod
    def load(cls, path: Path) -> Bloom:
        """The filter that :meth:`save` wrote."""
        stored = path.read_bytes()
        return cls(np.frombuffer(stored, np.uint8, offset=1), stored[0])


@functools.cache
def moses_train() -> Bloom:
    """The shipped filter."""
    return Bloom.load(MOSES_TRAIN)

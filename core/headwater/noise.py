"""Noise is a key, not a stream.

A :class:`Noise` names one point in a tree of keys, one key for each row. Folding in a name or a number gives a child; reading
a child gives the same numbers on every machine, in any order, in any batch, however often. The generator is Philox4x32-10
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011, https://doi.org/10.1145/2063384.2063405), written in
torch integer arithmetic so that CPU and GPU draw the same integers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key0: Tensor, key1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds over int64 tensors that hold 32-bit words. A signed 64-bit product wraps to the right 64 bits."""
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0 = c0 * 0xD2511F53
        p1 = c2 * 0xCD9E8D57
        c0, c1, c2, c3 = ((p1 >> 32) & _MASK) ^ c1 ^ key0, p1 & _MASK, ((p0 >> 32) & _MASK) ^ c3 ^ key1, p0 & _MASK
        key0 = (key0 + 0x9E3779B9) & _MASK
        key1 = (key1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def _words(part: str | int) -> tuple[int, int]:
    """A name or an integer as two 32-bit words; names and integers never collide by construction of the caller."""
    if isinstance(part, str):
        digest = hashlib.blake2b(part.encode(), digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    return part & _MASK, (part >> 32) & _MASK


class Noise:
    """Keys for ``len(noise)`` rows. Draws have shape ``(rows, *shape)``.

    >>> noise = Noise(7).fold("draw", 0).rows([3, 5])
    >>> bool((noise.normal(4)[1] == Noise(7).fold("draw", 0).rows([5]).normal(4)[0]).all())
    True
    """

    __slots__ = ("key", "seed")

    def __init__(self, seed: int, *, device: str | torch.device = "cpu") -> None:
        self.seed: int | None = seed  #: what it was made of; None of what is drawn from another
        low, high = _words(seed)
        self.key: Tensor = torch.tensor([[low, high]], dtype=torch.int64, device=device)

    @classmethod
    def _of(cls, key: Tensor) -> Noise:
        noise = cls.__new__(cls)
        noise.key, noise.seed = key, None
        return noise

    def __len__(self) -> int:
        return self.key.shape[0]

    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> Noise:
        return Noise._of(self.key[index])

    def to(self, device: str | torch.device) -> Noise:
        return Noise._of(self.key.to(device))

    def _fold(self, word0: Tensor | int, word1: Tensor | int, tag: int) -> Noise:
        key0, key1 = self.key[:, 0], self.key[:, 1]
        zero = torch.zeros_like(key0)
        a, b, _, _ = _philox((zero + word0, zero + word1, zero + tag, zero + 0x5EED), key0, key1)
        return Noise._of(torch.stack([a, b], dim=1))

    def fold(self, *parts: str | int) -> Noise:
        """The child at ``parts``, for every row alike. Order matters: ``fold(1, 2)`` is not ``fold(2, 1)``."""
        noise = self
        for part in parts:
            noise = noise._fold(*_words(part), tag=1 if isinstance(part, str) else 2)
        return noise

    def rows(self, ids: Iterable[int] | Tensor) -> Noise:
        """One key a row: row ``r`` of the result is this key folded with ``ids[r]``. Needs a single key, or one for each id."""
        index = ids if isinstance(ids, Tensor) else torch.tensor(list(ids), dtype=torch.int64)
        index = index.to(self.key.device, torch.int64)
        if len(self) not in (1, index.shape[0]):
            raise ValueError(f"rows() takes one id for each of the {len(self)} keys, got {index.shape[0]}")
        return Noise._of(self.key.expand(index.shape[0], 2))._fold(index & _MASK, (index >> 32) & _MASK, tag=3)

    def integers(self, count: int) -> Tensor:
        """``(rows, count)`` int64 tensor of uniform 32-bit words."""
        blocks = -(-count // 4)
        index = torch.arange(blocks, device=self.key.device, dtype=torch.int64)
        key0, key1 = self.key[:, :1], self.key[:, 1:]
        zero = torch.zeros(len(self), blocks, dtype=torch.int64, device=self.key.device)
        words = _philox((zero + index, zero, zero, zero), key0 + zero, key1 + zero)
        return torch.stack(words, dim=2).reshape(len(self), 4 * blocks)[:, :count]

    def uniform(self, *shape: int) -> Tensor:
        """``(rows, *shape)`` float32 in the open interval (0, 1): 23 bits, centred in their bins."""
        bits = self.integers(math.prod(shape)) >> 9
        return ((bits.to(torch.float32) + 0.5) * 2.0**-23).reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """``(rows, *shape)`` float32 standard normals, by Box and Muller (1958): equal on all devices up to rounding."""
        count = math.prod(shape)
        half = -(-count // 2)
        bits = self.integers(2 * half).to(torch.float32).reshape(len(self), half, 2)
        radius = torch.sqrt(-2.0 * torch.log((bits[..., 0] + 0.5) * 2.0**-32))
        angle = (2.0 * math.pi * 2.0**-32) * bits[..., 1]
        pair = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=2)
        return pair.reshape(len(self), 2 * half)[:, :count].reshape(len(self), *shape)

    def below(self, bound: int, *shape: int) -> Tensor:
        """``(rows, *shape)`` int64 in ``[0, bound)``; the bias is below ``bound / 2**32``."""
        return (self.integers(math.prod(shape)) * bound >> 32).reshape(len(self), *shape)

    def number(self) -> int:
        """One 32-bit integer of the first key: a seed for a library that wants one."""
        return int(self.integers(1)[0, 0])


def permutation(index: Tensor, length: int, noise: Noise) -> Tensor:
    """Where each ``index`` in ``[0, length)`` goes under the permutation that ``noise`` names, without storing it.

    A four-round balanced Feistel network over the next even power of two, walked until it falls inside (Black and Rogaway,
    2002, https://doi.org/10.1007/3-540-45760-7_9). Training reads its data in this order, so any step can be resumed alone.

    >>> sorted(permutation(torch.arange(10), 10, Noise(3)).tolist()) == list(range(10))
    True
    """
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = noise.integers(8)[0]

    def rounds(value: Tensor) -> Tensor:
        left, right = value >> half, value & mask
        for r in range(4):
            zero = torch.zeros_like(right)
            mixed = _philox((right, zero + r, zero, zero), zero + keys[2 * r], zero + keys[2 * r + 1])[0]
            left, right = right, left ^ (mixed & mask)
        return left << half | right

    out = rounds(index.to(torch.int64))
    while bool((outside := out >= length).any()):
        out = torch.where(outside, rounds(torch.where(outside, out, torch.zeros_like(out))), out)
    return out

"""What two texts have in common: their words and neighbouring pairs of words, each a place in a row of switches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from headwater.domain import Array
from headwater_marketing.asks import Copy

WIDTH = 1024
_WORD = re.compile(r"\{\w+\}|[\w'’]+|[^\w\s]")


def features(items: Sequence[Copy]) -> Array:
    """(items, 1024) bool, compared by Tanimoto; placeholders are words.

    >>> a, b, c = features([Copy("Meet {product}!"), Copy("Meet {product}."), Copy("Take your time")])
    >>> bool((a & b).any()), bool((a & c).any())
    (True, False)
    """
    found = np.zeros((len(items), WIDTH), dtype=np.bool_)
    for row, item in zip(found, items, strict=True):
        words = _WORD.findall(item.text.casefold())
        for said in (*words, *(" ".join(pair) for pair in zip(words, words[1:], strict=False))):
            row[int.from_bytes(hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=4).digest(), "big") % WIDTH] = True
    return found

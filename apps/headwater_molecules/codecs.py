"""SMILES as tokens: a frozen vocabulary wide enough for any organic drug of up to 127 tokens.

Atoms of the organic subset, bonds, branches and ring digits are one token each, and so are the bracket atoms drugs are full of
(``[nH]``, ``[C@@H]``, ``[N+]``, ``[*:1]``). Every other bracket atom (``[99Tc+4]``, ``[SiH2]``) is spelt in characters. Joining
tokens gives back the string, so the round trip is exact. SMILES: Weininger 1988, https://doi.org/10.1021/ci00057a005.
"""

from __future__ import annotations

import re

import numpy as np

from headwater.domain import Array, Codec
from headwater.spaces import Tokens

# FROZEN: shipped models index this list. Never reorder, insert or remove; tests/apps/molecules/test_codec.py holds its hash.
VOCABULARY: tuple[str, ...] = (
    "",  # 0: padding, the end
    *"C c N n O o S s F Cl Br I P p B b *".split(),  # atoms that need no bracket
    *"- = # : $ / \\ . ( )".split(),  # bonds, fragments, branches
    *"1 2 3 4 5 6 7 8 9 0 %".split(),  # ring closures (%10 is three tokens); isotopes, hydrogens and charges in brackets
    *"[nH] [H] [C@H] [C@@H] [C@] [C@@] [N+] [O-] [n+] [NH+] [NH2+] [NH3+] [nH+] [N-] [n-] [S+] [S-] [O+] [o+] [P+] [B-]".split(),
    *"[S@] [S@@] [N@] [N@@] [P@] [P@@] [Si] [Se] [se] [2H] [CH-] [C-] [c-] [Na+] [K+] [Cl-] [Br-] [I-]".split(),
    *"[*:1] [*:2] [*:3] [*:4]".split(),  # attachment marks
    *"[ ] @ + H A D E G K L M R T U V W X Y Z a d e f g h i k l m r t u v y".split(),  # spelling of all other bracket atoms
)
LENGTH = 128

_INDEX = {token: i for i, token in enumerate(VOCABULARY)}
_TOKEN = re.compile("|".join(re.escape(t) for t in sorted(VOCABULARY[1:], key=len, reverse=True)) + "|.", re.DOTALL)


class Smiles(Codec[str]):
    """A SMILES string as ``Tokens(117, 128)``: one token a position, 0 after the last.

    >>> codec = Smiles()
    >>> codec.decode(codec.encode("CC(=O)Oc1ccccc1C(=O)O"))
    'CC(=O)Oc1ccccc1C(=O)O'
    """

    space = Tokens(vocab=len(VOCABULARY), length=LENGTH)

    def encode(self, item: str) -> Array:
        """int64 ``(128, 1)``. Raises ``ValueError`` for a foreign character (its position is named) or more than 127 tokens."""
        tokens = _tokens(item)
        if len(tokens) >= LENGTH:
            raise ValueError(f"SMILES of {len(tokens)} tokens is too long: at most {LENGTH - 1} fit ({item[:40]}…)")
        array = np.zeros((LENGTH, 1), dtype=np.int64)
        array[: len(tokens), 0] = tokens
        return array

    def decode(self, array: Array) -> str:
        """The tokens before the first 0, joined; numbers outside the vocabulary end the string too."""
        pieces = []
        for token in np.asarray(array).reshape(-1).tolist():
            if not 0 < token < len(VOCABULARY):
                break
            pieces.append(VOCABULARY[int(token)])
        return "".join(pieces)

    def prefix(self, text: str) -> Array:
        """The beginning of a SMILES, ``(positions, 1)``. Raises ``ValueError`` where it stops inside a bracket atom."""
        if text.rfind("[") > text.rfind("]"):
            raise ValueError(f"the beginning {text!r} stops inside a bracket atom: close it with ']' or leave it out")
        tokens = _tokens(text)
        if len(tokens) >= LENGTH:
            raise ValueError(f"a beginning of {len(tokens)} tokens is too long: at most {LENGTH - 1} fit")
        return np.asarray(tokens, dtype=np.int64).reshape(-1, 1)


def _tokens(text: str) -> list[int]:
    pieces = _TOKEN.findall(text)
    try:
        return [_INDEX[piece] for piece in pieces]
    except KeyError:
        position = next(m.start() for m in _TOKEN.finditer(text) if m.group() not in _INDEX)
        raise ValueError(f"character {position + 1} of {text[:60]!r}, {text[position]!r}, belongs to no SMILES") from None

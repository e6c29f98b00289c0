"""Constraints: what one row may still become, asked of token by token while it is made."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class Constraint(Protocol):
    """A language over tokens. Families call it once for each token, in order of position and, inside a position, of stream.

    States are any hashable value. ``allowed`` must keep the end reachable: a token it admits leaves a way to an accepted end in
    the ``remaining`` positions (this one included). Token 0 ends the item (all streams zero at one position).
    """

    def start(self) -> Any: ...

    def allowed(self, state: Any, remaining: int) -> Mask:
        """Which tokens of this stream may come now: a bool array over its vocabulary, at least one True."""
        ...

    def step(self, state: Any, token: int) -> Any:
        """The state after a token."""
        ...

    def accepts(self, state: Any) -> bool:
        """Whether an item may end here (asked after its last token)."""
        ...

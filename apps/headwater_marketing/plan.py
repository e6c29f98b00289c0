"""A plan: the facts one message must state, as typed slots with their text exactly as it will be read, and the brand's policy.

Plain data between the parts that make copy and the validator that judges it; it holds no rule of either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from headwater.errors import HeadwaterError

#: person: somebody's name · name: a product, brand or shop · price, percent, date: rendered by locale · code: a coupon ·
#: url: an address · text: a short phrase that may hold figures of its own ("12-hour battery").
Kind = Literal["person", "name", "price", "percent", "date", "code", "url", "text"]
KINDS: tuple[str, ...] = get_args(Kind)

#: Why a row gets no copy: a fact is missing, cannot be what its slot says, contradicts another, holds what the policy bans, does
#: not fit the channel in any wording, or every wording broke a rule.
Reason = Literal["missing", "malformed", "conflict", "banned", "length", "policy"]


class Refused(HeadwaterError):
    """A row that gets no copy: which row, which field, why. Counted by ``reason``; never a wrong text instead."""

    def __init__(self, reason: Reason, row: str, field: str, words: str) -> None:
        super().__init__(f"row {row}, {field}: {words}")
        self.reason, self.row, self.field, self.words = reason, row, field, words


@dataclass(frozen=True)
class Slot:
    """One kind of fact: stated at least ``least`` and at most ``most`` times in a text; ``least`` 0 makes it optional."""

    name: str
    kind: Kind
    least: int = 1
    most: int = 1


@dataclass(frozen=True)
class Fact:
    """A slot's value for one message: ``text`` as the reader sees it, ``field`` the column it came from."""

    slot: Slot
    text: str
    field: str = ""


@dataclass(frozen=True)
class Plan:
    """The facts of one message. ``left_out`` says why optional facts that came are not used, by field."""

    row: str
    facts: tuple[Fact, ...]
    left_out: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(fact.slot.name for fact in self.facts)

    def only(self, keep: Callable[[Fact], bool]) -> Plan:
        """The plan with some facts."""
        return replace(self, facts=tuple(filter(keep, self.facts)))

    def text(self, name: str) -> str:
        """What a slot reads as. Raises ``KeyError``."""
        return {fact.slot.name: fact.text for fact in self.facts}[name]


#: A message: the texts of each part of a channel.
Message = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Policy:
    """What a brand allows. ``banned`` words stand nowhere, not even inside a fact; ``claims`` only inside a fact. ``legal`` is
    the text a channel's message must end with, by channel. A phrase may end in ``*`` (any ending)."""

    banned: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    legal: Mapping[str, str] = field(default_factory=dict)

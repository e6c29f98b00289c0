"""The guarantee while a text is written: every fact as often as asked, no figure that is none, nothing banned, never too long, and
never at a dead end.

A token is allowed only if, after it, the facts still missing fit behind it, each with a blank before it. So a text can be completed
from wherever it stands. It shares no code with the validator, which judges the finished text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headwater.constraints import FiniteConstraint, Mask
from headwater_marketing.asks import SWITCHES, Ask, spoken
from headwater_marketing.channels import Part, gsm, parts, septets, units
from headwater_marketing.codecs import Words
from headwater_marketing.lexicon import PLACE, POUND, START, lexicon, permitted, widths
from headwater_marketing.plan import Policy
from headwater_marketing.realisations import Said
from headwater_marketing.trie import CLEAR, State, trie

#: Quantities and days: said by facts alone.
QUANTITIES = tuple(
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty"
    "|forty|fifty|sixty|seventy|eighty|ninety|hundred*|thousand*|million*|billion*|half|double|triple|twice|dozen*|quarter|percent"
    "|per cent|pound|pounds|pence|dollar*|cents|euro|euros|quid|bucks|yen|january|february|april|june|july|august|september|october"
    "|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|tomorrow|tonight".split("|")
)
#: Words that say a fact without its figure, and the facts, by slot or kind, one of which must then be in the plan.
HINTS: tuple[tuple[tuple[str, ...], frozenset[str]], ...] = tuple(
    (tuple(words.split("|")), frozenset(needed.split()))
    for words, needed in (
        (
            "discount*|save|saves|saving*|off|reduced|reduction|price drop|sale|less|lower|down to|down from|used to be"
            "|previously|formerly",
            "percent was",
        ),
        ("offer*|deal|deals", "percent was code"),
        ("code|coupon*|voucher*|checkout", "code"),
        ("until|till|ends|ending|deadline|last day|by midnight|expires", "date"),
    )
)
CALLS = ("click here", "click this", "click now")  # no ad may say so


#: How often an opinion may be told.
AGAIN = 3
#: How much longer a text may be than one like it: so many characters, and so many times.
LONGER = (12, 1.3)


@dataclass(frozen=True)
class Stand:
    """Where a text stands: how its last token ended, that token, how often each need is met, its width, what the trie waits for,
    whether it ends in a fact with a stop of its own, and (of a benchmark's phrases) its last words."""

    last: int
    token: int
    met: tuple[int, ...]
    used: int
    open: State
    stopped: bool
    tail: str = ""


@dataclass(frozen=True)
class Needs:
    """What a codec's tokens mean to an ask: ``least`` and ``most`` times for each need; ``group`` of each token (0: says nothing,
    the last: may not stand); ``gives``, for each group, the needs it meets."""

    least: tuple[int, ...]
    most: tuple[int, ...]
    group: np.ndarray[Any, np.dtype[np.int16]]
    gives: tuple[tuple[int, ...], ...]


@functools.lru_cache(maxsize=4096)
def needs_of(codec: Words, ask: Ask) -> Needs:
    """The needs of an ask, slots first, then closed ones. A value that is said in words is said once, an opinion up to
    :data:`AGAIN` times; what is only a keyword (RNNLG's switches), as often as the ask names it. A benchmark's other keywords may
    not stand, nor words for another value of what is asked."""
    words, names = lexicon(codec), spoken(ask.slots, ask.act)
    index = {names[slot.name]: i for i, slot in enumerate(ask.slots)}
    least, most = [slot.least for slot in ask.slots], [slot.most for slot in ask.slots]
    for slot, value in ask.closed:
        name = f"{slot}={value}" if codec.phrases else slot
        if codec.phrases or slot in SWITCHES:
            if name not in index:
                index[name] = len(least)
                least.append(0)
                most.append(0)
            loosely = codec.phrases is not None and value in codec.phrases.loose.get(slot, ())
            least[index[name]], most[index[name]] = least[index[name]] + 1, AGAIN if loosely else most[index[name]] + 1
    gives: dict[tuple[int, ...], int] = {(): 0}
    group = np.zeros(len(codec.tokens), dtype=np.int16)
    banned = []
    for n, said in enumerate(codec.said):
        if said:
            met = [[index[name] for name in _readings(s) if name in index] for s in said if not _idle(s, ask)]
            if all(len(one) == 1 for one in met):  # what can be read as two of the facts asked for says neither
                group[n] = gives.setdefault(tuple(sorted({one[0] for one in met})), len(gives))
            else:
                banned.append(n)
        elif not codec.phrases and ask.act != "copy" and n in words.keywords:
            slot = words.keywords[n]
            if slot in index:
                group[n] = gives.setdefault((index[slot],), len(gives))
            else:
                banned.append(n)
    group[banned] = len(gives)
    return Needs(tuple(least), tuple(most), group, tuple(gives))


def _readings(said: Said) -> list[str]:
    return [said.slot] if said.values is None else [f"{said.slot}={value}" for value in sorted(said.values)]


def _idle(said: Said, ask: Ask) -> bool:
    """Whether words say nothing here: loose ones of a slot that nobody asks for, or that bear its name and say no value."""
    values = {value for slot, value in ask.closed if slot == said.slot}
    return said.loose and (not values or (said.values == frozenset("?") and "?" not in values))


class Wording:
    """What one text may still become, token by token: a :class:`~headwater.constraints.Constraint` of its own for each row.

    ``facts`` are the final texts by slot name; ``part`` counts length and has rules of its own; ``legal`` will stand behind the
    text after ``between`` and is counted; ``held`` are the names and kinds of all facts of the message (unless told, those of the
    ask), which allow words such as "off". Without ``part`` a text may be as long as the codec holds, with ``like`` not much longer
    than that text; without ``policy`` nothing is banned, but figures stand only in a benchmark's phrases.

    Raises ``ValueError`` where not even the bare facts fit, or a fact must stand that is banned.
    """

    limit: int

    def __init__(
        self,
        codec: Words,
        ask: Ask,
        facts: Mapping[str, str],
        part: Part | None = None,
        policy: Policy | None = None,
        *,
        legal: str = "",
        between: str = " ",
        held: frozenset[str] | None = None,
        like: str = "",
    ) -> None:
        self.codec, self.ask, self.words = codec, ask, lexicon(codec)
        self.needs = needs_of(codec, ask)
        names = spoken(ask.slots, ask.act)
        self.facts = {names[slot.name]: facts.get(slot.name, "") for slot in ask.slots}
        self._measure(part, legal, between)
        if like:
            self.limit = min(self.limit, LONGER[0] + int(LONGER[1] * self.width(like)))
        self._speak(part, policy, held)
        lines = ask.channel is None or (ask.channel == "email" and ask.part == "body")
        mask = permitted(codec, () if part is None else part.rules, lines, self.septets)
        if ask.closed and codec.phrases:
            mask = mask & ~self.words.lines
        self.after = self.words.after & mask & (self.needs.group < len(self.needs.gives))
        if ask.act == "copy":
            self.after[PLACE] &= ~self.words.joined
        self.places = [n for n, place in self.words.place.items() if place in self.facts]
        addresses = {names[slot.name] for slot in ask.slots if slot.kind == "url"}
        self.addresses = {n for n in self.places if self.words.place[n] in addresses}
        self.widest, self.roomy = (
            int(self.cost.max()),
            dict[tuple[int, State, tuple[int, ...], bool], np.ndarray[Any, np.dtype[np.uint8]]](),
        )
        self._cheapest()
        if not self._completable(self.start(), codec.space.length):
            raise ValueError(f"the facts alone take more than the {self.limit} that the {ask.part or 'text'} has for them")

    def _measure(self, part: Part | None, legal: str, between: str) -> None:
        """``limit`` in the part's smallest unit, without the legal text, and each token's width with its fact."""
        behind = between + legal if legal else ""
        everything = "".join(self.facts.values()) + behind
        self.septets = False
        self.width: Callable[[str], int] = len
        if part is None:
            limit = 10**6
        elif part.count is parts:
            self.septets = gsm(everything)
            alone, each = (160, 153) if self.septets else (70, 67)
            one = septets if self.septets else units
            wide = any(one(c) > 1 for c in everything)  # a pair may leave the last place of a part empty
            limit = alone if part.limit == 1 else each * part.limit - wide * (part.limit - 1)
            self.width = functools.partial(_total, one)
        else:
            self.width, limit = part.count, part.limit
        self.limit = limit - self.width(behind)
        base = widths(self.codec, (septets if self.septets else units) if part is not None and part.count is parts else self.width)
        self.cost = base.copy()
        for n, place in self.words.place.items():
            if place in self.facts:
                self.cost[n] += self.width(self.facts[place])

    def _speak(self, part: Part | None, policy: Policy | None, held: frozenset[str] | None) -> None:
        self.trie = None
        if policy is not None:
            if held is None:
                held = frozenset(s.name for s in self.ask.slots) | frozenset(s.kind for s in self.ask.slots)
            hints = tuple(word for words, needed in HINTS if not held & needed for word in words)
            calls = CALLS if self.ask.channel == "ad" else ()
            self.trie = trie(policy.banned, (*policy.claims, *QUANTITIES, *hints, *calls))

    def _cheapest(self) -> None:
        """For each need, what it takes at least: the token of its own with a blank before it that is the narrowest."""
        self.unit, self.cheapest = [], []
        after_word = self.after[1]
        for i in range(len(self.needs.least)):
            own = [g for g, given in enumerate(self.needs.gives) if given == (i,)]
            tokens = np.flatnonzero(np.isin(self.needs.group, own) & after_word & self.words.blank).tolist()
            tokens = [n for n in tokens if self._follow(CLEAR, n) is not None]
            if not tokens and self.needs.least[i]:
                raise ValueError(f"no wording is left for {(*self.ask.slots, *self.ask.closed)[i]}")
            best = min(tokens, key=lambda n: (self.cost[n], n), default=0)
            self.cheapest.append(best)
            self.unit.append(int(self.cost[best]))

    # --- the protocol ---------------------------------------------------------------------------------------------------------

    def start(self) -> Stand:
        return Stand(START, 0, (0,) * len(self.needs.least), 0, CLEAR, False)

    def step(self, state: Stand, token: int) -> Stand:
        if token == 0:
            return state
        met = list(state.met)
        group = int(self.needs.group[token])
        for need in self.needs.gives[group] if group < len(self.needs.gives) else ():
            met[need] += 1
        place = self.words.place.get(token)
        used = state.used + int(self.cost[token]) - (state.stopped and bool(self.words.dots[token]))
        open_ = self._follow(state.open, token) or CLEAR
        stopped = place is not None and self.facts.get(place, "")[-1:] in (".", "!", "?") and self.facts.get(place, "") != ""
        tail = (
            " ".join((state.tail + self.codec.tokens[token]).split(" ")[-self.codec.phrases.reach :]) if self.codec.phrases else ""
        )
        return Stand(int(self.words.kind[token]), token, tuple(met), used, open_, stopped, tail)

    def accepts(self, state: Stand) -> bool:
        return state.last != START and all(n >= least for n, least in zip(state.met, self.needs.least, strict=True))

    def allowed(self, state: Stand, remaining: int) -> Mask:
        mask = self._next(state, remaining)
        if self.accepts(state):
            mask[0] = not self._dangling(state) or not mask.any()
        return mask

    def forget(self) -> None:
        """Let go of what was kept for the next token, which takes more room than the rule."""
        self.roomy.clear()
        self.chains.clear()

    # --- how -------------------------------------------------------------------------------------------------------------------

    def _dangling(self, state: Stand) -> bool:
        return bool(self.words.dangling[state.token] or self.words.commas[state.token]) and state.last != PLACE

    def _next(self, state: Stand, remaining: int) -> Mask:
        """The tokens after which the text can be completed, the end left out."""
        missing = [max(least - n, 0) for n, least in zip(state.met, self.needs.least, strict=True)]
        slack = self.limit - state.used - sum(map(int.__mul__, missing, self.unit))
        spare = remaining - 1 - sum(missing)  # positions beside the facts still missing
        if self.codec.phrases or spare < 0 or slack < self.widest:
            return self._fitting(state, missing, slack, spare)
        key = (state.last, state.open, state.met, state.token in self.addresses)  # all that matters where anything has room
        if key not in self.roomy:
            self.roomy[key] = np.packbits(self._fitting(state, missing, slack, spare))  # bits: thousands of rules live at once
        return np.unpackbits(self.roomy[key], count=len(self.cost)).view(np.bool_)

    def _fitting(self, state: Stand, missing: list[int], slack: int, spare: int) -> Mask:
        """The same, of what is ``missing`` and how much room there is beside it: ``slack`` in width, ``spare`` in positions."""
        room = []
        for given in self.needs.gives:
            full = any(state.met[need] >= self.needs.most[need] for need in given)
            refund = [need for need in given if missing[need]]
            fits = spare + len(refund) >= 0 and not full
            room.append(slack + sum(self.unit[need] for need in refund) if fits else -1)
        rooms = np.array([*room, -1], dtype=np.int64)[self.needs.group]
        mask: Mask = self.after[state.last] & (self.cost <= rooms)
        if self.codec.phrases and not (spare > 0 and (self.after[POUND] & (self.cost + 2 <= rooms)).any()):
            mask &= ~self.words.pounds  # no figure could follow
        if self.codec.phrases and (kept := mask & ~completing(self.codec, state.tail)).any():
            mask = kept
        if state.token in self.addresses:
            mask &= _after_address(self.codec)
        if self.trie is not None:
            mask &= self.trie.row(state.open, self.codec.tokens).good
            for n in self.places:
                if mask[n] and self._follow(state.open, n) is None:
                    mask[n] = False
            if self.crossing:
                self._look_ahead(state, mask)
        return mask

    def _follow(self, state: State, token: int) -> State | None:
        if self.trie is None:
            return CLEAR
        place = self.words.place.get(token)
        if place is None:
            return self.trie.row(state, self.codec.tokens).after[token]
        return self.trie.fact(state, self.facts.get(place, ""))

    @functools.cached_property
    def crossing(self) -> bool:
        """Whether a phrase could begin or go on inside what still must be said; if none can, no order of it is ever forbidden."""
        if self.trie is None:
            return False
        inside = [groups for groups, _, everywhere in self.trie.phrases if everywhere]
        letters = {letter for groups in inside for letter, _ in groups}
        texts = [self.facts[p] for p in self.facts]
        return (bool(self.ask.closed) and bool(self.trie.phrases)) or any(
            (c := next((c for c in text.casefold() if c.isalnum()), "")) and c in letters for text in texts
        )

    def _look_ahead(self, state: Stand, mask: Mask) -> None:
        """Takes out of ``mask`` the tokens behind which a banned phrase would be completed by the facts still missing."""
        assert self.trie is not None
        row = self.trie.row(state.open, self.codec.tokens)
        dead = [kind for kind, waiting in enumerate(row.kinds) if not self._chain((waiting, False), state.met)]
        if dead:
            mask[np.isin(row.waits, dead) & (self.needs.group == 0)] = False
        for n in np.flatnonzero(mask & (self.needs.group > 0)).tolist():
            open_, met = self._follow(state.open, n), list(state.met)
            for need in self.needs.gives[self.needs.group[n]]:
                met[need] += 1
            mask[n] = open_ is not None and self._chain(open_, tuple(met))

    def _chain(self, open_: State, met: tuple[int, ...]) -> bool:
        """Whether the missing facts can follow one another, in the order of the ask, from here."""
        key = (open_, met)
        if key not in self.chains:
            good: State | None = open_
            for i, (n, least) in enumerate(zip(met, self.needs.least, strict=True)):
                for _ in range(least - n):
                    good = None if good is None else self._follow(good, self.cheapest[i])
            self.chains[key] = good is not None
        return self.chains[key]

    @functools.cached_property
    def chains(self) -> dict[tuple[State, tuple[int, ...]], bool]:
        return {}

    def _completable(self, state: Stand, remaining: int) -> bool:
        if self.limit < 1 or not self._chain(CLEAR, state.met):
            return False
        return bool(self._next(state, remaining).any())


@functools.lru_cache(maxsize=8)
def _after_address(codec: Words) -> Mask:
    return np.array([t[:1] in (" ", "\n", ".", ",", "!", ":", ";", "") for t in codec.tokens])


@functools.lru_cache(maxsize=1 << 14)
def completing(codec: Words, tail: str) -> Mask:
    """The tokens that, behind these words, would finish a realisation which is not their own: an ordinary "river" behind "by the",
    or "cheap" behind "not". Not all of them can be known from a token alone."""
    mask = np.zeros(len(codec.tokens), dtype=np.bool_)
    assert codec.phrases is not None
    at_end = codec.phrases.at_end
    for lead, closers in _closers(codec):
        for n in closers if lead.search(tail) else ():
            text = tail + codec.tokens[n]
            found = at_end.search(text)  # the leftmost, hence the longest that ends here
            mask[n] |= found is not None and found.start() < len(text) - len(codec.tokens[n].lstrip())
    return mask


@functools.lru_cache(maxsize=8)
def _closers(codec: Words) -> list[tuple[re.Pattern[str], list[int]]]:
    """Behind which words which tokens can end a realisation: ordinary ones, and those that are one, which a word before them may
    turn."""
    assert codec.phrases is not None
    words = [(n, t, bool(codec.said[n])) for n, t in enumerate(codec.tokens) if t[:1] == " " and "{" not in t]
    return [
        (re.compile(lead), [n for n, token, whole in words if whole == turned and re.search(end, token)])
        for turned, pairs in ((False, codec.phrases.joins), (True, codec.phrases.turns))
        for lead, end in pairs.items()
    ]


def _total(width: Callable[[str], int], text: str) -> int:
    return sum(map(width, text))


#: The most states whose table a family is given.
MOST_STATES = 512


def counting(codec: Words, ask: Ask) -> FiniteConstraint:
    """The facts of an ask as a finite table, for families that unhide cells in any order: each as often as asked, nothing that is
    not asked. Words and length are left to whoever judges the text. Raises ``ValueError`` for an ask of too many states."""
    return _counting(codec, Ask(ask.slots, ask.closed, ask.act))  # where and how it is said changes nothing of what is counted


@functools.lru_cache(maxsize=64)
def _counting(codec: Words, ask: Ask) -> FiniteConstraint:
    needs = needs_of(codec, ask)
    sizes = [most + 1 for most in needs.most]
    states = int(np.prod(sizes)) if sizes else 1
    if states > MOST_STATES:
        raise ValueError(f"{states} ways to have said {len(sizes)} facts; at most {MOST_STATES}")
    at = np.array(np.unravel_index(np.arange(states), sizes)).T if sizes else np.zeros((1, 0), dtype=np.int64)
    table = np.full((states, len(codec.tokens)), -1, dtype=np.int64)
    for g, given in enumerate(needs.gives):
        more = at.copy()
        for need in given:
            more[:, need] += 1
        good = (more <= np.array(needs.most)).all(axis=1) if sizes else np.ones(1, dtype=np.bool_)
        target = (
            np.where(good, np.ravel_multi_index(more.clip(max=np.array(needs.most)).T, sizes), -1)
            if sizes
            else np.zeros(1, dtype=np.int64)
        )
        table[:, np.flatnonzero((needs.group == g) & lexicon(codec).usable)] = target[:, None]
    return FiniteConstraint([table], (at >= np.array(needs.least)).all(axis=1) if sizes else np.ones(1, dtype=np.bool_))

"""What one text is asked to be, and how a network is told: the item, the condition and the plan of facts as tokens.

An item is one text of one part (an SMS, a push title, a headline) with placeholders; a message is several of them.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_type_hints

import numpy as np

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.knobs import Given, Knob
from headwater_marketing.plan import Message, Plan, Slot

if TYPE_CHECKING:
    from headwater.noise import Noise

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")

# FROZEN: shipped models depend on the order of these names. -----------------------------------------------------------------------

#: Facts that our own copy knows by name, and names for what a brief adds of its own.
SPOKEN = tuple("first_name brand product price was percent code until url feature perk".split())
OWN = tuple(f"fact_{i}" for i in range(1, 7))
#: RNNLG's slots and, where one act names several things, which of them: name, name_2, name_3.
REVIEWED = tuple(
    "name type family price pricerange count area near address phone postcode food goodformeal memory drive driverange platform"
    " dimension battery batteryrating design utility processor weight weightrange warranty ecorating screensize screensizerange"
    " powerconsumption resolution color hdmiport accessories audio".split()
)
NUMBERED = tuple(f"{slot}_{i}" if i > 1 else slot for slot in REVIEWED for i in (1, 2, 3))
PLACES = (*SPOKEN, *OWN, *(name for name in NUMBERED if name not in SPOKEN))
#: Facts that are said in words.
SWITCHES = tuple("isforbusinesscomputing hasusbport kidsallowed dogsallowed hasinternet acceptscreditcards".split())
CLOSED: Mapping[str, tuple[str, ...]] = {
    "eat_type": ("coffee shop", "pub", "restaurant"),
    "food": ("Chinese", "English", "Fast food", "French", "Indian", "Italian", "Japanese", "dontcare", "none", "?"),
    "price_range": ("cheap", "less than £20", "more than £30", "high", "moderate", "£20-25"),
    "rating": ("1 out of 5", "3 out of 5", "5 out of 5", "high", "average", "low"),
    "area": ("city centre", "riverside", "dontcare", "none", "?"),
    "family_friendly": ("no", "yes"),
    **dict.fromkeys(SWITCHES, ("yes", "no", "dontcare", "none", "?")),
    **{slot: ("dontcare", "none", "?") for slot in REVIEWED if slot not in ("food", "area")},
}
ACTS = tuple(
    "copy inform recommend compare confirm inform_count inform_no_info inform_all suggest inform_no_match inform_only_match select"
    " goodbye bye request reqmore".split()
)
#: ViGGO's, told behind all that was there before.
GAME_ACTS = tuple("give_opinion request_attribute request_explanation verify_attribute".split())
GAME_PLACES = tuple("developer release_year exp_release_date specifier".split())
GAME_CLOSED: Mapping[str, tuple[str, ...]] = {
    "genres": tuple(
        "MMORPG|action|action-adventure|adventure|arcade|driving/racing|fighting|hack-and-slash|indie|music|pinball|platformer"
        "|point-and-click|puzzle|real-time strategy|role-playing|shooter|simulation|sport|strategy|tactical|text adventure"
        "|trivia/board game|turn-based strategy|vehicular combat|?".split("|")
    ),
    "platforms": ("PlayStation", "Xbox", "Nintendo", "Nintendo Switch", "PC", "?"),
    "player_perspective": ("first person", "third person", "bird view", "side view", "?"),
    "esrb": ("E (for Everyone)", "E 10+ (for Everyone 10 and Older)", "T (for Teen)", "M (for Mature)", "?"),
    "rating": ("excellent", "good", "poor", "?"),  # "average" is told already
    **dict.fromkeys(("has_multiplayer", "available_on_steam", "has_linux_release", "has_mac_release"), ("yes", "no", "?")),
    **dict.fromkeys(GAME_PLACES, ("?",)),
}
_TOLD = (
    "",  # no token
    *(f"act:{act}" for act in ACTS),
    *PLACES,
    *(f"{slot}={value}" for slot, values in CLOSED.items() for value in values),
    "optional",
    "twice",
    "more",
    *(f"in:{channel}" for channel in ("sms", "push", "email", "ad", "description")),
    *(f"as:{part}" for part in ("text", "title", "body", "subject", "preheader", "headline", "description")),
    *(f"act:{act}" for act in GAME_ACTS),
    *GAME_PLACES,
    *(f"{slot}={value}" for slot, values in GAME_CLOSED.items() for value in values),
)
_NUMBER = {name: i for i, name in enumerate(_TOLD)}
LENGTH, VOCABULARY = 24, 512  # room for more names; a model's embedding has the size of VOCABULARY
assert len(_NUMBER) == len(_TOLD) <= VOCABULARY
# ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """What a text is asked to be. ``slots`` are facts said by placeholder, named as in the plan; ``closed`` are (slot, value) said
    in words; ``act`` is "copy", or what a benchmark calls it; the rest is None where nobody says."""

    slots: tuple[Slot, ...] = ()
    closed: tuple[tuple[str, str], ...] = ()
    act: str = "copy"
    channel: str | None = None
    part: str | None = None
    voice: str | None = None
    level: str | None = None


@dataclass(frozen=True)
class Copy:
    """A text with placeholders, and what it was asked to be: an array holds the text alone."""

    text: str
    ask: Ask = field(default=Ask(), compare=False)


@dataclass(frozen=True)
class Wish:
    """What may be asked of a text; None where nothing is."""

    channel: Annotated[Literal["sms", "push", "email", "ad", "description"] | None, Knob("where it is read")] = None
    part: Annotated[
        Literal["text", "title", "body", "subject", "preheader", "headline", "description"] | None, Knob("which field it fills")
    ] = None
    voice: Annotated[Literal["warm", "lively", "crisp", "refined"] | None, Knob("how the brand sounds")] = None
    level: Annotated[Literal["easy", "standard"] | None, Knob("how plain the language is")] = None
    room: Annotated[int | None, Knob("length of its own words, facts left out", 0, 1000, "characters")] = None
    plan: Annotated[Array | None, Given("the facts to state, as numbers", kind="sequence", size=LENGTH, vocab=VOCABULARY)] = None


#: The knobs that say what a text is for and how it sounds.
TONE = ("channel", "part", "voice", "level")


@functools.cache
def choices(name: str) -> tuple[str, ...]:
    """What a knob of :class:`Wish` may be.

    >>> choices("level")
    ('easy', 'standard')
    """
    return tuple(value for choice in get_args(get_type_hints(Wish)[name]) for value in get_args(choice))


def check_tone(said: Mapping[str, str | None], where: str) -> None:
    """Raises :class:`HeadwaterError` for a value of :data:`TONE` that there is not."""
    for name, value in said.items():
        if value is not None and value not in choices(name):
            raise HeadwaterError(f"{where}: {name}: expected one of {', '.join(choices(name))}; got {value!r}")


def own_length(text: str) -> int:
    """Characters of a text's own words.

    >>> own_length("{product} for {price}!")
    6
    """
    return len(PLACEHOLDER.sub("", text))


def room(text: str) -> int:
    """The knob of that name that a text fulfils."""
    return min(own_length(text), 1000)


def spoken(slots: Sequence[Slot], act: str = "copy") -> dict[str, str]:
    """By which placeholder the vocabulary knows each slot: its own name, or the next of ``fact_1`` to ``fact_6``, in the order of
    the slots; a benchmark's acts have ViGGO's names, too. Raises ``ValueError`` for more than six that it has no name for.

    >>> spoken([Slot("price", "price"), Slot("colour", "text")])
    {'price': 'price', 'colour': 'fact_1'}
    """
    ours = PLACES if act == "copy" else (*PLACES, *GAME_PLACES)
    unknown = [slot.name for slot in slots if slot.name not in ours]
    if len(unknown) > len(OWN):
        raise ValueError(
            f"{len(unknown)} facts have no name of ours ({', '.join(unknown)}); at most {len(OWN)} may stand in one text"
        )
    taken = {slot.name for slot in slots}
    own = dict(zip(unknown, (name for name in OWN if name not in taken), strict=False))
    return {slot.name: own.get(slot.name, slot.name) for slot in slots}


def named(text: str, ask: Ask) -> str:
    """A decoded text with the plan's own placeholders.

    >>> named("{product}: {fact_1}", Ask((Slot("product", "name"), Slot("colour", "text"))))
    '{product}: {colour}'
    """
    back = {ours: name for name, ours in spoken(ask.slots, ask.act).items()}
    return PLACEHOLDER.sub(lambda found: "{" + back.get(found[1], found[1]) + "}", text)


def asks(copy: Message, plan: Plan, channel: str, voice: str, level: str) -> dict[str, list[Ask]]:
    """The content plan of a message, part by part: each text of ``copy`` as an ask for another text of the same facts."""
    slots = {fact.slot.name: fact.slot for fact in plan.facts}
    found: dict[str, list[Ask]] = {}
    for part, texts in copy.items():
        for text in texts:
            times = Counter(PLACEHOLDER.findall(text))
            stated = tuple(Slot(name, slots[name].kind, n, n) for name, n in times.items())
            found.setdefault(part, []).append(Ask(in_order(stated), channel=channel, part=part, voice=voice, level=level))
    return found


def in_order(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """Slots in the order in which networks are told of them: those with names of ours first."""
    place = {name: i for i, name in enumerate(PLACES)}
    return tuple(sorted(slots, key=lambda slot: (place.get(slot.name, len(place)), slot.name)))


def told(ask: Ask) -> Array:
    """(24,) int64: the act, channel and part, then each fact, behind it how often where not once, and whether it is optional.
    Raises ``ValueError`` for more than fits, or a closed value that is unknown."""
    names, row = spoken(ask.slots, ask.act), [f"act:{ask.act}"]
    row += [f"in:{ask.channel}"] * (ask.channel is not None) + [f"as:{ask.part}"] * (ask.part is not None)
    for slot in ask.slots:
        row += [names[slot.name]] + ["twice"] * (slot.least == 2) + ["more"] * (slot.least > 2) + ["optional"] * (slot.least == 0)
    row += [f"{slot}={value}" for slot, value in ask.closed]
    unknown = [name for name in row if name not in _NUMBER]
    if unknown or len(row) > LENGTH:
        raise ValueError(
            f"unknown to the vocabulary of plans: {unknown[0]!r}" if unknown else f"{len(row)} tokens of plan; at most {LENGTH}"
        )
    out = np.zeros(LENGTH, dtype=np.int64)
    out[: len(row)] = [_NUMBER[name] for name in row]
    return out


def times_told(plan: Array) -> dict[str, tuple[int, int]]:
    """How often each placeholder must and may stand, as :func:`told` wrote it; "more" than twice is thrice."""
    found: dict[str, tuple[int, int]] = {}
    last = ""
    for number in np.asarray(plan).reshape(-1).tolist():
        name = _TOLD[number] if 0 < number < len(_TOLD) else ""
        if name in PLACES or name in GAME_PLACES:
            found[name], last = (1, 1), name
        elif last and name in ("optional", "twice", "more"):
            found[last] = {"optional": (0, found[last][1]), "twice": (2, 2), "more": (3, 3)}[name]
    return found


def wish(ask: Ask, room: int | None = None) -> Wish:
    """What a network reads of an ask; see :func:`told` for errors."""
    return Wish(ask.channel, ask.part, ask.voice, ask.level, room, told(ask))  # type: ignore[arg-type]


def describe(item: Copy) -> Wish:
    """The knobs that an item fulfils."""
    ask = item.ask
    return Wish(ask.channel, ask.part, ask.voice, ask.level, room(item.text))  # type: ignore[arg-type]


def given(name: str, item: Copy, noise: Noise | None = None) -> Wish:
    """The plan of an item."""
    if name != "plan":
        raise KeyError(name)
    return Wish(plan=told(item.ask))

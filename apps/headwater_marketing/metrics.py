"""Figures over many texts: facts said wrong, closeness to references, variety."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.domain import Evaluation, Metric
from headwater_marketing.asks import PLACEHOLDER, Ask, times_told
from headwater_marketing.realisations import RESTAURANTS, Match, Phrasing

#: The values of each slot, most often one; :func:`meaning` makes it of an ask.
Meaning = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class SlotErrors:
    """Facts missed, added and said wrong over some texts; ``right`` texts have none. ``rate`` is their sum over all slots."""

    missed: int = 0
    added: int = 0
    wrong: int = 0
    slots: int = 0
    texts: int = 0
    right: int = 0

    @property
    def rate(self) -> float:
        return (self.missed + self.added + self.wrong) / max(1, self.slots)

    def __add__(self, other: SlotErrors) -> SlotErrors:
        return SlotErrors(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def meaning(ask: Ask, facts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """All facts of an ask of E2E or ViGGO by slot."""
    found: dict[str, frozenset[str]] = {}
    for slot, value in (*((name.removesuffix("_2"), text) for name, text in facts.items()), *ask.closed):
        found[slot] = found.get(slot, frozenset()) | {value}
    return found


def read_facts(text: str, gold: Meaning, phrasing: Phrasing = RESTAURANTS) -> dict[str, set[str]]:
    """The facts that a text states, by a benchmark's patterns: of overlapping matches the longest, of equal ones that which
    ``gold`` has; loose ones and open values only where ``gold`` has them, but for the phrasing's ``names``. A port of
    ``reclassify_mr``, see :mod:`headwater_marketing.realisations`.

    >>> gold = {"name": frozenset({"The Mill"}), "price_range": frozenset({"less than £20"})}
    >>> read_facts("The Mill is a cheap pub.", gold) == {
    ...     "name": {"The Mill"}, "price_range": {"less than £20"}, "eat_type": {"pub"}}
    True
    """
    true = {(slot, value.lower()) for slot, values in gold.items() for value in values}
    found = [Match(m.start(), m.end(), reading) for reading in phrasing.asked(gold) for m in reading.pattern.finditer(text)]
    wanted = [all((slot, value.lower()) in true for slot, value in match.reading.facts) for match in found]
    kept: list[Match] = []
    for match in found:
        for other, right in zip(found, wanted, strict=True):
            same = other[:2] == match[:2] and other is not match and phrasing.rivals(match.reading, other.reading)
            if phrasing.outdone(match, other) or (same and (right or other in kept)):
                break
        else:
            kept.append(match)
    out: dict[str, set[str]] = {}
    for match in kept:
        for slot, value in match.reading.facts:
            if not match.reading.loose or (slot, value.lower()) in true:
                out.setdefault(slot, set()).add(value)
    return out


def slot_errors(texts: Iterable[str], golds: Iterable[Meaning], phrasing: Phrasing = RESTAURANTS) -> SlotErrors:
    """Facts said wrong in E2E's or ViGGO's texts: SER = (missed + added + wrong values) / slots. A port of ``check_output``; as
    there, saying a fact twice is no error.

    >>> gold = {"name": frozenset({"Cotto"}), "eat_type": frozenset({"pub"}), "food": frozenset({"French"})}
    >>> slot_errors(["Cotto is a pub."], [gold]).rate
    0.3333333333333333
    """
    total = SlotErrors()
    for text, gold in zip(texts, golds, strict=True):
        said, missed, added, wrong = read_facts(text, gold, phrasing), 0, 0, 0
        for slot in gold.keys() | said.keys():
            true = {value.lower() for value in gold.get(slot, ())}
            seen = {value.lower() for value in said.get(slot, ())}
            unsaid, extra = len(true - seen), len(seen - true)
            both = min(unsaid, extra)
            wrong, missed, added = wrong + both, missed + unsaid - both, added + extra - both
        total += SlotErrors(missed, added, wrong, sum(map(len, gold.values())), 1, int(not (missed or added or wrong)))
    return total


#: RNNLG's switches and the words that its scorer counts for them (``resource/detect.pair``).
KEYWORDS: Mapping[str, frozenset[str]] = {
    "kidsallowed": frozenset(("child", "kid", "kids", "children")),
    "dogsallowed": frozenset(("dog", "dogs", "puppy")),
    "hasinternet": frozenset(("internet", "wifi")),
    "acceptscreditcards": frozenset(("card", "cards")),
    "isforbusinesscomputing": frozenset(("business", "nonbusiness", "home", "personal", "general")),
    "hasusbport": frozenset(("usb",)),
}
_UNCOUNTED = re.compile(r"^(?:type|processor)(?:_\d)?$")  # the scorer knows neither


def rnnlg_errors(texts: Iterable[str], asks: Iterable[Ask]) -> SlotErrors:
    """Facts said wrong in RNNLG texts with placeholders, counted per occurrence: placeholders as often as the act has the slot, the
    keywords of each switch as often as the act has it. ``ERRScorer`` of https://github.com/shawnwun/RNNLG (Wen et al., 2015,
    https://aclanthology.org/D15-1199), which does not look at ``select`` and ``suggest``.

    >>> from headwater_marketing.plan import Slot
    >>> asked = Ask((Slot("name", "text"), Slot("memory", "text")), act="inform")
    >>> rnnlg_errors(["{name} has {memory} and {memory}"], [asked]).added
    1
    """
    total = SlotErrors()
    for text, ask in zip(texts, asks, strict=True):
        if ask.act in ("select", "suggest"):
            continue
        asked = Counter({slot.name: slot.least for slot in ask.slots if not _UNCOUNTED.match(slot.name)})
        said = Counter(name for name in PLACEHOLDER.findall(text) if not _UNCOUNTED.match(name))
        tokens = re.findall(r"[a-z]+", PLACEHOLDER.sub(" ", text).lower())
        asked.update(slot for slot, _ in ask.closed if slot in KEYWORDS)
        said.update({slot: n for slot, words in KEYWORDS.items() if (n := sum(token in words for token in tokens))})
        missed, added = sum((asked - said).values()), sum((said - asked).values())
        total += SlotErrors(missed, added, 0, sum(asked.values()), 1, int(not (missed or added)))
    return total


# --- closeness -------------------------------------------------------------------------------------------------------------------


def mteval_tokens(text: str) -> list[str]:
    """Words as mteval-v13a splits them, in lower case.

    >>> mteval_tokens("Cotto's food costs £20-25, or 3.5 euros.")
    ["cotto's", 'food', 'costs', '£20', '-', '25', ',', 'or', '3.5', 'euros', '.']
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for code, sign in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(code, sign)
    text = re.sub(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 ", f" {text} ")
    text = re.sub(r"([^0-9])([\.,])", r"\1 \2 ", text)
    text = re.sub(r"([\.,])([^0-9])", r" \1 \2", text)
    text = re.sub(r"([0-9])(-)", r"\1 \2 ", text)
    return text.lower().split()


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of a corpus in percent, against several references each, as the E2E challenge measures it: mteval-v13a's tokens, lower
    case, the closest reference's length, no smoothing (Papineni et al., 2002, https://aclanthology.org/P02-1040; ``pymteval.py`` of
    https://github.com/tuetschek/e2e-metrics).

    >>> round(bleu(["The Mill is a cheap pub."], [["The Mill is a cheap pub .", "A pub"]]), 1)
    100.0
    """
    hits, counts, made, wanted = [0] * 4, [0] * 4, 0, 0
    for hypothesis, several in zip(hypotheses, references, strict=True):
        tokens, others = mteval_tokens(hypothesis), [mteval_tokens(reference) for reference in several]
        made += len(tokens)
        wanted += min((abs(len(o) - len(tokens)), len(o)) for o in others)[1]
        for n in range(1, 5):
            most: Counter[tuple[str, ...]] = Counter()
            for other in others:
                most |= _grams(other, n)
            hits[n - 1] += sum((_grams(tokens, n) & most).values())
            counts[n - 1] += max(0, len(tokens) - n + 1)
    if not min(hits, default=0):
        return 0.0
    shorter = min(0.0, 1 - wanted / made)
    return 100 * math.exp(shorter + sum(math.log(h / c) for h, c in zip(hits, counts, strict=True)) / 4)


# --- variety ---------------------------------------------------------------------------------------------------------------------


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """The share of a corpus's n-grams that are different ones (Li et al., 2016, https://aclanthology.org/N16-1014). It falls with
    the size of the corpus: compare equal numbers of texts.

    >>> distinct(["a b c", "a b d"])
    0.75
    """
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        grams += _grams(mteval_tokens(text), n)
    return len(grams) / max(1, sum(grams.values()))


def self_bleu(texts: Sequence[str], most: int = 100, seed: int = 0) -> float:
    """The mean BLEU of a text against the others, in percent, of at most ``most`` texts (Zhu et al., 2018,
    https://arxiv.org/abs/1802.01886). Higher is more alike."""
    some = list(texts) if len(texts) <= most else random.Random(seed).sample(list(texts), most)
    if len(some) < 2:
        return 0.0
    return sum(bleu([text], [some[:i] + some[i + 1 :]]) for i, text in enumerate(some)) / len(some)


# --- of a model ------------------------------------------------------------------------------------------------------------------


def facts_kept(evaluation: Evaluation[Any, Any]) -> float:
    """The share of asked placeholders that stand as often as asked and of those that stand unasked, as one error rate."""
    wrong = slots = 0
    for item, wish in zip(evaluation.made, evaluation.asked, strict=True):
        if wish.plan is None:
            continue
        said = Counter(PLACEHOLDER.findall(item.text))
        for name, (least, most) in times_told(wish.plan).items():
            wrong += max(0, least - said[name]) + max(0, said.pop(name, 0) - most)
            slots += least
        wrong += sum(said.values())
    return wrong / max(1, slots)


METRICS = (
    Metric("slot_errors", facts_kept, better="lower", summary="placeholders missed or added, over those asked for"),
    Metric("distinct_2", lambda e: distinct([item.text for item in e.made]), better="higher", summary="different bigrams over all"),
    Metric(
        "self_bleu", lambda e: self_bleu([item.text for item in e.made]), better="lower", summary="BLEU against each other, of 100"
    ),
)

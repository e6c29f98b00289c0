"""Say a text of the user's own in other words: some of its words made anew, in as many or a few more or fewer, its facts kept."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

import numpy as np

from headwater.domain import Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_marketing import asks, outputs, render
from headwater_marketing.asks import PLACEHOLDER, Copy
from headwater_marketing.channels import CHANNELS
from headwater_marketing.codecs import COPY, Words
from headwater_marketing.frozen import Frozen, frozen
from headwater_marketing.gaps import STAY, Gaps
from headwater_marketing.pipelines.write import EXAMPLES
from headwater_marketing.records import cell
from headwater_marketing.validator import weighty
from headwater_marketing.writing import LEAST

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise

TOGETHER = 16
DRAFTS = 12  # of which a text is the likeliest
ROUNDS = 3  # of drafts before a text is given up
#: Facts that the words beside them belong to ("was £60", "3 years", "until Monday").
_BOUND = {"price", "was", "percent", "until", "code", *asks.OWN}
#: So many words more than it had may come into a gap.
_MORE = 6
#: A text whose log-likelihood a token is below this, in nats, is none of the kind that the model knows; and so much less than the
#: text a draft may have.
FAMILIAR, WORSE = -4.5, 0.1
_PART = 4  # of the share of words asked for, a quarter at least is new
_TWICE = re.compile(r"\b(\w+) \1\b")


@dataclass(frozen=True)
class RewriteOptions:
    draws: Annotated[int, Knob("texts for each of yours", 1, 20)] = 3
    amount: Annotated[float, Knob("the share of words made anew, facts and claims aside", 0.05, 1)] = 0.6
    longest: Annotated[int | None, Knob("characters at most, facts included (default: a fifth more than yours, or ten)", 1)] = None
    channel: Annotated[
        Literal["sms", "push", "email", "ad", "description"] | None, Knob("where it is read (default: as copy.jsonl says, or sms)")
    ] = None
    part: Annotated[
        Literal["text", "title", "body", "subject", "preheader", "headline", "description"] | None,
        Knob("which field of it (default: as copy.jsonl says, or its last)"),
    ] = None
    voice: Annotated[Literal["warm", "lively", "crisp", "refined"] | None, Knob("how it should sound (default: as it comes)")] = (
        None
    )
    level: Annotated[Literal["easy", "standard"] | None, Knob("how plain the language should be")] = None
    boldness: Annotated[float, Knob("the temperature of drawing: below 1 plays safe, above 1 is bolder", 0.1, 3)] = 0.8


class Row(NamedTuple):
    """A text with placeholders for its facts and what it is asked to be, or why it cannot be read."""

    source: str
    held: Frozen
    ask: asks.Ask
    problem: str | None = None

    @property
    def wish(self) -> asks.Wish:
        return asks.wish(self.ask, asks.room(self.held.text))


@dataclass(frozen=True, kw_only=True)
class Rewritten(Result):
    """A text in other words, or why there is none."""

    row: int
    draw: int
    source: str
    held: Frozen
    copy: str | None  # with placeholders
    why_not: str | None
    model: str

    @property
    def text(self) -> str:
        return "" if self.copy is None else self.held.filled(self.copy)

    def write(self, folder: Path) -> list[Path]:
        """Nothing: all texts of a run go into one table, see :meth:`Rewrite.finish`."""
        return []

    def render(self) -> str:
        """The text as it was and, under it, as it is: facts as chips, other words in bold."""
        before = render.shown(self.held.text, self.held.facts)
        if self.copy is None:
            return render.framed(before, f"no other words: {self.why_not}")
        return render.framed(render.shown(self.copy, self.held.facts, since=self.held.text), "was", before)

    def record(self) -> dict[str, Any]:
        facts = ", ".join(self.held.facts.values())
        return {"source": self.source, "text": self.text, "facts": facts, "new": self.new, "model": self.model}

    @property
    def new(self) -> float | None:
        """The share of the text's words that are other ones."""
        return None if self.copy is None else round(_new(self.held.text, self.copy), 3)

    def columns_shown(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: record[name] for name in ("new", "model")}

    def problem(self) -> str | None:
        return self.why_not


class Rewrite(Pipeline[Row]):
    """Figures, prices, dates, codes, addresses, merge tags, names and what stands in [[double brackets]] stay letter by letter, and
    so do claims, quantities, negations and the words beside a figure; no claim or figure comes in that was not there. Sense is not
    checked: read what you send."""

    name, summary = "rewrite", "your own texts in other words, every fact where it was"
    source = "texts, one on a line (.txt), or the copy.jsonl of a run"
    Options, verbs, model, together = RewriteOptions, ("sample", "score"), "autoregressive", TOGETHER

    def read(self, source: Path, options: RewriteOptions) -> Iterator[Row]:
        from headwater_marketing import Marketing

        if source.suffix not in (".txt", ".jsonl"):
            raise HeadwaterError(
                f"{source}: expected texts one on a line (.txt), or a copy.jsonl; got {source.suffix or 'no suffix'}"
            )
        for i, item in enumerate(Marketing().read(source), 1):
            text = item.text.strip()
            held, ask, problem = Frozen(text, {}), item.ask, None
            try:
                held = frozen(text)
                ask = self._ask(held, item.ask, options, f"{source}: text {i}")
                asks.told(ask)
                COPY.encode(Copy(held.text))
            except ValueError as error:
                problem = str(error)
            yield Row(text, held, ask, problem)

    def _ask(self, held: Frozen, known: asks.Ask, options: RewriteOptions, where: str) -> asks.Ask:
        channel = CHANNELS[options.channel or known.channel or "sms"]
        names = [part.name for part in channel.parts]
        part = options.part or (known.part if known.channel == channel.name else None) or names[-1]
        if part not in names:
            raise HeadwaterError(f"{'--part' if options.part else where}: {channel.name} has {', '.join(names)}; got {part}")
        return held.ask(channel.name, part, options.voice or known.voice, options.level or known.level)

    def example(self) -> Path:
        return EXAMPLES / "lines.txt"

    def run(self, model: Generator, rows: Sequence[tuple[int, Row]], noise: Noise, options: RewriteOptions) -> Iterator[Rewritten]:
        if model.recipe.codec != "copy" or not model.exact or model.model.family.finite:
            raise HeadwaterError(
                f"--model: expected one that writes copy token after token, as autoregressive does; got {model.name}"
            )
        judges = [Judge(row, cast(Words, model.codec), options) for _, row in rows]
        self._know(model, [row for _, row in rows], judges)
        pending = [(i, draw) for i, judge in enumerate(judges) if judge.why_not is None for draw in range(options.draws)]
        found = dict[tuple[int, int], str]()
        for turn in range(ROUNDS):
            if not pending:
                break
            keys = [noise.fold(self.name, rows[i][0], draw, turn) for i, draw in pending]
            drafts = [(i, key.fold("draft", k)) for (i, _), key in zip(pending, keys, strict=True) for k in range(DRAFTS)]
            made = model.sample(
                len(drafts),
                seed=noise.fold(self.name).number(),
                ids=[key.number() for _, key in drafts],
                wishes=[rows[i][1].wish for i, _ in drafts],
                constraints=[judges[i].hide(key, options.amount) for i, key in drafts],
                temperature=options.boldness,
                likelihood=True,
            )
            score, least = made.extra["log_likelihood"], made.extra["least_likely"]
            for at, (i, draw) in enumerate(pending):
                own = [k for k in range(at * DRAFTS, (at + 1) * DRAFTS) if least[k] >= min(LEAST, judges[i].lowest)]  # none forced
                nats = {made.items[k].text: score[k] / _size(model, made.items[k]) for k in own}
                taken = [text for (row, _), text in found.items() if row == i]
                good = [t for t in nats if nats[t] >= judges[i].nats - WORSE and judges[i].passes(t) and t not in taken]
                if good:
                    found[i, draw] = max(good, key=lambda text: (nats[text], text))
            pending = [at for at in pending if at not in found]
        none = f"none of {ROUNDS * DRAFTS} drafts was as likely as yours under the model; ask for other words or fewer draws"
        for i, (row, given) in enumerate(rows):
            for draw in range(options.draws if judges[i].why_not is None else 1):
                text = found.get((i, draw))
                why_not = judges[i].why_not or (none if text is None else None)
                yield Rewritten(
                    row=row, draw=draw, source=given.source, held=given.held, copy=text, why_not=why_not, model=model.name
                )

    def _know(self, model: Generator, rows: Sequence[Row], judges: Sequence[Judge]) -> None:
        """Tell the judges how likely the model finds the texts as they are, and which are unlike what it knows."""
        readable = [(row, judge) for row, judge in zip(rows, judges, strict=True) if judge.why_not is None]
        if not readable:
            return
        made = model.sample(
            len(readable),
            wishes=[row.wish for row, _ in readable],
            constraints=[judge.gapped([]) for _, judge in readable],
            likelihood=True,
        )
        for i, (_, judge) in enumerate(readable):
            judge.nats, judge.lowest = made.extra["log_likelihood"][i] / _size(model, made.items[i]), made.extra["least_likely"][i]
            if judge.nats < FAMILIAR:
                judge.why_not = f"it is unlike the copy that the model knows ({-judge.nats:.1f} nats a word; {-FAMILIAR:g} at most)"

    def finish(self, records: Iterator[Mapping[str, Any]], folder: Path) -> None:
        """``rewritten.csv``: each text, and each of its others; cells as in ``sms.csv``."""
        with open(folder / "rewritten.csv", "w", encoding="utf-8", newline="") as file:
            sheet = outputs.sheet(file)
            sheet.writerow(["source", "draw", "text"])
            for record in records:
                if record["valid"]:
                    sheet.writerow([cell(record["source"]), str(record["draw"] + 1), cell(record["text"])])


def _size(model: Generator, copy: Copy) -> int:
    """Its tokens and its end."""
    return 1 + int((model.codec.encode(copy) != 0).sum())


class Judge:
    """What may become of one text. ``free`` says of each of its pieces whether it may change, ``why_not`` why none may, ``nats``
    and ``lowest`` how likely the text is as it stands, a token, and its least likely one."""

    nats = lowest = 0.0

    def __init__(self, row: Row, codec: Words, options: RewriteOptions) -> None:
        self.was, self.held, self.codec, self.least = row.held.text, row.held, codec, options.amount / _PART
        size = len(row.held.filled(self.was))
        self.longest = options.longest or max(size * 6 // 5, size + 10)
        self.pieces = [] if row.problem else codec.pieces(self.was)
        ends = np.cumsum([len(piece) for piece in self.pieces]).tolist()
        still = [*weighty(self.was), *(match.span() for match in STAY.finditer(self.was))]
        self.free = [
            self._may_change(i) and not any(a < end and b > end - len(piece.strip()) for a, b in still)
            for i, (piece, end) in enumerate(zip(self.pieces, ends, strict=True))
        ]
        facts = len(row.held.filled("".join("{" + name + "}" for name in PLACEHOLDER.findall(self.was))))
        self.why_not = row.problem
        if not row.problem and not any(self.free):
            self.why_not = (
                "no word of it may change: facts, claims, words beside a figure, and words that the vocabulary lacks stay"
            )
        elif not row.problem and facts > self.longest:
            self.why_not = f"its facts alone are {facts} characters; --longest is {self.longest}"

    def _may_change(self, i: int) -> bool:
        """Whether a piece is a word of the vocabulary, stands behind no opening sign and beside no fact that it belongs to."""
        piece, before, after = self.pieces[i], *(self.pieces[k] if 0 <= k < len(self.pieces) else "" for k in (i - 1, i + 1))
        word = piece.strip(" ")
        near = {name for name in PLACEHOLDER.findall(before + after) if name in _BOUND}
        return (
            piece in self.codec.number
            and word.isalpha()
            and (len(word) > 1 or word in "aAI")
            and not near
            and before[-1:] not in ("(", "[", '"', "“", "‘", "'", "¡", "¿")
        )

    def passes(self, text: str) -> bool:
        """Whether it says enough other words, no other facts, claims or negations, is written as texts are, and short enough."""
        return (
            text != self.was
            and _new(self.was, text) >= self.least
            and PLACEHOLDER.findall(text) == PLACEHOLDER.findall(self.was)
            and _said(text) == _said(self.was)
            and _sentences(text) == _sentences(self.was)
            and set(_TWICE.findall(text.lower())) <= set(_TWICE.findall(self.was.lower()))
            and len(self.held.filled(text)) <= self.longest
        )

    def hide(self, noise: Noise, amount: float) -> Gaps:
        """Gaps in place of whole runs of words that may change, up to a share of those words, but one at least."""
        runs = [list(run) for free, run in itertools.groupby(range(len(self.free)), key=self.free.__getitem__) if free]
        most, hidden = max(1.0, amount * sum(self.free)), list[list[int]]()
        for r in np.argsort(noise.uniform(len(runs))[0].numpy(), kind="stable").tolist():
            if not hidden or sum(map(len, hidden)) + len(runs[r]) <= most:
                hidden.append(runs[r])
        return self.gapped(hidden)

    def gapped(self, runs: Sequence[Sequence[int]]) -> Gaps:
        """The text with a gap in place of each run of pieces."""
        gaps, hidden = {run[0]: len(run) for run in runs}, {i for run in runs for i in run}
        parts, capitals = list[int](), list[bool]()
        for i, piece in enumerate(self.pieces):
            if i in gaps:
                parts.append(-gaps[i] - _MORE)
                begins = i == 0 or self.pieces[i - 1].strip(" ")[-1:] in (".", "!", "?", "\n")
                capitals.append(begins and piece.strip(" ")[0].isupper())
            elif i not in hidden:
                tokens = self.codec.encode(Copy(piece))[:, 0]
                parts += tokens[tokens > 0].tolist()
        return Gaps(self.codec, parts, capitals)


def _new(was: str, text: str) -> float:
    """The share of a text's words that are others than they were."""
    old, now = re.findall(r"[\w'’{}]+", was), re.findall(r"[\w'’{}]+", text)
    same = sum(block.size for block in difflib.SequenceMatcher(None, old, now, autojunk=False).get_matching_blocks())
    return 1 - same / max(1, len(now))


def _said(text: str) -> Counter[str]:
    """What a text claims, denies or limits, word by word."""
    return Counter([text[a:b].lower() for a, b in weighty(text)] + [match[0].lower() for match in STAY.finditer(text)])


def _sentences(text: str) -> tuple[list[str], list[str], list[bool]]:
    """A text's stops, its capitals inside sentences, and whether its sentences begin with one."""
    begins = [found[1].isupper() for found in re.finditer(r"(?:^|[.!?]\s+|\n)(\w)", text)]
    return re.findall(r"[.!?:;]", text), re.findall(r"[^.!?\s]\s+([^\W\d_a-z][\w'’]*)", text), begins

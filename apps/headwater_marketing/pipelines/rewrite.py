"""Say a text of the user's own in other words: some of its words made anew, in as many or a few more or fewer, its facts kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

from headwater.domain import Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.knobs import Knob
from headwater_marketing import asks, outputs, render
from headwater_marketing.asks import Copy
from headwater_marketing.channels import CHANNELS
from headwater_marketing.codecs import COPY, Words
from headwater_marketing.drafts import Judge, drafts, know, new
from headwater_marketing.frozen import Frozen, frozen
from headwater_marketing.pipelines.write import EXAMPLES
from headwater_marketing.records import cell

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.noise import Noise

TOGETHER = 16
DRAFTS = 12  # of which a text is the likeliest
ROUNDS = 3  # of drafts before a text is given up
WORSE = 0.1  # nats a token that a text may be less likely than the user's own


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
        return None if self.copy is None else round(new(self.held.text, self.copy), 3)

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
        if model.recipe.codec != "copy" or not (model.exact or model.model.family.finite):
            raise HeadwaterError(
                "--model: expected one that writes copy token after token, as autoregressive does, or fills gaps in it, as"
                f" masked_diffusion does; got {model.name}"
            )
        judges = [Judge(row, cast(Words, model.codec), options, noise.fold(self.name, i)) for i, row in rows]
        seed = noise.fold(self.name).number()
        know(model, judges, seed)
        pending = [(i, draw) for i, judge in enumerate(judges) if judge.why_not is None for draw in range(options.draws)]
        found = dict[tuple[int, int], str]()
        for turn in range(ROUNDS):
            if not pending:
                break
            keys = [judges[i].key.fold(draw, turn) for i, draw in pending]
            wanted = [(judges[i], key.fold("draft", k)) for (i, _), key in zip(pending, keys, strict=True) for k in range(DRAFTS)]
            asked = [judge.hide(key, options.amount) for judge, key in wanted]
            made = drafts(model, asked, seed, options.boldness)
            for at, (i, draw) in enumerate(pending):
                taken = [text for (row, _), text in found.items() if row == i]
                own = filter(None, made[at * DRAFTS : (at + 1) * DRAFTS])
                nats = {text: told for text, told in own if text not in taken}
                if good := [text for text in nats if nats[text] >= judges[i].nats - WORSE]:
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

    def finish(self, records: Iterator[Mapping[str, Any]], folder: Path) -> None:
        """``rewritten.csv``: each text, and each of its others; cells as in ``sms.csv``."""
        with open(folder / "rewritten.csv", "w", encoding="utf-8", newline="") as file:
            sheet = outputs.sheet(file)
            sheet.writerow(["source", "draw", "text"])
            for record in records:
                if record["valid"]:
                    sheet.writerow([cell(record["source"]), str(record["draw"] + 1), cell(record["text"])])

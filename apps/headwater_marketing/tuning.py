"""A language model adapted to a brand's own copy: a low-rank adapter (LoRA) that learns to answer orders with the brand's texts.

Only the adapter is trained and saved. The facts of the copy become placeholders first, so that it learns to word them and not to
know them; texts with figures that are no fact are left out, since none could be written.

Hu et al., "LoRA: low-rank adaptation of large language models", 2022, https://arxiv.org/abs/2106.09685: W + (α/r) B A with
A (r, in) drawn and B (out, r) zero at first; α = 2r.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli import flags, terminal
from headwater.errors import HeadwaterError
from headwater_marketing import tables
from headwater_marketing.asks import PLACEHOLDER, TONE, Ask, Copy, check_tone, named, spoken
from headwater_marketing.authors import prompt
from headwater_marketing.data import from_json, stated
from headwater_marketing.writing import number

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 8  # texts
LONGEST = 512  # ids of an order and its text
_NAME = re.compile(r"[a-z][a-z0-9_]*")
Progress = Callable[[int, int], None]


# --- a brand's copy --------------------------------------------------------------------------------------------------------------


def read(file: Path, usual: Mapping[str, str | None] = {}) -> tuple[list[Copy], int]:
    """The texts of a file with placeholders for their facts, and how many were left out for a figure that is no fact.

    A CSV table or JSON lines with a column ``text``; ``channel``, ``part``, ``voice`` and ``level`` where they are known (``usual``
    where not); each other column is a fact, its value as the text has it. Or a plain .txt, a text a line. Raises
    :class:`HeadwaterError` with the line that is wrong."""
    found, left_out = [], 0
    for where, row in _rows(file):
        item = _item(row, usual, f"{file}: {where}")
        if item is None or re.search(r"[\d%£$€¥{}]", PLACEHOLDER.sub("", item.text)):
            left_out += 1
        else:
            found.append(item)
    if len(found) < LEAST:
        more = f", and {left_out} with figures or signs of money that are no placeholders" if left_out else ""
        raise HeadwaterError(f"{file}: expected at least {LEAST} texts; got {len(found)}{more}")
    return found, left_out


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each text stands, and its row."""
    kinds = {".txt", ".csv", ".jsonl"}
    if file.suffix not in kinds:
        raise HeadwaterError(f"SOURCE: expected a file of {', '.join(sorted(kinds))}; got {file}")
    if not file.is_file():
        raise HeadwaterError(f"SOURCE: no such file: {file}")
    if file.suffix == ".csv":
        header, _ = tables.header(file)
        tables.need(file, ["text"], header)
        yield from ((f"row {i}", row) for i, row in enumerate(tables.rows(file, header), 1))
        return
    try:
        for i, line in enumerate(file.read_text("utf-8-sig").split("\n"), 1):
            if line.strip():
                yield f"line {i}", json.loads(line) if file.suffix == ".jsonl" else {"text": line.strip().replace("\\n", "\n")}
    except (OSError, ValueError) as error:
        raise HeadwaterError(f"{file}: cannot be read ({error})") from None


def _item(row: Mapping[str, Any], usual: Mapping[str, str | None], where: str) -> Copy | None:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise HeadwaterError(f"{where}: expected an object with a text")
    if not text.strip():
        return None
    if isinstance(row.get("ask"), dict):
        try:
            ask = from_json(dict(row)).ask
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HeadwaterError(f"{where}: not a text of copy ({type(error).__name__})") from None
        return Copy(text.strip(), ask)
    said = {name: row.get(name) or usual.get(name) for name in TONE}
    check_tone(said, where)
    facts = {name: value for name, value in row.items() if name not in ("text", *TONE) and isinstance(value, str) and value.strip()}
    if odd := next((name for name in facts if not _NAME.fullmatch(name or "")), None):
        raise HeadwaterError(f"{where}: a fact's column is named in small letters, figures and _; got {odd!r}")
    text = delexicalised(text.strip(), facts)
    ask = Ask(stated(text), (), "copy", **said)
    try:
        spoken(ask.slots)
    except ValueError as error:
        raise HeadwaterError(f"{where}: {error}") from None
    return Copy(text, ask)


def delexicalised(text: str, facts: Mapping[str, str]) -> str:
    """A text with placeholders where it states a fact, long ones first.

    >>> delexicalised("Aria Kettle: the kettle for £25", {"product": "Aria Kettle", "price": "£25", "brand": "Aria"})
    '{product}: the kettle for {price}'
    """
    for name, value in sorted(facts.items(), key=lambda fact: (-len(fact[1]), fact[0])):
        text = re.sub(rf"(?<!\w){re.escape(value.strip())}(?!\w)", "{" + name + "}", text)
    return text


# --- training --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuned:
    """What came of it: texts trained on and held out, their bits a token before and after, steps."""

    texts: int
    held_out: int
    before: float
    after: float
    steps: int


def tune(
    model: Any, tokenizer: Any, items: Sequence[Copy], out: Path, *, epochs: int = 3, rank: int = 16, rate: float = 2e-4,
    batch: int = 8, seed: int = 0, progress: Progress = lambda done, total: None,
) -> Tuned:  # fmt: skip
    """Train an adapter on orders and their texts, with Adam, a warm-up and a linear fall, and save it into an existing folder.
    A tenth of the texts, chosen by what they say, is held out to measure by."""
    import torch
    from peft import LoraConfig, get_peft_model

    from headwater.noise import Noise, permutation
    from headwater_marketing.authors.causal import TOLD as ADAPTER
    from headwater_marketing.authors.vocabulary import words_of

    ordered = sorted(items, key=lambda item: number(f"{seed}\x1f{item.text}"))
    texts = [lesson for item in ordered if len((lesson := _lesson(tokenizer, item))[0]) <= LONGEST]
    held = texts[: max(1, len(texts) // 10)]
    texts = texts[len(held) :]
    if not texts:
        raise HeadwaterError(f"SOURCE: no text of at most {LONGEST} tokens with its order")
    torch.manual_seed(seed)
    adapter = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    weights = [p for p in adapter.parameters() if p.requires_grad]
    adam, steps = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0), epochs * math.ceil(len(texts) / batch)
    before = _bits(adapter, held, batch)
    for step in range(steps):
        order = permutation(torch.arange(len(texts)), len(texts), Noise(seed).fold("tune", step * batch // len(texts))).tolist()
        chosen = [texts[order[(step * batch + i) % len(texts)]] for i in range(min(batch, len(texts)))]
        for group in adam.param_groups:
            group["lr"] = rate * min((step + 1) / max(1, steps // 20), (steps - step) / steps)
        adapter.train()
        loss = _loss(adapter, chosen)
        if not bool(torch.isfinite(loss)):
            raise HeadwaterError(f"--rate: the loss is no number at step {step}; try a smaller rate than {rate:g}")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        adam.zero_grad()
        progress(step + 1, steps)
    adapter.eval()
    done = Tuned(len(texts), len(held), before, _bits(adapter, held, batch), steps)
    adapter.save_pretrained(str(out), safe_serialization=True)
    told = {"shots": 0, "words": words_of(item.text for item in items), "figures": vars(done)}
    (out / ADAPTER).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return done


def _lesson(tokenizer: Any, item: Copy) -> tuple[list[int], int]:
    """The ids of an order and its text, and how many of them are the order."""
    first = tokenizer("")["input_ids"][:1] or [tokenizer.bos_token_id or tokenizer.eos_token_id or 0]
    order = first + tokenizer(prompt.entry(item.ask, prompt.length_of(item.text)), add_special_tokens=False)["input_ids"]
    ours = replace(item, text=_ours(item))
    return order + tokenizer(prompt.told(ours.text) + "\n", add_special_tokens=False)["input_ids"], len(order)


def _ours(item: Copy) -> str:
    """A text in the placeholders of our vocabulary."""
    names = spoken(item.ask.slots)
    text = PLACEHOLDER.sub(lambda found: "{" + names[found[1]] + "}", item.text)
    assert named(text, item.ask) == item.text
    return text


def _loss(model: Any, lessons: Sequence[tuple[list[int], int]]) -> Tensor:
    """Mean nats a token of the texts; the orders are only read."""
    import torch

    width = max(len(ids) for ids, _ in lessons)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in lessons], device=model.device)
    known = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in lessons], device=model.device)
    wanted = torch.tensor(
        [[-100] * order + ids[order:] + [-100] * (width - len(ids)) for ids, order in lessons], device=model.device
    )
    logits = model(input_ids=ids, attention_mask=known).logits[:, :-1].float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=-100)


def _bits(model: Any, lessons: Sequence[tuple[list[int], int]], batch: int) -> float:
    import torch

    total, tokens = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(lessons), batch):
            part = lessons[start : start + batch]
            count = sum(len(ids) - order for ids, order in part)
            total, tokens = total + float(_loss(model, part)) * count, tokens + count
    return total / tokens / math.log(2)


# --- the command -----------------------------------------------------------------------------------------------------------------


def command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Texts: .csv or .jsonl with facts in columns, or .txt.")],
    base: Annotated[str, typer.Option(metavar="MODEL", help="The language model: hf:FOLDER-OR-ID, as for write --author.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The adapter's folder.")] = Path("adapter"),
    channel: Annotated[str | None, typer.Option(help="Where the texts are read, if they do not say.")] = None,
    part: Annotated[str | None, typer.Option(help="Which field they fill, if they do not say.")] = None,
    voice: Annotated[str | None, typer.Option(help="How they sound, if they do not say.")] = None,
    level: Annotated[str | None, typer.Option(help="How plain they are, if they do not say.")] = None,
    epochs: Annotated[int, typer.Option(min=1, max=100, help="How often each text is read.")] = 3,
    rank: Annotated[int, typer.Option(min=1, max=256, help="The adapter's rank.")] = 16,
    rate: Annotated[float, typer.Option(min=1e-7, max=0.1, help="The learning rate.")] = 2e-4,
    seed: flags.Seed = 0,
    json: flags.Json = False,
    device: flags.Device = "cpu",
) -> None:
    """Adapt a language model to your own copy: a small adapter for `write --author hf:MODEL+ADAPTER`."""
    from headwater.report.run import close, source_record, staged
    from headwater_marketing.authors.causal import packages, parts, quiet

    began = time.monotonic()
    usual = {"channel": channel, "part": part, "voice": voice, "level": level}
    items, left_out = read(source, usual)
    if not base.startswith("hf:") or "+" in base:
        raise HeadwaterError(f"--base: expected hf:FOLDER-OR-ID; got {base!r}")
    with staged(out) as stage:
        with packages(), quiet(), terminal.Bar("tune") as bar:
            model, tokenizer = parts(base.removeprefix("hf:"), device)
            done = tune(
                model, tokenizer, items, stage, epochs=epochs, rank=rank, rate=rate, seed=seed, progress=bar,
            )  # fmt: skip
        settings = {"base": base, "epochs": epochs, "rank": rank, "rate": rate, "seed": seed, **usual}
        close(stage, {"command": flags.words("headwater marketing tune SOURCE", settings), "source": source_record(source)})
    told = f"{done.texts} texts, {done.steps} steps, held out {done.held_out}: {done.before:.2f} -> {done.after:.2f} bits a token"
    told += f"; {left_out} left out (figures that are no placeholders)" if left_out else ""
    facts = {"folder": out, "left_out": left_out, **vars(done)}
    terminal.tell(f"marketing tune: {told}, {terminal.seconds(began)}", out, facts=facts, as_json=json)

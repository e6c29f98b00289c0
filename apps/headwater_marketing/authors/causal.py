"""A causal language model of this machine as an author: it reads an order and some examples, and writes under our constraint.

At each step the model's distribution over ids is restricted to those that :class:`~headwater_marketing.authors.walk.Walk` allows,
renormalised, cut to its nucleus and drawn from by the line's own noise. The examples of a part are read once and kept.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.errors import HeadwaterError, MissingExtra
from headwater_marketing.asks import Ask, named, spoken
from headwater_marketing.authors import prompt
from headwater_marketing.authors.roles import misplaced
from headwater_marketing.authors.vocabulary import LENGTH, Spelled, Which
from headwater_marketing.authors.walk import Walk
from headwater_marketing.plan import Plan
from headwater_marketing.writing import Author, Draft, Line, Order, identity, wording

if TYPE_CHECKING:
    from torch import Tensor

    from headwater_marketing.constraint import Wording

ROWS = 8  # of a tile: lines that are written at once, the last tile filled up
BUCKET = 32  # orders are padded to multiples of so many ids
NUCLEUS = 0.95
STEPS = 1024  # ids of a text, at most
#: Where a model gives all that it may say next less than this, it is asked no further: what follows would be forced out of it.
LEAST = 1e-3
#: A text whose -log p under the model, before anything was ruled out, is above 6 and this many nats an id is drawn again.
UNLIKELY = 1.5
HOPELESS = 16.0  # nats above that, at which it is not finished
TOLD = "headwater.json"  # in an adapter's folder: what it was tuned for


class Causal:
    """A model with its tokenizer. ``shots`` examples go before each order; ``words`` says which words it may use, ``more`` those of
    a brand besides; texts of more than ``unlikely`` nats an id are drawn again."""

    def __init__(
        self, model: Any, tokenizer: Any, name: str, *, shots: int = prompt.SHOTS, words: Which = "plain", more: Sequence[str] = (),
        unlikely: float = UNLIKELY,
    ) -> None:  # fmt: skip
        self.model, self.tokenizer, self.name, self.shots, self.words = model, tokenizer, name, shots, words
        self.unlikely = unlikely
        self.codec = Spelled(tokenizer, words, more)
        self.begun = functools.lru_cache(maxsize=16)(self._begun)

    def author(self, seed: int, boldness: float) -> CausalAuthor:
        return CausalAuthor(self, seed, boldness)

    @property
    def device(self) -> Any:
        return self.model.device

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _begun(self, channel: str, part: str) -> tuple[int, list[tuple[Tensor, Tensor]]]:
        """The examples of a part, read: how many ids, and keys and values by layer, (1, heads, ids, width)."""
        import torch

        first = self.tokenizer("")["input_ids"][:1] or [self.tokenizer.bos_token_id or self.tokenizer.eos_token_id or 0]
        ids = first + self.ids(prompt.examples(channel, part, number=self.shots))
        with torch.no_grad():
            read = self.model(torch.tensor([ids], device=self.device), use_cache=True, logits_to_keep=1)
        return len(ids), [(layer.keys, layer.values) for layer in read.past_key_values.layers]

    def write(
        self, channel: str, part: str, orders: Sequence[list[int]], walks: Sequence[Walk], uniforms: Tensor, boldness: float
    ) -> list[float]:
        """Walk texts of one part to their ends, all at once; the log-likelihood of each. ``orders`` are ids of one bucket, a tile
        of them; ``uniforms`` (walks, steps). Where there are fewer walks than orders, the rest only fills the tile."""
        import torch
        from transformers import DynamicCache

        begun, layers = self.begun(channel, part)
        rows, room = len(orders), bucket(max(map(len, orders)))
        cache = DynamicCache()
        for i, (keys, values) in enumerate(layers):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
        pad = torch.tensor([[room - len(ids)] for ids in orders])
        inputs = torch.tensor([[0] * (room - len(ids)) + ids for ids in orders])
        mask = torch.cat([torch.ones(rows, begun, dtype=torch.long), (torch.arange(room) >= pad).long()], dim=1)
        places = (begun + torch.arange(room) - pad).clamp(min=0)
        likelihood = [0.0] * len(walks)
        for t in range(STEPS):
            with torch.no_grad():
                made = self.model(
                    inputs.to(self.device), attention_mask=mask.to(self.device), position_ids=places.to(self.device),
                    past_key_values=cache, use_cache=True, logits_to_keep=1,
                )  # fmt: skip
            logits, chosen = made.logits[:, -1].float().cpu().numpy(), [0] * rows
            for r, walk in enumerate(walks):
                if walk.text is None and (found := self._pick(walk, logits[r], float(uniforms[r, t]), boldness)):
                    chosen[r] = found[0]
                    likelihood[r] += found[1]
                    walk.step(found[0])
                    if walk.text is None and -likelihood[r] > HOPELESS + self.unlikely * (t + 1):
                        walk.text = ""
            if all(walk.text is not None for walk in walks):
                return likelihood
            inputs, places = torch.tensor(chosen)[:, None], places[:, -1:] + 1
            mask = torch.cat([mask, torch.ones(rows, 1, dtype=torch.long)], dim=1)
        for walk in walks:
            if walk.text is None:
                walk.text = ""
        return likelihood

    def _pick(self, walk: Walk, logits: Any, uniform: float, boldness: float) -> tuple[int, float] | None:
        """An id that may come now and its log-probability before anything was taken away; None where the text is given up."""
        likely = logits.astype(np.float64) - logits.max()
        likely -= np.log(np.exp(likely).sum())
        ids = walk.options(float(np.exp(likely[self.codec.letters]).sum()) if walk.whole else 0.0)
        if not len(ids) or (walk.between and np.exp(likely[ids]).sum() < LEAST):
            walk.text = ""
            return None
        drawn = int(ids[draw(likely[ids] / boldness, uniform)])
        return drawn, float(likely[drawn])


def draw(likely: Any, uniform: float) -> int:
    """One of so many log-weights: renormalised, the smallest set that holds :data:`NUCLEUS` of the mass (Holtzman et al., 2020,
    https://arxiv.org/abs/1904.09751), then by inverting the cumulative distribution.

    >>> draw(np.log([0.5, 0.4, 0.02]), 0.99), draw(np.log([0.5, 0.4, 0.02]), 0.0)
    (1, 0)
    """
    weight = np.exp(likely - likely.max())
    order = np.argsort(-weight, kind="stable")
    total = np.cumsum(weight[order])
    kept = int(np.searchsorted(total, NUCLEUS * total[-1])) + 1
    return int(order[min(int(np.searchsorted(total[:kept], uniform * total[kept - 1], side="right")), kept - 1)])


def bucket(length: int) -> int:
    return -(-length // BUCKET) * BUCKET


class CausalAuthor(Author):
    """Lines by a language model, each drawn by what it is for. Tiles have one shape whatever else is written, so a line does not
    depend on its neighbours: to the byte on one machine, as far as its arithmetic treats the rows of a tile alike."""

    def __init__(self, source: Causal, seed: int, boldness: float) -> None:
        self.source, self.seed, self.boldness = source, seed, boldness
        self.name, self.codec = source.name, source.codec
        self.sizes: list[int] = []  # of the texts written last, in ids

    def rule(self, ask: Ask, plan: Plan, order: Order, like: str) -> Wording | None:
        spoken(ask.slots)  # whether there are names for all
        return wording(self.codec, ask, plan, order, like)

    def write(self, lines: Sequence[tuple[Draft, Line]], attempt: int) -> list[str]:
        from headwater.noise import Noise

        orders = [self.source.ids(prompt.entry(line.ask, prompt.length_of(line.text))) for _, line in lines]
        groups: dict[tuple[str, str, int], list[int]] = {}
        for i, (_, line) in enumerate(lines):
            groups.setdefault((str(line.ask.channel), str(line.ask.part), bucket(len(orders[i]))), []).append(i)
        texts, self.sizes = [""] * len(lines), [0] * len(lines)
        for (channel, part, _), members in groups.items():
            for start in range(0, len(members), ROWS):
                tile = members[start : start + ROWS]
                ids = [identity(*lines[i], attempt) for i in tile]
                uniforms = Noise(self.seed).fold("author").rows(ids).uniform(STEPS)
                walks = [self._walk(lines[i][1]) for i in tile]
                filled = [orders[i] for i in tile] + [orders[tile[-1]]] * (ROWS - len(tile))
                likely = self.source.write(channel, part, filled, walks, uniforms, self.boldness)
                for i, walk, value in zip(tile, walks, likely, strict=True):
                    line = lines[i][1]
                    texts[i] = named(walk.text or "", line.ask).strip()
                    line.score, self.sizes[i] = value, walk.length
        return texts

    def _walk(self, line: Line) -> Walk:
        """A text may be half as long again as the template's."""
        most = min(LENGTH, 8 + 3 * len(self.codec.pieces(line.text)) // 2)
        assert line.rule is not None
        return Walk(self.codec, line.rule, most, self.source.words == "any")  # type: ignore[arg-type]

    def doubts(self, lines: Sequence[tuple[Draft, Line]], texts: Sequence[str]) -> list[str | None]:
        """What the model finds unlikely itself, since it was held back too often from what it wanted to say; and what small models
        fall into: the same sentence again, facts that are only listed, facts where they mislead."""
        found: list[str | None] = []
        for (_, line), text, ids in zip(lines, texts, self.sizes, strict=True):
            nats = -(line.score or 0.0)
            odd = f"unlikely: {nats:.0f} nats for {ids} tokens" if nats > 6 + self.source.unlikely * ids else _clumsy(text)
            found.append(odd if text else "given up: it had nothing to say that it may")
        return found


def _clumsy(text: str) -> str | None:
    """
    >>> _clumsy("Tap here. Now tap. Tap here."), _clumsy("Only {price} {code}"), _clumsy("{product}, {price}. Tap.")
    ('clumsy: a sentence twice', 'clumsy: facts side by side', None)
    """
    said = [sentence.strip().casefold() for sentence in re.split(r"[.!?\n]+", text) if sentence.strip()]
    if len(set(said)) < len(said):
        return "clumsy: a sentence twice"
    odd = "facts side by side" if "} {" in text else misplaced(text)
    return f"clumsy: {odd}" if odd else None


# --- opening one -----------------------------------------------------------------------------------------------------------------


def load(text: str, device: str = "cpu", *, words: Which = "plain", shots: int | None = None) -> Causal:
    """``FOLDER-OR-ID`` or ``FILE.gguf``, with ``+ADAPTER`` a LoRA adapter. Only weights in safetensors (or GGUF) are read, no code
    that comes with them is run. Raises :class:`HeadwaterError` where it is not there, or is something else."""
    base, _, adapter = text.partition("+")
    name = "hf:" + _short(base) + (f"+{_short(adapter)}" if adapter else "")
    model, tokenizer = parts(base, device)
    told: dict[str, Any] = {}
    if adapter:
        model, told = adapted(model, Path(adapter))
    model.eval().requires_grad_(False)
    given = told.get("shots", prompt.SHOTS) if shots is None else shots
    return Causal(model, tokenizer, name, shots=given, words=words, more=told.get("words", ()))


def _short(text: str) -> str:
    """A hub id as it is; of a path its last name."""
    return Path(text).name if Path(text).exists() else text


def parts(base: str, device: str = "cpu") -> tuple[Any, Any]:
    """Model and tokenizer of a folder, a hub id or a GGUF file. Raises :class:`HeadwaterError`."""
    place = Path(base)
    if place.suffix == ".gguf" and place.is_file():
        from headwater_marketing.authors.gguf import converted

        base, place = str(folder := converted(place)), folder
    if place.is_dir() and not list(place.glob("*.safetensors")):
        raise HeadwaterError(f"--author: {place} holds no *.safetensors; weights in other formats can carry code and are not read")
    if not place.exists() and not re.fullmatch(r"[\w.-]+/[\w.-]+", base):
        raise HeadwaterError(f"--author: no folder {base!r}, and that is no id of the Hugging Face hub (owner/name)")
    with packages():
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options: dict[str, Any] = {"trust_remote_code": False}
        with quiet(), in_a_line(base):
            tokenizer = AutoTokenizer.from_pretrained(base, **options)
            kind = torch.float32 if device == "cpu" else torch.bfloat16
            model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=kind, use_safetensors=True, **options)
        if not getattr(tokenizer, "is_fast", False):
            raise HeadwaterError(f"--author: {base}: its tokenizer has no tokenizer.json")
        try:
            return model.to(device), tokenizer
        except (RuntimeError, AssertionError) as error:
            raise HeadwaterError(f"--device: {device!r} cannot hold {base} ({str(error).splitlines()[0][:160]})") from None


def adapted(model: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model with an adapter's weights added to its own, and what the adapter was tuned for."""
    if not (folder / "adapter_model.safetensors").is_file() or not (folder / "adapter_config.json").is_file():
        raise HeadwaterError(f"--author: {folder} is no adapter: expected adapter_config.json and adapter_model.safetensors in it")
    with packages():
        from peft import PeftModel

        with quiet(), in_a_line(str(folder)):
            model = PeftModel.from_pretrained(model, str(folder), use_safetensors=True).merge_and_unload()
    told: dict[str, Any] = {}
    if (folder / TOLD).is_file():
        with in_a_line(str(folder / TOLD)):
            told = json.loads((folder / TOLD).read_text("utf-8"))
            if not isinstance(told.get("shots", 0), int) or not all(isinstance(word, str) for word in told.get("words", ())):
                raise ValueError("not what `headwater marketing tune` writes")
    return model, told


@contextlib.contextmanager
def packages() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(f"language models need {error.name}: pip install 'headwater[llm]'") from None


@contextlib.contextmanager
def in_a_line(what: str) -> Iterator[None]:
    """What goes wrong in a library, as one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HeadwaterError(f"--author: {what} cannot be opened: {line[:300]}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' own progress bars and remarks, which are meant for who writes code."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()

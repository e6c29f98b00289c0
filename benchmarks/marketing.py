"""Marketing: facts said wrong and closeness to references on development sets, with and without the constraint; what campaigns over
invented and hostile tables break, refuse and leave to templates; whether copy shows voice and level; speed.

All figures are of development splits: not like for like with published ones of test splits. Slot error rate (SER): facts missed,
added and wrong over facts asked for, by the patterns published with cleaned E2E, by those of ``games.py`` for ViGGO, by
``ERRScorer`` for RNNLG (per occurrence).

    python benchmarks/marketing.py benchmarks/models/e2e_autoregressive --only e2e
    python benchmarks/marketing.py FOLDER/model --only viggo      # of headwater train marketing viggo_autoregressive -o FOLDER
    python benchmarks/marketing.py marketing/autoregressive --only rnnlg campaign adversarial speed
    python benchmarks/marketing.py marketing/vae --only copy
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
sys.path.append(str(Path(__file__).parents[1] / "tests"))
from hostile import HOSTILE
from record import generator, publish, run

from headwater.domain import Evaluation
from headwater_marketing import asks, data, reviews
from headwater_marketing import tables as tables_of
from headwater_marketing.asks import PLACEHOLDER
from headwater_marketing.audience import Audience, Passed
from headwater_marketing.campaign import Campaign
from headwater_marketing.constraint import Wording, needs_of
from headwater_marketing.metrics import SlotErrors, bleu, distinct, facts_kept, meaning, rnnlg_errors, self_bleu, slot_errors
from headwater_marketing.phrases import LEVELS, VOICES
from headwater_marketing.plan import Plan, Policy
from headwater_marketing.records import REFUSALS, Record
from headwater_marketing.reviews import Pair
from headwater_marketing.validator import admit, judge
from headwater_marketing.writing import unlikely

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater_marketing.codecs import Words

PARTS = ("e2e", "viggo", "rnnlg", "copy", "campaign", "adversarial", "speed", "memory")
DECODINGS = ("free", "reranked", "constrained")
RETRIES = 8  # draws of a text

# --- benchmarks ------------------------------------------------------------------------------------------------------------------


def written(
    model: Generator, pairs: Sequence[Pair], options: argparse.Namespace, decoding: str
) -> tuple[list[str], dict[str, int]]:
    """A text with placeholders for each meaning, ``decoding`` one of :data:`DECODINGS`. But for "free", one that the model finds
    unlikely (facts that it forgot were forced in) or whose facts are wrong is drawn again; of the right ones the likeliest is
    taken. "reranked": right by the tokens that it is made of; where there is none, the first. "constrained": right by the patterns,
    since words can say a fact together; where there is none, the bare facts. A meaning that the constraint can hold no text of is
    refused, and is an empty text."""
    rules: list[Wording | None] = [None] * len(pairs)
    refused = set()
    for i, pair in enumerate(pairs if decoding == "constrained" else ()):
        try:
            rules[i] = Wording(model.codec, pair.ask, pair.facts)  # type: ignore[arg-type]
        except ValueError:
            refused.add(i)

    def right(i: int, copy: asks.Copy) -> bool:
        if decoding == "constrained":
            return (found := errors([asks.named(copy.text, pairs[i].ask)], [pairs[i]])).right == found.texts
        return decoding == "free" or states(model.codec, asks.Copy(copy.text, pairs[i].ask))  # type: ignore[arg-type]

    texts, best, again = [""] * len(pairs), [-math.inf] * len(pairs), 0
    left = [i for i in range(len(pairs)) if i not in refused]
    exact = model.exact
    for attempt in range(1 if decoding == "free" else RETRIES):
        again += len(left) if attempt else 0
        made = model.sample(
            len(left),
            seed=options.seed + attempt,
            ids=left,
            wishes=[asks.wish(pairs[i].ask) for i in left],
            constraints=[rules[i] for i in left] if decoding == "constrained" else None,
            temperature=options.temperature if not attempt else 0.7,
            steps=options.steps,
            likelihood=exact,
        )
        scores, good = made.extra["log_likelihood"] if exact else [0.0] * len(left), set()
        for i, copy, score in zip(left, made.items, scores, strict=True):
            if not attempt and decoding == "reranked":
                texts[i] = asks.named(copy.text, pairs[i].ask)
            if score > best[i] and right(i, copy):
                texts[i], best[i] = asks.named(copy.text, pairs[i].ask), score
                if not unlikely(score, len(model.codec.pieces(copy.text))):  # type: ignore[attr-defined]
                    good.add(i)
        left = [i for i in left if i not in good]
        if not left:
            break
    bare = [i for i in range(len(pairs)) if i not in refused and not texts[i]]
    for i in bare:
        texts[i] = ", ".join("{" + slot.name + "}" for slot in pairs[i].ask.slots)
    return texts, {"refused": len(refused), "drawn again": again, "templates": len(bare)}


def states(codec: Words, copy: asks.Copy) -> bool:
    """Whether the tokens of a text say each fact of its ask as often as asked, and no other."""
    needs, times = needs_of(codec, copy.ask), Counter[int]()
    try:
        tokens = codec.encode(copy)[:, 0]
    except ValueError:  # words that it spelled, which are too many
        return False
    for token in tokens:
        group = int(needs.group[token])
        if group == len(needs.gives):
            return False
        times.update(needs.gives[group])
    return all(least <= times[i] <= most for i, (least, most) in enumerate(zip(needs.least, needs.most, strict=True)))


def errors(texts: Sequence[str], pairs: Sequence[Pair]) -> SlotErrors:
    """Patterns read finished texts, RNNLG's scorer those with placeholders."""
    if phrasing := pairs[0].phrasing:
        out = [filled(t, p) for t, p in zip(texts, pairs, strict=True)]
        return slot_errors(out, [meaning(p.ask, p.facts) for p in pairs], phrasing)
    return rnnlg_errors(texts, [p.ask for p in pairs])


def filled(text: str, pair: Pair) -> str:
    return PLACEHOLDER.sub(lambda found: pair.facts.get(found[1], ""), text)


def on_pairs(model: Generator, pairs: Sequence[Pair], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One text for each distinct meaning."""
    every: dict[str, list[Pair]] = {}
    for pair in pairs:
        every.setdefault(pair.meaning, []).append(pair)
    some = [several[0] for several in every.values()][: options.n]
    references = [[p.reference for p in every[pair.meaning]] for pair in some]
    for decoding in DECODINGS:
        if decoding == "constrained" and model.model.family.finite:
            continue
        began = time.process_time()
        texts, happened = written(model, some, options, decoding)
        spent = time.process_time() - began
        found, out = errors(texts, some), [filled(t, p) for t, p in zip(texts, some, strict=True)]
        yield {
            "decoding": decoding,
            "meanings": len(some),
            "SER %": 100 * found.rate,
            "slot errors": found.missed + found.added + found.wrong,
            "slots": found.slots,
            "all correct %": 100 * found.right / max(1, found.texts),
            "BLEU": bleu(out, references),
            **(dict.fromkeys(happened) if decoding == "free" else happened),
            "distinct-2": distinct(out),
            "self-BLEU": self_bleu(out),
            "CPU s": round(spent, 1),
        }


def sentences(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All distinct meanings of the development set of the data that the model is of."""
    yield from on_pairs(model, reviews.table_pairs(model.recipe.data, "valid"), options)


def rnnlg(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All distinct acts of the validation sets of laptops and televisions."""
    yield from on_pairs(model, [p for name in ("laptop", "tv") for p in reviews.rnnlg_pairs(name, "valid")], options)


def copy(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Asks of our own grammar's held-out texts, unconstrained: placeholders missed or added, and how alike the texts are."""
    every = list(data.grammar_items("valid"))
    held_out = random.Random(0).sample(every, min(options.n, 1_000, len(every)))
    known = {item.text for item in data.grammar_items("train")}
    yield {**variety([item.text for item in held_out]), "texts": "held out", "of them in train %": 0.0}
    wishes = [asks.wish(item.ask, asks.describe(item).room) for item in held_out]
    for candidates, temperature in itertools.product(sorted({1, options.length_candidates}), (0.5, 0.8, 1.0)):
        began = time.process_time()
        made = model.sample(
            len(held_out),
            seed=options.seed,
            wishes=wishes,
            temperature=temperature,
            steps=options.steps,
            length_candidates=candidates,
        )
        right = [not facts_kept(Evaluation([item], [wish], [])) for item, wish in zip(made.items, wishes, strict=True)]
        texts = [item.text for item in made.items]
        yield {
            "texts": f"{model.recipe.family} at temperature {temperature:g}" + f", likeliest of {candidates}" * (candidates > 1),
            **variety(texts),
            "SER %": 100 * facts_kept(Evaluation(made.items, wishes, [])),
            "all correct %": 100 * float(np.mean(right)),
            "of them in train %": 100 * float(np.mean([text in known for text in texts])),
            "CPU s": round(time.process_time() - began, 1),
        }


def variety(texts: Sequence[str]) -> dict[str, Any]:
    return {"n": len(texts), "distinct-2": distinct(texts), "self-BLEU": self_bleu(texts)}


# --- campaigns -------------------------------------------------------------------------------------------------------------------

CHANNELS = ("sms", "push", "email", "ad", "description")
NAMES = "Anna|Ben|Chidi|Dilnoza|Eoin|Fatima|Grace|Hugo|Ines|Jia|Maximilian|Siobhan|Zoë|O'Brien".split("|")
PRODUCTS = (
    "Copper Kettle|Oak Stool|Wool Rug|Linen Apron|Travel Mug, 400 ml|Cedar Chest|Brass Lamp|Jute Basket|Glass Teapot|Down Pillow"
    "|Garden Shears|Enamel Pan|Cotton Robe|Walnut Tray|Felt Slippers|Rain Boots"
).split("|")
FEATURES = "a gooseneck spout|a two-year warranty|washable covers|a lid that seals|an oak frame|soft merino wool".split("|")


def brief(channels: Sequence[str] = CHANNELS) -> dict[str, Any]:
    """Every voice and level by a segment of its own, three offers, two required legal texts."""
    tones = [(voice, level) for voice in VOICES for level in LEVELS]
    return {
        "name": "bench",
        "channels": list(channels),
        "facts": {"brand": "Aurora"},
        "banned": ["miracle", "scam*"],
        "limits": {"sms": {"text": 2}},
        "legal": {"sms": "Reply STOP to opt out", "email": "Aurora Ltd. Unsubscribe here."},
        "columns": {
            "key": "id", "consent": "ok", "product": "likes", "allow": ["tone", "orders"], "facts": {"first_name": "name"},
        },
        "products": {"key": "sku", "facts": {"product": "title", "price": "price", "url": "link", "feature": "feature"}},
        "slots": {"feature": {"required": False}},
        "offers": [
            {
                "name": "loyal", "when": "orders >= 12", "price_is": "before",
                "facts": {"percent": 20, "code": "TEA20", "until": "2026-12-05"},
            },
            {"name": "gift", "when": "orders >= 6", "facts": {"perk": "a tin of Assam"}},
            {"name": "usual"},
        ],
        "segments": [
            {"name": f"{voice} {level}", "when": f"tone == {i}", "voice": voice, "level": level}
            for i, (voice, level) in enumerate(tones)
        ],
    }  # fmt: skip


def tables(rows: int, hostile: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Customers and products that nobody is, hostile ones with markup, formulas, instructions and odd scripts for names."""
    dice = random.Random(4)
    odd = [str(value) for value in HOSTILE if isinstance(value, str) and len(value) < 70]
    names = [*odd, *NAMES, *NAMES] if hostile else NAMES
    banned = re.compile(r"\.com|x\.example|aurora\.example|mir|^[^\w]*$")
    titles = [v for v in odd if not banned.search(v)] + PRODUCTS if hostile else PRODUCTS
    features = [*odd, None] if hostile else [*FEATURES, None]
    goods = [
        {
            "sku": str(i),
            "title": dice.choice(titles),
            "price": dice.choice(["40", "12.5", "0.99", "1299"]),
            "link": f"https://aurora.example/{i}",
            "feature": dice.choice(features),
        }
        for i in range(200)
    ]
    people = [
        {
            "id": f"c{i}",
            "ok": "yes",
            "likes": str(dice.randrange(200)),
            "tone": i % 8,
            "orders": dice.choice([*range(8), 14, 20]),
            "name": dice.choice(names),
        }
        for i in range(rows)
    ]
    return people, goods


def adversarial(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Hostile customers x products, each on one channel in turn: violations found by the validator once more, refusals by reason,
    and texts that are the templates'."""
    people, goods = tables(options.rows, hostile=True)
    for i, channel in enumerate(CHANNELS):
        campaign, rows = Campaign(brief([channel]), model), people[i :: len(CHANNELS)]
        audience = Audience(campaign.brief, tables_of.by_key(goods, "sku", "products"))
        tasks = [task for i, row in enumerate(rows) for task in audience.row(i, row, audience.again(row))]
        plans = {task.customer: task.plan for task in tasks if not isinstance(task, Passed)}
        began, count, reasons = time.process_time(), Counter[str](), Counter[str]()
        for _, made in campaign.run(rows, goods, 1, options.seed):
            if isinstance(made, Passed):
                count["refused"] += made.reason in REFUSALS
                reasons[made.reason] += 1
                continue
            count["messages"] += 1
            count["violations"] += violated(made, plans[made.task.customer], campaign.brief.policy)
            count["texts"] += made.texts
            count["borrowed"] += made.borrowed
            count["with a template"] += made.borrowed > 0
        total = count["messages"] + count["refused"]
        yield {
            "channel": channel,
            "rows": total,
            "messages": count["messages"],
            "violations": count["violations"],
            "refused %": 100 * count["refused"] / total,
            "for": ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items())),
            "messages with a template's text %": 100 * count["with a template"] / max(1, count["messages"]),
            "texts that are templates' %": 100 * count["borrowed"] / max(1, count["texts"]),
            "CPU s": round(time.process_time() - began, 1),
        }


def violated(made: Record, plan: Plan, policy: Policy) -> bool:
    """Whether the validator finds fault with a message, given all facts of its row or, of the shortest, those that must be said."""
    whole = admit(plan, policy).only(lambda fact: made.channel.takes(fact.slot.kind))
    short = whole.only(lambda fact: fact.slot.least > 0)
    return all(judge(made.message, facts, made.channel, policy) for facts in (whole, short))


#: What a mail merge sends: one text a channel, its facts filled in.
MERGE = {
    "sms": "Hi {first_name}, {product} is now {price}. Shop at {url}",
    "push": "{product} is now {price}\nHi {first_name}, tap to see it.",
    "email": "{product} for {price}\nA note from {brand}\nHi {first_name},\n\n{product} is now {price}.\n\nShop now: {url}",
    "ad": "{product}\n{product} for {price}\nShop at {brand}\n{product}: order online today.",
    "description": "{product} by {brand}, {price}. It has {feature}.",
}


def campaign(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Whether copy without its facts tells voice and level: the share of held-back messages (every third customer) for which a
    bag-of-words classifier says them; and distinct pairs of words of filled-in messages beside a mail merge of the same facts and
    beside our own templates."""
    people, goods = tables(options.rows_of_campaign, hostile=False)
    for writer, author in (("the model", model), ("our templates", None)):
        made = [m for _, m in Campaign(brief(), author).run(people, goods, 1, options.seed) if isinstance(m, Record)]
        texts = [record.text for record in made]
        plain = [" ".join(PLACEHOLDER.sub("", text) for part in r.copy.values() for text in part) for r in made]
        told: dict[str, Any] = {}
        held_back = np.array([int(record.task.customer[1:]) % 24 < 8 for record in made])
        for name in ("voice", "level"):
            labels = np.array([getattr(record.task, name) for record in made])
            told[f"{name} told %"] = 100 * recovered(plain, labels, held_back)
        borrowed = sum(r.borrowed for r in made) / sum(r.texts for r in made)
        yield {
            "texts by": writer,
            "messages": len(made),
            **told,
            "distinct-2": distinct(texts),
            "self-BLEU": self_bleu(texts),
            "templates' %": 100 * borrowed,
        }
    facts = [{f.slot.name: f.text for f in record.task.plan.facts} for record in made]
    merged = [
        PLACEHOLDER.sub(lambda found, given=given: given.get(found[1], ""), MERGE[record.channel.name])  # type: ignore[misc]
        for record, given in zip(made, facts, strict=True)
    ]
    yield {"texts by": "a mail merge", "messages": len(merged), "distinct-2": distinct(merged), "self-BLEU": self_bleu(merged)}


def recovered(texts: Sequence[str], labels: Any, held_back: Any) -> float:
    """Accuracy of logistic regression over bags of words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    words = CountVectorizer(binary=True).fit_transform(texts)
    judge_ = LogisticRegression(max_iter=1000).fit(words[~held_back], labels[~held_back])
    return float(judge_.score(words[held_back], labels[held_back]))


def speed(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """CPU seconds for a thousand messages, one channel at a time."""
    people, goods = tables(1_000, hostile=False)
    for channel in CHANNELS:
        began = time.process_time()
        made = [m for _, m in Campaign(brief([channel]), model).run(people, goods, 1, options.seed) if isinstance(m, Record)]
        yield {"channel": channel, "messages": len(made), "CPU s": round(time.process_time() - began, 1)}


def toml(value: Any) -> str:
    """A value of a brief as it stands in its file."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(v)}" for key, v in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


#: The channel whose messages cost least.
MEMORY = "description"


def memory(model: Generator, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Resident memory of the command at its highest, for a thousand customers and for many."""
    for rows in (1_000, options.rows_of_memory):
        people, goods = tables(rows, hostile=False)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, table in (("customers.csv", people), ("products.csv", goods)):
                with (folder / file).open("w", encoding="utf-8", newline="") as out:
                    lines = csv.DictWriter(out, table[0])
                    lines.writeheader()
                    lines.writerows(table)
            (folder / "brief.toml").write_text(
                "\n".join(f"{key} = {toml(value)}" for key, value in brief([MEMORY]).items()), "utf-8"
            )
            asked = f"-m headwater marketing write {folder / 'customers.csv'} --model {options.model} -o {folder / 'out'}".split()
            child = subprocess.Popen([sys.executable, *asked], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(child.pid, 0)
            if status:
                raise SystemExit(f"the command failed: {' '.join(asked)}")
        yield {
            "channel": MEMORY, "customers": rows, "resident MB": used.ru_maxrss / 1000,
            "CPU s": round(used.ru_utime + used.ru_stime, 1),
        }  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="marketing/autoregressive", help="a shipped model, a folder, or DOMAIN/RECIPE")
    parser.add_argument("--checkpoint", type=Path, help="a training in progress: its averaged weights")
    parser.add_argument("-n", type=int, default=10_000, help="at most so many meanings or asks (all)")
    parser.add_argument("--rows", type=int, default=10_000, help="hostile customers (10,000)")
    parser.add_argument("--rows-of-campaign", type=int, default=480, help="customers, each on five channels (480)")
    parser.add_argument("--rows-of-memory", type=int, default=100_000, help="customers of the long table (100,000)")
    parser.add_argument("--temperature", type=float, default=0.01, help="of e2e, viggo and rnnlg (0.01: the likeliest words)")
    parser.add_argument("--steps", type=int, help="of masked diffusion")
    parser.add_argument("--length-candidates", type=int, default=1, help="of masked diffusion, for copy: one draw, and so many (1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, required=True, help="parts to run")
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/marketing.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    model = generator(options.model, options.checkpoint)
    parts: Mapping[str, tuple[Callable[..., Iterator[dict[str, Any]]], str]] = {
        "e2e": (sentences, "meanings"),
        "viggo": (sentences, "meanings"),
        "rnnlg": (rnnlg, "meanings"),
        "copy": (copy, "n"),
        "campaign": (campaign, "messages"),
        "adversarial": (adversarial, "rows"),
        "speed": (speed, "messages"),
        "memory": (memory, "customers"),
    }
    for part in options.only:
        measure, counted = parts[part]
        table = list(measure(model, options))
        n = sum(row[counted] for row in table) if part in ("adversarial", "speed", "memory") else table[0][counted]
        publish(f"{part} of {model.name.split(' ')[0]}", table, n=n, seeds=[options.seed], generator=model, to=options.to)


if __name__ == "__main__":
    run(main)

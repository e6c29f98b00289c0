"""Three toy domains, one for each space, small enough to train in seconds. ``conftest.py`` puts this module into ``sys.modules``,
so that tests (and the programs that tests start) import it as ``toys``.

* words: strings over ``abcABC``, as one stream of letters or as two streams, letter and case.
* spots: 8x8 pictures of a bright spot.
* points: points of the plane in two clouds.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from headwater import Array, Codec, Dataset, Domain, Given, Grid, Knob, Recipe, Tokens, Vector
from headwater.constraints import Constraint
from headwater.generator import Generator
from headwater.knobs import fields
from headwater.model import Model, build
from headwater.noise import Noise

HERE = Path(__file__).parent


def dataset(make: Callable[[str], Sequence[Any]]) -> Dataset[Any]:
    return Dataset(HERE, make, lambda: make("train")[:20])


class Toy(Domain[Any, Any]):
    """What the three have in common: nothing here is ever drawn or written but as text."""

    summary = "a toy"

    def features(self, items: Sequence[Any]) -> np.ndarray[Any, Any]:
        return np.stack([next(iter(self.codecs.values())).encode(item).ravel() for item in items]).astype(np.float32)

    def render(self, item: Any) -> str:
        return "<p>toy</p>"

    def write(self, items: Iterable[Any], folder: Path) -> list[Path]:
        raise NotImplementedError

    def read(self, path: Path) -> list[Any]:
        return path.read_text().split()


# --- words: Tokens ------------------------------------------------------------------------------------------------------

ALPHABET = "abcABC"
LENGTH = 6


@dataclass(frozen=True)
class WordWish:
    many: Annotated[int | None, Knob("how many a, of either case", 0, LENGTH)] = None
    loud: Annotated[bool | None, Knob("begins with a capital")] = None
    type: Annotated[Literal["a", "b", "c"] | None, Knob("the last letter")] = None  # a name that nn.ModuleDict has itself
    where: Annotated[Array | None, Given("1 at each a")] = None
    plan: Annotated[Array | None, Given("the first three letters", kind="sequence", size=3, vocab=4)] = None


class Letters(Codec[str]):
    """One stream; ``length`` positions."""

    def __init__(self, length: int = LENGTH, language: Constraint | None = None) -> None:
        self.space, self.language = Tokens(1 + len(ALPHABET), length), language

    def encode(self, item: str) -> np.ndarray[Any, Any]:
        if len(item) > self.space.length or set(item) - set(ALPHABET):
            raise ValueError(f"expected at most {self.space.length} letters of {ALPHABET}; got {item!r}")
        out = np.zeros(self.space.shape, dtype=np.int64)
        out[: len(item), 0] = [1 + ALPHABET.index(c) for c in item]
        return out

    def decode(self, array: np.ndarray[Any, Any]) -> str:
        return "".join(ALPHABET[t - 1] for t in itertools.takewhile(bool, array[:, 0].tolist()))

    def prefix(self, text: str) -> np.ndarray[Any, Any]:
        return self.encode(text)[: len(text)]

    def constraint(self) -> Constraint | None:
        return self.language


class Pairs(Codec[str]):
    """Two streams: which letter, then its case."""

    space = Tokens((4, 3), LENGTH, streams=2)

    def encode(self, item: str) -> np.ndarray[Any, Any]:
        out = np.zeros(self.space.shape, dtype=np.int64)
        for t, c in enumerate(item):
            out[t] = 1 + "abc".index(c.lower()), 1 + c.isupper()
        return out

    def decode(self, array: np.ndarray[Any, Any]) -> str:
        letters = []
        for letter, case in itertools.takewhile(any, array.tolist()):
            c = "abc"[max(letter, 1) - 1]  # half a position is still a letter: decoding is total
            letters.append(c.upper() if case == 2 else c)
        return "".join(letters)


def words(split: str) -> list[str]:
    draws = Noise(1).fold(split).rows(range(600))
    lengths, letters = (1 + draws.fold("length").below(LENGTH, 1)[:, 0]).tolist(), draws.below(len(ALPHABET), LENGTH).tolist()
    return ["".join(ALPHABET[i] for i in row[:n]) for row, n in zip(letters, lengths, strict=True)]


class Words(Toy):
    """Strings of a few letters."""

    name = "words"
    Wish = WordWish
    codecs = {"letters": Letters(), "pairs": Pairs(), "long": Letters(24)}
    datasets = {"words": dataset(words)}

    def describe(self, item: str) -> WordWish:
        if not item:
            return WordWish(many=0)
        last: Any = item[-1].lower()
        return WordWish(many=item.lower().count("a"), loud=item[0].isupper(), type=last)

    def given(self, name: str, item: str, noise: Noise) -> WordWish:
        if name == "where":
            marks = torch.zeros(LENGTH, 1)
            marks[: len(item), 0] = torch.tensor([float(c in "aA") for c in item])
            return WordWish(where=marks)
        return WordWish(plan=torch.tensor([1 + "abc".index(c) for c in item[:3].lower()] + [0] * max(0, 3 - len(item))))


# --- spots: Grid --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpotWish:
    height: Annotated[float | None, Knob("how bright the spot is", 0, 2)] = None
    rough: Annotated[Array | None, Given("the picture, degraded")] = None


class Picture(Codec[Any]):
    space = Grid(1, (8, 8))

    def encode(self, item: Any) -> np.ndarray[Any, Any]:
        return np.asarray(item, dtype=np.float32)

    def decode(self, array: np.ndarray[Any, Any]) -> Any:
        return array


def spots(split: str) -> list[np.ndarray[Any, Any]]:
    u = Noise(2).fold(split).rows(range(300)).uniform(3).numpy()
    at = np.arange(8)
    row, column = (np.exp(-0.5 * ((at - 1 - 6 * u[:, i, None]) / 1.2) ** 2) for i in (0, 1))
    return list((2 * u[:, 2, None, None] * row[:, :, None] * column[:, None, :] - 1)[:, None].astype(np.float32))


class Spots(Toy):
    """Pictures of a bright spot."""

    name = "spots"
    Wish = SpotWish
    codecs = {"picture": Picture()}
    datasets = {"spots": dataset(spots)}

    def describe(self, item: Any) -> SpotWish:
        return SpotWish(height=float(item.max()) + 1)

    def given(self, name: str, item: Any, noise: Noise) -> SpotWish:
        return SpotWish(rough=torch.from_numpy(item) + 0.5 * noise.normal(*item.shape)[0])


# --- points: Vector -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PointWish:
    right: Annotated[float | None, Knob("the first coordinate", -3, 3)] = None
    near: Annotated[Array | None, Given("the point, with an error", size=2)] = None


class Plain(Codec[Any]):
    space = Vector(2)

    def encode(self, item: Any) -> np.ndarray[Any, Any]:
        return np.asarray(item, dtype=np.float32)

    def decode(self, array: np.ndarray[Any, Any]) -> Any:
        return array


def points(split: str) -> list[np.ndarray[Any, Any]]:
    keys = Noise(3).fold(split).rows(range(500))
    side = (keys.fold("side").uniform(1) < 0.5).numpy()
    return list(np.where(side, [[0.6, 0.3]], [[-0.6, -0.3]]).astype(np.float32) + 0.1 * keys.normal(2).numpy())


class Points(Toy):
    """Points of the plane, in two clouds."""

    name = "points"
    Wish = PointWish
    codecs = {"plain": Plain()}
    datasets = {"points": dataset(points)}

    def describe(self, item: Any) -> PointWish:
        return PointWish(right=float(item[0]))

    def given(self, name: str, item: Any, noise: Noise) -> PointWish:
        return PointWish(near=torch.from_numpy(item) + 0.5 * noise.normal(2)[0])


# --- recipes and models -------------------------------------------------------------------------------------------------

NETWORKS: dict[str, dict[str, Any]] = {
    "recurrent": {"width": 24, "layers": 2},
    "transformer": {"width": 32, "layers": 2, "heads": 2},
    "unet": {"widths": (8, 12), "blocks": 1, "embedding": 16},
    "mlp": {"width": 32, "layers": 2},
    "coupling": {"transforms": 3, "hidden": 16, "bins": 4},
    "autoregressive": {"transforms": 2, "hidden": 16, "bins": 5},
    "convolutional": {"widths": (8, 12), "blocks": 1},
}
DOMAINS: dict[str, Callable[[], Toy]] = {"words": Words, "spots": Spots, "points": Points}
CODECS = {"words": "letters", "spots": "picture", "points": "plain"}


def recipe(domain: str, network: str, codec: str = "", /, **more: Any) -> Recipe:
    """A small recipe; ``more`` are further fields of :class:`Recipe`."""
    fixed: dict[str, Any] = {
        "codec": codec or CODECS[domain],
        "family": "autoregressive" if domain == "words" else "diffusion",
        "network": {"name": network, "options": NETWORKS[network]},
        "data": domain,
        "condition_width": 16,
        "tile": 16,
    }
    return Recipe.model_validate(fixed | more)


def autoencoder(domain: str, codec: str = "", /, **more: Any) -> Recipe:
    """A small variational autoencoder: what recipes with ``autoencoder="vae"`` are given."""
    network = {"words": "recurrent", "spots": "convolutional", "points": "mlp"}[domain]
    encoder = {"networks": {"encoder": {"name": network, "options": {"width": 24}}}} if domain == "words" else {}
    return recipe(domain, network, codec, **{"family": "vae", "options": {"latent": 4}, **encoder, **more})


def model(domain: Domain[Any, Any], recipe: Recipe, seed: int = 0) -> Model:
    """Untrained, but with no weight left at zero: every part of it takes part."""
    inner = model(domain, autoencoder(domain.name, recipe.codec), seed) if recipe.autoencoder else None
    made = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), domain.networks, inner)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")
            scale = 0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(scale * Noise(seed).fold(key).normal(*parameter.shape)[0])
    return made.eval()


def generator(domain: Domain[Any, Any], recipe: Recipe, seed: int = 0) -> Generator:
    return Generator(domain, model(domain, recipe, seed), recipe, f"{domain.name}/{recipe.family}")


def some(domain: Domain[Any, Any], recipe: Recipe, n: int) -> tuple[list[Any], list[Any]]:
    """The first ``n`` items of the data and a full wish for each: its description and the recipe's given arrays."""
    items = list(domain.datasets[recipe.data].rows("train"))[:n]
    keys = Noise(5).rows(range(n))
    wishes = []
    for i, item in enumerate(items):
        filled = vars(domain.describe(item)) | {g: getattr(domain.given(g, item, keys[i : i + 1]), g) for g in recipe.given}
        wishes.append(domain.Wish(**filled))
    return items, wishes


class Exact(nn.Module):
    """A network under which a diffusion's denoiser is ``denoiser`` exactly: the preconditioning undone."""

    def __init__(self, denoiser: Callable[[Tensor, Tensor], Tensor], data: float = 0.5) -> None:
        super().__init__()
        self.denoiser, self.data = denoiser, data
        self.anchor = nn.Parameter(torch.zeros(()))  # says which device

    def forward(self, x: Tensor, noise_level: Tensor, context: Any) -> Tensor:
        sigma = (4 * noise_level.double()).exp()
        wide = sigma.reshape(-1, *[1] * (x.ndim - 1))
        norm = (wide**2 + self.data**2).sqrt()
        noisy = x.double() * norm
        clean = self.denoiser(noisy, sigma)
        return ((clean - self.data**2 / norm**2 * noisy) * norm / (wide * self.data)).to(x.dtype)

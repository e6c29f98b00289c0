"""A domain under test, with what several checks share: some of its items, arrays that no item made, and small models."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.domain import Array, Codec, Domain
from headwater.spaces import Space, Tokens, cells

if TYPE_CHECKING:
    from headwater.generator import Generator
    from headwater.model import Model
    from headwater.noise import Noise
    from headwater.recipe import Recipe

ITEMS = 24  # of each data set
TILE = 4  # rows of one network call
STEPS = 3  # of a solver
LARGE = 4_000_000  # parameters; a bigger network is built narrower


class Subject:
    """Everything is made when first asked for and kept; ``close`` (or leaving ``with``) removes the files."""

    def __init__(self, domain: Domain[Any, Any]) -> None:
        self.domain = domain
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._benches: dict[str, Bench | Exception] = {}
        self._items: dict[str, list[Any]] = {}

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *unused: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def folder(self, name: str) -> Path:
        """A fresh empty folder."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="headwater-check-")
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder.name))

    # --- items and arrays ---------------------------------------------------------------------------------------------

    def sample(self, data: str) -> list[Any]:
        """The first few packaged items of a data set."""
        if data not in self._items:
            rows = self.domain.datasets[data].sample()
            self._items[data] = [rows[i] for i in range(min(ITEMS, len(rows)))]
        return self._items[data]

    @property
    def items(self) -> list[Any]:
        """Packaged items of all data sets."""
        return [item for data in self.domain.datasets for item in self.sample(data)]

    def viewed(self, codec: Codec[Any], data: str = "") -> list[Any]:
        """The items of a data set, or of all, as training shows them."""
        items = self.sample(data) if data else self.items
        keys = key("view").rows(range(len(items)))
        return [codec.view(item, keys[i : i + 1]) for i, item in enumerate(items)]

    def made(self, codec: Codec[Any]) -> list[Any]:
        """Items decoded from :func:`junk`, most of them invalid. What cannot be decoded is the finding of ``decode_is_total``."""
        items = []
        for array in junk(codec.space):
            with suppress(Exception):
                items.append(codec.decode(array))
        return items

    # --- models -------------------------------------------------------------------------------------------------------

    @property
    def recipe_names(self) -> list[str]:
        """The domain's own recipes; the core's defaults where it has none."""
        if len(self.domain.recipes):
            return list(self.domain.recipes)
        from headwater.recipe import recipes

        return list(recipes(self.domain))

    def recipe(self, name: str) -> Recipe:
        """A recipe scaled down to two steps."""
        from headwater.recipe import recipes

        found = self.domain.recipes[name] if name in self.domain.recipes else recipes(self.domain)[name]
        return scaled(self.domain, found, self.autoencoder(found))

    def autoencoder(self, recipe: Recipe) -> Model | None:
        """For a recipe over a latent, its own copy of the autoencoder's two-step model; a shipped one where no recipe makes it."""
        if not recipe.autoencoder:
            return None
        from headwater.checkpoint import load
        from headwater.recipe import recipes
        from headwater.registry import find_model

        name = recipe.autoencoder
        if name in recipes(self.domain):
            return copy.deepcopy(self.bench(name).generator.model)
        folder = Path(name) if Path(name).is_dir() else find_model(f"{self.domain.name}/{name}")[0]
        return load(folder, self.domain.networks)[0]

    def bench(self, name: str) -> Bench:
        """The recipe's two-step model. Raises what its training raised."""
        if name not in self._benches:
            try:
                self._benches[name] = Bench(self, name, self.recipe(name))
            except Exception as error:
                self._benches[name] = error
        found = self._benches[name]
        if isinstance(found, Exception):
            raise found
        return found

    def trained(self, name: str) -> Bench | None:
        """The same, None where it does not train (which is the finding of one check, not of all) or draws no samples."""
        try:
            bench = self.bench(name)
        except Exception:
            return None
        return bench if "sample" in bench.generator.verbs else None


class Bench:
    """A recipe's model after two steps, its weights then moved a little: a layer that starts at zero would hide what passes
    through it."""

    def __init__(self, subject: Subject, name: str, recipe: Recipe) -> None:
        import torch

        from headwater.generator import Generator
        from headwater.train import Source, train

        self.domain, self.recipe = subject.domain, recipe
        items = subject.sample(recipe.data)
        self.losses: list[float] = []
        with fresh_cache(subject.folder("cache")):  # a cache knows the data, not the code under development
            model = train(
                subject.domain,
                recipe,
                subject.folder("train"),
                source=Source(items, None, recipe.data),
                autoencoder=subject.autoencoder(recipe),
                log_every=1,
                tell=lambda step, loss, valid: self.losses.append(loss),
            )
        self.trained = {k: v.detach().clone() for k, v in model.tensors().items()}
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                spread = 0.3 / math.sqrt(max(1, weight[0].numel())) if weight.ndim > 1 else 0.1
                weight.add_(spread * torch.randn(weight.shape, generator=generator))
        self.generator: Generator = Generator(subject.domain, model, recipe, f"{subject.domain.name}/{name}")
        self.codec = self.generator.codec
        viewed = subject.viewed(self.codec, recipe.data)[:TILE]
        self.batch = torch.from_numpy(np.stack([self.codec.encode(item) for item in viewed]))

    def save(self, folder: Path) -> None:
        """The model as a folder."""
        from headwater import checkpoint

        about: dict[str, Any] = {"domain": self.domain.name, "name": self.generator.name.rpartition("/")[2]}
        about |= {"data": self.recipe.data, "data_hash": "", "command": "headwater check"}
        checkpoint.save(self.generator.model, folder, recipe=self.recipe, **about)

    @functools.cached_property
    def seeded(self) -> bool:
        """Whether one seed gives one result; where it does not, other checks have nothing to compare."""
        return equal(self.arrays(TILE, seed=1), self.arrays(TILE, seed=1))

    def arrays(self, n: int, generator: Generator | None = None, **how: Any) -> list[Array]:
        """What ``sample`` hands to the codec, undecoded."""
        steps = STEPS if self.generator.model.family.stepped else None
        return self.recorded(lambda made: made.sample(n, steps=steps, **how), generator)

    def recorded(self, ask: Callable[[Generator], Any], generator: Generator | None = None) -> list[Array]:
        """What a verb hands to the codec, undecoded."""
        generator = generator or self.generator
        seen: list[Array] = []
        generator.codec = _Recorder(generator.codec, seen)
        try:
            ask(generator)
        finally:
            generator.codec = generator.codec.codec
        return seen


class _Recorder(Codec[Any]):
    """A codec whose ``decode`` keeps the array and gives no item."""

    def __init__(self, codec: Codec[Any], seen: list[Array]) -> None:
        self.codec, self.seen, self.space = codec, seen, codec.space

    def encode(self, item: Any) -> Array:
        return self.codec.encode(item)

    def decode(self, array: Array) -> Any:
        self.seen.append(np.array(array))

    def constraint(self) -> Any:
        return self.codec.constraint()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its path there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def key(name: str) -> Noise:
    """The kit's noise."""
    from headwater.noise import Noise

    return Noise(0).fold("conformance", name)


@contextmanager
def fresh_cache(folder: Path) -> Iterator[None]:
    before = os.environ.get("HEADWATER_CACHE")
    os.environ["HEADWATER_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HEADWATER_CACHE"]
        else:
            os.environ["HEADWATER_CACHE"] = before


def scaled(domain: Domain[Any, Any], recipe: Recipe, autoencoder: Model | None = None) -> Recipe:
    """The recipe at its smallest: size s where it has one, two steps, tiles of four, a large network made narrower.
    ``autoencoder`` is the model whose latent it learns, where it does."""
    short = {"steps": 2, "finish": 0, "batch": TILE, "warmup": 0, "validate_rows": 0, "precision": "fp32"}
    small = recipe.at("s" if "s" in recipe.sizes else None, **short)
    small = small.model_copy(update={"tile": TILE, "labels": 0 if recipe.labels == 0 else None})
    options = small.network.options
    while _parameters(domain, small, autoencoder) > LARGE and (narrower := _narrower(options)) != options:
        options = narrower
        small = small.model_copy(update={"network": small.network.model_copy(update={"options": options})})
    return small


def _narrower(options: dict[str, Any]) -> dict[str, Any]:
    """Half of every width, kept a multiple of 16; other options as they are."""

    def half(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [half(v) for v in value]
        return max(16, value // 32 * 16) if isinstance(value, int) and value > 16 else value

    return {k: half(v) if k in ("width", "widths", "channels", "embedding") else v for k, v in options.items()}


def _parameters(domain: Domain[Any, Any], recipe: Recipe, autoencoder: Model | None = None) -> int:
    """The size of what a recipe trains, built without memory; 0 where it cannot be built (training will say why)."""
    import torch

    from headwater.knobs import fields
    from headwater.model import build

    try:
        with torch.device("meta"):
            made = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), domain.networks, autoencoder)
        return sum(p.numel() for p in made.parameters() if p.requires_grad)
    except Exception:
        return 0


def junk(space: Space) -> list[Array]:
    """Arrays of a space that no item made: noise of several sizes, constants, and for floats values outside [-1, 1] and NaN."""
    noise = key("junk")
    if isinstance(space, Tokens):
        draws = noise.uniform(8, *space.shape)[0].numpy()
        vocabs = np.array(space.vocabs)
        arrays = [np.minimum((u * vocabs).astype(np.int64), vocabs - 1) for u in draws]
        for i, array in enumerate(arrays[4:]):
            array[i * space.length // 4 :] = 0  # ends early, the first at once
        return [*arrays, np.zeros(space.shape, np.int64), np.broadcast_to(vocabs - 1, space.shape).copy()]
    normal = noise.fold("normal").normal(4, *space.shape)[0].numpy()
    uniform = 2 * noise.fold("uniform").uniform(4, *space.shape)[0].numpy() - 1
    constants = [np.full(space.shape, v, np.float32) for v in (-1.0, 0.0, 1.0, np.nan, np.inf)]
    return [*uniform, *normal, *(100 * normal[:1]), *constants]


def same(a: Any, b: Any) -> bool:
    """Whether two items are equal, arrays inside them by value."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        x, y = np.asarray(a), np.asarray(b)
        return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if hasattr(a, "shape") and hasattr(a, "numpy"):  # a tensor
        return same(a.numpy(), b.numpy())
    return bool(a == b) or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def equal(a: Sequence[Array], b: Sequence[Array]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def close(a: Array, b: Array, space: Space) -> bool:
    """Whether two encodings say the same: tokens exactly, floats to half a grey level (a hundredth where none are declared)."""
    if isinstance(space, Tokens):
        return same(np.asarray(a, np.int64), np.asarray(b, np.int64))
    levels = getattr(space, "levels", None)
    return a.shape == b.shape and bool(np.allclose(a, b, atol=1 / levels if levels else 1e-2))


def rows_needed(space: Space) -> int:
    """How many rows make it certain that two different distributions show."""
    return max(TILE, min(32, 256 // cells(space)))

"""The verbs on a loaded model, in a domain's own terms: ``headwater.load("molecules/autoregressive").sample(24, logp=2.5)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headwater import checkpoint
from headwater.context import Context
from headwater.domain import Array, Codec, Domain
from headwater.errors import HeadwaterError, MissingVerb
from headwater.families.contract import Kept, Likelihood, Steer, Verb
from headwater.knobs import fill
from headwater.model import Model
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater.samples import Samples
from headwater.spaces import Tokens

if TYPE_CHECKING:
    from headwater.restore.likelihoods import NoiseModel
    from headwater.restore.operators import Operator
    from headwater.restore.posterior import Posterior

Progress = Callable[[int, int], None]


def load(name: str | Path, device: str = "cpu") -> Generator:
    """A shipped model, ``"molecules/autoregressive"``, or a model folder by its path.

    Raises :class:`HeadwaterError` for an unknown name (the message lists those there are) or a folder that cannot be read."""
    from headwater.registry import find_model

    folder, domain = find_model(name)
    model, config = checkpoint.load(folder, domain.networks)
    if config["domain"] != domain.name:
        raise HeadwaterError(f"{folder}: a model of {config['domain']}, not of {domain.name}")
    recipe = Recipe.model_validate(config["recipe"])
    return Generator(domain, model.to(device), recipe, f"{domain.name}/{config['name']}", config)


class Generator:
    """A model with its domain. Every verb takes a ``seed``; row r of a result depends on (seed, r) and what was asked of row r,
    never on the batch it was made in."""

    def __init__(
        self, domain: Domain[Any, Any], model: Model, recipe: Recipe, name: str, config: Mapping[str, Any] | None = None
    ) -> None:
        self.domain, self.model, self.recipe, self.name, self.config = domain, model, recipe, name, dict(config or {})
        if recipe.codec not in domain.codecs:
            raise HeadwaterError(f"{name}: made for the codec {recipe.codec!r}; {domain.name} has {', '.join(domain.codecs)}")
        self.codec: Codec[Any] = domain.codecs[recipe.codec]
        if self.codec.space != model.space:
            raise HeadwaterError(f"{name}: made for {model.space}; the codec {recipe.codec!r} is now over {self.codec.space}")
        self.tile = recipe.tile

    def __repr__(self) -> str:
        return f"Generator({self.name!r}, verbs={', '.join(self.verbs)})"

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return self.model.family.verbs

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def need(self, verb: Verb) -> None:
        """Raises :class:`MissingVerb`, naming the domain's models that can, where this one cannot."""
        if verb not in self.verbs:
            from headwater.registry import models_with

            able = ", ".join(models_with(self.domain, verb)) or "no shipped model does yet"
            raise MissingVerb(f"{self.name} cannot {verb} (it can {', '.join(self.verbs)}); models that can: {able}")

    def wish(self, **knobs: Any) -> Any:
        """A condition of this domain that the model was trained to read. Raises :class:`HeadwaterError` for an unknown knob or one
        out of range."""
        wish: Any = fill(self.domain.Wish, knobs)
        known = {f.name for f in self.model.conditioner.fields}
        for name, value in knobs.items():
            if value is not None and name not in known:
                raise HeadwaterError(
                    f"{name!r} was not trained into {self.name}; it knows: {', '.join(sorted(known)) or 'no knobs'}"
                )
        return wish

    def _asked(self, n: int, wishes: Sequence[Any] | None, knobs: Mapping[str, Any]) -> list[Any]:
        """The wish of each of ``n`` rows: ``wishes``, or the same ``knobs`` for all."""
        if wishes is None:
            return [self.wish(**knobs)] * n
        if len(wishes) != n or knobs:
            got = f"{len(wishes)}" + (f" and knobs besides ({', '.join(knobs)})" if knobs else "")
            raise HeadwaterError(f"wishes: expected {n}, one for each item; got {got}")
        return list(wishes)

    # --- verbs ----------------------------------------------------------------------------------------------------

    def sample(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        wishes: Sequence[Any] | None = None,
        guidance: float | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        steps: int | None = None,
        start: Any | None = None,
        first: int = 0,
        batch_size: int | None = None,
        progress: Progress = lambda done, total: None,
        **knobs: Any,
    ) -> Samples:
        """``n`` new items (rows ``first`` to ``first + n``), all with the same knobs or each with its own of ``wishes``.

        ``start`` is the beginning of every item in the domain's notation (``Tokens`` only); ``batch_size`` the rows in flight.
        """
        self.need("sample")
        if n < 1:
            raise HeadwaterError(f"-n: expected at least 1; got {n}")
        if guidance is None:  # where no row asks for anything there is nothing to press, at twice the work
            guidance = 1.0 if wishes is None and not any(v is not None for v in knobs.values()) else self.recipe.guidance
        check_steer(guidance, temperature, top_p, steps)
        asked = self._asked(n, wishes, knobs)
        kept = None if start is None else self._prefix(start)
        noise = Noise(seed).fold("sample")
        constraint = self.codec.constraint()

        def draw(rows: Tensor, context: Context) -> Tensor:
            steer = Steer(guidance, temperature, top_p, steps, None if constraint is None else [constraint] * len(rows))
            keys = noise.rows(rows)
            if kept is None:
                return self.model.family.sample(keys, context, steer)
            every = Kept(*(t.expand(len(rows), *t.shape[1:]) for t in (kept.values, kept.mask)))
            return self.model.family.infill(every, keys, context, steer)

        arrays = self.tiles(range(first, first + n), asked, draw, batch_size=batch_size, progress=progress)
        items = [self.codec.decode(array) for array in arrays]
        return Samples(self.domain, items, asked, list(range(first, first + n)), seed, self.name)

    def vary(
        self, items: Sequence[Any], *, strength: float = 0.3, seed: int = 0, n: int = 1, steps: int | None = None, **knobs: Any
    ) -> Samples:
        """``n`` neighbours of each item; ``strength`` from 0 (itself) to 1 (anything)."""
        self.need("vary")
        if not 0 <= strength <= 1:
            raise HeadwaterError(f"--strength: expected a number from 0 to 1; got {strength}")
        if n < 1:
            raise HeadwaterError(f"-n: expected at least 1; got {n}")
        check_steer(1.0, 1.0, 1.0, steps)
        wishes = [self.wish(**knobs)] * (n * len(items))
        x = self.encode([item for item in items for _ in range(n)])
        noise = Noise(seed).fold("vary")

        def draw(rows: Tensor, context: Context) -> Tensor:
            return self.model.family.vary(take(x, rows).to(self.device), strength, noise.rows(rows), context, Steer(steps=steps))

        arrays = self.tiles(range(len(x)), wishes, draw)
        return Samples(self.domain, [self.codec.decode(a) for a in arrays], wishes, list(range(len(x))), seed, self.name)

    def infill(
        self,
        items: Sequence[Any],
        mask: Array,
        *,
        seed: int = 0,
        wishes: Sequence[Any] | None = None,
        temperature: float = 1.0,
        **knobs: Any,
    ) -> Samples:
        """Items that keep the cells of ``items`` where ``mask`` (items, *shape) is True, the rest made anew."""
        self.need("infill")
        check_steer(1.0, temperature, 1.0, None)
        x, keep = self.encode(items), torch.from_numpy(np.asarray(mask, dtype=bool))
        if keep.shape != x.shape:
            raise HeadwaterError(f"mask: expected shape {tuple(x.shape)}; got {tuple(keep.shape)}")
        asked = self._asked(len(x), wishes, knobs)
        noise, constraint = Noise(seed).fold("infill"), self.codec.constraint()

        def draw(rows: Tensor, context: Context) -> Tensor:
            kept = Kept(take(x, rows).to(self.device), take(keep, rows).to(self.device))
            bound = None if constraint is None else [constraint] * len(rows)
            return self.model.family.infill(kept, noise.rows(rows), context, Steer(temperature=temperature, constraints=bound))

        try:
            arrays = list(self.tiles(range(len(x)), asked, draw))
        except ValueError as error:
            raise HeadwaterError(f"mask: {error}") from None
        return Samples(self.domain, [self.codec.decode(a) for a in arrays], asked, list(range(len(x))), seed, self.name)

    @torch.no_grad()
    def restore(
        self,
        y: Tensor,
        operator: Operator,
        law: NoiseModel,
        *,
        seed: int = 0,
        noise: Noise | None = None,
        draws: int = 0,
        steps: int | None = None,
        window: Sequence[int] | None = None,
        overlap: int | None = None,
        tile: int | None = None,
    ) -> Posterior:
        """The posterior of x given y = A x + noise, for ``y`` (rows, *operator.range) in the units of the space, of any size: the
        network works in windows (default: the space's own size) that share ``overlap`` cells
        (default: a quarter), ``tile`` at a time. ``noise`` has
        one key a row (default: rows of ``seed``). See :func:`headwater.restore.posterior.restore`."""
        self.need("restore")
        from headwater.restore.posterior import restore
        from headwater.restore.windows import Windows

        family: Any = self.model.family

        def prior(x: Tensor, sigma: Tensor, context: Context | None) -> Tensor:
            found: Tensor = family.denoise(x, sigma, context)
            return found

        size = tuple(window or self.model.space.shape[1:])
        shared = overlap if overlap is not None else min(size, default=0) // 4
        lifted = Windows(prior, size, shared, tile=tile or self.tile) if size else prior
        keys = Noise(seed).fold("restore").rows(range(len(y))) if noise is None else noise
        asks = self.model.conditioner(self.model.conditions([self.domain.Wish()] * len(y)))  # for nothing: every field absent
        if asks.cells is not None:
            asks = replace(asks, cells=asks.cells.new_zeros(len(y), asks.cells.shape[1], *operator.domain[1:]))
        return restore(y.to(self.device), operator, law, lifted, keys, context=asks, draws=draws, steps=steps)

    @torch.no_grad()
    def score(self, items: Sequence[Any], *, seed: int = 0, wishes: Sequence[Any] | None = None, **knobs: Any) -> Likelihood:
        """The log-likelihood of each item in nats."""
        self.need("score")
        x = self.encode(items)
        asked = self._asked(len(x), wishes, knobs)
        noise = Noise(seed).fold("score")
        buckets = self.model.family.buckets(x)
        value = torch.zeros(len(x), dtype=torch.float64)
        stderr: Tensor | None = None
        kind: Any = "none"
        for bucket in buckets.unique().tolist():
            index = (buckets == bucket).nonzero()[:, 0]
            for at in range(0, len(index), self.tile):
                rows = index[at : at + self.tile]
                padded = torch.cat([rows, rows[-1:].expand(self.tile - len(rows))])
                context = self.model.conditioner(self.model.conditions([asked[r] for r in padded.tolist()]))
                found = self.model.family.score(x[padded].to(self.device), noise.rows(padded), context)
                value[rows], kind = found.value[: len(rows)].double().cpu(), found.kind
                if found.stderr is not None:
                    stderr = torch.zeros(len(x), dtype=torch.float64) if stderr is None else stderr
                    stderr[rows] = found.stderr[: len(rows)].double().cpu()
        return Likelihood(value, kind, stderr)

    # --- between items and tensors --------------------------------------------------------------------------------

    def encode(self, items: Sequence[Any]) -> Tensor:
        """(items, *shape). Raises :class:`HeadwaterError` naming the item that the codec cannot hold."""
        arrays = []
        for i, item in enumerate(items):
            try:
                arrays.append(self.codec.encode(item))
            except ValueError as error:
                raise HeadwaterError(f"item {i}: {error}") from None
        if not arrays:
            raise HeadwaterError("no items given")
        return torch.from_numpy(np.stack(arrays))

    def _prefix(self, start: Any) -> Kept:
        space = self.model.space
        if not isinstance(space, Tokens):
            raise HeadwaterError("--start: only models over token sequences can continue a beginning")
        try:
            cells = torch.from_numpy(self.codec.prefix(start)) if isinstance(start, str) else torch.as_tensor(start)
        except ValueError as error:
            raise HeadwaterError(f"--start: {error}") from None
        if cells.ndim != 2 or cells.shape[1] != space.streams or len(cells) >= space.length:
            want = f"tokens of shape (positions, {space.streams}), fewer than {space.length} positions"
            raise HeadwaterError(f"--start: expected {want}; got {tuple(cells.shape)}")
        values = torch.zeros(1, *space.shape, dtype=torch.long, device=self.device)
        values[0, : len(cells)] = cells
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[0, : len(cells)] = True
        return Kept(values, mask)

    @torch.no_grad()
    def tiles(
        self,
        rows: range,
        wishes: Sequence[Any],
        draw: Callable[[Tensor, Context], Tensor],
        *,
        batch_size: int | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Iterator[Array]:
        """Arrays of ``rows`` in order, made in tiles of fixed shape.

        Row r always stands at place r mod ``tile`` of its tile, and a tile is always full: places that are not asked for are
        filled with the row that belongs there. So neither the batch size nor the range asked for changes a byte. A batch that
        ends inside a tile makes that tile again for the next: a size below the tile costs time and saves nothing."""
        if batch_size is not None and batch_size < 1:
            raise HeadwaterError(f"--batch-size: expected at least 1; got {batch_size}")
        step = batch_size or self.tile * max(1, 1024 // self.tile)
        for low in range(rows.start, rows.stop, step):
            high = min(low + step, rows.stop)
            for tile in range(low // self.tile, (high - 1) // self.tile + 1):
                places = range(tile * self.tile, (tile + 1) * self.tile)
                inside = range(max(places.start, low), min(places.stop, high))
                known = [wishes[min(max(r, inside.start), inside.stop - 1) - rows.start] for r in places]
                context = self.model.conditioner.with_null(self.model.conditions(known))
                made = draw(torch.tensor(places), context).cpu().numpy()
                yield from (made[r - places.start] for r in inside)
                progress(inside.stop - rows.start, len(rows))


def take(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of ``x``, the last one again for numbers past the end: what fills a tile is never looked at."""
    return x[rows.clamp(max=len(x) - 1)]


def check_steer(guidance: float, temperature: float, top_p: float, steps: int | None) -> None:
    """Raises :class:`HeadwaterError` naming the flag that is out of range."""
    for flag, value, good, want in (
        ("--guidance", guidance, 0 <= guidance <= 50, "a number from 0 to 50"),
        ("--temperature", temperature, 0 < temperature <= 10, "a number above 0, at most 10"),
        ("--top-p", top_p, 0 < top_p <= 1, "a number above 0, at most 1"),
        ("--steps", steps, steps is None or 1 <= steps <= 10000, "a whole number from 1 to 10000"),
    ):
        if not good:
            raise HeadwaterError(f"{flag}: expected {want}; got {value}")

"""The verbs on a loaded model, in a domain's own terms: ``headwater.load("molecules/autoregressive").sample(24, logp=2.5)``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from headwater import checkpoint
from headwater.constraints import broken
from headwater.context import Context
from headwater.domain import Array, Codec, Domain
from headwater.errors import HeadwaterError, MissingVerb
from headwater.families.contract import Kept, Likelihood, Steer, Told, Verb
from headwater.knobs import Given, fill
from headwater.model import Model
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater.request import check_steer, ids_of, per_item, prefix_of
from headwater.samples import Samples

if TYPE_CHECKING:
    from headwater.constraints import Constraint
    from headwater.optimise import Optimum
    from headwater.restore.likelihoods import NoiseModel
    from headwater.restore.operators import Operator
    from headwater.restore.posterior import Posterior

Progress = Callable[[int, int], None]


def load(name: str | Path, device: str = "cpu") -> Generator:
    """A shipped model, ``"molecules/autoregressive"``, or a model folder by its path.

    Raises :class:`HeadwaterError` for an unknown name (the message lists those there are), a folder that cannot be read, or a
    device that is not here."""
    from headwater.registry import find_model

    folder, domain = find_model(name)
    model, config = checkpoint.load(folder, domain.networks)
    if config["domain"] != domain.name:
        raise HeadwaterError(f"{folder}: a model of {config['domain']}, not of {domain.name}")
    recipe = Recipe.model_validate(config["recipe"])
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:  # of a name that there is not, and of one that this torch was built without
        why = str(error).split("\n")[0][:200]
        raise HeadwaterError(f"--device: expected cpu, cuda or cuda:N, and such a device here; got {device!r} ({why})") from None
    return Generator(domain, model, recipe, f"{domain.name}/{config['name']}", config)


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
    def exact(self) -> bool:
        """Whether :meth:`score` tells the likelihood itself, no bound or estimate of it."""
        return self.verbs.get("score", "").startswith("exact")

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def at_once(self) -> int:
        """Rows that are made in one go unless told otherwise: whole tiles, about a thousand rows."""
        return self.tile * max(1, 1024 // self.tile)

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

    def _pressed(self, guidance: float | None, wishes: Sequence[Any] | None, knobs: Mapping[str, Any]) -> float:
        """The guidance asked for, else the recipe's; where no row wants anything there is nothing to press, at twice the work."""
        if guidance is not None:
            return guidance
        return 1.0 if wishes is None and not any(v is not None for v in knobs.values()) else self.recipe.guidance

    def _checked(self, steer: Steer) -> Steer:
        return check_steer(self.name, self.model.family, steer)

    def given(self, items: Sequence[Any], wishes: Sequence[Any], noise: Noise) -> list[Any]:
        """The wish for each item, with what the domain gives of it in training where a given of this model is open."""
        names = [f.name for f in self.model.conditioner.fields if isinstance(f.spec, Given)]
        told = list(wishes)
        for i, item in enumerate(items):
            if open_ := [name for name in names if getattr(told[i], name) is None]:
                key = noise.fold("given").rows([i])
                told[i] = replace(told[i], **{name: getattr(self.domain.given(name, item, key), name) for name in open_})
        return told

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
        length_candidates: int = 1,
        start: Any | None = None,
        first: int = 0,
        ids: Sequence[int] | None = None,
        constraints: Sequence[Constraint | None] | None = None,
        lengths: Sequence[int] | None = None,
        batch_size: int | None = None,
        likelihood: bool = False,
        least_likely: bool = False,
        progress: Progress = lambda done, total: None,
        **knobs: Any,
    ) -> Samples:
        """``n`` new items (rows ``first`` to ``first + n``), all with the same knobs or each with its own of ``wishes``.

        ``start`` is the beginning of every item in the domain's notation (``Tokens`` only); ``batch_size`` the rows in flight.
        With ``ids`` (below 2^63) item i is drawn by ``ids[i]`` instead of its row's number: by what it is, wherever it stands among
        others. ``constraints`` are each item's own, in place of the codec's; ``lengths`` say how many positions each is to have
        before its end (``Tokens`` only). With ``length_candidates`` each is drawn so many times, its length anew each time, and
        the likeliest a token stays, at so many times the work (models that draw lengths first). With ``likelihood`` there is a
        further column, ``log_likelihood``: what :meth:`score` says of each, which an autoregressive model tells on the way. With
        that or ``least_likely`` there is a column of that name where items are made token after token: the log-probability of the
        least likely of each, in nats.
        """
        self.need("sample")
        if likelihood:
            self.need("score")
        if n < 1:
            raise HeadwaterError(f"-n: expected at least 1; got {n}")
        pressed = self._pressed(guidance, wishes, knobs)
        steer = self._checked(Steer(pressed, temperature, top_p, steps, length_candidates=length_candidates))
        asked = self._asked(n, wishes, knobs)
        if start is not None:
            self.need("infill")
        kept = None if start is None else prefix_of(self.codec, start, self.device)
        if kept is not None and (likelihood or least_likely):
            raise HeadwaterError("likelihood: not told of items that begin with a given start; ask `score` about them")
        noise, extra = Noise(seed).fold("sample"), dict[str, dict[int, float]]()
        each = per_item(self.name, self.codec, first, n, constraints, lengths, ids)

        def draw(rows: Tensor, context: Context) -> Tensor:
            _, keys, of_tile = each.of_tile(rows, noise, steer)
            if likelihood or least_likely:
                told = self.model.family.sample_told(keys, context, of_tile, score=likelihood)
                return note(extra, rows, told if likelihood else told._replace(score=None))
            if kept is None:
                return self.model.family.sample(keys, context, of_tile)
            every = Kept(*(t.expand(len(rows), *t.shape[1:]) for t in (kept.values, kept.mask)))
            return self.model.family.infill(every, keys, context, of_tile)

        made = range(first, first + n)
        try:
            arrays, columns = noted(made, self.tiles(made, asked, draw, batch_size=batch_size, progress=progress), extra)
        except ValueError as error:
            if start is None:
                raise
            raise HeadwaterError(f"--start: {error}") from None
        return Samples(self.domain, [self.codec.decode(a) for a in arrays], asked, list(made), seed, self.name, columns)

    def vary(
        self,
        items: Sequence[Any],
        *,
        strength: float = 0.3,
        seed: int = 0,
        n: int = 1,
        guidance: float | None = None,
        steps: int | None = None,
        **knobs: Any,
    ) -> Samples:
        """``n`` neighbours of each item; ``strength`` from 0 (itself) to 1 (anything). What a model is given of an item (a
        plan, a metre) and no knob tells, it is given of this one. Raises :class:`HeadwaterError` naming an item that the codec's
        constraint rejects, where the family varies only what that accepts."""
        self.need("vary")
        if not 0 <= strength <= 1:
            raise HeadwaterError(f"--strength: expected a number from 0 to 1; got {strength}")
        if n < 1:
            raise HeadwaterError(f"-n: expected at least 1; got {n}")
        steer = self._checked(Steer(self._pressed(guidance, None, knobs), steps=steps))
        noise, constraint = Noise(seed).fold("vary"), self.codec.constraint()
        wishes = [wish for wish in self.given(items, [self.wish(**knobs)] * len(items), noise) for _ in range(n)]
        x = self.encode([item for item in items for _ in range(n)])

        def draw(rows: Tensor, context: Context) -> Tensor:
            of_tile = replace(steer, constraints=None if constraint is None else [constraint] * len(rows))
            return self.model.family.vary(take(x, rows).to(self.device), strength, noise.rows(rows), context, of_tile)

        try:
            arrays = list(self.tiles(range(len(x)), wishes, draw))
        except ValueError as error:
            why = [] if constraint is None else [broken(constraint, array) for array in x.numpy()]
            told = next((f"item {i // n}: {reason}" for i, reason in enumerate(why) if reason), f"items: {error}")
            raise HeadwaterError(told) from None
        return Samples(self.domain, [self.codec.decode(a) for a in arrays], wishes, list(range(len(x))), seed, self.name)

    def infill(
        self,
        items: Sequence[Any],
        mask: Array,
        *,
        lengths: Sequence[int] | None = None,
        seed: int = 0,
        wishes: Sequence[Any] | None = None,
        guidance: float | None = None,
        temperature: float = 1.0,
        steps: int | None = None,
        first: int = 0,
        ids: Sequence[int] | None = None,
        constraints: Sequence[Constraint | None] | None = None,
        **knobs: Any,
    ) -> Samples:
        """Items that keep the cells of ``items`` where ``mask`` (items, *shape) is True, the rest made anew: rows ``first``
        and those that follow, or drawn by ``ids`` as in :meth:`sample`. ``lengths`` say how many positions each is to have before
        its end (``Tokens`` only; kept cells leave it open); ``constraints`` are each item's own, in place of the codec's. Where
        the model tells them on the way there are columns ``log_likelihood`` and ``least_likely``, in nats: of all tokens made,
        given what is kept and in the order in which they were made, and of the least likely of them."""
        self.need("infill")
        steer = self._checked(Steer(self._pressed(guidance, wishes, knobs), temperature, steps=steps))
        x, keep = self.encode(items), torch.from_numpy(np.asarray(mask, dtype=bool))
        if keep.shape != x.shape:
            raise HeadwaterError(f"mask: expected shape {tuple(x.shape)}; got {tuple(keep.shape)}")
        asked = self._asked(len(x), wishes, knobs)
        noise, extra = Noise(seed).fold("infill"), dict[str, dict[int, float]]()
        each = per_item(self.name, self.codec, first, len(x), constraints, lengths, ids)

        def draw(rows: Tensor, context: Context) -> Tensor:
            here, keys, of_tile = each.of_tile(rows, noise, steer)
            kept = Kept(x[here].to(self.device), keep[here].to(self.device))
            return note(extra, rows, self.model.family.filled(kept, keys, context, of_tile))

        rows = range(first, first + len(x))
        try:
            arrays, columns = noted(rows, self.tiles(rows, asked, draw), extra)
        except ValueError as error:
            raise HeadwaterError(f"mask: {error}") from None
        return Samples(self.domain, [self.codec.decode(a) for a in arrays], asked, list(rows), seed, self.name, columns)

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
        network works in windows (default: the space's own size) that share ``overlap`` cells (default: a quarter), ``tile`` at a
        time. ``noise`` has one key a row (default: rows of ``seed``). See :func:`headwater.restore.posterior.restore` and, for a
        model that answers in one pass, :func:`headwater.restore.one_pass.one_pass`."""
        self.need("restore")
        from headwater.restore.one_pass import one_pass
        from headwater.restore.posterior import restore
        from headwater.restore.windows import Windows

        family: Any = self.model.family
        answers = hasattr(family, "answer")

        def prior(x: Tensor, sigma: Tensor, context: Context | None) -> Tensor:
            found: Tensor = family.answer(x, context) if answers else family.denoise(x, sigma, context)
            return found

        size = tuple(window or self.model.space.shape[1:])
        shared = overlap if overlap is not None else min(size, default=0) // 4
        lifted = Windows(prior, size, shared, tile=tile or self.tile) if size else prior
        keys = Noise(seed).fold("restore").rows(range(len(y))) if noise is None else noise
        asks = self.model.conditioner(self.model.conditions([self.domain.Wish()] * len(y)))  # for nothing: every field absent
        if asks.cells is not None:
            asks = replace(asks, cells=asks.cells.new_zeros(len(y), asks.cells.shape[1], *operator.domain[1:]))
        if answers:
            if draws and family.critic is None:
                raise HeadwaterError(f"draws: {self.name} knows the mean alone; expected 0, got {draws}")
            return one_pass(y.to(self.device), operator, law, lifted, keys, asks, draws)
        return restore(y.to(self.device), operator, law, lifted, keys, context=asks, draws=draws, steps=steps)

    @torch.no_grad()
    def score(
        self,
        items: Sequence[Any],
        *,
        seed: int = 0,
        ids: Sequence[int] | None = None,
        wishes: Sequence[Any] | None = None,
        **knobs: Any,
    ) -> Likelihood:
        """The log-likelihood of each item in nats; what is drawn for it is drawn by ``ids`` as in :meth:`sample`."""
        self.need("score")
        x = self.encode(items)
        asked = self._asked(len(x), wishes, knobs)
        noise, named = Noise(seed).fold("score"), ids_of(len(x), ids)
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
                keys = noise.rows(padded if named is None else named[padded])
                found = self.model.family.score(x[padded].to(self.device), keys, context)
                value[rows], kind = found.value[: len(rows)].double().cpu(), found.kind
                if found.stderr is not None:
                    stderr = torch.zeros(len(x), dtype=torch.float64) if stderr is None else stderr
                    stderr[rows] = found.stderr[: len(rows)].double().cpu()
        return Likelihood(value, kind, stderr)

    # --- latents --------------------------------------------------------------------------------------------------

    def latents(self, items: Sequence[Any], *, wishes: Sequence[Any] | None = None, **knobs: Any) -> Tensor:
        """Where the model's encoder takes each item, (items, *latent shape) in fp32: for a variational autoencoder the mean, for a
        flow the noise that the item came from. Raises :class:`MissingVerb` for a model without."""
        x = self.encode(items)
        asked = self._asked(len(x), wishes, knobs)

        def read(rows: Tensor, context: Context) -> Tensor:
            return self.model.family.encode(take(x, rows).to(self.device), context)

        try:
            return torch.from_numpy(np.stack(list(self.tiles(range(len(x)), asked, read))))
        except NotImplementedError:
            raise MissingVerb(
                f"{self.name} cannot take items to a latent; variational autoencoders, flows and models over a latent can"
            ) from None

    def from_latents(
        self,
        z: Tensor,
        *,
        seed: int = 0,
        same_draw: bool = False,
        wishes: Sequence[Any] | None = None,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        steps: int | None = None,
        **knobs: Any,
    ) -> Samples:
        """An item for each latent of ``z``, which is as :meth:`latents` gives it; standard normal ones give samples. Where decoding
        draws, ``same_draw`` gives every row the same randomness, so that only the latent makes a difference."""
        space = self.model.family.latent
        if space is None:
            raise MissingVerb(f"{self.name} has no latent; variational autoencoders, GANs, flows and models over a latent have")
        if tuple(z.shape[1:]) != space.shape:
            raise HeadwaterError(f"latents: expected shape (items, {', '.join(map(str, space.shape))}); got {tuple(z.shape)}")
        steer = self._checked(Steer(guidance, temperature, top_p, steps))
        asked, noise, constraint = self._asked(len(z), wishes, knobs), Noise(seed).fold("decode"), self.codec.constraint()

        def write(rows: Tensor, context: Context) -> Tensor:
            of_tile = replace(steer, constraints=None if constraint is None else [constraint] * len(rows))
            keys = noise.rows(torch.zeros_like(rows) if same_draw else rows)
            return self.model.family.decode(take(z, rows).to(self.device), keys, context, of_tile)

        items = [self.codec.decode(array) for array in self.tiles(range(len(z)), asked, write)]
        return Samples(self.domain, items, asked, list(range(len(z))), seed, self.name)

    def interpolate(self, a: Any, b: Any, steps: int = 9, *, seed: int = 0, temperature: float = 0.1, **knobs: Any) -> Samples:
        """``steps`` items on the way from item ``a`` to item ``b`` as :class:`~headwater.samples.Samples`, in order; the first and
        the last are what the model makes of the two latents themselves.

        The way is an arc between them (:func:`slerp`), since normal latents lie near a sphere and a straight line leaves it
        (White, 2016, "Sampling generative networks", https://arxiv.org/abs/1609.04468). Raises :class:`MissingVerb` for a model
        that cannot take items to a latent."""
        if steps < 2:
            raise HeadwaterError(f"steps: expected at least 2, the two ends; got {steps}")
        ends = self.latents([a, b], **knobs)
        z = torch.stack([slerp(ends[0], ends[1], t) for t in torch.linspace(0, 1, steps, dtype=torch.float64).tolist()])
        return self.from_latents(z, seed=seed, same_draw=True, temperature=temperature, **knobs)

    def optimise(
        self,
        objective: Callable[[Any], float],
        budget: int,
        *,
        seed: int = 0,
        folder: str | Path | None = None,
        best: int = 10,
        start: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
        save_seconds: float = 10.0,
        progress: Progress = lambda done, total: None,
        **knobs: Any,
    ) -> Optimum:
        """The ``best`` items that at most ``budget`` calls of ``objective`` find (higher is better), from the items of ``start`` if
        there are any, by the search that suits the family (``options`` are its own, see :mod:`headwater.optimise`). An item for
        which the objective raises an error or gives no finite number has no score; the search goes on. With a ``folder`` a killed
        search is taken up there by the same call, and so is a finished one with a larger budget."""
        self.need("optimise")
        from headwater.optimise import optimise

        return optimise(
            self,
            objective,
            budget,
            seed=seed,
            folder=None if folder is None else Path(folder),
            best=best,
            start=start,
            wish=self.wish(**knobs),
            options=options,
            save_seconds=save_seconds,
            progress=progress,
        )

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
        step = batch_size or self.at_once
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


def note(columns: dict[str, dict[int, float]], rows: Tensor, told: Told) -> Tensor:
    """Put what is known of some rows into columns, and give the rows themselves."""
    for name, value in (("log_likelihood", told.score), ("least_likely", told.least)):
        if value is not None:
            columns.setdefault(name, {}).update(zip(rows.tolist(), value.tolist(), strict=True))
    return told.x


def noted(
    rows: range, arrays: Iterator[Array], columns: Mapping[str, Mapping[int, float]]
) -> tuple[list[Array], dict[str, list[float]]]:
    """The arrays of ``rows``, and of each row what columns hold when its array comes: a tile that is made again for other rows has
    fillers in this one's place, of which something else is noted."""
    out, read = [], dict[str, list[float]]()
    for row, array in zip(rows, arrays, strict=True):
        out.append(array)
        for name, values in columns.items():
            read.setdefault(name, []).append(values[row])
    return out, read


def take(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of ``x``, the last one again for numbers past the end: what fills a tile is never looked at."""
    return x[rows.clamp(max=len(x) - 1)]


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at share ``t`` of the arc from ``a`` to ``b``: [sin((1 - t) Ω) a + sin(t Ω) b] / sin Ω with Ω the angle between
    them. On a straight line through the origin, where no arc is nearest, the point of that line.

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5).tolist()
    [0.7071067690849304, 0.7071067690849304]
    """
    if t in (0.0, 1.0):
        return a if t == 0.0 else b
    x, y = a.double().flatten(), b.double().flatten()
    cosine = float(x @ y / (x.norm() * y.norm()).clamp(min=1e-30))
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < 1e-6:
        return a + t * (b - a)
    return ((math.sin((1 - t) * angle) * a.double() + math.sin(t * angle) * b.double()) / math.sin(angle)).to(a.dtype)

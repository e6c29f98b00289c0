"""Normalizing flows of monotone rational-quadratic splines: exact density, exact sampling (Durkan et al., 2019, "Neural spline
flows", https://arxiv.org/abs/1906.04032)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.contract import Family, Likelihood, Maker, Steer, Verb, turned
from headwater.families.divergence import dequantised, log_normal
from headwater.families.observation import inside, levels_of
from headwater.networks.splines import Coupling, MadeLayer
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Vector, cells

LAYERS: dict[str, type[Coupling] | type[MadeLayer]] = {"coupling": Coupling, "autoregressive": MadeLayer}


def orders(features: int, transforms: int) -> list[Tensor]:
    """In which order each layer takes the features: first the even ones, then the odd; every second layer turns the order before
    it round, so that a pair of layers moves every feature; a new pair begins with a new shuffle, the same in every model.

    >>> [order.tolist() for order in orders(5, 2)]
    [[0, 2, 4, 1, 3], [3, 1, 4, 2, 0]]
    """
    found: list[Tensor] = []
    for t in range(transforms):
        if t % 2:
            found.append(found[-1].flip(0))
        elif t == 0:
            found.append(torch.cat([torch.arange(0, features, 2), torch.arange(1, features, 2)]))
        else:
            found.append(Noise(0).fold("order", t).uniform(features)[0].argsort(stable=True))
    return found


class Splines(nn.Module):
    """z = f_T(… f_1((x − mean) / std)) over rows (rows, features), by layers of one kind, each with its own order."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        kind: str,
        features: int,
        context: int = 0,
        transforms: int = 5,
        hidden: int = 64,
        layers: int = 2,
        bins: int = 8,
        bound: float = 4.0,
    ) -> None:
        super().__init__()
        if kind not in LAYERS:
            raise ValueError(f"unknown network {kind!r}; a spline flow has {', '.join(LAYERS)}")
        if transforms < 1 or bins < 2 or bound <= 0:
            raise ValueError(f"expected transforms >= 1, bins >= 2, bound > 0; got {transforms}, {bins} and {bound}")
        if kind == "coupling" and features < 2:
            raise ValueError("coupling needs two features at least; autoregressive takes one")
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.layers = nn.ModuleList([LAYERS[kind](features, bins, bound, hidden, layers, context) for _ in range(transforms)])
        before = torch.arange(features)
        for t, order in enumerate(orders(features, transforms)):
            self.register_buffer(f"order{t}", before.argsort()[order], persistent=False)  # from the order before to this one
            before = order

    def forward(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Latents (rows, features) and log |det dz/dx| (rows,) of x (rows, features) under a context (rows, numbers)."""
        told = None if context is None else context.T
        z = ((x - self.mean) / self.std).T.contiguous()
        log_det = -self.std.log().sum().expand(len(x))
        for t, layer in enumerate(self.layers):
            z, more = layer(z[getattr(self, f"order{t}")], told)
            log_det = log_det + more
        return z.T, log_det

    def inverse(self, z: Tensor, context: Tensor | None) -> Tensor:
        """x of z."""
        told = None if context is None else context.T
        x = z.T.contiguous()
        for t in reversed(range(len(self.layers))):
            layer: Any = self.layers[t]
            x = layer.inverse(x, told)[getattr(self, f"order{t}").argsort()]
        return x.T * self.std + self.mean


class SplineFlow(Family):
    """Over ``Vector`` and ``Grid``, whose cells it takes as one row of numbers.

    log p(x | context) = log N(f(x); 0, I) + log |det ∂f/∂x|, f a chain of layers whose Jacobians are triangular. The network is
    ``coupling`` (both directions are one pass) or ``autoregressive`` (finer; sampling goes feature by feature, yet at the cost of
    about one pass: see :class:`~headwater.networks.splines.MadeLayer`), with the options ``transforms``, ``hidden``,
    ``layers``, ``bins`` and ``bound``: splines act on standardised data in [−bound, bound] and leave the rest alone.

    A density needs real numbers: where a grid declares grey levels, each value is put anywhere inside its level's bin
    (:func:`~headwater.families.observation.inside`), and a score is a lower bound of the discrete log-probability. Guidance has no
    meaning here; temperature scales the latent. Round trips in fp64: docs/adr/0005-spline-round-trip.md.
    """

    name = "spline_flow"
    precise = ("model",)  # running sums over bins and log-determinants want fp32

    def __init__(self, space: Grid | Vector, flow: Splines) -> None:
        super().__init__(space)
        self.flow = flow

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> SplineFlow:
        assert isinstance(space, Grid | Vector)
        if make.sequence:
            raise ValueError("a spline flow cannot read a sequence of givens")
        kind, chosen = make.choice()
        places = math.prod(space.size) if isinstance(space, Grid) else 1
        return cls(space, Splines(kind, cells(space), make.pooled + make.cells * places, **chosen), **options)

    def parts(self) -> Mapping[str, nn.Module]:
        return {"flow": self.flow}

    @property
    def verbs(self) -> Mapping[Verb, str]:
        score = "exact"
        if isinstance(self.space, Grid):
            score = "bound, by dequantising" if self.space.levels else "exact, a bound of grey levels"
        return {"sample": "exact, one pass", "vary": "latent", "score": score, "optimise": "latent search"}

    def begin(self, x: Tensor, context: Context, noise: Noise) -> None:
        """Mean and standard deviation of each feature; one that never changes is left as it is."""
        rows = inside(x, self.space, noise).flatten(1).double()
        std = rows.std(0, correction=0)
        self.flow.mean.copy_(rows.mean(0))
        self.flow.std.copy_(torch.where(std < 1e-6, 1.0, std))

    def log_prob(self, x: Tensor, context: Context) -> Tensor:
        """The log-density of each row as it is, (rows,) float64."""
        z, log_det = self.flow(self._rows(x), self._told(context))
        found: Tensor = log_normal(z) + log_det
        return found

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        """Nats a number."""
        return -self.log_prob(inside(batch, self.space, noise), context).float().mean() / cells(self.space)

    @torch.no_grad()
    def score(self, x: Tensor, noise: Noise, context: Context, draws: int = 16) -> Likelihood:
        """The density. Of grey levels log 1/K Σ_k p(x + u_k) · bin with u_k anywhere in the bins: its exponential is right on
        average, its expectation a lower bound that rises to log P(x) with ``draws`` K. The error is that of the mean density over
        its size: where it is large, the bound is loose."""
        if not levels_of(self.space):
            return Likelihood(self.log_prob(x, context), "exact")
        found = [self.log_prob(inside(x, self.space, noise.fold("bin", k)), context) for k in range(draws)]
        log_density = torch.stack(found) + dequantised(self.space)
        value = log_density.logsumexp(0) - math.log(draws)
        return Likelihood(value, "bound", (log_density - value).exp().std(0) / math.sqrt(draws))

    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        z = steer.temperature * noise.fold("latent").normal(cells(self.space))
        return self.decode(z.to(self.flow.mean.device), noise, context, steer)

    @torch.no_grad()
    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """√(1 − strength²) z + strength · a new latent: as normal as z is, so that neighbours are as likely as items."""
        if strength <= 0:
            return x
        z = self.encode(x, context)
        fresh = noise.fold("latent").normal(cells(self.space)).to(z)
        return self.decode(turned(z, fresh, strength), noise, context, steer).to(x.dtype)

    @property
    def latent(self) -> Space:
        return Vector(cells(self.space))

    @torch.no_grad()
    def encode(self, x: Tensor, context: Context) -> Tensor:
        z: Tensor = self.flow(self._rows(x), self._told(context))[0]
        return z

    @torch.no_grad()
    def decode(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self.flow.inverse(self._rows(z), self._told(context)).reshape(-1, *self.space.shape)

    def _rows(self, x: Tensor) -> Tensor:
        return x.flatten(1).to(self.flow.mean.dtype)

    def _told(self, context: Context) -> Tensor | None:
        parts = [self._rows(part) for part in (context.pooled, context.cells) if part is not None]
        return torch.cat(parts, 1) if parts else None

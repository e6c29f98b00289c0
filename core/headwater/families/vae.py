"""Variational autoencoders: a normal latent z, a decoder p(x | z), and an encoder q(z | x) that says where an item's latent lies.

Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114; Rezende et al., 2014, https://arxiv.org/abs/1401.4082.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Family, Likelihood, Maker, Reader, Steer, Told, Verb, Writer, turned
from headwater.families.observation import Law, bounded, law, level_of, middle
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Tokens, Vector

#: Options that belong to the law of observation.
OF_LAW = ("sigma", "components")
#: How many draws of the posterior a score takes in one call of the decoder.
AT_ONCE = 8


class Decoder(ABC):
    """p(x | z, context)."""

    module: nn.Module

    @abstractmethod
    def log_prob(self, x: Tensor, z: Tensor, context: Context) -> Tensor:
        """(rows,) in nats."""

    @abstractmethod
    def draw(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """A row of the space for each latent."""

    def drawn(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Told:
        """The same, and its least likely token given the latent, where there are tokens."""
        return Told(self.draw(z, noise, context, steer))


class CellDecoder(Decoder):
    """A writer's numbers for each cell, and the law that reads them: cells are independent given z."""

    def __init__(self, space: Grid | Vector, network: nn.Module, law: Law) -> None:
        assert isinstance(network, Writer)
        self.space, self.network, self.law = space, network, law
        self.module = nn.ModuleDict({"network": network, "law": law})

    def numbers(self, z: Tensor, context: Context, guidance: float = 1.0) -> Tensor:
        """(rows, channels, *size, numbers); guided, those with the condition and those without are mixed."""
        if guidance != 1.0 and context.null is not None:
            conditional, free = self.network(z.repeat(2, 1), context.doubled()).float().chunk(2)
            out = free + guidance * (conditional - free)
        else:
            out = self.network(z, context).float()
        each: Tensor = out.unflatten(1, (self.space.shape[0], self.law.numbers)).movedim(2, -1)
        return each

    def log_prob(self, x: Tensor, z: Tensor, context: Context) -> Tensor:
        return self.law.log_prob(self.numbers(z, context), x).flatten(1).sum(1)

    def draw(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self.law.draw(self.numbers(z, context, steer.guidance), noise, steer)


class TokenDecoder(Decoder):
    """An autoregressive model that reads the latent with its pooled context (Bowman et al., 2016, "Generating sentences from a
    continuous space", https://arxiv.org/abs/1511.06349)."""

    def __init__(self, model: Autoregressive) -> None:
        self.model, self.module = model, nn.ModuleDict(dict(model.parts()))

    def log_prob(self, x: Tensor, z: Tensor, context: Context) -> Tensor:
        return self.model.log_prob(x, with_latent(context, z))

    def draw(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self.model.sample(noise, with_latent(context, z), steer)

    def drawn(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Told:
        return self.model.drawn(noise, with_latent(context, z), steer)._replace(score=None)  # it is of p(x | z), not of p(x)


def with_latent(context: Context, z: Tensor) -> Context:
    """The context, its null too, with the latent behind the pooled numbers."""
    pooled = z if context.pooled is None else torch.cat([context.pooled.to(z.dtype), z], dim=1)
    return replace(context, pooled=pooled, null=None if context.null is None else with_latent(context.null, z))


class VAE(Family):
    """Over ``Grid``, ``Vector`` and ``Tokens``; z ~ N(0, I) of ``latent`` numbers, q(z | x) = N(μ(x), diag σ²(x)).

    The loss, in nats a cell (of ``Tokens``: a token, ends included), is −E_q log p(x | z) + β Σ_j max(λ, KL_j) with KL_j the mean
    over the batch of KL(q(z_j | x) ‖ N(0, 1)); λ = ``free_bits`` nats of each dimension cost nothing (Kingma et al., 2016,
    https://arxiv.org/abs/1606.04934, equation 15), which keeps a strong decoder from leaving the latent unused.
    With ``samples`` K > 1 it is the importance-weighted bound −E log 1/K Σ_k p(x, z_k)/q(z_k | x) (Burda et al., 2016,
    https://arxiv.org/abs/1509.00519), tighter, and without β and λ.

    Cells of grids and vectors are independent given z, by the laws of :mod:`headwater.families.observation`: ``sigma`` ("one",
    "each", "written") is how a normal one learns its σ, ``components`` how many logistics mix where grey levels are many. Tokens
    are decoded by an autoregressive model, with the options ``decoder`` (``ordinal``, ``head_dropout``, ``word_dropout``).

    Raises ``ValueError`` for options out of range, and for β or λ with several samples.
    """

    name = "vae"
    guided = True

    def __init__(
        self,
        space: Space,
        encoder: nn.Module,
        decoder: Decoder,
        latent: int,
        beta: float = 1.0,
        free_bits: float = 0.0,
        samples: int = 1,
    ) -> None:
        super().__init__(space)
        if beta < 0 or free_bits < 0 or samples < 1:
            raise ValueError(f"beta and free_bits cannot be negative, samples must be at least 1: {beta}, {free_bits}, {samples}")
        if samples > 1 and (beta != 1.0 or free_bits):
            raise ValueError("the importance-weighted bound (samples > 1) knows neither beta nor free_bits")
        assert isinstance(encoder, Reader)
        self.encoder, self.decoder, self.width = encoder, decoder, latent
        self.beta, self.free_bits, self.samples = beta, free_bits, samples
        self.narrowed = isinstance(decoder, TokenDecoder) or (isinstance(decoder, CellDecoder) and decoder.law.narrowed)

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> VAE:
        """The main network is the decoder's; ``encoder`` is the reader's, by default the decoder's mirror or a recurrent one."""
        known = dict(options)
        latent = known.pop("latent", 16)
        if not isinstance(latent, int) or latent < 1:
            raise ValueError(f"latent: expected a whole number of at least 1; got {latent!r}")
        of_law = {k: known.pop(k) for k in OF_LAW if k in known}
        decoder: Decoder
        if isinstance(space, Tokens):
            if of_law:
                raise ValueError(f"{next(iter(of_law))}: tokens have no such law of observation")
            pooled = make.pooled + latent
            head = known.pop("decoder", {})
            decoder = TokenDecoder(Autoregressive(space, make("causal", pooled=pooled), pooled=pooled, cells=make.cells, **head))
            mirror: tuple[str, Mapping[str, Any]] = ("recurrent", {})
        else:
            observed = law(space, **of_law)
            decoder = CellDecoder(space, make("writer", latent=latent, channels=space.shape[0] * observed.numbers), observed)
            mirror = make.choice()
        return cls(space, make("reader", "encoder", default=mirror, features=2 * latent), decoder, latent, **known)

    def parts(self) -> Mapping[str, nn.Module]:
        assert isinstance(self.encoder, nn.Module)
        return {"encoder": self.encoder, "decoder": self.decoder.module}

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {
            "sample": "decoded normal latents",
            "vary": "latent",
            "score": "importance-weighted bound",
            "optimise": "latent search",
        }

    @property
    def latent(self) -> Vector:
        return Vector(self.width)

    # --- the bound ------------------------------------------------------------------------------------------------

    def posterior(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """μ and log σ of q(z | x), (rows, latent) each. Grey levels are read in the middle of their bins."""
        if isinstance(self.space, Grid) and self.space.levels:
            x = middle(level_of(x, self.space.levels), self.space.levels)
        mean, log_std = self.encoder(x, context).float().chunk(2, dim=1)
        return mean, bounded(log_std)

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        mean, log_std = self.posterior(batch, context)
        if self.samples > 1:
            weights = self._log_weights(batch, mean, log_std, context, noise.fold("posterior"), self.samples)
            bound = weights.logsumexp(0) - math.log(self.samples)
            return -bound.sum() / self._cells(batch)
        z = mean + log_std.exp() * noise.fold("posterior").normal(self.width).to(mean.device)
        rate = kl(mean, log_std).mean(0).clamp(min=self.free_bits).sum() * len(batch)
        return (self.beta * rate - self.decoder.log_prob(batch, z, context).sum()) / self._cells(batch)

    def _log_weights(self, x: Tensor, mean: Tensor, log_std: Tensor, context: Context, noise: Noise, draws: int) -> Tensor:
        """log p(x | z) + log p(z) − log q(z | x) at ``draws`` draws z of q, (draws, rows) in nats."""
        normal = noise.normal(draws, self.width).to(mean.device).transpose(0, 1)
        z = mean + log_std.exp() * normal
        prior = (0.5 * normal.square() + log_std - 0.5 * z.square()).sum(2)
        rows = torch.arange(len(x), device=x.device).repeat(draws)
        return prior + self.decoder.log_prob(x[rows], z.flatten(0, 1), context[rows]).reshape(prior.shape)

    def weight(self, batch: Tensor, noise: Noise) -> Tensor:
        """The numbers or tokens that the loss is a mean over."""
        return self._cells(batch)

    def _cells(self, x: Tensor) -> Tensor:
        """How many numbers the rows hold, or tokens with their ends."""
        if not isinstance(self.space, Tokens):
            return x.new_full((), x.numel())
        lengths = (x != 0).any(dim=2).long().cumprod(dim=1).sum(dim=1) + 1
        return lengths.clamp(max=x.shape[1]).sum() * self.space.streams

    @torch.no_grad()
    def score(self, x: Tensor, noise: Noise, context: Context, draws: int = 64) -> Likelihood:
        """The importance-weighted bound of ``draws`` draws, log 1/K Σ_k p(x, z_k)/q(z_k | x), whose expectation rises to log p(x)
        with K. Its error is that of the mean weight over its size: where it is large, the bound is loose."""
        if isinstance(self.space, Tokens):
            x = x[:, : min(self.space.length, int(self.buckets(x).max()) if len(x) else 1)]
        mean, log_std = self.posterior(x, context)
        parts = [(i, min(AT_ONCE, draws - i)) for i in range(0, draws, AT_ONCE)]
        found = [self._log_weights(x, mean, log_std, context, noise.fold("score", i), n).double() for i, n in parts]
        log_weights = torch.cat(found)
        value = log_weights.logsumexp(0) - math.log(draws)
        return Likelihood(value, "bound", (log_weights - value).exp().std(0) / math.sqrt(draws))

    def buckets(self, x: Tensor) -> Tensor:
        return self.decoder.model.buckets(x) if isinstance(self.decoder, TokenDecoder) else super().buckets(x)

    # --- latents --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, x: Tensor, context: Context) -> Tensor:
        """μ(x)."""
        return self.posterior(x, context)[0]

    @torch.no_grad()
    def decode(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """A draw of p(x | z) for each latent. ``steer`` steers this draw, not the latent: temperature towards 0 gives the likeliest
        cells (of a normal law: the mean)."""
        return self.decoder.draw(z, noise, context, steer)

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self.decode(self._latents(noise), noise, context, steer)

    @torch.no_grad()
    def drawn(self, noise: Noise, context: Context, steer: Steer) -> Told:
        return self.decoder.drawn(self._latents(noise), noise, context, steer)

    def _latents(self, noise: Noise) -> Tensor:
        return noise.fold("latent").normal(self.width).to(self.device)

    @torch.no_grad()
    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Decodes √(1 − s²) z + s ε with z drawn from q(z | x) and s the strength: a step that leaves N(0, I), hence the law of the
        items, as it is. The item itself at 0."""
        if strength <= 0:
            return x
        mean, log_std = self.posterior(x, context)
        z = mean + log_std.exp() * noise.fold("posterior").normal(self.width).to(mean.device)
        fresh = noise.fold("latent").normal(self.width).to(z.device)
        return self.decode(turned(z, fresh, strength), noise, context, steer)

    @torch.no_grad()
    def monitor(self, x: Tensor, context: Context, noise: Noise) -> Mapping[str, float]:
        """Is the latent used? Nats an item of KL(q ‖ p); units whose mean varies over the rows by more than .01 (Burda et al.,
        2016, section 5.2); and −log p(x | z) with the item's own z beside a z of the prior: equal where the posterior has
        collapsed."""
        mean, log_std = self.posterior(x, context)
        z = mean + log_std.exp() * noise.fold("posterior").normal(self.width).to(mean.device)
        other = noise.fold("latent").normal(self.width).to(mean.device)
        return {
            "kl": float(kl(mean, log_std).sum(1).mean()),
            "active units": float((mean.var(0) > 0.01).sum()),
            "nats with its latent": float(-self.decoder.log_prob(x, z, context).mean()),
            "nats with another": float(-self.decoder.log_prob(x, other, context).mean()),
        }


def kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) of each number.

    >>> kl(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0])).tolist()
    [0.0, 2.0]
    """
    return 0.5 * (mean.square() + torch.exp(2 * log_std) - 1) - log_std

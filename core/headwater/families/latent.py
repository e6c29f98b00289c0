"""A family over another's latent: the way of GANs, flows and diffusion to token sequences, and to large grids by a small latent.

Two stages, as of Rombach et al., 2022, "High-resolution image synthesis with latent diffusion models",
https://arxiv.org/abs/2112.10752: a variational autoencoder is trained first and then left alone; the prior, any family over
``Vector``, learns how its latents lie, which a standard normal only roughly says (Tomczak and Welling, 2018,
https://arxiv.org/abs/1705.07120).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.contract import Family, Likelihood, Maker, Steer, Told, Verb, turned
from headwater.families.diffusion import Diffusion
from headwater.families.flow import Flow
from headwater.families.gan import Standard
from headwater.families.vae import VAE
from headwater.noise import Noise
from headwater.spaces import Space, Tokens


class Latent(Family):
    """p(x) = ∫ p(x | z) p(z) dz with p(x | z) of a frozen ``autoencoder`` and p(z) of the ``prior``, over the space of the
    autoencoder.

    The prior learns u = (z - mean) / std, z ~ q(z | x) = μ(x) + σ(x)ε: draws of the posterior, not its means, so that where the
    decoder was trained to read noise the prior learns noise (Vahdat et al., 2021, https://arxiv.org/abs/2106.05931). The context is
    the prior's alone; the autoencoder reads ``context.below`` or, where there is none, ``blank(rows)``, the context of rows that
    ask for nothing. It has the players of its prior, and these verbs: ``sample``; ``vary``, the prior's or a turn towards noise;
    ``score`` where the prior has one.

    Over the latent the prior is steered by guidance, temperature and steps; the decoder by temperature, top_p, constraints and
    lengths.
    """

    name = "latent"

    def __init__(self, autoencoder: VAE, prior: Family, blank: Callable[[int], Context]) -> None:
        super().__init__(autoencoder.space)
        if prior.space != autoencoder.latent:
            raise ValueError(f"the prior is over {prior.space}, the autoencoder's latent is {autoencoder.latent}")
        self.autoencoder, self.prior, self.blank = autoencoder, prior, blank
        self.standard = Standard(autoencoder.latent)
        self.players, self.precise, self.uncompiled = prior.players, prior.precise, prior.uncompiled
        self.stepped, self.guided, self.narrowed = prior.stepped, prior.guided, autoencoder.narrowed

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Latent:
        raise TypeError("a latent model is made of two others: Latent(autoencoder, prior, blank)")

    @property
    def verbs(self) -> Mapping[Verb, str]:
        theirs, name = self.prior.verbs, self.prior.name.replace("_", " ")
        way = theirs.get("vary", "towards noise")
        found: dict[Verb, str] = {"sample": f"{name} over the latent", "vary": way if way == "latent" else f"latent, {way}"}
        if "score" in theirs:
            other = "variational bound" if isinstance(self.prior, Diffusion) else "importance-weighted bound"
            found["score"] = "ODE estimate" if isinstance(self.prior, Flow) else other
        return {**found, "optimise": "latent search"}

    def parts(self) -> Mapping[str, nn.Module]:
        """The prior's, under its own names, and ``latents``, their scale."""
        return {**self.prior.parts(), "latents": self.standard}

    def team(self, player: str) -> Sequence[str]:
        return self.prior.team(player)

    # --- training -------------------------------------------------------------------------------------------------

    def told(self, context: Context | None, rows: int) -> Context:
        """What the autoencoder reads."""
        return self.blank(rows) if context is None or context.below is None else context.below

    @torch.no_grad()
    def latents(self, x: Tensor, noise: Noise, context: Context | None = None) -> Tensor:
        """A draw of q(z | x) for each row, standardised."""
        mean, log_std = self.autoencoder.posterior(x, self.told(context, x.shape[0]))
        u: Tensor = self.standard(mean + log_std.exp() * noise.normal(*mean.shape[1:]).to(mean.device))
        return u

    @torch.no_grad()
    def begin(self, x: Tensor, context: Context, noise: Noise) -> None:
        """Take the scale of the latents, then let the prior begin on them."""
        z = self.standard.back(self.latents(x, noise.fold("latent"), context))
        self.standard.fit(z)
        self.prior.begin(self.standard(z), context, noise)

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        return self.prior.loss(player, self.latents(batch, noise.fold("latent"), context), context, noise)

    def monitor(self, x: Tensor, context: Context, noise: Noise) -> Mapping[str, float]:
        return self.prior.monitor(self.latents(x, noise.fold("latent"), context), context, noise)

    # --- verbs ----------------------------------------------------------------------------------------------------

    def _write(self, u: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """Items of standardised latents."""
        return self.autoencoder.decode(*self._below(u, noise, context, steer))

    def _below(self, u: Tensor, noise: Noise, context: Context, steer: Steer) -> tuple[Tensor, Noise, Context, Steer]:
        """What the autoencoder is asked."""
        how = replace(steer, guidance=1.0, steps=None)
        return self.standard.back(u), noise.fold("decode"), self.told(context, u.shape[0]), how

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        return self._write(self.prior.sample(noise.fold("prior"), context, _inner(steer)), noise, context, steer)

    @torch.no_grad()
    def drawn(self, noise: Noise, context: Context, steer: Steer) -> Told:
        u = self.prior.sample(noise.fold("prior"), context, _inner(steer))
        return self.autoencoder.decoder.drawn(*self._below(u, noise, context, steer))

    @torch.no_grad()
    def vary(self, x: Tensor, strength: float, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """The prior's neighbours of the item's latent; of a prior that knows none, √(1 - s²) u + s ε."""
        if strength <= 0:
            return x
        u = self.latents(x, noise.fold("posterior"), context)
        if "vary" in self.prior.verbs:
            u = self.prior.vary(u, strength, noise.fold("prior"), context, _inner(steer))
        else:
            u = turned(u, noise.fold("turn").normal(*u.shape[1:]).to(u.device), strength)
        return self._write(u, noise, context, steer)

    @torch.no_grad()
    def score(self, x: Tensor, noise: Noise, context: Context, draws: int | None = None) -> Likelihood:
        """With w = p(x | z) p(z) / q(z | x) and z ~ q(z | x), log p(x) ≥ E log mean_k w_k over ``draws`` of z (Burda et al., 2016,
        https://arxiv.org/abs/1509.00519). Where the prior's own figure is noisy, it is E log w: in a mean of w the noise would pass
        for likelihood. Over a prior that estimates log p(z) it is an estimate. Unless said, 32 draws; 8 where each is costly."""
        if isinstance(self.space, Tokens):
            x = x[:, : int(self.buckets(x).max())]
        told = self.told(context, x.shape[0])
        mean, log_std = self.autoencoder.posterior(x, told)
        draws, terms = draws or (8 if isinstance(self.prior, Diffusion | Flow) else 32), []
        for k in range(draws):
            keys = noise.fold("draw", k)
            normal = keys.fold("latent").normal(*mean.shape[1:]).to(mean.device)
            z = mean + log_std.exp() * normal
            prior = self._prior_score(self.standard(z), keys.fold("prior"), context)
            log_q = (-0.5 * normal.double().square() - log_std.double() - 0.5 * math.log(2 * math.pi)).sum(1)
            log_p = prior.value.double() - self.standard.std.double().log().sum()
            terms.append(self.autoencoder.decoder.log_prob(x, z, told).double() + log_p - log_q)
        log_w = torch.stack(terms)
        kind: Literal["bound", "estimate"] = "estimate" if prior.kind == "estimate" else "bound"
        if prior.stderr is not None:
            return Likelihood(log_w.mean(0), kind, log_w.std(0) / math.sqrt(draws))
        value = log_w.logsumexp(0) - math.log(draws)
        return Likelihood(value, kind, (log_w - value).exp().std(0) / math.sqrt(draws))

    def _prior_score(self, u: Tensor, noise: Noise, context: Context) -> Likelihood:
        """The prior's figure. Those of several latents are averaged, so that each may be a rough one: of a diffusion fewer levels
        than usual, of a flow in many dimensions fewer steps and probes of its trace."""
        if isinstance(self.prior, Diffusion):
            return self.prior.score(u, noise, context, levels=8)
        if isinstance(self.prior, Flow) and u.shape[1] > 8:
            return self.prior.score(u, noise, context, steps=6, exact=False, probes=2)
        return self.prior.score(u, noise, context)

    def buckets(self, x: Tensor) -> Tensor:
        return self.autoencoder.buckets(x)

    # --- latents --------------------------------------------------------------------------------------------------

    @property
    def latent(self) -> Space:
        """The prior's, where it has one of its own (a flow's normal numbers), else the autoencoder's, standardised."""
        return self.prior.latent or self.autoencoder.latent

    @torch.no_grad()
    def encode(self, x: Tensor, context: Context) -> Tensor:
        """Of the mean of q(z | x)."""
        u: Tensor = self.standard(self.autoencoder.encode(x, self.told(context, x.shape[0])))
        return u if self.prior.latent is None else self.prior.encode(u, context)

    @torch.no_grad()
    def decode(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        u = z if self.prior.latent is None else self.prior.decode(z, noise.fold("prior"), context, _inner(steer))
        return self._write(u, noise, context, steer)


def _inner(steer: Steer) -> Steer:
    """What of it means something over a latent."""
    return replace(steer, top_p=1.0, constraints=None, lengths=None)

"""Generative adversarial networks after Huang et al., 2024, "The GAN is dead; long live the GAN! A modern GAN baseline",
https://arxiv.org/abs/2501.05441 (R3GAN).

A generator makes items from normal latents in one pass, and a critic learns to tell them from data; each is trained in its own turn
of a step. There is no likelihood: what the pair has learnt is watched by how much of held-out data it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headwater.context import Context
from headwater.families.contract import Family, GridNet, Maker, Reader, Steer, Verb, Writer
from headwater.noise import Noise
from headwater.spaces import Grid, Space, Vector

Score = Callable[[Tensor], Tensor]


def critic_loss(critic: Score, real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    """E softplus(C(fake) - C(real)) + γ/2 (E ‖∇C(real)‖² + E ‖∇C(fake)‖²): each real row is to outscore the fake one beside it
    (Jolicoeur-Martineau, 2019, https://arxiv.org/abs/1807.00734), and the two zero-centred penalties R1 and R2 (Mescheder et al.,
    2018, https://arxiv.org/abs/1801.04406) make the game converge. ``critic`` gives (rows, places) scores; it is called once, with
    the real rows and the fake ones behind them."""
    with torch.enable_grad():  # a validation loss is asked for without gradients, but the penalties are made of them
        x = torch.cat([real, fake]).detach().requires_grad_()
        scores = critic(x)
        on_real, on_fake = scores.chunk(2)
        return F.softplus(on_fake - on_real).mean() + gamma * steepness(scores, x).mean()


def generator_loss(critic: Score, real: Tensor, fake: Tensor) -> Tensor:
    """The mirror of it: E softplus(C(real) - C(fake))."""
    with torch.no_grad():
        on_real = critic(real)
    return F.softplus(on_real - critic(fake)).mean()


def steepness(scores: Tensor, x: Tensor) -> Tensor:
    """‖∇ₓ C‖² of each row (rows,). Scores at several places (rows, places) count as items of their own: it is the mean of theirs
    where the places look at different cells."""
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.flatten(1).square().sum(1) / scores[0].numel()


def coverage(real: Tensor, made: Tensor, k: int = 5) -> Tensor:
    """The share of real rows that have a made row no further off than their k-th real neighbour (Naeem et al., 2020, "Reliable
    fidelity and diversity metrics for generative models", https://arxiv.org/abs/2002.09797): about 1 - 2⁻ᵏ where both have one law,
    low where modes are missing. Distances are Euclidean on the flattened rows. What :func:`headwater.evaluate.coverage.coverage`
    says, balls closed, where rows are few and on a device.

    >>> float(coverage(torch.arange(9.0)[:, None], torch.arange(5.0)[:, None], k=1).mul(9).round())
    6.0
    """
    real, made = real.flatten(1), made.flatten(1)
    exact = "donot_use_mm_for_euclid_dist"
    reach = torch.cdist(real, real, compute_mode=exact).kthvalue(k + 1, dim=1).values  # the nearest is the row itself
    return (torch.cdist(real, made, compute_mode=exact).amin(1) <= reach * (1 + 1e-6)).float().mean()  # closed in spite of rounding


class Standard(nn.Module):
    """Mean and standard deviation of each channel of the data."""

    mean: Tensor
    std: Tensor

    def __init__(self, space: Grid | Vector) -> None:
        super().__init__()
        shape = (space.features,) if isinstance(space, Vector) else (space.channels, *[1] * len(space.size))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def fit(self, x: Tensor) -> None:
        axes = [i for i in range(x.ndim) if i != 1]
        self.mean.copy_(x.mean(axes).reshape(self.mean.shape))
        std = x.std(axes, correction=0).reshape(self.std.shape)
        self.std.copy_(torch.where(std > 1e-6, std, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def back(self, x: Tensor) -> Tensor:
        return self.mean + self.std * x


class GAN(Family):
    """Over ``Grid`` and ``Vector``. x = G(z, context) with z (rows, ``latent``) standard normal, trained against a critic C(x,
    context) by R3GAN's objective (:func:`critic_loss`, :func:`generator_loss`), ``gamma`` the weight γ of its penalties: a larger
    one makes a calmer game and a coarser critic, 0.1 for points of the plane and more for items of more numbers. G and C see items
    of zero mean and unit standard deviation in each channel, as found in the data; G's output is not bounded.

    The players move in turn, critic first. The critic's loss gives the generator no gradient; the generator's reaches the critic's
    weights, which are not its to step. What a conditioner embeds is learnt with the critic: the generator reads it as it is, for it
    could otherwise hide from the critic what was asked. Recipes for a GAN want a first momentum of zero (``betas = [0.0, 0.99]``).

    A recipe with ``restores = true`` makes a :class:`Restorer` instead.
    """

    name = "gan"
    players = ("critic", "generator")
    precise = uncompiled = ("critic",)

    def __init__(self, space: Grid | Vector, network: nn.Module, critic: nn.Module, latent: int = 64, gamma: float = 1.0) -> None:
        super().__init__(space)
        if gamma < 0:
            raise ValueError(f"gamma: expected a weight of at least 0; got {gamma}")
        if latent < 1:
            raise ValueError(f"latent: expected at least one number; got {latent}")
        assert isinstance(network, Writer) and isinstance(critic, Reader)
        self.network, self.critic, self.gamma = network, critic, gamma
        self.size = latent
        self.standard = Standard(space)

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Family:
        assert isinstance(space, Grid | Vector)
        own = {"latent": 64} | {k: v for k, v in options.items() if k != "restores"}
        if options.get("restores", False):
            return Restorer.build(space, make, {k: v for k, v in options.items() if k != "restores"})
        default = ("convolutional", {"widths": (32, 64, 96)}) if isinstance(space, Grid) else WIDE
        network = make("writer", latent=own["latent"], channels=channels(space))
        return cls(space, network, make("reader", "critic", default=default, features=1), **own)

    def parts(self) -> Mapping[str, nn.Module]:
        assert isinstance(self.network, nn.Module) and isinstance(self.critic, nn.Module)
        return {"network": self.network, "critic": self.critic, "standard": self.standard}

    def team(self, player: str) -> Sequence[str]:
        return TEAMS[player]

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {"sample": "one pass", "optimise": "latent search"}

    @torch.no_grad()
    def begin(self, x: Tensor, context: Context, noise: Noise) -> None:
        self.standard.fit(x)

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        real, z = self.standard(batch), noise.fold("latent").normal(self.size).to(batch.device)
        if player == "critic":
            with torch.no_grad():
                fake = self.network(z, context)
            both = twice(context)
            return critic_loss(lambda x: self.critic(x, both), real, fake, self.gamma)
        context = detached(context)
        return generator_loss(lambda x: self.critic(x, context), real, self.network(z, context))

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """``steer.temperature`` scales the latents: below 1, likelier items and fewer kinds of them."""
        z = steer.temperature * noise.fold("latent").normal(self.size)
        return self.decode(z.to(self.standard.mean.device), noise, context, steer)

    @property
    def latent(self) -> Space | None:
        return Vector(self.size)

    @torch.no_grad()
    def decode(self, z: Tensor, noise: Noise, context: Context, steer: Steer) -> Tensor:
        made: Tensor = self.standard.back(self.network(z, context).float())
        return made

    @torch.no_grad()
    def monitor(self, x: Tensor, context: Context, noise: Noise) -> Mapping[str, float]:
        """``coverage``: of held-out rows (up to 512, at least 7) by as many samples, each with its row's context."""
        x, context, noise = x[:512], context[:512], noise[:512]
        return {"coverage": float(coverage(x, self.sample(noise, context, Steer())))} if len(x) > 6 else {}


class Restorer(Family):
    """A conditional GAN that undoes a degradation in one pass, over ``Grid`` (of any size the network takes) and ``Vector``.

    The recipe's one given array d has the item's own channels: what Aᵀ makes of a measurement y = A x + noise, which is y itself in
    denoising. The generator adds to it, G(z, d) = d + F(z, d), with a field network F and z (rows, *shape) standard normal. Its
    answer at z = 0 is trained to the posterior mean by squared error, and its answers at random z to posterior draws by R3GAN's
    game against a critic of pairs (x, d):

    L = E ‖G(0, d) - x‖² + ``adversarial`` · E softplus(C(x, d) - C(G(z, d), d)).

    Squared error on the draws themselves would reward a generator that ignores z. With ``adversarial`` = 0 there is no critic and
    no z: the plain regressor. Training never hides d.
    """

    name = "gan"
    needs_given = True

    def __init__(
        self,
        space: Grid | Vector,
        network: nn.Module,
        critic: nn.Module | None,
        gamma: float = 1.0,
        adversarial: float = 0.01,
    ) -> None:
        super().__init__(space)
        for name, weight in (("gamma", gamma), ("adversarial", adversarial)):
            if weight < 0:
                raise ValueError(f"{name}: expected a weight of at least 0; got {weight}")
        assert isinstance(network, GridNet)
        self.network, self.critic, self.gamma, self.adversarial = network, critic, gamma, adversarial
        self.players = ("generator",) if critic is None else ("critic", "generator")
        self.precise = self.uncompiled = self.players[:-1]
        self.channels = channels(space)

    @classmethod
    def build(cls, space: Space, make: Maker, options: Mapping[str, Any]) -> Restorer:
        assert isinstance(space, Grid | Vector)
        if make.cells != channels(space) + 1:  # its values and whether it is there
            raise ValueError("restores: expected one given array on the item's own cells and channels, the degraded item")
        default = ("patch", {"widths": (32, 64, 96)}) if isinstance(space, Grid) else WIDE
        plays = options.get("adversarial", 1) != 0
        critic = make("reader", "critic", default=default, features=1) if plays else None
        return cls(space, make("field"), critic, **options)

    def parts(self) -> Mapping[str, nn.Module]:
        assert isinstance(self.network, nn.Module)
        return {"network": self.network} | ({} if self.critic is None else {"critic": self.critic})

    def team(self, player: str) -> Sequence[str]:
        return TEAMS[player]

    @property
    def verbs(self) -> Mapping[Verb, str]:
        return {"restore": "one pass, the mean alone" if self.critic is None else "one pass, draws by one each"}

    def answer(self, z: Tensor, context: Context) -> Tensor:
        """G(z, d) for z (rows, *shape, any grid size) and d in ``context.cells``: at z = 0 the posterior mean, else a draw."""
        assert context.cells is not None
        level = torch.zeros(z.shape[0], dtype=z.dtype, device=z.device)
        moved: Tensor = self.network(torch.zeros_like(z) if self.critic is None else z, level, context).float()
        return context.cells[:, : self.channels] + moved

    def loss(self, player: str, batch: Tensor, context: Context, noise: Noise) -> Tensor:
        z = noise.fold("latent").normal(*self.space.shape).to(batch)
        if player == "critic":
            with torch.no_grad():
                fake = self.answer(z, context)
            both = twice(context)
            return critic_loss(lambda x: self._score(x, both), batch, fake, self.gamma)
        context = context if self.critic is None else detached(context)
        error = (self.answer(torch.zeros_like(batch), context) - batch).square().mean()
        if self.critic is None:
            return error
        return error + self.adversarial * generator_loss(lambda x: self._score(x, context), batch, self.answer(z, context))

    def _score(self, x: Tensor, context: Context) -> Tensor:
        assert self.critic is not None
        scores: Tensor = self.critic(x, context)
        return scores.float()

    @torch.no_grad()
    def sample(self, noise: Noise, context: Context, steer: Steer) -> Tensor:
        """A draw of each row's restoration. No verb of its own: without a given array it would be an item out of nothing, which
        nobody trained."""
        assert context.cells is not None
        z = steer.temperature * noise.fold("latent").normal(*self.space.shape)
        return self.answer(z.to(context.cells.device), context)

    @torch.no_grad()
    def monitor(self, x: Tensor, context: Context, noise: Noise) -> Mapping[str, float]:
        """``error``, the root mean square error of the mean of held-out rows; and with a critic that of a draw, √2 times as large
        where draws follow the posterior."""

        def error(z: Tensor) -> float:
            return float((self.answer(z, context) - x).square().mean().sqrt())

        found = {"error": error(torch.zeros_like(x))}
        return found if self.critic is None else found | {"error of a draw": error(noise.fold("latent").normal(*x.shape[1:]).to(x))}


#: A critic of vectors, unless the recipe names one.
WIDE: tuple[str, Mapping[str, Any]] = ("mlp", {"width": 256, "layers": 3})
#: Which parts each player trains.
TEAMS: Mapping[str, Sequence[str]] = {"critic": ("critic",), "generator": ("network",)}


def channels(space: Grid | Vector) -> int:
    return space.channels if isinstance(space, Grid) else space.features


def each(context: Context, change: Callable[[Tensor], Tensor]) -> Context:
    """The context with each of its tensors changed; without its null, which no loss reads."""

    def changed(t: Tensor | None) -> Tensor | None:
        return None if t is None else change(t)

    return Context(changed(context.pooled), changed(context.cells), changed(context.sequence), changed(context.mask))


def twice(context: Context) -> Context:
    """The context of the rows, and of the rows again."""
    return each(context, lambda t: torch.cat([t, t]))


def detached(context: Context) -> Context:
    """The context as it is, with no way back to what embedded it."""
    return each(context, Tensor.detach)

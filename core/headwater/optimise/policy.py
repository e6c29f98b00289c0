"""Policy gradient: the model itself is the policy, and a copy of it learns to make better items."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwater.domain import Array
from headwater.noise import Noise
from headwater.optimise.search import Search

if TYPE_CHECKING:
    from headwater.generator import Generator


class PolicyGradient(Search):
    """Pulls a copy π of the model p towards p*(x) ∝ p(x) exp(``sigma`` u(x)), the law that balances a high score against leaving
    the model: the augmented likelihood of Olivecrona et al., 2017 (REINVENT, https://arxiv.org/abs/1704.07555),

    δ(x) = log p(x) + sigma u(x) − log π(x),  loss = mean (δ − mean δ)²,

    centred over the rows, which takes the unknown constant of p* out and makes the gradient on π's own samples that of E u less
    KL(π ‖ p) / sigma with a baseline (Richter et al., 2020, https://arxiv.org/abs/2010.10436). ``replay`` rows of the ``memory``
    best ones so far, drawn in proportion to u, are learnt from again in every turn (experience replay).

    Under a constraint of the codec the rows are drawn from π restricted step by step to what it allows, while δ holds log π and
    log p without it: the rows are still pulled towards p*'s order of preference among accepted items, but the gradient is no longer
    exactly that of the balance above.

    u is the score on a scale from 0, the 5th percentile of all scores so far (and a row without a score), to 1, the best. Adam at
    ``rate``, ``steps`` steps a turn.
    """

    name = "policy gradient"

    def __init__(
        self,
        generator: Generator,
        wish: Any,
        noise: Noise,
        *,
        rows: int = 64,
        sigma: float = 60.0,
        rate: float = 5e-4,
        steps: int = 1,
        replay: int = 24,
        memory: int = 100,
    ) -> None:
        from headwater.generator import Generator

        super().__init__(generator, wish, noise, rows)
        if sigma <= 0 or rate <= 0 or steps < 1 or replay < 0 or memory < 1:
            raise ValueError("sigma and rate are above 0, steps and memory at least 1, replay at least 0")
        self.sigma, self.replay, self.memory, self.steps = sigma, replay, memory, steps
        self.policy = Generator(generator.domain, copy.deepcopy(generator.model), generator.recipe, generator.name)
        for part in self.policy.model.modules():  # a likelihood without dropout is a number, not a draw
            if isinstance(part, nn.Dropout):
                part.p = 0.0
            elif isinstance(part, nn.RNNBase):
                part.dropout = 0.0
        self.policy.model.train()  # cuDNN's recurrences have no backward pass in evaluation
        self.weights = list(self.policy.model.family_parts.parameters())
        self.optimiser = torch.optim.Adam(self.weights, lr=rate)
        self.scores = torch.zeros(0, dtype=torch.float64)
        self.kept = torch.zeros(0, *generator.model.space.shape, dtype=torch.int64)
        self.kept_scores = torch.zeros(0, dtype=torch.float64)
        self.turn = torch.zeros((), dtype=torch.int64)

    def propose(self, turn: int) -> Array:
        return self.sampled(self.noise.fold("sample", turn), self.policy)

    def learn(self, x: Array, scores: Array) -> None:
        rows, values = torch.from_numpy(x), torch.from_numpy(scores)
        self.scores = torch.cat([self.scores, values[values.isfinite()]])
        for step in range(self.steps if len(self.scores) else 0):
            again = self._again(self.noise.fold("replay", int(self.turn), step))
            batch, utility = torch.cat([rows, self.kept[again]]), self._utility(torch.cat([values, self.kept_scores[again]]))
            self.optimiser.zero_grad()
            with torch.no_grad():
                target = self._log_prob(self.generator, batch) + self.sigma * utility.to(self.generator.device)
            delta = target - self._log_prob(self.policy, batch)
            (delta - delta.mean()).square().mean().backward()
            self.optimiser.step()
        self._remember(rows, values)
        self.turn = self.turn + 1

    def _log_prob(self, generator: Generator, x: Tensor) -> Tensor:
        family: Any = generator.model.family
        with torch.no_grad():
            context = generator.model.conditioner(generator.model.conditions([self.wish] * len(x)))
        longest = min(x.shape[1], int(family.buckets(x).max()))
        found: Tensor = family.log_prob(x[:, :longest].to(generator.device), context)
        return found

    def _utility(self, scores: Tensor) -> Tensor:
        low, high = self.scores.quantile(0.05), self.scores.max()
        return ((scores - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).float()

    def _again(self, noise: Noise) -> Tensor:
        """Places in the memory, drawn in proportion to their utility."""
        if not len(self.kept) or not self.replay:
            return torch.zeros(0, dtype=torch.int64)
        mass = (self._utility(self.kept_scores) + 1e-6).cumsum(0)
        return torch.searchsorted(mass, noise.uniform(self.replay)[0] * mass[-1]).clamp(max=len(mass) - 1)

    def _remember(self, rows: Tensor, scores: Tensor) -> None:
        """The ``memory`` best different rows, the older first among equals."""
        good = scores.isfinite()
        rows, scores = torch.cat([self.kept, rows[good]]), torch.cat([self.kept_scores, scores[good]])
        first: dict[bytes, int] = {}
        for place, row in enumerate(rows.numpy()):
            first.setdefault(row.tobytes(), place)
        order = sorted(first.values(), key=lambda place: -float(scores[place]))[: self.memory]
        index = torch.tensor(order, dtype=torch.int64)
        self.kept, self.kept_scores = rows[index], scores[index]

    def tensors(self) -> Mapping[str, Tensor]:
        out = {"scores": self.scores, "kept": self.kept, "kept_scores": self.kept_scores, "turn": self.turn}
        for i, weight in enumerate(self.weights):
            out[f"weight/{i}"] = weight.detach()
            out |= {f"{name}/{i}": value for name, value in self.optimiser.state.get(weight, {}).items()}
        return out

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.scores, self.kept, self.kept_scores, self.turn = (tensors[k] for k in ("scores", "kept", "kept_scores", "turn"))
        for i, weight in enumerate(self.weights):
            with torch.no_grad():
                weight.copy_(tensors[f"weight/{i}"])
            state = {k.partition("/")[0]: v for k, v in tensors.items() if k.endswith(f"/{i}") and not k.startswith("weight")}
            if state:
                self.optimiser.state[weight] = {k: v.clone() if k == "step" else v.to(weight.device) for k, v in state.items()}

"""Joint draws of an item's hidden cells under a finite automaton: messages backward, draws forward.

For factors p_i(v) on the cells i of an item in order, the law drawn from is Π_i p_i(x_i) restricted to the accepted items and
renormalised. With b_i(q) the mass of accepted endings from state q before cell i,

    b_i(q) = Σ_v p_i(v) b_{i+1}(q·v),    x_i ~ p_i(v) b_{i+1}(q_i·v) / b_i(q_i),    q_{i+1} = q_i·x_i

which is forward filtering, backward sampling (Carter and Kohn, 1994, https://doi.org/10.1093/biomet/81.3.541) with time reversed.

The sum runs over kinds of tokens, those that lead to the same state from every state: a vocabulary of thousands of words in which a
handful count costs what the handful does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headwater.constraints import FiniteConstraint
from headwater.families.autoregressive import draw


class Completions:
    """The accepted items of each row's constraint, all of one ``extent``, over cells (rows, positions, streams) of which a row's
    first ``length`` count."""

    def __init__(self, rules: Sequence[FiniteConstraint], device: torch.device) -> None:
        own = list({id(rule): rule for rule in rules}.values())
        places = {id(rule): i for i, rule in enumerate(own)}
        self.which = torch.tensor([places[id(rule)] for rule in rules], device=device)
        # The last state is where forbidden tokens lead, for ever.
        states = own[0].extent[0]
        #: The first row of each rule.
        self.one = torch.tensor([next(i for i, rule in enumerate(rules) if rule is mine) for mine in own], device=device)
        #: For each stream and row, the state after a kind of token (states + 1, kinds), and each token's kind (vocab,).
        self.moves, self.kinds = list[Tensor](), list[Tensor]()
        for s in range(len(own[0].item)):
            moves, kinds = (torch.stack([torch.from_numpy(rule.kinds[s][i]) for rule in own]).to(device) for i in range(2))
            sink = torch.full((len(own), 1, moves.shape[2]), states, device=device)
            self.moves.append(torch.cat([torch.where(moves < 0, states, moves), sink], dim=1)[self.which])
            self.kinds.append(kinds[self.which])
        final = torch.zeros(len(own), states + 1, dtype=torch.bool)
        for i, rule in enumerate(own):
            final[i, : len(rule.final)] = torch.from_numpy(rule.final)
        self.final = final.to(device)[self.which]
        self.first = torch.tensor([rule.first for rule in rules], device=device)

    def lengths(self, possible: Tensor | None, positions: int) -> Tensor:
        """Which lengths an accepted item may have whose cells are all ``possible`` (rows, positions, streams, vocab), bool, or are
        anything: (rows, positions + 1)."""
        some_rows = self.one if possible is None else slice(None)  # what may be anything is told once for each rule
        final, moves = self.final[some_rows], [m[some_rows] for m in self.moves]
        here = torch.zeros(final.shape, device=final.device).scatter_(1, self.first[some_rows][:, None], 1.0)
        some = (
            [] if possible is None else [self._masses(possible[:, :, s].float().log(), s) > -torch.inf for s in range(len(moves))]
        )
        out = [(here.bool() & final).any(dim=1)]
        for t in range(positions):
            for s, move in enumerate(moves):
                open_ = here[:, :, None].expand(move.shape) if possible is None else here[:, :, None] * some[s][:, t, None]
                here = torch.zeros_like(here).scatter_add_(1, move.flatten(1), open_.flatten(1)).clamp(max=1)
            here[:, -1] = 0
            out.append((here.bool() & final).any(dim=1))
        found = torch.stack(out, dim=1)
        return found[self.which] if possible is None else found

    def draw(self, log_probs: Tensor, lengths: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
        """Tokens (rows, positions, streams) from factors (rows, positions, streams, vocab) and one uniform a cell."""
        rows, positions, streams, _ = log_probs.shape
        moves, kinds = self.moves, self.kinds
        factors = [self._masses(log_probs[:, :, s], s) for s in range(streams)]
        cells = [(t, s, t < lengths) for t in range(positions) for s in range(streams)]
        masses = [torch.where(self.final, 0.0, -torch.inf)]
        for t, s, inside in reversed(cells):
            after = masses[-1].gather(1, moves[s].flatten(1)).reshape(moves[s].shape)
            before = (factors[s][:, t, None] + after).logsumexp(dim=-1)
            masses.append(torch.where(inside[:, None], before, masses[-1]))
        masses.reverse()
        state, tokens, each = self.first, [], torch.arange(rows, device=log_probs.device)
        for (t, s, inside), after in zip(cells, masses[1:], strict=True):
            ways = moves[s][each, state]
            weight = after.gather(1, ways).gather(1, kinds[s])
            token = draw(log_probs[:, t, s, : weight.shape[1]] + weight, uniforms[:, t, s], top_p, None)
            tokens.append(torch.where(inside, token, 0))
            state = torch.where(inside, ways.gather(1, kinds[s].gather(1, token[:, None]))[:, 0], state)
        return torch.stack(tokens, dim=1).reshape(rows, positions, streams)

    def _masses(self, log_probs: Tensor, stream: int) -> Tensor:
        """The log-mass of each kind: (rows, positions, vocab) to (rows, positions, kinds)."""
        kinds = self.kinds[stream][:, None].expand(-1, log_probs.shape[1], -1)
        log_probs = log_probs[..., : kinds.shape[2]]
        blank = log_probs.new_full((*log_probs.shape[:2], self.moves[stream].shape[2]), -torch.inf)
        most = blank.scatter_reduce(2, kinds, log_probs, "amax")
        level = torch.where(most.isinf(), 0.0, most)
        sums = torch.zeros_like(blank).scatter_add_(2, kinds, (log_probs - level.gather(2, kinds)).exp())
        return level + sums.log()

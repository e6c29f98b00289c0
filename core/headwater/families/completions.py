"""Joint draws of an item's hidden cells under a finite automaton: messages backward, draws forward.

For factors p_i(v) on the cells i of an item in order, the law drawn from is Π_i p_i(x_i) restricted to the accepted items and
renormalised. With b_i(q) the mass of accepted endings from state q before cell i,

    b_i(q) = Σ_v p_i(v) b_{i+1}(q·v),    x_i ~ p_i(v) b_{i+1}(q_i·v) / b_i(q_i),    q_{i+1} = q_i·x_i

which is forward filtering, backward sampling (Carter and Kohn, 1994, https://doi.org/10.1093/biomet/81.3.541) with time reversed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from headwater.constraints import FiniteConstraint
from headwater.families.autoregressive import draw


class Completions:
    """The accepted items of one constraint, over cells (rows, positions, streams) of which a row's first ``length`` count."""

    def __init__(self, rule: FiniteConstraint, device: torch.device) -> None:
        states, width = len(rule.item[0]), max(rule.vocabs)
        tables = np.full((len(rule.item), states + 1, width), states)  # the last state is where forbidden tokens lead, for ever
        for s, table in enumerate(rule.item):
            tables[s, :states, : table.shape[1]] = np.where(table < 0, states, table)
        self.tables = torch.from_numpy(tables).to(device)
        final = np.zeros(states + 1, dtype=bool)
        final[: len(rule.final)] = rule.final
        self.final, self.first = torch.from_numpy(final).to(device), rule.first

    def lengths(self, possible: Tensor) -> Tensor:
        """Which lengths an accepted item may have whose cells are all ``possible`` (rows, positions, streams, vocab), bool: (rows,
        positions + 1)."""
        rows, positions, streams, _ = possible.shape
        here = torch.zeros(rows, len(self.final), dtype=torch.bool, device=possible.device)
        here[:, self.first] = True
        out = [(here & self.final).any(dim=1)]
        for t in range(positions):
            for s in range(streams):
                moves = (here[:, :, None] & possible[:, t, s, None]).flatten(1)
                here = torch.zeros_like(here, dtype=torch.float32).index_add_(1, self.tables[s].flatten(), moves.float()) > 0
            here[:, -1] = False
            out.append((here & self.final).any(dim=1))
        return torch.stack(out, dim=1)

    def draw(self, log_probs: Tensor, lengths: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
        """Tokens (rows, positions, streams) from factors (rows, positions, streams, vocab) and one uniform a cell."""
        rows, positions, streams, _ = log_probs.shape
        cells = [(t, s, t < lengths) for t in range(positions) for s in range(streams)]
        masses = [torch.where(self.final, 0.0, -torch.inf).expand(rows, -1)]
        for t, s, inside in reversed(cells):
            before = (log_probs[:, t, s, None] + masses[-1][:, self.tables[s]]).logsumexp(dim=-1)
            masses.append(torch.where(inside[:, None], before, masses[-1]))
        masses.reverse()
        state, tokens = torch.full((rows,), self.first, device=log_probs.device), []
        for (t, s, inside), after in zip(cells, masses[1:], strict=True):
            ways = self.tables[s][state]
            token = draw(log_probs[:, t, s] + after.gather(1, ways), uniforms[:, t, s], top_p, None)
            tokens.append(torch.where(inside, token, 0))
            state = torch.where(inside, ways.gather(1, token[:, None])[:, 0], state)
        return torch.stack(tokens, dim=1).reshape(rows, positions, streams)

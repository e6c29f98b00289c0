"""Likelihoods are normalised and causal with the clocked networks and the ordinal head, and drawing follows the scored law."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from headwater.context import Context
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Steer
from headwater.families.masked_diffusion import MaskedDiffusion
from headwater.noise import Noise
from headwater.spaces import Tokens
from headwater_music.networks import Clocked, ClockedBoth, Whole, evidence


def shaken(model: Any) -> Any:
    """Weights that leave nothing at zero."""
    torch.manual_seed(0)
    for part in model.parts().values():
        for weight in part.parameters():
            nn.init.normal_(weight, std=0.4)
        part.eval()
    return model


def autoregressive(space: Tokens) -> Autoregressive:
    return shaken(Autoregressive(space, Clocked(space, width=16, layers=2, periods=(3, 2), recall=2), ordinal=True))


@pytest.mark.parametrize(("recall", "along"), [(0, 0), (2, 0), (0, 9)])
def test_steps_and_all_at_once_agree(recall: int, along: int) -> None:
    torch.manual_seed(0)
    space = Tokens(vocab=3, length=12)
    network = Clocked(space, width=16, layers=2, periods=(3, 2), recall=recall, along=along, pooled=4).eval()
    if network.recall:
        nn.init.normal_(network.recall.out.weight)
        nn.init.normal_(network.recall.nothing)
    inputs, context = torch.randn(2, 12, 16), Context(pooled=torch.randn(2, 4))
    whole, state, stepped = network(inputs, context), network.start(2, inputs, 12), []
    for t in range(12):
        out, state = network.step(inputs[:, t], state, context)
        stepped.append(out)
    assert torch.allclose(whole, torch.stack(stepped, dim=1), atol=1e-5)
    moved = inputs.clone()
    moved[:, 7] += 1
    same = (network(moved, context) == whole).all(dim=-1)
    assert same[:, :7].all() and not same[:, 7:].any()


def twice(noise: torch.Generator) -> torch.Tensor:
    """Twelve of sixteen tokens at random, then once more."""
    half = torch.randint(1, 17, (64, 12, 1), generator=noise)
    return torch.cat([half, half], dim=1)


def taught(model: Any, batch: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Sixty steps of training; the last batch."""
    optimiser = torch.optim.Adam(nn.ModuleDict(dict(model.parts())).parameters(), 5e-3)
    for step in range(60):
        optimiser.zero_grad()
        x = batch()
        model.loss("model", x, Context(), Noise(0).fold(step).rows(range(64))).backward()
        optimiser.step()
    return x


def test_what_comes_again_is_recalled() -> None:
    """Twelve tokens at random, then once more: what no state of so few units holds is read off."""
    space, found = Tokens(vocab=17, length=25), {}
    noise = torch.Generator().manual_seed(0)
    for recall in (0, 2):
        torch.manual_seed(0)
        model = Autoregressive(space, Clocked(space, width=32, layers=2, periods=(12,), dropout=0.0, recall=recall))
        x = taught(model, lambda: F.pad(twice(noise), (0, 0, 0, 1)))
        found[recall] = model._log_probs(x, Context(), None)[0][:, 14:24].mean().item()
    assert found[2] > -0.5 > found[0], found


def test_probabilities_sum_to_one() -> None:
    space = Tokens(vocab=3, length=2, streams=2)
    positions = [p for p in itertools.product(range(3), repeat=2) if any(p)]
    items = [[(0, 0), (0, 0)], *([p, (0, 0)] for p in positions), *([p, q] for p in positions for q in positions)]
    log_prob = autoregressive(space).log_prob(torch.tensor(items), Context())
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_the_future_does_not_move_the_past() -> None:
    space = Tokens(vocab=7, length=12, streams=3)
    model, x = autoregressive(space), torch.randint(1, 7, (2, 12, 3), generator=torch.Generator().manual_seed(1))
    before = model._log_probs(x, Context(), None)[0]
    for t, s in ((5, 0), (5, 1), (11, 2)):
        y = x.clone()
        y[:, t, s] = 7 - y[:, t, s]
        after = model._log_probs(y, Context(), None)[0]
        order = torch.arange(36).reshape(12, 3)
        assert torch.equal(before[:, order < order[t, s]], after[:, order < order[t, s]])
        assert not torch.equal(before[:, t, s], after[:, t, s])


def test_steps_and_the_whole_agree() -> None:
    """What is drawn cell by cell, with the network's state handed on, has the law that scoring sees."""
    space = Tokens(vocab=5, length=9, streams=2)
    model = autoregressive(space)
    made = model.sample(Noise(0).rows(range(400)), Context(), Steer())
    log_prob = model.log_prob(made, Context())
    # E[-log p] over draws of p is its entropy, and the score function has mean zero: compare greedy steps exactly instead
    likeliest = model.sample(Noise(1).rows(range(3)), Context(), Steer(temperature=1e-6))[:1]
    logits = model._log_probs(likeliest, Context(), None)[0]
    for t, s in itertools.product(range(9), range(2)):
        others = [likeliest.clone() for _ in range(5)]
        for v, other in enumerate(others):
            other[0, t, s] = v
        if not any((o[0, t] == 0).all() for o in others):
            found = torch.stack([model._log_probs(o, Context(), None)[0][0, t, s] for o in others])
            assert found.argmax().item() == likeliest[0, t, s].item(), (t, s)
        if not likeliest[0, t].any():
            break
    assert torch.isfinite(log_prob).all() and torch.isfinite(logits).all()


def test_a_step_is_known_wherever_it_begins() -> None:
    """Shift all tokens of an ordinal head's references and outputs: only the absolute part of its word moves."""
    from headwater.families.heads import OrdinalHead

    head = OrdinalHead(8, (9, 9)).eval()
    nn.init.normal_(head.steps[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(head.outputs[1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(head.outputs[1].bias)  # type: ignore[arg-type]
    nn.init.zeros_(head.earlier[1][0].weight)  # type: ignore[arg-type,index]
    hidden = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(head.moves[1][0].weight)  # type: ignore[arg-type,index]
    nn.init.normal_(head.gaps[1][0].weight)  # type: ignore[arg-type,index]
    low, high = (head.logits(hidden, 1, torch.tensor([[a, 0]]), torch.tensor([[a - 2, a]])) for a in (3, 4))
    assert torch.allclose(low[:, :-1], high[:, 1:])
    assert not torch.allclose(low, high)
    other = head.logits(hidden, 1, torch.tensor([[3, 0]]), torch.tensor([[2, 3]]))  # the other stream came from elsewhere
    assert not torch.allclose(low, other)


@pytest.mark.parametrize("recall", [0, 4])
def test_what_stands_behind_the_end_changes_nothing(recall: int) -> None:
    space = Tokens(vocab=6, length=10, streams=2)
    model = shaken(MaskedDiffusion(space, ClockedBoth(space, width=16, layers=2, periods=(3, 2), recall=recall)))
    x = torch.randint(1, 6, (2, 10, 2), generator=torch.Generator().manual_seed(1))
    shown, lengths = torch.ones_like(x, dtype=torch.bool), torch.tensor([6, 6])
    y = x.clone()
    y[:, 6:] = 6 - y[:, 6:]
    at_six, far = (model.logits(v, shown[:, : v.shape[1]], lengths, Context())[:, :6] for v in (x[:, :6], y))
    assert torch.allclose(at_six, far, atol=1e-6)
    z = x.clone()
    z[:, 5] = 6 - z[:, 5]  # the last one inside reaches the first
    assert not torch.allclose(model.logits(z, shown, lengths, Context())[:, 0], far[:, 0])
    empty = model.logits(x, shown, torch.tensor([0, 6]), Context())
    assert bool(empty.isfinite().all()) and torch.allclose(empty[1, :6], far[1], atol=1e-6)


def test_evidence_is_what_counting_finds() -> None:
    def counted(cells: torch.Tensor, t: int, s: int) -> int:
        found = 0
        for way in (1, -1):
            d = 0 if way > 0 else way
            while min(t, s) + d >= 0 and max(t, s) + d < len(cells):
                known = (cells[t + d] >= 0) & (cells[s + d] >= 0)
                if bool((known & (cells[t + d] != cells[s + d])).any()):
                    if d == 0:
                        return 0
                    break
                found, d = found + int(known.sum()), d + way
        return found

    torch.manual_seed(0)
    for streams, vocab, length in ((1, 3, 9), (2, 2, 7), (3, 2, 6), (1, 2, 1)):
        cells = torch.randint(-1, vocab, (3, length, streams))
        expected = [[[counted(row, t, s) for s in range(length)] for t in range(length)] for row in cells]
        assert evidence(cells).tolist() == expected


def test_a_passage_that_comes_twice_is_filled_in_from_the_other() -> None:
    """Of twelve tokens at random, then once more, any one that is hidden in one of the passages is read off the other."""
    space, found = Tokens(vocab=17, length=24), {}
    noise = torch.Generator().manual_seed(0)
    for recall in (0, 2):
        torch.manual_seed(0)
        model = MaskedDiffusion(space, ClockedBoth(space, width=32, layers=2, periods=(16,), dropout=0.0, recall=recall))
        x = taught(model, lambda: twice(noise))
        shown = torch.ones_like(x, dtype=torch.bool)
        shown[:, 5] = False
        with torch.no_grad():
            logits = model.logits(x, shown, torch.full((64,), 24), Context())
        found[recall] = logits[:, 5].log_softmax(-1).gather(-1, x[:, 5, :, None]).mean().item()
    assert found[2] > -1 > -2.5 > found[0], found


def test_the_reader_of_short_items_tells_places_apart_and_not_what_is_behind() -> None:
    torch.manual_seed(0)
    reader = Whole(Tokens(vocab=5, length=6, streams=2), features=3, width=16, narrow=4).eval()
    x = torch.randint(1, 5, (2, 6, 2))
    x[:, 4:] = 0
    assert torch.equal(reader(x, Context()), reader(x[:, :5], Context()))
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(reader(x, Context()), reader(swapped, Context()))


def test_a_laid_out_latent_is_read_at_its_place() -> None:
    torch.manual_seed(0)
    network = Clocked(Tokens(vocab=3, length=12), width=16, along=9, pooled=4).eval()
    inputs, context = torch.randn(2, 12, 16), Context(pooled=torch.randn(2, 4))
    whole = network(inputs, context)
    assert network.laid is not None
    with torch.no_grad():
        network.laid.weight[5 * network.LAID_OUT :] += 1
    moved = (network(inputs, context) != whole).any(dim=-1)
    assert not moved[:, :5].any() and moved[:, 5:].all()
    with pytest.raises(ValueError, match="no pooled context to lay out"):
        Clocked(Tokens(vocab=3, length=12), width=16, along=9)

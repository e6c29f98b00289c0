"""Masked diffusion and finite constraints, against distributions that can be listed whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor

from headwater.constraints import Constraint, FiniteConstraint, broken, laid_out
from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.families.autoregressive import Autoregressive
from headwater.families.completions import Completions
from headwater.families.contract import Family, Kept, Steer
from headwater.families.masked_diffusion import MaskedDiffusion, groups, item_lengths
from headwater.networks.recurrent import Recurrent
from headwater.networks.transformer import Bidirectional
from headwater.noise import Noise
from headwater.spaces import Tokens
from headwater.testing.truth import Enumerated, HiddenMarkov, ising

NOTHING = Context()


class Exact(MaskedDiffusion):
    """Every conditional is the truth's own, by enumeration; every item is full."""

    def __init__(self, truth: Enumerated, **options: Any) -> None:
        super().__init__(truth.space, Bidirectional(4, 1, 1), **options)
        self.items = truth.strings + 1
        self.p = truth.log_prob(self.items[..., None]).exp().float()
        self.onehot = torch.nn.functional.one_hot(self.items, truth.symbols + 1).float()
        with torch.no_grad():
            self.lengths.free[:-1] = -1e9

    def logits(self, x: Tensor, shown: Tensor, lengths: Tensor, context: Context) -> Tensor:
        agree = torch.ones(len(x), len(self.p), dtype=torch.bool)
        for i in range(x.shape[1]):
            agree &= (self.items[:, i] == x[:, i]) | ~shown[:, i]
        found = torch.einsum("rm,mnv->rnv", agree * self.p, self.onehot)
        return found.clamp(min=1e-30).log()[:, :, None]


def independent(law: Tensor, length: int) -> Enumerated:
    return Enumerated(len(law), length, lambda strings: law.double().log()[strings].sum(dim=1))


def random_family(space: Tokens, **options: Any) -> MaskedDiffusion:
    """Random weights, large enough for a lopsided distribution."""
    made = MaskedDiffusion(space, Bidirectional(16, 2, 2), **options)
    with torch.no_grad():
        for i, (_, part) in enumerate(sorted(made.parts().items())):
            for j, parameter in enumerate(part.parameters()):
                scale = 0.5 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
                parameter.copy_(scale * Noise(9).fold(i, j).normal(*parameter.shape)[0])
            part.eval()
    return made


def every_item(space: Tokens) -> Tensor:
    """All items, (items, length, streams): no position before the end is all zero."""
    positions = list(itertools.product(*[range(v) for v in space.vocabs]))[1:]
    rest = (0,) * space.streams
    found = [
        [*item, *[rest] * (space.length - n)] for n in range(space.length + 1) for item in itertools.product(positions, repeat=n)
    ]
    return torch.tensor(found)


def chi_squared(drawn: Tensor, items: Tensor, law: Tensor) -> None:
    """Pearson's test at about five standard deviations; items expected fewer than five times share a cell."""
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-4)
    place = {item.numpy().tobytes(): i for i, item in enumerate(items)}
    counts = torch.bincount(torch.tensor([place[x.numpy().tobytes()] for x in drawn]), minlength=len(items)).double()
    expected = law.double() * len(drawn)
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    wanted = torch.cat([expected[common], expected[~common].sum()[None]])
    assert float(observed[wanted <= 1].sum()) <= 10
    gaps = ((observed - wanted) ** 2 / wanted)[wanted > 1]
    freedom = max(len(gaps) - 1, 1)
    assert float(gaps.sum()) < freedom + 5 * math.sqrt(2 * freedom) + 5, (float(gaps.sum()), freedom)


def restricted(truth: Enumerated, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Items of the truth and its law given those where ``keep``."""
    items = truth.strings[..., None] + 1
    law = truth.log_prob(items).exp() * keep
    return items, law / law.sum()


# --- likelihood ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [ising(side=3), HiddenMarkov(length=4)], ids=["Ising 3x3", "hidden Markov"])
@torch.no_grad()
def test_with_exact_conditionals_the_bound_is_the_log_probability(truth: Enumerated) -> None:
    items = truth.strings[..., None] + 1
    exact, n = truth.log_prob(items), len(items)
    orders = Exact(truth, draws=2 * truth.length).score(items, Noise(0).rows(range(n)), NOTHING)
    assert orders.kind == "bound" and orders.stderr is not None
    assert torch.allclose(orders.value.double(), exact, atol=1e-4) and float(orders.stderr.max()) < 1e-4
    # by maskings it is so in the mean, which is the entropy, and the standard error says how far off one is
    many = items.repeat(6000 // n, 1, 1)
    masks = Exact(truth, draws=2 * truth.length - 1).score(many, Noise(1).rows(range(len(many))), NOTHING)
    assert masks.stderr is not None
    gap = (masks.value - exact.repeat(len(many) // n)) * exact.exp().repeat(len(many) // n) * n
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / len(many) ** 0.5 < 0.15
    off = (masks.value.double() - exact.repeat(len(many) // n)).square().mean().sqrt()
    assert 0.6 < float(off / masks.stderr.double().square().mean().sqrt()) < 1.05
    assert float(-(exact.exp() * orders.value.double()).sum()) == pytest.approx(truth.entropy(), abs=1e-4)


SPACES = {"one stream": Tokens(3, 4), "two streams": Tokens((3, 2), 2, streams=2), "three": Tokens((2, 2, 3), 2, streams=3)}


@pytest.mark.parametrize("space", SPACES)
@torch.no_grad()
def test_the_likelihood_along_any_order_sums_to_one(space: str) -> None:
    made, items = random_family(SPACES[space]), every_item(SPACES[space])
    found = []
    for order in range(3):
        log = made.along(items, Noise(order).rows([0] * len(items)), NOTHING)
        assert float(log.double().exp().sum()) == pytest.approx(1.0, abs=1e-5)
        found.append(log)
    assert not torch.allclose(found[0], found[1], atol=1e-2)  # random weights make no one distribution


@torch.no_grad()
def test_both_estimates_of_the_bound_agree() -> None:
    space = Tokens((3, 2), 3, streams=2)
    made, items = random_family(space), every_item(space)[-20:].repeat(250, 1, 1)
    lengths, keys = item_lengths(items), Noise(0).rows(range(len(items)))
    orders = made.along(items, keys, NOTHING).reshape(250, 20)
    masked = made._bound(items, lengths, keys.uniform(1)[:, 0], NOTHING, keys.fold("x")) + made._length_log_prob(lengths, NOTHING)
    masked = masked.reshape(250, 20)
    z = (orders.mean(0) - masked.mean(0)) / ((orders.var(0) + masked.var(0)) / 250).sqrt()
    assert float(z.abs().max()) < 4.5 and 0.5 < float(z.std()) < 1.6
    assert float(orders.mean(0).std()) > 0.5


@torch.no_grad()
def test_some_streams_are_hidden_whole_in_training_only() -> None:
    """And rows of them count as others: under a uniform law the loss is the streams' entropy either way."""
    space = Tokens((3, 4, 5), 6, streams=3)
    made, items = random_family(space, some_streams=0.5), torch.ones(64, 6, 3, dtype=torch.long)
    seen: list[Tensor] = []
    logits = made.logits

    def spy(x: Tensor, shown: Tensor, lengths: Tensor, context: Context) -> Tensor:
        seen.append(shown)
        return torch.where((found := logits(x, shown, lengths, context)).isinf(), found, 0.0)

    made.logits = spy  # type: ignore[method-assign]
    keys, lengths = Noise(0).rows(range(64)), torch.full((64,), 6)
    for learning in (False, True):
        made.head.train(learning)
        loss = made.loss("", items, NOTHING, keys) * made.weight(items, keys)
        entropy = float(loss + made._length_log_prob(lengths, NOTHING).sum()) / (64 * 6)
        assert entropy == pytest.approx(math.log(3 * 4 * 5), rel=0.1)
    whole = [float(shown.all(dim=1).any(dim=1).double().mean()) for shown in seen]
    assert whole[0] < 0.35 and whole[1] > 0.5, whole


@torch.no_grad()
def test_what_stands_behind_an_item_does_not_move_it() -> None:
    space = Tokens((4, 3), 40, streams=2)
    made, x = random_family(space), torch.zeros(3, 40, 2, dtype=torch.long)
    for row, length in enumerate((5, 0, 3)):
        x[row, :length] = 1 + Noise(0).below(2, length, 2)[0]
    lengths, shown = item_lengths(x), torch.zeros(3, 40, 2, dtype=torch.bool)
    assert lengths.tolist() == [5, 0, 3] and made.buckets(x).tolist() == [16] * 3
    shown[:, 1] = True
    short, long = (made.logits(x[:, :n], shown[:, :n], lengths, NOTHING)[:, :3] for n in (6, 40))
    assert torch.allclose(short, long, atol=1e-5) and torch.isfinite(short[..., :3]).all()
    keys = Noise(3).rows(range(3))
    assert torch.allclose(made.score(x, keys, NOTHING).value, made.score(x[:, :16], keys, NOTHING).value, atol=1e-4)
    empty = made.score(x[1:2], keys[1:2], NOTHING)
    assert torch.allclose(empty.value, made._length_log_prob(lengths[1:2], NOTHING))


def test_lengths_are_as_frequent_as_in_the_data_and_heed_the_context() -> None:
    space = Tokens(5, 8)
    made = MaskedDiffusion(space, Bidirectional(16, 1, 2), pooled=1)
    x = torch.ones(1000, 8, 1, dtype=torch.long)
    x[:, 3:] = 0
    x[:100, 2:] = 0
    made.begin(x, Context(torch.zeros(1000, 1)), Noise(0))
    keys, blank = Noise(1).rows(range(3000)), Context(torch.zeros(3000, 1))
    share = item_lengths(made.sample(keys, blank, Steer(steps=1))).bincount(minlength=9) / 3000
    assert share[2] == pytest.approx(0.1, abs=0.02) and share[3] == pytest.approx(0.9, abs=0.02)
    # trained on lengths that the context tells, it makes those
    optimiser = torch.optim.Adam(made.lengths.parameters(), lr=0.05)
    for step in range(100):
        lengths = Noise(2).fold(step).rows(range(64)).below(9, 1)
        x = (torch.arange(8) < lengths).long()[..., None]
        loss = made.loss("model", x, Context(lengths / 4 - 1), Noise(3).fold(step).rows(range(64)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    asked = torch.arange(900) % 9
    got = item_lengths(made.sample(keys[:900], Context(asked[:, None] / 4 - 1), Steer(steps=1)))
    assert float((got - asked).abs().double().mean()) < 0.6


# --- sampling -----------------------------------------------------------------------------------------------------------


def along(made: MaskedDiffusion, items: Tensor, order: Sequence[int], rule: FiniteConstraint | None = None) -> Tensor:
    """log p of full items made cell by cell in an order; with a rule, each cell weighted by the mass of accepted completions
    under the product of the predictions, found by enumeration."""
    shape, lengths = items.shape, item_lengths(items)
    shown, out = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape[0])
    good = torch.ones(shape[0]) if rule is None else torch.tensor([matches(rule, x) for x in items.tolist()]).float()
    for i in order:
        log = made._log_probs(made.logits(items, shown, lengths, NOTHING), items, shown)
        mine = log.gather(-1, items[..., None])[..., 0].flatten(1)
        if rule is None:
            out = out + mine[:, i]
        else:  # p(i | shown, accepted) = Σ over completions that agree in i / Σ over completions
            known = shown.flatten(1)
            for r in range(shape[0]):
                other = items.flatten(1)
                product = (log[r].flatten(0, 1).gather(1, other.T).T * ~known[r]).sum(1).exp() * good
                product = product * ((other == other[r]) | ~known[r]).all(1)
                out[r] = out[r] + (product[other[:, i] == other[r, i]].sum() / product.sum().clamp(min=1e-30)).log()
        shown.view(shape[0], -1)[:, i] = True
    return out


@pytest.mark.parametrize("space", [Tokens(3, 3), Tokens((3, 2), 2, streams=2)], ids=["one stream", "two streams"])
@torch.no_grad()
def test_one_cell_at_a_time_draws_from_the_mean_over_orders(space: Tokens) -> None:
    made, items = random_family(space), every_item(space)
    lengths, streams = item_lengths(items), space.streams
    law = made._length_log_prob(lengths, NOTHING).exp()
    for n in range(1, space.length + 1):
        full = lengths == n
        orders = list(itertools.permutations(range(n * streams)))
        law[full] *= torch.stack([along(made, items[full][:, :n], order).exp() for order in orders]).mean(0)
    chi_squared(made.sample(Noise(3).rows(range(20_000)), NOTHING, Steer()), items, law)


@torch.no_grad()
def test_with_exact_conditionals_samples_are_the_truths() -> None:
    truth = ising(side=3)
    items, law = restricted(truth, torch.ones(512))
    made, keys = Exact(truth), Noise(5).rows(range(4000))
    chi_squared(made.sample(keys, NOTHING, Steer()), items, law)
    # in one step, cells are independent: here fair coins
    at_once = made.sample(keys, NOTHING, Steer(steps=1))
    chi_squared(at_once, items, torch.full((512,), 1 / 512))
    # more steps come nearer, in either order as many cells as steps at most
    few = keys[:1000]
    likely = [float(truth.log_prob(made.sample(few, NOTHING, Steer(steps=n))).mean()) for n in (1, 3, 9, 50)]
    assert likely[0] < likely[1] < likely[2] == likely[3]


@torch.no_grad()
def test_the_confident_order_shows_likely_cells_first() -> None:
    truth = HiddenMarkov(length=5)
    keys = Noise(5).rows(range(2000))
    options = {"order": "random"}, {"order": "confidence"}, {"order": "confidence", "jitter": 0.0}
    made = [Exact(truth, **o).sample(keys, NOTHING, Steer(steps=3)) for o in options]
    random, confident, certain = (float(truth.log_prob(x).mean()) for x in made)
    assert certain > confident + 0.05 and confident > random + 0.1
    assert all(len(x.unique(dim=0)) > 200 for x in made)


@torch.no_grad()
def test_of_several_length_candidates_the_likeliest_a_token_stays() -> None:
    made, noise = random_family(Tokens((4, 3), 6, streams=2)), Noise(2).rows(range(300))
    keys = [noise, *(noise.fold("candidate", c) for c in (1, 2, 3))]
    each = [made.sample(key, NOTHING, Steer()) for key in keys]
    rates = [made.along(x, k.fold("order"), NOTHING) / (2 * item_lengths(x) + 1) for x, k in zip(each, keys, strict=True)]
    best = torch.stack(rates).argmax(dim=0)
    several = made.sample(noise, NOTHING, Steer(length_candidates=4))
    assert torch.equal(several, torch.stack(each)[best, torch.arange(300)])
    assert all((best == c).any() for c in range(4))


@torch.no_grad()
def test_candidates_are_judged_by_what_is_drawn_of_them() -> None:
    """Cells that are kept and lengths that cannot be say nothing of a candidate; what is told is told of the one that stays."""
    made, noise, steer = random_family(Tokens((4, 3), 6, streams=2)), Noise(2).rows(range(300)), Steer(temperature=0.7)
    made.lengths.free[0] = 12.0  # of an empty item, which the kept position forbids
    mask = torch.zeros(300, 6, 2, dtype=torch.bool)
    mask[:, 1] = True
    kept = Kept(torch.full((300, 6, 2), 2), mask)
    each = [made.filled(kept, key, NOTHING, steer) for key in (noise, *(noise.fold("candidate", c) for c in (1, 2, 3)))]
    possible = made.lengths(1, NOTHING)[0, 2:].log_softmax(dim=0)
    lengths = [item_lengths(told.x) for told in each]
    rates = [(possible[n - 2] + told.score) / (1 + 2 * (n - 1)) for n, told in zip(lengths, each, strict=True)]
    best, rows = torch.stack(rates).argmax(dim=0), torch.arange(300)
    several = made.filled(kept, noise, NOTHING, replace(steer, length_candidates=4))
    for got, columns in zip(several, zip(*each, strict=True), strict=True):
        assert torch.equal(got, torch.stack(columns)[best, rows])
    assert len(torch.stack(lengths)[best, rows].unique()) > 3 and (several.x[:, 1] == 2).all()


@torch.no_grad()
def test_any_kept_cells_condition_the_rest() -> None:
    truth = HiddenMarkov(length=5)
    items = truth.strings[..., None] + 1
    made, n = Exact(truth), 8000
    mask = torch.zeros(n, 5, 1, dtype=torch.bool)
    mask[:, [1, 4]] = True
    values = torch.tensor([9, 3, 9, 9, 1]).clamp(max=4).reshape(1, 5, 1).expand(n, 5, 1)
    drawn = made.infill(Kept(values, mask), Noise(0).rows(range(n)), NOTHING, Steer())
    _, law = restricted(truth, (items[:, 1, 0] == 3) & (items[:, 4, 0] == 1))
    chi_squared(drawn, items, law)


@torch.no_grad()
def test_the_length_goes_with_what_is_kept() -> None:
    made, n = random_family(Tokens((3, 2), 6, streams=2)), 300
    values, mask = torch.zeros(n, 6, 2, dtype=torch.long), torch.zeros(n, 6, 2, dtype=torch.bool)
    values[:, 2, 1], mask[:, 2] = 1, True  # a half rest at the third position
    mask[:, 4] = True  # an end at the fifth
    x = made.infill(Kept(values, mask), Noise(0).rows(range(n)), NOTHING, Steer())
    assert torch.equal(x[mask], values[mask]) and set(item_lengths(x).tolist()) == {3, 4}
    assert len(x.unique(dim=0)) > 30
    mask[:, 1] = True  # an end before a kept token
    with pytest.raises(ValueError, match=r"^no item has the kept cells$"):
        made.infill(Kept(values, mask), Noise(0).rows(range(n)), NOTHING, Steer())


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_least_likely_of_the_tokens_made_is_told(temperature: float) -> None:
    """As likely as each was when it was drawn, before temperature; of what is kept nothing is told."""
    made, n = random_family(Tokens((3, 2), 6, streams=2)), 40
    x, keys, steer = every_item(made.tokens)[-n:], Noise(0).rows(range(n)), Steer(temperature=temperature, steps=1)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[:, :2] = True
    told = made.filled(Kept(x, mask), keys, NOTHING, replace(steer, lengths=torch.full((n,), 6)))
    logits = made.logits(x, mask, torch.full((n,), 6), NOTHING)
    said = made._log_probs(logits, x, mask).gather(-1, told.x[..., None])[..., 0]
    assert told.least is not None and torch.equal(told.x[mask], x[mask])
    assert told.score is not None
    torch.testing.assert_close(told.least, said[:, 2:].flatten(1).amin(dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(told.score, said[:, 2:].flatten(1).sum(dim=1), atol=1e-4, rtol=1e-4)
    whole = made.filled(Kept(x, mask | True), keys, NOTHING, steer)
    assert whole.least is not None and torch.equal(whole.x, x) and not whole.least.any()
    alone = made.drawn(keys, NOTHING, Steer())
    assert alone.score is None and alone.least is not None and torch.equal(alone.least < 0, item_lengths(alone.x) > 0)


@torch.no_grad()
def test_varying_keeps_a_share_and_leaves_the_truth_as_it_is() -> None:
    truth, n = HiddenMarkov(length=4), 6000
    made, x, keys = Exact(truth), truth.sample(Noise(1), n), Noise(2).rows(range(n))
    items, law = restricted(truth, torch.ones(4**4))
    assert torch.equal(made.vary(x, 0.0, keys, NOTHING, Steer()), x)
    y = made.vary(x, 0.5, keys, NOTHING, Steer())
    chi_squared(y, items, law)
    new = made.vary(x, 1.0, keys, NOTHING, Steer())
    shares = [float((a != x).double().mean()) for a in (made.vary(x, 0.1, keys, NOTHING, Steer()), y, new)]
    assert 0.02 < shares[0] < 0.1 < shares[1] < 0.4 < shares[2]
    assert torch.equal(new, made.sample(keys, NOTHING, Steer()))


def test_rows_are_computed_in_groups_of_one_shape() -> None:
    buckets = torch.tensor([16, 48, 16, 16, 32, 16, 16, 16])
    found = list(groups(buckets, 128))
    assert found == [(16, [0, 2]), (16, [3, 5]), (16, [6, 7]), (32, [4, 4]), (48, [1, 1])]
    assert list(groups(torch.tensor([9, 9, 9]), 9)) == [(9, [0, 1, 2])]


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ({"order": "best"}, "order"),
        ({"steps": 0}, "steps"),
        ({"draws": 1}, "draws"),
        ({"some_streams": 0.5}, "several streams"),
    ],
)
def test_bad_options_are_named(words: Any, option: dict[str, Any], why: str) -> None:
    with pytest.raises(HeadwaterError, match=f"^recipe for masked_diffusion: .*{why}"):
        toys.generator(words, toys.recipe("words", "transformer", family="masked_diffusion", options=option))


# --- constraints --------------------------------------------------------------------------------------------------------

# an even number of 1s; 2 never right after 2; token 3 never
EVEN = FiniteConstraint([[[-1, 1, 2, -1], [-1, 0, 3, -1], [-1, 1, -1, -1], [-1, 0, -1, -1]]], [True, False, True, False])
# two streams: the second may sound only where the first does, and the sum of the first is a multiple of 3 at the end
CHORD = FiniteConstraint(
    [[[3, 1, 2], [4, 2, 0], [5, 0, 1], *[[-1] * 3] * 3], [[0, 0], [1, 1], [2, 2], [0, -1], [1, -1], [2, -1]]],
    [True, False, False, False, False, False],
)
CHORD_SPACE = Tokens((3, 2), 4, streams=2)


def matches(rule: Constraint, item: list[list[int]]) -> bool:
    """Walks the protocol, as a left-to-right family does."""
    state = rule.start()
    for t, position in enumerate(item):
        if not any(position):
            return rule.accepts(state)
        for token in position:
            if not rule.allowed(state, len(item) - t)[token]:
                return False
            state = rule.step(state, token)
    return rule.accepts(state)


def accepted(rule: FiniteConstraint, item: list[list[int]]) -> bool:
    """Reads the tables alone."""
    q = rule.first
    for position in item:
        if not any(position):
            break
        for s, token in enumerate(position):
            q = int(rule.tables[s][q, token])
            if q < 0:
                return False
    return bool(rule.final[q])


@pytest.mark.parametrize(("rule", "space"), [(EVEN, Tokens(4, 5)), (CHORD, CHORD_SPACE)], ids=["even", "chord"])
def test_a_table_allows_what_can_still_end_well(rule: FiniteConstraint, space: Tokens) -> None:
    items = every_item(space).tolist()
    good = [item for item in items if accepted(rule, item)]
    assert 5 < len(good) < len(items) / 2
    assert all(matches(rule, item) == accepted(rule, item) for item in items)
    prefixes: dict[tuple[int, ...], set[int]] = {}
    for item in good:
        cells = [token for position in item for token in position]
        for i, token in enumerate(cells):
            prefixes.setdefault(tuple(cells[:i]), set()).add(token)
    for prefix, tokens in prefixes.items():
        ended = any(not any(prefix[i : i + space.streams]) for i in range(0, len(prefix) - space.streams + 1, space.streams))
        if ended:
            continue
        state = rule.start()
        for token in prefix:
            state = rule.step(state, token)
        allowed = rule.allowed(state, space.length - len(prefix) // space.streams)
        assert set(np.flatnonzero(allowed).tolist()) == tokens, prefix


class Spelt:
    """A constraint that is no table: no two equal tokens touch, and 2 comes at most twice; states are texts."""

    def start(self) -> str:
        return ""

    def allowed(self, state: str, remaining: int) -> Any:
        return np.array([bool(state), *(not state.endswith(str(v)) and (v != 2 or state.count("2") < 2) for v in (1, 2, 3))])

    def step(self, state: str, token: int) -> str:
        return state + str(token or "")

    def accepts(self, state: str) -> bool:
        return bool(state)


def test_other_constraints_are_laid_out_as_tables() -> None:
    space = Tokens(4, 5)
    table = laid_out(Spelt(), space.vocabs, space.length)
    for item in every_item(space).tolist():
        assert accepted(table, item) == matches(Spelt(), item)
    again = laid_out(CHORD, CHORD_SPACE.vocabs, 4)
    assert again is CHORD
    with pytest.raises(HeadwaterError, match=r"^constraint: more than 20 states"):
        laid_out(Spelt(), space.vocabs, space.length, most=20)
    with pytest.raises(HeadwaterError, match=r"^constraint: made for vocabularies \(4,\); the model's are \(5,\)$"):
        laid_out(EVEN, (5,), 3)


@pytest.mark.parametrize(
    ("tables", "final", "why"),
    [
        ([[[-1, 2]]], [True], "tables.0.: expected states"),
        ([[[-1, 0]] * 2], [True], "tables.0.: expected shape"),
        ([], [], "final"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tables: Any, final: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}"):
        FiniteConstraint(tables, final)


class Product:
    """The protocol of a two-stream table, hidden behind other states, so that it must be laid out anew."""

    def __init__(self, rule: FiniteConstraint) -> None:
        self.start, self.accepts, self.allowed, self.step = rule.start, rule.accepts, rule.allowed, rule.step


@pytest.mark.parametrize("anew", [False, True], ids=["table", "laid out"])
@torch.no_grad()
def test_completions_are_the_product_given_acceptance(anew: bool) -> None:
    rule = laid_out(Product(CHORD), CHORD_SPACE.vocabs, 4) if anew else CHORD
    items = every_item(CHORD_SPACE)
    items = items[[accepted(CHORD, x) for x in items.tolist()]]
    factors = Noise(3).normal(4, 2, 3)[0].mul(1.5)
    factors[:, 1, 2] = -torch.inf
    factors = factors.log_softmax(-1)
    for length in (2, 4):
        mine = items[item_lengths(items) == length]
        log = factors.expand(len(mine), -1, -1, -1).gather(-1, mine[..., None])[..., 0][:, :length].sum(dim=(1, 2))
        n, keys = 6000, Noise(4).fold(length).rows(range(6000))
        lengths = torch.full((n,), length)
        drawn = Completions([rule] * n, torch.device("cpu")).draw(factors.expand(n, -1, -1, -1), lengths, keys.uniform(4, 2), 1.0)
        chi_squared(drawn, mine, log.softmax(0))


@torch.no_grad()
def test_rows_of_different_rules_are_drawn_as_if_alone() -> None:
    """Where their tables are as large: who counts 1s and who counts 2s, among fifty other words."""
    rng, device, n = np.random.default_rng(0), torch.device("cpu"), 30
    rules = []
    for word in (1, 2, 7):
        table = np.repeat(np.arange(3)[:, None], 50, axis=1)
        table[:, word] = (1, 2, -1)
        rules.append(FiniteConstraint([table], [False, False, True]))  # twice
    assert [rule.extent for rule in rules] == [(3, 3)] * 3  # the word, what is forbidden, and all others
    each = [rules[i] for i in rng.integers(0, 3, n)]
    factors, lengths = Noise(5).normal(n, 9, 1, 50)[0].mul(3).log_softmax(-1), torch.from_numpy(rng.integers(2, 10, n))
    uniforms, many = Noise(6).uniform(n, 9, 1)[0], Completions(each, device)
    drawn = many.draw(factors, lengths, uniforms, 1.0)
    possible = many.lengths(None, 9)
    assert possible.tolist() == [[False, False] + [True] * 8] * n
    few = torch.zeros(n, 9, 1, 50, dtype=torch.bool)
    few[:, :3], few[:, 3:, :, 7] = True, True  # from the fourth cell on it is 7s
    for rule, row in zip(each, many.lengths(few, 9).tolist(), strict=True):
        assert row == [2 <= length <= (5 if rule is rules[2] else 9) for length in range(10)]  # who counts 7s has two of them
    for i, rule in enumerate(each):
        alone = Completions([rule], device)
        one = slice(i, i + 1)
        assert torch.equal(alone.draw(factors[one], lengths[one], uniforms[one], 1.0)[0], drawn[i])
        assert torch.equal(alone.lengths(few[one], 9)[0], many.lengths(few, 9)[i])
        assert broken(rule, drawn[i].numpy()) is None and int((drawn[i] == (1, 2, 7)[rules.index(rule)]).sum()) == 2


LAW = torch.tensor([0.5, 0.3, 0.2])
PARITY = FiniteConstraint([[[-1, 1, 0, 0], [-1, 0, 1, 1]]], [True, False])
#: at most one 3, and 3 only right after 1
RARE = FiniteConstraint([[[-1, 1, 0, -1], [-1, 1, 0, 2], [-1, 2, 2, -1]]], [False, False, True])


def spelling(law: Tensor, length: int) -> Autoregressive:
    """An autoregressive model of independent tokens that uses every position."""
    made = Autoregressive(Tokens(len(law) + 1, length), Recurrent(4, 1))
    with torch.no_grad():
        head: Any = made.head.outputs[0]
        head.weight.zero_()
        head.bias.copy_(torch.cat([torch.tensor([-1e4]), law.log()]))
    return made


@torch.no_grad()
def test_both_families_draw_the_exact_conditional_under_one_constraint() -> None:
    """An even number of 1s, in independent tokens half of which are 1: whatever came first, half of all ways to go on are
    accepted, so here the local law of an autoregressive model is the exact one as well."""
    truth, n = independent(LAW, 5), 10_000
    keys, steer = Noise(6).rows(range(n)), Steer(constraints=[PARITY] * n)
    items, law = restricted(truth, torch.tensor([accepted(PARITY, x) for x in (truth.strings[..., None] + 1).tolist()]))
    families: list[Family] = [spelling(LAW, 5), Exact(truth), Exact(truth, steps=1), Exact(truth, steps=2)]
    for made in families:
        drawn = made.sample(keys, NOTHING, steer)
        assert all(accepted(PARITY, x) for x in drawn.tolist())
        chi_squared(drawn, items, law)


@pytest.mark.parametrize("steps", [1, 2, None])
@torch.no_grad()
def test_masked_diffusion_conditions_a_product_exactly(steps: int | None) -> None:
    """Also where tokens differ in how likely they end well, which an autoregressive model cannot know."""
    truth, n = independent(LAW, 5), 10_000
    items, law = restricted(truth, torch.tensor([accepted(RARE, x) for x in (truth.strings[..., None] + 1).tolist()]))
    keys, steer = Noise(6).rows(range(n)), Steer(constraints=[RARE] * n)
    chi_squared(Exact(truth, steps=steps).sample(keys, NOTHING, steer), items, law)
    if steps == 1:
        local = spelling(LAW, 5).sample(keys, NOTHING, steer)
        assert all(accepted(RARE, x) for x in local.tolist())
        with pytest.raises(AssertionError):
            chi_squared(local, items, law)


@torch.no_grad()
def test_the_law_under_a_constraint_is_the_one_that_is_documented() -> None:
    """With dependent cells, one at a time: each weighted by the accepted mass of the product of the others' predictions."""
    move = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.25, 0.05, 0.7]])
    truth, n = HiddenMarkov(torch.ones(3) / 3, move, torch.eye(3) * 0.97 + 0.01, length=3), 8000
    made, keys = Exact(truth), Noise(6).rows(range(8000))
    items, law = restricted(truth, torch.tensor([accepted(PARITY, x) for x in (truth.strings[..., None] + 1).tolist()]))
    items, law = items[law > 0], law[law > 0]
    documented = torch.stack([along(made, items, o, PARITY).exp() for o in itertools.permutations(range(3))]).mean(0)
    chi_squared(made.sample(keys, NOTHING, Steer(constraints=[PARITY] * n)), items, documented)
    assert 0.01 < float((documented - law).abs().sum()) / 2 < 0.2  # near the exact conditional, and not it


@pytest.mark.parametrize(("order", "n"), [("random", 10_000), ("confidence", 2000)])
@torch.no_grad()
def test_only_what_the_constraint_accepts_is_made(order: str, n: int) -> None:
    made = random_family(Tokens(4, 7), order=order)
    keys = Noise(0).rows(range(n))
    x = made.sample(keys, NOTHING, Steer(constraints=[EVEN] * n, steps=3))
    assert all(accepted(EVEN, item) for item in x.tolist()) and len(x.unique(dim=0)) > 30
    free = made.sample(keys, NOTHING, Steer(steps=3))
    assert sum(accepted(EVEN, item) for item in free.tolist()) < n / 2
    # one a row: rows without a constraint are as they were, and so are those with one
    mixed = made.sample(keys, NOTHING, Steer(constraints=[EVEN if i % 2 else None for i in range(n)], steps=3))
    assert torch.equal(mixed[::2], free[::2]) and torch.equal(mixed[1::2], x[1::2])
    several = made.sample(keys[:200], NOTHING, Steer(constraints=[EVEN] * 200, steps=3, length_candidates=3))
    assert all(accepted(EVEN, item) for item in several.tolist()) and not torch.equal(several, x[:200])


@torch.no_grad()
def test_constraints_hold_in_every_verb_and_however_hot() -> None:
    made, n = random_family(CHORD_SPACE), 400
    keys, bound = Noise(0).rows(range(n)), [CHORD] * n
    for steer in (Steer(temperature=5.0), Steer(temperature=0.05), Steer(top_p=0.3)):
        x = made.sample(keys, NOTHING, Steer(1.0, steer.temperature, steer.top_p, steer.steps, bound))
        assert all(accepted(CHORD, item) for item in x.tolist())
    assert all(accepted(CHORD, item) for item in made.vary(x, 0.5, keys, NOTHING, Steer(constraints=bound)).tolist())
    values, mask = torch.zeros_like(x), torch.zeros(n, 4, 2, dtype=torch.bool)
    values[:, 1, 0], mask[:, 1, 0] = 2, True
    filled = made.infill(Kept(values, mask), keys, NOTHING, Steer(constraints=bound))
    assert all(accepted(CHORD, item) for item in filled.tolist()) and bool((filled[:, 1, 0] == 2).all())
    values[:, 1], mask[:, 1] = torch.tensor([0, 1]), True  # the second stream never sounds alone
    with pytest.raises(ValueError, match=r"^no item that the constraint accepts has the kept cells$"):
        made.infill(Kept(values, mask), keys, NOTHING, Steer(constraints=bound))


def test_a_codec_brings_its_constraint(words: Any) -> None:
    rule = FiniteConstraint([[[-1, 1, -1, -1, 2, 2, 2], [-1, 1, 1, 1, -1, -1, -1], [-1, -1, -1, -1, 2, 2, 2]]], [False, True, True])
    words.codecs = {"letters": toys.Letters(language=rule)}  # begins with a and stays small, or is all capitals
    for family in ("masked_diffusion", "autoregressive"):
        made = toys.generator(words, toys.recipe("words", "transformer", family=family))
        for word in made.sample(100, seed=1):
            assert (word == word.lower() and word[0] == "a") or (word and word == word.upper())

"""What every family promises, whatever its network and space; then what each verb means.

The first tests run over every case of ``CASES``. Models there are untrained, with random weights: promises about bytes, shapes
and probabilities hold for any weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from torch import Tensor

import headwater.families.autoregressive as autoregressive
from headwater import checkpoint
from headwater.context import Context
from headwater.errors import HeadwaterError, MissingVerb
from headwater.families.autoregressive import Autoregressive
from headwater.families.contract import Kept, Steer
from headwater.generator import Generator
from headwater.model import build
from headwater.networks.recurrent import Recurrent
from headwater.networks.transformer import Transformer
from headwater.noise import Noise
from headwater.restore.likelihoods import Gaussian
from headwater.restore.operators import Identity
from headwater.spaces import Grid, Tokens, Vector

PATTERNS = {"options": {"patterns": ["span", "streams", "cells"]}}
ENCODED = {"options": {"latent": 4, "free_bits": 0.01}, "networks": {"encoder": {"name": "recurrent", "options": {"width": 24}}}}
CASES = {
    "letters, recurrent": ("words", toys.recipe("words", "recurrent", given=["where"])),
    "letters, transformer": ("words", toys.recipe("words", "transformer", given=["where", "plan"])),
    "pairs, recurrent": ("words", toys.recipe("words", "recurrent", "pairs")),
    "pairs, transformer, patterns": ("words", toys.recipe("words", "transformer", "pairs", given=["plan"], **PATTERNS)),
    "spots, unet": ("spots", toys.recipe("spots", "unet", given=["rough"], options={"steps": 3, "data": 0.7})),
    "points, mlp": ("points", toys.recipe("points", "mlp", given=["near"], options={"steps": 3, "solver": "heun"})),
    "spots, flow": ("spots", toys.recipe("spots", "unet", given=["rough"], family="flow", options={"steps": 3})),
    "points, flow": ("points", toys.recipe("points", "mlp", given=["near"], family="flow", options={"steps": 3, "solver": "heun"})),
    "spots, coupling": ("spots", toys.recipe("spots", "coupling", given=["rough"], family="spline_flow")),
    "points, coupling": ("points", toys.recipe("points", "coupling", given=["near"], family="spline_flow")),
    "points, splines": ("points", toys.recipe("points", "autoregressive", given=["near"], family="spline_flow")),
    "letters, vae": ("words", toys.recipe("words", "recurrent", given=["where"], family="vae", options={"latent": 4})),
    "pairs, vae, transformer": ("words", toys.recipe("words", "transformer", "pairs", family="vae", **ENCODED)),
    "spots, vae": ("spots", toys.recipe("spots", "convolutional", given=["rough"], family="vae", options={"latent": 4})),
    "points, vae": ("points", toys.recipe("points", "mlp", given=["near"], family="vae", options={"samples": 3, "latent": 4})),
    "spots, gan": ("spots", toys.recipe("spots", "convolutional", given=["rough"], family="gan", options={"latent": 4})),
    "points, gan": ("points", toys.recipe("points", "mlp", given=["near"], family="gan", options={"latent": 4})),
    "spots, restoring gan": ("spots", toys.recipe("spots", "unet", given=["rough"], family="gan", options={"restores": True})),
    "letters, gan on a latent": ("words", toys.recipe("words", "mlp", family="gan", autoencoder="vae", options={"latent": 4})),
    "pairs, splines on a latent": (
        "words",
        toys.recipe("words", "autoregressive", "pairs", family="spline_flow", autoencoder="vae"),
    ),
    "spots, diffusion on a latent": ("spots", toys.recipe("spots", "mlp", autoencoder="vae", options={"steps": 3, "data": 1.0})),
    "letters, masked": ("words", toys.recipe("words", "transformer", given=["where", "plan"], family="masked_diffusion")),
    "pairs, masked": (
        "words",
        toys.recipe("words", "transformer", "pairs", family="masked_diffusion", options={"order": "confidence", "steps": 4}),
    ),
    "long, masked": ("words", toys.recipe("words", "transformer", "long", family="masked_diffusion", options={"steps": 4})),
}
every_case = pytest.mark.parametrize("case", CASES)
#: A restorer makes nothing out of nothing.
every_sampling_case = pytest.mark.parametrize("case", [case for case in CASES if case != "spots, restoring gan"])


def opened(case: str) -> tuple[Any, Any, Generator]:
    name, recipe = CASES[case]
    domain = toys.DOMAINS[name]()
    return domain, recipe, toys.generator(domain, recipe)


def same(a: Any, b: Any) -> bool:
    """Equal bytes, item for item."""
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# --- every family, network and space ------------------------------------------------------------------------------------


@every_case
def test_loss_is_finite_and_every_parameter_takes_part(case: str) -> None:
    domain, recipe, made = opened(case)
    items, wishes = toys.some(domain, recipe, 24)
    model = made.model
    model.conditioner.fit(model.conditions(wishes).values)
    for player in model.family.players:
        context = model.conditioner(model.conditions(wishes))
        loss = model.family.loss(player, made.encode(items), context, Noise(1).rows(range(24)))
        loss.backward()
        assert loss.shape == () and torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        if name.startswith("autoencoder."):  # of a model over a latent: frozen
            continue
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, f"{name} has no influence on the loss"


@every_case
def test_samples_are_of_the_space(case: str) -> None:
    domain, _, made = opened(case)
    context = made.model.conditioner.with_null(made.model.conditions([domain.Wish()] * 9))
    with torch.no_grad():
        x = made.model.family.sample(Noise(0).rows(range(9)), context, Steer())
    space = made.model.space
    assert x.shape == (9, *space.shape)
    if isinstance(space, Tokens):
        assert x.dtype == torch.int64 and int(x.min()) >= 0
        assert all(int(x[..., s].max()) < v for s, v in enumerate(space.vocabs))
        alive = (x != 0).any(dim=2).long()
        assert torch.equal(alive, alive.cumprod(dim=1)), "nothing comes after the end"
    else:
        assert x.dtype == torch.float32 and torch.isfinite(x).all()


@every_sampling_case
def test_bytes_do_not_depend_on_batch_size_range_or_company(case: str) -> None:
    domain, recipe, made = opened(case)
    _, wishes = toys.some(domain, recipe, 70)
    asked: dict[str, Any] = {"seed": 3, "wishes": wishes}
    if made.model.family.length_first:
        asked["length_candidates"] = 2
    likely = {"likelihood": made.exact and isinstance(made.codec.space, Tokens)}  # costs others too much
    once = made.sample(70, least_likely=True, **likely, **asked)
    whole = once.items
    assert len({np.asarray(item).tobytes() for item in whole}) > 20  # or equality would say nothing
    for size in (1, 7, 64):
        assert same(made.sample(70, batch_size=size, **asked), whole), size
    told = made.sample(70, batch_size=40, least_likely=True, **likely, **asked)  # ends within a tile, which is made again
    assert same(told, whole) and told.extra == once.extra
    assert same(made.sample(5, first=37, **asked | {"wishes": wishes[37:42]}), whole[37:42])
    assert same(made.sample(1, first=69, **asked | {"wishes": wishes[69:]}), whole[69:])
    # a row does not feel what its neighbours in the tile were asked for
    alone = made.sample(70, **asked | {"wishes": [w if i == 20 else domain.Wish() for i, w in enumerate(wishes)]})
    assert same([alone[20]], [whole[20]])
    assert not same(alone, whole)
    assert not same(made.sample(70, **asked | {"seed": 4}), whole)


@every_sampling_case
def test_samples_come_with_their_likelihood(case: str) -> None:
    """The same items as without, and where a likelihood is exact, what ``score`` says of them, steered or not."""
    domain, recipe, made = opened(case)
    _, wishes = toys.some(domain, recipe, 9)
    asked: dict[str, Any] = {"seed": 3, "wishes": wishes, **({"temperature": 0.7} if made.model.family.narrowed else {})}
    if "score" not in made.verbs:
        with pytest.raises(MissingVerb, match="score"):
            made.sample(9, likelihood=True, **asked)
        return
    told = made.sample(9, likelihood=True, **asked)
    assert same(told.items, made.sample(9, **asked).items)
    assert np.isfinite(told.extra["log_likelihood"]).all()
    context = made.model.conditioner.with_null(made.model.conditions(wishes))
    with torch.no_grad():
        x, value, least = made.model.family.sample_told(Noise(3).rows(range(9)), context, Steer(temperature=0.7))
        found = made.model.family.score(x, Noise(3).rows(range(9)), context)
    assert value is not None
    if found.kind == "exact":
        torch.testing.assert_close(value, found.value, rtol=1e-4, atol=1e-3)
    assert least is None or bool((least < 0).all() and (found.kind != "exact" or (value <= least).all()))
    by_itself = made.sample(9, least_likely=True, **asked)
    assert same(by_itself.items, told.items) and "log_likelihood" not in by_itself.extra
    assert by_itself.extra.get("least_likely") == told.extra.get("least_likely") and (least is not None) == bool(by_itself.extra)


@every_sampling_case
def test_items_of_tokens_are_as_long_as_told(case: str) -> None:
    domain, _, made = opened(case)
    asked = [0, 1, 3, made.codec.space.shape[0]] * 2
    if not isinstance(made.codec.space, Tokens):
        with pytest.raises(HeadwaterError, match=r"lengths: items of .* are no sequences"):
            made.sample(8, lengths=asked)
        return
    context = made.model.conditioner.with_null(made.model.conditions([domain.Wish()] * 8))
    with torch.no_grad():
        x = made.model.family.sample(Noise(0).rows(range(8)), context, Steer(lengths=torch.tensor(asked)))
    assert (x != 0).any(dim=2).sum(dim=1).tolist() == asked
    with pytest.raises(HeadwaterError, match="lengths: expected 8 whole numbers from 0 to"):
        made.sample(8, lengths=[-1] * 8)


@every_case
def test_a_saved_model_is_the_same_model(case: str, tmp_path: Path) -> None:
    domain, recipe, made = opened(case)
    items, wishes = toys.some(domain, recipe, 6)
    about = {"domain": domain.name, "name": "m", "recipe": recipe, "data": recipe.data, "data_hash": "0", "command": "none"}
    checkpoint.save(made.model, tmp_path / "m", **about)
    again, config = checkpoint.load(tmp_path / "m", domain.networks)
    other = Generator(domain, again, recipe, made.name)
    if "sample" in made.verbs:
        assert same(other.sample(6, seed=1, wishes=wishes), made.sample(6, seed=1, wishes=wishes))
    assert torch.equal(reading(other, items, wishes), reading(made, items, wishes))
    assert set(config["verbs"]) == set(made.verbs)
    checkpoint.save(made.model, tmp_path / "again", **about)
    for file in (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.METRICS):
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    checkpoint.save(made.model, tmp_path / "half", dtype="bf16", **about)
    assert (tmp_path / "half" / checkpoint.WEIGHTS).stat().st_size < 0.75 * (tmp_path / "m" / checkpoint.WEIGHTS).stat().st_size
    rounded = Generator(domain, checkpoint.load(tmp_path / "half", domain.networks)[0], recipe, made.name)
    assert torch.allclose(reading(rounded, items, wishes), reading(made, items, wishes), rtol=0.1, atol=0.1)


def reading(made: Generator, items: list[Any], wishes: list[Any]) -> Tensor:
    """Scores; the losses of a family without."""
    if "score" in made.verbs:
        return made.score(items, wishes=wishes).value
    family, keys = made.model.family, Noise(1).rows(range(len(items)))
    context = made.model.conditioner(made.model.conditions(wishes))
    return torch.stack([family.loss(player, made.encode(items), context, keys).detach() for player in family.players])


def call(made: Generator, verb: str, items: list[Any]) -> Any:
    kept = np.zeros((len(items), *made.model.space.shape), dtype=bool)
    kept[:, :1] = True
    verbs = {
        "sample": lambda: made.sample(2),
        "infill": lambda: made.infill(items, kept),
        "vary": lambda: made.vary(items),
        "score": lambda: made.score(items).value,
        "optimise": lambda: made.optimise(lambda item: 0.0, 2).items,
        "restore": lambda: made.restore(made.encode(items), Identity(made.model.space.shape), Gaussian(0.3), draws=2).mean,
    }
    return verbs[verb]()


@every_case
def test_the_table_of_verbs_is_true(case: str, tmp_path: Path) -> None:
    domain, recipe, made = opened(case)
    items, _ = toys.some(domain, recipe, 2)
    for verb, how in made.verbs.items():
        made.need(verb)
        assert len(call(made, verb, items)) == 2 and how
    missing = {"sample", "infill", "vary", "score"} - set(made.verbs)
    if recipe.autoencoder:
        assert missing == ({"infill", "score"} if recipe.family == "gan" else {"infill"})
    else:
        lacking = {"autoregressive": {"vary"}, "diffusion": set(), "masked_diffusion": set(), "gan": {"infill", "vary", "score"}}
        assert missing - {"sample"} == lacking.get(recipe.family, {"infill"})
        assert ("sample" in missing) == bool(recipe.options.get("restores"))
    for verb in missing:
        with pytest.raises(MissingVerb, match=rf"{made.name} cannot {verb} .*models that can: no shipped model does yet"):
            call(made, verb, items)


def test_a_missing_verb_names_the_models_that_have_it(words: Any, tmp_path: Path) -> None:
    recipe = toys.recipe("words", "recurrent")
    made = toys.generator(words, recipe)
    about = {"domain": "words", "recipe": recipe, "data": "words", "data_hash": "0", "command": "none"}
    for name in ("able", "unable"):
        checkpoint.save(made.model, tmp_path / name, name=name, **about)
    config = tmp_path / "able" / checkpoint.CONFIG
    config.write_text(config.read_text().replace('"verbs": {', '"verbs": {"vary": "latent", '))
    words.models = tmp_path
    with pytest.raises(MissingVerb, match=r"models that can: words/able$"):
        made.vary(["abc"])


# --- likelihood ---------------------------------------------------------------------------------------------------------

NETS = {"recurrent": lambda: Recurrent(16, 2), "transformer": lambda: Transformer(16, 2, 2)}


def family(space: Tokens, network: str, **options: Any) -> Autoregressive:
    """Random weights, large enough for a lopsided distribution."""
    made = Autoregressive(space, NETS[network](), **options)
    with torch.no_grad():
        for i, (_, part) in enumerate(sorted(made.parts().items())):
            for j, parameter in enumerate(part.parameters()):
                scale = 0.5 if parameter.ndim == 1 else 1.5 * parameter.shape[-1] ** -0.5
                parameter.copy_(scale * Noise(9).fold(i, j).normal(*parameter.shape)[0])
        for part in made.parts().values():
            part.eval()
    return made


def every_item(space: Tokens) -> Tensor:
    """All items of a small space, (items, length, streams): every position but those behind the end is not all zero."""
    position = torch.cartesian_prod(*[torch.arange(v) for v in space.vocabs]).reshape(-1, space.streams)[1:]
    items, ends = [], torch.zeros(1, 0, space.streams, dtype=torch.long)
    for t in range(space.length + 1):
        items.append(torch.cat([ends, torch.zeros(len(ends), space.length - t, space.streams, dtype=torch.long)], dim=1))
        ends = torch.cat([ends.repeat_interleave(len(position), 0), position.repeat(len(ends), 1)[:, None]], dim=1)
    return torch.cat(items)


SPACES = {"one stream": Tokens(3, 5), "two streams": Tokens((3, 2), 3, streams=2), "three": Tokens((2, 2, 3), 2, streams=3)}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("network", NETS)
@torch.no_grad()
def test_the_likelihood_sums_to_one(network: str, space: str) -> None:
    made, items = family(SPACES[space], network), every_item(SPACES[space])
    log_prob = made.log_prob(items, Context()).double()
    assert math.isclose(float(log_prob.exp().sum()), 1.0, abs_tol=1e-5)
    assert float(log_prob.std()) > 0.5


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("network", NETS)
@torch.no_grad()
def test_samples_come_as_often_as_their_likelihood_says(network: str, space: str) -> None:
    made, items, n = family(SPACES[space], network), every_item(SPACES[space]), 20_000
    drawn = made.sample(Noise(1).rows(range(n)), Context(), Steer())
    expected = made.log_prob(items, Context()).exp() * n
    chi_squared(drawn, items, expected)


def chi_squared(drawn: Tensor, items: Tensor, expected: Tensor) -> None:
    """Pearson's test at about five standard deviations; items expected fewer than five times share a cell."""
    index = {item.numpy().tobytes(): i for i, item in enumerate(items)}
    counts = torch.zeros(len(items))
    for item in drawn:
        counts[index[item.numpy().tobytes()]] += 1
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    wanted = torch.cat([expected[common], expected[~common].sum()[None]]).clamp(min=1e-9)
    keep = wanted > 1
    assert float(observed[~keep].sum()) <= 10
    statistic, freedom = float(((observed - wanted)[keep] ** 2 / wanted[keep]).sum()), int(keep.sum()) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 5, (statistic, freedom)


@pytest.mark.parametrize("network", NETS)
@torch.no_grad()
def test_the_future_does_not_move_past_log_probs(network: str) -> None:
    space = Tokens((4, 3), 8, streams=2)
    made = family(space, network)
    x = 1 + Noise(0).rows(range(6)).below(2, 8, 2)
    before = made._log_probs(x, Context(), None)[0]
    for t in range(8):
        for s in range(2):
            other = x.clone()
            other[:, t, s] = 3 - other[:, t, s]  # still no padding
            after = made._log_probs(other, Context(), None)[0]
            earlier = torch.arange(16) < 2 * t + s
            assert torch.allclose(after.flatten(1)[:, earlier], before.flatten(1)[:, earlier], atol=1e-6)
            assert not torch.allclose(after.flatten(1)[:, ~earlier], before.flatten(1)[:, ~earlier], atol=1e-4)


@pytest.mark.parametrize("network", NETS)
@torch.no_grad()
def test_one_step_at_a_time_is_the_whole_pass(network: str) -> None:
    made = NETS[network]().eval()
    inputs = Noise(4).normal(3, 90, 16)[0]  # long enough for a cache to grow, by its least and by its share
    inputs[:, 5] = 0  # a norm may not divide by it
    whole, state, steps = made(inputs, Context()), made.start(3, inputs, 90), []
    for t in range(90):
        out, state = made.step(inputs[:, t], state, Context())
        steps.append(out)
    assert torch.allclose(torch.stack(steps, 1), whole, atol=2e-6)


@pytest.mark.parametrize("case", [case for case, (_, recipe) in CASES.items() if recipe.family == "autoregressive"])
def test_generation_draws_from_the_scored_distribution(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's logits, cache and all, give each sample the log-likelihood that teacher forcing gives it."""
    domain, recipe, made = opened(case)
    _, wishes = toys.some(domain, recipe, 12)
    steps: list[tuple[Tensor, Tensor]] = []
    original = autoregressive.draw

    def spy(logits: Tensor, uniform: Tensor, top_p: float, allowed: Tensor | None) -> Tensor:
        token = original(logits, uniform, top_p, allowed)
        steps.append((logits, token))
        return token

    monkeypatch.setattr(autoregressive, "draw", spy)
    with torch.no_grad():
        context = made.model.conditioner(made.model.conditions(wishes))
        x = made.model.family.sample(Noise(2).rows(range(12)), context, Steer())
        streams = made.model.space.streams  # type: ignore[union-attr]
        ended, total = torch.zeros(12, dtype=torch.bool), torch.zeros(12)
        for i, (logits, token) in enumerate(steps):
            total += logits.log_softmax(-1).gather(1, token[:, None])[:, 0].where(~ended, torch.zeros(()))
            if i % streams == streams - 1:
                ended |= (x[:, i // streams] == 0).all(dim=1)
        assert torch.allclose(made.model.family.log_prob(x, context), total, atol=1e-4)  # type: ignore[attr-defined]
    assert int(ended.sum()) > 3


@torch.no_grad()
def test_padding_behind_an_item_does_not_move_its_likelihood() -> None:
    """Also where kept cells are read by a bidirectional network; so a score does not depend on the bucket."""
    space = Tokens((4, 3), 40, streams=2)
    for made in (family(space, "recurrent"), family(space, "transformer", patterns=("span", "cells"))):
        x = torch.zeros(3, 40, 2, dtype=torch.long)
        x[:, :5] = 1 + Noise(0).rows(range(3)).below(2, 5, 2)
        assert torch.allclose(made.log_prob(x[:, :6], Context()), made.log_prob(x, Context()), atol=1e-5)
        assert made.buckets(x).tolist() == [16] * 3
        assert torch.allclose(made.score(x, Noise(0), Context()).value, made.log_prob(x, Context()), atol=1e-5)


@torch.no_grad()
def test_word_dropout_hides_what_came_before_from_training_alone() -> None:
    made = family(Tokens(5, 6), "recurrent", word_dropout=1.0)
    x = 1 + Noise(0).rows(range(2)).below(4, 6, 1)
    other = x.clone()
    other[:, 0] = 1 + (x[:, 0] % 4)
    for part in made.parts().values():
        part.train()
    first, second = (made._log_probs(y, Context(), None)[0] for y in (x, other))
    assert torch.equal(first[:, 1:], second[:, 1:])
    for part in made.parts().values():
        part.eval()
    first, second = (made._log_probs(y, Context(), None)[0] for y in (x, other))
    assert not torch.allclose(first[:, 1:], second[:, 1:])


# --- how to draw --------------------------------------------------------------------------------------------------------


def test_draw_inverts_the_cumulative_distribution() -> None:
    probability = torch.tensor([0.1, 0.0, 0.4, 0.3, 0.2])
    u = (torch.arange(1000) + 0.5) / 1000
    logits = probability.log().expand(1000, 5)
    plain = autoregressive.draw(logits, u, 1.0, None).bincount(minlength=5) / 1000
    assert torch.allclose(plain, probability, atol=2e-3) and plain[1] == 0
    nucleus = autoregressive.draw(logits, u, 0.7, None).bincount(minlength=5) / 1000  # .4 + .3 suffice
    assert torch.allclose(nucleus, torch.tensor([0, 0, 4 / 7, 3 / 7, 0]), atol=2e-3)
    allowed = torch.tensor([True, True, False, False, True]).expand(1000, 5)
    masked = autoregressive.draw(logits, u, 1.0, allowed).bincount(minlength=5) / 1000
    assert torch.allclose(masked, torch.tensor([1 / 3, 0, 0, 0, 2 / 3]), atol=2e-3)
    both = autoregressive.draw(logits, u, 0.6, allowed).bincount(minlength=5) / 1000  # the nucleus of what is allowed
    assert torch.allclose(both, torch.tensor([0.0, 0, 0, 0, 1]))
    edge = autoregressive.draw(torch.tensor([[0.0, -torch.inf]]), torch.tensor([1 - 2**-24]), 1.0, None)
    assert edge.tolist() == [0]
    assert autoregressive.draw(logits[:1], u[:1], 1.0, torch.zeros(1, 5, dtype=torch.bool)).tolist() == [0]  # nothing: the end


@torch.no_grad()
def test_temperature_and_top_p_sharpen() -> None:
    space = Tokens(5, 6)
    made, keys = family(space, "recurrent"), Noise(0).rows(range(400))

    def mean(steer: Steer) -> tuple[float, int]:
        x = made.sample(keys, Context(), steer)
        return float(made.log_prob(x, Context()).mean()), len(x.unique(dim=0))

    plain, cool, cold, nucleus, tiny = (
        mean(s) for s in (Steer(), Steer(temperature=0.5), Steer(temperature=1e-3), Steer(top_p=0.6), Steer(top_p=1e-6))
    )
    assert plain[0] < cool[0] < cold[0] + 1e-6 and nucleus[0] > plain[0]
    assert cold[1] == tiny[1] == 1 and cold[0] == pytest.approx(tiny[0])  # both are the greedy choice


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"guidance": -1.0}, "--guidance"),
        ({"temperature": 0.0}, "--temperature"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"top_p": 0.0}, "--top-p"),
        ({"top_p": 1.1}, "--top-p"),
        ({"steps": 0}, "--steps"),
        ({"steps": 5}, "--steps: words/autoregressive does not work in steps"),
        ({"length_candidates": 0}, "--length-candidates"),
        ({"length_candidates": 2.5}, "--length-candidates: expected a whole number from 1 to 100; got 2.5"),
        ({"length_candidates": 3}, "--length-candidates: words/autoregressive draws no length first"),
        ({"n": 0}, "-n"),
        ({"batch_size": 0}, "--batch-size"),
        ({"many": 9}, "--many"),
        ({"wishes": []}, "wishes"),
        ({"start": "ab?"}, "--start"),
        ({"start": "abcabc"}, "--start"),
        ({"start": [[1], [999]]}, r"--start: expected whole numbers below \d+; got \[999\] at position 1"),
        ({"start": [[1.5]]}, "--start: expected whole numbers"),
        ({"start": object()}, "--start"),
        ({"ids": [1, 2]}, "ids: expected 3"),
        ({"ids": [1, 2, 2**63]}, "ids: expected whole numbers from 0 to 2.63 - 1; got 9223372036854775808 for item 2"),
        ({"lengths": [1, 2, 1.5]}, "lengths: expected 3 whole numbers from 0 to"),
        ({"lengths": ["a", 2, 1]}, "lengths: expected 3 whole numbers from 0 to"),
    ],
)
def test_bad_settings_are_named(words: Any, setting: dict[str, Any], flag: str) -> None:
    made = toys.generator(words, toys.recipe("words", "recurrent"))
    with pytest.raises(HeadwaterError, match=rf"^{flag}\b") as caught:
        made.sample(**{"n": 3, **setting})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "setting", "flag"),
    [
        ("points, gan", {"guidance": 2.0}, "--guidance"),
        ("points, splines", {"guidance": 0.0}, "--guidance"),
        ("letters, gan on a latent", {"guidance": 2.0}, "--guidance"),
        ("points, mlp", {"top_p": 0.9}, "--top-p"),
        ("points, gan", {"top_p": 0.9}, "--top-p"),
        ("points, vae", {"top_p": 0.9}, "--top-p"),
        ("spots, diffusion on a latent", {"top_p": 0.9}, "--top-p"),
        ("letters, gan on a latent", {"length_candidates": 2}, "--length-candidates"),
    ],
)
def test_what_a_family_has_no_use_for_is_refused(case: str, setting: dict[str, Any], flag: str) -> None:
    _, _, made = opened(case)
    with pytest.raises(HeadwaterError, match=f"^{flag}: {made.name} .*; leave it out$"):
        made.sample(3, **setting)
    assert len(made.sample(3, guidance=1.0, top_p=1.0)) == 3


@every_sampling_case
def test_flags_that_are_not_refused_do_something(case: str) -> None:
    domain, recipe, made = opened(case)
    _, wishes = toys.some(domain, recipe, 40)
    family, plain = made.model.family, made.sample(40, wishes=wishes, guidance=1.0)
    if family.guided:
        assert not same(made.sample(40, wishes=wishes, guidance=4.0), plain)
    if family.narrowed:
        assert not same(made.sample(40, wishes=wishes, guidance=1.0, top_p=0.2), plain)
    if family.length_first:
        assert not same(made.sample(40, wishes=wishes, guidance=1.0, length_candidates=3), plain)


def test_a_recipe_cannot_press_what_is_not_pressed(points: Any) -> None:
    with pytest.raises(HeadwaterError, match=r"^recipe for gan: guidance: gan has nothing to press harder"):
        toys.model(points, toys.recipe("points", "mlp", family="gan", guidance=1.5))


@every_case
def test_what_is_no_weight_is_flat(case: str) -> None:
    """Training lets weights of more than one axis decay, and nothing else: neither offsets nor scales."""
    for name, parameter in opened(case)[2].model.named_parameters():
        assert parameter.ndim <= 1 or not {"bias", "biases", "log_sigma"} & set(name.split(".")), name


@every_case
def test_the_kind_of_a_score_is_said_first(case: str) -> None:
    domain, recipe, made = opened(case)
    if "score" not in made.verbs:
        return
    said = re.findall("exact|bound|estimate", made.verbs["score"])
    assert said[0] == made.score(toys.some(domain, recipe, 2)[0]).kind


def test_nothing_below_the_surface_mentions_a_domain() -> None:
    core, named = Path(autoregressive.__file__).parents[1], ("molecul", "medical", "music", "marketing")
    for folder in ("families", "networks", "restore", "evaluate", "optimise", "train", "report"):
        for file in (core / folder).rglob("*.py"):
            assert not [word for word in named if word in file.read_text("utf-8").lower()], file


def test_knobs_that_a_model_does_not_know_are_refused(words: Any) -> None:
    made = toys.generator(words, toys.recipe("words", "recurrent", labels=0))
    with pytest.raises(HeadwaterError, match=r"'many' was not trained into words/autoregressive; it knows: no knobs"):
        made.sample(many=2)
    with pytest.raises(HeadwaterError, match=r"unknown knob 'size_of_it'"):
        made.sample(size_of_it=2)


# --- constraints --------------------------------------------------------------------------------------------------------


class Automaton:
    """Accepts what a finite automaton accepts; a token is allowed if an accepting state can still be reached in time."""

    def __init__(self, table: Sequence[Sequence[int]], accepting: set[int], length: int, streams: int = 1) -> None:
        """``table[state][token]`` is the next state, -1 where there is none; token 0 ends the item."""
        self.table, self.accepting = table, accepting
        # reach[k]: states from which k positions or fewer lead to an accepted end
        self.reach = [set(accepting)]
        for _ in range(length):
            self.reach.append({s for s, row in enumerate(table) if s in accepting or any(n in self.reach[-1] for n in row[1:])})

    def start(self) -> int:
        return 0

    def allowed(self, state: int, remaining: int) -> np.ndarray[Any, Any]:
        row = self.table[state]
        return np.array([state in self.accepting, *(n >= 0 and n in self.reach[remaining - 1] for n in row[1:])])

    def step(self, state: int, token: int) -> int:
        return state if token == 0 else self.table[state][token]

    def accepts(self, state: int) -> bool:
        return state in self.accepting

    def matches(self, tokens: Sequence[int]) -> bool:
        state = 0
        for token in tokens:
            if token == 0:
                break
            state = self.table[state][token]
            if state < 0:
                return False
        return state in self.accepting


# an even number of 1s; 2 never right after 2; token 3 never
EVEN = [[0, 1, 2, -1], [1, 0, 3, -1], [2, 1, -1, -1], [3, 0, -1, -1]]


@pytest.mark.parametrize("network", NETS)
@torch.no_grad()
def test_only_what_the_constraint_accepts_is_made(network: str) -> None:
    space = Tokens(4, 7)
    made, rule = family(space, network), Automaton(EVEN, {0, 2}, 7)
    keys = Noise(0).rows(range(4000))
    x = made.sample(keys, Context(), Steer(constraints=[rule] * 4000))
    assert all(rule.matches(row) for row in x[..., 0].tolist())
    free = made.sample(keys, Context(), Steer())
    assert sum(rule.matches(row) for row in free[..., 0].tolist()) < 2000
    # one a row: rows without a constraint are as they were, and so are those with one
    mixed = made.sample(keys, Context(), Steer(constraints=[rule if i % 2 else None for i in range(4000)]))
    assert torch.equal(mixed[::2], free[::2]) and torch.equal(mixed[1::2], x[1::2])
    # hot, cold and narrow draws obey as well
    for steer in (Steer(temperature=5.0, constraints=[rule] * 500), Steer(top_p=0.3, constraints=[rule] * 500)):
        assert all(rule.matches(row) for row in made.sample(keys[:500], Context(), steer)[..., 0].tolist())


@torch.no_grad()
def test_a_constraint_renormalises_each_step() -> None:
    """What is promised: the support, and at each step p(token | past) restricted to what is allowed.

    That is the model conditioned on acceptance only if every token allowed at a step is as likely to end well as any other,
    for instance where the rule binds the first token alone. In general conditioning needs the probability of a good end
    p(accepted | past, token), which an autoregressive model does not know.
    """
    space, n = Tokens(4, 4), 20_000
    made, items = family(space, "recurrent"), every_item(space)
    log_steps = torch.zeros(len(items))
    rule = Automaton(EVEN, {0, 2}, 4)
    accepted = torch.tensor([rule.matches(row) for row in items[..., 0].tolist()])
    for i in accepted.nonzero()[:, 0].tolist():
        state = rule.start()
        for t in range(4):
            others = items[i].repeat(4, 1, 1)
            others[:, t, 0] = torch.arange(4)
            step = made._log_probs(others, Context(), None)[0][:, t, 0]
            allowed = torch.from_numpy(rule.allowed(state, 4 - t))
            token = int(items[i, t, 0])
            log_steps[i] += step[token] - step[allowed].logsumexp(0)
            state = rule.step(state, token)
            if token == 0:
                break
    law = log_steps.exp() * accepted
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-4)
    drawn = made.sample(Noise(3).rows(range(n)), Context(), Steer(constraints=[rule] * n))
    chi_squared(drawn, items, law * n)
    posterior = made.log_prob(items, Context()).exp() * accepted
    posterior = posterior / posterior.sum()
    assert float((law - posterior).abs().sum()) / 2 > 0.05  # here the two do differ


@torch.no_grad()
def test_a_mask_that_closes_no_door_conditions_exactly() -> None:
    space, n = Tokens(4, 4), 20_000
    made, items = family(space, "transformer"), every_item(space)
    first_is_two = Automaton([[-1, -1, 1, -1], [1, 1, 1, 1]], {1}, 4)
    drawn = made.sample(Noise(3).rows(range(n)), Context(), Steer(constraints=[first_is_two] * n))
    posterior = made.log_prob(items, Context()).exp() * (items[:, 0, 0] == 2)
    chi_squared(drawn, items, posterior / posterior.sum() * n)


def test_a_codec_brings_its_constraint(words: Any) -> None:
    rule = Automaton([[-1, 1, -1, -1, 2, 2, 2], [-1, 1, 1, 1, -1, -1, -1], [2, -1, -1, -1, 2, 2, 2]], {1, 2}, toys.LENGTH)
    words.codecs = {"letters": toys.Letters(language=rule)}  # begins with a and stays small, or is all capitals
    made = toys.generator(words, toys.recipe("words", "transformer"))
    for word in made.sample(200, seed=1):
        assert (word == word.lower() and word[0] == "a") or (word and word == word.upper())


# --- infilling and varying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETS)
@torch.no_grad()
def test_a_kept_prefix_is_continued_as_the_model_would(network: str) -> None:
    space = Tokens((4, 3), 6, streams=2)
    made, keys = family(space, network), Noise(0).rows(range(200))
    x = made.sample(keys, Context(), Steer())
    mask = torch.zeros(200, 12, dtype=torch.bool)
    lengths = Noise(1).rows(range(200)).below(8, 1)
    mask |= torch.arange(12) < lengths  # also nothing kept, and parts of a position
    mask = mask.reshape(200, 6, 2) & ((x != 0).any(dim=2, keepdim=True))
    # the same noise gives the same continuation; other noise another, and the prefix stays
    assert torch.equal(made.infill(Kept(x, mask), keys, Context(), Steer()), x)
    other = made.infill(Kept(x, mask), keys.fold("other"), Context(), Steer())
    assert torch.equal(other[mask], x[mask]) and not torch.equal(other, x)


def test_start_begins_every_item(words: Any) -> None:
    made = toys.generator(words, toys.recipe("words", "transformer"))
    items = made.sample(40, seed=2, start="bA")
    assert all(item.startswith("bA") for item in items) and len(set(items)) > 5
    assert same(made.sample(7, seed=2, start="bA", batch_size=3), items[:7])
    assert same(made.sample(40, seed=2, start=""), made.sample(40, seed=2))


@pytest.mark.parametrize("pattern", ["prefix", "suffix", "streams", "cells"])
def test_trained_patterns_keep_their_cells(words: Any, pattern: str) -> None:
    made = toys.generator(words, toys.recipe("words", "transformer", "pairs", **PATTERNS))
    items = ["abCaBc", "AAbbcc", "aBcABC"] * 5
    mask = np.zeros((15, *toys.Pairs.space.shape), dtype=bool)
    {"prefix": mask[:, :2], "suffix": mask[:, 4:], "streams": mask[:, :, 1], "cells": mask[:, 1::2, 0]}[pattern][...] = True
    made_items = made.infill(items, mask, seed=1)
    x, y = made.encode(items).numpy(), made.encode(made_items.items).numpy()
    assert np.array_equal(x[mask], y[mask]) and not np.array_equal(x, y)


def test_kept_cells_enter_as_context() -> None:
    """A kept future changes what comes before it: a clamp alone would not."""
    made = family(Tokens(4, 6), "transformer", patterns=("cells",))
    keys = Noise(0).rows(range(300))
    mask = torch.zeros(300, 6, 1, dtype=torch.bool)
    mask[:, 5] = True
    with torch.no_grad():
        ones, twos = (made.infill(Kept(torch.full((300, 6, 1), v), mask), keys, Context(), Steer()) for v in (1, 2))
    assert bool((ones[:, 5] == 1).all()) and bool((twos[:, 5] == 2).all())
    assert not torch.equal(ones[:, :5], twos[:, :5])
    assert bool((ones != 0).all())  # a kept cell still to come forbids the end


def test_other_patterns_than_trained_are_refused(words: Any) -> None:
    made = toys.generator(words, toys.recipe("words", "recurrent"))
    mask = np.zeros((1, toys.LENGTH, 1), dtype=bool)
    mask[0, 3] = True
    with pytest.raises(HeadwaterError, match=r"^mask: this model continues a prefix; it was not trained to keep other cells$"):
        made.infill(["abcabc"], mask)
    with pytest.raises(HeadwaterError, match=r"^mask: expected shape \(1, 6, 1\); got \(1, 5, 1\)$"):
        made.infill(["abcabc"], mask[:, :5])


def test_any_cells_of_a_picture_are_kept(spots: Any) -> None:
    made = toys.generator(spots, toys.recipe("spots", "unet", options={"steps": 3}))
    items, _ = toys.some(spots, made.recipe, 5)
    mask = (Noise(0).rows(range(5)).uniform(1, 8, 8) < 0.4).numpy()
    filled = np.stack(made.infill(items, mask, seed=1).items)
    assert np.array_equal(filled[mask], np.stack(items)[mask])
    assert not np.isclose(filled[~mask], np.stack(items)[~mask]).any()
    assert same(made.infill(items[:2], mask[:2], seed=1), filled[:2])


def test_varying_goes_from_the_item_to_a_new_one(points: Any) -> None:
    recipe = toys.recipe("points", "mlp", options={"steps": 20, "data": 1.0})
    made = toys.generator(points, recipe)
    made.model.family.network = toys.Exact(lambda x, sigma: x / (1 + sigma[:, None] ** 2), data=1.0)  # type: ignore[attr-defined]
    items = list(Noise(0).rows(range(400)).normal(2).numpy())
    x = np.stack(items)
    assert same(made.vary(items, strength=0.0), items)
    correlation, spread = [], []
    for strength in (0.3, 0.5, 0.7, 1.0):
        y = np.stack(made.vary(items, strength=strength, seed=1).items)
        correlation.append(np.corrcoef(x[:, 0], y[:, 0])[0, 1])
        spread.append(y.std())
    assert all(a > b for a, b in zip(correlation, correlation[1:], strict=False))
    assert correlation[0] > 0.95 and abs(correlation[-1]) < 0.15
    assert np.allclose(spread, 1.0, atol=0.12)  # neighbours are as spread as items are
    assert len(made.vary(items[:3], n=4)) == 12
    with pytest.raises(HeadwaterError, match=r"^--strength: expected a number from 0 to 1; got 1.5$"):
        made.vary(items, strength=1.5)


# --- what a trained model obeys -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Generator]:
    """Trained for some seconds each: the words by their knobs, the points by their first coordinate."""
    from headwater.train import train

    out = {}
    wide = {"width": 64, "layers": 1}
    networks = {"words": {"name": "recurrent", "options": wide}, "points": {"name": "mlp", "options": wide}}
    for name, network in networks.items():
        domain = toys.DOMAINS[name]()
        training = {"steps": 400, "batch": 64, "rate": 1e-2, "warmup": 20, "ema": 0.95, "validate_rows": 0}
        options = {"steps": 12} if name == "points" else {}
        recipe = toys.recipe(name, network["name"], network=network, options=options, training=training)
        model = train(domain, recipe, tmp_path_factory.mktemp(name), checkpoint_seconds=1e9)
        out[name] = Generator(domain, model, recipe, f"{name}/trained")
    return out


def test_knobs_are_obeyed(trained: dict[str, Generator]) -> None:
    made = trained["words"]
    plain = made.sample(300, seed=1)
    for many in (0, 1, 3):
        counts = np.array([w.lower().count("a") for w in made.sample(300, seed=1, many=many)])
        assert abs(np.median(counts) - many) <= 0.5 and abs(counts.mean() - many) < 0.5, many
    share = np.mean([w[:1].isupper() for w in made.sample(300, seed=1, loud=True)])
    assert share > 0.9 > 0.75 > np.mean([w[:1].isupper() for w in plain]) > 0.25
    both = made.sample(300, seed=1, loud=False, type="b")
    assert np.mean([w[:1].islower() and w[-1:] in "bB" for w in both]) > 0.7


def test_guidance_presses_harder(trained: dict[str, Generator]) -> None:
    made = trained["words"]
    kept = {g: np.mean([w[-1:] in "cC" for w in made.sample(500, seed=2, type="c", guidance=g)]) for g in (0.0, 1.0, 2.0)}
    assert kept[2.0] > kept[1.0] > 0.7 > 0.5 > kept[0.0]
    loud = {g: np.mean([w[:1].isupper() for w in made.sample(500, seed=2, loud=True, guidance=g)]) for g in (0.0, 1.0, 2.0)}
    assert 1 - loud[2.0] <= 0.5 * (1 - loud[1.0]) < 0.1 and loud[0.0] < 0.7
    assert same(made.sample(20, seed=2, many=3, guidance=0.0), made.sample(20, seed=2))  # 0 asks for nothing
    assert same(made.sample(20, seed=2, guidance=2.0), made.sample(20, seed=2))  # nothing to press


def test_a_number_steers_a_diffusion(trained: dict[str, Generator]) -> None:
    made = trained["points"]
    right = {x: np.stack(made.sample(200, seed=1, right=x).items) for x in (-0.6, 0.6)}
    for x, drawn in right.items():
        assert abs(np.median(drawn[:, 0]) - x) < 0.15 and abs(np.median(drawn[:, 1]) - x / 2) < 0.15
    free = np.stack(made.sample(400, seed=1).items)
    assert 0.35 < np.mean(free[:, 0] > 0) < 0.65 and np.mean(np.abs(np.abs(free[:, 0]) - 0.6) < 0.35) > 0.9


# --- spaces and networks that do not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "change", "message"),
    [
        ("words", {"family": "diffusion"}, "recipe for diffusion: "),
        ("words", {"network": {"name": "mlp"}}, "recipe for autoregressive: "),
        ("points", {"network": {"name": "transformer"}}, "recipe for diffusion: "),
        ("spots", {"family": "autoregressive", "network": {"name": "recurrent"}}, "lives on Tokens, not on Grid"),
        ("words", {"network": {"name": "lstm"}}, "unknown network 'lstm'; the core has recurrent"),
        ("words", {"network": {"name": "words:own"}}, "the domain has no network 'own'; it has none"),
        ("words", {"network": {"name": "recurrent", "options": {"depth": 3}}}, "depth"),
        ("words", {"network": {"name": "recurrent"}, "given": ["plan"]}, "cannot read a sequence of givens"),
        ("words", {"options": {"patterns": ["holes"]}}, r"unknown infill patterns \['holes'\]; known: span, streams, cells"),
        ("words", {"given": ["wher"]}, "no array field of the condition is named 'wher'"),
        ("points", {"options": {"solver": "rk4"}}, "unknown solver 'rk4'; known: euler, heun, dpm2m"),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_clear_error(domain: str, change: dict[str, Any], message: str) -> None:
    owner = toys.DOMAINS[domain]()
    network = {"words": "transformer", "spots": "unet", "points": "mlp"}[domain]
    with pytest.raises(HeadwaterError, match=message) as caught:
        toys.model(owner, toys.recipe(domain, network, **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("space", [Grid(2, (9,)), Grid(1, (5, 7)), Grid(1, (4, 6, 5))])
@torch.no_grad()
def test_grids_of_one_to_three_dimensions_and_odd_sizes(space: Grid) -> None:
    recipe = toys.recipe("spots", "unet", options={"steps": 2})
    made = build(recipe, space, (), {})
    x = made.family.sample(Noise(0).rows(range(2)), Context(), Steer())
    assert x.shape == (2, *space.shape) and torch.isfinite(x).all()
    wider = torch.zeros(2, space.channels, *(n + 3 for n in space.size))
    assert made.family.denoise(wider, torch.ones(2), Context()).shape == wider.shape  # type: ignore[attr-defined]


def test_spaces_survive_json_and_refuse_nonsense() -> None:
    from headwater.spaces import from_json, to_json

    for space in (Grid(3, (4, 5), levels=256), Tokens((3, 4), 7, streams=2), Tokens(9, 2), Vector(4)):
        assert from_json(to_json(space)) == space
    with pytest.raises(ValueError, match="unknown space 'sphere'"):
        from_json({"kind": "sphere"})
    for bad in (lambda: Grid(0, (3,)), lambda: Grid(1, ()), lambda: Tokens(1, 4), lambda: Tokens((3, 3), 4), lambda: Tokens(3, 0)):
        with pytest.raises(ValueError, match="needs"):
            bad()

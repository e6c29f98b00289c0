"""A family over the latent of a variational autoencoder. What every family promises is in ``test_families.py``."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors import safe_open
from torch import Tensor

from headwater import checkpoint
from headwater.cli.train import find_autoencoder
from headwater.context import Context
from headwater.errors import BadModel, HeadwaterError, MissingVerb
from headwater.families.contract import Family, Steer
from headwater.families.latent import Latent
from headwater.families.vae import VAE
from headwater.generator import Generator, slerp
from headwater.knobs import fields
from headwater.model import Model, build
from headwater.noise import Noise
from headwater.recipe import recipes
from headwater.spaces import Vector
from headwater.train import train

GAN = toys.recipe("words", "mlp", family="gan", autoencoder="vae", options={"latent": 4})
SPLINES = toys.recipe("words", "autoregressive", family="spline_flow", autoencoder="vae")
DIFFUSION = toys.recipe("words", "mlp", family="diffusion", autoencoder="vae", options={"data": 1.0, "steps": 3})
VAE_RECIPE = toys.autoencoder("words")


def about(recipe: Any, name: str) -> dict[str, Any]:
    return {"domain": "words", "name": name, "recipe": recipe, "data": "words", "data_hash": "0", "command": "none"}


def latent_of(made: Generator | Model) -> Latent:
    family = made.model.family if isinstance(made, Generator) else made.family
    assert isinstance(family, Latent)
    return family


def tokens(domain: Any, n: int, codec: str = "letters") -> Tensor:
    return torch.stack([torch.from_numpy(domain.codecs[codec].encode(item)) for item in toys.words("train")[:n]])


# --- a folder -----------------------------------------------------------------------------------------------------------


def test_a_folder_holds_an_autoencoder_that_is_not_shipped(words: Any, tmp_path: Path) -> None:
    made = toys.generator(words, GAN)
    checkpoint.save(made.model, tmp_path / "gan", **about(GAN, "gan"))
    model, config = checkpoint.load(tmp_path / "gan", {})
    assert set(config["autoencoder"]) == {"recipe", "space", "fields"} and config["family"] == "gan"
    assert model.autoencoder is not None and made.model.autoencoder is not None
    for name, tensor in made.model.autoencoder.tensors().items():
        assert torch.equal(model.autoencoder.tensors()[name], tensor), name
    assert Generator(words, model, GAN, "again").sample(5, seed=3).items == made.sample(5, seed=3).items


@pytest.fixture
def pair(words: Any, tmp_path: Path) -> tuple[Path, Generator]:
    """A shipped autoencoder in ``vae`` and, beside it, a model over its latent in ``gan``."""
    inner = toys.model(words, VAE_RECIPE, seed=5)
    checkpoint.save(inner, tmp_path / "vae", dtype="bf16", **about(VAE_RECIPE, "vae"))
    inner, config = checkpoint.load(tmp_path / "vae", {})
    inner.shipped = {"name": "vae", "sha256": config["sha256"]}
    model = build(GAN, inner.space, fields(words.Wish), {}, inner)
    checkpoint.save(model, tmp_path / "gan", **about(GAN, "gan"))
    return tmp_path, Generator(words, model.eval(), GAN, "words/gan")


def test_a_folder_names_an_autoencoder_that_is_shipped(words: Any, pair: tuple[Path, Generator]) -> None:
    folder, made = pair
    config = checkpoint.read_config(folder / "gan")
    assert config["autoencoder"] == {"name": "vae", "sha256": checkpoint.read_config(folder / "vae")["sha256"]}
    with safe_open(str(folder / "gan" / checkpoint.WEIGHTS), framework="pt") as file:
        names = set(file.keys())
    assert names and not any(name.startswith("autoencoder.") for name in names)
    model, _ = checkpoint.load(folder / "gan", {})
    assert Generator(words, model, GAN, "again").sample(5, seed=3).items == made.sample(5, seed=3).items
    checkpoint.save(model, folder / "again", **about(GAN, "gan"))  # what was named when loaded is named again
    for file_name in (checkpoint.CONFIG, checkpoint.WEIGHTS):
        assert (folder / "again" / file_name).read_bytes() == (folder / "gan" / file_name).read_bytes()


def test_the_named_autoencoder_must_be_there_and_the_same(words: Any, pair: tuple[Path, Generator]) -> None:
    folder, _ = pair
    shutil.move(folder / "vae", folder / "away")
    with pytest.raises(BadModel, match=r"gan: needs words/vae, which is not here; put that model's folder at .*/vae$"):
        checkpoint.load(folder / "gan", {})
    checkpoint.save(toys.model(words, VAE_RECIPE, seed=6), folder / "vae", **about(VAE_RECIPE, "vae"))
    with pytest.raises(BadModel, match=r"gan: needs words/vae as of sha256 [0-9a-f]{12}…, and .*/vae is another; train") as caught:
        checkpoint.load(folder / "gan", {})
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder / "vae")
    shutil.copytree(folder / "away", folder / "vae")
    (folder / "vae" / checkpoint.WEIGHTS).write_bytes(b"changed")
    with pytest.raises(BadModel, match=r"vae/model.safetensors: its hash is not the one"):
        checkpoint.load(folder / "gan", {})


# --- what fits ----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_in_one_line(words: Any) -> None:
    space, knobs = words.codecs["letters"].space, fields(words.Wish)
    inner = toys.model(words, VAE_RECIPE)

    def refused(message: str, recipe: Any, autoencoder: Model | None) -> None:
        with pytest.raises(HeadwaterError, match=message) as caught:
            build(recipe, space, knobs, {}, autoencoder)
        assert "\n" not in str(caught.value)

    refused(r"recipe for gan: it needs its autoencoder, 'vae'$", GAN, None)
    refused(r"recipe for vae: it names no autoencoder, and one was given$", VAE_RECIPE, inner)
    other = toys.model(words, toys.autoencoder("words", "pairs"))
    refused(r"autoencoder: expected one of the codec 'letters' over .*; got one of 'pairs' over", GAN, other)
    plain = toys.model(words, toys.recipe("words", "recurrent"))
    refused(r"autoencoder: expected a variational autoencoder; got a model of the family autoregressive$", GAN, plain)
    refused(r"autoencoder: expected a variational autoencoder; got a model of the family gan$", GAN, toys.model(words, GAN))
    told = toys.recipe("words", "mlp", family="gan", autoencoder="vae", given=["where"])
    refused(r"given: 'where' lies on the cells of an item, and a latent has none of them$", told, inner)
    refused(r"lives on Tokens, not on Vector", toys.recipe("words", "recurrent", autoencoder="vae"), inner)


def test_every_family_of_vectors_reaches_tokens_by_default(words: Any, spots: Any) -> None:
    found = recipes(words)
    for name in ("gan", "flow", "diffusion"):
        assert (found[name].autoencoder, found[f"{name}-pairs"].autoencoder) == ("vae", "vae-pairs")
        assert (found[name].codec, found[f"{name}-pairs"].codec) == ("letters", "pairs")
    assert found["diffusion"].options["data"] == 1.0  # latents are standardised
    assert not any(recipe.autoencoder for recipe in recipes(spots).values())
    inner = build(found["vae"], words.codecs["letters"].space, fields(words.Wish), {})
    for name in ("gan", "flow", "diffusion"):
        made = build(found[name], inner.space, fields(words.Wish), {}, inner)
        assert made.space == inner.space and latent_of(made).prior.space == Vector(64)


def test_the_command_line_finds_the_autoencoder(words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        HeadwaterError, match=r"gan learns the latent of 'vae', which is not trained yet: `headwater train words vae`"
    ):
        find_autoencoder(words, "gan", GAN, None, None)
    with pytest.raises(HeadwaterError, match=r"--autoencoder: no model folder at nowhere; words ships none$"):
        find_autoencoder(words, "gan", GAN, "nowhere", None)
    with pytest.raises(HeadwaterError, match=r"--autoencoder: the recipe 'vae' is not one over a latent; leave it out$"):
        find_autoencoder(words, "vae", VAE_RECIPE, "somewhere", None)
    assert find_autoencoder(words, "vae", VAE_RECIPE, None, None) is None
    places = {seed: tmp_path / p for seed, p in enumerate(("runs/words-vae/model", "models/vae", "mine"))}
    weights = {}
    for seed, place in places.items():
        model = toys.model(words, VAE_RECIPE, seed)
        checkpoint.save(model, place, **about(VAE_RECIPE, "vae"))
        weights[seed] = model.tensors()["conditioner.mix.0.weight"]

    def found(asked: str | None) -> tuple[int, Any]:
        model = find_autoencoder(words, "gan", GAN, asked, None)
        assert model is not None
        mine = model.tensors()["conditioner.mix.0.weight"]
        return next(seed for seed, w in weights.items() if torch.equal(w, mine)), model.shipped

    assert found(None) == (0, None)
    words.models = tmp_path / "models"
    sha256 = checkpoint.read_config(places[1])["sha256"]
    assert found(None) == found("vae") == found("words/vae") == (1, {"name": "vae", "sha256": sha256})
    assert found("mine") == (2, None)
    adapted = toys.model(words, GAN)
    assert find_autoencoder(words, "gan", GAN, None, adapted) is adapted.autoencoder
    with pytest.raises(HeadwaterError, match=r"--autoencoder: the model of --from has its own; leave it out$"):
        find_autoencoder(words, "gan", GAN, "mine", adapted)


# --- training -----------------------------------------------------------------------------------------------------------


def test_the_loss_trains_the_prior_alone_on_standardised_draws(words: Any) -> None:
    model = toys.model(words, DIFFUSION)
    family, inner, x = latent_of(model), model.autoencoder, tokens(words, 300)
    assert inner is not None and not any(p.requires_grad for p in inner.parameters())
    family.begin(x, Context(), Noise(0).rows(range(300)))
    u = family.latents(x, Noise(1).rows(range(300)))
    assert torch.allclose(u.mean(0), torch.zeros(4), atol=0.2) and torch.allclose(u.std(0), torch.ones(4), atol=0.15)
    assert not torch.equal(u, family.latents(x, Noise(2).rows(range(300))))  # draws, not means
    model.train()
    assert model.training and not any(m.training for m in inner.modules())
    context = model.conditioner(model.conditions([words.Wish(many=1)] * 300))
    family.loss("model", x, context, Noise(3).rows(range(300))).backward()
    assert all(p.grad is None for p in inner.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.family_parts.parameters())
    assert family.parts().keys() == {"network", "latents"} and list(family.team("model")) == ["network"]


def test_training_leaves_the_autoencoder_and_resumes_bit_for_bit(words: Any, tmp_path: Path) -> None:
    inner = toys.model(words, VAE_RECIPE)
    before = {k: v.clone() for k, v in inner.tensors().items()}

    class Stopped(Exception):
        pass

    def stop(step: int, loss: float, valid: float) -> None:
        if step == 3:
            raise Stopped

    def run(folder: str, autoencoder: Model = inner, **how: Any) -> Model:
        recipe = GAN.at(steps=4, batch=8, warmup=0, validate_rows=0)
        return train(words, recipe, tmp_path / folder, autoencoder=autoencoder, checkpoint_seconds=0.0, log_every=1, **how)

    whole = run("whole")
    with pytest.raises(Stopped):
        run("parts", tell=stop)
    resumed = run("parts")
    assert latent_of(whole).players == ("critic", "generator")
    fresh = build(GAN, inner.space, fields(words.Wish), {}, inner).tensors()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name
    assert not torch.equal(whole.tensors()["latents.mean"], fresh["latents.mean"])  # the family began
    assert whole.autoencoder is not None
    for name, tensor in whole.autoencoder.tensors().items():
        assert torch.equal(tensor, before[name]), name
    with pytest.raises(HeadwaterError, match=r"holds the checkpoint of another recipe, seed or data"):
        run("parts", toys.model(words, VAE_RECIPE, seed=1))


def test_an_adapted_model_keeps_its_own_autoencoder(words: Any, tmp_path: Path) -> None:
    start, other = toys.model(words, GAN), toys.model(words, VAE_RECIPE, seed=1)
    before, recipe = {k: v.clone() for k, v in other.tensors().items()}, GAN.at(steps=1, batch=8, warmup=0, validate_rows=0)
    with pytest.raises(HeadwaterError, match=r"^--from: that model was trained over the latent of another autoencoder"):
        train(words, recipe, tmp_path / "a", start=start, autoencoder=other)
    assert all(torch.equal(v, before[k]) for k, v in other.tensors().items())
    same = toys.model(words, VAE_RECIPE)
    assert start.autoencoder is not None
    same.load_tensors(start.autoencoder.tensors())  # equal, and another object
    assert train(words, recipe, tmp_path / "b", start=start, autoencoder=same).autoencoder is same


# --- likelihood ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_score_bounds_the_integral_over_the_latent(words: Any) -> None:
    """A latent of one number, so that p(x) = ∫ p(x | z) p(z) dz can be summed; with a scale that is not one."""
    inner = toys.model(words, toys.autoencoder("words", options={"latent": 1}))
    inner.family.encoder.out.weight.zero_()  # type: ignore[attr-defined]
    inner.family.encoder.out.bias.copy_(torch.tensor([0.5, 0.9]))  # type: ignore[attr-defined]  # wider than any posterior
    model = build(SPLINES, inner.space, fields(words.Wish), {}, inner).eval()
    for i, parameter in enumerate(model.family_parts.parameters()):
        parameter.copy_(0.4 * Noise(4).fold(i).normal(*parameter.shape)[0])
    family, x, n = latent_of(model), tokens(words, 8), 2001
    family.standard.mean.fill_(0.7)
    family.standard.std.fill_(1.6)
    z = torch.linspace(-20, 20, n)[:, None]
    prior = family.prior.score(family.standard(z), Noise(0).rows(range(n)), model.blank(n)).value.double() - math.log(1.6)
    assert math.isclose(float(prior.exp().sum()) * 0.02, 1.0, abs_tol=5e-3)
    decoder, blank = family.autoencoder.decoder, inner.blank(n)
    exact = torch.stack([(decoder.log_prob(row.expand(n, -1, -1), z, blank).double() + prior).logsumexp(0) for row in x])
    exact = exact + math.log(0.02)
    few, many = (family.score(x, Noise(1).rows(range(8)), model.blank(8), draws=k) for k in (2, 500))
    assert few.kind == many.kind == "bound"
    assert float((few.value - exact).mean()) < -0.02  # a bound, and not a tight one
    off = many.value - exact
    assert abs(float(off.mean())) < 0.1 and many.stderr is not None and bool((off.abs() < 5 * many.stderr + 0.05).all())


def fit(family: Family, x: Tensor, steps: int, rate: float) -> None:
    parts = torch.nn.ModuleDict(dict(family.parts()))
    optimiser = torch.optim.Adam(parts.parameters(), lr=rate)
    family.begin(x, Context(), Noise(6).rows(range(len(x))))
    for step in range(steps):
        rows = Noise(7).fold(step).below(len(x), 64)[0]
        optimiser.zero_grad()
        family.loss("model", x[rows], Context(), Noise(8).fold(step).rows(range(64))).backward()
        optimiser.step()


def test_a_learnt_prior_fits_latents_that_are_not_normal(points: Any) -> None:
    """Where the autoencoder was trained with a small β its latents are far from N(0, 1): the plain model's bound suffers, that with
    a learnt prior does not."""
    torch.manual_seed(0)
    train_x, held = (torch.stack([torch.from_numpy(item) for item in toys.points(split)]) for split in ("train", "valid"))
    plain = toys.autoencoder("points", options={"latent": 2, "beta": 0.1}, labels=0)
    inner = build(plain, Vector(2), (), {})
    fit(inner.family, train_x, 300, 5e-3)
    over = toys.recipe("points", "coupling", family="spline_flow", autoencoder="vae", labels=0)
    model = build(over, Vector(2), (), {}, inner.eval())
    fit(model.family, train_x, 150, 1e-2)
    model.eval()
    x, keys = held[:200], Noise(9).rows(range(200))
    before, after = (float(family.score(x, keys, Context()).value.mean()) for family in (inner.family, model.family))
    assert after > before + 0.2, (before, after)


# --- drawing ------------------------------------------------------------------------------------------------------------


def test_each_part_is_steered_by_what_it_understands(words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toys.model(words, DIFFUSION)
    family, seen = latent_of(model), {}
    prior, vae = family.prior, family.autoencoder
    original = {"prior": prior.sample, "decoder": vae.decode}
    monkeypatch.setattr(prior, "sample", lambda *a: seen.update(prior=a[-1]) or original["prior"](*a))
    monkeypatch.setattr(vae, "decode", lambda *a: seen.update(decoder=a[-1], blank=a[-2]) or original["decoder"](*a))
    asked = Steer(guidance=2.0, temperature=0.5, top_p=0.9, steps=2, constraints=[None] * 3)
    context = model.conditioner.with_null(model.conditions([words.Wish(many=2)] * 3))
    family.sample(Noise(0).rows(range(3)), context, asked)
    assert seen["prior"] == Steer(guidance=2.0, temperature=0.5, steps=2)
    assert seen["decoder"] == Steer(temperature=0.5, top_p=0.9, constraints=[None] * 3)
    assert model.autoencoder is not None
    empty = model.autoencoder.conditioner(model.autoencoder.conditions([words.Wish()] * 3))
    assert torch.equal(seen["blank"].pooled, empty.pooled)  # it was trained with knobs, and is asked for none


def test_vary_starts_at_the_item_and_strays(words: Any) -> None:
    for recipe in (GAN, SPLINES):
        made = toys.generator(words, recipe)
        items = toys.words("train")[:6]
        assert made.vary(items, strength=0.0).items == items
        far = made.vary(items, strength=0.9, seed=1).items
        assert far == made.vary(items, strength=0.9, seed=1).items != made.vary(items, strength=0.9, seed=2).items


# --- latents ------------------------------------------------------------------------------------------------------------


def test_latents_go_there_and_back(points: Any) -> None:
    """Through a flow the latent is the flow's; there and back it is the autoencoder's own reconstruction."""
    made = toys.generator(points, toys.recipe("points", "coupling", family="spline_flow", autoencoder="vae"))
    items, family = toys.points("train")[:5], latent_of(made)
    z = made.latents(items)
    assert z.shape == (5, 4) == (5, *family.latent.shape)
    x = torch.stack([torch.from_numpy(item) for item in items])
    vae = family.autoencoder
    assert isinstance(vae, VAE)
    with torch.no_grad():
        keys = Noise(0).fold("decode").rows(range(5))
        blank = family.blank(5)
        want = vae.decode(vae.encode(x, blank), keys.fold("decode"), blank, Steer(temperature=0.1))
    back = torch.stack([torch.from_numpy(item) for item in made.from_latents(z, temperature=0.1)])
    assert torch.allclose(back, want, atol=1e-4)


def test_interpolation_runs_from_reconstruction_to_reconstruction(points: Any, words: Any) -> None:
    for domain, recipe, items in (
        (points, toys.autoencoder("points"), toys.points("train")[:2]),
        (words, SPLINES, toys.words("train")[:2]),
    ):
        made = toys.generator(domain, recipe)
        way = made.interpolate(*items, steps=5, seed=2)
        ends = made.from_latents(made.latents(items), seed=2, same_draw=True, temperature=0.1)
        assert len(way) == 5
        for got, want in ((way[0], ends[0]), (way[4], ends[1])):
            assert got == want if isinstance(got, str) else got.tolist() == want.tolist()
        again = made.interpolate(*items, steps=5, seed=2)
        assert [str(item) for item in way] == [str(item) for item in again]
    with pytest.raises(HeadwaterError, match=r"steps: expected at least 2, the two ends; got 1$"):
        made.interpolate(*items, steps=1)
    with pytest.raises(HeadwaterError, match=r"latents: expected shape \(items, 4\); got \(2, 3\)$"):
        made.from_latents(torch.zeros(2, 3))
    for recipe, message in (
        (GAN, "cannot take items to a latent"),
        (toys.recipe("words", "recurrent"), "has no latent|cannot take"),
    ):
        with pytest.raises(MissingVerb, match=message):
            toys.generator(words, recipe).interpolate(*items)


def test_an_arc_stays_on_its_sphere() -> None:
    a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0, 2.0, 0])
    points = torch.stack([slerp(a, b, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)])
    assert torch.allclose(points.norm(dim=1), torch.full((5,), 2.0))
    assert torch.allclose((points[1:] - points[:-1]).norm(dim=1), torch.full((4,), 4 * math.sin(math.pi / 16)))
    assert torch.equal(slerp(a, a, 0.3), a) and torch.allclose(slerp(a, -a, 0.25), a / 2)  # no arc: a straight line

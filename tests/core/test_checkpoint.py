"""A model folder: what is wrong with a bad one is said in one line, and an old one still loads and draws the same items.

``tests/golden`` was written by ``python tests/core/test_checkpoint.py`` under format 1. Do not write it again: a format that cannot
read it is a new format.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import toys

from headwater import checkpoint
from headwater.checkpoint import CONFIG, FORMAT, METRICS, WEIGHTS
from headwater.errors import BadModel, HeadwaterError
from headwater.generator import Generator
from headwater.spaces import Tokens, to_json

GOLDEN = Path(__file__).parents[1] / "golden"
OLD = {
    "words-autoregressive": ("words", "transformer", "pairs", {"given": ["where", "plan"], "options": {"patterns": ["cells"]}}),
    "points-diffusion": ("points", "mlp", "plain", {"options": {"steps": 4, "solver": "dpm2m"}}),
}
TINY = {"transformer": {"width": 8, "layers": 1, "heads": 2}, "mlp": {"width": 8, "layers": 1}}


def drawn(domain: Any, folder: Path) -> list[Any]:
    """Four items of the model of a folder."""
    model, config = checkpoint.load(folder, domain.networks)
    made = Generator(domain, model, toys.Recipe.model_validate(config["recipe"]), folder.name)
    return [item if isinstance(item, str) else item.tolist() for item in made.sample(4, seed=7)]


@pytest.mark.parametrize("name", OLD)
def test_an_old_model_folder_still_loads_and_draws_the_same(name: str) -> None:
    folder = GOLDEN / name
    config = checkpoint.read_config(folder)
    assert config["format"] == FORMAT == 1 and config["dtype"] == "bf16"
    then = json.loads((folder / "drawn.json").read_text())
    now = drawn(toys.DOMAINS[config["domain"]](), folder)
    if isinstance(then[0], str):
        assert now == then
    else:  # floats: to rounding, since machines differ in the last bits
        assert [pytest.approx(item, abs=1e-5) for item in then] == now
    assert sum(file.stat().st_size for file in folder.iterdir()) < 40_000


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "good"
    write(folder, "words", "transformer", "pairs", {})
    return folder


def write(folder: Path, domain: str, network: str, codec: str, more: dict[str, Any]) -> None:
    owner = toys.DOMAINS[domain]()
    recipe = toys.recipe(
        domain, network, codec, **{"network": {"name": network, "options": TINY[network]}, "condition_width": 8, "tile": 4, **more}
    )
    about = {"domain": domain, "name": folder.name, "recipe": recipe, "data": domain, "data_hash": "none", "command": "none"}
    checkpoint.save(toys.model(owner, recipe), folder, dtype="bf16", **about)


def rewrite(folder: Path, **change: Any) -> None:
    """Change the configuration; a value of None removes the key."""
    config = json.loads((folder / CONFIG).read_text()) | change
    (folder / CONFIG).write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def crafted(folder: Path, weights: bytes) -> None:
    """Weights whose hash fits."""
    (folder / WEIGHTS).write_bytes(weights)
    rewrite(folder, sha256=hashlib.sha256(weights).hexdigest())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def needing(folder: Path, *needs: Any) -> None:
    """Name an autoencoder; without one, the model itself."""
    own = {"name": folder.name, "sha256": json.loads((folder / CONFIG).read_text())["sha256"]}
    rewrite(folder, autoencoder=needs[0] if needs else own)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another version": (lambda f: rewrite(f, format=99), r"model format 99, this Headwater reads 1; train it again"),
    "no version": (lambda f: rewrite(f, format=None), r"model format None, this Headwater reads 1"),
    "wrong hash": (lambda f: rewrite(f, sha256="0" * 64), r"model.safetensors: its hash is not the one in config.json"),
    "truncated weights": (lambda f: cut(f / WEIGHTS), r"its hash is not the one in config.json: the file is damaged"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"model.safetensors: unreadable \(No such file or directory\)"),
    "weights that are none": (lambda f: crafted(f, b"not safetensors"), r"the configuration does not fit the weights"),
    "no configuration": (lambda f: (f / CONFIG).unlink(), r"not a model folder \(no config.json\); give a folder"),
    "truncated configuration": (lambda f: cut(f / CONFIG), r"config.json: unreadable \(.*\); copy the model folder again"),
    "a list for a configuration": (lambda f: (f / CONFIG).write_text("[1]"), r"model format None"),
    "bytes for a configuration": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), r"config.json: unreadable"),
    "keys missing": (lambda f: rewrite(f, domain=None, verbs=None), r"config.json: lacks domain, verbs; copy"),
    "another space": (lambda f: rewrite(f, space=to_json(Tokens(9, 6))), r"does not fit the weights: tensor"),
    "an unknown space": (lambda f: rewrite(f, space={"kind": "sphere"}), r"does not fit the weights: unknown space 'sphere'"),
    "an autoencoder that is itself": (needing, r"does not fit the weights: autoencoder: model is itself a model over a latent"),
    "an autoencoder that is a list": (lambda f: needing(f, ["sha256"]), r"autoencoder: expected an object; got \['sha256'\]"),
    "an autoencoder of numbers": (lambda f: needing(f, {"name": 1, "sha256": []}), r"a name and a sha256; got 1 and \[\]"),
    "an autoencoder without a domain": (lambda f: (needing(f), rewrite(f, domain=[])), r"does not fit the weights"),
    "a space of text": (lambda f: rewrite(f, space="sphere"), r"does not fit the weights"),
    "too deep a configuration": (lambda f: (f / CONFIG).write_text("[" * 10**5), r"config.json: unreadable"),
    "a recipe with a field too many": (
        lambda f: rewrite(f, recipe={**json.loads((f / CONFIG).read_text())["recipe"], "depth": 1}),
        r"does not fit the weights: .*depth",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_model_folder_is_one_clear_line(fault: str, good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    damage, message = BAD[fault]
    damage(folder)
    with pytest.raises(BadModel, match=message) as caught:
        checkpoint.load(folder, {})
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value) and caught.value.exit_code == 2


def test_a_model_of_another_shape_of_domain_is_refused(good: Path) -> None:
    domain = toys.Words()
    model, config = checkpoint.load(good, {})
    recipe = toys.Recipe.model_validate(config["recipe"])
    domain.codecs = {"letters": toys.Letters()}
    with pytest.raises(HeadwaterError, match=r"^m: made for the codec 'pairs'; words has letters$"):
        Generator(domain, model, recipe, "m")
    domain.codecs = {"pairs": toys.Letters()}
    with pytest.raises(
        HeadwaterError, match=r"^m: made for Tokens\(vocab=\(4, 3\).* the codec 'pairs' is now over Tokens\(vocab=7"
    ):
        Generator(domain, model, recipe, "m")


def test_a_configuration_is_read_without_weights_and_figures_are_optional(good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    (folder / WEIGHTS).unlink()
    config = checkpoint.read_config(folder)
    assert config["verbs"] and config["parameters"] > 0 and config["recipe"]["network"]["name"] == "transformer"
    assert checkpoint.read_metrics(folder) == {}
    (folder / METRICS).unlink()
    assert checkpoint.read_metrics(folder) == {}


@pytest.mark.parametrize(("network", "family"), [("coupling", "spline_flow"), ("mlp", "gan"), ("mlp", "diffusion")])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_weights_are_rounded_and_scales_are_not(network: str, family: str, dtype: str, tmp_path: Path) -> None:
    domain, recipe = toys.Points(), toys.recipe("points", network, family=family)
    model = toys.model(domain, recipe)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.full_like(buffer, 1 / 3))
    about = {"domain": "points", "name": "m", "recipe": recipe, "data": "points", "data_hash": "none", "command": "none"}
    checkpoint.save(model, tmp_path / "m", dtype=dtype, **about)
    loaded = checkpoint.load(tmp_path / "m", domain.networks)[0]
    assert list(model.buffers())
    for (name, before), after in zip(model.named_buffers(), loaded.buffers(), strict=True):
        assert torch.equal(before, after), name
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    checkpoint.write_file(path, b"before")

    def full(*unused: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.write_file(path, b"after")
    assert path.read_bytes() == b"before"


if __name__ == "__main__":
    for name, (domain, network, codec, more) in OLD.items():
        if not (GOLDEN / name).exists():
            write(GOLDEN / name, domain, network, codec, more)
            (GOLDEN / name / "drawn.json").write_text(json.dumps(drawn(toys.DOMAINS[domain](), GOLDEN / name)) + "\n")

"""The registry: domains are found through entry points, and a broken one is listed with its reason beside those that work."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import pytest
import toys

from headwater import Domain, Knob, checkpoint, registry
from headwater.errors import BadModel, BrokenDomain, HeadwaterError
from headwater.generator import load


class Outside:
    """An outsider's module, with what may go wrong in one."""

    class Mute(Domain[Any, Any]):
        """Lacks what every domain must have."""

        name = "mute"

    class Liar(toys.Words):
        name = "somebody"

    class Train(toys.Words):
        name = "train"

    class Plain:
        name = "plain"

    class Knobby(toys.Words):
        name = "knobby"

        @dataclass(frozen=True)
        class Wish:
            seed: Annotated[int | None, Knob("a knob that would hide the seed")] = None

    class Untyped(toys.Words):
        name = "untyped"

        @dataclass(frozen=True)
        class Wish:
            x: int = 0

    class Piper(toys.Words):
        name = "piper"

        class Pipe:
            name = "sample"

        pipelines = (Pipe,)  # type: ignore[assignment]

    class Commander(toys.Words):
        name = "commander"
        commands = {"sample": "outside:nothing"}

    @staticmethod
    def explode() -> None:
        raise RuntimeError("a message\n  of two lines")

    @staticmethod
    def leave() -> None:
        sys.exit(3)


REASONS = {
    "absent": ("no_such_module:Domain", "ModuleNotFoundError: No module named 'no_such_module'"),
    "nameless": ("outside:Nothing", "AttributeError: .*Nothing"),
    "exploding": ("outside:Outside.explode", "^RuntimeError: a message of two lines$"),
    "leaving": ("outside:Outside.leave", "SystemExit: 3"),
    "mute": ("outside:Outside.Mute", "TypeError: Can't instantiate abstract class Mute"),
    "plain": ("outside:Outside.Plain", "the entry point gives a Plain, not a headwater.Domain"),
    "liar": ("outside:Outside.Liar", "it is registered as 'liar' but calls itself 'somebody'"),
    "train": ("outside:Outside.Train", "the name 'train' is reserved"),
    "knobby": ("outside:Outside.Knobby", "its knob 'seed' takes a reserved name"),
    "untyped": ("outside:Outside.Untyped", r"TypeError: Wish\.x: expected Annotated"),
    "piper": ("outside:Outside.Piper", "its pipeline takes the reserved name 'sample'"),
    "commander": ("outside:Outside.Commander", "its command takes the reserved name 'sample'"),
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, registry.Entry]]:
    """An installation with two domains that work and twelve that do not."""
    module = types.ModuleType("outside")
    module.Outside = Outside  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside", module)
    places = {"words": "toys:Words", "points": "toys:Points", **{name: place for name, (place, _) in REASONS.items()}}
    points = [EntryPoint(name, place, registry.GROUP) for name, place in places.items()]
    points.append(EntryPoint("words", "toys:Spots", registry.GROUP))  # a second of that name changes nothing
    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: points)
    registry.entries.cache_clear()
    yield dict(registry.entries())
    registry.entries.cache_clear()


def test_broken_domains_are_listed_and_the_others_work(installed: dict[str, registry.Entry]) -> None:
    assert sorted(registry.domains()) == ["points", "words"] and registry.find("words").name == "words"
    assert len(installed) == 2 + len(REASONS) and list(installed) == sorted(installed)


@pytest.mark.parametrize("name", REASONS)
def test_a_broken_domain_says_why(name: str, installed: dict[str, registry.Entry]) -> None:
    with pytest.raises(BrokenDomain, match=f"^the domain '{name}' is broken: ") as caught:
        registry.find(name)
    assert installed[name].domain is None and "\n" not in str(caught.value)
    assert re.search(REASONS[name][1], installed[name].reason), installed[name].reason


def test_an_unknown_domain_is_told_what_there_is(installed: dict[str, registry.Entry]) -> None:
    with pytest.raises(HeadwaterError, match=r"^unknown domain 'wrods'; installed: .*points.*words"):
        registry.find("wrods")


def test_models_by_name_and_by_path(installed: dict[str, registry.Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = registry.find("points")
    recipe = toys.recipe("points", "mlp", options={"steps": 2})
    about = {"recipe": recipe, "data": "points", "data_hash": "0", "command": "none"}
    checkpoint.save(toys.model(domain, recipe), tmp_path / "diffusion", domain="points", name="diffusion", **about)
    (tmp_path / "half").mkdir()
    monkeypatch.setattr(toys.Points, "models", tmp_path)
    assert registry.models(domain) == {"diffusion": tmp_path / "diffusion"} and registry.models(registry.find("words")) == {}
    assert registry.models_with(domain, "vary") == ["points/diffusion"] and registry.models_with(domain, "optimise") == []
    shipped, own = load("points/diffusion"), load(tmp_path / "diffusion")
    assert shipped.name == own.name == "points/diffusion" and shipped.sample(1).items[0].tolist() == own.sample(1).items[0].tolist()
    for name, message in {
        "points/gan": r"^unknown model 'gan'; points has diffusion, or give a folder$",
        "words/gan": r"^unknown model 'gan'; words has no shipped model, or give a folder$",
        "nowhere": r"^unknown model 'nowhere'; shipped: points/diffusion, or give a model folder$",
        str(tmp_path / "none"): r"^unknown model .*; shipped: points/diffusion",
    }.items():
        with pytest.raises(HeadwaterError, match=message):
            load(name)
    with pytest.raises(BadModel, match=r"half: not a model folder \(no config.json\)"):
        load(tmp_path / "half")
    checkpoint.save(toys.model(domain, recipe), tmp_path / "stray", domain="nobody", name="stray", **about)
    with pytest.raises(HeadwaterError, match="unknown domain 'nobody'"):
        load(tmp_path / "stray")
    assert registry.models_with(domain, "vary") == ["points/diffusion", "points/stray"]

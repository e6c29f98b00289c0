"""A recipe: everything about how one model is made, as a TOML file. One file, one model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headwater import settings
from headwater.errors import HeadwaterError
from headwater.spaces import Space, Tokens

if TYPE_CHECKING:
    from headwater.domain import Domain

FamilyName = Literal["autoregressive", "diffusion", "flow", "vae", "masked_diffusion", "gan", "spline_flow"]
Size = Literal["s", "m", "l"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkChoice(Part):
    """A core network, or ``domain:name`` for one that the domain brings, and its options."""

    name: str
    options: dict[str, Any] = {}


class Training(Part):
    """How weights are found. The rate rises over ``warmup`` steps, stays, and falls linearly to zero over the last ``decay`` share
    of ``steps``: the end can be chosen late without changing what came before it. Where only a part of the rows is labelled,
    ``finish`` more steps on labelled rows alone, their rate falling from ``finish_rate`` of the peak, teach the knobs well.
    ``given_hidden`` is the share of rows that are not told a given array, unless said as large as that of a knob, about a half.
    ``precision`` "bf16" is fp32 on a device that has no instructions for it."""

    steps: int = Field(2000, gt=0)
    batch: int = Field(64, gt=0)
    rate: float = Field(1e-3, gt=0)
    warmup: int = Field(100, ge=0)
    decay: float = Field(0.4, ge=0, le=1)
    finish: int = Field(0, ge=0)
    finish_rate: float = Field(0.3, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    given_hidden: float | None = Field(None, ge=0, le=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    validate_rows: int = Field(512, ge=0)

    @property
    def total(self) -> int:
        """All steps."""
        return self.steps + self.finish


class Recipe(Part):
    """One model. ``network`` is its family's main network, ``networks`` those of its other roles; ``labels`` is how many training
    rows ``describe`` labels (None: all); ``given`` names the array fields that are filled by the domain in training; ``tile`` is
    the rows of one network call when the model is used, ``guidance`` how hard it is pressed to obey its knobs unless a user says
    otherwise. With an ``autoencoder``, a model of the same domain and codec (its name, such as "vae", or its folder), the family
    learns that model's latent."""

    summary: str = ""
    codec: str
    family: FamilyName
    autoencoder: str = ""
    network: NetworkChoice
    networks: dict[str, NetworkChoice] = {}
    options: dict[str, Any] = {}
    data: str
    labels: int | None = None
    given: tuple[str, ...] = ()
    condition_width: int = 128
    tile: int = Field(64, gt=0)
    guidance: float = Field(1.0, ge=0, le=50)
    training: Training = Training()  # type: ignore[call-arg]
    sizes: dict[Size, dict[str, Any]] = {}

    @staticmethod
    def folder(path: Path) -> Mapping[str, Recipe]:
        """The recipes of a folder of TOML files by their stems; each is read when asked for."""
        return _Folder(path)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Raises :class:`HeadwaterError` naming the file and the field."""
        return settings.checked(cls, settings.read(path, "a recipe"), "a recipe", str(path))

    def at(self, size: Size | None = None, **training: Any) -> Recipe:
        """This recipe at a size (``[sizes.s]`` and so on override any field) and with training settings replaced.

        Raises :class:`HeadwaterError` for a size the recipe does not have or a setting of the wrong kind."""
        data = self.model_dump()
        if size is not None:
            if size not in self.sizes:
                raise HeadwaterError(f"--size: this recipe has {', '.join(self.sizes) or 'one size only'}; got {size!r}")
            merge(data, self.sizes[size])
        data["training"].update({k: v for k, v in training.items() if v is not None})
        return settings.checked(Recipe, data, "a recipe")


def merge(data: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lay ``over`` on nested ``data``."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(data.get(key), dict):
            merge(data[key], value)
        else:
            data[key] = value


class _Folder(Mapping[str, Recipe]):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, name: str) -> Recipe:
        file = self.path / f"{name}.toml"
        if not file.is_file():
            raise KeyError(name)
        return Recipe.load(file)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(p.stem for p in self.path.glob("*.toml")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


#: (family, space): the fields of the core's own recipe, for domains that bring none.
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("autoregressive", "Tokens"): {
        "network": {"name": "transformer", "options": {"width": 128, "layers": 4, "heads": 4, "activation": "squared_relu"}}
    },
    ("diffusion", "Grid"): {"network": {"name": "unet", "options": {"widths": (32, 64)}}},
    ("diffusion", "Vector"): {"network": {"name": "mlp", "options": {"width": 256}}},
    ("gan", "Grid"): {"network": {"name": "convolutional"}, "training": {"betas": (0.0, 0.99)}},
    ("gan", "Vector"): {"network": {"name": "mlp", "options": {"width": 256, "layers": 3}}, "training": {"betas": (0.0, 0.99)}},
    ("masked_diffusion", "Tokens"): {"network": {"name": "transformer", "options": {"width": 128, "layers": 4, "heads": 4}}},
    ("flow", "Grid"): {"network": {"name": "unet", "options": {"widths": (32, 64)}}},
    ("flow", "Vector"): {"network": {"name": "mlp", "options": {"width": 256}}},
    ("spline_flow", "Grid"): {"network": {"name": "coupling", "options": {"transforms": 4, "bins": 4}}},
    ("spline_flow", "Vector"): {"network": {"name": "autoregressive"}},
    ("vae", "Grid"): {"network": {"name": "convolutional"}, "options": {"latent": 32}},
    ("vae", "Tokens"): {
        "network": {"name": "recurrent", "options": {"width": 256, "layers": 1}},
        "options": {"latent": 64, "free_bits": 0.1},
        "networks": {"encoder": {"name": "recurrent", "options": {"width": 256}}},
    },
    ("vae", "Vector"): {"network": {"name": "mlp", "options": {"width": 128}}, "options": {"latent": 4, "free_bits": 0.25}},
}

#: Besides what a family over ``Vector`` has, what it wants over a latent, whose numbers have a standard deviation of one. A bound
#: weighs every noise level alike, so training looks at all of them: without, a lattice's lost 15 nats where it now loses .06.
LATENT: dict[str, dict[str, Any]] = {"diffusion": {"options": {"data": 1.0, "uniform": 0.3}}, "flow": {"options": {"data": 1.0}}}


def default(family: str, codec: str, space: Space, data: str, autoencoder: str = "") -> Recipe | None:
    """The core's own recipe for a family over a space, None where the family does not live there. A family of ``Vector`` that does
    not live on ``Tokens`` reaches them by the latent of an ``autoencoder``."""
    made: dict[str, Any] = {"codec": codec, "family": family, "data": data}
    fields = DEFAULTS.get((family, type(space).__name__))
    if fields is None and autoencoder and isinstance(space, Tokens) and (fields := DEFAULTS.get((family, "Vector"))):
        made["autoencoder"] = autoencoder
        fields = copy.deepcopy(fields)
        merge(fields, LATENT.get(family, {}))
    return None if fields is None else Recipe.model_validate({**made, **fields})


def recipes(domain: Domain[Any, Any]) -> dict[str, Recipe]:
    """A domain's recipes by name: its own and, for each family and codec that has none, the core's default, named after the
    family (and the codec, from the second one on). Those over a latent take that of the codec's first variational autoencoder."""
    found = dict(domain.recipes)
    data = next(iter(domain.datasets), "")
    families: tuple[str, ...] = FamilyName.__args__  # type: ignore[attr-defined]
    for family in sorted(families, key=lambda name: name != "vae"):
        lives = {name: (family, type(codec.space).__name__) in DEFAULTS for name, codec in domain.codecs.items()}
        for codec_name in sorted(lives, key=lives.__getitem__, reverse=True):  # those by a latent come last
            if any(r.family == family and r.codec == codec_name for r in found.values()):
                continue
            latent = next((name for name, r in found.items() if r.family == "vae" and r.codec == codec_name), "")
            recipe = default(family, codec_name, domain.codecs[codec_name].space, data, latent)
            if recipe is not None:
                found[family if family not in found else f"{family}-{codec_name}"] = recipe
    defaults = [name for name in found if name not in domain.recipes]
    return {**domain.recipes, **{name: found[name] for name in sorted(defaults, key=lambda n: families.index(found[n].family))}}

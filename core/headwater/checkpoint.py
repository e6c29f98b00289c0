"""A model is a folder: ``model.safetensors``, ``config.json``, ``metrics.json`` and a model card, ``README.md``.

Everything needed to build the model again is in ``config.json``; nothing is pickled, so a folder from a stranger can be read.
A model over the latent of a shipped one names it by its sha256 and needs it; over any other it holds that one's weights too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import BadModel
from headwater.recipe import Recipe
from headwater.spaces import from_json, to_json

if TYPE_CHECKING:
    from torch import nn

    from headwater.model import Model

#: Raised when a folder of an older version could no longer be read; older ones are read as long as their tests pass.
FORMAT = 1
#: What a configuration cannot do without.
NEEDED = ("domain", "name", "codec", "family", "verbs", "space", "fields", "recipe", "sha256")
WEIGHTS, CONFIG, METRICS, CARD = "model.safetensors", "config.json", "metrics.json", "README.md"
#: Where the tensors of an autoencoder begin.
INNER = "autoencoder."


def save(
    model: Model,
    folder: Path,
    *,
    domain: str,
    name: str,
    recipe: Recipe,
    data: str,
    data_hash: str,
    command: str,
    dtype: str = "fp32",
    metrics: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder (weights, configuration, metrics; the card is :mod:`headwater.report.card`'s).

    ``dtype`` "bf16" or "fp16" halves the file: parameters are rounded, buffers (scales among them) are not; figures in ``metrics``
    must then be of the rounded weights. Each file is written under a temporary name first."""
    import torch
    from safetensors.torch import save as to_bytes

    from headwater.context import fields_to_json

    inner = model.autoencoder
    named = None if inner is None else inner.shipped
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    exact = {k.replace("family_parts.", "", 1) for k, _ in model.named_buffers()}
    tensors = {
        k: v.detach().cpu().to(kind if v.dtype == torch.float32 and k not in exact else v.dtype)
        for k, v in model.tensors().items()
        if named is None or not k.startswith(INNER)
    }
    weights = to_bytes({k: v.contiguous() for k, v in tensors.items()})
    config = {
        "format": FORMAT,
        "domain": domain,
        "name": name,
        "codec": recipe.codec,
        "family": recipe.family,
        "verbs": dict(model.family.verbs),
        "space": to_json(model.space),
        "fields": fields_to_json(model.conditioner.fields),
        "data": {"name": data, "hash": data_hash},
        "recipe": recipe.model_dump(mode="json"),
        "command": command,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": dtype,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    if inner is not None:
        about = {"space": to_json(inner.space), "fields": fields_to_json(inner.conditioner.fields)}
        config["autoencoder"] = dict(named) if named else {**about, "recipe": inner.recipe.model_dump(mode="json")}
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / WEIGHTS, weights)
    write_file(folder / CONFIG, (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode())
    write_file(folder / METRICS, (json.dumps(metrics or {}, indent=1, ensure_ascii=False) + "\n").encode())


def write_file(path: Path, data: bytes) -> None:
    """The whole file or none of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, path)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder, without torch. Raises :class:`BadModel` for what is not one, or of another format."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
    except FileNotFoundError:
        raise BadModel(f"{folder}: not a model folder (no {CONFIG}); give a folder that `headwater train` wrote") from None
    except (OSError, RecursionError, ValueError) as error:
        raise BadModel(f"{folder / CONFIG}: unreadable ({error}); copy the model folder again") from None
    version = config.get("format") if isinstance(config, dict) else None
    if version != FORMAT:
        raise BadModel(
            f"{folder}: model format {version!r}, this Headwater reads {FORMAT}; train it again or use the version that wrote it"
        )
    if missing := [key for key in NEEDED if key not in config]:
        raise BadModel(f"{folder / CONFIG}: lacks {', '.join(missing)}; copy the model folder again")
    return config


def read_metrics(folder: Path) -> dict[str, Any]:
    """The figures of a model folder, empty where there are none yet."""
    try:
        metrics: dict[str, Any] = json.loads((folder / METRICS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return metrics


def load(folder: Path, networks: Mapping[str, Callable[..., nn.Module]]) -> tuple[Model, dict[str, Any]]:
    """The model of a folder in fp32, ready to use, and its configuration.

    Raises :class:`BadModel` for another format version, a hash that does not match, weights that do not fit, or a shipped model
    that this one needs and that is missing or another."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    config = read_config(folder)
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise BadModel(f"{folder / WEIGHTS}: unreadable ({error.strerror}); copy the model folder again") from None
    if hashlib.sha256(weights).hexdigest() != config.get("sha256"):
        raise BadModel(f"{folder / WEIGHTS}: its hash is not the one in {CONFIG}: the file is damaged or changed; copy it again")
    try:
        needs = config.get("autoencoder", {})
        if not isinstance(needs, dict):
            raise ValueError(f"autoencoder: expected an object; got {needs!r}")
        inner = referred(folder, config, networks) if "sha256" in needs else None
        tensors = {k: v.float() if v.is_floating_point() else v for k, v in from_bytes(weights).items()}
        if inner is not None:
            tensors |= {INNER + k: v for k, v in inner.tensors().items()}
        elif needs:
            inner = built(needs, networks)
        model = built(config, networks, inner)
        model.load_tensors(tensors)
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise BadModel(f"{folder}: the configuration does not fit the weights: {reason[:200]}") from None
    return model.eval(), config


def built(config: Mapping[str, Any], networks: Mapping[str, Callable[..., nn.Module]], autoencoder: Model | None = None) -> Model:
    """The model of a configuration, with fresh weights."""
    from headwater.context import fields_from_json
    from headwater.model import build

    recipe = Recipe.model_validate(config["recipe"])
    return build(recipe, from_json(config["space"]), fields_from_json(config["fields"]), networks, autoencoder)


def referred(folder: Path, config: Mapping[str, Any], networks: Mapping[str, Callable[..., nn.Module]]) -> Model:
    """The shipped model whose latent the model of ``folder`` learns: beside it, or among its domain's models. Raises ``ValueError``
    for one that is itself over a latent, so that no folder leads back to itself."""
    from headwater.registry import domains, models

    name, sha256 = config["autoencoder"].get("name"), config["autoencoder"]["sha256"]
    if not isinstance(name, str) or not isinstance(sha256, str):
        raise ValueError(f"autoencoder: expected a name and a sha256; got {name!r} and {sha256!r}")
    wanted, domain = f"{config['domain']}/{name}", domains().get(config["domain"])
    places = [folder.resolve().parent / Path(name).name, *([] if domain is None else models(domain).values())]
    there = [place for place in places if place.name == name and (place / CONFIG).is_file()]
    for place in there:
        theirs = read_config(place)
        if theirs["sha256"] == sha256:
            if "autoencoder" in theirs:
                raise ValueError(f"autoencoder: {name} is itself a model over a latent")
            found = load(place, networks)[0]
            found.shipped = {"name": name, "sha256": sha256}
            return found
    if there:
        raise BadModel(f"{folder}: needs {wanted} as of sha256 {sha256[:12]}…, and {there[0]} is another; train one of them again")
    raise BadModel(f"{folder}: needs {wanted}, which is not here; put that model's folder at {places[0]}")

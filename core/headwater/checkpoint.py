"""A model is a folder: ``model.safetensors``, ``config.json``, ``metrics.json`` and a model card, ``README.md``.

Everything needed to build the model again is in ``config.json``; nothing is pickled, so a folder from a stranger can be read.
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

    ``dtype`` "bf16" or "fp16" halves the file; figures in ``metrics`` must then be of the rounded weights. Each file is written
    under a temporary name first."""
    import torch
    from safetensors.torch import save as to_bytes

    from headwater.context import fields_to_json

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    tensors = {
        k: v.detach()
        .cpu()
        .to(kind if v.dtype == torch.float32 and not k.startswith("conditioner.mean") and k != "conditioner.std" else v.dtype)
        for k, v in model.tensors().items()
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
    except (OSError, ValueError) as error:
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

    Raises :class:`BadModel` for another format version, a hash that does not match or weights that do not fit."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    from headwater.context import fields_from_json
    from headwater.model import build

    config = read_config(folder)
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise BadModel(f"{folder / WEIGHTS}: unreadable ({error.strerror}); copy the model folder again") from None
    if hashlib.sha256(weights).hexdigest() != config.get("sha256"):
        raise BadModel(f"{folder / WEIGHTS}: its hash is not the one in {CONFIG}: the file is damaged or changed; copy it again")
    try:
        recipe = Recipe.model_validate(config["recipe"])
        model = build(recipe, from_json(config["space"]), fields_from_json(config["fields"]), networks)
        model.load_tensors({k: v.to(torch.float32) if v.is_floating_point() else v for k, v in from_bytes(weights).items()})
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise BadModel(f"{folder}: the configuration does not fit the weights: {reason[:200]}") from None
    return model.eval(), config

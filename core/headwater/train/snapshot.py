"""A training checkpoint as one safetensors file: tensors by name, everything else as JSON in its header. Nothing is pickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headwater.errors import HeadwaterError


def pack(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Nested dictionaries, lists and scalars as JSON, tensors moved into ``tensors`` under the path that leads to them.

    Raises ``TypeError`` for anything else, so that nothing is lost silently."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"tensor": path}
    if isinstance(value, dict):
        return {"dict": [[pack(k, tensors), pack(v, tensors, f"{path}/{k}")] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [pack(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__} at {path or 'its top'}")


def unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """What :func:`pack` was given."""
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in value}
    if kind in ("list", "tuple"):
        return [unpack(v, tensors) for v in value] if kind == "list" else tuple(unpack(v, tensors) for v in value)
    return value


def identity_of(path: Path) -> str:
    """The identity that a checkpoint was written under, empty where it has none. Raises :class:`HeadwaterError` for a file that is
    not a checkpoint."""
    try:
        with safe_open(str(path), framework="pt") as file:
            top = json.loads(file.metadata()["tree"])["dict"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        raise HeadwaterError(f"{path}: not a readable checkpoint; remove it to train from the beginning") from None
    return next((str(value.get("value", "")) for key, value in top if key == {"value": "identity"}), "")


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints in a file that can hold nothing but numbers and text. Written whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        tensors: dict[str, Tensor] = {}
        tree = pack(checkpoint, tensors)
        part = Path(f"{path}.part")
        save_file(tensors, part, metadata={"tree": json.dumps(tree)})
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            tree = json.loads(file.metadata()["tree"])
        out: dict[str, Any] = unpack(tree, tensors)
        return out

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)

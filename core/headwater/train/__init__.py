"""Training: a recipe and data in, a model folder out, resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError, MissingExtra
from headwater.knobs import fields as knob_fields

if TYPE_CHECKING:
    from headwater.domain import Domain, Rows
    from headwater.model import Model
    from headwater.recipe import Recipe
    from headwater.train.share import Share

Tell = Callable[[int, float, float], None]
Show = Callable[[Mapping[str, float]], None]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Source:
    """Where the rows come from: the recipe's dataset, or the user's own files."""

    train: Rows[Any]
    valid: Rows[Any] | None
    name: str


def dataset_source(domain: Domain[Any, Any], recipe: Recipe) -> Source:
    """The recipe's dataset; where its files are absent, :class:`HeadwaterError` says how to get them."""
    if recipe.data not in domain.datasets:
        raise HeadwaterError(f"the recipe wants data {recipe.data!r}; {domain.name} has {', '.join(domain.datasets) or 'none'}")
    dataset = domain.datasets[recipe.data]
    return Source(dataset.rows("train"), dataset.rows("valid"), recipe.data)


def files_source(domain: Domain[Any, Any], files: Sequence[Path]) -> Source:
    """The items of a user's own files; one in ten, at least one, is held out for validation where there are ten or more."""
    items = [item for file in files for item in domain.read(file)]
    if not items:
        raise HeadwaterError(f"--data: no items found in {', '.join(map(str, files))}")
    held = items[::10] if len(items) >= 10 else []
    rest = [item for i, item in enumerate(items) if i % 10 or not held]
    return Source(rest, held or None, "own files")


def identity(recipe: Recipe, seed: int, data: str) -> str:
    """What a checkpoint must share with the training that resumes it: all that shapes its weights but the number of steps, which
    may be chosen late. What stands at its default is not told, so that a field added to recipes leaves old checkpoints good."""
    from headwater.families import family

    late = {"steps", "decay", "finish", "finish_rate", "validate_rows"}
    learnt = {k: v for k, v in recipe.options.items() if k not in family(recipe.family).late}
    free: Any = {"summary": True, "sizes": True, "tile": True, "guidance": True, "training": late}
    told = recipe.model_copy(update={"options": learnt}).model_dump(mode="json", exclude=free, exclude_defaults=True)
    return hashlib.blake2b(json.dumps([told, seed, data], sort_keys=True).encode(), digest_size=16).hexdigest()


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bf16. On a CPU without them (x86 before AVX-512) torch multiplies element by element,
    some thirty times slower than fp32, so a recipe's bf16 is fp32 there."""
    import torch

    return device.startswith("cuda") or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def weights_hash(model: Model) -> str:
    """A hash of every weight."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.tensors().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def train(
    domain: Domain[Any, Any],
    recipe: Recipe,
    folder: Path,
    *,
    source: Source | None = None,
    start: Model | None = None,
    autoencoder: Model | None = None,
    seed: int = 0,
    device: str = "cpu",
    devices: int = 1,
    compile: bool = False,
    workers: int = 1,
    threads: int | None = None,
    checkpoint_seconds: float = 120.0,
    log_every: int = 50,
    validate_every: int = 500,
    tell: Tell = lambda step, loss, valid: None,
    show: Show = lambda figures: None,
    progress: Progress = lambda what, done, total: None,
    share: Share | None = None,
) -> Model:
    """Train a recipe's model in ``folder`` and return it with averaged weights. The folder gets ``checkpoint.safetensors``,
    ``log.csv`` and, where the family has figures of its own to watch, ``monitor.csv``; ``show`` is told those.

    A folder that holds a checkpoint is resumed from it, bit for bit as if it had never stopped (same machine, same threads, one
    device); more or fewer ``steps`` may be asked for then. ``start`` gives the weights to begin from, for adapting a model;
    ``autoencoder`` is the model whose latent the recipe's family learns, where the recipe names one. ``devices`` of one machine
    share each step's rows (as processes, where ``device`` is the CPU) and find the weights of one device to rounding, but of masked
    diffusion and with ``free_bits`` others (see :mod:`headwater.train.share`); ``share`` is for the processes that this starts.
    ``compile`` runs the networks through torch.compile: a minute first, then faster.

    Raises :class:`HeadwaterError` for data that are missing or do not fit, or a folder that holds another recipe's checkpoint, and
    :class:`MissingExtra` where pytorch-lightning is not installed.
    """
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*pynvml.*|.*LeafSpec.*|.*isinstance.treespec.*")
    try:
        import pytorch_lightning as pl
    except ImportError:
        raise MissingExtra("training needs pytorch-lightning: pip install 'headwater[train]'") from None
    import torch
    from torch.utils.data import DataLoader

    for name in ("pytorch_lightning", "lightning_fabric"):  # importing them sets their level
        logging.getLogger(name).setLevel(logging.ERROR)

    from headwater.model import build
    from headwater.noise import Noise
    from headwater.train.module import Journal, Lesson, Steps, begin, compiled
    from headwater.train.preparation import TrainingData
    from headwater.train.share import check, company
    from headwater.train.snapshot import SafetensorsIO, identity_of

    check(devices, device, recipe.training.batch)
    if threads is None and devices > 1 and device == "cpu":
        threads = max(1, torch.get_num_threads() // devices)
    if threads is not None:
        torch.set_num_threads(threads)
    if recipe.codec not in domain.codecs:
        raise HeadwaterError(f"the recipe wants codec {recipe.codec!r}; {domain.name} has {', '.join(domain.codecs)}")
    source = source or dataset_source(domain, recipe)
    files = source if source.name != recipe.data else None  # a dataset is at hand in every process, the user's items are sent
    asked = {"domain": domain, "recipe": recipe, "folder": folder, "source": files, "start": start, "autoencoder": autoencoder}
    codec = domain.codecs[recipe.codec]
    own = None if start is None else start.autoencoder
    if own is not None and autoencoder is not None and weights_hash(own) != weights_hash(autoencoder):
        raise HeadwaterError("--from: that model was trained over the latent of another autoencoder than the one given")
    torch.manual_seed(Noise(seed).fold("weights").number())
    model = build(recipe, codec.space, knob_fields(domain.Wish), domain.networks, autoencoder)
    make = {"labels": recipe.labels, "workers": workers, "progress": progress}
    data = TrainingData(domain, codec, source.train, model.conditioner.fields, **make)  # type: ignore[arg-type]
    valid = TrainingData(domain, codec, source.valid, model.conditioner.fields, **make) if source.valid is not None else None  # type: ignore[arg-type]
    if start is None:
        model.conditioner.fit(torch.from_numpy(data.values))
    else:
        try:
            model.load_tensors(start.tensors())
        except ValueError as error:
            raise HeadwaterError(f"--from: that model does not fit this recipe: {error}") from None

    folder.mkdir(parents=True, exist_ok=True)
    begun = "".join(weights_hash(part) for part in (start, autoencoder) if part is not None)
    made_of = identity(recipe, seed, data.hash + begun)
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.is_file() and identity_of(checkpoint) not in ("", made_of):
        raise HeadwaterError(
            f"{folder}: holds the checkpoint of another recipe, seed or data; train in another folder or empty this one"
        )
    if start is None and not checkpoint.is_file():
        begin(model, data, Noise(seed).fold("begin"))
    asked |= {"seed": seed, "device": device, "compile": compile, "threads": torch.get_num_threads()}
    with company(devices, follow, asked) if share is None else nullcontext(share) as share, share.open(device):
        lesson = Lesson(model, data, valid, recipe.training, seed, made_of, share)
        several = len(lesson.players) > 1
        trainer = pl.Trainer(
            accelerator="gpu" if device.startswith("cuda") else "cpu",
            devices=[share.rank] if share.count > 1 and device == "cuda" else 1,
            max_steps=recipe.training.total * len(lesson.players),
            max_epochs=-1,
            precision="bf16-mixed" if recipe.training.precision == "bf16" and computes_bf16(device) else "32-true",
            gradient_clip_val=None if several else recipe.training.clip,
            plugins=[SafetensorsIO()],
            callbacks=[Journal(folder, checkpoint_seconds, log_every, validate_every, tell, show)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        resume = str(checkpoint) if checkpoint.is_file() else None
        model.train()
        with compiled(model.family) if compile else nullcontext():
            trainer.fit(lesson, DataLoader(Steps(), batch_size=None), ckpt_path=resume)
    model.load_tensors(lesson.average)
    model.cpu().eval()
    return model


def follow(share: Share, **asked: Any) -> None:
    """Another device's part of a training: the same, and nothing written."""
    train(**asked, share=share)

"""Adapting a shipped model to a user's few files: `headwater train DOMAIN --from MODEL --data FILES`, with its defaults.

Molecules: 200 sulfonamides of the MOSES test set; the prior of pictures: five slices of one brain volume. Figures before and
after are of held-out items of that kind (other sulfonamides; other slices of that volume, 8 mm away or more) and of the model's own
data, to see what it forgets. Parts: molecules, medical.

    HEADWATER_DATA=/path/to/data python benchmarks/adaptation.py
    python benchmarks/adaptation.py --only molecules --checkpoint runs/molecules-autoregressive/checkpoint.safetensors
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import generator, publish, run

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.noise import Noise

if TYPE_CHECKING:
    from headwater.generator import Generator

MODELS = {"molecules": "molecules/autoregressive", "medical": "medical/diffusion"}
SULFONAMIDE = "[#6][SX4](=O)(=O)[NX3]"
SHOWN, HELD, IMAGES = 200, 500, 5  # molecules to adapt to, molecules held out, pictures to adapt to
VOLUMES = ("stroke_FLAIR", "MR_Gd")
PATCHES, BOUNDED, TILE = 256, 16, 16  # patches for the loss and, at 64 network calls each, for the bound


def adapt(model: Generator, files: Sequence[Path], folder: Path, options: argparse.Namespace) -> tuple[Generator, float]:
    """The model that the command line makes of ``files``, and its CPU seconds. Raises :class:`HeadwaterError` with what it said."""
    from headwater import checkpoint

    start = folder / "start"
    names = {"domain": model.domain.name, "name": model.name.split("/")[1].split()[0]}
    checkpoint.save(model.model, start, **names, recipe=model.recipe, data=model.recipe.data, data_hash="", command="")
    program = Path(sys.executable).with_name("headwater")
    order = [str(program), "train", model.domain.name, "--from", str(start), "-o", str(folder / "run"), "--seed", str(options.seed)]
    order += [word for file in files for word in ("--data", str(file))]
    order += ["--steps", str(options.steps)] if options.steps else []
    began = children_seconds()
    done = subprocess.run(order, text=True, capture_output=True)
    if done.returncode:
        raise HeadwaterError(f"headwater train ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return generator(str(folder / "run" / "model")), children_seconds() - began


def children_seconds() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compared(before: Array, after: Array) -> dict[str, float]:
    """Means over items, and the paired difference with its standard error."""
    gain = after - before
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return {
        k: round(float(v), 4) for k, v in (("before", before.mean()), ("after", after.mean()), ("gain", gain.mean()), ("±", error))
    }


# --- molecules --------------------------------------------------------------------------------------------------------


def molecules(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Exact log-likelihood in nats a molecule, and what 256 samples are."""
    model = generator(MODELS["molecules"] if options.model is None else options.model, options.checkpoint)
    rows = model.domain.datasets["moses"].rows("test")
    step = 7919  # a prime that walks through the whole set, so that no neighbourhood of the file is favoured
    walk = (rows[i * step % len(rows)] for i in count())
    kind = list(islice(filter(sulfonamide, walk), SHOWN + HELD))
    valid = model.domain.datasets["moses"].rows("valid")
    others = [valid[i] for i in range(0, len(valid), len(valid) // HELD)][:HELD]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kind.smi")
        file.write_text("\n".join(kind[:SHOWN]) + "\n")
        adapted, seconds = adapt(model, [file], Path(folder), options)
    about = {"CPU s": round(seconds, 1), "steps": adapted.recipe.training.steps, "rate": adapted.recipe.training.rate}
    for name, items in (("held-out sulfonamides", kind[SHOWN:]), ("MOSES valid", others)):
        before, after = (m.score(items).value.numpy() for m in (model, adapted))
        yield {"figure": "log-likelihood, nats a molecule", "on": name, "n": len(items), **compared(before, after), **about}
    samples = [m.sample(256, seed=options.seed) for m in (model, adapted)]
    for figure, test in (("share of sulfonamides", sulfonamide), ("valid", lambda s: model.domain.problem(s) is None)):
        before, after = (np.array([test(s) for s in made], dtype=float) for made in samples)
        yield {"figure": figure, "on": "samples", "n": 256, **compared(before, after)}


def sulfonamide(smiles: str) -> bool:
    from rdkit import Chem

    from headwater_molecules.properties import parse

    found = parse(smiles)
    return found is not None and bool(found.HasSubstructMatch(Chem.MolFromSmarts(SULFONAMIDE)))


# --- medical ----------------------------------------------------------------------------------------------------------


def medical(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The loss of training (mean weighted squared error over noise levels) and the variational bound, on random patches."""
    from headwater_medical import data

    model = generator(MODELS["medical"] if options.model is None else options.model, options.checkpoint)
    slices, valid = data.volume_slices(), data.rows("valid")
    others = [valid[i] for i in range(0, len(valid), len(valid) // 10)][:10]
    for volume in options.volumes:
        own = [slices[i] for i, name in enumerate(slices.names) if name.startswith(f"{volume}/")]
        if len(own) < 2 * IMAGES:
            raise HeadwaterError(
                f"--volumes: {volume} has {len(own)} slices; expected at least {2 * IMAGES}, one of {', '.join(VOLUMES)}"
            )
        chosen = [round((i + 0.5) * len(own) / IMAGES - 0.5) for i in range(IMAGES)]
        with tempfile.TemporaryDirectory() as folder:
            files = model.domain.write([own[i] for i in chosen], Path(folder))
            adapted, seconds = adapt(model, files, Path(folder), options)
        about = {"CPU s": round(seconds, 1), "steps": adapted.recipe.training.steps, "rate": adapted.recipe.training.rate}
        for name, items in (
            (f"{volume}, other slices", [s for i, s in enumerate(own) if i not in chosen]),
            ("mri_slices valid", others),
        ):
            before, after = (-losses(m, items) for m in (model, adapted))
            yield {"figure": "training loss, negated", "on": name, "n": PATCHES, **compared(before, after), **about}
            if items is not others:
                before, after = (bounds(m, items) for m in (model, adapted))
                yield {"figure": "log-likelihood bound, nats a cell", "on": name, "n": BOUNDED, **compared(before, after)}


def patches(model: Generator, items: Sequence[Array], n: int) -> list[Array]:
    """The same ``n`` views for every model."""
    keys = Noise(0).fold("held-out").rows(range(n))
    return [model.codec.view(items[i % len(items)], keys[i : i + 1]) for i in range(n)]


def losses(model: Generator, items: Sequence[Array]) -> Array:
    """One number for each ``TILE`` patches, the noise and its levels fixed."""
    import torch

    x, keys = model.encode(patches(model, items, PATCHES)), Noise(0).fold("loss").rows(range(PATCHES))
    found = []
    with torch.no_grad():
        for at in range(0, PATCHES, TILE):
            context = model.model.conditioner(model.model.conditions([model.domain.Wish()] * TILE))
            found.append(float(model.model.family.loss("model", x[at : at + TILE], context, keys[at : at + TILE])))
    return np.array(found)


def bounds(model: Generator, items: Sequence[Array]) -> Array:
    shown = patches(model, items, BOUNDED)
    return model.score(shown).value.numpy() / shown[0].size


def arguments() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), help="parts to run (both)")
    parser.add_argument("--model", help="a model folder instead of the shipped one (with --only)")
    parser.add_argument("--checkpoint", type=Path, help="a training's checkpoint.safetensors: its averaged weights (with --only)")
    parser.add_argument("--volumes", nargs="+", default=VOLUMES, metavar="NAME", help=f"brain volumes ({' '.join(VOLUMES)})")
    parser.add_argument("--steps", type=int, help="steps of adaptation (the command line's default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/adaptation.json")
    options = parser.parse_args()
    if (options.model or options.checkpoint) and len(options.only) > 1:
        parser.error("--model and --checkpoint belong to one domain: add --only molecules or --only medical")
    return options


def main() -> None:
    options = arguments()
    for part in options.only:
        table = list({"molecules": molecules, "medical": medical}[part](options))
        shown = {"molecules": SHOWN, "medical": IMAGES}[part]
        model = generator(MODELS[part] if options.model is None else options.model, options.checkpoint)
        how = "headwater train --from --data, defaults" if options.steps is None else f"--steps {options.steps}"
        publish(part, table, n=shown, seeds=[options.seed], generator=model, settings={"adapted by": how}, to=options.to)


if __name__ == "__main__":
    run(main)

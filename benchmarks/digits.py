"""scikit-learn's digits through every family: bits a pixel on 360 unseen digits, and how samples look to the audits.

    python benchmarks/digits.py [FAMILY ...] [--valid] [--runs FOLDER]

Every family is trained by `headwater.train` on 1,300 digits and read once on the test (with --valid: on 137 others, to choose by).
With --runs, trainings are kept there, and what is trained there already is only measured. Families may be run one at a time.
Bits a pixel are of the discrete grey levels: exact for the autoregressive model; bounds for masked diffusion (over all orders), the
VAE and the spline flow (importance-weighted) and diffusion; for the flow, an estimate by its ODE; the GAN has none.
The bar is 2.228, a table of what follows the left and the upper neighbour; on the same test a full Gaussian has 2.968, a mixture
of 60 2.658, independent categoricals 2.433.
Samples are compared with the test by a classifier two-sample test (AUC .5: cannot be told apart) and by coverage; the row `real`
compares training digits with it.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # before this folder, which has a digits.py too
sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from digits import Digits, rows
from record import print_table, publish, run

from headwater.evaluate.coverage import coverage
from headwater.evaluate.two_sample import two_sample
from headwater.generator import Generator, take
from headwater.noise import Noise
from headwater.recipe import Recipe
from headwater.train import train

if TYPE_CHECKING:
    from torch import Tensor

    from headwater.context import Context

#: What differs from the core's default recipe for each family, chosen on the validation digits.
RECIPES: dict[str, dict[str, Any]] = {
    "autoregressive": {
        "codec": "raster",
        "network": {"name": "transformer", "options": {"width": 64, "layers": 4, "heads": 4, "dropout": 0.2}},
        "training": {"steps": 1200, "batch": 32, "rate": 3e-3, "weight_decay": 0.1},
    },
    "masked_diffusion": {
        "codec": "raster",
        "network": {"name": "transformer", "options": {"width": 64, "layers": 4, "heads": 4, "dropout": 0.1}},
        "training": {"steps": 1200, "batch": 32, "rate": 3e-3, "weight_decay": 0.1},
    },
    "vae": {
        "codec": "pixels",
        "network": {"name": "convolutional", "options": {"widths": (24, 48)}},
        "options": {"latent": 16},
        "training": {"steps": 1200, "batch": 64, "rate": 2e-3, "weight_decay": 0.1},
    },
    "diffusion": {
        "codec": "pixels",
        "network": {"name": "unet", "options": {"widths": (24, 48), "fold": 1}},
        "options": {"data": 0.7, "uniform": 0.3},
        "training": {"steps": 1000, "batch": 32, "rate": 2e-3},
    },
    "flow": {
        "codec": "pixels",
        "network": {"name": "unet", "options": {"widths": (24, 48), "fold": 1}},
        "options": {"data": 0.7, "uniform": 0.3},
        "training": {"steps": 1000, "batch": 32, "rate": 2e-3},
    },
    "spline_flow": {
        "codec": "pixels",
        "network": {"name": "autoregressive", "options": {"transforms": 2, "hidden": 128}},
        "training": {"steps": 800, "batch": 64, "rate": 2e-3, "weight_decay": 0.3},
    },
    "gan": {
        "codec": "pixels",
        "network": {"name": "convolutional", "options": {"widths": (32, 64)}},
        "networks": {"critic": {"name": "convolutional", "options": {"widths": (32, 64)}}},
        "training": {"steps": 1000, "batch": 32, "rate": 5e-4, "betas": (0.0, 0.99), "ema": 0.995},
    },
}
#: The flow's exact trace would take hours; one along random directions is as right on average.
SCORING: dict[str, dict[str, Any]] = {"flow": {"exact": False, "places": 2}}
SETTINGS = {"device": "cpu", "dtype": "float32", "threads": 1}


def bits(made: Generator, items: list[Any], how: Mapping[str, Any]) -> tuple[float, float, str]:
    """Bits a pixel, their standard error over items, and what kind of figure it is; ``how`` are arguments of the family's score."""
    x, noise, wishes, kinds = made.encode(items), Noise(0).fold("score"), [made.wish()] * len(items), set()

    def scored(rows: Tensor, context: Context) -> Tensor:
        found = made.model.family.score(take(x, rows), noise.rows(rows), context, **how)
        kinds.add(found.kind)
        return found.value

    value = -np.stack(list(made.tiles(range(len(items)), wishes, scored))) / (64 * math.log(2))
    return float(value.mean()), float(value.std() / len(value) ** 0.5), kinds.pop()


def trained(name: str, folder: Path, show: bool) -> tuple[Generator, int]:
    """The family's model, trained in ``folder`` unless it was before, and the CPU seconds of that."""
    training = {"validate_rows": 137, **RECIPES[name]["training"]}
    recipe = Recipe.model_validate({"family": name, "data": "digits", "labels": 0, **RECIPES[name], "training": training})

    def tell(step: int, loss: float, valid: float) -> None:
        if show and math.isfinite(valid):
            print(f"{name} step {step}: loss {loss:.4f}, on validation {valid:.4f}", flush=True)

    spent, began = folder / "cpu-seconds", time.process_time()
    model = train(Digits(), recipe, folder, threads=1, validate_every=200, tell=tell)
    if not spent.is_file():
        spent.write_text(f"{time.process_time() - began:.0f}\n")
    return Generator(Digits(), model, recipe, f"digits/{name}"), int(spent.read_text())


def measure(name: str, folder: Path, split: str) -> dict[str, Any]:
    made, seconds = trained(name, folder, split == "valid")
    row: dict[str, Any] = {"family": name, "parameters": sum(p.numel() for p in made.model.parameters()), "training CPU s": seconds}
    test = rows(split)
    if "score" in made.verbs:
        row["bits a pixel"], row["stderr"], row["kind"] = bits(made, test, SCORING.get(name, {}))
    return row | audits(made.sample(len(test), seed=1).items, test)


def audits(drawn: list[Any], test: list[Any]) -> dict[str, float]:
    domain = Digits()
    real, samples = domain.features(test), domain.features(drawn)
    found, reached = two_sample(real, samples, 0), coverage(real, samples)
    return {"two-sample AUC": found.auc, "AUC stderr": found.stderr, "density": reached.density, "coverage": reached.coverage}


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", choices=[*RECIPES, []], help=f"default: all of {', '.join(RECIPES)}"
    )
    parser.add_argument("--valid", action="store_true", help="measure on the validation digits; nothing is written")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="keep the trainings here")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    split = "valid" if asked.valid else "test"
    table = [{"family": "real", **audits(rows("train")[: len(rows(split))], rows(split))}]
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.families or RECIPES:
            began = time.process_time()
            table.append(measure(name, (asked.runs or Path(folder)) / name, split))
            print(f"{table[-1]}, {time.process_time() - began:.0f} CPU s", flush=True)
    if split == "test":
        publish("test", table, n=len(rows(split)), seeds=[0, 1], settings=SETTINGS, by="family")
    else:
        print_table("validation", table)


if __name__ == "__main__":
    run(main)

"""A 256x256x180 scan through `headwater medical denoise` with its defaults: wall time, CPU time and peak memory of that process.

The scan is made here, from a seed: nested ellipsoids (skin, skull, grey and white matter, ventricles) with smooth texture, on
which Gaussian noise of 4% of the range is laid, stored as a 16-bit NIfTI of 1 mm voxels. Only its size matters for the time.

    python benchmarks/volume.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))  # PYTHONSAFEPATH leaves a program's own folder out
from record import publish, run

from headwater.domain import Array
from headwater.errors import HeadwaterError
from headwater.noise import Noise

#: Half-axes as shares of the half-size along each axis, and intensity inside: painted from the outermost to the innermost.
SHELLS = (
    ((0.86, 0.94, 0.92), 0.55),  # skin and fat
    ((0.82, 0.90, 0.88), 0.12),  # skull
    ((0.76, 0.84, 0.82), 0.62),  # grey matter
    ((0.66, 0.74, 0.70), 0.85),  # white matter
    ((0.16, 0.36, 0.30), 0.25),  # ventricles
)


def head(shape: tuple[int, int, int], seed: int) -> Array:
    """float32 of ``shape``, clean, in [0, 1]: the shells, their borders folded by a smooth random field."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    waves = Noise(seed).fold("waves").uniform(12, 4)[0].numpy()
    field = np.zeros(shape, np.float32)
    for x, y, z, phase in waves:
        field += np.sin(30 * ((x - 0.5) * axes[0] + (y - 0.5) * axes[1] + (z - 0.5) * axes[2]) + 6.28 * phase) / len(waves)
    out = np.zeros(shape, np.float32)
    for half, intensity in SHELLS:
        radius = np.sqrt(sum(np.square(a / h) for a, h in zip(axes, half, strict=True)))
        out[radius + 0.08 * field < 1] = intensity
    return np.clip(out * (1 + 0.15 * field), 0, 1)


def scan(path: Path, shape: tuple[int, int, int], seed: int, sigma: float) -> None:
    """Write the noisy head as int16, 0 to 2,000 clean."""
    import nibabel

    clean = head(shape, seed)
    keys = Noise(seed).fold("noise").rows(range(shape[2]))
    for z in range(shape[2]):  # a slice at a time: this program's own memory is not what is measured, but it need not be large
        clean[:, :, z] += sigma * keys[z : z + 1].normal(*shape[:2])[0].numpy()
    stored = np.clip(np.rint(2000 * clean), -32768, 32767).astype(np.int16)
    nibabel.Nifti1Image(stored, np.diag([1.0, 1.0, 1.0, 1.0])).to_filename(path)


def measured(command: list[str]) -> dict[str, float]:
    """Wall and CPU seconds and the peak resident memory of a process. Raises :class:`HeadwaterError` where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise HeadwaterError(f"{' '.join(command[1:4])} ended with exit code {process.returncode}: {said.strip()[-300:]}")
    wall = time.perf_counter() - began
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"wall s": wall, "CPU s": usage.ru_utime + usage.ru_stime, "peak memory MiB": peak / 2**20}


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model folder instead of the shipped medical/diffusion")
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 180), metavar=("X", "Y", "Z"))
    parser.add_argument("--sigma", type=float, default=0.04, help="noise level, as a share of the range (0.04)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, help="write the results here instead of benchmarks/results/volume.json")
    options = parser.parse_args()
    shape: Any = tuple(options.shape)
    program = str(Path(sys.executable).with_name("headwater"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "head.nii.gz")
        scan(source, shape, options.seed, options.sigma)
        chosen = ["--model", options.model] if options.model else []
        figures = measured([program, "medical", "denoise", str(source), "-o", str(Path(folder, "out")), *chosen])
        made = json.loads(Path(folder, "out", "run.json").read_text())
    row = {"volume": "x".join(map(str, shape)), **{k: round(v, 1) for k, v in figures.items()}}
    row["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    settings: dict[str, Any] = {
        "made of": "nested ellipsoids, int16 NIfTI",
        "sigma": options.sigma,
        "pipeline": "headwater medical denoise, defaults",
    }
    settings |= {"model": made.get("model"), "environment": made.get("environment")}
    publish("scan", [row], n=1, seeds=[options.seed], settings=settings, to=options.to)


if __name__ == "__main__":
    run(main)

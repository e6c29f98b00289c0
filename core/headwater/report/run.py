"""The folder of one run: built beside its place under a temporary name and moved there whole, with ``run.json``: everything
needed to run it again, the only file with a clock, and nothing about the people in the data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.domain import Domain
    from headwater.generator import Generator

RUN = "run.json"


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """A fresh folder to fill, moved to ``out`` if the block ends well and removed if it does not.

    ``out`` may be new, empty, or an earlier run, which is replaced. Raises :class:`HeadwaterError`, before any work, where it
    cannot be written or holds anything else."""
    place = Path(os.path.realpath(out))
    check(place, out)
    stage, old = (place.with_name(f".{place.name}.{os.getpid()}.{what}") for what in ("part", "old"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(stage, ignore_errors=True)  # of an earlier process that was killed and had this one's id
        stage.mkdir()
    except OSError as error:
        raise HeadwaterError(f"-o {out}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield stage
        check(place, out)  # somebody may have put files there while we worked
        if place.exists():
            os.rename(place, old)
        os.rename(stage, place)
    finally:
        if old.exists() and not place.exists():
            os.rename(old, place)
        shutil.rmtree(stage, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check(place: Path, name: str | Path) -> None:
    """Raises :class:`HeadwaterError` where a run may not take the place of what is there."""
    if not place.exists():
        return
    if not place.is_dir():
        raise HeadwaterError(f"-o {name}: expected a folder; this is a file. Choose another name")
    if not any(place.iterdir()):
        return
    try:
        ours = set(json.loads((place / RUN).read_text("utf-8"))["files"]) | {RUN}
    except (OSError, ValueError, KeyError, TypeError):
        raise HeadwaterError(
            f"-o {name}: the folder is not empty and not an earlier run of Headwater; choose another or empty it"
        ) from None
    others = [f for f in files(place) if f not in ours]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise HeadwaterError(
            f"-o {name}: beside an earlier run it holds {others[0]}{more}, which would be lost; choose another folder"
        )


def files(folder: Path) -> list[str]:
    """Every file below a folder, as sorted relative paths with forward slashes."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def close(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``run.json``, the last file of a run: ``record``, the versions of what made it, the files and the time."""
    done = {
        "headwater": importlib.metadata.version("headwater"),
        **record,
        "files": [f for f in files(folder) if f != RUN],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    (folder / RUN).write_text(json.dumps(done, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def made_by(generator: Generator) -> dict[str, Any]:
    """The model, the versions and the environment of a run: on one environment, the same run gives the same bytes."""
    import torch

    weights = next(generator.model.parameters())
    return {
        "domain": generator.domain.name,
        "model": {"name": generator.name, "sha256": generator.config.get("sha256")},
        "environment": {
            "torch": torch.__version__,
            "device": str(generator.device),
            "dtype": str(weights.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "tile": generator.tile,
            "machine": platform.machine(),
        },
        "versions": versions(generator.domain),
    }


def versions(domain: Domain[Any, Any]) -> dict[str, str]:
    """Python, and the installed packages that Headwater and this domain ask for."""
    found = {"python": platform.python_version()}
    wanted = ["headwater", domain.package.partition("[")[0]]
    for package in ("headwater", domain.package):
        name, _, extra = package.rstrip("]").partition("[")
        try:
            lines = importlib.metadata.requires(name) or [] if name else []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in lines:
            if "extra ==" not in line or (extra and re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", line)):
                wanted.append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    for name in sorted(set(filter(None, wanted))):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def source_record(source: Path) -> dict[str, Any]:
    """What names an input without saying whose it is: a hash of its content (of a folder: of every file in order) and its suffix.
    File names and headers may hold a patient's name, so neither is kept."""
    folder = source.is_dir()
    parts = [_digest(p) for p in sorted(source.rglob("*")) if p.is_file()] if folder else []
    digest = hashlib.sha256(b"".join(parts)).digest() if folder else _digest(source)
    suffix = re.search(r"\.[a-z][a-z0-9]{1,4}(\.gz)?$", source.name)
    return {"kind": "folder" if folder else "file", "sha256": digest.hex(), "suffix": suffix[0] if suffix and not folder else ""}


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()

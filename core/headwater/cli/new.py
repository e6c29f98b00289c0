"""``headwater new NAME``: a plug-in that trains, samples and passes ``headwater check`` before a line of it is changed.

The text lies beside this module in ``skeleton/``: files with ``$name`` and ``$Class`` in them, each with ``.tmpl`` after its name.
"""

from __future__ import annotations

import keyword
import os
import re
import shutil
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from headwater.errors import HeadwaterError
from headwater.knobs import RESERVED_NAMES

SKELETON = Path(__file__).parent / "skeleton"


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The domain's name: lower-case letters, digits and _.", show_default=False)
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="Where. Default: headwater-NAME.")] = None,
) -> None:
    """Write the skeleton of a new domain: one class, three lines of TOML, a test suite."""
    if why := name_problem(name):
        raise HeadwaterError(f"{name!r} cannot be the name of a domain: {why}")
    folder = out or Path(f"headwater-{name}")
    made = write(name, folder)
    typer.echo("\n".join(f"  {path.relative_to(folder)}" for path in made))
    typer.echo(f"A domain that works already: {folder}. Next:\n  pip install -e {folder}\n  headwater check {name}")
    typer.echo(f"  headwater train {name} autoregressive\nThen change headwater_{name}/__init__.py until it is yours.")


def name_problem(name: str) -> str:
    """Why a domain cannot be called that, empty if it can.

    >>> name_problem("tiles"), name_problem("3d")
    ('', 'expected lower-case letters, digits and _, a letter first')
    """
    from headwater.cli import domain_names

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return "expected lower-case letters, digits and _, a letter first"
    if name in RESERVED_NAMES or keyword.iskeyword(name):
        return "the word is reserved"
    return "a domain of that name is installed" if name in domain_names() else ""


def write(name: str, folder: Path) -> list[Path]:
    """The skeleton in a new folder, whole or not at all; returns its files. Raises :class:`HeadwaterError` for a folder that is
    there or cannot be made."""
    if folder.exists():
        raise HeadwaterError(f"-o {folder}: it exists; name a new folder")
    words = {"name": name, "Class": "".join(word.capitalize() for word in name.split("_"))}
    part = folder.with_name(f".{folder.name}.part")
    try:
        for source in sorted(SKELETON.rglob("*.tmpl")):
            target = part / _place(source.relative_to(SKELETON), name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        os.rename(part, folder)
    except OSError as error:
        raise HeadwaterError(f"-o {folder}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _place(source: Path, name: str) -> Path:
    """Where a file of the skeleton goes: ``package`` and ``test_domain`` take the domain's name.

    >>> _place(Path("package/card/card.toml.tmpl"), "tiles").as_posix()
    'headwater_tiles/card/card.toml'
    """
    parts = [f"headwater_{name}" if part == "package" else part for part in source.parts]
    return Path(*parts[:-1], parts[-1].removesuffix(".tmpl").replace("test_domain", f"test_{name}"))

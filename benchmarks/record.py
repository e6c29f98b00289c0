"""Results of the measuring programs: one JSON a program, and the tables of README.md made from them.

A result is kept in parts, each with its own n, seeds, command and fingerprint, so that a slow part can be run alone.
`python benchmarks/record.py` writes the tables of all parts into benchmarks/README.md.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.generator import Generator

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE / "README.md"
BEGIN, END = "<!-- results: written by record.py -->", "<!-- end of results -->"
PACKAGES = ("torch", "numpy", "monai", "scikit-image", "bm3d", "rdkit")

Row = Mapping[str, Any]


def generator(model: str, checkpoint: Path | None = None) -> Generator:
    """A shipped model or a model folder. With ``checkpoint``, the averaged weights of a training in progress (or stopped) under the
    recipe that ``model`` names as ``domain/recipe``. Raises :class:`HeadwaterError` where there is no such model."""
    from headwater.generator import Generator, load

    if checkpoint is None:
        return load(model)
    from safetensors import safe_open

    from headwater.knobs import fields
    from headwater.model import build
    from headwater.recipe import recipes
    from headwater.registry import find

    domain_name, _, recipe_name = model.partition("/")
    domain = find(domain_name)
    recipe = recipes(domain)[recipe_name]
    made = build(recipe, domain.codecs[recipe.codec].space, fields(domain.Wish), domain.networks)
    with safe_open(str(checkpoint), framework="pt") as file:
        made.load_tensors({k.removeprefix("/average/"): file.get_tensor(k) for k in file.keys() if k.startswith("/average/")})  # noqa: SIM118
    return Generator(domain, made.eval(), recipe, f"{model} (unfinished: {checkpoint})")


def publish(
    part: str,
    table: Sequence[Row],
    *,
    n: int,
    seeds: Sequence[int],
    generator: Generator | None = None,
    settings: Mapping[str, Any] | None = None,
    to: Path | None = None,
    by: str = "",
) -> None:
    """Print a part's table and lay it into the program's JSON; an unfinished model's figures are only printed, unless ``to`` names
    a file for them. With ``by``, a column, the part's rows of other names in it stay: a table made a few rows at a time, whose
    command is that of all of it."""
    print_table(part, table)
    program = Path(sys.argv[0]).stem
    result: dict[str, Any] = {"table": list(table), "n": n, "seeds": list(seeds), "settings": dict(settings or {})}
    words = [word for word in sys.argv[1:] if not by or word not in {row[by] for row in table}]
    result["command"] = " ".join(filter(None, [f"python benchmarks/{program}.py", shlex.join(words)]))
    result["machine"] = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}
    result["versions"] = {"python": platform.python_version(), **versions(("headwater", *PACKAGES))}
    if generator is not None:
        from headwater.evaluate import fingerprint

        result["model"] = {"name": generator.name, "sha256": generator.config.get("sha256")}
        result["fingerprint"] = fingerprint(generator)
        if to is None and not generator.config:
            print("(an unfinished model: nothing written; name a file with --to)")
            return
    path = to or RESULTS / f"{program}.json"
    parts = json.loads(path.read_text()) if path.is_file() else {}
    if by:
        before = parts.get(part, {}).get("table", [])
        result["table"] = list(({row[by]: row for row in before} | {row[by]: row for row in table}).values())
    parts[part] = result
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def columns(table: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in table for key in row))


def cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return (
        f"{value:.4g}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:.2f}"
        if isinstance(value, float)
        else str(value)
    )


def print_table(title: str, table: Sequence[Row]) -> None:
    names = columns(table)
    lines = [names, *([cell(row.get(name)) for name in names] for row in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    print(f"\n{title}")
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), flush=True)


def markdown(table: Sequence[Row]) -> str:
    names = columns(table)
    lines = [names, ["---"] * len(names), *([cell(row.get(name)) for name in names] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page() -> str:
    """The tables of every result, programs and parts in order."""
    sections = []
    for path in sorted(RESULTS.glob("*.json")):
        stored = json.loads(path.read_text())
        if "figures" in stored:  # startup.json: one part, rows by name
            stored = {"": {**stored, "table": [{"what": k, **v} for k, v in stored["figures"].items()]}}
        for part, result in stored.items():
            where = ", ".join(f"{k} {v}" for k, v in result.get("fingerprint", {}).items())
            about = [f"n = {result['n']}", f"`{result['command']}`", result.get("model", {}).get("name", ""), where]
            sections.append(f"### {path.stem} {part}\n\n{markdown(result['table'])}\n\n{'; '.join(filter(None, about))}")
    return "\n\n".join(sections)


def run_parts(*parts: Callable[[], None]) -> None:
    """Those that the command line names, all by default, on one thread."""
    from headwater.errors import HeadwaterError

    known = {part.__name__: part for part in parts}
    asked = sys.argv[1:] or list(known)

    def main() -> None:
        import torch

        torch.set_num_threads(1)
        if unknown := [a for a in asked if a not in known]:
            raise HeadwaterError(f"PART: expected some of {', '.join(known)}; got {unknown[0]}")
        for name in asked:
            known[name]()

    run(main)


def run(main: Callable[[], None]) -> None:
    """``main()``; bad input ends in one line, as on the command line."""
    from headwater.errors import HeadwaterError

    try:
        main()
    except HeadwaterError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def main() -> None:
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n\n{page()}\n\n{END}{tail}")


if __name__ == "__main__":
    main()

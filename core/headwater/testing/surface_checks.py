"""What a domain promises to the world outside: pictures, files, a light import, and pipelines that treat each row alone."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from headwater.domain import Array, Codec, Pipeline, Result
from headwater.errors import HeadwaterError
from headwater.spaces import Tokens
from headwater.testing.subject import Subject, close, contents, key, same

#: Whatever makes a browser look outside the page; the names of XML namespaces are not addresses.
OUTSIDE = re.compile(
    r"(?<!xmlns=.)(?<!xmlns:xlink=.)\b(?:https?|ftp):/?/?[^\s\"'<>]*|(?:src|href)\s*=\s*[\"']?//|url\(\s*[\"']?//|@import",
    re.IGNORECASE,
)
MARKUP = "<script>alert(1)</script>&\"'"
PAUSE = 1.1  # seconds between two writings: a clock that ticks in seconds must have moved
HEAVY = (
    "torch monai rdkit pytorch_lightning lightning transformers nibabel pydicom skimage sklearn scipy pandas pyarrow "
    "music21 tensorflow jax"
).split()


def render(subject: Subject) -> str | None:
    """Pictures are self-contained, the same every time, and show text from data as text."""
    domain = subject.domain
    drawn = [*subject.items, *(item for codec in domain.codecs.values() for item in subject.made(codec)[:4])]
    for i, item in enumerate(drawn):
        page = domain.render(item)
        assert page == domain.render(item), f"render gives another fragment the second time (item {i}); use no random id"
        found = OUTSIDE.search(page)
        assert found is None, f"render points outside the page: {found.group()!r}; inline what it needs" if found else ""
    hostile = _with_markup(subject.items[0])
    if hostile is None:
        return "escaping is not checkable: items hold no free text"
    try:
        page = domain.render(hostile)
    except Exception as error:
        raise AssertionError(f"render fails on an item with unusual text: {type(error).__name__}: {error}") from None
    assert "<script>alert(1)" not in page, "render puts text from the item into the page as markup; use html.escape"
    return None


def _with_markup(item: Any) -> Any:
    """The item with its text replaced by markup, None where it has none or refuses any but words of its own."""
    if isinstance(item, str):
        return MARKUP
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        texts = {f.name: MARKUP for f in dataclasses.fields(item) if isinstance(getattr(item, f.name), str)}
        try:
            return dataclasses.replace(item, **texts) if texts else None
        except ValueError:  # it takes only words of its own
            return None
    if isinstance(item, tuple | list) and item and all(isinstance(part, str) for part in item):
        return type(item)([MARKUP, *item[1:]])
    return None


def files(subject: Subject) -> None:
    """Items can be written as the field's own files, whole, into the folder given, and read back."""
    domain = subject.domain
    items = subject.items[:6]
    folder = subject.folder("files")
    written = domain.write(items, folder)
    assert written, "write returned no file"
    there = {path for path in folder.rglob("*") if path.is_file()}
    odd = there ^ {Path(p) for p in written}
    assert not odd, f"write should return exactly the files it leaves behind: {_names(odd)}"
    readable: list[Any] = []
    for path in written:
        try:
            readable.append(domain.read(path))
        except HeadwaterError:
            readable.append([])  # a file for people or for another program
    found = [item for part in readable for item in part]
    assert found, f"read accepts none of the files that write made: {_names(there)}"
    for name, codec in domain.codecs.items():
        back = [_encoding(codec, item) for item in found]
        for i, item in enumerate(items):
            array = _encoding(codec, item)
            known = any(b is not None and array is not None and _alike(b, array, codec) for b in back)
            assert array is None or known, f"item {i} was written but is not among the items read back (codec {name!r})"
    missing = folder / "no-such-file.xyz"
    try:
        domain.read(missing)
    except HeadwaterError:
        return
    except Exception as error:
        raise AssertionError(f"read of a missing file should raise HeadwaterError, raised {type(error).__name__}") from None
    raise AssertionError("read of a missing file should raise HeadwaterError")


def _encoding(codec: Codec[Any], item: Any) -> Any:
    """The array of an item, or of a view of it where the codec holds parts only; None where it holds neither."""
    for viewed in (False, True):
        try:
            return codec.encode(codec.view(item, key("files")) if viewed else item)
        except ValueError:
            continue
    return None


def _alike(a: Array, b: Array, codec: Codec[Any]) -> bool:
    """Whether two arrays show one item. Readers of measured values may scale them anew, so floats need only correlate."""
    if close(a, b, codec.space) or isinstance(codec.space, Tokens):
        return close(a, b, codec.space)
    return a.shape == b.shape and bool(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.95)


def _names(paths: Any) -> str:
    return ", ".join(sorted(Path(p).name for p in paths)) or "none"


def files_are_deterministic(subject: Subject) -> None:
    """The same items give the same bytes, today and tomorrow: files hold no clock and no random id."""
    items = subject.items[:6]
    first, second = subject.folder("first"), subject.folder("second")
    subject.domain.write(items, first)
    time.sleep(PAUSE)
    subject.domain.write(items, second)
    a, b = (contents(folder) for folder in (first, second))
    assert a.keys() == b.keys(), f"the same items make other file names the second time: {_names(map(Path, a.keys() ^ b.keys()))}"
    today = datetime.datetime.now(tz=datetime.UTC)
    for name, content in a.items():
        assert content == b[name], f"{name} differs when written again; leave out clocks, random ids and paths, and fix the order"
        for date in (today.astimezone().strftime("%Y-%m-%d"), today.strftime("%Y%m%d")):
            assert date.encode() not in content, f"{name} holds today's date; files hold no clock"


def import_is_light(subject: Subject) -> None:
    """Importing the domain, as every ``headwater list`` does, imports no heavy package."""
    kind = type(subject.domain)
    code = f"import sys, {kind.__module__} as m; m.{kind.__qualname__}(); print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"importing {kind.__module__} afresh failed: {done.stderr.strip().splitlines()[-1:]}"
    found = done.stdout.split()
    assert not found, f"importing {kind.__module__} imports {', '.join(found)}; import it inside the functions that need it"


def pipelines_are_row_pure(subject: Subject) -> str | None:
    """A pipeline's results for a row depend on that row, the options and the noise key alone."""
    unchecked = []
    for kind in subject.domain.pipelines:
        named = kind.model and kind.verbs and kind.source.strip()
        assert named, f"pipeline {kind.name!r} should name its source, its verbs and its model"
        generator = _model_for(subject, kind)
        if generator is None:
            unchecked.append(f"{kind.name} (no model that can {', '.join(kind.verbs)})")
            continue
        _row_pure(subject, kind(), generator)
    return f"not checkable: {'; '.join(unchecked)}" if unchecked else None


def _model_for(subject: Subject, kind: type[Pipeline[Any]]) -> Any:
    """The pipeline's shipped model, else the two-step model of its recipe, else of any that has its verbs."""
    from headwater import checkpoint
    from headwater.generator import Generator
    from headwater.recipe import Recipe
    from headwater.registry import models

    domain, wanted = subject.domain, kind.model.rpartition("/")[2]
    folder = models(domain).get(wanted)
    if folder is not None:
        model, config = checkpoint.load(folder, domain.networks)
        return Generator(domain, model, Recipe.model_validate(config["recipe"]), f"{domain.name}/{wanted}", config)
    for name in sorted(subject.recipe_names, key=lambda n: n != wanted):
        bench = subject.trained(name)
        if bench is not None and set(kind.verbs) <= set(bench.generator.verbs):
            return bench.generator
    return None


def _row_pure(subject: Subject, pipeline: Pipeline[Any], generator: Any, most: int = 3) -> None:
    options = pipeline.Options()
    source = pipeline.example()
    assert source.exists(), f"pipeline {pipeline.name!r}: its example {source} is not packaged"
    inputs = list(itertools.islice(pipeline.read(source, options), most))
    assert inputs, f"pipeline {pipeline.name!r}: its example holds no row"
    rows = list(enumerate(inputs if len(inputs) > 1 else inputs * 2))
    together = list(pipeline.run(generator, rows, key("run"), options))
    backwards = list(pipeline.run(generator, rows[::-1], key("run"), options))
    asked_for = {r.row for r in together} <= {r for r, _ in rows}
    assert asked_for, f"pipeline {pipeline.name!r}: a result names a row that was not asked for"
    keyed = {(r.row, r.draw): _shown(subject, r) for r in together}
    assert len(keyed) == len(together), f"pipeline {pipeline.name!r}: two results share (row, draw)"
    others = {(r.row, r.draw): _shown(subject, r) for r in backwards}
    for row in rows[:2]:
        others |= {(r.row, r.draw): _shown(subject, r) for r in pipeline.run(generator, [row], key("run"), options)}
        for place, shown in keyed.items():
            alone = same(others[place], shown)
            assert alone, f"pipeline {pipeline.name!r}: the result of row {place[0]} depends on the rows beside it"


def _shown(subject: Subject, result: Result) -> Any:
    """All that a result gives away."""
    folder = subject.folder("result")
    written = result.write(folder)
    assert all(Path(p).is_file() for p in written), "a result's write should return the files it wrote"
    page = result.render()
    found = OUTSIDE.search(page)
    assert found is None, f"a result's page points outside: {found.group()!r}" if found else ""
    return result.record(), result.problem(), page, contents(folder)


CHECKS = (render, files, files_are_deterministic, import_is_light, pipelines_are_row_pure)

"""What every test gets: one thread, a cache of its own, no network, the domains of ``toys.py`` and ``digits.py``."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
#: Modules that tests start in processes of their own; they import one another by name.
collect_ignore_glob = ["core/plugin/*.py"]


def _beside(name: str) -> Any:
    """A file beside this one under its own name: tests are imported without a package, so they could not find it."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toys, digits = _beside("toys"), _beside("digits")
_beside("hostile")
_beside("language_models")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing is written into the user's cache, by this process or by those it starts."""
    before, folder = os.environ.get("HEADWATER_CACHE"), tmp_path_factory.mktemp("cache")
    os.environ["HEADWATER_CACHE"] = str(folder)
    yield folder
    os.environ.pop("HEADWATER_CACHE") if before is None else os.environ.update(HEADWATER_CACHE=before)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails the test that asks for it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("localhost", "127.0.0.1", "::1"):
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def words() -> Any:
    return toys.Words()


@pytest.fixture
def spots() -> Any:
    return toys.Spots()


@pytest.fixture
def points() -> Any:
    return toys.Points()

"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.registry.factory import get_default_uri
from endcap.registry.versions import Registry
from endcap.store import Store, open_store

ROOT = Path(__file__).parents[1]
SLOW_MINUTES = 0.2
"""Of a slow test whose mark names none."""

# Tests start hundreds of processes. Without bytecode each would compile Endcap anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Some tests start pytest elsewhere, where this project's settings do not keep that plugin out.
os.environ["PYTEST_ADDOPTS"] = f"{os.environ.get('PYTEST_ADDOPTS', '')} -p no:bqemulator".strip()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests that need a cluster run where they are asked for by name: `make test-cluster`."""
    cluster = Path(__file__).with_name("cluster")
    named = any(Path(argument.split("::")[0]).resolve().is_relative_to(cluster) for argument in config.args)
    return True if collection_path == cluster and not named else None


def pytest_collection(session: pytest.Session) -> None:
    """Modules, tests and parameters all stay, so that a search for garbage among them is in vain."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what was collected out of every later search: it would be a twentieth of the tests' time."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, longest first: one begun last would keep one worker busy while others idle."""
    minutes: dict[Path, float] = {}
    for item in items:
        if mark := item.get_closest_marker("slow") or item.get_closest_marker("long"):
            minutes[item.path] = minutes.get(item.path, 0) + mark.kwargs.get("minutes", SLOW_MINUTES)
    items.sort(key=lambda item: -minutes.get(item.path, 0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of loopback that refuses. It is held: another test may soon listen at one that was only free."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's file. Its tables are made once: MLflow's first use runs all its migrations."""
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    Registry(f"sqlite:///{file}")
    return file


@pytest.fixture
def shop_store(store: Store, empty_registry: Path) -> Store:
    """A store with an empty registry."""
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    return store


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real event logs that lie beside the checkout; they are no part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout: real logs are not part of the project")
    return folder

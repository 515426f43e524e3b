"""A store with registered versions, whose answers are replayed."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from endcap.registry import Registry, find_registry
from endcap.registry.package import LoadedPackage, load_package
from endcap.store import Store
from tests.models.shapes import SMALL_NEUMF
from tests.reproduction.versions import load_specs, make_version, open_shop


class Shop(NamedTuple):
    """A store with version 1 of two recommenders: `home`, and `mine`, whose model knows customers."""

    folder: Path
    store: Store
    registry: Registry
    home: LoadedPackage
    mine: LoadedPackage


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Shop:
    folder = tmp_path_factory.mktemp("replay")
    store = open_shop(folder, empty_registry)
    neumf = {**SMALL_NEUMF.model_dump(mode="json"), "max_epochs": 2}
    packages = []
    for name, model in (("home", {"name": "sequential-rules"}), ("mine", neumf)):
        version = make_version(store, load_specs(folder, name, model=model), register=True)
        packages.append(load_package(store.fetch(version.package)))
        packages[-1].ranker.prepare()
    registry = find_registry("", store)
    assert registry is not None
    return Shop(folder, store, registry, *packages)

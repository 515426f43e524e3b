"""A store for tests that train: with a registry, whose tables are not made anew for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from endcap.registry.factory import get_default_uri
from endcap.store import Store


@pytest.fixture
def store(store: Store, empty_registry: Path) -> Store:
    shutil.copy(empty_registry, get_default_uri(store).removeprefix("sqlite:///"))
    return store

"""A store with a log and a package that tests share, and a registry whose versions each says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from endcap.batch import served_versions
from endcap.store import Store, open_store
from tests.batch.given import FakeRegistry, log, of, package


@dataclass(frozen=True)
class Little:
    """dataset: the last one of the shop there. package: of it. Lists of recommenders of other names do not meet."""

    store: Store
    dataset: str
    package: str


@pytest.fixture(scope="session")
def little(tmp_path_factory: pytest.TempPathFactory) -> Little:
    store = open_store(str(tmp_path_factory.mktemp("little")))
    dataset = log(store)
    return Little(store, dataset, package(store, of("little"), dataset))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """MLflow's first use costs ten seconds; what is asked of it here has tests of its own."""
    known = FakeRegistry()

    def opened(uri: str | None, store: Any) -> FakeRegistry:
        return known

    monkeypatch.setattr(served_versions, "open_registry", opened)
    return known

"""Fixtures that every room's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap.store import Store, open_store

ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real event logs that lie beside the checkout; they are no part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout: real logs are not part of the project")
    return folder

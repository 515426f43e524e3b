"""Both engines of one machine: the tests of what a dataset holds run on each."""

from __future__ import annotations

import numpy as np
import pytest

import endcap.features.dataset
import endcap.features.keyed_log
from endcap.features.daily import grouping
from tests.features.declared import open_declared_engine


@pytest.fixture(params=["daily", "declared"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build datasets out of coded days, or by the declared steps on DuckDB."""
    if request.param == "declared":
        monkeypatch.setattr(endcap.features.dataset, "open_feature_engine", open_declared_engine)
    return str(request.param)


@pytest.fixture
def colliding_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that begin alike share a hash, under the first salt."""
    real = endcap.features.keyed_log._hash_key
    monkeypatch.setattr(
        endcap.features.keyed_log,
        "_hash_key",
        lambda engine, column, salt: real(engine, column if salt else column.left(1), salt),
    )
    monkeypatch.setattr(grouping, "hash_texts", lambda ids: np.zeros(len(ids), np.uint64))

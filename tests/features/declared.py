"""The declared steps, evaluated by DuckDB: the reference for every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from endcap.features.engines.duckdb import open_tables
from endcap.features.feature_engine import DeclaredEngine, FeatureEngine
from endcap.spec.settings import FeatureSettings
from endcap.store import Store


@contextlib.contextmanager
def open_declared_engine(
    settings: FeatureSettings, store: Store, spill: Path, progress: object = None
) -> Iterator[FeatureEngine]:
    """Open the reference in place of `endcap.features.feature_engine.open_feature_engine`."""
    with open_tables(spill) as tables:
        yield DeclaredEngine(tables)

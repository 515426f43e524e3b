"""The engines that can make a dataset of a snapshot, and the choice among them. All make the same dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from endcap.events.snapshot_days import SnapshotDays
from endcap.features.declared_steps import write_tables
from endcap.features.engines.table_engine import TableEngine
from endcap.spec.settings import FeatureSettings

Json = dict[str, Any]
Progress = Callable[[str], None]


class FeatureEngine(Protocol):
    """Makes datasets of snapshots."""

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, out: Path, end: int | None, progress: Progress
    ) -> Json:
        """Write a dataset's files.

        Parameters
        ----------
        settings
            The shop's.
        snapshot
            The snapshot, on this machine.
        out
            The folder of the dataset's files, empty.
        end
            Events before it count, epoch ms. None: just after the snapshot's last event.
        progress
            Takes a line at a time.

        Returns
        -------
        dict
            The facts of the dataset's manifest that the rows decide: the same from every engine.

        Raises
        ------
        DataError
            If no events are left.
        StorageError
            If a disk is full.
        """


class DeclaredEngine:
    """Evaluates the declared steps with the tables of an engine."""

    def __init__(self, tables: TableEngine) -> None:
        self._tables = tables

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, out: Path, end: int | None, progress: Progress
    ) -> Json:
        """See `FeatureEngine`."""
        return write_tables(self._tables, settings, snapshot, out, end, progress)


@contextlib.contextmanager
def open_feature_engine(settings: FeatureSettings, spill: Path) -> Iterator[FeatureEngine]:
    """Open the engine that the spec names. It is closed at the end, whatever happens.

    Parameters
    ----------
    settings
        The shop's.
    spill
        An empty folder, for what does not fit in memory.
    """
    from endcap.features.engines.duckdb import open_tables

    with open_tables(spill) as tables:
        yield DeclaredEngine(tables)

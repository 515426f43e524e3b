"""The engines that can make a dataset of a snapshot, and the choice among them. All make the same dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from endcap.events.snapshot_days import SnapshotDays
from endcap.features.content_digest import digest_content
from endcap.spark.failures import is_executor_loss
from endcap.spec.settings import FeatureSettings
from endcap.store import Draft, Store
from endcap.store.staging import is_in_bucket

if TYPE_CHECKING:  # only the declared steps need Ibis, which takes half a second to import
    from endcap.features.engines.spark import SparkTables
    from endcap.features.engines.table_engine import TableEngine

Json = dict[str, Any]
Progress = Callable[[str], None]
ATTEMPTS = 3
"""How often a dataset is begun on Spark, where executors are lost."""


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
            The snapshot, on this machine if the engine reads it here (`reads_here`).
        out
            The folder of the dataset's files, empty.
        end
            Events before it count, epoch ms. None: just after the snapshot's last event.
        progress
            Takes a line at a time.

        Returns
        -------
        dict
            The facts of the dataset's manifest that the rows decide, the same from every engine. `content` is the
            files' digest (`digest_content`).

        Raises
        ------
        DataError
            If no events are left.
        StorageError
            If a disk is full.
        """


class DeclaredEngine:
    """Evaluates the declared steps with the tables of DuckDB."""

    def __init__(self, tables: TableEngine) -> None:
        self._tables = tables

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, out: Path, end: int | None, progress: Progress
    ) -> Json:
        """See `FeatureEngine`."""
        from endcap.features.declared_steps import write_tables

        return write_tables(self._tables, settings, snapshot, out, end, progress) | {"content": digest_content(out)}


class SparkEngine:
    """Evaluates the declared steps on Spark."""

    def __init__(self, tables: SparkTables) -> None:
        self._tables = tables

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, out: Path, end: int | None, progress: Progress
    ) -> Json:
        """See `FeatureEngine`. Where an executor is lost with tables that it held, all is made anew."""
        from endcap.features.declared_steps import write_tables

        self._tables.limit_partitions(sum(day.events for day in snapshot.days))
        for attempt in range(ATTEMPTS):
            try:
                facts = write_tables(self._tables, settings, snapshot, out, end, progress)
                return facts | {"content": self._tables.combine_digests(facts["features"])}
            except Exception as error:
                if attempt + 1 == ATTEMPTS or not is_executor_loss(error):
                    raise
            progress("an executor of Spark was lost, with tables that it held; making them again")
            self._tables.begin_anew()
        raise AssertionError("the last attempt raises its error")


def reads_here(settings: FeatureSettings, store: Store) -> bool:
    """Return whether the engine that the spec names reads a snapshot's files on this machine, or from a folder that all
    machines have. Otherwise its machines fetch them from the store."""
    return settings.features.engine != "spark" or not is_in_bucket(store.root)


@contextlib.contextmanager
def open_feature_engine(
    settings: FeatureSettings,
    store: Store,
    spill: Path,
    progress: Progress = lambda line: None,
    draft: Draft | None = None,
) -> Iterator[FeatureEngine]:
    """Open the engine that the spec names. It is closed at the end, whatever happens.

    Parameters
    ----------
    settings
        The shop's.
    store
        The store of the snapshot, which also keeps what can be used again.
    spill
        An empty folder, for what does not fit in memory.
    progress
        Takes a line at a time.
    draft
        The dataset that is written, to which other machines may send files. None: they write them to the folder.
    """
    if settings.features.engine == "spark":
        from endcap.features.engines.spark import SparkTables
        from endcap.spark import open_session
        from endcap.spark.executor_store import check_executors

        with open_session(settings.spark, spill, progress) as session:
            yield SparkEngine(SparkTables(session, check_executors(session, store), draft))
        return
    from endcap.features.daily.engine import DailyEngine

    yield DailyEngine(store)

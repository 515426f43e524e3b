"""The engines that can make a dataset of a snapshot, and the choice among them. All make the same dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from endcap.events.snapshot_days import SnapshotDays
from endcap.features.content_digest import digest_content
from endcap.spark.failures import is_executor_loss
from endcap.spark.tasks import Work
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
        self, settings: FeatureSettings, snapshot: SnapshotDays, draft: Draft, end: int | None, progress: Progress
    ) -> Json:
        """Write a dataset's files.

        Parameters
        ----------
        settings
            The shop's.
        snapshot
            The snapshot, on this machine if the engine reads it here (`reads_here`).
        draft
            The dataset, empty. Its files are put into its folder, or where other machines put them.
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

    def run(self, work: Work, piece: Any) -> None:
        """Do a piece of work where the engine reads snapshots. Raises what the work raises."""


class DeclaredEngine:
    """Evaluates the declared steps with the tables of DuckDB."""

    def __init__(self, tables: TableEngine) -> None:
        self._tables = tables

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, draft: Draft, end: int | None, progress: Progress
    ) -> Json:
        """See `FeatureEngine`."""
        from endcap.features.declared_steps import write_tables

        facts = write_tables(self._tables, settings, snapshot, draft.path, end, progress)
        return facts | {"content": digest_content(draft.path)}

    def run(self, work: Work, piece: Any) -> None:
        """See `FeatureEngine`."""
        work(piece)


class SparkEngine:
    """Evaluates the declared steps on Spark."""

    def __init__(self, tables: SparkTables) -> None:
        self._tables = tables

    def write_dataset(
        self, settings: FeatureSettings, snapshot: SnapshotDays, draft: Draft, end: int | None, progress: Progress
    ) -> Json:
        """See `FeatureEngine`. Where an executor is lost with tables that it held, all is made anew."""
        from endcap.features.declared_steps import write_tables

        self._tables.begin(draft)
        self._tables.limit_partitions(sum(day.events for day in snapshot.days))
        for attempt in range(ATTEMPTS):
            try:
                facts = write_tables(self._tables, settings, snapshot, draft.path, end, progress)
                return facts | {"content": self._tables.combine_digests(facts["features"])}
            except Exception as error:
                if attempt + 1 == ATTEMPTS or not is_executor_loss(error):
                    raise
            progress("an executor of Spark was lost, with tables that it held; making them again")
            self._tables.begin_anew(draft)
        raise AssertionError("the last attempt raises its error")

    def run(self, work: Work, piece: Any) -> None:
        """See `FeatureEngine`. An executor does it."""
        self._tables.run(work, piece)


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
    """
    if settings.features.engine == "spark":
        from endcap.features.engines.spark import SparkTables
        from endcap.spark import open_session
        from endcap.spark.executor_store import check_executors

        with open_session(settings.spark, spill, progress) as session:
            yield SparkEngine(SparkTables(session, check_executors(session, store)))
        return
    from endcap.features.daily.engine import DailyEngine

    yield DailyEngine(store)

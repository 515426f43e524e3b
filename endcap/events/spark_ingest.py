"""Ingest on Spark: executors hash and parse files, and put the units into the store.

This process finds the files, and gets addresses and facts; of the rows it reads the bad ones alone. It reads tables of
BigQuery itself, where one dry run and one limit count for the whole step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endcap.errors import UserError
from endcap.events.distinct_days import DistinctWriter, SharedDay
from endcap.events.forget_list import NOBODY, ForgetList
from endcap.events.parsed_units import Unit, compute_unit_key
from endcap.events.unit_reading import ParsedUnit, UnitReader
from endcap.progress import Advance
from endcap.pseudonyms import KEY
from endcap.sources.engine import open_engine
from endcap.sources.files import SourceFile, convert_read_errors, describe_file, list_files
from endcap.sources.load import Progress
from endcap.sources.local_files import LocalFile
from endcap.sources.pseudonymised_rows import find_key_id
from endcap.sources.recognition import Recognition
from endcap.sources.source_index import FileContent, ListedFile, SourceIndex
from endcap.spark import open_session
from endcap.spark.executor_store import ExecutorStore, check_executors
from endcap.spark.tasks import count_cores, make_task_folder, run_tasks
from endcap.spec.shop import Shop
from endcap.spec.source import SourceSpec
from endcap.store import Store, report_storage_errors
from endcap.store.artifact_files import make_scratch_folder
from endcap.store.cache import find_cache_folder
from endcap.store.read_only import WriteAttempt, is_read_only

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

Json = dict[str, Any]
_Named = tuple[ListedFile, Recognition]
"""A file, and what it is by its name."""
HASHED_BYTES, HASHED_FILES = 256 << 20, 200
"""The most that a task hashes: so many bytes, beside its last file, and so many files."""


class SparkIngest:
    """The `IngestEngine` of Spark. It starts a session when there is something to do."""

    def __init__(self, shop: Shop, store: Store, stack: contextlib.ExitStack, progress: Progress) -> None:
        self._shop, self._store, self._stack, self._progress = shop, store, stack, progress
        self._opened: SparkSession | None = None

    def learn(self, source: SourceSpec, index: SourceIndex) -> None:
        """See `IngestEngine`. Executors open and hash the files that are not known."""
        listing = list_files(source)
        unknown = [
            (file, listing.kinds[file.name])
            for file in listing.files
            if (content := index.find(file)) is None or not content.sha256
        ]
        if not unknown:
            return
        groups = group_files(unknown)
        for group, result in zip(groups, run_tasks(self._session, describe_files, groups), strict=True):
            for (file, _), (content, is_settled) in zip(group, result["files"], strict=True):
                index.learn(file, FileContent(**content), is_settled=is_settled)

    def parse(self, units: Sequence[Unit], reader: UnitReader) -> Iterator[ParsedUnit]:
        """See `IngestEngine`. What executors have put into the store stays there if the step fails."""
        here = reader.parse([unit for unit in units if unit.source.bigquery is not None])
        forgotten = reader.forgotten
        pieces = [
            (unit, compute_unit_key(self._shop, unit, forgotten)) for unit in units if unit.source.bigquery is None
        ]
        work = UnitWork(self._shop, ExecutorStore(self._store.root), reader.now, find_key_id(self._shop), forgotten)
        results = iter(run_tasks(self._session, work, pieces) if pieces else ())
        count = _Count(len(pieces), reader.progress)
        for unit in units:
            if unit.source.bigquery is not None:
                yield next(here)
                continue
            result = next(results)
            count.add(result["facts"])
            yield ParsedUnit(unit, result["address"], result["facts"], False)

    def write_distinct(self, days: Sequence[SharedDay], writer: DistinctWriter) -> Sequence[Json]:
        """See `IngestEngine`."""
        pieces = [(day, day.compute_key()) for day in days]
        work = DistinctWork(ExecutorStore(self._store.root), self._shop.name, self._shop.events.time.zone)
        return list(run_tasks(self._session, work, pieces)) if pieces else []

    @property
    def _session(self) -> SparkSession:
        if self._opened is None:
            if is_read_only():
                raise WriteAttempt  # who only looks starts no Spark
            folder = self._stack.enter_context(make_scratch_folder(find_cache_folder() / "spark"))
            session = self._stack.enter_context(open_session(self._shop.spark, folder, self._progress))
            check_executors(session, self._store)
            self._opened = session
        return self._opened


@contextlib.contextmanager
def open_spark_engine(shop: Shop, store: Store, progress: Progress) -> Iterator[SparkIngest]:
    """Open the engine. Its session, if it needed one, ends with the block. Raises as `open_session` does."""
    with contextlib.ExitStack() as stack:
        yield SparkIngest(shop, store, stack, progress)


def group_files(files: Sequence[_Named]) -> list[list[_Named]]:
    """Group files, in their order, into what a task hashes."""
    groups: list[list[_Named]] = []
    size = 0
    for file in files:
        if not groups or size >= HASHED_BYTES or len(groups[-1]) >= HASHED_FILES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file[0].bytes
    return groups


def describe_files(files: Sequence[_Named]) -> Json:
    """Open and hash files, on an executor. Says also of each whether its mark stands for its content."""
    described = []
    for file, kind in files:
        local = _see(file)
        content = asdict(describe_file(local, kind))
        # What lies here must be what the step found: its mark is of that.
        described.append((content, local.mark == file.mark and local.is_settled()))
    return {"files": described}


@dataclass(frozen=True)
class UnitWork:
    """Parses a unit on an executor, and puts it into the store.

    Attributes
    ----------
    shop
        The shop's spec.
    store
        The store.
    now
        The present, epoch ms.
    key_id
        The id of the step's key of pseudonyms, None without. An executor has the key in its own environment.
    forgotten
        Customers whose rows are left out.
    """

    shop: Shop
    store: ExecutorStore
    now: int
    key_id: str | None = None
    forgotten: ForgetList = NOBODY

    def __call__(self, piece: tuple[Unit, str]) -> Json:
        """Return the unit's address, as kind and key, and its facts. piece: the unit, and the key that the step has."""
        unit, key = piece
        self._check_key_id()
        _check_key(compute_unit_key(self.shop, unit, self.forgotten), key)
        with _open_workplace(self.shop.events.time.zone) as (folder, connection):
            reader = UnitReader(
                self.shop,
                self.store.open(),
                folder,
                folder,
                connection,
                lambda line: None,
                self.now,
                keeps_bad_rows=False,
                forgotten=self.forgotten,
            )
            # A task that Spark repeats may have got as far as this before.
            parsed = reader.find(unit)
            if parsed is None:
                (parsed,) = reader.parse([_see_unit(unit)])
        return {"address": parsed.address, "facts": parsed.facts}

    def _check_key_id(self) -> None:
        if (key_id := find_key_id(self.shop)) != self.key_id:
            raise UserError(
                f"{KEY}: Spark's executors have the key {key_id}, and the step has {self.key_id}. Give all of them the "
                "same",
                code="events.executors-key-differs",
                actual=key_id,
                expected=self.key_id,
            )


@dataclass(frozen=True)
class DistinctWork:
    """Publishes a day's distinct rows from an executor. shop: its name; zone: of its times."""

    store: ExecutorStore
    shop: str
    zone: str

    def __call__(self, piece: tuple[SharedDay, str]) -> Json:
        """Return the facts. piece: the day, and the key that the step has."""
        day, key = piece
        _check_key(day.compute_key(), key)
        with _open_workplace(self.zone) as (folder, connection):
            return DistinctWriter(self.store.open(), self.shop, folder, connection).write(day)


class _Count:
    """Says how many rows were read, about once a second. whole: the number of units."""

    def __init__(self, whole: int, progress: Progress) -> None:
        self._whole, self._progress = whole, progress
        self._done = self._rows = 0
        self._reported = time.monotonic()

    def add(self, facts: Json) -> None:
        """Count a unit's rows."""
        counts = facts["quarantine"]
        self._done, self._rows = self._done + 1, self._rows + counts["rows"] + sum(counts["left_out"].values())
        if time.monotonic() - self._reported >= 1:
            self._reported = time.monotonic()
            self._progress(Advance(f"events: {self._rows:,} rows read", done=self._done, whole=self._whole))


@contextlib.contextmanager
def _open_workplace(zone: str) -> Iterator[tuple[Path, Any]]:
    """Give a task a folder and a connection with as many threads as the task has cores."""
    with make_task_folder() as name, report_storage_errors(name), open_engine(Path(name) / "spill", zone) as connection:
        connection.execute(f"SET threads = {count_cores()}")
        yield Path(name), connection


def _check_key(key: str, expected: str) -> None:
    """Raise UserError if this machine's code makes another key than the step's: then it would make other rows."""
    if key != expected:
        raise UserError(
            "spark: the executors have another release of Endcap, or of a library that it reads logs with, than the "
            "step. Give them an image with the same one (spark.image)",
            code="events.executors-differ",
        )


def _see_unit(unit: Unit) -> Unit:
    """Return a unit with its files as this machine sees them. They must have the digests that the unit's key counts,
    which whoever reads them compares (`SourceFile.check_unchanged`)."""
    files = [
        replace(file, listed=_see(file.listed), content=replace(file.content, sha256=digest))
        for file, digest in zip(unit.files, unit.digests, strict=True)
        if isinstance(file, SourceFile)
    ]
    return replace(unit, files=files)


def _see(file: ListedFile) -> ListedFile:
    """Return a file as this machine sees it: at the same path, or as an object of a bucket."""
    if not isinstance(file, LocalFile):
        return file
    if not file.path.exists():
        raise UserError(
            f"events.engine: Spark's executors do not see {file.name}. Put the log into a bucket, or into a folder "
            "that all of them have, at the same path",
            code="events.executors-see-no-file",
            path=file.name,
        )
    with convert_read_errors(file.name):
        return LocalFile.find(file.path)

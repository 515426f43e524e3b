"""The declared steps on Spark: how it hashes, keeps tables, orders and numbers them, reads and writes.

Every table is kept on the executors, in memory and then on their disks, without the plan that made it: plans of many
rounds would grow without end. What is dropped, and what a session held that ended or whose client was killed, is freed
when the driver collects its garbage. The price is that an executor which is lost takes its part of the kept tables
along; the dataset is then made anew.

Nothing of the log passes through this process. It gets counts, and the few rows that describe a log.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr import datatypes as dt
from ibis.expr.schema import Schema

from endcap.events.snapshot import EVENTS
from endcap.features.content_digest import TableDigest, combine_digests
from endcap.features.engines.spark_files import WRITTEN, PartJoiner, PartWriter, name_part
from endcap.features.engines.spark_stored import FILE_BITS, read_stored
from endcap.features.engines.table_engine import Order
from endcap.spark.executor_store import ExecutorStore
from endcap.spark.paths import write_path
from endcap.spark.tasks import Work, run_tasks
from endcap.store.base import Draft
from endcap.store.staging import open_staged_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.session import SparkSession

_PARTITIONS = "spark.sql.shuffle.partitions"
_FEWEST_PARTITIONS, _EVENTS_OF_A_PARTITION = 4, 70_000
"""Events for each partition of a shuffle: about a MiB of a snapshot's files."""
_ROWS_OF_A_PARTITION = (1 << 33) - 1
"""`monotonically_increasing_id` has the number of a partition above these bits, and that of a row in them."""


@ibis.udf.scalar.builtin(name="xxhash64", signature=((dt.string,), dt.int64))  # type: ignore[untyped-decorator]
def _hash(value: str) -> int:  # type: ignore[empty-body]
    """Spark's xxhash64, of a text."""


@ibis.udf.scalar.builtin(name="xxhash64", signature=((dt.int64, dt.int64), dt.int64))  # type: ignore[untyped-decorator]
def _mix(first: int, second: int) -> int:  # type: ignore[empty-body]
    """The same of two keys."""


class SparkTables:
    """The `TableEngine` of Spark.

    Files that it reads are paths that all executors have, or paths in the store (`SnapshotDays.files`).

    Parameters
    ----------
    session
        The session.
    store
        The store, if files lie in it.
    """

    key_type = "int64"

    def __init__(self, session: SparkSession, store: ExecutorStore | None = None) -> None:
        from endcap.features.engines.spark_backend import PlanBackend

        self._session, self._store = session, store
        self._draft: Draft | None = None
        self._digests: dict[str, dict[str, str]] = {}
        # Spark 4 derives constraints of a union from its inputs, and fails (`key not found`) where a checkpoint's name
        # columns that it does not have.
        session.conf.set("spark.sql.constraintPropagation.enabled", "false")
        self.backend = PlanBackend().connect(session)
        self._kept: dict[str, ir.Table] = {}

    def hash_text(self, text: ir.Value) -> ir.Value:
        """See `TableEngine`."""
        return _hash(text)

    def mix_keys(self, first: ir.Value, second: ir.Value) -> ir.Value:
        """See `TableEngine`."""
        return _mix(first, second)

    def read(self, files: list[Path]) -> ir.Table:
        """See `TableEngine`. Executors read the files."""
        if _lie_in_store(files):
            return self.backend.show(self._read_stored(files).drop("row"))
        return self.backend.show(self._session.read.parquet(*map(write_path, files)))

    def read_events(self, files: list[Path]) -> ir.Table:
        """See `TableEngine`. Only the names of the files come here, as Spark writes them."""
        from pyspark.sql.connect import functions

        if _lie_in_store(files):
            rows = self._read_stored(files, EVENTS)
            place = functions.when(rows["position"].isNotNull(), rows["row"])
            return self.backend.show(rows.withColumn("row", place).drop("file", "position"))
        rows = self._session.read.parquet(*map(write_path, files)).select("*", "_metadata")
        names = rows.select(functions.col("_metadata.file_path").alias("path")).distinct().collect()
        numbers = {str(file.absolute()): number for number, file in enumerate(files)}
        listed = [(row["path"], numbers[unquote(urlsplit(row["path"]).path)]) for row in names]
        known = self._session.createDataFrame(listed, "path string, number long")
        joined = rows.join(functions.broadcast(known), functions.col("_metadata.file_path") == known["path"])
        place = functions.shiftleft(known["number"], FILE_BITS).bitwiseOR(functions.col("_metadata.row_index"))
        place = functions.when(rows["position"].isNotNull(), place)
        return self.backend.show(
            joined.withColumn("row", place).drop("file", "position", "_metadata", "path", "number")
        )

    def _read_stored(self, files: list[Path], schema: pa.Schema | None = None) -> DataFrame:
        assert self._store is not None
        partitions = int(self._session.conf.get(_PARTITIONS) or _FEWEST_PARTITIONS)
        rows: DataFrame = read_stored(self._session, self._store, files, partitions, schema)
        return rows

    def limit_partitions(self, events: int) -> None:
        """Have shuffles no more partitions than a log of so many events needs: each task writes a file for each."""
        needed = max(_FEWEST_PARTITIONS, -(-events // _EVENTS_OF_A_PARTITION))
        if needed < int(self._session.conf.get(_PARTITIONS) or needed):
            self._session.conf.set(_PARTITIONS, str(needed))

    def keep(self, table: ir.Table) -> ir.Table:
        """See `TableEngine`."""
        return self._keep(self.backend.plan(table), table.schema())

    def number(self, table: ir.Table, order: Sequence[Any], columns: Sequence[str], **kind: str) -> ir.Table:
        """See `TableEngine`. Partitions in order count their own rows; only the counts are put together here."""
        from pyspark.sql.connect import functions

        ((name, type_),) = kind.items()
        ordered = self._checkpoint(self.backend.plan(table.order_by(*order)))
        sizes = ordered.groupBy(functions.spark_partition_id().alias("part")).count().collect()
        rows = {row["part"]: row["count"] for row in sizes}
        begins = [0]
        for part in range(max(rows, default=0)):
            begins.append(begins[-1] + rows.get(part, 0))
        begin = functions.element_at(functions.array(*map(functions.lit, begins)), functions.spark_partition_id() + 1)
        place = functions.monotonically_increasing_id().bitwiseAND(_ROWS_OF_A_PARTITION)
        numbered = ordered.withColumn(name, (begin + place).cast({"int32": "int", "int64": "long"}[type_]))
        schema = {**table.schema(), name: type_}
        return self._keep(numbered.select(*columns), ibis.schema({column: schema[column] for column in columns}))

    def cut_runs(self, events: ir.Table, order: Order, gap: int) -> ir.Table:
        """See `TableEngine`. Each customer's events are a window of their own."""
        own = ibis.window(group_by="customer", order_by=[events.time, *order(events)])
        apart = events.mutate(pause=events.time - events.time.lag().over(own))
        cut = ibis.ifelse(apart.pause > gap, 1, 0).fill_null(0)
        before = ibis.window(group_by="customer", order_by=[apart.time, *order(apart)], rows=(None, 0))
        numbered = apart.mutate(number=cut.sum().over(before).cast("int64"))
        if "event" in events.columns:
            numbered = numbered.filter(numbered.event).drop("event")
        keyed = numbered.mutate(session=_mix(numbered.customer, numbered.number))
        return self.keep(keyed.drop("pause", "number"))

    def order_events(self, events: ir.Table, order: Order, *, places: bool) -> ir.Table:
        """See `TableEngine`. Each session is a window of its own.

        Partitions are ranges of sessions, and windows sort within them, so the windows leave the events in order.
        """
        if not places:
            return self.keep(events.order_by("session", "time", *order(events)))
        ranges = self.backend.show(self.backend.plan(events).repartitionByRange("session"), events.schema())
        own = ibis.window(group_by="session", order_by=[ranges.time, *order(ranges)])
        placed = ranges.mutate(position=ibis.row_number().over(own).cast("int32"), previous=ranges.time.lag().over(own))
        kept = self.keep(placed)
        self.backend.hide(ranges.get_name())
        return kept

    def drop(self, *tables: ir.Table) -> None:
        """See `TableEngine`."""
        for table in tables:
            self.backend.hide(table.get_name())
            del self._kept[table.get_name()]

    def keep_only(self, *tables: ir.Table) -> None:
        """See `TableEngine`."""
        names = {table.get_name() for table in tables}
        self.drop(*[table for name, table in self._kept.items() if name not in names])

    def count(self, table: ir.Table) -> int:
        """See `TableEngine`."""
        (row,) = self.backend.plan(table.aggregate(rows=table.count())).collect()
        return int(row[0])

    def write(self, table: ir.Table, file: Path) -> None:
        """See `TableEngine`. Each executor writes its parts where they belong, and one joins them."""
        from pyspark.sql.pandas.types import to_arrow_schema

        rows = self.backend.plan(table)
        schema = pa.schema([field.with_nullable(True).remove_metadata() for field in to_arrow_schema(rows.schema)])
        # A task of an earlier attempt that still runs must not write among these parts.
        draft = self._draft if self._draft is not None and file.parent == self._draft.path else None
        address, folder = (
            f"file://{file.parent}" if draft is None else draft.share(),
            f".{file.stem}-{uuid.uuid4().hex}",
        )
        written = rows.mapInArrow(PartWriter(address, folder, schema), WRITTEN).collect()
        parts = {name_part(folder, row["part"]): json.loads(row["described"]) for row in sorted(written)}
        if not parts:
            pq.write_table(schema.empty_table(), file)
            self._digests[file.stem] = TableDigest(schema).list_digests()
            return
        names, staged = list(parts), open_staged_files(address)
        if len(parts) == 1:
            staged.rename(names[0], file.name)
            described = parts[names[0]]
        else:
            joiner = PartJoiner(address, names, file.name)
            ((_, text),) = self._session.range(1, numPartitions=1).mapInArrow(joiner, WRITTEN).collect()
            described = json.loads(text)
            assert described["rows"] == sum(part["rows"] for part in parts.values())
            staged.remove(names)
        self._digests[file.stem] = described["columns"]
        if draft is not None:
            draft.sent[file.name] = described["file"]

    def combine_digests(self, declared: Any) -> str:
        """Compute the content digest of the dataset that was written, with the declared features."""
        return combine_digests(self._digests, declared)

    def begin(self, draft: Draft) -> None:
        """Write a dataset from now on: executors put its files where other machines put them. Any other file that is
        written lies in a folder that all executors have."""
        self._draft = draft
        self._digests.clear()

    def begin_anew(self, draft: Draft) -> None:
        """Forget all tables, and remove what was written of the dataset."""
        self.keep_only()
        self.begin(draft)
        draft.sent.clear()
        staged = open_staged_files(draft.share())
        staged.remove(staged.list(""))

    def run(self, work: Work, piece: Any) -> None:
        """Have an executor do a piece of work."""
        for _ in run_tasks(self._session, work, [piece]):
            pass

    def _checkpoint(self, frame: DataFrame) -> DataFrame:
        from pyspark import StorageLevel

        kept: DataFrame = frame.localCheckpoint(eager=True, storageLevel=StorageLevel.MEMORY_AND_DISK)
        return kept

    def _keep(self, frame: DataFrame, schema: Schema) -> ir.Table:
        table: ir.Table = self.backend.show(self._checkpoint(self.backend.cast(frame, schema)), schema)
        self._kept[table.get_name()] = table
        return table


def _lie_in_store(files: Sequence[Path]) -> bool:
    """Return whether paths are those of files in a store, and not of this machine."""
    return not files[0].is_absolute()

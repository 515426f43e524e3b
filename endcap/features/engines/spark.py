"""The declared steps on Spark: how it hashes, keeps tables, orders and numbers them, reads and writes.

Every table is kept on the executors, in memory and then on their disks, without the plan that made it: plans of many
rounds would grow without end. What is dropped, and what a session held that ended or whose client was killed, is freed
when the driver collects its garbage. The price is that an executor which is lost takes its part of the kept tables
along; the dataset is then made anew.

Nothing of the log passes through this process. It gets counts, and the few rows that describe a log.
"""

from __future__ import annotations

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

from endcap.features.engines.spark_files import ContentDigester, PartJoiner, PartWriter, name_part
from endcap.features.engines.table_engine import Order
from endcap.spark.paths import write_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.connect.session import SparkSession

_PARTITIONS = "spark.sql.shuffle.partitions"
_FEWEST_PARTITIONS, _PARTITION_SIZE = 4, 1 << 20
"""Bytes of a snapshot's files for each partition of a shuffle: some 70,000 events."""
_ROWS_OF_A_PARTITION = (1 << 33) - 1
"""`monotonically_increasing_id` has the number of a partition above these bits, and that of a row in them."""


@ibis.udf.scalar.builtin(name="xxhash64", signature=((dt.string,), dt.int64))  # type: ignore[untyped-decorator]
def _hash(value: str) -> int:  # type: ignore[empty-body]
    """Spark's xxhash64, of a text."""


@ibis.udf.scalar.builtin(name="xxhash64", signature=((dt.int64, dt.int64), dt.int64))  # type: ignore[untyped-decorator]
def _mix(first: int, second: int) -> int:  # type: ignore[empty-body]
    """The same of two keys."""


class SparkTables:
    """The `TableEngine` of Spark."""

    key_type = "int64"

    def __init__(self, session: SparkSession) -> None:
        from endcap.features.engines.spark_backend import PlanBackend

        self._session = session
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
        """See `TableEngine`. Executors read the files, so these must lie where all of them see them."""
        return self.backend.show(self._session.read.parquet(*map(write_path, files)))

    def read_events(self, files: list[Path]) -> ir.Table:
        """See `TableEngine`. Only the names of the files come here, as Spark writes them."""
        from pyspark.sql.connect import functions

        self._limit_partitions(sum(file.stat().st_size for file in files))
        rows = self._session.read.parquet(*map(write_path, files)).select("*", "_metadata")
        names = rows.select(functions.col("_metadata.file_path").alias("path")).distinct().collect()
        numbers = {str(file.absolute()): number for number, file in enumerate(files)}
        listed = [(row["path"], numbers[unquote(urlsplit(row["path"]).path)]) for row in names]
        known = self._session.createDataFrame(listed, "path string, number long")
        joined = rows.join(functions.broadcast(known), functions.col("_metadata.file_path") == known["path"])
        place = functions.shiftleft(known["number"], 40).bitwiseOR(functions.col("_metadata.row_index"))
        place = functions.when(rows["position"].isNotNull(), place)
        return self.backend.show(
            joined.withColumn("row", place).drop("file", "position", "_metadata", "path", "number")
        )

    def _limit_partitions(self, size: int) -> None:
        """Have shuffles no more partitions than a log of so many bytes needs: each task writes a file for each."""
        needed = max(_FEWEST_PARTITIONS, -(-size // _PARTITION_SIZE))
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
        """See `TableEngine`. Each executor writes its parts where they belong."""
        from pyspark.sql.pandas.types import to_arrow_schema

        rows = self.backend.plan(table)
        schema = pa.schema([field.with_nullable(True).remove_metadata() for field in to_arrow_schema(rows.schema)])
        folder = file.with_name(f".{file.stem}")
        folder.mkdir()
        parts = rows.mapInArrow(PartWriter(str(folder), schema), "part long, rows long").collect()
        if not parts:
            pq.write_table(schema.empty_table(), file)
        elif len(parts) == 1:
            (folder / name_part(parts[0]["part"])).replace(file)
        else:
            self._run_once(PartJoiner(str(folder), str(file)), "rows long")
        folder.rmdir()

    def digest_content(self, folder: Path) -> str:
        """Have an executor compute the content digest of a dataset's folder."""
        digest: str = self._run_once(ContentDigester(str(folder)), "digest string")
        return digest

    def _run_once(self, work: Any, schema: str) -> Any:
        """Run work on one executor, and return the only value of its only row."""
        ((value,),) = self._session.range(1, numPartitions=1).mapInArrow(work, schema).collect()
        return value

    def _checkpoint(self, frame: DataFrame) -> DataFrame:
        from pyspark import StorageLevel

        kept: DataFrame = frame.localCheckpoint(eager=True, storageLevel=StorageLevel.MEMORY_AND_DISK)
        return kept

    def _keep(self, frame: DataFrame, schema: Schema) -> ir.Table:
        table: ir.Table = self.backend.show(self._checkpoint(self.backend.cast(frame, schema)), schema)
        self._kept[table.get_name()] = table
        return table

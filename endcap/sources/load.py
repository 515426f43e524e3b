"""From a source's files to typed good rows, block by block; what is bad goes to the quarantine."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.sources.batch_mapping import BatchMapper
from endcap.sources.column_mapping import DAY, TIME, ColumnMapping, add_where, list_where_columns
from endcap.sources.engine import convert_engine_errors
from endcap.sources.files import SourceFile
from endcap.sources.formats.paths import join_paths
from endcap.sources.formats.read import read_rows
from endcap.sources.formats.rows import RowBatch, SourceRows, check_rows, column_name, reject_marked
from endcap.sources.locate import ABSENT, SourceColumn, locate_columns
from endcap.sources.quarantine import Quarantine
from endcap.sources.sql import quote_name
from endcap.sources.values.clock import LocalClock
from endcap.sources.values.times import LOCAL
from endcap.spec.shop import Layout
from endcap.spec.source import SourceSpec

Progress = Callable[[str], None]
COUNTED_VALUES = 1000
"""Values of a column that are counted at a time."""
_LISTED = 20
"""Values of a column that an error lists."""
MakeMapping = Callable[[Mapping[str, str], frozenset[str], str], ColumnMapping]


@dataclass
class Loader:
    """Reads the sources of one table (`events`, `items`, `customers`) one after the other."""

    table: str
    connection: Any
    quarantine: Quarantine
    progress: Progress
    clock: LocalClock | None = None
    """That of local times; None: UTC's."""
    empty: list[str] = field(default_factory=list)
    """Files without a byte, or without a row."""
    words: Sequence[str] = ()
    """Those that stand for no value in conditions."""
    values: dict[str, Counter[str | None]] = field(default_factory=dict)
    """What stood in the columns that rules look at, by column, as long as no row was good: the commonest values."""
    rows: int = 0
    """Rows read so far, in all sources: the good rows' `row`."""
    missing: Counter[str] = field(default_factory=Counter)
    """Rows read whose value was a word for none, by column."""
    met: set[str] = field(default_factory=set)
    """Names of wanted columns that a file had."""
    _sources: int = 0
    _good: int = 0
    _told: float = field(default_factory=time.monotonic)

    def load(
        self,
        source: SourceSpec,
        files: Sequence[SourceFile],
        wanted: Sequence[SourceColumn],
        plan_of: MakeMapping,
        layout: Layout = "columns",
        active: Callable[[pa.Table], None] = lambda rows: None,
    ) -> Iterator[pa.Table]:
        """Good rows in reading order, with their place in it as `row`.

        plan_of: the plan, given where the wanted columns stand, which hold typed times, and the mark of fractions; the
        source's conditions come before it. active: takes rows that are left out and yet are activity.
        """
        never_seen: set[str] | None = None
        rows: SourceRows | None = None
        wanted = [*wanted, *list_where_columns(source, f"{self.table}.sources[{self._sources}]")]
        self._sources += 1
        for file in files:
            before = self.quarantine.seen(self.table)
            if self.clock is not None:
                self.clock.begin_file()
            with convert_engine_errors(file.name):
                rows = read_rows(file, source, [column.name for column in wanted], self.connection)
                if rows is not None:
                    located = locate_columns(wanted, rows, file, layout)
                    # Numbers of JSON and Parquet are typed, and come with a point.
                    decimal = source.decimal if file.format in ("csv", "tsv") else "."
                    planner = BatchMapper(located, functools.partial(self._plan, plan_of, source, rows, decimal))
                    used = _list_places(located, rows)
                    for batch in map(functools.partial(reject_marked, wanted=used), rows.batches):
                        self.quarantine.reject(self.table, file.name, batch.rejects)
                        if len(batch.lines):
                            yield self._check(batch, planner, rows.names, file, active)
                        self.quarantine.check(self.table, end=False)
                        self._tell()
                    self.met |= {name for name, column in located.items() if column != ABSENT} - rows.unseen
                    never_seen = rows.unseen if never_seen is None else never_seen & rows.unseen
            file.check_unchanged()
            if self.quarantine.seen(self.table) == before:
                self.empty.append(file.name)
        missing = {
            column.name: column.key for column in wanted if column.name in (never_seen or ()) and not column.optional
        }
        if missing:
            names = ", ".join(f"{name!r} ({key})" for name, key in missing.items())
            paths = [] if rows is None else rows.paths()
            listed = f": {join_paths(paths)}" if paths else ""
            raise DataError(
                f"{source.path}: no row has a value of {names}; take it out, or name the right key{listed}",
                code="events.column-empty",
                path=source.path,
                columns=missing,
                paths=paths,
            )

    def _plan(
        self, plan_of: MakeMapping, source: SourceSpec, rows: SourceRows, decimal: str, located: Mapping[str, str]
    ) -> ColumnMapping:
        return add_where(plan_of(located, rows.instants, decimal), source, located, self.words, decimal)

    def _check(
        self,
        batch: RowBatch,
        planner: BatchMapper,
        names: Sequence[str],
        file: SourceFile,
        active: Callable[[pa.Table], None],
    ) -> pa.Table:
        count = len(batch.lines)
        plan, table = planner.plan(batch.table)
        self.connection.register("batch", table)
        checked = self.connection.sql(plan.sql("batch")).to_arrow_table()
        check_rows(file.name, checked.num_rows, count)
        taken = plan.as_they_are
        results = {name: table[taken[name]] if name in taken else checked[name] for name in plan.select}
        results["row"] = pa.chunked_array([np.arange(self.rows, self.rows + count)])
        self.rows += count
        for name, condition in plan.missing.items():
            if results[name].null_count:
                words = f"SELECT count(*) FROM batch WHERE {condition}"  # noqa: S608 (all parts are quoted)
                ((rows,),) = self.connection.execute(words).fetchall()
                self.missing += Counter({name: rows})
        left, reason = checked.column("left"), checked.column("reason")
        if left.null_count < count:
            counts = pc.value_counts(left.drop_null()).to_pylist()
            self.quarantine.leave_out(self.table, Counter({one["values"]: one["counts"] for one in counts}))
        if reason.null_count < count:
            bad = pc.is_valid(reason)
            raw = batch.table.filter(bad).rename_columns(list(names[: batch.table.num_columns]))
            lines = batch.lines[bad.to_numpy()].tolist()
            reasons = reason.drop_null().to_pylist()
            self.quarantine.keep(self.table, file.name, lines, reasons, raw.to_pylist())
            self._keep_examples(batch.table, plan, reason, batch.lines, file)
        if plan.active is not None:
            results["active"] = checked["active"]
        good = pa.table(results)
        if left.null_count + reason.null_count < 2 * count:
            kept = pc.and_(pc.is_null(left), pc.is_null(reason))
            good = good.filter(kept if plan.active is None else pc.or_(kept, checked.column("active")))
        # Activity too, for the order of a customer's rows tells which of two hours is meant.
        good = self._settled(good)
        if plan.active is not None:
            other = good.column("active")
            active(good.select(["customer", "time"]).filter(other))
            good = good.filter(pc.invert(other)).drop_columns(["active"])
        self.quarantine.count(self.table, good.num_rows)
        self._good += good.num_rows
        if not self._good:
            self._note_values(plan)
        return good

    def _settled(self, rows: pa.Table) -> pa.Table:
        """Rows with their local times made instants."""
        if self.clock is None or LOCAL not in rows.schema.names:
            return rows
        return self.clock.settle(rows, *(name for name in (TIME, "time", DAY) if name in rows.schema.names))

    def _keep_examples(
        self, batch: pa.Table, plan: ColumnMapping, reason: pa.ChunkedArray, lines: NDArray[np.int64], file: SourceFile
    ) -> None:
        """Give the quarantine the values that the reasons are about, as far as it still wants some."""
        for name in pc.unique(reason.drop_null()).to_pylist():
            wants = self.quarantine.wants_examples(self.table, name)
            if wants and name in plan.about:
                at = np.flatnonzero(pc.fill_null(pc.equal(reason, name), False).to_numpy())[:wants]
                self.connection.register("bad", batch.take(pa.array(at)))
                values = self.connection.sql(f"SELECT {plan.about[name]} AS value FROM bad").to_arrow_table()  # noqa: S608 (SQL)
                self.quarantine.add_examples(
                    self.table, file.name, name, lines[at].tolist(), values.column("value").to_pylist()
                )

    def _note_values(self, plan: ColumnMapping) -> None:
        """Note what the rules looked at in the batch that is registered."""
        for name in plan.shown:
            counts = self.values.setdefault(name, Counter())
            counts.update(dict(self.connection.execute(plan.values_sql("batch", name, COUNTED_VALUES)).fetchall()))
            self.values[name] = Counter(dict(counts.most_common(COUNTED_VALUES)))

    def common_values(self) -> dict[str, list[tuple[str | None, int]]]:
        """The commonest values of the columns that rules look at, and how many rows have each."""
        return {name: counts.most_common(_LISTED) for name, counts in self.values.items()}

    def values_text(self) -> str:
        """The same for an error's message, a line a column."""
        lines = {
            name: ", ".join(f"{'no value' if value is None else repr(value)} {count:,}" for value, count in values)
            for name, values in self.common_values().items()
        }
        return "".join(f"\n{name} has {values}" for name, values in lines.items() if values)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= 1:
            self._told = now
            self.progress(f"{self.table}: {self.rows:,} rows read")


def _list_places(located: Mapping[str, str], rows: SourceRows) -> list[int]:
    """The places of the batch's columns that are read."""
    return [at for at in range(len(rows.names)) if any(quote_name(column_name(at)) in sql for sql in located.values())]

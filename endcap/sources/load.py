"""Load the good rows of a source's files, typed, batch by batch. Bad rows go to the quarantine."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import DataError
from endcap.sources.batch_mapping import BatchMapper
from endcap.sources.column_mapping import DAY, TIME, ColumnMapping, add_where, list_where_columns
from endcap.sources.engine import convert_engine_errors
from endcap.sources.find import read_part
from endcap.sources.formats.paths import join_paths
from endcap.sources.formats.rows import RejectedText, RowBatch, SourceRows, check_rows, column_name, reject_marked
from endcap.sources.locate import ABSENT, SourceColumn, locate_columns
from endcap.sources.parts import SourcePart
from endcap.sources.pseudonymised_rows import RowPseudonyms
from endcap.sources.quarantine import Quarantine
from endcap.sources.sql import quote_name
from endcap.sources.values.clock import LocalClock
from endcap.sources.values.times import LOCAL
from endcap.spec.layouts import Layout
from endcap.spec.source import SourceSpec

Progress = Callable[[str], None]
COUNTED_VALUES = 1000
"""Values of a column that are counted at a time."""
_LISTED = 20
"""Values of a column that an error lists."""
MakeMapping = Callable[[Mapping[str, str], frozenset[str], str], ColumnMapping]


@dataclass
class Loader:
    """Load the sources of one table (`events`, `items`, `customers` or a list) one after the other."""

    table: str
    connection: Any
    quarantine: Quarantine
    progress: Progress
    clock: LocalClock | None = None
    """The clock of local times. None: they are UTC."""
    empty: list[str] = field(default_factory=list)
    """Files without a byte, or without a row."""
    words: Sequence[str] = ()
    """Words that mean "no value" in conditions."""
    values: dict[str, Counter[str | None]] = field(default_factory=dict)
    """The commonest values of the columns that rules examine, by column, until a row is good."""
    rows: int = 0
    """The number of rows read so far, in all sources. A good row's `row` is its place in this count."""
    file: int = -1
    """The number of the file that is being read, over all sources."""
    first_row: int = 0
    """The `row` of that file's first row."""
    has_places: bool = True
    """Whether the order of that file's rows says anything."""
    missing: Counter[str] = field(default_factory=Counter)
    """Rows whose value was a word for "no value", by column."""
    present_columns: set[str] = field(default_factory=set)
    """Names of requested columns that at least one file has."""
    never_seen: set[str] | None = None
    """Names of requested columns without a value in all rows of the source. None: no file of it has a byte."""
    paths: list[str] = field(default_factory=list)
    """Nested values that the source's last file has."""
    sources: int = 0
    """The number of the source that is read next."""
    is_partial: bool = False
    """Whether only some of a source's files are read here, so that who has all of them checks its columns
    (`check_columns`)."""
    pseudonyms: RowPseudonyms | None = None
    """Puts pseudonyms into all that is kept of rows. None: ids stay as they are."""
    hides: Callable[[str], bool] | None = None
    """Whether a text that is no row must not be kept. None: all are kept."""
    _good: int = 0
    _reported: float = field(default_factory=time.monotonic)

    def load(
        self,
        source: SourceSpec,
        files: Sequence[SourcePart],
        columns: Sequence[SourceColumn],
        make_mapping: MakeMapping,
        layout: Layout = "columns",
        active: Callable[[pa.Table], None] = lambda rows: None,
    ) -> Iterator[pa.Table]:
        """Yield good rows in reading order, with their place in it as `row`.

        Parameters
        ----------
        source
            The source, whose own conditions apply first.
        files
            Its parts, from `find_parts`.
        columns
            The columns to read.
        make_mapping
            Makes the mapping from the SQL of each column, the columns with typed times, and the decimal mark.
        layout
            The published layout that the source follows.
        active
            Takes rows that a rule leaves out and that are still a shopper's activity.

        Raises
        ------
        DataError
            If a column is missing or empty, a file changes during reading, or too many rows are bad.
        """
        self.never_seen, rows = None, None
        columns = self.list_columns(source, columns)
        self.sources += 1
        for file in files:
            before = self.quarantine.count_rows(self.table)
            self.file, self.first_row, self.has_places = self.file + 1, self.rows, file.has_places
            if self.clock is not None:
                self.clock.begin_file()
            with convert_engine_errors(file.name):
                rows = read_part(file, source, [column.name for column in columns], self.connection)
                if rows is not None:
                    located = locate_columns(columns, rows, file, layout)
                    # Numbers of JSON and Parquet are typed and have a decimal point.
                    decimal = source.decimal if file.format in ("csv", "tsv") else "."
                    mapper = BatchMapper(
                        located, functools.partial(self._make_mapping, make_mapping, source, rows, decimal)
                    )
                    used = _list_places(located, rows)
                    for batch in map(functools.partial(reject_marked, columns=used), rows.batches):
                        hide = list if self.pseudonyms is None else self.pseudonyms.hide_rejects
                        self.quarantine.reject(self.table, file.name, self._clear(hide(batch.rejects)))
                        if len(batch.lines):
                            yield self._check(batch, mapper, rows.names, used, file, active)
                        self.quarantine.check(self.table, end=False)
                        self._report_progress()
                    self.present_columns |= {name for name, column in located.items() if column != ABSENT} - rows.unseen
                    self.never_seen = rows.unseen if self.never_seen is None else self.never_seen & rows.unseen
            file.check_unchanged()
            if self.quarantine.count_rows(self.table) == before:
                self.empty.append(file.name)
            if self.never_seen and rows is not None:
                self.paths = rows.paths()
        if not self.is_partial:
            check_columns(source, columns, self.never_seen, self.paths)

    def list_columns(self, source: SourceSpec, columns: Sequence[SourceColumn]) -> list[SourceColumn]:
        """List the columns to read, with those of the source's own conditions."""
        return [*columns, *list_where_columns(source, f"{self.table}.sources[{self.sources}]")]

    def _clear(self, rejects: Sequence[RejectedText]) -> Sequence[RejectedText]:
        if self.hides is None:
            return rejects
        return [replace(rejected, text="") if self.hides(rejected.text) else rejected for rejected in rejects]

    def _make_mapping(
        self, make_mapping: MakeMapping, source: SourceSpec, rows: SourceRows, decimal: str, located: Mapping[str, str]
    ) -> ColumnMapping:
        return add_where(make_mapping(located, rows.instants, decimal), source, located, self.words, decimal)

    def _check(
        self,
        batch: RowBatch,
        mapper: BatchMapper,
        names: Sequence[str],
        read: Sequence[int],
        file: SourcePart,
        active: Callable[[pa.Table], None],
    ) -> pa.Table:
        count = len(batch.lines)
        mapping, table = mapper.map_batch(batch.table)
        self.connection.register("batch", table)
        checked = self.connection.sql(mapping.sql("batch")).to_arrow_table()
        check_rows(file.name, checked.num_rows, count)
        passthrough = mapping.passthrough_columns
        results = {name: table[passthrough[name]] if name in passthrough else checked[name] for name in mapping.select}
        results["row"] = pa.chunked_array([np.arange(self.rows, self.rows + count)])
        self.rows += count
        for name, condition in mapping.missing.items():
            if results[name].null_count:
                words = f"SELECT count(*) FROM batch WHERE {condition}"  # noqa: S608 (all parts are quoted)
                ((rows,),) = self.connection.execute(words).fetchall()
                self.missing += Counter({name: rows})
        exclusion, reason = checked.column("left"), checked.column("reason")
        if self.pseudonyms is not None:
            reason = self.pseudonyms.reject_foreign(results, exclusion, reason)
        if exclusion.null_count < count:
            counts = pc.value_counts(exclusion.drop_null()).to_pylist()
            self.quarantine.leave_out(
                self.table, Counter({count_of["values"]: count_of["counts"] for count_of in counts})
            )
        if reason.null_count < count:
            is_bad = pc.is_valid(reason)
            raw = batch.table.filter(is_bad)
            if self.pseudonyms is not None:
                raw = self.pseudonyms.hide_raw(raw, mapping, read)
            raw = raw.rename_columns(list(names[: batch.table.num_columns]))
            lines = batch.lines[is_bad.to_numpy()].tolist()
            reasons = reason.drop_null().to_pylist()
            self.quarantine.add_bad_rows(self.table, file.name, lines, reasons, raw.to_pylist())
            self._keep_examples(batch.table, mapping, reason, batch.lines, file)
        if mapping.active is not None:
            results["active"] = checked["active"]
        good_rows = pa.table(results)
        if exclusion.null_count + reason.null_count < 2 * count:
            is_kept = pc.and_(pc.is_null(exclusion), pc.is_null(reason))
            good_rows = good_rows.filter(
                is_kept if mapping.active is None else pc.or_(is_kept, checked.column("active"))
            )
        # With activity, since the order of a customer's rows shows which of two hours is meant.
        good_rows = self._convert_times(good_rows)
        if self.pseudonyms is not None:
            good_rows = self.pseudonyms.map_owners(good_rows)
        if mapping.active is not None:
            is_activity = good_rows.column("active")
            active(good_rows.select(["customer", "time"]).filter(is_activity))
            good_rows = good_rows.filter(pc.invert(is_activity)).drop_columns(["active"])
        self.quarantine.count_good(self.table, good_rows.num_rows)
        self._good += good_rows.num_rows
        if not self._good:
            self._note_values(mapping)
        return good_rows

    def _convert_times(self, rows: pa.Table) -> pa.Table:
        """Convert local times to instants."""
        if self.clock is None or LOCAL not in rows.schema.names:
            return rows
        return self.clock.convert(rows, *(name for name in (TIME, "time", DAY) if name in rows.schema.names))

    def _keep_examples(
        self,
        batch: pa.Table,
        mapping: ColumnMapping,
        reason: pa.ChunkedArray,
        lines: NDArray[np.int64],
        file: SourcePart,
    ) -> None:
        """Give the quarantine values that the reasons are about, as long as it needs more."""
        for name in pc.unique(reason.drop_null()).to_pylist():
            needed = self.quarantine.count_needed_examples(self.table, name)
            if needed and name in mapping.about:
                rows = np.flatnonzero(pc.fill_null(pc.equal(reason, name), False).to_numpy())[:needed]
                self.connection.register("bad", batch.take(pa.array(rows)))
                about = mapping.about[name]
                table = self.connection.sql(f"SELECT {about} AS value FROM bad").to_arrow_table()  # noqa: S608 (SQL)
                values = table.column("value").to_pylist()
                if self.pseudonyms is not None:
                    values = self.pseudonyms.hide_values(mapping, about, values)
                self.quarantine.add_examples(self.table, file.name, name, lines[rows].tolist(), values)

    def _note_values(self, mapping: ColumnMapping) -> None:
        """Count the values that rules examined in the registered batch."""
        for name in mapping.shown:
            counts = self.values.setdefault(name, Counter())
            values = dict(self.connection.execute(mapping.count_values_sql("batch", name, COUNTED_VALUES)).fetchall())
            if self.pseudonyms is not None:
                hidden = self.pseudonyms.hide_values(mapping, mapping.shown[name], values)
                values = dict(zip(hidden, values.values(), strict=True))
            counts.update(values)
            self.values[name] = Counter(dict(counts.most_common(COUNTED_VALUES)))

    def list_common_values(self) -> dict[str, list[tuple[str | None, int]]]:
        """The commonest values of the columns that rules look at, and how many rows have each."""
        return {name: counts.most_common(_LISTED) for name, counts in self.values.items()}

    def format_values(self) -> str:
        """The same for an error's message, a line a column."""
        lines = {
            name: ", ".join(f"{'no value' if value is None else repr(value)} {count:,}" for value, count in values)
            for name, values in self.list_common_values().items()
        }
        return "".join(f"\n{name} has {values}" for name, values in lines.items() if values)

    def _report_progress(self) -> None:
        time_now = time.monotonic()
        if time_now - self._reported >= 1:
            self._reported = time_now
            self.progress(f"{self.table}: {self.rows:,} rows read")


def check_columns(
    source: SourceSpec, columns: Sequence[SourceColumn], never_seen: Collection[str] | None, paths: Sequence[str]
) -> None:
    """Raise DataError if a column that a source must have has no value in any row.

    never_seen: see `Loader.never_seen`; paths: nested values that are there, for the error.
    """
    missing = {
        column.name: column.key for column in columns if column.name in (never_seen or ()) and not column.optional
    }
    if missing:
        names = ", ".join(f"{name!r} ({key})" for name, key in missing.items())
        hint = f": {join_paths(paths)}" if paths else ""
        raise DataError(
            f"{source.path}: no row has a value of {names}; take it out, or name the right key{hint}",
            code="events.column-empty",
            path=source.path,
            columns=missing,
            paths=list(paths),
        )


def _list_places(located: Mapping[str, str], rows: SourceRows) -> list[int]:
    """List the places of the batch's columns that the mapping reads."""
    return [
        place
        for place in range(len(rows.names))
        if any(quote_name(column_name(place)) in sql for sql in located.values())
    ]

"""Files or a table of BigQuery as a table of a statement: Parquet as it is, others converted, each row counted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.sources.bigquery.parts import TablePart
from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.find import digest_part, find_parts
from endcap.sources.formats.read import OPEN_TYPED, read_rows
from endcap.sources.formats.rows import SourceRows, check_rows, reject_marked
from endcap.sources.formats.typed_table import BLOCK, TypedTable
from endcap.sources.opening import open_text
from endcap.sources.parts import SourcePart
from endcap.sources.source_index import SourceIndex
from endcap.sources.sql import quote_name, quote_text
from endcap.spec.sql_step import SqlInput

Json = dict[str, Any]
READ_PARQUET = "SELECT * FROM read_parquet({files}, union_by_name = true, hive_partitioning = false)"
"""SQL of the rows of Parquet files. Columns that only some files have are NULL in the others."""
_READ_JSON = "SELECT * FROM read_json({files}, sample_size = -1, union_by_name = true, hive_partitioning = false)"
_CHUNK = 8 << 20


@dataclass(frozen=True)
class SourceTable:
    """An input's files, or the parts of its table in BigQuery."""

    step: str
    name: str
    source: SqlInput
    parts: Sequence[SourcePart]
    skipped: list[str]
    digests: list[str]
    bad: Counter[str] = field(default_factory=Counter)
    """How many pieces of text were no rows, by reason, once the table is created."""

    @classmethod
    def find(
        cls, step: str, name: str, source: SqlInput, index: SourceIndex, progress: Callable[[str], None]
    ) -> SourceTable:
        """Find the parts of an input, and read the digests that the index does not know. Raises DataError."""
        search = find_parts(source, progress, index=index)
        digests = [digest_part(part, index) for part in search.files]
        return cls(step, name, source, search.files, search.skipped, digests)

    @property
    def is_parquet(self) -> bool:
        return all(part.format != "jsonl" for part in self.parts)

    def key(self) -> Any:
        places = {"path", "bigquery", "step", "simulated", "where", "decimal"}
        settings = self.source.model_dump(mode="json", exclude=places)
        kinds = [[part.format, part.compression] for part in self.parts]
        return ["files", settings, kinds, self.digests]

    def facts(self) -> Json:
        files = [{**part.facts(), "sha256": digest} for part, digest in zip(self.parts, self.digests, strict=True)]
        path = self.source.path or (self.source.bigquery.address if self.source.bigquery is not None else "")
        return {"path": path, "files": files, "skipped": self.skipped, "bad": dict(self.bad)}

    def check_unchanged(self) -> None:
        for part in self.parts:
            part.check_unchanged()

    def create(self, connection: Any, scratch: Path) -> list[str]:
        """Create the view. Raises DataError if a file cannot be read, or too much of it is no row."""
        rows, places = 0, []
        for number, part in enumerate(self.parts):
            path = scratch / f"{self.name}-{number}"
            if isinstance(part, TablePart):
                _convert_table(part.open([column.name for column in part.columns], keeps_numeric=True), path)
            elif not isinstance(part, SourceFile) or part.bytes == 0:
                continue
            elif part.format == "parquet" and part.compression is None:
                path = part.path
            elif part.format in OPEN_TYPED:
                _convert_table(OPEN_TYPED[part.format](part), path)
            elif part.format == "jsonl":
                self._convert_lines(part, path)
            else:
                rows += self._convert_rows(part, path, connection)
            places.append((_READ_JSON if part.format == "jsonl" else READ_PARQUET, str(path)))
        self._check_bad(rows)
        if not places:
            raise DataError(
                f"step {self.step}: the files of the input {self.name} are all empty; name files with a header or rows",
                code="sql.input-unreadable",
                step=self.step,
                input=self.name,
            )
        selects = [
            reader.format(files=f"[{', '.join(quote_text(path) for of, path in places if of == reader)}]")
            for reader in dict.fromkeys(reader for reader, _ in places)
        ]
        view = f"CREATE VIEW {quote_name(self.name)} AS {' UNION ALL BY NAME '.join(selects)}"
        with self._convert_errors():
            connection.execute(view)
        return [path for _, path in places]

    def _convert_lines(self, file: SourceFile, path: Path) -> None:
        """Write the file's text as plain UTF-8, which DuckDB reads in any case."""
        with convert_read_errors(file.name), open_text(file, self.source.encoding) as text, path.open("wb") as out:
            while chunk := text.read(_CHUNK):
                out.write(chunk)

    def _convert_rows(self, file: SourceFile, path: Path, connection: Any) -> int:
        """Write the file's rows as Parquet with columns of text, and return how many there are."""
        rows = read_rows(file, self.source, [], connection)
        if rows is None:
            raise self._unreadable(f"{file.name} has no rows and no header")
        schema = pa.schema([(name, pa.string()) for name in self._check_names(file, rows)])
        count, places = 0, range(len(schema.names))
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in (reject_marked(batch, list(places)) for batch in rows.batches):
                self.bad.update(dict(_count_reasons(batch.rejects)))
                if len(batch.lines):
                    columns = [_drop_empty(batch.table.column(place)) for place in places]
                    writer.write_table(pa.table(columns, schema=schema))
                    count += len(batch.lines)
        return count

    def _check_names(self, file: SourceFile, rows: SourceRows) -> list[str]:
        names = list(rows.names)
        counts = Counter(name.lower() for name in names)
        repeated = [name for name in names if counts[name.lower()] > 1]
        if repeated:
            raise self._unreadable(
                f"{file.name} has columns of one name: {', '.join(repeated)}. SQL does not tell names apart by their "
                "case; name the columns by the input's header"
            )
        return names

    def _check_bad(self, rows: int) -> None:
        bad = self.bad.total()
        if bad > self.source.max_bad_share * (rows + bad):
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in self.bad.most_common(5))
            raise DataError(
                f"step {self.step}: {bad:,} of {rows + bad:,} lines of the input {self.name} are no rows ({reasons}); "
                f"allowed are {self.source.max_bad_share:.1%}. Correct the files, or raise inputs.{self.name}."
                "max_bad_share",
                code="sql.input-bad-rows",
                step=self.step,
                input=self.name,
                bad=dict(self.bad),
                rows=rows + bad,
            )

    @contextlib.contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.IOException, duckdb.OutOfMemoryException):
            raise  # of this machine
        except duckdb.Error as error:
            raise self._unreadable(str(error).splitlines()[0]) from error

    def _unreadable(self, why: str) -> DataError:
        return DataError(
            f"step {self.step}: the input {self.name} cannot be read: {why}",
            code="sql.input-unreadable",
            step=self.step,
            input=self.name,
            reason=why,
        )


def _convert_table(table: TypedTable, path: Path) -> None:
    """Write a table of typed columns as Parquet. Raises DataError if the file cannot be read."""
    count, names = 0, table.schema.names
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for block in table.read_blocks(names, BLOCK):
            writer.write_batch(block)
            count += block.num_rows
    check_rows(table.name, count, table.count_rows())


def _drop_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts with NULL for each empty one, as databases read csv."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _count_reasons(rejects: Any) -> Iterator[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for reject in rejects:
        counts[reject.reason] += reject.rows
    yield from counts.items()

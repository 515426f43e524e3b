"""Files as a table of a statement: Parquet as it is, and other formats converted once, each row counted."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.sources.files import SourceFile, convert_read_errors, find_files
from endcap.sources.formats.read import OPEN_TYPED, read_rows
from endcap.sources.formats.rows import SourceRows, check_rows, reject_marked
from endcap.sources.formats.typed_table import BLOCK, TypedTable
from endcap.sources.opening import open_text
from endcap.sources.sql import quote_name, quote_text
from endcap.spec.sql_step import SqlInput

Json = dict[str, Any]
READ_PARQUET = "SELECT * FROM read_parquet({files}, union_by_name = true, hive_partitioning = false)"
"""SQL of the rows of Parquet files. Columns that only some files have are NULL in the others."""
_READ_JSON = "SELECT * FROM read_json({files}, sample_size = -1, union_by_name = true, hive_partitioning = false)"
_CHUNK = 8 << 20


@dataclass(frozen=True)
class FilesTable:
    """Files of one input."""

    step: str
    name: str
    source: SqlInput
    files: list[SourceFile]
    skipped: list[str]
    digests: list[str]
    bad: Counter[str] = field(default_factory=Counter)
    """How many pieces of text were no rows, by reason, once the table is created."""

    @classmethod
    def find(cls, step: str, name: str, source: SqlInput, progress: Callable[[str], None]) -> FilesTable:
        """Find the files of an input, and read their digests. Raises DataError."""
        source_files = find_files(source, progress)
        return cls(
            step, name, source, source_files.files, source_files.skipped, [file.digest() for file in source_files.files]
        )

    def key(self) -> Any:
        settings = self.source.model_dump(mode="json", exclude={"path", "step", "simulated", "where", "decimal"})
        kinds = [[file.format, file.compression] for file in self.files]
        return ["files", settings, kinds, self.digests]

    def facts(self) -> Json:
        files = [
            {"path": file.name, "bytes": file.bytes, "sha256": digest}
            for file, digest in zip(self.files, self.digests, strict=True)
        ]
        return {"path": self.source.path, "files": files, "skipped": self.skipped, "bad": dict(self.bad)}

    def check_unchanged(self) -> None:
        for file in self.files:
            file.check_unchanged()

    def create(self, connection: Any, scratch: Path) -> list[str]:
        """Create the view. Raises DataError if a file cannot be read, or too much of it is no row."""
        rows, parts = 0, []
        for number, file in enumerate(self.files):
            path = scratch / f"{self.name}-{number}"
            if file.bytes == 0:
                continue
            if file.format == "parquet" and file.compression is None:
                path = file.path
            elif file.format in OPEN_TYPED:
                _convert_table(OPEN_TYPED[file.format](file), path)
            elif file.format == "jsonl":
                self._convert_lines(file, path)
            else:
                rows += self._convert_rows(file, path, connection)
            parts.append((_READ_JSON if file.format == "jsonl" else READ_PARQUET, str(path)))
        self._check_bad(rows)
        if not parts:
            raise DataError(
                f"step {self.step}: the files of the input {self.name} are all empty; name files with a header or rows",
                code="sql.input-unreadable",
                step=self.step,
                input=self.name,
            )
        selects = [
            reader.format(files=f"[{', '.join(quote_text(path) for of, path in parts if of == reader)}]")
            for reader in dict.fromkeys(reader for reader, _ in parts)
        ]
        view = f"CREATE VIEW {quote_name(self.name)} AS {' UNION ALL BY NAME '.join(selects)}"
        with self._convert_errors():
            connection.execute(view)
        return [path for _, path in parts]

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

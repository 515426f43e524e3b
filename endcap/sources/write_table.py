"""An item or customer table from the good rows of its sources: a row an id."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.errors import DataError
from endcap.sources.column_mapping import KEPT, TIME, ColumnMapping
from endcap.sources.digest import digest_rows
from endcap.sources.load import Loader
from endcap.sources.parts import SourcePart
from endcap.sources.sql import quote_name, quote_text
from endcap.sources.table_mapping import get_table_kind, list_table_columns, map_table
from endcap.spec.side_tables import Customers, Items, ItemSource
from endcap.spec.source import SourceSpec

Json = dict[str, Any]
Files = Sequence[tuple[SourceSpec, Sequence[SourcePart]]]


def write_table(
    table: Items | Customers,
    files: Files,
    folder: Path,
    loader: Loader,
    end: int,
    *,
    whole: bool,
    exclude: Callable[[str], tuple[str, str]] | None = None,
) -> Json:
    """Write ``items.parquet`` or ``customers.parquet``: one row for each id, in the order of ids.

    Parameters
    ----------
    table
        The shop's declaration of the table.
    files
        Its sources with their files.
    folder
        The folder to write to.
    loader
        Loads the rows.
    end
        Rows with a time after this one (epoch ms) do not count.
    whole
        Whether ids such as 123.0 are read as 123.
    exclude
        For the column of customers: SQL of rows to leave out, and the name of the rule.

    Returns
    -------
    dict
        `rows`, `schema` and `content` (a fingerprint) of the table. With times, `until` is that of the newest row.

    Raises
    ------
    DataError
        If no row remains, or too many are bad.

    Notes
    -----
    Of several rows of one id the latest counts: by time if rows have one, otherwise by reading order.
    """
    key = get_table_kind(table)
    raw, file = folder / f"{key}s.raw", folder / f"{key}s.parquet"
    rows = _load_rows(table, files, loader, functools.partial(map_table, whole=whole, exclude=exclude))
    first = next(rows, None)
    loader.quarantine.check(loader.table, end=first is None)
    if first is None:
        raise _empty_table_error(files, key, loader)
    with pq.ParquetWriter(raw, first.schema, compression="zstd", compression_level=1) as writer:
        writer.write_table(first)
        for batch in rows:
            writer.write_table(batch)
    loader.quarantine.check(loader.table, end=True)
    until = _write_latest(key, first.schema.names, raw, file, loader.connection, end)
    raw.unlink()
    columns = zip(first.schema.names, first.schema.types, strict=True)
    schema = {name: str(kind) for name, kind in columns if name not in ("row", TIME)}
    fingerprint, (count,) = digest_rows(
        loader.connection, f"read_parquet({quote_text(str(file))})", list(schema), ["count(*)"]
    )
    if not count:
        raise _empty_table_error(files, key, loader, later=TIME in first.schema.names)
    return {"rows": count, "schema": schema, "content": [fingerprint, schema], **until}


def _load_rows(
    table: Items | Customers, files: Files, loader: Loader, mapping: Callable[..., ColumnMapping]
) -> Iterator[pa.Table]:
    make_mapping = functools.partial(mapping, table, loader.clock is not None)
    for source, source_files in files:
        layout = source.layout if isinstance(source, ItemSource) else "columns"
        for rows in loader.load(source, source_files, list_table_columns(table), make_mapping, layout):
            yield rows.filter(rows[KEPT]).drop_columns(KEPT) if KEPT in rows.schema.names else rows


def _write_latest(key: str, names: Sequence[str], raw: Path, file: Path, connection: Any, end: int) -> Json:
    """Each id's last row, and the time of the newest of them where rows bear one."""
    timed = TIME in names
    order = [TIME, "row"] if timed else ["row"]
    rows = f"read_parquet({quote_text(str(raw))})" + (f" WHERE {quote_name(TIME)} <= {end}" if timed else "")
    latest = ", ".join(f"{quote_name(name)} DESC" for name in order)
    connection.execute(
        f"COPY (SELECT * EXCLUDE ({', '.join(map(quote_name, order))}) FROM {rows} "  # noqa: S608 (all parts are quoted)
        f"QUALIFY row_number() OVER (PARTITION BY {quote_name(key)} ORDER BY {latest}) = 1 ORDER BY {quote_name(key)}) "
        f"TO {quote_text(str(file))} (FORMAT parquet, COMPRESSION zstd)"
    ).fetchall()
    if not timed:
        return {}
    return {"until": connection.execute(f"SELECT max({quote_name(TIME)}) FROM {rows}").fetchone()[0]}  # noqa: S608 (as above)


def _empty_table_error(files: Files, key: str, loader: Loader, *, later: bool = False) -> DataError:
    condition = " that is not later than the log's last event" if later else ""
    paths = [source.path for source, _ in files]
    excluded = loader.quarantine.left_out.get(loader.table, Counter()).total()
    rule = f" {excluded:,} rows do not fit `where`{loader.format_values()}" if excluded else ""
    return DataError(
        f"{', '.join(paths)}: no row is there{condition}; the {key} table has none.{rule}",
        code="events.table-empty",
        paths=paths,
        table=key,
        later=later,
        left_out=excluded,
        values={name: [list(pair) for pair in counts] for name, counts in loader.list_common_values().items()},
    )

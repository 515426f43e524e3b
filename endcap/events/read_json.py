"""JSON lines: one object a line. Values become text; a nested value becomes its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.errors import DataError
from endcap.events.batch import Batch, Reject, Rows, as_batch, check_rows, column_name
from endcap.events.sources import SourceFile, open_text, readable
from endcap.events.sql import quoted
from endcap.events.utf8 import unmarked

BLOCK = 8 << 20
LONGEST = 16 << 20
SAMPLE = 10_000
LINE = quoted(column_name(0))
BLANK = (b"", b"\r")
NOT_JSON = "not a JSON object"
# RFC 6901: how a key is written in a pointer.
_ESCAPES = str.maketrans({"~": "~0", "/": "~1", "'": "''"})


def read_json(file: SourceFile, wanted: Sequence[str], connection: Any, encoding: str | None = None) -> Rows | None:
    """The rows of the file, with the keys of its first rows and those that are wanted; None where it is empty."""
    blocks = _blocks(file, encoding)
    first = next(blocks, None)
    if first is None:
        return None
    found = _keys(first, connection)
    unseen = {name for name in wanted if name not in found}
    names = [*found, *unseen]

    def batches() -> Iterator[Batch]:
        for block in chain([first], blocks):
            batch = _take_out(block, names, connection)
            if unseen:
                met = {name for at, name in enumerate(names) if batch.table.column(at).null_count < len(batch.lines)}
                unseen.difference_update(met)
            yield batch

    return Rows(names, frozenset(), batches(), unseen)


def _blocks(file: SourceFile, encoding: str | None) -> Iterator[Batch]:
    """The file's lines as batches of one column."""
    line, rest, read = 1, b"", 0
    with readable(file.name), open_text(file, encoding) as stream:
        while chunk := stream.read(BLOCK):
            head, newline, tail = chunk.rpartition(b"\n")
            if newline:
                lines = (rest + head).split(b"\n")
                batch = _lines(lines, line, stream.marked)
                read += len(batch.lines) + sum(map(lines.count, BLANK))
                yield batch
                line, rest = line + len(lines), tail
            else:
                rest += tail
            if len(rest) > LONGEST:
                raise DataError(
                    f"{file.name}: line {line} is longer than 16 MiB: JSON lines have one object a line",
                    code="events.row-too-long",
                    path=file.name,
                    line=line,
                    limit=LONGEST,
                )
        if rest:
            yield _lines([rest], line, stream.marked)
        check_rows(file.name, read, stream.newlines)


def _lines(lines: list[bytes], first: int, marked: str) -> Batch:
    column = pa.array(lines, pa.binary())
    numbers = np.arange(first, first + len(lines))
    full = pc.invert(pc.is_in(column, pa.array(BLANK)))
    if not pc.all(full).as_py():
        column, numbers = column.filter(full), numbers[full.to_numpy(zero_copy_only=False)]
    return as_batch([column], numbers, [], marked)


def _keys(block: Batch, connection: Any) -> list[str]:
    """The keys of the first rows, in the order in which they are first met."""
    connection.register("lines", block.table.slice(0, SAMPLE))
    keys = connection.execute(
        f"SELECT unnest(json_keys(j)) FROM (SELECT TRY_CAST({LINE} AS JSON) AS j FROM lines)"  # noqa: S608 (a constant)
    ).fetchall()
    return list(dict.fromkeys(key for (key,) in keys))


def _take_out(block: Batch, names: Sequence[str], connection: Any) -> Batch:
    pointers = ", ".join(f"'/{name.translate(_ESCAPES)}'" for name in names)
    columns = "".join(f", v[{at + 1}] AS {quoted(column_name(at))}" for at in range(len(names)))
    connection.register("lines", block.table)
    table = connection.sql(
        f"SELECT good{columns} FROM (SELECT coalesce(json_type(j) = 'OBJECT', false) AS good, "  # noqa: S608 (escaped above)
        f"json_extract_string(j, [{pointers}]::VARCHAR[]) AS v FROM (SELECT TRY_CAST({LINE} AS JSON) AS j FROM lines))"
    ).to_arrow_table()
    good, table = table.column(0), table.drop_columns("good")
    if pc.all(good).as_py():
        return Batch(table, block.lines, block.rejects, block.marked)
    mask = good.to_numpy()
    bad = np.flatnonzero(~mask)
    rejects = [Reject(int(block.lines[at]), NOT_JSON, unmarked(block.table.column(0)[at].as_py())) for at in bad]
    return Batch(table.filter(good), block.lines[mask], block.rejects + rejects, block.marked)

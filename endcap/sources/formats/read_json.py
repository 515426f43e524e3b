"""Read JSON: one object per line, or objects in an array or over several lines. Values become text."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from endcap.errors import DataError
from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.json_values import LONGEST, JsonValues, is_json_lines
from endcap.sources.formats.nested_values import SqlValue
from endcap.sources.formats.paths import HINTS, EachStep, KeyStep, Path, list_roots, list_text_paths, parse_path
from endcap.sources.formats.rows import RowBatch, SourceRows, check_rows, column_name, make_batch
from endcap.sources.formats.walk import PathWalk
from endcap.sources.opening import open_text
from endcap.sources.sql import quote_name, quote_text
from endcap.sources.utf8 import Utf8Stream

BLOCK = 8 << 20
SAMPLE = 10_000
TEXT, DOCUMENT = quote_name(column_name(0)), quote_name("§json")
NOT_JSON = "not a JSON object"
REPEATED = "a key is there more than once, and readers disagree which of its values counts"


def read_json(
    file: SourceFile, requested: Sequence[str], connection: Any, encoding: str | None = None
) -> SourceRows | None:
    """Read a file's rows, with the keys of its first rows and the requested ones. None: the file is empty."""
    blocks = _read_blocks(file, encoding)
    first = next(blocks, None)
    if first is None:
        return None
    keys, repeated = _list_keys(first, connection)
    unseen = [name for name in dict.fromkeys(requested) if name not in keys]
    # A key that is literally so named comes first, wherever in the file it turns up.
    paths = {name: [(KeyStep(name),), *_select_possible(parse_path(name), keys)] for name in unseen}
    by_element = any(EachStep() in path for places in paths.values() for path in places)
    # A row of many elements carries nothing that nobody asked for.
    selected = [name for name in keys if name in requested or not by_element]
    rows = f"(SELECT *, TRY_CAST({TEXT} AS JSON) AS {DOCUMENT} FROM {{batch}})"  # noqa: S608 (constants)
    walk = PathWalk(file.name, SqlValue(DOCUMENT, None), rows)
    # The type of a text would be looked for by parsing it once more: its first character says as much.
    is_object = f"CASE WHEN {TEXT} >= '{{' AND {TEXT} < '|' THEN true ELSE json_type({DOCUMENT}) = 'OBJECT' END"
    walk.refuse(f"{DOCUMENT} IS NULL OR NOT ({is_object})", NOT_JSON)
    # To look at the keys of each row takes as long as to read it: only where the first rows give reason to.
    used = {*requested, *list_roots(path for places in paths.values() for path in places)}
    if repeated & used:
        walk.refuse(_is_repeated(used), REPEATED)
    for name in [*selected, *unseen]:
        walk.add(paths.get(name, [(KeyStep(name),)]))

    def all_paths() -> list[str]:
        return list_text_paths(first.table.column(0).slice(0, HINTS).to_pylist())

    batches = (walk.run(block, connection) for block in chain([first], blocks))
    unread = [name for name in keys if name not in selected]
    return SourceRows([*selected, *unseen, *unread], frozenset(), batches, set(unseen), all_paths).track_unseen()


def _select_possible(paths: Sequence[Path], keys: Sequence[str]) -> list[Path]:
    """Drop paths into a list that the file seems to lack, if it has the list of another path."""
    lists = [path for path in paths if EachStep() in path]
    present = [path for path in lists if list_roots([path]) <= set(keys)] or lists[:1]
    return [path for path in paths if path not in lists or path in present]


def _read_blocks(file: SourceFile, encoding: str | None) -> Iterator[RowBatch]:
    """Yield the file's objects as batches with one column, their texts."""
    with convert_read_errors(file.name), open_text(file, encoding) as stream:
        head = stream.read(BLOCK)
        lines = is_json_lines(head.decode(errors="ignore"))  # a character may be cut in two
        yield from _read_lines(file, head, stream) if lines else _read_values(file, head, stream)


def _read_lines(file: SourceFile, chunk: bytes, stream: Utf8Stream) -> Iterator[RowBatch]:
    line, remainder, block, blank = 1, b"", 0, 0
    while chunk:
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            count = head.count(b"\n") + 1
            batch, empty = _drop_blank_lines(remainder + head, line, stream.marked)
            block, blank = block + len(batch.lines), blank + empty
            yield batch
            line, remainder = line + count, tail
        else:
            remainder += tail
        if len(remainder) > LONGEST:
            raise DataError(
                f"{file.name}: line {line} is longer than 16 MiB: JSON lines have one object a line",
                code="events.row-too-long",
                path=file.name,
                line=line,
                limit=LONGEST,
            )
        chunk = stream.read(BLOCK)
    if remainder:
        yield _drop_blank_lines(remainder, line, stream.marked)[0]
    check_rows(file.name, block, stream.newlines - blank)


def _drop_blank_lines(text: bytes, first: int, marked: str) -> tuple[RowBatch, int]:
    """Return a text's lines without blank ones, with their numbers, and the number of blank ones."""
    column = pc.split_pattern(pa.array([text], pa.binary()), "\n").values
    numbers = np.arange(first, first + len(column))
    full = pc.invert(pc.is_in(column, pa.array([b"", b"\r"])))
    blank = len(column) - pc.sum(full).as_py()
    if blank:
        column, numbers = column.filter(full), numbers[full.to_numpy(zero_copy_only=False)]
    return make_batch([column], numbers, [], marked), blank


def _read_values(file: SourceFile, head: bytes, stream: Utf8Stream) -> Iterator[RowBatch]:
    pieces, decoder = chain([head], iter(lambda: stream.read(BLOCK), b"")), codecs.getincrementaldecoder("utf-8")()
    lines, texts, size = [], [], 0
    for line, value in JsonValues(file.name, lambda: decoder.decode(next(pieces, b""))):
        lines.append(line)
        texts.append(value)
        size += len(value)
        if size >= BLOCK:
            yield make_batch([pa.array(texts)], np.array(lines), [], stream.marked)
            lines, texts, size = [], [], 0
    if texts:
        yield make_batch([pa.array(texts)], np.array(lines), [], stream.marked)


def _list_keys(block: RowBatch, connection: Any) -> tuple[list[str], set[str]]:
    """List the keys of the first rows in the order of occurrence, and the keys that a row repeats."""
    connection.register("lines", block.table.slice(0, SAMPLE))
    rows = connection.execute(f"SELECT json_keys(TRY_CAST({TEXT} AS JSON)) FROM lines").fetchall()  # noqa: S608 (a constant)
    names, repeated = dict[str, None](), set[str]()
    for (keys,) in rows:
        names |= dict.fromkeys(keys or ())
        if keys and len(set(keys)) < len(keys):
            repeated |= {key for key in keys if keys.count(key) > 1}
    return list(names), repeated


def _is_repeated(names: Iterable[str]) -> str:
    """Return an SQL condition: the row has one of these keys more than once."""
    keys = f"list_filter(json_keys({DOCUMENT}), lambda x: x IN ({', '.join(map(quote_text, sorted(names)))}))"
    return f"len({keys}) > list_unique({keys})"

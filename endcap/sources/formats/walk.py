"""Turn nested values of a batch into columns by one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from endcap.errors import DataError
from endcap.sources.formats.nested_values import (
    SqlValue,
    convert_to_text,
    extract_list,
    get_key,
    get_list,
    guard_json,
    is_invalid_json,
    is_text,
    make_list_checks,
    make_nested_column_error,
    make_pointer,
    select_first,
    take_keys,
    take_step,
    unwrap,
)
from endcap.sources.formats.paths import (
    ELEMENTS,
    EachStep,
    KeyStep,
    MatchStep,
    Path,
    Step,
    format_path,
    get_element_type,
)
from endcap.sources.formats.rows import RejectedText, RowBatch, check_rows, column_name
from endcap.sources.sql import quote_name, quote_text
from endcap.sources.utf8 import unmark

ROW, REFUSED, LIST = quote_name("§row"), quote_name("§refused"), quote_name("§list")


class PathWalk:
    """Turns a batch's columns into the requested ones, which may be paths into lists and objects.

    A list that is empty, missing or null gives one row with null in place of the list's values.

    Parameters
    ----------
    file
        The file's name, for errors.
    roots
        The JSON of a row, or the row's columns by name.
    source
        SQL of the rows that have `roots`. It contains ``{batch}`` where the batch's table belongs.
    """

    def __init__(self, file: str, roots: SqlValue | Mapping[str, SqlValue], source: str = "{batch}") -> None:
        self._file, self._roots, self._source = file, roots, source
        self._levels = [_Level(0)]
        self._lists: list[tuple[Path, SqlValue]] = []
        """The lists that are expanded, each within the one before: its path from the row, and its elements."""
        self._values: list[list[tuple[int, str]]] = []
        """For each column its values in order of precedence: the level of each, and SQL over that level's rows."""
        self._refusals: list[tuple[int, str, str]] = []
        """Levels, conditions on their rows, and reasons."""
        self._texts: list[tuple[int, Path, str]] = []
        """Lists within texts, which may be invalid: the level, the path of the elements, and SQL of the text."""
        self._loose: set[Path] = set()
        """Lists that may be no list in some rows, because a column has another path for such rows."""

    def add(self, paths: Sequence[Path]) -> pa.DataType | None:
        """Add a column, which takes its value from the first of several paths that has one.

        Parameters
        ----------
        paths
            The paths, in order of precedence.

        Returns
        -------
        pyarrow.DataType or None
            The column's type; None if it holds text from JSON, or if the paths have different types.

        Raises
        ------
        DataError
            A path ends at a list or an object (`events.column-nested`), or the columns expand different lists
            (`events.lists-differ`).
        """
        values, kinds = [], []
        for path in paths:
            node, start = self._resolve_root(path[0])
            ends = [place_of_step for place_of_step, step in enumerate(path) if isinstance(step, EachStep)]
            for depth, end in enumerate(ends):
                node, start = self._get_element(depth, path[: end + 1], node, path[start:end]), end + 1
                if any(
                    other_path[:end] == path[:end] and other_path[end : end + 1] != path[end : end + 1]
                    for other_path in paths
                ):
                    self._loose.add(path[: end + 1])
            place = unwrap(self._follow(node, path[start:], self._levels[len(ends)]), ELEMENTS)
            if place.type is not None and pa.types.is_nested(place.type):
                raise make_nested_column_error(self._file, format_path(path), place.type)
            values.append((len(ends), convert_to_text(place)))
            kinds.append(place.type)
        self._values.append(values)
        return kinds[0] if len(set(kinds)) == 1 else None

    def refuse(self, condition: str, reason: str) -> None:
        """Reject the rows of the batch for which an SQL condition holds, for the given reason."""
        self._refusals.append((0, condition, reason))

    @property
    def expands_lists(self) -> bool:
        """Whether a row of the file may become several."""
        return bool(self._lists)

    def run(self, batch: RowBatch, connection: Any) -> RowBatch:
        """Run the query on a batch.

        Parameters
        ----------
        batch
            Rows of the file.
        connection
            A DuckDB connection.

        Returns
        -------
        RowBatch
            The requested columns, in the order in which they were added, named by `column_name`. Each row has the line
            that it came from. Rejected rows are added to the batch's own.

        Raises
        ------
        DataError
            The rows have become too many.
        """
        table, lines = batch.table, batch.lines
        numbers = pa.array(np.arange(len(lines)))
        connection.register("nested_rows", table.append_column("§row", numbers) if self._lists else table)
        result = connection.sql(self._make_sql("nested_rows")).to_arrow_table()
        origin = result.column("§row").to_numpy() if self._lists else None
        rows_left = result.num_rows if origin is None else int((np.diff(origin, prepend=-1) != 0).sum())
        check_rows(self._file, rows_left, len(lines))
        rejects = batch.rejects
        refusals = self._list_refusals()
        if refusals and (refused := result.column("§refused").to_numpy()).any():
            rows_refused = np.flatnonzero(refused)
            rows = (rows_refused if origin is None else origin[rows_refused]).tolist()
            rejects = rejects + [
                RejectedText(
                    int(lines[row]), refusals[reason - 1][2], unmark(",".join(map(str, _list_values(table, row))))
                )
                for row, reason in zip(rows, refused[rows_refused].tolist(), strict=True)
            ]
            is_kept = refused == 0
            result = result.filter(pa.array(is_kept))
            origin = np.flatnonzero(is_kept) if origin is None else origin[is_kept]
        columns = result.select([column_name(column) for column in range(len(self._values))])
        return RowBatch(columns, lines if origin is None else lines[origin], rejects, batch.marked)

    def _resolve_root(self, step: Step) -> tuple[SqlValue, int]:
        """Return the value where a path begins, and the number of steps that lead to it."""
        if isinstance(self._roots, SqlValue):
            return self._roots, 0
        return self._roots[get_key(step)], 1

    def _get_element(self, depth: int, list_path: Path, node: SqlValue, path: Path) -> SqlValue:
        """Return an element of the list at a path from the node. list_path: its path from the row."""
        if depth == len(self._lists):
            if depth and list_path[: len(self._lists[-1][0])] != self._lists[-1][0]:
                raise self._lists_differ_error(list_path, self._lists[-1][0])
            value = self._follow(node, path, self._levels[depth])
            if value.type is None or is_text(value.type):
                self._texts.append((depth, list_path, value.sql))
            place = get_list(value)
            kind = None if place.type is None else get_element_type(place.type)
            self._lists.append((list_path, SqlValue(place.sql, kind)))
            self._levels.append(_Level(depth + 1))
        outer, elements = self._lists[depth]
        if outer != list_path:
            raise self._lists_differ_error(list_path, outer)
        return SqlValue(_element_name(depth + 1), elements.type)

    def _lists_differ_error(self, list_path: Path, outer: Path) -> DataError:
        lists = sorted({format_path(list_path), format_path(outer)})
        return DataError(
            f"{self._file}: the columns expand different lists, {' and '.join(lists)}; allowed: one list, and lists "
            "within its elements. Take one element of the other list by [key=value]",
            code="events.lists-differ",
            path=self._file,
            lists=lists,
        )

    def _follow(self, node: SqlValue, path: Path, level: _Level) -> SqlValue:
        """Return the value at a path without `[]`."""
        while path and node.type is not None and not is_text(node.type):
            node, path = take_step(node, path[0]), path[1:]
        if not path and node.type is not None:
            return node
        keys = take_keys(path)
        value = level.take(node.sql if node.type is None else guard_json(node.sql), keys)
        path = path[len(keys) :]
        while path:
            having, keys = path[0], take_keys(path[1:])
            assert isinstance(having, MatchStep)
            compared = f"json_extract_string(x, {quote_text(make_pointer([KeyStep(having.key)]))})"
            first = select_first(extract_list(value), compared, having)
            value, path = f"json_extract_string({first}, {quote_text(make_pointer(keys))})", path[len(keys) + 1 :]
        return SqlValue(value, None)

    def _list_refusals(self) -> list[tuple[int, str, str]]:
        refusals = list(self._refusals)
        for depth, list_path, value in self._texts:
            if list_path not in self._loose:
                name = format_path(list_path[:-1])
                refusals += [(depth, condition, f"{name} {reason}") for condition, reason in make_list_checks(value)]
        return refusals

    def _make_sql(self, batch: str) -> str:
        source, carried = self._source.format(batch=batch), [ROW] if self._lists else []
        columns = [[sql for _, sql in values] for values in self._values]
        refusals = self._list_refusals()
        for depth, level in enumerate(self._levels):
            rows = f"(SELECT *, {', '.join(level.list_columns())} FROM {source})" if level.documents else source  # noqa: S608 (all parts are quoted)
            selected = [name for name in carried if name != REFUSED]
            if refusals:
                cases = [
                    f"WHEN {condition} THEN {n}"
                    for n, (depth_of_value, condition, _) in enumerate(refusals, 1)
                    if depth_of_value == depth
                ]
                before = REFUSED if REFUSED in carried else "0"
                selected.append(
                    f"CASE WHEN {before} > 0 THEN {before} {' '.join(cases)} ELSE 0 END::UTINYINT AS {REFUSED}"
                )
                carried += [REFUSED] if depth == 0 else []
            if depth == len(self._lists):
                break
            for column, values in enumerate(self._values):
                for number, (depth_of_value, sql) in enumerate(values):
                    if depth_of_value == depth:
                        columns[column][number] = quote_name(f"§{column}/{number}")
                        selected.append(f"{sql} AS {columns[column][number]}")
                        carried.append(columns[column][number])
            # In a select of its own, or the elements would be taken out of the list twice.
            selected.append(f"{self._lists[depth][1].sql} AS {LIST}")
            rows = f"(SELECT {', '.join(selected)} FROM {rows})"  # noqa: S608 (as above)
            unnested = f"unnest(CASE WHEN len({LIST}) > 0 THEN {LIST} ELSE [NULL] END)"
            source = f"(SELECT {', '.join([*carried, f'{unnested} AS {_element_name(depth + 1)}'])} FROM {rows})"  # noqa: S608 (as above)
        selected += [
            f"{_coalesce(values)} AS {quote_name(column_name(column))}" for column, values in enumerate(columns)
        ]
        return f"SELECT {', '.join(selected)} FROM {rows}"  # noqa: S608 (as above)


@dataclass
class _Level:
    """The rows at one depth of lists, and the values taken from each row's JSON, which is parsed once for all."""

    depth: int
    documents: dict[str, list[str]] = field(default_factory=dict)

    def take(self, document: str, keys: Sequence[Step]) -> str:
        """Return SQL of the text at these keys of a JSON document."""
        pointers = self.documents.setdefault(document, [])
        pointer = make_pointer(keys)
        if pointer not in pointers:
            pointers.append(pointer)
        return f"{self._name_column(document)}[{pointers.index(pointer) + 1}]"

    def list_columns(self) -> list[str]:
        """Return SQL of the columns that `take` uses."""
        pointers_of = {document: ", ".join(map(quote_text, pointers)) for document, pointers in self.documents.items()}
        return [
            f"json_extract_string({document}, [{pointers}]::VARCHAR[]) AS {self._name_column(document)}"
            for document, pointers in pointers_of.items()
        ]

    def _name_column(self, document: str) -> str:
        return quote_name(f"§texts{self.depth}/{list(self.documents).index(document)}")


def walk_table(
    file: str, columns: Sequence[tuple[str, pa.DataType]], names: Sequence[str], paths: Mapping[str, Sequence[Path]]
) -> tuple[PathWalk, frozenset[str], set[str]]:
    """Prepare a walk over a table that keeps columns and adds values at paths.

    Parameters
    ----------
    file
        The file's name, for errors.
    columns
        Name and type of each column of the file.
    names
        The columns to keep.
    paths
        For each new column the paths to its value, in order of precedence.

    Returns
    -------
    tuple
        The walk; the names of the columns that hold typed times; the names of the new columns that come from texts and
        may turn out to have no value.

    Raises
    ------
    DataError
        As in `PathWalk.add`.
    """
    roots = {
        name: SqlValue(quote_name(column_name(place)), kind) for place, (name, kind) in reversed([*enumerate(columns)])
    }
    walk = PathWalk(file, roots)
    for head in dict.fromkeys(path[0] for places in paths.values() for path in places if len(path) > 1):
        column = roots[get_key(head)]
        if column.type is not None and is_text(column.type):
            walk.refuse(is_invalid_json(column.sql), f"{get_key(head)} is not JSON")
    kinds = {name: walk.add([(KeyStep(name),)]) for name in names}
    kinds |= {name: walk.add(places) for name, places in paths.items()}
    instants = frozenset(name for name, kind in kinds.items() if kind is not None and pa.types.is_temporal(kind))
    return walk, instants, {name for name in paths if kinds[name] is None}


def _element_name(depth: int) -> str:
    return quote_name(f"§element{depth}")


def _coalesce(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    return "coalesce(" + ", ".join(f"nullif({value}, '')" for value in values) + ")"


def _list_values(table: pa.Table, row: int) -> list[object]:
    return [column[row].as_py() for column in table.columns]

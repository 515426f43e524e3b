"""Turn nested values of a batch into columns by one query, which covers typed columns and JSON alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa

from endcap.errors import DataError
from endcap.sources.formats.paths import (
    ELEMENTS,
    LISTS,
    EachStep,
    KeyStep,
    MatchStep,
    Path,
    Step,
    format_path,
    get_element_type,
    is_wrapper,
    join_paths,
    list_type_paths,
)
from endcap.sources.formats.rows import RejectedText, RowBatch, check_rows, column_name
from endcap.sources.sql import quote_name, quote_text
from endcap.sources.utf8 import unmark

ROW, REFUSED, LIST = quote_name("§row"), quote_name("§refused"), quote_name("§list")
# RFC 6901: how a key is written in a pointer.
_ESCAPES = str.maketrans({"~": "~0", "/": "~1"})


@dataclass(frozen=True)
class SqlValue:
    """A value as SQL, with its Arrow type. None: JSON, or text from JSON."""

    sql: str
    type: pa.DataType | None


class PathWalk:
    """Turns a batch's columns into the requested ones, which may be paths into lists and objects.

    A list that is empty, missing or null gives one row with null in place of the list's values.
    """

    def __init__(self, file: str, roots: SqlValue | Mapping[str, SqlValue], source: str = "{batch}") -> None:
        """file: its name, for errors. roots: the JSON of a row, or its columns. source: SQL of the rows of `roots`."""
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
        """Those lists into which a column has another path, too, for rows where they are no list."""

    def add(self, paths: Sequence[Path]) -> pa.DataType | None:
        """Add a column: the first of these paths that has a value. Returns its type, or None for text from JSON.

        Raises DataError if the column is nested itself (`events.column-nested`), or if columns expand different lists
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
            place = _unwrap(self._follow(node, path[start:], self._levels[len(ends)]), ELEMENTS)
            if place.type is not None and pa.types.is_nested(place.type):
                raise nested_column_error(self._file, format_path(path), place.type)
            values.append((len(ends), _convert_to_text(place)))
            kinds.append(place.type)
        self._values.append(values)
        return kinds[0] if len(set(kinds)) == 1 else None

    def refuse(self, condition: str, reason: str) -> None:
        """Reject rows of the batch for which the condition holds."""
        self._refusals.append((0, condition, reason))

    @property
    def expands_lists(self) -> bool:
        """Whether a row of the file may become several."""
        return bool(self._lists)

    def run(self, batch: RowBatch, connection: Any) -> RowBatch:
        """Return the requested columns of a batch, by `column_name`. Each row keeps its line."""
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
        columns = result.select([column_name(rows_refused) for rows_refused in range(len(self._values))])
        return RowBatch(columns, lines if origin is None else lines[origin], rejects, batch.marked)

    def _resolve_root(self, step: Step) -> tuple[SqlValue, int]:
        """Return the value where a path begins, and the number of steps that lead to it."""
        if isinstance(self._roots, SqlValue):
            return self._roots, 0
        return self._roots[_get_key(step)], 1

    def _get_element(self, depth: int, list_path: Path, node: SqlValue, path: Path) -> SqlValue:
        """Return an element of the list at a path from the node. list_path: its path from the row."""
        if depth == len(self._lists):
            if depth and list_path[: len(self._lists[-1][0])] != self._lists[-1][0]:
                raise self._lists_differ_error(list_path, self._lists[-1][0])
            value = self._follow(node, path, self._levels[depth])
            if value.type is None or is_text(value.type):
                self._texts.append((depth, list_path, value.sql))
            place = _get_list(value)
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
            f"{self._file}: the wanted columns walk different lists, {' and '.join(lists)}; allowed: one list, "
            "and a list within its elements. Of the other, take one element by [key=value]",
            code="events.lists-differ",
            path=self._file,
            lists=lists,
        )

    def _follow(self, node: SqlValue, path: Path, level: _Level) -> SqlValue:
        """Return the value at a path without `[]`."""
        while path and node.type is not None and not is_text(node.type):
            node, path = _take_step(node, path[0]), path[1:]
        if not path and node.type is not None:
            return node
        keys = _take_keys(path)
        value = level.take(node.sql if node.type is None else _valid_document(node.sql), keys)
        path = path[len(keys) :]
        while path:
            having, keys = path[0], _take_keys(path[1:])
            assert isinstance(having, MatchStep)
            compared = f"json_extract_string(x, {quote_text(_make_pointer([KeyStep(having.key)]))})"
            first = _select_first(_extract_list(value), compared, having)
            value, path = f"json_extract_string({first}, {quote_text(_make_pointer(keys))})", path[len(keys) + 1 :]
        return SqlValue(value, None)

    def _list_refusals(self) -> list[tuple[int, str, str]]:
        refusals = list(self._refusals)
        for depth, list_path, value in self._texts:
            if list_path not in self._loose:
                name = format_path(list_path[:-1])
                refusals += [(depth, condition, f"{name} {reason}") for condition, reason in _check_list(value)]
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
        pointer = _make_pointer(keys)
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

    Returns the walk, the columns that hold typed times, and those that come from texts and may turn out to have no
    value. Raises DataError as `PathWalk.add` does.
    """
    roots = {
        name: SqlValue(quote_name(column_name(place)), kind) for place, (name, kind) in reversed([*enumerate(columns)])
    }
    walk = PathWalk(file, roots)
    for head in dict.fromkeys(path[0] for places in paths.values() for path in places if len(path) > 1):
        column = roots[_get_key(head)]
        if column.type is not None and is_text(column.type):
            walk.refuse(is_invalid_json(column.sql), f"{_get_key(head)} is not JSON")
    kinds = {name: walk.add([(KeyStep(name),)]) for name in names}
    kinds |= {name: walk.add(places) for name, places in paths.items()}
    instants = frozenset(name for name, kind in kinds.items() if kind is not None and pa.types.is_temporal(kind))
    return walk, instants, {name for name in paths if kinds[name] is None}


def nested_column_error(file: str, name: str, kind: pa.DataType) -> DataError:
    """Return the error for a name that stands for lists or objects instead of plain values."""
    paths = [f"{name}{path[1:]}" for path in list_type_paths("x", kind)]
    hint = f"; name a path to a plain value of it: {join_paths(paths)}" if paths else ""
    return DataError(
        f"{file}: column {name!r} is {kind}; a plain column is expected{hint}",
        code="events.column-nested",
        path=file,
        column=name,
        found=str(kind),
        paths=paths,
    )


def can_reach(path: Path, columns: Mapping[str, pa.DataType]) -> bool:
    """Return whether typed columns may have a path. The content of texts is unknown before they are read."""
    kind = columns.get(_get_key(path[0]))
    if kind is None:
        return False
    node = SqlValue("", kind)
    for step in path[1:]:
        if node.type is None or is_text(node.type):
            break
        try:
            node = _take_step(node, step)
        except KeyError:
            return False
    return True


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts, which may be JSON."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_invalid_json(column: str) -> str:
    """Return an SQL condition: a text that paths lead into is no JSON."""
    return f"trim({column}) <> '' AND NOT json_valid({column})"


def _take_step(node: SqlValue, step: Step) -> SqlValue:
    """Take a step into a typed value. Raises KeyError if its type has no such step."""
    kind = node.type
    assert kind is not None  # JSON is followed by pointers
    if isinstance(step, KeyStep):
        if pa.types.is_struct(kind) and kind.get_field_index(step.name) >= 0:
            return SqlValue(f"struct_extract({node.sql}, {quote_text(step.name)})", kind.field(step.name).type)
        if pa.types.is_map(kind):
            return SqlValue(f"map_extract_value({node.sql}, {quote_text(step.name)})", kind.item_type)
        if is_wrapper(kind, ELEMENTS):
            return _take_step(_unwrap(node, ELEMENTS), step)
        raise KeyError(step.name)
    place = _get_list(node)
    element = None if place.type is None else get_element_type(place.type)
    if element is None:
        raise KeyError(format_path((step,)))
    if isinstance(step, EachStep):
        return SqlValue(place.sql, element)
    compared = _take_step(SqlValue("x", element), KeyStep(step.key))
    return SqlValue(_select_first(place.sql, f"({compared.sql})::VARCHAR", step), element)


def _get_list(node: SqlValue) -> SqlValue:
    """Return a value's list without the structs that some writers put around it."""
    if node.type is None or is_text(node.type):
        return SqlValue(_extract_list(node.sql), None)
    return _unwrap(node, LISTS)


def _unwrap(node: SqlValue, names: Sequence[str]) -> SqlValue:
    """Return the content of a struct that some writers put around a list or its elements."""
    if node.type is not None and is_wrapper(node.type, names):
        return _take_step(node, KeyStep(node.type.field(0).name))
    return node


def _select_first(elements: str, compared: str, having: MatchStep) -> str:
    return f"list_filter({elements}, lambda x: coalesce({compared} = {quote_text(having.value)}, false))[1]"


def _extract_list(value: str) -> str:
    """Return SQL of the elements of a JSON list, null for any other text."""
    return f"CASE WHEN starts_with(ltrim({value}), '[') AND json_valid({value}) THEN json_extract({value}, '$[*]') END"


def _check_list(value: str) -> list[tuple[str, str]]:
    """Return conditions, with reasons, for a text that is neither missing nor a list."""
    start = f"ltrim({value})"
    return [
        (f"starts_with({start}, '{{')", "is no list but an object"),
        (f"{start} <> '' AND NOT starts_with({start}, '[') AND {start} <> 'null'", "is no list but a plain value"),
    ]


def _valid_document(value: str) -> str:
    return f"CASE WHEN json_valid({value}) THEN {value} END"


def _take_keys(path: Path) -> list[Step]:
    return list(takewhile(lambda step: isinstance(step, KeyStep), path))


def _make_pointer(keys: Sequence[Step]) -> str:
    return "".join(f"/{_get_key(key).translate(_ESCAPES)}" for key in keys)


def _get_key(step: Step) -> str:
    """The name of a key, as each path begins with one."""
    assert isinstance(step, KeyStep)
    return step.name


def _element_name(depth: int) -> str:
    return quote_name(f"§element{depth}")


def _convert_to_text(node: SqlValue) -> str:
    if node.type is None:
        return node.sql
    if pa.types.is_binary(node.type) or pa.types.is_large_binary(node.type):
        return f"decode({node.sql})"
    value = f"({node.sql})::VARCHAR"
    if pa.types.is_float32(node.type):
        # Above this, not every whole number has its own float32. The form with an exponent shows that.
        rounded = f"format('{{:.9e}}', ({node.sql})::DOUBLE)"
        return f"CASE WHEN abs({node.sql}) >= {2**24} THEN {rounded} ELSE {value} END"
    return value


def _coalesce(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    return "coalesce(" + ", ".join(f"nullif({value}, '')" for value in values) + ")"


def _list_values(table: pa.Table, row: int) -> list[object]:
    return [column[row].as_py() for column in table.columns]

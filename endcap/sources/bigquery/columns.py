"""A table's columns, those of them that a run needs, and their types in Arrow. Nothing here asks the warehouse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pyarrow as pa

from endcap.errors import DataError
from endcap.sources.formats.paths import EachStep, KeyStep, MatchStep, Path, parse_path

TYPES: dict[str, pa.DataType] = {
    "STRING": pa.string(),
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    # Decimals are text, as in a CSV file; DuckDB has none of BIGNUMERIC's size.
    "NUMERIC": pa.string(),
    "BIGNUMERIC": pa.string(),
    "BOOL": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "DATETIME": pa.timestamp("us"),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "JSON": pa.string(),
    "GEOGRAPHY": pa.string(),
}
"""The types whose values are read, by their names in SQL."""
NUMERIC = pa.decimal128(38, 9)
"""The type of NUMERIC where its values stay decimals, whatever precision a column declares."""
ALIASES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
"""Names of types in answers of the REST interface, by which they are called in SQL."""
Selection = Mapping[str, "Selection | None"]
"""Needed columns, or needed fields of a struct, by name. None: the whole value."""


@dataclass(frozen=True)
class TableColumn:
    """A column of a table, or a field of a struct. type: by its name in SQL. repeated: whether it is an array of it."""

    name: str
    type: str
    repeated: bool = False
    fields: tuple[TableColumn, ...] = ()


def read_columns(fields: Iterable[Mapping[str, Any]]) -> tuple[TableColumn, ...]:
    """Return the columns of a schema, as a REST answer has it (`TableFieldSchema`)."""
    return tuple(
        TableColumn(
            field["name"],
            ALIASES.get(field["type"], field["type"]),
            field.get("mode", "NULLABLE") == "REPEATED",
            read_columns(field.get("fields", ())),
        )
        for field in fields
    )


def select_columns(columns: Sequence[TableColumn], requested: Iterable[str]) -> dict[str, Any]:
    """Return the columns, and of structs the fields, that the requested names need.

    Parameters
    ----------
    columns
        The table's columns.
    requested
        Names of columns, or paths into nested values. Names that the table does not have are left out.

    Returns
    -------
    dict
        The `Selection`, in the order of the table's columns.
    """
    selection: dict[str, Any] = {}
    names = {column.name for column in columns}
    for name in requested:
        for path in [(KeyStep(name),)] if name in names else parse_path(name):
            _select_path(columns, path, selection)
    return {column.name: selection[column.name] for column in columns if column.name in selection}


def list_fields(selection: Selection) -> list[str]:
    """List the selected columns and fields with dots, as `selected_fields` of a read session takes them."""
    names = []
    for name, fields in selection.items():
        names += [name] if fields is None else [f"{name}.{field}" for field in list_fields(fields)]
    return names


def make_arrow_schema(columns: Sequence[TableColumn], *, keeps_numeric: bool = False) -> pa.Schema:
    """Return the schema of the rows that are read. Types that cannot be read are binary; `check_types` refuses them.

    keeps_numeric: whether values of NUMERIC stay decimals.
    """
    types = TYPES | {"NUMERIC": NUMERIC} if keeps_numeric else TYPES
    return pa.schema([(column.name, _make_type(column, types)) for column in columns])


def check_types(name: str, columns: Sequence[TableColumn], selection: Selection, within: str = "") -> None:
    """Raise DataError if a selected column has a type that no event can have (`bigquery.column-type`).

    name: the table's name, for the error.
    """
    by_name = {column.name: column for column in columns}
    for key, fields in selection.items():
        column = by_name[key]
        if fields is not None:
            check_types(name, column.fields, fields, f"{within}{key}.")
        elif column.type == "STRUCT":
            check_types(name, column.fields, dict.fromkeys(field.name for field in column.fields), f"{within}{key}.")
        elif column.type not in TYPES:
            _refuse_type(name, f"{within}{key}", column.type)


def _refuse_type(name: str, column: str, kind: str) -> NoReturn:
    hint = "make text of it in a view, such as TO_HEX(…)" if kind == "BYTES" else "make text of it in a view"
    raise DataError(
        f"{name}: column {column!r} is {kind}; allowed are {', '.join(TYPES)}, and structs and arrays of them; {hint}",
        code="bigquery.column-type",
        path=name,
        column=column,
        found=kind,
        allowed=list(TYPES),
    )


def _select_path(columns: Sequence[TableColumn], path: Path, selection: dict[str, Any]) -> None:
    """Add what a path needs. A path that the columns do not have adds nothing."""
    column = next((column for column in columns if isinstance(path[0], KeyStep) and column.name == path[0].name), None)
    if column is None:
        return
    rest = path[1:]
    needed = [step.key for step in rest if isinstance(step, MatchStep)][:1]
    while rest and isinstance(rest[0], EachStep | MatchStep):
        rest = rest[1:]
    if column.type != "STRUCT" or not (rest or needed):
        selection[column.name] = None
        return
    fields: dict[str, Any] = {}
    for key in needed:
        _select_path(column.fields, (KeyStep(key),), fields)
    if rest:
        _select_path(column.fields, rest, fields)
    if fields and selection.get(column.name, fields) is not None:
        selection[column.name] = _merge(selection.get(column.name, {}), fields)


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(first)
    for name, fields in second.items():
        known = merged.get(name, fields)
        merged[name] = None if known is None or fields is None else _merge(known, fields)
    return merged


def _make_type(column: TableColumn, types: Mapping[str, pa.DataType]) -> pa.DataType:
    if column.type == "STRUCT":
        kind = pa.struct([(field.name, _make_type(field, types)) for field in column.fields])
    else:
        kind = types.get(column.type, pa.binary())
    return pa.list_(kind) if column.repeated else kind

"""SQL for steps into nested values, which covers typed columns and JSON alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

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
from endcap.sources.sql import quote_text

# RFC 6901: how a key is written in a pointer.
_ESCAPES = str.maketrans({"~": "~0", "/": "~1"})


@dataclass(frozen=True)
class SqlValue:
    """A value as SQL, with its Arrow type. None: JSON, or text from JSON."""

    sql: str
    type: pa.DataType | None


def make_nested_column_error(file: str, name: str, kind: pa.DataType) -> DataError:
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
    kind = columns.get(get_key(path[0]))
    if kind is None:
        return False
    node = SqlValue("", kind)
    for step in path[1:]:
        if node.type is None or is_text(node.type):
            break
        try:
            node = take_step(node, step)
        except KeyError:
            return False
    return True


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts, which may be JSON."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds bytes."""
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def is_invalid_json(column: str) -> str:
    """Return an SQL condition: a text that paths lead into is no JSON."""
    return f"trim({column}) <> '' AND NOT json_valid({column})"


def take_step(node: SqlValue, step: Step) -> SqlValue:
    """Take a step into a typed value. Raises KeyError if its type has no such step."""
    kind = node.type
    assert kind is not None  # JSON is followed by pointers
    if isinstance(step, KeyStep):
        if pa.types.is_struct(kind) and kind.get_field_index(step.name) >= 0:
            return SqlValue(f"struct_extract({node.sql}, {quote_text(step.name)})", kind.field(step.name).type)
        if pa.types.is_map(kind):
            return SqlValue(f"map_extract_value({node.sql}, {quote_text(step.name)})", kind.item_type)
        if is_wrapper(kind, ELEMENTS):
            return take_step(unwrap(node, ELEMENTS), step)
        raise KeyError(step.name)
    place = get_list(node)
    element = None if place.type is None else get_element_type(place.type)
    if element is None:
        raise KeyError(format_path((step,)))
    if isinstance(step, EachStep):
        return SqlValue(place.sql, element)
    compared = take_step(SqlValue("x", element), KeyStep(step.key))
    return SqlValue(select_first(place.sql, f"({compared.sql})::VARCHAR", step), element)


def get_list(node: SqlValue) -> SqlValue:
    """Return a value's list without the structs that some writers put around it."""
    if node.type is None or is_text(node.type):
        return SqlValue(extract_list(node.sql), None)
    return unwrap(node, LISTS)


def unwrap(node: SqlValue, names: Sequence[str]) -> SqlValue:
    """Return the content of a struct that some writers put around a list or its elements."""
    if node.type is not None and is_wrapper(node.type, names):
        return take_step(node, KeyStep(node.type.field(0).name))
    return node


def select_first(elements: str, compared: str, having: MatchStep) -> str:
    """Return SQL of the first element of a list whose compared value is that of the step."""
    return f"list_filter({elements}, lambda x: coalesce({compared} = {quote_text(having.value)}, false))[1]"


def extract_list(value: str) -> str:
    """Return SQL of the elements of a JSON list, null for any other text."""
    return f"CASE WHEN starts_with(ltrim({value}), '[') AND json_valid({value}) THEN json_extract({value}, '$[*]') END"


def make_list_checks(value: str) -> list[tuple[str, str]]:
    """Return conditions, with reasons, for a text that is neither missing nor a list."""
    start = f"ltrim({value})"
    return [
        (f"starts_with({start}, '{{')", "is no list but an object"),
        (f"{start} <> '' AND NOT starts_with({start}, '[') AND {start} <> 'null'", "is no list but a plain value"),
    ]


def guard_json(value: str) -> str:
    """Return SQL of a text that is valid JSON, null for any other text."""
    return f"CASE WHEN json_valid({value}) THEN {value} END"


def take_keys(path: Path) -> list[Step]:
    """Return the keys at the beginning of a path, up to the first other step."""
    return list(takewhile(lambda step: isinstance(step, KeyStep), path))


def make_pointer(keys: Sequence[Step]) -> str:
    """Make the JSON pointer (RFC 6901) of a sequence of keys."""
    return "".join(f"/{get_key(key).translate(_ESCAPES)}" for key in keys)


def get_key(step: Step) -> str:
    """Return the name of a key. Each path begins with a key."""
    assert isinstance(step, KeyStep)
    return step.name


def convert_to_text(node: SqlValue) -> str:
    """Return SQL of a value as text."""
    if node.type is None:
        return node.sql
    if is_bytes(node.type):
        return f"decode({node.sql})"
    value = f"({node.sql})::VARCHAR"
    if pa.types.is_float32(node.type):
        # Above this, not every whole number has its own float32. The form with an exponent shows that.
        rounded = f"format('{{:.9e}}', ({node.sql})::DOUBLE)"
        return f"CASE WHEN abs({node.sql}) >= {2**24} THEN {rounded} ELSE {value} END"
    return value

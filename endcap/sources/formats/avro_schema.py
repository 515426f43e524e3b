"""Avro schemas: the Arrow type of each field, and how a decoded value becomes one of that type.

A union of null and one type is that type. A union of several types is text, as in a CSV file: JSON where a value is a
record, a list or a map.

Sources: the Apache Avro specification 1.12, "Schema Declaration" and "Logical Types".
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

Convert = Callable[[Any], Any]
# The Arrow type, and the fewest bytes of a value.
_PLAIN = {
    "null": (pa.null(), 0),
    "boolean": (pa.bool_(), 1),
    "int": (pa.int32(), 1),
    "long": (pa.int64(), 1),
    "float": (pa.float32(), 4),
    "double": (pa.float64(), 8),
    "bytes": (pa.binary(), 1),
    "string": (pa.string(), 1),
}
# By the type that carries them. A reader has to ignore a logical type that it does not know.
_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}
_WIDEST = 38
"""Digits of the widest decimal that DuckDB has."""
_DIGITS = Context(prec=1000)
_DEEPEST, _MOST_TYPES = 32, 10_000


class AvroSchemaError(ValueError):
    """A schema that cannot be read; the text says why."""


@dataclass(frozen=True)
class AvroType:
    """What a schema becomes.

    Attributes
    ----------
    decoded
        The schema for the decoder: as it was written, without logical types.
    arrow
        The Arrow type.
    smallest
        The fewest bytes of a value in a file.
    convert
        Makes a value of the Arrow type from a decoded one that is not None. None: the decoded value is one already.
    types
        The number of types in it.
    """

    decoded: Any
    arrow: pa.DataType
    smallest: int
    convert: Convert | None = None
    types: int = 1


def read_record_schema(schema: Any) -> tuple[AvroType, dict[str, AvroType]]:
    """Return the type of a file's records, and those of their fields.

    Raises
    ------
    AvroSchemaError
        If the values are no records, if the schema is none of Avro's, or if a type contains itself.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise AvroSchemaError("its values are no records")
    reader = _SchemaReader()
    record = reader.read(schema, 0, "")
    if not record.smallest:
        raise AvroSchemaError("its records have no values")
    return record, reader.fields[record.decoded["name"]]


class _SchemaReader:
    """Reads the schemas of one file, in which named types are written once and then meant by their names."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, AvroType]] = {}
        """The fields of each record, by the record's name for the decoder."""
        self._named: dict[str, AvroType | None] = {}
        """By full names. None: the type is being read."""

    def read(self, schema: Any, depth: int, namespace: str) -> AvroType:
        if depth > _DEEPEST:
            raise AvroSchemaError(f"types lie more than {_DEEPEST} deep within types")
        if isinstance(schema, list):
            return self._read_union([self.read(member, depth + 1, namespace) for member in schema])
        if isinstance(schema, str):
            return self._read_name(schema, namespace)
        kind = schema.get("type") if isinstance(schema, dict) else None
        match kind:
            case dict() | list():
                return self.read(kind, depth + 1, namespace)
            case "array":
                return _read_array(self.read(schema.get("items"), depth + 1, namespace))
            case "map":
                return _read_map(self.read(schema.get("values"), depth + 1, namespace))
            case "record" | "enum" | "fixed":
                return self._read_named(schema, kind, depth, namespace)
            case str():
                return _add_logical_type(self._read_name(kind, namespace), schema)
        raise AvroSchemaError(f"{json.dumps(schema)[:80]} is no type")

    def _read_name(self, name: str, namespace: str) -> AvroType:
        if name in _PLAIN:
            return AvroType(name, *_PLAIN[name])
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self._named:
            raise AvroSchemaError(f"the type {name!r} is declared nowhere before it is used")
        kind = self._named[full]
        if kind is None:
            raise AvroSchemaError(f"the type {name!r} contains itself")
        decoded = kind.decoded["name"] if isinstance(kind.decoded, dict) else kind.decoded
        return AvroType(decoded, kind.arrow, kind.smallest, kind.convert, kind.types)

    def _read_named(self, schema: Mapping[str, Any], kind: str, depth: int, namespace: str) -> AvroType:
        name = str(schema.get("name"))
        own = str(schema.get("namespace") or namespace)
        full = name if "." in name or not own else f"{own}.{name}"
        if full in self._named:
            raise AvroSchemaError(f"the type {name!r} is declared twice")
        self._named[full], number = None, f"t{len(self._named)}"
        if kind == "record":
            result = self._read_record(schema, number, depth, full.rpartition(".")[0])
        elif kind == "enum":
            symbols = schema.get("symbols")
            if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
                raise AvroSchemaError(f"the enum {name!r} has no list of symbols")
            result = AvroType({"type": "enum", "name": number, "symbols": symbols}, pa.string(), 1)
        else:
            size = schema.get("size")
            if not isinstance(size, int) or size < 1:
                raise AvroSchemaError(f"the fixed type {name!r} has no size")
            result = _add_logical_type(
                AvroType({"type": "fixed", "name": number, "size": size}, pa.binary(), size), schema
            )
        self._named[full] = result
        return result

    def _read_record(self, schema: Mapping[str, Any], number: str, depth: int, namespace: str) -> AvroType:
        declared = schema.get("fields")
        if not isinstance(declared, list) or not all(isinstance(field, dict) for field in declared):
            raise AvroSchemaError(f"the record {schema.get('name')!r} has no list of fields")
        fields = {str(field.get("name")): self.read(field.get("type"), depth + 1, namespace) for field in declared}
        if len(fields) < len(declared):
            raise AvroSchemaError(f"the record {schema.get('name')!r} has two fields of one name")
        types = 1 + sum(kind.types for kind in fields.values())
        if types > _MOST_TYPES:
            raise AvroSchemaError(f"it has more than {_MOST_TYPES:,} types")
        self.fields[number] = fields
        decoded = [{"name": name, "type": kind.decoded} for name, kind in fields.items()]
        converts = {name: kind.convert for name, kind in fields.items() if kind.convert is not None}

        def convert(value: dict[str, Any]) -> dict[str, Any]:
            return value | {name: make(value[name]) for name, make in converts.items() if value[name] is not None}

        return AvroType(
            {"type": "record", "name": number, "fields": decoded},
            pa.struct([(name, kind.arrow) for name, kind in fields.items()]),
            sum(kind.smallest for kind in fields.values()),
            convert if converts else None,
            types,
        )

    def _read_union(self, members: list[AvroType]) -> AvroType:
        decoded, types = [member.decoded for member in members], 1 + sum(member.types for member in members)
        named = [member for member in members if not pa.types.is_null(member.arrow)]
        if len(named) == 1:
            return AvroType(decoded, named[0].arrow, 1, named[0].convert, types)
        if not named:
            return AvroType(decoded, pa.null(), 1, types=types)
        return AvroType(decoded, pa.string(), 1, _write_text, types)


def _read_array(items: AvroType) -> AvroType:
    if not items.smallest:
        raise AvroSchemaError("the elements of a list have no values")
    make = items.convert
    convert = None if make is None else lambda value: [None if each is None else make(each) for each in value]
    return AvroType({"type": "array", "items": items.decoded}, pa.list_(items.arrow), 1, convert, 1 + items.types)


def _read_map(values: AvroType) -> AvroType:
    make = values.convert

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        assert make is not None
        return {key: None if each is None else make(each) for key, each in value.items()}

    kind = pa.map_(pa.string(), values.arrow)
    return AvroType(
        {"type": "map", "values": values.decoded}, kind, 1, None if make is None else convert, 1 + values.types
    )


def _add_logical_type(carrier: AvroType, schema: Mapping[str, Any]) -> AvroType:
    logical, decoded = schema.get("logicalType"), carrier.decoded
    kind = _LOGICAL.get((decoded, str(logical))) if isinstance(decoded, str) else None
    if kind is not None:
        return AvroType(decoded, kind, 1)
    if logical == "uuid" and carrier.smallest == 16:
        return AvroType(decoded, pa.string(), 16, lambda value: str(uuid.UUID(bytes=value)))
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    is_decimal = logical == "decimal" and pa.types.is_binary(carrier.arrow) and carrier.convert is None
    if not is_decimal or not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision:
        return carrier

    def convert(value: bytes) -> Decimal:
        return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale, _DIGITS)

    if 0 < precision <= _WIDEST:
        return AvroType(decoded, pa.decimal128(precision, scale), carrier.smallest, convert)
    return AvroType(decoded, pa.string(), carrier.smallest, lambda value: f"{convert(value):f}")


def _write_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode()
    return json.dumps(value, ensure_ascii=False, default=bytes.decode)

"""Read Avro container files, block by block in bounded memory.

Source: the Apache Avro specification 1.12, "Object Container Files" and "Required Codecs".
"""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa
import zstandard
from fastavro.schema import SchemaParseException

from endcap.errors import DataError
from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.formats.avro_schema import AvroSchemaError, AvroType, read_record_schema
from endcap.sources.formats.typed_table import TypedTable
from endcap.sources.opening import open_bytes

MAGIC, SYNC = b"Obj\x01", 16
LARGEST = 256 << 20
"""The most bytes of a block, packed or not. Writers make blocks of 16 kB to a few MB."""
BATCH = 16 << 20
"""Bytes of records that become Arrow at a time; as objects of Python they take some ten times of it."""
_LARGEST_ENTRY = 16 << 20
"""The most bytes of a key or a value in the header."""
# What decoders raise on bytes that are not what the schema says.
_UNDECODABLE = (EOFError, ValueError, IndexError, KeyError, TypeError, ArithmeticError, MemoryError, pa.ArrowException)


def open_avro(file: SourceFile) -> TypedTable:
    """Open a container file as a table.

    Raises
    ------
    DataError
        If the file is damaged, its codec is unknown (`events.avro-codec`), or its schema makes no table
        (`events.avro-schema`).
    """
    with convert_read_errors(file.name), open_bytes(file) as stream:
        metadata, _ = _read_header(stream)
    codec = metadata.get("avro.codec", b"null").decode(errors="replace")
    if codec not in _UNPACK:
        raise DataError(
            f"{file.name}: its blocks are compressed by {codec!r}; allowed: {', '.join(_UNPACK)}. Write the file with "
            "one of them",
            code="events.avro-codec",
            path=file.name,
            found=codec,
            allowed=list(_UNPACK),
        )
    try:
        record, fields = read_record_schema(json.loads(metadata["avro.schema"]))
        decoder = fastavro.parse_schema(record.decoded)
    except (AvroSchemaError, SchemaParseException, RecursionError, KeyError, ValueError) as error:
        raise DataError(
            f"{file.name}: its Avro schema makes no table: {error}; write records of Avro's types that do not contain "
            "themselves, or save the file as Parquet or JSON lines",
            code="events.avro-schema",
            path=file.name,
            reason=str(error),
        ) from error
    counted = 0

    def read_blocks(names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        nonlocal counted
        columns = {name: fields[name] for name in names}
        records: list[dict[str, Any]] = []
        with convert_read_errors(file.name), open_bytes(file) as stream:
            _, sync = _read_header(stream)
            size = 0
            for count, data in _read_data(stream, _UNPACK[codec], sync, record.smallest):
                counted += count
                for decoded in _decode(data, count, decoder):
                    records.append(decoded)
                    if len(records) >= rows:
                        yield _make_batch(records, columns)
                        records, size = [], 0
                size += len(data)
                if size >= BATCH:
                    yield _make_batch(records, columns)
                    records, size = [], 0
            if records:
                yield _make_batch(records, columns)

    schema = pa.schema([(name, kind.arrow) for name, kind in fields.items()])
    return TypedTable(file.name, schema, read_blocks, lambda: counted)


def _read_header(stream: Any) -> tuple[dict[str, bytes], bytes]:
    """Return a file's metadata and the bytes between its blocks."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise OSError("it does not begin as an Avro file does")
    metadata = {}
    while count := _read_long(stream):
        if count < 0:
            _read_long(stream)  # the bytes of this part of the map
        for _ in range(abs(count)):
            key = _read_sized(stream, _LARGEST_ENTRY).decode(errors="replace")
            metadata[key] = _read_sized(stream, _LARGEST_ENTRY)
    return metadata, _read_exactly(stream, SYNC)


def _read_data(
    stream: Any, unpack: Callable[[bytes], bytes], sync: bytes, smallest: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the number of records of each block, and their bytes."""
    while first := stream.read(1):
        count = _read_long(stream, first)
        packed = _read_sized(stream, LARGEST)
        if _read_exactly(stream, SYNC) != sync:
            raise OSError("a block does not end where it should")
        try:
            data = unpack(packed)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, *_UNDECODABLE, OSError) as error:
            raise OSError(f"a block cannot be unpacked: {error}") from error
        if not 0 <= count * smallest <= len(data):
            raise OSError(f"a block has {len(data):,} bytes for {count:,} records")
        yield count, data


def _decode(data: bytes, count: int, decoder: Any) -> Iterator[dict[str, Any]]:
    stream = BytesIO(data)
    for number in range(count):
        try:
            yield fastavro.schemaless_reader(stream, decoder, None)  # type: ignore[misc]  # records are dicts
        except _UNDECODABLE as error:
            raise OSError(f"record {number + 1:,} of a block is not what the schema says: {error}") from error
    if stream.tell() != len(data):
        raise OSError(f"a block has {len(data) - stream.tell():,} bytes more than its records")


def _make_batch(records: Sequence[Mapping[str, Any]], columns: Mapping[str, AvroType]) -> pa.RecordBatch:
    arrays = []
    for name, kind in columns.items():
        convert, values = kind.convert, [record[name] for record in records]
        try:
            if convert is not None:
                values = [None if value is None else convert(value) for value in values]
            arrays.append(pa.array(values, kind.arrow))
        except _UNDECODABLE as error:
            raise OSError(f"a value of {name!r} is not what the schema says: {error}") from error
    if not arrays:
        return pa.record_batch([pa.nulls(len(records))], names=["§none"])
    return pa.record_batch(arrays, names=list(columns))


def _read_exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise EOFError("truncated")
    return data


def _read_sized(stream: Any, most: int) -> bytes:
    size = _read_long(stream)
    if not 0 <= size <= most:
        raise OSError(f"{size:,} bytes are announced, where at most {most:,} can be")
    return _read_exactly(stream, size)


def _read_long(stream: Any, first: bytes = b"") -> int:
    """Read a number: zigzag, seven bits a byte, the lowest first."""
    value, shift = 0, 0
    while True:
        (byte,) = first or _read_exactly(stream, 1)
        value, shift, first = value | (byte & 0x7F) << shift, shift + 7, b""
        if byte < 0x80:
            return value >> 1 ^ -(value & 1)
        if shift > 63:
            raise OSError("a number has more than 64 bits")


def _limit(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return data


def _unpack_snappy(packed: bytes) -> bytes:
    """Unpack a block and check the checksum behind it."""
    body, checksum = packed[:-4], packed[-4:]
    size, shift = 0, 0
    for byte in body[:5]:
        size, shift = size | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            break
    if size > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    data = pa.Codec("snappy").decompress(body, decompressed_size=size, asbytes=True)
    if zlib.crc32(data) != int.from_bytes(checksum, "big"):
        raise ValueError("its checksum differs")
    return bytes(data)


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": lambda packed: _limit(zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, LARGEST + 1)),
    "snappy": _unpack_snappy,
    "zstandard": lambda packed: _limit(zstandard.ZstdDecompressor().stream_reader(packed).read(LARGEST + 1)),
    "bzip2": lambda packed: _limit(bz2.BZ2Decompressor().decompress(packed, LARGEST + 1)),
    "xz": lambda packed: _limit(lzma.LZMADecompressor().decompress(packed, LARGEST + 1)),
}

"""Files of typed formats for tests: Avro with every codec, which no installed library writes."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import zstandard

SYNC = bytes(range(16))


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": _deflate,
    "snappy": lambda data: pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big"),
    "zstandard": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def encode_long(number: int) -> bytes:
    """A number as Avro has it: zigzag, seven bits a byte, the lowest first."""
    zigzag, encoded = number << 1 ^ number >> 63, bytearray()
    while zigzag > 0x7F:
        encoded.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*encoded, zigzag])


def make_header(schema: Any, codec: str = "null") -> bytes:
    """The header of a container file. schema: JSON, or the bytes in its place."""
    text = schema if isinstance(schema, bytes) else json.dumps(schema).encode()
    entries = [(b"avro.schema", text), (b"avro.codec", codec.encode())]
    packed = b"".join(encode_long(len(part)) + part for entry in entries for part in entry)
    return b"Obj\x01" + encode_long(len(entries)) + packed + encode_long(0) + SYNC


def make_block(data: bytes, count: int, codec: str = "null") -> bytes:
    """A block of encoded records."""
    packed = PACK[codec](data)
    return encode_long(count) + encode_long(len(packed)) + packed + SYNC


def write_avro(
    file: Path, schema: Any, rows: Sequence[dict[str, Any]], codec: str = "null", rows_per_block: int = 2
) -> Path:
    """Write records, which fastavro encodes, in blocks of so many."""
    parsed, blocks = fastavro.parse_schema(schema), []
    for start in range(0, len(rows), rows_per_block):
        part, data = rows[start : start + rows_per_block], BytesIO()
        for row in part:
            fastavro.schemaless_writer(data, parsed, row)
        blocks.append(make_block(data.getvalue(), len(part), codec))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(make_header(schema, codec) + b"".join(blocks))
    return file

"""Bytes without their compression, which the first bytes tell."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa

from endcap.safe_reading import open_regular
from endcap.sources.file_kinds import HEAD, detect_compression


def open_stream(path: Path, compression: str | None = None) -> Any:
    """Open a file's bytes without compression. compression: that of its name, where its first bytes show none."""
    with open_regular(path) as handle:
        # The bytes take precedence over the suffix: a download may keep either of the two.
        compression = detect_compression(handle.read(HEAD)) or compression
    return lzma.open(path) if compression == "xz" else pa.input_stream(str(path), compression=compression)


def unpack_stream(stream: Any) -> Any:
    """Return the bytes of a stream with `peek` without the compression that its first bytes show, if they show one."""
    compression = detect_compression(stream.peek(HEAD)[:HEAD])
    if compression is None:
        return stream
    return lzma.open(stream) if compression == "xz" else pa.CompressedInputStream(pa.PythonFile(stream), compression)

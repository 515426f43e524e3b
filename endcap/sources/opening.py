"""The content of a source's file, whatever it is packed in: as bytes, as text, and as a file to read from any place."""

from __future__ import annotations

import contextlib
import tempfile
from typing import Any

from endcap.sources.archives import ARCHIVES, check_growth, open_member
from endcap.sources.file_kinds import HEAD, check_text, detect_encoding
from endcap.sources.files import SourceFile, convert_read_errors
from endcap.sources.streams import open_stream, unpack_stream
from endcap.sources.utf8 import CHUNK, Utf8Stream
from endcap.store import report_storage_errors
from endcap.store.cache import find_cache_folder


def open_bytes(file: SourceFile) -> Any:
    """Open the bytes of a file, or of the file in an archive, without compression.

    Raises
    ------
    DataError
        If the archive is none of one file, as in `endcap.sources.archives.find_member`; also while it is read.
    """
    if file.compression in ARCHIVES.values():
        return unpack_stream(open_member(file.name, file.path, str(file.compression)))
    return open_stream(file.path, file.compression)


def open_whole(file: SourceFile) -> Any:
    """Open a file for readers that jump in it.

    Returns
    -------
    str or file object
        The path of a plain file. Otherwise a temporary copy without compression, which no folder lists, and which
        vanishes when it is closed or the process ends.

    Raises
    ------
    DataError
        If the copy would become suspiciously large (`events.archive-bomb`), or as in `open_bytes`.
    StorageError
        If the copy cannot be written.
    """
    if file.compression is None:
        return str(file.path)
    folder, size = find_cache_folder(), 0
    with convert_read_errors(file.name), contextlib.ExitStack() as failing, open_bytes(file) as stream:
        with report_storage_errors(f"{folder} (to unpack {file.name})"):
            copy = failing.enter_context(tempfile.TemporaryFile(dir=folder))
        while chunk := stream.read(CHUNK):
            size += len(chunk)
            check_growth(file.name, size, file.bytes)
            with report_storage_errors(f"{folder} (to unpack {file.name})"):
                copy.write(chunk)
        copy.seek(0)
        failing.pop_all()
    return copy


def open_text(file: SourceFile, encoding: str | None = None, replaced: tuple[str, str] = ("", "")) -> Utf8Stream:
    """Open a file's decompressed text as UTF-8. A truncated file raises an error and never ends early.

    Parameters
    ----------
    file
        The file.
    encoding
        The source's encoding. None: UTF-8. A byte order mark takes precedence over both.
    replaced
        A text and its replacement, which applies while reading.

    Raises
    ------
    DataError
        If the file is no text, or its encoding must be named.
    """
    stream = open_bytes(file)
    with contextlib.ExitStack() as failing:
        failing.callback(stream.close)
        head = b""
        while len(head) < HEAD and (chunk := stream.read(CHUNK)):
            head += chunk
        marked, mark = detect_encoding(head)
        check_text(file.name, head, marked or encoding)
        text = Utf8Stream(stream, head[mark:], marked or encoding or "utf-8", replaced)
        failing.pop_all()
    return text

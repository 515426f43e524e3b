"""One door to the rows of a file, whatever its format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from endcap.events.batch import Rows
from endcap.events.layouts import Text, text_of
from endcap.events.read_csv import read_csv
from endcap.events.read_json import read_json
from endcap.events.read_parquet import read_parquet
from endcap.events.sources import SourceFile
from endcap.spec.source import Source


def read(file: SourceFile, source: Source, wanted: Sequence[str], connection: Any) -> Rows | None:
    """The file's rows as text, or None where it is empty (of no bytes). Raises DataError as batches are read."""
    if file.bytes == 0:
        return None
    if file.format == "parquet":
        return read_parquet(file, wanted, connection)
    if file.format == "jsonl":
        return read_json(file, wanted, connection, source.encoding)
    known = text_of(source) or Text()
    return read_csv(
        file,
        replace(
            known,
            delimiter=source.delimiter or ("\t" if file.format == "tsv" else ","),
            header=source.header,
            encoding=source.encoding or known.encoding,
            quoted=known.quoted if source.quoted is None else source.quoted,
        ),
    )

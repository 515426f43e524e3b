"""Find a table's columns in a file. An error for a missing one names similar columns."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from endcap.errors import DataError
from endcap.sources.formats.paths import fold_name, join_paths, parse_path
from endcap.sources.formats.rows import SourceRows, column_name
from endcap.sources.layouts import NESTED_LAYOUTS
from endcap.sources.parts import SourcePart
from endcap.sources.sql import quote_name
from endcap.spec.layouts import Layout

DELIMITERS = ";\t|,"
ABSENT = "NULL::VARCHAR"
"""SQL in place of an optional column that a file lacks."""


@dataclass(frozen=True)
class SourceColumn:
    """A column that the shop's file names.

    key: the place in the shop's file. required: every row needs a value. aliases: other names of the column. optional:
    a file may lack the column; its values are null then.
    """

    name: str
    key: str
    required: bool = False
    aliases: Sequence[str] = ()
    optional: bool = False


def locate_columns(
    requested: Sequence[SourceColumn], rows: SourceRows, file: SourcePart, layout: Layout = "columns"
) -> dict[str, str]:
    """Return SQL for each requested column of a batch, by name; ABSENT for an optional column that is missing.

    Raises
    ------
    DataError
        If other columns are missing. The error names all of them, and similar columns of the file.
    """
    columns_by_name = {
        _normalize(name, layout): quote_name(column_name(place)) for place, name in enumerate(rows.names)
    }
    present = [name for name in rows.names if name not in rows.unseen]
    located, missing, repeated = {}, [], []
    problems = []
    for column in requested:
        names = [_normalize(name, layout) for name in (column.name, *column.aliases)]
        plain = next((name for name in names if name in columns_by_name), names[0])
        if plain not in columns_by_name and column.optional:
            located[column.name] = ABSENT
        elif plain not in columns_by_name or (column.name in rows.unseen and _is_missing(column, rows)):
            close = _find_similar(column.name, present, rows.paths())
            hint = f"; did you mean {close!r}?" if close is not None else ""
            problems.append(f"  - {column.name!r} ({column.key}){hint}")
            missing.append({"column": column.name, "key": column.key, "near": close})
        elif [_normalize(name, layout) for name in rows.names].count(plain) > 1:
            problems.append(f"  - {column.name!r} ({column.key}) is there more than once")
            repeated.append({"column": column.name, "key": column.key})
        else:
            located[column.name] = columns_by_name[plain]
    if problems:
        columns, paths = (
            ", ".join(repr(name) for name in present) or "none: its first rows are no objects",
            rows.paths(),
        )
        if paths:
            columns += f", and in its nested values {join_paths(paths)}"
        delimiter = _guess_delimiter(present) if file.format in ("csv", "tsv") else None
        comment = file.format in ("csv", "tsv") and any(name.lstrip().startswith("#") for name in present[:1])
        if comment:
            columns += "; its first line seems to be a comment: take such lines out (grep -v '^#' in.csv > out.csv)"
        elif delimiter is not None:
            columns += f"; values seem to be parted by {delimiter!r}: set the source's delimiter to that"
        elif file.format in ("csv", "tsv") and len(present) == 1:
            columns += ": is the source's delimiter right?"
        if any("\\x" in name for name in present):
            columns += "; names are not all UTF-8: set the source's encoding, such as latin-1 or cp1252"
        raise DataError(
            "\n".join([f"{file.name}: columns are missing; it has {columns}", *problems]),
            code="events.column-missing",
            path=file.name,
            found=present,
            paths=paths,
            missing=missing,
            repeated=repeated,
            delimiter=delimiter,
            comment=comment,
        )
    return located


def _guess_delimiter(names: Sequence[str]) -> str | None:
    """Guess the delimiter of a header that was split by another one. None: there is no sign of one."""
    text = "".join(names)
    likely = max(DELIMITERS, key=text.count)
    return likely if text.count(likely) >= len(names) else None


def _is_missing(column: SourceColumn, rows: SourceRows) -> bool:
    """Return whether a name without a value in a file's first rows is a mistake. A path may have its values later."""
    if not parse_path(column.name):
        return column.required
    paths = rows.paths()
    return column.name not in paths and any(fold_name(path) == fold_name(column.name) for path in paths)


def _find_similar(name: str, columns: Sequence[str], paths: Sequence[str]) -> str | None:
    """Return the most similar column or path, if there is one."""
    if matches := [path for path in paths if fold_name(path) == fold_name(name)]:
        return matches[0]
    names = {column.casefold(): column for column in reversed([*columns, *paths])}
    if close := difflib.get_close_matches(name.casefold(), names, 1, 0.6):
        return names[close[0]]
    # A key that stands somewhere below, or an element by its key.
    last = fold_name(name.rpartition(".")[2])
    return next((path for path in paths if fold_name(path.rpartition(".")[2]) == last or f"={name}]" in path), None)


def _normalize(name: str, layout: Layout) -> str:
    return name if layout == "columns" or layout in NESTED_LAYOUTS else name.casefold().replace("_", "")

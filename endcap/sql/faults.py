"""Errors about a statement: with the step, and the line and column in its text."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import duckdb

from endcap.errors import UserError

_TYPE_WORDS = ("No function matches", "Could not choose a best candidate", "Cannot compare", "type", "cast")


@dataclass(frozen=True)
class Place:
    """A place in the text of a step's statement. line, column: from 1; None where that is not known."""

    step: str
    line: int | None = None
    column: int | None = None

    @classmethod
    def of_byte(cls, step: str, text: str, position: int) -> Place:
        """Find the place of a byte, counted from 0 in UTF-8."""
        before = text.encode()[: max(0, position)].decode(errors="ignore")
        return cls(step, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)

    def __str__(self) -> str:
        return f"step {self.step}" if self.line is None else f"step {self.step}, line {self.line}, column {self.column}"

    @property
    def fields(self) -> dict[str, Any]:
        """The place as fields of an error."""
        return {name: value for name, value in vars(self).items() if value is not None}


def convert_duckdb_error(error: duckdb.Error, step: str, text: str, prefix: str, known: Collection[str]) -> UserError:
    """Convert DuckDB's error about a statement.

    Parameters
    ----------
    error
        The error. The connection has `errors_as_json`, so that it says its position.
    step
        The step's name.
    text
        The statement.
    prefix
        What stood before the statement in the text that DuckDB was given.
    known
        The tables that the statement may read.
    """
    report = _parse_message(str(error))
    words = str(report["exception_message"]).split("\n\tCandidate functions")[0].replace("\n", " ").strip()
    place, tables = _find_place(report, step, text, prefix), ", ".join(sorted(known)) or "none"
    if isinstance(error, duckdb.ParserException | duckdb.SyntaxException):
        return UserError(f"{place}: {words}. Correct the statement", code="sql.syntax", **place.fields)
    if isinstance(error, duckdb.PermissionException):
        return UserError(
            f"{place}: {words}. A statement reads its named inputs alone ({tables}); name files under the step's "
            "sql.inputs",
            code="sql.outside-access",
            **place.fields,
            known=sorted(known),
        )
    if isinstance(error, duckdb.CatalogException) and report.get("type") == "Table":
        return UserError(
            f"{place}: {words}. Known are {tables}",
            code="sql.unknown-table",
            **place.fields,
            table=report.get("name"),
            known=sorted(known),
        )
    if report.get("error_subtype") == "COLUMN_NOT_FOUND":
        return UserError(
            f"{place}: {words}. Correct the column's name",
            code="sql.unknown-column",
            **place.fields,
            missing=report.get("name"),
        )
    typed = isinstance(error, duckdb.ConversionException | duckdb.TypeMismatchException | duckdb.OutOfRangeException)
    if typed or (isinstance(error, duckdb.BinderException) and any(word in words for word in _TYPE_WORDS)):
        return UserError(
            f"{place}: {words}. Convert the values: CAST(x AS TYPE), or TRY_CAST(x AS TYPE), which gives NULL for what "
            "cannot be converted",
            code="sql.type-error",
            **place.fields,
        )
    return UserError(f"{place}: {words}. Correct the statement", code="sql.invalid", **place.fields)


def _find_place(report: dict[str, Any], step: str, text: str, prefix: str) -> Place:
    position = report.get("position")
    return Place(step) if position is None else Place.of_byte(step, text, int(position) - len(prefix.encode()))


def _parse_message(message: str) -> dict[str, Any]:
    start = message.find("{")
    try:
        report = json.loads(message[start:]) if start >= 0 else None
    except ValueError:
        report = None
    return report if isinstance(report, dict) and "exception_message" in report else {"exception_message": message}

"""Where a table comes from: files, a table of BigQuery, a simulated shop, or a step of SQL."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from encodings.aliases import aliases
from typing import Annotated, Literal

from pydantic import Field, field_validator

from endcap.spec.base import Mistake, Name, Strict, check, make_mistakes_error, suggest
from endcap.spec.bigquery_source import BigQuery
from endcap.spec.condition import Conditions


class Simulation(Strict):
    """A simulated log, for trying Endcap without files. The same numbers make the same log."""

    events: Annotated[int, Field(ge=1)] = 60_000
    """About how many events the log has."""
    days: Annotated[int, Field(ge=1)] = 14
    """How many days the log covers."""
    items: Annotated[int, Field(ge=10)] = 2_000
    """How many items the shop has."""
    customers: Annotated[int, Field(ge=1)] = 5_000
    """How many customers the shop has."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """The seed of the random numbers."""


class SourceSpec(Strict):
    """Files of one format (CSV, TSV, JSON lines, Parquet, Avro, ORC or Excel), a simulated table, or what a step of SQL
    makes.

    Files may be compressed by gz, xz, zst or bz2.
    """

    path: str = ""
    """A file, a folder, a glob, or an address in a bucket. A relative path starts at the folder of the spec file that
    has it."""
    simulated: Simulation | None = None
    """A simulated log in place of a path. Endcap makes its events or its item table when it reads them."""
    step: Name | None = None
    """A step of SQL of the recommender's pipeline (`pipeline.steps.NAME.sql`), in place of a path. Its output is read.
    The step runs before ingest."""
    bigquery: BigQuery | None = None
    """A table, a view or a query of BigQuery in place of a path ([guide](bigquery.md))."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "avro", "orc", "excel"] | None = None
    """The files' format. Left out: the file's suffix tells it."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """The character between values of csv and tsv. Left out: a comma for csv, a tab for tsv."""
    header: list[str] | None = None
    """The column names of csv and tsv files, and of sheets, that have no header line. Left out: the first line has the
    names."""
    quoted: bool | None = None
    """Whether values of csv and tsv may be in double quotes. Left out: the first quotes of each file tell."""
    encoding: str | None = None
    """The encoding of csv, tsv and jsonl, such as latin-1, cp1252 or utf-16-le. A file that begins with a byte order
    mark has the encoding of the mark. Left out: UTF-8."""
    sheet: Annotated[str, Field(min_length=1)] | None = None
    """The sheet of a workbook to read. Left out: the first visible one."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of numbers in csv and tsv: prices, numeric attributes and times."""
    where: Conditions = {}
    """Conditions on the rows to read, such as `{country: [CH, DE], price: {above: 0}}`. Endcap leaves out and counts
    each row that does not fit all of them."""

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str | None) -> str | None:
        try:
            if encoding is not None:
                codecs.getincrementaldecoder(encoding)
                "text".encode(encoding)
        except (LookupError, ValueError):
            allowed = "an encoding of text that Python knows, such as utf-8, latin-1, cp1252 or utf-16-le"
            hint = suggest(encoding, {*aliases, *aliases.values()})
            raise make_mistakes_error([Mistake((), repr(encoding), allowed, hint, code="unknown-name")]) from None
        return encoding

    @check
    def _has_one_origin(self) -> Iterator[Mistake]:
        origins = {
            "step": self.step is not None,
            "simulated": self.simulated is not None,
            "bigquery": self.bigquery is not None,
            "path": bool(self.path),
        }
        names = [name for name, is_given in origins.items() if is_given]
        if len(names) > 1:
            actual, allowed = " and ".join(names), "one of path, bigquery, simulated and step"
            yield Mistake((names[0],), actual, allowed, code="conflict")

    @check
    def _has_a_sheet_of_a_workbook(self) -> Iterator[Mistake]:
        if self.sheet is not None and self.format not in (None, "excel"):
            yield Mistake(
                ("sheet",), f"a sheet of a file of {self.format}", "sheet for workbooks alone", code="conflict"
            )

    @check
    def _has_an_origin(self) -> Iterator[Mistake]:
        if not self.path and self.simulated is None and self.bigquery is None and self.step is None:
            yield Mistake(("path",), "nothing", "a file, a folder or a glob", code="missing")

    @check
    def _tables_have_types(self) -> Iterator[Mistake]:
        if self.bigquery is not None:
            for name in ("format", "delimiter", "header", "quoted", "encoding", "sheet"):
                if getattr(self, name) is not None:
                    allowed = "nothing: a table of BigQuery has columns with types"
                    yield Mistake((name,), repr(getattr(self, name)), allowed, code="conflict")

"""Where a table comes from: files, or a simulated shop."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from encodings.aliases import aliases
from typing import Annotated, Literal

from pydantic import Field, field_validator

from endcap.spec.base import Mistake, Strict, check, make_mistakes_error, suggest
from endcap.spec.condition import Conditions


class Simulation(Strict):
    """A simulated shop's log, for trials that have no files: the same numbers are the same log."""

    events: Annotated[int, Field(ge=1)] = 60_000
    """About so many."""
    days: Annotated[int, Field(ge=1)] = 14
    items: Annotated[int, Field(ge=10)] = 2_000
    customers: Annotated[int, Field(ge=1)] = 5_000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42


class SourceSpec(Strict):
    """Files of one kind: CSV, TSV, JSON lines or Parquet, plain or compressed by gz, xz, zst or bz2.

    Or a simulated log.
    """

    path: str = ""
    """A file, a folder or a glob; relative to the spec file that names it."""
    simulated: Simulation | None = None
    """Instead of a path: events, or an item table, made where they are read."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """Left out: by the file's suffix."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Left out: a comma for csv, a tab for tsv."""
    header: list[str] | None = None
    """Column names of files that carry no header line."""
    quoted: bool | None = None
    """Whether values of csv and tsv may stand in double quotes. Left out: the first quotes of each file tell."""
    encoding: str | None = None
    """Of csv, tsv and jsonl, such as latin-1, cp1252 or utf-16-le. Left out: UTF-8. A mark that a file begins with goes
    before either."""
    decimal: Literal[".", ","] = "."
    """The mark of fractions in the numbers of csv and tsv: prices, numeric attributes, epoch times."""
    where: Conditions = {}
    """A row that does not fit all of these is left out, and counted: `{country: [CH, DE], price: {above: 0}}`."""

    @field_validator("encoding")
    @classmethod
    def _encoding_is_of_text(cls, encoding: str | None) -> str | None:
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
    def _one_origin(self) -> Iterator[Mistake]:
        if self.simulated is not None and self.path:
            yield Mistake(("simulated",), "a path as well", "one of path and simulated", code="conflict")

    @check
    def _has_an_origin(self) -> Iterator[Mistake]:
        if not self.path and self.simulated is None:
            yield Mistake(("path",), "nothing", "a file, a folder or a glob", code="missing")

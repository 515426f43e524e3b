"""A step of SQL: one SELECT over named inputs, whose rows become a table of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from endcap.spec.base import Allowed, Mistake, Share, Strict, check, restore_integers, select_known
from endcap.spec.source import SourceSpec

RUN_PARAMETERS = ("logical_date", "window_start")
"""Parameters that each run gives: its logical date, and the beginning of the shop's window before it."""
SqlName = Annotated[
    str,
    Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=64),
    Allowed("a name of small letters, digits and underscores that begins with no digit"),
]


class SqlInput(SourceSpec):
    """A table that the statement reads by its name: files, or what an earlier step of SQL makes.

    Columns of csv and tsv are text, and an empty value is NULL: the statement converts them. Columns of jsonl have the
    types that the whole file shows. Columns of Parquet have their own types.
    """

    max_bad_share: Share = 0.0
    """The largest share of text that is no row, such as a line of csv with too few columns. Endcap counts such rows by
    their reason and leaves them out. If there are more, the step fails."""

    @check
    def _sql_says_the_rest(self) -> Iterator[Mistake]:
        hint = "Write it into the statement."
        if self.simulated is not None:
            yield Mistake(("simulated",), "a simulated log", "path or step", code="not-allowed")
        if self.bigquery is not None:
            yield Mistake(("bigquery",), "a table of BigQuery", "path or step", code="not-allowed")
        if self.where:
            yield Mistake(("where",), "conditions", "nothing: a statement has WHERE", hint, code="not-allowed")
        if self.decimal != ".":
            allowed = "nothing: a statement converts texts to numbers"
            yield Mistake(("decimal",), repr(self.decimal), allowed, hint, code="not-allowed")


class SqlSpec(Strict):
    """One SELECT, what it reads, and what is expected of its rows."""

    file: str = ""
    """The file that has the statement, such as sql/clean.sql. A relative path starts at the folder of the spec file
    that has it. Endcap reads the file when it loads the spec, and puts its content into `text`."""
    text: str = ""
    """The statement itself, in place of a file: one SELECT in the engine's SQL."""
    engine: Literal["duckdb"] = "duckdb"
    """What runs the statement. `duckdb` runs in the step's process, in bounded memory, and reads its inputs alone."""
    inputs: dict[SqlName, SqlInput] = {}
    """The tables that the statement reads, by the names that it uses. After ingest and features, it may also read the
    tables of the run's snapshot and dataset by their names in `endcap events query --tables`."""
    parameters: dict[SqlName, Annotated[str | int | float | bool, BeforeValidator(restore_integers)]] = {}
    """Values that the statement reads as `$name`. `$logical_date` is the run's logical date, and `$window_start` is the
    beginning of the shop's window before it."""
    day: str | None = None
    """The output's column of type DATE or TIMESTAMP whose UTC days the output's folders have. Left out: the column
    `day`, if it is a DATE; otherwise the output has no folders."""
    not_null: list[str] = []
    """Columns that the output must have, with a value in each row."""
    min_rows: Annotated[int, Field(ge=0)] = 1
    """The fewest rows of a good output."""

    @check
    def _has_one_text(self) -> Iterator[Mistake]:
        if self.file and self.text:
            yield Mistake(("file",), "a file, and a text", "either file or text", code="conflict")
        if not self.file and not self.text.strip():
            yield Mistake(("text",), "no statement", "a SELECT here, or a file that has it", code="missing")

    @check
    def _parameters_are_not_the_runs(self) -> Iterator[Mistake]:
        for name in select_known(self.parameters):
            if name in RUN_PARAMETERS:
                allowed = f"a name other than {' and '.join(RUN_PARAMETERS)}, which the run gives"
                yield Mistake(("parameters", name), f"a parameter {name!r}", allowed, code="duplicate")

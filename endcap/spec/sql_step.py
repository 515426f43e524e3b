"""A step of SQL: one SELECT over named inputs, whose rows become a table of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from endcap.spec.base import Allowed, Mistake, Share, Strict, check, restore_integers, select_known
from endcap.spec.bigquery_source import ByteCount
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
            yield Mistake(("simulated",), "a simulated log", "path, bigquery or step", code="not-allowed")
        if self.where:
            yield Mistake(("where",), "conditions", "nothing: a statement has WHERE", hint, code="not-allowed")
        if self.decimal != ".":
            allowed = "nothing: a statement converts texts to numbers"
            yield Mistake(("decimal",), repr(self.decimal), allowed, hint, code="not-allowed")


class SqlJob(Strict):
    """How BigQuery runs the statement. Credentials come from the environment, never from a spec."""

    project: str | None = None
    """The project that pays for queries and reads. Left out: that of the credentials."""
    location: str | None = None
    """Where the query runs, such as EU or europe-west6. Left out: where its tables lie."""
    max_bytes: Annotated[ByteCount, Field(gt=0)] = 100 * 10**9
    """The most bytes that the statement may read. A dry run counts them first; with more, the step stops."""
    streams: Annotated[int, Field(ge=1, le=100)] = 4
    """The most streams by which the rows are read at once."""
    results: Annotated[str, Field(pattern=r"^([^.`\s]+\.)?[^.`\s]+$")] | None = None
    """A dataset in which the rows are kept while they are read. Left out: BigQuery's temporary results, which hold
    10 GB at most."""
    table: Annotated[str, Field(pattern=r"^([^.`\s]+\.)?[^.`\s]+\.[^.`\s]+$")] | None = None
    """A table of the warehouse that gets the rows, in place of the store: `project.dataset.table`, or `dataset.table`
    in the paying project. Each run replaces it."""

    @check
    def _keeps_rows_before_a_table(self) -> Iterator[Mistake]:
        if self.table is not None and self.results is None:
            hint = "The rows are checked there before they replace the table."
            allowed = "a dataset for the rows of a statement that writes a table"
            yield Mistake(("results",), "nothing", allowed, hint, code="missing")


class SqlSpec(Strict):
    """One SELECT, what it reads, and what is expected of its rows."""

    file: str = ""
    """The file that has the statement, such as sql/clean.sql. A relative path starts at the folder of the spec file
    that has it. Endcap reads the file when it loads the spec, and puts its content into `text`."""
    text: str = ""
    """The statement itself, in place of a file: one SELECT in the engine's SQL."""
    engine: Literal["duckdb", "bigquery", "spark"] = "duckdb"
    """What runs the statement. `duckdb` runs in the step's process, in bounded memory, and reads its inputs alone.
    `bigquery` runs where the tables lie that the statement names, such as `project.dataset.table`. `spark` runs where
    the shop's `spark:` says."""
    inputs: dict[SqlName, SqlInput] = {}
    """The tables that the statement reads, by the names that it uses. After ingest and features, it may also read the
    tables of the run's snapshot and dataset by their names in `endcap events query --tables`."""
    parameters: dict[SqlName, Annotated[str | int | float | bool, BeforeValidator(restore_integers)]] = {}
    """Values that the statement reads as `$name`, in BigQuery as `@name`, in Spark as `:name`. `$logical_date` is the
    run's logical date, and `$window_start` is the beginning of the shop's window before it."""
    day: str | None = None
    """The output's column of type DATE or TIMESTAMP whose UTC days the output's folders have. Left out: the column
    `day`, if it is a DATE; otherwise the output has no folders."""
    not_null: list[str] = []
    """Columns that the output must have, with a value in each row."""
    min_rows: Annotated[int, Field(ge=0)] = 1
    """The fewest rows of a good output."""
    bigquery: SqlJob = SqlJob()
    """How the engine `bigquery` runs the statement."""

    @check
    def _has_one_text(self) -> Iterator[Mistake]:
        if self.file and self.text:
            yield Mistake(("file",), "a file, and a text", "either file or text", code="conflict")
        if not self.file and not self.text.strip():
            yield Mistake(("text",), "no statement", "a SELECT here, or a file that has it", code="missing")

    @check
    def _settings_are_of_the_engine(self) -> Iterator[Mistake]:
        if self.engine == "bigquery":
            hint = "A statement in BigQuery names the warehouse's tables itself."
            if select_known(self.inputs):
                yield Mistake(("inputs",), "inputs of a statement in BigQuery", "none", hint, code="not-allowed")
            if self.bigquery.table is not None and self.day is not None:
                hint = "A table of the warehouse has partitions of its own."
                yield Mistake(("day",), "days of a table of the warehouse", "none", hint, code="not-allowed")
        elif self.bigquery != SqlJob():
            allowed = "nothing, or the engine bigquery"
            yield Mistake(
                ("bigquery",), f"settings of BigQuery, and the engine {self.engine}", allowed, code="conflict"
            )

    @check
    def _parameters_are_not_the_runs(self) -> Iterator[Mistake]:
        for name in select_known(self.parameters):
            if name in RUN_PARAMETERS:
                allowed = f"a name other than {' and '.join(RUN_PARAMETERS)}, which the run gives"
                yield Mistake(("parameters", name), f"a parameter {name!r}", allowed, code="duplicate")

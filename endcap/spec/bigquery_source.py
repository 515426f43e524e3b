"""A table, a view or a query of BigQuery as the source of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from endcap.spec.base import Allowed, Duration, Mistake, Strict, check

_SIZE = r"^[0-9]+(\.[0-9]+)?(B|kB|MB|GB|TB)$"
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _parse_size(value: Any) -> Any:
    if isinstance(value, str) and (match := re.match(_SIZE, value)):
        return int(float(value.removesuffix(match[2])) * _UNITS[match[2]])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a number and a unit out of B, kB, MB, GB, TB, such as 50GB")


def _format_size(value: int) -> str:
    unit = next(name for name in ("TB", "GB", "MB", "kB", "B") if value % _UNITS[name] == 0)
    return f"{value // _UNITS[unit]}{unit}"


ByteCount = Annotated[
    int,
    BeforeValidator(_parse_size),
    PlainSerializer(_format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _SIZE, "examples": ["50GB", "2TB"]}),
    Allowed("a number of bytes such as 50GB (units: B, kB, MB, GB, TB)"),
]


class BigQuery(Strict):
    """A table, a view or a query of BigQuery. Credentials come from the environment, never from a spec."""

    table: Annotated[str, Field(pattern=r"^([^.`\s]+\.)?[^.`\s]+\.[^.`\s]+$")] | None = None
    """The table or view: `project.dataset.table`, or `dataset.table` in the paying project. A table that ends in `*`,
    such as `project.analytics_1.events_*`, stands for the date-sharded tables whose names go on with a date."""
    query: Annotated[str, Field(min_length=1)] | None = None
    """A query in GoogleSQL in place of a table, which begins with SELECT or WITH."""
    project: str | None = None
    """The project that pays for queries and reads. Left out: that of the credentials, else that of the table."""
    location: str | None = None
    """Where queries run, such as EU or europe-west6. Left out: where their tables lie."""
    max_bytes: Annotated[ByteCount, Field(gt=0)] = 100 * 10**9
    """The most bytes that one run may read of this source. A dry run counts them first; with more, the run stops."""
    streams: Annotated[int, Field(ge=1, le=100)] = 4
    """The most streams that are read at once."""
    lateness: Duration = timedelta(days=3)
    """How much later than its event a row may be stored. It widens the days to read, where the days of a table are not
    those of the events' times: with partitions by the time of storing or by another column, and with date shards."""
    results: Annotated[str, Field(pattern=r"^([^.`\s]+\.)?[^.`\s]+$")] | None = None
    """A dataset in which the rows of a view or query are kept while they are read. Left out: BigQuery's temporary
    results, which hold 10 GB at most."""

    @property
    def address(self) -> str:
        """How messages and manifests name the source."""
        return f"bigquery://{self.table or 'query'}"

    @check
    def _has_one_origin(self) -> Iterator[Mistake]:
        if self.table is not None and self.query is not None:
            yield Mistake(("query",), "a table, and a query", "either table or query", code="conflict")

    @check
    def _has_an_origin(self) -> Iterator[Mistake]:
        if self.table is None and self.query is None:
            yield Mistake(("table",), "nothing", "a table, a view, or a query", code="missing")

    @check
    def _results_are_of_queries(self) -> Iterator[Mistake]:
        if self.table is not None and self.table.endswith("*") and self.results is not None:
            allowed = "nothing: rows of tables are read without a query; remove results"
            yield Mistake(("results",), repr(self.results), allowed, code="conflict")

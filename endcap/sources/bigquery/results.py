"""The rows of a view or a query: a job writes them into a table, which is read as any other."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from endcap.sources.bigquery.client import ONCE, Warehouse
from endcap.sources.bigquery.compile import TableName, create_results

if TYPE_CHECKING:
    from google.cloud.bigquery import ScalarQueryParameter

HOURS = 24
"""How long a table of results lasts if nobody removes it."""


@dataclass(frozen=True)
class Results:
    """A query's rows, and the job that wrote them."""

    table: TableName
    job: str


@contextlib.contextmanager
def write_results(
    warehouse: Warehouse,
    name: str,
    query: str,
    dataset: tuple[str, str] | None,
    max_bytes: int,
    parameters: Sequence[ScalarQueryParameter] = (),
) -> Iterator[Results]:
    """Run a query, and yield its rows as a table for the length of a block.

    Parameters
    ----------
    warehouse
        Where to run it.
    name
        The view or query, for errors.
    query
        The query.
    dataset
        Project and dataset that keep the rows. None: BigQuery's temporary results.
    max_bytes
        The most bytes that the query may read; BigQuery itself refuses to read more.
    parameters
        The query's parameters.

    Raises
    ------
    DataError
        If BigQuery refuses the query.
    TransientError
        If BigQuery does not answer.
    """
    if dataset is None:
        job = warehouse.query(name, query, max_bytes=max_bytes, parameters=parameters)
        place = job.destination
        yield Results(TableName(place.project, place.dataset_id, place.table_id), job.job_id)
        return
    table = TableName(*dataset, f"endcap_{uuid.uuid4().hex}")
    job = warehouse.query(name, create_results(table, query, HOURS), max_bytes=max_bytes, parameters=parameters)
    try:
        yield Results(table, job.job_id)
    finally:
        # If this fails, BigQuery removes the table when it expires.
        with contextlib.suppress(Exception):
            warehouse.rest.delete_table(str(table), not_found_ok=True, **ONCE)

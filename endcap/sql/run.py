"""A step of SQL: its rows become an artifact of the store, once for the same statement, inputs and parameters."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from endcap.errors import UserError
from endcap.sources.source_index import SourceIndex, open_source_index
from endcap.spec.spark import SparkSpec
from endcap.spec.sql_step import RUN_PARAMETERS, SqlSpec
from endcap.sql import bigquery_engine, duckdb_engine, spark_engine
from endcap.sql.plan import SqlPlan
from endcap.sql.statement import Statement
from endcap.sql.tables import ROWS, find_tables, list_known_names, list_needed
from endcap.steps import SQL
from endcap.store import Store, fingerprint, fingerprint_code, report_storage_errors

Progress = Callable[[str], None]


def check_sql(step: str, spec: SqlSpec, artifacts: Sequence[str]) -> Statement:
    """Check a step before anything runs.

    Parameters
    ----------
    step, spec
        The step.
    artifacts
        The names of what the steps before it make, such as `snapshot`.

    Returns
    -------
    Statement
        The parsed statement.

    Raises
    ------
    UserError
        The statement has a mistake, reads a table or a parameter that there is none of, or leaves an input or a
        parameter of the spec unread (`sql.unused`).
    """
    if spec.engine == "bigquery":
        statement = bigquery_engine.parse(step, spec.text)
    else:
        engine = spark_engine if spec.engine == "spark" else duckdb_engine
        statement = engine.parse(step, spec.text)
        statement.check_tables(list_known_names(spec, artifacts))
    statement.check_parameters([*spec.parameters, *RUN_PARAMETERS])
    unused = [name for name in spec.inputs if name not in statement.tables]
    unused += [name for name in spec.parameters if name not in statement.parameters]
    if unused:
        read_names = [*statement.tables, *statement.parameters]
        raise UserError(
            f"step {step}: the statement reads no {', '.join(unused)}, which the spec names; it reads "
            f"{', '.join(read_names) or 'nothing'}. Remove the name from the spec, or correct the statement",
            code="sql.unused",
            step=step,
            unused=unused,
        )
    return statement


def find_needed(step: str, spec: SqlSpec) -> list[str]:
    """Return which artifacts of a run a statement reads: `snapshot`, `dataset`. Raises UserError, as `check_sql`."""
    return list_needed(check_sql(step, spec, ["snapshot", "dataset"]).tables, spec)


def run_sql(
    step: str,
    spec: SqlSpec,
    shop: str,
    store: Store,
    *,
    tables: Mapping[str, str] | None = None,
    artifacts: Mapping[str, str] | None = None,
    until: datetime | None = None,
    window: timedelta | None = None,
    spark: SparkSpec | None = None,
    progress: Progress = lambda line: None,
) -> str:
    """Run a step of SQL, and keep its rows (kind ``tables/<shop>``).

    Parameters
    ----------
    step, spec
        The step.
    shop
        The name of the shop.
    store
        The store that keeps the rows.
    tables
        Addresses of what earlier steps of SQL made, by the steps' names.
    artifacts
        Addresses of the run's artifacts so far: `snapshot`, `dataset`.
    until
        The run's logical date (UTC); None: the run has none.
    window
        The shop's window; None: it has none.
    spark
        Where Spark runs, for a statement whose engine it is. None: on this machine.
    progress
        Takes a line now and then.

    Returns
    -------
    str
        The address of the rows.

    Raises
    ------
    UserError
        The statement has a mistake, or reads a date that the run has none of (`sql.parameter-missing`).
    DataError
        An input is missing or cannot be read, or the rows are not what is expected.
    StorageError
        The store or this machine's disk refuses.
    """
    artifacts = dict(artifacts or {})
    statement = check_sql(step, spec, list(artifacts))
    parameters = _select_parameters(statement, spec, until, window)
    # Of its own: an index keeps no more files that a run did not meet than it met.
    with open_source_index(store, f"sql/{shop}/{step}", progress) as index:
        plan = _make_plan(
            statement, spec, parameters, store, tables or {}, artifacts, spark or SparkSpec(), index, progress
        )
        index.save()  # so that a run that is killed later leaves it
        return _run_plan(plan, statement, spec, parameters, shop, store, progress)


def _run_plan(
    plan: SqlPlan,
    statement: Statement,
    spec: SqlSpec,
    parameters: Mapping[str, Any],
    shop: str,
    store: Store,
    progress: Progress,
) -> str:
    step = statement.step
    kind, key = SQL.folder(shop), _compute_key(statement, spec, plan, parameters)
    if address := store.find(kind, key):
        return address
    with store.workspace(kind, key, progress) as scratch, report_storage_errors(scratch):
        if address := store.find(kind, key):  # another run of the same step may have ended while this one waited
            return address
        folder = scratch / "out"
        for place in (folder, scratch / "work"):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        try:
            progress(f"{step}: reading {', '.join(statement.tables) or 'no table'}")
            output = plan.run(scratch / "work", folder / ROWS)
            with store.publish(kind, key) as draft:
                if (folder / ROWS).exists():
                    shutil.move(folder / ROWS, draft.path / ROWS)
                draft.facts |= output.facts() | {
                    "step": step,
                    "engine": spec.engine,
                    "sql": spec.text,
                    "parameters": {name: _to_json(value) for name, value in parameters.items()},
                    "inputs": {table.name: table.facts() for table in plan.inputs},
                }
        finally:
            for place in (folder, scratch / "work"):
                shutil.rmtree(place, ignore_errors=True)
    return draft.address


def _make_plan(
    statement: Statement,
    spec: SqlSpec,
    parameters: Mapping[str, Any],
    store: Store,
    tables: Mapping[str, str],
    artifacts: Mapping[str, str],
    spark: SparkSpec,
    index: SourceIndex,
    progress: Progress,
) -> SqlPlan:
    if spec.engine == "bigquery":
        return bigquery_engine.plan(statement, spec, parameters)
    inputs, known = find_tables(statement.step, spec, statement.tables, store, tables, artifacts, index, progress)
    statement.check_tables(known)
    if spec.engine == "spark":
        return spark_engine.SparkPlan(statement, spec, inputs, parameters, spark, progress)
    return duckdb_engine.DuckDbPlan(statement, spec, inputs, known, parameters)


def _compute_key(statement: Statement, spec: SqlSpec, plan: SqlPlan, parameters: Mapping[str, Any]) -> str:
    expected = spec.model_dump(mode="json", include={"engine", "day", "not_null", "min_rows"})
    values = {name: [type(value).__name__, _to_json(value)] for name, value in parameters.items()}
    inputs = {table.name: table.key() for table in plan.inputs}
    once = "" if plan.is_kept else uuid.uuid4().hex
    return fingerprint("sql", statement.canonical, inputs, values, expected, once, fingerprint_code(SQL.entry))


def _select_parameters(
    statement: Statement, spec: SqlSpec, until: datetime | None, window: timedelta | None
) -> dict[str, Any]:
    """The values of the parameters that the statement reads."""
    start = until - window if until is not None and window is not None else None
    values: dict[str, Any] = {**spec.parameters, "logical_date": until, "window_start": start}
    missing = [name for name in statement.parameters if values[name] is None]
    if missing:
        needed = "a logical date (--logical-date)"
        if "window_start" in missing and window is None:
            needed += " and the shop a window"
        raise UserError(
            f"step {statement.step}: the statement reads {', '.join(missing)}, so the run needs {needed}",
            code="sql.parameter-missing",
            step=statement.step,
            parameters=missing,
        )
    return {name: values[name] for name in statement.parameters}


def _to_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value

"""Steps on a Connect server that are killed: what the server has left."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.features.engines.spark import SparkTables
from endcap.spark import open_session
from endcap.spark.server import SparkServer
from endcap.spec.spark import SparkSpec
from endcap.store import Store, open_store
from tests.spark.clusters import connect, count_on_server, needs_java, wait_for
from tests.sql.shops import make_spec, run

pytestmark = [pytest.mark.slow, needs_java]
KEPT = 4
RUNNING = "jobs?status=running"
SLOW = """
select item, sum(hash(a.n, b.n)) as total
from clicks
cross join (select explode(sequence(1, 5000)) as n) a
cross join (select explode(sequence(1, 5000)) as n) b
group by item
"""


def keep_tables(file: str, folder: str, server: str) -> None:
    """Run in a process of its own: an engine that keeps tables until it is killed."""
    with open_session(SparkSpec(connect=server), Path(folder)) as session:
        tables = SparkTables(session)
        rows = tables.read([Path(file)])
        kept = [tables.keep(rows.filter(rows.number >= least)) for least in range(KEPT)]
        print(sum(tables.count(table) for table in kept), flush=True)
        signal.pause()


def run_slow_statement(store: str, folder: str, server: str) -> None:
    """Run in a process of its own: a step of SQL."""
    run(open_store(store), make_spec(Path(folder), SLOW, engine="spark"), spark=SparkSpec(connect=server))


@contextmanager
def started(work: str, *given: str) -> Iterator[subprocess.Popen[str]]:
    """Start one of the functions above, and end it at last."""
    command = [sys.executable, "-c", f"import sys; from {__name__} import {work}; {work}(*sys.argv[1:])", *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow(minutes=1)
@pytest.mark.timeout(600)
def test_tables_of_a_killed_client_are_freed(server: SparkServer, tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": list(range(10))}), tmp_path / "rows.parquet")
    given = (str(tmp_path / "rows.parquet"), str(tmp_path), connect(server)["connect"])
    with started("keep_tables", *given) as step:
        assert step.stdout is not None
        assert step.stdout.readline() == f"{sum(10 - least for least in range(KEPT))}\n"
        assert count_on_server(server, "storage/rdd") >= KEPT
        step.kill()
    # Threads of the server hold the session for up to a minute after its last statement.
    wait_for(lambda: count_on_server(server, "storage/rdd") == 0, 200)


def test_a_statement_ends_with_its_step(store: Store, server: SparkServer, tmp_path: Path) -> None:
    with started("run_slow_statement", store.root, str(tmp_path), connect(server)["connect"]) as step:
        wait_for(lambda: count_on_server(server, RUNNING) > 0)
        step.terminate()
        assert step.wait() == 128 + signal.SIGTERM
    wait_for(lambda: count_on_server(server, RUNNING) == 0)
    assert list(Path(store.root.removeprefix("file://")).rglob("*.parquet")) == []

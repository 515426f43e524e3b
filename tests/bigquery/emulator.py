"""bqemulator as a server: `python -m tests.bigquery.emulator REST_PORT STORAGE_PORT`; 0 stands for a free port.

It starts without DuckDB's spatial extension, which it would fetch from the network and which GEOGRAPHY alone needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud import bigquery

from endcap.sources.bigquery.client import EMULATOR, STORAGE_EMULATOR

PROJECT = "shop-project"
Field = bigquery.SchemaField


@dataclass(frozen=True)
class Emulator:
    """A running emulator. environment: the variables by which Google's client and Endcap find it."""

    client: bigquery.Client
    environment: dict[str, str]
    pid: int

    def create_table(
        self,
        name: str,
        schema: Sequence[Field],
        rows: pa.Table | None = None,
        *,
        by: bigquery.TimePartitioning | None = None,
    ) -> None:
        """Create a table `dataset.table`, and its dataset."""
        self.client.create_dataset(name.split(".")[0], exists_ok=True, retry=None)
        table = bigquery.Table(f"{PROJECT}.{name}", schema=schema)
        table.time_partitioning = by
        self.client.create_table(table, retry=None)
        if rows is not None:
            self.load(name, rows)

    def load(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table."""
        buffer = io.BytesIO()
        pq.write_table(rows, buffer)
        buffer.seek(0)
        config = bigquery.LoadJobConfig(source_format=bigquery.SourceFormat.PARQUET, write_disposition="WRITE_APPEND")
        self.client.load_table_from_file(buffer, f"{PROJECT}.{name}", job_config=config).result(retry=None)

    def execute(self, sql: str) -> list[Any]:
        """Run a statement, and return its rows."""
        return list(self.client.query(sql, retry=None, job_retry=None).result(retry=None))


@contextlib.contextmanager
def run_emulator() -> Iterator[Emulator]:
    """Run an emulator as a process of its own, on loopback at free ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bigquery.emulator", "0", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        ports = next((line.split()[1:] for line in process.stdout if line.startswith(b"ports ")), None)
        assert ports is not None, "the emulator ended before it listened"
        rest, storage = (int(port) for port in ports)
        environment = {EMULATOR: f"http://127.0.0.1:{rest}", STORAGE_EMULATOR: f"127.0.0.1:{storage}"}
        yield Emulator(open_client(environment[EMULATOR]), environment, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def open_client(address: str) -> bigquery.Client:
    """Open Google's client of a server without credentials."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials

    options = ClientOptions(api_endpoint=address)
    return bigquery.Client(PROJECT, credentials=AnonymousCredentials(), client_options=options)


async def _serve(rest: int, storage: int) -> None:
    from bqemulator.config import LogLevel, Settings
    from bqemulator.server import EmulatorServer
    from bqemulator.storage.engine import DuckDBEngine

    DuckDBEngine._load_spatial = lambda self: None
    settings = Settings(
        rest_port=rest,
        grpc_port=storage,
        enable_format_extensions=False,
        log_level=LogLevel.CRITICAL,
        default_project_id=PROJECT,
    )
    server = EmulatorServer(settings)
    await server.start()
    print("ports", server.rest_port, server.grpc_port, flush=True)
    # What it logs later must not fill a pipe that nobody reads.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))

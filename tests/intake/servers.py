"""An intake as a process of its own, on loopback."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from endcap_serving.local.predictors import find_free_port

_numbers = itertools.count(1)


class Server:
    """One process over a folder; what it seals lies in `out`."""

    def __init__(
        self, folder: Path, *words: str, limit: Callable[[], None] | None = None, skew: float | None = None
    ) -> None:
        """limit: called in the new process before it is the intake. skew: seconds by which its clock is wrong."""
        self.folder, self.out, port = folder / "intake", folder / "out", find_free_port()
        self.log = folder / f"log-{next(_numbers)}"
        given = ["--folder", str(self.folder), "--out", str(self.out), "--port", str(port), "--reserve-mib", "0"]
        environment = {name: value for name, value in os.environ.items() if name != "ENDCAP_ONLINE"}
        program = ["endcap_serving.intake"] if skew is None else ["tests.intake.skewed", str(skew)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, *given, *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=limit,
                env=environment,
            )
        self.port = port
        typed = {"content-type": "application/json"}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, headers=typed)
        self._wait()

    def post(self, kind: str, body: Any, **headers: str) -> httpx.Response:
        return self.client.post(f"/v1/{kind}", json=body, headers=headers)

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(self.log.read_text()) from None
        finally:
            self.client.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.client.get("/healthz").raise_for_status()
                return
            except httpx.HTTPError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())


@contextmanager
def run_server(
    folder: Path, *words: str, limit: Callable[[], None] | None = None, skew: float | None = None
) -> Iterator[Server]:
    server = Server(folder, *words, limit=limit, skew=skew)
    try:
        yield server
    finally:
        server.end()


def read_sealed(out: Path, kind: str) -> pa.Table:
    """All rows of a kind that are sealed, by files' names."""
    files = sorted((out / kind).rglob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def ids(out: Path, kind: str = "events") -> list[str]:
    return list(read_sealed(out, kind).column("id").to_pylist()) if (out / kind).exists() else []


def event(identity: str, **more: Any) -> dict[str, Any]:
    return {"id": identity, "item": "p1", "session": "s1", **more}


def events(names: Iterable[str]) -> list[dict[str, Any]]:
    return [event(name) for name in names]


def eventually(look: Callable[[], Any], patience: float = 40.0) -> Any:
    """What `look` returns, once that is true."""
    deadline = time.monotonic() + patience
    while not (seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r}"
        time.sleep(0.02)
    return seen

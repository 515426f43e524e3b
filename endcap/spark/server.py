"""A Spark that is started for a step: a Spark Connect server on this machine, which ends with the step."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from endcap.errors import ClusterError, UserError
from endcap.spark import bound_process
from endcap.spark.configuration import build_configuration
from endcap.spec.spark import SparkSpec

TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # noqa: S105 - a variable's name
STARTS_WITHIN = 180.0
"""Seconds. On a busy machine Spark needs half a minute; in a cluster its executors come later."""
OUT_OF_MEMORY = 3
"""The exit status of a JVM that is out of memory, with ExitOnOutOfMemoryError."""
_CLASS = "org.apache.spark.sql.connect.service.SparkConnectServer"
_STARTED = re.compile(r"Spark Connect server started at: \S*?:([0-9]+)\s")
_TAIL = 1500
_DIES_WITHIN = 3.0
"""Seconds until a server's process has ended that broke a connection."""


@dataclass(frozen=True)
class SparkServer:
    """The server's process and log, and how it is reached."""

    process: subprocess.Popen[bytes]
    log: Path
    token: str

    def find_port(self) -> int | None:
        """Find the port in the log; None until the server listens."""
        match = _STARTED.search(self.log.read_text(errors="replace"))
        return None if match is None else int(match[1])

    @property
    def address(self) -> str:
        """The address of a server that listens. The token in it keeps out other users of the machine."""
        return f"sc://localhost:{self.find_port()}/;token={self.token}"

    def wait_for_end(self) -> int | None:
        """Return the status with which the server ended; None if it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(_DIES_WITHIN)
        return None

    def read_errors(self) -> str:
        """Return the log's last lines that are no stack traces."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith(("\tat ", "    at ")))[-_TAIL:]


@contextlib.contextmanager
def start_server(spec: SparkSpec, folder: Path) -> Iterator[SparkServer]:
    """Start a server, wait until it listens, and end it at last with its executors.

    Parameters
    ----------
    spec
        Where its executors are, and what they get.
    folder
        For its log and its files on this machine.

    Raises
    ------
    UserError
        If there is no Java.
    ClusterError
        If Spark does not start.
    """
    home = _find_home()
    if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
        raise UserError(
            "spark: there is no Java on this machine, and JAVA_HOME is not set. Install Java 17 or later, or name a "
            "Spark Connect server in spark.connect",
            code="spark.no-java",
        )
    token = secrets.token_hex(16)
    command = [str(home / "bin" / "spark-submit"), "--class", _CLASS]
    for name, value in build_configuration(spec, folder).items():
        command += ["--conf", f"{name}={value}"]
    log = folder / "spark.log"
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    variables = {**os.environ, "SPARK_HOME": str(home), TOKEN: token, "PYTHONPATH": path, "SPARK_CONNECT_MODE": "0"}
    if spec.master.startswith("local"):
        # A Connect server has its executors run the Python of this variable; of a cluster it is the image's.
        variables.setdefault("PYSPARK_PYTHON", sys.executable)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", bound_process.__file__, *command, "spark-internal"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=variables,
            start_new_session=True,
        )
    server = SparkServer(process, log, token)
    try:
        _wait_for_start(server)
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _wait_for_start(server: SparkServer) -> None:
    ends_at = time.monotonic() + STARTS_WITHIN
    while server.find_port() is None:
        if server.process.poll() is not None or time.monotonic() > ends_at:
            status = server.process.poll()
            state = f"did not start within {STARTS_WITHIN:.0f} s" if status is None else f"ended with status {status}"
            reason = server.read_errors()
            raise ClusterError(
                f"spark: Spark {state}. Check `spark:` in the shop's spec (master, memory). Its last words:\n{reason}",
                code="spark.start-failed",
                status=status,
                reason=reason,
            )
        time.sleep(0.1)


def _find_home() -> Path:
    """Find the Spark that is started: SPARK_HOME, or what pyspark holds."""
    import pyspark

    return Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)

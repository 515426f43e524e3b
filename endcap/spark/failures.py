"""What a failure of Spark means."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Protocol

from endcap.errors import ClusterError, EndcapError, TransientError, UserError, describe_error, rebuild_error
from endcap.spark.server import OUT_OF_MEMORY

_LONGEST = 800
DRIVER_MEMORY = ("java.lang.OutOfMemoryError", "spark.driver.maxResultSize", "Not enough memory to build")
LOST_EXECUTORS = ("ExecutorLostFailure", "Checkpoint block", "CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND", "FetchFailed")
NO_ENDCAP = ("No module named 'endcap",)
OTHER_PYTHON = ("PYTHON_VERSION_MISMATCH", "Python in worker has different version")
GONE = (
    "UNAVAILABLE",
    "SESSION_NOT_FOUND",
    "SESSION_CHANGED",
    "SESSION_CLOSED",
    "OPERATION_NOT_FOUND",
    "Connection refused",
)
DISK = ("No space left on device",)
_CARRIED = re.compile(r"endcap-error:([A-Za-z0-9+/=]+):")


class StartedSpark(Protocol):
    """A Spark that was started for a step."""

    def wait_for_end(self) -> int | None:
        """Return the status with which its driver ended, `OUT_OF_MEMORY` for one; None if it runs."""

    def read_errors(self) -> str:
        """Return its last words."""


@contextlib.contextmanager
def carry_errors() -> Iterator[None]:
    """On an executor: have an error of Endcap in the block reach the step with its code, by the text that Spark shows
    of it (`explain_failure`)."""
    try:
        yield
    except EndcapError as error:
        document = base64.b64encode(json.dumps(describe_error(error)).encode()).decode()
        raise RuntimeError(f"{error} endcap-error:{document}:") from None


def explain_failure(error: BaseException, server: StartedSpark | None) -> EndcapError | None:
    """Return the error that says what a failure means; None if Spark did not raise it.

    Parameters
    ----------
    error
        What the client raised.
    server
        The Spark that was started for the session, if it was.
    """
    import grpc
    from pyspark.errors import PySparkException

    if not isinstance(error, grpc.RpcError | PySparkException):
        return None
    text = f"{type(error).__name__}: {error}"
    if carried := _CARRIED.search(text):
        return rebuild_error(json.loads(base64.b64decode(carried[1])))
    reason = _shorten(text.partition("JVM stacktrace")[0].strip())
    status = None if server is None else server.wait_for_end()
    if status == OUT_OF_MEMORY or (status is None and _has(text, DRIVER_MEMORY)):
        return ClusterError(
            "spark: the driver has too little memory; nothing was published. Raise spark.driver_memory, or the memory "
            "of the Connect server's driver",
            code="spark.driver-memory",
            reason=reason,
        )
    if _has(text, OTHER_PYTHON):
        return UserError(
            f"spark: the executors have another Python version than the step. Give them an image with the same one "
            f"(spark.image). Spark says: {reason}",
            code="spark.python-differs",
            reason=reason,
        )
    if _has(text, NO_ENDCAP):
        return UserError(
            "spark: the Python of executors has no Endcap, or another release. Give them an image with the step's one "
            f"(spark.image), or name its Python in PYSPARK_PYTHON where Spark starts. Spark says: {reason}",
            code="spark.executors-lack-endcap",
            reason=reason,
        )
    if _has(text, DISK):
        return ClusterError(
            f"spark: a disk of Spark is full; nothing was published. Give executors more disk. Spark says: {reason}",
            code="spark.disk-full",
            reason=reason,
        )
    if status is None and _has(text, LOST_EXECUTORS):
        return TransientError(
            "spark: executors were lost, with tables that they held; nothing was published. Run again. If it happens "
            f"each time, raise spark.memory or leave spot nodes. Spark says: {reason}",
            code="spark.executors-lost",
            reason=reason,
        )
    if status is not None or isinstance(error, grpc.RpcError) or "Retries" in type(error).__name__ or _has(text, GONE):
        last = "" if server is None else f" Its last words:\n{server.read_errors()}"
        return TransientError(
            f"spark: Spark went away while the step used it; nothing was published. Run again.{last}",
            code="spark.went-away",
            status=status,
            reason=reason,
        )
    return ClusterError(f"spark: {reason}", code="spark.failed", reason=reason)


def _shorten(text: str) -> str:
    """Cut the middle of a long text out: a traceback of executors' Python begins with the kind and ends with the
    cause."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def is_executor_loss(error: BaseException) -> bool:
    """Return whether Spark raised an error because an executor was lost, with tables that it held."""
    return _has(str(error), LOST_EXECUTORS) and not _has(str(error), DRIVER_MEMORY)


def _has(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)

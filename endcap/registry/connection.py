"""A connection to MLflow: its server or data base, asked again while trouble may pass; one process at a time at a file.

What trouble may pass, and what each means, say `server_failures` and `database_failures`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from endcap.errors import StorageError, TransientError
from endcap.registry.address import check_address
from endcap.registry.classify import classify_failure
from endcap.registry.failures import RESOURCE_EXISTS
from endcap.retries import RetryLimits, RetryLoop, watch_call
from endcap.secrets import AWS, MLFLOW, clean_variables, locate_mounted
from endcap.store import locks

SQLITE = "sqlite:///"
PATIENCE = RetryLimits(total=60.0, first=1.0, most=8.0)
"""With trouble that may pass."""
LOOKUP_WAITS = (1.0, 3.0)
"""Seconds before somebody looks again for what was made, where the answer to the making was lost."""
_ONCE = frozenset({"create_experiment", "create_model_version", "create_run", "delete_run"})
"""Calls that make or end something: the same twice is not the same as once. All others may be sent again."""
_SETTINGS = {
    # It reports usage to its makers unless told not to before it is imported.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # It draws a bar for each file that it fetches.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Of a server it prints the address of each run that ends, in the midst of a step's own lines.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # It asks again in silence, whatever is wrong, for minutes. Here is known what may pass, and waiting is shown.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""What MLflow is told where the environment does not say otherwise."""
_CERTIFICATES = {
    "MLFLOW_TRACKING_SERVER_CERT_PATH": "mlflow-ca.crt",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH": "mlflow-client.pem",
}
"""Files that a pod is given by keys of the store's Secret."""
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
T = TypeVar("T")


class AnswerLostError(TransientError):
    """Something was to be made, and whether it is there now is not known."""


def connect_mlflow(uri: str) -> Any:
    """Make an MLflow client whose calls raise errors of Endcap.

    Parameters
    ----------
    uri
        The registry's address.

    Returns
    -------
    object
        MLflow's client. A call that fails for a reason that may pass is repeated until `PATIENCE` is over.

    Raises
    ------
    UserError
        The address is malformed, or the registry refuses.
    TransientError
        The registry does not answer.
    """
    check_address(uri)
    # MLflow, and what it sends artifacts by, read these themselves.
    clean_variables((*MLFLOW, *AWS))
    for name, key in _CERTIFICATES.items():
        if not os.environ.get(name, "").strip():
            # Of an empty one MLflow's client makes that no certificate need be checked.
            os.environ.pop(name, None)
            if file := locate_mounted(key):
                os.environ[name] = file
    return _RetryingClient(_call_mlflow(lambda: _make_client(uri), uri), uri)


def retry_lookup(look: Callable[[], T]) -> T:
    """Call a function that looks a thing up and creates it if it does not exist.

    The function is called again if an answer was lost, or if another process created the thing meanwhile.

    Parameters
    ----------
    look
        The function.

    Returns
    -------
    object
        Its result.

    Raises
    ------
    AnswerLostError
        The answer was lost each time.
    """
    for pause in LOOKUP_WAITS:
        try:
            return look()
        except Exception as error:
            if not isinstance(error, AnswerLostError) and getattr(error, "error_code", "") != RESOURCE_EXISTS:
                raise
        time.sleep(pause)
    return look()


class _RetryingClient:
    """An MLflow client that repeats calls, and raises errors of Endcap."""

    def __init__(self, client: Any, uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*words: Any, **keys: Any) -> Any:
            return _call_mlflow(lambda: method(*words, **keys), self._uri, once=name in _ONCE)

        return call


def _call_mlflow(call: Callable[[], T], uri: str, *, once: bool = False) -> T:
    """Call MLflow until it succeeds or fails for good.

    once: repeat only if the last attempt certainly changed nothing.
    """
    what = f"the registry {uri}"
    waiting = RetryLoop(what, PATIENCE)
    while True:
        try:
            with watch_call(what):
                result = call()
        except Exception as error:
            failure = classify_failure(error, uri)
            if failure is None:
                raise
            if failure.passing and once and not failure.undone:
                raise AnswerLostError(
                    f"the registry {uri} was asked to make something, and its answer was lost ({failure.reason}); run "
                    "again: what is there is met",
                    code="registry.answer-lost",
                    registry=uri,
                    reason=failure.reason,
                ) from error
            if not failure.passing or not waiting.again(failure.reason, limit=failure.limit):
                raise failure.error from error
        else:
            waiting.over()
            return result


def _make_client(uri: str) -> Any:
    """Make an MLflow client, and create the data base if it does not exist."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    # It tells about its own migrations at level INFO; its warnings stay.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints the trace of each error of a data base, which is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with lock_registry(uri):
        file = find_sqlite_file(uri)
        if file is not None and not file.exists():
            # The first tables come by many migrations: a kill between them must not leave half a data base.
            draft = file.with_name(f".{file.name}.draft")
            draft.unlink(missing_ok=True)
            MlflowClient(tracking_uri=f"{SQLITE}{draft}").search_experiments(max_results=1)
            draft.replace(file)
        else:
            _probe_database(uri)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _probe_database(uri: str) -> None:
    """Ask a data base for anything. MLflow would try ten times, for 100 s, whatever is wrong."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in _DATABASES:
        return
    from mlflow.store.db import utils
    from sqlalchemy import inspect

    opening: Any = utils.create_sqlalchemy_engine
    engine = opening(uri)
    try:
        inspect(engine).get_table_names()
    finally:
        engine.dispose()


@contextlib.contextmanager
def lock_registry(uri: str) -> Iterator[None]:
    """Lock a registry in a SQLite file for a block, so that one process at a time uses it.

    A server needs no lock, and neither does a file that can only be read.

    Parameters
    ----------
    uri
        The registry's address.

    Raises
    ------
    TransientError
        Another process has held the lock for five minutes.
    """
    file = find_sqlite_file(uri)
    if file is None:
        yield
        return
    what = f"the registry {uri}"
    with contextlib.ExitStack() as stack:
        try:
            with watch_call(f"another process that has {what}"):
                lock = file.with_name(f".{file.name}.lock")
                stack.enter_context(locks.lock_file(lock, what, patience=locks.HOLD_PATIENCE))
        except StorageError as error:
            cause = error.__cause__
            if not isinstance(cause, OSError) or cause.errno != errno.EROFS or not file.exists():
                raise
        yield


def find_sqlite_file(uri: str) -> Path | None:
    """Return the file of a registry in SQLite; None for another registry."""
    if not uri.startswith(SQLITE):
        return None
    # What SQLAlchemy makes of it: options after ?, and letters by their numbers.
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])).resolve()

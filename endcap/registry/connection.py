"""A connection to MLflow: its server or data base, its failures as Endcap's errors, one process at a time at a file."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from endcap.errors import TransientError, UserError
from endcap.store import storage_errors

SQLITE = "sqlite:///"


def connect(uri: str) -> Any:
    """An MLflow client of the registry at `uri`, whose calls raise UserError and TransientError."""
    with _reported(uri):
        return _Reporting(_client(uri), uri)


class _Reporting:
    """An MLflow client whose failures are Endcap's errors."""

    def __init__(self, client: Any, uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*words: Any, **keys: Any) -> Any:
            with _reported(self._uri):
                return method(*words, **keys)

        return call


@contextlib.contextmanager
def _reported(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        code = getattr(error, "error_code", "")
        foreign = type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy")
        # Whether something is there already is asked by trying.
        if not foreign or code in ("RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"):
            raise
        if code == "INVALID_PARAMETER_VALUE":
            raise UserError(
                f"the registry {uri} refuses this: {error}",
                code="registry.refuses",
                registry=uri,
                reason=str(error),
            ) from error
        raise TransientError(
            f"the registry {uri} fails: {error}; look at it, then run again",
            code="registry.fails",
            registry=uri,
            reason=str(error),
        ) from error


def _client(uri: str) -> Any:
    """An MLflow client whose data base exists and is whole."""
    # MLflow reports usage to its makers unless told not to before it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Of a server it prints the address of each run that ends, in the midst of a step's own lines.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    # It tells about its own migrations at level INFO; its warnings stay.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with locked(uri):
        file = sqlite_file(uri)
        if file is not None and not file.exists():
            # The first tables come by many migrations: a kill between them must not leave half a data base.
            draft = file.with_name(f".{file.name}.draft")
            draft.unlink(missing_ok=True)
            MlflowClient(tracking_uri=f"{SQLITE}{draft}").search_experiments(max_results=1)
            draft.replace(file)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def locked(uri: str) -> Iterator[None]:
    """One process at a time at a SQLite registry; a server looks after itself."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    import fcntl

    with contextlib.ExitStack() as stack:
        with storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(file.with_name(f".{file.name}.lock").open("w"))
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sqlite_file(uri: str) -> Path | None:
    if not uri.startswith(SQLITE):
        return None
    # What SQLAlchemy makes of it: options after ?, and letters by their numbers.
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])).resolve()

"""Finds and opens the registry of a store, or the one at an address."""

from __future__ import annotations

import contextlib

from endcap.errors import TransientError, UserError
from endcap.registry.connection import SQLITE, find_sqlite_file
from endcap.registry.versions import Registry
from endcap.retries import disable_retries, watch_call
from endcap.store import Store


def get_default_uri(store: Store) -> str:
    """Return the address of the registry that a store in a local folder has by default: a SQLite file in the folder.

    Raises
    ------
    UserError
        The store is not a folder, or its path contains a character that has another meaning in an address.
    """
    scheme, _, folder = store.root.partition("://")
    if scheme != "file":
        raise UserError(
            f"the store {store.root} has no registry of its own: a data base needs a disk. Name one by --registry or "
            "ENDCAP_REGISTRY, such as http://mlflow:5000 or sqlite:////folder/mlflow.db",
            code="registry.none",
            store=store.root,
            variable="ENDCAP_REGISTRY",
        )
    if bad_letter := next((letter for letter in "?%" if letter in folder), None):
        raise UserError(
            f"store {folder}: found {bad_letter!r}, which a registry's address cannot hold; "
            "name another folder, or another registry (--registry sqlite:////folder/mlflow.db)",
            code="registry.folder-name",
            store=folder,
            found=bad_letter,
        )
    return f"{SQLITE}{folder}/mlflow.db"


def open_registry(uri: str | None, store: Store) -> Registry:
    """Open a registry. The first call of a process imports MLflow, which takes about two seconds.

    Parameters
    ----------
    uri
        The address of an MLflow server or data base. None or empty: a SQLite file in the store's folder.
    store
        The store that holds the versions' packages.

    Returns
    -------
    Registry
        The registry. A data base that does not exist yet is created.

    Raises
    ------
    UserError
        The address is malformed, no registry belongs to a store in a bucket, or the registry is a server and the store
        a local folder: MLflow's server refuses addresses of local folders.
    TransientError
        The registry does not answer.
    """
    if uri and uri.startswith(("http://", "https://")) and store.root.startswith("file://"):
        raise UserError(
            f"registry {uri}: a server takes no versions from a folder such as {store.root}; "
            "allowed: the address of its data base, such as sqlite:////folder/mlflow.db or postgresql://…",
            code="registry.server-for-folder",
            registry=uri,
            store=store.root,
        )
    return Registry(uri or get_default_uri(store), store)


def check_registry(uri: str | None, store: Store) -> None:
    """Send one request to a registry's server, so that a wrong password is reported before any work.

    A server that does not answer raises nothing here: the steps wait for it. A SQLite file is not checked.

    Raises
    ------
    UserError
        The server refuses the address or the credentials.
    """
    if uri and not uri.startswith(SQLITE):
        with watch_call(f"the registry {uri}"), disable_retries(), contextlib.suppress(TransientError):
            open_registry(uri, store).client.search_registered_models(max_results=1)


def find_registry(uri: str | None, store: Store) -> Registry | None:
    """Open a registry only if it exists; None if it does not. Parameters and errors are those of `open_registry`."""
    if not uri and not store.root.startswith("file://"):
        return None
    file = find_sqlite_file(uri or get_default_uri(store))
    return open_registry(uri, store) if file is None or file.exists() else None

"""The key of the pseudonyms on a machine where nobody set one: a file that only its user may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from endcap.pseudonyms import KEY, Pseudonymiser
from endcap.secrets import read_variable
from endcap.store import Store, report_storage_errors

_NAME = "pseudonym-key"


def find_key(store: Store, *, create: bool = False) -> str:
    """Return the key of the pseudonyms in request samples.

    Parameters
    ----------
    store
        The store. The key's file lies in its work folder on this machine, and never in a bucket.
    create
        Make a key if there is none.

    Returns
    -------
    str
        The key in `ENDCAP_PSEUDONYM_KEY`, else that of the file; empty if there is neither.

    Raises
    ------
    StorageError
        The file cannot be read or made.
    """
    if key := read_variable(KEY):
        return key
    folder = store.work_folder("samples", "key")
    with report_storage_errors(folder):
        file = folder / _NAME
        if create and not file.exists():
            _write_key(file)
        return file.read_text().strip() if file.exists() else ""


def open_pseudonymiser(store: Store) -> Pseudonymiser | None:
    """Return the pseudonymiser of `find_key`; None if there is no key. Raises StorageError, or UserError as it does."""
    key = find_key(store)
    return Pseudonymiser(key.encode()) if key else None


def _write_key(file: Path) -> None:
    """Write a random key. If two processes do so at once, both use the first one's."""
    draft = file.with_name(f".{_NAME}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(secrets.token_hex(32))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)

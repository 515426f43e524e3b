"""A user's own files in a store: put there, listed, and brought back.

They lie below ``<store>/data/`` by name, may be replaced, and are no artifacts. The address of a file or folder is what
a shop's file takes as the path of a source. A folder's store replaces by renaming, so that a reader sees the old or the
new. A bucket replaces object by object: an object appears whole, a folder of several does not.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from endcap.errors import NotFoundError, UserError
from endcap.store.artifact_files import report_storage_errors
from endcap.store.base import MANIFEST, Store
from endcap.store.data_area import DATA_FOLDER, FILE, StoredFile, check_file_name, open_data_area
from endcap.store.transfer import (
    PIECE_BYTES,
    Meter,
    TransferProgress,
    copy_file,
    deliver,
    list_regular_files,
    sum_sizes,
)

__all__ = ["StoredFile", "TransferProgress", "get", "list_files", "put"]


def _ignore_progress(done: int, total: int) -> None:
    pass


def put(
    store: Store, source: str | Path | bytes | BinaryIO, name: str, progress: TransferProgress = _ignore_progress
) -> str:
    """Copy a file, a folder or bytes into the store; what has the name already is replaced.

    Parameters
    ----------
    store
        A store in a folder or in a bucket.
    source
        The path of a file or folder on this machine, or bytes, or a binary stream, which is read to its end.
    name
        The name in the store: relative, with ``/`` between its parts, such as ``logs/2026-03-02.csv``.
    progress
        Called with the bytes that are done, and with those in all.

    Returns
    -------
    str
        The address, which a shop's file takes as ``events.sources[].path``.

    Raises
    ------
    UserError
        The name is none (`store.name-invalid`), is below a file (`store.name-taken`), or the source holds no file
        (`store.source-invalid`).
    StorageError, TransientError
        The disk or the object store refused.

    Examples
    --------
    >>> from endcap.store import open_store
    >>> store = open_store(".endcap/store")
    >>> address = put(store, b"session,item,time", "logs/empty.csv")
    >>> [file.name for file in list_files(store, "logs/")]
    ['logs/empty.csv']
    """
    check_file_name(name)
    area = open_data_area(store.root)
    area.check_free(name)
    with area.draft() as folder, _local_files(source, folder / "spooled") as files:
        total = sum(path.stat().st_size for path in files.values())
        area.write(name, files, folder, Meter(progress, total))
    return area.address(name)


def get(store: Store, address: str, to: str | Path, progress: TransferProgress = _ignore_progress) -> Path:
    """Copy a file or folder of the store, or a whole artifact, to this machine.

    Parameters
    ----------
    store
        A store in a folder or in a bucket.
    address
        A name, such as ``logs/2026-03-02.csv``; or the address of a file, a folder or an artifact.
    to
        Where the copy goes. In a folder that is there, it keeps its own name. A file is replaced, a folder is not.
    progress
        Called with the bytes that are done, and with those in all.

    Returns
    -------
    pathlib.Path
        The copy.

    Raises
    ------
    NotFoundError
        Nothing has this name or address (`store.not-found`).
    UserError
        The target is taken (`store.target-exists`), or the name is none (`store.name-invalid`).
    IntegrityError, StorageError, TransientError
        The artifact is damaged; the disk or the object store refused.
    """
    target = Path(to).expanduser()
    place = _find_place(store, address)
    check_file_name(place, hidden=True)
    if not place.startswith(f"{DATA_FOLDER}/"):
        whole = f"{store.root}/{place}"
        folder, manifest = store.fetch(whole), store.manifest(whole)
        files: dict[str, Any] = {name: folder / name for name in (*manifest["files"], MANIFEST)}
        return deliver(files, place, target, copy_file, Meter(progress, sum_sizes(files)))
    name = place.removeprefix(f"{DATA_FOLDER}/")
    check_file_name(name)
    return open_data_area(store.root).read(name, target, progress)


def list_files(store: Store, prefix: str = "") -> list[StoredFile]:
    """List the user's files in a store whose names begin with a prefix, sorted by name."""
    if prefix:
        check_file_name(prefix.rstrip("/"))
    return sorted(open_data_area(store.root).files(prefix), key=lambda file: file.name)


def _find_place(store: Store, address: str) -> str:
    """The path in the store of a name or an address. Raises NotFoundError where it is another store's."""
    for root in (store.root, store.root.removeprefix(FILE)):
        if address.startswith(f"{root}/"):
            return address.removeprefix(f"{root}/").rstrip("/")
    if "://" in address or address.startswith("/"):
        with contextlib.suppress(NotFoundError):
            return store.resolve(address).removeprefix(f"{store.root}/")  # an artifact's address of another place
        raise NotFoundError(
            f"{address} does not lie in this store ({store.root}); give a name, or an address below it",
            code="store.not-found",
            address=address,
            store=store.root,
        )
    return f"{DATA_FOLDER}/{address.rstrip('/')}"


@contextlib.contextmanager
def _local_files(source: str | Path | bytes | BinaryIO, spool: Path) -> Iterator[dict[str, Path]]:
    """The files of a source by their paths below it; one file has the path ``""``. Raises UserError."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        files = {"": path} if path.is_file() else list_regular_files(path) if path.is_dir() else {}
        if not files:
            why = "is an empty folder" if path.is_dir() else "is no file or folder of this machine"
            raise UserError(f"{path} {why}; there is nothing to put", code="store.source-invalid", source=str(path))
    elif isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read"):
        with report_storage_errors(spool), spool.open("wb") as handle:
            if hasattr(source, "read"):
                shutil.copyfileobj(source, handle, PIECE_BYTES)
            else:
                handle.write(source)
        files = {"": spool}
    else:
        raise UserError(
            f"a {type(source).__name__} cannot be put; allowed: a path, bytes or a binary stream. "
            "endcap.events.frames.write_table makes a file of a table",
            code="store.source-invalid",
            source=type(source).__name__,
        )
    yield files

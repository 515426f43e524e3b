"""What both stores do alike with files on a disk: describe them, check them, write durably, tell what is refused."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from endcap.errors import EndcapError, IntegrityError, StorageError, UserError
from endcap.processes import is_alive
from endcap.safe_reading import open_regular, parse_json, read_json
from endcap.store.base import MANIFEST, Draft, Json, get_content_key
from endcap.store.documents import get_kind, open_document, open_manifest, stamp_document
from endcap.store.fingerprint import fingerprint
from endcap.store.safe_paths import join_safely

_ABANDONED_AFTER = 7 * 86_400.0
"""Seconds after which a scratch folder counts as abandoned."""


def build_manifest(draft: Draft) -> Json:
    """Build the manifest of a filled draft, and flush the draft's files to the disk.

    Parameters
    ----------
    draft
        The draft. Its `path` holds the files, beside those that other machines sent.

    Returns
    -------
    dict
        The manifest, with the size in bytes and the SHA-256 of every file.
    """
    here = {name: describe_file(draft.path / name) for name in _list_files(draft.path) if name not in draft.sent}
    manifest = {
        "address": draft.address,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "facts": stamp_document(get_kind(get_content_key(draft.address)), draft.facts),
        "files": dict(sorted({**here, **draft.sent}.items())),
    }
    return stamp_document("manifest", manifest)


def parse_manifest(content: bytes, address: str) -> Json:
    """Parse a manifest without upgrading it.

    Parameters
    ----------
    content
        The file's content.
    address
        The artifact's address, for errors.

    Returns
    -------
    dict
        The manifest as it was written. It may be of a newer release; `open_document` then raises UserError.

    Raises
    ------
    IntegrityError
        The content is not JSON, or not a manifest.
    """
    try:
        manifest: Json = parse_json(content)
    except ValueError as error:
        raise make_unreadable_manifest_error(address, f"its manifest is not JSON ({error})") from None
    with contextlib.suppress(UserError):  # a newer release wrote it; whoever uses it gets the error
        open_document("manifest", manifest, address)
    return manifest


def parse_foreign_manifest(content: bytes, address: str) -> Json | None:
    """Parse the manifest of another store's artifact; None if this release cannot read it."""
    try:
        return open_document("manifest", parse_manifest(content, address), address)
    except EndcapError:
        return None


def digest_manifest(manifest: Json) -> str:
    """Return the digest of an artifact's files: the fingerprint of their names and checksums."""
    return fingerprint({name: described["sha256"] for name, described in manifest["files"].items()})


def check_artifact(folder: Path, manifest: Json | None = None, *, name: str = "", verify: bool = True) -> None:
    """Compare an artifact's files with its manifest.

    Parameters
    ----------
    folder
        The folder with the files.
    manifest
        The manifest. None: the one in the folder, for a copy that another program downloaded.
    name
        What errors call the artifact; its address by default.
    verify
        Compare the checksums too; otherwise only the sizes.

    Raises
    ------
    IntegrityError
        A file is missing or differs, or the manifest cannot be read.
    """
    if manifest is None:
        try:
            written = read_json(join_safely(folder, MANIFEST, name or str(folder)))
        except (OSError, ValueError) as error:
            address = name or str(folder)
            raise make_unreadable_manifest_error(
                address, f"its {MANIFEST} cannot be read ({error}); fetch the artifact again"
            ) from None
        manifest = open_manifest(written, name or str(folder))
    name = name or manifest["address"]
    for file, described in manifest["files"].items():
        check_artifact_file(join_safely(folder, file, name), described, file, name, verify=verify)


def check_artifact_file(
    file: Path, described: Mapping[str, object], called: str, artifact: str, *, verify: bool
) -> None:
    """Compare one file with its entry in the manifest.

    Parameters
    ----------
    file
        The file.
    described
        The manifest's entry, with ``bytes`` and ``sha256``.
    called
        The file's name in the artifact, for errors.
    artifact
        The artifact's address, for errors.
    verify
        Compare the checksum too; otherwise only the size.

    Raises
    ------
    IntegrityError
        The file is missing or differs.
    """
    if not file.is_file() or file.stat().st_size != described["bytes"]:
        raise IntegrityError(
            f"{artifact}: {called} is missing or incomplete; {_suggest_rebuild(artifact)}",
            code="store.damaged",
            address=artifact,
            file=called,
            fault="missing",
        )
    if verify and hash_file(file) != described["sha256"]:
        raise IntegrityError(
            f"{artifact}: {called} was changed after it was written; {_suggest_rebuild(artifact)}",
            code="store.damaged",
            address=artifact,
            file=called,
            fault="changed",
        )


def encode_document(document: Json) -> bytes:
    """Encode a document as JSON. Equal documents give equal bytes."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def describe_file(file: Path) -> Json:
    """Return a file's size in bytes and its SHA-256, as a manifest has them, and flush the file to the disk."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    return {"bytes": file.stat().st_size, "sha256": hash_file(file)}


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with open_regular(file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_durably(file: Path, document: Json) -> None:
    """Write a file, and flush it to the disk."""
    with file.open("w") as handle:
        json.dump(document, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())


def replace_durably(file: Path, document: Json) -> None:
    """Replace a JSON file in one step.

    Only one process at a time may call it for a file. The draft that a killed process left is overwritten.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    write_durably(draft, document)
    draft.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that files renamed into it survive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def make_scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a new folder for the length of a block, and remove folders that killed processes of this host left.

    Parameters
    ----------
    parent
        The folder to make it in.
    """
    remove_leftovers(parent)
    # The host and process are in the name, so that a later writer knows whose remains it may remove.
    # No host's name has an @: the drafts of `web-7` are not taken for those of `web`.
    folder = parent / f"{socket.gethostname()}@{os.getpid()}@{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove the scratch folders of this host's processes that were killed; of other hosts, those of a week ago.

    Pods that share a folder have a new name each time, and nobody can ask whether one of another host is alive.
    """
    for folder in parent.glob("*@*@*"):
        host, pid, _ = folder.name.split("@", 2)
        with contextlib.suppress(FileNotFoundError):  # another's, which ends it
            killed = pid.isdigit() and not is_alive(int(pid))
            if killed if host == socket.gethostname() else time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def report_storage_errors(place: Path | str) -> Iterator[None]:
    """Turn errors of the disk in a block into StorageError.

    Parameters
    ----------
    place
        The file or folder that the block works on, for the message.

    Raises
    ------
    StorageError
        The disk is full or read-only, or the folder has no permission.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            reason = error.strerror or str(error)
            raise StorageError(
                f"cannot write {place}: {reason}; nothing was published. Free space or choose another store (--store)",
                code="store.cannot-write",
                path=str(place),
                reason=reason,
            ) from error
        raise


def make_unreadable_manifest_error(address: str, why: str) -> IntegrityError:
    """Make the error for a manifest that exists but cannot be read."""
    return IntegrityError(f"{address}: {why}", code="store.damaged", address=address, file=MANIFEST, fault="unreadable")


def _suggest_rebuild(artifact: str) -> str:
    return f"delete {artifact.removeprefix('file://')} and run again"


def _list_files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())

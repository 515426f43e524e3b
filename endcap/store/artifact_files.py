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

_FORSAKEN_AFTER = 7 * 86_400.0
"""Seconds after which nobody fills a scratch folder any more."""


def build_manifest(draft: Draft) -> Json:
    """The manifest of a draft that is filled. Its files are on the disk afterwards, not only in memory."""
    manifest = {
        "address": draft.address,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "facts": stamp_document(get_kind(get_content_key(draft.address)), draft.facts),
        "files": {name: _describe_file(draft.path / name) for name in _list_files(draft.path)},
    }
    return stamp_document("manifest", manifest)


def parse_manifest(content: bytes, address: str) -> Json:
    """A manifest as it was written. Raises IntegrityError where it is no JSON, or not what a manifest is."""
    try:
        manifest: Json = parse_json(content)
    except ValueError as error:
        raise make_unreadable_manifest_error(address, f"its manifest is not JSON ({error})") from None
    with contextlib.suppress(UserError):  # of a newer release: whoever goes by it is told
        open_document("manifest", manifest, address)
    return manifest


def parse_foreign_manifest(content: bytes, address: str) -> Json | None:
    """The manifest of another store's artifact; None where this release cannot read it."""
    try:
        return open_document("manifest", parse_manifest(content, address), address)
    except EndcapError:
        return None


def digest_manifest(manifest: Json) -> str:
    """What an artifact's files are known by: the fingerprint of their names and checksums."""
    return fingerprint({name: described["sha256"] for name, described in manifest["files"].items()})


def check_artifact(folder: Path, manifest: Json | None = None, *, name: str = "", verify: bool = True) -> None:
    """Compare an artifact's files with its manifest: their sizes, and with `verify` their checksums.

    manifest: left out, the one that lies in the folder, as in a copy that was downloaded by something else. name: what
    the artifact is called in errors, its address if left out. Raises IntegrityError where a file is missing or differs.
    """
    if manifest is None:
        try:
            written = read_json(join_safely(folder, MANIFEST, name or str(folder)))
        except (OSError, ValueError) as error:
            address = name or str(folder)
            raise make_unreadable_manifest_error(
                address, f"its {MANIFEST} cannot be read ({error}); fetch it again"
            ) from None
        manifest = open_manifest(written, name or str(folder))
    name = name or manifest["address"]
    for file, described in manifest["files"].items():
        check_artifact_file(join_safely(folder, file, name), described, file, name, verify=verify)


def check_artifact_file(
    file: Path, described: Mapping[str, object], called: str, artifact: str, *, verify: bool
) -> None:
    """Compare one file with what the manifest says of it. Raises IntegrityError."""
    if not file.is_file() or file.stat().st_size != described["bytes"]:
        raise IntegrityError(
            f"{artifact}: {called} is missing or cut short; {_suggest_rebuild(artifact)}",
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
    """A document as it lies in a bucket: the same for the same document."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def hash_file(file: Path) -> str:
    with open_regular(file) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_durably(file: Path, document: Json) -> None:
    with file.open("w") as handle:
        json.dump(document, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())


def replace_durably(file: Path, document: Json) -> None:
    """Replace a JSON file in one step. For one process at a time: what a killed one leaves, the next writes over."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    write_durably(draft, document)
    draft.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def make_scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder below `parent` for the length of the block; what killed processes of this host left is removed."""
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
            if killed if host == socket.gethostname() else time.time() - folder.stat().st_mtime > _FORSAKEN_AFTER:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def report_storage_errors(place: Path | str) -> Iterator[None]:
    """Report a full or read-only disk, or a folder without permission, as StorageError that names `place`."""
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
    """The error of a manifest that is there and tells nothing."""
    return IntegrityError(f"{address}: {why}", code="store.damaged", address=address, file=MANIFEST, fault="unreadable")


def _suggest_rebuild(artifact: str) -> str:
    return f"delete {artifact.removeprefix('file://')} and run again"


def _list_files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def _describe_file(file: Path) -> Json:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    return {"bytes": file.stat().st_size, "sha256": hash_file(file)}

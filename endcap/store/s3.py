"""A store in a bucket of an S3 server."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError, IntegrityError, NotFoundError, UserError
from endcap.store.base import MANIFEST, Draft, Json, content_key
from endcap.store.bucket import REQUESTS, Bucket, parallel
from endcap.store.cache import alone, cache_folder
from endcap.store.contents import (
    check_file,
    check_folder,
    document_bytes,
    manifest_of,
    replace_durably,
    scratch,
    storage_errors,
)
from endcap.store.documents import kind_of, opened, opened_manifest, stamped
from endcap.store.fingerprint import fingerprint
from endcap.store.lease import Lease
from endcap.store.mirror import Mirror
from endcap.store.publication import Publication

_NEVER = datetime.min.replace(tzinfo=UTC)


class S3Store:
    """See `Store`. How artifacts appear whole: `Publication`; how unfinished work is kept: `Lease` and `Mirror`.

    What is fetched is kept on this machine (`cache_folder`), each file under the address of its artifact.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.root = bucket.address(prefix)
        bucket.check(f"{self._prefix}.endcap")
        self._local = cache_folder() / fingerprint(bucket.settings.endpoint, self.root)

    def find(self, kind: str, key: str) -> str | None:
        found = self._bucket.stat(self._name(f"{kind}/{key}/{MANIFEST}"))
        return None if found is None else f"{self.root}/{kind}/{key}"

    @contextlib.contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Draft]:
        address = f"{self.root}/{kind}/{key}"
        with storage_errors(f"{self._local} (for {address})"), scratch(self._local / ".drafts") as folder:
            draft = Draft(folder, address)
            yield draft
            manifest = manifest_of(draft)
            if Publication(self._bucket, self._prefix, f"{kind}/{key}").publish(folder, manifest):
                self._keep_copy(folder, manifest)

    def fetch(self, address: str, *, verify: bool = False) -> Path:
        manifest = self._manifest(address)
        opened_manifest(manifest, address)
        folder = self._copy_of(address)
        with storage_errors(f"{folder} (for {address})"), alone(folder):
            if verify or _kept(folder) != manifest:
                self._download(address, manifest, folder, anew=verify)
            else:
                try:
                    check_folder(folder, manifest, name=address, verify=False)
                except IntegrityError:  # of this machine's copy only
                    self._download(address, manifest, folder, anew=False)
        return folder

    def manifest(self, address: str) -> Json:
        return opened_manifest(self._manifest(address), address)

    def _manifest(self, address: str) -> Json:
        found = self._bucket.read(self._name(f"{self._path(address)}/{MANIFEST}"))
        if found is None:
            raise NotFoundError(
                f"nothing is stored under {address}; `endcap run` makes it", code="store.not-found", address=address
            )
        try:
            manifest: Json = json.loads(found[0])
        except ValueError as error:
            raise IntegrityError(
                f"{address}: its manifest is not JSON ({error})",
                code="store.damaged",
                address=address,
                file=MANIFEST,
                fault="unreadable",
            ) from None
        return manifest

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
        name = self._name(f".work/{kind}/{key}")
        lease = Lease(self._bucket, f"{name}.lease")
        with contextlib.ExitStack() as held:
            lease.take(progress)
            held.callback(_suppressed, lease.give_back)
            # A folder of its own: what an earlier process left here may be older than what another machine has kept.
            folder = held.enter_context(scratch(self._local / ".work" / ".workspaces"))
            mirror = Mirror(self._bucket, name, folder, lease, progress)
            held.enter_context(_ended_by_sigterm())
            mirror.start()
            try:
                yield folder
            except BaseException:
                _suppressed(mirror.end)
                raise
            _suppressed(mirror.clear)

    def work_folder(self, kind: str, key: str) -> Path:
        folder = self._local / ".work" / kind / key
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list(self, kind: str) -> list[str]:
        prefix = self._name(f"{kind}/")
        names = [blob.name + MANIFEST for blob in self._bucket.list(prefix, recursive=False) if blob.name[-1] == "/"]
        found = [
            (str(json.loads(content[0])["created"]), f"{self.root}/{kind}/{name.split('/')[-2]}")
            for name, content in zip(names, parallel(self._bucket.read, names, REQUESTS), strict=True)
            if content is not None
        ]
        return [address for _, address in sorted(found)]

    def read_document(self, name: str) -> Json | None:
        found = self._bucket.read(self._name(f"{name}.json"))
        return None if found is None else self._opened(name, found[0])

    def list_documents(self, folder: str) -> Sequence[str]:
        blobs = self._bucket.list(self._name(f"{folder}/"), recursive=False)
        files = [(blob.changed or _NEVER, blob.name) for blob in blobs if blob.name.endswith(".json")]
        return [name.removeprefix(self._prefix).removesuffix(".json") for _, name in sorted(files, reverse=True)]

    def write_document(self, name: str, document: Json) -> None:
        self._bucket.write(self._name(f"{name}.json"), document_bytes(stamped(kind_of(name), document)))

    def update_document(self, name: str, change: Callable[[Json | None], Json]) -> Json:
        object_ = self._name(f"{name}.json")
        while True:
            found = self._bucket.read(object_)
            document = change(None if found is None else self._opened(name, found[0]))
            content = document_bytes(stamped(kind_of(name), document))
            if found is None:
                written = self._bucket.write(object_, content, absent=True)
            else:
                written = self._bucket.write(object_, content, etag=found[1].etag)
            if written is not None:
                return document

    def _opened(self, name: str, content: bytes) -> Json:
        return opened(kind_of(name), json.loads(content), f"{name} in {self.root}")

    def _name(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def _path(self, address: str) -> str:
        path = address.removeprefix(f"{self.root}/").rstrip("/")
        if address.startswith(f"{self.root}/") and ".." not in path.split("/"):
            return path
        # The store may have been copied from elsewhere: an artifact's manifest says where it was made.
        copied = content_key(address)
        manifest = self._bucket.read(self._name(f"{copied}/{MANIFEST}"))
        if manifest is not None and json.loads(manifest[0])["address"] == address:
            return copied
        raise NotFoundError(
            f"{address} does not lie in this store ({self.root})",
            code="store.elsewhere",
            address=address,
            store=self.root,
        )

    def _copy_of(self, address: str) -> Path:
        return self._local / self._path(address)

    def _keep_copy(self, folder: Path, manifest: Json) -> None:
        """Spare the next step the download of what was made on this machine."""
        place = self._copy_of(manifest["address"])
        with alone(place):
            if not place.exists():
                folder.rename(place)
                replace_durably(place / MANIFEST, manifest)

    def _download(self, address: str, manifest: Json, folder: Path, *, anew: bool) -> None:
        """Bring this machine's copy up to the manifest, file by file; what is there already is kept unless `anew`.

        A file appears under its name when its checksum is right. A download that was cut off is gone on with.
        """
        described: dict[str, Any] = manifest["files"]
        parts = folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)

        def fetch(name: str) -> None:
            file = folder / name
            if not anew and _right(file, described[name]):
                return
            part = parts / described[name]["sha256"]
            self._fetch(address, name, described[name], part)
            file.parent.mkdir(parents=True, exist_ok=True)
            part.replace(file)

        for _ in parallel(fetch, described):
            pass
        shutil.rmtree(parts, ignore_errors=True)
        replace_durably(folder / MANIFEST, manifest)

    def _fetch(self, address: str, name: str, described: Json, part: Path) -> None:
        resumed = part.exists()
        try:
            self._bucket.download(self._name(f"{self._path(address)}/{name}"), part)
            check_file(part, described, name, address, verify=True)
        except NotFoundError:
            raise IntegrityError(
                f"{address}: {name} is missing or cut short; delete everything below that address and run again",
                code="store.damaged",
                address=address,
                file=name,
                fault="missing",
            ) from None
        except IntegrityError:
            part.unlink(missing_ok=True)
            if not resumed:
                raise
            self._fetch(address, name, described, part)  # it may be the piece that lay here that is wrong


def split_address(address: str) -> tuple[str, str]:
    """Bucket and path of an ``s3://bucket/path`` address. Raises UserError where it names no bucket."""
    bucket, _, path = address.removeprefix("s3://").partition("/")
    if not 3 <= len(bucket) <= 63 or not set(bucket) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_"):
        raise UserError(
            f"{address}: found {bucket!r} as the bucket; allowed: s3://bucket or s3://bucket/prefix",
            code="store.bucket-name",
            address=address,
            found=bucket,
        )
    return bucket, path.strip("/")


def _kept(folder: Path) -> Json | None:
    """The manifest of this machine's copy, None where it is not whole."""
    try:
        kept: Json = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return kept


def _right(file: Path, described: Json) -> bool:
    try:
        check_file(file, described, "", "", verify=True)
    except IntegrityError:
        return False
    return True


def _suppressed(end: Callable[[], None]) -> None:
    """Tidy up without hiding how the work itself ended."""
    with contextlib.suppress(EndcapError):
        end()


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM, by which a pod is evicted, end the work as an error does, unless it is dealt with already."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""A store in a bucket of an S3 server."""

from __future__ import annotations

import contextlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from endcap.errors import EndcapError, NotFoundError, UserError
from endcap.redaction import HIDDEN
from endcap.retries import watch_call
from endcap.store import locks, uses
from endcap.store.artifact_files import (
    build_manifest,
    encode_document,
    make_scratch_folder,
    parse_foreign_manifest,
    parse_manifest,
    report_storage_errors,
)
from endcap.store.base import MANIFEST, Draft, Hold, Json
from endcap.store.bucket import PARALLEL_REQUESTS, Blob, Bucket, run_parallel
from endcap.store.cache import find_cache_folder
from endcap.store.conditional_writes import PROBE, ConditionalWrites
from endcap.store.documents import get_kind, is_decisive, open_manifest, parse_document, stamp_document
from endcap.store.fingerprint import fingerprint
from endcap.store.folder import read_foreign_manifest
from endcap.store.lease import Lease
from endcap.store.local_copies import LocalCopies
from endcap.store.locks import ChangeAttempts
from endcap.store.mirror import CheckpointMirror
from endcap.store.publication import Publication
from endcap.store.resolution import PLACES, PlaceEntries, RelocatableStore, Resolver, read_unless_damaged
from endcap.store.safe_paths import check_name, find_name_fault, join_safely
from endcap.store.schemas import wrap_facts
from endcap.store.uses import ArtifactUse, check_unused_since

S3 = "s3://"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class S3Store(RelocatableStore):
    """A store in a bucket; see `Store`.

    `Publication` makes artifacts appear whole. `Lease` and `CheckpointMirror` keep unfinished work. Fetched files are
    kept on this machine (`find_cache_folder`), each under the address of its artifact.

    Parameters
    ----------
    bucket
        The bucket.
    prefix
        The beginning of the names of the store's objects, without a ``/`` at its end; empty: the whole bucket.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.root = bucket.address(prefix)
        self._resolver = Resolver(self)
        bucket.check(f"{self._prefix}.endcap")
        self._local = find_cache_folder() / fingerprint(bucket.settings.endpoint, self.root)
        self._copies = LocalCopies(bucket, self._local, self._name)
        self._conditions = ConditionalWrites(bucket, self._name(PROBE))

    def find(self, kind: str, key: str) -> str | None:
        blob = self._bucket.stat(self._name(f"{kind}/{key}/{MANIFEST}"))
        return f"{self.root}/{kind}/{key}" if blob is not None and self._note_use(blob) else None

    @contextlib.contextmanager
    def publish(self, kind: str, key: str) -> Iterator[Draft]:
        check_name(f"{kind}/{key}", self.root)
        address = f"{self.root}/{kind}/{key}"
        with (
            report_storage_errors(f"{self._local} (for {address})"),
            make_scratch_folder(self._local / ".drafts") as folder,
        ):
            publication = Publication(self._bucket, self._prefix, f"{kind}/{key}")
            draft = Draft(folder, address, publication.address)
            try:
                yield draft
                self._resolver.note_place()
                manifest = build_manifest(draft)
                if not publication.publish(folder, manifest, draft.sent):
                    self.find(kind, key)  # another writer's copy is used
                elif not draft.sent:
                    self._copies.keep(f"{kind}/{key}", folder, manifest)
            finally:
                if draft.is_shared:
                    _run_suppressed(publication.remove_draft)

    def fetch(self, address: str, *, verify: bool = False, names: Sequence[str] | None = None) -> Path:
        path = self._resolver.find_path(address)
        manifest, blob = self._require_manifest(path)
        open_manifest(manifest, f"{self.root}/{path}")
        self._note_use(blob)
        return self._copies.fetch(path, manifest, f"{self.root}/{path}", verify=verify, names=names)

    def manifest(self, address: str) -> Json:
        path = self._resolver.find_path(address)
        here = f"{self.root}/{path}"
        content = self.translate(open_manifest(self._require_manifest(path)[0], here))
        return {**content, "address": here, "facts": wrap_facts(content["facts"], here)}

    def _require_manifest(self, path: str) -> tuple[Json, Blob]:
        address, stored = f"{self.root}/{path}", self._bucket.read(self._name(f"{path}/{MANIFEST}"))
        if stored is None:
            raise NotFoundError(
                f"nothing is stored under {address}; `endcap run` makes it", code="store.not-found", address=address
            )
        return parse_manifest(stored[0], address), stored[1]

    def _note_use(self, manifest: Blob) -> bool:
        """Note that an artifact is used; return False if it is gone by now."""
        if manifest.age is None or manifest.age < uses.NOTED_EVERY:
            return True
        with contextlib.suppress(EndcapError):  # this process may only read here
            stored = self._bucket.read(manifest.name)
            if stored is None:
                return False
            # The same bytes have the same etag: whoever renews the time at once with this process does no harm.
            if self._bucket.write(manifest.name, stored[0], etag=stored[1].etag) is None:
                return self._bucket.stat(manifest.name) is not None
        return True

    @contextlib.contextmanager
    def workspace(self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None) -> Iterator[Path]:
        name = self._name(f".work/{kind}/{key}")
        lease = Lease(self._bucket, f"{name}.lease")
        with contextlib.ExitStack() as stack:
            lease.take(progress)
            stack.callback(_run_suppressed, lease.give_back)
            # A folder of its own: what an earlier process left here may be older than what another machine has kept.
            folder = stack.enter_context(make_scratch_folder(self._local / ".work" / ".workspaces"))
            mirror = CheckpointMirror(self._bucket, name, folder, lease, progress)
            stack.enter_context(_exit_on_sigterm())
            mirror.start()
            try:
                yield folder
            except BaseException:
                _run_suppressed(mirror.end)
                raise
            _run_suppressed(mirror.clear)

    def work_folder(self, kind: str, key: str) -> Path:
        folder = join_safely(self._local, f".work/{kind}/{key}", self.root)
        with report_storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list(self, kind: str) -> list[str]:
        prefix = self._name(f"{kind}/")
        folders = [blob.name for blob in self._bucket.list(prefix, recursive=False) if blob.name[-1] == "/"]
        names = [folder + MANIFEST for folder in folders]
        addresses = [self._bucket.address(folder.rstrip("/")) for folder in folders]
        artifacts = [
            (str(parse_manifest(content[0], address).get("created", "")), address)
            for address, content in zip(
                addresses, run_parallel(self._bucket.read, names, PARALLEL_REQUESTS), strict=True
            )
            if content is not None
        ]
        return [address for _, address in sorted(artifacts)]

    def list_kinds(self, kind: str) -> Sequence[str]:
        prefix = self._name(f"{kind}/")
        blobs = self._bucket.list(prefix, recursive=False)
        return sorted(f"{kind}/{blob.name[len(prefix) : -1]}" for blob in blobs if blob.name[-1] == "/")

    def list_uses(self, kind: str) -> Sequence[ArtifactUse]:
        prefix = self._name(f"{kind}/")
        artifacts: dict[str, list[Blob]] = {}
        for blob in self._bucket.list(prefix):
            key, separator, _ = blob.name.removeprefix(prefix).partition("/")
            if separator:
                artifacts.setdefault(key, []).append(blob)
        return [
            ArtifactUse(
                f"{self.root}/{kind}/{key}",
                _get_last_change(blobs),
                sum(blob.bytes for blob in blobs),
                f"{prefix}{key}/{MANIFEST}" in {blob.name for blob in blobs},
            )
            for key, blobs in sorted(artifacts.items())
        ]

    def remove(self, address: str, *, unused_since: datetime) -> bool:
        check_unused_since(unused_since)
        # Without conditions, whoever notes a use could bring back the manifest of what was just removed.
        self._conditions.require(address)
        prefix = self._name(f"{self._resolver.find_path(address)}/")
        blobs = self._bucket.list(prefix)
        if not blobs or _get_last_change(blobs) >= unused_since:
            return False
        manifest = self._bucket.stat(f"{prefix}{MANIFEST}")
        if manifest is not None and _get_last_change([manifest]) >= unused_since:
            return False
        self._bucket.remove([f"{prefix}{MANIFEST}"])
        self._bucket.remove(blob.name for blob in blobs)
        return True

    def erase(self, address: str) -> bool:
        # As with `remove`: a use that is noted now must not bring the manifest back.
        self._conditions.require(address)
        path = self._resolver.find_path(address)
        self._copies.remove(path)
        prefix = self._name(f"{path}/")
        blobs = self._bucket.list(prefix)
        if blobs:
            self._bucket.remove([f"{prefix}{MANIFEST}"])
            self._bucket.remove(blob.name for blob in blobs)
        return bool(blobs)

    def read_document(self, name: str) -> Json | None:
        stored = self._bucket.read(self._name(f"{name}.json"))
        return None if stored is None else self.translate(self._opened(name, stored[0]))

    def get_document_mark(self, name: str) -> str | None:
        stored = self._bucket.stat(self._name(f"{name}.json"))
        return None if stored is None else stored.etag

    def list_documents(self, folder: str) -> Sequence[str]:
        blobs = self._bucket.list(self._name(f"{folder}/"), recursive=False)
        files = [(blob.changed or _LONG_AGO, blob.name) for blob in blobs if blob.name.endswith(".json")]
        return [name.removeprefix(self._prefix).removesuffix(".json") for _, name in sorted(files, reverse=True)]

    def write_document(self, name: str, document: Json) -> None:
        self._resolver.note_place()
        self._bucket.write(self._name(f"{name}.json"), encode_document(stamp_document(get_kind(name), document)))

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[Hold]:
        what = f"{name} in {self.root}"
        self._conditions.require(what)
        lease = Lease(self._bucket, self._name(f".work/holds/{name}.lease"))
        with contextlib.ExitStack() as stack:
            with watch_call(f"another process that has {what}"):
                lease.take_turns(what)
            stack.callback(_run_suppressed, lease.give_back)
            yield lease

    def _update(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        object_, what = self._name(f"{name}.json"), f"{name} in {self.root}"
        if is_decisive(get_kind(name)):
            self._conditions.require(what)
        turns = ChangeAttempts(what, locks.CHANGE_PATIENCE)
        while True:
            stored = self._bucket.read(object_)
            before = (
                None if stored is None else read_unless_damaged(partial(self._opened, name, stored[0]), repair=repair)
            )
            document = change(before)
            if document is before:
                return document
            writer, content = uuid.uuid4().hex, encode_document(stamp_document(get_kind(name), document))
            etag = "" if stored is None else stored[1].etag
            if self._bucket.write(object_, content, absent=not etag, etag=etag, writer=writer) is not None:
                return document
            # The answer to a write that went well may have been lost: what was written is told by who wrote it.
            current = self._bucket.stat(object_)
            if current is not None and current.writer == writer:
                return document
            turns.wait()

    def find_path_here(self, address: str) -> str | None:
        path = address.removeprefix(f"{self.root}/")
        return path if address.startswith(f"{self.root}/") and not find_name_fault(path) else None

    def read_stored_manifest(self, path: str) -> Json | None:
        stored = self._bucket.read(self._name(f"{path}/{MANIFEST}"))
        return None if stored is None else parse_manifest(stored[0], f"{self.root}/{path}")

    def read_manifest_at(self, address: str) -> Json | None:
        if not address.startswith(S3):
            return read_foreign_manifest(address)
        # It may be in a bucket that is gone, or of others, or on another server.
        with contextlib.suppress(EndcapError):
            name, path = split_address(address)
            bucket = self._bucket if name == self._bucket.name else Bucket(name, self._bucket.settings)
            stored = bucket.read(f"{path}/{MANIFEST}")
            return None if stored is None else parse_foreign_manifest(stored[0], address)
        return None

    def read_places(self) -> PlaceEntries:
        stored = self._bucket.read(self._name(f"{PLACES}.json"))
        return [] if stored is None else list(self._opened(PLACES, stored[0]).get(PLACES, ()))

    def _opened(self, name: str, content: bytes) -> Json:
        return parse_document(name, content, f"{name} in {self.root}")

    def _name(self, path: str) -> str:
        check_name(path.rstrip("/"), self.root)
        return f"{self._prefix}{path}"


def _get_last_change(blobs: Sequence[Blob]) -> datetime:
    """The time of the newest object; now, if the server does not say when each was written."""
    return max(blob.changed or datetime.now(UTC) for blob in blobs)


def split_address(address: str) -> tuple[str, str]:
    """Split ``s3://bucket/path`` into bucket and path. Raises UserError if the address has no bucket."""
    bucket, _, path = address.removeprefix(S3).partition("/")
    if ":" in bucket or "@" in bucket:
        raise UserError(
            f"s3://{HIDDEN}: found more than a bucket's name; allowed: s3://bucket or s3://bucket/prefix. Keys are "
            "named by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server by ENDCAP_S3_ENDPOINT",
            code="store.bucket-name",
            address=f"s3://{HIDDEN}",
            found=HIDDEN,
        )
    if not 3 <= len(bucket) <= 63 or not set(bucket) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_"):
        raise UserError(
            f"{address}: found {bucket!r} as the bucket; allowed: s3://bucket or s3://bucket/prefix",
            code="store.bucket-name",
            address=address,
            found=bucket,
        )
    return bucket, path.strip("/")


def _run_suppressed(end: Callable[[], None]) -> None:
    """Tidy up without hiding how the work itself ended."""
    with contextlib.suppress(EndcapError):
        end()


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
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

"""How an artifact appears in a bucket: all of it at once, and one writer's copy of it, though nothing can be renamed.

The files of an artifact lie under its address by their plain names, for others that know nothing of Endcap read them
there (KServe downloads what begins with the address). So two writers of one key write to the same names, and training
need not give them the same bytes. A writer that was believed dead may wake at any moment and go on: whatever it then
sends must not be able to differ. Therefore no writer sends its own files to the address:

1. Draft. A writer uploads its files below ``.drafts/<kind>/<key>/<its own random name>/``, which nobody else writes to
   but machines that work for it.
2. Choice. It puts ``choice.json`` beside the drafts, on the condition that there is none: which draft, and the manifest
   (names, sizes, checksums). One writer's choice stands; the others read it, and take it for their own.
3. Copies. Whoever has read the choice has the server copy the chosen draft's files to their plain names. All writers
   copy the same objects, so the order, the number and the lateness of copies do not matter.
4. Manifest. When every copy is there in its size, the manifest is put, on the condition that there is none. Only with
   it the artifact is found. Then the choice, then the drafts are removed.

A writer looks for the manifest after it has seen a choice, and before it copies: a choice can only have been removed
after the manifest was there. So one that comes late, finds no choice and makes its own, copies nothing. Where the
chosen draft has been removed while there is no manifest (its writer died, and a sweep took its draft), the choice is
replaced on the condition that it is still that one.

A killed writer leaves a draft, and perhaps a choice that the next writer of the key carries out. What nobody touched
for a day is swept by later writers, drafts before choices, so that no copy of a swept choice can begin any more.

A server that ignores the conditions, or looks and writes in two steps, may let two choices follow each other. So the
choice is read once more before the manifest is put, and where it is another one by then, that one is carried out. What
remains are moments; there the checksums refuse what they left.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from endcap.errors import IntegrityError, NotFoundError
from endcap.safe_reading import parse_json
from endcap.store.artifact_files import encode_document
from endcap.store.base import MANIFEST, Json
from endcap.store.bucket import PARALLEL_REQUESTS, Blob, Bucket, run_parallel
from endcap.store.documents import open_document

ABANDONED_AFTER = timedelta(days=1)
_CHOICE = "choice.json"
_DRAFT = re.compile(r"[0-9a-f]{32}")
_WRITER_PREFIX = re.compile(rf"(.*?/)({re.escape(_CHOICE)}$|[0-9a-f]{{32}}/)")


class Publication:
    """One writer's attempt to publish an artifact.

    Parameters
    ----------
    bucket
        The bucket.
    root
        The beginning of the names of the store's objects.
    place
        The artifact's ``<kind>/<key>``.
    """

    def __init__(self, bucket: Bucket, root: str, place: str) -> None:
        self._bucket, self._root = bucket, root
        self._place = f"{root}{place}/"
        self._manifest = f"{self._place}{MANIFEST}"
        self._drafts = f"{root}.drafts/{place}/"
        self._choice = f"{self._drafts}{_CHOICE}"
        self._own = uuid.uuid4().hex
        self.address = bucket.address(f"{self._drafts}{self._own}")
        """Where this writer's draft lies."""

    def publish(self, folder: Path, manifest: Json, sent: Collection[str] = ()) -> bool:
        """Publish the files of a folder, and those that lie in the draft already.

        Parameters
        ----------
        folder
            The folder.
        manifest
            The manifest of all the files.
        sent
            The names of the files that lie in the draft.

        Returns
        -------
        bool
            False if another writer was first. The artifact then has that writer's files.

        Raises
        ------
        IntegrityError
            The choice of another writer is damaged.
        StorageError, TransientError
            The server refuses, or does not answer.
        """
        self._sweep()
        if self._is_published():
            return False
        self._upload(folder, {name: file for name, file in manifest["files"].items() if name not in sent})
        own: Json = {"draft": self._own, "manifest": manifest}
        choice, etag = self._choose(own)
        carried_out: Json | None = None
        while not self._is_published():
            if choice == carried_out:
                self._bucket.write(self._manifest, encode_document(choice["manifest"]), absent=True)
                break
            try:
                self._copy(choice)
                carried_out = choice
                choice, etag = self._choose(own)
            except NotFoundError:
                choice, etag = self._choose(own, replaced=etag)
        self._bucket.remove([self._choice])
        for draft_choice in (own, choice):
            self._bucket.remove(
                f"{self._drafts}{draft_choice['draft']}/{name}" for name in draft_choice["manifest"]["files"]
            )
        published = self._bucket.read(self._manifest)
        return published is not None and published[0] == encode_document(manifest)

    def _is_published(self) -> bool:
        return self._bucket.stat(self._manifest) is not None

    def remove_draft(self) -> None:
        """Remove all that lies in the draft, published or not."""
        self._bucket.remove(blob.name for blob in self._bucket.list(f"{self._drafts}{self._own}/"))

    def _upload(self, folder: Path, described: Json) -> None:
        def upload(name: str) -> None:
            with (folder / name).open("rb") as handle:
                self._bucket.upload(f"{self._drafts}{self._own}/{name}", handle, described[name]["sha256"])

        _run_all(run_parallel(upload, described))

    def _choose(self, own: Json, *, replaced: str | None = None) -> tuple[Json, str]:
        """Return the valid choice and its etag: `own` if there was none, or if it took the place of `replaced`."""
        if replaced:
            self._bucket.write(self._choice, encode_document(own), etag=replaced)
        while True:
            self._bucket.write(self._choice, encode_document(own), absent=True)
            stored = self._bucket.read(self._choice)
            if stored is not None:
                return self._parse_choice(stored[0]), stored[1].etag

    def _parse_choice(self, content: bytes) -> Json:
        """Parse and check another writer's choice, because its names become names of objects."""
        where = self._bucket.address(self._choice)
        try:
            choice = parse_json(content)
            draft, manifest = choice["draft"], choice["manifest"]
        except (ValueError, TypeError, KeyError) as error:
            raise IntegrityError(
                f"{where} is not a valid choice of a draft ({error}); delete it and run again",
                code="store.damaged",
                address=where,
                file=_CHOICE,
                fault="unreadable",
            ) from None
        open_document("manifest", manifest, where)
        if not isinstance(draft, str) or not _DRAFT.fullmatch(draft):
            raise IntegrityError(
                f"{where} names a draft that no writer has; delete it and run again",
                code="store.damaged",
                address=where,
                file=_CHOICE,
                fault="unreadable",
            )
        return dict(choice)

    def _copy(self, choice: Json) -> None:
        """Have the server copy the files of the chosen draft. Raises NotFoundError if the draft was removed."""
        described: dict[str, Any] = choice["manifest"]["files"]
        draft = f"{self._drafts}{choice['draft']}/"
        _run_all(
            run_parallel(lambda name: self._bucket.copy(draft + name, self._place + name), described, PARALLEL_REQUESTS)
        )
        sizes = {blob.name.removeprefix(self._place): blob.bytes for blob in self._bucket.list(self._place)}
        for name in described:
            if sizes.get(name) != described[name]["bytes"]:
                self._check(self._place + name, described[name]["bytes"])

    def _check(self, copied: str, size: int) -> None:
        """Ask for a copy that a listing does not show as it should be."""
        copy = self._bucket.stat(copied)
        if copy is None or copy.bytes != size:
            state = "missing" if copy is None else f"{copy.bytes:,} bytes"
            raise IntegrityError(
                f"{self._bucket.address(copied)} is {state} after it was copied, {size:,} bytes are expected: "
                "does something else write there? Nothing was published; run again",
                code="store.copy-differs",
                address=self._bucket.address(copied),
                found=None if copy is None else copy.bytes,
                expected=size,
            )

    def _sweep(self) -> None:
        """Remove what killed writers left."""
        groups: dict[str, list[Blob]] = {}
        for blob in self._bucket.list(f"{self._root}.drafts/"):
            if of := _WRITER_PREFIX.match(blob.name):
                groups.setdefault(of[1], []).append(blob)
        for group, blobs in groups.items():
            if self._abandoned(blobs):
                drafts = [blob.name for blob in blobs if blob.name != group + _CHOICE]
                self._bucket.remove(drafts)
                self._bucket.remove([group + _CHOICE])

    def _abandoned(self, blobs: list[Blob]) -> bool:
        newest = max(blobs, key=lambda blob: blob.changed or datetime.now(UTC))
        if newest.changed is None or datetime.now(UTC) - newest.changed < ABANDONED_AFTER:
            return False
        # This machine's clock may be wrong; the server's own tells for sure.
        newest_now = self._bucket.stat(newest.name)
        return newest_now is not None and newest_now.age is not None and newest_now.age > ABANDONED_AFTER


def _run_all(results: Any) -> None:
    for _ in results:
        pass

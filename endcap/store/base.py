"""What a store promises. A folder on a laptop and a bucket in a cluster keep the same promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from endcap.store.uses import ArtifactUse

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.safetensors"
"""The name of the files in a workspace that outlive the machine. Replace them by renaming alone."""
Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class Draft:
    """An artifact that is being written. Fill `path` and `facts`; it is published if the block ends well.

    Attributes
    ----------
    path
        A folder of this machine for the artifact's files, empty at first.
    address
        The artifact's address.
    staged
        The address at which other machines put files of the artifact (`endcap.store.staging`).
    facts
        The facts of its manifest.
    sent
        The artifact's files that other machines put there, by name, each with ``bytes`` and ``sha256``. This machine
        does not read them. What else lies there is not published from a bucket.
    is_shared
        Whether other machines were given `staged`.
    """

    path: Path
    address: str
    staged: str
    facts: Json = field(default_factory=dict)
    sent: Json = field(default_factory=dict)
    is_shared: bool = False

    def share(self) -> str:
        """Return the address at which other machines put files. What they leave there is removed with the draft."""
        self.is_shared = True
        return self.staged


class Hold(Protocol):
    """A name that only this process holds, for the length of a block."""

    def check(self) -> None:
        """Check that this process still holds the name. Call it right before a step that two processes must not take.

        Raises TransientError (`store.hold-lost`) if another process holds the name now, for example after this process
        was stopped for a while.
        """


def get_content_key(address: str) -> str:
    """Return kind and key of an artifact's address: they are the same in every store."""
    return "/".join(address.rstrip("/").split("/")[-3:])


def split_artifact_address(address: str) -> tuple[str, str, str] | None:
    """Split an artifact's address into the two parts of its kind and its key; None if it is too short for that."""
    scheme, separator, place = address.partition("://")
    parts = (place if separator else scheme).rstrip("/").split("/")
    if len(parts) < 4 or any(part in ("", ".", "..") for part in parts[-3:]):
        return None
    return parts[-3], parts[-2], parts[-1]


class Store(Protocol):
    """A place for immutable artifacts and a few small mutable documents.

    An artifact is a folder ``<root>/<kind>/<key>``. It is complete once its manifest is there. `kind` is a path such as
    ``datasets/rsc15``; `key` is the fingerprint of everything that made the artifact. The manifest holds ``address``,
    ``created`` (UTC, ISO 8601), ``facts`` and ``files`` (by name: ``bytes`` and ``sha256``).

    A store may be moved, copied or mounted elsewhere. Its artifacts can then be read by the old address, by the new
    address, or by kind and key alone (`endcap.store.resolution`). Manifests and documents that are read contain the
    new addresses.

    Manifests, facts and documents get a version when they are written, which is left out again when they are read
    (`endcap.store.documents`). UserError reports one that a newer release wrote.
    """

    root: str

    def find(self, kind: str, key: str) -> str | None:
        """Return the address of a complete artifact, or None."""

    def publish(self, kind: str, key: str) -> AbstractContextManager[Draft]:
        """Write an artifact in a block: it appears complete when the block ends well, or not at all.

        If another writer published the same kind and key first, that copy stays.

        Parameters
        ----------
        kind, key
            Where the artifact belongs.

        Returns
        -------
        AbstractContextManager[Draft]
            Gives the draft to fill: its `path` is an empty folder, its `facts` an empty dictionary. Other machines
            may put files to the address that its `share` returns; name these in its `sent`.

        Raises
        ------
        StorageError, TransientError
            The disk or the server refuses. Nothing was published.
        """

    def fetch(self, address: str, *, verify: bool = False, names: Sequence[str] | None = None) -> Path:
        """Return a local folder with the artifact's files.

        Parameters
        ----------
        address
            The artifact's address, or its kind and key.
        verify
            Compare every file's checksum with the manifest; otherwise only the sizes are compared.
        names
            The names of the files that are needed: a bucket's store brings no others. None: all.

        Returns
        -------
        pathlib.Path
            The folder. Do not write to it: a folder's store returns the artifact itself.

        Raises
        ------
        NotFoundError
            There is no such artifact.
        IntegrityError
            A file is missing or differs, or the address belongs to another store's artifact with other files.
        """

    def resolve(self, address: str, *, digest: str = "") -> str:
        """Return the address that the artifact at `address` has in this store.

        An address of this store, or kind and key alone, need not exist. An address of another place must name an
        artifact that this store has.

        Parameters
        ----------
        address
            As `fetch` takes it.
        digest
            The digest of the artifact's files (`digest_manifest`), if it is known. The files must then match it.

        Raises
        ------
        NotFoundError
            Nothing shows that this store has the artifact.
        IntegrityError
            This store's artifact of the same kind and key has other files.
        """

    def translate(self, value: T) -> T:
        """Replace former addresses of this store in a value by the present ones.

        Use it for values that belong to this store, such as those in its registry.

        Parameters
        ----------
        value
            A text, or lists and dictionaries of such; everything else is returned as it is.
        """

    def lies_at(self, address: str) -> bool:
        """Tell whether an artifact of this store can also be read at this address, with the same files."""

    def manifest(self, address: str) -> Json:
        """Return the artifact's manifest. Raises NotFoundError if there is no such artifact."""

    def workspace(
        self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None
    ) -> AbstractContextManager[Path]:
        """Give a block a local folder for unfinished work. One process at a time has it for a kind and key.

        A second process waits for the first. It should then call `find` again: the artifact may be there.

        Parameters
        ----------
        kind, key
            The artifact that the work is for.
        progress
            Called with a line for a person, for example when the process has to wait.

        Returns
        -------
        AbstractContextManager[Path]
            Gives the folder.

        Notes
        -----
        The folder is removed when the block ends well. After a failure or a kill, the next entry finds the files named
        CHECKPOINT again, at any depth, and can continue from them; a store in a bucket restores them on any machine. A
        local folder may contain more files, which nobody may rely on.
        """

    def work_folder(self, kind: str, key: str) -> Path:
        """Return a local folder that stays, the same for the same kind and key. Callers must coordinate themselves."""

    def list(self, kind: str) -> list[str]:
        """List the addresses of all complete artifacts of a kind, oldest first."""

    def list_kinds(self, kind: str) -> Sequence[str]:
        """List the kinds right below a path, by name: ``datasets`` gives ``datasets/rsc15``, and so on."""

    def list_uses(self, kind: str) -> Sequence[ArtifactUse]:
        """List the artifacts of a kind, each with its size and its last use, by address."""

    def remove(self, address: str, *, unused_since: datetime) -> bool:
        """Remove an artifact, unless somebody has used it.

        Parameters
        ----------
        address
            The artifact's address.
        unused_since
            Remove it only if its last use is earlier; UTC, and at least `LEAST_UNUSED` ago.

        Returns
        -------
        bool
            Whether it was removed. False: it was used since, or is gone.

        Raises
        ------
        ValueError
            `unused_since` is too late.
        StorageError, TransientError
            The disk or the server refuses.

        Notes
        -----
        Nobody finds a part of it: in a folder it disappears in one step, in a bucket its manifest goes first. In a
        bucket a moment remains between the last look and the removal; who finds the artifact within it fails later,
        and the next run makes the artifact again.
        """

    def erase(self, address: str) -> bool:
        """Remove an artifact whoever may use it, and this machine's copy of it.

        Use it for what must not be kept. `remove` is for all else.

        Parameters
        ----------
        address
            The artifact's address.

        Returns
        -------
        bool
            Whether there was something to remove.

        Raises
        ------
        StorageError, TransientError
            The disk or the server refuses.

        Notes
        -----
        Nobody finds a part of it, as with `remove`. Who works with it may fail. After a kill in a bucket, files without
        a manifest remain: call it again.
        """

    def read_document(self, name: str) -> Json | None:
        """Read a small mutable JSON document, such as ``deployments/rsc15``; None if there is none."""

    def get_document_mark(self, name: str) -> str | None:
        """Return a mark of a document that is another one after each change; None if there is no document.

        It costs far less than reading a large document. Take the mark before you read: what you read is then as new as
        the mark, or newer.
        """

    def list_documents(self, folder: str) -> Sequence[str]:
        """List the names of the documents right below a path, such as ``runs``; the last changed comes first.

        The path must not hold artifacts.
        """

    def write_document(self, name: str, document: Json) -> None:
        """Replace a document durably and in one step. If two processes write at once, the later document stays."""

    def update_document(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        """Change a document without losing the change of another process.

        Parameters
        ----------
        name
            The document's name.
        change
            Gets the present document, or None, and returns the new one. It may be called again with a newer document,
            so it must have no side effects. If it returns the object that it got, nothing is written.
        repair
            Replace a document that is not a JSON object: `change` then gets None.

        Returns
        -------
        dict
            The document that is stored now.

        Raises
        ------
        IntegrityError
            The document is not a JSON object, and `repair` is false (`store.no-document`).
        UserError
            A newer release wrote the document, which stays as it is.
        TransientError
            Other processes change the document all the time (`store.contended`).
        StorageError
            The document decides something, and the server cannot keep two writers apart (`store.no-conditions`).
        """

    def hold(self, name: str) -> AbstractContextManager[Hold]:
        """Hold a name, such as ``decisions/shoes``, for the length of a block. Other processes wait for it.

        The name is free again when the holder ends, in whatever way: at once in a folder, after at most 30 seconds in a
        bucket.

        Raises
        ------
        TransientError
            Another process has held the name for five minutes (`store.contended`).
        StorageError
            The server cannot keep two writers apart (`store.no-conditions`).
        """

"""What a store promises. A folder on a laptop and a bucket in a cluster keep the same promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.safetensors"
"""The name of the files in a workspace that outlive the machine. Replace them by renaming alone."""
Json = dict[str, Any]
T = TypeVar("T")


@dataclass
class Draft:
    """An artifact that is being written. Fill `path` and `facts`; it is published if the block ends well."""

    path: Path
    address: str
    facts: Json = field(default_factory=dict)


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
    """Artifacts are immutable folders under `<root>/<kind>/<key>`; whole once their manifest is there.

    In a store that was moved, copied or mounted elsewhere, an artifact is read by its address of then, by its address
    now, and by kind and key alone (`endcap.store.resolution`). What comes out of a manifest or a document has the
    addresses of now.

    `kind` is a path such as ``datasets/rsc15``; `key` is the fingerprint of everything that made the artifact.
    The manifest holds ``address``, ``created`` (UTC, ISO), ``facts`` and ``files`` (name -> bytes, sha256). Manifests,
    facts and documents are stamped with their versions as they are written, and come without the stamp as they are
    read (`endcap.store.documents`): UserError where a newer release wrote them.
    """

    root: str

    def find(self, kind: str, key: str) -> str | None:
        """Return the address of a complete artifact, or None."""

    def publish(self, kind: str, key: str) -> AbstractContextManager[Draft]:
        """Write an artifact: it appears complete or not at all. If another writer was first, its copy stays."""

    def fetch(self, address: str, *, verify: bool = False) -> Path:
        """Return a local folder with the artifact's files. `verify` compares every checksum.

        Raises NotFoundError if there is no such artifact. Raises IntegrityError if a file is missing or differs, or if
        the address belongs to another store's artifact with other files.
        """

    def resolve(self, address: str, *, digest: str = "") -> str:
        """The address in this store of the artifact at `address`, as `fetch` takes it; what is named by this store's
        own address, or by kind and key alone, need not be there.

        digest: of the artifact that is meant (`digest_manifest` of its manifest), where it is known. Raises as `fetch`.
        """

    def translate(self, value: T) -> T:
        """A value out of this store's own papers, such as its registry: addresses in it as they are now."""

    def lies_at(self, address: str) -> bool:
        """Tell whether an artifact of this store can also be read at this address, with the same files."""

    def manifest(self, address: str) -> Json:
        """Return the artifact's manifest. Raises NotFoundError if there is no such artifact."""

    def workspace(
        self, kind: str, key: str, progress: Callable[[str], None] = lambda line: None
    ) -> AbstractContextManager[Path]:
        """A local folder for unfinished work, the same for the same kind and key, and one process's at a time.

        A second process waits for the first, which `progress` is told, and should then look with `find` again. The
        folder is removed when the block ends well. After a failure or a kill its files named CHECKPOINT, at any depth,
        are there again at the next entry, so that they are gone on from: in a bucket on any machine. More may be left
        in a local folder; nobody may build on that.
        """

    def work_folder(self, kind: str, key: str) -> Path:
        """A local folder that stays, the same for the same kind and key, for processes that keep apart themselves."""

    def list(self, kind: str) -> list[str]:
        """List the addresses of all complete artifacts of a kind, oldest first."""

    def read_document(self, name: str) -> Json | None:
        """Read a small mutable JSON document, such as ``deployments/rsc15``; None if there is none."""

    def list_documents(self, folder: str) -> Sequence[str]:
        """Names of the documents right below a path that holds no artifacts, such as ``runs``; last changed first."""

    def write_document(self, name: str, document: Json) -> None:
        """Replace a document durably and in one step. If two processes write at once, the later document stays."""

    def update_document(self, name: str, change: Callable[[Json | None], Json], *, repair: bool = False) -> Json:
        """Replace a document by what `change` makes of it, and return that: no writer's change is lost to another's.

        `change` may be called again with a newer document, so it does nothing else. Where it returns the very document
        that it was given, nothing is written. repair: a document that is no JSON object is replaced, `change` is given
        None for it. Raises IntegrityError (`store.no-document`) for one without `repair`; UserError for one of a newer
        release, which stays; TransientError (`store.contended`) where others change it all the time; StorageError
        (`store.no-conditions`) where the server cannot keep two writers apart and the document decides something.
        """

    def hold(self, name: str) -> AbstractContextManager[Hold]:
        """Have a name, such as ``decisions/shoes``, to oneself for the length of the block; others wait for it.

        The holder's end frees it, however it ends: in a folder at once, in a bucket after half a minute at most. Raises
        TransientError (`store.contended`) where another process has it for five minutes, and as `update_document`.
        """

"""What runs before this one learnt of source files, so that an unchanged file is neither fetched nor hashed again.

A document of the store keeps it, by each file's address and mark. It only saves time: a document that is damaged, lost
or older than the code that tells kinds of files has the files read again. Who reads a file compares it with the digest
that was known (`SourceFile.check_unchanged`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from endcap.errors import DataError, EndcapError, IntegrityError, UserError
from endcap.progress import Notice
from endcap.store import Store, fingerprint_code
from endcap.store.read_only import is_read_only

KIND = "source-indexes"
LIMIT = 100_000
"""The most files in a document."""
DETECTION = ("endcap.sources.file_kinds:read_kind", "endcap.sources.archives:find_member")
"""The entries of the code that tells what a file is by its bytes."""
Json = dict[str, Any]


class ListedFile(Protocol):
    """A file where it lies, as it was at the search: on this machine, or in a bucket."""

    @property
    def name(self) -> str:
        """Its path or address."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def mark(self) -> str:
        """A text that is another one when its state is."""

    def fetch(self) -> Path:
        """Return a local file with its bytes, which are copied to this machine if need be."""

    def is_unchanged(self) -> bool:
        """Tell whether the local file is still what was found."""

    def is_settled(self) -> bool:
        """Tell whether the mark stands for what was read since the search."""


@dataclass(frozen=True)
class FileContent:
    """What is known of a file's bytes.

    Attributes
    ----------
    kind
        The typed format or archive that the first bytes show; empty: neither.
    member
        The name of the only file in an archive; empty: it was not looked up.
    sha256
        The SHA-256 of the bytes, in hex; empty: they were not hashed.
    """

    kind: str
    member: str = ""
    sha256: str = ""


@dataclass
class SourceIndex:
    """What is known of a shop's files, by their address and mark.

    Parameters
    ----------
    store
        The store with the document. None: nothing is kept.
    name
        The document's name.
    progress
        Takes a line if the document cannot be written.
    """

    store: Store | None = None
    name: str = ""
    progress: Callable[[str], None] = lambda line: None
    _known: dict[str, Json] = field(default_factory=dict, init=False)
    _met: dict[str, None] = field(default_factory=dict, init=False)
    """Addresses that were looked up, in this order."""
    _noted: dict[str, Json] = field(default_factory=dict, init=False)
    _forgotten: set[str] = field(default_factory=set, init=False)

    def load(self) -> None:
        """Read the document. Raises StorageError, TransientError."""
        if self.store is None:
            return
        try:
            self._known = _select(self.store.read_document(self.name))
        except IntegrityError:
            pass  # it is replaced when something is noted
        except UserError:  # a newer release wrote it
            self.store = None

    def find(self, file: ListedFile) -> FileContent | None:
        """Return what is known of a file; None if nothing is, or if it has changed."""
        self._met[file.name] = None
        entry = self._known.get(file.name)
        if entry is None or entry["mark"] != file.mark:
            return None
        return FileContent(entry["kind"], entry["member"], entry["sha256"])

    def note(self, file: ListedFile, content: FileContent) -> None:
        """Note what a file holds, unless it changed so lately that its mark may stand for another content too."""
        with contextlib.suppress(OSError):
            if self.store is not None and file.is_settled():
                self._noted[file.name] = {"mark": file.mark, **asdict(content)}

    def learn(self, file: ListedFile, content: FileContent, *, is_settled: bool) -> None:
        """Take what another machine read of a file: for this run, and for later ones if the file is settled there."""
        self._known[file.name] = {"mark": file.mark, **asdict(content)}
        if self.store is not None and is_settled:
            self._noted[file.name] = self._known[file.name]

    def forget(self, address: str) -> None:
        """Forget what is known of a file, so that the next run reads it again."""
        self._noted.pop(address, None)
        if self._known.pop(address, None) is not None:
            self._forgotten.add(address)

    def save(self) -> None:
        """Write what was noted and forgotten into the document. If that fails, the next run has to learn it again."""
        if self.store is None or is_read_only() or not (self._noted or self._forgotten):
            return
        try:
            document = self.store.update_document(self.name, self._merge, repair=True)
        except EndcapError as error:
            self.progress(Notice(f"the next run will read the same files again: {error}", document=self.name))
            self.store = None
            return
        self._known = _select(document)
        self._noted.clear()
        self._forgotten.clear()

    def _merge(self, before: Json | None) -> Json:
        """Return the document with what was noted here.

        Of files that this run did not meet, such as those of the same shop under another overlay, as many stay as it
        met.
        """
        kept = {name: entry for name, entry in _select(before).items() if name not in self._forgotten} | self._noted
        met = {name: kept.pop(name) for name in self._met if name in kept}
        files = met | dict(itertools.islice(kept.items(), len(met)))
        return {"code": fingerprint_code(*DETECTION), "files": dict(itertools.islice(files.items(), LIMIT))}


@contextlib.contextmanager
def open_source_index(store: Store | None, shop: str, progress: Callable[[str], None]) -> Iterator[SourceIndex]:
    """Read what is known of a shop's files for a block, and keep what the block learns.

    Parameters
    ----------
    store
        The store with the document. None: nothing is known, and nothing is kept.
    shop
        The shop's name.
    progress
        Takes a line if the document cannot be written.

    Raises
    ------
    StorageError, TransientError
        The store does not answer.

    Notes
    -----
    A file that an error of the block names is forgotten, in case that what was known of it was wrong.
    """
    index = SourceIndex(store, f"{KIND}/{shop}", progress)
    index.load()
    try:
        yield index
    except DataError as error:
        index.forget(str(error.fields.get("path", "")))
        raise
    finally:
        index.save()


def _select(document: Json | None) -> Json:
    """Return a document's entries; none if other code told the kinds of its files."""
    if document is None or document["code"] != fingerprint_code(*DETECTION):
        return {}
    return dict(document["files"])

"""The documents that hold a log of a recommender: entries in their order, and the policies they name.

The log of its rollouts is one, and that of its A/B tests another. `LogFormat` says in what they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from endcap.errors import IntegrityError
from endcap.store import Store

Json = dict[str, Any]
ENTRIES_PER_DOCUMENT = 100
"""A look every ten minutes fills a document in 17 hours. A larger one takes longer to write at each look."""


class LoggedEntry(Protocol):
    """What every log knows of its entries."""

    @property
    def number(self) -> int:
        """From 0 on, without a gap."""

    @property
    def policy(self) -> str:
        """The digest of the policy."""

    def to_json(self) -> Json:
        """Return the entry as JSON values."""


Entry = TypeVar("Entry", bound=LoggedEntry)
Policy = TypeVar("Policy")


@dataclass(frozen=True)
class LogFormat(Generic[Entry, Policy]):
    """What a log consists of.

    Attributes
    ----------
    folder
        The documents are `<folder>/<recommender>/log-<number>`.
    subject
        What it is of, for errors: rollouts.
    remedy
        What to do besides restoring a damaged log.
    parse_entry, parse_policy
        Read what was written. They raise KeyError, TypeError or ValueError for anything else.
    dump_policy
        Returns a policy as JSON values.
    """

    folder: str
    subject: str
    remedy: str
    parse_entry: Callable[[Json], Entry]
    parse_policy: Callable[[Json], Policy]
    dump_policy: Callable[[Policy], Json]


class LogDocuments(Generic[Entry, Policy]):
    """The documents of one recommender's log.

    Parameters
    ----------
    store
        Holds the documents.
    recommender
        Its name.
    form
        What the log consists of.
    """

    def __init__(self, store: Store, recommender: str, form: LogFormat[Entry, Policy]) -> None:
        self.store = store
        self.recommender = recommender
        self.form = form
        self._newest: tuple[str, str, Json] | None = None
        """Name, mark and content of the document that was read last. Loops look at the newest document every two
        seconds, and it changes seldom."""

    def read_entries(self) -> Iterator[Entry]:
        """Read all entries, oldest first. Raises IntegrityError for a damaged document."""
        for document in self.read_all():
            yield from (self.parse(entry) for entry in document["entries"])

    def read_backwards(self) -> Iterator[Entry]:
        """Read all entries, newest first. Raises IntegrityError for a damaged document."""
        for place in reversed(range(self._count())):
            yield from (self.parse(entry) for entry in reversed(self._read(place)["entries"]))

    def read_policy(self, digest: str) -> Policy:
        """Read the policy that entries name by its digest. Raises IntegrityError if the log lacks it."""
        for place in reversed(range(self._count())):
            policies = self._read(place)["policies"]
            if digest in policies:
                return self.form.parse_policy(policies[digest])
        raise self.make_difference(None, f"no policy has the digest {digest}")

    def read_all(self) -> Iterator[Json]:
        """Read the documents, oldest first."""
        return (self._read(place) for place in range(self._count()))

    def append(self, make: Callable[[Entry | None], Entry], policy: Policy) -> Entry:
        """Append what `make` makes of the last entry, unless that is the last entry itself. Returns the last entry."""
        while True:
            count = self._count()
            entries = self._read(count - 1)["entries"] if count else []
            if count and len(entries) < ENTRIES_PER_DOCUMENT:
                appended = self._append_to(count - 1, None, make, policy)
            else:
                # A full document changes no more, so the first entry of the next one follows its last.
                last = self.parse(entries[-1]) if count else None
                entry = make(last)
                appended = entry if entry is last else self._append_to(count, last, make, policy)
            if appended is not None:
                return appended

    def parse(self, document: Json) -> Entry:
        """Parse an entry. Raises IntegrityError if it cannot be read."""
        try:
            return self.form.parse_entry(document)
        except (KeyError, TypeError, ValueError) as error:
            raise self.make_difference(document.get("number"), f"it cannot be read ({error!r})") from None

    def make_difference(self, number: int | None, cause: str) -> IntegrityError:
        """Make the error for a log that is not as Endcap wrote it. number: the entry's; None: the whole log."""
        entry = "the log" if number is None else f"entry {number} of the log"
        return IntegrityError(
            f"{entry} of {self.recommender}'s {self.form.subject} in {self.store.root} is not as Endcap wrote it: "
            f"{cause}. Restore the store's documents from a copy, or {self.form.remedy}",
            code="experiments.log-differs",
            recommender=self.recommender,
            number=number,
            cause=cause,
        )

    def _append_to(
        self,
        place: int,
        opening: Entry | None,
        make: Callable[[Entry | None], Entry],
        policy: Policy,
    ) -> Entry | None:
        """Append to one document; None if it has become full meanwhile. opening: the last entry before the document."""
        result: list[Entry | None] = []

        def changed(document: Json | None) -> Json:
            result.clear()
            entries = [] if document is None else document["entries"]
            if len(entries) >= ENTRIES_PER_DOCUMENT:
                result.append(None)
                assert document is not None
                return document
            last = self.parse(entries[-1]) if entries else opening
            entry = make(last)
            result.append(entry)
            if entry is last:
                assert document is not None
                return document
            policies = {} if document is None else document["policies"]
            dumped = self.form.dump_policy(policy)
            return {"entries": [*entries, entry.to_json()], "policies": {**policies, entry.policy: dumped}}

        self.store.update_document(self._name(place), changed)
        return result[-1]

    def _count(self) -> int:
        prefix = f"{self._folder}/log-"
        names = [name for name in self.store.list_documents(self._folder) if name.startswith(prefix)]
        return max((int(name.removeprefix(prefix)) + 1 for name in names), default=0)

    def _read(self, place: int) -> Json:
        """Read a document. Callers must not change it."""
        name = self._name(place)
        mark = self.store.get_document_mark(name)
        if self._newest is not None and mark is not None and self._newest[:2] == (name, mark):
            return self._newest[2]
        document = self.store.read_document(name)
        if document is None:
            raise self.make_difference(None, f"the document {name} is missing")
        self._newest = None if mark is None else (name, mark, document)
        return document

    @property
    def _folder(self) -> str:
        return f"{self.form.folder}/{self.recommender}"

    def _name(self, place: int) -> str:
        return f"{self._folder}/log-{place:06}"

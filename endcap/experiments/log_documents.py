"""The documents that hold the log of a recommender's rollouts: entries in their order, and the policies they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from endcap.errors import IntegrityError
from endcap.experiments.log_entry import Json, RolloutLogEntry
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

ENTRIES_PER_DOCUMENT = 100
"""A look every ten minutes fills a document in 17 hours. A larger one takes longer to write at each look."""


class LogDocuments:
    """The documents of one recommender's log.

    Parameters
    ----------
    store
        Holds the documents `rollouts/<recommender>/log-<number>`.
    recommender
        Its name.
    """

    def __init__(self, store: Store, recommender: str) -> None:
        self.store = store
        self.recommender = recommender

    def read_entries(self) -> Iterator[RolloutLogEntry]:
        """Read all entries, oldest first. Raises IntegrityError for a damaged document."""
        for document in self.read_all():
            yield from (self.parse(entry) for entry in document["entries"])

    def read_backwards(self) -> Iterator[RolloutLogEntry]:
        """Read all entries, newest first. Raises IntegrityError for a damaged document."""
        for place in reversed(range(self._count())):
            yield from (self.parse(entry) for entry in reversed(self._read(place)["entries"]))

    def read_policy(self, digest: str) -> RolloutSpec:
        """Read the policy that entries name by its digest. Raises IntegrityError if the log lacks it."""
        for place in reversed(range(self._count())):
            policies = self._read(place)["policies"]
            if digest in policies:
                return RolloutSpec.model_validate(policies[digest])
        raise self.make_difference(None, f"no policy has the digest {digest}")

    def read_all(self) -> Iterator[Json]:
        """Read the documents, oldest first."""
        return (self._read(place) for place in range(self._count()))

    def append(self, make: Callable[[RolloutLogEntry | None], RolloutLogEntry], policy: RolloutSpec) -> RolloutLogEntry:
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
                appended = last if entry is last else self._append_to(count, last, make, policy)
            if appended is not None:
                return appended

    def parse(self, document: Json) -> RolloutLogEntry:
        """Parse an entry. Raises IntegrityError if it cannot be read."""
        try:
            return RolloutLogEntry.from_json(document)
        except (KeyError, TypeError, ValueError) as error:
            raise self.make_difference(document.get("number"), f"it cannot be read ({error!r})") from None

    def make_difference(self, number: int | None, cause: str) -> IntegrityError:
        """Make the error for a log that is not as Endcap wrote it. number: the entry's; None: the whole log."""
        entry = "the log" if number is None else f"entry {number} of the log"
        return IntegrityError(
            f"{entry} of {self.recommender}'s rollouts in {self.store.root} is not as Endcap wrote it: {cause}. "
            "Restore the store's documents from a copy, or set the shares by `endcap deploy`",
            code="experiments.log-differs",
            recommender=self.recommender,
            number=number,
            cause=cause,
        )

    def _append_to(
        self,
        place: int,
        opening: RolloutLogEntry | None,
        make: Callable[[RolloutLogEntry | None], RolloutLogEntry],
        policy: RolloutSpec,
    ) -> RolloutLogEntry | None:
        """Append to one document; None if it has become full meanwhile. opening: the last entry before the document."""
        result: list[RolloutLogEntry | None] = []

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
            dumped = policy.model_dump(mode="json")
            return {"entries": [*entries, entry.to_json()], "policies": {**policies, entry.policy: dumped}}

        self.store.update_document(self._name(place), changed)
        return result[-1]

    def _count(self) -> int:
        prefix = f"{self._folder}/log-"
        names = [name for name in self.store.list_documents(self._folder) if name.startswith(prefix)]
        return max((int(name.removeprefix(prefix)) + 1 for name in names), default=0)

    def _read(self, place: int) -> Json:
        document = self.store.read_document(self._name(place))
        if document is None:
            raise self.make_difference(None, f"the document {self._name(place)} is missing")
        return document

    @property
    def _folder(self) -> str:
        return f"rollouts/{self.recommender}"

    def _name(self, place: int) -> str:
        return f"{self._folder}/log-{place:06}"

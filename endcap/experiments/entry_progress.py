"""How far the last steps of a log were carried out, so that a kill neither repeats nor skips one."""

from __future__ import annotations

from typing import Any

from endcap.experiments.log_documents import LoggedEntry
from endcap.store import Store


class EntryProgress:
    """The numbers of the last entries that were carried out, and whose messages were sent.

    Parameters
    ----------
    store
        Holds the document `<folder>/<recommender>/carried-out`.
    recommender
        Its name.
    folder
        That of the log (`LogFormat`).

    Notes
    -----
    Between an entry and its note, traffic and the registry's champion may differ. Who changes either looks here first.
    """

    def __init__(self, store: Store, recommender: str, folder: str = "rollouts") -> None:
        self._store, self._name = store, f"{folder}/{recommender}/carried-out"

    def is_carried_out(self, entry: LoggedEntry) -> bool:
        """Tell whether traffic and the registry's champion are as an entry says."""
        return self._read(self._store.read_document(self._name))[0] >= entry.number

    def is_finished(self, entry: LoggedEntry) -> bool:
        """Tell whether an entry was carried out, and its message was sent."""
        return min(self._read(self._store.read_document(self._name))) >= entry.number

    def note(self, entry: LoggedEntry, *, is_sent: bool = False) -> None:
        """Keep that an entry was carried out. is_sent: and its message was sent."""

        def changed(document: dict[str, Any] | None) -> dict[str, Any]:
            number, sent = self._read(document)
            after = {
                "number": max(number, entry.number),
                "sent": max(sent, entry.number) if is_sent else sent,
            }
            return document if document == after and document is not None else after

        self._store.update_document(self._name, changed)

    @staticmethod
    def _read(document: dict[str, Any] | None) -> tuple[int, int]:
        """Return the numbers of the last entry that was carried out, and of the last one whose message was sent."""
        number = int((document or {}).get("number", -1))
        # An earlier release kept one number for both.
        return number, int((document or {}).get("sent", number))

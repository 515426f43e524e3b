"""One step of a log after the other: appended and carried out while nobody else decides, then its message is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from endcap.experiments.entry_progress import EntryProgress
from endcap.experiments.log_documents import Entry
from endcap.registry.decision_hold import hold_name
from endcap.store import Store
from endcap.store.base import Hold


class StepRunner(Generic[Entry]):
    """Appends steps to a log and does what they say, so that a kill anywhere neither repeats nor skips one.

    Parameters
    ----------
    store, recommender
        Whose steps. While one is appended and carried out, ``decisions/<recommender>`` is held.
    progress
        How far the last steps were carried out.
    find_last
        Reads the log's last entry.
    carry_out
        Makes what is served and the registry say what an entry says, and notes it. It can be repeated without harm.
    send
        Sends an entry's message and notes it.
    """

    def __init__(
        self,
        store: Store,
        recommender: str,
        progress: EntryProgress,
        find_last: Callable[[], Entry | None],
        carry_out: Callable[[Entry, Hold], None],
        send: Callable[[Entry], None],
    ) -> None:
        self._store, self._hold_name, self._progress = store, hold_name(recommender), progress
        self._find_last, self._carry_out, self._send = find_last, carry_out, send

    def finish(self) -> Entry | None:
        """Do what is missing of the last entry, as after a kill. Returns it; None if nothing is missing."""
        last = self._find_last()
        if last is None or self._progress.is_finished(last):
            return None
        with self._store.hold(self._hold_name) as hold:
            last = self._find_last()
            assert last is not None
            self._do(last, hold)
        self._send(last)
        return last

    def advance(self, append: Callable[[], Entry]) -> Entry:
        """Append an entry and carry it out; then send its message.

        Parameters
        ----------
        append
            Appends an entry and returns the log's last one. It is called within the hold, and may refuse.
        """
        while True:
            self.finish()
            with self._store.hold(self._hold_name) as hold:
                last = self._find_last()
                if last is not None and not self._progress.is_carried_out(last):
                    continue
                entry = append()
                self._do(entry, hold)
            if not self._progress.is_finished(entry):
                self._send(entry)
            return entry

    def _do(self, entry: Entry, hold: Hold) -> None:
        if not self._progress.is_carried_out(entry):
            self._carry_out(entry, hold)

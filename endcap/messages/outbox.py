"""The outbox: messages in the store until each address has them, so that they survive the process that sent them.

Each address gets the messages in their order, by a cursor of its own. One process at a time delivers, by a lease in the
same document. After a kill between a delivery and its note the next process sends that message again, with the same id.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from endcap.messages.addresses import MessageAddress
from endcap.messages.message import Message
from endcap.store import Store

DOCUMENT = "messages/outbox"
LEASE = timedelta(seconds=60)
"""How long a process may be silent before another one delivers."""
GIVE_UP = timedelta(days=1)
"""How old a message may become for an address that does not take it."""
MOST = 500
"""How many messages wait at most, and how many ids are remembered; the oldest go first."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=5)
LONGEST_RETRY_AFTER = timedelta(hours=1)
Json = dict[str, Any]


@dataclass(frozen=True)
class Delivery:
    """How one try went.

    Attributes
    ----------
    outcome
        delivered; refused: no further try helps; failed: another may.
    problem
        Why it was not delivered, without the address.
    retry_after
        What the receiver asks for.
    """

    outcome: Literal["delivered", "refused", "failed"]
    problem: str = ""
    retry_after: timedelta | None = None


Post = Callable[[Message, MessageAddress], Delivery]


class Outbox:
    """The outbox of a store.

    Parameters
    ----------
    store
        Holds the document `messages/outbox`.
    addresses
        Where this process delivers to.
    read_clock
        Returns the present moment, UTC.
    """

    def __init__(
        self,
        store: Store,
        addresses: Sequence[MessageAddress],
        read_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._addresses, self._read_clock = store, addresses, read_clock
        self._owner = uuid.uuid4().hex

    def put(self, message: Message) -> None:
        """Add a message, unless one with its id was added before.

        Raises
        ------
        StorageError, TransientError
            The store does not take it.
        """

        def added(document: Json | None) -> Json:
            before = _complete(document)
            if document is not None and message.id in before["ids"]:
                return document
            number = before["next"]
            waiting = [*before["messages"], {"number": number, "message": message.to_json()}]
            dropped = max(0, len(waiting) - MOST)
            return {
                **before,
                "next": number + 1,
                "messages": waiting[dropped:],
                "ids": [*before["ids"], message.id][-MOST:],
                "dropped": before["dropped"] + dropped,
                # An address that is new gets this message, and none from before.
                "addresses": {
                    **{address.digest: _make_cursor(number - 1) for address in self._addresses},
                    **before["addresses"],
                },
            }

        self._store.update_document(DOCUMENT, added, repair=True)

    def deliver(self, post: Post) -> timedelta | None:
        """Deliver what is due.

        Parameters
        ----------
        post
            Sends one message to one address.

        Returns
        -------
        timedelta or None
            How long until something is due again; None if nothing waits.
        """
        document = self._store.read_document(DOCUMENT)
        if document is None or not self._list_waiting(_complete(document)):
            return None
        document = self._store.update_document(DOCUMENT, self._claim, repair=True)
        if document.get("owner") != self._owner:
            return min(LEASE, timedelta(seconds=5))
        try:
            for address in self._addresses:
                if not self._deliver_to(address, post):
                    return LEASE
        finally:
            document = self._store.update_document(DOCUMENT, self._release, repair=True)
        due = [_read_time(_complete(document)["addresses"][digest]["due"]) for digest in self._list_waiting(document)]
        return max(timedelta(), min(due) - self._read_clock()) if due else None

    def _deliver_to(self, address: MessageAddress, post: Post) -> bool:
        """Deliver to one address until it fails or has all. False: another process has the lease now."""
        while True:
            document = _complete(self._store.read_document(DOCUMENT))
            if document["owner"] != self._owner:
                return False
            cursor = document["addresses"].get(address.digest, _make_cursor(document["next"] - 1))
            entry = next((entry for entry in document["messages"] if entry["number"] > cursor["sent"]), None)
            now = self._read_clock()
            if entry is None or _read_time(cursor["due"]) > now:
                return True
            message = Message.from_json(entry["message"])
            is_late = now - message.time > GIVE_UP and cursor["tries"] > 0
            delivery = Delivery("refused", "it is a day old") if is_late else post(message, address)
            changed = _move_cursor(cursor, entry["number"], delivery, self._read_clock())
            self._note(address, changed)
            if delivery.outcome == "failed":
                return True

    def _note(self, address: MessageAddress, cursor: Json) -> None:
        def noted(document: Json | None) -> Json:
            before = _complete(document)
            if before["owner"] != self._owner:
                return before
            until = (self._read_clock() + LEASE).isoformat()
            return {**before, "until": until, "addresses": {**before["addresses"], address.digest: cursor}}

        self._store.update_document(DOCUMENT, noted, repair=True)

    def _claim(self, document: Json | None) -> Json:
        before, now = _complete(document), self._read_clock()
        if before["owner"] not in ("", self._owner) and _read_time(before["until"]) > now:
            return document or before
        return {**before, "owner": self._owner, "until": (now + LEASE).isoformat()}

    def _release(self, document: Json | None) -> Json:
        """Give the lease back, and drop what all known addresses have."""
        before = _complete(document)
        if before["owner"] != self._owner:
            return document or before
        oldest = min((cursor["sent"] for cursor in before["addresses"].values()), default=-1)
        # An address that was removed must not keep messages for ever.
        since = self._read_clock() - 2 * GIVE_UP
        waiting = [
            entry
            for entry in before["messages"]
            if entry["number"] > oldest and _read_time(entry["message"]["time"]) > since
        ]
        return {**before, "owner": "", "messages": waiting}

    def _list_waiting(self, document: Json) -> list[str]:
        """List the digests of this process's addresses that lack a message."""
        document = _complete(document)
        newest = max((entry["number"] for entry in document["messages"]), default=-1)
        return [
            address.digest
            for address in self._addresses
            if document["addresses"].get(address.digest, _make_cursor(newest))["sent"] < newest
        ]


def _complete(document: Json | None) -> Json:
    empty: Json = {"next": 0, "messages": [], "ids": [], "addresses": {}, "owner": "", "until": "", "dropped": 0}
    return {**empty, **(document or {})}


def _make_cursor(sent: int) -> Json:
    """What is known of an address: the last message that it has, when the next try is due, and how tries went."""
    return {"sent": sent, "due": "", "tries": 0, "delivered": 0, "refused": 0, "problem": ""}


def _move_cursor(cursor: Json, number: int, delivery: Delivery, now: datetime) -> Json:
    if delivery.outcome == "failed":
        wait = min(FIRST_WAIT * 2 ** min(cursor["tries"], 20), LONGEST_WAIT)
        wait = max(wait, min(delivery.retry_after or timedelta(), LONGEST_RETRY_AFTER))
        due = (now + wait).isoformat()
        return {**cursor, "tries": cursor["tries"] + 1, "due": due, "problem": delivery.problem}
    counted = {delivery.outcome: cursor[delivery.outcome] + 1, "problem": delivery.problem}
    return {**cursor, **counted, "sent": number, "tries": 0, "due": ""}


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)

"""Sends messages from a process: into the outbox at once, to the addresses from a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta

from endcap.errors import EndcapError
from endcap.messages.addresses import MessageAddress, read_addresses
from endcap.messages.message import Message
from endcap.messages.outbox import Delivery, Outbox
from endcap.messages.webhook import post_message
from endcap.retries import disable_retries
from endcap.store import Store

CLOSE_WITHIN = 3.0
"""Seconds that the end of a process may wait for its messages. The next one that sends or serves delivers the rest."""
_LAST = 0.5
"""Seconds of these for a delivery that is under way, so that it is noted, and the next process need not wait."""
_LOOK_EVERY = 30.0
"""Seconds between two looks at the outbox, where other processes may have left messages."""


class _StoppedError(Exception):
    """The process ends, so no further delivery is begun."""


class Messenger:
    """Sends the messages of one process, and what others left in the outbox.

    Without an address it does nothing. No fault of an address or of the store reaches the caller.

    Parameters
    ----------
    store
        Keeps the outbox.
    environment
        The variables; this process's environment by default.

    Raises
    ------
    UserError
        `messages.bad-address`.
    """

    def __init__(self, store: Store, environment: Mapping[str, str] | None = None) -> None:
        self._addresses = read_addresses(environment)
        self._outbox = Outbox(store, self._addresses)
        self._unstored: list[Message] = []
        self._lock = threading.Lock()
        self._wake, self._stop, self._idle = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._problem = ""

    def start(self) -> None:
        """Deliver from now on, also what earlier processes left."""
        if self._addresses and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="messages", daemon=True)
            self._thread.start()

    def send(self, message: Message) -> str:
        """Send a message; it is delivered later.

        Returns
        -------
        str
            Why the last try of this process did not deliver; empty if it did, or nothing was tried.
        """
        if not self._addresses:
            return ""
        self._idle.clear()
        try:
            with disable_retries():
                self._outbox.put(message)
        except EndcapError as error:
            # A run may fail because of the store: one try without it is better than none.
            with self._lock:
                self._unstored.append(message)
                self._problem = f"the message is not kept: {error.code}"
        self.start()
        self._wake.set()
        return self._problem

    def close(self, within: float = CLOSE_WITHIN) -> str:
        """End. within: seconds that are waited for what is not delivered yet.

        Returns
        -------
        str
            The last problem; empty if there is none.
        """
        if self._thread is not None:
            self._idle.wait(max(0.0, within - _LAST))
            self._stop.set()
            self._wake.set()
            self._thread.join(min(within, _LAST))
        return self._problem

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            wait = self._deliver()
            if wait is None:
                self._idle.set()
            self._wake.wait(_LOOK_EVERY if wait is None else min(wait.total_seconds() + 0.01, _LOOK_EVERY))

    def _deliver(self) -> timedelta | None:
        """Deliver what is due. Returns how long until something is due again; None if nothing waits."""
        with self._lock:
            unstored, self._unstored = self._unstored, []
        for message in unstored:
            for address in self._addresses:
                self._note(post_message(message, address))
        try:
            with disable_retries():
                return self._outbox.deliver(self._post)
        except _StoppedError:
            return None
        except EndcapError as error:
            self._problem = f"the outbox cannot be read: {error.code}"
            return timedelta(seconds=_LOOK_EVERY)

    def _post(self, message: Message, address: MessageAddress) -> Delivery:
        if self._stop.is_set():
            # The outbox gives its hold back on the way.
            raise _StoppedError
        delivery = post_message(message, address)
        self._note(delivery)
        return delivery

    def _note(self, delivery: Delivery) -> None:
        self._problem = delivery.problem

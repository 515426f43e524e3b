"""What an error becomes once versions are served: it is told, what has failed is tried again, and all else goes on.

A supervisor's turn has parts, such as reading the document or telling the gateway. Shoppers are answered by processes
of their own meanwhile, so no error of one part may end these.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from endcap.errors import EndcapError
from endcap_serving.errors import wrap_error
from endcap_serving.local.events import Listener, PartFailed, PartRecovered, ServingEvent

WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a part that failed is tried again; the last for ever."""
log = logging.getLogger("endcap.serving")
MakeEvent = Callable[[EndcapError], ServingEvent]


@dataclass
class _Trouble:
    since: float
    tries: int = 0
    retry_at: float = 0.0
    reported_error: str = ""


class RetriedParts:
    """Carries out parts of turns. Until `begun` their errors are raised: what cannot start shall not."""

    def __init__(self, listener: Listener) -> None:
        self.is_serving = False
        self._listener = listener
        self._listener_error = ""
        self._troubles: dict[str, _Trouble] = {}

    def send_event(self, event: ServingEvent) -> None:
        """Hand an event on. A listener that fails, such as one that writes to a full disk, ends nothing either."""
        try:
            self._listener(event)
        except Exception as error:
            if not self.is_serving:
                raise
            if repr(error) != self._listener_error:
                self._listener_error = repr(error)
                log.warning("an event cannot be told: %s", error)

    def run_part(
        self, part: str, work: Callable[[], None], make_event: MakeEvent | None = None, *, lenient: bool = False
    ) -> None:
        """Carry a part out, unless it failed a moment ago. tell: the event of its failing, if it has one of its own.
        lenient: its errors are told before `begun` too.

        An error is told once, and again where it becomes another; then that it has passed.
        """
        trouble = self._troubles.get(part)
        if trouble and time.monotonic() < trouble.retry_at:
            return
        try:
            work()
        except Exception as error:
            if not self.is_serving and not lenient:
                raise
            self._record_failure(part, wrap_error(error), make_event)
        else:
            if trouble:
                del self._troubles[part]
                self.send_event(PartRecovered(part, round(time.monotonic() - trouble.since, 1)))

    def _record_failure(self, part: str, error: EndcapError, make_event: MakeEvent | None) -> None:
        now = time.monotonic()
        trouble = self._troubles.setdefault(part, _Trouble(now))
        wait = WAITS[min(trouble.tries, len(WAITS) - 1)]
        trouble.tries, trouble.retry_at = trouble.tries + 1, now + wait
        # Its words may name what differs with every try, such as a number.
        name = f"{error.code} {error.fields.get('kind', '')} {error.fields.get('reason', '')}"
        if name != trouble.reported_error:
            trouble.reported_error = name
            self.send_event(make_event(error) if make_event else PartFailed(part, error))

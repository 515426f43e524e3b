"""Errors while versions are served: each is reported, what failed is tried again, and everything else goes on.

A supervisor's turn has parts, such as reading the desired state or giving the gateway a split. Other processes answer
shoppers meanwhile, so an error of one part must not end them.
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
"""Seconds before the next try after the first, second, … failure in a row; later ones wait as long as the last."""
log = logging.getLogger("endcap.serving")
MakeEvent = Callable[[EndcapError], ServingEvent]


@dataclass
class _Trouble:
    """A part that fails: since when, how often, when it is tried again, and the error that was reported."""

    since: float
    tries: int = 0
    retry_at: float = 0.0
    reported_error: str = ""


class RetriedParts:
    """Runs the parts of a supervisor's turns.

    Parameters
    ----------
    listener
        Gets the events.

    Attributes
    ----------
    is_serving
        Whether versions are served. Before that, errors are raised: what cannot start shall not start.
    """

    def __init__(self, listener: Listener) -> None:
        self.is_serving = False
        self._listener = listener
        self._listener_error = ""
        self._troubles: dict[str, _Trouble] = {}

    def send_event(self, event: ServingEvent) -> None:
        """Send an event to the listener. While versions are served, a listener that fails is only logged."""
        try:
            self._listener(event)
        except Exception as error:
            if not self.is_serving:
                raise
            if repr(error) != self._listener_error:
                self._listener_error = repr(error)
                log.warning("the listener failed at an event: %s", error)

    def run_part(
        self, part: str, work: Callable[[], None], make_event: MakeEvent | None = None, *, lenient: bool = False
    ) -> None:
        """Run a part, unless it failed a moment ago.

        An error is reported once, and again if it changes. When the part succeeds again, that is reported too.

        Parameters
        ----------
        part
            The part's name in events.
        work
            What to do.
        make_event
            Makes the event of a failure. None: it is a `PartFailed`.
        lenient
            Whether errors are reported, and not raised, even before versions are served.
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
        """Set when a part is tried again, and report its error if it is a new one."""
        now = time.monotonic()
        trouble = self._troubles.setdefault(part, _Trouble(now))
        wait = WAITS[min(trouble.tries, len(WAITS) - 1)]
        trouble.tries, trouble.retry_at = trouble.tries + 1, now + wait
        # Not the error's text, which may differ with every try, for example by a number.
        name = f"{error.code} {error.fields.get('kind', '')} {error.fields.get('reason', '')}"
        if name != trouble.reported_error:
            trouble.reported_error = name
            self.send_event(make_event(error) if make_event else PartFailed(part, error))

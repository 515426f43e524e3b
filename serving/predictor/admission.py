"""Whether a request may wait for its turn: who would wait too long is told so at once, so that others do not.

The wait is estimated as what is waiting or being ranked, at the pace of late, and what the event loop is late by: there
are queues before it too, of connections that it has not come to. So past the capacity the queue stays as long as
`serving.max_wait` allows, and with it the latency of all that is accepted.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence

MEMORY = 0.98
"""Of the mean time of a request, what stays with each further one: it is that of about the last fifty."""
AT_LEAST = 1e-5
"""Seconds that a request takes at least, and before anything is known."""

LOOK, LOOKS = 0.02, 4
"""Seconds between two looks at how late the event loop is, and how many of them count."""


class Admission:
    """Of one ranking thread. The event loop counts who waits; the ranking thread tells what it took."""

    def __init__(self, max_wait: float) -> None:
        """longest: seconds that a request may wait."""
        self.max_wait = max_wait
        self.waiting = 0
        """Requests that wait or are being ranked; of a call of many, those that others must wait for."""
        self.mean_seconds = AT_LEAST
        """Mean seconds of ranking a request."""
        self.pace = AT_LEAST
        """Mean seconds from one request's end to the next one's while others wait: with all that is done in between."""
        self.lag = 0.0
        """Seconds that the event loop is late by."""

    @property
    def wait(self) -> float:
        """Seconds that a request would wait now."""
        return self.waiting * self.pace + self.lag

    @property
    def is_full(self) -> bool:
        """Whether that is too long. Never while nothing waits: a slow model must be able to answer at all."""
        return self.wait > self.max_wait and (self.waiting > 0 or self.lag > self.max_wait)

    @property
    def retry_after(self) -> int:
        """Whole seconds after which the queue has gone."""
        return max(1, math.ceil(self.wait))

    def record_batch(self, seconds: float, requests: int, since_last: float | None = None) -> None:
        """A batch of so many requests took so long. since_last: seconds since the one before, where these waited."""
        weight = MEMORY**requests
        self.mean_seconds = weight * self.mean_seconds + (1 - weight) * max(seconds / requests, AT_LEAST)
        elapsed = seconds if since_last is None else since_last
        self.pace = weight * self.pace + (1 - weight) * max(elapsed / requests, AT_LEAST)


async def measure_loop_lag(admissions: Sequence[Admission]) -> None:
    """Tell, for ever, by how much the event loop is late: by as much as each of its last looks at the clock was."""
    loop, delays = asyncio.get_running_loop(), deque([0.0], maxlen=LOOKS)
    while True:
        due = loop.time() + LOOK
        await asyncio.sleep(LOOK)
        delays.append(max(0.0, loop.time() - due))
        # One late look may be a single large body; several in a row are too much to do.
        lag = min(delays)
        for admission in admissions:
            admission.lag = lag

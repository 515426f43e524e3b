"""Admission: a request that would wait too long is refused at once, so that the others need not wait too long.

The wait is estimated as the number of waiting requests times the recent pace, plus the lag of the event loop, which has
connections of its own waiting. So past the capacity the queue stays as long as `serving.max_wait` allows, and so does
the latency of every accepted request.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence

MEMORY = 0.98
"""The weight of the mean so far when one more request counts. So the mean is that of about the last fifty requests."""
AT_LEAST = 1e-5
"""Seconds that a request takes at least, also before any was ranked."""

LOOK, LOOKS = 0.02, 4
"""Seconds between two measurements of the event loop's lag, and how many of them count."""


class Admission:
    """The admission of one ranking thread. The event loop counts waiting requests, whoever ranks records the times.

    Parameters
    ----------
    max_wait
        Seconds that a request may wait.

    Attributes
    ----------
    waiting
        Requests that wait or are being ranked. Of a call of many, only those that others must wait for count.
    mean_seconds
        Mean seconds of ranking one request.
    pace
        Mean seconds from the end of one request to the end of the next one while others wait, with all other work.
    lag
        Seconds by which the event loop is late.
    """

    def __init__(self, max_wait: float) -> None:
        self.max_wait = max_wait
        self.waiting = 0
        self.mean_seconds = AT_LEAST
        self.pace = AT_LEAST
        self.lag = 0.0

    @property
    def wait(self) -> float:
        """Seconds that a new request would wait."""
        return self.waiting * self.pace + self.lag

    @property
    def is_full(self) -> bool:
        """Whether a new request would wait too long. False while nothing waits, so that a slow model can answer."""
        return self.wait > self.max_wait and (self.waiting > 0 or self.lag > self.max_wait)

    @property
    def retry_after(self) -> int:
        """Whole seconds after which the queue is empty."""
        return max(1, math.ceil(self.wait))

    def record_batch(self, seconds: float, requests: int, since_last: float | None = None) -> None:
        """Record the time that a batch took.

        Parameters
        ----------
        seconds
            Seconds of ranking.
        requests
            Requests in the batch.
        since_last
            Seconds since the end of the batch before; None if the requests did not wait for it.
        """
        weight = MEMORY**requests
        self.mean_seconds = weight * self.mean_seconds + (1 - weight) * max(seconds / requests, AT_LEAST)
        elapsed = seconds if since_last is None else since_last
        self.pace = weight * self.pace + (1 - weight) * max(elapsed / requests, AT_LEAST)


async def measure_loop_lag(admissions: Sequence[Admission]) -> None:
    """Measure for ever by how many seconds the event loop is late, and tell each admission."""
    loop, delays = asyncio.get_running_loop(), deque([0.0], maxlen=LOOKS)
    while True:
        due = loop.time() + LOOK
        await asyncio.sleep(LOOK)
        delays.append(max(0.0, loop.time() - due))
        # One late measurement may come from a single large body. Several in a row mean that there is too much to do.
        lag = min(delays)
        for admission in admissions:
            admission.lag = lag

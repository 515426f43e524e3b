"""Whether a request may wait for its turn: who would wait too long is told so at once, so that others do not.

The wait is estimated as what is waiting or being ranked, times what one has taken of late. So past the capacity the
queue stays as long as `serving.max_wait` allows, and with it the latency of all that is accepted.
"""

from __future__ import annotations

import math

MEMORY = 0.98
"""Of the mean time of a request, what stays with each further one: it is that of about the last fifty."""
AT_LEAST = 1e-5
"""Seconds that a request takes at least, and before anything is known."""


class Admission:
    """Of one ranking thread. The event loop counts who waits; the ranking thread tells what it took."""

    def __init__(self, longest: float) -> None:
        """longest: seconds that a request may wait."""
        self.longest = longest
        self.waiting = 0
        """Requests that wait or are being ranked; of a call of many, those that others must wait for."""
        self.each = AT_LEAST
        """Mean seconds of the ranking thread a request."""

    @property
    def wait(self) -> float:
        """Seconds that a request would wait now."""
        return self.waiting * self.each

    @property
    def full(self) -> bool:
        """Whether that is too long. Never while nothing waits: a slow model must be able to answer at all."""
        return self.waiting > 0 and self.wait > self.longest

    @property
    def retry_after(self) -> int:
        """Whole seconds after which the queue has gone."""
        return max(1, math.ceil(self.wait))

    def took(self, seconds: float, requests: int) -> None:
        """A batch of so many requests took so long."""
        now = max(seconds / requests, AT_LEAST)
        kept = MEMORY**requests
        self.each = kept * self.each + (1 - kept) * now

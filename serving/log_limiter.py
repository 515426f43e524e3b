"""Log lines that a stream of requests could cause: one in a while, which says how many it stands for."""

from __future__ import annotations

import logging
import time
from typing import Any

EVERY = 10.0
"""Seconds between two lines of one kind."""


class LogLimiter:
    """Of one kind of line."""

    def __init__(self, log: logging.Logger, level: int, message: str) -> None:
        self._log, self._level, self._message = log, level, message
        self._next = 0.0
        self._times = 0

    def __call__(self, traced: BaseException | None = None, /, **extra: Any) -> None:
        """It happened; the line has the trace of `traced`, and `extra`."""
        self._times += 1
        if time.monotonic() < self._next:
            return
        self._log.log(self._level, self._message, exc_info=traced, extra={"times": self._times, **extra})
        self._next, self._times = time.monotonic() + EVERY, 0

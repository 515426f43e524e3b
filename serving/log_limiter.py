"""A bound on log lines that every request could cause: one line in some seconds says how many it stands for."""

from __future__ import annotations

import logging
import time
from typing import Any

EVERY = 10.0
"""Seconds between two lines of one limiter."""


class LogLimiter:
    """Logs one kind of line, at most once in `EVERY` seconds. The line's `times` says how often it would have come.

    Parameters
    ----------
    log
        The logger.
    level
        The line's level, such as ``logging.WARNING``.
    message
        The line's message.
    """

    def __init__(self, log: logging.Logger, level: int, message: str) -> None:
        self._log, self._level, self._message = log, level, message
        self._next = 0.0
        self._times = 0

    def __call__(self, error: BaseException | None = None, /, **extra: Any) -> None:
        """Note that it happened, and log the line if it is time.

        Parameters
        ----------
        error
            An error whose traceback the line shows.
        **extra
            Further fields of the line.
        """
        self._times += 1
        if time.monotonic() < self._next:
            return
        self._log.log(self._level, self._message, exc_info=error, extra={"times": self._times, **extra})
        self._next, self._times = time.monotonic() + EVERY, 0

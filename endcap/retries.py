"""Repeat calls that failed for a reason that may pass, and show that the program waits.

The lines go to the step or command that listens (`send_wait_lines`), or to standard error if none does.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from endcap.progress import Notice
from endcap.redaction import redact

SLOW = 10.0
"""Seconds without an answer after which a call that goes on is shown."""
REMINDER = 15.0
"""Seconds between two lines about the same wait."""
Hear = Callable[[str], None]

_hearers: list[Hear] = []
"""Of the whole process, since threads that fetch and write know nothing of the step that they work for."""
_impatient: ContextVar[bool] = ContextVar("impatient", default=False)


@dataclass(frozen=True)
class RetryLimits:
    """How long, and how often, a call is repeated."""

    total: float = 60.0
    """Seconds; infinite where the caller counts attempts. An attempt that has begun is not cut off."""
    first: float = 0.2
    """Pause before the second attempt; each later one is twice as long."""
    most: float = 5.0
    silent: float = 1.0
    """Seconds of waiting that are not worth a line."""


@contextlib.contextmanager
def send_wait_lines(hear: Hear) -> Iterator[None]:
    """Send lines about waiting to `hear` for the length of a block; the innermost block gets them."""
    _hearers.append(hear)
    try:
        yield
    finally:
        _hearers.remove(hear)


@contextlib.contextmanager
def disable_retries() -> Iterator[None]:
    """Repeat no call of this thread within the block: each failure is raised at once, and nothing is shown."""
    token = _impatient.set(True)
    try:
        yield
    finally:
        _impatient.reset(token)


def show_line(line: str) -> None:
    """Show a line about waiting."""
    if _hearers:
        _hearers[-1](line)
    else:
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def watch_call(what: str) -> Iterator[None]:
    """Show that the block waits, once it has lasted `SLOW` seconds. what: the server, such as `the registry X`."""
    if _impatient.get():
        yield
        return
    line = Notice(redact(f"{what} takes more than {SLOW:.0f} s; it is waited for"), seconds=SLOW)
    timer = threading.Timer(SLOW, show_line, [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class RetryLoop:
    """The attempts of one call, within its limits. Long waits are shown."""

    def __init__(self, what: str, patience: RetryLimits) -> None:
        """what: the server, such as `the registry http://mlflow:5000`."""
        self._what, self._patience = redact(what), patience
        self._begun, self._pause = time.monotonic(), patience.first
        self._shown: float | None = None

    @property
    def seconds(self) -> float:
        """The seconds since the call began."""
        return time.monotonic() - self._begun

    def again(self, reason: str, *, after: float | None = None, limit: float | None = None) -> bool:
        """Wait for the next attempt.

        Parameters
        ----------
        reason
            Why the last attempt failed, in a few words.
        after
            The seconds to wait that the server asks for.
        limit
            The seconds to go on for this reason, if they are fewer than the call's limit.

        Returns
        -------
        bool
            False if the limit is reached and there is no further attempt.
        """
        if _impatient.get():
            return False
        total = self._patience.total if limit is None else min(limit, self._patience.total)
        pause = self._pause if after is None else after
        ends = self.seconds + pause
        if ends > total:
            return False
        if ends >= self._patience.silent and (self._shown is None or self.seconds - self._shown >= REMINDER):
            self._show(reason, total)
        time.sleep(pause)
        self._pause = min(2 * self._pause, self._patience.most)
        return True

    def over(self) -> None:
        """Say that the call was answered, if waiting was shown."""
        if self._shown is not None:
            show_line(f"{self._what} answers again, after {self.seconds:.0f} s")

    def _show(self, reason: str, total: float) -> None:
        now, reason = self.seconds, _shorten_reason(reason)
        left = f" for up to {total:.0f} s" if self._shown is None else f" for {total - now:.0f} s more"
        self._shown, known = now, math.isfinite(total)
        line = f"{self._what} does not answer ({reason}); asking again{left if known else ''}"
        show_line(Notice(line, reason=reason, limit=total if known else None))


def _shorten_reason(reason: str) -> str:
    return redact(" ".join(reason.split()))[:200]

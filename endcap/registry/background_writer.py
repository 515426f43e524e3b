"""Writes to a registry in the background, so that other work does not wait for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from endcap.errors import EndcapError, TransientError
from endcap.retries import disable_retries


class BackgroundWriter:
    """A thread that makes one write after the other.

    A registry may be slow (opening a new data base takes half a minute) or not answer for a while. Each write is tried
    once. A series of failures is reported once, and the caller writes what is missing at the end.

    A lasting failure, such as a wrong password, is raised only if no write has succeeded before. After that, for
    example when a token expires, the caller's work goes on.
    """

    def __init__(self, what: str, progress: Callable[[str], None]) -> None:
        """what: the subject of the line that reports a failure, such as `trials`. progress: gets that line."""
        self._what, self._tell = what, progress
        self._thread = ThreadPoolExecutor(1)
        self._begun: list[Future[None]] = []
        self.failing = False
        """Whether the last write failed."""
        self.reached = False
        """Whether a write has succeeded."""

    def begin(self, write: Callable[[], None], within: float) -> None:
        """Make the first write, and wait at most `within` seconds for it.

        A lasting failure is thus raised before any work. A slow registry delays the work by at most that time.
        """
        self.submit(write)
        wait(self._begun, within)
        self.check()

    def submit(self, write: Callable[[], None]) -> None:
        """Add a write to the queue."""
        self._begun.append(self._thread.submit(self._attempt, write))

    def check(self) -> None:
        """Raise a lasting failure of the first writes, such as UserError for a wrong address."""
        for future in self._begun:
            if future.done():
                future.result()
        self._begun = [future for future in self._begun if not future.done()]

    def finish(self) -> None:
        """Wait until everything is written. Raises as `check` does."""
        self._thread.shutdown(wait=True)
        for future in self._begun:
            future.result()

    def abandon(self) -> None:
        """Finish the write that has begun, and drop the others."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            with disable_retries():
                write()
            self.failing, self.reached = False, True
        except EndcapError as error:
            if not (self.reached or isinstance(error, TransientError)):
                raise
            if not self.failing:
                self._tell(f"{self._what} cannot be logged for now: {error}")
            self.failing = True

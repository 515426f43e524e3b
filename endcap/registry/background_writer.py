"""Writes to a registry in the background, so that other work does not wait for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from endcap.errors import EndcapError, TransientError
from endcap.retries import disable_retries


class BackgroundWriter:
    """A thread that makes one write after the other.

    A registry may take its time (the first opening of a new data base is half a minute) or be away for a while. It is
    asked once for each thing; what it then refuses is told once, and is the caller's to write again at the end.

    Trouble that lasts, such as a wrong password, is raised where nothing went well before. Later, as where a token runs
    out, it costs the caller no work either.
    """

    def __init__(self, what: str, progress: Callable[[str], None]) -> None:
        """what: the subject of the line that tells of a registry that is away, such as `trials`."""
        self._what, self._tell = what, progress
        self._thread = ThreadPoolExecutor(1)
        self._begun: list[Future[None]] = []
        self.failing = False
        """Whether the last writing failed."""
        self.reached = False
        """Whether a writing went well."""

    def begin(self, write: Callable[[], None], within: float) -> None:
        """Write first of all, and wait for that, for at most `within` seconds: trouble that lasts is raised before any
        work. A registry that is away, or slow, is waited for no longer."""
        self.submit(write)
        wait(self._begun, within)
        self.check()

    def submit(self, write: Callable[[], None]) -> None:
        """Write after what is written now."""
        self._begun.append(self._thread.submit(self._attempt, write))

    def check(self) -> None:
        """Raise what the first writings met that no other attempt mends, such as UserError for a wrong address."""
        for future in self._begun:
            if future.done():
                future.result()
        self._begun = [future for future in self._begun if not future.done()]

    def finish(self) -> None:
        """Wait until all is written. Raises as `check` does."""
        self._thread.shutdown(wait=True)
        for future in self._begun:
            future.result()

    def abandon(self) -> None:
        """Write what was begun, and nothing more."""
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

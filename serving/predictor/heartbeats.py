"""Heartbeats of workers that share a port. A question to the port would be answered by a worker that does not hang.

A worker writes to a pipe while its event loop and its ranking threads are well. The first process reads the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from endcap_serving.predictor.health import Health
from endcap_serving.watchdog import MissedAnswers

EVERY = 1.0
"""Seconds between two heartbeats."""
SILENT = 15.0
"""Seconds without a heartbeat after which an idle worker hangs."""
STARTING = 300.0
"""Seconds that the first heartbeat may take, as for a pod's startup probe."""
BUSY = 6
"""A computing worker gets this many times as long."""


async def send_heartbeats(pipe: int, health: Health) -> None:
    """Write heartbeats to a pipe for as long as this process is well.

    Parameters
    ----------
    pipe
        The file descriptor of the pipe's write end.
    health
        The health of this process.
    """
    os.set_blocking(pipe, False)
    while True:
        if health.live:
            # The pipe is full or has no reader, so nobody waits for heartbeats.
            with contextlib.suppress(OSError):
                os.write(pipe, b".")
        await asyncio.sleep(EVERY)


class HeartbeatPipe:
    """The first process's end of a worker's pipe. Call `close` once the worker has ended.

    Attributes
    ----------
    write_end
        The end that the worker inherits. Call `close_write_end` once it has.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._limit = STARTING

    def close_write_end(self, pid: int) -> None:
        """Close this process's copy of the write end. pid: the worker's process id."""
        self._pid, self._silence = pid, MissedAnswers(pid)
        os.close(self.write_end)

    def measure_silence(self, *, slept: bool = False) -> float:
        """Measure for how long the worker has been silent.

        Parameters
        ----------
        slept
            Whether this process did not run meanwhile either. Then missing heartbeats prove nothing.

        Returns
        -------
        float
            Seconds without a heartbeat, if they are too many; else 0.
        """
        with contextlib.suppress(BlockingIOError):
            if os.read(self._read_end, 4096):
                self._limit, self._silence = SILENT, MissedAnswers(self._pid)
        if slept:
            self._silence = MissedAnswers(self._pid)
        seconds = self._silence.seconds
        if seconds < self._limit:
            if seconds > 2 * EVERY and not self._silence.is_measured:
                self._silence.measure()
            return 0.0
        self._silence.measure()
        return 0.0 if self._silence.is_busy and seconds < BUSY * self._limit else seconds

    def close(self) -> None:
        os.close(self._read_end)


class SleepDetector:
    """Notices whether this process, or the machine, slept between two calls."""

    def __init__(self) -> None:
        self._last = time.monotonic(), time.time()

    def has_slept(self) -> bool:
        """Return whether much more time passed since the last call than should have."""
        before, self._last = self._last, (time.monotonic(), time.time())
        return max(now - then for then, now in zip(before, self._last, strict=True)) > SILENT / 3

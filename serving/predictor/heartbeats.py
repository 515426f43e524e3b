"""Signs of life of workers that share a port: whoever asks the port is answered by another one than hangs.

A worker writes to a pipe while its event loop turns and its ranking goes on; the process that watches it reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from endcap_serving.predictor.health import Health
from endcap_serving.watchdog import MissedAnswers

EVERY = 1.0
"""Seconds between two signs."""
SILENT = 15.0
"""Seconds without one: from then on a worker hangs that does not compute."""
STARTING = 300.0
"""Seconds until the first sign, as a pod's startup probe has it."""
BUSY = 6
"""One that computes is given so many times as long."""


async def send_heartbeats(pipe: int, health: Health) -> None:
    """Give signs of life to the pipe, for as long as this process is well."""
    os.set_blocking(pipe, False)
    while True:
        if health.live:
            # Full, or without a reader: then nobody waits for signs.
            with contextlib.suppress(OSError):
                os.write(pipe, b".")
        await asyncio.sleep(EVERY)


class HeartbeatPipe:
    """What a worker is heard of. `close` once it has ended."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        """given: the end that the worker is to inherit; `handed_on` once it has."""
        os.set_blocking(self._read_end, False)
        self._limit = STARTING

    def close_write_end(self, pid: int) -> None:
        self._pid, self._silence = pid, MissedAnswers(pid)
        os.close(self.write_end)

    def measure_silence(self, *, slept: bool = False) -> float:
        """Seconds without a sign, where these are too many; else 0. slept: whether this process did not run meanwhile
        either, which proves nothing."""
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
    """Whether this process ran between two looks."""

    def __init__(self) -> None:
        self._last = time.monotonic(), time.time()

    def has_slept(self) -> bool:
        before, self._last = self._last, (time.monotonic(), time.time())
        return max(now - then for then, now in zip(before, self._last, strict=True)) > SILENT / 3

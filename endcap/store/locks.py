"""How several processes take turns at one change: how long each tries, and the error if its turn never comes."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from endcap.errors import TransientError
from endcap.store.artifact_files import report_storage_errors

CHANGE_PATIENCE = 60.0
"""Seconds for which one change of a document is tried. Each takes some milliseconds, in a bucket some round trips."""
HOLD_PATIENCE = 300.0
"""Seconds for which somebody waits for a name that another process holds."""
_FIRST_PAUSE = 0.01
"""Seconds of the first pause."""


class ChangeAttempts:
    """Attempts at a change that other processes win first. Each pause may be twice as long as the last, at random."""

    def __init__(self, what: str, patience: float, *, most: float = 0.25) -> None:
        """what: the subject of the error, such as `deployments/shoes in s3://bucket`. patience, and most, which is the
        longest pause: seconds."""
        self._what, self._patience, self._most = what, patience, most
        self._begun, self._pause = time.monotonic(), _FIRST_PAUSE

    def wait(self, holder: Callable[[], str] = str) -> None:
        """Pause before the next attempt. Raises TransientError where the patience is over. holder: who is before us."""
        if time.monotonic() - self._begun > self._patience:
            name = holder()
            holder_note = f" ({name})" if name else ""
            raise TransientError(
                f"{self._what}: other processes{holder_note} kept this one from its change for {self._patience:.0f} s, "
                "and nothing was changed. See whether one of them hangs, and end it; then run again",
                code="store.contended",
                what=self._what,
                seconds=self._patience,
                holder=name,
            )
        time.sleep(random.uniform(0.2, 1.0) * self._pause)  # noqa: S311 (no secret)
        self._pause = min(2 * self._pause, self._most)


@contextlib.contextmanager
def lock_file(
    file: Path, what: str, *, patience: float = math.inf, blocked: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Have a file's lock for the length of the block; the lock goes with its process, however that ends.

    what: see `ChangeAttempts`. blocked: called once if another process has the lock. Raises TransientError if it has it
    for longer than `patience`, StorageError where the disk refuses.
    """
    with contextlib.ExitStack() as held:
        with report_storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            # The file stays for ever: were it removed, two processes could each lock a file of that name.
            handle = held.enter_context(file.open("a+"))
        if not _try_lock(handle):
            blocked()
            if math.isinf(patience):
                fcntl.flock(handle, fcntl.LOCK_EX)
            else:
                turns = ChangeAttempts(what, patience)
                while not _try_lock(handle):
                    turns.wait(partial(_read_holder, handle))
        with contextlib.suppress(OSError):  # a note for those who wait, which a full disk has no room for
            os.ftruncate(handle.fileno(), 0)
            os.write(handle.fileno(), describe_this_process().encode())
        yield


def describe_this_process() -> str:
    """What others are told of the process that they wait for."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def _try_lock(handle: TextIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(handle: TextIO) -> str:
    """Who wrote into the lock's file last."""
    return os.pread(handle.fileno(), 200, 0).decode(errors="replace")

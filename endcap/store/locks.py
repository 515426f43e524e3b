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
    """Paces the attempts at a change that other processes may win.

    Each pause is random and may be twice as long as the last.

    Parameters
    ----------
    what
        What is changed, for the message, such as ``deployments/shoes in s3://bucket``.
    patience
        The seconds after which to give up.
    most
        The longest pause, in seconds.
    """

    def __init__(self, what: str, patience: float, *, most: float = 0.25) -> None:
        self._what, self._patience, self._most = what, patience, most
        self._begun, self._pause = time.monotonic(), _FIRST_PAUSE

    def wait(self, holder: Callable[[], str] = str) -> None:
        """Pause before the next attempt.

        Parameters
        ----------
        holder
            Returns who made the change that won, for the message.

        Raises
        ------
        TransientError
            The patience is over (`store.contended`).
        """
        if time.monotonic() - self._begun > self._patience:
            name = holder()
            holder_note = f" ({name})" if name else ""
            raise TransientError(
                f"{self._what}: other processes{holder_note} prevented the change for {self._patience:.0f} s, and "
                "nothing was changed. If one of them hangs, end it; then run again",
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
    """Hold a file's lock for the length of a block. The system frees the lock when the process ends, in whatever way.

    Parameters
    ----------
    file
        The file.
    what
        What the lock is for, for the message.
    patience
        The seconds after which to give up.
    blocked
        Called once if another process holds the lock.

    Raises
    ------
    TransientError
        Another process has held the lock for longer than `patience` (`store.contended`).
    StorageError
        The disk refuses.
    """
    with contextlib.ExitStack() as stack:
        with report_storage_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            # The file is never removed. Otherwise two processes could each lock a file of that name.
            handle = stack.enter_context(file.open("a+"))
        if not _try_lock(handle):
            blocked()
            if math.isinf(patience):
                fcntl.flock(handle, fcntl.LOCK_EX)
            else:
                attempts = ChangeAttempts(what, patience)
                while not _try_lock(handle):
                    attempts.wait(partial(_read_holder, handle))
        with contextlib.suppress(OSError):  # the note for waiting processes may not fit on a full disk
            os.ftruncate(handle.fileno(), 0)
            os.write(handle.fileno(), describe_this_process().encode())
        yield


def describe_this_process() -> str:
    """Describe this process, for others that wait for it: the host's name and the process id."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def _try_lock(handle: TextIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(handle: TextIO) -> str:
    """Read which process last held the lock."""
    return os.pread(handle.fileno(), 200, 0).decode(errors="replace")

"""A call in a child of this process, so that one that hangs, eats the memory or ends the process hurts no other."""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError


@dataclass(frozen=True)
class Outcome:
    """How a call ended: `returned` (value), `refused` by an error of Endcap's (value: its code), `raised` another one
    (value: which, and where), `late`, or `died` (value: the signal or status)."""

    how: str
    value: Any = None
    seconds: float = 0.0


def call(function: Callable[[], Any], limit: float, memory: int) -> Outcome:
    """Make a call in a fork of this process. limit: its seconds; memory: bytes that it may use beyond this process."""
    reading, writing = os.pipe()
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_child(function, writing, memory)
    os.close(writing)
    said = b""
    try:
        with os.fdopen(reading, "rb") as pipe:
            ready, _, _ = select.select([pipe], [], [], limit)
            if ready:
                said = pipe.read()
    finally:
        if not said:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    seconds = round(time.monotonic() - begun, 2)
    if said:
        how, value = pickle.loads(said)
        return Outcome(how, value, seconds)
    return (
        Outcome("late", None, seconds)
        if seconds >= limit
        else Outcome("died", os.waitstatus_to_exitcode(status), seconds)
    )


def _be_the_child(function: Callable[[], Any], writing: int, memory: int) -> None:
    used = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    try:
        said = ("returned", function())
    except EndcapError as error:
        said = ("refused", error.code)
    except BaseException as error:
        said = ("raised", _where(error))
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(pickle.dumps(said))
    finally:
        os._exit(0)


def _where(error: BaseException) -> str:
    """The error, and the last place of Endcap on the way to it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/endcap/" in frame.filename and "site-packages" not in frame.filename]
    place = f" at endcap/{own[-1].filename.rpartition('/endcap/')[2]}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{place}: {str(error)[:200]}"


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

"""Processes of this machine: whether one is alive, which variables child processes inherit, and how SIGTERM ends this
one, the signal by which a pod is taken away."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_TERMINATED = 128 + signal.SIGTERM
_RESENT_AFTER = 0.05
"""Seconds."""


def is_alive(pid: int, mark: str = "") -> bool:
    """Return whether a process exists.

    Parameters
    ----------
    pid
        Its id, which another process may have got since.
    mark
        What `read_start_mark` returned of it; empty if that is not known.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not mark or read_start_mark(pid) in ("", mark)


def read_start_mark(pid: int) -> str:
    """Return a text that tells a process from earlier and later ones with the same id, within a boot of the machine.

    It is empty where there is no /proc.
    """
    try:
        # The command is in brackets, and may hold any characters. See `man 5 proc_pid_stat`: field 22 is the start.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@contextmanager
def share_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a block, so that processes started in it inherit them."""
    before = {name: value for name, value in os.environ.items() if name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables.keys() - before.keys():
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit within the block, so that blocks around it end in order."""

    def exit_now(number: int, frame: object) -> None:
        raise SystemExit(_TERMINATED)

    with _handle_sigterm(exit_now), _resend_sigterm():
        yield


@contextmanager
def _resend_sigterm() -> Iterator[None]:
    """Send SIGTERM again if Python ignored the exit, as it ignores every exception of a ``__del__``."""
    before = sys.unraisablehook

    def resend(ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, SystemExit) or ignored.exc_value.code != _TERMINATED:
            before(ignored)
            return
        # Later and from another thread, so that the signal meets code whose exceptions count.
        timer = threading.Timer(_RESENT_AFTER, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = resend
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def ignore_sigterm() -> Iterator[None]:
    """Ignore SIGTERM within the block: a second signal, sent while the first is handled, cuts no removal off."""
    with _handle_sigterm(lambda number, frame: None):
        yield


@contextmanager
def _handle_sigterm(handler: Callable[[int, object], None]) -> Iterator[None]:
    # Python lets the main thread alone set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""How a step that holds Ray ends at SIGTERM, the signal by which a pod is taken away."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit within the block, so that blocks around it end in order."""

    def exit_now(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    with _handle_sigterm(exit_now):
        yield


@contextlib.contextmanager
def ignore_sigterm() -> Iterator[None]:
    """Ignore SIGTERM within the block: a second signal, sent while the first is handled, cuts no removal off."""
    with _handle_sigterm(lambda number, frame: None):
        yield


@contextlib.contextmanager
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

"""Callers that keep asking on connections of their own, as a gateway does: each knows of every call how it ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Load:
    """statuses: of the answers; lost: calls that were sent and not answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)


@contextmanager
def load(address: str, path: str, body: bytes, callers: int, *, again: bool = False) -> Iterator[Load]:
    """Ask for as long as the block lasts. A caller whose connection is closed by an answer has done, and where that is
    not what the test is about opens another (`again`); one that nobody listens to any more has done."""
    told, stop = Load(), threading.Event()

    def ask() -> None:
        while not stop.is_set() and _until_closed(address, path, body, told, stop.is_set) and again:
            pass

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def _until_closed(address: str, path: str, body: bytes, told: Load, stopped: Callable[[], bool]) -> bool:
    """Whether there is somebody to ask again."""
    with httpx.Client(base_url=address, timeout=30) as client:
        while not stopped():
            try:
                answer = client.post(path, content=body)
            except httpx.ConnectError:
                return False
            except httpx.TransportError as error:
                told.lost.append(f"{type(error).__name__}: {error}")
                return True
            told.statuses[answer.status_code] += 1
            if answer.headers.get("connection") == "close":
                return True
            time.sleep(0.001)
    return False

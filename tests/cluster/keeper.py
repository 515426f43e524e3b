"""Keeps the test cluster's programs running, as a kubelet would: one that ends unasked is started again."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from endcap_serving.local.process import Process, end_processes

_LOOK = 0.5
"""Seconds between two looks."""
_LONGEST = 20.0
"""Seconds until the next start of a program that ends again and again; the first comes at once, then it doubles."""


@dataclass
class _Kept:
    command: Sequence[str]
    environment: Mapping[str, str]
    process: Process
    killed: bool = False
    restarts: int = 0
    not_before: float = 0.0


class Keeper:
    """Programs by name, each with its log in one folder. They die with this process, however it ends.

    Make it and call it from a thread that lives until `end` (see ``serving/parent_death.py``).
    """

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        words = [str(word) for word in command]
        with self._lock:
            self._kept[name] = _Kept(words, environment or {}, self._process(name, words, environment or {}))

    def kill(self, name: str) -> None:
        """SIGKILL, and no new start until `restart`."""
        with self._lock:
            self._kept[name].process.end(0)
            self._kept[name].killed = True

    def restart(self, name: str) -> None:
        """Start again what was killed."""
        with self._lock:
            kept = self._kept[name]
            kept.process, kept.killed = self._process(name, kept.command, kept.environment), False

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        return list(self._kept)

    def end(self) -> None:
        """End everything, the latest first, so that nobody misses what it depends on."""
        self._ended.set()
        with self._lock:
            end_processes([kept.process for kept in reversed(self._kept.values())])

    def _process(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        return Process(name, command, self.log(name), environment)

    def _keep(self) -> None:
        while not self._ended.wait(_LOOK):
            with self._lock:
                for name, kept in self._kept.items():
                    if not self._ended.is_set() and not kept.killed and kept.process.exit_status is not None:
                        self._start_again(name, kept)

    def _start_again(self, name: str, kept: _Kept) -> None:
        now = time.monotonic()
        if now < kept.not_before:
            return
        print(f"{name} {kept.process.read_failure()}\n  started again", file=sys.stderr, flush=True)
        kept.process = self._process(name, kept.command, kept.environment)
        kept.not_before = now + min(_LOOK * 2**kept.restarts, _LONGEST)
        kept.restarts += 1

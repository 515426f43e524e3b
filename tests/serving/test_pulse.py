"""Who hangs, and who is only busy, is starting, or slept with the whole machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from endcap_serving import watchdog
from endcap_serving.watchdog import Watchdog
from tests.serving.pod import wait_for

BUSY = "while True: pass"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "EVERY", 0.05)
    monkeypatch.setattr(watchdog, "MISSED", 5)
    monkeypatch.setattr(watchdog, "MISSED_BUSY", 1200)


@pytest.fixture
def computing() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        time.sleep(0.3)
        yield process.pid
        process.kill()


def silent_after(answers: int) -> Callable[[float], bool]:
    """A question that is answered so many times."""
    asked = count(1)
    return lambda within: next(asked) <= answers


@pytest.fixture
def watch() -> Iterator[Callable[[int, Callable[[float], bool]], Watchdog]]:
    made: list[Watchdog] = []

    def begin(pid: int, ask: Callable[[float], bool]) -> Watchdog:
        made.append(Watchdog("it", pid, ask))
        return made[-1]

    yield begin
    for one in made:
        one.close()


Watch = Callable[[int, Callable[[float], bool]], Watchdog]


def test_a_computing_process_gets_more_time_than_a_stopped_one(watch: Watch, computing: int) -> None:
    watched = watch(computing, silent_after(2))
    time.sleep(1.0)
    assert watched.hang is None
    os.kill(computing, signal.SIGSTOP)
    stopped = watch(computing, silent_after(2))
    wait_for(lambda: stopped.hang is not None, "it hangs", 30)
    assert stopped.hang is not None
    assert (stopped.hang.code, stopped.hang.fields["pid"]) == ("serving.hung", computing)


def test_a_process_that_has_never_answered_is_starting(watch: Watch) -> None:
    watched = watch(os.getppid(), silent_after(0))
    time.sleep(0.8)
    assert watched.hang is None


def test_what_a_machine_slept_through_does_not_count(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as idle:
        clock = count(0, 100)
        monkeypatch.setattr(watchdog, "_read_clocks", lambda: (time.monotonic(), next(clock)))
        watched = watch(idle.pid, silent_after(2))
        time.sleep(0.8)
        assert watched.hang is None
        monkeypatch.undo()
        wait_for(lambda: watched.hang is not None, "it hangs", 30)
        idle.kill()


def test_a_process_that_answered_somebody_else_and_then_stopped_hangs(watch: Watch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        starting, answered = watch(process.pid, silent_after(0)), watch(process.pid, silent_after(0))
        answered.note_answer()
        wait_for(lambda: answered.hang is not None, "it hangs", 30)
        assert starting.hang is None
        process.kill()

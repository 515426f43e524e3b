"""Whatever write fails, and how often: what was acknowledged is kept once, nothing is left over, and it goes on."""

from __future__ import annotations

import builtins
import errno
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from endcap.errors import StorageError
from endcap_serving.intake import commit, destinations, sealing
from endcap_serving.intake.commit import RecordBatch
from endcap_serving.intake.intake import Intake
from tests.intake.servers import eventually, ids
from tests.intake.test_sealing import make_batch, settings, write_closed_segment


class Disk:
    """Counts the calls by which a process changes the folder's disk, and fails those from `first` to `last`."""

    CALLS = ("pwrite", "write", "fdatasync", "fsync", "replace", "rename", "ftruncate", "unlink", "open")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.calls, self.first, self.last, self._code = 0, 10**9, 0, code
        self._lock = threading.Lock()
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))
        monkeypatch.setattr(io, "open", self._opened(io.open))
        monkeypatch.setattr(builtins, "open", self._opened(builtins.open))
        monkeypatch.setattr(destinations, "_write", self._watched("", destinations._write))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any, **named: Any) -> Any:
            # Only what makes or changes something: to read and to remove takes no room.
            if name == "open" and not given[1] & (os.O_WRONLY | os.O_RDWR):
                return call(*given, **named)
            if name != "unlink":
                self._count()
            return call(*given, **named)

        return watched

    def _opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(file: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
            if set(mode) & set("wax+"):
                self._count()
            return call(file, mode, *given, **named)

        return watched

    def _count(self) -> None:
        with self._lock:
            self.calls += 1
            failing = self.first <= self.calls <= self.last
        if failing:
            raise OSError(self._code, os.strerror(self._code))


def make_numbered_batch(number: int) -> RecordBatch:
    return make_batch("events", *({"id": f"{number}-{at}", "item": "p", "session": "s"} for at in range(3)))


def start_intake(folder: Path) -> Intake:
    """One that has started, as often as whoever runs it has to start it anew."""
    while True:
        try:
            intake = Intake(settings(folder, segment_bytes=400, end_seconds=10))
            intake.start()
            return intake
        except StorageError:
            assert not list(folder.rglob("*.draft"))


def run_life(folder: Path, count: int = 3) -> list[str]:
    """An intake's life in which `count` batches come, each again until it is taken; the ids that it acknowledged."""
    intake = start_intake(folder)
    taken: list[str] = []
    for number in range(count):
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            told = threading.Event()
            sent = make_numbered_batch(number)
            sent.acknowledge = told.set
            intake.writer.submit(sent)
            assert told.wait(60)
            if sent.failure is None:
                assert sent.duplicates == 0
                taken += [record["id"] for record in sent.accepted]
                break
            time.sleep(0.002)
    assert intake.alive
    intake.end()
    return taken


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "PAUSE", 0.001)
    monkeypatch.setattr(sealing, "WAITS", (0.002,))


@pytest.mark.parametrize(("code", "length"), [(errno.ENOSPC, 1), (errno.EIO, 9)])
def test_at_each_write_in_turn_nothing_is_lost_or_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, length: int
) -> None:
    disk = Disk(monkeypatch, code)
    run_life(tmp_path / "whole")
    writes = disk.calls
    assert writes > 40
    for first in range(1, writes + 1):
        folder = tmp_path / str(first)
        disk.calls, disk.first, disk.last = 0, first, first + length - 1
        try:
            taken = run_life(folder)
        finally:
            disk.first = 10**9
        start_intake(folder).end()  # what failed at the end is gone on with
        assert disk.calls >= first
        there = ids(folder / "out")
        assert sorted(there) == sorted(taken), first
        assert len(there) == 9
        left = [file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".parquet", ".ids")]
        assert {file.name for file in left} == {"lock", "mark", "next-sequence"}, first


@pytest.mark.parametrize("length", [1, 40])
def test_a_start_on_a_full_disk_takes_up_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    for first in range(1, 12):
        folder = tmp_path / str(first)
        Intake(settings(folder))._lock.close()
        file = write_closed_segment(folder / "intake")
        file.write_bytes(file.read_bytes() + file.read_bytes()[20:-5])  # with a torn tail
        with monkeypatch.context() as patched:
            disk = Disk(patched, errno.ENOSPC)
            disk.first, disk.last = first + 1, first + length  # but for the lock's
            intake = Intake(settings(folder, end_seconds=10))
            intake.start()
            sent = make_batch("events", {"id": "x1", "item": "p", "session": "s"})
            told = threading.Event()
            sent.acknowledge = told.set
            intake.writer.submit(sent)
            assert told.wait(60)
            assert sent.duplicates == 1, "its id is known, on the disk or in memory"
            eventually(lambda gone=file: not gone.exists())
            intake.end()
        assert ids(folder / "out") == ["x0", "x1", "x2"]
        beside = [one.name for one in file.parent.iterdir()]
        assert len(beside) == 1, beside  # the tail, or the whole where there was no room for it

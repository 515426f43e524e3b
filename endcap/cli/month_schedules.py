"""The month's schedule on a clock that jumps: the real scheduler, and a real process for each run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from endcap.cli.schedule_runs import make_order
from endcap.schedules.ledger import ScheduleLedger, read_ledger
from endcap.schedules.ledger_records import LedgerEntry, RunClaim
from endcap.schedules.part_look import ScheduledPart, SchedulerSurroundings
from endcap.schedules.process_runs import ProcessRuns
from endcap.schedules.run_process import start_process
from endcap.schedules.scheduler import Scheduler, list_parts
from endcap.spec.load import Loaded
from endcap.store import Store

PART = "train"
_POLL = 0.1
_PATIENCE = 600.0
"""Seconds that a run may take to begin or to end."""


class MonthClock:
    """A clock that runs as the machine's does, and jumps ahead of it or back behind it."""

    def __init__(self, begin: datetime) -> None:
        self.ahead = begin - datetime.now(UTC)

    def now(self) -> datetime:
        """Return the time, UTC."""
        return datetime.now(UTC) + self.ahead

    def jump(self, moment: datetime) -> None:
        """Go on to a moment; a moment that is over changes nothing."""
        self.ahead = max(self.ahead, moment - datetime.now(UTC))


class MonthSchedules:
    """Looks after the schedule of a recommender as time jumps.

    Parameters
    ----------
    loaded
        The specs.
    store
        The store.
    clock
        The time.

    Attributes
    ----------
    kills_next
        Whether the process of the next run is killed as soon as it has begun.
    """

    def __init__(self, loaded: Loaded, store: Store, clock: MonthClock) -> None:
        self.loaded, self._store, self._clock = loaded, store, clock
        self._processes: list[subprocess.Popen[str]] = []
        here = SchedulerSurroundings(now=clock.now)
        runs = ProcessRuns(self._start, store, here)
        self._scheduler = Scheduler(list_parts([loaded]), store, runs, surroundings=here)
        self.kills_next = False

    def pass_time(self, until: datetime) -> None:
        """Look whenever a look is due, until a moment, and wait for each run.

        Raises
        ------
        EndcapError
            The schedule could not be looked at, or a run does not end.
        """
        while True:
            self._look()
            if self._clock.now() >= until:
                return
            self._clock.jump(min(self._scheduler.find_next_look(), until))

    def list_entries(self, since: datetime) -> Sequence[LedgerEntry]:
        """List what the ledger says of the time since a moment."""
        return [entry for entry in self._read_ledger().entries if entry.at >= since]

    def count_hours_since_success(self) -> float:
        """Return the hours since a run succeeded last, as the alert of `late_after` counts them."""
        succeeded_at = self._read_ledger().succeeded_at
        return 0.0 if succeeded_at is None else (self._clock.now() - succeeded_at) / timedelta(hours=1)

    def count_steps(self) -> dict[str, int]:
        """Return how often each step was taken, with its reason."""
        return self._read_ledger().counts

    def _read_ledger(self) -> ScheduleLedger:
        return read_ledger(self._store, self.loaded.recommender.name, PART)

    def _look(self) -> None:
        """Look until no run goes on."""
        while True:
            for news in self._scheduler.look():
                if news.fault is not None:
                    raise news.fault
            if not self._processes:
                return
            process = self._processes.pop()
            if self.kills_next:
                self.kills_next = False
                self._kill(process)
            process.wait(_PATIENCE)

    def _kill(self, process: subprocess.Popen[str]) -> None:
        """Kill a run's process with its steps once it has begun."""
        end = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < end:
            claim = self._read_ledger().claim
            if claim is not None and claim.begun is not None:
                os.killpg(process.pid, signal.SIGKILL)
                return
            time.sleep(_POLL)

    def _start(self, part: ScheduledPart, claim: RunClaim) -> subprocess.Popen[str]:
        order = make_order(part, claim, self._store, ahead=self._clock.ahead.total_seconds())
        process = start_process(order)
        self._processes.append(process)
        return process


def age_store(store: Path, by: timedelta) -> None:
    """Move each artifact's last use back, so that a day that was jumped over counts for what is not used."""
    for manifest in store.glob("*/*/*/manifest.json"):
        used = manifest.stat().st_mtime - by.total_seconds()
        os.utime(manifest, (used, used))

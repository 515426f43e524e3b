"""The log of the month's shop, as its files arrive: whole, in parts, late, broken, or once more."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from endcap.cli.month_story import DAYS, FIRST, HISTORY, FileState, Upload, get_date
from endcap.simulation.simulate import SimulatedLog, simulate, write_log
from endcap.store import report_storage_errors

EVENTS_A_DAY = 4_000
_ITEMS, _CUSTOMERS = 1_500, 4_000
_BAD_TIME = "yesterday"


def simulate_month(seed: int, days: int = DAYS) -> SimulatedLog:
    """Simulate the shop's log up to the eve of a day of the month. A longer log begins with the same rows."""
    length = HISTORY + days - 1
    return simulate(
        seed=seed,
        days=length,
        events=length * EVENTS_A_DAY,
        items=_ITEMS,
        customers=_CUSTOMERS,
        start=FIRST - HISTORY * (get_date(2) - get_date(1)),
    )


class ArrivingLog:
    """Lets files of a log arrive in a folder, each in one step.

    Parameters
    ----------
    log
        The log.
    folder
        Gets `events/<date>.csv` and `items.csv`.
    """

    def __init__(self, log: SimulatedLog, folder: Path) -> None:
        self._log, self._folder = log, folder

    def upload(self, day: int, upload: Upload) -> Path:
        """Let a file arrive on a day of the month. With a whole file of the day before comes the item table.

        Returns
        -------
        Path
            The file.
        """
        staging = self._folder / "outbox"
        shutil.rmtree(staging, ignore_errors=True)
        number = HISTORY + day - 1 - upload.back
        written = write_log(self._log, staging, days=range(number, number + 1))[0]
        with report_storage_errors(self._folder):
            header, *rows = written.read_text(encoding="utf-8").splitlines(keepends=True)
            written.write_text("".join([header, *_CHANGES[upload.state](rows)]), encoding="utf-8")
            (self._folder / "events").mkdir(parents=True, exist_ok=True)
            if upload.back == 1:
                _move(staging / "items.csv", self._folder / "items.csv")
            file = self._folder / "events" / written.name
            _move(written, file)
        return file

    def find_customer(self) -> str:
        """Find a customer whose rows have arrived: the first of the newest file."""
        with report_storage_errors(self._folder):
            newest = max((self._folder / "events").iterdir())
            with newest.open(encoding="utf-8", newline="") as rows:
                return next(row["customer"] for row in csv.DictReader(rows) if row["customer"])


def _move(before: Path, after: Path) -> None:
    os.replace(before, after)  # noqa: PTH105 - the same call


def _spoil(rows: Sequence[str], every: int) -> list[str]:
    """Give one row in so many a time that is none."""
    return [row if number % every else ",".join([_BAD_TIME, *row.split(",")[1:]]) for number, row in enumerate(rows, 1)]


_CHANGES: Mapping[FileState, Callable[[Sequence[str]], Sequence[str]]] = {
    "whole": lambda rows: rows,
    "half": lambda rows: rows[: len(rows) // 2],
    "short": lambda rows: rows[: len(rows) * 3 // 4],
    "dirty": lambda rows: _spoil(rows, 200),
    "broken": lambda rows: _spoil(rows, 5),
}

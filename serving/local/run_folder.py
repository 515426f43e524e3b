"""A run's folder, which only its user may read: the logs of its processes, and Envoy's files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from endcap.processes import is_alive
from endcap.store import Store, report_storage_errors

KEPT_RUNS = 5
_RUN = re.compile(r"\d{8}T\d{6}-\d+-.+")


def make_run_folder(store: Store, recommender: str) -> Path:
    """Make a folder with mode 700 for this run, and remove those of old runs.

    Parameters
    ----------
    store
        The store, whose work folder holds the runs.
    recommender
        The recommender's name.

    Returns
    -------
    Path
        The folder. The newest `KEPT_RUNS` are kept, and those of runs that still live.

    Raises
    ------
    StorageError
        The folder cannot be made.
    """
    runs = store.work_folder("serving", recommender)
    # Other files that somebody put there stay.
    run_folders = sorted(run_folder for run_folder in runs.iterdir() if _RUN.fullmatch(run_folder.name))
    for run_folder in run_folders[: -KEPT_RUNS + 1]:
        if not is_alive(int(run_folder.name.split("-")[1])):
            shutil.rmtree(run_folder, ignore_errors=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    with report_storage_errors(runs):
        return Path(tempfile.mkdtemp(prefix=f"{now}-{os.getpid()}-", dir=runs))


def restore_folder(folder: Path) -> None:
    """Make a run's folder again, if it was removed. Raises OSError if something else is in its place."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)

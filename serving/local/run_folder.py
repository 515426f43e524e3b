"""A run's folder: what its processes write, and Envoy's files, for nobody else to read."""

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
    """A folder of mode 700 for this run; the newest few of ended runs are kept. Raises StorageError."""
    runs = store.work_folder("serving", recommender)
    # Whatever else someone put there is none of ours.
    run_folders = sorted(run_folder for run_folder in runs.iterdir() if _RUN.fullmatch(run_folder.name))
    for run_folder in run_folders[: -KEPT_RUNS + 1]:
        if not is_alive(int(run_folder.name.split("-")[1])):
            shutil.rmtree(run_folder, ignore_errors=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    with report_storage_errors(runs):
        return Path(tempfile.mkdtemp(prefix=f"{now}-{os.getpid()}-", dir=runs))


def restore_folder(folder: Path) -> None:
    """Make it again, where it was removed. Raises OSError where something else is in its place."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)

"""Logs of runs on this machine: where they lie, and their lines."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from endcap.errors import NotFoundError
from endcap.store import Store
from endcap.store.safe_paths import find_name_fault, stays_inside

POLL_SECONDS = 0.2
"""Seconds between two looks at a log that grows."""


def find_logs_folder(store: Store) -> Path:
    """Return the folder of this machine's run logs: in the store, or in the current folder for a bucket."""
    scheme, _, place = store.root.partition("://")
    return Path(place) / "runs" if scheme == "file" else Path(".endcap/runs").resolve()


def list_log_files(store: Store, run: str, step: str = "") -> list[Path]:
    """List the logs of a run's steps, or of one step, in the order of their last lines.

    Raises NotFoundError if none exists.
    """
    folder = find_logs_folder(store) / run
    named = not any("/" in name or find_name_fault(name) for name in (run, *([step] if step else [])))
    logs = sorted(_list_step_logs(folder, step), key=_get_sort_key) if named else []
    if not logs:
        of = f"step {step!r} of " if step else ""
        steps_with_logs = (
            ", ".join(file.stem for file in sorted(_list_step_logs(folder), key=_get_sort_key)) if named else ""
        )
        raise NotFoundError(
            f"no log of {of}the run {run!r} in {folder}; steps with logs: {steps_with_logs or 'none'}",
            code="run.no-log",
            run=run,
            step=step,
            folder=str(folder),
        )
    return logs


def tail_logs(find: Callable[[], list[Path]], ended: Callable[[], bool]) -> Iterator[tuple[Path, str]]:
    """Yield each line of the logs with its file, and new lines as they come, until the run has ended."""
    read: dict[Path, int] = {}
    while True:
        over = ended()
        for file in find():
            with file.open("rb") as handle:
                handle.seek(read.get(file, 0))
                for line in handle:
                    if not (line.endswith(b"\n") or over):
                        break  # the rest of it is still to come
                    read[file] = read.get(file, 0) + len(line)
                    yield file, line.decode(errors="replace").rstrip("\n")
        if over:
            return
        time.sleep(POLL_SECONDS)


def _list_step_logs(folder: Path, step: str = "") -> list[Path]:
    """Logs of the steps, those of them that are files within the folder."""
    files = folder.glob(f"{glob.escape(step) if step else '*'}.log")
    return [file for file in files if file.is_file() and stays_inside(folder, file)]


def _get_sort_key(file: Path) -> tuple[bool, int]:
    """KFP's own log comes last."""
    return file.stem == "kfp", file.stat().st_mtime_ns

"""The folder for artifacts of a registry in a file, when the file was moved together with it.

MLflow writes a folder's absolute path into each experiment and each run, and has no call that changes either. Without
this a run's report would go to the folder that the registry was moved from, and earlier ones would be lost to its page.
"""

from __future__ import annotations

import contextlib
import sqlite3

from endcap.registry.connection import find_sqlite_file, lock_registry

ARTIFACTS = "mlflow-artifacts"
"""The folder beside the file."""
_COLUMNS = (("experiments", "artifact_location"), ("runs", "artifact_uri"))


def get_artifact_folder(uri: str) -> str | None:
    """Return the ``file://`` address of the folder in which a registry in a file keeps the files of runs.

    None for another registry, whose server decides.
    """
    file = find_sqlite_file(uri)
    return None if file is None else file.with_name(ARTIFACTS).as_uri()


def relocate(uri: str) -> None:
    """Change the addresses in a registry in a file, so that its experiments and runs name the folder beside it.

    Folders with another name were set by other software and stay. If the file cannot be written, nothing can be logged
    either, and nothing is changed.
    """
    file, here = find_sqlite_file(uri), get_artifact_folder(uri)
    if file is None or here is None:
        return
    # Columns of MLflow's own tables, the same since 1.0; where a later release has others, they stay as they are.
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(file, timeout=60)) as base:
        if _list_former_folders(base, here):
            with lock_registry(uri), base:
                for before in _list_former_folders(base, here):
                    _replace_folder(base, before, here)


def _list_former_folders(base: sqlite3.Connection, here: str) -> list[str]:
    """List the folders of that name in other places."""
    question = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?"
    return [folder for (folder,) in base.execute(question, (f"file://%/{ARTIFACTS}",)) if folder != here]


def _replace_folder(base: sqlite3.Connection, before: str, here: str) -> None:
    for table, column in _COLUMNS:
        base.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608 (names of our own)
            f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (here, len(before) + 1, before, len(before) + 1, f"{before}/"),
        )

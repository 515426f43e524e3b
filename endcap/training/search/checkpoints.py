"""Where a trial's checkpoints are while it runs, and afterwards while the trial may continue."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from endcap.errors import EndcapError
from endcap.spec.tunable import Values
from endcap.store import CHECKPOINT, Store, fingerprint
from endcap.training.search.job import Task
from endcap.training.search.record import WRITTEN, ModelTrials, Trial


class _KeptError(Exception):
    """Leaves a store's workspace without emptying it."""


@contextlib.contextmanager
def workspace(task: Task, store: Store, number: int, values: Values) -> Iterator[Path]:
    """Yield a trial's folder. Its content is there again at the next entry; after an error it is emptied, since the
    trial does not continue.

    Parameters
    ----------
    task
        The trial's task.
    store
        Where workspaces are, unless the task has a folder.
    number, values
        The trial's number and settings.
    """
    if task.folder is not None:
        work = _get_folder(task.folder, number, values)
        try:
            yield work
        except Exception:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return
    failure: Exception | None = None
    with contextlib.suppress(_KeptError), store.workspace(*_locate_workspace(task, number, values)) as work:
        try:
            yield work
        except Exception as error:
            failure = error
        else:
            raise _KeptError
    if failure is not None:
        raise failure


def prune(task: Task, store: Store, part: ModelTrials, gone: set[tuple[str, int, int]], *, every: bool = False) -> None:
    """Remove the checkpoints of ended trials.

    Those of the best trial, and of the model as the spec has it if it may continue, stay.

    Parameters
    ----------
    task
        The trials' task.
    store
        Where workspaces are, unless the task has a folder.
    part
        The trials.
    gone
        Trials whose checkpoints were removed before, by label, number and attempt; changed in place.
    every
        Remove the checkpoints of all ended trials.
    """
    best = part.best
    for trial in part.ended:
        goes_on = trial.number == WRITTEN and trial.state in ("pruned", "cut")
        known = (task.label, trial.number, trial.attempt)
        if known not in gone and (every or not (goes_on or (best is not None and trial.number == best.number))):
            _remove(task, store, trial)
            gone.add(known)


def copy(task: Task, store: Store, trial: Trial, target: Path) -> bool:
    """Copy a trial's checkpoints for a fit with the same arguments, and return whether there are any.

    Parameters
    ----------
    task
        The trial's task.
    store
        Where workspaces are, unless the task has a folder.
    trial
        The trial.
    target
        Folder to copy to.
    """
    if task.folder is not None:
        return _copy_checkpoints(_get_folder(task.folder, trial.number, trial.parameters), target)
    copied = False
    with (
        contextlib.suppress(_KeptError),
        store.workspace(*_locate_workspace(task, trial.number, trial.parameters)) as work,
    ):
        copied = _copy_checkpoints(work, target)
        raise _KeptError
    return copied


def _remove(task: Task, store: Store, trial: Trial) -> None:
    if task.folder is not None:
        shutil.rmtree(_get_folder(task.folder, trial.number, trial.parameters), ignore_errors=True)
        return
    with (
        contextlib.suppress(EndcapError),  # it costs room alone
        store.workspace(*_locate_workspace(task, trial.number, trial.parameters)),
    ):
        pass


def _copy_checkpoints(source: Path, target: Path) -> bool:
    files = sorted(source.rglob(CHECKPOINT)) if source.is_dir() else []
    for file in files:
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name(f"{place.name}.draft")
        shutil.copyfile(file, draft)
        draft.replace(place)
    return bool(files)


def _get_folder(folder: str, number: int, values: Values) -> Path:
    return Path(folder) / f"{number}-{fingerprint(values)}"


def _locate_workspace(task: Task, number: int, values: Values) -> tuple[str, str]:
    return f"trials/{task.name}", fingerprint(task.key, task.label, number, values)

"""Where a trial's checkpoints are while it runs, and after it for as long as it may be gone on with."""

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
    """A trial's folder: what is left of it when the block ends is there again at the next entry. After an error it is
    empty, since nobody goes on from there."""
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
    """Remove the checkpoints of trials that ended, but of the best and of the model as the spec has it, where that may
    go on; every: of these too. gone: whose were removed before, by label, number and attempt."""
    best = part.best
    for trial in part.ended:
        goes_on = trial.number == WRITTEN and trial.state in ("pruned", "cut")
        known = (task.label, trial.number, trial.attempt)
        if known not in gone and (every or not (goes_on or (best is not None and trial.number == best.number))):
            _remove(task, store, trial)
            gone.add(known)


def copy(task: Task, store: Store, trial: Trial, target: Path) -> bool:
    """Copy a trial's checkpoints, for a fit with the same arguments; whether there are any."""
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

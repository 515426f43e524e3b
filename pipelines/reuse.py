"""Steps whose artifact exists already: the runner finds it in its own process, and starts no process for the step.

KFP's local runner starts a Python for each task, which takes seconds before it does anything. The first steps of a run
that was made before, or that failed later on, have nothing to do. So the runner first runs the body of a step itself,
with a store that can only be read. If the body ends, it has found its artifact. If it would write something, or fails,
the step's own process starts and does everything, as if nobody had checked.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from endcap.runs import StepEnd
from endcap.steps import SQL, STEPS
from endcap.store.read_only import WriteAttempt
from endcap_components import load_component
from endcap_components.lifecycle import MARK
from endcap_components.reuse import ReuseCheck, check_reuse

_KINDS = {**STEPS, SQL.name: SQL}
"""Steps by the function of their component: all steps of SQL have one."""


@contextlib.contextmanager
def reuse_artifacts(folder: Path) -> Iterator[None]:
    """Within it, KFP's local runner checks for an artifact before it starts a process. folder: of the steps' logs.

    KFP knows two kinds of runners by their types and accepts no others, so its handler of processes is replaced.
    """
    from kfp.local import status, subprocess_task_handler

    # What comes after a step that makes something is given something new: there is nothing to find any more.
    going = True

    class Handler(subprocess_task_handler.SubprocessTaskHandler):  # type: ignore[misc]
        def run(self) -> status.Status:
            nonlocal going
            step = _argument(self.full_command, "--function_to_execute")
            if going and step in _KINDS and _KINDS[step].looked_for:
                going = _find(step, _argument(self.full_command, "--executor_input"), folder)
                if going:
                    return status.Status.SUCCESS
            return super().run()

    before = subprocess_task_handler.SubprocessTaskHandler
    subprocess_task_handler.SubprocessTaskHandler = Handler
    try:
        yield
    finally:
        subprocess_task_handler.SubprocessTaskHandler = before


def _find(step: str, executor_input: str, folder: Path) -> bool:
    """Whether a step's artifact exists. Then its outputs are written, and its events sent as its process would."""
    from kfp.dsl.executor import Executor

    output = io.StringIO()
    component = load_component(step)
    try:
        with (
            check_reuse() as check,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            _own_modules(),
        ):
            Executor(json.loads(executor_input), component).execute()
    except (WriteAttempt, Exception, SystemExit):  # of a failure the step's process tells, in the step's log
        return False
    if check.record is None or not any(isinstance(event, StepEnd) for event in check.events):
        return False
    name = next(event.step for event in check.events if isinstance(event, StepEnd))
    with (folder / f"{name}.log").open("a") as log:
        log.write(textwrap.dedent(output.getvalue()))  # KFP has print indent each line
    _tell(check)
    return True


def _tell(check: ReuseCheck) -> None:
    assert check.record is not None
    assert check.lineage is not None
    check.record.keep()
    for event in check.events:
        print(MARK + json.dumps(event.to_json()), flush=True)
    check.lineage.start()
    check.lineage.close()


def _argument(command: Sequence[str], name: str) -> str:
    """The value that follows an argument of KFP's executor; empty where it is not there."""
    return next((value for key, value in itertools.pairwise(command) if key == name), "")


@contextlib.contextmanager
def _own_modules() -> Iterator[None]:
    """Find modules in the current folder, as a step's process does."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before

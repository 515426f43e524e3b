"""Steps of a project in this process, shown as a run shows them: a line a step."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from endcap.cli.display import Display
from endcap.runs import RunEvent, StepEnd, StepProgress, StepStart
from endcap.runs.record import existed_before
from endcap.store import Store


class _ProjectResult(Protocol):
    @property
    def store(self) -> Store: ...

    @property
    def address(self) -> str: ...

    @property
    def summary(self) -> str: ...


Made = TypeVar("Made", bound=_ProjectResult)


class ProjectSteps:
    """Runs one step after the other. `progress` is what their project is to be opened with."""

    def __init__(self, *, verbose: bool, quiet: bool = False) -> None:
        """quiet: the lines go to standard error, where the output is a document."""
        again = f"{shlex.join(['endcap', *sys.argv[1:]])}   (what was made is not made again)"
        self._display = Display(run="", verbose=verbose, where=lambda step: "", again=again)
        self._quiet, self._step = quiet, ""

    def progress(self, line: str) -> None:
        """Take a line of the step that runs."""
        self._hear(StepProgress(self._step, line))

    def run(self, step: str, make: Callable[[], Made]) -> Made:
        """Run a step; its line is shown when it ends. Raises what the step raises."""
        self._step, begun, started = step, time.monotonic(), datetime.now(UTC)
        self._hear(StepStart(step))
        try:
            project = make()
        except KeyboardInterrupt:
            with self._aside():
                raise self._display.interrupted({}) from None
        except BaseException:
            with self._aside():
                self._display.failed(step)
            raise
        seconds, reused = time.monotonic() - begun, existed_before(project.store, project.address, started)
        self._hear(StepEnd(step, project.address, project.summary, seconds, reused))
        return project

    def _hear(self, event: RunEvent) -> None:
        with self._aside():
            self._display.hear(event)

    def _aside(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.redirect_stdout(sys.stderr) if self._quiet else contextlib.nullcontext()

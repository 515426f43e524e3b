"""Run steps of a project in this process, and print a line for each, as a run does."""

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
    """Runs steps one after the other. Open their project with the method `progress`."""

    def __init__(self, *, verbose: bool, quiet: bool = False) -> None:
        """verbose: print every line of progress. quiet: print to standard error, because the output is a document."""
        again = f"{shlex.join(['endcap', *sys.argv[1:]])}   (finished steps are not repeated)"
        self._display = Display(run="", verbose=verbose, where=lambda step: "", again=again)
        self._quiet, self._step = quiet, ""

    def progress(self, line: str) -> None:
        """Take a line of progress of the running step."""
        self._hear(StepProgress(self._step, line))

    def run(self, step: str, make: Callable[[], Made]) -> Made:
        """Run a step and print its line when it ends.

        Parameters
        ----------
        step
            The step's name.
        make
            Runs the step. What it raises is raised.

        Returns
        -------
        The step's result.
        """
        self._step, begun, started = step, time.monotonic(), datetime.now(UTC)
        self._hear(StepStart(step))
        try:
            result = make()
        except KeyboardInterrupt:
            with self._redirect():
                raise self._display.make_interruption({}) from None
        except BaseException:
            with self._redirect():
                self._display.print_failure(step)
            raise
        seconds, reused = time.monotonic() - begun, existed_before(result.store, result.address, started)
        self._hear(StepEnd(step, result.address, result.summary, seconds, reused))
        return result

    def _hear(self, event: RunEvent) -> None:
        with self._redirect():
            self._display.hear(event)

    def _redirect(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.redirect_stdout(sys.stderr) if self._quiet else contextlib.nullcontext()

"""Steps of a project in this process, shown as a run shows them: a line a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from endcap.cli.display import Display
from endcap.runs import Done, Event, Progress, Started


class _Made(Protocol):
    @property
    def address(self) -> str: ...

    @property
    def summary(self) -> str: ...


Made = TypeVar("Made", bound=_Made)


class Steps:
    """Runs one step after the other. `progress` is what their project is to be opened with."""

    def __init__(self, *, verbose: bool, quiet: bool = False) -> None:
        """quiet: show nothing, where the output is a document."""
        self._display = Display(run="", verbose=verbose, where=lambda step: "", again="")
        self._quiet, self._step = quiet, ""

    def progress(self, line: str) -> None:
        """Take a line of the step that runs."""
        self._hear(Progress(self._step, line))

    def run(self, step: str, make: Callable[[], Made]) -> Made:
        """Run a step; its line is shown when it ends. Raises what the step raises."""
        self._step, begun = step, time.monotonic()
        self._hear(Started(step))
        try:
            made = make()
        except BaseException:
            if not self._quiet:
                self._display.failed(step)
            raise
        self._hear(Done(step, made.address, made.summary, time.monotonic() - begun))
        return made

    def _hear(self, event: Event) -> None:
        if not self._quiet:
            self._display.hear(event)

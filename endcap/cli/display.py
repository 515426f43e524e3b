"""What a run shows while it goes on: a line a step, and at its end what was made and where."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from endcap.errors import EndcapError


class Display:
    """One line a step: written when it ends; on a terminal, its progress is shown until then.

    results: what each finished step gave. Steps may run side by side; a step's own seconds are shown where an event
    has them, else the time since the line before.
    """

    def __init__(self, *, verbose: bool, where: Callable[[str | None], str], again: str, silent: str = "") -> None:
        """where: the lines that tell where to look, of a step or of the run. again: how to go on after a failure.
        silent: the cause where the run stopped and its step said nothing; empty: the error tells it.
        """
        self.results: dict[str, str] = {}
        self._where = where
        self._again = again
        self._silent = silent
        self._verbose = verbose
        self._live = sys.stdout.isatty() and not verbose
        self._running: list[str] = []
        self._failed: str | None = None
        self._absent: dict[str, str] = {}
        self._begun = time.monotonic()
        self._cause = ""

    def hear(self, event: dict[str, Any]) -> None:
        step, state = event["step"], event["state"]
        if state == "started":
            self._running.append(step)
            self._show(f"  … {', '.join(self._running)}")
        elif state == "progress":
            if self._verbose:
                click.echo(f"    {step}: {event['line']}")
            else:
                self._show(f"  … {step:<9} {event['line']}")
        elif state == "done":
            self._forget(step)
            self.results[step] = event["result"]
            self._line("✓", "green", step, self._seconds(event), event["summary"] or event["result"])
        elif state == "failed":
            self._failed, self._cause = step, event["cause"]
        elif state == "absent":
            self._absent[step] = event["reason"]
        elif state == "silent":
            self._clear()
            click.echo(f"  {click.style('!', fg='yellow')} {event['reason']}")

    def failure(self, error: EndcapError) -> str:
        """The message of a run that stopped: step, cause, where to look, and the command that goes on."""
        self._clear()
        step = self._failed or (self._running[0] if self._running and self._silent else None)
        if step is None:
            return f"{error}\n{self._where(None)}\n  again: {self._again}"
        self._line("⨯", "red", step, time.monotonic() - self._begun, "failed")
        return f"step {step} failed: {self._cause or self._silent}\n{self._where(step)}\n  again: {self._again}"

    def end(self, steps: Sequence[str], seconds: float, *, stopped: bool) -> None:
        """The last lines. stopped: the gate did not pass, so that not all steps are expected."""
        self._clear()
        skipped = [step for step in steps if step not in self.results]
        missing = [step for step in skipped if step not in self._absent]
        if missing and not stopped:
            raise EndcapError(self.failure(EndcapError(f"these steps did not run: {', '.join(missing)}")))
        for step in skipped:
            click.echo(f"  - {step:<9}           not run: {self._absent.get(step, 'the gate did not pass')}")
        click.echo(f"Done in {seconds:.1f} s. Artifacts:")
        for step in steps:
            if "://" in self.results.get(step, ""):
                click.echo(f"  {step:<9} {self.results[step]}")

    def _seconds(self, event: dict[str, Any]) -> float:
        now = time.monotonic()
        seconds, self._begun = now - self._begun, now
        return float(event.get("took", seconds))

    def _line(self, mark: str, colour: str, step: str, seconds: float, told: str) -> None:
        self._clear()
        click.echo(f"  {click.style(mark, fg=colour)} {step:<9} {seconds:6.1f} s  {told}".rstrip())

    def _forget(self, step: str) -> None:
        if step in self._running:
            self._running.remove(step)

    def _show(self, line: str) -> None:
        if self._live:
            click.echo(f"\r\033[K{line[:110]}", nl=False)

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\033[K", nl=False)

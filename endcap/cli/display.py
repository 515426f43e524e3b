"""What a run shows while it goes on: a line a step, and at its end what was made and where."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import click

from endcap.errors import EndcapError, RunInterruptedError
from endcap.progress import Notice
from endcap.runs import RunEvent, RunSilence, StepAbsence, StepEnd, StepFailure, StepProgress, StepStart
from endcap.runs.record import KILLED_FAULT
from endcap.runs.text import format_step_seconds

SAY_EVERY = 10.0
"""Seconds between two lines of a step's progress in a log file or a pipe."""


class _LineLimit:
    """Which of a step's lines are shown where nobody looks on: the first, then at most one in `SAY_EVERY` seconds, and
    where the step lasted longer than that its last."""

    def __init__(self) -> None:
        self._shown = -SAY_EVERY
        self._count, self._held = 0, ""

    def next(self, line: str) -> str:
        """The line, where it is to be shown now; else empty."""
        if time.monotonic() - self._shown < SAY_EVERY:
            self._held = line
            return ""
        self._shown, self._held = time.monotonic(), ""
        self._count += 1
        return line

    def last(self) -> str:
        """The step's last line, where it is still to be shown; else empty."""
        return self._held if self._count > 1 else ""


class Display:
    """One line a step: written when it ends; on a terminal, its progress is shown until then.

    In a pipe or a log file its progress is a line now and then, see `_LineLimit`.

    results: what each finished step gave; done: the events of these. Steps may run side by side.
    """

    def __init__(
        self, *, run: str, verbose: bool, where: Callable[[str | None], str], again: str, here: bool = False
    ) -> None:
        """where: the lines that tell where to look, of a step or of the run. again: how to go on after a failure.
        here: a step that was running when the run stopped, and said nothing, was killed.
        """
        self._run = run
        self.results: dict[str, str] = {}
        self.done: list[StepEnd] = []
        self._where = where
        self._again = again
        self._here = here
        self._verbose = verbose
        self._live = sys.stdout.isatty() and not verbose
        self._running: list[str] = []
        self._failed: StepFailure | None = None
        self._absent: dict[str, str] = {}
        self._begun = time.monotonic()
        self._lines: dict[str, _LineLimit] = {}

    def hear(self, event: RunEvent) -> None:
        match event:
            case StepStart(step):
                self._running.append(step)
                self._begun = time.monotonic()
                self._show(f"  … {', '.join(self._running)}")
            case StepProgress(step, line):
                if line.startswith(Notice.MARK):
                    self._clear()
                    text = line.removeprefix(Notice.MARK)
                    click.echo(f"  {click.style('!', fg='yellow')} {step:<9} {text}")
                elif self._verbose:
                    click.echo(f"    {step}: {line}")
                elif self._live:
                    self._show(f"  … {step:<9} {line}")
                elif text := self._lines.setdefault(step, _LineLimit()).next(line):
                    click.echo(f"  … {step:<9} {text}")
            case StepEnd(step, result, summary, seconds, reused):
                if step in self._running:
                    self._running.remove(step)
                self.results[step] = result
                self.done.append(event)
                if text := self._lines.pop(step, _LineLimit()).last():
                    click.echo(f"  … {step:<9} {text}")
                self._line("✓", "green", step, format_step_seconds(seconds, reused), summary or result)
            case StepFailure():
                self._failed = event
            case StepAbsence(step, reason):
                self._absent[step] = reason
            case RunSilence(reason):
                self._clear()
                click.echo(f"  {click.style('!', fg='yellow')} {reason}")

    def failed(self, step: str) -> None:
        """A step of this process has failed; its error is told by whoever catches it."""
        self._line("⨯", "red", step, format_step_seconds(time.monotonic() - self._begun), "failed")

    def failure(self, error: EndcapError) -> EndcapError:
        """The error of a run that stopped: step, cause, where to look, and the command that goes on."""
        self._clear()
        failed = self._failed
        if failed is None and self._running and self._here:
            failed = StepFailure(self._running[0], KILLED_FAULT, time.monotonic() - self._begun)
        if failed is None:
            message = f"{error}\n{self._where(None)}\n  again: {self._again}"
            return EndcapError(message, code=error.code, **{**error.fields, "run": self._run})
        step, fault = failed.step, failed.fault
        self._line("⨯", "red", step, format_step_seconds(failed.seconds), "failed")
        message = f"step {step} failed: {fault.message}\n{self._where(step)}\n  again: {self._again}"
        return EndcapError(message, code=fault.code, **{**fault.fields, "run": self._run, "step": step})

    def interrupted(self, left: Mapping[str, str]) -> RunInterruptedError:
        """The error of a run that a person ended: in which step, what is kept, where to look, and how to go on.

        left: what is kept of an unfinished step, by its name.
        """
        self._clear()
        step = self._running[0] if self._running else None
        if step is not None:
            self._line("⨯", "red", step, format_step_seconds(time.monotonic() - self._begun), "interrupted")
        kept = [f"finished steps are kept ({', '.join(self.results)})"] if self.results else ["no step had ended"]
        kept += [left[step]] if step is not None and step in left else []
        lines = [f"interrupted{f' in step {step}' if step else ''}: {'; '.join(kept)}", self._where(step)]
        message = "\n".join(line for line in [*lines, f"  again: {self._again}" if self._again else ""] if line)
        fields = {"run": self._run, "step": step, "kept": list(self.results)}
        return RunInterruptedError(message, code="cli.interrupted", **fields)

    def end(self, steps: Sequence[str], seconds: float, *, stopped: str | None) -> dict[str, str]:
        """The last lines. stopped: why not all steps are expected, such as a gate that did not pass.

        Returns why each step did not run that did not, by its name.
        """
        self._clear()
        skipped = [step for step in steps if step not in self.results]
        missing = [step for step in skipped if step not in self._absent]
        if missing and not stopped:
            names = ", ".join(missing)
            raise self.failure(
                EndcapError(f"these steps did not run: {names}", code="run.steps-missing", steps=missing)
            )
        reasons = {step: self._absent.get(step) or str(stopped) for step in skipped}
        for step, reason in reasons.items():
            click.echo(f"  - {step:<9}           not run: {reason}")
        click.echo(f"Done in {seconds:.1f} s. Artifacts:")
        for step in steps:
            if "://" in self.results.get(step, ""):
                click.echo(f"  {step:<9} {self.results[step]}")
        return reasons

    def _line(self, mark: str, colour: str, step: str, took: str, text: str) -> None:
        self._clear()
        click.echo(f"  {click.style(mark, fg=colour)} {step:<9} {took}  {text}".rstrip())

    def _show(self, line: str) -> None:
        if self._live:
            # A line that wraps could not be taken back.
            click.echo(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", nl=False)

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\033[K", nl=False)

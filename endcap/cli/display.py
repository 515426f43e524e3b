"""The lines that a run prints: one for each step, and at the end the artifacts and their addresses."""

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
"""The seconds between two lines of a step's progress in a log file or a pipe."""


class _LineLimit:
    """Chooses the lines of a step's progress for a log file or a pipe: the first, then at most one in `SAY_EVERY`
    seconds, and the last one of a longer step."""

    def __init__(self) -> None:
        self._shown = -SAY_EVERY
        self._count, self._held = 0, ""

    def next(self, line: str) -> str:
        """Return the line if it is to be shown now, else an empty text."""
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
    """Prints one line for each step when it ends. Steps may run at the same time.

    Until a step ends, a terminal shows its last line of progress. A pipe or a log file gets a line now and then.

    Attributes
    ----------
    results
        The result of each finished step, by its name.
    done
        The events of the finished steps, in their order.
    """

    def __init__(
        self, *, run: str, verbose: bool, where: Callable[[str | None], str], again: str, here: bool = False
    ) -> None:
        """Prepare the display of a run.

        Parameters
        ----------
        run
            The run's name.
        verbose
            Whether to print every line of progress.
        where
            Returns the lines that say where to look, for a step's name or, for None, the run.
        again
            The command that goes on after a failure.
        here
            Whether steps run on this machine. Then a step was killed if it did not say why it ended.
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
        """Take an event of the run, and print its line."""
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

    def print_failure(self, step: str) -> None:
        """Print that a step of this process failed. The caller reports its error."""
        self._line("⨯", "red", step, format_step_seconds(time.monotonic() - self._begun), "failed")

    def make_failure(self, error: EndcapError) -> EndcapError:
        """Make the error of a run that stopped. It names the step, the cause, where to look, and the command to go on.

        Parameters
        ----------
        error
            The error of the run, which counts if no step has failed.
        """
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

    def make_interruption(self, unfinished: Mapping[str, str]) -> RunInterruptedError:
        """Make the error of a run that a person ended. It says what is kept, where to look, and how to go on.

        Parameters
        ----------
        unfinished
            What is kept of a step that did not finish, by the step's name.
        """
        self._clear()
        step = self._running[0] if self._running else None
        if step is not None:
            self._line("⨯", "red", step, format_step_seconds(time.monotonic() - self._begun), "interrupted")
        kept = [f"finished steps are kept ({', '.join(self.results)})"] if self.results else ["no step had ended"]
        kept += [unfinished[step]] if step is not None and step in unfinished else []
        lines = [f"interrupted{f' in step {step}' if step else ''}: {'; '.join(kept)}", self._where(step)]
        message = "\n".join(line for line in [*lines, f"  again: {self._again}" if self._again else ""] if line)
        fields = {"run": self._run, "step": step, "kept": list(self.results)}
        return RunInterruptedError(message, code="cli.interrupted", **fields)

    def end(self, steps: Sequence[str], seconds: float, *, stopped: str | None) -> dict[str, str]:
        """Print the last lines of a run that ended well.

        Parameters
        ----------
        steps
            The names of the steps that the run was to have.
        seconds
            How long the run took.
        stopped
            Why some steps may be missing, such as a gate that did not pass; None if all must have run.

        Returns
        -------
        dict
            Why each step that did not run did not, by its name.

        Raises
        ------
        EndcapError
            A step is missing without a reason.
        """
        self._clear()
        skipped = [step for step in steps if step not in self.results]
        missing = [step for step in skipped if step not in self._absent]
        if missing and not stopped:
            names = ", ".join(missing)
            raise self.make_failure(
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
            # The terminal cannot erase a line that wraps.
            click.echo(f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}", nl=False)

    def _clear(self) -> None:
        if self._live:
            click.echo("\r\033[K", nl=False)

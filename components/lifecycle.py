"""What surrounds every step: its log, its progress, its deadline, and the report of its end.

In a pod, a step prints to the pod's log. On a laptop, the local runner sets ENDCAP_RUN_FOLDER. Then all that the step
prints goes to `<folder>/<step>.log`, and marked lines tell the runner of the step's start, progress and end. The step's
process ends when its runner does. In both places the store keeps the step's record (see `endcap.runs`).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from endcap import devices
from endcap.devices import read_gpu_request
from endcap.errors import EndcapError, UserError
from endcap.openlineage import StepLineage
from endcap.output_redaction import format_traceback, redact_output
from endcap.progress import Notice
from endcap.retries import send_wait_lines
from endcap.runs import (
    RUN_FOLDER,
    Fault,
    RunEvent,
    StepEnd,
    StepFailure,
    StepProgress,
    StepRecord,
    StepStart,
    find_current_run,
)
from endcap.runs.code import IMAGE
from endcap.runs.cost import measure_cost
from endcap.runs.start import format_now
from endcap.steps import STEPS
from endcap_components.reuse import current_check

MARK = "::endcap "
DEADLINE = "ENDCAP_RUN_DEADLINE"
"""Seconds that the whole run may take, as its pipeline says."""


class StepReporter:
    """Takes a step's progress lines and its result, prints them and passes them on.

    Attributes
    ----------
    name
        The step's.
    run
        The run's name.
    """

    def __init__(
        self,
        name: str,
        run: str,
        send: Callable[[RunEvent], None],
        record: StepRecord,
        lineage: StepLineage,
        *,
        has_process: bool = True,
    ) -> None:
        """has_process: this process is the step's alone, so that what it uses is the step's cost."""
        self._has_process = has_process
        self.name = name
        self.run = run
        self._send = send
        self._record = record
        self._lineage = lineage
        lineage.begin()
        self._begun = time.monotonic()

    def progress(self, line: str) -> None:
        print(line, flush=True)
        self._send(StepProgress(self.name, line))

    def done(self, result: str, summary: str = "", **facts: str) -> str:
        """Report the step's end.

        Parameters
        ----------
        result
            Address of the artifact, or another short result.
        summary
            One line about it.
        facts
            Further keys for the step's record.

        Returns
        -------
        str
            `result`.
        """
        print(f"{result} {summary}".rstrip(), flush=True)
        seconds, reused = self.seconds(), self._record.is_older(result)
        more: dict[str, object] = {**facts, **({"reused": True} if reused else {})}
        if self._has_process:
            more["cost"] = self._measure_cost(seconds, "" if reused else result)
        self._record.write(state="done", ended=format_now(), result=result, summary=summary, seconds=seconds, **more)
        self._send(StepEnd(self.name, result, summary, seconds, reused))
        self._lineage.complete(result, reused=reused)
        return result

    def failed(self, fault: Fault) -> None:
        """Report why the step fails."""
        seconds, error = self.seconds(), fault.to_json()
        cost = self._measure_cost(seconds)
        self._record.write(
            state="failed", ended=format_now(), cause=fault.message, error=error, seconds=seconds, cost=cost
        )
        self._send(StepFailure(self.name, fault, seconds))
        self._lineage.fail(fault.message)
        self._lineage.close()

    def _measure_cost(self, seconds: float, address: str = "") -> dict[str, object]:
        """address: that of an artifact that the step added to the store."""
        return replace(
            measure_cost(seconds, _count_gpus()), stored_bytes=self._record.measure_stored_bytes(address)
        ).to_json()

    def seconds(self) -> float:
        return time.monotonic() - self._begun


@contextlib.contextmanager
def run_step(
    name: str, store: str = "", *, run: str = "", created: str = "", image: str = "", trigger: str | None = None
) -> Iterator[StepReporter]:
    """Run a step's body. If the body fails, the error's cause is reported, and the error goes on.

    Parameters
    ----------
    name
        The step's, as `endcap.steps` or the spec has it.
    store
        Address of the store that keeps the run's records.
    run, created
        KFP's id of the run, and when it was created (ISO 8601, UTC). Empty on a laptop.
    image
        The image that the step runs in. Empty on a laptop.
    trigger
        Who started the run and why (see `Start.from_text`). Only a run's first step gets it.

    Yields
    ------
    StepReporter
        Takes the body's progress and its result.

    Raises
    ------
    EndcapError
        The run's deadline has passed (`run.deadline-passed`).
    """
    folder, run = os.environ.get(RUN_FOLDER), find_current_run(run)
    lineage = StepLineage(name, run, store, Path(folder) if folder else None)
    if (check := current_check()) is not None:  # in the runner's process, which may be a user's own
        check.record = StepRecord(store, run, name, held=True)
        check.lineage = lineage
        check.events.append(StepStart(name))
        yield StepReporter(name, run, check.events.append, check.record, lineage, has_process=False)
        return
    redact_output()
    if image:
        os.environ[IMAGE] = image
    record = StepRecord(store, run, name)
    send = _redirect_output(name, Path(folder)) if folder else lambda event: None
    reporter = StepReporter(name, run, send, record, lineage)
    send(StepStart(name))
    if trigger is not None and not folder:  # the local runner has recorded the start itself
        record.begin_run(trigger)
    lineage.start()
    watch: threading.Timer | None = None
    try:
        end = _find_deadline(created, record)
        record.write(image=image)
        if end is not None:
            watch = _schedule_end(end, reporter)
        if name in STEPS:  # a user's own step need not compute by torch
            _warn_of_lacking_gpus(reporter)
        with send_wait_lines(reporter.progress):
            yield reporter
    except BaseException as error:
        print(format_traceback(error), end="", file=sys.stderr, flush=True)
        reporter.failed(Fault.of(error))
        raise
    finally:
        lineage.close()
        if watch is not None:
            watch.cancel()


def _count_gpus() -> int:
    """Return the GPUs that this pod was given. A process that was given none may use those of its machine."""
    try:
        request = read_gpu_request()
    except UserError:  # the step ends with this error, and its record must be written all the same
        return 0
    if request is not None:
        return request.count
    torch = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch is not None and torch.cuda.is_initialized() else 0


def _warn_of_lacking_gpus(reporter: StepReporter) -> None:
    """Before any work. Raises EndcapError where the pod was given GPUs, sees none, and its spec allows no CPU."""
    _, lack = devices.check_gpus()
    if lack is not None:
        reporter.progress(Notice(lack.words, **lack.fields))


def _find_deadline(created: str, record: StepRecord) -> datetime | None:
    """When the run must have ended, or None. Raises EndcapError where that is past: no step starts then.

    KFP has no deadline of a run before 2.17, and tells a run's creation time since 2.17 only; elsewhere the run
    counts from its first step's start.
    """
    seconds = float(os.environ.get(DEADLINE) or 0)
    if not seconds:
        return None
    begun = _parse_time(created) or _parse_time(record.run_begun() or "") or datetime.now(UTC)
    end = begun + timedelta(seconds=seconds)
    if end <= datetime.now(UTC):
        fault = _deadline_fault(end)
        raise EndcapError(f"{fault.message}; no step starts after it", code=fault.code, **fault.fields)
    return end


def _deadline_fault(end: datetime) -> Fault:
    at = f"{end:%Y-%m-%d %H:%M:%S}"
    message = f"the run's deadline (pipeline.deadline) passed at {at} UTC"
    return Fault(message, code="run.deadline-passed", fields={"deadline": end.isoformat(timespec="seconds")})


def _parse_time(text: str) -> datetime | None:
    """A time that KFP gave; a placeholder that it knows nothing of is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _schedule_end(end: datetime, reporter: StepReporter) -> threading.Timer:
    """End this process at the run's deadline, having said so."""

    def at_end() -> None:
        print(_deadline_fault(end).message, file=sys.stderr, flush=True)
        reporter.failed(_deadline_fault(end))
        os._exit(1)

    timer = threading.Timer((end - datetime.now(UTC)).total_seconds(), at_end)
    timer.daemon = True
    timer.start()
    return timer


def _redirect_output(name: str, folder: Path) -> Callable[[RunEvent], None]:
    """Send the process's output to the step's log; what is returned still speaks to the runner."""
    runner = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    threading.Thread(target=_end_with_runner, args=(runner.fileno(),), daemon=True).start()

    def send(event: RunEvent) -> None:
        with contextlib.suppress(BrokenPipeError):  # the runner has ended, and this process is about to end too
            runner.write(MARK + json.dumps(event.to_json()) + "\n")

    return send


def _end_with_runner(pipe: int) -> None:
    """End this process when nobody reads the step's output any more: then the runner has ended.

    The system closes the runner's end of the pipe however the runner ends, by kill -9 too. A step that went on would
    compete with the same step of the next run.
    """
    waiting = select.poll()
    waiting.register(pipe, 0)  # no event is asked for: an end that is gone is always told
    waiting.poll()
    os.write(2, b"the run was ended, and this step with it; the same command goes on\n")
    os._exit(1)

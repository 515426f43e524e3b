"""What surrounds every step: its log, its progress, its deadline, and how it reports its end.

In a pod a step prints to the pod's log. On a laptop the local runner sets ENDCAP_RUN_FOLDER: everything that the step
prints then goes to `<folder>/<step>.log`, and the runner is told of its start, progress and end by marked lines. The
step ends when its runner does. In both, the store keeps what the step said last (see `endcap.runs`).
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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from endcap import devices
from endcap.errors import EndcapError
from endcap.outlets import redact_outlets, traceback_of
from endcap.progress import Notice
from endcap.runs import RUN_FOLDER, Done, Event, Failed, Fault, Progress, Started, StepRecord, current_run
from endcap.runs.code import IMAGE
from endcap.runs.start import now
from endcap.steps import STEPS
from endcap.waiting import heard_by
from endcap_components.look import current_look

MARK = "::endcap "
DEADLINE = "ENDCAP_RUN_DEADLINE"
"""Seconds that the whole run may take, as its pipeline says."""


class Step:
    """Handed to the step's body: takes progress lines and the step's result. run: the run's name."""

    def __init__(self, name: str, run: str, tell: Callable[[Event], None], record: StepRecord) -> None:
        self.name = name
        self.run = run
        self._tell = tell
        self._record = record
        self._begun = time.monotonic()

    def progress(self, line: str) -> None:
        print(line, flush=True)
        self._tell(Progress(self.name, line))

    def done(self, result: str, summary: str = "", **facts: str) -> str:
        """Report the result's address and one line on it; gives the address back. facts: more, for the record."""
        print(f"{result} {summary}".rstrip(), flush=True)
        seconds, reused = self.seconds(), self._record.is_older(result)
        more: dict[str, object] = {**facts, **({"reused": True} if reused else {})}
        self._record.write(state="done", ended=now(), result=result, summary=summary, seconds=seconds, **more)
        self._tell(Done(self.name, result, summary, seconds, reused))
        return result

    def failed(self, fault: Fault) -> None:
        """Report why the step fails."""
        seconds = self.seconds()
        self._record.write(state="failed", ended=now(), cause=fault.message, error=fault.to_json(), seconds=seconds)
        self._tell(Failed(self.name, fault, seconds))

    def seconds(self) -> float:
        return time.monotonic() - self._begun


@contextlib.contextmanager
def step(
    name: str, store: str = "", *, run: str = "", created: str = "", image: str = "", trigger: str | None = None
) -> Iterator[Step]:
    """Run a step's body; a failure is told with its cause and ends the process.

    store: where the run's documents are kept. run, created: KFP's id of the run, and when it was made (ISO, UTC).
    image: what the step runs in. All are empty on a laptop, as far as they are not known there. trigger: given to the
    first step of a run alone: who started the run and why (see `Start.from_text`).
    """
    folder, run = os.environ.get(RUN_FOLDER), current_run(run)
    if (look := current_look()) is not None:  # in the runner's process, which may be a user's own
        look.record = StepRecord(store, run, name, held=True)
        look.events.append(Started(name))
        yield Step(name, run, look.events.append, look.record)
        return
    redact_outlets()
    if image:
        os.environ[IMAGE] = image
    record = StepRecord(store, run, name)
    tell = _marked_lines(name, Path(folder)) if folder else lambda event: None
    current = Step(name, run, tell, record)
    tell(Started(name))
    if trigger is not None and not folder:  # the local runner has recorded the start itself
        record.begin_run(trigger)
    watch: threading.Timer | None = None
    try:
        end = _deadline(created, record)
        record.write(image=image)
        if end is not None:
            watch = _end_at(end, current)
        if name in STEPS:  # a step of one's own may compute by other means than torch
            _look_for_gpus(current)
        with heard_by(current.progress):
            yield current
    except BaseException as error:
        print(traceback_of(error), end="", file=sys.stderr, flush=True)
        current.failed(Fault.of(error))
        raise
    finally:
        if watch is not None:
            watch.cancel()


def _look_for_gpus(current: Step) -> None:
    """Before any work. Raises EndcapError where the pod was given GPUs, sees none, and its spec allows no CPU."""
    _, lack = devices.check()
    if lack is not None:
        current.progress(Notice(lack.words, **lack.fields))


def _deadline(created: str, record: StepRecord) -> datetime | None:
    """When the run must have ended, or None. Raises EndcapError where that is past: no step starts then.

    KFP has no deadline of a run before 2.17, and tells a run's creation time since 2.17 only; elsewhere the run
    counts from its first step's start.
    """
    allowed = float(os.environ.get(DEADLINE) or 0)
    if not allowed:
        return None
    begun = _moment(created) or _moment(record.run_begun() or "") or datetime.now(UTC)
    end = begun + timedelta(seconds=allowed)
    if end <= datetime.now(UTC):
        passed = _passed(end)
        raise EndcapError(f"{passed.message}; no step starts after it", code=passed.code, **passed.fields)
    return end


def _passed(end: datetime) -> Fault:
    at = f"{end:%Y-%m-%d %H:%M:%S}"
    message = f"the run's deadline (pipeline.deadline) passed at {at} UTC"
    return Fault(message, code="run.deadline-passed", fields={"deadline": end.isoformat(timespec="seconds")})


def _moment(text: str) -> datetime | None:
    """A time that KFP gave; a placeholder that it knows nothing of is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _end_at(end: datetime, current: Step) -> threading.Timer:
    """End this process at the run's deadline, having said so."""

    def at_end() -> None:
        print(_passed(end).message, file=sys.stderr, flush=True)
        current.failed(_passed(end))
        os._exit(1)

    timer = threading.Timer((end - datetime.now(UTC)).total_seconds(), at_end)
    timer.daemon = True
    timer.start()
    return timer


def _marked_lines(name: str, folder: Path) -> Callable[[Event], None]:
    """Send the process's output to the step's log; what is returned still speaks to the runner."""
    runner = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    threading.Thread(target=_end_with_runner, args=(runner.fileno(),), daemon=True).start()

    def tell(event: Event) -> None:
        with contextlib.suppress(BrokenPipeError):  # the runner is gone: this process is about to end as well
            runner.write(MARK + json.dumps(event.to_json()) + "\n")

    return tell


def _end_with_runner(pipe: int) -> None:
    """Wait until nobody reads the step's output any more, which is when the runner has ended, and end this process.

    The system closes the runner's end of the pipe however the runner ends, kill -9 too. A step that lived on would
    work for nobody, and beside the one that the next run starts.
    """
    waiting = select.poll()
    waiting.register(pipe, 0)  # no event is asked for: an end that is gone is always told
    waiting.poll()
    os.write(2, b"the run was ended, and this step with it; the same command goes on\n")
    os._exit(1)

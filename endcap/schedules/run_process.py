"""The process that does a run of a schedule: it takes the claim over, runs the pipeline, and settles the claim.

It is a process of its own, so that a run goes on when the scheduler ends, and ends alone when it is ended. Its
scheduler sends one document through standard input, because addresses may hold credentials.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from endcap.errors import EndcapError, append_code
from endcap.output_redaction import redact_output
from endcap.project.local_run import LocalRun
from endcap.runs import find_run
from endcap.runs.logs import find_logs_folder
from endcap.runs.start import SCHEDULE
from endcap.schedules.ledger import update_ledger
from endcap.spec.load import Loaded, dump_specs
from endcap.spec.recommender import Recommender
from endcap.spec.schedule import PARTS
from endcap.spec.shop import Shop
from endcap.steps import list_parameters
from endcap.store import Store, open_store

BEAT = 5.0
"""Seconds between two signs of life."""
_ENDS_WITHIN = 30.0
"""Seconds that a run has to end in order; then it is killed."""
_MODULE = "endcap.schedules.run_process"


@dataclass(frozen=True)
class RunOrder:
    """What the process is to run.

    Attributes
    ----------
    specs
        The resolved specs, as `dump_specs` makes them.
    files
        The files that they were read from.
    part
        `features`, `train` or `batch`.
    run
        The run's name, as it is claimed.
    store, registry, online
        Addresses; the last two may be empty.
    until
        The logical date, ISO; empty: all events.
    deadline
        Seconds that the run may take.
    why, data
        The reason and the data, for the run's record.
    ahead
        Seconds by which the scheduler's clock is ahead of this machine's; not 0 where its days are simulated.
    """

    specs: dict[str, Any]
    files: list[str]
    part: str
    run: str
    store: str
    registry: str
    online: str
    until: str
    deadline: float
    why: str
    data: dict[str, Any]
    ahead: float = 0.0

    @classmethod
    def of(cls, loaded: Loaded, **values: Any) -> RunOrder:
        """Make the order for loaded specs."""
        return cls(specs=dump_specs(loaded), files=[str(file) for file in loaded.files], **values)

    @property
    def recommender(self) -> str:
        return str(self.specs["recommender"]["name"])

    def read_clock(self) -> datetime:
        """Return the time by the scheduler's clock, UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead)


def start_process(order: RunOrder) -> subprocess.Popen[str]:
    """Start the process. It has a session of its own, so that Ctrl-C at the scheduler does not end it.

    Steps of a user's own have no business with the webhook's token, so it is not passed on. Raises OSError.
    """
    # Imported by the scheduler alone: the run's own process starts sooner without it.
    from endcap.schedules.webhook import TOKEN

    folder = find_logs_folder(open_store(order.store)) / order.run
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "schedule.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in os.environ.items() if name != TOKEN},
            start_new_session=True,
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already, which the scheduler sees
        process.stdin.write(json.dumps(asdict(order)))
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    return process


def main() -> None:
    """Do the run that standard input describes. The exit code is 0 if the claim was settled, whatever the run gave."""
    redact_output()
    # A job of a script in the background ignores Ctrl-C, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    order = RunOrder(**json.load(sys.stdin))
    store = open_store(order.store)
    confirmed = update_ledger(
        store,
        order.recommender,
        order.part,
        lambda ledger: ledger.confirm(
            order.run, socket.gethostname(), os.getpid(), order.read_clock(), timedelta(seconds=order.deadline)
        ),
    )
    claim = confirmed.claim
    if claim is None or claim.run != order.run or claim.pid != os.getpid():
        print(f"the run {order.run} is no longer claimed, so it does not begin", flush=True)
        return
    assert claim.ends_by is not None
    with _SignsOfLife(store, order, claim.ends_by) as signs:
        step, reason = _run(store, order)
        if signs.ended_because and step != "succeeded":
            step, reason = ("failed" if signs.ended_because == "deadline" else "canceled"), signs.ended_because
    update_ledger(
        store, order.recommender, order.part, lambda ledger: ledger.settle(order.run, step, reason, order.read_clock())
    )
    print(f"{order.run}: {step} {reason}".rstrip(), flush=True)


def _run(store: Store, order: RunOrder) -> tuple[Literal["succeeded", "failed", "canceled"], str]:
    """Run the pipeline. Returns how it ended, and why."""
    try:
        loaded = Loaded(
            Recommender.model_validate(order.specs["recommender"]),
            Shop.model_validate(order.specs["shop"]),
            [Path(file) for file in order.files],
        )
        pipeline = PARTS[order.part]
        arguments = {"logical_date": order.until}
        if "online" in list_parameters(pipeline):
            arguments["online"] = order.online
        local = LocalRun.of(loaded, pipeline, store, registry=order.registry, online_store=order.online, **arguments)
        local = replace(local, name=order.run)
        local.start(
            lambda event: print(json.dumps(event.to_json(), default=str), flush=True),
            how=SCHEDULE,
            why=order.why,
            data=order.data,
        )
    except KeyboardInterrupt:
        return "canceled", "interrupted"
    except EndcapError as error:
        print(append_code(str(error), error.code), flush=True)
        return "failed", _find_code(store, order.run) or error.code
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return "failed", type(error).__name__
    return "succeeded", ""


def _find_code(store: Store, run: str) -> str:
    """Return the code of the step that failed; empty if the run's record does not say."""
    record = find_run(store, run)
    return record.fault.code if record is not None and record.fault is not None else ""


class _SignsOfLife:
    """Shows that this process lives, and ends its run if the ledger or the clock says so."""

    def __init__(self, store: Store, order: RunOrder, ends_by: datetime) -> None:
        self._store, self._order, self._ends_by = store, order, ends_by
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="signs of life", daemon=True)
        self.ended_because = ""

    def __enter__(self) -> _SignsOfLife:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(BEAT):
            if reason := self._find_end():
                self.ended_because = reason
                self._end_run()
                return

    def _find_end(self) -> str:
        """Beat. Returns why the run must end; empty if it goes on."""
        if self._order.read_clock() >= self._ends_by:
            return "deadline"
        try:
            ledger = update_ledger(
                self._store, self._order.recommender, self._order.part, lambda before: before.beat(self._order.run)
            )
        except (EndcapError, OSError) as error:
            print(f"no sign of life could be written: {error}", flush=True)
            return ""
        claim = ledger.claim
        return "taken-over" if claim is None or claim.run != self._order.run else claim.end

    def _end_run(self) -> None:
        """Interrupt the run and its steps, as Ctrl-C does; kill what is left after a while."""
        print(f"the run is ended: {self.ended_because}", flush=True)
        os.killpg(os.getpgrp(), signal.SIGINT)
        if not self._over.wait(_ENDS_WITHIN):
            os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()

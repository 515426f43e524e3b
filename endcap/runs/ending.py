"""End a run of this machine: interrupt its process, which then records the end, as after Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

from endcap.errors import EndcapError, UserError
from endcap.runs.read import find_run
from endcap.runs.record import RUNNING
from endcap.runs.run import Run
from endcap.store import Store

PATIENCE = 30.0
_PAUSE = 0.1


def interrupt_run(store: Store, run: Run, *, patience: float = PATIENCE) -> Run:
    """Interrupt a run that goes on here, and wait for its end. Steps that have ended stay.

    Parameters
    ----------
    store
        The store that holds the run's record.
    run
        The run.
    patience
        The most seconds to wait.

    Returns
    -------
    Run
        The run as it ended. A run that had ended already is returned as it is.

    Raises
    ------
    UserError
        The run goes on elsewhere (`run.elsewhere`).
    EndcapError
        It has not ended in time (`run.goes-on`).
    """
    if run.state != RUNNING:
        return run
    process = run.document.get("process")
    if process is None:
        raise UserError(
            f"{run.name} does not run on a machine but on Kubeflow Pipelines. End it there: endcap run SPEC --on kfp "
            f"--end {run.name}",
            code="run.elsewhere",
            run=run.name,
            page=run.page,
        )
    if process["host"] != socket.gethostname():
        raise UserError(
            f"{run.name} runs on {process['host']}, and this is {socket.gethostname()}. Run the command there",
            code="run.elsewhere",
            run=run.name,
            host=process["host"],
        )
    with contextlib.suppress(ProcessLookupError):
        os.kill(process["pid"], signal.SIGINT)
    deadline = time.monotonic() + patience
    while run.state == RUNNING and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        run = find_run(store, run.name) or run
    if run.state == RUNNING:
        raise EndcapError(
            f"{run.name} was interrupted, and goes on all the same, such as in the background of a script. Its process "
            f"is {process['pid']}: kill {process['pid']} ends it",
            code="run.goes-on",
            run=run.name,
            pid=process["pid"],
        )
    return run

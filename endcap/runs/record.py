"""What the store keeps of a run while it goes on: a document on the whole run, and one a step.

``runs/<run>``: written when the run starts, and completed when it ends. ``runs/<run>/<step>``: each step's own, so that
no two writers meet. ``specs/<fingerprint>``: the resolved specs, once for all runs of them. `docs/runs.md` lists the
keys.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError
from endcap.processes import read_start_mark
from endcap.runs.code import describe_code
from endcap.runs.cost import measure_stored_bytes
from endcap.runs.fault import Fault
from endcap.runs.start import Start, fingerprint_specs, format_now, normalise_specs
from endcap.steps import SQL, STEPS
from endcap.store import Store, get_content_key, open_store

Json = dict[str, Any]
RUNNING, SUCCEEDED, FAILED, CANCELED = "running", "succeeded", "failed", "canceled"
KILLED_FAULT = Fault(
    "its process was ended from outside (out of memory, evicted, past its deadline, or killed)", code="step.killed"
)
NOT_STARTED_FAULT = Fault("a step's pod did not start; the pod's events tell why", code="step.not-started")
_STATES = {"COMPLETE": SUCCEEDED, "SUCCEEDED": SUCCEEDED, "CACHED": SUCCEEDED, "CANCELED": CANCELED}
"""KFP's states of a run that has ended in our words; any other one is a failure."""
_STATES |= {state: state for state in (SUCCEEDED, CANCELED)}
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes tells a pod its namespace."""


def begin_run(store: Store, run: str, start: Start, *, here: bool = False) -> Json:
    """Write a run's document when the run starts. Values that are in the document already stay.

    Parameters
    ----------
    store
        The store.
    run
        The run's name.
    start
        What is known of the start.
    here
        Whether the run ends with this process. Readers can then tell that it was killed.

    Returns
    -------
    dict
        The document.
    """
    start = replace(start, at=start.at or format_now())
    document: Json = {"run": run, "state": RUNNING, **start.to_document(), "code": describe_code()}
    if here:
        pid = os.getpid()
        document["process"] = {"host": socket.gethostname(), "pid": pid, "start": read_start_mark(pid)}
    if start.page:
        document["page"] = f"{start.page}{run}"
    return store.update_document(f"runs/{run}", lambda before: {**document, **(before or {})})


def end_run(
    store: Store, run: str, state: str, steps: Sequence[str], error: Fault | None = None, *, of: Start | None = None
) -> Json:
    """Complete a run's document when the run ends.

    Parameters
    ----------
    store
        The store.
    run
        The run's name.
    state
        How the run ended: a state of Endcap's, or KFP's final status.
    steps
        The run's steps, whose documents are added.
    error
        What is known in addition to the steps' own records.
    of
        What the run is of, if its start did not know that.

    Returns
    -------
    dict
        The document.
    """
    step_documents = {step: own for step in steps if (own := read_step_document(store, run, step))}
    ended: Json = {"run": run, "state": _STATES.get(state, FAILED), "ended": format_now(), "steps": step_documents}
    if ended["state"] == FAILED:
        step, fault = _find_failure(step_documents, error)
        ended |= {"step": step, "cause": fault.message, "error": fault.to_json()}

    def completed(before: Json | None) -> Json:
        known = {**Start().to_document(), **(before or {})}
        for key in ("step", "cause", "error"):  # of an end that this one replaces
            known.pop(key, None)
        return {**known, **({} if of is None else _select_new_facts(known, of)), **ended}

    return store.update_document(f"runs/{run}", completed)


def close_run(store: Store, run: str, state: str, steps: Sequence[str], error: Fault | None = None) -> None:
    """End a run whose last step could not report: complete its document if it still says that the run goes on."""
    if (store.read_document(f"runs/{run}") or {}).get("state", RUNNING) == RUNNING:
        end_run(store, run, state, steps, error)


def keep_specs(store: Store, documents: Mapping[str, Any]) -> str:
    """Store resolved specs under their fingerprint, and return the fingerprint."""
    fingerprint = fingerprint_specs(documents)
    if store.read_document(f"specs/{fingerprint}") is None:
        store.write_document(f"specs/{fingerprint}", normalise_specs(documents))
    return fingerprint


def read_step_document(store: Store, run: str, step: str) -> Json | None:
    """Read the latest document of a step; None if there is none."""
    return store.read_document(f"runs/{run}/{step}")


def existed_before(store: Store, address: str, moment: datetime) -> bool:
    """Tell whether an artifact existed before a moment (with its zone); False if that is not known."""
    try:
        created = str(store.manifest(address)["created"])
    except (EndcapError, OSError):
        return False
    return datetime.fromisoformat(created) < moment


class StepRecord:
    """The document of a step. A failure to write it never fails the step, but is printed.

    Parameters
    ----------
    store
        The store's address.
    run, step
        The run and the step.
    held
        Write nothing before `keep` is called.
    """

    def __init__(self, store: str, run: str, step: str, *, held: bool = False) -> None:
        """held: nothing is kept before `keep`."""
        self._store, self._run, self._step, self._held = store, run, step, held
        self._document: Json = {"step": step, "state": RUNNING, "begun": format_now(), **_describe_pod()}

    def write(self, **facts: Any) -> None:
        """Add facts to the document, and write it unless it is held back."""
        self._document |= facts
        if not self._held:
            self.keep()

    def keep(self) -> None:
        """Write the document."""
        self._try_write(lambda store: store.write_document(f"runs/{self._run}/{self._step}", self._document))

    def is_older(self, result: str) -> bool:
        """Tell whether the step's result is an artifact that existed before the step began."""
        step = STEPS.get(self._step, SQL if get_content_key(result).startswith(f"{SQL.kind}/") else None)
        if not self._store or step is None or not step.kind:
            return False
        return existed_before(open_store(self._store), result, datetime.fromisoformat(self._document["begun"]))

    def measure_stored_bytes(self, result: str) -> int:
        """Return the bytes of the step's artifact; 0 if its result is none."""
        return measure_stored_bytes(open_store(self._store), result) if self._store and "://" in result else 0

    def begin_run(self, trigger: str) -> None:
        """Write the run's document, as the first step on KFP does. trigger: see `Start.from_text`."""
        self._try_write(lambda store: begin_run(store, self._run, Start.from_text(trigger)))

    def run_begun(self) -> str | None:
        """Return when the run's first step began; None if the store does not know."""
        if not (self._store and self._run):
            return None
        store = open_store(self._store)
        if document := read_step_document(store, self._run, next(iter(STEPS))):
            return str(document["begun"])
        # A step of a user's own runs before the first of Endcap's.
        run = store.read_document(f"runs/{self._run}")
        return run["started"]["at"] if run else None

    def _try_write(self, write: Callable[[Store], object]) -> None:
        if not (self._store and self._run):
            return
        try:
            write(open_store(self._store))
        except (EndcapError, OSError) as error:
            print(f"the record of this run is not kept: {error}", file=sys.stderr)


def _select_new_facts(known: Json, of: Start) -> Json:
    """What `of` tells beyond the facts that are known. A pipeline of the shop alone does not know the recommender."""
    start_document = of.to_document()
    facts = {key: start_document[key] for key in ("pipeline", "recommender", "shop") if start_document[key]}
    before = known["spec"]["fingerprint"]
    if of.spec != before and (of.recommender or not before):
        facts["spec"] = start_document["spec"]
    if of.logical_date:
        facts["data"] = {**known["data"], **start_document["data"]}
    return facts


def _find_failure(step_documents: Mapping[str, Json], error: Fault | None) -> tuple[str | None, Fault]:
    """The step that failed, and why. KFP's own status names neither."""
    for state in (FAILED, RUNNING):
        for step, document in step_documents.items():
            if document["state"] == state:
                return step, Fault.from_document(document) or KILLED_FAULT
    return None, error or NOT_STARTED_FAULT


def _describe_pod() -> Json:
    """Where a pod's log is found; nothing outside of pods."""
    if not _NAMESPACE.is_file():
        return {}
    return {"pod": socket.gethostname(), "namespace": _NAMESPACE.read_text().strip()}

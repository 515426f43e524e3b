"""What the store keeps of a run: a small document a step, and one on the whole run when it has ended.

``runs/<run>/<step>``: state (running, done, failed), begun, ended (ISO, UTC), seconds; result and summary, or cause.
``runs/<run>``: run, state (succeeded, failed, canceled), ended, step and cause where it failed, and all steps'.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endcap.errors import EndcapError
from endcap.store import Store, open_store

RUN_FOLDER = "ENDCAP_RUN_FOLDER"
KILLED = "its process was ended from outside (out of memory, evicted, past its deadline, or killed)"
_STATES = {"COMPLETE": "succeeded", "SUCCEEDED": "succeeded", "CACHED": "succeeded", "CANCELED": "canceled"}
Json = dict[str, Any]


def run_name(given: str) -> str:
    """A run's name: on this machine its folder's, which the local runner sets; on KFP the id that is handed on."""
    folder = os.environ.get(RUN_FOLDER)
    return Path(folder).name if folder else given


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Record:
    """A step's document. To keep it must never fail the step: what goes wrong is printed."""

    def __init__(self, store: str, run: str, step: str) -> None:
        self._store, self._run, self._step = store, run, step
        self._document: Json = {"state": "running", "begun": now()}

    def write(self, **facts: Any) -> None:
        """Put the facts into the document."""
        self._document |= facts
        if not (self._store and self._run):
            return
        try:
            open_store(self._store).write_document(f"runs/{self._run}/{self._step}", self._document)
        except (EndcapError, OSError) as error:
            print(f"this step's state is not kept: {error}", file=sys.stderr)

    def run_begun(self) -> str | None:
        """When the run's first step began, as far as the store knows."""
        if not (self._store and self._run):
            return None
        document = step_document(open_store(self._store), self._run, "ingest")
        return document["begun"] if document else None


def step_document(store: Store, run: str, step: str) -> Json | None:
    """What a step said last of itself."""
    return store.read_document(f"runs/{run}/{step}")


def write_run(store: Store, run: str, state: str, steps: Sequence[str], error: str = "") -> Json:
    """Write the run's document and return it. state, error: as KFP's final status has them."""
    said = {step: document for step in steps if (document := step_document(store, run, step))}
    document: Json = {"run": run, "state": _STATES.get(state, "failed"), "ended": now(), "steps": said}
    if document["state"] == "failed":
        document["step"], document["cause"] = _failure(said, error)
    store.write_document(f"runs/{run}", document)
    return document


def _failure(said: dict[str, Json], error: str) -> tuple[str | None, str]:
    """The step that failed, and why. KFP's own status names neither."""
    for state in ("failed", "running"):
        for step, document in said.items():
            if document["state"] == state:
                return step, document.get("cause", KILLED)
    return None, error or "a step's pod did not start; the pod's events tell why"

"""The events of one step, sent beside its work: they never fail it, and delay its end by two seconds at most."""

from __future__ import annotations

import queue
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endcap.openlineage.events import NAMESPACE, StepOfRun, make_event
from endcap.openlineage.transports import open_transport
from endcap.redaction import redact
from endcap.secrets import read_variable
from endcap.store import Store, open_store
from endcap.store.base import split_artifact_address

Json = dict[str, Any]
CLOSE_WITHIN = 2.0
"""Seconds for which a step's end waits for its events."""


class StepLineage:
    """Sends a step's events.

    Parameters
    ----------
    step, run
        The step and its run; empty: a run of its own.
    store
        The store's address; empty: none, and events name no datasets.
    folder
        The folder of the run's logs on this machine, if there is one.
    """

    def __init__(self, step: str, run: str, store: str, folder: Path | None) -> None:
        self._step, self._run, self._store = step, run or uuid.uuid4().hex, store
        self._folder = folder
        self._waiting: queue.SimpleQueue[Callable[[Store | None, StepOfRun], Json] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Report that the step begins."""
        now = datetime.now(UTC)
        self._waiting.put(lambda store, step: make_event(step, "START", now=now))

    def complete(self, result: str, *, reused: bool) -> None:
        """Report that the step has made an artifact, or found it."""
        now = datetime.now(UTC)

        def make(store: Store | None, step: StepOfRun) -> Json:
            if store is None or "://" not in result or split_artifact_address(result) is None:
                return make_event(step, "COMPLETE", now=now)
            fields: list[Json] = []
            if not reused:
                from endcap.openlineage.schemas import read_fields

                fields = read_fields(result, store)
            return make_event(step, "COMPLETE", manifest=store.manifest(result), fields=fields, now=now)

        self._waiting.put(make)

    def fail(self, error: str) -> None:
        """Report why the step failed."""
        now = datetime.now(UTC)
        self._waiting.put(lambda store, step: make_event(step, "FAIL", error=redact(error), now=now))

    def start(self) -> None:
        """Begin to send what is reported."""
        self._thread = threading.Thread(target=self._send_all, name="openlineage", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the rest, for `CLOSE_WITHIN` seconds at most. Nothing is lost that was sent before."""
        if self._thread is None:
            return
        self._waiting.put(None)
        self._thread.join(CLOSE_WITHIN)
        if self._thread.is_alive():
            _print_fault(f"they were not taken within {CLOSE_WITHIN:g} s")
        self._thread = None

    def _send_all(self) -> None:
        try:
            transport = open_transport(self._folder)
            if transport is None:
                return
            store = open_store(self._store) if self._store else None
            document = None if store is None else store.read_document(f"runs/{self._run}")
            namespace = read_variable("OPENLINEAGE_NAMESPACE") or NAMESPACE
            step = StepOfRun(self._step, self._run, document or {}, namespace)
        except Exception as error:  # a record of the work must not harm the work
            _print_fault(f"{type(error).__name__}: {error}")
            return
        while (make := self._waiting.get()) is not None:
            try:
                transport(make(store, step))
            except Exception as error:
                _print_fault(f"{type(error).__name__}: {error}")


def _print_fault(text: str) -> None:
    print(f"lineage events of this step were not sent: {redact(text)}", file=sys.stderr, flush=True)

"""Runs as they are read: which there are, how each went, what each step gave."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from endcap.errors import NotFoundError
from endcap.processes import alive
from endcap.runs.fault import Fault
from endcap.runs.names import split_run_name
from endcap.runs.record import FAILED, KILLED_FAULT, RUNNING, read_step_document
from endcap.store import Store
from endcap.store.safe_paths import find_name_fault

Json = dict[str, Any]
PARALLEL_READS = 16
"""Documents that are read at once."""
KILLED_STATE = "killed"
"""State of a run whose process is gone and could not say how it ended."""


@dataclass(frozen=True)
class StepRun:
    """A step of a run, as its document tells."""

    name: str
    document: Mapping[str, Any] = field(repr=False)

    @property
    def state(self) -> str:
        """`running`, `done` or `failed`."""
        return str(self.document["state"])

    @property
    def begun(self) -> datetime | None:
        return _parse_moment(self.document.get("begun"))

    @property
    def seconds(self) -> float:
        """That the step took, or has taken so far."""
        known = self.document.get("seconds")
        return float(known) if known is not None else _count_seconds_since(self.begun)

    @property
    def result(self) -> str:
        return str(self.document.get("result", ""))

    @property
    def summary(self) -> str:
        return str(self.document.get("summary", ""))

    @property
    def reused(self) -> bool:
        """Whether the result was there before, and was not made again."""
        return bool(self.document.get("reused"))

    @property
    def fault(self) -> Fault | None:
        return Fault.from_document(self.document) if self.state == FAILED else None

    @property
    def pod(self) -> tuple[str, str] | None:
        """The pod that the step ran in, and its namespace."""
        pod = self.document.get("pod")
        return (str(pod), str(self.document.get("namespace", ""))) if pod else None

    def to_json(self) -> Json:
        return {"step": self.name, **self.document}


@dataclass(frozen=True)
class Run:
    """A run. What a document of an earlier release does not tell is empty."""

    name: str
    document: Mapping[str, Any] = field(repr=False)
    steps: Sequence[StepRun] = field(default=(), repr=False)
    """In the order in which they began. A list of runs has those of runs that have ended."""

    @property
    def pipeline(self) -> str:
        return str(self.document.get("pipeline", ""))

    @property
    def recommender(self) -> str:
        return str(self.document.get("recommender") or split_run_name(self.name)[0])

    @property
    def shop(self) -> str:
        return str(self.document.get("shop", ""))

    @property
    def state(self) -> str:
        """`running`, `succeeded`, `failed`, `canceled`; `killed` where the process of a local run is gone.

        Whether a run on another machine still lives cannot be known from here: it is `running` until it says more.
        """
        state = str(self.document.get("state", RUNNING))
        process = self.document.get("process")
        if state == RUNNING and process and process["host"] == socket.gethostname() and not alive(process["pid"]):
            return KILLED_STATE
        return state

    @property
    def by(self) -> str:
        return self._started("by")

    @property
    def how(self) -> str:
        return self._started("how")

    @property
    def why(self) -> str:
        return self._started("why")

    @property
    def started(self) -> datetime | None:
        """UTC."""
        at = _parse_moment(self._started("at")) or _parse_moment(split_run_name(self.name)[1])
        return at or min((step.begun for step in self.steps if step.begun), default=None)

    @property
    def ended(self) -> datetime | None:
        return _parse_moment(self.document.get("ended"))

    @property
    def seconds(self) -> float | None:
        """From start to end; of a running run until now; None where that is not known."""
        if self.started is None or self.state == KILLED_STATE:
            return None
        return (self.ended - self.started).total_seconds() if self.ended else _count_seconds_since(self.started)

    @property
    def logical_date(self) -> str:
        return str(self.document.get("data", {}).get("logical_date", ""))

    @property
    def fault(self) -> Fault | None:
        """Why the run failed."""
        if self.state == KILLED_STATE:
            return KILLED_FAULT
        return Fault.from_document(self.document)

    @property
    def failed_step(self) -> str:
        return str(self.document.get("step") or "")

    @property
    def page(self) -> str:
        """The run's page of KFP, where that is known."""
        return str(self.document.get("page", ""))

    @property
    def gate(self) -> str:
        """The gate's word: `passed`, `failed` or `undecided`; empty where no model was judged."""
        return next((str(step.document["gate"]) for step in self.steps if "gate" in step.document), "")

    @property
    def gave(self) -> str:
        """What the run gave, in a line: its fault, or what its last step said."""
        if fault := self.fault:
            return f"{self.failed_step}: {fault}" if self.failed_step else str(fault)
        done = [step for step in self.steps if step.state == "done"]
        return f"{done[-1].name}: {done[-1].summary or done[-1].result}" if done else ""

    def step(self, name: str) -> StepRun | None:
        return next((step for step in self.steps if step.name == name), None)

    def to_json(self) -> Json:
        """The run's document, with the state as it is known now and all steps in their order."""
        fault = self.fault
        steps = [step.to_json() for step in self.steps]
        error = {"error": fault.to_json()} if fault else {}
        return {
            **self.document,
            "run": self.name,
            "recommender": self.recommender,
            "state": self.state,
            "seconds": self.seconds,
            "gate": self.gate,
            **error,
            "steps": steps,
        }

    def __str__(self) -> str:
        from endcap.runs.text import describe_run

        return describe_run(self)

    def _started(self, key: str) -> str:
        return str(self.document.get("started", {}).get(key, ""))


def list_runs(store: Store, recommender: str | None = None, *, limit: int = 20) -> list[Run]:
    """The runs that changed last, newest start first. recommender: of this one alone.

    One small document a run is read, and no more runs than are needed.
    """
    runs: list[Run] = []
    for run in _iterate_runs(store):
        if recommender is None or run.recommender == recommender:
            runs.append(run)
        if len(runs) == limit:
            break
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(runs, key=lambda run: (run.started or never, run.name), reverse=True)


def read_run(store: Store, name: str) -> Run:
    """A run with all that its steps have said so far. Raises NotFoundError."""
    run = find_run(store, name)
    if run is None:
        there = ", ".join(one.name for one in list_runs(store, limit=5)) or "none; `endcap run` makes the first"
        raise NotFoundError(
            f"no run {name!r} in {store.root}; the latest are: {there}",
            code="run.not-found",
            run=name,
            store=store.root,
        )
    return run


def find_run(store: Store, name: str) -> Run | None:
    """A run with all that its steps have said so far, or None."""
    if "/" in name or find_name_fault(name):
        return None
    document = store.read_document(f"runs/{name}")
    names = [path.rpartition("/")[2] for path in store.list_documents(f"runs/{name}")]
    said = {step: own for step in names if (own := read_step_document(store, name, step))}
    if document is None and not said:
        return None
    return _make_run(name, document or {}, said)


def find_step(store: Store, run: str, step: str) -> StepRun | None:
    """What a step said last of itself, or None."""
    document = read_step_document(store, run, step)
    return None if document is None else StepRun(step, document)


def read_specs(store: Store, run: Run) -> Json | None:
    """The resolved documents of the specs that a run was of, where they are kept."""
    fingerprint = run.document.get("spec", {}).get("fingerprint")
    return store.read_document(f"specs/{fingerprint}") if fingerprint else None


def _iterate_runs(store: Store) -> Iterator[Run]:
    """All runs, last changed first; they are read as they are needed."""
    names = store.list_documents("runs")
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        for first in range(0, len(names), PARALLEL_READS):
            batch = names[first : first + PARALLEL_READS]
            for path, document in zip(batch, pool.map(store.read_document, batch), strict=True):
                if document is not None:
                    yield _make_run(path.removeprefix("runs/"), document, document.get("steps", {}))


def _make_run(name: str, document: Mapping[str, Any], said: Mapping[str, Json]) -> Run:
    steps = [StepRun(step, one) for step, one in said.items()]
    return Run(name, document, sorted(steps, key=lambda step: str(step.document.get("begun", ""))))


def _parse_moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count_seconds_since(begun: datetime | None) -> float:
    return 0.0 if begun is None else (datetime.now(UTC) - begun).total_seconds()

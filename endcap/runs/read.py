"""Reads runs from a store: which runs there are, how each one went, and the result of each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from endcap.errors import NotFoundError
from endcap.runs.record import read_step_document
from endcap.runs.run import Run, StepRun
from endcap.store import Store
from endcap.store.safe_paths import find_name_fault

Json = dict[str, Any]
PARALLEL_READS = 16
"""Documents that are read at once."""


def list_runs(store: Store, recommender: str | None = None, *, limit: int = 20) -> list[Run]:
    """List the runs that changed last; the one that started last comes first.

    Parameters
    ----------
    store
        The store that holds the runs' records.
    recommender
        List the runs of this recommender only; None: of all.
    limit
        The most runs to list.

    Returns
    -------
    list of Run
        The runs. A run that has not ended is listed without its steps; `read_run` reads them.

    Notes
    -----
    One small document is read for each run that is looked at.
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
    """Read a run with everything that its steps have recorded so far.

    Parameters
    ----------
    store
        The store that holds the run's record.
    name
        The run's name.

    Returns
    -------
    Run
        The run and its steps.

    Raises
    ------
    NotFoundError
        There is no such run. The error lists the latest ones.
    """
    run = find_run(store, name)
    if run is None:
        latest = ", ".join(recent.name for recent in list_runs(store, limit=5)) or "none; `endcap run` makes the first"
        raise NotFoundError(
            f"no run {name!r} in {store.root}; the latest are: {latest}",
            code="run.not-found",
            run=name,
            store=store.root,
        )
    return run


def find_run(store: Store, name: str) -> Run | None:
    """Read a run with everything that its steps have recorded so far; None if there is no such run."""
    if "/" in name or find_name_fault(name):
        return None
    document = store.read_document(f"runs/{name}")
    names = [path.rpartition("/")[2] for path in store.list_documents(f"runs/{name}")]
    step_documents = {step: own for step in names if (own := read_step_document(store, name, step))}
    if document is None and not step_documents:
        return None
    return _make_run(name, document or {}, step_documents)


def find_step(store: Store, run: str, step: str) -> StepRun | None:
    """Read the latest record of a step; None if there is none."""
    document = read_step_document(store, run, step)
    return None if document is None else StepRun(step, document)


def read_specs(store: Store, run: Run) -> Json | None:
    """Read the resolved specs of a run; None if the store does not have them."""
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


def _make_run(name: str, document: Mapping[str, Any], step_documents: Mapping[str, Json]) -> Run:
    steps = [StepRun(step, step_document) for step, step_document in step_documents.items()]
    return Run(name, document, sorted(steps, key=lambda step: str(step.document.get("begun", ""))))

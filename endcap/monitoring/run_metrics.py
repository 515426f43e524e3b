"""Metrics of pipelines' runs, and of the lists that they make ahead of time."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.core import Metric

from endcap.deploy.state import list_deployed
from endcap.monitoring.families import Families
from endcap.runs.read import list_runs
from endcap.runs.run import Run
from endcap.store import Store

LATEST = 100
"""How many runs are read: those that changed last."""
_KIND = ("recommender", "pipeline")
_RUNS = (
    ("endcap_run_state", "1 for the latest run", (*_KIND, "state", "step", "code")),
    ("endcap_run_begin_timestamp_seconds", "When the latest run began", _KIND),
    ("endcap_run_seconds", "What the latest run took, or has taken so far", _KIND),
    ("endcap_run_success_timestamp_seconds", "When the last run that succeeded ended", _KIND),
    ("endcap_runs_failed", f"Runs that failed, among the {LATEST} that changed last", _KIND),
)
_VERSION = ("recommender", "version")
_LISTS = (
    ("endcap_lists_made_timestamp_seconds", "When a version's newest lists were made", _VERSION),
    ("endcap_lists_customers", "Customers who have one of them", _VERSION),
    ("endcap_lists_filled_ratio", "Share of their places that the model filled", _VERSION),
)
_BAD = frozenset({"failed", "killed"})


class RunMetrics:
    """Reads the latest runs of a store, and each version's newest lists.

    Parameters
    ----------
    store
        The store.

    Attributes
    ----------
    names
        The recommenders that were ever run or deployed, as far as they were read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.names: frozenset[str] = frozenset()

    def list_recommenders(self) -> list[str]:
        """List the recommenders: a store in a bucket may have runs alone, because a cluster holds what serves."""
        return sorted({*list_deployed(self._store), *self.names})

    def read(self) -> list[Metric]:
        """Return the metrics. Raises EndcapError for a store that does not answer."""
        by_kind: dict[tuple[str, str], list[Run]] = {}
        for run in list_runs(self._store, limit=LATEST):
            if run.pipeline:
                by_kind.setdefault((run.recommender, run.pipeline), []).append(run)
        self.names |= {recommender for recommender, _ in by_kind}
        families = Families((*_RUNS, *_LISTS))
        for kind, runs in by_kind.items():
            _add_runs(families, kind, runs)
        for name in self.list_recommenders():
            _add_lists(families, name, self._store)
        return families.list_metrics()


def _add_runs(families: Families, kind: tuple[str, str], runs: list[Run]) -> None:
    """Add the runs of a recommender's pipeline, the latest first."""
    latest = runs[0]
    step, code = _find_failure(latest)
    families.add("endcap_run_state", 1, *kind, latest.state, step, code)
    families.add("endcap_run_begin_timestamp_seconds", latest.started, *kind)
    families.add("endcap_run_seconds", latest.seconds, *kind)
    successes = [run.ended for run in runs if run.state == "succeeded" and run.ended is not None]
    families.add("endcap_run_success_timestamp_seconds", max(successes, default=None), *kind)
    families.add("endcap_runs_failed", sum(run.state in _BAD for run in runs), *kind)


def _add_lists(families: Families, name: str, store: Store) -> None:
    newest: dict[str, dict[str, float]] = {}
    for address in store.list(f"recommendations/{name}"):
        facts = store.manifest(address)["facts"]
        version = str(facts["version"])
        if version not in newest or facts["made"] > newest[version]["made"]:
            newest[version] = facts
    for version, facts in newest.items():
        moment = datetime.fromtimestamp(facts["made"] / 1000, UTC)
        families.add("endcap_lists_made_timestamp_seconds", moment, name, version)
        families.add("endcap_lists_customers", facts["customers"], name, version)
        families.add("endcap_lists_filled_ratio", facts["filled"], name, version)


def _find_failure(run: Run) -> tuple[str, str]:
    """Return the failed step of a run and the code of its error; empty where it has none."""
    fault = run.fault
    return ("", "") if fault is None else (run.failed_step, fault.code)

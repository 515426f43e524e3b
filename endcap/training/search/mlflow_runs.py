"""A search in MLflow: a run, and below it a run for each trial. Only the step writes them, never a worker."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any, Literal

from endcap.errors import EndcapError
from endcap.registry.background_writer import BackgroundWriter
from endcap.registry.experiments import ensure_experiment
from endcap.registry.factory import open_registry
from endcap.registry.training_runs import MAX_BATCH, name_epoch_metrics
from endcap.registry.versions import Registry
from endcap.spec.settings import TrainSettings
from endcap.store import Store
from endcap.training.search.record import SearchRecord, Trial

_STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "cut": "KILLED", "skipped": "KILLED", "failed": "FAILED"}
_LONGEST = 4000
"""Letters of a tag's value that every MLflow takes."""


class SearchRuns:
    """Writes trials to MLflow as they end.

    A trial's run is found again by the search and the number. So there is one however often the step is tried, as the
    last attempt wrote it. If the registry is away for a while the search continues: `end` writes what is missing.

    Parameters
    ----------
    settings
        The train step's settings.
    store
        Where artifacts lie.
    registry_uri
        Address of the registry; None: the store's own.
    key
        Identity of this search alone (`SearchRecord.identity`): another search of the same settings has runs of its
        own.
    dataset
        Address of the dataset.
    progress
        Takes lines for people.
    above
        Returns the id of the run that the search's run is below; None if there is none.
    """

    def __init__(
        self,
        settings: TrainSettings,
        store: Store,
        registry_uri: str | None,
        key: str,
        dataset: str,
        progress: Callable[[str], None],
        above: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._settings, self._store, self._uri = settings, store, registry_uri
        self._key, self._dataset, self._above = key, dataset, above
        self._registry: Registry | None = None
        self._experiment = self._parent = ""
        self._written: set[tuple[str, int, int]] = set()
        """Label, number and attempt."""
        self._writer = BackgroundWriter("trials", progress)

    def begin(self) -> None:
        """Make or find the search's run, and find the trials that are written."""
        self._writer.submit(self._open)

    def write_trial(self, label: str, trial: Trial) -> None:
        """Write a trial that has ended, in the background.

        Raises
        ------
        UserError
            An earlier writing failed, such as for a wrong address.
        """
        self._writer.check()
        kept = copy.deepcopy(trial)
        self._writer.submit(lambda: self._write(label, kept))

    def end(self, record: SearchRecord) -> str:
        """Write what is missing, close the search's run, and return its id.

        Raises
        ------
        TransientError, UserError
            The registry cannot be written.
        """
        self._writer.finish()
        for label, part in record.parts.items():
            for trial in part.ended:
                self._write(label, trial)
        self._close(record)
        return self._parent

    def abandon(self, status: Literal["FAILED", "KILLED"]) -> None:
        """End the search's run with a status, after what is being written. Another attempt opens the run again."""
        self._writer.abandon()
        # The search's own error is what is to be told, not the registry's.
        with contextlib.suppress(EndcapError):
            if self._registry is not None and self._parent:
                self._registry.client.set_terminated(self._parent, status)

    def _close(self, record: SearchRecord) -> None:
        from mlflow.entities import Metric

        client = self._client
        run = client.get_run(self._parent)
        if run.info.status == "RUNNING":
            parts = record.parts.items()
            values = {
                f"best_{label}" if label else "best": part.best.value or 0.0 for label, part in parts if part.best
            }
            values |= {
                f"as_written_{label}" if label else "as_written": part.written.value
                for label, part in parts
                if part.written is not None and part.written.value is not None
            }
            values |= {
                "trials": float(sum(len(part.trials) for _, part in parts)),
                "seconds": record.seconds,
                "finish_seconds": record.finish_seconds,
            }
            metrics = [Metric(name, value, run.info.start_time, 0) for name, value in values.items()]
            client.log_batch(self._parent, metrics=metrics)
            client.set_terminated(self._parent)

    @property
    def _client(self) -> Any:
        if self._registry is None or not self._parent:
            self._open()
        assert self._registry is not None
        return self._registry.client

    def _open(self) -> None:
        registry = self._registry = open_registry(self._uri, self._store)
        name = self._settings.name
        self._experiment = ensure_experiment(registry, name)
        known = self._find_runs(registry.client, "search")
        named = {"search_key": self._key, "part": "search", "dataset": self._dataset}
        if above := self._above():
            named["mlflow.parentRunId"] = above
        run = known[0] if known else registry.client.create_run(self._experiment, tags=named, run_name=f"search {name}")
        self._parent = str(run.info.run_id)
        if run.info.status in ("FAILED", "KILLED"):
            registry.client.update_run(self._parent, status="RUNNING")
        for run in self._find_runs(registry.client, "trial"):
            if run.info.status != "RUNNING":
                tags = run.data.tags
                self._written.add((tags["member"], int(tags["trial"]), int(tags["attempt"])))

    def _find_runs(self, client: Any, part: str) -> list[Any]:
        where = f"tags.search_key = '{self._key}' and tags.part = '{part}'"
        return list(client.search_runs([self._experiment], where, max_results=1000))

    def _write(self, label: str, trial: Trial) -> None:
        from mlflow.entities import Metric, Param

        client = self._client
        if (label, trial.number, trial.attempt) in self._written:
            return
        tags = {
            "mlflow.parentRunId": self._parent,
            "search_key": self._key,
            "part": "trial",
            "member": label,
            "trial": str(trial.number),
            "attempt": str(trial.attempt),
            "state": trial.state,
        }
        if trial.inherited:
            tags["inherited"] = "true"
        if trial.error:
            tags["error"] = trial.error[:_LONGEST]
        # Left half written by a kill, or failed in an attempt before: another takes its place.
        for run in self._find_runs(client, "trial"):
            if (run.data.tags["member"], run.data.tags["trial"]) == (label, str(trial.number)):
                client.delete_run(run.info.run_id)
        title = f"{label} {trial.number}" if label else str(trial.number)
        run = client.create_run(self._experiment, tags=tags, run_name=f"trial {title}")
        now, run_id = run.info.start_time, run.info.run_id
        metrics = [Metric("validation_next_ndcg_at_20", trial.value, now, 0)] if trial.value is not None else []
        metrics.append(Metric("seconds", trial.seconds, now, 0))
        for row in trial.history:
            step = int(row.get("epoch", 0))
            metrics += [Metric(name, value, now, step) for name, value in name_epoch_metrics(row).items()]
        client.log_batch(run_id, params=[Param(name, str(value)) for name, value in trial.parameters.items()])
        for batch in (metrics[start : start + MAX_BATCH] for start in range(0, len(metrics), MAX_BATCH)):
            client.log_batch(run_id, metrics=batch)
        client.set_terminated(run_id, _STATUS[trial.state])
        self._written.add((label, trial.number, trial.attempt))

"""The train step's run in MLflow while it goes on. Training waits for no registry, and none ends it by being away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from endcap.errors import EndcapError, NotFoundError, TransientError
from endcap.progress import Notice
from endcap.registry.background_writer import BackgroundWriter
from endcap.registry.factory import open_registry
from endcap.registry.training_runs import TrainingFacts, TrainingRun, name_epoch_metrics, to_epoch_ms
from endcap.registry.versions import Registry
from endcap.retries import disable_retries
from endcap.spec.model import ModelSpec
from endcap.spec.settings import ViewSettings
from endcap.store import Store, get_content_key

OPENING_TIMEOUT = 5.0
"""Seconds that a training waits for its run to be opened, so that a wrong password is told before it and not after."""
Progress = Callable[[str], None]
Row = Mapping[str, float]


@contextlib.contextmanager
def log_training(
    settings: ViewSettings,
    trained: str,
    dataset: str,
    counts: Mapping[str, Any],
    store: Store,
    registry_uri: str | None,
    progress: Progress,
) -> Iterator[TrainingLog]:
    """Log to MLflow what a block trains. The run is opened at once and ends with the block.

    Parameters
    ----------
    settings
        The settings of the training.
    trained
        Kind and key of the model that is trained.
    dataset
        The dataset's address.
    counts
        The counts of the view.
    store
        The store.
    registry_uri
        The registry's address. None: the store's own; in a store without one, nothing is logged.
    progress
        Called with lines for a person.

    Yields
    ------
    TrainingLog
        The log.

    Raises
    ------
    UserError
        The registry refuses the request, for example because of a wrong password.
    """
    training = TrainingFacts(settings, trained, dataset, _read_dataset_facts(dataset, store), counts)
    run = TrainingLog(training, store, registry_uri, progress)
    try:
        run.begin()
        yield run
    except BaseException as error:
        run.abandon("FAILED" if isinstance(error, Exception) else "KILLED")
        raise


class TrainingLog:
    """Logs a training to MLflow from a thread of its own. One write takes everything that waits."""

    def __init__(self, training: TrainingFacts, store: Store, registry_uri: str | None, progress: Progress) -> None:
        self._training, self._store, self._uri, self._tell = training, store, registry_uri, progress
        self._begun = _get_epoch_ms()
        self._off = not registry_uri and not store.root.startswith("file://")
        self._writer = BackgroundWriter("the training", progress)
        self._opening = threading.Lock()
        self._run: TrainingRun | None = None
        self._waiting: list[tuple[Row, int]] = []
        self._queued = False

    def begin(self) -> None:
        """Open the run. A registry that does not answer is only reported.

        Raises
        ------
        UserError
            The registry refuses the request, for example because of a wrong password.
        """
        if not self._off:
            self._writer.begin(self._write, OPENING_TIMEOUT)

    def get_run_id(self) -> str | None:
        """Return MLflow's id of the run, for runs that are part of it; None if nothing is logged.

        Raises
        ------
        UserError, TransientError
            The registry refuses the request, or does not answer.
        """
        return None if self._off else self._open_run().id

    def log_model(self, spec: ModelSpec) -> None:
        """Log which model is trained, as soon as that is known."""
        document = spec.model_dump(mode="json")
        self._submit(lambda: self._open_run().log_parameters(document))

    def log_epoch(self, row: Row, fit: str = "train") -> bool:
        """Log the metrics of an epoch that has ended.

        Parameters
        ----------
        row
            Metrics by name; `epoch` is the epoch's number.
        fit
            ``train``, or ``final`` for the fit that is judged.

        Returns
        -------
        bool
            Always true: the fit goes on.

        Raises
        ------
        UserError
            One of the first writes met it, for example because of a wrong address.
        """
        self._writer.check()
        self._waiting.append((name_epoch_metrics(row, fit), _get_epoch_ms()))
        # One writing takes all that waits: a registry that is slow or away is asked no oftener than it answers.
        if not self._queued:
            self._queued = True
            self._submit(self._write)
        return True

    def end(self, facts: Mapping[str, Any]) -> None:
        """Complete and end the run. If the registry does not answer, the evaluate step completes it later.

        Parameters
        ----------
        facts
            The facts of the trained model. Those that the run lacks are written.

        Raises
        ------
        UserError
            The registry refuses the values and has never accepted any.
        """
        if self._off:
            return
        ended = _get_epoch_ms()
        self._writer.finish()
        try:
            # One that failed a moment ago is asked once more, and not waited for.
            with disable_retries() if self._writer.failing else contextlib.nullcontext():
                self._write()
                self._open_run().complete(facts, ended)
        except EndcapError as error:
            if not (self._writer.reached or isinstance(error, TransientError)):
                raise
            self._tell(Notice(f"MLflow lacks a part of this training's run, which the evaluate step will add: {error}"))

    def abandon(self, status: Literal["FAILED", "KILLED"]) -> None:
        """End the run because the step failed or was stopped. The step's next attempt opens the run again."""
        self._writer.abandon()
        # The step's own error is what is to be told, not the registry's.
        with contextlib.suppress(EndcapError):
            if self._run is not None and not self._writer.failing:
                self._write()
                self._run.end(status, _get_epoch_ms())

    def _submit(self, write: Callable[[], None]) -> None:
        if not self._off:
            self._writer.submit(write)

    def _open_run(self) -> TrainingRun:
        with self._opening:
            if self._run is None:
                run = TrainingRun(open_registry(self._uri, self._store), self._training, self._begun)
                run.begin()
                self._run = run
            return self._run

    def _write(self) -> None:
        self._queued = False
        run, rows = self._open_run(), list(self._waiting)
        run.log_rows(rows)
        del self._waiting[: len(rows)]


def log_missing(settings: ViewSettings, trained: Mapping[str, Any], store: Store, registry: Registry) -> TrainingRun:
    """Complete the run of a trained model: create it if there is none, and end it if the train step could not.

    Parameters
    ----------
    settings
        The settings of the training.
    trained
        The manifest of the trained model.
    store
        The store.
    registry
        Where the run is.

    Returns
    -------
    TrainingRun
        The run.

    Raises
    ------
    UserError, TransientError
        The registry refuses the request, or does not answer.
    """
    facts = trained["facts"]
    ended = to_epoch_ms(datetime.fromisoformat(trained["created"]).astimezone(UTC))
    data = _read_dataset_facts(facts["dataset"], store)
    training = TrainingFacts(
        settings, get_content_key(trained["address"]), facts["dataset"], data, facts.get("counts", {})
    )
    run = TrainingRun(registry, training, ended - round(1000 * facts.get("seconds", 0)))
    if run.status != "FINISHED":
        run.begin()
        run.complete(facts, ended)
    return run


def _read_dataset_facts(dataset: str, store: Store) -> Mapping[str, Any]:
    """Read a dataset's facts, with the time of the first event if it has no window.

    Empty if the dataset was removed.
    """
    facts: dict[str, Any] = {}
    with contextlib.suppress(NotFoundError):
        facts |= store.manifest(dataset)["facts"]
        if facts.get("from") is None:
            facts["from"] = store.manifest(facts["snapshot"])["facts"].get("first")
    return facts


def _get_epoch_ms() -> int:
    return time.time_ns() // 1_000_000

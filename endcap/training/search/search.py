"""The search of a model's settings: which are tried, for how long, and which are chosen."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from endcap.cpus import read_cpu_limit, read_memory_limit
from endcap.errors import DataError
from endcap.features.empty_parts import count_one_moment, explain_no_validation
from endcap.features.view import View
from endcap.progress import Notice
from endcap.ray_driver import Driver, RayProcess
from endcap.ray_driver.cluster import provide_address, refuse_own_folder
from endcap.ray_driver.gpus import drop_missing_gpus
from endcap.spec.base import format_duration
from endcap.spec.model import BlendSpec
from endcap.spec.search import SearchSpec
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import Values, dump_parameters, list_domains, list_members, list_starts
from endcap.store import Store
from endcap.training.search import checkpoints, messages
from endcap.training.search.allocation import TrialShare, allocate_trials
from endcap.training.search.budget import Budget, get_finish_time
from endcap.training.search.cost_model import PROCESS_BYTES, DataSize, estimate_cost
from endcap.training.search.failed_trials import refuse_failures, summarise_reasons
from endcap.training.search.job import SearchJob, Task
from endcap.training.search.mlflow_runs import SearchRuns
from endcap.training.search.monitor import JobMonitor, TrialHooks
from endcap.training.search.outcome import SearchResult, build_result, choose_winner, describe_member, describe_search
from endcap.training.search.record import WRITTEN, ModelTrials, SearchRecord, Trial
from endcap.training.search.shared_trials import fingerprint_trials, inherit_trials, share_trials
from endcap.training.search.trial_queue import STEP_BYTES

Progress = Callable[[str], None]
_FIRST_EPOCH = 120.0
"""Seconds that the model as the spec has it goes on for at least, up to the end of its first epoch: one that is slow is
told from one that never ends."""
_RAY_WITHIN = 600.0
"""Seconds in which Ray has to be there."""
_SPARE = timedelta(minutes=30)
"""How much longer than the search may take its own Ray cluster is kept, should the step be killed."""
_DRIVER = Driver(
    "endcap.training.search.tuning",
    section="search",
    worker="trial",
    kept="trials that ended are kept",
    variables={
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    },
)


def is_searched(settings: TrainSettings) -> bool:
    """Whether there is anything to search: more than one trial, and a parameter that may vary."""
    search = settings.search
    return search is not None and search.trials > 1 and bool(list_domains(settings.model, search))


@contextlib.contextmanager
def search(
    settings: TrainSettings,
    dataset: str,
    store: Store,
    view: View,
    *,
    key: str,
    tried: Path,
    registry_uri: str | None = None,
    above: Callable[[], str | None] = lambda: None,
    progress: Progress = lambda line: None,
) -> Iterator[SearchResult]:
    """Try settings on the training part, judge them by the validation part, and yield the best.

    Without a search the outcome is the spec's model. Until the block ends, no other process runs the same search.

    Parameters
    ----------
    settings
        The train step's settings.
    dataset
        Address of the dataset.
    store
        Where artifacts lie.
    view
        The recommender's view of the dataset.
    key
        Key of the trained model that the search is for.
    tried
        Folder in which the winner is fitted on `train`; its checkpoints are put there.
    registry_uri
        Address of the registry; None: the store's own.
    above
        Returns the id of the MLflow run that the search's run is below.
    progress
        Takes lines for people.

    Raises
    ------
    DataError
        There are no validation sessions.
    UserError
        Other machines cannot read the store, more than `search.max_failed_share` of a model's trials failed, or none
        ended an epoch in time.
    TransientError
        Ray went away.

    Notes
    -----
    A killed search continues with what the store keeps of it, also with another budget. Its time counts from where it
    was, and failed trials are tried again.

    The members of a blend are searched one after the other, those without epochs first, so that the others get the time
    that they leave. A member that cannot be used is left out. After the time of each model, the model as the spec has
    it and its best rival continue from their checkpoints to their own ends, for `search.overtime` at most. On
    validation the outcome is never below the model as the spec has it: if that does not end in time, it is the outcome,
    with the best trial as its `rival`, and the caller fits it to its end (`settle`).
    """
    if not is_searched(settings):
        yield SearchResult(settings.model, None)
        return
    if not len(view.validation):
        raise DataError(
            f"recommender {settings.name!r}: a search judges its trials on the validation part, and "
            f"{explain_no_validation(view.counts)}. Or leave `search` out",
            code="search.no-validation",
            recommender=settings.name,
            one_moment_sessions=count_one_moment(view.counts, "validation")[0],
        )
    if settings.search is not None:
        refuse_own_folder("search", settings.search, store)
    if settings.workers > 1:  # not after half an hour of trials
        refuse_own_folder("training", settings.training, store)
    shared = fingerprint_trials(settings, dataset)
    settings = drop_missing_gpus(settings)
    with store.workspace(f"searches/{settings.name}", shared, progress) as work:
        searching = _Search(settings, dataset, store, view, (key, shared), work, registry_uri, above, progress)
        yield searching.run(tried)
        searching.clear()


def count_trials_here(search: SearchSpec, cores: int, memory: int) -> int:
    """Return how many trials a machine or container allows at once, at least one.

    A container on a machine with very many cores may have a small limit of memory and no limit of cores.

    Parameters
    ----------
    search
        The search's settings.
    cores
        Cores of the machine or container.
    memory
        Its bytes.
    """
    by_memory = (memory - STEP_BYTES) // PROCESS_BYTES
    return max(1, min(math.floor(cores / search.cpu + 1e-9), by_memory, search.trials))


class _Search:
    def __init__(
        self,
        settings: TrainSettings,
        dataset: str,
        store: Store,
        view: View,
        keys: tuple[str, str],
        work: Path,
        registry_uri: str | None,
        above: Callable[[], str | None],
        progress: Progress,
    ) -> None:
        self._settings, self._dataset, self._store, self._work = settings, dataset, store, work
        self._key, self._shared = keys
        self._tell, self._size = progress, DataSize.of(view)
        self._spec: SearchSpec = settings.search or SearchSpec()
        self._domains = list_domains(settings.model, self._spec)
        self._members = {label: list_members(settings.model)[label] for label in self._domains}
        self._record = SearchRecord(work / "record", self._shared, self._domains, self._key)
        if self._record.is_new:
            inherit_trials(store, settings.name, self._shared, self._record.parts)
        self._budget = Budget(self._spec, self._record)
        self._runs = SearchRuns(settings, store, registry_uri, self._record.identity, dataset, progress, above)
        self._left_out: dict[str, str] = {}
        self._removed: set[tuple[str, int, int]] = set()
        """Trials whose checkpoints were removed."""

    def run(self, tried: Path) -> SearchResult:
        """Search, and return the outcome. tried: see `search`."""
        self._runs.begin()
        try:
            if not all(part.over for part in self._record.parts.values()):
                self._try_all()
            self._record.stop_clock()
            self._check_members()
        except BaseException as error:
            self._record.save()
            self._runs.abandon("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        share_trials(self._store, self._settings.name, self._shared, self._record.parts)
        return self._choose(tried)

    def clear(self) -> None:
        """Remove the checkpoints of trials on other machines; those of this machine go with the workspace."""
        if self._is_elsewhere:
            for label, part in self._record.parts.items():
                checkpoints.prune(self._make_task(label), self._store, part, self._removed, every=True)

    def _try_all(self) -> None:
        self._report_beginning()
        with (
            self._provide_ray() as address,
            RayProcess(_DRIVER, self._work, address, self._count_cpus(), self._spec, self._spec.nice) as process,
        ):
            # While Ray starts: it makes the models, and for that imports what they need.
            shared = allocate_trials(self._members, self._spec.trials)
            concurrency = self._await_concurrency(process)
            for place, own in enumerate(shared):
                part = self._record.parts[own.label]
                if not part.over:
                    of_rest = own.weight / sum(later.weight for later in shared[place:])
                    self._try(process, own, part, of_rest, concurrency)
            if self._budget.left <= 0 or self._budget.finish_left <= 0:
                process.kill()

    def _provide_ray(self) -> contextlib.AbstractContextManager[str | None]:
        """Yield the address of Ray; None: on this machine."""
        search = self._spec
        ready_within = search.cluster.ready_within if search.cluster is not None else timedelta(0)
        lifetime = search.time_budget + get_finish_time(search) + ready_within + _SPARE
        return provide_address(self._settings, search, self._key, lifetime, self._tell, search.nice)

    def _try(self, process: RayProcess, own: TrialShare, part: ModelTrials, of_rest: float, concurrency: int) -> None:
        """Search one model, and let trials finish. of_rest: its share of the time that is left."""
        # One that was finishing when it was killed has had its time for trying.
        seconds = 0.0 if part.finishing else max(0.0, self._budget.left * of_rest)
        finish = max(0.0, self._budget.finish_left * of_rest)
        if (seconds > 0 and len(part.ended) < own.trials) or (finish > 0 and part.list_unfinished()):
            self._warn_of_cost(own, seconds)
            points = self._list_points(own.label)
            job = SearchJob(
                task=self._make_task(own.label),
                seconds=seconds,
                finish=finish,
                first_epoch=_FIRST_EPOCH if finish > 0 else 0.0,
                trials=own.trials,
                known=part.ended,
                first=self._list_first_trials(own, part),
                written=points[0],
                spared=len(points),
                most_failed=self._spec.max_failed_share * own.trials,
                concurrency=concurrency,
                size=self._size,
                memory=None if self._is_elsewhere else read_memory_limit(),
            )
            JobMonitor(process, own, part, job, self._make_hooks(own.label), self._tell).follow(is_last=of_rest == 1)
        part.end()
        if part.finishing:
            self._tell(messages.describe_finished(own.label, part, self._record.end_finish()))
        self._record.save()
        for trial in part.of("cut"):
            self._runs.write_trial(own.label, trial)
        self._prune(own.label, part)
        if isinstance(self._settings.model, BlendSpec):
            self._check_member(own.label, part)

    def _list_first_trials(self, own: TrialShare, part: ModelTrials) -> list[Trial]:
        """Return the trials before any is sampled: those that were cut off, the model as it is, known settings."""
        points = enumerate(self._list_points(own.label), WRITTEN)
        fresh = [Trial(number, point) for number, point in points if number not in part.trials]
        return [*part.of("running"), *fresh][: max(0, own.trials - len(part.ended))]

    def _list_points(self, label: str) -> list[Values]:
        """Return the values of the model as it is, and known settings."""
        own = dump_parameters(self._members[label])
        base = {name: own.get(name) for name in self._domains[label]}
        known = list_starts(label, self._members[label], self._spec)
        return list({repr(point): point for point in [base, *({**base, **start} for start in known)]}.values())

    def _make_task(self, label: str) -> Task:
        folder = None if self._is_elsewhere else str(self._work / "fits" / (label or "model"))
        document = self._settings.model_dump_json(by_alias=True)
        return Task(self._store.root, self._dataset, document, self._settings.name, self._shared, label, folder)

    def _make_hooks(self, label: str) -> TrialHooks:
        prune, refuse_failures = functools.partial(self._prune, label), functools.partial(self._refuse, label)
        return TrialHooks(self._record, self._runs, prune, refuse_failures)

    def _refuse(self, label: str, part: ModelTrials) -> None:
        refuse_failures(label, part, self._spec, self._record)

    def _prune(self, label: str, part: ModelTrials) -> None:
        checkpoints.prune(self._make_task(label), self._store, part, self._removed)

    def _await_concurrency(self, process: RayProcess) -> int:
        """Wait until Ray is there, and return how many trials run at once: the time counts from then."""
        self._tell("starting Ray")
        end = time.monotonic() + _RAY_WITHIN
        while time.monotonic() < end:
            event = process.next_event(1.0)
            if event is not None and event["event"] == "ready":
                self._record.start_clock()
                for lack in event.get("lacks", []):
                    self._tell(Notice(lack["words"], **lack["fields"]))
                if event["GPU"] and not self._spec.gpu:
                    self._tell(f"warning: search.gpu is 0, so that trials leave {event['GPU']:g} GPUs unused")
                limit = int(event["limit"])
                return min(
                    self._spec.concurrency or (limit if self._is_elsewhere else self._count_trials_here()), limit
                )
        process.kill()
        return 1

    def _count_cpus(self) -> int:
        """Return the cores of a Ray on this machine: it starts a process for each before there is anything to do."""
        return math.ceil((self._spec.concurrency or self._count_trials_here()) * self._spec.cpu)

    def _count_trials_here(self) -> int:
        return count_trials_here(self._spec, read_cpu_limit(), read_memory_limit())

    @property
    def _is_elsewhere(self) -> bool:
        return self._spec.address is not None or self._spec.cluster is not None

    def _check_members(self) -> None:
        """Raise an error if there is no model: the only model's trials gave none, or no member is left."""
        model, parts = self._settings.model, self._record.parts
        if not isinstance(model, BlendSpec):
            self._refuse("", parts[""])
            return
        for label, part in parts.items():
            if label not in self._left_out:
                self._check_member(label, part)
        if self._left_out.keys() == model.members.keys():
            label = next(iter(self._left_out))
            self._refuse(label, parts[label])

    def _check_member(self, label: str, part: ModelTrials) -> None:
        """Leave a member out, with a notice, if none of its trials has a value."""
        if part.best is None:
            reason = self._left_out[label] = summarise_reasons(part) or "none of its trials ended an epoch in time"
            self._tell(Notice(f"{label} is left out of the blend: {reason}", member=label, reason=reason))

    def _choose(self, tried: Path) -> SearchResult:
        parts = self._record.parts
        winners_by_label = {label: choose_winner(part, self._spec) for label, part in parts.items()}
        winners = {label: trial for label, trial in winners_by_label.items() if trial is not None}
        facts = {
            label: describe_member(self._members[label], self._domains[label], part, winners_by_label[label])
            for label, part in parts.items()
        }
        run = self._runs.end(self._record)
        search_facts = describe_search(self._spec, self._record, self._left_out, self._shared, run)
        model = self._settings.model
        own = {"members": facts, **search_facts} if isinstance(model, BlendSpec) else {**facts[""], **search_facts}
        resumed = [self._resume_winner(tried, label, trial) for label, trial in winners.items()]
        return build_result(model, self._members, winners, parts, self._left_out, own, resumed=all(resumed))

    def _resume_winner(self, tried: Path, label: str, best: Trial) -> bool:
        """Put a winner's checkpoints where it is fitted on `train`, if it is fitted there.

        Returns whether the trial came to its end, so that the fit ends at once.
        """
        is_whole = isinstance(self._settings.model, BlendSpec) or not self._settings.refit
        is_fitted = is_whole or (best.number == WRITTEN and best.state == "cut")
        if self._settings.workers > 1 or not is_fitted:
            return False
        copied = checkpoints.copy(self._make_task(label), self._store, best, tried / label)
        return copied and best.state == "complete"

    def _report_beginning(self) -> None:
        searched = ", ".join(
            f"{label}.{name}" if label else name for label, own in self._domains.items() for name in own
        )
        budget = format_duration(self._spec.time_budget)
        self._tell(f"searching {self._settings.model.name}, {self._spec.trials} trials or {budget}: {searched}")
        known = [trial for part in self._record.parts.values() for trial in part.ended]
        if known:
            inherited = sum(trial.inherited for trial in known)
            note = f", {inherited} of them inherited" if inherited else ""
            self._tell(f"going on after {len(known)} trials{note}, {self._record.seconds:.0f} s into the time")

    def _warn_of_cost(self, own: TrialShare, seconds: float) -> None:
        """Warn if by a formula not even one trial is expected to end in time."""
        cost = estimate_cost(self._members[own.label], self._size)
        if cost.seconds is not None and cost.seconds > seconds:
            name = own.label or self._settings.model.name
            self._tell(
                f"warning: a trial of {name} is estimated to take {messages.format_seconds(cost.seconds)} with "
                f"{self._size.items:,} items, and has {messages.format_seconds(seconds)}"
            )

"""The search of a model's settings: what is tried, how long, and what comes of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from endcap.cpus import cpu_limit, memory_limit
from endcap.errors import DataError, UserError
from endcap.features.emptied import no_validation, one_moment
from endcap.features.view import View
from endcap.spec.base import format_duration
from endcap.spec.model import BlendSpec, ModelSpec, SingleSpec
from endcap.spec.search import Search
from endcap.spec.settings import TrainSettings
from endcap.spec.tunable import Values, changed, domains, members, parameters, starts
from endcap.store import Store
from endcap.training.search.mlflow_runs import Runs
from endcap.training.search.process import RayProcess, ended_with
from endcap.training.search.ray_cluster import cluster_of, refuse_own_folder
from endcap.training.search.record import CUT_OFF, Part, Record, Trial
from endcap.training.search.sampler import importances
from endcap.training.search.shares import Share, shares
from endcap.training.search.stage import Stage, Task

Progress = Callable[[str], None]
_RESERVE, _RESERVE_SHARE = 2.0, 0.03
"""Of the time, kept for ending Ray: seconds at most, and share of it."""
_SHOWN_REASONS = 5
_STEP_BYTES, _TRIAL_BYTES = 2**30, 2**30
"""Memory that the step and Ray's own processes take, and that a trial is given."""


@dataclass(frozen=True)
class Searched:
    """spec: the chosen model. found: what its trial's fit found out (`FitReport.found`), to fit with on other parts;
    None: its fit has to find that itself. history: of that trial. facts: for the trained model's `facts["search"]`."""

    spec: ModelSpec
    found: Mapping[str, Any] | None
    facts: dict[str, Any] = field(default_factory=dict)
    history: list[Mapping[str, float]] = field(default_factory=list)


def is_searched(settings: TrainSettings) -> bool:
    """Whether there is anything to search: more than one trial, and a parameter that may differ."""
    search = settings.search
    return search is not None and search.trials > 1 and bool(domains(settings.model, search))


def search(
    settings: TrainSettings,
    dataset: str,
    store: Store,
    view: View,
    *,
    key: str,
    work: Path,
    registry_uri: str | None = None,
    above: Callable[[], str | None] = lambda: None,
    progress: Progress = lambda line: None,
) -> Searched:
    """Try settings on the training part, judged by the validation part, and choose the best.

    key: of the trained model that the search is for. above: gives the run in MLflow that the search's is below. A
    search that was killed goes on with what `work` keeps of it; its time counts from where it was. One that was refused
    tries again what failed. A blend's members are searched one after the other, those without epochs first, since what
    they leave of the time is the others'.
    Raises DataError without validation sessions; UserError where other machines cannot read the store, more than
    `search.max_failed` of the trials failed, or none came to the end of an epoch in time; TransientError where Ray went
    away.
    """
    if not len(view.validation):
        raise DataError(
            f"recommender {settings.name!r}: a search judges its trials on the validation part, and "
            f"{no_validation(view.counts)}. Or leave `search` out",
            code="search.no-validation",
            recommender=settings.name,
            one_moment_sessions=one_moment(view.counts, "validation")[0],
        )
    if settings.search is not None:
        refuse_own_folder("search", settings.search, store)
    if settings.workers > 1:  # not after half an hour of trials
        refuse_own_folder("training", settings.training, store)
    return _Search(settings, dataset, store, key, work, registry_uri, above, progress).run()


def trials_here(search: Search, cores: int, memory: int) -> int:
    """Trials at once that a machine or container of so many cores and bytes allows; at least one.

    A container may have a small limit of memory and none of cores, on a machine of very many.
    """
    by_memory = (memory - _STEP_BYTES) // _TRIAL_BYTES
    return max(1, min(math.floor(cores / search.cpu + 1e-9), by_memory, search.trials))


class _Process(RayProcess):
    driver: ClassVar[str] = "endcap.training.search.tuning"
    section: ClassVar[str] = "search"
    worker: ClassVar[str] = "trial"
    kept: ClassVar[str] = "trials that ended are kept"


class _Search:
    def __init__(
        self,
        settings: TrainSettings,
        dataset: str,
        store: Store,
        key: str,
        work: Path,
        registry_uri: str | None,
        above: Callable[[], str | None],
        progress: Progress,
    ) -> None:
        self._settings, self._dataset, self._store = settings, dataset, store
        self._key, self._work, self._tell = key, work, progress
        self._spec: Search = settings.search or Search()
        self._domains = domains(settings.model, self._spec)
        self._members = {label: members(settings.model)[label] for label in self._domains}
        self._budget = self._spec.time_budget.total_seconds()
        self._work.mkdir(parents=True, exist_ok=True)
        self._record = Record(self._work / "record", self._key, self._domains)
        self._runs = Runs(settings, store, registry_uri, self._record.identity, dataset, progress, above)

    def run(self) -> Searched:
        self._runs.begin()
        try:
            if not all(part.over for part in self._record.parts.values()):
                self._try_all()
            for label, part in self._record.parts.items():
                self._refuse(label, part)
        except BaseException as error:
            self._record.save()
            self._runs.abandon("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        return self._chosen()

    def _try_all(self) -> None:
        self._told_beginning()
        with cluster_of(self._settings, self._key, self._tell) as address:
            if self._spec.cluster is not None:
                self._record.start_clock()
            with ended_with(_Process(self._work, address, self._cpus(), self._spec)) as process:
                # While Ray starts: it makes the models, and for that imports what they need.
                shared = shares(self._members, self._spec.trials)
                concurrency = self._concurrency(process)
                for place, share in enumerate(shared):
                    part = self._record.parts[share.label]
                    weight = sum(one.weight for one in shared[place:])
                    if not part.over:
                        self._try(process, share, part, self._left() * share.weight / weight, concurrency)
                if self._left() <= 0:
                    process.kill()

    def _try(self, process: RayProcess, share: Share, part: Part, seconds: float, concurrency: int) -> None:
        """Search one model, for as many seconds at most."""
        if len(part.ended) < share.trials and seconds > 0:
            stage = Stage(
                task=self._task(share.label),
                seconds=seconds,
                trials=share.trials,
                known=part.ended,
                first=self._first(share, part),
                spared=len(self._points(share.label)),
                concurrency=concurrency,
            )
            process.run(stage)
            self._follow(process, share, part)
        part.end()
        self._record.save()

    def _follow(self, process: RayProcess, share: Share, part: Part) -> None:
        """Take events until the stage is over, or the time of the whole search."""
        while (left := self._left()) > 0:
            event = process.event(min(left, 1.0))
            if event is None:
                continue
            if event["event"] == "over":
                return
            trial = _taken(event, part)
            if trial is None or trial.state == "running":
                self._record.save_soon()
                continue
            self._record.save()
            self._runs.ended(share.label, trial)
            self._tell(self._line(share, trial, part))
            if len(part.of("failed")) > self._spec.max_failed * share.trials:
                self._refuse(share.label, part)

    def _first(self, share: Share, part: Part) -> list[tuple[int, Values]]:
        """What is tried before anything is sampled: trials that were cut off, the model as it is, known settings."""
        points = self._points(share.label)
        cut_off = [(trial.number, trial.parameters) for trial in part.of("running")]
        fresh = [(number, point) for number, point in enumerate(points, 1) if number not in part.trials]
        return [*cut_off, *fresh][: share.trials - len(part.ended)]

    def _points(self, label: str) -> list[Values]:
        """The model as it is, and known settings."""
        own = parameters(self._members[label])
        base = {name: own.get(name) for name in self._domains[label]}
        known = starts(label, self._members[label], self._spec)
        return list({repr(point): point for point in [base, *({**base, **one} for one in known)]}.values())

    def _task(self, label: str) -> Task:
        folder = None if self._elsewhere else str(self._work / "fits" / (label or "model"))
        document = self._settings.model_dump_json(by_alias=True)
        return Task(self._store.root, self._dataset, document, label, folder)

    def _concurrency(self, process: RayProcess) -> int:
        """Trials at once, when Ray is there."""
        while (left := self._left()) > 0:
            event = process.event(min(left, 1.0))
            if event is not None and event["event"] == "ready":
                if event["GPU"] and not self._spec.gpu:
                    self._tell(f"warning: search.gpu is 0, so that trials leave {event['GPU']:g} GPUs unused")
                limit = int(event["limit"])
                return min(self._spec.concurrency or (limit if self._elsewhere else self._here()), limit)
        return 1

    def _cpus(self) -> int:
        """Cores for a Ray of one's own: it starts a process for each before there is anything to do."""
        return math.ceil((self._spec.concurrency or self._here()) * self._spec.cpu)

    def _here(self) -> int:
        return trials_here(self._spec, cpu_limit(), memory_limit())

    @property
    def _elsewhere(self) -> bool:
        return self._spec.address is not None or self._spec.cluster is not None

    def _left(self) -> float:
        """Seconds of the budget, less what ending takes."""
        return self._budget - min(_RESERVE, _RESERVE_SHARE * self._budget) - self._record.seconds

    def _refuse(self, label: str, part: Part) -> None:
        """Raise where the trials do not make a search: too many failed, or none reached a value."""
        failed = part.of("failed")
        reasons = Counter(trial.error or "no reason known" for trial in failed).most_common(_SHOWN_REASONS)
        told = "; ".join(f"{reason} ({count} times)" if count > 1 else reason for reason, count in reasons)
        of = f" of {label}" if label else ""
        tried = len(part.trials)
        # What never came to run for lack of time did not fail.
        real = [trial for trial in failed if trial.error != CUT_OFF]
        if part.best is not None and len(real) <= self._spec.max_failed * max(tried, 1):
            return
        self._record.put_back_failures()
        if not real:
            raise UserError(
                f"the search{of} ended after {format_duration(self._spec.time_budget)} before any trial ended its "
                "first epoch; set search.time_budget longer, search.concurrency smaller, or try a smaller model",
                code="search.time-over",
                limit=format_duration(self._spec.time_budget),
                trials=tried,
            )
        raise UserError(
            f"{len(real)} of {tried} trials{of} failed, and search.max_failed allows {self._spec.max_failed:.0%}: "
            f"{told}; correct the cause, or fix or narrow the parameters that bring it (search.fixed, search.space)",
            code="search.too-many-failed",
            failed=len(real),
            trials=tried,
            limit=self._spec.max_failed,
            reasons=told,
        )

    def _chosen(self) -> Searched:
        facts: dict[str, Any] = {}
        specs: dict[str, SingleSpec] = {}
        best: Trial | None = None
        for label, part in self._record.parts.items():
            best = part.best
            assert best is not None
            specs[label] = changed(self._members[label], best.parameters)
            facts[label] = self._facts(label, part, best)
        run = self._runs.end(self._record)
        counts = {
            "failed": sum(one["failed"] for one in facts.values()),
            "seconds": round(self._record.seconds, 3),
            "run": run,
        }
        model = self._settings.model
        if isinstance(model, BlendSpec):
            document = model.model_dump(mode="json", by_alias=True)
            document["members"] |= {label: one.model_dump(mode="json", by_alias=True) for label, one in specs.items()}
            return Searched(type(model).model_validate(document), None, {"members": facts, **counts})
        assert best is not None
        return Searched(specs[""], best.outcome(), {**facts[""], **counts}, list(best.history))

    def _facts(self, label: str, part: Part, best: Trial) -> dict[str, Any]:
        base = parameters(self._members[label])
        return {
            "trials": [trial.facts() for _, trial in sorted(part.trials.items())],
            "importances": importances(self._domains[label], base, part.of("complete", "pruned")),
            "best": best.number,
            "failed": len(part.of("failed")),
        }

    def _told_beginning(self) -> None:
        searched = ", ".join(
            f"{label}.{name}" if label else name for label, own in self._domains.items() for name in own
        )
        budget = format_duration(self._spec.time_budget)
        self._tell(f"searching {self._settings.model.name}, {self._spec.trials} trials or {budget}: {searched}")
        known = [trial for part in self._record.parts.values() for trial in part.ended]
        if known:
            self._tell(f"going on after {len(known)} trials, {self._record.seconds:.0f} s into the time")

    def _line(self, share: Share, trial: Trial, part: Part) -> str:
        name = f"{share.label} trial" if share.label else "trial"
        epochs = f" after {trial.epochs} epochs" if trial.epochs else ""
        value = f", next_ndcg@20 {trial.value:.4f}" if trial.value is not None else ""
        why = f": {trial.error}" if trial.error else ""
        best = f"best {part.best.value:.4f} of trial {part.best.number}" if part.best else "none has a value yet"
        left = format_duration(timedelta(seconds=max(0, round(self._left()))))
        return f"{name} {trial.number}/{share.trials} {trial.state}{epochs}{value}{why}  ({best}, {left} left)"


def _taken(event: dict[str, Any], part: Part) -> Trial | None:
    """Note what an event says; the trial that it is about."""
    number = event["number"]
    if event["event"] == "started":
        part.trials.setdefault(number, Trial(number, event["parameters"])).state = "running"
        return None
    trial = part.trials.get(number)
    if trial is None:
        return None
    if event["event"] == "row":
        trial.add(event["row"])
        trial.seconds += float(event["row"].get("seconds", 0.0))
        return trial
    trial.state = event["state"]
    for row in event.get("history", []):
        trial.add(row)
    trial.value, trial.found = event.get("value", trial.value), event.get("found")
    trial.seconds = max(trial.seconds, event.get("seconds", 0.0))
    if trial.state == "pruned":
        trial.cut_off()
    else:
        trial.error = event.get("error")
    return trial

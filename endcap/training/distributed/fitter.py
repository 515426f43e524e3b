"""Fits a model over workers, as a step uses it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from endcap.errors import TransientError, UserError
from endcap.models import FitReport, load
from endcap.models.fit import FittedModel
from endcap.progress import Notice
from endcap.ray_driver import Driver, RayProcess
from endcap.ray_driver.cluster import provide_address, refuse_own_folder
from endcap.ray_driver.gpus import is_without_gpus
from endcap.spec.model import ModelSpec
from endcap.spec.settings import FitSettings
from endcap.spec.training import check_training
from endcap.store import Store, fingerprint
from endcap.training.distributed.job import MODEL, FitJob, Part, artifact_kind

_LIVES = timedelta(days=7)
"""After so long a Ray cluster that a killed step left counts as forgotten."""
_KEPT = "it goes on after its last whole epoch"
_DRIVER = Driver(
    "endcap.training.distributed.driving",
    section="training",
    worker="worker",
    kept=_KEPT,
    variables={"RAY_TRAIN_METRICS_ENABLED": "0", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1"},
)


class DistributedFitter:
    """Fits over the workers that a recommender's `training` asks for.

    It is a context manager. Ray is started or connected at the first fit, and left when the block ends.

    Parameters
    ----------
    settings
        The recommender's settings.
    dataset
        Address of the dataset.
    store
        Where artifacts lie.
    key
        Key of the step, by which a fit is found again.
    work
        Folder for Ray's own files.
    progress
        Takes lines for people.
    observe
        Takes each epoch's row and the name of its fit: `train`, or `final` for a fit without validation.

    Raises
    ------
    UserError
        The workers' machines cannot read the store.
    """

    def __init__(
        self,
        settings: FitSettings,
        dataset: str,
        store: Store,
        key: str,
        work: Path,
        progress: Callable[[str], None] = lambda line: None,
        observe: Callable[[Mapping[str, float], str], object] = lambda row, fit: None,
    ) -> None:
        if settings.workers > 1:
            refuse_own_folder("training", settings.training, store)
        self._settings, self._dataset, self._store, self._key = settings, dataset, store, key
        self._spec, self._work, self._tell, self._observe = settings.training, work, progress, observe
        self._gpu = settings.training.gpu
        """GPUs of a worker: none where one machine sees none and may go on, since all exchange gradients in one way."""
        self._stack = contextlib.ExitStack()
        self._process: RayProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def fit(self, model: ModelSpec, part: Part, fit_settings: Mapping[str, Any] | None) -> FittedModel:
        """Fit a model on a part of the data.

        A killed fit continues after its last whole epoch, and one that ended is found again.

        Parameters
        ----------
        model
            The model.
        part
            The sessions to learn from.
        fit_settings
            What an earlier fit chose (`FitReport.settings`); None: the validation part watches the fit.

        Raises
        ------
        UserError
            Workers cannot share the model. Also what the model's fit raises.
        TransientError
            More workers died than `training.max_failures` allows, or Ray went away.
        """
        job = self._describe_job(model, part, fit_settings)
        address = self._store.find(artifact_kind(self._settings.name), job.key)
        if address is None:
            process = self._start_ray()
            address = self._run(
                process, dataclasses.replace(job, gpu=self._gpu), "train" if fit_settings is None else "final"
            )
        facts = self._store.manifest(address)["facts"]
        fitted = load(self._store.fetch(address, verify=True) / MODEL, self._settings.classes)
        return FittedModel(fitted, FitReport(facts["found"], facts["history"]), facts.get("device"))

    def _describe_job(self, model: ModelSpec, part: Part, fit_settings: Mapping[str, Any] | None) -> FitJob:
        for problem in check_training(self._spec, model):
            raise UserError(
                f"training.workers: {problem.actual}; allowed: {problem.allowed}. {problem.hint}".strip(),
                code="training.workers-unfit",
                workers=self._spec.workers,
                model=model.name,
                found=problem.actual,
                allowed=problem.allowed,
            )
        document = FitSettings.of(self._settings).model_dump(mode="json", by_alias=True)
        document["model"] = model.model_dump(mode="json", by_alias=True)
        # Of parsed ones: what is checked over several keys is checked here, not in the workers.
        settings = FitSettings.model_validate(document).model_dump_json(by_alias=True)
        spec, chosen_settings = self._spec, None if fit_settings is None else dict(fit_settings)
        return FitJob(
            store=self._store.root,
            dataset=self._dataset,
            settings=settings,
            part=part,
            fit_settings=chosen_settings,
            key=fingerprint(self._key, document["model"], part, chosen_settings),
            workers=spec.workers,
            cpu=spec.cpu,
            gpu=spec.gpu,
            max_failures=spec.max_failures,
        )

    def _start_ray(self) -> RayProcess:
        """Return the process that has Ray, with room for all workers; start it the first time."""
        if self._process is not None:
            return self._process
        spec = self._spec
        self._work.mkdir(parents=True, exist_ok=True)
        cpus = math.ceil(spec.workers * spec.cpu)
        if is_without_gpus(spec):
            self._gpu = 0
        needs = spec.model_copy(update={"gpu": self._gpu})
        address = self._stack.enter_context(provide_address(self._settings, spec, self._key, _LIVES, self._tell))
        process = self._stack.enter_context(RayProcess(_DRIVER, self._work, address, cpus, needs))
        ready = process.wait_event()
        for lack in ready.get("lacks", []):
            self._tell(Notice(lack["words"], **lack["fields"]))
            self._gpu = 0
        if ready["limit"] < spec.workers:
            raise UserError(
                f"training.workers asks for {spec.workers} workers of {spec.cpu:g} cores and {spec.gpu} GPUs each, and "
                f"Ray has {ready['CPU']:g} cores and {ready['GPU']:g} GPUs; ask for less, or give it more",
                code="training.no-room",
                setting="training.workers",
                workers=spec.workers,
                wanted={"cpu": spec.cpu, "gpu": spec.gpu},
                found={"cpu": ready["CPU"], "gpu": ready["GPU"]},
            )
        self._process = process
        return process

    def _run(self, process: RayProcess, job: FitJob, fit: str) -> str:
        """Run the job and return the address of the fitted model. fit: the name of the fit, for epochs."""
        address, failure = None, "they ended without a model"
        for event in process.events(job):
            if event["event"] == "line":
                self._tell(event["line"])
            elif event["event"] == "row":
                self._observe(event["row"], fit)
            elif event["event"] == "died":
                self._tell(f"warning: {event['reason']}; {event['then']}")
            elif event["event"] == "fitted":
                address = event["address"]
            elif event["event"] == "failed":
                failure = event["reason"]
        if address is None:
            raise TransientError(
                f"the workers failed more often than training.max_failures allows ({self._spec.max_failures}); the "
                f"last time: {failure}. Correct the cause (where it is memory: fewer workers a machine, or a smaller "
                f"model), then run again: {_KEPT}",
                code="training.workers-died",
                limit=self._spec.max_failures,
                reason=failure,
            )
        return str(address)

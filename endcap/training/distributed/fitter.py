"""The step's hold on workers that fit a model together."""

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
    """Fits over the workers that a recommender's `training` asks for. Ray is started, or connected, at the first fit,
    and left when the block ends."""

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
        """key: the step's, so that a fit is found again by it. work: a folder for Ray's own files. observe: takes each
        epoch's row, and `train` or `final` as the fit is with or without validation.

        Raises UserError where the workers' machines cannot read the store.
        """
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
        """Fit on a part: with what an earlier fit chose, or where that is None watched by the validation part.

        A fit that was killed goes on after its last whole epoch, one that ended is found again. Raises UserError where
        workers cannot share the model, and what its fit raises; TransientError where more workers died than
        `training.max_failures` allows, or Ray went away.
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
        for wrong in check_training(self._spec, model):
            raise UserError(
                f"training.workers: {wrong.actual}; allowed: {wrong.allowed}. {wrong.hint}".strip(),
                code="training.workers-unfit",
                workers=self._spec.workers,
                model=model.name,
                found=wrong.actual,
                allowed=wrong.allowed,
            )
        document = FitSettings.of(self._settings).model_dump(mode="json", by_alias=True)
        document["model"] = model.model_dump(mode="json", by_alias=True)
        # Of parsed ones: what is checked over several keys is checked here, not in the workers.
        settings = FitSettings.model_validate(document).model_dump_json(by_alias=True)
        spec, known = self._spec, None if fit_settings is None else dict(fit_settings)
        return FitJob(
            store=self._store.root,
            dataset=self._dataset,
            settings=settings,
            part=part,
            fit_settings=known,
            key=fingerprint(self._key, document["model"], part, known),
            workers=spec.workers,
            cpu=spec.cpu,
            gpu=spec.gpu,
            max_failures=spec.max_failures,
        )

    def _start_ray(self) -> RayProcess:
        """Ray, with room for all workers."""
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
        """Run the job; the address of what the workers fitted. fit: what their epochs are of."""
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

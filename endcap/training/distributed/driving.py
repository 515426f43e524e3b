"""A fit as Ray Train runs it. Only processes with Ray import this module: it takes seconds."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train import TrainingFailedError, UserCallback, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

# ray.train has these by the same names; its types, though, are those of the version before.
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.util.queue import Queue

from endcap.ray_driver import Emit
from endcap.ray_driver.failures import describe_loss
from endcap.ray_driver.forwarding import forward
from endcap.ray_driver.gpus import NO_GPUS
from endcap.training.distributed.job import FitJob
from endcap.training.distributed.rendezvous import FileRendezvous
from endcap.training.distributed.worker import work

JOB = FitJob


def drive(job: FitJob, storage: str | None, emit: Emit) -> None:
    """Fit a model on the workers of a job. Ray is connected.

    Parameters
    ----------
    job
        The fit.
    storage
        Folder for Ray Train's own files; None: where the cluster has its own.
    emit
        Takes the events of `work`, and ``failed`` where workers died too often.
    """
    backend = "nccl" if job.gpu else "gloo"
    with forward(emit) as queue:
        trainer = TorchTrainer(
            functools.partial(work, job, queue.put),
            torch_config=FileRendezvous(backend, folder=storage) if storage else TorchConfig(backend),
            scaling_config=ScalingConfig(
                num_workers=job.workers,
                use_gpu=job.gpu > 0,
                resources_per_worker={"CPU": job.cpu} | ({"GPU": job.gpu} if job.gpu else {}),
            ),
            run_config=RunConfig(  # type: ignore[arg-type]
                name=f"fit-{time.time_ns()}",
                storage_path=storage,
                failure_config=FailureConfig(max_failures=job.max_failures),
                callbacks=[_Failures(queue, job.max_failures)],
                worker_runtime_env=_hide_gpus() if not job.gpu else None,
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
            queue.put({"event": "failed", "reason": describe_failures(failures) or describe_loss(error)})


def _hide_gpus() -> dict[str, Any] | None:
    """Hide GPUs from workers that ask for none: by default Ray shows them all that there are."""
    gpus = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    return {"env_vars": NO_GPUS} if gpus else None


class _Failures(UserCallback):
    """Reports that workers failed, and what is done about it. Runs in Ray Train's controller."""

    def __init__(self, queue: Queue, allowed: int) -> None:
        self._queue, self._allowed, self._count = queue, allowed, 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._count += 1
        restart = f"starting again from the last epoch, {self._count} of at most {self._allowed} times"
        action = restart if self._count <= self._allowed else "giving up"
        self._queue.put({"event": "died", "reason": describe_failures(worker_exceptions), "then": action})


def describe_failures(failures: Mapping[int, BaseException]) -> str:
    """Say in one line why workers failed, by their ranks.

    If a worker died, the others only report that their connection is lost; they are left out.
    """
    deaths = (RayActorError, OutOfMemoryError)
    deaths_by_rank = {rank: error for rank, error in failures.items() if isinstance(_find_cause(error), deaths)}
    reasons = {rank: describe_loss(_find_cause(error)) for rank, error in sorted((deaths_by_rank or failures).items())}
    return "; ".join(f"worker {rank}: {reason}" for rank, reason in reasons.items())


def _find_cause(error: BaseException) -> BaseException:
    cause: BaseException = getattr(error, "health_check_failure", error)
    return cause

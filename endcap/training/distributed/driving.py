"""A fit as Ray Train runs it. Imported only where Ray is: it costs seconds."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# Before Ray is imported: it reads them then.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
}

import ray
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.train import TrainingFailedError, UserCallback, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

# ray.train has these by the same names; its types, though, are those of the version before.
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.util.queue import Empty, Queue

from endcap.training.distributed.meeting import ByFile
from endcap.training.distributed.stage import Stage
from endcap.training.distributed.worker import work
from endcap.training.search.ray_process import reason_of

__all__ = ["Stage", "drive"]

Emit = Callable[[dict[str, Any]], None]
_LOOK = 0.5


def drive(stage: Stage, storage: str | None, emit: Emit) -> None:
    """Run the stage; `emit` is told what `work` tells, and {"event": "failed"} where workers died too often. Ray is
    connected.

    storage: a folder for Ray Train's own files; None: where the cluster has its own.
    """
    backend = "nccl" if stage.gpu else "gloo"
    with _told(emit) as queue:
        trainer = TorchTrainer(
            functools.partial(work, stage, queue.put),
            torch_config=ByFile(backend, folder=storage) if storage else TorchConfig(backend),
            scaling_config=ScalingConfig(
                num_workers=stage.workers,
                use_gpu=stage.gpu > 0,
                resources_per_worker={"CPU": stage.cpu} | ({"GPU": stage.gpu} if stage.gpu else {}),
            ),
            run_config=RunConfig(  # type: ignore[arg-type]
                name=f"fit-{time.time_ns()}",
                storage_path=storage,
                failure_config=FailureConfig(max_failures=stage.max_failures),
                callbacks=[_Failures(queue, stage.max_failures)],
                worker_runtime_env=_without_gpus() if not stage.gpu else None,
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
            queue.put({"event": "failed", "reason": reasons(failures) or reason_of(error)})


def _without_gpus() -> dict[str, Any] | None:
    """Hide GPUs that are there: Ray leaves all of them to workers that ask for none."""
    there = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    return {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}} if there else None


class _Failures(UserCallback):
    """Tells that workers failed, and what is done about it. Runs in Ray Train's controller."""

    def __init__(self, queue: Queue, allowed: int) -> None:
        self._queue, self._allowed, self._count = queue, allowed, 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._count += 1
        anew = f"beginning anew from the last epoch, {self._count} of at most {self._allowed} times"
        then = anew if self._count <= self._allowed else "giving up"
        self._queue.put({"event": "died", "reason": reasons(worker_exceptions), "then": then})


@contextlib.contextmanager
def _told(emit: Emit) -> Iterator[Queue]:
    """A queue that workers may write to, whose content is emitted; all of it by the end of the block."""
    queue, over = Queue(actor_options={"num_cpus": 0}), threading.Event()

    def hand_on() -> None:
        while True:
            last = over.is_set()
            with contextlib.suppress(Empty):
                while True:
                    emit(queue.get(block=not last, timeout=_LOOK))
            if last:
                return

    thread = threading.Thread(target=hand_on, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        over.set()
        thread.join()
        queue.shutdown(force=True)


def reasons(failures: Mapping[int, BaseException]) -> str:
    """Why workers failed, by their ranks: one line. Where one died, others only say that the connection is lost."""
    deaths = (RayActorError, OutOfMemoryError)
    died = {rank: error for rank, error in failures.items() if isinstance(_cause(error), deaths)}
    told = {rank: reason_of(_cause(error)) for rank, error in sorted((died or failures).items())}
    return "; ".join(f"worker {rank}: {why}" for rank, why in told.items())


def _cause(error: BaseException) -> BaseException:
    found: BaseException = getattr(error, "health_check_failure", error)
    return found

"""Parts as Ray's tasks. Imported only where Ray is: it costs seconds."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from endcap.batch import part_files
from endcap.batch.job import PartsJob
from endcap.batch.part_files import ListPlan
from endcap.batch.part_ranking import rank_part_in_worker
from endcap.errors import EndcapError, describe_error
from endcap.ray_driver import Emit
from endcap.ray_driver.failures import describe_loss

JOB = PartsJob


def drive(job: PartsJob, storage: str | None, emit: Emit) -> None:
    """Have workers make parts, and keep each when it is whole. Ray is connected.

    Parameters
    ----------
    job
        Which parts.
    storage
        Not used.
    emit
        Takes ``part`` with its number and customers; ``died`` for a worker, whose part is made again; ``failed`` where
        too many died; ``error`` where a part raises what would be raised again.
    """
    work, key = Path(job.work), job.lists.key
    plan = ListPlan.load(work, key)
    assert plan is not None  # the step has just kept it
    shared = ray.put(plan)
    # Tries again are counted here, and told.
    task: Any = ray.remote(num_cpus=job.cpu, max_retries=0)(rank_part_in_worker)
    waiting, running, deaths = deque(job.parts), dict[Any, int](), 0
    while waiting or running:
        while waiting and len(running) < job.workers:
            number = waiting.popleft()
            running[task.remote(job.lists, shared, number)] = number
        (done,), _ = ray.wait(list(running), num_returns=1)
        number = running.pop(done)
        try:
            lists = ray.get(done)
        except RayTaskError as error:
            emit({"event": "error", "error": describe_error(_to_endcap_error(error.cause, number))})
            return
        except RayError as error:
            deaths += 1
            reason = describe_loss(error)
            emit({"event": "died", "part": number, "reason": reason})
            if deaths > job.deaths:
                emit({"event": "failed", "reason": reason})
                return
            waiting.appendleft(number)
            continue
        part_files.keep_part(work, key, number, lists)
        emit({"event": "part", "number": number, "customers": len(lists)})
        del lists


def _to_endcap_error(cause: BaseException, part: int) -> EndcapError:
    if isinstance(cause, EndcapError):
        return cause
    name = type(cause).__name__
    return EndcapError(str(cause) or name, code="batch.part-failed", part=part, cause=name)

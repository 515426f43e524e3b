"""Parts as Ray's tasks. Imported only where Ray is: it costs seconds."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before Ray is imported: it reads it then.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

from endcap.batch import parts
from endcap.batch.maker import made_by_worker
from endcap.batch.parts import Plan
from endcap.batch.stage import Stage
from endcap.errors import EndcapError, describe
from endcap.training.search.ray_process import reason_of

__all__ = ["Stage", "drive"]

Emit = Callable[[dict[str, Any]], None]


def drive(stage: Stage, storage: str | None, emit: Emit) -> None:
    """Have the parts made, and keep each when it is whole. Ray is connected; `storage` is not used.

    `emit` is told {"event": "part", "number", "customers"}; "died" of each worker that did, whose part is made again;
    "failed" where too many did; "error" where a part raises what would be raised again.
    """
    work, key = Path(stage.work), stage.job.key
    plan = Plan.load(work, key)
    assert plan is not None  # the step has just kept it
    shared = ray.put(plan)
    # Tries again are counted here, and told.
    task: Any = ray.remote(num_cpus=stage.cpu, max_retries=0)(made_by_worker)
    waiting, running, deaths = deque(stage.parts), dict[Any, int](), 0
    while waiting or running:
        while waiting and len(running) < stage.workers:
            number = waiting.popleft()
            running[task.remote(stage.job, shared, number)] = number
        (done,), _ = ray.wait(list(running), num_returns=1)
        number = running.pop(done)
        try:
            lists = ray.get(done)
        except RayTaskError as error:
            emit({"event": "error", "error": describe(_known(error.cause, number))})
            return
        except RayError as error:
            deaths += 1
            reason = "its process died" if isinstance(error, WorkerCrashedError) else reason_of(error)
            emit({"event": "died", "part": number, "reason": reason})
            if deaths > stage.deaths:
                emit({"event": "failed", "reason": reason})
                return
            waiting.appendleft(number)
            continue
        parts.keep(work, key, number, lists)
        emit({"event": "part", "number": number, "customers": len(lists)})
        del lists


def _known(cause: BaseException, part: int) -> EndcapError:
    if isinstance(cause, EndcapError):
        return cause
    name = type(cause).__name__
    return EndcapError(str(cause) or name, code="batch.part-failed", part=part, cause=name)

"""The step's hold on workers that share the parts of one version's lists, through Ray on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from endcap.batch.maker import Job
from endcap.batch.pace import Pace
from endcap.batch.stage import Stage
from endcap.cpus import cpu_limit
from endcap.errors import TransientError, rebuild
from endcap.training.search.process import RayProcess, ended_with

MOST_DEATHS = 3
"""So many workers may die, each at the cost of one part made anew, before the step fails."""
_KEPT = "whole parts are kept"


class _Process(RayProcess):
    driver: ClassVar[str] = "endcap.batch.driving"
    section: ClassVar[str] = "batch"
    worker: ClassVar[str] = "worker"
    kept: ClassVar[str] = _KEPT


@dataclass(frozen=True)
class _Needs:
    cpu: float
    gpu: float = 0.0


def share(job: Job, missing: Sequence[int], workers: int, work: Path, pace: Pace) -> None:
    """Have workers make the parts that are missing; each is kept in the workspace when it is whole.

    The plan lies in the workspace. Workers read package and dataset from the store by address, and hand their lists
    back through Ray. What a worker that died was making is made by another. Raises TransientError where more died than
    MOST_DEATHS, or Ray went away; else what a part raises.
    """
    workers = min(workers, len(missing))
    needs = _Needs(cpu=float(max(1, cpu_limit() // workers)))
    folder = work / "workers"
    folder.mkdir(exist_ok=True)
    stage = Stage(job, list(missing), str(work), workers, needs.cpu, MOST_DEATHS)
    with ended_with(_Process(folder, None, int(workers * needs.cpu), needs)) as process:
        while _next(process)["event"] != "ready":
            continue
        pace.tell(f"{workers} workers of {needs.cpu:g} cores share {len(missing):,} parts")
        process.run(stage)
        while (event := _next(process))["event"] != "over":
            if event["event"] == "part":
                pace.whole(event["customers"])
            elif event["event"] == "died":
                pace.tell(f"warning: a worker of part {event['part']}: {event['reason']}; another makes this part")
            elif event["event"] == "failed":
                raise TransientError(
                    f"more than {MOST_DEATHS} workers died; the last time: {event['reason']}. Correct the cause (where "
                    f"it is memory: fewer batch.workers), then run again: {_KEPT}",
                    code="batch.workers-died",
                    limit=MOST_DEATHS,
                    reason=event["reason"],
                )
            elif event["event"] == "error":
                raise rebuild(event["error"])


def _next(process: RayProcess) -> dict[str, Any]:
    while (event := process.event(1.0)) is None:
        continue
    return event

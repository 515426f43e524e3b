"""Workers on this machine that share the parts of one version's lists, by Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from endcap.batch.job import PartsJob
from endcap.batch.part_ranking import ListJob
from endcap.batch.progress import ListProgress
from endcap.cpus import read_cpu_limit
from endcap.errors import TransientError
from endcap.ray_driver import Driver, RayProcess

MOST_DEATHS = 3
"""So many workers may die, each at the cost of one part made anew, before the step fails."""
_KEPT = "whole parts are kept"
_DRIVER = Driver("endcap.batch.driving", section="batch", worker="worker", kept=_KEPT)


@dataclass(frozen=True)
class _Needs:
    cpu: float
    gpu: float = 0.0


def share_parts(job: ListJob, missing: Sequence[int], workers: int, work: Path, progress: ListProgress) -> None:
    """Have workers make the parts that are missing; each is kept in the workspace when it is whole.

    The plan lies in the workspace. Workers read package and dataset from the store by address, and hand their lists
    back through Ray. What a worker that died was making is made by another. Raises TransientError where more died than
    MOST_DEATHS, or Ray went away; else what a part raises.
    """
    workers = min(workers, len(missing))
    needs = _Needs(cpu=float(max(1, read_cpu_limit() // workers)))
    folder = work / "workers"
    folder.mkdir(exist_ok=True)
    parts = PartsJob(job, list(missing), str(work), workers, needs.cpu, MOST_DEATHS)
    with RayProcess(_DRIVER, folder, None, int(workers * needs.cpu), needs) as process:
        while process.wait_event()["event"] != "ready":
            continue
        progress.tell(f"{workers} workers of {needs.cpu:g} cores share {len(missing):,} parts")
        for event in process.events(parts):
            if event["event"] == "part":
                progress.count_part(event["customers"])
            elif event["event"] == "died":
                progress.tell(f"warning: a worker of part {event['part']}: {event['reason']}; another makes this part")
            elif event["event"] == "failed":
                raise TransientError(
                    f"more than {MOST_DEATHS} workers died; the last time: {event['reason']}. Correct the cause (where "
                    f"it is memory: fewer batch.workers), then run again: {_KEPT}",
                    code="batch.workers-died",
                    limit=MOST_DEATHS,
                    reason=event["reason"],
                )

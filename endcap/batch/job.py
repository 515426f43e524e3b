"""Which parts workers are to make, as the step describes it to the process that has Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from endcap.batch.part_ranking import ListJob
from endcap.ray_driver import DriverJob


@dataclass(frozen=True)
class PartsJob(DriverJob):
    """parts: numbers of the parts to make. work: the workspace's folder, with the plan, on the step's own machine.
    cpu: cores of each worker. deaths: how many workers may die before the job fails."""

    lists: ListJob
    parts: list[int]
    work: str
    workers: int
    cpu: float
    deaths: int

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> PartsJob:
        """See `DriverJob.from_json`."""
        return cls(**{**document, "lists": ListJob(**document["lists"])})

"""Which parts workers are to make: said by the step, carried out where Ray is. JSON, since it travels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from endcap.batch.maker import Job


@dataclass(frozen=True)
class Stage:
    """parts: the numbers of those to make. work: the workspace's folder, with the plan, on the step's own machine.
    cpu: cores of each worker. deaths: of workers, before it is given up."""

    job: Job
    parts: list[int]
    work: str
    workers: int
    cpu: float
    deaths: int

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Stage:
        """What `to_json` wrote."""
        return cls(**{**document, "job": Job(**document["job"])})

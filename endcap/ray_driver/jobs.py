"""The messages between the step and its Ray process, as lines of JSON.

The step sends a `Connection`, then one `DriverJob` after another. The process answers with events. `ready` comes first,
or `refused` if not even one worker fits there or a machine sees none of its GPUs; then the events of the job's driver;
and `over` after each job. Some events mean the same for all drivers: `died` (a worker died, and its work is done
again), `failed` (workers died too often) and `error` (an error that would occur again).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

Event = dict[str, Any]
Emit = Callable[[Event], None]

_COMMON = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}


class WorkerNeeds(Protocol):
    """The cores and GPUs of one worker."""

    @property
    def cpu(self) -> float: ...

    @property
    def gpu(self) -> float: ...


@dataclass(frozen=True)
class Driver:
    """One kind of work that runs in Ray.

    Parameters
    ----------
    module
        Dotted name of the module that carries out a job: it has `JOB`, a subclass of `DriverJob`, and
        ``drive(job, storage, emit)``. It is imported only where Ray is. Write the name as a literal: the key of a
        step finds the module by it.
    section
        The recommender's section that says where Ray is and what a worker gets.
    worker
        What messages call a worker.
    kept
        What is not lost where Ray goes away, for messages.
    variables
        Environment variables that Ray reads when it is imported, beside those that all drivers set.
    """

    module: str
    section: str
    worker: str
    kept: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """All variables that Ray reads when it is imported."""
        return {**_COMMON, **self.variables}


@dataclass(frozen=True)
class DriverJob:
    """The work of a driver, described by the step and sent as JSON. Subclasses add the fields."""

    def to_json(self) -> dict[str, Any]:
        """Return the document that `from_json` takes."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """Build the job that `to_json` wrote."""
        return cls(**document)


@dataclass(frozen=True)
class Connection:
    """Where Ray is, what a worker needs, and which module drives.

    Attributes
    ----------
    address
        Address of a cluster; None: Ray is started here.
    cpus
        Cores of a Ray that is started here.
    temp, storage
        Folders for Ray's own files.
    cpu, gpu
        Cores and GPUs of one worker.
    driver
        See `Driver.module`.
    variables
        See `Driver.environment`.
    """

    address: str | None
    cpus: int
    temp: str
    storage: str
    cpu: float
    gpu: float
    driver: str
    variables: dict[str, str]

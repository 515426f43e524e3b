"""The trials of one model, as the step describes them to the process that has Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from endcap.ray_driver import DriverJob
from endcap.spec.tunable import Values
from endcap.training.search.cost_model import DataSize
from endcap.training.search.record import Trial


@dataclass(frozen=True)
class Task:
    """What all trials of one model have in common.

    Attributes
    ----------
    store, dataset
        Addresses.
    settings
        The train step's settings, as JSON.
    name
        The recommender's name.
    key
        Key of what the trials' outcomes depend on.
    label
        The model's label in a blend, empty if it is the only one.
    """

    store: str
    dataset: str
    settings: str
    name: str
    key: str
    label: str
    folder: str | None
    """Where checkpoints are kept, a folder a trial; None: in the store's own workspace, for workers elsewhere."""


@dataclass(frozen=True)
class SearchJob(DriverJob):
    """The search of one model.

    Attributes
    ----------
    task
        What its trials have in common.
    seconds
        Time for trials; after it nothing new is tried.
    finish
        Seconds that the model as the spec has it, and its best rival, may then continue.
    first_epoch
        Seconds that the former continues at least, up to the end of its first epoch.
    trials
        Number of trials in all.
    known
        Trials of earlier attempts that ended.
    first
        Trials before any is sampled, with what they had reached.
    written
        Values of the model as the spec has it.
    spared
        Up to this number no trial is stopped early unless time is short.
    most_failed
        If more trials than this failed, nothing more is tried.
    concurrency
        Most trials at once.
    size
        Size of the data.
    memory
        Bytes of the machine or container; None: not known.
    """

    task: Task
    seconds: float
    finish: float
    first_epoch: float
    trials: int
    known: list[Trial]
    first: list[Trial]
    written: Values
    spared: int
    most_failed: float
    concurrency: int
    size: DataSize
    memory: int | None

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SearchJob:
        """See `DriverJob.from_json`."""
        lists = {name: [Trial(**trial) for trial in document[name]] for name in ("known", "first")}
        return cls(**{**document, **lists, "task": Task(**document["task"]), "size": DataSize(**document["size"])})

"""What is to be tried of one model, as the step describes it to the process that has Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from endcap.ray_driver import DriverJob
from endcap.spec.tunable import Values
from endcap.training.search.cost_model import DataSize
from endcap.training.search.record import Trial


@dataclass(frozen=True)
class Task:
    """What all trials of one model have in common. store, dataset: addresses. settings: of the train step, as JSON.
    name: of the recommender. key: of what the trials' outcomes depend on."""

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
    """seconds: after them nothing more is tried. finish: how long the model as the spec has it and its best rival then
    go on. first_epoch: how long the former goes on at least, up to the end of its first epoch. trials: how many in all.
    known: those of earlier attempts that ended. first: those that are tried before any is sampled, with what they had
    reached. written: the values of the model as the spec has it. spared: up to this number no trial is stopped early
    unless time is short. most_failed: when more than so many failed, nothing more is tried. memory: bytes of the
    machine or container; None: not known."""

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

"""What is to be tried of one model: said by the step, carried out where Ray is. JSON, since it travels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from endcap.spec.tunable import Values
from endcap.training.search.record import Trial


@dataclass(frozen=True)
class Task:
    """What all trials of one model have in common. store, dataset: addresses. settings: of the train step, as JSON."""

    store: str
    dataset: str
    settings: str
    label: str
    folder: str | None
    """Where checkpoints are kept, a folder a trial; None: in the store's own workspace, for workers elsewhere."""


@dataclass(frozen=True)
class Stage:
    """seconds: when it is ended. trials: how many in all. known: those of earlier attempts that ended. first: numbers
    and settings that are tried before any is sampled. spared: up to this number no trial is stopped early."""

    task: Task
    seconds: float
    trials: int
    known: list[Trial]
    first: list[tuple[int, Values]]
    spared: int
    concurrency: int

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Stage:
        """What `to_json` wrote."""
        known = [Trial(**one) for one in document["known"]]
        first = [(number, values) for number, values in document["first"]]
        return cls(**{**document, "task": Task(**document["task"]), "known": known, "first": first})

"""What the workers are to fit: said by the step, carried out where Ray is. JSON, since it travels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Part = Literal["train", "training", "everything"]
"""Which sessions: those before the validation, the whole training part, or all that the dataset has."""

MODEL = "model"


def kind(name: str) -> str:
    """Where what workers fitted lies in a store, by the recommender's name."""
    return f"fits/{name}"


@dataclass(frozen=True)
class Stage:
    """store, dataset: addresses. settings: of the fit, as JSON, its model the one to fit. found: of an earlier fit, or
    None: with validation. key: the fit's, in `kind`. workers, cpu, gpu, max_failures: as `Training` has them."""

    store: str
    dataset: str
    settings: str
    part: Part
    found: Mapping[str, Any] | None
    key: str
    workers: int
    cpu: float
    gpu: int
    max_failures: int

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Stage:
        """What `to_json` wrote."""
        return cls(**document)

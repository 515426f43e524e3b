"""What workers are to fit, as the step describes it to the process that has Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from endcap.ray_driver import DriverJob

Part = Literal["train", "training", "everything"]
"""Which sessions: those before the validation, the whole training part, or all that the dataset has."""

MODEL = "model"


def artifact_kind(name: str) -> str:
    """Return the kind of the artifacts that workers fit, by the recommender's name."""
    return f"fits/{name}"


@dataclass(frozen=True)
class FitJob(DriverJob):
    """store, dataset: addresses. settings: of the step, as JSON, its model the one to fit. fit_settings: what an
    earlier fit chose (`FitReport.settings`); None: with validation. key: of the fit's artifact. workers, cpu, gpu,
    max_failures: as the recommender's `training` has them."""

    store: str
    dataset: str
    settings: str
    part: Part
    fit_settings: Mapping[str, Any] | None
    key: str
    workers: int
    cpu: float
    gpu: int
    max_failures: int

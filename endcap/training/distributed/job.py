"""A fit over workers, as the step describes it to the process that has Ray."""

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
    """A fit over workers.

    Attributes
    ----------
    store, dataset
        Addresses.
    settings
        The step's settings as JSON; their model is the one to fit.
    part
        The sessions to learn from.
    fit_settings
        What an earlier fit chose (`FitReport.settings`); None: the validation part watches the fit.
    key
        Key of the fit's artifact.
    workers, cpu, gpu, max_failures
        As in the recommender's `training`.
    """

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

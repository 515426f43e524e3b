"""The cost of a trial, estimated before it starts: memory in bytes, and work, which a measured trial turns into time.

The estimates follow the fits: EASE inverts an items x items matrix; networks hold tables of items and read the events
once an epoch. Of your own classes nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from endcap.features.view import View
from endcap.models.fit import MAX_VALIDATION_PREFIXES
from endcap.spec.model import EASESpec, ItemKNNSpec, SequentialRulesSpec, SingleSpec, StackedSpec, VSKNNSpec
from endcap.spec.neural import GRU4RecSpec, NeuMFSpec, SASRecSpec
from endcap.spec.tunable import list_members

PROCESS_BYTES = 2**30
"""What a trial is given at least: Python with its libraries, and a view of a usual size."""
_BARE_BYTES = 400 * 2**20
"""Of a process that has read nothing yet."""
_EVENT_BYTES = 64
"""Of a view, an event: item, time, customer and session, while it is sorted too."""
_COPIES = 7
"""Of a network's tables: weights, gradients, two of the optimiser, the best epoch's, and two while these are saved."""
_EASE_DENSE, _EASE_KEPT = 5_000, 1_000
_EASE_SECONDS, _EASE_BASE = 2.06e-11, 0.84
"""Of one fit: seconds an item cubed, and beside, as measured on one core: 1.4 s at 3,000 items, 5.3 s at 6,000."""


@dataclass(frozen=True)
class DataSize:
    """The size of the data: items, training events, and predictions of the validation."""

    items: int
    events: int
    predictions: int

    @classmethod
    def of(cls, view: View) -> DataSize:
        """Measure a recommender's view."""
        events = int(view.counts["train"]["events"])
        return cls(len(view.vocabulary), events, min(MAX_VALIDATION_PREFIXES, int(view.validation.lengths.sum())))


@dataclass(frozen=True)
class TrialCost:
    """The cost of a trial.

    Attributes
    ----------
    bytes
        Memory that the fit takes beside its process.
    work
        In a unit of the model's own, of the time to the end of the first epoch; of a model without epochs, of the fit.
    seconds
        Time of the work if a formula gives it; else None.
    """

    bytes: float
    work: float
    seconds: float | None = None


def estimate_cost(spec: SingleSpec, size: DataSize) -> TrialCost:
    """Estimate the cost of a model's fit on data of a size."""
    items, events = size.items, size.events
    scoring = size.predictions * items
    if isinstance(spec, EASESpec):
        kept_bytes = 12 * items**2 if items <= _EASE_DENSE else 36 * items * _EASE_KEPT
        seconds = _EASE_BASE + _EASE_SECONDS * items**3
        return TrialCost(8.0 * items**2 + kept_bytes, seconds, seconds)
    if isinstance(spec, VSKNNSpec):
        return TrialCost(48.0 * events, events + size.predictions * (spec.sample + spec.neighbours) + scoring)
    if isinstance(spec, ItemKNNSpec):
        return TrialCost(16.0 * min(items**2, 50 * events) + 24.0 * items * spec.neighbours, 50.0 * events + scoring)
    if isinstance(spec, SequentialRulesSpec):
        return TrialCost(32.0 * events * min(spec.steps, 5), float(events * spec.steps + scoring))
    if isinstance(spec, GRU4RecSpec):
        tables = 1 if spec.output_embedding == "shared" else 2
        rivals = min(items, spec.batch_size + spec.negatives)
        work = events * spec.width * (rivals + 6.0 * spec.width) + scoring * spec.width
        return TrialCost(4.0 * spec.width * (_COPIES * tables * items + 3 * rivals), work)
    if isinstance(spec, SASRecSpec):
        rivals = min(items, spec.negatives)
        work = events * spec.width * (rivals + 12.0 * spec.width * spec.blocks) + scoring * spec.width
        return TrialCost(4.0 * spec.width * (_COPIES * items + 3 * rivals), work)
    if isinstance(spec, NeuMFSpec):
        layers = sum(spec.layers) * spec.width
        work = events * (1.0 + spec.negatives) * (spec.width + layers) + scoring * spec.width
        return TrialCost(8.0 * spec.width * _COPIES * (items + events / 5), work)
    if isinstance(spec, StackedSpec):
        recipes = [source.recipe.model for source in spec.scores.values() if source.recipe is not None]
        costs = [estimate_cost(member, size) for model in recipes for member in list_members(model).values()]
        # Each is fitted twice. All of the second fit are kept.
        return TrialCost(sum(cost.bytes for cost in costs), 2 * sum(cost.work for cost in costs))
    return TrialCost(0.0, 1.0)


def estimate_process_bytes(size: DataSize, cost: TrialCost) -> float:
    """Estimate the memory of the process that runs a trial, in bytes."""
    return max(PROCESS_BYTES, _BARE_BYTES + _EVENT_BYTES * size.events + cost.bytes)

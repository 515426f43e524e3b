"""What each step is given of a spec: plain values, all of which are in its output's key.

So nothing that a step reads can be forgotten in its key. What is read and yet cannot change the output is marked
`Carried`, with its reason, and is in no key; so may be a field of a section, such as what a search's pods get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field

from endcap.spec.base import Carried, Duration, Mistake, Strict, check
from endcap.spec.batch import BatchSpec
from endcap.spec.evaluation import Basket, Evaluation, Order, Protocol
from endcap.spec.event_features import Features
from endcap.spec.gate import GateOrList
from endcap.spec.model import ModelSpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.recommender import Exclude, check_listed, list_class_paths, list_compared, list_models
from endcap.spec.search import SearchSpec
from endcap.spec.sessions import Filters, SessionsSpec
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit
from endcap.spec.training import TrainingSpec
from endcap.spec.yaml_tree import Key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender
    from endcap.spec.shop import Shop


@dataclass(frozen=True)
class SpecPlace:
    """Annotation: where the value is in a spec, if not under the field's own name."""

    place: str


class StepSettings(Strict):
    """Settings of a step; `of` takes them from a spec, `key` says what of them an output depends on."""

    name: Annotated[str, Carried("of outputs' folders and of messages")]

    @classmethod
    def of(cls, spec: Recommender | Shop | StepSettings) -> Self:
        """The settings of this step out of a spec, or out of those of another step that has them all."""
        return cls.model_validate({name: _find_value(spec, name, cls) for name in cls.model_fields})

    @classmethod
    def carried(cls) -> frozenset[str]:
        """Names of the fields that are in no key."""
        return frozenset(name for name in cls.model_fields if _find_mark(cls, name, Carried))

    @classmethod
    def places(cls) -> list[str]:
        """Where a spec has what an output depends on: `training.workers`."""
        fields = [name for name in cls.model_fields if name not in cls.carried()]
        return [place.place if (place := _find_mark(cls, name, SpecPlace)) else name for name in fields]

    def key(self) -> dict[str, Any]:
        """What an output depends on, as JSON values."""
        return self.model_dump(mode="json", exclude=_find_carried(self))


class FeatureSettings(StepSettings):
    """Of the features step: of a shop, whose datasets all its recommenders share."""

    sessions: SessionsSpec
    filters: Filters
    window: Duration | None
    features: Features
    owned: Annotated[list[str] | None, SpecPlace("rules.owned.types")]
    types: Annotated[list[str] | None, SpecPlace("events.types")]
    kept_types: list[str] | None


class ViewSettings(StepSettings):
    """What a view of a dataset is made by, and what is asked of a model."""

    shop: Annotated[str, Carried("of messages")]
    classes: Annotated[list[str], Carried("what may be imported; the code of what is imported is in the key")]
    seed: int
    split: Annotated[TimeSplit | GivenSplit | LeaveOneOutSplit, Field(discriminator="by")]
    protocol: Protocol
    order: Annotated[Order, SpecPlace("evaluation.order")]
    basket: Basket | None
    preprocessing: list[PreprocessorSpec]
    model: ModelSpec
    baselines: Annotated[list[ModelSpec], Carried("refused early where one is wrong")]
    exclude: Exclude

    @check
    def _classes_are_listed(self) -> Iterator[Mistake]:
        steps: dict[Key, str] = {("preprocessing", number): step.path for number, step in enumerate(self.preprocessing)}
        return check_listed({**steps, **list_class_paths({("model",): self.model})}, self.classes)

    @property
    def models(self) -> dict[Key, ModelSpec]:
        """The specs of the model and of the baselines, by their keys."""
        return list_models(self.model, self.baselines)


class FitSettings(ViewSettings):
    """What a fit depends on, in the step itself or over workers."""

    refit: bool
    workers: Annotated[int, SpecPlace("training.workers")]
    training: Annotated[TrainingSpec, Carried("where workers run, beside how many they are")]
    secret: Annotated[str, SpecPlace("pipeline.secret"), Carried("credentials of a Ray cluster's pods")]


class TrainSettings(FitSettings):
    """Of the train step."""

    search: SearchSpec | None


class RefitSettings(FitSettings):
    """Of the refit step, for the fit; its package holds the whole recommender, which is in the package's key whole."""


class JudgeSettings(ViewSettings):
    """Of the evaluate step."""

    baselines: list[ModelSpec]
    evaluation: Evaluation
    gate: GateOrList

    @property
    def compared(self) -> list[ModelSpec]:
        """See `Recommender.compared`."""
        return list_compared(self.baselines)


class ListSettings(StepSettings):
    """Of the recommend step."""

    k: Annotated[int, SpecPlace("batch.k")]
    partition: Annotated[int, SpecPlace("batch.partition_size")]
    batch: Annotated[BatchSpec, Carried("who shares the work; the customers whom it chooses are in the key")]


def _find_value(source: Recommender | Shop | StepSettings, name: str, cls: type[StepSettings]) -> Any:
    place = _find_mark(cls, name, SpecPlace)
    if place is None or isinstance(source, StepSettings):
        return getattr(source, name)
    value: Any = source
    for part in place.place.split("."):
        value = None if value is None else getattr(value, part)
    return value


def _find_carried(values: BaseModel) -> dict[str, Any]:
    """Names of the fields that are in no key, those of sections among them, as pydantic leaves them out."""
    names: dict[str, Any] = {}
    for name in type(values).model_fields:
        if _find_mark(type(values), name, Carried):
            names[name] = True
        elif isinstance(section := getattr(values, name), BaseModel) and (below := _find_carried(section)):
            names[name] = below
    return names


def _find_mark(cls: type[BaseModel], name: str, kind: type[Any]) -> Any:
    return next((mark for mark in cls.model_fields[name].metadata if isinstance(mark, kind)), None)

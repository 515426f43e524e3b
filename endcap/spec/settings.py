"""The settings that each step gets from a spec: plain values, which are all in the key of its output.

So the key cannot miss a value that a step reads. A value that cannot change the output is marked `Carried`, with the
reason, and is not in the key. Fields of a section may be marked too, such as the pods of a search.
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
from endcap.spec.spark import SparkSpec
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit
from endcap.spec.training import TrainingSpec
from endcap.spec.yaml_tree import Key

if TYPE_CHECKING:
    from endcap.spec.recommender import Recommender
    from endcap.spec.shop import Shop


@dataclass(frozen=True)
class SpecPlace:
    """Annotation: the key of the value in a spec, if it is not the field's name."""

    place: str


class StepSettings(Strict):
    """The settings of a step. `of` takes them from a spec. `key` returns those on which the output depends."""

    name: Annotated[str, Carried("of outputs' folders and of messages")]

    @classmethod
    def of(cls, spec: Recommender | Shop | StepSettings) -> Self:
        """Take the settings of this step from a spec, or from the settings of another step that has them all."""
        return cls.model_validate({name: _find_value(spec, name, cls) for name in cls.model_fields})

    @classmethod
    def carried(cls) -> frozenset[str]:
        """Return the names of the fields that are not in the key."""
        return frozenset(name for name in cls.model_fields if _find_mark(cls, name, Carried))

    @classmethod
    def places(cls) -> list[str]:
        """Return the keys of a spec on which the output depends, such as `training.workers`."""
        fields = [name for name in cls.model_fields if name not in cls.carried()]
        return [place.place if (place := _find_mark(cls, name, SpecPlace)) else name for name in fields]

    def key(self) -> dict[str, Any]:
        """Return the values on which the output depends, as JSON."""
        return self.model_dump(mode="json", exclude=_find_carried(self))


class FeatureSettings(StepSettings):
    """The settings of the features step. They are of a shop, whose datasets all its recommenders share."""

    sessions: SessionsSpec
    filters: Filters
    window: Duration | None
    features: Features
    owned: Annotated[list[str] | None, SpecPlace("rules.owned.types")]
    types: Annotated[list[str] | None, SpecPlace("events.types")]
    kept_types: list[str] | None
    spark: Annotated[SparkSpec, Carried("where the engine runs")]


class ViewSettings(StepSettings):
    """The settings of a dataset's view, and of the queries to a model."""

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
    """The settings of a fit, in the step itself or by workers."""

    refit: bool
    workers: Annotated[int, SpecPlace("training.workers")]
    training: Annotated[TrainingSpec, Carried("where workers run, beside how many they are")]
    secret: Annotated[str, SpecPlace("pipeline.secret"), Carried("credentials of a Ray cluster's pods")]


class TrainSettings(FitSettings):
    """The settings of the train step."""

    search: SearchSpec | None


class RefitSettings(FitSettings):
    """The settings of the refit step. Its package has the whole recommender, so the package's key has it too."""


class JudgeSettings(ViewSettings):
    """The settings of the evaluate step."""

    baselines: list[ModelSpec]
    evaluation: Evaluation
    gate: GateOrList

    @property
    def compared(self) -> list[ModelSpec]:
        """See `Recommender.compared`."""
        return list_compared(self.baselines)


class ListSettings(StepSettings):
    """The settings of the recommend step."""

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
    """Return the names of the fields that are not in the key, with those of sections, in pydantic's form of
    `exclude`."""
    names: dict[str, Any] = {}
    for name in type(values).model_fields:
        if _find_mark(type(values), name, Carried):
            names[name] = True
        elif isinstance(section := getattr(values, name), BaseModel) and (below := _find_carried(section)):
            names[name] = below
    return names


def _find_mark(cls: type[BaseModel], name: str, kind: type[Any]) -> Any:
    return next((mark for mark in cls.model_fields[name].metadata if isinstance(mark, kind)), None)

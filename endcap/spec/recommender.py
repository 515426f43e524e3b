"""The recommender's file: which model is made of a shop's data, how it is judged, and how it is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.ab import AbSpec
from endcap.spec.base import (
    UNKNOWN,
    Mistake,
    Name,
    Strict,
    check,
    collect_mistakes,
    find_repeats,
    format_duration,
    prefix_keys,
    select_known,
)
from endcap.spec.batch import BatchSpec
from endcap.spec.evaluation import Basket, Evaluation, Order, Protocol
from endcap.spec.for_each import ForEach, explain_choice
from endcap.spec.gate import Condition, Gate, GateOrList
from endcap.spec.model import (
    ClassPath,
    CustomSpec,
    ModelSpec,
    PopularitySpec,
    RecentPopularitySpec,
    ScoreSource,
    StackedSpec,
)
from endcap.spec.pipeline import Pipeline
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.rollout import RolloutSpec
from endcap.spec.schedule import ScheduleSpec
from endcap.spec.search import SearchSpec
from endcap.spec.serving import ServingSpec
from endcap.spec.side_features import expand_blends
from endcap.spec.split import GivenSplit, LeaveOneOutSplit, TimeSplit
from endcap.spec.training import TrainingSpec, check_training
from endcap.spec.tunable import check_search
from endcap.spec.yaml_tree import Key
from endcap.spec_renames import ApiVersion

Exclude = Literal["none", "last", "seen"]


class Recommender(Strict):
    """A recommender: a model for a shop's data, and how it is trained, judged and served."""

    apiVersion: ApiVersion
    """The version of the file's format."""
    kind: Literal["Recommender"]
    """What the file describes."""
    name: Name
    """The recommender's name, in the registry, in addresses of the service and in the store."""
    shop: str
    """The shop: its name, if its file is `shops/<name>.yaml` beside this file, or the path of its file."""
    for_each: ForEach | None = None
    """Values, such as categories or countries, for each of which there is a recommender ([guide](for-each.md))."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """The seed of all random numbers."""
    split: Annotated[TimeSplit | GivenSplit | LeaveOneOutSplit, Field(discriminator="by")] = TimeSplit()
    """How sessions are split into a training, a validation and a test part."""
    classes: list[ClassPath] = []
    """The import paths of your own classes, such as acme.markov:Markov. Custom models (`name: custom`) and
    preprocessors must be in this list. Endcap imports no other class."""
    preprocessing: list[PreprocessorSpec] = []
    """Your own preprocessors, which change the sessions that the model sees, in training and in serving. They run in
    this order."""
    model: ModelSpec
    """The model to train."""
    search: SearchSpec | None = None
    """How to search for better parameters of the model. Left out: the model keeps the parameters given here."""
    training: TrainingSpec = TrainingSpec()
    """Where the model is trained. Left out: in one process."""
    baselines: list[ModelSpec] = [PopularitySpec(), RecentPopularitySpec()]
    """The simple models that the model is compared with. If the list is empty, it is compared with popularity."""
    exclude: Exclude = "none"
    """Which items of a session are never recommended to it: `none`, the `last` one, or all that it has `seen`."""
    evaluation: Evaluation = Evaluation()
    """How models are evaluated on the test part."""
    gate: GateOrList = Field(default=Gate(), validate_default=True)
    """What decides whether a model is registered. A list stands for `conditions`."""
    refit: bool = True
    """Fits models again, with the number of epochs that training found: the model to judge on the whole training part,
    and the winner on all data."""
    approval: Literal["gate", "person"] = "gate"
    """Who approves a version. `gate`: it is approved when the gate passes. `person`: it waits for
    `endcap registry approve`."""
    serving: ServingSpec = ServingSpec()
    """How rankings are served."""
    rollout: RolloutSpec | None = None
    """How shoppers decide on a new version. Left out: it gets serving.canary.share, until a person promotes it."""
    ab: AbSpec = AbSpec()
    """How `endcap ab start` compares several versions."""
    batch: BatchSpec = BatchSpec()
    """How `endcap recommend` makes lists ahead of time."""
    schedule: ScheduleSpec = ScheduleSpec()
    """When `endcap schedule run` runs the pipelines by itself. Left out: a person runs them."""
    pipeline: Pipeline = Pipeline()
    """How the pipelines run in a cluster."""

    @check
    def _is_of_a_single_value(self) -> Iterator[Mistake]:
        if isinstance(self.for_each, ForEach):
            yield Mistake(
                ("for_each",), "no value chosen", explain_choice(list(self.for_each.values)), code="unknown-name"
            )

    @check
    def _classes_are_listed(self) -> Iterator[Mistake]:
        steps = {key: step.path for key, step in self.preprocessors.items()}
        return check_listed({**steps, **list_class_paths(self.models)}, self.classes)

    @check
    def _search_fits_the_model(self) -> Iterator[Mistake]:
        if self.search is not None:
            yield from prefix_keys(("search",), check_search(self.search, self.model))

    @check
    def _workers_can_share_the_model(self) -> Iterator[Mistake]:
        return prefix_keys(("training",), check_training(self.training, self.model, self.search))

    @check
    def _baselines_differ(self) -> Iterator[Mistake]:
        names = [baseline.name for baseline in self.baselines]
        for number in find_repeats(names):
            yield Mistake(
                ("baselines", number, "name"), f"{names[number]!r} again", "each model once", code="duplicate"
            )

    @check
    def _scores_are_of_others(self) -> Iterator[Mistake]:
        if isinstance(self.model, StackedSpec):
            for label, source in select_known(self.model.scores).items():
                if isinstance(source, ScoreSource) and source.recommender == self.name:
                    at = ("model", "scores", label, "recommender")
                    yield Mistake(at, f"{self.name!r}, this recommender", "another recommender", code="conflict")

    @check
    def _baselines_stand_alone(self) -> Iterator[Mistake]:
        for number, baseline in select_known(self.baselines).items():
            if isinstance(baseline, StackedSpec):
                allowed = "a model that needs no other recommender"
                yield Mistake(("baselines", number, "name"), repr(baseline.name), allowed, code="not-allowed")

    @check
    def _protocol_fits_the_split(self) -> Iterator[Mistake]:
        if isinstance(self.split, LeaveOneOutSplit) and self.evaluation.protocol in ("every-prefix", "basket"):
            protocol = repr(self.evaluation.protocol)
            actual = (
                f"{protocol}, and split.by is 'leave-one-out', which trains on all moments of a session but the last"
            )
            yield Mistake(("evaluation", "protocol"), actual, "'leave-one-out'", code="conflict")

    @check
    def _ab_test_lets_its_metric_settle(self) -> Iterator[Mistake]:
        metric = (RolloutSpec() if self.rollout is None else self.rollout).deciding_metric
        if self.ab.longest <= metric.settles_after:
            settled = format_duration(metric.settles_after)
            actual = f"{format_duration(self.ab.longest)}, and the metric {metric.name} settles after {settled}"
            allowed = "longer than the window and the delay of the deciding metric of rollout"
            yield Mistake(("ab", "longest"), actual, allowed, code="conflict")

    @check
    def _gate_names_known_models(self) -> Iterator[Mistake]:
        return collect_mistakes(
            self._check_against(number, condition) for number, condition in select_known(self.gate.conditions).items()
        )

    @check
    def _gate_names_known_cutoffs(self) -> Iterator[Mistake]:
        return collect_mistakes(
            self._check_cutoff(number, condition) for number, condition in select_known(self.gate.conditions).items()
        )

    def _check_against(self, number: int, condition: Condition) -> Iterator[Mistake]:
        if condition.against is None:
            return
        names = ["champion", "best-baseline", *(baseline.name for baseline in list_compared(self.baselines))]
        if condition.against not in names:
            against, allowed = repr(condition.against), ", ".join(names)
            yield Mistake(("gate", "conditions", number, "against"), against, allowed, code="unknown-name")

    def _check_cutoff(self, number: int, condition: Condition) -> Iterator[Mistake]:
        cutoff = condition.metric.partition("@")[2]
        if cutoff and int(cutoff) not in self.evaluation.cutoffs:
            cutoffs = ", ".join(str(cutoff) for cutoff in self.evaluation.cutoffs)
            hint = "Change the metric's cutoff, or add it to evaluation.cutoffs."
            allowed = f"a cutoff of evaluation.cutoffs: {cutoffs}"
            yield Mistake(
                ("gate", "conditions", number, "metric"), repr(condition.metric), allowed, hint, code="unknown-name"
            )

    @property
    def models(self) -> dict[Key, ModelSpec]:
        """The specs of the model and of the baselines, by their keys."""
        return list_models(self.model, self.baselines)

    @property
    def preprocessors(self) -> dict[Key, PreprocessorSpec]:
        """The specs of the preprocessors, by their keys."""
        return {("preprocessing", number): step for number, step in select_known(self.preprocessing).items()}

    @property
    def protocol(self) -> Protocol:
        """What models predict in a test session."""
        if self.evaluation.protocol is not None:
            return self.evaluation.protocol
        return "leave-one-out" if isinstance(self.split, LeaveOneOutSplit) else "every-prefix"

    @property
    def order(self) -> Order:
        """The order of events that have the same time."""
        return self.evaluation.order

    @property
    def basket(self) -> Basket | None:
        """What models predict if the protocol is `basket`; None for other protocols."""
        return self.evaluation.basket or "complete" if self.protocol == "basket" else None

    @property
    def compared(self) -> list[ModelSpec]:
        """The baselines; popularity if the list is empty, so that there is always something to compare with."""
        return list_compared(self.baselines)


def list_models(model: ModelSpec, baselines: list[ModelSpec]) -> dict[Key, ModelSpec]:
    """List the specs of a model and of its baselines, by their keys. Values that are wrong are left out."""
    models: dict[Key, ModelSpec] = {("model",): model}
    return select_known(
        models | {("baselines", number): baseline for number, baseline in select_known(baselines).items()}
    )


def list_compared(baselines: list[ModelSpec]) -> list[ModelSpec]:
    """Return the baselines; popularity if there are none."""
    return baselines if baselines is UNKNOWN else baselines or [PopularitySpec()]


def list_class_paths(models: Mapping[Key, ModelSpec]) -> dict[Key, str]:
    """List the import paths of the custom models, by the models' keys. Members of blends count too."""
    return {key: model.path for key, model in expand_blends(models).items() if isinstance(model, CustomSpec)}


def check_listed(paths: Mapping[Key, str], classes: list[str]) -> Iterator[Mistake]:
    """Find the classes that the list `classes` does not name. So a model alone cannot make Endcap import code."""
    return collect_mistakes(_check_path(key, path, classes) for key, path in select_known(paths).items())


def _check_path(key: Key, path: str, classes: list[str]) -> Iterator[Mistake]:
    if path not in classes:
        allowed = ", ".join(classes) or "none: the list `classes` is empty"
        hint = f"If you trust it, add it to the recommender: classes: [{', '.join([*classes, path])}]"
        yield Mistake((*key, "class"), repr(path), allowed, hint, code="unknown-name")

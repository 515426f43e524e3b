"""The recommender: what is made of a shop's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import (
    UNKNOWN,
    Duration,
    Mistake,
    Name,
    Share,
    Strict,
    check,
    collect_mistakes,
    find_repeats,
    prefix_keys,
    select_known,
)
from endcap.spec.batch import BatchSpec
from endcap.spec.gate import Condition, Gate, GateOrList
from endcap.spec.kubernetes import KubernetesServingSpec as KubernetesServing
from endcap.spec.kubernetes import Pipeline
from endcap.spec.model import ClassPath, CustomSpec, ModelSpec, PopularitySpec, RecentPopularitySpec
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.spec.search import SearchSpec
from endcap.spec.side_features import expand_blends
from endcap.spec.training import TrainingSpec, check_training
from endcap.spec.tunable import check_search
from endcap.spec.yaml_tree import Key
from endcap.spec_renames import ApiVersion

Exclude = Literal["none", "last", "seen"]
Protocol = Literal["every-prefix", "leave-one-out", "basket"]
Order = Literal["sets", "file"]
Basket = Literal["complete", "next"]


Part = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A share that leaves something for the other parts."""


class TimeSplit(Strict):
    """Sessions that begin in the last part of the window are the test, those just before it the validation."""

    by: Literal["time"] = "time"
    test: Duration | Part = Field(default="1d", validate_default=True)
    """A duration such as 1d, or a share of the sessions such as 0.1."""
    validation: Duration | Part = Field(default="1d", validate_default=True)

    @check
    def _some_sessions_are_left(self) -> Iterator[Mistake]:
        test, validation = self.test, self.validation
        if isinstance(test, float) and isinstance(validation, float) and test + validation >= 1:
            actual = f"{validation}, and split.test is {test}"
            allowed = "shares that add up to less than 1: the rest is trained on"
            yield Mistake(("validation",), actual, allowed, code="conflict")


class GivenSplit(Strict):
    """Test sessions come from the shop's sources of `part: test`; validation is cut from the training part's end."""

    by: Literal["given"]
    validation: Duration | Part = Field(default="1d", validate_default=True)


class LeaveOneOutSplit(Strict):
    """Of each session the last moment is the test and the one before it the validation; the rest is trained on.

    A moment is an event, or all events of one time where evaluation.order is sets. Sessions of fewer than three moments
    are trained on whole. Others' later events are in the training part: time splits are free of that.
    """

    by: Literal["leave-one-out"]


class SampledNegatives(Strict):
    """Each next item competes with items drawn uniformly out of those that its session and customer never met."""

    count: Annotated[int, Field(ge=1, le=100_000)] = 99
    """Items of each draw; where fewer were never met, all of those."""
    draws: Annotated[int, Field(ge=1, le=100)] = 5
    """Figures are the mean over so many draws."""


class GivenNegatives(Strict):
    """Each next item competes with the items that a file names for its customer, as some papers publish them."""

    path: str
    """A file with a row for each customer and item, in a format that events may have: a path, from the spec's file on,
    or an address in a bucket."""
    customer: str = "customer"
    """The column of the customer's id."""
    item: str = "item"


class Evaluation(Strict):
    protocol: Protocol | None = None
    """What is predicted: each event of a test session from those before it, its last event alone, or of baskets, whose
    lines have no order, what `basket` says. Left out: as the split: leave-one-out where it is by that, else
    every-prefix."""
    order: Order = "sets"
    """Of events of one session and time: `sets`: no order; each item of the next moment is predicted from the moments
    before it, and counts 1 / the items of the moment. `file`: the order of the log's files, as published figures have
    it; where the lines of a basket have one time, that is the order in which a till sorted them."""
    basket: Basket | None = None
    """Of the protocol `basket`: `complete`: an item of each test session, hidden, from its others in an order drawn by
    the seed; `next`: all items of a customer's basket from all that the customer did before. Left out: complete."""
    negatives: SampledNegatives | GivenNegatives | None = None
    """Left out: the whole catalogue is ranked. Figures on a few items mislead and compare with no others."""
    cutoffs: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)] = [5, 10, 20]
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the sessions for each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95

    @check
    def _a_form_is_of_the_protocol(self) -> Iterator[Mistake]:
        if self.basket is not None and self.protocol != "basket":
            actual = f"{self.basket!r}, and evaluation.protocol is {self.protocol or 'left out'}"
            yield Mistake(("basket",), actual, "no value, or evaluation.protocol: basket", code="conflict")

    @check
    def _baskets_have_no_order(self) -> Iterator[Mistake]:
        if self.order == "file" and self.protocol == "basket":
            actual = "'file', and evaluation.protocol is 'basket', which looks at no order within a basket"
            yield Mistake(("order",), actual, "'sets'", code="conflict")


class Canary(Strict):
    share: Share = 0.1
    """The challenger's share of shoppers when it is deployed."""


class ServingSpec(Strict):
    k: Annotated[int, Field(ge=1)] = 20
    """Items in an answer when the request does not say."""
    max_k: Annotated[int, Field(ge=1)] = Field(default=1000, validate_default=True)
    """Most items that a request may ask for."""
    max_events: Annotated[int, Field(ge=1)] = 10_000
    """Largest number of events in one request."""
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    recent_events: Annotated[int, Field(ge=1, le=1000)] = 50
    """Of the online store: how many of a customer's or a session's last events are ranked for."""
    max_wait: Duration = Field(default="100ms", validate_default=True)
    """A request that would wait longer for its turn is answered 503 at once, with Retry-After."""
    timeout: Duration = Field(default="2s", validate_default=True)
    """The gateway gives a request up after so long."""
    fallback: Literal["popular", "refuse"] = "popular"
    """Where no variant answers: the gateway lists the most popular items, marked as fallback, or answers 503."""
    canary: Canary = Canary()
    kubernetes: KubernetesServing = KubernetesServing()

    @check
    def _k_may_be_asked_for(self) -> Iterator[Mistake]:
        if self.k > self.max_k:
            actual = f"{self.max_k}, and serving.k is {self.k}"
            yield Mistake(("max_k",), actual, "at least serving.k", code="conflict")


class Recommender(Strict):
    """What is made of a shop's data."""

    apiVersion: ApiVersion
    kind: Literal["Recommender"]
    name: Name
    shop: str
    """The shop's name (`shops/<name>.yaml` beside this file) or the path of its file."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    split: Annotated[TimeSplit | GivenSplit | LeaveOneOutSplit, Field(discriminator="by")] = TimeSplit()
    classes: list[ClassPath] = []
    """Classes of your own that models (`name: custom`) and preprocessors may be, by import path: nothing else is
    imported."""
    preprocessing: list[PreprocessorSpec] = []
    """Steps of your own that change the sessions that the model sees, in training and in serving, in this order."""
    model: ModelSpec
    search: SearchSpec | None = None
    """Left out: the model is trained as it is."""
    training: TrainingSpec = TrainingSpec()
    """Left out: by one process."""
    baselines: list[ModelSpec] = [PopularitySpec(), RecentPopularitySpec()]
    """What the model is compared with; an empty list: with popularity all the same."""
    exclude: Exclude = "none"
    """Which items of the session are never recommended: none, the last, or all seen."""
    evaluation: Evaluation = Evaluation()
    gate: GateOrList = Field(default=Gate(), validate_default=True)
    """What decides whether a model is registered; a plain list is its conditions."""
    refit: bool = True
    """Fit the judged model on the whole training part, and the winner on all data, with the number of epochs found."""
    approval: Literal["gate", "person"] = "gate"
    serving: ServingSpec = ServingSpec()
    batch: BatchSpec = BatchSpec()
    pipeline: Pipeline = Pipeline()

    @check
    def _classes_are_listed(self) -> Iterator[Mistake]:
        steps = {key: step.path for key, step in self.preprocessors.items()}
        return check_listed({**steps, **list_class_paths(self.models)}, self.classes)

    @check
    def _search_is_of_the_model(self) -> Iterator[Mistake]:
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
    def _protocol_fits_the_split(self) -> Iterator[Mistake]:
        if isinstance(self.split, LeaveOneOutSplit) and self.evaluation.protocol in ("every-prefix", "basket"):
            protocol = repr(self.evaluation.protocol)
            actual = f"{protocol}, and split.by is 'leave-one-out', which trains on all but each session's last moment"
            yield Mistake(("evaluation", "protocol"), actual, "'leave-one-out'", code="conflict")

    @check
    def _gate_names_known_models(self) -> Iterator[Mistake]:
        return collect_mistakes(
            self._against(number, condition) for number, condition in select_known(self.gate.conditions).items()
        )

    @check
    def _gate_names_known_cutoffs(self) -> Iterator[Mistake]:
        return collect_mistakes(
            self._cutoff(number, condition) for number, condition in select_known(self.gate.conditions).items()
        )

    def _against(self, number: int, condition: Condition) -> Iterator[Mistake]:
        if condition.against is None:
            return
        names = ["champion", "best-baseline", *(baseline.name for baseline in list_compared(self.baselines))]
        if condition.against not in names:
            against, allowed = repr(condition.against), ", ".join(names)
            yield Mistake(("gate", "conditions", number, "against"), against, allowed, code="unknown-name")

    def _cutoff(self, number: int, condition: Condition) -> Iterator[Mistake]:
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
        """What is predicted of a test session."""
        if self.evaluation.protocol is not None:
            return self.evaluation.protocol
        return "leave-one-out" if isinstance(self.split, LeaveOneOutSplit) else "every-prefix"

    @property
    def order(self) -> Order:
        """What order events of one time have."""
        return self.evaluation.order

    @property
    def basket(self) -> Basket | None:
        """The form of the protocol `basket`; None where that is not the protocol."""
        return self.evaluation.basket or "complete" if self.protocol == "basket" else None

    @property
    def compared(self) -> list[ModelSpec]:
        """The baselines, or popularity where the list is empty: no figure is shown without something beside it."""
        return list_compared(self.baselines)


def list_models(model: ModelSpec, baselines: list[ModelSpec]) -> dict[Key, ModelSpec]:
    """The specs of a model and of baselines, by their keys."""
    models: dict[Key, ModelSpec] = {("model",): model}
    return select_known(
        models | {("baselines", number): baseline for number, baseline in select_known(baselines).items()}
    )


def list_compared(baselines: list[ModelSpec]) -> list[ModelSpec]:
    """Baselines, or popularity where there are none."""
    return baselines if baselines is UNKNOWN else baselines or [PopularitySpec()]


def list_class_paths(models: Mapping[Key, ModelSpec]) -> dict[Key, str]:
    """The import paths of the custom models among these, by the models' keys."""
    return {key: model.path for key, model in expand_blends(models).items() if isinstance(model, CustomSpec)}


def check_listed(paths: Mapping[Key, str], classes: list[str]) -> Iterator[Mistake]:
    """What is imported is what the recommender's own list names, and nothing that a model's name slips in."""
    return collect_mistakes(_check_path(key, path, classes) for key, path in select_known(paths).items())


def _check_path(key: Key, path: str, classes: list[str]) -> Iterator[Mistake]:
    if path not in classes:
        allowed = ", ".join(classes) or "none: the list `classes` is empty"
        hint = f"If you trust it, add it to the recommender: classes: [{', '.join([*classes, path])}]"
        yield Mistake((*key, "class"), repr(path), allowed, hint, code="unknown-name")

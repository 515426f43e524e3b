"""The recommender: what is made of a shop's data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from endcap.spec.base import Allowed, Duration, Mistake, Name, Share, Strict, mistakes
from endcap.spec.kubernetes import Pipeline
from endcap.spec.kubernetes import Serving as KubernetesServing
from endcap.spec.model import ClassPath, CustomSpec, ModelSpec, PopularitySpec, RecentPopularitySpec
from endcap.spec.nodes import Key
from endcap.spec.search import Search
from endcap.spec.side import singled

Exclude = Literal["none", "last", "seen"]
METRICS = ("hr", "recall", "precision", "mrr", "ndcg", "coverage", "popularity_bias")
Metric = Annotated[
    str,
    Field(pattern=rf"^({'|'.join(METRICS)})@[1-9][0-9]*$"),
    Allowed(f"a metric and its cutoff, such as mrr@20 (metrics: {', '.join(METRICS)})"),
]


Part = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A share that leaves something for the other parts."""


class TimeSplit(Strict):
    """Sessions that begin in the last part of the window are the test, those just before it the validation."""

    by: Literal["time"] = "time"
    test: Duration | Part = Field(default="1d", validate_default=True)
    """A duration such as 1d, or a share of the sessions such as 0.1."""
    validation: Duration | Part = Field(default="1d", validate_default=True)

    @field_validator("validation")
    @classmethod
    def _some_sessions_are_left(cls, validation: timedelta | float, info: ValidationInfo) -> timedelta | float:
        test = info.data.get("test")
        if isinstance(test, float) and isinstance(validation, float) and test + validation >= 1:
            found = f"{validation}, and split.test is {test}"
            raise mistakes([Mistake((), found, "shares that add up to less than 1: the rest is trained on")])
        return validation


class GivenSplit(Strict):
    """Test sessions come from the shop's sources of `part: test`; validation is cut from the training part's end."""

    by: Literal["given"]
    validation: Duration | Part = Field(default="1d", validate_default=True)


class Evaluation(Strict):
    cutoffs: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)] = [5, 10, 20]
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the sessions for each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class Condition(Strict):
    """A line of the gate: a metric, or its difference or ratio to another's, is at least `min` or at most `max`."""

    metric: Metric
    against: str | None = None
    """`champion`, `best-baseline`, or the name of a baseline; left out: the metric itself."""
    compare: Literal["difference", "ratio"] = "difference"
    bound: Literal["estimate", "lower"] = "estimate"
    """What is held against `min`: the estimate, or the lower end of its interval (with `max`: the upper end)."""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_one_limit(self) -> Condition:
        if (self.min is None) == (self.max is None):
            found = "neither min nor max" if self.min is None else "both min and max"
            raise mistakes([Mistake((), found, "exactly one of min and max")])
        return self


class Canary(Strict):
    share: Share = 0.1
    """The challenger's share of shoppers when it is deployed."""


class Serving(Strict):
    k: Annotated[int, Field(ge=1)] = 20
    """Items in an answer when the request does not say."""
    max_k: Annotated[int, Field(ge=1)] = Field(default=1000, validate_default=True)
    """Most items that a request may ask for."""
    max_events: Annotated[int, Field(ge=1)] = 10_000
    """Largest number of events in one request."""
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    canary: Canary = Canary()
    kubernetes: KubernetesServing = KubernetesServing()

    @field_validator("max_k")
    @classmethod
    def _k_may_be_asked_for(cls, max_k: int, info: ValidationInfo) -> int:
        k = info.data.get("k")
        if k is not None and k > max_k:
            raise mistakes([Mistake((), f"{max_k}, and serving.k is {k}", "at least serving.k")])
        return max_k


class Recommender(Strict):
    """What is made of a shop's data."""

    apiVersion: Literal["endcap/v1"]
    kind: Literal["Recommender"]
    name: Name
    shop: str
    """The shop's name (`shops/<name>.yaml` beside this file) or the path of its file."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    split: Annotated[TimeSplit | GivenSplit, Field(discriminator="by")] = TimeSplit()
    classes: list[ClassPath] = []
    """Classes of your own that models may be (`name: custom`), by import path: nothing else is imported."""
    model: ModelSpec
    search: Search | None = None
    """Left out: the model is trained as it is."""
    baselines: list[ModelSpec] = [PopularitySpec(), RecentPopularitySpec()]
    exclude: Exclude = "none"
    """Which items of the session are never recommended: none, the last, or all seen."""
    evaluation: Evaluation = Evaluation()
    gate: list[Condition] = Field(
        default=[Condition(metric="mrr@20", against="best-baseline", min=0.0)], validate_default=True
    )
    """All conditions must hold; an empty list lets every model pass."""
    refit: bool = True
    """Fit the judged model on the whole training part, and the winner on all data, with the number of epochs found."""
    approval: Literal["gate", "person"] = "gate"
    serving: Serving = Serving()
    pipeline: Pipeline = Pipeline()

    # Checks over several keys sit on the later key, so that they speak also when unrelated keys are wrong.
    @field_validator("model")
    @classmethod
    def _model_s_classes_are_listed(cls, model: ModelSpec, info: ValidationInfo) -> ModelSpec:
        _refuse_unlisted({(): model}, info)
        return model

    @field_validator("baselines")
    @classmethod
    def _baselines_classes_are_listed(cls, baselines: list[ModelSpec], info: ValidationInfo) -> list[ModelSpec]:
        _refuse_unlisted({(number,): baseline for number, baseline in enumerate(baselines)}, info)
        return baselines

    @field_validator("baselines")
    @classmethod
    def _baselines_differ(cls, baselines: list[ModelSpec]) -> list[ModelSpec]:
        names = [baseline.name for baseline in baselines]
        twice = [number for number, name in enumerate(names) if name in names[:number]]
        if twice:
            allowed = "each model once"
            raise mistakes([Mistake((number, "name"), f"{names[number]!r} again", allowed) for number in twice])
        return baselines

    @field_validator("gate")
    @classmethod
    def _gate_names_known_models_and_cutoffs(cls, gate: list[Condition], info: ValidationInfo) -> list[Condition]:
        found = []
        baselines, evaluation = info.data.get("baselines"), info.data.get("evaluation")
        for number, condition in enumerate(gate):
            if baselines is not None and condition.against is not None:
                known = ["champion", *["best-baseline"][: len(baselines)], *(baseline.name for baseline in baselines)]
                if condition.against not in known:
                    found.append(Mistake((number, "against"), repr(condition.against), ", ".join(known)))
            if evaluation is not None and int(condition.metric.partition("@")[2]) not in evaluation.cutoffs:
                cutoffs = ", ".join(str(cutoff) for cutoff in evaluation.cutoffs)
                hint = "Change the metric's cutoff, or add it to evaluation.cutoffs."
                allowed = f"a cutoff of evaluation.cutoffs: {cutoffs}"
                found.append(Mistake((number, "metric"), repr(condition.metric), allowed, hint))
        if found:
            raise mistakes(found)
        return gate

    @property
    def models(self) -> dict[Key, ModelSpec]:
        """The specs of the model and of the baselines, by their keys."""
        return {("model",): self.model, **{("baselines", number): one for number, one in enumerate(self.baselines)}}


def _refuse_unlisted(models: Mapping[Key, ModelSpec], info: ValidationInfo) -> None:
    """What is imported is what the recommender's own list names, and nothing that a model's name slips in."""
    listed = info.data.get("classes")
    found = [
        Mistake((*key, "class"), repr(model.path), ", ".join(listed) or "none: the list `classes` is empty", hint)
        for key, model in singled(models).items()
        if isinstance(model, CustomSpec) and listed is not None and model.path not in listed
        for hint in [f"If you trust it, add it to the recommender: classes: [{', '.join([*listed, model.path])}]"]
    ]
    if found:
        raise mistakes(found)

"""The recommender: what is made of a shop's data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from endcap.spec.base import Duration, Name, Share, Strict
from endcap.spec.model import ModelSpec, PopularitySpec, RecentPopularitySpec

Exclude = Literal["none", "last", "seen"]
Metric = Annotated[str, Field(pattern=r"^(hr|recall|precision|mrr|ndcg)@[0-9]+$|^(coverage|popularity_bias)@[0-9]+$")]


class TimeSplit(Strict):
    """Sessions that begin in the last part of the window are the test, those just before it the validation."""

    by: Literal["time"] = "time"
    test: Duration | Share = Field(default="1d", validate_default=True)
    """A duration such as 1d, or a share of the sessions such as 0.1."""
    validation: Duration | Share = Field(default="1d", validate_default=True)


class GivenSplit(Strict):
    """Test sessions come from the shop's sources of `part: test`; validation is cut from the training part's end."""

    by: Literal["given"]
    validation: Duration | Share = Field(default="1d", validate_default=True)


class Evaluation(Strict):
    cutoffs: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)] = [5, 10, 20]
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples of the sessions for each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class Condition(Strict):
    """A line of the gate: a metric, or its difference or ratio to another's, is at least `min` or at most `max`."""

    metric: Metric
    against: Literal["champion", "best-baseline"] | str | None = None
    """`champion`, `best-baseline`, or the name of a baseline; left out: the metric itself."""
    compare: Literal["difference", "ratio"] = "difference"
    bound: Literal["estimate", "lower"] = "estimate"
    """What is held against `min`: the estimate, or the lower end of its interval (with `max`: the upper end)."""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_one_limit(self) -> Condition:
        if (self.min is None) == (self.max is None):
            raise ValueError("give exactly one of min and max")
        return self


class Canary(Strict):
    share: Share = 0.1
    """The challenger's share of shoppers when it is deployed."""


class Serving(Strict):
    k: Annotated[int, Field(ge=1)] = 20
    """Items in an answer when the request does not say."""
    max_k: Annotated[int, Field(ge=1)] = 1000
    max_events: Annotated[int, Field(ge=1)] = 10_000
    """Largest number of events in one request."""
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    canary: Canary = Canary()


class Recommender(Strict):
    """What is made of a shop's data."""

    apiVersion: Literal["endcap/v1"]
    kind: Literal["Recommender"]
    name: Name
    shop: str
    """The shop's name (`shops/<name>.yaml` beside this file) or the path of its file."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    split: Annotated[TimeSplit | GivenSplit, Field(discriminator="by")] = TimeSplit()
    model: ModelSpec
    baselines: list[ModelSpec] = [PopularitySpec(), RecentPopularitySpec()]
    exclude: Exclude = "none"
    """Which items of the session are never recommended: none, the last, or all seen."""
    evaluation: Evaluation = Evaluation()
    gate: list[Condition] = [Condition(metric="mrr@20", against="best-baseline", min=0.0)]
    refit: bool = True
    """Fit the judged model on the whole training part, and the winner on all data, with the number of epochs found."""
    approval: Literal["gate", "person"] = "gate"
    serving: Serving = Serving()

    @model_validator(mode="after")
    def _gate_names_known_models(self) -> Recommender:
        known = ["champion", "best-baseline", *(baseline.name for baseline in self.baselines)]
        for number, condition in enumerate(self.gate):
            if condition.against is not None and condition.against not in known:
                raise ValueError(f"gate[{number}].against is {condition.against!r}; allowed: {', '.join(known)}")
            cutoff = int(condition.metric.partition("@")[2])
            if cutoff not in self.evaluation.cutoffs:
                raise ValueError(
                    f"gate[{number}].metric: {cutoff} is not among evaluation.cutoffs {self.evaluation.cutoffs}"
                )
        return self

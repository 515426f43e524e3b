"""How a recommender's rankings are served."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Share, Strict, check, format_duration
from endcap.spec.kubernetes import KubernetesServingSpec

SAMPLES = "ENDCAP_SAMPLES"
"""The variable with the place of request samples: a folder, or ``s3://bucket/prefix``."""


class Canary(Strict):
    """How the challenger is served."""

    share: Share = 0.1
    """The share of shoppers, 0 to 1, that a new challenger gets when it is deployed."""


class Baseline(Strict):
    """Shoppers who meet the most popular items for good, to show what personalisation brings."""

    share: Annotated[float, Field(ge=0.0, le=0.2)] = 0.0
    """Of the shoppers, 0 to 0.2. The same shoppers stay in it, whatever versions come; 0: nobody."""


class SamplesSpec(Strict):
    """A log of sampled requests, from which answers can be computed again."""

    share: Share = 0.0
    """The share of rankings, 0 to 1, that a predictor keeps with all that the answer depended on. 0: none."""
    most_per_second: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many rankings each process of a predictor keeps in a second at most."""
    keep: Duration = Field(default="30d", validate_default=True)
    """How long samples are kept. Whole days are removed."""

    @check
    def _keeps_a_day(self) -> Iterator[Mistake]:
        if self.keep < timedelta(days=1):
            yield Mistake(("keep",), format_duration(self.keep), "at least 1d", code="not-allowed")


class ServingSpec(Strict):
    """How rankings are served."""

    k: Annotated[int, Field(ge=1)] = 20
    """The number of items in a ranking, if the request does not give `k`."""
    max_k: Annotated[int, Field(ge=1)] = Field(default=1000, validate_default=True)
    """The largest `k` that a request may give. A larger one is refused."""
    max_events: Annotated[int, Field(ge=1)] = 10_000
    """The most events that a request may have. A request with more is refused."""
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    """The most candidates that a request may have. A request with more is refused."""
    recent_events: Annotated[int, Field(ge=1, le=1000)] = 50
    """How many of the last events of a customer or a session the predictor reads from the online store."""
    max_wait: Duration = Field(default="100ms", validate_default=True)
    """The longest time that a request may wait in the predictor. If it would wait longer, the predictor at once answers
    503 with Retry-After."""
    timeout: Duration = Field(default="2s", validate_default=True)
    """The longest time that the gateway waits for an answer."""
    fallback: Literal["popular", "refuse"] = "popular"
    """What the gateway does if no predictor answers. `popular`: it answers with the most popular items, marked as
    fallbacks. `refuse`: it answers 503."""
    canary: Canary = Canary()
    """How the challenger is served."""
    baseline: Baseline = Baseline()
    """A permanent share of the shoppers for popularity, with which the champion is compared."""
    samples: SamplesSpec = SamplesSpec()
    """A log of sampled requests."""
    kubernetes: KubernetesServingSpec = KubernetesServingSpec()
    """The predictor's pods in a cluster."""

    @check
    def _k_is_not_above_max_k(self) -> Iterator[Mistake]:
        if self.k > self.max_k:
            actual = f"{self.max_k}, and serving.k is {self.k}"
            yield Mistake(("max_k",), actual, "at least serving.k", code="conflict")

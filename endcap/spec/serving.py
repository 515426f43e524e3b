"""How a recommender's rankings are served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from endcap.spec.base import Duration, Mistake, Share, Strict, check
from endcap.spec.kubernetes import KubernetesServingSpec


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
    kubernetes: KubernetesServingSpec = KubernetesServingSpec()

    @check
    def _k_may_be_asked_for(self) -> Iterator[Mistake]:
        if self.k > self.max_k:
            actual = f"{self.max_k}, and serving.k is {self.k}"
            yield Mistake(("max_k",), actual, "at least serving.k", code="conflict")

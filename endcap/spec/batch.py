"""Lists of recommendations that are made ahead of time, one for each customer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from endcap.spec.base import Duration, Strict


class BatchSpec(Strict):
    """How `endcap recommend` makes lists. Training does not depend on it."""

    k: Annotated[int, Field(ge=1, le=10_000)] = 200
    """The number of items in a customer's list."""
    active_within: Duration | None = None
    """Makes lists only for customers who did something in this time before the end of the log. Left out: for all
    customers."""
    partition_size: Annotated[int, Field(ge=1)] = 20_000
    """The number of customers in each part that is written. An interrupted run goes on after the last complete part."""
    workers: Annotated[int, Field(ge=1)] = 1
    """The number of processes that share the parts. With more than one, Ray runs them."""
    keep: Duration = Field(default="7d", validate_default=True)
    """How long the online store keeps the lists."""

"""Recommendations made ahead of time, for every customer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from endcap.spec.base import Duration, Strict


class BatchSpec(Strict):
    """What `endcap recommend` makes, independent of training."""

    k: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Items for each customer."""
    active_within: Duration | None = None
    """Only customers with an event in so long before the log's end; left out: every customer."""
    partition_size: Annotated[int, Field(ge=1)] = 20_000
    """Customers of each part that is written; a run that was broken off goes on after the last whole part."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that share the parts, through Ray where there is more than one."""
    keep: Duration = Field(default="7d", validate_default=True)
    """How long the lists are kept in the online store."""

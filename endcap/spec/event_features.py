"""Features of events, such as their position in the session."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

from endcap.spec.base import Carried, Mistake, Name, Strict, check, find_repeats, select_known

LIMITED = {"repeat": 2, "hour": 24, "weekday": 7}
"""The number of values of each kind that has a limit. Values are integers from 0."""


class EventFeature(Strict):
    """A feature of an event, which models may use."""

    name: Name
    """The feature's name, by which models list it."""
    kind: Literal["position", "gap", "repeat", "hour", "weekday", "type"]
    """What the feature measures. `position`: the event's place in the session, from 0. `gap`: the seconds since the
    session's previous event, 0 for the first. `repeat`: 1 if the item occurred earlier in the session, else 0. `hour`
    and `weekday`: the hour of the day and the day of the week (Monday is 0), in UTC. `type`: the place of the event's
    type in `types`, from 1; 0 if the event has none of these types."""
    buckets: list[float] | None = None
    """Ascending limits of buckets. The feature's value becomes the number of limits that it reaches. Left out: the
    value stays as it is."""
    types: list[str] | None = None
    """The event types that the kind `type` distinguishes. Left out: `events.types`."""

    @property
    def values(self) -> int | None:
        """The number of values, which are integers from 0; None if the feature has no limit and no buckets."""
        if self.kind == "type":
            return len(self.types or []) + 1
        return LIMITED.get(self.kind) if self.buckets is None else len(self.buckets) + 1

    @check
    def _kind_has_types(self) -> Iterator[Mistake]:
        if self.types is not None and self.kind != "type":
            allowed = "nothing: only a feature of the kind 'type' has types"
            yield Mistake(("types",), str(self.types), allowed, code="conflict")

    @check
    def _kind_has_buckets(self) -> Iterator[Mistake]:
        if self.buckets is not None and self.kind == "type":
            allowed = "nothing: types have no order, so they have no buckets"
            yield Mistake(("buckets",), str(self.buckets), allowed, code="conflict")

    @check
    def _types_differ(self) -> Iterator[Mistake]:
        if self.types is not None and (not self.types or find_repeats(self.types)):
            yield Mistake(("types",), str(self.types), "a list of at least one type, each once", code="not-allowed")

    @check
    def _edges_ascend(self) -> Iterator[Mistake]:
        edges = self.buckets
        if edges is not None and (not edges or any(b <= a for a, b in itertools.pairwise(edges))):
            allowed = "a list of at least one number, each larger than the one before"
            yield Mistake(("buckets",), str(edges), allowed, code="not-allowed")


class Features(Strict):
    """Features that models may use besides the items."""

    events: list[EventFeature] = []
    """Features of events."""
    engine: Annotated[Literal["duckdb", "spark"], Carried("all engines make the same dataset")] = "duckdb"
    """What makes datasets. `duckdb`: DuckDB, in the step itself. `spark`: Spark, where `spark:` says. Both make the
    same dataset."""

    @check
    def _names_differ(self) -> Iterator[Mistake]:
        names = [feature.name for feature in self.events]
        for number in find_repeats(names):
            yield Mistake(("events", number, "name"), f"{names[number]!r} again", "each name once", code="duplicate")

    @check
    def _one_feature_has_the_types(self) -> Iterator[Mistake]:
        kinds = select_known([feature.kind for feature in self.events])
        for number in [number for number, kind in kinds.items() if kind == "type"][1:]:
            allowed = "one feature of the kind 'type', which distinguishes all types"
            yield Mistake(("events", number, "kind"), "'type' again", allowed, code="duplicate")

"""Features of events, such as their position in the session."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

from endcap.spec.base import Mistake, Name, Strict, check, find_repeats, select_known

LIMITED = {"repeat": 2, "hour": 24, "weekday": 7}
"""How many integer values from 0 kinds of event features have, where they are not without limit."""


class EventFeature(Strict):
    """An event-level feature; each kind is declared once, in `endcap.features.event_features`."""

    name: Name
    kind: Literal["position", "gap", "repeat", "hour", "weekday", "type"]
    """position in the session (from 0), seconds since the session's previous event (0 for the first),
    whether the item was seen before in the session, hour of the day and day of the week (Monday 0), both UTC,
    the event's type (its place in `types` from 1; 0 where it is none of them or not said)."""
    buckets: list[float] | None = None
    """Ascending edges: the value becomes the number of edges that it reaches."""
    types: list[str] | None = None
    """Of the kind `type`, which types are told apart; left out: those of `events.types`."""

    @property
    def values(self) -> int | None:
        """How many integer values from 0 there are; None where they are not bucketed and without limit."""
        if self.kind == "type":
            return len(self.types or []) + 1
        return LIMITED.get(self.kind) if self.buckets is None else len(self.buckets) + 1

    @check
    def _kind_has_types(self) -> Iterator[Mistake]:
        if self.types is not None and self.kind != "type":
            allowed = "nothing: only a feature of the kind 'type' has types"
            yield Mistake(("types",), str(self.types), allowed, code="conflict")

    @check
    def _kind_has_an_order(self) -> Iterator[Mistake]:
        if self.buckets is not None and self.kind == "type":
            allowed = "nothing: types have no order to cut"
            yield Mistake(("buckets",), str(self.buckets), allowed, code="conflict")

    @check
    def _types_differ(self) -> Iterator[Mistake]:
        if self.types is not None and (not self.types or find_repeats(self.types)):
            yield Mistake(("types",), str(self.types), "one type or more, each once", code="not-allowed")

    @check
    def _edges_ascend(self) -> Iterator[Mistake]:
        edges = self.buckets
        if edges is not None and (not edges or any(b <= a for a, b in itertools.pairwise(edges))):
            allowed = "one number or more, each larger than the one before"
            yield Mistake(("buckets",), str(edges), allowed, code="not-allowed")


class Features(Strict):
    events: list[EventFeature] = []

    @check
    def _names_differ(self) -> Iterator[Mistake]:
        names = [feature.name for feature in self.events]
        for number in find_repeats(names):
            yield Mistake(("events", number, "name"), f"{names[number]!r} again", "each name once", code="duplicate")

    @check
    def _one_tells_types_apart(self) -> Iterator[Mistake]:
        kinds = select_known([feature.kind for feature in self.events])
        for number in [number for number, kind in kinds.items() if kind == "type"][1:]:
            allowed = "one feature of the kind 'type': it tells all types apart"
            yield Mistake(("events", number, "kind"), "'type' again", allowed, code="duplicate")

"""The shop: what the data is. All recommenders of a shop share it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from endcap.spec.base import Duration, Mistake, Name, Strict, check, collect_mistakes, select_known, suggest
from endcap.spec.event_features import Features
from endcap.spec.event_log import Events
from endcap.spec.layouts import WITHOUT
from endcap.spec.rules import Rules
from endcap.spec.sessions import Filters, SessionsSpec
from endcap.spec.side_tables import Customers, Items
from endcap.spec_renames import ApiVersion


class Shop(Strict):
    """What a shop's data is."""

    apiVersion: ApiVersion
    kind: Literal["Shop"]
    name: Name
    events: Events
    items: Items | None = None
    customers: Customers | None = None
    sessions: SessionsSpec = Field(default=SessionsSpec(), validate_default=True)
    filters: Filters = Filters()
    window: Duration | None = None
    """Look-back window that ends at the run's logical date; left out: everything before that date."""
    features: Features = Features()
    rules: Rules = Rules()
    """What may be shown to whom, whatever a model thinks of it."""

    @property
    def kept_types(self) -> list[str] | None:
        """Types of the events that a snapshot keeps: those trained on, and those that make an item a customer's; None:
        all."""
        if self.events.types is None or self.rules.owned is None:
            return self.events.types
        return [*self.events.types, *(name for name in self.rules.owned.types if name not in self.events.types)]

    @field_validator("features")
    @classmethod
    def _fill_in_types(cls, features: Features, info: ValidationInfo) -> Features:
        """A feature of the kind `type` says itself which types it tells apart, wherever it is carried."""
        events = info.data.get("events")
        types = None if events is None else events.types
        named = [
            feature.model_copy(update={"types": types}) if feature.kind == "type" and feature.types is None else feature
            for feature in features.events
        ]
        return features.model_copy(update={"events": named})

    @check
    def _types_are_named(self) -> Iterator[Mistake]:
        if self.events.types is not None:
            return
        for number, feature in select_known(self.features.events).items():
            if feature.types is None and select_known([feature.kind]) and feature.kind == "type":
                allowed = "a list of event types, here or in events.types"
                yield Mistake(("features", "events", number, "types"), "nothing", allowed, code="missing")

    @check
    def _sessions_have_their_column(self) -> Iterator[Mistake]:
        by = self.sessions.by
        column, other = ("session", "gap") if by == "given" else ("customer", "given")
        layouts = [source.layout for source in self.events.sources]
        if lacking := [layout for layout in select_known(layouts).values() if layout in WITHOUT[column]]:
            actual = f"{by!r}, and the layout {lacking[0]} has no {column}s"
            yield Mistake(("sessions", "by"), actual, repr(other), code="conflict")
        elif "columns" in select_known(layouts).values() and not getattr(self.events.columns, column):
            actual = f"{by!r}, and no events.columns.{column}"
            allowed = f"{by!r} with events.columns.{column} named, or {other!r}"
            yield Mistake(("sessions", "by"), actual, allowed, code="conflict")

    @check
    def _rules_speak_of_known_attributes(self) -> Iterator[Mistake]:
        texts = "a categorical attribute"
        return collect_mistakes(
            self._attribute(("rules", "attributes", number, "attribute"), rule.attribute, texts, numeric=False)
            for number, rule in select_known(self.rules.attributes).items()
        )

    @check
    def _stock_is_a_known_number(self) -> Iterator[Mistake]:
        if (stock := self.rules.stock) is not None:
            key = ("rules", "stock", "attribute")
            yield from self._attribute(key, stock.attribute, "a numeric attribute", numeric=True)

    def _attribute(self, key: tuple[str | int, ...], name: str, kind: str, *, numeric: bool) -> Iterator[Mistake]:
        items = self.items
        attributes, numbers = (items.attributes, items.numbers) if items is not None else ([], [])
        names = numbers if numeric else [attribute for attribute in attributes if attribute not in numbers]
        if name not in names:
            without = "none" if items is not None else "none, the shop has no `items`"
            allowed = f"{kind} of the shop's items: {', '.join(names) or without}"
            yield Mistake(key, repr(name), allowed, suggest(name, names), code="unknown-name")

    @check
    def _what_is_owned_has_a_type(self) -> Iterator[Mistake]:
        if self.rules.owned is None:
            return
        sources = self.events.sources
        typed = self.events.columns.type or any(source.type for source in sources)
        if not typed and {source.layout for source in sources} == {"columns"}:
            allowed = "such a rule where events have types: name events.columns.type"
            yield Mistake(("rules", "owned", "types"), str(self.rules.owned.types), allowed, code="conflict")

"""The shop's file: what the data are. All recommenders of a shop share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from endcap.spec.base import Duration, Mistake, Name, Strict, check, collect_mistakes, select_known, suggest
from endcap.spec.event_features import Features
from endcap.spec.event_log import Events
from endcap.spec.layouts import WITHOUT
from endcap.spec.rules import Rules
from endcap.spec.sessions import Filters, SessionsSpec
from endcap.spec.side_tables import Customers, Items
from endcap.spec.source import SourceSpec
from endcap.spec.spark import SparkSpec
from endcap.spec_renames import ApiVersion


class Shop(Strict):
    """A shop's data: the event log, the tables beside it, and the rules on what may be shown."""

    apiVersion: ApiVersion
    """The version of the file's format."""
    kind: Literal["Shop"]
    """What the file describes."""
    name: Name
    """The shop's name. Its snapshots and datasets are stored under it."""
    events: Events
    """The event log."""
    items: Items | None = None
    """The item table. Left out: nothing is known of the items but their events."""
    customers: Customers | None = None
    """The customer table. Left out: nothing is known of the customers but their events."""
    sessions: SessionsSpec = Field(default=SessionsSpec(), validate_default=True)
    """How events become sessions."""
    filters: Filters = Filters()
    """The smallest sessions, items and customers to keep."""
    window: Duration | None = None
    """How far back from the run's logical date events count, such as 90d. Left out: all events before that date."""
    features: Features = Features()
    """Features that models may use."""
    spark: SparkSpec = SparkSpec()
    """Where Spark runs, for `events.engine: spark` and `features.engine: spark`."""
    rules: Rules = Rules()
    """Which items may be shown to whom. Rules apply to every model."""

    @property
    def kept_types(self) -> list[str] | None:
        """The types of the events that a snapshot keeps: those to train on, and those by which a customer owns an item.
        None: all types."""
        if self.events.types is None or self.rules.owned is None:
            return self.events.types
        return [*self.events.types, *(name for name in self.rules.owned.types if name not in self.events.types)]

    @field_validator("features")
    @classmethod
    def _fill_in_types(cls, features: Features, info: ValidationInfo) -> Features:
        """Write the types into the feature of the kind `type`, so that it can be used without the shop."""
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
        column, alternative = ("session", "gap") if by == "given" else ("customer", "given")
        layouts = [source.layout for source in self.events.sources]
        if lacking := [layout for layout in select_known(layouts).values() if layout in WITHOUT[column]]:
            actual = f"{by!r}, and the layout {lacking[0]} has no {column}s"
            yield Mistake(("sessions", "by"), actual, repr(alternative), code="conflict")
        elif "columns" in select_known(layouts).values() and not getattr(self.events.columns, column):
            actual = f"{by!r}, and no events.columns.{column}"
            allowed = f"{by!r} with events.columns.{column} named, or {alternative!r}"
            yield Mistake(("sessions", "by"), actual, allowed, code="conflict")

    @check
    def _steps_keep_no_ids(self) -> Iterator[Mistake]:
        if self.events.pseudonyms is not True:
            return
        customers = self.customers.sources if self.customers is not None else []
        tables: list[tuple[str, Sequence[SourceSpec]]] = [("events", self.events.sources), ("customers", customers)]
        for table, sources in tables:
            for number, source in select_known(sources).items():
                if source.step is not None:
                    hint = "A step of SQL keeps what it makes, with the ids as they are."
                    allowed = "files or a table, or no events.pseudonyms"
                    yield Mistake((table, "sources", number, "step"), "a step of SQL", allowed, hint, code="conflict")

    @check
    def _rules_name_known_attributes(self) -> Iterator[Mistake]:
        texts = "a categorical attribute"
        return collect_mistakes(
            self._check_attribute(("rules", "attributes", number, "attribute"), rule.attribute, texts, numeric=False)
            for number, rule in select_known(self.rules.attributes).items()
        )

    @check
    def _stock_is_a_numeric_attribute(self) -> Iterator[Mistake]:
        if (stock := self.rules.stock) is not None:
            key = ("rules", "stock", "attribute")
            yield from self._check_attribute(key, stock.attribute, "a numeric attribute", numeric=True)

    def _check_attribute(self, key: tuple[str | int, ...], name: str, kind: str, *, numeric: bool) -> Iterator[Mistake]:
        items = self.items
        attributes, numbers = (items.attributes, items.numbers) if items is not None else ([], [])
        names = numbers if numeric else [attribute for attribute in attributes if attribute not in numbers]
        if name not in names:
            no_names = "none" if items is not None else "none, because the shop has no `items`"
            allowed = f"{kind} of the shop's items: {', '.join(names) or no_names}"
            yield Mistake(key, repr(name), allowed, suggest(name, names), code="unknown-name")

    @check
    def _owned_items_have_event_types(self) -> Iterator[Mistake]:
        if self.rules.owned is None:
            return
        sources = self.events.sources
        typed = self.events.columns.type or any(source.type for source in sources)
        if not typed and {source.layout for source in sources} == {"columns"}:
            allowed = "this rule only if events have types: name events.columns.type"
            yield Mistake(("rules", "owned", "types"), str(self.rules.owned.types), allowed, code="conflict")

"""How a log's columns become those of events, and which rows are left out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from endcap.sources.column_mapping import DAY, WITHOUT_ITEM, Plan, checks_of, empty_check, named_by
from endcap.sources.layouts import PUBLISHED
from endcap.sources.locate import ABSENT, Wanted
from endcap.sources.sql import text
from endcap.sources.values.clock import has_clock
from endcap.sources.values.conditions import any_holds
from endcap.sources.values.glance import milliseconds
from endcap.sources.values.ids import as_id, id_checks, is_word, nested_checks
from endcap.sources.values.times import Reading, span_checks, time_checks, time_columns
from endcap.spec.condition import Conditions
from endcap.spec.shop import EventColumns, EventSource, Shop

OTHER_TYPES, RETURNS = "other_types", "events.returns"
ACTIVE = (OTHER_TYPES, WITHOUT_ITEM)
"""Rules that leave out what a shopper did all the same."""


def event_columns(shop: Shop, source: EventSource) -> list[Wanted]:
    """The columns that this source must have: none of types where it says itself of which type its events are."""
    # Of several sources perhaps one has orders, and with it what takes them back.
    several = len(shop.events.sources) > 1
    returns = [Wanted(name, RETURNS, optional=several) for name in shop.events.returns]
    if source.layout != "columns":
        published = PUBLISHED[source.layout]
        names = [published.item, published.session, published.time, published.day, published.offset, published.customer]
        names += [published.type_column] if source.type is None else []
        return [*named_by(source.layout, names), *returns]
    columns, needed = shop.events.columns, {"item", "time", _needed(shop)}
    keys = [key for key in EventColumns.model_fields if key != "type" or source.type is None]
    named = [(name, key) for key in keys for name in _listed(getattr(columns, key))]
    return [*(Wanted(name, f"events.columns.{key}", key in needed) for name, key in named), *returns]


def event_plan(
    shop: Shop, source: EventSource, located: Mapping[str, str], instants: frozenset[str], decimal: str, *, now: int
) -> Plan:
    """The plan of an event file.

    located: as of `locate`; instants: names of typed times; decimal: the mark of fractions in numbers; now: epoch ms.
    """
    words, item_words = shop.events.null_values, shop.events.null_item_values
    whole = shop.events.float_ids == "whole"
    columns_of = _own if source.layout == "columns" else _published
    columns = columns_of(shop, source, located, instants, decimal)
    select, time, named = columns.select, columns.time, columns.named
    missing = {
        name: is_word(_columns(holder, located), item_words if name == "item" else words)
        for name, holder in columns.holders.items()
    }
    nested = {key: nested_checks(key, _listed(names), located) for key, names in named.items()}
    ids = {
        name: id_checks(name, _columns(named[name], located), words, whole=whole)
        for name in ("item", "session", "customer")
    }
    unread = [] if milliseconds(time) else [(f'"time" IS NULL AND ({missing["time"]})', "time is empty")]
    times = [*unread, *columns.time_checks, *span_checks(now)]
    checks = empty_check(select, "item", "item is empty")
    if shop.sessions.by == "given":
        checks += empty_check(select, "session", "session is empty, and sessions.by is 'given'")
    checks += [*itertools.chain(*nested.values(), *ids.values()), *times]
    about = {reason: select[name] for name, its in ids.items() for _, reason in its}
    about |= {reason: time for _, reason in times}
    more, looked_at = checks_of(_returns(shop, located), located, words, decimal)
    checks, about = [*checks, *more], about | looked_at
    leaves, values = _event_leaves(shop, source, located, select["type"], decimal)
    active = _active([*nested["customer"], *ids["customer"], *times]) if _may_be_active(shop, leaves) else None
    missing = {name: condition for name, condition in missing.items() if condition != "false"}
    return Plan(select, checks, leaves, about, missing, values, active, columns.readings, [*words, *item_words])


def _event_leaves(
    shop: Shop, source: EventSource, located: Mapping[str, str], of_type: str, decimal: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """What leaves events out, as of `Plan.leaves`, and what these rules look at."""
    leaves: list[tuple[str, str]] = []
    values: dict[str, str] = {}
    returns = _returns(shop, located)
    if returns:
        leaves.append((any_holds(returns, located, shop.events.null_values, decimal), "returns"))
        values |= {name: located[name] for name in returns}
    if shop.kept_types is not None:
        values["type"] = of_type
        listed = ", ".join(map(text, shop.kept_types))
        leaves.append((f'"type" IS NULL OR "type" NOT IN ({listed})' if listed else "true", OTHER_TYPES))
    if source.layout != "columns" and PUBLISHED[source.layout].itemless:
        leaves.append(("item IS NULL", WITHOUT_ITEM))
    if shop.sessions.by == "gap":
        leaves.append(("customer IS NULL", "without_customer"))
    return leaves, values


def _returns(shop: Shop, located: Mapping[str, str]) -> Conditions:
    """The conditions of returns that are about columns which a file has."""
    return {name: returned for name, returned in shop.events.returns.items() if located[name] != ABSENT}


def _may_be_active(shop: Shop, leaves: Sequence[tuple[str, str]]) -> bool:
    return shop.sessions.by == "gap" and any(name in ACTIVE for _, name in leaves)


def _active(checks: Sequence[tuple[str, str]]) -> str:
    """Whether a row that is left out says that its customer was there: who, and when."""
    wrong = " ".join(f"WHEN {condition} THEN false" for condition, _ in checks)
    there = f'"left" IN ({", ".join(map(text, ACTIVE))}) AND customer IS NOT NULL'
    return f"CASE WHEN ({there}) IS NOT TRUE THEN false {wrong} ELSE true END"


def _columns(named: str | Sequence[str] | None, located: Mapping[str, str]) -> list[str]:
    """The SQL of the columns that make an id."""
    return [located[name] for name in _listed(named)]


def _listed(named: str | Sequence[str] | None) -> Sequence[str]:
    return [named] if isinstance(named, str) else named or []


def _needed(shop: Shop) -> str:
    return "session" if shop.sessions.by == "given" else "customer"


class _Columns(NamedTuple):
    """How a file's columns become those of events.

    named: by column of an event, the file's own of ids, and of types if the shop names it; holders: the same with that
    of times, and of types if it has one. time: SQL of the texts of times. time_checks, readings: as of `Plan`.
    """

    select: dict[str, str]
    named: Mapping[str, str | Sequence[str] | None]
    holders: Mapping[str, str | Sequence[str] | None]
    time: str
    time_checks: list[tuple[str, str]]
    readings: Mapping[str, Reading]


def _own(
    shop: Shop, source: EventSource, located: Mapping[str, str], instants: frozenset[str], decimal: str
) -> _Columns:
    """The columns that the shop names. Parameters are those of `event_plan`."""
    columns, rule, words = shop.events.columns, shop.events.time, shop.events.null_values
    whole = shop.events.float_ids == "whole"
    named = {key: getattr(columns, key) for key in ("item", "session", "customer")}
    if source.type is None:
        named["type"] = columns.type
    time, typed = located[columns.time], columns.time in instants
    unit, formats = ("iso", []) if typed else (rule.unit, _listed(rule.format))
    reading = Reading(unit, formats, has_clock(rule.zone), decimal)
    select = {
        "session": as_id(_columns(columns.session, located), words, whole=whole),
        "customer": as_id(_columns(columns.customer, located), words, whole=whole),
        "item": as_id([located[columns.item]], shop.events.null_item_values, whole=whole),
        **time_columns(time, reading),
        "type": as_id(_columns(columns.type, located), words) if source.type is None else text(source.type),
    }
    nested = [
        (f'"time" IS NULL AND {is_so}', reason) for is_so, reason in nested_checks("time", [columns.time], located)
    ]
    checks = [*nested, *time_checks(time, reading)]
    return _Columns(select, named, {**named, "time": columns.time}, time, checks, {time: reading})


def _published(
    shop: Shop, source: EventSource, located: Mapping[str, str], instants: frozenset[str], decimal: str
) -> _Columns:
    """The columns of a published layout. Parameters are those of `event_plan`."""
    published, words = PUBLISHED[source.layout], shop.events.null_values
    whole = shop.events.float_ids == "whole"
    time = located[published.time or published.day]
    unit = "iso" if published.time in instants else published.unit
    reading = Reading(unit, (), has_clock(shop.events.time.zone), decimal)
    readings = {time: reading}
    if published.time:
        times, checks = time_columns(time, reading), time_checks(time, reading)
    else:
        offset = located[published.offset]
        readings[offset] = Reading("ms")
        times = time_columns(time, reading, DAY)
        times["time"] = f"{times[DAY]} + {time_columns(offset, readings[offset])['time']}"
        checks = [('"time" IS NULL', f"time is not a day in {published.day} and milliseconds in {published.offset}")]
    customer = as_id(_columns(published.customer, located), words, whole=whole)
    item = as_id([located[published.item]], shop.events.null_item_values, whole=whole)
    select = {
        "session": as_id(_columns(published.session, located), words, whole=whole),
        "customer": f"nullif({customer}, {text(published.unknown)})",
        "item": f"nullif({item}, {text(published.no_item)})",
        **times,
    }
    if source.type is None and published.type_column:
        select["type"] = as_id([located[published.type_column]], words)
    else:
        select["type"] = text(published.type if source.type is None else source.type)
    named = {"item": published.item, "session": published.session, "customer": published.customer}
    of_type = published.type_column if source.type is None else None
    holders = {**named, "time": published.time or published.day, "type": of_type}
    return _Columns(select, named, holders, time, checks, readings)

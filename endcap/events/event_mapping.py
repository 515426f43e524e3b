"""The mapping from a log's columns to those of events, and the rules that leave rows out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from endcap.events.forget_list import FORGOTTEN, NOBODY, ForgetList
from endcap.sources.column_mapping import (
    DAY,
    WITHOUT_ITEM,
    ColumnMapping,
    check_conditions,
    check_empty,
    list_layout_columns,
)
from endcap.sources.layouts import LOG_LAYOUTS
from endcap.sources.locate import ABSENT, SourceColumn
from endcap.sources.sql import quote_text
from endcap.sources.values.clock import has_clock_changes
from endcap.sources.values.conditions import match_any
from endcap.sources.values.glance import find_milliseconds
from endcap.sources.values.ids import convert_to_id, list_id_checks, list_nested_checks, match_word
from endcap.sources.values.numbers import list_whole_number_checks, parse_whole_number
from endcap.sources.values.times import TimeFormat, list_span_checks, list_time_checks, parse_times
from endcap.spec.condition import Conditions
from endcap.spec.event_log import EventColumns, EventSource
from endcap.spec.shop import Shop

OTHER_TYPES, RETURNS = "other_types", "events.returns"
NO_SEQUENCE = "NULL::BIGINT"
ACTIVITY_RULES = (OTHER_TYPES, WITHOUT_ITEM)
"""Rules whose rows are still a shopper's activity."""


def list_event_columns(shop: Shop, source: EventSource) -> list[SourceColumn]:
    """List the columns that a source must have. A source that names its type needs no column of types."""
    # Of several sources only one may have orders, and with them the columns of returns.
    several = len(shop.events.sources) > 1
    returns = [SourceColumn(name, RETURNS, optional=several) for name in shop.events.returns]
    if source.layout != "columns":
        published = LOG_LAYOUTS[source.layout]
        names = [published.item, published.session, published.time, published.day, published.offset, published.customer]
        names += [published.type_column] if source.type is None else []
        return [*list_layout_columns(source.layout, names), *returns]
    columns, needed = shop.events.columns, {"item", "time", "order", _name_owner_column(shop)}
    keys = [key for key in EventColumns.model_fields if key != "type" or source.type is None]
    columns_named = [(name, key) for key in keys for name in _as_list(getattr(columns, key))]
    return [*(SourceColumn(name, f"events.columns.{key}", key in needed) for name, key in columns_named), *returns]


def map_events(
    shop: Shop,
    source: EventSource,
    located: Mapping[str, str],
    instants: frozenset[str],
    decimal: str,
    *,
    now: int,
    forgotten: ForgetList = NOBODY,
) -> ColumnMapping:
    """Map a file of events.

    Parameters
    ----------
    shop, source
        The shop, and the source that the file belongs to.
    located
        SQL of each column, from `locate_columns`.
    instants
        Names of columns that hold typed times.
    decimal
        The decimal mark of numbers.
    now
        The present in epoch milliseconds. Later times are bad.
    forgotten
        Customers whose rows are left out, whatever else is true of them.
    """
    words, item_words = shop.events.null_values, shop.events.null_item_values
    whole = shop.events.float_ids == "whole"
    columns_of = _map_own_columns if source.layout == "columns" else _map_layout_columns
    columns = columns_of(shop, source, located, instants, decimal)
    select, time, columns_by_key = columns.select, columns.time, columns.named
    missing = {
        name: match_word(_locate_parts(holder, located), item_words if name == "item" else words)
        for name, holder in columns.holders.items()
    }
    nested = {key: list_nested_checks(key, _as_list(names), located) for key, names in columns_by_key.items()}
    ids = {
        name: list_id_checks(name, _locate_parts(columns_by_key[name], located), words, whole=whole)
        for name in ("item", "session", "customer")
    }
    unread = [] if find_milliseconds(time) else [(f'"time" IS NULL AND ({missing["time"]})', "time is empty")]
    times = [*unread, *columns.time_checks, *list_span_checks(now)]
    checks = check_empty(select, "item", "item is empty")
    if shop.sessions.by == "given":
        checks += check_empty(select, "session", "session is empty, and sessions.by is 'given'")
    checks += [*itertools.chain(*nested.values(), *ids.values()), *times]
    examined = {reason: select[name] for name, checks_of_column in ids.items() for _, reason in checks_of_column}
    examined |= {reason: time for _, reason in times}
    return_checks, looked_at = check_conditions(_select_returns(shop, located), located, words, decimal)
    checks, examined = [*checks, *return_checks], examined | looked_at
    if columns.sequence is not None:
        order_checks = list_whole_number_checks(columns.sequence, "sequence", "order")
        checks += order_checks
        examined |= {reason: columns.sequence for _, reason in order_checks}
    leaves, values = _list_exclusions(shop, source, located, select["type"], decimal)
    if forgotten:  # first, so that such a row is no activity and is not kept as a bad one
        leaves.insert(0, (forgotten.match_sql("customer"), FORGOTTEN))
    active = _match_active([*nested["customer"], *ids["customer"], *times]) if _can_be_active(shop, leaves) else None
    missing = {name: condition for name, condition in missing.items() if condition != "false"}
    return ColumnMapping(
        select, checks, leaves, examined, missing, values, active, columns.readings, [*words, *item_words]
    )


def _list_exclusions(
    shop: Shop, source: EventSource, located: Mapping[str, str], of_type: str, decimal: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """What leaves events out, as of `Plan.leaves`, and what these rules look at."""
    leaves: list[tuple[str, str]] = []
    values: dict[str, str] = {}
    returns = _select_returns(shop, located)
    if returns:
        leaves.append((match_any(returns, located, shop.events.null_values, decimal), "returns"))
        values |= {name: located[name] for name in returns}
    if shop.kept_types is not None:
        values["type"] = of_type
        types = ", ".join(map(quote_text, shop.kept_types))
        leaves.append((f'"type" IS NULL OR "type" NOT IN ({types})' if types else "true", OTHER_TYPES))
    if source.layout != "columns" and LOG_LAYOUTS[source.layout].itemless:
        leaves.append(("item IS NULL", WITHOUT_ITEM))
    if shop.sessions.by == "gap":
        leaves.append(("customer IS NULL", "without_customer"))
    return leaves, values


def _select_returns(shop: Shop, located: Mapping[str, str]) -> Conditions:
    """The conditions of returns that are about columns which a file has."""
    return {name: returned for name, returned in shop.events.returns.items() if located[name] != ABSENT}


def _can_be_active(shop: Shop, leaves: Sequence[tuple[str, str]]) -> bool:
    return shop.sessions.by == "gap" and any(name in ACTIVITY_RULES for _, name in leaves)


def _match_active(checks: Sequence[tuple[str, str]]) -> str:
    """Whether a row that is left out says that its customer was there: who, and when."""
    wrong = " ".join(f"WHEN {condition} THEN false" for condition, _ in checks)
    is_active = f'"left" IN ({", ".join(map(quote_text, ACTIVITY_RULES))}) AND customer IS NOT NULL'
    return f"CASE WHEN ({is_active}) IS NOT TRUE THEN false {wrong} ELSE true END"


def _locate_parts(names: str | Sequence[str] | None, located: Mapping[str, str]) -> list[str]:
    """The SQL of the columns that make an id."""
    return [located[name] for name in _as_list(names)]


def _as_list(names: str | Sequence[str] | None) -> Sequence[str]:
    return [names] if isinstance(names, str) else names or []


def _name_owner_column(shop: Shop) -> str:
    return "session" if shop.sessions.by == "given" else "customer"


class _EventColumns(NamedTuple):
    """How a file's columns become those of events.

    named: by column of an event, the file's own of ids, and of types if the shop names it; holders: the same with that
    of times, and of types if it has one. time: SQL of the texts of times. time_checks, readings: as of `Plan`.
    sequence: SQL of the texts that order events of one time, None if the shop names no such column.
    """

    select: dict[str, str]
    named: Mapping[str, str | Sequence[str] | None]
    holders: Mapping[str, str | Sequence[str] | None]
    time: str
    time_checks: list[tuple[str, str]]
    readings: Mapping[str, TimeFormat]
    sequence: str | None = None


def _map_own_columns(
    shop: Shop, source: EventSource, located: Mapping[str, str], instants: frozenset[str], decimal: str
) -> _EventColumns:
    """The columns that the shop names. Parameters are those of `event_plan`."""
    columns, rule, words = shop.events.columns, shop.events.time, shop.events.null_values
    whole = shop.events.float_ids == "whole"
    names = {key: getattr(columns, key) for key in ("item", "session", "customer")}
    if source.type is None:
        names["type"] = columns.type
    time, typed = located[columns.time], columns.time in instants
    unit, formats = ("iso", []) if typed else (rule.unit, _as_list(rule.format))
    reading = TimeFormat(unit, formats, has_clock_changes(rule.zone), decimal)
    select = {
        "session": convert_to_id(_locate_parts(columns.session, located), words, whole=whole),
        "customer": convert_to_id(_locate_parts(columns.customer, located), words, whole=whole),
        "item": convert_to_id([located[columns.item]], shop.events.null_item_values, whole=whole),
        **parse_times(time, reading),
        "type": convert_to_id(_locate_parts(columns.type, located), words)
        if source.type is None
        else quote_text(source.type),
    }
    sequence = None if columns.order is None else located[columns.order]
    select["sequence"] = NO_SEQUENCE if sequence is None else parse_whole_number(sequence, decimal)
    nested = [
        (f'"time" IS NULL AND {is_so}', reason) for is_so, reason in list_nested_checks("time", [columns.time], located)
    ]
    checks = [*nested, *list_time_checks(time, reading)]
    holders = {**names, "time": columns.time}
    return _EventColumns(select, names, holders, time, checks, {time: reading}, sequence)


def _map_layout_columns(
    shop: Shop, source: EventSource, located: Mapping[str, str], instants: frozenset[str], decimal: str
) -> _EventColumns:
    """The columns of a published layout. Parameters are those of `event_plan`."""
    published, words = LOG_LAYOUTS[source.layout], shop.events.null_values
    whole = shop.events.float_ids == "whole"
    time = located[published.time or published.day]
    unit = "iso" if published.time in instants else published.unit
    reading = TimeFormat(unit, (), has_clock_changes(shop.events.time.zone), decimal)
    readings = {time: reading}
    if published.time:
        times, checks = parse_times(time, reading), list_time_checks(time, reading)
    else:
        offset = located[published.offset]
        readings[offset] = TimeFormat("ms")
        times = parse_times(time, reading, DAY)
        times["time"] = f"{times[DAY]} + {parse_times(offset, readings[offset])['time']}"
        checks = [('"time" IS NULL', f"time is not a day in {published.day} and milliseconds in {published.offset}")]
    customer = convert_to_id(_locate_parts(published.customer, located), words, whole=whole)
    item = convert_to_id([located[published.item]], shop.events.null_item_values, whole=whole)
    select = {
        "session": convert_to_id(_locate_parts(published.session, located), words, whole=whole),
        "customer": f"nullif({customer}, {quote_text(published.unknown)})",
        "item": f"nullif({item}, {quote_text(published.no_item)})",
        "sequence": NO_SEQUENCE,
        **times,
    }
    if source.type is None and published.type_column:
        select["type"] = convert_to_id([located[published.type_column]], words)
    else:
        select["type"] = quote_text(published.type if source.type is None else source.type)
    names = {"item": published.item, "session": published.session, "customer": published.customer}
    of_type = published.type_column if source.type is None else None
    holders = {**names, "time": published.time or published.day, "type": of_type}
    return _EventColumns(select, names, holders, time, checks, readings)

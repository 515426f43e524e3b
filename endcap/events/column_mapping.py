"""How a file's columns become a table's columns, and what makes a row bad, as SQL over a batch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from endcap.errors import DataError
from endcap.events.clock import has_clock
from endcap.events.conditions import all_hold, any_holds, condition_checks
from endcap.events.glance import Glanced, milliseconds
from endcap.events.ids import as_id, as_text, id_checks, is_word, nested_checks
from endcap.events.layouts import NESTED, PUBLISHED, PUBLISHED_ITEMS, PublishedItems
from endcap.events.locate import ABSENT, Wanted
from endcap.events.numbers import number, number_checks
from endcap.events.paths import walks_list
from endcap.events.sql import quoted, text
from endcap.events.times import Reading, span_checks, time_checks, time_columns
from endcap.spec.condition import Conditions
from endcap.spec.shop import Customers, EventColumns, EventSource, Items, Shop
from endcap.spec.source import Source

RESERVED = ("reason", "row", "left")
OTHER_TYPES, RETURNS = "other_types", "events.returns"
WITHOUT_ITEM = "without_item"
"""The rule that leaves out rows of a list without an element, and of a log whose rows need not be about an item."""
ACTIVE = (OTHER_TYPES, WITHOUT_ITEM)
"""Rules that leave out what a shopper did all the same."""
TIME, KEPT = "§time", "§kept"
"""Columns of a published item table's rows beside its own: their time (epoch ms), and whether they are of it."""
DAY = "§day"
"""A column of a published log's rows where their time is a day and what passed of it."""


@dataclass(frozen=True)
class Plan:
    """How a batch becomes rows of a table.

    select: each column of the result -> SQL over the batch's columns. checks: in order, (SQL that holds for a bad row,
    reason) over the batch's columns and the result's. leaves: in the same way, what leaves a row out that is not bad,
    and the rule's name; such a row is not checked. about: SQL of the value that a reason is about, over the batch's
    columns. missing: by column of the result, SQL over the batch's that holds where a word for no value was read as
    none. shown: what rules that leave rows out look at, by its name in messages. active: of rows that a rule leaves
    out, whether they are a shopper's activity nonetheless; None: none is. times: how the batch's columns that are times
    are read. words: those that stand for no value in any column of an id.
    """

    select: Mapping[str, str]
    checks: Sequence[tuple[str, str]]
    leaves: Sequence[tuple[str, str]] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    active: str | None = None
    times: Mapping[str, Reading] = field(default_factory=dict)
    words: Sequence[str] = ()

    @property
    def as_they_are(self) -> dict[str, str]:
        """The columns of the result that are columns of the batch, which need no query: their names there."""
        return {name: column.name for name, column in self.select.items() if isinstance(column, Glanced)}

    def sql(self, batch: str) -> str:
        """A query on the table `batch`: the result's other columns, `left` and `reason`, both null for a good row, and
        `active` where there may be such rows."""
        columns = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in self.select.items())
        taken = self.as_they_are
        left, reason = (
            f"CASE {cases} END" if cases else "NULL::VARCHAR"
            for cases in (
                " ".join(f"WHEN {condition} THEN {text(name)}" for condition, name in conditions)
                for conditions in (self.leaves, [('"left" IS NOT NULL', ""), *self.checks])
            )
        )
        # Each in a query of its own: the engine would compute a column anew in each condition that names it.
        computed = f"SELECT *, {columns} FROM {batch}"  # noqa: S608 (all parts are quoted)
        judged = f'SELECT *, {left} AS "left" FROM ({computed})'  # noqa: S608 (as above)
        results = [
            *(quoted(name) for name in self.select if name not in taken),
            '"left"',
            f"nullif({reason}, '') AS reason",
        ]
        if self.active is not None:
            results.append(f"{self.active} AS active")
        return f"SELECT {', '.join(results)} FROM ({judged})"  # noqa: S608 (as above)

    def values_sql(self, batch: str, shown: str, most: int) -> str:
        """A query on the same: the commonest values of one of `shown`, and how many rows have each."""
        rows = f"SELECT {self.shown[shown]} AS value FROM {batch}"  # noqa: S608 (as above)
        return f"SELECT value, count(*) FROM ({rows}) GROUP BY value ORDER BY 2 DESC, 1 LIMIT {most}"  # noqa: S608


def event_columns(shop: Shop, source: EventSource) -> list[Wanted]:
    """The columns that this source must have: none of types where it says itself of which type its events are."""
    # Of several sources perhaps one has orders, and with it what takes them back.
    several = len(shop.events.sources) > 1
    returns = [Wanted(name, RETURNS, optional=several) for name in shop.events.returns]
    if source.layout != "columns":
        published = PUBLISHED[source.layout]
        names = [published.item, published.session, published.time, published.day, published.offset, published.customer]
        names += [published.type_column] if source.type is None else []
        return [*_named_by(source.layout, names), *returns]
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
    words, item_words = shop.events.missing, shop.events.missing_items
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
    checks = _empty_check(select, "item", "item is empty")
    if shop.sessions.by == "given":
        checks += _empty_check(select, "session", "session is empty, and sessions.by is 'given'")
    checks += [*itertools.chain(*nested.values(), *ids.values()), *times]
    about = {reason: select[name] for name, its in ids.items() for _, reason in its}
    about |= {reason: time for _, reason in times}
    more, looked_at = _checks_of(_returns(shop, located), located, words, decimal)
    checks, about = [*checks, *more], about | looked_at
    leaves, values = _event_leaves(shop, source, located, select["type"], decimal)
    active = _active([*nested["customer"], *ids["customer"], *times]) if _may_be_active(shop, leaves) else None
    missing = {name: condition for name, condition in missing.items() if condition != "false"}
    return Plan(select, checks, leaves, about, missing, values, active, columns.readings, [*words, *item_words])


def _empty_check(select: Mapping[str, str], name: str, reason: str) -> list[tuple[str, str]]:
    column = select[name]
    return [] if isinstance(column, Glanced) and column.whole else [(f"{name} IS NULL", reason)]


def _event_leaves(
    shop: Shop, source: EventSource, located: Mapping[str, str], of_type: str, decimal: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """What leaves events out, as of `Plan.leaves`, and what these rules look at."""
    leaves: list[tuple[str, str]] = []
    values: dict[str, str] = {}
    returns = _returns(shop, located)
    if returns:
        leaves.append((any_holds(returns, located, shop.events.missing, decimal), "returns"))
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


def where_columns(source: Source, key: str) -> list[Wanted]:
    """The columns that a source's own conditions are about. key: where the shop's file has the source."""
    return [Wanted(name, f"{key}.where") for name in source.where]


def with_where(plan: Plan, source: Source, located: Mapping[str, str], missing: Sequence[str], decimal: str) -> Plan:
    """The plan that leaves out the rows which do not fit the source's own conditions.

    missing: words for no value; decimal: the mark of fractions.
    """
    if not source.where:
        return plan
    fits = all_hold(source.where, located, missing, decimal)
    values = {name: located[name] for name in source.where}
    more, looked_at = _checks_of(source.where, located, missing, decimal)
    return replace(
        plan,
        checks=[*plan.checks, *more],
        about={**plan.about, **looked_at},
        leaves=[(f"NOT ({fits})", "where"), *plan.leaves],
        shown={**values, **plan.shown},
    )


def _checks_of(
    conditions: Conditions, located: Mapping[str, str], missing: Sequence[str], decimal: str
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The checks that conditions need, and the values that their reasons are about, as of `Plan`."""
    named = condition_checks(conditions, located, missing, decimal)
    about = {reason: located[name] for name, checks in named.items() for _, reason in checks}
    return list(itertools.chain(*named.values())), about


def table_columns(table: Items | Customers) -> list[Wanted]:
    """The columns that the sources of an item or customer table must have."""
    kind, published = table_kind(table), published_items(table)
    if published is None or isinstance(table, Customers):
        columns = table.columns.model_dump()
        named = [Wanted(name, f"{kind}s.columns.{key}", key == kind) for key, name in columns.items() if name]
    else:
        names = [published.item, published.title, *published.category, *published.flags, published.price]
        names += [published.time, published.only and published.only[0]]
        named = _named_by(table.sources[0].layout, names, published.aliases)
        if table.sources[0].layout in NESTED:
            named = [replace(column, optional=column.name != published.item) for column in named]
    return [
        *named,
        *(Wanted(name, f"{kind}s.categorical") for name in table.categorical),
        *(Wanted(name, f"{kind}s.numeric") for name in table.numeric),
    ]


def table_plan(
    table: Items | Customers,
    zone: bool,
    located: Mapping[str, str],
    instants: frozenset[str],
    decimal: str,
    *,
    whole: bool,
) -> Plan:
    """The plan of an item or customer table: its id first, then attributes by their own names.

    zone: whether local times are of another zone than UTC; whole: as of `as_id`; the rest as of `event_plan`. A
    published item table has the columns TIME and KEPT too where its layout needs them.
    """
    kind, published = table_kind(table), published_items(table)
    numbers = {name: name for name in table.numeric}
    if published is None:
        columns = {key: name for key, name in table.columns.model_dump().items() if name}
        price = columns.pop("price", None)
        texts = {
            key: as_id([located[name]], whole=whole) if key == kind else as_text(located[name])
            for key, name in columns.items()
        }
    else:
        texts, price = _published_texts(published, located, whole), published.price
    numbers |= {"price": price} if price else {}
    select = texts | {name: as_text(located[name]) for name in table.categorical}
    select |= {key: number(located[name], decimal) for key, name in numbers.items()}
    names = [name.casefold() for name in (*texts, *table.categorical, *numbers)]
    twice = sorted({name for name in names if names.count(name) > 1 or name in RESERVED})
    if twice:
        raise DataError(
            f"the {kind} table's columns {twice} are named twice, or are names that Endcap uses itself ({RESERVED}); "
            f"change {kind}s.columns, {kind}s.categorical or {kind}s.numeric",
            code="events.columns-clash",
            table=kind,
            columns=twice,
            reserved=list(RESERVED),
        )
    key = published.item if published is not None else getattr(table.columns, kind)
    checks = [*_empty_check(texts, kind, f"{kind} is empty"), *nested_checks(kind, [key], located)]
    spoilt = id_checks(kind, [located[key]], whole=whole)
    checks += spoilt
    about = {reason: texts[kind] for _, reason in spoilt}
    leaves = [(f"{kind} IS NULL", WITHOUT_ITEM)] if kind == "item" and walks_list(key) else []
    for key, name in numbers.items():
        wrong = f"NOT coalesce(isfinite({quoted(key)}), false) AND trim({located[name]}) <> ''"
        wrongs = number_checks(located[name], wrong, name, decimal)
        checks += wrongs
        about |= {reason: located[name] for _, reason in wrongs}
    readings: dict[str, Reading] = {}
    if published is not None and published.time:
        time, unit = located[published.time], "iso" if published.time in instants else published.unit
        reading = Reading(unit, (), zone, decimal)
        readings[time] = reading
        select |= time_columns(time, reading, TIME)
        wrongs = time_checks(time, reading, TIME)
        checks += wrongs
        about |= {reason: time for _, reason in wrongs}
    if published is not None and published.only:
        column, value = published.only
        select[KEPT] = f"coalesce({located[column]} = {text(value)}, false)"
    return Plan(select, checks, leaves, about, times=readings)


def list_columns(column: str, key: str) -> list[Wanted]:
    """The column that a list of items must have. key: where the shop's file names it."""
    return [Wanted(column, key, required=True)]


def list_plan(column: str, located: Mapping[str, str], instants: frozenset[str], decimal: str, *, whole: bool) -> Plan:
    """The plan of a list of items: their ids alone, as `item`. whole: as of `as_id`."""
    item, spoilt = as_id([located[column]], whole=whole), id_checks("item", [located[column]], whole=whole)
    checks = [*_empty_check({"item": item}, "item", "item is empty"), *nested_checks("item", [column], located)]
    return Plan({"item": item}, [*checks, *spoilt], about={reason: item for _, reason in spoilt})


def published_items(table: Items | Customers) -> PublishedItems | None:
    """The published layout of an item table, or None: its columns are named by the shop."""
    return PUBLISHED_ITEMS.get(table.sources[0].layout) if isinstance(table, Items) else None


def table_kind(table: Items | Customers) -> str:
    """`item` or `customer`: what a row of the table is, and the name of its id."""
    return "item" if isinstance(table, Items) else "customer"


def _named_by(
    layout: str, names: Sequence[str | None], aliases: Mapping[str, Sequence[str]] | None = None
) -> list[Wanted]:
    known = aliases or {}
    return [Wanted(name, f"the layout {layout}", required=True, aliases=known.get(name, ())) for name in names if name]


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
    columns, rule, words = shop.events.columns, shop.events.time, shop.events.missing
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
        "item": as_id([located[columns.item]], shop.events.missing_items, whole=whole),
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
    published, words = PUBLISHED[source.layout], shop.events.missing
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
    item = as_id([located[published.item]], shop.events.missing_items, whole=whole)
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


def _published_texts(published: PublishedItems, located: Mapping[str, str], whole: bool) -> dict[str, str]:
    select = {"item": f"nullif({as_id([located[published.item]], whole=whole)}, {text(published.no_item)})"}
    if published.title:
        select["title"] = as_text(located[published.title])
    if published.flags:
        words = ", ".join(f"CASE WHEN {located[name]} = '1' THEN {text(name)} END" for name in published.flags)
        return select | {"category": f"nullif(concat_ws('|', {words}), '')"}
    return select | {"category": f"coalesce({', '.join(as_text(located[name]) for name in published.category)})"}

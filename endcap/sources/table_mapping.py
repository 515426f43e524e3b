"""How a file's columns become those of an item or customer table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from endcap.errors import DataError
from endcap.sources.column_mapping import KEPT, TIME, WITHOUT_ITEM, Plan, empty_check, named_by
from endcap.sources.formats.paths import walks_list
from endcap.sources.layouts import NESTED, PUBLISHED_ITEMS, PublishedItems
from endcap.sources.locate import Wanted
from endcap.sources.sql import quoted, text
from endcap.sources.values.ids import as_id, as_text, id_checks, nested_checks
from endcap.sources.values.numbers import number, number_checks
from endcap.sources.values.times import Reading, time_checks, time_columns
from endcap.spec.shop import Customers, Items

RESERVED = ("reason", "row", "left")


def table_columns(table: Items | Customers) -> list[Wanted]:
    """The columns that the sources of an item or customer table must have."""
    kind, published = table_kind(table), published_items(table)
    if published is None or isinstance(table, Customers):
        columns = table.columns.model_dump()
        named = [Wanted(name, f"{kind}s.columns.{key}", key == kind) for key, name in columns.items() if name]
    else:
        names = [published.item, published.title, *published.category, *published.flags, published.price]
        names += [published.time, published.only and published.only[0]]
        named = named_by(table.sources[0].layout, names, published.aliases)
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
    checks = [*empty_check(texts, kind, f"{kind} is empty"), *nested_checks(kind, [key], located)]
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


def published_items(table: Items | Customers) -> PublishedItems | None:
    """The published layout of an item table, or None: its columns are named by the shop."""
    return PUBLISHED_ITEMS.get(table.sources[0].layout) if isinstance(table, Items) else None


def table_kind(table: Items | Customers) -> str:
    """`item` or `customer`: what a row of the table is, and the name of its id."""
    return "item" if isinstance(table, Items) else "customer"


def _published_texts(published: PublishedItems, located: Mapping[str, str], whole: bool) -> dict[str, str]:
    select = {"item": f"nullif({as_id([located[published.item]], whole=whole)}, {text(published.no_item)})"}
    if published.title:
        select["title"] = as_text(located[published.title])
    if published.flags:
        words = ", ".join(f"CASE WHEN {located[name]} = '1' THEN {text(name)} END" for name in published.flags)
        return select | {"category": f"nullif(concat_ws('|', {words}), '')"}
    return select | {"category": f"coalesce({', '.join(as_text(located[name]) for name in published.category)})"}

"""The mapping from a file's columns to those of an item or customer table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from endcap.errors import DataError
from endcap.sources.column_mapping import KEPT, TIME, WITHOUT_ITEM, ColumnMapping, check_empty, list_layout_columns
from endcap.sources.formats.paths import has_list_step
from endcap.sources.layouts import ITEM_LAYOUTS, NESTED_LAYOUTS, ItemTableLayout
from endcap.sources.locate import SourceColumn
from endcap.sources.sql import quote_name, quote_text
from endcap.sources.values.ids import convert_to_id, convert_to_text, list_id_checks, list_nested_checks
from endcap.sources.values.numbers import list_number_checks, parse_number
from endcap.sources.values.times import TimeFormat, list_time_checks, parse_times
from endcap.spec.side_tables import Customers, Items

RESERVED = ("reason", "row", "left")


def list_table_columns(table: Items | Customers) -> list[SourceColumn]:
    """List the columns that the sources of an item or customer table must have."""
    kind, published = get_table_kind(table), get_item_layout(table)
    if published is None or isinstance(table, Customers):
        columns = table.columns.model_dump()
        columns_named = [
            SourceColumn(name, f"{kind}s.columns.{key}", key == kind) for key, name in columns.items() if name
        ]
    else:
        names = [published.item, published.title, *published.category, *published.flags, published.price]
        names += [published.time, published.only and published.only[0]]
        columns_named = list_layout_columns(table.sources[0].layout, names, published.aliases)
        if table.sources[0].layout in NESTED_LAYOUTS:
            columns_named = [replace(column, optional=column.name != published.item) for column in columns_named]
    return [
        *columns_named,
        *(SourceColumn(name, f"{kind}s.categorical") for name in table.categorical),
        *(SourceColumn(name, f"{kind}s.numeric") for name in table.numeric),
    ]


def map_table(
    table: Items | Customers,
    zone: bool,
    located: Mapping[str, str],
    instants: frozenset[str],
    decimal: str,
    *,
    whole: bool,
    exclude: Callable[[str], tuple[str, str]] | None = None,
) -> ColumnMapping:
    """Map a file of an item or customer table: its id first, then attributes by their own names.

    zone: whether local times are of another zone than UTC; whole: as of `as_id`; exclude: for the column of customers,
    SQL of rows to leave out and the rule's name; the rest as of `event_plan`. A published item table has the columns
    TIME and KEPT too where its layout needs them.
    """
    kind, published = get_table_kind(table), get_item_layout(table)
    numbers = {name: name for name in table.numeric}
    if published is None:
        columns = {key: name for key, name in table.columns.model_dump().items() if name}
        price = columns.pop("price", None)
        texts = {
            key: convert_to_id([located[name]], whole=whole) if key == kind else convert_to_text(located[name])
            for key, name in columns.items()
        }
    else:
        texts, price = _map_published_texts(published, located, whole), published.price
    numbers |= {"price": price} if price else {}
    select = texts | {name: convert_to_text(located[name]) for name in table.categorical}
    select |= {key: parse_number(located[name], decimal) for key, name in numbers.items()}
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
    checks = [*check_empty(texts, kind, f"{kind} is empty"), *list_nested_checks(kind, [key], located)]
    id_checks = list_id_checks(kind, [located[key]], whole=whole)
    checks += id_checks
    examined = {reason: texts[kind] for _, reason in id_checks}
    leaves = [(f"{kind} IS NULL", WITHOUT_ITEM)] if kind == "item" and has_list_step(key) else []
    if exclude is not None and kind == "customer":
        leaves.append(exclude(kind))
    for key, name in numbers.items():
        wrong = f"NOT coalesce(isfinite({quote_name(key)}), false) AND trim({located[name]}) <> ''"
        wrongs = list_number_checks(located[name], wrong, name, decimal)
        checks += wrongs
        examined |= {reason: located[name] for _, reason in wrongs}
    readings: dict[str, TimeFormat] = {}
    if published is not None and published.time:
        time, unit = located[published.time], "iso" if published.time in instants else published.unit
        reading = TimeFormat(unit, (), zone, decimal)
        readings[time] = reading
        select |= parse_times(time, reading, TIME)
        wrongs = list_time_checks(time, reading, TIME)
        checks += wrongs
        examined |= {reason: time for _, reason in wrongs}
    if published is not None and published.only:
        column, value = published.only
        select[KEPT] = f"coalesce({located[column]} = {quote_text(value)}, false)"
    return ColumnMapping(select, checks, leaves, examined, times=readings)


def get_item_layout(table: Items | Customers) -> ItemTableLayout | None:
    """Return the published layout of an item table. None: the shop names the columns."""
    return ITEM_LAYOUTS.get(table.sources[0].layout) if isinstance(table, Items) else None


def get_table_kind(table: Items | Customers) -> str:
    """Return `item` or `customer`: the name of the table's id, and of what a row describes."""
    return "item" if isinstance(table, Items) else "customer"


def _map_published_texts(published: ItemTableLayout, located: Mapping[str, str], whole: bool) -> dict[str, str]:
    select = {
        "item": f"nullif({convert_to_id([located[published.item]], whole=whole)}, {quote_text(published.no_item)})"
    }
    if published.title:
        select["title"] = convert_to_text(located[published.title])
    if published.flags:
        words = ", ".join(f"CASE WHEN {located[name]} = '1' THEN {quote_text(name)} END" for name in published.flags)
        return select | {"category": f"nullif(concat_ws('|', {words}), '')"}
    return select | {
        "category": f"coalesce({', '.join(convert_to_text(located[name]) for name in published.category)})"
    }

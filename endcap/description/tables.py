"""A description as tables: the same in a terminal, in a notebook and in the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from statistics import median
from typing import Any

from endcap.description.dataset import LENGTHS, QUANTILES
from endcap.sources.matching import NEAR_DUPLICATES, REASONS
from endcap.tables import format_value

Json = Mapping[str, Any]
_SPREAD = {"min": "least", "lower": "25%", "median": "half", "upper": "75%", "most": "99%", "max": "most"}
DROPPED = {
    "outside_window": "outside the window",
    "without_customer": "without a customer, which sessions by gap need",
    "without_session": "without a session",
    "min_session_events": "filters.min_session_events",
    "min_item_events": "filters.min_item_events",
    "min_customer_events": "filters.min_customer_events",
}
LEFT_OUT = {
    "other_types": "not of events.types",
    "where": "does not fit where",
    "returns": "events.returns",
    "without_item": "about no item",
    "without_customer": "without a customer, which sessions by gap need",
    "forgotten": "of customers who are forgotten",
}
IDENTITY = {
    "shared_sessions": "session ids of several customers",
    "adopted_events": "events that joined their session's only customer",
    "anonymous_events": "events of sessions of several customers that name none",
}


@dataclass(frozen=True)
class DescriptionTable:
    """columns: their names. rows: numbers and texts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def build_tables(description: Json) -> dict[str, DescriptionTable]:
    """Return the tables of a description by their captions, without empty ones."""
    candidates = {
        "The log": DescriptionTable(
            ["what", "value"], [[label, format_value(value)] for label, value in _log_rows(description)]
        ),
        "Files": DescriptionTable(
            ["table", "path", "files", "MB", "left out", "without a row"], list(_file_rows(description["files"]))
        ),
        "Rows": DescriptionTable(
            ["table", "read", "bad", "left out", "repeated", "kept"], list(_row_counts(description["rows"]))
        ),
        "Bad rows": DescriptionTable(
            ["table", "rows", "reason", "example", "where"], list(_bad_rows(description["rows"]))
        ),
        "Rows left out": DescriptionTable(["table", "rows", "why"], list(_left_out_rows(description["rows"]))),
        "Types": DescriptionTable(["type", "events", "share"], list(_type_rows(description["data"]))),
        "Sessions": DescriptionTable(
            ["of a session", "mean", *_SPREAD.values()], list(_quantile_rows(description.get("sessions")))
        ),
        "Sessions by length": DescriptionTable(
            ["events", "sessions", "share"], list(_length_rows(description.get("sessions")))
        ),
        "Filters": DescriptionTable(["what", "events"], list(_filter_rows(description.get("sessions")))),
        "What matches": DescriptionTable(
            ["what", "ids", "without a match", "such as", "likely"], list(_match_rows(description))
        ),
    }
    return {caption: _drop_empty_columns(table) for caption, table in candidates.items() if table.rows}


def _drop_empty_columns(table: DescriptionTable) -> DescriptionTable:
    """Return the table without columns that are empty in all rows."""
    filled = [place for place in range(len(table.columns)) if any(row[place] not in ("", None) for row in table.rows)]
    return DescriptionTable(
        [table.columns[place] for place in filled], [[row[place] for place in filled] for row in table.rows]
    )


def format_time(milliseconds: int | None) -> str:
    """Format a time in epoch ms as UTC, to the second."""
    return "" if milliseconds is None else f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def format_share(part: int, whole: int) -> str:
    """Format a share in percent. A small share is never shown as 0."""
    if not part or not whole:
        return "0%"
    return "<0.1%" if part / whole < 0.001 else f"{part / whole:.1%}"


def _log_rows(description: Json) -> Iterator[tuple[str, Any]]:
    data, sessions = description["data"], description.get("sessions")
    days = data["days"]["events"]
    yield "shop", description["shop"]
    yield "first event", format_time(data["first"])
    yield "last event", format_time(data["last"])
    yield "days", f"{len(days):,}, {days.count(0):,} of them without an event"
    yield "events", data["events"]
    if days:
        yield "events a day", f"{min(days):,} to {max(days):,}, half of the days {median(days):,.0f} or more"
    yield "items", data["items"]["log"]
    if sessions is not None:
        window = sessions["window"]
        start = "the beginning" if window["from"] is None else format_time(window["from"])
        yield "window", f"from {start} to {format_time(window['until'] - 1)}"
        yield "customers", sessions["after"]["customers"]
        if sessions.get("content"):  # datasets of release 0.1.0 lack it
            yield "content digest of the dataset", sessions["content"]
    yield "events without customer", f"{data['anonymous']:,} ({format_share(data['anonymous'], data['events'])})"
    if sessions is not None:
        equal, pairs = sessions["equal_times"], sessions["transitions"]
        yield "neighbours in a session at one time", f"{equal:,} of {pairs:,} ({format_share(equal, pairs)})"
        if "one_moment" in sessions:  # descriptions of release 0.1.0 lack it
            alone, total = sessions["one_moment"], sessions["after"]["sessions"]
            yield "sessions of several events at one time", f"{alone:,} of {total:,} ({format_share(alone, total)})"
        before, single = sessions["before_filters"].get("sessions", 0), sessions["single"]
        if single is not None:
            yield "sessions of one event", f"{single:,} of {before:,} ({format_share(single, before)})"
    yield from ((IDENTITY[name], count) for name, count in description.get("identity", {}).items() if name in IDENTITY)
    times = description.get("times", {})
    if times.get("ambiguous"):
        yield "local times that occur twice", times["ambiguous"]
    if times.get("shifted"):
        yield "local times that do not exist, moved", times["shifted"]
    for column, count in description.get("missing", {}).items():
        yield f"words for nothing as {column}", count
    if description.get("activity"):
        yield "other activity kept", f"{description['activity']['rows']:,} rows"


def _file_rows(sources: Sequence[Json]) -> Iterator[tuple[Any, ...]]:
    for source in sources:
        empty, skipped = (_name_files(source[name]) for name in ("empty", "skipped"))
        yield source["table"], source["path"], source["files"], f"{source['bytes'] / 1e6:,.1f}", skipped, empty


def _name_files(files: Sequence[str]) -> str:
    names = ", ".join(PurePosixPath(name).name for name in files[:5])
    return f"{len(files):,}: {names}{', …' if len(files) > 5 else ''}" if files else ""


def _row_counts(by_table: Json) -> Iterator[tuple[Any, ...]]:
    for name, rows in by_table.items():
        counts = (sum(rows[kind].values()) for kind in ("bad", "left_out"))
        yield (name, rows["read"], *counts, rows["repeated"], rows["good"])


def _bad_rows(by_table: Json) -> Iterator[tuple[Any, ...]]:
    for name, rows in by_table.items():
        for reason, count in _sort_by_count(rows["bad"]):
            example = rows["examples"].get(reason, {})
            place = f"{PurePosixPath(example['source']).name}, line {example['line']:,}" if example else ""
            value = example.get("value")
            yield name, count, reason, "" if value is None else str(value), place


def _left_out_rows(by_table: Json) -> Iterator[tuple[Any, ...]]:
    for name, rows in by_table.items():
        for reason, count in _sort_by_count(rows["left_out"]):
            yield name, count, LEFT_OUT.get(reason, reason)


def _type_rows(data: Json) -> Iterator[tuple[str, int, str]]:
    for name, count in _sort_by_count(data["types"]):
        yield name or "(none)", count, format_share(count, data["events"])
    if data["other_types"]:
        yield "(all others)", data["other_types"], format_share(data["other_types"], data["events"])


def _quantile_rows(sessions: Json | None) -> Iterator[tuple[Any, ...]]:
    for title, name in (("events", "lengths"), ("minutes", "minutes")) if sessions else ():
        if sessions and sessions[name]:
            yield (title, *(f"{sessions[name][quantile]:,.10g}" for quantile in ("mean", *QUANTILES)))


def _length_rows(sessions: Json | None) -> Iterator[tuple[Any, ...]]:
    if sessions is not None:
        bands = sessions["lengths"]["bands"]
        yield from (
            (name, bands[name], format_share(bands[name], sum(bands.values()))) for name in LENGTHS if bands[name]
        )


def _filter_rows(sessions: Json | None) -> Iterator[tuple[Any, ...]]:
    if sessions is not None:
        yield "before the filters", sessions["before_filters"].get("events")
        # A manifest keeps no order.
        names = [name for name in (*DROPPED, *sorted(sessions["dropped"])) if name in sessions["dropped"]]
        for name in dict.fromkeys(names):
            yield f"dropped: {DROPPED.get(name, name)}", sessions["dropped"][name]
        yield "left", sessions["after"]["events"]
        if sessions["test"].get("events"):
            yield "of the test part that was given", sessions["test"]["events"]


def _match_rows(description: Json) -> Iterator[tuple[Any, ...]]:
    items, rules = description["data"]["items"], description.get("rules") or {"attributes": {}}
    if items["table"] is not None:
        share_lost = format_share(items["table"]["events"], description["data"]["events"])
        yield _match_row(
            f"items of the log without a row in the item table ({share_lost} of the events)", items["table"]
        )
        yield _match_row("ids of the item table without an event", items["unused"])
    sessions = description.get("sessions") or {}
    if sessions.get("customer_table"):
        yield _match_row("customers without a row in the customer table", sessions["customer_table"])
    if rules.get("blacklist"):
        yield _match_row("ids of the blacklist that are no item of the log", rules["blacklist"])
    for name, rule in rules["attributes"].items():
        label = f"values of the rule {name} ({rule['attribute']}) that no item has; {rule['items']:,} items have one"
        yield _match_row(label, rule["values"])
    if "stock" in rules:
        yield "items with a stock", rules["items"], rules["items"] - rules["stock"], "", ""
    yield from _alike_rows("items", items["alike"])
    if sessions:
        yield from _alike_rows("customers", sessions["customers_alike"])
    for word, events in _sort_by_count(items["words"]):
        yield f"items named by a word for nothing: {events:,} events", 1, 0, word, ""


def _alike_rows(kind: str, ways: Json) -> Iterator[tuple[Any, ...]]:
    for way, group in ways.items():
        example = " and ".join(map(repr, group["example"]))
        yield f"{kind} that differ from others in {NEAR_DUPLICATES[way][0]} alone", group["ids"], 0, example, ""


def _match_row(label: str, matched: Json) -> tuple[Any, ...]:
    likely = matched["likely"]
    explanation = ""
    if likely is not None:
        explanation = f"{REASONS[likely['reason']][0]}: {' and '.join(likely['example'])}"
    return label, matched["ids"], matched["missing"], ", ".join(matched["examples"]), explanation


def _sort_by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))

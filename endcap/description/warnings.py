"""The warnings of a description: what a person should check, with a name, numbers and a sentence on what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from endcap.events.ingestion import describe_left_out
from endcap.rules.unmatched import find_rule_warnings
from endcap.sources.matching import NEAR_DUPLICATES, describe_likely_reason, has_likely_reason

Json = dict[str, Any]
MANY_WITHOUT_ROW = 0.05
"""The share of events whose items have no row in the item table."""
MANY_EQUAL_TIMES = 0.2
"""The share of neighbouring events of a session at one time."""
MANY_ONE_MOMENT = 0.2
"""The share of sessions of several events at one time."""
MANY_BAD = 0.001
"""The share of bad rows. Fewer are told by the step's line."""
MANY_ANONYMOUS = 0.5
"""The share of events without customer."""
MANY_SINGLE = 0.5
"""The share of sessions of one event."""
MANY_ALIKE = {"blanks": 0.0, "case": 0.01}
"""The share of ids that differ from others in this alone. Capitals may be meant, as in ids of random letters."""
FEW_EVENTS = 20
"""A log of fewer says nothing by its shares."""
_LISTED = 10


def find_warnings(description: Mapping[str, Any]) -> list[Json]:
    """Find the warnings of a description (`endcap.description.describe`), most severe first.

    Each has a `name`, a `text` and its own numbers.
    """
    data, sessions = description["data"], description.get("sessions")
    groups = [
        find_rule_warnings(description["rules"]) if description.get("rules") else [],
        _item_warnings(data),
        _alike_warnings("item", data["items"]["log"], data["items"]["alike"]),
        _file_warnings(description["files"]),
        _row_warnings(description["rows"]),
        _day_warnings(data),
        _anonymity_warnings(data["anonymous"], description["rows"]["events"], description["sessions_by"]),
        [] if sessions is None else _name_warnings(sessions, data),
        []
        if sessions is None
        else _alike_warnings("customer", sessions["after"]["customers"], sessions["customers_alike"]),
        [] if sessions is None else _session_warnings(sessions, day_only=data["day_only"]),
        description.get("identity", {}).get("warnings", []),
    ]
    return [warning for group in groups for warning in group]


def _make_warning(name: str, text: str, **numbers: Any) -> Json:
    return {"name": name, **numbers, "text": text}


def _item_warnings(data: Mapping[str, Any]) -> Iterator[Json]:
    items, events = data["items"], data["events"]
    table, unused = items["table"], items["unused"]
    if table is not None and table["ids"]:
        share = table["events"] / events
        numbers = {**table, "share": share}
        if table["missing"] == table["ids"]:
            reason = describe_likely_reason(table) or describe_likely_reason(unused)
            text = (
                f"no id of the item table is in the log{reason}; items have no titles and no attributes, and rules on "
                "these have no effect. Write the table's ids as the log has them"
            )
            yield _make_warning("item_table_unmatched", text, **numbers)
        elif has_likely_reason(table) or share >= MANY_WITHOUT_ROW:
            text = f"{_count_of(table['missing'], 'item')} of the log ({_format_percent(share)} of the events) "
            text += (
                f"{'has' if table['missing'] == 1 else 'have'} no row in the item table{describe_likely_reason(table)}"
            )
            yield _make_warning("items_without_row", text, **numbers)
    words = items["words"]
    if words:
        names = ", ".join(f"{name!r} ({count:,} events)" for name, count in words.items())
        text = f"items are named like words for nothing: {names}. Name such words in events.null_item_values"
        yield _make_warning("items_named_missing", text, words=words)


def _alike_warnings(kind: str, count: int, ways: Mapping[str, Json]) -> Iterator[Json]:
    """Warn of near duplicates among `count` ids of a kind. ways: the result of `find_near_duplicates`."""
    for way, group in ways.items():
        if group["ids"] > MANY_ALIKE[way] * count:
            first, second = group["example"]
            text = (
                f"{group['ids']:,} of {_count_of(count, kind)} differ from others in {NEAR_DUPLICATES[way][0]} alone, "
                f"such as {first!r} and {second!r}: each counts as a {kind} of its own. If they are the same, write "
                "the ids alike in all files"
            )
            yield _make_warning(f"{kind}s_alike", text, way=way, of=count, **group)


def _name_warnings(sessions: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Json]:
    """Warn of customers and types that the shop names and the log lacks."""
    table = sessions.get("customer_table")
    if table is not None and table["missing"] and (table["missing"] == table["ids"] or has_likely_reason(table)):
        of_all = f"{table['missing']:,} of {_count_of(table['ids'], 'customer')} of the log"
        text = f"{of_all} have no row in the customer table"
        yield _make_warning("customers_without_row", f"{text}{describe_likely_reason(table)}", **table)
    never = sorted(set(sessions["types"] or ()) - set(data["types"]))
    if never and not data["other_types"]:  # rare types are not told apart
        text = f"no event is of the types {', '.join(map(repr, never))} (events.types); are they spelt as in the log?"
        yield _make_warning("types_unmatched", text, types=never)


def _file_warnings(sources: list[Json]) -> Iterator[Json]:
    for source in sources:
        if source["skipped"]:
            text = (
                f"{source['path']}: {describe_left_out(source['skipped'])}. Unpack or convert what belongs to the log"
            )
            yield _make_warning("files_left_out", text, **{name: source[name] for name in ("table", "path", "skipped")})
    empty = [name for source in sources for name in source["empty"]]
    if empty:
        names = ", ".join(PurePosixPath(name).name for name in empty[:_LISTED])
        yield _make_warning("files_empty", f"{_count_of(len(empty), 'file')} without a row: {names}", files=empty)


def _row_warnings(tables: Mapping[str, Json]) -> Iterator[Json]:
    for name, rows in tables.items():
        bad = sum(rows["bad"].values())
        if bad and bad >= MANY_BAD * (rows["good"] + bad):
            reason, count = max(rows["bad"].items(), key=lambda pair: pair[1])
            example = rows["examples"].get(reason, {})
            value = f", such as {example['value']!r} in line {example['line']:,}" if example.get("value") else ""
            text = f"{_count_of(bad, 'row')} of {name} {'is' if bad == 1 else 'are'} bad and set aside; {count:,}: "
            text += f"{reason}{value}"
            yield _make_warning("bad_rows", text, table=name, bad=bad, reasons=rows["bad"])


def _day_warnings(data: Mapping[str, Any]) -> Iterator[Json]:
    days = data["days"]["events"]
    if data["day_only"]:
        text = (
            "all times are midnights: the log knows days, not times. The order of events within a day is that of the "
            "files, and events of one day are one visit at most"
        )
        yield _make_warning("day_only_times", text)
    longest, after = _find_longest_gap(days)
    # A shop that is closed on Sundays, or a log of a few days, has gaps that mean nothing.
    if longest >= 2 and longest < len(days):
        text = f"no event on {longest:,} days in a row, from day {after + 1:,} of the log on: is a file missing?"
        yield _make_warning("days_without_events", text, days=longest, empty=days.count(0))


def _anonymity_warnings(ingested: int, rows: Json, sessions_by: str | None) -> Iterator[Json]:
    """Warn of many events without customer. ingested: their number; if gaps cut sessions, ingest left them out."""
    left_out = rows["left_out"].get("without_customer", 0)
    anonymous, events = ingested + left_out, rows["good"] + left_out
    share = anonymous / events if events else 0.0
    if MANY_ANONYMOUS <= share < 1 and events >= FEW_EVENTS:
        text = f"{_format_percent(share)} of the events name no customer"
        if sessions_by == "gap":
            text += ", and sessions.by is gap: they are in no session"
        yield _make_warning("many_anonymous", text, anonymous=anonymous, share=share, sessions_by=sessions_by)


def _find_longest_gap(days: list[int]) -> tuple[int, int]:
    """Return the most days in a row without an event, and the number of days before them."""
    longest = after = run = 0
    for place, count in enumerate(days):
        run = 0 if count else run + 1
        if run > longest:
            longest, after = run, place + 1 - run
    return longest, after


def _session_warnings(sessions: Mapping[str, Any], *, day_only: bool) -> Iterator[Json]:
    pairs, equal = sessions["transitions"], sessions["equal_times"]
    if not day_only and pairs >= FEW_EVENTS and equal / pairs >= MANY_EQUAL_TIMES:
        text = (
            f"{_format_percent(equal / pairs)} of neighbouring events of a session have the same time, so their order "
            "is that of the files. If events happened in that order, set evaluation.order: file in recommenders. "
            "Otherwise events of one time count as a set"
        )
        yield _make_warning("equal_times", text, equal=equal, transitions=pairs, share=equal / pairs)
    total, alone = sessions["after"]["sessions"], sessions["one_moment"]
    if pairs >= FEW_EVENTS and alone / total >= MANY_ONE_MOMENT:
        text = (
            f"{_format_percent(alone / total)} of {total:,} sessions have one time for all their events, so no event "
            "comes next. If they are baskets, set evaluation.protocol: basket in recommenders"
        )
        yield _make_warning("one_moment_sessions", text, one_moment=alone, sessions=total, share=alone / total)
    before, single = sessions["before_filters"].get("sessions", 0), sessions["single"]
    if single is not None and before >= FEW_EVENTS and single / before >= MANY_SINGLE:
        text = (
            f"{_format_percent(single / before)} of {before:,} sessions have one event, from which no model learns "
            "what comes next. Check the session column, or join events by sessions: {by: gap}"
        )
        yield _make_warning("single_sessions", text, single=single, sessions=before, share=single / before)


def _count_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _format_percent(share: float) -> str:
    """Never 0 % of something."""
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"

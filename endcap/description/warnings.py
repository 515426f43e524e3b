"""What of a description a person should look at: each with a name, its numbers, and a sentence that leads on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from endcap.events.ingestion import left_out_text
from endcap.rules.unmatched import rule_warnings
from endcap.sources.matching import ALIKE, explained, in_words

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


def warnings(description: Mapping[str, Any]) -> list[Json]:
    """The warnings of a description (`endcap.description.describe`), most severe first.

    Each has `name`, `text` and numbers of its own.
    """
    data, sessions = description["data"], description.get("sessions")
    groups = [
        rule_warnings(description["rules"]) if description.get("rules") else [],
        _items(data),
        _alike("item", data["items"]["log"], data["items"]["alike"]),
        _files(description["files"]),
        _rows(description["rows"]),
        _days(data),
        _anonymous(data["anonymous"], description["rows"]["events"], description["sessions_by"]),
        [] if sessions is None else _names(sessions, data),
        [] if sessions is None else _alike("customer", sessions["after"]["customers"], sessions["customers_alike"]),
        [] if sessions is None else _sessions(sessions, day_only=data["day_only"]),
        description.get("identity", {}).get("warnings", []),
    ]
    return [warning for group in groups for warning in group]


def _warning(name: str, text: str, **numbers: Any) -> Json:
    return {"name": name, **numbers, "text": text}


def _items(data: Mapping[str, Any]) -> Iterator[Json]:
    items, events = data["items"], data["events"]
    table, unused = items["table"], items["unused"]
    if table is not None and table["ids"]:
        share = table["events"] / events
        numbers = {**table, "share": share}
        if table["missing"] == table["ids"]:
            text = (
                f"no id of the item table is in the log{in_words(table) or in_words(unused)}; items have no titles and "
                "no attributes, and rules on these have no effect. Write the table's ids as the log has them"
            )
            yield _warning("item_table_unmatched", text, **numbers)
        elif explained(table) or share >= MANY_WITHOUT_ROW:
            text = f"{_counted(table['missing'], 'item')} of the log ({_percent(share)} of the events) "
            text += f"{'has' if table['missing'] == 1 else 'have'} no row in the item table{in_words(table)}"
            yield _warning("items_without_row", text, **numbers)
    words = items["words"]
    if words:
        names = ", ".join(f"{name!r} ({count:,} events)" for name, count in words.items())
        text = f"items are named like words for nothing: {names}. Name such words in events.null_item_values"
        yield _warning("items_named_missing", text, words=words)


def _alike(kind: str, count: int, ways: Mapping[str, Json]) -> Iterator[Json]:
    """kind: what the ids name, of which there are `count`. ways: as of `endcap.sources.matching.alike`."""
    for way, same in ways.items():
        if same["ids"] > MANY_ALIKE[way] * count:
            first, second = same["example"]
            text = (
                f"{same['ids']:,} of {_counted(count, kind)} differ from others in {ALIKE[way][0]} alone, such as "
                f"{first!r} and {second!r}: each counts as a {kind} of its own. If they are the same, write the ids "
                "alike in all files"
            )
            yield _warning(f"{kind}s_alike", text, way=way, of=count, **same)


def _names(sessions: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[Json]:
    """Customers and types that the shop names, and the log does not."""
    table = sessions.get("customer_table")
    if table is not None and table["missing"] and (table["missing"] == table["ids"] or explained(table)):
        text = (
            f"{table['missing']:,} of {_counted(table['ids'], 'customer')} of the log have no row in the customer table"
        )
        yield _warning("customers_without_row", f"{text}{in_words(table)}", **table)
    never = sorted(set(sessions["types"] or ()) - set(data["types"]))
    if never and not data["other_types"]:  # rare types are not told apart
        text = f"no event is of the types {', '.join(map(repr, never))} (events.types); are they spelt as in the log?"
        yield _warning("types_unmatched", text, types=never)


def _files(sources: list[Json]) -> Iterator[Json]:
    for source in sources:
        if source["skipped"]:
            text = f"{source['path']}: {left_out_text(source['skipped'])}. Unpack or convert what belongs to the log"
            yield _warning("files_left_out", text, **{name: source[name] for name in ("table", "path", "skipped")})
    empty = [name for source in sources for name in source["empty"]]
    if empty:
        shown = ", ".join(PurePosixPath(name).name for name in empty[:_LISTED])
        yield _warning("files_empty", f"{_counted(len(empty), 'file')} without a row: {shown}", files=empty)


def _rows(tables: Mapping[str, Json]) -> Iterator[Json]:
    for name, rows in tables.items():
        bad = sum(rows["bad"].values())
        if bad and bad >= MANY_BAD * (rows["good"] + bad):
            reason, count = max(rows["bad"].items(), key=lambda pair: pair[1])
            example = rows["examples"].get(reason, {})
            value = f", such as {example['value']!r} in line {example['line']:,}" if example.get("value") else ""
            text = f"{_counted(bad, 'row')} of {name} {'is' if bad == 1 else 'are'} bad and set aside; {count:,}: "
            text += f"{reason}{value}"
            yield _warning("bad_rows", text, table=name, bad=bad, reasons=rows["bad"])


def _days(data: Mapping[str, Any]) -> Iterator[Json]:
    days = data["days"]["events"]
    if data["day_only"]:
        text = (
            "all times are midnights: the log knows days, not times. The order of events within a day is that of the "
            "files, and events of one day are one visit at most"
        )
        yield _warning("day_only_times", text)
    longest, after = _longest_gap(days)
    # A shop that is closed on Sundays, or a log of a few days, has gaps that mean nothing.
    if longest >= 2 and longest < len(days):
        text = f"no event on {longest:,} days in a row, from day {after + 1:,} of the log on: is a file missing?"
        yield _warning("days_without_events", text, days=longest, empty=days.count(0))


def _anonymous(kept: int, rows: Json, sessions_by: str | None) -> Iterator[Json]:
    """kept: events without customer. Where sessions are cut by gap, ingest left such rows out."""
    left_out = rows["left_out"].get("without_customer", 0)
    anonymous, events = kept + left_out, rows["good"] + left_out
    share = anonymous / events if events else 0.0
    if MANY_ANONYMOUS <= share < 1 and events >= FEW_EVENTS:
        text = f"{_percent(share)} of the events name no customer"
        if sessions_by == "gap":
            text += ", and sessions.by is gap: they are in no session"
        yield _warning("many_anonymous", text, anonymous=anonymous, share=share, sessions_by=sessions_by)


def _longest_gap(days: list[int]) -> tuple[int, int]:
    """The most days in a row without an event, and how many days lie before them."""
    longest = after = run = 0
    for place, count in enumerate(days):
        run = 0 if count else run + 1
        if run > longest:
            longest, after = run, place + 1 - run
    return longest, after


def _sessions(sessions: Mapping[str, Any], *, day_only: bool) -> Iterator[Json]:
    pairs, equal = sessions["transitions"], sessions["equal_times"]
    if not day_only and pairs >= FEW_EVENTS and equal / pairs >= MANY_EQUAL_TIMES:
        text = (
            f"{_percent(equal / pairs)} of neighbouring events of a session have the same time; their order is that of "
            "the files. Is it the order in which they happened? If so, recommenders may have evaluation.order: file; "
            "else what comes next is a set"
        )
        yield _warning("equal_times", text, equal=equal, transitions=pairs, share=equal / pairs)
    total, alone = sessions["after"]["sessions"], sessions["one_moment"]
    if pairs >= FEW_EVENTS and alone / total >= MANY_ONE_MOMENT:
        text = (
            f"{_percent(alone / total)} of {total:,} sessions have one time for all their events: nothing comes next "
            "in them. Are they baskets? Then set evaluation.protocol: basket in recommenders"
        )
        yield _warning("one_moment_sessions", text, one_moment=alone, sessions=total, share=alone / total)
    before, single = sessions["before_filters"].get("sessions", 0), sessions["single"]
    if single is not None and before >= FEW_EVENTS and single / before >= MANY_SINGLE:
        text = (
            f"{_percent(single / before)} of {before:,} sessions have one event, of which no model learns what comes "
            "next. Is the session column right, or would sessions: {by: gap} join them?"
        )
        yield _warning("single_sessions", text, single=single, sessions=before, share=single / before)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    """Never 0 % of something."""
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"

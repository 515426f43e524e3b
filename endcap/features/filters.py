"""Filters drop short sessions, rare items and rare customers, in rounds, until no more fall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import ibis
import ibis.expr.types as ir

from endcap.features.engines.table_engine import TableEngine
from endcap.features.keyed_log import KeyedLog
from endcap.spec.sessions import Filters

_LONG_UNION = 8
"""Longer unions are computed once: a plan of many tables takes long to make."""


@dataclass(frozen=True)
class FilteredLog:
    """The log that is left, the events that fell to each filter, and the number of rounds."""

    log: KeyedLog
    dropped: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 0


def apply_filters(engine: TableEngine, log: KeyedLog, filters: Filters) -> FilteredLog:
    """Apply the filters until all hold at once.

    Notes
    -----
    The largest set of events on which all filters hold is the same in whatever order they are applied. So a round
    applies all filters at once, and counts only what it took. The dropped events are few, so reading them in place of
    those that stay makes a round cheap.
    """
    minimums = {
        "session": filters.min_session_events,
        "item": filters.min_item_events,
        "customer": filters.min_customer_events,
    }
    minimums = {name: minimum for name, minimum in minimums.items() if minimum > 1}
    if not minimums:
        return FilteredLog(log)
    gone: ir.Table | None = None
    before: ir.Table | None = None
    lost_by_round: list[ir.Table] = []
    rare_by_round: list[ir.Table] = []
    rounds = 0
    rare = engine.keep(_find_rare({name: getattr(log, f"{name}s") for name in minimums}, minimums))
    while engine.count(rare):
        lost = engine.keep(_find_lost(log.events, minimums, rare, before))
        gone, before = _add(engine, lost_by_round, lost), _add(engine, rare_by_round, rare)
        rare = engine.keep(_find_rare({name: _count_remaining(log, name, gone, lost) for name in minimums}, minimums))
        rounds += 1
    dropped = {f"min_{name}_events": 0 for name in minimums}
    if gone is None or before is None:
        return FilteredLog(log, dropped, rounds)
    for row in gone.group_by("by").aggregate(events=gone.count()).to_pyarrow().to_pylist():
        dropped[f"min_{row['by']}_events"] = row["events"]
    return FilteredLog(_remove_gone(engine, log, gone, before), dropped, rounds)


def _add(engine: TableEngine, rounds: list[ir.Table], table: ir.Table) -> ir.Table:
    """Add a round's table to those before, and return the union of all."""
    rounds.append(table)
    if len(rounds) > _LONG_UNION:
        rounds[:] = [engine.keep(ibis.union(*rounds))]
    return ibis.union(*rounds)


def _find_rare(tables: Mapping[str, ir.Table], minimums: Mapping[str, int]) -> ir.Table:
    """Find keys with too few events left, with their kind (`by`)."""
    # A key that has lost all of its events has nothing more to lose.
    few = {name: table.filter(table.events > 0, table.events < minimums[name]) for name, table in tables.items()}
    return ibis.union(*[table.select("key", by=ibis.literal(name)) for name, table in few.items()])


def _count_remaining(log: KeyedLog, name: str, gone: ir.Table, lost: ir.Table) -> ir.Table:
    """Count the events left for the keys of a kind that lost events in the last round."""
    of_them = gone.filter(gone[name].isin(lost[name]))
    losses = of_them.group_by(key=of_them[name]).aggregate(lost=of_them.count())
    table: ir.Table = getattr(log, f"{name}s")
    joined = table.select("key", "events").join(losses, "key")
    return joined.mutate(events=joined.events - joined.lost)


def _find_lost(events: ir.Table, minimums: Mapping[str, int], rare: ir.Table, before: ir.Table | None) -> ir.Table:
    """Find the events of rare keys that are new in this round, each with the first filter that takes it (`by`).

    Events have no number. Those that are gone have a key that was rare `before`.
    """
    hits = [(events[name].isin(rare.filter(rare.by == name).key), name) for name in minimums]
    marked = events.mutate(by=ibis.cases(*hits))
    lost = marked.filter(marked.by.notnull()).select("session", "item", "customer", "by")
    return lost if before is None else _leave_out(lost, before, minimums)


def _leave_out(events: ir.Table, rare: ir.Table, names: Iterable[str]) -> ir.Table:
    """Return the events without those that have a rare key of these kinds."""
    for name in names:
        events = events.anti_join(rare.filter(rare.by == name).select(**{name: "key"}), name)
    return events


def _subtract_gone(table: ir.Table, gone: ir.Table, name: str) -> ir.Table:
    """Subtract the dropped events from the counts of a kind of key."""
    losses = gone.group_by(key=gone[name]).aggregate(lost=gone.count())
    joined = table.left_join(losses, "key").drop("key_right")
    return joined.mutate(events=joined.events - joined.lost.fill_null(0)).drop("lost")


def _remove_gone(engine: TableEngine, log: KeyedLog, gone: ir.Table, rare: ir.Table) -> KeyedLog:
    """Return the log without the dropped events. Its table of events stays as it is; the other three tables decide.

    `rare` are the keys that took the events, with their kind (`by`).
    """
    sessions, items, customers = (
        left.filter(left.events > 0)
        for left in (
            _subtract_gone(log.sessions, gone, "session"),
            _subtract_gone(log.items, gone, "item"),
            _subtract_gone(log.customers, gone, "customer"),
        )
    )
    # A session that lost events and lives on may begin later or end earlier than it did.
    hurt = engine.keep(gone.group_by(key=gone.session).aggregate(lost=gone.count()))
    touched = hurt.join(log.sessions.select("key", "events"), "key").filter(lambda both: both.events > both.lost)
    inside = log.events.semi_join(touched, log.events.session == touched.key)
    stayed = _leave_out(inside, rare, ("session", "item", "customer"))
    spans = stayed.group_by(key=stayed.session).aggregate(new_start=stayed.time.min(), new_end=stayed.time.max())
    joined = sessions.left_join(spans, "key")
    exact = joined.mutate(start=joined.new_start.coalesce(joined.start), end=joined.new_end.coalesce(joined.end))
    # The sessions are not kept: they are asked once, by who puts them in order.
    exact = exact.select(*sessions.columns)
    return replace(log, sessions=exact, items=engine.keep(items), customers=engine.keep(customers))

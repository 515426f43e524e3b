"""From a snapshot to an immutable dataset version, shared by all recommenders of a shop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from endcap.errors import DataError, Problem, SpecError
from endcap.features.declare import KINDS, column
from endcap.features.engine import Engine, open_engine
from endcap.features.filters import Filtered, to_fixed_point
from endcap.features.log import MILLISECOND, CollisionError, Log, by_gap, check_keys, given
from endcap.spec.base import format_duration
from endcap.spec.shop import EventFeature, Shop
from endcap.store import Store, code_fingerprint, fingerprint

Json = dict[str, Any]
Progress = Callable[[str], None]
CODE = [f"endcap.features.{module}" for module in ("dataset", "declare", "engine", "filters", "log")]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SALTS = ("", "1", "2", "3")
RESERVED = {
    "features.events": {"session", "item", "customer", "time"},
    "items": {"events", "first_seen"},
    "customers": {"events"},
}


def build(
    shop: Shop, snapshot: str, store: Store, *, until: datetime | None = None, progress: Progress = lambda line: None
) -> str:
    """Make the dataset of a snapshot, or find it. Returns its address.

    until: the logical date (UTC where it names no zone): events before it count, and of those not older than the
    shop's window; None: just after the snapshot's last event. Events outside are cut first, and sessions are made of
    what is left. Events of `part: test` become sessions of their own; no filter takes them, nor the window's start.
    Raises DataError where no events are left, SpecError where names of the shop's columns are taken.
    """
    _refuse_reserved_names(shop)
    kind = f"datasets/{shop.name}"
    used = shop.model_dump(mode="json", include={"name", "sessions", "filters", "window", "features"})
    end = None if until is None else _milliseconds(until)
    key = fingerprint("/".join(snapshot.split("/")[-3:]), used, end, code_fingerprint(*CODE))
    found = store.find(kind, key)
    if found is not None:
        return found
    folder = store.fetch(snapshot)
    spill = store.workspace(kind, key)
    try:
        with store.publish(kind, key) as draft, open_engine(spill) as engine:
            facts = _write(engine, shop, folder, draft.path, end, progress)
            draft.facts |= {
                "snapshot": snapshot,
                "shop": shop.name,
                "event_types": shop.events.types,
                "fingerprint": key,
                **facts,
            }
    finally:
        store.discard_workspace(kind, key)
    return draft.address


def _refuse_reserved_names(shop: Shop) -> None:
    tables = {"items": shop.items, "customers": shop.customers}
    named = {key: [*table.categorical, *table.numeric] for key, table in tables.items() if table is not None}
    named["features.events"] = [feature.name for feature in shop.features.events]
    problems = [
        Problem(f"shop {shop.name}", key, repr(name), f"names other than {', '.join(sorted(RESERVED[key]))}")
        for key, names in named.items()
        for name in names
        if name in RESERVED[key]
    ]
    if problems:
        raise SpecError(problems)


def _milliseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MILLISECOND


def _write(engine: Engine, shop: Shop, snapshot: Path, out: Path, end: int | None, progress: Progress) -> Json:
    for salt in SALTS:
        try:
            return _write_salted(engine, shop, snapshot, out, end, progress, salt)
        except CollisionError:
            progress("two ids share a hash; hashing anew")
    raise AssertionError("ids collide under every salt: the engine's hash is broken")


def _write_salted(
    engine: Engine, shop: Shop, snapshot: Path, out: Path, end: int | None, progress: Progress, salt: str
) -> Json:
    cut = _cut(engine, shop, snapshot, end)
    progress("reading ids and making sessions")
    log, test = (_log(engine, shop, rows, salt) for rows in (cut.train, cut.test))
    before, tested = _sizes(engine, log), _sizes(engine, test)
    progress("filtering")
    filtered = to_fixed_point(engine, log, shop.filters)
    after = _sizes(engine, filtered.log)
    if not after["events"]:
        raise DataError(_nothing_left(shop, cut, filtered))
    progress("writing events, sessions, items and customers")
    items, customers = _index(engine, filtered.log, test)
    features = shop.features.events
    for part, name in ((filtered.log, ""), (test, "test_")):
        _write_part(engine, part, items, customers, features, out, name)
    _write_catalogue(engine, items, "item", ("events", "first_seen"), snapshot / "items.parquet", out / "items.parquet")
    _write_catalogue(
        engine, customers, "customer", ("events",), snapshot / "customers.parquet", out / "customers.parquet"
    )
    declarations = [feature.model_dump(mode="json") for feature in features]
    (out / "features.json").write_text(json.dumps(declarations, indent=1) + "\n")
    return {
        "until": cut.end,
        "from": cut.start,
        "events": after["events"],
        "sessions": after["sessions"],
        "items": after["items"],
        "customers": after["customers"],
        "test": tested,
        "dropped": {**cut.dropped, **filtered.dropped},
        "before_filters": before,
        "rounds": filtered.rounds,
        "features": declarations,
    }


@dataclass(frozen=True)
class _Cut:
    """Rows of the window. start, end: epoch ms, [start, end). dropped: train rows left out, by reason."""

    train: ir.Table
    test: ir.Table
    start: int | None
    end: int
    rows: int
    dropped: Mapping[str, int]


def _cut(engine: Engine, shop: Shop, snapshot: Path, end: int | None) -> _Cut:
    files = sorted((snapshot / "events").glob("*/*.parquet"))
    rows = engine.read(files) if files else None
    if rows is None or not engine.count(rows):
        raise DataError(f"the snapshot {snapshot.name} of shop {shop.name!r} holds no events; ingest some first")
    needed = "customer" if shop.sessions.by == "gap" else "session"
    about = rows.aggregate(
        last=rows.time.max(),
        first=rows.time.min(),
        test=(rows.part == "test").sum(),
        unnamed=rows[needed].isnull().sum(),
    )
    known = about.to_pyarrow().to_pylist()[0]
    end = known["last"] + 1 if end is None else end
    start = None if shop.window is None else end - shop.window // MILLISECOND
    # A condition costs a column in each of several passes over the log: only those that take something are asked.
    both = rows if known["last"] < end else rows.filter(rows.time < end)
    train = both if not known["test"] else both.filter(both.part == "train")
    test = both.filter(both.part == "test") if known["test"] else both.limit(0)
    total = engine.count(rows.filter(rows.part == "train") if known["test"] else rows)
    train = train if start is None or known["first"] >= start else train.filter(train.time >= start)
    dropped = {"outside_window": total - engine.count(train), f"without_{needed}": 0}
    if known["unnamed"]:
        dropped[f"without_{needed}"] = engine.count(train.filter(train[needed].isnull()))
        train, test = (part.filter(part[needed].notnull()) for part in (train, test))
    return _Cut(train, test, start, end, total, dropped)


def _log(engine: Engine, shop: Shop, rows: ir.Table, salt: str) -> Log:
    if shop.sessions.by == "gap":
        return by_gap(engine, rows, shop.sessions.gap, salt)
    return given(engine, rows, salt)


def _sizes(engine: Engine, log: Log) -> dict[str, int]:
    sizes = {name: engine.count(getattr(log, name)) for name in ("sessions", "items", "customers")}
    return {"events": int(log.sessions.events.sum().fill_null(0).execute()), **sizes}


def _nothing_left(shop: Shop, cut: _Cut, filtered: Filtered) -> str:
    reasons = {
        "outside_window": f"lie outside the window ({_span(cut)}): widen `window`, or choose another date",
        "without_customer": "name no customer, which `sessions: {by: gap}` needs",
        "without_session": "name no session, which `sessions: {by: given}` needs",
        "min_session_events": f"fell to filters.min_session_events: {shop.filters.min_session_events}",
        "min_item_events": f"fell to filters.min_item_events: {shop.filters.min_item_events}",
        "min_customer_events": f"fell to filters.min_customer_events: {shop.filters.min_customer_events}",
    }
    counts = {**cut.dropped, **filtered.dropped}
    told = "; ".join(f"{count:,} {reasons[name]}" for name, count in counts.items() if count)
    return f"shop {shop.name!r}: none of {cut.rows:,} training events is left. {told or 'There were none'}"


def _span(cut: _Cut) -> str:
    start, end = (
        None if moment is None else (EPOCH + timedelta(milliseconds=moment)).isoformat(timespec="seconds")
        for moment in (cut.start, cut.end)
    )
    if cut.start is None:
        return f"before {end}"
    return f"{format_duration((cut.end - cut.start) * MILLISECOND)}, from {start} to before {end}"


def _index(engine: Engine, log: Log, test: Log) -> tuple[ir.Table, ir.Table]:
    """The items and customers of both parts with their number: by events of the training part, then by id."""
    seen = log.items.select("key", "id", "events", "first_seen")
    tested = test.items.select("key", "id", "first_seen").mutate(events=0).select(seen.columns)
    items = seen.union(tested.mutate(events=tested.events.cast("int64"))).group_by("key", "id")
    known = log.customers.select("key", "id", "events")
    others = test.customers.select("key", "id").mutate(events=ibis.literal(0, "int64")).select(known.columns)
    customers = known.union(others).group_by("key", "id")
    tables = (
        items.aggregate(lambda t: t.events.sum().name("events"), lambda t: t.first_seen.min().name("first_seen")),
        customers.aggregate(lambda t: t.events.sum().name("events")),
    )
    numbered = [
        engine.keep(
            table.mutate(
                events=table.events.cast("int64"),
                number=ibis.row_number().over(order_by=[table.events.desc(), table.id]).cast("int32"),
            )
        )
        for table in tables
    ]
    check_keys(engine, *numbered)
    return numbered[0], numbered[1]


def _write_part(
    engine: Engine,
    log: Log,
    items: ir.Table,
    customers: ir.Table,
    features: list[EventFeature],
    out: Path,
    prefix: str,
) -> None:
    """Write events and sessions of a part, and give the memory of its tables back."""
    owners = customers.select(customer="id", owner="number")
    owned = log.sessions.left_join(owners, "customer").order_by("start", log.sessions.id)
    numbered = owned.mutate(session=ibis.row_number())
    sessions = engine.keep(
        numbered.select("key", "session", "id", "start", "end", "events", customer=numbered.owner.fill_null(-1))
    )
    seen = any(KINDS[feature.kind].needs_seen for feature in features)
    events = _ordered(engine, log, sessions, items, customers, seen=seen)
    engine.write(
        sessions.select("session", "id", "customer", "start", "end", "events"), out / f"{prefix}sessions.parquet"
    )
    engine.drop(log.events, log.sessions, sessions)
    if any(KINDS[feature.kind].needs_place for feature in features):
        ordered, events = events, _placed(engine, events)
        engine.drop(ordered)
    columns = {feature.name: column(feature, events) for feature in features}
    session = events.session.cast("int64")
    engine.write(
        events.select("item", "customer", "time", session=session, **columns)[
            ["session", "item", "customer", "time", *columns]
        ],
        out / f"{prefix}events.parquet",
    )
    engine.drop(events)


def _ordered(
    engine: Engine, log: Log, sessions: ir.Table, items: ir.Table, customers: ir.Table, *, seen: bool
) -> ir.Table:
    """The events that are in, in numbers, ordered by session, time and reading order."""
    events = log.events.rename(session_key="session", item_key="item", customer_key="customer")
    known = customers.select(known_key="key", customer="number")
    joined = (
        events.join(sessions.select(session_key="key", session="session"), "session_key")
        .join(items.select(item_key="key", item="number"), "item_key")
        .left_join(known, events.customer_key == known.known_key)
    )
    # An event without a customer stays; one whose customer was filtered out goes.
    kept = joined.filter(joined.customer_key.isnull() | joined.customer.notnull())
    table = kept.select(
        session=kept.session.cast("int32"),
        item=kept.item,
        customer=kept.customer.fill_null(-1),
        time=kept.time,
        row=kept.row,
    )
    if seen:
        same = ibis.window(group_by=["session", "item"], order_by=["time", "row"])
        table = table.mutate(seen=ibis.row_number().over(same))
    return engine.keep(table.order_by("session", "time", "row"))


def _placed(engine: Engine, ordered: ir.Table) -> ir.Table:
    """Ordered events with `position` in the session and `previous`, the time of the event before it or null.

    The table is in order already: running values over neighbouring rows need no second sort, windows would.
    """
    number = ibis.row_number()
    first = (ordered.session != ordered.session.lag()).fill_null(True)
    marked = ordered.mutate(number=number, first=first, before=ordered.time.lag())
    begin = ibis.ifelse(marked.first, marked.number, None).max().over(ibis.cumulative_window())
    previous = ibis.ifelse(marked.first, None, marked.before)
    placed = marked.mutate(position=(marked.number - begin).cast("int32"), previous=previous)
    # Kept, since running values take one thread: what comes after them then has all.
    return engine.keep(placed.drop("number", "first", "before", "row"))


def _write_catalogue(
    engine: Engine, table: ir.Table, name: str, counts: tuple[str, ...], source: Path, file: Path
) -> None:
    """Write items or customers in the order of their numbers, with the attributes that the snapshot has of them."""
    ids = table.select("number", *counts, **{name: "id"})
    attributes: list[str] = []
    if source.is_file():
        known = engine.read([source])
        attributes = [attribute for attribute in known.columns if attribute != name]
        ids = ids.left_join(known, name)
    engine.write(ids.order_by("number").select(name, *counts, *attributes), file)

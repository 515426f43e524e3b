"""Coded days to a dataset's files. It depends on the days and the settings alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from endcap.cpus import read_cpu_limit
from endcap.features.content_digest import combine_digests
from endcap.features.daily.anomalies import find_anomalies
from endcap.features.daily.arrays import Codes, Flags, Ints
from endcap.features.daily.coded_day import CodedDay, CodedOwned, CodedPart
from endcap.features.daily.dictionaries import MergedIds, merge_ids
from endcap.features.daily.event_blocks import EventBlocks
from endcap.features.daily.filtering import DayFilter, LeftSessions
from endcap.features.daily.session_table import SessionNames, list_session_blocks, order_sessions
from endcap.features.daily.sessions_of_days import DaySessions, join_sessions
from endcap.features.daily.tables import (
    NumberedIds,
    build_catalogue,
    build_ownership,
    number_ids,
    write_table,
)
from endcap.features.dataset_files import OWNED_FILE
from endcap.features.split import MILLISECOND
from endcap.spec.settings import FeatureSettings

Json = dict[str, Any]
Progress = Callable[[str], None]
ITEMS, CUSTOMERS = "items.parquet", "customers.parquet"
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class CodedLog:
    """Coded days in order, and what the snapshot has beside them.

    bounds: each day's first moment and that of the next, epoch ms. tables: the folder of `items.parquet` and
    `customers.parquet`. named: whether any row of the snapshot has a customer.
    """

    days: Sequence[CodedDay]
    bounds: Sequence[tuple[int, int]]
    tables: Path
    named: bool


@dataclass(frozen=True)
class _Part:
    """A part of the log before the filters. events: of each known item and customer."""

    parts: list[CodedPart]
    items: list[Codes]
    sessions: DaySessions
    names: SessionNames
    item_events: Ints
    first_seen: Ints
    customer_events: Ints

    def count_sizes(self) -> dict[str, int]:
        return _count_sizes(self.sessions, self.item_events, self.customer_events)


def assemble(snapshot: CodedLog, settings: FeatureSettings, out: Path, progress: Progress) -> Json:
    """Write a dataset's files and return what its facts say of the rows, with their digest as `content`.

    `dropped` has what fell to filters. If no training event is left, nothing is written, and `events` is 0.
    """
    days = snapshot.days
    owned = [day.owned for day in days if day.owned is not None]
    dictionaries: list[CodedPart | CodedOwned] = [*(day.train for day in days), *(day.test for day in days), *owned]
    with ThreadPoolExecutor(2) as threads:
        items, customers = threads.map(
            merge_ids, ([each.items for each in dictionaries], [each.customers for each in dictionaries])
        )
    log, test = (
        _join_part([getattr(day, name) for day in days], number * len(days), items, customers, snapshot, settings)
        for number, name in enumerate(("train", "test"))
    )
    before = log.count_sizes()
    single = int((log.sessions.events == 1).sum())
    warnings = find_anomalies(log.sessions, log.names, log.customer_events)
    progress("filtering")
    left = DayFilter(log.parts, log.items, log.sessions).apply(settings.filters, log.item_events, log.customer_events)
    facts: Json = {"dropped": left.dropped, **_count_sizes(left.sessions, left.items, left.customers)}
    if not facts["events"]:
        return facts
    progress("writing events, sessions, items and customers")
    numbers = _number_ids(log, test, left, items.ids, customers.ids)
    digests: dict[str, dict[str, str]] = {}
    for part, its, prefix in ((log, left, ""), (test, _leave(test), "test_")):
        digests |= _write_sessions(part, its, numbers, settings, out, prefix)
    first_seen = np.minimum(np.where(left.items > 0, log.first_seen, NEVER), test.first_seen)
    digests |= _write_catalogues(numbers, left, first_seen, snapshot.tables, out)
    if settings.owned is not None:
        places = list(zip(items.places[2 * len(days) :], customers.places[2 * len(days) :], strict=True))
        table = build_ownership(owned, places, *numbers)
        digests[Path(OWNED_FILE).stem] = write_table(out / OWNED_FILE, [table])
        facts["owned"] = len(table)
    declarations = [feature.model_dump(mode="json") for feature in settings.features.events]
    (out / "features.json").write_text(json.dumps(declarations, indent=1) + "\n")
    return {
        **facts,
        **log.sessions.counts,
        "test": {**test.count_sizes(), **test.sessions.counts},
        "before_filters": before,
        "single_sessions": single,
        "warnings": warnings,
        "sessions_by": settings.sessions.by,
        "rounds": left.rounds,
        "features": declarations,
        "content": combine_digests(digests, declarations),
    }


def _number_ids(
    log: _Part, test: _Part, left: LeftSessions, items: pa.Array, customers: pa.Array
) -> tuple[NumberedIds, NumberedIds]:
    """Number the items and customers of both parts, by the events that are left of the training part."""
    with ThreadPoolExecutor(2) as threads:
        numbered = threads.map(
            number_ids,
            (items, customers),
            (left.items, left.customers),
            ((left.items > 0) | (test.item_events > 0), (left.customers > 0) | (test.customer_events > 0)),
        )
        return next(numbered), next(numbered)


def _write_catalogues(
    numbers: tuple[NumberedIds, NumberedIds], left: LeftSessions, first_seen: Ints, tables: Path, out: Path
) -> dict[str, dict[str, str]]:
    items, customers = numbers
    counts = {"events": left.items[items.places], "first_seen": first_seen[items.places]}
    of_items = write_table(out / ITEMS, [build_catalogue("item", items, counts, tables / ITEMS)])
    counts = {"events": left.customers[customers.places]}
    of_customers = write_table(out / CUSTOMERS, [build_catalogue("customer", customers, counts, tables / CUSTOMERS)])
    return {Path(ITEMS).stem: of_items, Path(CUSTOMERS).stem: of_customers}


def _join_part(
    parts: list[CodedPart],
    first: int,
    items: MergedIds,
    customers: MergedIds,
    snapshot: CodedLog,
    settings: FeatureSettings,
) -> _Part:
    """Join the sessions of a part, whose dictionaries are those from the number `first` on."""
    item_places, customer_places = (merged.places[first : first + len(parts)] for merged in (items, customers))
    gap = settings.sessions.gap // MILLISECOND if settings.sessions.by == "gap" else None
    sessions = join_sessions(parts, customer_places, snapshot.bounds, gap, named=snapshot.named)
    item_events, first_seen = np.zeros(len(items.ids), np.int64), np.full(len(items.ids), NEVER)
    for part, places in zip(parts, item_places, strict=True):
        item_events[places] += part.item_events
        first_seen[places] = np.minimum(first_seen[places], part.item_first + np.int64(part.base))
    owned = sessions.customer >= 0
    customer_events = np.bincount(sessions.customer[owned], sessions.events[owned], len(customers.ids)).astype(np.int64)
    begun = None if gap is None else sessions.start.copy()
    names = SessionNames(parts, sessions.edges, customers.ids, sessions.customer, begun, snapshot.named)
    return _Part(parts, item_places, sessions, names, item_events, first_seen, customer_events)


def _count_sizes(sessions: DaySessions, items: Ints, customers: Ints) -> dict[str, int]:
    return {
        "events": int(sessions.events.sum()),
        "sessions": int((sessions.events > 0).sum()),
        "items": int((items > 0).sum()),
        "customers": int((customers > 0).sum()),
    }


def _leave(part: _Part) -> LeftSessions:
    """A part that no filter applies to."""
    gone: list[Flags | None] = [None] * len(part.parts)
    return LeftSessions(part.sessions, gone, part.item_events, part.customer_events, {}, 0, np.zeros(0, np.int64))


def _write_sessions(
    part: _Part,
    left: LeftSessions,
    numbers: tuple[NumberedIds, NumberedIds],
    settings: FeatureSettings,
    out: Path,
    prefix: str,
) -> dict[str, dict[str, str]]:
    """Write a part's sessions and their events. Blocks are built beside the writing of those before. Returns the
    digests of both tables' columns."""
    items, customers = numbers
    order = order_sessions(left.sessions, left.moved, part.names)
    final = [items.numbers[places] for places in part.items]
    blocks = EventBlocks(part.parts, left.gone, left.sessions, order, final, customers.numbers)
    features = settings.features.events
    with ThreadPoolExecutor(max(2, read_cpu_limit())) as threads:
        of_sessions = threads.submit(
            write_table,
            out / f"{prefix}sessions.parquet",
            list_session_blocks(left.sessions, order, part.names, customers.numbers),
        )
        tasks = (threads.submit(blocks.build, *bounds, features) for bounds in blocks.list_ranges())
        of_events = write_table(out / f"{prefix}events.parquet", _list_results(tasks, ahead=2))
        return {f"{prefix}events": of_events, f"{prefix}sessions": of_sessions.result()}


def _list_results(tasks: Iterator[Future[pa.Table]], ahead: int) -> Iterator[pa.Table]:
    """List the results of tasks in order, while the next ones run."""
    running = list(itertools.islice(tasks, ahead))
    while running:
        yield running.pop(0).result()
        running += itertools.islice(tasks, 1)

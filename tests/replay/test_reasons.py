"""Each difference between what was used and what the log says has its name, and what has none is unexplained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.features.publishing import build_customer_rows
from endcap.online.base import RecentEvent, parse_events
from endcap.online.record_updates import Retention
from endcap.online.shopper_reader import StoredSource
from endcap.ranking import ShopperContext
from endcap.replay import LogSource, ReplayReport, reasons, replay
from endcap.replay.event_log import EventLog
from endcap.replay.shopper_check import ShopperCheck
from endcap.rules import Catalogue
from endcap.samples import SampledRequest
from endcap.samples.files import get_day, name_catalogue
from endcap.samples.places import open_place
from endcap.spec.rules import Rules
from endcap_serving.intake.parquet import SCHEMAS
from tests.replay.conftest import Shop
from tests.replay.recorded import KEY, record_answers, write_samples

NOON = 1_711_108_800_000
"""2024-03-22 12:00 UTC."""
SECOND, HOUR, DAY = 1000, 3_600_000, 86_400_000
SINCE, UNTIL = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """An event of a customer: its time and when it was received, relative to noon."""

    item: str
    time: int
    received: int
    customer: str = "new"
    type: str = "view"


def write_log(folder: Path, events: Sequence[Event]) -> str:
    """Write events as the intake does, a file for each day, and return the address."""
    schema = SCHEMAS["events"]
    for day in sorted({get_day(NOON + event.received) for event in events}):
        rows: list[dict[str, Any]] = [
            {
                "id": f"e{number}",
                "item": event.item or None,
                "time": NOON + event.time,
                "type": event.type,
                "customer": event.customer,
                "received": NOON + event.received,
                "order": "o1" if event.type == "purchase" else None,
            }
            for number, event in enumerate(events)
            if get_day(NOON + event.received) == day
        ]
        place = folder / "intake" / "events" / f"date={day.isoformat()}"
        place.mkdir(parents=True)
        filled = [{name: row.get(name) for name in schema.names} for row in rows]
        pq.write_table(pa.Table.from_pylist(filled, schema), place / "pod-000000000001.parquet")
    return str(folder / "intake")


# An hour earlier, one of somebody else later: the day has a file, and the log goes on.
SEEN = Event("a", -HOUR, -HOUR)
OTHERS = Event("z", HOUR, HOUR, customer="other")


def known(*items: str, time: int = -HOUR, **values: Any) -> ShopperContext:
    events = [RecentEvent(item, NOON + time + place, "view") for place, item in enumerate(items)]
    return ShopperContext(**{"events": events, "is_known": bool(items), **values})


CASES = {
    "as it was": ([SEEN, OTHERS], known("a"), reasons.EQUAL),
    "nothing known": ([OTHERS], known(), reasons.EQUAL),
    "a history of the dataset": ([OTHERS], None, reasons.EQUAL),
    "late": ([SEEN, Event("b", -5, HOUR), OTHERS], known("a"), reasons.LATE_EVENT),
    "of the same moment": ([SEEN, Event("b", 0, 0), OTHERS], known("a"), reasons.IN_FLIGHT),
    "not written yet": ([SEEN, Event("b", -SECOND, -SECOND), OTHERS], known("a"), reasons.IN_FLIGHT),
    "by a clock that is behind": ([Event("a", SECOND, SECOND), OTHERS], known("a", time=SECOND), reasons.IN_FLIGHT),
    "long ago": ([Event("a", -8 * DAY, -8 * DAY), OTHERS], known(), reasons.EXPIRED),
    "at another time": ([SEEN, Event("b", HOUR, -SECOND * 60), OTHERS], known("a", "b"), reasons.UNEXPLAINED),
    "ahead": ([Event("a", HOUR, -60 * SECOND), OTHERS], known("a", time=HOUR), reasons.CLOCK_AHEAD),
    "without a store": ([SEEN, OTHERS], known(store_unavailable=True), reasons.STORE_UNAVAILABLE),
    "lost by the store": ([SEEN, OTHERS], known(), reasons.UNEXPLAINED),
    "of nowhere": ([SEEN, OTHERS], known("q"), reasons.UNEXPLAINED),
    "of a day without a file": ([OTHERS], known("a", time=-3 * DAY), reasons.LOG_GONE),
    "newer than the log": ([Event("z", -2 * HOUR, -2 * HOUR)], known("a"), reasons.LOG_BEHIND),
    "no log at all": ([], known("a"), reasons.LOG_GONE),
}


def run(shop: Shop, folder: Path, samples: Sequence[SampledRequest], events: Sequence[Event]) -> ReplayReport:
    write_samples(str(folder / "samples"), samples)
    log = LogSource(write_log(folder, events))
    return replay("home", shop.store, shop.registry, str(folder / "samples"), SINCE, UNTIL, log=log, pseudonymiser=KEY)


@pytest.mark.parametrize("case", CASES)
def test_a_difference_has_its_reason(case: str, shop: Shop, tmp_path: Path) -> None:
    events, context, reason = CASES[case]
    request: dict[str, Any] = {"customer": "new"}
    source: list[StoredSource] | None = None
    if context is None:
        # The shop's own log has the customer: the last session of the dataset, which the features step published.
        request, source = {"customer": "c1"}, ["history"]
        history = [row for row in read_history(shop) if row]
        context = ShopperContext(history, is_known=True)
    samples = record_answers(shop.home.ranker, [request], version="1", times=[NOON], contexts=[context], sources=source)
    report = run(shop, tmp_path, samples, events)
    assert dict(report.checks["model"].answers) == {reasons.EQUAL: 1}
    assert dict(report.checks["log"].answers) == {reason: 1}
    assert report.unexplained == (reason == reasons.UNEXPLAINED)


def read_history(shop: Shop) -> list[RecentEvent]:

    dataset = shop.store.fetch(str(shop.home.info["dataset"]))
    row = dict(build_customer_rows(dataset, by_gap=shop.home.session_gap is not None))["c1"]
    return parse_events(orjson.loads(row)["recent"])


@pytest.mark.parametrize(
    ("context", "source", "reason"),
    [
        (known("a", time=-3 * HOUR), "history", reasons.LOG_GONE),
        (ShopperContext(is_known=True), "none", reasons.LOG_GONE),
        (known("q"), "customer", reasons.UNEXPLAINED),
    ],
)
def test_a_history_of_a_dataset_that_is_gone_cannot_be_compared(
    context: ShopperContext, source: StoredSource, reason: str, shop: Shop
) -> None:
    (sample,) = record_answers(
        shop.home.ranker, [{"customer": "c1"}], version="1", times=[NOON], contexts=[context], sources=[source]
    )
    package = replace(shop.home, info={**shop.home.info, "dataset": "datasets/toys/0123456789abcdef0123"})
    log = EventLog(Retention(), days={get_day(NOON)}, newest=NOON + HOUR)
    outcome = ShopperCheck(log, shop.store, KEY).compare(sample, sample.parse_request(), package, owned=False)
    assert outcome.reason == reason


def test_a_request_that_brings_its_events_is_not_looked_up(shop: Shop, tmp_path: Path) -> None:
    samples = record_answers(shop.home.ranker, [{"items": ["a"], "customer": "new"}], version="1", times=[NOON])
    report = run(shop, tmp_path, samples, [SEEN, OTHERS])
    assert dict(report.checks["log"].answers) == {reasons.FROM_REQUEST: 1}


def test_what_changes_an_answer_is_counted(shop: Shop, tmp_path: Path) -> None:
    late = Event("x", -5, HOUR)
    contexts = [known("a"), known("a")]
    asks: list[dict[str, Any]] = [{"customer": "new"}, {"customer": "new", "candidates": ["b"]}]
    samples = record_answers(shop.home.ranker, asks, version="1", times=[NOON, NOON], contexts=contexts)
    report = run(shop, tmp_path, samples, [SEEN, late, OTHERS])
    assert dict(report.checks["log"].answers) == {reasons.LATE_EVENT: 2}
    assert report.checks["log"].changed[reasons.LATE_EVENT] == 2 - (samples[1].scores == [None])


def test_pseudonyms_of_another_key_cannot_be_matched(shop: Shop, tmp_path: Path) -> None:
    samples = record_answers(shop.home.ranker, [{"customer": "new"}], version="1", times=[NOON], contexts=[known("a")])
    report = run(shop, tmp_path, [replace(samples[0], pseudonym_key="another")], [SEEN, OTHERS])
    assert dict(report.checks["log"].answers) == {reasons.KEY_DIFFERS: 1}


def test_rules_that_a_predictor_had_not_taken_up_are_named(shop: Shop, tmp_path: Path) -> None:
    table = pa.table({"item": list("abcxyz")})
    before = Catalogue(Rules(), table, frozenset(), NOON - DAY)
    after = Catalogue(Rules(), table, frozenset("b"), NOON)
    for catalogue in (before, after):
        name = name_catalogue("home", get_day(NOON), catalogue.version)
        open_place(str(tmp_path / "samples")).write(name, catalogue.to_bytes())
    samples = []
    for catalogue, time in ((before, NOON - SECOND), (before, NOON + SECOND), (after, NOON + 5 * SECOND)):
        ranker = shop.home.ranker.with_catalogue(catalogue)
        samples += record_answers(ranker, [{"items": ["a"]}], version="1", times=[time], catalogue=catalogue)
    report = run(shop, tmp_path, samples, [OTHERS])
    assert dict(report.checks["model"].answers) == {reasons.EQUAL: 3}
    assert dict(report.checks["rules"].answers) == {reasons.EQUAL: 2, reasons.REFRESHED_RULE: 1}
    assert report.unexplained == 0

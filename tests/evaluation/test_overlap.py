"""Test sessions that are given are to lie apart from what is trained on."""

from __future__ import annotations

from typing import Any

from endcap.evaluation.overlap import measure_overlap, warn_of_overlap
from endcap.store import Store
from tests.features.logs import MONDAY, dataset, event, shop

HOUR = 3_600_000
Rows = list[dict[str, Any]]


def session(
    name: str, items: str, begin: int, customer: str | None = None, part: str = "train"
) -> list[dict[str, Any]]:
    return [event(name, item, begin + 1000 * place, customer, part) for place, item in enumerate(items)]


def test_a_test_part_that_lies_apart_is_not_warned_of(store: Store) -> None:
    rows = session("s1", "abc", 0) + session("s2", "ba", HOUR) + session("t1", "ab", 2 * HOUR, part="test")
    found = measure_overlap(dataset(store, rows))
    assert found == {
        "sessions": 1,
        "trained_until": MONDAY + HOUR + 1000,
        "early": 0,
        "same_id": 0,
        "same_events": 0,
        "shared": 0,
    }
    assert warn_of_overlap(found) == []


def test_early_and_shared_test_sessions_are_counted(store: Store) -> None:
    rows = session("s1", "abc", 0, "ann") + session("s2", "ba", HOUR, "bob") + session("s3", "ca", 9 * HOUR, "cid")
    given = [
        session("t1", "abc", 0, "ann"),  # the events of s1
        session("t2", "abc", 0, "bob"),  # the same, but by another customer
        session("t3", "acb", 0, "ann"),  # as long at the same times, but in another order
        session("s2", "ba", 10 * HOUR, "bob"),  # the id of s2, at another time
        session("s3", "ca", 10 * HOUR, "dan"),  # the id of s3, but a session of another customer
        session("t4", "a", 0, "ann"),  # one event: nothing is asked about it
    ]
    rows += [{**row, "part": "test"} for one in given for row in one]
    found = measure_overlap(dataset(store, rows))
    counted = {name: found[name] for name in ("sessions", "early", "same_id", "same_events", "shared")}
    assert counted == {"sessions": 6, "early": 4, "same_id": 1, "same_events": 1, "shared": 2}
    assert len(warn_of_overlap(found)) == 2


def test_items_of_one_time_have_no_order(store: Store) -> None:
    rows = [event("s1", item, 0) for item in "abc"] + [event("t1", item, 0, part="test") for item in "cba"]
    assert measure_overlap(dataset(store, rows))["same_events"] == 1


def test_sessions_cut_by_gaps_are_the_same_by_their_events(store: Store) -> None:
    by_gap = shop(sessions={"by": "gap", "gap": "30m"})
    rows = session("x", "abc", 0, "ann") + session("x", "abc", 0, "ann", part="test")
    found = measure_overlap(dataset(store, rows, by_gap))
    assert (found["sessions"], found["same_events"], found["shared"]) == (1, 1, 1)


def test_without_a_test_part_there_is_nothing_to_say(store: Store) -> None:
    assert measure_overlap(dataset(store, session("s1", "abc", 0))) == {}

"""Baskets: an item of each from its others, or all of it from what its customer did before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from endcap.errors import DataError
from endcap.features.event_features import compute_features
from endcap.features.view import View, open_view
from endcap.models.fit import draw_validation
from endcap.store import Store
from tests.features.logs import DAY, MONDAY, at_times, dataset, event, recommender, shop
from tests.features.test_view import letters
from tests.refusals import mistaken, refused

COMPLETE: dict[str, Any] = {"protocol": "basket"}
NEXT: dict[str, Any] = {"protocol": "basket", "basket": "next"}
SPLIT = {"by": "time", "test": "2d", "validation": "2d"}
Rows = list[dict[str, Any]]


def basket(number: int, day: float, items: str, customer: str | None) -> Rows:
    """All lines of a basket have one time."""
    return at_times(f"s{number}", items, int(day * DAY), customer)


LOG = [
    *basket(0, 0, "abc", "ann"),
    *basket(1, 1, "bd", "bob"),
    *basket(2, 2, "acd", "ann"),
    *basket(3, 6, "cb", "ann"),
    *basket(4, 6, "ad", "dan"),
    *basket(5, 6.5, "ba", None),
    *basket(6, 7, "da", "bob"),
    *basket(7, 8, "abcx", "ann"),
    *basket(8, 8.5, "bd", "bob"),
    *basket(9, 9, "cd", "eve"),
    *basket(10, 9.2, "bc", "ann"),
    *basket(11, 9.3, "ca", None),
    *basket(12, 9.4, "d", "bob"),
]


def view_of(store: Store, rows: Rows, **evaluation: Any) -> View:
    made = shop(
        filters={"min_session_events": 1},
        features={"events": [{"name": "place", "kind": "position"}, {"name": "gap", "kind": "gap"}]},
    )
    return open_view(dataset(store, rows, made), recommender(split=SPLIT, evaluation=evaluation))


def test_one_item_of_each_basket_is_predicted_from_the_others(store: Store) -> None:
    view = view_of(store, LOG, **COMPLETE)
    assert [sorted(one) for one in letters(view.test, view.vocabulary)] == [
        ["a", "b", "c"],
        ["b", "d"],
        ["c", "d"],
        ["b", "c"],
        ["a", "c"],
    ]
    asked = view.predictions("test")
    assert asked.ends.tolist() == (view.test.lengths - 1).tolist() == asked.places.tolist()
    assert asked.weights.tolist() == [1.0] * 5
    assert {name: view.counts["test"][name] for name in ("sessions", "unseen_events", "short_sessions")} == {
        "sessions": 5,
        "unseen_events": 1,
        "short_sessions": 1,
    }
    validation = draw_validation(view, "none", 1)
    assert validation is not None
    assert len(validation) == len(view.validation) == 4


def test_what_is_hidden_hangs_on_the_seed_and_on_no_order_of_lines(store: Store) -> None:
    rng = np.random.default_rng(1)
    items = [f"i{number}" for number in range(9)]
    rows = [
        event(f"s{number}", item, number * DAY // 4, f"c{number % 5}")
        for number in range(40)
        for item in rng.choice(items, size=5, replace=False)
    ]
    shuffled = [rows[place] for session in range(40) for place in rng.permutation(5) + 5 * session]

    def list_test_sessions(lines: Rows, seed: int) -> list[list[int]]:
        wanted = recommender(split=SPLIT, evaluation=COMPLETE, seed=seed)
        view = open_view(dataset(store, lines), wanted)
        return [one.tolist() for one in np.split(view.test.items, view.test.offsets[1:-1])]

    first = list_test_sessions(rows, 1)
    assert first == list_test_sessions(shuffled, 1)
    again = list_test_sessions(rows, 2)
    assert [sorted(one) for one in first] == [sorted(one) for one in again]
    assert [one[-1] for one in first] != [one[-1] for one in again]
    assert len({tuple(np.argsort(one)) for one in first}) > 5, "the order of the others is drawn too"


def test_times_of_what_is_drawn_ascend_and_an_item_has_one_line(store: Store) -> None:
    rows = basket(0, 0, "abcd", "ann") + at_times("s1", "a b a cd", int(8.5 * DAY), "ann")
    view = view_of(store, [*rows, *basket(2, 9.5, "ab", "ann")], **COMPLETE)
    (first, _) = np.split(view.test.times, view.test.offsets[1:-1])
    start = MONDAY + int(8.5 * DAY)
    assert first.tolist() == [start, start + 1000, start + 3000, start + 3000]
    assert view.test.features["place"].tolist() == [0, 1, 2, 3, 0, 1]
    assert view.predictions("test").begun.tolist()[0] == start


def test_the_next_basket_is_predicted_from_all_that_the_customer_did_before(store: Store) -> None:
    view = view_of(store, LOG, **NEXT)
    assert letters(view.test, view.vocabulary) == ["abcacdcbabc", "bddabd", "abcacdcbabcbc", "bddabdd"]
    asked = view.predictions("test")
    assert letters(asked.prefixes(), view.vocabulary) == ["abcacdcb", "bdda", "abcacdcbabc", "bddabd"]
    assert [asked.weights[asked.owner == owner].tolist() for owner in range(4)] == [
        [1 / 3] * 3,
        [0.5] * 2,
        [0.5] * 2,
        [1],
    ]
    assert asked.begun.tolist() == [MONDAY + int(day * DAY) for day in (8, 8.5, 9.2, 9.4)]
    assert letters(view.validation, view.vocabulary) == ["abcacdcb", "bdda"], "no test basket comes before these"
    assert view.counts["test"] == {
        "sessions": 4,
        "events": 8,
        "unseen_events": 1,
        "short_sessions": 0,
        "short_events": 0,
        "equal_times": 6,
        "transitions": 6,
        "anonymous_sessions": 1,
        "anonymous_events": 2,
        "first_sessions": 1,
        "first_events": 2,
    }
    for name, values in compute_features(view.features, view.test).items():
        assert view.test.features[name].tolist() == values.tolist()
    assert view.test.features["place"].max() == 12, "features are of the whole history"


def test_what_begins_with_a_basket_is_no_earlier_one(store: Store) -> None:
    rows = LOG + basket(13, 9.4, "ab", "bob") + at_times("s14", "a c", int(9.4 * DAY) - 500, "bob")
    view = view_of(store, rows, **NEXT)
    asked = view.predictions("test")
    prefixes = dict(
        zip(asked.begun[asked.owner[asked.first]].tolist(), letters(asked.prefixes(), view.vocabulary), strict=True)
    )
    # Two baskets of one time, and an event of another session that is later.
    assert prefixes[MONDAY + int(9.4 * DAY)] == "bddabda"


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{**row, "customer": None} for row in LOG], "features.no-customers"),
        ([{**row, "customer": row["session"]} for row in LOG], "features.first-baskets"),
        (
            [row for row in LOG if row["time"] < MONDAY + 5 * DAY] + basket(7, 9, "xyz", "ann"),
            "features.no-test-sessions",
        ),
    ],
)
def test_without_customers_who_come_back_there_is_no_next_basket(store: Store, rows: Rows, code: str) -> None:
    with refused(DataError, code, recommender="test", sessions=0):
        view_of(store, rows, **NEXT)


def test_baskets_of_one_item_cannot_be_completed(store: Store) -> None:
    rows = basket(0, 0, "ab", "ann") + basket(1, 9, "aa", "ann") + basket(2, 9, "b", "bob")
    with refused(DataError, "features.no-test-sessions", short_sessions=2):
        view_of(store, rows, **COMPLETE)


def test_sessions_of_one_moment_have_no_next_item(store: Store) -> None:
    with refused(DataError, "features.one-moment-sessions", one_moment_sessions=5, short_sessions=1):
        view_of(store, LOG)
    view = view_of(store, LOG, order="file")
    assert view.counts["test"]["one_moment_sessions"] == 0
    assert (view.counts["test"]["equal_times"], view.counts["test"]["transitions"]) == (6, 6)
    view = view_of(store, LOG + at_times("s20", "a b", 9 * DAY, "ann"))
    assert letters(view.test, view.vocabulary) == ["ab"]
    assert view.counts["test"]["one_moment_sessions"] == 5
    assert view.counts["test"]["one_moment_events"] == 11


def test_what_makes_no_sense_together_is_refused() -> None:
    with mistaken((("evaluation", "basket"), "conflict")):
        recommender(evaluation={"basket": "next"})
    with mistaken((("evaluation", "order"), "conflict")):
        recommender(evaluation={"protocol": "basket", "order": "file"})
    with mistaken((("evaluation", "protocol"), "conflict")):
        recommender(split={"by": "leave-one-out"}, evaluation={"protocol": "basket"})
    assert recommender(evaluation=COMPLETE).basket == "complete"
    assert recommender().basket is None

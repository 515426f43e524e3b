"""Leave-one-out: each session's last moment is the test, the one before it the validation."""

from __future__ import annotations

from typing import Any

from endcap.errors import DataError
from endcap.features.dataset_files import read_refit_sessions
from endcap.features.view import open_view
from endcap.models.fit import draw_validation
from endcap.store import Store
from tests.features.logs import MONDAY, at_times, dataset, event, recommender, sessions, shop
from tests.features.test_view import letters, parts
from tests.refusals import mistaken, refused

LEFT_OUT = {"by": "leave-one-out"}


def test_the_last_event_is_the_test_and_the_one_before_it_the_validation(store: Store) -> None:
    folder = dataset(store, sessions("abcd ab dcb bda a"), shop(filters={"min_session_events": 1}))
    view = open_view(folder, recommender(split=LEFT_OUT))
    assert parts(view) == {
        "train": ["ab", "ab", "d", "b", "a"],
        "training": ["abc", "ab", "dc", "bd", "a"],
        "validation": ["abc", "dc", "bd"],
        "test": ["abcd", "dcb", "bda"],
    }
    assert view.protocol == "leave-one-out"
    assert view.counts["from"] == {"validation": None, "test": None}
    vocabulary, whole = read_refit_sessions(folder, recommender(split=LEFT_OUT))
    assert letters(whole, vocabulary) == ["abcd", "ab", "dcb", "bda", "a"]
    validation = draw_validation(view, "none", 1)
    assert validation is not None
    assert letters(validation.queries, view.vocabulary) == ["ab", "d", "b"]
    assert [view.vocabulary.ids[item] for item in validation.targets] == ["c", "c", "d"]


def test_equal_times_are_in_the_order_of_the_file_where_that_is_asked_for(store: Store) -> None:
    rows = [event("s", letter, 0) for letter in "cab"] + [event("t", letter, 0) for letter in "bca"]
    folder, wanted = dataset(store, rows), recommender(split=LEFT_OUT, evaluation={"order": "file"})
    assert parts(open_view(folder, wanted))["training"] == ["ca", "bc"]
    with refused(DataError, "features.one-moment-sessions", one_moment_sessions=2, of_sessions=2):
        open_view(folder, recommender(split=LEFT_OUT))


def test_moments_are_left_out_whole(store: Store) -> None:
    rows = at_times("s", "ab c de") + at_times("t", "ed b ca") + at_times("u", "bc ad") + at_times("v", "ce")
    view = open_view(dataset(store, rows), recommender(split=LEFT_OUT))
    assert parts(view) == {
        "train": ["ab", "ed", "bcad", "ce"],
        "training": ["abc", "edb", "bcad", "ce"],
        "validation": ["abc", "edb"],
        "test": ["abcde", "edbca"],
    }
    assert view.counts["all"]["one_moment_sessions"] == 1
    asked = view.predictions("test")
    assert (asked.ends.tolist(), asked.weights.tolist()) == ([3] * 4, [0.5] * 4)


def test_of_the_last_moment_what_nobody_else_met_is_dropped_alone(store: Store) -> None:
    rows = at_times("s", "ab c dx") + at_times("t", "d b xyz") + at_times("u", "bca")
    view = open_view(dataset(store, rows), recommender(split=LEFT_OUT))
    assert parts(view)["test"] == ["abcd"], "of t nothing is left of the last moment, and `db` was trained on"
    assert {name: view.counts["test"][name] for name in ("unseen_events", "short_sessions", "short_events")} == {
        "unseen_events": 4,
        "short_sessions": 1,
        "short_events": 2,
    }


def test_a_last_item_that_nobody_else_met_cannot_be_judged_and_nothing_is_judged_in_its_place(store: Store) -> None:
    view = open_view(dataset(store, sessions("abx abc cab")), recommender(split=LEFT_OUT))
    assert parts(view)["test"] == ["abc", "cab"]
    assert view.counts["test"] == {
        "sessions": 2,
        "events": 6,
        "unseen_events": 1,
        "short_sessions": 1,
        "short_events": 2,
        "transitions": 4,
        "equal_times": 0,
    }


def test_sessions_that_are_all_short_leave_no_test(store: Store) -> None:
    with refused(DataError, "features.no-test-sessions", split={"by": "leave-one-out"}, of_sessions=2, of_events=4):
        open_view(dataset(store, sessions("ab bc")), recommender(split=LEFT_OUT))


def test_a_split_by_time_may_be_judged_by_last_events_alone(store: Store) -> None:
    rows = sessions("abc bca cab", gap=86_400_000)
    keys: dict[str, Any] = {"split": {"by": "time", "test": "1d", "validation": "1d"}}
    view = open_view(dataset(store, rows), recommender(**keys, evaluation={"protocol": "leave-one-out"}))
    assert view.protocol == "leave-one-out"
    validation = draw_validation(view, "none", 1)
    assert validation is not None
    assert len(validation) == len(view.validation) == 1
    assert open_view(dataset(store, rows), recommender(**keys)).protocol == "every-prefix"


def test_what_is_trained_on_is_not_asked_for() -> None:
    with mistaken((("evaluation", "protocol"), "conflict")):
        recommender(split=LEFT_OUT, evaluation={"protocol": "every-prefix"})


def test_the_item_table_says_when_training_first_met_an_item(store: Store) -> None:
    view = open_view(dataset(store, sessions("abc bca", gap=1000)), recommender(split=LEFT_OUT))
    firsts = dict(zip(view.vocabulary.ids, view.items["first_seen"].to_pylist(), strict=True))
    assert firsts == {"a": MONDAY, "b": MONDAY + 1000, "c": MONDAY + 5000}, "c was met first, at 2 s, as a test event"

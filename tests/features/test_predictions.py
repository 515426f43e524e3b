"""What is predicted of sessions, counted again by plain loops."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.features.queries import Baskets, count_equal_transitions, count_moments, select_targets
from endcap.features.sessions import Sessions
from endcap.features.split import split_leave_one_out

Event = tuple[int, int]
"""A time and an item."""
Prediction = tuple[int, list[int], int, Fraction]
"""A session, the items of the prefix, the item that is predicted, and its weight."""
LOGS = st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=8), max_size=5)
SHUFFLES = st.randoms(use_true_random=False)


def sessions_of(log: list[list[Event]]) -> Sessions:
    ordered = [sorted(session, key=lambda event: event[0]) for session in log]
    return Sessions.of([[item for _, item in one] for one in ordered], [[time for time, _ in one] for one in ordered])


def moments_of(session: list[Event], order: str) -> list[list[int]]:
    ordered = sorted(session, key=lambda event: event[0])
    if order == "file":
        return [[item] for _, item in ordered]
    return [[item for time, item in ordered if time == at] for at in sorted({time for time, _ in ordered})]


def expected(log: list[list[Event]], protocol: str, order: str) -> list[Prediction]:
    wanted = []
    for number, session in enumerate(log):
        moments = moments_of(session, order)
        places = range(1, len(moments)) if protocol == "every-prefix" else range(max(1, len(moments) - 1), len(moments))
        for place in places:
            prefix, items = [item for moment in moments[:place] for item in moment], sorted(set(moments[place]))
            wanted += [(number, prefix, item, Fraction(1, len(items))) for item in items]
    return wanted


def list_predictions(sessions: Sessions, protocol: Any, order: Any) -> list[Prediction]:
    made = select_targets(sessions, protocol, order)
    prefixes = made.prefixes()
    ends = prefixes.offsets
    return [
        (
            int(made.owner[place]),
            prefixes.items[ends[made.row[place]] : ends[made.row[place] + 1]].tolist(),
            int(made.targets[place]),
            Fraction(float(made.weights[place])).limit_denominator(100),
        )
        for place in range(len(made))
    ]


@pytest.mark.parametrize("protocol", ["every-prefix", "leave-one-out"])
@pytest.mark.parametrize("order", ["sets", "file"])
@settings(deadline=None)
@given(log=LOGS)
def test_predictions_are_those_of_plain_loops(protocol: str, order: str, log: list[list[Event]]) -> None:
    assert list_predictions(sessions_of(log), protocol, order) == expected(log, protocol, order)


@pytest.mark.parametrize("protocol", ["every-prefix", "leave-one-out"])
@settings(deadline=None)
@given(log=LOGS)
def test_without_equal_times_both_orders_are_one(protocol: Any, log: list[list[Event]]) -> None:
    spread = [[(place, item) for place, (_, item) in enumerate(session)] for session in log]
    sessions = sessions_of(spread)
    sets, file = (select_targets(sessions, protocol, order) for order in ("sets", "file"))
    for name in ("owner", "ends", "places", "weights", "begun", "row", "number"):
        assert getattr(sets, name).tobytes() == getattr(file, name).tobytes(), name


@settings(deadline=None)
@given(log=LOGS, random=SHUFFLES)
def test_the_order_of_lines_at_one_time_changes_no_prediction(log: list[list[Event]], random: Any) -> None:
    shuffled = [random.sample(session, len(session)) for session in log]
    for protocol in ("every-prefix", "leave-one-out"):
        one, other = (list_predictions(sessions_of(lines), protocol, "sets") for lines in (log, shuffled))
        assert [(owner, sorted(prefix), item, weight) for owner, prefix, item, weight in one] == [
            (owner, sorted(prefix), item, weight) for owner, prefix, item, weight in other
        ]


@pytest.mark.parametrize("order", ["sets", "file"])
@settings(deadline=None)
@given(log=LOGS)
def test_leave_one_out_cuts_moments(order: Any, log: list[list[Event]]) -> None:
    sessions, moments = sessions_of(log), [moments_of(session, order) for session in log]
    parts = split_leave_one_out(sessions, order)
    enough = [one for one in moments if len(one) > 2]

    def items(of: list[list[list[int]]], less: int) -> list[int]:
        kept = [one[: len(one) - less] if len(one) > 2 else one for one in of]
        return [item for one in kept for moment in one for item in moment]

    assert parts["train"].items.tolist() == items(moments, 2)
    assert parts["training"].items.tolist() == items(moments, 1)
    assert parts["test"].items.tolist() == items(enough, 0)
    assert parts["validation"].items.tolist() == items(enough, 1)
    assert [len(part) for part in parts.values()] == [len(log), len(log), len(enough), len(enough)]
    assert count_moments(sessions, order).tolist() == [len(one) for one in moments]


@settings(deadline=None)
@given(log=LOGS)
def test_transitions_of_equal_times_are_neighbours_in_a_session(log: list[list[Event]]) -> None:
    times = [sorted(time for time, _ in session) for session in log]
    pairs = [(a, b) for one in times for a, b in itertools.pairwise(one)]
    assert count_equal_transitions(sessions_of(log)) == (sum(a == b for a, b in pairs), len(pairs))


def test_a_basket_begins_where_it_is_said_to_whatever_the_times() -> None:
    sessions = Sessions.of([[4, 5, 6, 5], [3], [7, 8]], [[0, 0, 9, 9], [0], [1, 2]])
    baskets = Baskets(np.array([1, 0, 1]), np.array([5, 6, 7]))
    made = select_targets(sessions, "basket", "sets", baskets)
    assert (made.owner.tolist(), made.ends.tolist(), made.targets.tolist()) == ([0, 0, 2], [1, 1, 1], [5, 6, 8])
    assert (made.weights.tolist(), made.begun.tolist()) == ([0.5, 0.5, 1.0], [5, 6, 7])

"""Who meets which arm of an A/B test, over changes of the shares."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import DataError
from endcap.experiments.layout import AB_ARMS, ArmSegment, Layout, count_movers
from endcap.experiments.splits import TOTAL_WEIGHT, Arm
from tests.refusals import refused

Weights = dict[Arm, int]


@st.composite
def draw_weights(draw: st.DrawFn, most_arms: int = len(AB_ARMS)) -> Weights:
    """Weights of two to eight arms, also tiny ones and none."""
    cuts = draw(st.lists(st.integers(0, TOTAL_WEIGHT) | st.integers(0, 3), min_size=1, max_size=most_arms - 1))
    edges = pairwise([0, *sorted(cuts), TOTAL_WEIGHT])
    sizes = draw(st.permutations([upper - lower for lower, upper in edges]))
    return dict(zip(AB_ARMS, sizes, strict=False))


@settings(deadline=None)
@given(st.lists(draw_weights(), min_size=2, max_size=12))
def test_each_change_moves_what_the_gaining_arms_gain_and_nobody_else(steps: list[Weights]) -> None:
    layout = Layout.begin(steps[0])
    for weights in steps[1:]:
        after = layout.change(weights)
        assert sum(after.weights.values()) == TOTAL_WEIGHT
        assert {arm: after.weigh(arm) for arm in AB_ARMS} == {arm: weights.get(arm, 0) for arm in AB_ARMS}
        gains = (max(after.weigh(arm) - layout.weigh(arm), 0) for arm in AB_ARMS)
        assert count_movers(layout, after) == sum(gains)
        assert Layout.from_json(json.loads(json.dumps(after.to_json()))) == after
        layout = after


@settings(deadline=None)
@given(draw_weights(), st.lists(draw_weights(), max_size=4))
def test_a_dropped_arm_moves_only_its_own_shoppers(first: Weights, steps: list[Weights]) -> None:
    layout = Layout.begin(first)
    for weights in steps:
        layout = layout.change(weights)
    if len(layout.weights) == 1:
        return
    dropped, heir = random.Random(layout.layout_id).sample(list(layout.weights), 2)
    after = layout.change({**layout.weights, dropped: 0, heir: layout.weigh(heir) + layout.weigh(dropped)})
    assert after.weigh(dropped) == 0
    for place in random.Random(layout.layout_id).sample(range(TOTAL_WEIGHT), 200):
        before = layout.find_arm(place)
        assert after.find_arm(place) == (heir if before == dropped else before)


def test_an_arm_gives_back_to_stable_what_it_took_last() -> None:
    small = Layout.begin({"stable": 900_000, "challenger-1": 100_000})
    large = small.change({"stable": 600_000, "challenger-1": 400_000})
    assert large.change({"stable": 900_000, "challenger-1": 100_000}) == small
    assert large.change({"stable": TOTAL_WEIGHT}).segments == (ArmSegment("stable", TOTAL_WEIGHT),)


@pytest.mark.parametrize("arms", range(2, len(AB_ARMS) + 1))
def test_segments_stay_few_over_many_changes(arms: int) -> None:
    rng = random.Random(arms)
    weights = [TOTAL_WEIGHT] + [0] * (arms - 1)
    layout = Layout.begin(dict(zip(AB_ARMS, weights, strict=False)))
    most = 0
    for number in range(2000):
        if number % 3:
            parts = [max(0, weight + rng.randint(-50_000, 50_000)) for weight in weights]
        else:
            parts = [rng.randint(0, 1000) * (rng.random() > 0.2) for _ in weights]
        whole = sum(parts) or 1
        weights = [part * TOTAL_WEIGHT // whole for part in parts]
        weights[0] += TOTAL_WEIGHT - sum(weights)
        layout = layout.change(dict(zip(AB_ARMS, weights, strict=False)))
        most = max(most, len(layout.segments))
    assert most <= 4 * arms


def test_an_arm_is_found_by_its_places() -> None:
    layout = Layout.begin({"stable": 500_000, "challenger-2": 300_000, "challenger-1": 200_000})
    places = [0, 499_999, 500_000, 699_999, 700_000, 999_999]
    assert [layout.find_arm(place) for place in places] == [
        arm for arm in ("stable", "challenger-1", "challenger-2") for _ in range(2)
    ]


def test_the_id_tells_layouts_with_the_same_weights_apart() -> None:
    one = Layout.begin({"stable": 500_000, "challenger-1": 500_000})
    other = Layout((ArmSegment("challenger-1", 500_000), ArmSegment("stable", 500_000)))
    assert one.weights == other.weights
    assert one.layout_id != other.layout_id
    assert len(bytes.fromhex(one.layout_id)) == 6
    assert Layout.from_json(one.to_json()).layout_id == one.layout_id


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"stable": 999_999},
        {"stable": TOTAL_WEIGHT + 1, "challenger-1": -1},
        {"stable": 500_000, "canary": 500_000},
    ],
)
def test_weights_that_are_not_of_a_test_are_refused(weights: Weights) -> None:
    layout = Layout.begin({"stable": TOTAL_WEIGHT})
    with refused(DataError, "experiments.layout-weights", total=TOTAL_WEIGHT):
        Layout.begin(weights)
    with refused(DataError, "experiments.layout-weights", found=weights):
        layout.change(weights)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "stable",
        [{"arm": "stable"}],
        [{"arm": "stable", "weight": 1_000_000.0}],
        [{"arm": "canary", "weight": 1_000_000}],
        [{"arm": "stable", "weight": 500_000}, {"arm": "stable", "weight": 500_000}],
        [{"arm": "stable", "weight": 1_000_000}, {"arm": "challenger-1", "weight": 0}],
    ],
)
def test_a_document_that_is_no_layout_is_refused(document: object) -> None:
    with refused(DataError, "experiments.layout-damaged"):
        Layout.from_json(document)

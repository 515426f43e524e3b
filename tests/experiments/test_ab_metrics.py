"""Each challenger of an A/B test against the stable version, over layouts that change."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from endcap.errors import DataError
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.effect_state import EffectState
from endcap.experiments.exposures import Audit, ExposureReader
from endcap.experiments.layout import KnownLayouts, Layout, covary_arms, number_layout
from endcap.experiments.metric_state import MetricState
from endcap.experiments.ranking_token import TokenArm
from endcap.experiments.splits import TOTAL_WEIGHT, Arm, TrafficSplit, hash_salt
from tests.experiments.reports import (
    DAY,
    HOUR,
    SALT,
    SIGNER,
    START,
    Row,
    act,
    at,
    make_impressions,
    make_policy,
    see,
    take,
)
from tests.refusals import refused

LAYOUTS = [Layout.begin({"stable": 600_000, "challenger-1": 200_000, "challenger-2": 200_000})]
for _weights in ((300_000, 500_000, 200_000), (200_000, 200_000, 600_000), (100_000, 150_000, 750_000)):
    LAYOUTS.append(LAYOUTS[-1].change(dict(zip(("stable", "challenger-1", "challenger-2"), _weights, strict=True))))
CHALLENGERS_HERE: tuple[Arm, ...] = ("challenger-1", "challenger-2")


def make_ranking(shopper: str, moment: int, layout: Layout, *, arm: TokenArm | None = None) -> str:
    """A ranking id of a shopper, of the arm of the layout where none is named."""
    split = layout.split(hash_salt(SALT), 0)
    chosen = arm or split.choose(shopper, SALT, layout)
    return SIGNER.write("7", chosen, "model", split=split, shopper=shopper, time=START + moment, request="r") + ".0"


def make_reader(arm: Arm, layouts: list[Layout] = LAYOUTS) -> ExposureReader:
    return ExposureReader(SIGNER, arm, SALT, layouts=layouts)


def report_days() -> tuple[list[Row], list[Row]]:
    """A day for each layout. Fewer click each day, while the challengers' shares rise; challenger-2 is truly better."""
    rng = random.Random(3)
    seen, clicks = list[Row](), list[Row]()
    rates: dict[Arm, float] = {"stable": 1.0, "challenger-1": 1.0, "challenger-2": 1.5}
    for day, layout in enumerate(LAYOUTS):
        split = layout.split(hash_salt(SALT), 0)
        for number in range(3000):
            shopper, moment = f"s{number}", day * DAY + number * 20_000
            ranking = make_ranking(shopper, moment, layout)
            seen.append(see(ranking, moment + 1, shopper=shopper))
            if rng.random() < rates[split.choose(shopper, SALT, layout)] * (0.5, 0.3, 0.2, 0.1)[day]:
                clicks.append(act(f"e{day}-{number}", moment + 2, ranking_id=ranking))
    return seen, clicks


def judge(arm: Arm, cuts: Sequence[int] = ()) -> MetricState:
    """What an arm's state holds after all reports, which are read at these looks (hours) and at the end."""
    seen, clicks = report_days()
    state = MetricState(make_policy(), arm, layouts=KnownLayouts(LAYOUTS))
    looks = [at(hours * HOUR) for hours in (*cuts, 6 * 24)]
    for begin, end in pairwise([at(-DAY), *looks]):
        parts = ([row for row in rows if begin < row["received"] <= end] for rows in (seen, clicks))
        take(state, *parts, reader=make_reader(arm))
        state.close(end)
    return state


def test_each_challenger_is_judged_within_the_moments_of_its_shares() -> None:
    states = {arm: judge(arm) for arm in CHALLENGERS_HERE}
    first, second = (next(effect for effect in state.judge() if effect.metric == "ctr") for state in states.values())
    assert first.lower < 0 < first.upper
    assert first.harm < 20
    assert 0 < second.lower < 0.5 < second.upper
    pooled = {arm: second.outcomes[arm] / second.exposures[arm] for arm in ("stable", "challenger-2")}
    assert pooled["challenger-2"] < pooled["stable"], "the click rates of all days together would say the opposite"
    for arm, state in states.items():
        splits = [(layout.split(hash_salt(SALT), 0), layout) for layout in LAYOUTS]
        arms = Counter(split.choose(f"s{number}", SALT, layout) for split, layout in splits for number in range(3000))
        assert state.refusals == Counter({"other-arm": arms.total() - arms[arm] - arms["stable"]})
        # Shoppers who come from a third arm would make it millions.
        assert state.sample_ratio < 20


def test_looks_in_any_number_equal_one_look_at_everything() -> None:
    whole, parts = judge("challenger-2"), judge("challenger-2", [1, 7, 30, 31, 80])
    assert whole.judge() == parts.judge()
    assert (whole.sample_ratio, whole.refusals) == (parts.sample_ratio, parts.refusals)


def test_a_state_that_does_not_know_the_layouts_says_so() -> None:
    seen, _ = report_days()
    with refused(DataError, "experiments.other-layout", expected=LAYOUTS[0].layout_id):
        take(MetricState(make_policy(), "challenger-1"), seen[:1], reader=make_reader("challenger-1"))


def test_the_variance_holds_where_an_arm_takes_the_shoppers_of_a_third() -> None:
    # The same shoppers come at both layouts, and some click far more than others.
    layouts = [
        Layout.begin({"stable": 500_000, "challenger-1": 100_000, "challenger-2": 400_000}),
    ]
    layouts.append(layouts[0].change({"stable": 500_000, "challenger-1": 500_000}))
    numbers = [number_layout(layout.layout_id) for layout in layouts]
    known, rng = KnownLayouts(layouts), np.random.default_rng(5)
    scores, variances, nested = [], [], []
    for _ in range(300):
        places = rng.integers(0, TOTAL_WEIGHT, 400)
        clicks = rng.choice([0.0, 5.0], 400)
        states = [
            EffectState(
                covary=lambda one, other: covary_arms(
                    known.find_number(one), known.find_number(other), "challenger-1", "stable"
                )
            ),
            EffectState(),
        ]
        for layout, number in zip(layouts, numbers, strict=True):
            arms = np.array([layout.find_arm(place) for place in places.tolist()])
            rows = np.flatnonzero((arms == "stable") | (arms == "challenger-1"))
            share = layout.weigh("challenger-1") / (layout.weigh("challenger-1") + layout.weigh("stable"))
            count = len(rows)
            visits = ClosedVisits(
                rows,
                arms[rows] == "challenger-1",
                np.full(count, share),
                np.ones(count),
                clicks[rows],
                np.full(count, 2.5),
                layout=np.full(count, number),
            )
            for state in states:
                state.add(visits)
        scores.append(states[0].sums.score)
        variances.append(states[0].sums.variance)
        nested.append(states[1].sums.variance)
    # Of 300 draws the variance is known within 8 %.
    assert np.mean(variances) == pytest.approx(np.var(scores), rel=0.25)
    assert np.mean(nested) < 0.9 * np.mean(variances)


def test_the_covariance_of_two_arms_is_that_of_rollouts_where_no_third_one_gives() -> None:
    small = Layout.begin({"stable": 700_000, "challenger-1": 100_000, "challenger-2": 200_000})
    large = small.change({"stable": 300_000, "challenger-1": 500_000, "challenger-2": 200_000})
    for first, second in ((small, large), (large, small), (small, small)):
        p, q = (layout.weigh("challenger-1") / 800_000 for layout in (first, second))
        expected = min(p, q) * (1 - max(p, q))
        assert covary_arms(first, second, "challenger-1", "stable") == pytest.approx(expected)
    nobody = Layout.begin({"challenger-2": TOTAL_WEIGHT})
    assert covary_arms(small, nobody, "challenger-1", "stable") == 0.0


def test_probabilities_come_from_the_ranking_ids_and_arms_from_the_layouts() -> None:
    shoppers = [f"s{number}" for number in range(400)]
    seen = [
        see(make_ranking(shopper, day * DAY, layout), day * DAY + 1, shopper=shopper)
        for day, layout in enumerate(LAYOUTS)
        for shopper in shoppers
    ]
    for arm in CHALLENGERS_HERE:
        exposures, refusals, audit = make_reader(arm).read(make_impressions(seen))
        assert len(exposures) == audit.rankings == len(seen)
        assert audit.mismatches == 0
        assert refusals == Counter({"other-arm": exposures.is_elsewhere.sum()})
        exposures = exposures.select(~exposures.is_elsewhere)
        for day, layout in enumerate(LAYOUTS):
            of_day = exposures.select(exposures.time == START + day * DAY)
            expected = layout.weigh(arm) / (layout.weigh(arm) + layout.weigh("stable"))
            assert of_day.probability == pytest.approx(expected)
            assert of_day.treated.sum() == sum(
                layout.split(hash_salt(SALT), 0).choose(shopper, SALT, layout) == arm for shopper in shoppers
            )


def test_a_planted_arm_is_noticed_and_a_failed_one_is_not_taken_for_it() -> None:
    reader, layout = make_reader("challenger-2"), LAYOUTS[0]
    split = layout.split(hash_salt(SALT), 0)
    shopper = next(each for each in map(str, range(99)) if split.choose(each, SALT, layout) == "challenger-2")
    planted = see(make_ranking(shopper, 0, layout, arm="stable"), 1, shopper=shopper)
    assert reader.read(make_impressions([planted]))[2] == Audit(1, 1)
    # Its predictors failed, so its shoppers met the stable version, by the layout that is left.
    left = see(make_ranking(shopper, 0, layout.replace_arms(["challenger-2"])), 1, shopper=shopper)
    exposures, refusals, audit = reader.read(make_impressions([left]))
    assert (exposures.treated.tolist(), exposures.probability.tolist(), +refusals, audit) == (
        [False],
        [0.0],
        Counter(),
        Audit(1, 0),
    )


def test_what_an_unknown_layout_answered_is_refused_by_name() -> None:
    foreign = Layout.begin({"stable": 100_000, "challenger-2": 900_000})
    lying = replace(LAYOUTS[0].split(hash_salt(SALT), 0), challengers=(1, 2))
    unknown = [
        make_ranking("s1", 0, foreign),
        SIGNER.write("7", "stable", "model", split=lying, shopper="s2", time=START) + ".0",
    ]
    seen = [see(ranking, 1) for ranking in unknown]
    exposures, refusals, audit = make_reader("challenger-2").read(make_impressions(seen))
    assert (len(exposures), refusals, audit) == (0, Counter({"unknown-layout": 2}), Audit(0, 0))
    good = see(make_ranking("s1", 0, LAYOUTS[0]), 1)
    assert make_reader("challenger-2", []).read(make_impressions([good]))[1] == Counter({"unknown-layout": 1})


def test_an_arm_is_not_computed_by_another_layout() -> None:
    split = LAYOUTS[0].split(hash_salt(SALT), 0)
    for layout in (None, LAYOUTS[1]):
        with refused(DataError, "experiments.other-layout", expected=split.layout_id):
            split.choose("s1", SALT, layout)


def test_the_shares_of_a_test_are_read_back_from_a_header() -> None:
    split = LAYOUTS[-1].split(hash_salt(SALT), 50_000)
    assert [split.weigh(arm) for arm in ("stable", *CHALLENGERS_HERE, "challenger-3", "canary", "baseline")] == [
        100_000,
        150_000,
        750_000,
        0,
        0,
        50_000,
    ]
    alone = LAYOUTS[-1].replace_arms(CHALLENGERS_HERE).split(hash_salt(SALT), 0)
    for each in (split, alone):
        assert TrafficSplit.from_text(each.to_text()) == each
    other_texts = (split.to_text() + "-1" * 6, split.to_text() + "x", f"{split.salt_id}-{split.layout_id}-0-1000001")
    assert [TrafficSplit.from_text(text) for text in other_texts] == [None] * 3


def test_the_layouts_that_failures_leave_are_known() -> None:
    known = KnownLayouts(LAYOUTS)
    for layout in LAYOUTS:
        for failed in ([], ["challenger-1"], ["challenger-2"], ["challenger-1", "challenger-2"]):
            left = layout.replace_arms(failed)  # type: ignore[arg-type]
            assert known.find(left.layout_id) == left
    assert known.find("0" * 12) is None

"""What counts for which arm: joins, windows, late and forged reports, and looks that change nothing."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.experiments.exposures import Audit, ExposureReader
from endcap.experiments.metric_state import MetricState
from endcap.experiments.ranking_token import TokenSigner
from endcap.experiments.splits import TrafficSplit, hash_salt
from endcap.pseudonyms import Pseudonymiser
from tests.experiments.reports import (
    DAY,
    HOUR,
    MINUTE,
    READER,
    SALT,
    SIGNER,
    SPLIT,
    START,
    Row,
    act,
    at,
    buy,
    count,
    make_impressions,
    make_policy,
    make_ranking,
    see,
    take,
)

STABLE = next(f"s{number}" for number in range(99) if SPLIT.choose(f"s{number}", SALT) == "stable")
CANARY = next(f"s{number}" for number in range(99) if SPLIT.choose(f"s{number}", SALT) == "canary")


@pytest.fixture
def state() -> MetricState:
    return MetricState(make_policy(), "canary")


def test_a_click_counts_for_the_ranking_that_it_names(state: MetricState) -> None:
    first, second = make_ranking(CANARY, 0), make_ranking(CANARY, MINUTE)
    clicks = [act("e1", 2 * MINUTE, ranking_id=first), act("e2", 2 * MINUTE, item="p9", ranking_id=second)]
    take(state, [see(first, 1000), see(second, MINUTE + 1000)], clicks)
    state.close(at(DAY))
    # The second ranking did not show p9.
    assert count(state)["ctr"] == ({"stable": 0, "canary": 2}, {"stable": 0, "canary": 1})


def test_a_click_that_names_no_ranking_counts_for_the_shoppers_latest_one_with_the_item(state: MetricState) -> None:
    rankings = [make_ranking(CANARY, moment) for moment in (0, 10 * MINUTE, 20 * MINUTE)]
    seen = [see(rankings[0], 1), see(rankings[1], 10 * MINUTE + 1), see(rankings[2], 20 * MINUTE + 1, item="p2")]
    take(state, seen, [act("e1", 25 * MINUTE, shopper=CANARY), act("e2", 25 * MINUTE, shopper="stranger")])
    state.close(at(10 * MINUTE + 34 * MINUTE))
    assert count(state)["ctr"] == ({"stable": 0, "canary": 1}, {"stable": 0, "canary": 0})
    state.close(at(10 * MINUTE + 35 * MINUTE))
    assert count(state)["ctr"] == ({"stable": 0, "canary": 2}, {"stable": 0, "canary": 1})


def test_only_first_places_count_where_the_policy_says_so() -> None:
    policy = make_policy(metrics=[{"kind": "ctr", "types": ["click"], "first": 2}])
    state, ranking = MetricState(policy, "canary"), make_ranking(CANARY, 0)
    seen = [see(ranking, 1, item=f"p{place}", position=place) for place in range(4)]
    take(state, seen, [act("e1", MINUTE, item="p2", ranking_id=ranking)])
    state.close(at(DAY))
    assert count(state)["ctr"] == ({"stable": 0, "canary": 1}, {"stable": 0, "canary": 0})


def test_purchases_and_revenue_count_once_a_visit_and_until_its_window_ends(state: MetricState) -> None:
    seen = [see(make_ranking(STABLE, moment), moment + 1) for moment in (0, HOUR, 20 * HOUR, DAY + HOUR)]
    orders = [
        buy("o1", 2 * HOUR, 10.0, quantity=2, shopper=STABLE),
        buy("o2", 23 * HOUR, 5.0, shopper=STABLE),
        buy("o3", DAY + MINUTE, 7.0, shopper=STABLE),
        buy("o4", DAY + 2 * HOUR, 9.0, shopper=STABLE),
    ]
    # The intake's event of an order's line has no price: the line itself counts.
    copy = act("o1#0", 2 * HOUR, kind="purchase", shopper=STABLE, order="o1")
    take(state, seen, [copy], orders)
    state.close(at(4 * DAY))
    assert count(state)["conversion"] == ({"stable": 2, "canary": 0}, {"stable": 2, "canary": 0})
    assert count(state)["revenue"] == ({"stable": 2, "canary": 0}, {"stable": 25.0 + 9.0, "canary": 0})


def test_items_in_the_cart_count_once_each(state: MetricState) -> None:
    ranking = make_ranking(CANARY, 0)
    events = [
        act(f"e{number}", MINUTE, item=item, kind="cart", ranking_id=ranking) for number, item in enumerate("aab")
    ]
    take(state, [see(ranking, 1, item=item, position=place) for place, item in enumerate("abc")], events)
    state.close(at(DAY))
    assert count(state)["add-to-cart"][1] == {"stable": 0, "canary": 2}


@pytest.mark.parametrize(
    ("moment", "received", "counts"),
    [
        (-MINUTE, MINUTE, 1),  # the shop's clock is behind
        (-2 * MINUTE, MINUTE, 0),  # before the impression
        (30 * MINUTE - 1, 35 * MINUTE, 1),
        (30 * MINUTE, 30 * MINUTE, 0),  # after the window
        (MINUTE, 35 * MINUTE + 1, 0),  # a log that is later than the policy's delay
    ],
)
def test_windows_and_delays(state: MetricState, moment: int, received: int, counts: int) -> None:
    ranking = make_ranking(CANARY, 0)
    take(state, [see(ranking, 1)], [act("e1", moment, received=received, ranking_id=ranking)])
    state.close(at(DAY))
    assert count(state)["ctr"][1]["canary"] == counts


def test_reports_that_do_not_count_are_named(state: MetricState) -> None:
    other_split = TrafficSplit(hash_salt("other"), canary=10)
    good = make_ranking(CANARY, 0)
    seen = [
        see("0b7e4f9a-1f0c.0", 1),
        see(make_ranking(CANARY, 0, signer=TokenSigner("home", [b"x" * 16])), 1),
        see(make_ranking(CANARY, 0), 1, shopper=STABLE),
        see(make_ranking("", 0, arm="stable"), 1),
        see(make_ranking(CANARY, 0, split=None), 1),
        see(make_ranking(CANARY, 0, arm="shadow"), 1),
        see(make_ranking(CANARY, 0, arm="stable", split=other_split), 1),
        see(make_ranking(CANARY, 0, arm="baseline"), 1),
        see(make_ranking(CANARY, 5, arm="canary"), 3 * DAY),
        see(good, 1),
        see(good, 2),
    ]
    take(state, seen)
    state.close(at(4 * DAY))
    reasons = ("no-token", "forged", "replayed", "no-shopper", "no-split", "shadow", "other-salt", "other-arm", "late")
    assert dict(+state.refusals) == {**dict.fromkeys(reasons, 1), "duplicate": 1}
    assert count(state)["ctr"][0] == {"stable": 0, "canary": 1}


def test_a_bot_counts_for_its_first_rankings_of_each_day_alone(state: MetricState) -> None:
    rankings = [make_ranking(CANARY, number * MINUTE) for number in range(2 * 24 * 60)]
    clicks = [act(f"e{number}", number * MINUTE, ranking_id=ranking) for number, ranking in enumerate(rankings)]
    take(state, [see(ranking, number * MINUTE + 1) for number, ranking in enumerate(rankings)], clicks)
    state.close(at(4 * DAY))
    # The start lies within a day, so two days of rankings touch three.
    assert count(state)["ctr"] == ({"stable": 0, "canary": 60}, {"stable": 0, "canary": 60})
    assert state.refusals["over-cap"] == len(rankings) - 60


def test_an_answer_from_the_list_counts_for_its_arm(state: MetricState) -> None:
    take(state, [see(make_ranking(CANARY, 0, answerer="fallback"), 1)])
    state.close(at(DAY))
    assert count(state)["ctr"][0] == {"stable": 0, "canary": 1}


def test_a_metric_without_any_outcome_leaves_the_bounds_open(state: MetricState) -> None:
    take(state, [see(make_ranking(f"s{number}", 0), 1) for number in range(2000)])
    state.close(at(2 * DAY))
    for effect in state.judge():
        assert (effect.effect, effect.lower, effect.upper) == (0.0, -np.inf, np.inf)
        assert effect.harm <= 1


def test_a_clock_that_goes_back_changes_nothing(state: MetricState) -> None:
    take(state, [see(make_ranking(CANARY, 0), 1)])
    state.close(at(DAY))
    before = count(state)
    state.close(at(HOUR))
    assert (state.until, count(state)) == (at(DAY), before)


def test_what_comes_after_its_look_is_refused_and_counted(state: MetricState) -> None:
    state.close(at(HOUR))
    take(state, [see(make_ranking(CANARY, 0), HOUR), see(make_ranking(CANARY, HOUR), HOUR + 1)])
    state.close(at(DAY))
    assert (state.refusals["behind"], count(state)["ctr"][0]["canary"]) == (1, 1)


def test_customers_whose_ids_lie_in_both_arms_are_counted(state: MetricState) -> None:
    named = [(CANARY, "anna"), (STABLE, "anna"), (STABLE, "berta"), (CANARY, "carla")]
    take(state, [see(make_ranking(shopper, 0), 1, customer=customer) for shopper, customer in named])
    state.close(at(MINUTE))
    assert state.crossed == 1 / 3
    # A share that rises moves a shopper with one id: this is no crossing.
    larger = TrafficSplit(hash_salt(SALT), canary=999_999)
    take(state, [see(make_ranking(STABLE, 2 * MINUTE, split=larger), 2 * MINUTE, customer="berta")])
    state.close(at(HOUR))
    assert state.crossed == 0.0


def test_the_audit_computes_arms_again_and_finds_a_planted_one() -> None:
    shoppers = [f"s{number}" for number in range(500)]
    seen = [see(make_ranking(shopper, 0), 1, shopper=shopper) for shopper in shoppers]
    assert READER.read(make_impressions([*seen, see(make_ranking("s1", 1), 1)]))[2] == Audit(500, 0)
    planted = see(make_ranking(CANARY, 1, arm="stable"), 1, shopper=CANARY)
    assert READER.read(make_impressions([*seen, planted]))[2] == Audit(501, 1)


def test_of_a_pseudonym_nobody_computes_the_arm_and_yet_it_must_be_the_rankings_own() -> None:
    maker = Pseudonymiser(b"the key of this test, no secret")
    own, other = (maker.pseudonymise(shopper) for shopper in ("anna", "berta"))
    rankings = [make_ranking(own, 0, arm=arm) for arm in ("stable", "canary")]
    seen = [see(ranking, 1, shopper=own) for ranking in rankings]
    exposures, refusals, audit = READER.read(make_impressions([*seen, see(rankings[0], 2, shopper=other)]))
    assert (len(exposures), dict(refusals), audit) == (2, {"replayed": 1}, Audit(0, 0))


def test_a_rotated_key_still_joins_what_the_old_one_signed() -> None:
    new = TokenSigner("home", [b"n" * 16, b"k" * 16])
    exposures, refusals, audit = ExposureReader(new, "canary", SALT).read(
        make_impressions([see(make_ranking(CANARY, 0), 1, shopper=CANARY)])
    )
    assert (len(exposures), dict(refusals), audit) == (1, {}, Audit(1, 0))


Reports = tuple[list[Row], list[Row], list[Row]]


def draw_reports(rng: random.Random) -> Reports:
    """Some days of a small shop, with repeated, late and disordered reports."""
    impressions: list[Row] = []
    events: list[Row] = []
    orders: list[Row] = []
    splits = [TrafficSplit(hash_salt(SALT), canary=weight) for weight in (50_000, 300_000, 500_000)]
    for number in range(rng.randrange(1, 60)):
        shopper, moment = f"s{rng.randrange(12)}", rng.randrange(3 * DAY)
        ranking = make_ranking(shopper, moment, split=splits[3 * moment // (3 * DAY)])
        surface = rng.choice(["home", "cart", None])
        for place in range(rng.randrange(1, 4)):
            delay = rng.choice([1000, MINUTE, 40 * MINUTE, 3 * HOUR, 2 * DAY])
            more = {"customer": rng.choice([None, shopper, "c1"]), "surface": surface}
            row = see(ranking, moment + rng.randrange(delay), f"p{rng.randrange(4)}", place, **more)
            impressions += [row] * rng.choice([1, 1, 2])
        for click in range(rng.randrange(3)):
            then = moment + rng.randrange(-2 * MINUTE, 40 * MINUTE)
            owner = rng.choice([{"ranking_id": ranking}, {"shopper": shopper}])
            kind, delay = rng.choice(["click", "cart", "search"]), rng.choice([MINUTE, 3 * HOUR])
            event = act(f"e{number}-{click}", then, f"p{rng.randrange(4)}", kind, then + rng.randrange(delay), **owner)
            events += [event] * rng.choice([1, 2])
        if rng.random() < 0.4:
            then = moment + rng.randrange(30 * HOUR)
            received = then + rng.randrange(rng.choice([MINUTE, 3 * HOUR]))
            orders.append(buy(f"o{number}", then, rng.random() * 100, rng.randrange(1, 4), received, shopper=shopper))
    return impressions, events, orders


def look(reports: Reports, ends: list[int], begins: int, rng: random.Random) -> MetricState:
    """Hand each look what was received by then, and part of what came later, in any order."""
    state = MetricState(make_policy(rankings_per_day=3), "canary", begins=at(begins))
    reader = ExposureReader(SIGNER, "canary", SALT, begins=START + begins, history=begins)
    waiting: list[list[Row]] = [list(rows) for rows in reports]
    for end in ends:
        parts: list[list[Row]] = []
        for rows in waiting:
            is_read = [row["received"] <= at(end) or rng.random() < 0.3 for row in rows]
            read = [row for row, flag in zip(rows, is_read, strict=True) if flag]
            rows[:] = [row for row, flag in zip(rows, is_read, strict=True) if not flag]
            rng.shuffle(read)
            parts.append(read)
        take(state, *parts, reader=reader)
        state.close(at(end))
    return state


@given(
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.integers(0, 6 * DAY - 1), max_size=8),
    begins=st.sampled_from([0, DAY, 2 * DAY]),
)
@settings(max_examples=60, deadline=None)
def test_looks_in_any_number_and_files_in_any_order_equal_one_look_at_everything(
    seed: int, cuts: list[int], begins: int
) -> None:
    rng = random.Random(seed)
    reports = draw_reports(rng)
    whole, steps = (look(reports, [*ends, 6 * DAY], begins, rng) for ends in ([], sorted(set(cuts))))
    assert repr(steps.judge()) == repr(whole.judge())
    assert (steps.sample_ratio, steps.crossed, +steps.refusals) == (whole.sample_ratio, whole.crossed, +whole.refusals)
    assert count(whole)["ctr"] == count_clicks_slowly(reports, begins)
    for one, other in zip(whole._joins, steps._joins, strict=True):
        people = whole._people._ordered
        factors = (join._history.predict(state._people.find(people)) for state, join in ((whole, one), (steps, other)))
        np.testing.assert_array_equal(*factors)


def count_clicks_slowly(reports: Reports, begins: int) -> tuple[dict[str, float], dict[str, float]]:
    """The same of the first metric, ranking by ranking, from the definition."""
    impressions, events, _ = reports
    shown: dict[str, dict[str, int]] = defaultdict(dict)
    for row in impressions:
        received = round(row["received"].timestamp() * 1000) - START
        items = shown[row["ranking_id"]]
        items[row["item"]] = min(received, items.get(row["item"], received))
    tokens: dict[str, Any] = {ranking: SIGNER.read(ranking) for ranking in shown}
    in_time = [
        ranking for ranking, items in shown.items() if min(items.values()) <= tokens[ranking].time - START + 35 * MINUTE
    ]
    days: dict[tuple[str, int], list[str]] = defaultdict(list)
    for ranking in sorted(in_time, key=lambda ranking: tokens[ranking].time):
        days[tokens[ranking].shopper, tokens[ranking].time // DAY].append(ranking)
    first = {ranking for rankings in days.values() for ranking in rankings[:3]}
    counted = {ranking for ranking in first if tokens[ranking].time - START >= begins}
    clicked: set[str] = set()
    for row in events:
        then, received = (round(row[name].timestamp() * 1000) - START for name in ("time", "received"))
        if row["type"] != "click":
            continue
        ranking = row.get("ranking_id")
        if ranking is None:
            pseudonym = SIGNER.name_shopper(row["shopper"])
            candidates = [
                (tokens[name].time, name)
                for name, items in shown.items()
                if tokens[name].shopper == pseudonym
                and items.get(row["item"], received + 1) <= received
                and tokens[name].time - START <= then
            ]
            ranking = max(candidates)[1] if candidates else None
        elif shown.get(ranking, {}).get(row["item"], DAY * 99) > tokens[ranking].time - START + 35 * MINUTE:
            ranking = None
        if ranking is None:
            continue
        moment = tokens[ranking].time - START
        if -MINUTE <= then - moment < 30 * MINUTE and received <= moment + 35 * MINUTE:
            clicked.add(ranking)
    exposures: dict[str, float] = {"stable": 0, "canary": 0}
    clicks: dict[str, float] = {"stable": 0, "canary": 0}
    for ranking in counted:
        exposures[tokens[ranking].arm] += 1
        clicks[tokens[ranking].arm] += ranking in clicked
    return exposures, clicks

"""The plan of a rollout: within 20 % of simulated rollouts, and honest where nothing can be decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import yaml

from endcap.errors import DataError
from endcap.experiments.closed_visits import ClosedVisits
from endcap.experiments.decision import apply_decision, decide
from endcap.experiments.effect_state import EffectState
from endcap.experiments.evidence import RolloutEvidence
from endcap.experiments.planning import RolloutPlan, find_advice, plan_rollout
from endcap.experiments.statistics import judge_effect
from endcap.experiments.traffic import ShopTraffic, read_traffic
from endcap.simulation.shoppers import ShopperHabits, SimulatedShoppers
from endcap.spec.rollout import RolloutSpec
from endcap.store import open_store
from tests.events.snapshots import write_snapshot
from tests.experiments.rollouts import START, make_policy, make_state

CTR_ALONE: dict[str, Any] = {"metrics": [{"kind": "ctr", "budget": 0.5}], "guardrails": []}
RUNS = 60


def give_traffic(policy: RolloutSpec, shoppers: float = 100_000, click_rate: float = 0.1) -> ShopTraffic:
    return read_traffic(policy, None, "toys", shoppers=shoppers, click_rate=click_rate, rankings=3)


def plan(shoppers: float = 100_000, click_rate: float = 0.1, **keys: Any) -> RolloutPlan:
    policy = make_policy(**keys)
    return plan_rollout(policy, give_traffic(policy, shoppers, click_rate))


def simulate(policy: RolloutSpec, habits: ShopperHabits, effect: float, seed: int) -> tuple[str, float, int]:
    """Run a rollout of known effect: how it ended, after how many days, and how many shoppers met the version."""
    shop = SimulatedShoppers(habits, effect=effect, seed=seed)
    state, clicks = make_state(policy), EffectState()
    met = np.zeros(habits.people, np.bool_)
    looks = round(1 / (policy.look_every.total_seconds() / 86_400))
    closed: list[tuple[Any, slice, float]] = []
    lag = -(-policy.deciding_metric.settles_after // policy.look_every)
    for number in range(round(policy.longest / policy.look_every)):
        if number % looks == 0:
            visits = shop.draw_day(number // looks)
        edges = np.linspace(0, habits.visits_per_day, looks + 1).astype(int)
        rows = slice(int(edges[number % looks]), int(edges[number % looks + 1]))
        closed.append((visits, rows, state.share))
        shopper = visits.shopper[rows]
        met[shopper[shop.place_on_range[shopper] < state.share]] = True
        if number >= lag:
            clicks.add(close(shop, *closed[number - lag]))
        now = START + (number + 1) * policy.look_every
        found = judge_effect(clicks.sums, metric="ctr", budget=policy.metric_budgets["ctr"], complete_until=now)
        evidence = RolloutEvidence(now, "canary", "7", (found,), impressions_until=now)
        decision = decide(state, evidence, policy, now)
        state = apply_decision(state, decision, policy, now)
        if decision.action in ("promote", "roll_back"):
            break
    return decision.reason, (number + 1) / looks, int(met.sum())


def close(shop: SimulatedShoppers, visits: Any, rows: slice, share: float) -> ClosedVisits:
    shopper = visits.shopper[rows]
    treated = shop.place_on_range[shopper] < share
    outcome = np.where(treated, visits.clicks[1, rows], visits.clicks[0, rows])
    exposures = visits.exposures[rows]
    expected = np.full(len(shopper), shop.habits.click_rate)
    return ClosedVisits(shopper, treated, np.full(len(shopper), share), exposures, outcome, expected)


HABITS = ShopperHabits(people=30_000, visits_per_day=10_000, daily_swing=0.0, places=0.0)
FAST: dict[str, Any] = {
    **CTR_ALONE,
    "history": "0s",
    "first_share": 0.05,
    "steps": [{"share": 0.2, "worst": -0.4}, {"share": 0.5, "worst": -0.2}],
    "look_every": "1h",
    "longest": "12d",
}


def run_all(policy: RolloutSpec, effect: float) -> tuple[Sequence[str], Sequence[float], Sequence[int]]:
    ends, days, shoppers = zip(*(simulate(policy, HABITS, effect, seed) for seed in range(RUNS)), strict=True)
    return ends, days, shoppers


def test_the_plan_of_a_good_version_is_within_a_fifth_of_simulated_rollouts() -> None:
    policy = make_policy(**FAST, margin=0.08)
    planned = plan_rollout(policy, give_traffic(policy, HABITS.visits_per_day))
    ends, days, _ = run_all(policy, 0.0)
    promoted = [count for end, count in zip(ends, days, strict=True) if end == "shown-no-harm"]
    assert planned.days is not None
    assert planned.days == pytest.approx(median(promoted), rel=0.2)
    assert planned.power == pytest.approx(len(promoted) / RUNS, abs=0.1)


def test_the_plan_of_a_harmful_version_is_within_a_fifth_of_simulated_rollouts() -> None:
    policy = make_policy(**FAST)
    (planned,) = plan_rollout(policy, give_traffic(policy, HABITS.visits_per_day)).metrics
    ends, days, shoppers = run_all(policy, -0.2)
    assert sum(end.startswith("metric-harmed") for end in ends) / RUNS == pytest.approx(planned.harm_power, abs=0.1)
    assert planned.harm_days == pytest.approx(median(days), rel=0.2)
    assert planned.harm_shoppers == pytest.approx(median(shoppers), rel=0.2)
    assert planned.harm_shoppers_most == pytest.approx(float(np.percentile(shoppers, 90)), rel=0.25)


@pytest.mark.parametrize(("click_rate", "middle", "most"), [(0.1, 974, 1_978), (0.02, 4_363, 9_443)])
def test_the_plan_meets_the_measured_number_of_shoppers(click_rate: float, middle: int, most: int) -> None:
    """Medians and ninth tenths of 200 simulated rollouts each in the benchmark's shop."""
    planned = plan(click_rate=click_rate, history="0s").metrics[0]
    assert planned.harm_shoppers == pytest.approx(middle, rel=0.2)
    assert planned.harm_shoppers_most == pytest.approx(most, rel=0.2)


def test_what_shoppers_did_before_spares_as_many_as_in_the_benchmark() -> None:
    """18 % fewer at the median of simulated rollouts, and 12, 18 and 23 % less variance at a fixed share."""
    without = plan(history="0s").metrics[0].harm_shoppers
    assert plan(history="14d").metrics[0].harm_shoppers / without == pytest.approx(1 - 0.183, abs=0.05)
    traffic = give_traffic(make_policy())
    for days, less in ((7, 0.12), (14, 0.18), (28, 0.23)):
        left = traffic.foresee(timedelta(days=days)).metrics["ctr"].variance / traffic.metrics["ctr"].variance
        assert 1 - left == pytest.approx(less, abs=0.05)


def test_a_policy_that_refreshes_is_planned_by_half_of_each_budget() -> None:
    whole, halved = plan(), plan(error_budget=0.025)
    refreshing = plan(while_running="refresh")
    assert refreshing.metrics == halved.metrics
    assert refreshing.metrics[0].harm_shoppers > whole.metrics[0].harm_shoppers


@pytest.mark.slow
def test_more_shoppers_larger_margins_and_larger_effects_take_less_time() -> None:
    usual = plan(longest="30d").days
    assert usual is not None
    assert (plan(200_000, longest="30d").days or 99) < usual
    assert (plan(margin=0.06, longest="30d").days or 99) < usual
    assert usual < (plan(click_rate=0.05, longest="30d").days or 99)
    policy = make_policy(promote="superior", **CTR_ALONE)
    better = plan_rollout(policy, give_traffic(policy), effect=0.1).days
    assert (better or 99) < (plan_rollout(policy, give_traffic(policy)).days or 99)


def test_a_metric_that_is_known_late_takes_longer_and_costs_more_shoppers() -> None:
    late = plan(**{**CTR_ALONE, "metrics": [{"kind": "ctr", "delay": "1d"}]})
    soon = plan(**{**CTR_ALONE, "metrics": [{"kind": "ctr"}]})
    assert late.days is not None
    assert soon.days is not None
    assert late.days > soon.days + 0.9
    assert late.metrics[0].harm_shoppers > soon.metrics[0].harm_shoppers


def test_a_promotion_is_planned_after_the_window_of_each_metric() -> None:
    assert (plan(1_000_000).days or 0) >= 1
    assert (plan(1_000_000, **CTR_ALONE).days or 9) < 1


def test_the_deciding_metric_is_planned_first() -> None:
    planned = plan(promote_by="conversion")
    assert [metric.metric for metric in planned.metrics] == ["conversion", "ctr", "revenue"]


@pytest.mark.slow
def test_a_hopeless_policy_is_told_with_what_would_help() -> None:
    policy = make_policy()
    traffic = give_traffic(policy, 20_000, 0.02)
    assert plan_rollout(policy, traffic).is_hopeless
    advice = find_advice(policy, traffic)
    assert advice
    for entry in advice:
        keys = dict(change.removeprefix("rollout.").split("=") for change in entry.changes)
        changed = plan_rollout(make_policy(**{key: yaml.safe_load(value) for key, value in keys.items()}), traffic)
        assert entry.strength >= 0.8
        assert changed.strength == pytest.approx(entry.strength, abs=0.05)


def test_advice_for_a_policy_with_steps_of_its_own_can_be_taken() -> None:
    policy = make_policy(
        history="0s", margin=0.1, steps=[{"share": 0.05, "worst": -0.5}, {"share": 0.5, "worst": -0.2}]
    )
    advice = find_advice(policy, give_traffic(policy, 20_000, 0.02))
    (changes,) = (entry.changes for entry in advice if "rollout.first_share=0.1" in entry.changes)
    assert changes == ("rollout.first_share=0.1", "rollout.steps=[{share: 0.5, worst: -0.2}]")


@pytest.mark.slow
def test_where_nothing_helps_what_comes_nearest_is_returned() -> None:
    policy = make_policy()
    (advice,) = find_advice(policy, give_traffic(policy, 500, 0.01))
    assert advice.strength < 0.5


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return open_store(str(tmp_path / "store"))


def write_log(store: Any, rows: Sequence[tuple[int, str | None, str | None, str]]) -> None:
    """A snapshot of events: day, customer, session, type."""
    events = [
        {
            "time": 1_700_000_000_000 + 86_400_000 * day,
            "customer": customer,
            "session": session,
            "type": type_,
            "item": "i1",
            "part": "train",
            "file": 0,
            "position": position,
        }
        for position, (day, customer, session, type_) in enumerate(rows)
    ]
    with store.publish("snapshots/toys", "key") as draft:
        write_snapshot(draft, events)


def test_traffic_is_read_from_the_last_four_weeks_of_the_newest_snapshot(store: Any) -> None:
    old = [(0, f"o{number}", "s", "view") for number in range(50)]
    views = [(40 + day, f"c{number}", "s", "view") for day in range(4) for number in range(10)]
    bought = [(40, "c1", "s", "purchase"), (40, "c1", "t", "purchase"), (41, "c2", "s", "purchase")]
    anonymous = [(42, None, "x", "view")]
    write_log(store, [*old, *views, *bought, *anonymous])
    policy = make_policy()
    traffic = read_traffic(policy, store, "toys", click_rate=0.1, rankings=2)
    assert (traffic.shoppers, traffic.people) == (41 / 4, 11)
    assert traffic.metrics["conversion"].rate == pytest.approx(2 / 41)
    assert traffic.metrics["ctr"].exposures == 2
    assert traffic.assumed == ()
    assert read_traffic(policy, store, "toys", shoppers=99).shoppers == 99


def test_a_log_without_customers_and_sessions_is_refused(store: Any) -> None:
    write_log(store, [(0, None, None, "view")])
    with pytest.raises(DataError, match="--shoppers") as caught:
        read_traffic(make_policy(), store, "toys")
    assert caught.value.code == "experiments.no-traffic"

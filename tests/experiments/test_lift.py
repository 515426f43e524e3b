"""What personalisation brings, against a known truth and against one look at everything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.experiments.exposures import Audit, ExposureReader
from endcap.experiments.lift import LiftState, LiftTable
from endcap.experiments.outcomes import read_outcomes
from endcap.experiments.splits import TrafficSplit, hash_salt
from endcap.spec.rollout import RolloutSpec
from tests.experiments.reports import (
    DAY,
    HOUR,
    MINUTE,
    SALT,
    SIGNER,
    START,
    Row,
    act,
    at,
    make_events,
    make_impressions,
    see,
)

READER = ExposureReader(SIGNER, "baseline", None, "stable")
POLICY = RolloutSpec.model_validate(
    {"metrics": [{"kind": "ctr", "types": ["click"], "first": 2}, {"kind": "conversion"}], "rankings_per_day": 5}
)
SURFACES = ("home", "cart", "search", None)
PLACES = 4


def draw_reports(rng: random.Random, rankings: int, days: int, rates: dict[str, float]) -> tuple[list[Row], list[Row]]:
    """Shoppers who see four places, and click by the arm: the first place most, on the surface `cart` twice as much.

    The salt changes with each day, as with a rollout, and so does the canary's share.
    """
    impressions: list[Row] = []
    events: list[Row] = []
    for number in range(rankings):
        shopper, moment = f"s{rng.randrange(rankings)}", rng.randrange(days * DAY)
        salt = f"{moment // DAY:x}"
        split = TrafficSplit(hash_salt(salt), canary=moment // DAY * 100_000, baseline=200_000)
        arm = split.choose(shopper, salt)
        token = SIGNER.write("7", arm, "model", split=split, shopper=shopper, time=START + moment, request=str(number))
        ranking, surface = f"{token}.0", rng.choice(SURFACES)
        for place in range(PLACES):
            then = moment + rng.randrange(MINUTE)
            impressions.append(see(ranking, then, f"p{place}", place, shopper=shopper, surface=surface))
            rate = rates.get(arm, 0.2) / (place + 1) * (2 if surface == "cart" else 1)
            if rng.random() < rate:
                clicked, received = then + rng.randrange(MINUTE), then + rng.randrange(MINUTE, 3 * MINUTE)
                owner = {"ranking_id": ranking} if rng.random() < 0.5 else {"shopper": shopper}
                events.append(act(f"e{number}-{place}", clicked, f"p{place}", received=received, **owner))
    return impressions, events


def look(reports: tuple[list[Row], list[Row]], ends: list[int], rng: random.Random, since: int = 0) -> LiftState:
    state = LiftState(POLICY, at(since))
    waiting = [list(rows) for rows in reports]
    for end in ends:
        parts: list[list[Row]] = []
        for rows in waiting:
            is_read = [row["received"] <= at(end) or rng.random() < 0.3 for row in rows]
            parts.append([row for row, flag in zip(rows, is_read, strict=True) if flag])
            rows[:] = [row for row, flag in zip(rows, is_read, strict=True) if not flag]
            rng.shuffle(parts[-1])
        exposures, _, audit = READER.read(make_impressions(parts[0]))
        assert audit.mismatches == 0
        names = {row["surface"] for row in parts[0]} - {None}
        state.take(exposures, read_outcomes(READER, make_events(parts[1]), None), names)
        state.close(at(end))
    return state


@given(
    seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 4 * DAY - 1), max_size=6), since=st.integers(0, 2 * DAY)
)
@settings(max_examples=20, deadline=None)
def test_the_lift_after_any_looks_equals_that_of_one_look_at_everything(seed: int, cuts: list[int], since: int) -> None:
    rng = random.Random(seed)
    reports = draw_reports(rng, 300, 3, {"stable": 0.3})
    whole = look(reports, [5 * DAY], rng, since)
    steps = look(reports, [*sorted(set(cuts)), 5 * DAY], rng, since)
    assert repr(steps.judge()) == repr(whole.judge())
    assert {lift.metric for lift in whole.judge().surfaces} == {"home", "cart", "search", ""}


@pytest.mark.slow
def test_the_bands_hold_the_true_lift_in_all_by_place_and_by_surface() -> None:
    rng = random.Random(7)
    reports = draw_reports(rng, 40_000, 3, {"stable": 0.3, "canary": 0.05, "baseline": 0.2})
    table = look(reports, [hours * HOUR for hours in range(12, 76, 12)], rng).judge()
    (clicks, conversion) = table.metrics
    assert (clicks.metric, conversion.metric) == ("ctr", "conversion")
    # Of the first two places: 1 - (1 - rate) (1 - rate / 2), a quarter of it on the cart, where rates are doubled.
    expected = {rate: sum(1 - (1 - rate * k) * (1 - rate * k / 2) for k in (1, 1, 1, 2)) / 4 for rate in (0.2, 0.3)}
    assert clicks.lower <= expected[0.3] / expected[0.2] - 1 <= clicks.upper
    assert clicks.lower > 0
    assert conversion.upper == float("inf"), "nobody bought anything"
    assert [lift.metric for lift in table.places] == ["1", "2", "3", "4-6", "7-10", "11+"]
    for lift in table.places[:4]:
        assert lift.lower <= 0.5 <= lift.upper
    assert [sum(lift.outcomes.values()) for lift in table.places[4:]] == [0, 0]
    assert all(lift.exposures == clicks.exposures for lift in table.places), "whoever sees a place, all rankings count"
    assert {lift.metric: lift.lower <= 0.35 <= lift.upper for lift in table.surfaces if lift.metric != "cart"} == {
        "": True,
        "home": True,
        "search": True,
    }
    assert sum(lift.exposures["stable"] for lift in table.surfaces) == clicks.exposures["stable"]
    assert LiftTable.from_json(table.to_json()) == table


def test_the_audit_tells_who_belongs_into_the_baseline_whatever_the_salt() -> None:
    split = TrafficSplit(hash_salt(SALT), canary=500_000, baseline=200_000)
    shoppers = [f"s{number}" for number in range(50)]
    rows = []
    for number, shopper in enumerate(shoppers):
        arm = "baseline" if split.has_in_baseline(shopper) else "stable"
        planted = {"baseline": "stable", "stable": "baseline"}[arm] if number == 7 else arm
        token = SIGNER.write("7", planted, "model", split=split, shopper=shopper, time=START, request=shopper)  # type: ignore[arg-type]
        rows.append(see(f"{token}.0", 1, shopper=shopper))
    exposures, refusals, audit = READER.read(make_impressions(rows))
    assert (len(exposures), dict(refusals), audit) == (50, {}, Audit(50, 1))


def test_what_came_before_the_champion_does_not_count() -> None:
    rng = random.Random(1)
    reports = draw_reports(rng, 200, 2, {})
    early = look(reports, [4 * DAY], rng).judge().metrics[0].exposures["stable"]
    late = look(reports, [4 * DAY], rng, DAY).judge().metrics[0].exposures["stable"]
    assert 0.3 * early < late < 0.7 * early

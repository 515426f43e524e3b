"""Simulated shoppers at a service: they click as their tastes say, and what is measured is what is true."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
import pyarrow as pa
import pytest

from endcap.simulation.live_counts import VersionCounts
from endcap.simulation.live_habits import LiveHabits
from endcap.simulation.live_shop import LiveShop
from endcap.simulation.live_shoppers import LiveShoppers
from endcap.simulation.simulate import SimulatedLog, simulate
from tests.simulation.shop_service import ShopService

HABITS = LiveHabits(people=400, interest=0.95, correlation=0.0, patience=0.8)
QUICK = {"visits_per_second": 10_000.0, "pause": 0.001, "most_visits": 8, "timeout": 60.0}
SIGMAS = 3.5
"""How many standard deviations chance may bring."""


@pytest.fixture(scope="module")
def log() -> SimulatedLog:
    return simulate(seed=5, days=3, events=6_000, items=40, customers=500)


@pytest.fixture(scope="module")
def shoppers(log: SimulatedLog) -> LiveShoppers:
    return LiveShoppers(log, HABITS, seed=1)


@pytest.fixture
def service(log: SimulatedLog, shoppers: LiveShoppers) -> Iterator[ShopService]:
    """The stable version ranks by the truth. The canary moves each item one place down, behind one that nobody wants:
    with a patience of 0.8, that is 20 % worse."""

    def rank(shopper: str, items: Sequence[str], k: int) -> list[str]:
        chances = log.truth.next_probabilities(items, day=shoppers.day, customer=shopper)
        return [log.truth.items[number] for number in np.argsort(-chances)[: k - 1]]

    with ShopService(lambda *query: [*rank(*query), "junk"], lambda *query: ["junk", *rank(*query)]) as opened:
        yield opened
        opened.shutdown()


def count_reported(service: ShopService, variant: str) -> VersionCounts:
    """What the intake knows of a variant's rankings."""
    rankings = {record["ranking_id"] for record in service.reports["impressions"]}
    clicks = [record["ranking_id"] for record in service.reports["events"] if record["type"] == "click"]
    assert len(set(clicks)) == len(clicks)
    return VersionCounts(
        rankings=sum(service.variants[ranking] == variant for ranking in rankings),
        clicks=sum(service.variants[ranking] == variant for ranking in clicks),
    )


@pytest.mark.slow
def test_clicks_measured_are_those_expected_and_a_worse_list_is_measured_so(
    service: ShopService, shoppers: LiveShoppers
) -> None:
    counts = LiveShop(service.address, "shoes", shoppers, **QUICK).run(400)
    rates, spread = {}, 0.0
    for variant, shown in counts.by_variant.items():
        reported = count_reported(service, variant)
        assert (reported.rankings, reported.clicks) == (shown.rankings, shown.clicks)
        assert reported.clicks == pytest.approx(shown.expected_clicks, abs=SIGMAS * sqrt(shown.variance))
        rates[variant] = reported.clicks / reported.rankings
        spread += shown.variance / shown.clicks**2
    ranker, other = service.rankers["stable"], service.rankers["canary"]
    true_effect = shoppers.compute_effect(
        lambda visit: ranker(visit.shopper.id, visit.views, 10),
        lambda visit: other(visit.shopper.id, visit.views, 10),
        visits=50,
    )
    assert true_effect == pytest.approx(-0.2)
    measured = rates["canary"] / rates["stable"] - 1
    assert measured == pytest.approx(true_effect, abs=SIGMAS * sqrt(spread))
    assert measured < -2 * sqrt(spread), "so many rankings show the harm"


def test_everything_that_was_done_is_reported(service: ShopService, shoppers: LiveShoppers) -> None:
    counts = LiveShop(service.address, "shoes", shoppers, **QUICK).run(100)
    assert (counts.visits, counts.rankings) == (100, len(service.variants))
    assert not counts.failures
    assert not +counts.rejected
    assert not +counts.lost
    assert counts.accepted == {kind: len(records) for kind, records in service.reports.items()}
    types = Counter(record["type"] for record in service.reports["events"])
    shown = list(counts.by_variant.values())
    assert types["click"] == sum(version.clicks for version in shown)
    assert types["cart"] == sum(version.carts for version in shown)
    assert counts.accepted["orders"] == sum(version.orders for version in shown) > 0
    # A visit begins with a view, and goes on after each ranking with a click or another view.
    assert types["view"] + types["click"] == 100 + counts.rankings
    for record in service.reports["impressions"]:
        assert record.keys() >= {"id", "ranking_id", "item", "position", "shopper", "session", "time"}
        assert service.variants[record["ranking_id"]]
    assert {record["shopper"] for record in service.reports["events"]} == counts.shoppers
    assert all(order["items"][0]["price"] > 0 for order in service.reports["orders"])


def test_the_shop_knows_those_who_are_signed_in(service: ShopService, log: SimulatedLog) -> None:
    shoppers = LiveShoppers(log, replace(HABITS, signed_in=0.5), seed=2)
    LiveShop(service.address, "shoes", shoppers, **QUICK).run(40)
    known = {shopper.id for shopper in shoppers.people if shopper.is_signed_in}
    assert 150 < len(known) < 250
    for query in service.queries:
        assert query.get("customer") == (query["shopper"] if query["shopper"] in known else None)


def test_a_seed_gives_the_same_visits_whatever_their_order(log: SimulatedLog, shoppers: LiveShoppers) -> None:
    def play(shop: LiveShoppers, number: int, items: Sequence[str]) -> tuple[object, ...]:
        visit, stays = shop.start_visit(number), True
        while stays:
            stays = shop.react(items, visit).stays
        return visit.shopper, tuple(visit.views)

    again = LiveShoppers(log, HABITS, seed=1)
    first = [play(shoppers, number, log.truth.items[:10]) for number in range(20)]
    # Other rankings change who clicks, and not what is wanted next.
    assert [play(again, number, ["junk"]) for number in reversed(range(20))] == first[::-1]
    assert [play(LiveShoppers(log, HABITS, seed=2), number, []) for number in range(20)] != first


def test_places_are_seen_from_the_top(log: SimulatedLog, shoppers: LiveShoppers) -> None:
    seen = Counter(
        shoppers.react(log.truth.items[:5], shoppers.start_visit(number)).places_seen for number in range(2_000)
    )
    assert set(seen) == {1, 2, 3, 4, 5}
    for place in range(5):
        chance = HABITS.patience**place
        count = sum(rows for depth, rows in seen.items() if depth > place)
        assert count / 2_000 == pytest.approx(chance, abs=SIGMAS * sqrt(chance * (1 - chance) / 2_000) + 1e-9)


def test_expected_clicks_follow_places_and_tastes(log: SimulatedLog, shoppers: LiveShoppers) -> None:
    visit = shoppers.start_visit(0)
    chances = log.truth.next_probabilities(visit.views, day=shoppers.day, customer=visit.shopper.id)
    best = [log.truth.items[number] for number in np.argsort(-chances)[:3]]
    first, second, third = np.sort(chances)[::-1][:3]

    def expect(items: Sequence[str]) -> float:
        return shoppers.compute_expected_clicks(items, visit)

    assert expect(best) == pytest.approx(0.95 * (first + 0.8 * second + 0.64 * third))
    assert expect(["junk", best[0], best[0], best[1]]) == pytest.approx(0.95 * (0.8 * first + 0.512 * second))
    assert expect([]) == 0.0


def test_shoppers_may_go_back_to_what_they_viewed_without_a_ranking(log: SimulatedLog) -> None:
    shoppers = LiveShoppers(log, replace(HABITS, repeats=0.0), seed=1)
    returns = clicks = 0
    for number in range(200):
        visit, stays = shoppers.start_visit(number), True
        while stays:
            viewed = list(dict.fromkeys(visit.views))
            assert shoppers.compute_expected_clicks(viewed, visit) == 0.0
            reaction = shoppers.react(viewed, visit)
            returns += reaction.next_view in viewed
            clicks += reaction.clicked is not None
            stays = reaction.stays
    assert returns > 50
    assert clicks == 0
    rank = {True: log.truth.items[:10], False: log.truth.items[10:20]}
    rates = [shoppers.compute_click_rate(lambda visit, best=best: rank[best], visits=50) for best in (True, False)]
    effect = shoppers.compute_effect(lambda visit: rank[True], lambda visit: rank[False], visits=50)
    assert effect == pytest.approx(rates[1] / rates[0] - 1)


def test_interest_differs_by_shopper_as_much_as_stated(log: SimulatedLog) -> None:
    people = LiveShoppers(log, LiveHabits(interest=0.4, correlation=0.1), seed=3).people
    interests = np.array([shopper.interest for shopper in people])
    assert len({shopper.id for shopper in people}) == len(people) > 300
    assert interests.mean() == pytest.approx(0.4, abs=0.04)
    assert interests.var() == pytest.approx(0.1 * 0.4 * 0.6, rel=0.25)


@pytest.mark.slow
def test_refusals_are_counted(service: ShopService, shoppers: LiveShoppers) -> None:
    shop = LiveShop(service.address, "shoes", shoppers, **QUICK)
    service.failing = {":predict": 400}
    counts = shop.run(20)
    assert (counts.failures, counts.rankings, counts.visits) == ({"test.refused": 20}, 0, 20)
    assert counts.accepted == {"events": 20}
    service.failing, service.bad_type = {}, "click"
    counts = shop.run(30)
    assert counts.rejected["events"] == sum(version.clicks for version in counts.by_variant.values()) > 0
    assert counts.reasons == {"intake.wrong-value": counts.rejected["events"]}
    service.failing, service.bad_type = {"/impressions": 413}, ""
    before = counts.accepted["impressions"]
    counts = shop.run(30)
    assert counts.accepted["impressions"] == before
    assert counts.lost["impressions"] == counts.reasons["test.refused"] > 30
    assert counts.visits == 80


def test_a_service_that_is_away_is_counted_and_ends_no_run(shoppers: LiveShoppers) -> None:
    counts = LiveShop("http://127.0.0.1:9", "shoes", shoppers, visits_per_second=1000.0, timeout=0.2).run(5)
    assert counts.failures == {"client.no-answer": 5}
    assert counts.lost == {"events": 5}


def test_shoppers_come_at_the_stated_pace_and_leave_at_the_end(service: ShopService, shoppers: LiveShoppers) -> None:
    shop = LiveShop(service.address, "shoes", shoppers, visits_per_second=40.0, pause=0.01, timeout=60.0)
    begun = time.monotonic()
    with shop.keep_open():
        while shop.count().rankings < 100:
            time.sleep(0.05)
        assert "live-shop" in {thread.name for thread in threading.enumerate()}
        assert not {"click", "view"}.isdisjoint(record["type"] for record in service.reports["events"])
    counts = shop.count()
    # Random arrivals, three rankings a visit; a busy machine may be slower.
    assert counts.visits < 40 * (time.monotonic() - begun) + SIGMAS * sqrt(40 * (time.monotonic() - begun))
    assert "live-shop" not in {thread.name for thread in threading.enumerate()}
    assert counts.accepted == {kind: len(records) for kind, records in service.reports.items()}
    time.sleep(0.1)
    assert shop.count() == counts, "nobody comes any more"


def test_the_next_run_goes_on_with_further_visits(service: ShopService, shoppers: LiveShoppers) -> None:
    shop = LiveShop(service.address, "shoes", shoppers, **QUICK)
    shop.run(10)
    shop.run(10)
    sessions = {record["session"] for record in service.reports["events"]}
    assert sessions == {f"live-{number}" for number in range(20)}


@pytest.mark.parametrize(
    "wrong", [{"people": 0}, {"interest": 0.0}, {"patience": 1.0}, {"signed_in": 1.5}, {"stays": 1.0}, {"buys": -0.1}]
)
def test_impossible_habits_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is "):
        LiveHabits(**wrong)  # type: ignore[arg-type]


def test_a_log_without_customers_has_no_shoppers(log: SimulatedLog) -> None:
    events = log.events.slice(0, 9)
    index = events.schema.get_field_index("customer")
    nobody = events.set_column(index, "customer", pa.nulls(9, pa.string()))
    with pytest.raises(ValueError, match="names no customer"):
        LiveShoppers(replace(log, events=nobody), HABITS)

"""How many shoppers a shop has and what they do: what a plan rests on, from the shop's own log or given by a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from endcap.errors import DataError
from endcap.events.query import query
from endcap.spec.rollout import RolloutSpec
from endcap.spec.rollout_metrics import CtrSpec, MetricSpec, RevenueSpec
from endcap.store import Store

USUAL_CTR = 0.05
"""Clicks per ranking where nobody says: logs without impressions do not tell."""
USUAL_RANKINGS = 3.0
"""Rankings that a shopper sees on a day where nobody says."""
CORRELATION = 0.1
"""Of two clicks of one shopper."""
ORDER_SPREAD = 1.2
"""The standard deviation of the logarithm of an order's value: heavy-tailed, as shops have it."""
_TRAFFIC = """
WITH days AS (
  SELECT time // 86400000 AS day, coalesce(customer::VARCHAR, session::VARCHAR) AS shopper,
         list(DISTINCT type) AS types
  FROM events
  WHERE coalesce(customer::VARCHAR, session::VARCHAR) IS NOT NULL
    AND time >= (SELECT max(time) FROM events) - 2419200000
  GROUP BY ALL)
"""
"""Who came on which of the last four weeks' days, and what they did."""
_COUNTS = "count(*) / greatest(1, count(DISTINCT day)) AS shoppers, count(DISTINCT shopper) AS people"


@dataclass(frozen=True)
class MetricTraffic:
    """What shoppers do, by one metric.

    Attributes
    ----------
    rate
        Outcomes per exposure.
    exposures
        Exposures of a shopper and day: rankings, or 1 for a metric per shopper.
    variance
        Of a shopper-day's outcomes.
    covariance
        Of the outcomes of two days of one shopper.
    active
        The share of shopper-days with an outcome.
    """

    rate: float
    exposures: float
    variance: float
    covariance: float
    active: float

    def foresee(self, visits: float) -> MetricTraffic:
        """Return what is left of the variance once so many earlier days of a shopper say what to expect of the next.

        Notes
        -----
        A day is the shopper's taste, of variance c (`covariance`), and noise of variance s. After n days the best
        linear estimate of the taste, `ShopperHistory`, misses it by the variance ``c s / (s + n c)`` (Bühlmann 1967).
        That is what two later days of the shopper still have in common.
        """
        noise = self.variance - self.covariance
        left = self.covariance * noise / (noise + visits * self.covariance)
        return replace(self, variance=noise + left, covariance=left)


@dataclass(frozen=True)
class ShopTraffic:
    """A shop's traffic.

    Attributes
    ----------
    shoppers
        Distinct shoppers of a day.
    people
        Distinct shoppers of four weeks, from whom those of a day come.
    metrics
        By the metric's name.
    assumed
        What the log does not tell and nobody gave, in words.
    """

    shoppers: float
    people: float
    metrics: Mapping[str, MetricTraffic]
    assumed: tuple[str, ...] = ()

    def foresee(self, history: timedelta) -> ShopTraffic:
        """Return the traffic with what is left of each variance once earlier days say what to expect of each shopper.

        Parameters
        ----------
        history
            How long before: `RolloutSpec.history`. Each shopper is taken to come as often as the others.
        """
        visits = self.shoppers / self.people * (history / timedelta(days=1))
        metrics = {name: metric.foresee(visits) for name, metric in self.metrics.items()}
        return replace(self, metrics=metrics)


def make_clicks(rate: float, rankings: float) -> MetricTraffic:
    """Return the traffic of clicks on rankings. rate: clicks per ranking; rankings: of a shopper and day."""
    single = rate * (1 - rate)
    return MetricTraffic(
        rate=rate,
        exposures=rankings,
        variance=rankings * single * (1 + (rankings - 1) * CORRELATION),
        covariance=rankings**2 * CORRELATION * single,
        active=1 - (1 - rate) ** rankings,
    )


def make_buyers(rate: float, click_rate: float) -> MetricTraffic:
    """Return the traffic of buyers. rate: buyers per shopper and day; click_rate: says how much shoppers differ."""
    spread = _compute_taste_spread(click_rate)
    return MetricTraffic(rate, 1.0, rate * (1 - rate), spread * rate**2, rate)


def make_revenue(rate: float, click_rate: float) -> MetricTraffic:
    """Return the traffic of revenue in units of a mean order. rate: buyers per shopper and day."""
    spread = _compute_taste_spread(click_rate)
    return MetricTraffic(rate, 1.0, rate * math.exp(ORDER_SPREAD**2) - rate**2, spread * rate**2, rate)


def _compute_taste_spread(click_rate: float) -> float:
    """Return the squared coefficient of variation of shoppers' tastes, by the correlation of their clicks."""
    return CORRELATION * (1 - click_rate) / click_rate


def read_traffic(
    policy: RolloutSpec,
    store: Store | None,
    shop: str,
    *,
    shoppers: float | None = None,
    people: float | None = None,
    click_rate: float | None = None,
    rankings: float | None = None,
) -> ShopTraffic:
    """Read a shop's traffic from the last four weeks of its newest snapshot.

    Parameters
    ----------
    policy
        Names the metrics and their types of events.
    store
        Holds the snapshot; None: nothing is read, and `shoppers` is needed.
    shop
        The shop's name.
    shoppers, people
        Shoppers a day and of four weeks, in place of the log's.
    click_rate
        Clicks per ranking; None: `USUAL_CTR`, and the result says so.
    rankings
        Rankings of a shopper and day; None: `USUAL_RANKINGS`, and the result says so.

    Raises
    ------
    NotFoundError
        The store has no snapshot of the shop.
    DataError
        The snapshot has no events with a customer or a session.
    """
    assumed = []
    if click_rate is None:
        click_rate = USUAL_CTR
        assumed.append(f"{USUAL_CTR:.0%} of the rankings are clicked (--ctr)")
    if rankings is None:
        rankings = USUAL_RANKINGS
        assumed.append(f"a shopper sees {USUAL_RANKINGS:g} rankings a day (--rankings)")
    rates: dict[str, float] = {}
    if store is not None:
        read_shoppers, read_people, rates = _read_log(store, shop, policy.metrics)
        shoppers = read_shoppers if shoppers is None else shoppers
        people = read_people if people is None else people
    assert shoppers is not None, "either the store or the shoppers are given"
    if people is None:
        people = 3 * shoppers
        assumed.append("a third of all shoppers comes each day (--people)")
    metrics = {}
    for metric in policy.metrics:
        rate = rates.get(metric.name, 0.0)
        if not isinstance(metric, CtrSpec) and rate <= 0:
            rate = min(0.5, 0.1 * click_rate * rankings)
            assumed.append(f"{metric.name}: {rate:.2%} of the shoppers a day")
        metrics[metric.name] = _make_metric(metric, rate, click_rate, rankings)
    return ShopTraffic(shoppers, max(people, shoppers), metrics, tuple(assumed))


def _make_metric(metric: MetricSpec, rate: float, click_rate: float, rankings: float) -> MetricTraffic:
    if isinstance(metric, CtrSpec):
        return make_clicks(click_rate, rankings)
    return make_revenue(rate, click_rate) if isinstance(metric, RevenueSpec) else make_buyers(rate, click_rate)


def _read_log(store: Store, shop: str, metrics: Sequence[MetricSpec]) -> tuple[float, float, dict[str, float]]:
    """Return shoppers a day, people of the four weeks, and by metric the share of shopper-days with an outcome."""
    outcomes = [metric for metric in metrics if not isinstance(metric, CtrSpec)]
    has_outcome = "".join(
        f", avg(list_has_any(types, {_quote_list(metric.types)})::INT) AS m{number}"
        for number, metric in enumerate(outcomes)
    )
    # Types are quoted; all else is a constant.
    sql = _TRAFFIC + f"SELECT {_COUNTS}{has_outcome} FROM days"  # noqa: S608
    row = query(sql, store, shop=shop).to_pylist()[0]
    if not row["people"]:
        raise DataError(
            f"the newest snapshot of {shop} has no events with a customer or a session, so nothing is known of its "
            "traffic. Give --shoppers",
            code="experiments.no-traffic",
            shop=shop,
        )
    rates = {metric.name: float(row[f"m{number}"] or 0.0) for number, metric in enumerate(outcomes)}
    return float(row["shoppers"]), float(row["people"]), rates


def _quote_list(types: Sequence[str]) -> str:
    quoted = ", ".join("'" + entry.replace("'", "''") + "'" for entry in types)
    return f"[{quoted}]"

"""The simulated shop: repeatable, growing day by day, lifelike, and drawn from a truth that can be asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from endcap.errors import StorageError, UserError
from endcap.simulation.simulate import SimulatedLog, simulate, simulate_days, write_log
from tests.refusals import refused


@pytest.fixture(scope="module")
def log() -> SimulatedLog:
    """Four weeks, about 120,000 events of 1,000 items."""
    return simulate(seed=7, days=28, events=120_000, items=1_000, customers=4_000)


@pytest.fixture(scope="module")
def events(log: SimulatedLog) -> pd.DataFrame:
    return log.events.to_pandas()


@pytest.fixture(scope="module")
def views(events: pd.DataFrame) -> pd.DataFrame:
    """Views with the number of their day, sessions together and in order of time."""
    found = events[events.type == "view"].sort_values(["session", "time"], kind="stable")
    return found.assign(day=(found.time.dt.floor("D") - pd.Timestamp("2026-03-02", tz="UTC")).dt.days)


def test_a_seed_gives_one_log() -> None:
    first, again, other = (simulate(seed=seed, days=2, events=2_000, items=100) for seed in (1, 1, 2))
    assert first.events.equals(again.events)
    assert first.items.equals(again.items)
    assert not first.events.equals(other.events)


def test_more_days_leave_the_earlier_ones_as_they_are() -> None:
    short = simulate(seed=3, days=3, events=3_000, items=200)
    long = simulate(seed=3, days=9, events=9_000, items=200)
    assert long.events.slice(0, short.events.num_rows).equals(short.events)
    assert set(short.items["item"].to_pylist()) < set(long.items["item"].to_pylist())


def test_day_by_day_is_the_same_log() -> None:
    whole = simulate(seed=3, days=4, events=4_000, items=200)
    days = list(simulate_days(seed=3, days=4, events=4_000, items=200))
    assert pa.concat_tables([day.events for day in days]).equals(whole.events)
    assert days[-1].items.equals(whole.items)


def test_days_written_in_two_goes_are_those_written_at_once(tmp_path: Path) -> None:
    log = simulate(seed=3, days=5, events=2_000, items=200)
    write_log(log, tmp_path / "once")
    write_log(log, tmp_path / "twice", days=range(3))
    early = {file.name: file.read_bytes() for file in (tmp_path / "twice" / "events").iterdir()}
    assert sorted(early) == ["2026-03-02.csv", "2026-03-03.csv", "2026-03-04.csv"]
    write_log(log, tmp_path / "twice", days=range(3, 5))
    for file in sorted((tmp_path / "once").rglob("*.csv")):
        again = tmp_path / "twice" / file.relative_to(tmp_path / "once")
        assert again.read_bytes() == file.read_bytes()
        assert early.get(file.name, file.read_bytes()) == file.read_bytes()
    assert len(list((tmp_path / "twice").rglob("*"))) == 5 + 3


def test_another_logs_days_are_not_mixed_in(tmp_path: Path) -> None:
    write_log(simulate(seed=3, days=3, events=500, items=50), tmp_path)
    shorter = simulate(seed=3, days=2, events=500, items=50)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.csv")}
    place = str(tmp_path / "events")
    with refused(UserError, "events.foreign-days", path=place, found=["2026-03-04.csv"], count=1):
        write_log(shorter, tmp_path)
    with refused(UserError, "events.foreign-days", path=place, count=3) as caught:
        write_log(simulate(seed=3, days=3, events=500, items=50), tmp_path, compress=True)
    assert caught.value.fields["found"][0] == "2026-03-02.csv"
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.csv")} == before
    longer = simulate(seed=4, days=4, events=500, items=50)
    assert len(write_log(longer, tmp_path)) == 4 + 2
    for day in simulate_days(seed=4, days=4, events=500, items=50):
        write_log(day, tmp_path / "by-day")
    assert len(list((tmp_path / "by-day" / "events").iterdir())) == 4


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(StorageError, "store.cannot-write", path=str(tmp_path / "file")):
        write_log(simulate(seed=3, days=1, events=10, items=10), tmp_path / "file")


def test_written_files_hold_the_log(tmp_path: Path) -> None:
    log = simulate(seed=3, days=2, events=500, items=50, start=datetime(2026, 1, 5, 13, tzinfo=UTC))
    plain = write_log(log, tmp_path / "iso")
    packed = write_log(log, tmp_path / "ms", compress=True, times="ms")
    assert [file.name for file in plain] == ["2026-01-05.csv", "2026-01-06.csv", "items.csv", "blacklist.csv"]
    assert [file.name for file in packed] == ["2026-01-05.csv.gz", "2026-01-06.csv.gz", "items.csv", "blacklist.csv"]
    iso = pd.concat([pd.read_csv(file) for file in plain[:-2]])
    epoch = pd.concat([pd.read_csv(file) for file in packed[:-2]])
    assert list(iso.columns) == ["time", "session", "customer", "item", "type"]
    assert iso.time.str.fullmatch(r"2026-01-0[56]T\d\d:\d\d:\d\d\.\d{3}Z").all()
    assert iso.item.tolist() == epoch.item.tolist() == log.events["item"].to_pylist()
    assert epoch.time.tolist() == log.events["time"].cast(pa.int64()).to_pylist()
    assert iso.customer.isna().tolist() == log.events["customer"].is_null().to_pylist()
    items = pa_csv.read_csv(plain[-2])
    assert items.column_names == ["item", "title", "category", "brand", "price", "added", "stock"]
    assert set(pa_csv.read_csv(plain[-1])["item"].to_pylist()) < set(items["item"].to_pylist())
    assert items["title"].equals(log.items["title"])


@pytest.mark.parametrize(("days", "events", "items", "customers"), [(7, 50_000, 1_000, 5_000), (3, 40_000, 5_000, 500)])
def test_there_are_about_as_many_events_as_wished(days: int, events: int, items: int, customers: int) -> None:
    log = simulate(seed=5, days=days, events=events, items=items, customers=customers)
    # Three days from a Monday are quieter than a week.
    expected = events * (1.0 if days == 7 else (0.95 + 0.92 + 0.93) / 3)
    assert log.events.num_rows == pytest.approx(expected, rel=0.04)


def test_tiny_shops_work() -> None:
    log = simulate(seed=1, days=3, events=3, items=10, customers=1)
    assert log.events.num_rows >= 3
    with pytest.raises(ValueError, match="items is 3; allowed: at least 10"):
        simulate(seed=1, days=1, events=10, items=3)


def test_the_catalogue_reads_like_a_shops(log: SimulatedLog) -> None:
    items = log.items.to_pandas()
    assert items.item.is_unique
    assert items.title.is_unique
    assert items.category.nunique() == 20
    assert items.category.str.contains("/").all()
    assert items.price.between(1, 5_000).all()
    middle = items.groupby("category").price.median()
    assert middle["Outdoor/Tents"] > 2 * middle["Clothing/Basics"]


def test_events_are_of_items_on_sale_and_new_items_sell(log: SimulatedLog, events: pd.DataFrame) -> None:
    items = log.items.to_pandas().set_index("item")
    added = pd.to_datetime(items.added).dt.tz_localize("UTC")
    assert (events.time >= added.loc[events.item].to_numpy()).all()
    later = items.index[added > added.min()]
    assert 0.04 < len(later) / len(items) < 0.2
    assert events.item.isin(later).mean() > 0.03


def test_few_items_make_much_of_the_trade(events: pd.DataFrame) -> None:
    counts = events.item.value_counts()
    assert counts.iloc[: len(counts) // 10].sum() > 0.3 * len(events)
    assert counts.iloc[: len(counts) // 10].sum() < 0.8 * len(events)


def test_traffic_follows_hour_and_weekday(views: pd.DataFrame) -> None:
    hours = views.time.dt.hour.value_counts()
    assert hours[20] > 8 * hours[3]
    weekdays = views.time.dt.weekday.value_counts()
    assert weekdays[5] > 1.1 * weekdays[1]


def test_demand_moves_over_weeks(views: pd.DataFrame) -> None:
    def likeness(first: range, second: range) -> float:
        counts = [views[views.day.isin(days)].item.value_counts() for days in (first, second)]
        return float(counts[0].corr(counts[1].reindex(counts[0].index, fill_value=0)))

    assert likeness(range(7), range(7, 14)) > likeness(range(7), range(21, 28)) + 0.05


def test_sessions_are_a_customers_visit_within_a_day(events: pd.DataFrame) -> None:
    sessions = events.groupby("session")
    assert (sessions.customer.nunique(dropna=False) == 1).all()
    assert (sessions.time.min().dt.date == sessions.time.max().dt.date).all()
    pauses = events.sort_values(["session", "time"]).groupby("session").time.diff().dropna()
    assert pauses.max() < pd.Timedelta("30min")
    known = sessions.first().dropna(subset="customer")
    assert not known.groupby([known.time.dt.date, "customer"]).size().gt(1).any()
    assert 0.2 < sessions.customer.first().isna().mean() < 0.3
    assert sessions.time.min().is_monotonic_increasing  # their ids are in the order of their beginnings


def test_what_is_bought_was_put_into_the_cart_and_viewed_before(events: pd.DataFrame) -> None:
    first = events.groupby(["session", "item", "type"]).time.min().unstack("type")
    carted, bought = first.cart.notna(), first.purchase.notna()
    assert 0.02 < carted.mean() < 0.2
    assert 0.2 < bought.sum() / carted.sum() < 0.7
    assert (first[carted].view < first[carted].cart).all()
    assert (first[bought].cart < first[bought].purchase).all()


def test_the_truth_is_a_distribution_and_knows_the_session(log: SimulatedLog, views: pd.DataFrame) -> None:
    session = next(group for _, group in views.groupby("session") if len(group) > 4)
    chances = log.truth.next_probabilities(session.item.tolist(), day=int(session.day.iloc[0]))
    assert chances.sum() == pytest.approx(1.0)
    assert chances.min() >= 0.0
    at = {item: chances[log.truth.items.index(item)] for item in session.item}
    assert min(at.values()) > 1 / len(log.truth.items)


@pytest.mark.parametrize("known", [True, False], ids=["known customers", "unknown customers"])
def test_the_log_is_drawn_from_the_truth(log: SimulatedLog, views: pd.DataFrame, known: bool) -> None:
    """The hits of the truth's twenty best items are as many as their probabilities say, to four standard errors."""
    expected, hits = [], []
    for group in sessions_of(views, day=20):
        if group.customer.isna().any():
            continue
        items, customer = group.item.tolist(), group.customer.iloc[0] if known else None
        for length in range(1, len(items)):
            chances = log.truth.next_probabilities(items[:length], day=20, customer=customer)
            best = np.argsort(-chances)[:20]
            expected.append(chances[best].sum())
            hits.append(log.truth.items.index(items[length]) in best)
    deviation = np.sqrt(np.sum(np.multiply(expected, 1 - np.array(expected))))
    assert len(hits) > 1_000
    assert abs(np.sum(hits) - np.sum(expected)) < 4 * deviation


def test_session_models_can_beat_popularity_and_the_truth_beats_them(log: SimulatedLog, views: pd.DataFrame) -> None:
    past = views[views.day < 27]
    popular = set(past.item.value_counts().index[:20])
    followers: dict[str, Counter[str]] = defaultdict(Counter)
    for _, group in past.groupby("session"):
        for one, following in pairwise(group.item):
            followers[one][following] += 1
    hits = []
    for group in sessions_of(views, day=27):
        items = group.item.tolist()
        for length in range(1, len(items)):
            chances = log.truth.next_probabilities(items[:length], day=27)
            best = {log.truth.items[n] for n in np.argsort(-chances)[:20]}
            often = {item for item, _ in followers[items[length - 1]].most_common(20)}
            hits.append([items[length] in ranking for ranking in (popular, often, best)])
    popularity, pairs, truth = np.mean(hits, axis=0)
    assert pairs > popularity + 0.2
    assert truth > pairs + 0.05


def sessions_of(views: pd.DataFrame, day: int) -> list[pd.DataFrame]:
    """The day's sessions of two views or more."""
    return [group for _, group in views[views.day == day].groupby("session") if len(group) > 1]

"""Event logs of a simulated shop, with a known truth: for the demo, for tests and for measurements.

Each day is drawn from (seed, day) alone, so that more days leave the earlier ones as they are. A session begins with
a product of a kind that its customer likes (tastes by category, a price level); that kind is its intent, and lasts.
What is viewed next is in `endcap.simulation.market`. Demand moves over weeks, new products appear each day, and traffic
follows the hour and the weekday.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from endcap.errors import UserError
from endcap.simulation.market import NEUTRAL, Floats, Ints, Market, Trends, Truth
from endcap.simulation.products import LEVELS, ProductRange, make_products
from endcap.store import report_storage_errors

START = datetime(2026, 3, 2, tzinfo=UTC)
_DAY = 86_400_000
_SHAPE, _SCALE, _MOST_VIEWS = 0.9, 3.8, 60
_CART, _CART_AGAIN, _BUY = 0.04, 0.12, 0.45
_EVENTS_PER_VIEW = 1.0825
"""Views, carts and purchases for each view: measured, and held by a test of the number of events."""
_WEEK = (0.95, 0.92, 0.93, 0.97, 1.05, 1.12, 1.06)
# How busy the hours are, from midnight on (UTC).
_HOURS = (18, 10, 6, 4, 4, 7, 16, 30, 42, 50, 56, 62, 66, 62, 58, 58, 62, 70, 80, 92, 100, 92, 66, 36)
_FAVOURITES = 3
_ANONYMOUS = 0.25
_ANYWHERE = 0.15
_LONGEST_PAUSE = 900_000
_SOLD_OUT, _LEFT = 0.005, 20
_BLACKLISTED = 3


@dataclass(frozen=True)
class SimulatedLog:
    """A simulated shop's log.

    Attributes
    ----------
    events
        time (timestamp ms, UTC), session, customer (null: unknown), item, type (view, cart, purchase), in time order.
    items
        item, title, category, brand, price, added (date), stock: the items on sale by the last day.
    truth
        The probabilities that the events were drawn from.
    start
        The log's first day.
    """

    events: pa.Table
    items: pa.Table
    truth: Truth
    start: datetime


@dataclass(frozen=True)
class _Customers:
    ids: pa.Array
    activity: Floats
    level: NDArray[np.int64]
    favourites: NDArray[np.int64]
    """Categories [customers, _FAVOURITES]."""
    liking: Floats
    """How much of each: float64 [customers, _FAVOURITES]."""


def simulate(
    *,
    seed: int,
    days: int,
    events: int,
    items: int = 5_000,
    customers: int = 20_000,
    start: datetime = START,
) -> SimulatedLog:
    """Simulate a shop's log.

    Parameters
    ----------
    seed
        Equal arguments give equal logs.
    days
        The number of days.
    events
        The approximate number of events.
    items, customers
        The numbers of products and of customers.
    start
        The first day (UTC).

    Returns
    -------
    SimulatedLog
        Events, items and the probabilities behind them. Fewer days with as many events a day give the beginning of the
        same log.

    Raises
    ------
    ValueError
        If a number is too small.
    """
    logs = list(simulate_days(seed=seed, days=days, events=events, items=items, customers=customers, start=start))
    return SimulatedLog(pa.concat_tables([log.events for log in logs]), logs[-1].items, logs[-1].truth, logs[0].start)


def simulate_days(
    *,
    seed: int,
    days: int,
    events: int,
    items: int = 5_000,
    customers: int = 20_000,
    start: datetime = START,
) -> Iterator[SimulatedLog]:
    """Simulate the log of `simulate` day by day, for logs that do not fit into memory."""
    for name, value, least in (
        ("days", days, 1),
        ("events", events, 1),
        ("items", items, 10),
        ("customers", customers, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; allowed: at least {least}")
    start = (start if start.tzinfo else start.replace(tzinfo=UTC)).astimezone(UTC)
    start = start.replace(hour=0, minute=0, second=0, microsecond=0)
    rng = np.random.default_rng([seed, 0])
    catalogue = make_products(rng, items)
    trends = Trends.make(rng, items, len(catalogue.kind_start) - 1)
    people = _make_customers(rng, customers, catalogue)
    truth = Truth(catalogue, trends, dict(zip(people.ids.to_pylist(), people.level.tolist(), strict=True)))
    for day in range(days):
        date = start + timedelta(days=day)
        sessions = events / days * _WEEK[date.weekday()] / (_EVENTS_PER_VIEW * (1 + _SHAPE * _SCALE))
        rng = np.random.default_rng([seed, 1, day])
        market = Market(catalogue, trends, day)
        table = _simulate_day(rng, market, people, max(1, round(sessions)), date)
        yield SimulatedLog(table, _make_item_table(catalogue, start, day, _draw_stock(seed, day, items)), truth, start)


def write_log(
    log: SimulatedLog,
    folder: str | Path,
    *,
    days: range | None = None,
    compress: bool = False,
    times: Literal["iso", "ms"] = "iso",
) -> list[Path]:
    """Write `events/<date>.csv` for each day, and `items.csv` and `blacklist.csv` as of the last day.

    Parameters
    ----------
    log
        The log.
    folder
        The folder to write to.
    days
        Days of the log, counted from its first. None: all.
    compress
        Whether to write `.csv.gz`.
    times
        ISO 8601 text or epoch milliseconds.

    Returns
    -------
    list of Path
        The files. A file is complete, or it does not exist. The blacklist holds the dearest products, as if recalled.

    Raises
    ------
    UserError
        If `events` holds files of other days, which a shop would read with this log's.
    StorageError
        If the disk refuses.
    """
    folder, suffix = Path(folder), ".csv.gz" if compress else ".csv"
    moments = log.events["time"].cast(pa.int64()).to_numpy()
    first = int(log.start.timestamp() * 1000)
    end_day = int((moments[-1] - first) // _DAY) + 1
    # A log of `simulate_days` is one day's, and the earlier days' files are of the same log.
    _check_log(folder / "events", {_name_day_file(log, day, suffix) for day in range(end_day)})
    present = range(int((moments[0] - first) // _DAY), end_day)
    names = [day for day in present if days is None or day in days]
    files = []
    with report_storage_errors(folder):
        (folder / "events").mkdir(parents=True, exist_ok=True)
        for day in names:
            begin, end = np.searchsorted(moments, [first + day * _DAY, first + (day + 1) * _DAY])
            table = log.events.slice(begin, end - begin)
            text = _format_times(table["time"]) if times == "iso" else table["time"].cast(pa.int64())
            table = table.set_column(0, "time", text)
            files.append(folder / "events" / _name_day_file(log, day, suffix))
            _write_csv(table, files[-1])
        if names:
            last = (log.start + timedelta(days=names[-1])).date()
            files.append(folder / "items.csv")
            on_sale = log.items.filter(pc.less_equal(log.items["added"], pa.scalar(last)))
            _write_csv(on_sale, files[-1])
            files.append(folder / "blacklist.csv")
            dearest = on_sale.sort_by([("price", "descending"), ("item", "ascending")])
            _write_csv(dearest.select(["item"]).slice(0, _BLACKLISTED), files[-1])
    return files


def _name_day_file(log: SimulatedLog, day: int, suffix: str) -> str:
    return f"{log.start + timedelta(days=day):%Y-%m-%d}{suffix}"


def _check_log(folder: Path, own_files: set[str]) -> None:
    files = sorted(file.name for file in folder.glob("[!.]*.csv*") if file.name not in own_files)
    if files:
        raise UserError(
            f"{folder} holds files that are not of this log's days, such as {files[0]} (of {len(files)}): a shop would "
            "read them with it; remove them, or name a new folder",
            code="events.foreign-days",
            path=str(folder),
            found=files[:10],
            count=len(files),
        )


def _format_times(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Format times as 2026-03-02T09:30:00.123Z."""
    return pc.replace_substring(times.cast(pa.string()), " ", "T", max_replacements=1)


def _write_csv(table: pa.Table, file: Path) -> None:
    half = file.with_name(f".{file.name}.half")
    compression = "gzip" if file.suffix == ".gz" else None
    with pa.output_stream(str(half), compression=compression) as stream:
        pa_csv.write_csv(table, stream, pa_csv.WriteOptions(quoting_style="needed"))
    os.replace(half, file)  # noqa: PTH105 - the same call


def _make_customers(rng: np.random.Generator, count: int, catalogue: ProductRange) -> _Customers:
    filled = np.flatnonzero(np.diff(catalogue.category_start))
    share = np.diff(np.concatenate([[0.0], np.cumsum(catalogue.appeal)])[catalogue.category_start])[filled]
    favourites = rng.choice(filled, (count, _FAVOURITES), p=share / share.sum())
    return _Customers(
        ids=_number_ids("c", rng.permutation(count * 3)[:count]),
        activity=rng.lognormal(0.0, 1.0, count),
        level=rng.choice(LEVELS, count, p=[0.35, 0.45, 0.2]),
        favourites=favourites,
        liking=rng.dirichlet(np.ones(_FAVOURITES), count),
    )


def _simulate_day(
    rng: np.random.Generator, market: Market, people: _Customers, sessions: int, date: datetime
) -> pa.Table:
    """The day's events, in order of time."""
    views = np.minimum(1 + rng.poisson(rng.gamma(_SHAPE, _SCALE, sessions)), _MOST_VIEWS)
    views = -np.sort(-views)  # longest first: the sessions still going on are always the first rows
    customers = _draw_visitors(rng, people, sessions)
    viewed = _draw_views(rng, market, people, customers, views)
    owner = np.repeat(np.arange(sessions), views)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(views) - views, views)
    times = _draw_times(rng, views)
    item = viewed[owner, step]
    rows = _add_actions(rng, owner, item, times[owner, step], times[owner, step + 1], _find_repeats(owner, item))
    return _make_table(rng, market.catalogue, people, customers, rows, date)


def _draw_visitors(rng: np.random.Generator, people: _Customers, sessions: int) -> Ints:
    """Each session's customer, by activity; nobody comes twice a day unless there are more sessions than customers."""
    count = len(people.activity)
    if sessions > count:
        return rng.choice(count, sessions, p=people.activity / people.activity.sum())
    keys = np.log(people.activity) + rng.gumbel(size=count)
    return rng.permutation(np.argsort(-keys, kind="stable")[:sessions])


def _draw_views(rng: np.random.Generator, market: Market, people: _Customers, customers: Ints, views: Ints) -> Ints:
    """Products viewed: int64 [sessions, longest session]; what is past a session's end means nothing."""
    catalogue, level = market.catalogue, people.level[customers]
    liking = people.liking[customers] * market.category_weight[people.favourites[customers]]
    reach = np.cumsum(liking, axis=1)
    slot = (reach <= (rng.random(len(customers)) * reach[:, -1])[:, None]).sum(axis=1)
    category = people.favourites[customers, np.minimum(slot, _FAVOURITES - 1)]
    anywhere = rng.random(len(customers)) < _ANYWHERE
    start = np.where(anywhere, 0, catalogue.category_start[category])
    stop = np.where(anywhere, len(catalogue), catalogue.category_start[category + 1])
    kind = catalogue.kind[market.draw(rng, start, stop, np.full_like(level, NEUTRAL))].astype(np.int64)
    viewed = np.zeros((len(customers), views[0]), dtype=np.int64)
    viewed[:, 0] = market.draw_of_kind(rng, kind, level)
    for step in range(1, views[0]):
        going = int(np.searchsorted(-views, -step))  # sessions with more than `step` views
        viewed[:going, step] = market.draw_next(rng, viewed[:going, :step], kind[:going], level[:going])
    return viewed


def _draw_times(rng: np.random.Generator, views: Ints) -> Ints:
    """When each view is, and behind the last one when the session is over: int64 [sessions, most views + 1], ms."""
    pauses = np.clip(rng.lognormal(np.log(35_000), 1.0, (len(views), views[0])), 2_000, _LONGEST_PAUSE)
    elapsed = np.concatenate([np.zeros((len(views), 1)), np.cumsum(pauses, axis=1)], axis=1)
    busy = np.concatenate([[0.0], np.cumsum(_HOURS)])
    begin = np.interp(rng.random(len(views)) * busy[-1], busy, np.arange(25) * 3_600_000.0)
    # A session that would go on past midnight (with its order, a minute later) begins earlier.
    end = begin + elapsed[np.arange(len(views)), views] + 120_000
    begin = np.maximum(begin - np.maximum(end - _DAY, 0), 0)
    times: Ints = (begin[:, None] + elapsed).astype(np.int64)
    return times


def _find_repeats(owner: Ints, item: Ints) -> NDArray[np.bool_]:
    """Whether a view's product was viewed before in its session. Views of a session stand together, in order."""
    order = np.lexsort((np.arange(len(owner)), item, owner))
    again = np.zeros(len(owner), dtype=bool)
    again[order[1:]] = (np.diff(owner[order]) == 0) & (np.diff(item[order]) == 0)
    return again


def _add_actions(
    rng: np.random.Generator, owner: Ints, item: Ints, time: Ints, end: Ints, again: NDArray[np.bool_]
) -> dict[str, Ints]:
    """Views with what is put into the cart between two views, and what is bought a minute after the last."""
    carted = np.flatnonzero(rng.random(len(owner)) < np.where(again, _CART_AGAIN, _CART))
    buys = rng.random(owner[-1] + 1) < _BUY
    bought = carted[buys[owner[carted]]]
    over = np.zeros(owner[-1] + 1, dtype=np.int64)
    np.maximum.at(over, owner, end)
    kinds = np.repeat(np.arange(3), [len(owner), len(carted), len(bought)])
    rows = np.concatenate([np.arange(len(owner)), carted, bought])
    moments = np.concatenate([time, (time[carted] + end[carted]) // 2, over[owner[bought]] + 60_000])
    return {"owner": owner[rows], "item": item[rows], "time": moments, "type": kinds}


def _make_table(
    rng: np.random.Generator,
    catalogue: ProductRange,
    people: _Customers,
    customers: Ints,
    rows: dict[str, Ints],
    date: datetime,
) -> pa.Table:
    order = np.lexsort((rows["type"], rows["time"]))
    owner = rows["owner"][order]
    # Sessions are numbered in the order of their first events.
    _, first = np.unique(owner, return_index=True)
    number = np.empty(len(customers), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(customers))
    customer = pa.array(customers, mask=rng.random(len(customers)) < _ANONYMOUS)
    moments = pa.array(rows["time"][order] + int(date.timestamp() * 1000)).cast(pa.timestamp("ms", tz="UTC"))
    columns: dict[str, Any] = {
        "time": moments,
        "session": _number_ids(f"s{date:%Y%m%d}-", number).take(pa.array(owner)),
        "customer": people.ids.take(customer).take(pa.array(owner)),
        "item": pa.array(catalogue.ids).take(pa.array(rows["item"][order])),
        "type": pa.array(["view", "cart", "purchase"]).take(pa.array(rows["type"][order])),
    }
    return pa.table(columns)


def _number_ids(prefix: str, numbers: Ints) -> pa.Array:
    """Text ids: the prefix and a number of six digits or more."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width=6, padding="0")
    return pc.binary_join_element_wise(pa.scalar(prefix), digits, pa.scalar(""))


def _draw_stock(seed: int, day: int, items: int) -> Ints:
    """What is left of each product at the end of a day; nobody's choice depends on it."""
    rng = np.random.default_rng([seed, 2, day])
    return np.where(rng.random(items) < _SOLD_OUT, 0, 1 + rng.poisson(_LEFT, items))


def _make_item_table(catalogue: ProductRange, start: datetime, day: int, stock: Ints) -> pa.Table:
    """The products on sale by that day, ordered by id."""
    added = np.datetime64(start.date()) + catalogue.launch.astype("timedelta64[D]")
    table = pa.table(
        {
            "item": catalogue.ids,
            "title": catalogue.titles,
            "category": catalogue.category_names,
            "brand": catalogue.brands,
            "price": catalogue.price,
            "added": pa.array(added),
            "stock": stock,
        }
    )
    return table.filter(pa.array(catalogue.launch <= day)).sort_by("item")

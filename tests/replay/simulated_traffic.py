"""Requests at a real online store in simulated time: events that come late or early, rules that change, batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.features.publishing import publish_features
from endcap.online import CUSTOMERS, OWNED, OnlineStore, open_online, sqlite
from endcap.online.record_updates import MOST_CUSTOMERS, Retention, StoreUpdate
from endcap.ranking import Ranker
from endcap.registry.online_features import get_shop_name, open_online_features
from endcap.registry.package import LoadedPackage
from endcap.rules import Catalogue
from endcap.samples import SampledRequest
from endcap.samples.files import FileDescription, encode_file, get_day, name_catalogue, name_file
from endcap.samples.observation import Observation, build_sample
from endcap.samples.places import open_place
from endcap.spec.rules import Rules
from endcap.store import Store
from endcap_serving.intake.parquet import SCHEMAS
from tests.replay.recorded import KEY

SECOND, DAY = 1000, 86_400_000
START = 1_781_524_800_000
"""2026-06-15 12:00 UTC."""
RETENTION = Retention()
REFRESH = 5 * SECOND
"""How long a predictor goes on with the rules of before."""
AT_ONCE = 6
"""The most requests that are ranked together."""
ROWS = 2000


@dataclass(order=True)
class Click:
    """An event: when it reached the online store, and the intake, and what it was. Times in epoch milliseconds."""

    written: int
    received: int
    time: int
    customer: str | None = field(compare=False)
    session: str | None = field(compare=False)
    item: str = field(compare=False)


@dataclass
class Traffic:
    """Clicks in the order in which the online store has them, and requests with their times."""

    clicks: list[Click]
    requests: list[tuple[int, dict[str, Any]]]


def simulate_traffic(
    items: Sequence[str], customers: Sequence[str], requests: int, per_second: int = 100, seed: int = 1
) -> Traffic:
    """Simulate shoppers who click and then ask. Some clicks are late, some of another clock, some of last week."""
    drawn = random.Random(seed)
    clicks = [
        Click(START - 8 * DAY, START - 8 * DAY, START - 8 * DAY, f"old{number}", None, drawn.choice(items))
        for number in range(max(1, requests // 500))
    ]
    asked = []
    for number in range(requests):
        time = START + number * SECOND // per_second
        customer = drawn.choice(customers)
        session = f"s{customer}" if drawn.random() < 0.3 else None
        if drawn.random() < 0.8:
            happened = time - drawn.randint(1, 5000)
            received = happened + drawn.randint(1, 50)
            if drawn.random() < 0.02:
                received = happened + drawn.randint(10 * SECOND, 600 * SECOND)
            elif drawn.random() < 0.005:
                happened += 60 * SECOND
            named = customer if drawn.random() < 0.95 or session is None else None
            clicks.append(
                Click(received + drawn.randint(1, 40), received, happened, named, session, drawn.choice(items))
            )
        kind = drawn.random()
        if kind < 0.15:
            asked.append((time, {"items": drawn.choices(items, k=3)}))
        elif kind < 0.17:
            asked.append((time, {"customer": f"old{drawn.randrange(max(1, requests // 500))}"}))
        elif session is None:
            asked.append((time, {"customer": customer}))
        else:
            asked.append((time, {"customer": customer, "session": session}))
    return Traffic(sorted(clicks), asked)


def record_traffic(traffic: Traffic, packages: Sequence[LoadedPackage], store: Store, folder: Path) -> tuple[str, str]:
    """Answer the requests with the packages in turn, as versions 1, 2, …, and write what a shop would have written.

    Returns
    -------
    tuple
        The addresses of the samples and of the intake's files.
    """
    samples, intake = str(folder / "samples"), folder / "intake"
    items = list(packages[0].vocabulary.ids)
    half = traffic.requests[len(traffic.requests) // 2][0]
    table = pa.table({"item": items})
    catalogues = [
        Catalogue(Rules(), table, frozenset(items[0:5]), START - DAY),
        Catalogue(Rules(), table, frozenset(items[5:10]), half),
    ]
    for catalogue in catalogues:
        name = name_catalogue(packages[0].recommender.name, get_day(START), catalogue.version)
        open_place(samples).write(name, catalogue.to_bytes())
    online = open_online(f"sqlite://{folder}/online.sqlite", shop=get_shop_name(packages[0]), timeout=10)
    with _set_clock() as clock:
        dataset = str(packages[0].info["dataset"])
        publish_features(store.fetch(dataset), dataset.rsplit("/", 1)[-1], online)
        rows = list(_answer(traffic, packages, catalogues, half, online, clock))
    online.close()
    for number, begin in enumerate(range(0, len(rows), ROWS)):
        part = rows[begin : begin + ROWS]
        name = name_file(packages[0].recommender.name, get_day(part[0].time), "pod-1", number)
        open_place(samples).write(name, encode_file(part, FileDescription("pod-1", number)))
    _write_intake(traffic.clicks, intake)
    return samples, str(intake)


class _Clock:
    now = START - 9 * DAY


@contextmanager
def _set_clock() -> Iterator[_Clock]:
    """Let the online store's file have a clock that is set."""
    clock, real = _Clock(), sqlite._get_epoch_ms
    sqlite._get_epoch_ms = lambda: clock.now
    try:
        yield clock
    finally:
        sqlite._get_epoch_ms = real


def _answer(
    traffic: Traffic,
    packages: Sequence[LoadedPackage],
    catalogues: Sequence[Catalogue],
    half: int,
    online: OnlineStore,
    clock: _Clock,
) -> Iterator[SampledRequest]:
    rankers = [[package.ranker.with_catalogue(catalogue) for catalogue in catalogues] for package in packages]
    lookups = [open_online_features(online, package, str(n + 1), 10.0) for n, package in enumerate(packages)]
    drawn, waiting, number = random.Random(2), iter(traffic.clicks), 0
    following = next(waiting, None)
    while number < len(traffic.requests):
        batch = traffic.requests[number : number + drawn.randint(1, AT_ONCE)]
        now, place = batch[-1][0], drawn.randrange(len(packages))
        while following is not None and following.written <= now:
            clock.now = following.written
            _write_click(online, following)
            following = next(waiting, None)
        clock.now = now
        ruled = now >= half + REFRESH
        ranker: Ranker = rankers[place][ruled]
        parsed = [ranker.parse(instance) for _, instance in batch]
        contexts, degraded = lookups[place].look_up(parsed, owned=ranker.rulebook.rules.owned is not None)
        answers = ranker.rank(parsed, now=now, contexts=contexts)
        for at, (request, context, answer, lacks) in enumerate(zip(parsed, contexts, answers, degraded, strict=True)):
            observation = Observation(
                f"r{number + at}", at, str(place + 1), "stable", now, request, context, answer, lacks, catalogues[ruled]
            )
            sample = build_sample(observation, packages[0].recommender.name, KEY.pseudonymise, KEY.key_id)
            assert sample is not None
            yield sample
        number += len(batch)


def _write_click(online: OnlineStore, click: Click) -> None:
    """Write as the intake's thread does."""
    update = StoreUpdate()
    recent = click.time >= click.written - RETENTION.events.total_seconds() * SECOND
    update.add(
        [click.item],
        click.time,
        "view",
        customer=click.customer,
        session=click.session,
        is_recent=recent,
        owns=False,
    )
    if update.customers:
        online.add(CUSTOMERS, update.customers, RETENTION.events, MOST_CUSTOMERS)
    if update.events:
        online.append(update.events, RETENTION.events)
    if update.owned:
        online.add(OWNED, update.owned, RETENTION.owned)


def _write_intake(clicks: Sequence[Click], folder: Path) -> None:
    schema = SCHEMAS["events"]
    days = sorted({get_day(click.received) for click in clicks})
    for day in days:
        some = [click for click in clicks if get_day(click.received) == day]
        columns: dict[str, list[Any]] = {
            "id": [f"e{number}" for number in range(len(some))],
            "item": [click.item for click in some],
            "time": [datetime.fromtimestamp(click.time / SECOND, UTC) for click in some],
            "type": ["view"] * len(some),
            "customer": [click.customer for click in some],
            "session": [click.session for click in some],
            "received": [datetime.fromtimestamp(click.received / SECOND, UTC) for click in some],
        }
        arrays = [
            pa.array(columns[column.name], column.type) if column.name in columns else pa.nulls(len(some), column.type)
            for column in schema
        ]
        place = folder / "events" / f"date={day.isoformat()}"
        place.mkdir(parents=True)
        pq.write_table(pa.table(arrays, schema=schema), place / "pod-000000000001.parquet")

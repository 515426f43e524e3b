"""The intake's files in a folder and in a bucket: each once, and named where they cannot be read."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from endcap.errors import NotFoundError, StorageError
from endcap.rollout.carrying_out import find_salt
from endcap.rollout.controller import RolloutController
from endcap.rollout.feed import KINDS, LONGEST_SEGMENT, IntakeFeed, IntakeOutput, choose_segment_age
from endcap.rollout.feed_places import FeedFile, open_feed_place
from endcap.rollout.observation import RolloutObserver
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store, bucket
from endcap_serving.intake.destinations import Destination, open_destination
from tests.experiments.reports import act, at, make_events, make_impressions, make_ranking, see
from tests.refusals import refused
from tests.rollout.shop import MINUTE, POLICY, Shop
from tests.store.servers import S3Place, Server, moto

TODAY = f"{at(0):%Y-%m-%d}"
EVENTS = make_events([act("e", 1)])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with moto() as running:
        yield running


@dataclass
class Outlet:
    """Where an intake writes, by its own code."""

    address: str
    destination: Destination
    s3: S3Place | None

    def put(self, kind: str, day: str, name: str, table: pa.Table = EVENTS) -> str:
        """Write a file; returns its address."""
        path = f"{kind}/date={day}/{name}"
        self.destination.put(path, table)
        return f"{self.address}/{path}"

    def damage(self, file: str) -> None:
        if self.s3 is None:
            place = Path(file)
            place.write_bytes(place.read_bytes()[:-20])
        else:
            self.s3.put(file.removeprefix(f"s3://{self.s3.bucket}/"), b"PAR1 and not much more")


@pytest.fixture(params=["folder", "bucket"])
def outlet(request: pytest.FixtureRequest, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Outlet:
    s3 = S3Place(server, tmp_path, monkeypatch) if request.param == "bucket" else None
    address = f"{s3.url}/intake" if s3 else str(tmp_path / "intake")
    (tmp_path / "staging").mkdir()
    return Outlet(address, open_destination(address, tmp_path / "staging"), s3)


def make_feed(outlet: Outlet, store: Store) -> IntakeFeed:
    return IntakeFeed(store, at(0), IntakeOutput(outlet.address))


def read(feed: IntakeFeed, now: datetime | None = None) -> list[str]:
    return [batch.kind for batch in feed.read_new(now or at(0))]


def test_each_file_is_read_once_from_the_day_before_on(outlet: Outlet, store: Store) -> None:
    feed = make_feed(outlet, store)
    assert read(feed) == []
    impressions = make_impressions([see(make_ranking("anna", 0), 1)])
    for days in (-2, -1, 0):
        outlet.put("impressions", f"{at(0) + timedelta(days=days):%Y-%m-%d}", "a-000000000001.parquet", impressions)
    outlet.put("events", TODAY, "a-000000000001.parquet")
    outlet.put("events", TODAY, "by-hand.parquet")
    outlet.put("events", "no-day", "a-000000000001.parquet")
    batches = list(feed.read_new(at(0)))
    assert [batch.kind for batch in batches] == ["impressions"] * 2 + ["events"] * 2
    assert batches[0].rows.select(["item", "position"]).equals(impressions.select(["item", "position"]))
    assert read(feed) == []
    outlet.put("events", TODAY, "a-000000000002.parquet")
    assert read(feed) == ["events"]


def test_files_come_in_the_order_of_days_so_that_each_day_can_be_closed_before_the_next(
    outlet: Outlet, store: Store
) -> None:
    days = [f"{at(0) + timedelta(days=days):%Y-%m-%d}" for days in (-3, -2, -1, 0)]
    for day in reversed(days):
        for kind in KINDS:
            outlet.put(kind, day, "a-000000000001.parquet")
    batches = list(IntakeFeed(store, at(0) - timedelta(days=2), IntakeOutput(outlet.address)).read_new(at(0)))
    assert [(str(batch.day), batch.kind) for batch in batches] == [(day, kind) for day in days for kind in KINDS]


def test_a_damaged_file_is_named_and_read_once_it_is_whole(outlet: Outlet, store: Store) -> None:
    feed = make_feed(outlet, store)
    outlet.put("impressions", TODAY, "a-000000000001.parquet", make_impressions([see(make_ranking("anna", 0), 1)]))
    file = outlet.put("events", TODAY, "a-000000000001.parquet")
    outlet.damage(file)
    batches = feed.read_new(at(0))
    assert next(batches).kind == "impressions"
    with refused(StorageError, "rollout.feed-unreadable", file=file):
        next(batches)
    outlet.put("events", TODAY, "a-000000000001.parquet")
    # What was read before is not read again, and a file that was written once more under its name is not either.
    assert read(feed) == ["events"]
    outlet.put("events", TODAY, "a-000000000001.parquet")
    assert read(feed) == []


@pytest.mark.parametrize("seed", range(2))
def test_whenever_is_looked_each_file_is_read_once(
    outlet: Outlet, store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a folder has several pages.
    monkeypatch.setattr(bucket, "PAGE", 3)
    rng, feed = random.Random(seed), make_feed(outlet, store)
    written, batches = Counter[str](), Counter[str]()
    numbers = dict.fromkeys(("a", "b-1", "b"), 0)
    now = at(0)
    for _ in range(40):
        if rng.random() < 0.6:
            instance, kind = rng.choice(list(numbers)), rng.choice(KINDS)
            numbers[instance] += 1
            day = now - timedelta(days=rng.choice((0, 0, 0, 1)))
            outlet.put(kind, f"{day:%Y-%m-%d}", f"{instance}-{numbers[instance]:012d}.parquet")
            written[kind] += 1
        elif rng.random() < 0.5:
            batches.update(read(feed, now))
        else:
            now += timedelta(hours=rng.choice((1, 30)))
    batches.update(read(feed, now))
    assert batches == written
    assert read(feed, now) == []


def test_a_file_that_came_late_is_read_within_a_look_for_each_folder(outlet: Outlet, store: Store) -> None:
    feed, now = make_feed(outlet, store), at(0)
    for days in range(3):
        now = at(0) + timedelta(days=days)
        outlet.put("events", f"{now:%Y-%m-%d}", f"a-{days + 5:012d}.parquet")
    assert read(feed, now) == ["events"] * 3
    # Below the highest number, in a folder that is older than the day before the last look; and in one that is new.
    outlet.put("events", TODAY, "a-000000000002.parquet")
    outlet.put("orders", TODAY, "a-000000000002.parquet")
    assert Counter(kind for _ in range(4) for kind in read(feed, now)) == {"events": 1, "orders": 1}


def test_a_look_lists_what_is_new_and_reads_only_that(
    server: Server, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = S3Place(server, tmp_path, monkeypatch)
    destination = open_destination(f"{s3.url}/intake", tmp_path)
    outlet, read_objects, pages = Outlet(f"{s3.url}/intake", destination, s3), list[str](), list[int]()
    download, list_page = bucket.Bucket.download, bucket.Bucket.list_page

    def note_download(self: bucket.Bucket, name: str, file: Path, *, etag: str = "") -> None:
        read_objects.append(name)
        assert etag
        download(self, name, file, etag=etag)

    def note_page(self: bucket.Bucket, prefix: str, *, after: str = "") -> list[bucket.Blob]:
        page = list_page(self, prefix, after=after)
        pages.append(len(page))
        return page

    monkeypatch.setattr(bucket.Bucket, "download", note_download)
    monkeypatch.setattr(bucket.Bucket, "list_page", note_page)
    monkeypatch.setattr(bucket, "PAGE", 5)
    feed = make_feed(outlet, store)
    for number in range(12):
        for instance in ("a", "b"):
            outlet.put("events", TODAY, f"{instance}-{number:012d}.parquet")
        # The folder whose turn it is to be listed as a whole.
        outlet.put("impressions", TODAY, "a-000000000001.parquet")
    assert len(read(feed)) == 25
    assert read(feed) == []  # the turn of the folder of events
    read_objects.clear()
    pages.clear()
    outlet.put("events", TODAY, "a-000000000012.parquet")
    assert read(feed) == ["events"]
    assert [name.rpartition("/")[2] for name in read_objects] == ["a-000000000012.parquet"]
    # Two requests for the folder of impressions, and of events one, and one behind the newest of each instance.
    assert len(pages) <= 5


def test_an_object_that_is_replaced_while_it_is_read_is_read_at_the_next_look(outlet: Outlet) -> None:
    outlet.put("events", TODAY, "a-000000000001.parquet")
    place = open_feed_place(outlet.address)
    (file,) = place.list_files(f"events/date={TODAY}", {})
    assert [len(rows) for _, rows in place.read([file])] == [1]
    if outlet.s3 is not None:
        with refused(NotFoundError, "store.object-replaced"):
            list(place.read([FeedFile(file.day, file.name, "another-etag")]))


@pytest.mark.slow
def test_a_rollout_by_files_of_a_bucket_ends_as_one_by_files_of_a_folder(
    store: Store, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = S3Place(server, tmp_path, monkeypatch)
    shop = Shop(store, POLICY)

    class SendingController(RolloutController):
        """Before each look, the files are copied to the bucket."""

        def look(self) -> Any:
            folder = Path(store.root.removeprefix("file://")) / "intake"
            names = {name.removeprefix("intake/") for name in s3.names()}
            for file in folder.rglob("*.parquet"):
                if (name := str(file.relative_to(folder))) not in names:
                    s3.put(f"stores/one/intake/{name}", file.read_bytes())
            return super().look()

    controller = SendingController(
        store,
        "shoes",
        notify=[shop.messages.append],
        read_clock=lambda: shop.now,
        intake=IntakeOutput(f"{s3.url}/intake"),
    )
    controller.start("2")
    entry = shop.run(controller, 20, stable=0.2, canary=0.1)
    assert entry.after.phase == "rolled-back"
    last = entry.evidence
    assert last is not None
    assert entry.before is not None
    assert not last.problems
    assert last.effects[0].exposures["canary"] > 0
    # An observer that looks once, at the end, and in the folder, knows the same.
    policy = RolloutSpec.model_validate(POLICY)
    observer = RolloutObserver(entry.before, "stable", policy, store, find_salt(entry.before))
    once = observer.observe(entry.before, last.until)
    assert (once.effects, once.sample_ratio, once.refusals) == (last.effects, last.sample_ratio, last.refusals)


def test_what_shoppers_did_before_is_read_at_the_begin_and_counts_for_no_arm(store: Store) -> None:
    shop = Shop(store, POLICY)
    shop.now = at(0) - timedelta(days=2)
    for _ in range(3):
        shop.receive(600, stable=0.2)
        shop.now += timedelta(days=1) - timedelta(minutes=2)
    controller = shop.make_controller()
    controller.start("2")
    entry = shop.run(controller, 4, stable=0.2, canary=0.2)
    last, state = entry.evidence, entry.before
    assert last is not None
    assert state is not None
    read = {}
    for history in ("14d", "36h", "0s"):
        policy = RolloutSpec.model_validate({**POLICY, "history": history})
        observer = RolloutObserver(state, "stable", policy, store, find_salt(state))
        once = observer.observe(state, last.until)
        assert (once.effects[0].exposures, once.refusals) == (last.effects[0].exposures, last.refusals)
        if history == "14d":
            # One look at all days knows what many looks knew.
            assert (once.effects, once.sample_ratio) == (last.effects, last.sample_ratio)
        read[history] = observer._watch.metrics._joins[0]._history.to_arrays()["outcomes"].sum()
    assert read["14d"] > read["36h"] > read["0s"] == 0


@pytest.mark.parametrize(("intake", "is_complete"), [(IntakeOutput(segment_age=300.0), True), (None, False)])
def test_reports_of_an_intake_that_writes_seldom_count_where_its_age_is_known(
    store: Store, intake: IntakeOutput | None, is_complete: bool
) -> None:
    shop = Shop(store, POLICY)
    state = shop.make_controller().start("2").after
    observer = RolloutObserver(state, "stable", RolloutSpec.model_validate(POLICY), store, find_salt(state), intake)
    for _ in range(3):
        # It is looked each minute, and a file comes each five.
        for minute in range(1, 5):
            observer.observe(state, shop.now + minute * MINUTE)
        shop.receive(600, span=5 * MINUTE, stable=0.3, canary=0.3)
    evidence = observer.observe(state, shop.now)
    assert ("behind" not in evidence.refusals) == is_complete


@pytest.mark.parametrize(("look_every", "age"), [("10m", LONGEST_SEGMENT), ("4m", 120.0), ("1s", 1.0)])
def test_segments_are_closed_before_the_look_that_reads_them(look_every: str, age: float) -> None:
    policy = RolloutSpec.model_validate({"look_every": look_every})
    assert choose_segment_age(policy) == age
    assert IntakeOutput().find_lag(policy).total_seconds() > age
    assert IntakeOutput(segment_age=900.0).find_lag(policy).total_seconds() > 900
    assert choose_segment_age(None) == LONGEST_SEGMENT

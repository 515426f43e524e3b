"""The intake's files: each once, and named where they cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest

from endcap.errors import StorageError, UserError
from endcap.rollout.feed import LONGEST_SEGMENT, IntakeFeed, choose_segment_age, find_lag
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store
from tests.experiments.reports import act, at, make_events, make_impressions, make_ranking, see
from tests.refusals import refused


def write(store: Store, kind: str, day: str, name: str, table: Any) -> Path:
    file = Path(store.root.removeprefix("file://")) / "intake" / kind / f"date={day}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def test_each_file_is_read_once_from_the_day_before_on(store: Store) -> None:
    feed, begin = IntakeFeed(store, at(0)), at(0)
    impressions, events = make_impressions([see(make_ranking("anna", 0), 1)]), make_events([act("e", 1)])
    assert list(feed.read_new()) == []
    for days in (-2, -1, 0):
        write(store, "impressions", f"{begin + timedelta(days=days):%Y-%m-%d}", "a.parquet", impressions)
    write(store, "events", f"{begin:%Y-%m-%d}", "a.parquet", events)
    write(store, "events", "no-day", "a.parquet", events)
    assert [(batch.kind, len(batch.rows)) for batch in feed.read_new()] == [("impressions", 1)] * 2 + [("events", 1)]
    assert list(feed.read_new()) == []
    write(store, "events", f"{begin:%Y-%m-%d}", "b.parquet", events)
    assert [batch.kind for batch in feed.read_new()] == ["events"]


def test_a_damaged_file_is_named_and_read_once_it_is_whole(store: Store) -> None:
    feed = IntakeFeed(store, at(0))
    file = write(store, "events", f"{at(0):%Y-%m-%d}", "a.parquet", make_events([act("e", 1)]))
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with refused(StorageError, "rollout.feed-unreadable", file=str(file)):
        list(feed.read_new())
    file.write_bytes(whole)
    assert [batch.kind for batch in feed.read_new()] == ["events"]


@dataclass
class Bucket:
    root: str = "s3://bucket/store"


def test_a_bucket_is_refused_by_name() -> None:
    with refused(UserError, "rollout.feed-in-bucket", store="s3://bucket/store"):
        list(IntakeFeed(cast(Store, Bucket()), at(0)).read_new())


@pytest.mark.parametrize(("look_every", "age"), [("10m", LONGEST_SEGMENT), ("4m", 120.0), ("1s", 1.0)])
def test_segments_are_closed_before_the_look_that_reads_them(look_every: str, age: float) -> None:
    policy = RolloutSpec.model_validate({"look_every": look_every})
    assert choose_segment_age(policy) == age
    assert find_lag(policy).total_seconds() > age
    assert choose_segment_age(None) == LONGEST_SEGMENT

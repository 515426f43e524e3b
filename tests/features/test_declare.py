"""Event features: by hand, and the two evaluations of each kind against one another."""

from __future__ import annotations

import datetime
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import SpecError
from endcap.features.event_features import KINDS, build_column, compute_features, encode_types, select_model_features
from endcap.features.sessions import Sessions, Types
from endcap.spec.event_features import EventFeature
from endcap.store import Store
from tests.features.logs import MONDAY, dataset, event, recommender, shop, table
from tests.refusals import misspelt

FIRST = int(datetime.datetime(1990, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)
LAST = int(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)
HOUR = 3_600_000
TYPES = ["view", "cart"]


def feature(kind: str, buckets: list[float] | None = None) -> EventFeature:
    told = {"types": TYPES} if kind == "type" else {"buckets": buckets}
    return EventFeature.model_validate({"name": kind, "kind": kind, **told})


def test_each_kind_by_hand() -> None:
    times = [MONDAY + 23 * HOUR, MONDAY + 23 * HOUR + 1500, MONDAY + 24 * HOUR, MONDAY + 8 * 24 * HOUR]
    sessions = replace(
        Sessions.of([[7, 7, 5], [7]], [times[:3], times[3:]]), types=Types.of(["cart", "wish", None, "view"])
    )
    found = compute_features([feature(kind) for kind in KINDS], sessions)
    assert {name: array.tolist() for name, array in found.items()} == {
        "position": [0, 1, 2, 0],
        "gap": [0, 1.5, 3598.5, 0],
        "repeat": [0, 1, 0, 0],
        "hour": [23, 23, 0, 0],
        "weekday": [0, 0, 1, 1],
        "type": [2, 0, 0, 1],
    }
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_hour_and_weekday_are_those_of_the_calendar() -> None:
    moments = [FIRST, FIRST + 1, LAST, MONDAY - 1, MONDAY]
    found = compute_features(
        [feature("hour"), feature("weekday")], Sessions.of([[0]] * 5, [[moment] for moment in moments])
    )
    dates = [datetime.datetime.fromtimestamp(moment / 1000, datetime.UTC) for moment in moments]
    assert found["hour"].tolist() == [date.hour for date in dates]
    assert found["weekday"].tolist() == [date.weekday() for date in dates]


def test_a_bucket_counts_the_edges_that_are_reached() -> None:
    gaps = feature("gap", [0.1, 1, 60])
    times = list(itertools.accumulate([0, 99, 100, 1000, 59_999, 60_000]))
    assert compute_features([gaps], Sessions.of([[0] * 6], [times]))["gap"].tolist() == [0, 0, 1, 2, 2, 3]
    assert gaps.values == 4


def test_no_events_have_no_values() -> None:
    assert compute_features([feature("gap"), feature("repeat")], Sessions.of([[], []]))["repeat"].shape == (0,)
    assert compute_features([feature("type")], replace(Sessions.of([[], []]), types=Types.of([])))["type"].shape == (0,)


def test_without_types_every_event_is_of_none() -> None:
    assert compute_features([feature("type")], Sessions.of([[1, 2]]))["type"].tolist() == [0, 0]
    assert feature("type").values == 3


steps = st.one_of(st.just(0), st.integers(0, 5000), st.integers(0, 400 * 24 * HOUR))
kinds = st.sampled_from([None, "view", "cart", "wish", ""])
edges = st.lists(st.floats(-10, 1e6, width=64), min_size=1, max_size=4, unique=True).map(sorted)
logs = st.lists(
    st.tuples(st.integers(FIRST, LAST), st.lists(st.tuples(st.integers(0, 3), steps, kinds), min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)
features = st.fixed_dictionaries({kind: st.one_of(st.none(), edges) for kind in KINDS})


@pytest.fixture(scope="module")
def backend() -> ibis.BaseBackend:
    return ibis.duckdb.connect()


@settings(max_examples=60, deadline=None)
@given(log=logs, buckets=features)
def test_both_evaluations_of_a_declaration_agree(
    backend: ibis.BaseBackend,
    log: list[tuple[int, list[tuple[int, int, str | None]]]],
    buckets: dict[str, list[float] | None],
) -> None:
    items = [[item for item, _, _ in session] for _, session in log]
    times = [[start + step for step in itertools.accumulate(step for _, step, _ in session)] for start, session in log]
    types = [[kind for _, _, kind in session] for _, session in log]
    declared = [feature(kind, chosen) for kind, chosen in buckets.items()]
    asked = compute_features(declared, replace(Sessions.of(items, times), types=Types.of([*itertools.chain(*types)])))
    # Where an event stands is told here by plain loops; that a dataset tells the same is the next test's.
    rows = [
        {
            "time": times[number][place],
            "position": place,
            "previous": times[number][place - 1] if place else None,
            "seen": items[number][:place].count(items[number][place]),
            "type": types[number][place],
        }
        for number in range(len(items))
        for place in range(len(items[number]))
    ]
    schema = pa.schema(
        [*((name, pa.int64()) for name in ("time", "position", "previous", "seen")), ("type", pa.string())]
    )
    events = encode_types(ibis.memtable(pa.Table.from_pylist(rows, schema)), declared)
    computed = backend.to_pyarrow(events.select(**{each.name: build_column(each, events) for each in declared}))
    for each in declared:
        np.testing.assert_array_equal(computed[each.name].to_numpy(), asked[each.name], err_msg=each.name)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("sessions_by", [{}, {"sessions": {"by": "gap", "gap": "30s"}}], ids=["given", "gap"])
def test_a_dataset_carries_what_arrays_would_give(store: Store, sessions_by: dict[str, Any]) -> None:
    generator = np.random.default_rng(5)
    rows = [
        event(f"s{session}", str(item), int(moment), f"c{session % 7}")
        for session, item, moment in generator.integers([0, 0, 0], [30, 6, 200_000], (300, 3))
    ]
    rows += [event("same", item, 0) for item in "1212"]
    # Told by the time, so that an event found again in the dataset has its type beside it.
    rows = [{**row, "type": ["view", "cart", "wish", None][row["time"] % 4]} for row in rows]
    declared = [feature(kind).model_dump(exclude_none=True) for kind in KINDS]
    declared += [{"name": "slow", "kind": "gap", "buckets": [1, 5]}]
    chosen = shop(features={"events": declared}, **sessions_by)
    folder: Path = dataset(store, rows, chosen)
    events = table(folder, "events")
    lengths = [row["events"] for row in table(folder, "sessions")]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    sessions = Sessions(
        np.array([row["item"] for row in events], np.int32),
        np.array([row["time"] for row in events]),
        offsets,
        np.full(len(lengths), -1, np.int32),
        types=Types.of([["view", "cart", "wish", None][row["time"] % 4] for row in events]),
    )
    for name, array in compute_features(chosen.features.events, sessions).items():
        np.testing.assert_array_equal([row[name] for row in events], array, err_msg=name)


def test_a_model_can_name_declared_features_of_limited_values_only() -> None:
    declared = [feature("hour"), feature("gap")]
    named = recommender(model={"name": "gru4rec", "features": ["hour"]})
    assert select_model_features(named, declared) == declared[:1]
    members = {"gru": {"name": "gru4rec", "features": ["hour"]}, "sas": {"name": "sasrec", "features": ["hour"]}}
    assert select_model_features(recommender(model={"name": "blend", "members": members}), declared) == declared[:1]
    baseline = recommender(baselines=[{"name": "gru4rec", "features": ["hour"]}])
    assert select_model_features(baseline, declared) == []
    wrong = recommender(model={"name": "gru4rec", "features": ["weather", "gap"]})
    with pytest.raises(SpecError) as error:
        select_model_features(wrong, declared)
    first, second = error.value.problems
    assert (first.key, first.found, first.allowed) == ("model.features[0]", "'weather'", "gap, hour")
    assert (first.code, second.code) == ("unknown-name", "not-allowed")
    assert "buckets" in second.hint
    wrong = recommender(model={"name": "blend", "members": {**members, "sas": {"name": "sasrec", "features": ["x"]}}})
    with misspelt(("model.members.sas.features[0]", "unknown-name")):
        select_model_features(wrong, declared)
    with misspelt(("baselines[0].features[0]", "unknown-name")):
        select_model_features(recommender(baselines=[{"name": "gru4rec", "features": ["x"]}]), declared)

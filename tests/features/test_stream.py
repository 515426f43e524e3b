"""Streams out of a dataset's files: the view's own sessions, each exactly once, in bounded memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from endcap.errors import DataError, UserError
from endcap.features import build, stream
from endcap.features.dataset_files import build_item_table, read_refit_sessions
from endcap.features.sessions import Sessions
from endcap.features.stream import Part, SessionStream, stream_sessions
from endcap.features.streamed_view import open_streamed_view
from endcap.features.view import open_view
from endcap.spec import Recommender
from endcap.store import open_store
from endcap.testing.preprocessing import assert_equal
from tests.features.logs import at_times, event, recommender, shop, snapshot
from tests.refusals import refused

SPLITS: list[dict[str, Any]] = [
    {"by": "time", "test": "2h", "validation": "3h"},
    {"by": "time", "test": 0.1, "validation": 0.25},
    {"by": "time", "test": "1h", "validation": 0.0},
    {"by": "given", "validation": 0.2},
    {"by": "leave-one-out"},
]
ASKED: list[dict[str, Any]] = [
    {},
    {"order": "file"},
    {"protocol": "basket", "basket": "complete"},
    {"protocol": "basket", "basket": "next"},
]
MEASURE = """
import re, sys
from pathlib import Path
from endcap.features.stream import stream_sessions
from tests.features.logs import recommender
from tests.features.test_stream import SPLITS

def peak():  # of this program alone, in MB; getrusage would count the one that started it
    return int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024

before = peak()
stream = stream_sessions(Path(sys.argv[1]), recommender(split=SPLITS[1]), batch=256, seed=1)
sessions = events = 0
for batch in stream:
    sessions, events = sessions + len(batch), events + len(batch.items)
print(peak() - before, sessions - stream.sessions, events - stream.events)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with features, types and given test sessions, whose files have many small row groups."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    rng = np.random.default_rng(4)
    rows: list[dict[str, Any]] = []
    for number in range(300):
        part, moment = ("test" if number % 15 == 14 else "train"), 120_000 * number
        for _ in range(int(rng.integers(1, 9))):
            who = None if number % 5 == 0 else f"c{number % 40}"
            row = event(f"s{number:03}", f"i{int(40 * rng.random() ** 2):02}", moment, who, part)
            rows.append({**row, "type": ("view", "cart")[int(rng.integers(2))]})
            moment += int(rng.integers(1, 900_000)) if rng.random() < 0.8 else 0
    columns = {"session": "session", "customer": "customer", "type": "type"}
    its = shop(
        events={"sources": [{"path": "events.csv"}], "columns": columns},
        filters={"min_item_events": 3},
        features={
            "events": [{"name": "gap", "kind": "gap"}, {"name": "kind", "kind": "type", "types": ["view", "cart"]}]
        },
    )
    made = store.fetch(build(its, snapshot(store, rows, items={"item": [f"i{n:02}" for n in range(40)]}), store))
    for file in made.glob("*s.parquet"):
        pq.write_table(pq.read_table(file, partitioning=None), file, row_group_size=37)
    return made


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_EVENTS", 50)


def of(split: dict[str, Any] = SPLITS[1]) -> Recommender:
    return recommender(split=split)


def rows(sessions: Iterable[Sessions]) -> Counter[tuple[Any, ...]]:
    """Every session of some batches, with all that is known of it."""
    found: Counter[tuple[Any, ...]] = Counter()
    for batch in sessions:
        for row in range(len(batch)):
            part = slice(batch.offsets[row], batch.offsets[row + 1])
            values = [batch.items[part], batch.times[part], *(one[part] for one in batch.features.values())]
            found[int(batch.customers[row]), *(tuple(one.tolist()) for one in values)] += 1
    return found


@pytest.mark.parametrize("split", SPLITS, ids=lambda one: "-".join(map(str, one.values())))
def test_a_stream_is_the_view_s_part(folder: Path, split: dict[str, Any]) -> None:
    view = open_view(folder, of(split))
    parts: dict[Part, Sessions] = {"train": view.train, "training": view.training}
    for part, expected in parts.items():
        streamed = stream_sessions(folder, of(split), part, batch=7)
        batches = list(streamed)
        assert {len(batch) for batch in batches[:-1]} == {7}
        assert_equal(Sessions.concat(batches), expected)
        assert (streamed.sessions, streamed.events) == (len(expected), len(expected.items))
        assert streamed.last == expected.times.max()
        assert streamed.vocabulary.ids == view.vocabulary.ids
        assert streamed.items.equals(view.items)
        # Every session once, whatever the order.
        assert rows(streamed.epoch(1)) == rows([expected])


@pytest.mark.parametrize("split", SPLITS[::2], ids=lambda one: one["by"])
def test_everything_is_streamed_too(folder: Path, split: dict[str, Any]) -> None:
    vocabulary, sessions = read_refit_sessions(folder, of(split))
    streamed = stream_sessions(folder, of(split), "everything", batch=64)
    assert_equal(Sessions.concat(list(streamed)), sessions)
    assert streamed.vocabulary.ids == vocabulary.ids
    assert streamed.items.equals(build_item_table(folder, vocabulary, sessions))


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: "-".join(one.values()) or "sets")
@pytest.mark.parametrize("split", SPLITS, ids=lambda one: "-".join(map(str, one.values())))
def test_a_streamed_view_is_the_view_but_for_what_it_streams(
    folder: Path, split: dict[str, Any], asked: dict[str, Any]
) -> None:
    if split["by"] == "leave-one-out" and "basket" in asked:
        return
    wanted = recommender(split=split, evaluation=asked)
    view, streamed = open_view(folder, wanted), open_streamed_view(folder, wanted)
    for part in ("validation", "test"):
        assert_equal(getattr(streamed, part), getattr(view, part))
        for name in ("owner", "ends", "places", "weights", "begun"):
            found, expected = (getattr(one.predictions(part), name).tolist() for one in (streamed, view))
            assert found == expected, name
    assert streamed.streams is not None
    for name, part in streamed.streams.items():
        assert rows(part) == rows([getattr(view, name)])
    assert streamed.counts == view.counts
    assert streamed.vocabulary.ids == view.vocabulary.ids


def test_the_seed_and_the_pass_decide_the_order(folder: Path) -> None:
    streamed = stream_sessions(folder, of(), batch=16, seed=5, buffer=40)
    plain = rows(streamed)
    assert plain == rows(stream_sessions(folder, of(), batch=16))

    def order(one: SessionStream) -> list[int]:
        return [int(moment) for batch in one for moment in batch.times[batch.offsets[:-1]]]

    first = order(streamed)
    assert first == order(streamed) == order(pickle.loads(pickle.dumps(streamed)))
    assert (
        len(
            {
                tuple(first),
                tuple(order(streamed.epoch(1))),
                tuple(order(replace(streamed, seed=6))),
                tuple(sorted(first)),
            }
        )
        == 4
    )
    # Neighbours in time are no neighbours in the stream.
    places = np.argsort(np.argsort(first))
    assert np.median(np.abs(np.diff(places))) > len(first) / 10


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("world", [2, 5, 64])
def test_workers_share_the_sessions_without_overlap(folder: Path, seed: int | None, world: int) -> None:
    whole = stream_sessions(folder, of(), batch=16, seed=seed)
    shares = [rows(stream_sessions(folder, of(), batch=16, seed=seed, rank=rank, world=world)) for rank in range(world)]
    assert sum(shares, Counter()) == rows(whole)
    if world == 5:
        sizes = [sum(one.values()) for one in shares]
        assert max(sizes) < 2 * min(sizes)
    nested = [rows(whole.shard(1, 2).shard(rank, 3)) for rank in range(3)]
    assert sum(nested, Counter()) + sum(
        (rows(whole.shard(0, 2).shard(rank, 3)) for rank in range(3)), Counter()
    ) == rows(whole)
    with pytest.raises(UserError) as error:
        whole.shard(world, world)
    assert error.value.code == "features.no-such-shard"


class Torch(IterableDataset[Any]):
    """As the guide has it."""

    def __init__(self, sessions: SessionStream) -> None:
        self.sessions = sessions

    def __iter__(self) -> Any:
        worker = get_worker_info()
        return iter(self.sessions if worker is None else self.sessions.shard(worker.id, worker.num_workers))


def test_torch_s_loader_takes_it(folder: Path) -> None:
    streamed = stream_sessions(folder, of(), batch=16, seed=2)
    for workers in (0, 2):
        loader: Any = DataLoader(Torch(streamed), batch_size=None, num_workers=workers)
        assert rows(loader) == rows(streamed)


def test_arrow_batches_have_a_row_a_session(folder: Path) -> None:
    streamed = stream_sessions(folder, of(), batch=16)
    table = pa.Table.from_batches(streamed.record_batches())
    sessions = Sessions.concat(list(streamed))
    assert table.column_names == ["customer", "items", "times", "gap", "kind"]
    assert table["customer"].to_pylist() == sessions.customers.tolist()
    assert table["items"].to_pylist() == [part.tolist() for part in np.split(sessions.items, sessions.offsets[1:-1])]
    assert table["gap"].combine_chunks().flatten().to_pylist() == sessions.features["gap"].tolist()


def test_a_part_without_sessions_is_refused(folder: Path) -> None:
    with pytest.raises(DataError) as error:
        stream_sessions(folder, of({"by": "time", "test": "300d", "validation": "1d"}))
    assert error.value.code == "features.empty-part"


def large(folder: Path, size: int) -> Path:
    """A dataset of so many events, written as the engine writes it."""
    length = 8
    sessions = size // length
    starts = 1_700_000_000_000 + 1000 * np.arange(sessions)
    numbers, rng = np.arange(size) // length, np.random.default_rng(0)
    items, none = rng.integers(0, 5000, size).astype(np.int32), np.full(size, -1, np.int32)
    times, gaps = starts[numbers] + 10 * (np.arange(size) % length), rng.random(size).astype(np.float32)
    counts, ends = np.bincount(items, minlength=5000), starts + 10 * (length - 1)
    tables = {
        "events": {"session": numbers, "item": items, "customer": none, "time": times, "gap": gaps},
        "sessions": {"customer": none[:sessions], "start": starts, "end": ends, "events": np.full(sessions, length)},
        "items": {"item": [f"i{number:04}" for number in range(5000)], "events": counts, "first_seen": counts},
    }
    folder.mkdir()
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", row_group_size=122_880)
    (folder / "features.json").write_text('[{"name": "gap", "kind": "gap"}]')
    return folder


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    grown = []
    for size in (400_000, 3_000_000):
        command = [sys.executable, "-c", MEASURE, str(large(tmp_path / str(size), size))]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes, sessions, events = map(float, ran.stdout.split())
        assert (sessions, events) == (0, 0)
        grown.append(megabytes)
    # In memory the second log takes over 150 MB more than the first.
    assert grown[1] < grown[0] + 60


def test_a_test_of_sessions_of_one_moment_is_refused_before_anything_is_fitted(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    lines = [
        row
        for number in range(20)
        for row in at_times(f"s{number}", "a b" if number < 15 else "ab", 3_600_000 * number)
    ]
    made = store.fetch(build(shop(), snapshot(store, lines), store))
    with refused(DataError, "features.one-moment-sessions", one_moment_sessions=4, sessions=0):
        open_streamed_view(made, of({"by": "time", "test": "4h", "validation": "3h"}))

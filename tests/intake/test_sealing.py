"""From segments to Parquet, once, into a folder or a bucket, as the shop's ingest reads it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import TransientError
from endcap.events import ingest
from endcap.events.snapshot_days import open_snapshot
from endcap.spec import Shop
from endcap.store import Store
from endcap_serving.intake.commit import RecordBatch
from endcap_serving.intake.destinations import BucketDestination, FolderDestination
from endcap_serving.intake.intake import Intake, IntakeSettings
from endcap_serving.intake.known_ids import KnownIds, hash_id
from endcap_serving.intake.parquet import SCHEMAS
from endcap_serving.intake.records import KINDS, NAMES
from endcap_serving.intake.sealing import Sealer
from endcap_serving.intake.segments import SegmentFolder, encode_frame
from tests.intake.servers import eventually, ids, read_sealed
from tests.store.servers import S3Place, Server, moto

NOW = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""
ODD = 'Zoë "x"\\n\u2028 店\U0001f600'


def make_batch(kind: str, *records: dict[str, Any]) -> RecordBatch:
    """As the service makes one."""
    checked = [KINDS[kind](dict(one), NOW) | {"request_id": "r", "received": NOW} for one in records]
    hashes = [hash_id(kind.encode(), one["id"]) for one in checked]
    return RecordBatch(NAMES.index(kind), hashes, [orjson.dumps(one) for one in checked], checked)


def settings(folder: Path, **more: Any) -> IntakeSettings:
    return IntakeSettings(folder / "intake", str(folder / "out"), instance="a", reserve=0, **more)


def run_intake(given: IntakeSettings, *batches: RecordBatch) -> None:
    """An intake's whole life."""
    intake = Intake(given)
    intake.start()
    for one in batches:
        intake.writer.submit(one)
    intake.end()
    assert not any(one.failure for one in batches)


EVENTS = [
    {"id": "e1", "item": "p1", "session": "s1", "time": NOW - 5000, "type": "view"},
    {"id": "e2", "item": ODD, "session": ODD, "customer": "c1", "time": NOW - 4000, "type": "cart"},
    {
        "id": "e3",
        "item": "p3",
        "customer": "c1",
        "time": "2020-02-29T23:59:59.123Z",
        "surface": "home",
        "session": "s0",
    },
]
ORDERS = [
    {
        "id": "o1",
        "customer": "c1",
        "session": "s1",
        "items": [{"item": "p1", "price": 5}, {"item": "p2", "quantity": 3}],
    },
    {"id": "o2", "customer": "c2", "items": [{"item": "p9"}], "shopper": "anon-7", "variant": "canary"},
]


def test_columns_and_rows(tmp_path: Path) -> None:
    impression = {"id": "i1", "ranking_id": "r.0", "item": "p1", "position": 4}
    run_intake(
        settings(tmp_path),
        make_batch("events", *EVENTS),
        make_batch("orders", *ORDERS),
        make_batch("impressions", impression),
    )
    for kind, schema in SCHEMAS.items():
        (file,) = (tmp_path / "out" / kind).rglob("*.parquet")
        assert pq.read_schema(file).equals(schema)
    events = read_sealed(tmp_path / "out", "events")
    assert events.column("id").to_pylist() == ["e1", "e2", "e3", "o1#0", "o1#1", "o2#0"]
    assert events.column("item").to_pylist() == ["p1", ODD, "p3", "p1", "p2", "p9"]
    assert events.column("type").to_pylist() == ["view", "cart", None, "purchase", "purchase", "purchase"]
    assert events.column("order").to_pylist() == [None, None, None, "o1", "o1", "o2"]
    assert events.column("customer").to_pylist() == [None, "c1", "c1", "c1", "c1", "c2"]
    assert events.column("shopper").to_pylist() == [*[None] * 5, "anon-7"]
    assert events.column("variant").to_pylist() == [*[None] * 5, "canary"]
    assert events.column("time").cast(pa.int64()).to_pylist()[:3] == [NOW - 5000, NOW - 4000, 1_583_020_799_123]
    lines = read_sealed(tmp_path / "out", "orders").to_pylist()
    wanted = ("id", "line", "item", "quantity", "price", "session")
    assert [tuple(line[name] for name in wanted) for line in lines] == [
        ("o1", 0, "p1", 1, 5.0, "s1"),
        ("o1", 1, "p2", 3, None, "s1"),
        ("o2", 0, "p9", 1, None, None),
    ]


def test_an_event_about_no_item_has_none(tmp_path: Path) -> None:
    search = {"id": "e1", "customer": "c1", "type": "search"}
    run_intake(settings(tmp_path), make_batch("events", search, {**search, "id": "e2", "item": None}))
    assert read_sealed(tmp_path / "out", "events").column("item").to_pylist() == [None, None]


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """What ingest keeps of an event, in an order of its own."""
    times = table.column("time").cast(pa.int64()).to_pylist()
    names = ("item", "session", "customer", "type")
    return sorted(zip(times, *(map(str, table.column(name).to_pylist()) for name in names), strict=True))


def ingest_events(path: str, store: Store) -> pa.Table:
    """The events that a shop's file finds there, none of them bad."""
    columns = {name: name for name in ("item", "time", "session", "customer", "type")}
    events = {"sources": [{"path": path}], "columns": columns, "max_bad_share": 0}
    shop = Shop.model_validate({"apiVersion": "endcap/v2", "kind": "Shop", "name": "shop", "events": events})
    files = open_snapshot(store, ingest(shop, store)).files
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def test_a_shops_ingest_reads_what_was_taken(tmp_path: Path, store: Store) -> None:
    for number in range(3):
        run_intake(settings(tmp_path), make_batch("events", *({**one, "id": f"{number}{one['id']}"} for one in EVENTS)))
    run_intake(settings(tmp_path), make_batch("orders", ORDERS[0]))
    taken = read_sealed(tmp_path / "out", "events")
    assert len(taken) == 11
    assert rows(ingest_events(f"{tmp_path}/out/events/**/*.parquet", store)) == rows(taken)
    assert rows(ingest_events(f"{tmp_path}/out/events", store)) == rows(taken)


def write_closed_segment(folder: Path, count: int = 3, opened: int = NOW) -> Path:
    """A closed segment that nobody has sealed."""
    one = make_batch("events", *({"id": f"x{at}", "item": "p", "session": "s", "time": NOW} for at in range(count)))
    segment = SegmentFolder(folder).open(opened)
    segment.append(encode_frame(one.kind, one.hashes, one.lines))
    segment.close()
    return segment.file


def test_a_sealing_that_was_killed_is_done_again_under_the_same_name(tmp_path: Path) -> None:
    """Killed before the segment was removed: the Parquet is there, and so is the segment."""
    folder = tmp_path / "intake"
    segment = write_closed_segment(folder)
    kept = tmp_path / "kept"
    shutil.copy(segment, kept)
    run_intake(settings(tmp_path))
    assert ids(tmp_path / "out") == ["x0", "x1", "x2"]
    assert not segment.exists()
    first = list((tmp_path / "out").rglob("*.parquet"))
    assert [file.parent.name for file in first] == ["date=2026-01-01"]
    shutil.copy(kept, segment)
    draft = first[0].with_name(f".{first[0].name}.draft")
    draft.write_text("half")
    run_intake(settings(tmp_path))
    assert list((tmp_path / "out").rglob("*.parquet")) == first
    assert ids(tmp_path / "out") == ["x0", "x1", "x2"]
    assert not draft.exists()
    # And its ids are known once, however often it was sealed.
    again = make_batch("events", {"id": "x1", "item": "p", "session": "s"})
    run_intake(settings(tmp_path), again)
    assert again.duplicates == 1


def test_a_pod_that_comes_back_with_an_empty_volume_writes_over_nothing(tmp_path: Path) -> None:
    for name in ("before", "after"):
        run_intake(settings(tmp_path), make_batch("events", {"id": name, "item": "p", "session": "s"}))
        shutil.rmtree(tmp_path / "intake")
    assert sorted(ids(tmp_path / "out")) == ["after", "before"]


def test_a_segment_that_the_disk_changed_is_kept_for_a_person(tmp_path: Path) -> None:
    folder = tmp_path / "intake"
    segment = write_closed_segment(folder)
    whole = segment.read_bytes()
    one = make_batch("events", {"id": "y", "item": "p", "session": "s"})
    segment.write_bytes(whole[:-5] + b"?" + whole[-4:] + encode_frame(one.kind, one.hashes, one.lines))
    run_intake(settings(tmp_path))
    assert ids(tmp_path / "out") == ["y"]
    assert [file.name for file in segment.parent.iterdir()] == [segment.with_suffix(".damaged").name]


class Away:
    """An outlet that is away a few times."""

    def __init__(self, outlet: FolderDestination, times: int) -> None:
        self._outlet, self.times = outlet, times

    def put(self, name: str, table: pa.Table) -> None:
        self.times -= 1
        if self.times >= 0:
            raise TransientError("the bucket cannot be reached", code="store.unreachable")
        self._outlet.put(name, table)


def test_an_outlet_that_is_away_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap_serving.intake.sealing.WAITS", (0.01,))
    away = Away(FolderDestination(tmp_path / "out"), times=3)
    sealer = Sealer(tmp_path, KnownIds(tmp_path), lambda: away, "a")
    file = write_closed_segment(tmp_path)
    sealer.add(file)
    assert sealer.lag > 0
    sealer.start()
    eventually(lambda: not file.exists())
    assert sealer.end(5)
    assert away.times < 0
    assert ids(tmp_path / "out") == ["x0", "x1", "x2"]
    assert sealer.lag == 0


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    with moto() as server:
        yield server


def test_a_bucket_gets_the_same_files(
    s3: Server, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = S3Place(s3, tmp_path, monkeypatch)
    out = f"s3://{place.bucket}/stores/one"
    there = IntakeSettings(tmp_path / "intake", out, instance="a", reserve=0)
    run_intake(there, make_batch("events", *EVENTS), make_batch("orders", ORDERS[0]))
    mark = (tmp_path / "intake" / "mark").read_text()
    names = place.names()
    assert {name.split("/")[0] for name in names} == {"events", "orders"}
    assert {name.split("/")[2] for name in names} == {f"a-{mark}-000000000001.parquet"}
    response = place.client.get_object(place.bucket, f"stores/one/{min(names)}")
    taken = pq.read_table(pa.BufferReader(response.read()))
    assert len(taken) == 5
    assert rows(ingest_events(f"{out}/events", store)) == rows(taken)
    assert list((tmp_path / "intake").glob("*.parquet")) == []
    # The same again is the same object.
    outlet = BucketDestination(out, tmp_path)
    outlet.put(min(names), pa.table({"a": [1]}))
    assert place.names() == names

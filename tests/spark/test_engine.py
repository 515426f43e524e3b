"""Whole datasets on Spark, whose executors are processes of their own.

`tests.features.test_engine_contract` compares the steps one by one.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from endcap.errors import DataError, UserError
from endcap.features import build
from endcap.features.feature_engine import SparkEngine
from endcap.spark import open_session
from endcap.spark.executor_store import StoreProbe, check_executors
from endcap.spark.server import SparkServer
from endcap.spec import Shop
from endcap.spec.settings import FeatureSettings
from endcap.store import Store, open_store
from endcap.store.staging import stage_files
from tests.features.logs import event, shop, snapshot
from tests.refusals import refused
from tests.spark.clusters import connect, list_java, needs_java
from tests.store.servers import S3Place, moto

pytestmark = [pytest.mark.slow, needs_java]
OWN = ("snapshot", "reuse")
"""Facts that say where a dataset was made, and of what was kept."""
KINDS = [{"name": kind, "kind": kind} for kind in ("position", "gap", "repeat")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def on_spark(server: SparkServer, keys: dict[str, Any]) -> Shop:
    features = {**keys.get("features", {}), "engine": "spark"}
    return shop(**{**keys, "features": features, "spark": connect(server)})


def mixed_log(seed: int, count: int) -> list[dict[str, Any]]:
    """Shared and adopted sessions, events of one time, types, a test part, letters beyond ASCII."""
    draw = random.Random(seed)
    return [
        {
            **event(
                f"s{draw.randrange(40)}",
                draw.choice(["a", "b", "ß", "ü", "日", *(f"i{number}" for number in range(12))]),
                draw.randrange(400) * 15_000,
                draw.choice([None, "ann", "bob", "zoë", f"c{draw.randrange(40)}"]),
                part="test" if draw.random() < 0.1 else "train",
            ),
            "type": draw.choice(["view", "buy"]),
        }
        for _ in range(count)
    ]


def assert_equal(store: Store, server: SparkServer, address: str, keys: dict[str, Any], tmp_path: Path) -> None:
    """Both engines find one key, and make one content and the same facts."""
    other = open_store(str(tmp_path / "other"))
    copied = snapshot_copy(store, other, address)
    here, there = build(shop(**keys), address, store), build(on_spark(server, keys), copied, other)
    facts, others = (which.manifest(found)["facts"] for which, found in ((store, here), (other, there)))
    assert here.rpartition("/")[2] == there.rpartition("/")[2]
    assert {name: value for name, value in facts.items() if name not in OWN} == {
        name: value for name, value in others.items() if name not in OWN
    }
    assert len(facts["content"]) == 32
    files = [sorted(which.manifest(found)["files"]) for which, found in ((store, here), (other, there))]
    assert files[0] == files[1]


def snapshot_copy(store: Store, other: Store, address: str) -> str:
    """The same snapshot in another store."""
    import shutil

    kind, key = address.rsplit("/", 2)[0].rpartition("/")[2], address.rpartition("/")[2]
    with other.publish(f"{kind}/shop", key) as draft:
        shutil.copytree(store.fetch(address), draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink(missing_ok=True)
        draft.facts |= store.manifest(address)["facts"]
    return draft.address


@pytest.mark.slow(minutes=2)
def test_sessions_by_gap_are_the_same_though_an_executor_is_killed(
    store: Store, server: SparkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    write = SparkEngine.write_dataset

    def write_and_kill(self: SparkEngine, *given: Any) -> Any:
        *before, progress = given

        def kill(line: str) -> None:
            progress(line)
            lines.append(line)
            if line == "filtering" and lines.count(line) == 1:
                os.kill(next(pid for pid in list_java(server.log.parent) if is_executor(pid)), signal.SIGKILL)

        return write(self, *before, kill)

    monkeypatch.setattr(SparkEngine, "write_dataset", write_and_kill)
    keys = {
        "features": {"events": KINDS},
        "filters": {"min_item_events": 15},
        "sessions": {"by": "gap", "gap": "5m"},
    }
    log = [row for row in mixed_log(2, 500) if row["customer"]]
    assert_equal(store, server, snapshot(store, log, files=2), keys, tmp_path)
    assert lines.count("filtering") >= 1


def is_executor(pid: int) -> bool:
    return b"CoarseGrainedExecutorBackend" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_log_that_the_filters_empty_is_refused_and_leaves_nothing(store: Store, server: SparkServer) -> None:
    keys = {"filters": {"min_item_events": 100}, "sessions": {"by": "given"}}
    with refused(DataError, "features.none-left"):
        build(on_spark(server, keys), snapshot(store, mixed_log(3, 50)), store)
    assert store.list("datasets/shop") == []
    assert list((Path(store.root.removeprefix("file://")) / ".drafts").iterdir()) == []


def test_a_store_that_executors_cannot_use_is_refused(
    server: SparkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = FeatureSettings.of(on_spark(server, {})).spark
    with open_session(where, tmp_path) as session, moto() as s3:
        # The step has the settings of the server, and the executors have none.
        bucket = S3Place(s3, tmp_path, monkeypatch).elsewhere()
        with refused(UserError, "spark.executors-lack-store", store=bucket.root, cause="store.settings-missing"):
            check_executors(session, bucket)
        assert list(s3.client().list_objects(bucket.root.split("/")[2], recursive=True)) == []
        folder = open_store(str(tmp_path / "store"))
        assert check_executors(session, folder).open().root == folder.root
        assert list((tmp_path / "store" / ".drafts").iterdir()) == []


def test_executors_that_find_another_folder_are_noticed(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"id": [1]})
    with stage_files(open_store(str(tmp_path)).root) as staged:
        probe = StoreProbe(staged.address, "t")
    (answer,) = probe(iter([batch]))
    assert answer["code"].to_pylist() == ["store.not-found"]
    assert list(probe(iter([]))) == []

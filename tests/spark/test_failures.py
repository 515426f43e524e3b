"""What fails around Spark: each an error with a code, nothing published, and no Java left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import endcap.spark.session
from endcap.errors import ClusterError, TransientError, UserError
from endcap.features import build
from endcap.spark import open_session
from endcap.spec.spark import SparkSpec
from endcap.store import Store, open_store
from tests.features.logs import sessions, shop, snapshot
from tests.refusals import mistaken, refused
from tests.spark.clusters import QUICK, list_java, needs_java, spark, wait_for

LOCAL = {"master": "local[1]", "driver_memory": "600Mi", "conf": QUICK}
ON_SPARK = {"features": {"events": [], "engine": "spark"}, "filters": {"min_session_events": 2}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def assert_nothing_is_left(store: Store) -> None:
    folder = Path(store.root.removeprefix("file://"))
    wait_for(lambda: list_java(folder) == [])
    assert store.list("datasets/shop") == []
    assert list((folder / ".drafts").glob("*")) == []
    assert list(folder.glob(".work/**/spill")) == []


def test_an_address_where_nobody_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endcap.spark.session, "ANSWERS_WITHIN", 1.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"sc://localhost:{closed.getsockname()[1]}"
        with refused(TransientError, "spark.unreachable", address=address):
            build(shop(**ON_SPARK, spark={"connect": address}), snapshot(store, sessions("abc abc")), store)
    assert_nothing_is_left(store)


@contextlib.contextmanager
def other_spark(version: str) -> Iterator[str]:
    """A server that speaks Spark Connect, of another version: it answers the questions that a client begins with."""
    from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc

    class OtherSpark(base_pb2_grpc.SparkConnectServiceServicer):
        def AnalyzePlan(self, request: Any, context: Any) -> Any:
            answer = base_pb2.AnalyzePlanResponse(session_id=request.session_id, server_side_session_id="s")
            answer.spark_version.version = version
            return answer

        def Config(self, request: Any, context: Any) -> Any:
            return base_pb2.ConfigResponse(session_id=request.session_id, server_side_session_id="s")

        def Interrupt(self, request: Any, context: Any) -> Any:
            return base_pb2.InterruptResponse(session_id=request.session_id, server_side_session_id="s")

        def ReleaseSession(self, request: Any, context: Any) -> Any:
            released.append(request.session_id)
            return base_pb2.ReleaseSessionResponse(session_id=request.session_id, server_side_session_id="s")

    released: list[str] = []
    server = grpc.server(ThreadPoolExecutor(2))
    base_pb2_grpc.add_SparkConnectServiceServicer_to_server(OtherSpark(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"sc://localhost:{port}"
        assert len(released) == 1
    finally:
        server.stop(0)


def test_another_version_of_spark_is_refused_and_its_session_ends(tmp_path: Path) -> None:
    with (
        other_spark("3.5.1") as address,
        refused(UserError, "spark.version-differs", found="3.5.1"),
        open_session(SparkSpec(connect=address), tmp_path),
    ):
        pass


def test_a_machine_without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with refused(UserError, "spark.no-java"), open_session(spark(), tmp_path):
        pass


def test_a_section_holds_no_secrets_and_one_place() -> None:
    keys = {"connect": "sc://spark:15002/;token=abc", "master": "local[2]", "conf": {"spark.hadoop.secret": "x"}}
    with mistaken(
        (("master",), "conflict"), (("conf", "spark.hadoop.secret"), "not-allowed"), (("connect",), "not-allowed")
    ):
        SparkSpec.model_validate(keys)
    for where in ({"master": "k8s://https://cluster"}, {"application": {}}):
        with mistaken((("image",), "missing")):
            SparkSpec.model_validate(where)
    with mistaken((("master",), "conflict")):
        SparkSpec.model_validate({"application": {}, "master": "local[2]", "image": "spark:1"})
    with mistaken((("application",), "conflict")):
        SparkSpec.model_validate({"application": {}, "connect": "sc://spark:15002"})


@pytest.mark.parametrize("keys", [{"connect": "sc://spark:15002"}, {"application": {}, "image": "spark:1"}])
def test_a_section_that_is_written_out_whole_is_the_same_again(keys: dict[str, Any]) -> None:
    section = SparkSpec.model_validate(keys)
    assert SparkSpec.model_validate(section.model_dump(mode="json", exclude_none=True)) == section


@needs_java
@pytest.mark.slow
def test_memory_that_no_driver_can_start_with(tmp_path: Path) -> None:
    with refused(ClusterError, "spark.start-failed"), open_session(spark(driver_memory="100Mi"), tmp_path):
        pass
    assert list_java(tmp_path) == []


@needs_java
@pytest.mark.slow
def test_a_driver_without_memory(tmp_path: Path) -> None:
    texts = "SELECT repeat('x', CAST(1000000 + id AS INT)) AS text FROM range(0, 1500, 1, 1)"
    joined = f"SELECT array_join(collect_list(text), '') AS joined FROM ({texts})"
    with refused(ClusterError, "spark.driver-memory"), open_session(spark(master="local[1]"), tmp_path) as session:
        session.sql(f"SELECT length(joined) FROM ({joined})").collect()
    assert list_java(tmp_path) == []


@needs_java
@pytest.mark.slow
def test_a_spark_that_goes_away_in_the_middle(store: Store) -> None:
    address = snapshot(store, sessions("abc abc"))
    folder = Path(store.root.removeprefix("file://"))

    def kill(line: str) -> None:
        for pid in list_java(folder):
            os.kill(pid, signal.SIGKILL)

    with refused(TransientError, "spark.went-away"):
        build(shop(**ON_SPARK, spark=LOCAL), address, store, progress=kill)
    assert_nothing_is_left(store)


KILLED = """
import sys
from endcap.features.dataset import build
from endcap.store import open_store
from tests.features.logs import shop
from tests.spark.test_failures import LOCAL, ON_SPARK
def show(line):
    print(line, flush=True)
build(shop(**ON_SPARK, spark=LOCAL), sys.argv[2], open_store(sys.argv[1]), progress=show)
"""


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_step_that_is_killed_leaves_no_spark(store: Store, number: signal.Signals) -> None:
    address = snapshot(store, sessions("abc abc"))
    command = [sys.executable, "-c", KILLED, store.root, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        folder = Path(store.root.removeprefix("file://"))
        assert len(list_java(folder)) == 1
        os.kill(process.pid, number)
    wait_for(lambda: list_java(folder) == [])
    assert store.list("datasets/shop") == []

"""Servers that are down, killed, slow or full; writers that are killed; files that others hold."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from endcap.errors import OnlineStoreError, UserError
from endcap.online import ONLINE, GuardedStore, OnlineStore, RecentEvent, open_online, resolve_online_url
from tests.cluster.certificates import Authority
from tests.online.servers import RedisServer, SlowProxy
from tests.refusals import refused
from tests.serving.pod import wait_for
from tests.store.proxy import proxy as proxied

DAY = timedelta(days=1)
EVENTS = {"customer:1": [RecentEvent("a", 1)]}
HALF_WRITTEN = """
import os, sys
from endcap.online import open_online
store = open_online(sys.argv[1], shop="shop", timeout=5)
store.write("lists", "v2", {f"k{number}": b"new" for number in range(5000)})
print("half", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with RedisServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[SlowProxy]:
    redis_server.client().flushall()
    slow = SlowProxy(redis_server.port)
    yield slow
    slow.close()


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of either store, empty."""
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/online.sqlite"
    running: RedisServer = request.getfixturevalue("redis_server")
    running.client().flushall()
    return running.url


def seconds(call: object) -> float:
    begun = time.monotonic()
    with pytest.raises(OnlineStoreError):
        call()  # type: ignore[operator]
    return time.monotonic() - begun


def succeeds(call: Callable[[], object]) -> bool:
    """Whether the store answers in time, which it may not on a busy machine."""
    try:
        call()
    except OnlineStoreError:
        return False
    return True


def calls(store: OnlineStore) -> list[object]:
    return [
        store.ping,
        lambda: store.append(EVENTS, DAY),
        lambda: store.recent(["customer:1"], 1),
        lambda: store.add("owned", {"customer:1": ["a"]}, None),
        lambda: store.members("owned", ["customer:1"]),
        lambda: store.write("lists", "v1", {"1": b"1"}),
        lambda: store.publish("lists", "v1"),
        lambda: store.published("lists"),
        lambda: store.versions("lists"),
        lambda: store.rows("lists", ["1"]),
        lambda: store.drop("lists", "v1"),
    ]


def test_a_store_that_is_down_says_so_at_once_and_is_used_again_when_it_is_back(server: RedisServer) -> None:
    with open_online(server.url, shop="shop", timeout=20) as store:
        store.append(EVENTS, DAY)
        server.stop()
        assert max(seconds(call) for call in calls(store)) < 10
        with refused(OnlineStoreError, "online.unavailable", store=f"redis://127.0.0.1:{server.port}") as caught:
            store.ping()
        assert "refused" in caught.value.fields["reason"]
        server.start()
        store.append(EVENTS, DAY)
        assert store.recent(["customer:1"], 5) == [EVENTS["customer:1"]]


def test_a_guarded_store_goes_on_while_a_server_is_killed_and_back(server: RedisServer) -> None:
    with open_online(server.url, shop="shop", timeout=20) as store:
        guarded = GuardedStore(store, timeout=20, rest=0.1)
        store.append(EVENTS, DAY)
        assert guarded.look_up(["1"], [None], 5).events == [EVENTS["customer:1"]]
        server.stop()
        assert guarded.look_up(["1"], [None], 5).degraded
        server.start()
        store.append(EVENTS, DAY)
        time.sleep(0.15)
        assert guarded.look_up(["1"], [None], 5).events == [EVENTS["customer:1"]]


def test_a_primary_that_became_a_replica_is_left_for_the_new_one(proxy: SlowProxy, server: RedisServer) -> None:
    proxy.target = server.port
    with open_online(proxy.url, shop="shop", timeout=5) as store, RedisServer(server.folder / "new") as successor:
        store.append(EVENTS, DAY)
        server.client().execute_command("REPLICAOF", "127.0.0.1", str(successor.port))
        proxy.target = successor.port  # as a Service does
        with refused(OnlineStoreError, "online.read-only") as caught:
            store.append(EVENTS, DAY)
        assert "read only replica" in caught.value.fields["reason"]
        store.append({"customer:1": [RecentEvent("b", 2)]}, DAY)
        with open_online(successor.url, shop="shop", timeout=5) as new:
            assert new.recent(["customer:1"], 5)[0][-1] == RecentEvent("b", 2)


def test_a_slow_server_costs_a_call_no_more_than_its_time(proxy: SlowProxy) -> None:
    proxy.delay = 30.0
    with open_online(proxy.url, shop="shop", timeout=0.1) as store:
        assert max(seconds(call) for call in calls(store)) < 15
        proxy.delay = 0.0
        wait_for(lambda: succeeds(lambda: store.append(EVENTS, DAY)), "it is written")
        wait_for(lambda: succeeds(lambda: store.recent(["customer:1"], 5)), "it is read")


def test_an_answer_that_comes_byte_by_byte_costs_a_ranking_no_more_than_its_time(proxy: SlowProxy) -> None:
    with open_online(proxy.url, shop="shop", timeout=1) as store:
        wait_for(lambda: succeeds(lambda: store.append(EVENTS, DAY)), "it is written")
        guarded = GuardedStore(store, timeout=0.1)
        proxy.drip = 0.5  # every byte comes in time, and the whole answer would take half a minute
        begun = time.monotonic()
        assert guarded.look_up(["1"], [None], 5).degraded
        assert time.monotonic() - begun < 10
        proxy.drip = 0.0


def test_a_full_server_refuses_writes_and_can_still_be_read(tmp_path: Path) -> None:
    settings = ("--maxmemory", "3000000", "--maxmemory-policy", "noeviction")
    with (
        RedisServer(tmp_path / "server", *settings) as server,
        open_online(server.url, shop="shop", timeout=5) as store,
    ):
        store.append(EVENTS, DAY)
        store.write("lists", "v1", {"1": b"one"})
        store.publish("lists", "v1")
        many = [RecentEvent("a" * 100, time) for time in range(store.MOST_EVENTS)]
        with refused(OnlineStoreError, "online.full"):
            for number in range(1000):
                store.write("lists", "v2", {f"k{number}": b"x" * 20_000})
        with refused(OnlineStoreError, "online.full"):
            for number in range(2, 1000):
                store.append({f"customer:{number}": many}, DAY)
        assert store.recent(["customer:1"], 5) == [EVENTS["customer:1"]]
        assert store.rows("lists", ["1"]) == [b"one"]
        store.drop("lists", "v2")  # what a full server needs most
        store.append({"customer:2": [RecentEvent("b", 2)]}, DAY)


def test_rows_of_a_killed_writer_are_never_read_and_writing_continues_from_them(url: str) -> None:
    with open_online(url, shop="shop", timeout=5) as store:
        store.write("lists", "v1", {"k1": b"old"})
        store.publish("lists", "v1")
        command = [sys.executable, "-c", HALF_WRITTEN, url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "half\n"
            writer.send_signal(signal.SIGKILL)
        assert store.rows("lists", ["k1", "k2"]) == [b"old", None]
        assert store.versions("lists") == ["v1", "v2"]
        store.write("lists", "v2", {"k6000": b"new"})
        store.publish("lists", "v2")
        assert store.rows("lists", ["k1", "k4999", "k6000"]) == [b"new"] * 3


def test_a_file_that_another_writes_to_for_long_is_waited_for_a_bounded_time_and_still_read(tmp_path: Path) -> None:
    file = tmp_path / "online.sqlite"
    with open_online(f"sqlite://{file}", shop="shop", timeout=0.1) as store:
        store.append(EVENTS, DAY)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            begun = time.monotonic()
            with refused(OnlineStoreError, "online.busy", store=str(file)):
                store.append(EVENTS, DAY)
            assert 0.05 < time.monotonic() - begun < 30
            assert store.recent(["customer:1"], 5) == [EVENTS["customer:1"]]
            other.execute("ROLLBACK")
        store.append({"customer:1": [RecentEvent("b", 2)]}, DAY)
        assert len(store.recent(["customer:1"], 5)[0]) == 2


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def append(number: int) -> None:
        try:
            with open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5) as store:
                store.append({f"customer:{number}": [RecentEvent("a", 1)]}, DAY)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop") as store:
        assert all(store.recent([f"customer:{number}" for number in range(16)], 1))


def test_a_foreign_file_or_one_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no data base " * 100)
    for path, said in (("file", "not a database"), ("file/online.sqlite", "File exists")):
        with (
            open_online(f"sqlite://{tmp_path}/{path}", shop="shop") as store,
            refused(OnlineStoreError, "online.unavailable", store=str(tmp_path / path)) as caught,
        ):
            store.ping()
        assert said in caught.value.fields["reason"]


@pytest.mark.parametrize("url", ["", "redis", "http://host", "sqlite://", "/path", "redis://host:many"])
def test_a_malformed_address_is_refused_with_examples(url: str) -> None:
    with refused(UserError, "online.address-malformed", allowed=["redis", "rediss", "sqlite"]):
        open_online(url, shop="shop")


def test_a_password_is_in_no_message() -> None:
    with (
        open_online("redis://someone:secret@127.0.0.1:1/0", shop="shop") as store,
        refused(OnlineStoreError, "online.unavailable", store="redis://127.0.0.1:1") as caught,
    ):
        store.ping()
    assert "secret" not in json.dumps(caught.value.to_json())


def test_a_wrong_password_is_reported(server: RedisServer) -> None:
    server.client().config_set("requirepass", "secret")
    for url in (server.url, server.url.replace("//", "//:wrong@")):
        with open_online(url, shop="shop") as store, refused(OnlineStoreError, "online.credentials-refused"):
            store.ping()
    with open_online(server.url.replace("//", "//:secret@"), shop="shop") as store:
        store.ping()


def test_a_redis_cluster_is_refused(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "server", "--cluster-enabled", "yes") as server,
        open_online(server.url, shop="shop", timeout=5) as store,
    ):
        server.client().execute_command("CLUSTER ADDSLOTS", *range(16384))
        for _ in range(100):  # until the node has found that it serves all slots
            with refused(OnlineStoreError, "online.cluster-unsupported") as caught:
                store.append(EVENTS, DAY)
            if any(text in caught.value.fields["reason"] for text in ("CROSSSLOT", "same slot")):
                break
            time.sleep(0.05)
        else:
            pytest.fail(str(caught.value))


def test_a_folder_has_a_store_of_its_own_and_a_bucket_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ONLINE, raising=False)
    folder, default = f"file://{tmp_path}/store", f"sqlite://{tmp_path}/store/online.sqlite"
    assert [resolve_online_url(store_root=root) for root in (folder, f"{tmp_path}/store")] == [default] * 2
    assert resolve_online_url(store_root="s3://bucket/prefix") is None
    assert resolve_online_url() is None
    monkeypatch.setenv(ONLINE, "redis://there")
    assert resolve_online_url(store_root=folder) == "redis://there"
    assert resolve_online_url("redis://here", folder) == "redis://here"
    assert resolve_online_url("none", folder) is None


def test_a_certificate_that_is_not_trusted_is_told(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("redis", "redis", hosts=("127.0.0.1",))
    with proxied("http://127.0.0.1:9", (pair.certificate, pair.key)) as secure:
        address = secure.endpoint.replace("https:", "rediss:")
        with open_online(address, shop="shop", timeout=2) as store, refused(OnlineStoreError, "online.no-tls"):
            store.versions("lists")

"""A key that somebody has spoilt is one shopper's trouble: nobody else's, and no failure of the store."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from endcap.errors import OnlineStoreError
from endcap.online import CUSTOMERS, OWNED, GuardedStore, OnlineQuery, OnlineStore, RecentEvent, TableKeys, open_online
from endcap.online.record_updates import Retention
from endcap_serving.intake import metrics
from endcap_serving.intake.online_writer import EVENTS, OnlineWriter
from tests.intake.servers import eventually
from tests.online.servers import RedisServer
from tests.refusals import refused

DAY = timedelta(days=1)
HISTORY = "features/customers/k"
EVENT = RecentEvent("a", 1, "view")


@pytest.fixture
def server(redis_server: RedisServer) -> redis.Redis:
    client = redis_server.client()
    client.flushall()
    return client


@pytest.fixture
def store(server: redis.Redis, redis_server: RedisServer) -> Iterator[OnlineStore]:
    with open_online(redis_server.url, shop="shop", timeout=5) as opened:
        for customer in ("1", "2", "3"):
            opened.append({f"customer:{customer}": [EVENT], f"session:{customer}|s": [EVENT]}, DAY)
            opened.add(OWNED, {f"customer:{customer}": ["x"]}, None)
        opened.write(HISTORY, "v", dict.fromkeys("123", b'{"recent":[["h",1]],"owned":[["o",null]]}'))
        opened.publish(HISTORY, "v")
        yield opened


def bucket(server: redis.Redis) -> bytes:
    """The hash that holds the row of customer 2."""
    return next(key for key in server.keys("*:v:features*") if server.type(key) == b"hash" and server.hexists(key, "2"))


def another_type(server: redis.Redis, key: bytes) -> None:
    server.delete(key)
    server.lpush(key, "x")


def rows(server: redis.Redis, text: bytes) -> None:
    server.hset(bucket(server), "2", text)


MEMBERS = [b"no JSON", b"\xff\xfe", b"", b"1", b'"text"', b"null", b"{}", b"[]", b'["a"]', b'["a","b"]', b"[1,2]"]
MEMBERS += [b'["a",1,2]', b'["a",1,"b",3]', b'["a",1]],[["b",2]', b"[" * 3000, b'["a",1.5]', b'["\\ud800",1]']
SPOILT = {
    "events of another type": lambda server: another_type(server, b"endcap:shop:e:customer:2"),
    "a set of another type": lambda server: another_type(server, b"endcap:shop:s:owned:customer:2"),
    "rows of another type": lambda server: another_type(server, bucket(server)),
    "a session's customers of another type": lambda server: another_type(
        server, b"endcap:shop:s:customers:session:|s2"
    ),
    **{
        f"event {text[:20]!r}": lambda server, text=text: server.zadd("endcap:shop:e:customer:2", {text: 2})
        for text in MEMBERS
    },
    **{
        f"member {text[:20]!r}": lambda server, text=text: server.zadd("endcap:shop:s:owned:customer:2", {text: 9e15})
        for text in (b"no JSON", b"1", b"[]", b'"a"],["b"', b"\xff")
    },
    **{
        f"row {text[:20]!r}": lambda server, text=text: rows(server, text)
        for text in (
            b"no JSON",
            b"\xff",
            b"[]",
            b"1",
            b'{"recent":5}',
            b'{"recent":[["a"]]}',
            b'{"owned":[1]}',
            b'{"owned":[[1,2]]}',
        )
    },
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_one_customer_does_without_and_the_others_have_theirs(store: OnlineStore, server: redis.Redis, spoil) -> None:
    told: list[str] = []
    outcomes: list[str] = []
    guarded = GuardedStore(
        store,
        timeout=5,
        history=HISTORY,
        passed_over=lambda where, key, fault: told.append(fault),
        observe=lambda outcome, seconds: outcomes.append(outcome),
    )
    spoil(server)
    for _ in range(3):
        found = guarded.look_up(["1", "2", "3"], [None, "s2", None], 9)
        assert not found.degraded
        assert set(found.unreadable) == {1}
        assert [found.events[at] for at in (0, 2)] == [[EVENT], [EVENT]]
        assert [found.owned[at] for at in (0, 2)] == [{"x", "o"}] * 2
        assert all(type(event.item) is str for event in found.events[1])
    assert len(told) == 3
    assert set(told) <= {"wrong-type", "unreadable"}
    assert set(outcomes) == {"ok"}
    guarded.close()


def test_plain_calls_and_tables_say_which_key_it_is(store: OnlineStore, server: redis.Redis) -> None:
    another_type(server, b"endcap:shop:e:customer:2")
    with refused(OnlineStoreError, "online.key-unreadable", key="customer:2", fault="wrong-type"):
        store.recent(["customer:1", "customer:2"], 5)
    another_type(server, b"endcap:shop:t:lists")
    with refused(OnlineStoreError, "online.key-unreadable", at="lists"):
        store.rows("lists", ["1"])
    for call in (lambda: store.write("lists", "v1", {"1": b"1"}), lambda: store.publish("lists", "v1")):
        with refused(OnlineStoreError, "online.key-unreadable"):
            call()
    assert store.rows(HISTORY, ["1"])[0]


def test_a_writer_passes_over_a_key_of_another_type_and_writes_the_others(
    store: OnlineStore, server: redis.Redis
) -> None:
    another_type(server, b"endcap:shop:e:customer:2")
    another_type(server, b"endcap:shop:s:owned:customer:2")
    later = RecentEvent("b", 2)
    given = {f"customer:{number}": [later] for number in (1, 2, 3)}
    assert store.append(given, DAY) == {"customer:2": "wrong-type"}
    assert store.add(OWNED, {owner: ["y"] for owner in given}, None) == {"customer:2": "wrong-type"}
    found = store.read(OnlineQuery(["customer:1", "customer:3"], 9, [(OWNED, ["customer:1", "customer:3"])]))
    assert found.events == [[EVENT, later]] * 2
    assert found.sets == [[{"x", "y"}] * 2]
    follower = OnlineWriter(store, Retention())
    counted = metrics.ONLINE_UNREADABLE.labels("wrong-type")
    before = counted._value.get()
    follower.start()
    now = int(time.time() * 1000)
    records = [{"id": str(at), "item": "c", "customer": str(at), "time": now} for at in (1, 2, 3)]
    follower.offer(EVENTS, records)
    eventually(lambda: follower.lag == 0)
    assert store.recent(["customer:1", "customer:3"], 1) == [[RecentEvent("c", now)]] * 2
    assert counted._value.get() == before + 1
    follower._store = open_online("sqlite:///:memory:", shop="shop")  # the fixture closes the other
    follower.end(5)


def test_a_refusal_of_the_whole_server_is_a_failure_of_the_store(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "server") as running, open_online(running.url, shop="shop", timeout=5) as store:
        client = running.client()
        store.append({"customer:1": [EVENT]}, DAY)
        client.config_set("maxmemory", "1")
        with refused(OnlineStoreError, "online.full"):
            store.append({"customer:1": [EVENT]}, DAY)
        assert store.recent(["customer:1"], 1) == [[EVENT]]
        client.config_set("maxmemory", "0")
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        with refused(OnlineStoreError, "online.read-only"):
            store.append({"customer:1": [EVENT]}, DAY)
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.execute_command("ACL", "SETUSER", "default", "-zadd")
        with refused(OnlineStoreError, "online.not-allowed"):
            store.append({"customer:1": [EVENT]}, DAY)
        client.execute_command("ACL", "SETUSER", "default", "+@all")
        guarded = GuardedStore(store, timeout=5, rest=5)
        client.execute_command("ACL", "SETUSER", "default", "-zrange")
        assert guarded.look_up(["1"], [None], 1).degraded
        client.execute_command("ACL", "SETUSER", "default", "+@all")
        assert guarded.look_up(["1"], [None], 1).degraded, "the breaker is open"


def test_a_file_that_was_spoilt_costs_its_owner_alone(tmp_path: Path) -> None:
    import sqlite3

    with open_online(f"sqlite://{tmp_path}/online.sqlite", shop="shop", timeout=5) as store:
        owners = [f"customer:{number}" for number in range(4)]
        store.append({owner: [EVENT] for owner in owners}, DAY)
        store.add(OWNED, {owner: ["x"] for owner in owners}, None)
        rng = random.Random(5)
        with sqlite3.connect(tmp_path / "online.sqlite") as db:
            db.execute("UPDATE events SET event = ? WHERE owner = 'shop:customer:1'", (rng.randbytes(20),))
            db.execute("UPDATE members SET member = ? WHERE owner = 'shop:owned:customer:2'", (b"\xff\xfe",))
            db.execute("UPDATE events SET event = '[1,2]' WHERE owner = 'shop:customer:3'")
        told: list[str] = []
        guarded = GuardedStore(store, timeout=5, passed_over=lambda where, key, fault: told.append(key))
        found = guarded.look_up(["0", "1", "2", "3"], [None] * 4, 5)
        assert (found.degraded, set(found.unreadable)) == (False, {1, 2, 3})
        assert (found.events[0], found.owned[0]) == ([EVENT], {"x"})
        assert sorted(told) == owners[1:]
        assert (
            store.read(OnlineQuery(rows=[TableKeys("lists", ["1"])], sets=[(CUSTOMERS, ["session:|s"])])).faults == {}
        )

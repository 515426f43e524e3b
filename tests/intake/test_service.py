"""The intake over HTTP, in a process of its own: answers, limits, its end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.intake.servers import Server, event, events, eventually, ids, read_sealed, run_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = ["--body-timeout", "1s", "--connections", "30", "--segment-age", "1h"]
    with run_server(tmp_path_factory.mktemp("intake"), *words) as one:
        yield one


def test_each_kind_is_taken_alone_in_a_list_and_by_name(server: Server) -> None:
    impression = {"id": "i1", "ranking_id": "r1.0", "item": "p1", "position": 0}
    order = {"id": "o1", "customer": "c1", "items": [{"item": "p1"}]}
    for kind, one in (("events", event("e1")), ("impressions", impression), ("orders", order)):
        for body in (one, [{**one, "id": "l1"}, {**one, "id": "l2"}], {kind: [{**one, "id": "n1"}]}):
            count = len(body) if isinstance(body, list) else 1
            answer = server.post(kind, body)
            assert (answer.status_code, answer.json()) == (200, {"accepted": count, "duplicates": 0})
        assert server.post(kind, one).json() == {"accepted": 0, "duplicates": 1}
        assert server.post(kind, []).json() == {"accepted": 0, "duplicates": 0}
    twice = [event("d1"), event("d1", item="p2"), event("d2"), event("e1")]
    assert server.post("events", twice).json() == {"accepted": 2, "duplicates": 2}


def test_right_records_of_a_batch_are_accepted_and_the_others_listed(server: Server) -> None:
    body = [event("g1"), {"id": "g2"}, event("g3"), event("g4", time=5)]
    answer = server.post("events", body)
    assert answer.status_code == 207
    assert (answer.json()["accepted"], answer.json()["duplicates"]) == (2, 0)
    assert [one["index"] for one in answer.json()["rejected"]] == [1, 3]
    first, last = answer.json()["rejected"]
    assert (first["code"], first["fields"]["at"], first["fields"]["found"]) == ("intake.wrong-value", "item", "nothing")
    assert (last["code"], last["fields"]) == ("intake.time-before-1990", {"at": "time", "found": "5"})
    assert first["reason"].startswith("item: ")
    assert server.post("events", events(["g1", "g3"])).json() == {"accepted": 0, "duplicates": 2}
    none = server.post("events", [{"id": "x"}, 7])
    assert none.status_code == 400
    assert (none.json()["code"], none.json()["fields"]) == ("intake.none-accepted", {"records": 2})
    assert "events[0]: item: " in none.json()["error"]
    assert [one["index"] for one in none.json()["rejected"]] == [0, 1]


BODIES = [
    (b"", 400, "body-empty", {}),
    (b'{"id": "a"', 400, "body-not-json", {}),
    (b"\xff\xfe", 400, "body-not-json", {}),
    ("[" * 100_000, 400, "body-not-json", {}),
    ('{"id":' * 5000 + "1" + "}" * 5000, 400, "body-not-json", {}),
    (b"7", 400, "body-not-records", {"at": "", "found": "7"}),
    (b'{"events": {}}', 400, "body-not-records", {"at": "events", "found": "an object"}),
    (b'{"events": [], "more": 1}', 400, "body-not-records", {"at": "events"}),
    (b'{"id": "a", "item": "p", "session": "\\ud800"}', 400, "body-not-json", {}),
    (
        b'{"id": "a", "item": "p", "session": "s", "time": 99999999999999999999999}',
        400,
        "wrong-value",
        {"at": "time", "found": "1e+23"},
    ),
    (b'{"id": "a", "item": "p", "session": "s", "time": NaN}', 400, "body-not-json", {}),
    (json.dumps(events(map(str, range(10_001)))), 413, "records-too-many", {"found": 10_001, "most": 10_000}),
    (b" " * (4 << 20) + b"[]", 413, "body-too-large", {"most": 4 << 20}),
]


@pytest.mark.parametrize(("body", "status", "code", "fields"), BODIES, ids=[str(body[:30]) for body, *_ in BODIES])
def test_a_body_without_records_is_refused(
    server: Server, body: bytes | str, status: int, code: str, fields: dict[str, Any]
) -> None:
    answer = server.client.post("/v1/events", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, f"intake.{code}")
    assert fields.items() <= answer.json().get("fields", {}).items()
    assert answer.json()["error"]
    assert len(answer.content) < 1000


def test_one_process_has_a_folder(server: Server) -> None:
    with pytest.raises(AssertionError, match=r"intake\.folder-taken"):
        Server(server.folder.parent)


def test_paths_methods_and_encodings(server: Server) -> None:
    for answer, status, code in (
        (server.client.get("/v1/events"), 405, "intake.method-not-allowed"),
        (server.client.post("/v1/event", json={}), 404, "intake.path-unknown"),
        (server.post("events", event("z"), **{"content-encoding": "gzip"}), 415, "intake.body-encoded"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "POST /v1/events" in server.client.get("/").json()["fields"]["known"]
    assert server.client.get("/readyz").json() == {"ready": True}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-type": "application/json; charset=utf-8"}, 200, ""),
        ({"content-type": "text/plain"}, 415, "intake.content-type-refused"),
        ({"content-type": "application/x-www-form-urlencoded"}, 415, "intake.content-type-refused"),
        ({"content-type": "text/plain;application/json"}, 415, "intake.content-type-refused"),
        ({"content-type": ""}, 415, "intake.content-type-refused"),
        ({"origin": "https://shop.example.com"}, 403, "intake.origin-refused"),
        ({"origin": "null"}, 403, "intake.origin-refused"),
        ({"x-endcap-scope": "rank,explain"}, 403, "intake.scope-missing"),
        ({"x-endcap-scope": ""}, 403, "intake.scope-missing"),
        ({"x-endcap-scope": "rank,events"}, 200, ""),
    ],
)
def test_no_page_and_nobody_without_the_scope_writes_events(
    server: Server, headers: dict[str, str], status: int, code: str
) -> None:
    body = json.dumps(event(f"of {headers} {status}"))
    answer = server.client.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("code", "")) == (status, code)


def talk(server: Server, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What comes back on a connection of one's own until it is closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        said = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        except OSError:
            pass
        try:
            while received := connection.recv(65536):
                said += received
        except ConnectionResetError:
            pass
    return said


PROBE = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
HEAD = b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


def read_error(answer: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return document


def test_slow_bodies_and_floods_of_headers_end(server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(talk, server, HEAD + b"content-length: 50\r\n\r\n", b"[", b" ", pause=0.1)
        many = pool.submit(talk, server, HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(10_000)) + b"\r\n")
        one = pool.submit(talk, server, HEAD, *[b"x" * 65536] * 4)
        chunked = pool.submit(
            talk, server, HEAD + b"transfer-encoding: chunked\r\n\r\n", *[b"10000\r\n" + b" " * 65536 + b"\r\n"] * 70
        )
        assert b" 408 " in slow.result().partition(b"\r\n")[0]
        assert (read_error(slow.result())["code"], read_error(slow.result())["fields"]) == (
            "intake.body-late",
            {"seconds": 1.0},
        )
        for flood in (many, one):
            assert flood.result().startswith(b"HTTP/1.1 431 ")
            assert read_error(flood.result())["code"] == "intake.head-too-large"
        assert b" 413 " in chunked.result().partition(b"\r\n")[0] or chunked.result() == b""
    assert server.post("events", event("after-floods")).status_code == 200


def test_connections_past_the_limit_are_refused_and_the_others_served(server: Server) -> None:
    asked = HEAD + b"content-length: 0\r\nconnection: close\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(29)]
    try:
        assert server.post("events", event("beside-many")).status_code == 200
        eventually(lambda: talk(server, asked).startswith(b"HTTP/1.1 503 "))
        assert read_error(talk(server, asked))["code"] == "intake.connections-too-many"
        # A kubelet that asks is told that it lives.
        assert talk(server, PROBE).startswith(b"HTTP/1.1 200 ")
    finally:
        for one in held:
            one.close()
    eventually(lambda: b" 400 " in talk(server, asked).partition(b"\r\n")[0])


def test_of_concurrent_events_with_one_id_one_is_accepted(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        for name in range(10):
            answers = list(pool.map(lambda _, name=name: server.post("events", event(f"once-{name}")).json(), range(8)))
            assert sorted(one["accepted"] for one in answers) == [0] * 7 + [1]
            assert sum(one["duplicates"] for one in answers) == 7


def test_metrics_count_accepted_duplicate_and_rejected_records(server: Server) -> None:
    def counted() -> dict[str, float]:
        names = ("accepted_total", "duplicates_total", "rejected_total", "commit_seconds_count", "open_segment_bytes")
        return {name: server.metric(f"endcap_intake_{name}") for name in names}

    before = counted()
    server.post("events", [event("m1"), event("m2"), event("m1"), {"id": "m3"}])
    after = counted()
    assert {name: after[name] - before[name] for name in before if name.endswith("total")} == {
        "accepted_total": 2,
        "duplicates_total": 1,
        "rejected_total": 1,
    }
    assert after["commit_seconds_count"] == before["commit_seconds_count"] + 1
    assert after["open_segment_bytes"] > before["open_segment_bytes"] > 0
    for name in ("sealing_lag_seconds", "online_lag_seconds", "online_dropped_total", "closed_segments"):
        assert server.metric(f"endcap_intake_{name}") == 0


@pytest.mark.slow
def test_a_request_id_goes_from_the_header_into_the_rows_and_the_log(tmp_path: Path) -> None:
    with run_server(tmp_path, "--segment-age", "1h", "--instance", "pod-0") as server:
        answer = server.post("events", event("e1", ranking_id="abc.0"), **{"x-request-id": "abc-123"})
        assert answer.headers["x-request-id"] == "abc-123"
        impression: dict[str, Any] = {"id": "i1", "ranking_id": "abc.0", "item": "p1", "position": 3, "surface": "home"}
        server.post("impressions", impression, **{"x-request-id": "def"})
        assert len(server.post("events", event("e2"), **{"x-request-id": "x" * 300}).headers["x-request-id"]) == 36
        assert server.post("orders", {"id": "o"}, **{"x-request-id": "wrong-1"}).status_code == 400
        # Asked to end it answers what it has, seals it, and ends well.
        begun = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - begun < 60
    assert list((tmp_path / "intake" / "segments").iterdir()) == []
    assert read_sealed(server.out, "events").column("request_id").to_pylist()[0] == "abc-123"
    (row,) = read_sealed(server.out, "impressions").to_pylist()
    assert {name: row[name] for name in impression} == impression
    assert row["request_id"] == "def"
    (file,) = (server.out / "events").rglob("*.parquet")
    mark = (server.folder / "mark").read_text()
    assert file.name == f"pod-0-{mark}-000000000001.parquet"
    assert file.parent.name.startswith("date=20")
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    (refused,) = [line for line in lines if line["message"] == "refused"]
    assert (refused["request_id"], refused["status"], refused["level"]) == ("wrong-1", 400, "info")
    assert (refused["code"], refused["fields"]["at"]) == ("intake.wrong-value", "customer")


def test_asked_to_end_it_is_not_ready_and_still_answers(tmp_path: Path) -> None:
    with run_server(tmp_path, "--drain-wait", "1s") as server:
        assert server.post("events", event("e1")).status_code == 200
        server.process.terminate()
        eventually(lambda: server.client.get("/readyz").json().get("code") == "intake.ending")
        assert server.post("events", event("e2")).status_code == 200
        assert server.end() == 0
    assert ids(server.out) == ["e1", "e2"]

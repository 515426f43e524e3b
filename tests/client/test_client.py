"""The client against a server that fails: what it tries again, for how long, and which error it raises."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import endcap
from endcap.errors import EndcapError, NotFoundError, RequestError, TransientError, UserError
from tests.cluster.certificates import Authority
from tests.refusals import refused
from tests.store.proxy import proxy

RANKED = {
    "items": [{"item": "b", "score": 1.5}, {"item": "c", "score": None, "fallback": True}],
    "unknown": 1,
    "fallback": {"reason": "few-scores", "items": 1},
    "model_version": "3",
    "variant": "canary",
    "request_id": "r1",
    "ranking_id": "r1.0",
}
Answer = tuple[int, Any, dict[str, str]]


class Shop:
    """A server that gives the configured answers one after the other, and repeats the last one."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                shop.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
                answer = shop.answers.pop(0) if len(shop.answers) > 1 else shop.answers[0]
                if answer is None:  # hang up without a word
                    self.close_connection = True
                    return
                status, content, headers = answer
                text = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    thread = threading.Thread(target=shop.server.serve_forever, args=(0.01,))
    thread.start()
    yield shop
    shop.server.shutdown()
    thread.join()
    shop.server.server_close()


def rank(shop: Shop, **options: Any) -> Any:
    with endcap.Client(shop.url, "shoes", **options) as client:
        return client.rank(items=["a"], k=2, shopper="s1", request_id="r1")


def rank_with_asyncio(shop: Shop, **options: Any) -> Any:
    async def ask() -> Any:
        async with endcap.AsyncClient(shop.url, "shoes", **options) as client:
            return await client.rank(items=["a"], k=2, shopper="s1", request_id="r1")

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [rank, rank_with_asyncio])
Ask = Callable[..., Any]


@both
def test_a_ranking_comes_back_typed(shop: Shop, ask: Ask) -> None:
    shop.answers = [(200, {"predictions": [RANKED]}, {})]
    ranking = ask(shop)
    assert ranking.ids == ["b", "c"]
    assert [item.fallback for item in ranking.items] == [False, True]
    assert (ranking.id, ranking.variant, ranking.model_version, ranking.unknown) == ("r1.0", "canary", "3", 1)
    assert ranking.reason == "few-scores"
    path, headers, body = shop.requests[0]
    assert path == "/shoes/v1/models/shoes:predict"
    assert (headers["x-endcap-shopper"], headers["x-request-id"]) == ("s1", "r1")
    assert body == {"instances": [{"items": ["a"], "k": 2}]}


@both
def test_a_failure_that_may_pass_is_tried_again_with_the_same_request_id(shop: Shop, ask: Ask) -> None:
    shop.answers = [None, (503, {"error": "busy"}, {}), (200, {"predictions": [RANKED]}, {})]
    assert ask(shop, timeout=5.0).id == "r1.0"
    assert [headers["x-request-id"] for _, headers, _ in shop.requests] == ["r1"] * 3


@both
@pytest.mark.parametrize(("status", "kind"), [(400, RequestError), (404, NotFoundError), (500, EndcapError)])
def test_a_lasting_failure_is_raised_at_once(shop: Shop, ask: Ask, status: int, kind: type[EndcapError]) -> None:
    answer = {"error": "instance 0: k: found 0", "code": "request.out-of-range", "fields": {"instance": 0, "at": "k"}}
    shop.answers = [(status, answer, {})]
    with pytest.raises(kind) as refused:
        ask(shop)
    assert len(shop.requests) == 1
    error, (path, _, _) = refused.value, shop.requests[0]
    assert type(error) is kind
    assert (error.code, error.fields) == (
        "request.out-of-range",
        {"url": f"{shop.url}{path}", "status": status, "instance": 0, "at": "k"},
    )
    assert answer["error"] in str(error)


@pytest.mark.parametrize(
    "answer", ["<html>", ["error"], {"detail": "no"}, {"error": "no", "code": 7}, {"error": "no", "fields": {"a": 1}}]
)
def test_an_answer_without_a_code_has_the_clients_own(shop: Shop, answer: Any) -> None:
    shop.answers = [(400, answer, {})]
    with pytest.raises(RequestError) as refused:
        rank(shop)
    assert refused.value.code == "client.refused"
    assert refused.value.fields == {"url": f"{shop.url}{shop.requests[0][0]}", "status": 400}


@both
def test_a_login_page_is_no_ranking(shop: Shop, ask: Ask) -> None:
    for status, content, headers in (
        (200, "<html><title>Sign in</title></html>", {"content-type": "text/html"}),
        (302, "", {"location": "/login"}),
    ):
        shop.answers = [(status, content, headers)]
        with refused(UserError, "client.login-page", status=status):
            ask(shop)


@both
def test_a_certificate_that_is_not_trusted_is_reported_at_once(shop: Shop, ask: Ask, tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("gateway", "gateway", hosts=("127.0.0.1",))
    with proxy(shop.url, (pair.certificate, pair.key)) as secure, refused(UserError, "client.no-tls"):
        shop.url = secure.endpoint
        ask(shop, timeout=5.0)


@both
def test_a_server_that_asks_for_more_time_than_there_is_ends_the_call(shop: Shop, ask: Ask) -> None:
    shop.answers = [(503, {"error": "busy", "code": "predictor.overloaded"}, {"retry-after": "30"})]
    begun = time.monotonic()
    with pytest.raises(TransientError) as busy:
        ask(shop, timeout=25.0)
    assert busy.value.code == "predictor.overloaded"
    assert time.monotonic() - begun < 20
    assert len(shop.requests) == 1


@both
@pytest.mark.slow
def test_a_limited_client_waits_as_long_as_it_is_asked_to_and_shows_its_key(shop: Shop, ask: Ask) -> None:
    limited = {"error": "too many", "code": "gateway.rate-limited"}
    for make_header in (lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)):
        shop.requests.clear()
        shop.answers = [(429, limited, {"retry-after": make_header()}), (200, {"predictions": [RANKED]}, {})]
        begun = time.monotonic()
        ask(shop, timeout=8.0, key="web-key")
        assert 0.8 < time.monotonic() - begun < 5
        assert [headers["x-endcap-key"] for _, headers, _ in shop.requests] == ["web-key", "web-key"]
    shop.answers = [(429, limited, {"retry-after": "60"})]
    with pytest.raises(TransientError) as refusal:
        ask(shop, timeout=5.0, token="a.b.c")
    assert (refusal.value.code, refusal.value.fields["status"]) == ("gateway.rate-limited", 429)
    assert shop.requests[-1][1]["authorization"] == "Bearer a.b.c"


@both
def test_a_gateway_that_does_not_answer_is_reported_within_the_timeout(shop: Shop, ask: Ask) -> None:
    shop.answers = [None]
    with pytest.raises(TransientError) as nobody:
        ask(shop, timeout=0.5, retries=3)
    assert (nobody.value.code, nobody.value.fields["seconds"]) == ("client.no-answer", 0.5)
    assert len(shop.requests) == 4


def test_reported_events_keep_their_ids_when_tried_again(shop: Shop) -> None:
    shop.answers = [(503, {"error": "disk full"}, {}), (200, {"accepted": 2, "duplicates": 0}, {})]
    with endcap.Client(shop.url, "shoes", timeout=5.0) as client:
        receipt = client.events([{"item": "a", "session": "s"}, {"id": "mine", "item": "b", "session": "s"}])
    assert receipt.accepted == 2
    (path, _, first), (_, _, second) = shop.requests
    assert path == "/v1/events"
    assert first == second
    assert first[1]["id"] == "mine"
    assert first[0]["id"]
